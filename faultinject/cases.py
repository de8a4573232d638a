"""A case: one run of one harness against one target, as data that anybody can run again.

    harness (`kill`, `crash`, `power`, `disk`, `network`, `storm`)
        .plan(target, seed)   -> the cases that it would run, in order
        .run(case, place)     -> an outcome: what was found, and the evidence
        .smaller(case)        -> simpler cases, to shrink one that has found something

A case is a small document (JSON): the names of harness and target, a seed, and the harness's own
settings.  Everything that a run decides follows from it, except the scheduling of processes; so a
case that is run again makes the same thing happen, and not always at the same instant.

A case file bears the version of the format.  One of another version is refused: what its words
meant then is not known now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from faultinject.ledger import Finding
from specs import registered

#: Of case files; a number more whenever a setting changes its meaning.
VERSION: Final = 1
#: Octets of a case file, at most: settings are few and small.
LONGEST: Final = 1 << 20
#: Entry points: a callable without arguments that makes a Harness.
HARNESSES: Final = "refmta.faultinject.harnesses"

Verdict = Literal["held", "found", "unavailable", "broken"]


class CaseError(ValueError):
    """A case file is wrong; the text names the file and the place."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """settings: the harness's own, as JSON values; what is absent is the harness's default."""

    harness: str
    target: str
    seed: int = 0
    settings: dict[str, Any] = {}
    version: int = VERSION

    @property
    def key(self) -> str:
        """The same for equal cases, and for no others: by it a campaign knows what it ran."""
        return msgspec.json.encode(self, order="deterministic").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a case showed.

    verdict: "held" (nothing found but what the target is known to do), "found", "unavailable" (what
    is missing is `reason`), "broken" (the harness or the target failed for another reason, told
    there: no verdict on the server).  counts: points, states, cuts, kills, messages, by name.
    evidence: file name -> text, for people (a log's end, a list of operations).
    """

    case: Case
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Harness(Protocol):
    """One way to inject faults.  Methods block."""

    @property
    def name(self) -> str: ...

    def plan(self, target: str, seed: int) -> Iterator[Case]:
        """What it would run against that target, in order: what finds most comes first."""
        ...

    def run(self, case: Case, place: Path) -> Outcome:
        """Run one, in an empty directory on a disk.  Never raises but for what is nobody's fault
        (KeyboardInterrupt); leaves nothing mounted, running or half-written.
        """
        ...

    def smaller(self, case: Case) -> Iterator[Case]:
        """Simpler ones, the simplest first; none if it is as simple as can be."""
        ...


def names() -> tuple[str, ...]:
    """Of the registered harnesses."""
    return registered.names(HARNESSES)


def load(name: str) -> Harness:
    """The harness of that name.  Raises KeyError."""
    harness: Harness = registered.make(HARNESSES, name)
    return harness


class _Dated(msgspec.Struct, frozen=True):
    """What is read first: of another version, nothing else is."""

    version: int = 0


def decode(octets: bytes, source: str) -> Case:
    """Raises CaseError, naming the source."""
    if len(octets) > LONGEST:
        raise CaseError(f"{source}: longer than {LONGEST:,} octets: it is no case file")
    try:
        version = msgspec.json.decode(octets, type=_Dated).version
        if version != VERSION:
            said = f"of version {version}" if version else "without a version"
            raise CaseError(f"{source}: {said}, not {VERSION}: it can't be replayed")
        return msgspec.json.decode(octets, type=Case)
    except msgspec.DecodeError as error:
        raise CaseError(f"{source}: {error}") from None
    except UnicodeDecodeError:
        raise CaseError(f"{source}: it is no text") from None


def encode(case: Case) -> bytes:
    """For people, too: indented."""
    return msgspec.json.format(msgspec.json.encode(case, order="deterministic"), indent=2) + b"\n"
