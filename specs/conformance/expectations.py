"""Known failures, with a reason each: what a server is expected to fail, and nothing else.

    [[expect]]
    case = "5321-4.5.1-vrfy-known"
    verdict = "fail"               # or "error", "non-strict" (which counts with --strict)
    reason = "issue 42: to be mended in 2.1"

An expected failure that passes is unexpected, too: the entry is to go.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from specs.conformance.model import Result, Verdict

#: What may be expected.
BAD: Final = (Verdict.FAIL, Verdict.ERROR, Verdict.NON_STRICT)
UNTRIED: Final = frozenset({Verdict.NOT_APPLICABLE, Verdict.UNAVAILABLE})
_KEYS: Final = frozenset({"case", "verdict", "reason"})


class ExpectationError(Exception):
    """The file is wrong; the text names the file, the entry, and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One entry."""

    case: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Results, apart: failures that count; known ones; expected failures that did not come."""

    unexpected: tuple[Result, ...]
    known: tuple[tuple[Result, Expected], ...]
    passed: tuple[tuple[Result, Expected], ...]
    #: Whether a case was carried out, or none applies: that none could is nothing to be glad of.
    tried: bool = True

    @property
    def fine(self) -> bool:
        return self.tried and not (self.unexpected or self.passed)


#: No expectations.
NONE: Final[Mapping[str, Expected]] = MappingProxyType({})


def read(path: Path, cases: Iterable[str]) -> dict[str, Expected]:
    """By case.  cases: all ids that there are.  Raises ExpectationError."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExpectationError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExpectationError(f"{path}: {error}") from None
    except RecursionError:
        raise ExpectationError(f"{path}: it is nested too deeply") from None
    entries = told.pop("expect", [])
    if told or not isinstance(entries, list):
        raise ExpectationError(f"{path}: it has [[expect]] entries, and nothing else")
    known, found = frozenset(cases), dict[str, Expected]()
    for number, entry in enumerate(entries, 1):
        expected = _entry(f"{path}: entry {number}", entry, known)
        if expected.case in found:
            raise ExpectationError(f"{path}: entry {number}: {expected.case} is there twice")
        found[expected.case] = expected
    return found


def _entry(where: str, entry: Any, known: frozenset[str]) -> Expected:
    if not isinstance(entry, dict) or not set(entry) <= _KEYS:
        raise ExpectationError(f"{where}: it has case, verdict and reason, and nothing else")
    if not all(isinstance(each, str) for each in entry.values()):
        raise ExpectationError(f"{where}: its values are texts")
    case, reason = entry.get("case", ""), entry.get("reason", "")
    if case not in known:
        raise ExpectationError(f"{where}: there is no case {case!r}")
    if not reason.strip():
        raise ExpectationError(f"{where}: {case} has no reason")
    verdict = entry.get("verdict", "fail")
    if verdict not in BAD:
        allowed = ", ".join(BAD)
        raise ExpectationError(f"{where}: verdict {verdict!r} is none of {allowed}")
    return Expected(case=case, verdict=Verdict(verdict), reason=reason)


def judge(
    results: Iterable[Result], expected: Mapping[str, Expected], *, strict: bool = False
) -> Judged:
    """strict: what misses a SHOULD counts as a failure."""
    counts = BAD if strict else BAD[:2]
    unexpected, known, passed, verdicts = [], [], [], set[Verdict]()
    for each in results:
        verdicts.add(each.verdict)
        entry = expected.get(each.case.id)
        if each.verdict in BAD and entry is not None and entry.verdict is each.verdict:
            known.append((each, entry))
        elif each.verdict in counts:
            unexpected.append(each)
        elif entry is not None and _may_pass(each.verdict, entry, strict=strict):
            passed.append((each, entry))
    return Judged(
        unexpected=tuple(unexpected), known=tuple(known), passed=tuple(passed),
        tried=Verdict.UNAVAILABLE not in verdicts or not verdicts <= UNTRIED,
    )  # fmt: skip


def _may_pass(verdict: Verdict, entry: Expected, *, strict: bool) -> bool:
    """Whether it was tried, and is better than expected."""
    if verdict in UNTRIED:
        return False
    return strict or entry.verdict is not Verdict.NON_STRICT


def written(
    results: Sequence[Result], known: Mapping[str, Expected] = NONE, *, strict: bool = False
) -> str:
    """The file for what fails now.  Reasons that are known stay, as do entries of cases that were
    not tried; new reasons are to be written by people.
    """
    counts = BAD if strict else BAD[:2]
    failing, tried = dict[str, Expected](), set[str]()
    for each in results:
        name = each.case.id
        if each.verdict not in UNTRIED:
            tried.add(name)
        if each.verdict in BAD and name in known and known[name].verdict is each.verdict:
            failing[name] = known[name]
        elif each.verdict in counts:
            got = f"{each.observed} {each.saw}".strip()
            reason = f"not explained yet: {each.case.requirement}; got {got}"[:300]
            failing[name] = Expected(case=name, verdict=each.verdict, reason=reason)
    rest = {name: entry for name, entry in known.items() if name not in tried}
    rows = ["# What this server is known to fail, with a reason each (refmta-conform --expect).\n"]
    for entry in {**failing, **rest}.values():
        rows.append(
            f"[[expect]]\ncase = {_text(entry.case)}\nverdict = {_text(entry.verdict)}\n"
            f"reason = {_text(entry.reason)}\n"
        )
    return "\n".join(rows)


def _text(value: str) -> str:
    """A basic string of TOML: JSON's is one, where it has only ASCII."""
    return json.dumps(value.encode("ascii", "backslashreplace").decode()).replace("\x7f", "\\u007f")
