"""Pauses between attempts, judged: each row is what was seen, and what must be found."""

from __future__ import annotations

import pytest

from faultinject import target
from faultinject.network.schedules import (
    SCHEDULES,
    TOO_LATE,
    TOO_SOON,
    Schedule,
    judge,
    pauses,
    schedule_of,
)

RISING = Schedule(pauses_s=(1, 2, 4), spread=0.5, grain_s=1.0, says="for a test")
EVEN = Schedule(pauses_s=(1, 4), grain_s=1.0, rising=False, says="for a test")


def visits(*gaps: float) -> list[tuple[float, float]]:
    """Visits of a tenth of a second, with these pauses."""
    found, now = [(100.0, 100.1)], 100.1
    for gap in gaps:
        found.append((now + gap, now + gap + 0.1))
        now += gap + 0.1
    return found


#: (schedule, pauses, seconds after the last, names that must be found)
ROWS = {
    "as it must be": (RISING, (1.0, 2.0, 4.0, 4.0), 1.0, []),
    "chance has lengthened them": (RISING, (1.5, 3.0, 6.0), 1.0, []),
    "and the runner, and the machine": (RISING, (4.4, 5.9), 1.0, []),
    "at once": (RISING, (0.0,), 1.0, [TOO_SOON]),
    "a little early": (RISING, (0.94,), 1.0, [TOO_SOON]),
    "it does not grow": (RISING, (1.0, 1.0, 1.0), 1.0, [TOO_SOON, TOO_SOON]),
    "it hammers": (RISING, (0.01,) * 4, 1.0, [TOO_SOON] * 4),
    "the first one is late": (RISING, (4.6, 2.0), 1.0, [TOO_LATE]),
    "it grows without end": (RISING, (1.0, 2.0, 4.0, 16.0), 1.0, [TOO_LATE]),
    "the next one does not come": (RISING, (1.0, 2.0), 9.1, [TOO_LATE]),
    "no retry at all": (RISING, (), 4.6, [TOO_LATE]),
    "not yet due": (RISING, (), 4.4, []),
    "anything between": (EVEN, (1.0, 4.0, 2.0, 6.9), 1.0, []),
    "but not less": (EVEN, (4.0, 0.5), 1.0, [TOO_SOON]),
    "nor more": (EVEN, (7.1,), 1.0, [TOO_LATE]),
}


@pytest.mark.parametrize("row", ROWS)
def test_pauses_are_judged(row):
    schedule, gaps, left_s, names = ROWS[row]
    seen = visits(*gaps)
    found = list(judge("it", seen, schedule, seen[-1][1] + left_s))
    assert [each.name for each in found] == names
    assert all("it: " in each.text for each in found)
    assert pauses(seen) == gaps


def test_what_was_never_tried_is_late():
    assert [each.name for each in judge("it", [], RISING, 1.0)] == [TOO_LATE]


def test_a_target_has_the_schedule_of_its_name():
    assert schedule_of("refmta:qmail") is schedule_of("refmta") is SCHEDULES["refmta"]
    assert schedule_of("nobody") is None
    sending = {name for name in target.names() if "remote" in target.load(name).capabilities}
    assert sending <= set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_floors_are_below_ceilings(name):
    schedule = SCHEDULES[name]
    for retry in range(1, 9):
        assert 0 <= schedule.floor_s(retry) < schedule.ceiling_s(retry)
        assert schedule.floor_s(retry) <= schedule.floor_s(retry + 1)
    assert schedule.says
