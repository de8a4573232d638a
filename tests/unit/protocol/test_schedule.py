"""The retry schedule: a table of delays, and bounds over many attempts."""

from __future__ import annotations

import itertools

import pytest

from refmta.protocol.schedule import (
    LOCAL,
    Schedule,
    base_delay_s,
    expired,
    lengthened_s,
    next_attempt_s,
)

DAYS_5 = 432_000

DELAYS = {
    LOCAL: [10, 60, 300, 600, 1200, 2400, 4000, 4000],
    Schedule(): [300, 600, 1200, 2400, 4000, 4000],
    Schedule(minimum_s=1, maximum_s=1): [1, 1, 1],
    Schedule(minimum_s=100, maximum_s=5000, factor=10): [100, 1000, 5000, 5000],
}


@pytest.mark.parametrize("schedule", DELAYS, ids=repr)
def test_delays(schedule: Schedule) -> None:
    expected = DELAYS[schedule]
    assert [base_delay_s(n, schedule) for n in range(1, len(expected) + 1)] == expected
    assert base_delay_s(10**9, schedule) == schedule.maximum_s


@pytest.mark.parametrize("attempt", range(1, 40))
def test_chance_lengthens_by_less_than_the_spread(attempt: int) -> None:
    base = base_delay_s(attempt)
    for jitter in (0.0, 0.001, 0.5, 0.999999999):
        assert base <= next_attempt_s(attempt, jitter) <= base * 1.1
    assert next_attempt_s(attempt, 0.0) == base
    assert lengthened_s(base, 999) >= lengthened_s(base, 0)


def test_attempts_within_the_lifetime() -> None:
    """Quick at first, then about 21 a day; RFC 5321 section 4.5.4.1: some days in all."""
    times = list(itertools.accumulate(base_delay_s(n) for n in range(1, 200)))
    within_hour = [time for time in times if time <= 3600]
    assert len(within_hour) == 5
    assert 100 < len([time for time in times if time <= DAYS_5]) < 120


EXPIRY = [
    (1000, 1000, False),
    (1000, 1000 + DAYS_5 - 1, False),
    (1000, 1000 + DAYS_5, True),
    (1000, 10**12, True),
    (1000, 0, False),  # the clock was set back
]


@pytest.mark.parametrize(("arrival_s", "now_s", "gone"), EXPIRY)
def test_expired(arrival_s: int, now_s: int, gone: bool) -> None:
    assert expired(arrival_s, now_s) is gone


BAD = [
    {"minimum_s": 0},
    {"minimum_s": 5000},
    {"maximum_s": DAYS_5},
    {"factor": 1},
    {"spread_percent": -1},
    {"spread_percent": 101},
    {"first_s": (60, 10)},
    {"first_s": (0,)},
    {"first_s": (301,)},
]


@pytest.mark.parametrize("numbers", BAD, ids=repr)
def test_a_schedule_of_nonsense_cannot_be_made(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"schedule|retries"):
        Schedule(**numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("attempt", [0, -1])
def test_no_delay_before_the_first_attempt(attempt: int) -> None:
    with pytest.raises(ValueError, match="failed attempt"):
        next_attempt_s(attempt, 0.5)
