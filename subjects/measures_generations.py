"""The patterns' claims along the line from the monolith to ours (claim C26).

    unexpected   of the claims that the matrix expects to fail on an architecture, those that hold
    idle_steps   steps of the line, one pattern each, after which no claim that failed before holds

The line is the evolution (`refmta.architectures.evolution`); its steps are told apart by whose
section of the paper names the pattern: qmail's (section 3) come first, then Postfix's (section 4).
A step is a running system before and after, each judged by the whole matrix.

What is tricky: a claim that could not be judged, before or after, is no claim gained.  sendmail X
takes no step of one pattern each from Postfix's composition (section 5 names none that is new), so
of it there is nothing to count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.evolution import EVOLUTION, STEPS
from specs.claims.instruments import Answer, NotHere
from specs.claims.running import TARGET, run_matrix
from specs.claims.verdict import Reading
from specs.matrix.expected import load
from specs.patterns.claims import patterns
from subjects.measures_places import COMPOSITION, need_root

#: Section of the paper -> the patterns that it names.
SECTIONS: Final[MappingProxyType[str, tuple[str, ...]]] = MappingProxyType(
    {
        "qmail": (
            "Compartmentalization", "Distributed Delegation", "Trust Partitioning",
            "Unique Atomic Chunks", "Defense in Depth",
        ),
        "postfix": ("Secure Pre-forking", "Resident service", "chroot Jail"),
    }
)  # fmt: skip

Verdicts = Mapping[str, Answer]


def generations(subject: str, part: str) -> Reading:
    """Of a composition.  Raises NotHere, TargetError."""
    need_root()
    name = subject.removeprefix(COMPOSITION)
    if not subject.startswith(COMPOSITION) or name not in ARCHITECTURES:
        raise NotHere(f"this measure of {subject}")
    if part == "unexpected":
        failing = [key for key, row in load(TARGET, name).items() if row.verdict == "fails"]
        return surprises(judged(name), failing)
    if name not in SECTIONS:
        raise NotHere(f"a line of steps, one pattern each, to {name}")
    return idle(line(SECTIONS[name]))


@cache
def judged(architecture: str) -> Verdicts:
    """Every claim, on the running system."""
    return run_matrix(architecture, tuple(patterns()))


def line(wanted: Sequence[str]) -> list[tuple[str, Verdicts, Verdicts]]:
    """The steps of these patterns, with the matrix before and after."""
    places = list(zip(STEPS, pairwise(EVOLUTION), strict=True))
    return [
        (step.pattern, judged(before), judged(after))
        for step, (before, after) in places
        if step.pattern in wanted
    ]


# -- what is made of it ---------------------------------------------------------------------------


def surprises(found: Verdicts, failing: Sequence[str]) -> Reading:
    """Of the claims that must fail, how many hold.  Raises LookupError: none could be judged."""
    answers = {key: found[key] for key in failing if not isinstance(found[key], NotHere)}
    if not answers:
        raise LookupError("no claim that must fail could be judged")
    holding = [key for key, answer in answers.items() if not answer]
    told = [f"{len(answers)} claims must fail", *holding]
    return Reading(len(holding), "; ".join(told))


def idle(steps: Sequence[tuple[str, Verdicts, Verdicts]]) -> Reading:
    """How many steps gain nothing; told: what each gains."""
    gains = {pattern: gained(before, after) for pattern, before, after in steps}
    told = [f"{pattern}: {len(keys)}" for pattern, keys in gains.items()]
    return Reading(sum(not keys for keys in gains.values()), f"claims gained: {', '.join(told)}")


def gained(before: Verdicts, after: Verdicts) -> list[str]:
    """The claims that failed before, and hold after."""
    return [
        key
        for key, answer in before.items()
        if isinstance(answer, tuple) and answer and after.get(key) == ()
    ]
