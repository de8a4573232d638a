"""What a step has changed: each measure of a stage against the one before it.

What counts as a change is said here for each measure, before anything is measured.  Numbers that
follow from the architecture alone count by any difference, or by 5% where they are lines of code;
speed counts when every round agrees on its direction, and the middle one differs by 15%.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from specs.evolution.measured import Seen, Share, Stage, total

LINES_DIFFER: Final = 0.05
RATES_DIFFER: Final = 0.15

#: Before, after -> how much better it has become: below 0 is worse, 0 no change.
Compare = Callable[[Stage, Stage], float]


@dataclass(frozen=True, slots=True)
class Measure:
    """name: in_words.  title: a column's head.  text: what a stage's cell says; the first stage is
    the other argument.
    """

    name: str
    title: str
    better: Compare
    text: Callable[[Stage, Stage], str]


@dataclass(frozen=True, slots=True)
class Effect:
    """A measure that a step has changed."""

    measure: str
    better: bool


# -- comparing ------------------------------------------------------------------------------------


def _fewer(number: Callable[[Stage], float], tolerance: float = 0.0) -> Compare:
    def compare(before: Stage, after: Stage) -> float:
        less = number(before) - number(after)
        return less if abs(less) > tolerance * number(before) else 0.0

    return compare


def _nearer(seen: Callable[[Stage], Seen]) -> Compare:
    """Kinds of files count, and whether none, some or all of one kind: not how many there are."""

    def compare(before: Stage, after: Stage) -> float:
        reach = seen(after).reach
        return sum(
            _LEVELS[share.level] - _LEVELS[reach[kind].level]
            for kind, share in seen(before).reach.items()
        )

    return compare


_LEVELS: Final = {"none": 0.0, "some": 1.0, "all": 2.0}


def _rate(before: Stage, after: Stage) -> float:
    if before.rates is None or after.rates is None:
        return 0.0
    ratios = after.rates.to(before.rates)
    change = statistics.median(ratios) - 1
    agreed = ratios[0] > 1 or ratios[-1] < 1
    return change if agreed and abs(change) >= RATES_DIFFER else 0.0


# -- telling --------------------------------------------------------------------------------------


def reached(seen: Seen) -> Share:
    """All files within reach."""
    return total(seen.reach.values())


def lost(stage: Stage) -> Share:
    """Crash states that lose mail, over all stores of the step."""
    return total(stage.lost.values())


def relative(stage: Stage, first: Stage) -> tuple[float, ...]:
    """Speed in relation to the first step, round by round, in order of size; () if not taken."""
    if stage.rates is None or first.rates is None:
        return ()
    return stage.rates.to(first.rates)


def _relative(stage: Stage, first: Stage) -> str:
    ratios = relative(stage, first)
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


MEASURES: Final = (
    Measure("root_processes", "root processes", _fewer(lambda each: each.seen.root.have),
            lambda each, _: str(each.seen.root)),
    Measure("users", "users", _fewer(lambda each: -each.seen.users),
            lambda each, _: str(each.seen.users)),
    Measure("reach", "files in reach", _nearer(lambda each: each.seen),
            lambda each, _: str(reached(each.seen))),
    Measure("reach_weakened", "with filters broken", _nearer(lambda each: each.weakest),
            lambda each, _: str(reached(each.weakest))),
    Measure("attempts", "attacks that work", _fewer(lambda each: len(each.seen.attempts)),
            lambda each, _: f"{len(each.seen.attempts)}/{each.seen.tried}"),
    Measure("root_lines", "lines as root", _fewer(lambda each: each.seen.root_lines, LINES_DIFFER),
            lambda each, _: f"{each.seen.root_lines}"),
    Measure("facing_lines", "lines facing the net",
            _fewer(lambda each: each.seen.facing_lines, LINES_DIFFER),
            lambda each, _: f"{each.seen.facing_lines}"),
    Measure("lost", "lost in crash states (P3)", _fewer(lambda each: lost(each).part),
            lambda each, _: str(lost(each))),
    Measure("rate", "delivered, relative", _rate, _relative),
)  # fmt: skip


# -- the judgement --------------------------------------------------------------------------------


def effects(before: Stage, after: Stage) -> tuple[Effect, ...]:
    """Everything that the step changed, in the order of `MEASURES`."""
    changes = ((each.name, each.better(before, after)) for each in MEASURES)
    return tuple(Effect(name, change > 0) for name, change in changes if change)


def changes(stages: Sequence[Stage]) -> list[tuple[Effect, ...]]:
    """What each step changed; the first one nothing."""
    return [(), *(effects(before, after) for before, after in pairwise(stages))]


def findings(stages: Sequence[Stage]) -> Iterator[str]:
    """Steps that do nothing, one line each.  Where a measure was not taken, nobody can say so."""
    if any(each.rates is None for each in stages):
        return
    for stage, changed in list(zip(stages, changes(stages), strict=True))[1:]:
        if not changed:
            yield f"{stage.step}: no effect on any measure"
