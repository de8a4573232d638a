"""What numbers can be taken with, by name; what a trial needs of it, and what it lacks.

What is absent is no error: it is what a pending verdict names.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from specs.claims.ledger import NEEDS, CrashStates, Matrix, Measure, Proofs, Trial
from specs.claims.verdict import Reading
from specs.kernel.proofs import ProofRun, prove
from specs.persistence.protocols import CommitStore


class NotHere(Exception):
    """A measure can't be taken of this subject, or on this machine; the text says what it lacks."""


#: subject, part -> number.  Raises NotHere.
TakeMeasure = Callable[[str, str], Reading]
#: Measures that take minutes of a quiet machine; like real servers, they run when asked for.
LONG: Final = frozenset({"rate", "scaling", "kills", "trade", "generations"})
PATIENCE: Final = "patience (--peers)"
#: A claim's counterexamples, or why the observation can't tell.
Answer = tuple[str, ...] | NotHere
#: architecture, patterns -> claim's key -> answer.  Raises NotHere.
RunMatrix = Callable[[str, tuple[str, ...]], Mapping[str, Answer]]


@dataclass(slots=True, kw_only=True)
class Instruments:
    """Everything there is, by name; in a test, whatever the test puts in."""

    stores: Mapping[str, Callable[[], CommitStore]] = field(default_factory=dict)
    proofs: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Callable[[], TakeMeasure]] = field(default_factory=dict)
    compositions: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    run_matrix: RunMatrix | None = None
    patient: bool = True
    run_proofs: Callable[[str, str], ProofRun] = prove

    def missing(self, trial: Trial) -> tuple[str, ...]:
        """What the trial lacks, in words."""
        lacks = [_in_words(need) for need in dict.fromkeys(needs(trial)) if not self._has(need)]
        if not lacks and not self.patient and is_long(trial):
            lacks = [PATIENCE]
        return tuple(lacks)

    def _has(self, need: str) -> bool:
        kind, _, name = need.partition(":")
        match kind:
            case "fault":
                return importlib.util.find_spec(f"faultinject.{name}") is not None
            case "machine":
                return name == "root" and os.geteuid() == 0
        there: Mapping[str, Iterable[str]] = {
            "store": self.stores, "proof": self.proofs, "measure": self.measures,
            "composition": self.compositions, "server": self.servers, "pattern": self.patterns,
        }  # fmt: skip
        return name in there[kind]


def needs(trial: Trial) -> list[str]:
    """Everything that a trial waits for, as KIND:NAME, in a reader's order."""
    found = [each for each in (trial.on, trial.against) if each and not _is_plan(each)]
    match trial.taken:
        case CrashStates(stores=stores):
            found = [f"store:{name}" for name in stores]  # a plan needs no server
        case Proofs(proofs=names):
            found = [f"proof:{name}" for name in names]  # nor does a proof
        case Matrix(patterns=wanted):
            found += ["machine:root", *(f"pattern:{name}" for name in wanted)]
        case Measure(name=name):
            found.append(f"measure:{name}")
    return [*found, *trial.needs]


def is_long(trial: Trial) -> bool:
    """Whether it takes minutes, or a real server."""
    real = any(each.startswith("server:") for each in (trial.on, trial.against))
    return isinstance(trial.taken, Measure) and (real or trial.taken.name in LONG)


def _is_plan(subject: str) -> bool:
    return subject.startswith("protocol:")


def _in_words(need: str) -> str:
    kind, _, name = need.partition(":")
    return f"{NEEDS[kind]} {name}"
