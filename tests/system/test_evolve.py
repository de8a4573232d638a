"""An evolution whose steps run: the first and the last of ours, and the two lines that must not
convince anybody.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from specs.evolution.effects import effects, findings
from specs.evolution.rates import DoesNotStart
from specs.evolution.take import take
from subjects.evolution import blocked, evolution, idle

pytestmark = [pytest.mark.needs("root"), pytest.mark.timeout(900)]
ROUNDS, MESSAGES = 3, 32
#: Of servers that do not differ, so many rounds agree once in 256 times, by chance.
ROUNDS_OF_EQUALS = 9


def tell(line: str) -> None:
    """For who reads a failure."""
    sys.stderr.write(f"{line}\n")


def test_from_the_monolith_to_ours():
    line = evolution()
    ends = replace(line, steps=(line.steps[0], replace(line.steps[-1], weakened="")))
    first, last = take(ends, ROUNDS, MESSAGES, tell)
    seen = {(each.measure, each.better) for each in effects(first, last)}
    assert seen - {("rate", True)} == {  # how fast each was depends on who else was at work
        (name, True)
        for name in (
            "root_processes", "users", "reach", "reach_weakened", "attempts", "root_lines",
            "facing_lines", "lost",
        )
    }  # fmt: skip
    assert [len(each.rates.rounds) for each in (first, last) if each.rates] == [ROUNDS] * 2
    assert {kind: share.level for kind, share in first.seen.reach.items()} == dict.fromkeys(
        first.seen.reach, "all"
    )
    assert {kind for kind, share in last.seen.reach.items() if share.have} == {"queue"}
    assert last.seen.reach["queue"].level == "some"  # what it is handed to deliver


def test_a_step_that_does_nothing_shows_no_effect():
    stages = take(idle(), ROUNDS_OF_EQUALS, MESSAGES, tell)
    assert effects(*stages) == ()
    (found,) = findings(stages)
    assert found.endswith("(Nothing): no effect on any measure")


def test_a_step_that_does_not_start_is_named():
    with pytest.raises(DoesNotStart, match=r"\(Nowhere\): refmta does not start") as raised:
        take(blocked(), 0, MESSAGES, tell)
    assert "spool" in str(raised.value)
