"""What is expected of each claim, and why: rows of a TOML file, checked strictly.

    [[claim]]
    name = "least_privilege.no_capability"      # pattern.claim
    expected = "holds"                          # or "fails"
    reason = "..."
    fails_without = { capabilities = "..." }    # layer -> why, where the architecture lacks it

An unexpected pass is as bad as an unexpected failure: somebody has a wrong picture of the system.
So each claim needs its row, and each row its claim.

A target's own file, NAME.toml, has a row for every claim.  NAME/ARCHITECTURE.toml has what differs
in another architecture of that target: a row there replaces the one of the same claim, with its
verdict and its reason, and has to differ in one of them.  Rows that are not replaced hold for the
same reason, or fail for want of the same layer.  like = "OTHER" on top of it: it differs from that
architecture, not from the target's own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
VERDICTS: Final = ("holds", "fails")
_KEYS: Final = {"name", "expected", "reason", "fails_without"}


class ExpectationError(Exception):
    """The file is wrong; the text names the row."""


@dataclass(frozen=True, slots=True)
class Expected:
    """verdict: of VERDICTS.  reason: one sentence."""

    verdict: str
    reason: str
    fails_without: Mapping[str, str] = field(default_factory=dict)

    def among(self, layers: Iterable[str]) -> Expected:
        """What is expected of an architecture with these layers."""
        for layer, reason in self.fails_without.items():
            if layer not in layers:
                return Expected("fails", f"without {layer}: {reason}")
        return self


def load(target: str, architecture: str, directory: Path = HERE) -> dict[str, Expected]:
    """Claim -> what is expected.  Raises ExpectationError."""
    own, _ = _read(directory / f"{target}.toml")
    path = _differences(target, architecture, directory)
    if path is None:
        return own
    other, like = _read(path)
    rows = load(target, like, directory) if like else own
    for name, row in other.items():
        if name not in rows:
            raise ExpectationError(f"{path}: {name}: {target}.toml has no such row")
        if row == rows[name]:
            raise ExpectationError(f"{path}: {name}: says what is said of {like or target}")
    return rows | other


def _differences(target: str, architecture: str, directory: Path) -> Path | None:
    """The file of what differs: ARCHITECTURE may be less of what it is named after by layers."""
    if f"{architecture}-".startswith(f"{target}-"):
        return None
    known = {each.stem: each for each in (directory / target).glob("*.toml")}
    fitting = [each for each in known if f"{architecture}-".startswith(f"{each}-")]
    if not fitting:
        there = ", ".join([target, *sorted(known)])
        raise ExpectationError(f"nothing is expected of {target}:{architecture}, but of: {there}")
    return known[max(fitting, key=len)]


def _read(path: Path) -> tuple[dict[str, Expected], str]:
    """(its rows, whom the architecture is like)."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExpectationError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ExpectationError(f"{path}: not TOML: {error}") from None
    if unknown := set(document) - {"claim", "like"}:
        raise ExpectationError(f"{path}: unknown key: {min(unknown)}")
    found: dict[str, Expected] = {}
    for row in document.get("claim", ()):
        name = str(row.get("name", ""))
        if name in found:
            raise ExpectationError(f"{path}: {name}: twice")
        found[name] = _row(path, name, row)
    return found, str(document.get("like", ""))


def _row(path: Path, name: str, row: Mapping[str, Any]) -> Expected:
    where = f"{path}: {name or 'a row without a name'}"
    if set(row) - _KEYS:
        raise ExpectationError(f"{where}: unknown key: {min(set(row) - _KEYS)}")
    if row.get("expected") not in VERDICTS:
        raise ExpectationError(f"{where}: expected: should be one of {', '.join(VERDICTS)}")
    without = row.get("fails_without", {})
    reasons = (row.get("reason"), *(without.values() if isinstance(without, dict) else (None,)))
    if not name or not all(isinstance(each, str) and each.strip() for each in reasons):
        raise ExpectationError(f"{where}: name, and a reason for each expectation, are required")
    return Expected(row["expected"], row["reason"], without)


def match(claims: Iterable[str], rows: Iterable[str]) -> None:
    """Each claim has a row and each row a claim.  Raises ExpectationError, naming all that lack."""
    there, said = set(claims), set(rows)
    problems = [f"no row for the claim {each}" for each in sorted(there - said)]
    problems += [f"no claim for the row {each}" for each in sorted(said - there)]
    if problems:
        raise ExpectationError("\n".join(problems))
