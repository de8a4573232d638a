"""What a run leaves: one JSON object, from which pages, matrices and oracles are made.

| key | what |
|---|---|
| `refmta-conform` | version of this format: 1 |
| `name`, `version`, `configuration` | of the server; the last two are "" unless we set it up |
| `greeting`, `offered` | what it said; by door, the keywords of EHLO with their parameters |
| `seed`, `began`, `seconds` | of the run; `began` is ISO 8601, in UTC |
| `counts` | number of results by verdict, all verdicts |
| `results` | a list, in the order of the cases |

A result repeats its case, so that a reader needs nothing else:

| key | what |
|---|---|
| `case` | its id: RFC-SECTION-SLUG, never used for anything else |
| `verdict` | pass, non-strict, fail, info, not applicable, unavailable, error |
| `observed`, `saw` | what was judged (a code or a label of `expected`); more of it, for people |
| `requirement`, `level`, `role`, `clauses`, `sent` | of the case |
| `expected` | outcomes that are allowed: "250", "5yz (non-strict)" |
| `security` | what may be misused if it fails, or "" |
| `seconds` | how long it took |
| `transcript` | a list of `at` (seconds since the case began), `who`, `connection`, `octets` |

`who` is "C", "S", or "-" for a remark; `connection` counts from 1.  Octets are texts in which each
character is one octet (latin-1): lossless, and to be read by people.  Passwords are masked.  Keys
may be added; the version changes when one goes, or means something else.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from specs.conformance.given import Given
from specs.conformance.masking import masked, without_secrets
from specs.conformance.model import Case, Line, Result, Verdict
from specs.conformance.run import Offered

VERSION: Final = 1


class RecordError(Exception):
    """It is no record of a run; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One server's run.  offered: by door, what its EHLO said.  configuration: the server's, when
    it was set up by us.
    """

    name: str
    seed: int
    results: tuple[Result, ...]
    greeting: str = ""
    offered: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    version: str = ""
    configuration: str = ""
    began: str = ""
    seconds: float = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """By verdict, all of them."""
        found = Counter(each.verdict for each in self.results)
        return {each.value: found[each] for each in Verdict}


def of(
    name: str, given: Given, offered: Mapping[Any, Offered], results: Sequence[Result], **more: Any
) -> Record:
    """Without secrets."""
    clean = tuple(_clean(each, given.password) for each in results)
    return Record(
        name=name, seed=given.seed, results=clean,
        greeting=offered["smtp"].greeting if "smtp" in offered else "",
        offered={door: dict(each.features) for door, each in offered.items() if not each.reason},
        **more,
    )  # fmt: skip


def _clean(result: Result, password: str) -> Result:
    saw = masked(result.saw.encode("utf-8", "surrogateescape"), password)
    return Result(
        case=result.case, verdict=result.verdict, observed=result.observed,
        saw=saw.decode("utf-8", "backslashreplace"), seconds=result.seconds,
        transcript=without_secrets(result.transcript, password),
    )  # fmt: skip


def got(result: Result) -> str:
    """What came, for people: what was seen mostly begins with what was judged."""
    if result.saw.startswith(result.observed):
        return result.saw
    return f"{result.observed} {result.saw}".strip()


def as_json(record: Record) -> dict[str, Any]:
    """Plain values."""
    return {
        "refmta-conform": VERSION, "name": record.name, "seed": record.seed,
        "greeting": record.greeting, "offered": record.offered, "version": record.version,
        "configuration": record.configuration, "began": record.began,
        "seconds": round(record.seconds, 3), "counts": record.counts,
        "results": [_result(each) for each in record.results],
    }  # fmt: skip


def _result(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "case": case.id, "verdict": result.verdict.value, "observed": result.observed,
        "saw": result.saw, "seconds": round(result.seconds, 4), "requirement": case.requirement,
        "level": case.level, "role": case.role, "clauses": list(case.clauses), "sent": case.sent,
        "expected": list(case.expected), "security": case.security,
        "transcript": [
            {
                "at": round(each.at_s, 4), "who": each.who, "connection": each.connection,
                "octets": each.octets.decode("latin-1"),
            }
            for each in result.transcript
        ],
    }  # fmt: skip


def read(path: Path, cases: Mapping[str, Case]) -> Record:
    """What was written.  Raises RecordError, OSError."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["refmta-conform"] != VERSION:
            raise RecordError(f"{path}: it is of another version of refmta-conform")
        results = tuple(_read_result(each, cases) for each in told["results"])
        return Record(
            name=str(told["name"]), seed=int(told["seed"]), results=results,
            greeting=str(told["greeting"]), offered=_offered(told["offered"]),
            version=str(told["version"]), configuration=str(told["configuration"]),
            began=str(told["began"]), seconds=float(told["seconds"]),
        )  # fmt: skip
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: {error}") from None
    except RecursionError:
        raise RecordError(f"{path}: it is nested too deeply") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecordError(f"{path}: it is no record of refmta-conform ({error})") from None


def _read_result(told: Mapping[str, Any], cases: Mapping[str, Case]) -> Result:
    case = cases.get(told["case"])
    if case is None:
        raise ValueError(f"there is no case {told['case']!r}")
    lines = tuple(
        Line(
            at_s=_finite(each["at"]),
            who=each["who"],
            octets=each["octets"].encode("latin-1"),
            connection=int(each["connection"]),
        )
        for each in told["transcript"]
    )
    return Result(
        case=case, verdict=Verdict(told["verdict"]), observed=str(told["observed"]),
        saw=str(told["saw"]), seconds=float(told["seconds"]), transcript=lines,
    )  # fmt: skip


def _offered(told: Any) -> dict[str, dict[str, str]]:
    return {
        str(door): {str(name): str(value) for name, value in features.items()}
        for door, features in told.items()
    }


def _finite(told: Any) -> float:
    value = float(told)
    if not math.isfinite(value):
        raise ValueError(f"{told} is no time")
    return value
