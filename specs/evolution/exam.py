"""What must be true of the judgement, as named checks: `controls` runs them on mutants of it, too.

`examined` is the module `specs.evolution.effects`, or a mutant of it; the stages are made up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from specs.evolution.measured import Rates, Seen, Share, Stage
from specs.evolution.steps import Step

Checks = Mapping[str, Callable[[Any], bool]]

SEEN: Final = Seen(
    root=Share(2, 4),
    users=3,
    facing=("door",),
    reach={"queue": Share(1, 10), "keys": Share(2, 2), "machine": Share(5, 5)},
    attempts=("climb", "signal"),
    tried=34,
    root_lines=1000,
    facing_lines=500,
)
#: A stage between all others.
MIDDLE: Final = Stage(
    step=Step(architecture="middle", pattern="Middle"),
    seen=SEEN,
    lost={"queue": Share(4, 100), "mailbox": Share(0, 10)},
    rates=Rates(rounds=(10.0, 11.0, 9.0)),
    weakened=SEEN,
)


def _seen(**changed: Any) -> Stage:
    return replace(MIDDLE, seen=replace(SEEN, **changed))


#: Measure -> a stage that is better in it than `MIDDLE`, and in nothing else.
BETTER: Final[Mapping[str, Stage]] = MappingProxyType(
    {
        "root_processes": _seen(root=Share(1, 4)),
        "users": _seen(users=4),
        "reach": _seen(reach={**SEEN.reach, "keys": Share(1, 2)}),
        "reach_weakened": replace(
            MIDDLE, weakened=replace(SEEN, reach={**SEEN.reach, "machine": Share(0, 5)})
        ),
        "attempts": _seen(attempts=("climb",)),
        "root_lines": _seen(root_lines=900),
        "facing_lines": _seen(facing_lines=300),
        "lost": replace(MIDDLE, lost={"queue": Share(1, 100), "mailbox": Share(0, 10)}),
        "rate": replace(MIDDLE, rates=Rates(rounds=(20.0, 22.0, 18.0))),
    }
)


def _told(examined: Any, before: Stage, after: Stage) -> set[tuple[str, bool]]:
    return {(each.measure, each.better) for each in examined.effects(before, after)}


def _each_is_seen(examined: Any) -> bool:
    named = {each.name for each in examined.MEASURES}
    return named == {*BETTER} and all(
        _told(examined, MIDDLE, better) == {(name, True)} for name, better in BETTER.items()
    )


def _each_price_is_told(examined: Any) -> bool:
    return all(
        _told(examined, better, MIDDLE) == {(name, False)} for name, better in BETTER.items()
    )


def _nothing_is_nothing(examined: Any) -> bool:
    return not examined.effects(MIDDLE, MIDDLE)


def _noise_is_nothing(examined: Any) -> bool:
    """Rounds that disagree, and rounds that agree by a hair."""
    torn = replace(MIDDLE, rates=Rates(rounds=(20.0, 22.0, 8.0)))
    hair = replace(MIDDLE, rates=Rates(rounds=(10.5, 11.5, 9.5)))
    return not examined.effects(MIDDLE, torn) and not examined.effects(MIDDLE, hair)


def _how_many_is_nothing(examined: Any) -> bool:
    """Another number of files of a kind; a few lines more."""
    files = _seen(reach={"queue": Share(2, 5), "keys": Share(4, 4), "machine": Share(5, 5)})
    lines = _seen(root_lines=1010, facing_lines=505)
    return not examined.effects(MIDDLE, files) and not examined.effects(MIDDLE, lines)


def _idle_is_found(examined: Any) -> bool:
    found = list(examined.findings([BETTER["users"], MIDDLE, MIDDLE]))
    return len(found) == 1 and "middle (Middle): no effect" in found[0]


def _untaken_is_not_judged(examined: Any) -> bool:
    untaken = replace(MIDDLE, rates=None)
    return not list(examined.findings([untaken, untaken]))


CHECKS: Final[Checks] = MappingProxyType(
    {
        "each_measure_is_seen": _each_is_seen,
        "each_price_is_told": _each_price_is_told,
        "nothing_has_no_effect": _nothing_is_nothing,
        "noise_is_no_effect": _noise_is_nothing,
        "how_many_is_no_effect": _how_many_is_nothing,
        "an_idle_step_is_found": _idle_is_found,
        "what_was_not_taken_is_not_judged": _untaken_is_not_judged,
    }
)


def broken(examined: Any, checks: Checks = CHECKS) -> frozenset[str]:
    """The names of the checks that do not hold; one that raises does not."""
    return frozenset(name for name, check in checks.items() if not _holds(check, examined))


def _holds(check: Callable[[Any], bool], examined: Any) -> bool:
    try:
        return check(examined)
    except Exception:  # of a mutant
        return False
