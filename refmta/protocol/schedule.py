"""When a delivery that failed for the moment is tried again, and when it is given up.

Rules a reader may rely on
- Pure: time is passed in as seconds since 1970, chance as a number in [0, 1).
- The delay grows from `minimum_s` by `factor` to `maximum_s`, after a few `first_s` that are
  quicker. Chance only ever lengthens it, by less than `spread_percent`, so that messages which
  failed together do not come back together.
- For every attempt: bounds hold, and a later attempt never waits less than an earlier one would
  with the same chance (proved: subjects.proofs_smtp).
- A message is given up at `lifetime_s` after its arrival, never before (RFC 5321 section 4.5.4.1:
  "the give-up time generally needs to be at least 4-5 days").

Where the numbers come from: RFC 5321 section 4.5.4.1 asks for at least 30 minutes between tries
at a *remote* host, in general, and finds that two in the first hour and then one every two or
three hours work well. Postfix: 300 s to 4000 s (minimal_backoff_time, maximal_backoff_time), 5
days; Exim: 15 minutes, then growing by 1.5 to 8 hours, 4 days. A local delivery disturbs nobody
else: what fails is a full disk, a quota or a user database, which somebody is about to mend; so
its first retries come soon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_S: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Numbers of one kind of delivery, in seconds."""

    first_s: tuple[int, ...] = ()  # delays of the first retries, ascending, at most minimum_s
    minimum_s: int = 300  # Postfix minimal_backoff_time
    maximum_s: int = 4000  # Postfix maximal_backoff_time
    factor: int = 2
    spread_percent: int = 10
    lifetime_s: int = 5 * DAY_S  # RFC 5321 4.5.4.1; Postfix maximal_queue_lifetime

    def __post_init__(self) -> None:
        if not 0 < self.minimum_s <= self.maximum_s < self.lifetime_s:
            raise ValueError("a schedule needs 0 < minimum <= maximum < lifetime")
        if self.factor < 2 or not 0 <= self.spread_percent <= 100:
            raise ValueError("a schedule needs factor >= 2 and a spread of 0 to 100 percent")
        steps = (1, *self.first_s, self.minimum_s)
        if list(steps) != sorted(steps):
            raise ValueError("the first retries must ascend from 1 s to the minimum")


LOCAL: Final = Schedule(first_s=(10, 60))
REMOTE: Final = Schedule()


def base_delay_s(attempt: int, schedule: Schedule = LOCAL) -> int:
    """The delay after this many failed attempts, without chance. ValueError below 1."""
    if attempt < 1:
        raise ValueError("a delay follows a failed attempt")
    if attempt <= len(schedule.first_s):
        return schedule.first_s[attempt - 1]
    delay_s = schedule.minimum_s
    # Ends within log(maximum/minimum) turns, however many attempts there were.
    for _ in range(attempt - len(schedule.first_s) - 1):
        if delay_s >= schedule.maximum_s:
            break
        delay_s *= schedule.factor
    return min(delay_s, schedule.maximum_s)


def next_attempt_s(attempt: int, jitter: float, schedule: Schedule = LOCAL) -> int:
    """Seconds to wait after this many failed attempts (1 or more); jitter in [0, 1)."""
    return lengthened_s(base_delay_s(attempt, schedule), int(jitter * 1000), schedule)


def lengthened_s(delay_s: int, thousandths: int, schedule: Schedule = LOCAL) -> int:
    """The delay with thousandths (0 to 999) of the spread added. Integers, so that it is proved."""
    return delay_s + delay_s * schedule.spread_percent * thousandths // 100_000


def expired(arrival_s: int, now_s: int, schedule: Schedule = LOCAL) -> bool:
    """Has a message that arrived then been tried for its whole lifetime?

    A clock that was set back makes a message younger, never expired.
    """
    return now_s - arrival_s >= schedule.lifetime_s
