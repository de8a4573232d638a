"""When a message that could not go is tried again: what each target promises, and whether it does.

Rules a reader may rely on
- Pure.  A visit is (came, gone), in seconds on one clock, at a next hop that has nothing else to do
  than to fail this one message at once: a connection, or what begins with another MAIL on one that
  was kept open.  So each visit is an attempt, and the gap between two is the pause that the server
  has made.
- A pause is judged against the row of its target: not shorter than its floor, nor longer than its
  ceiling, each by the number of the retry (the first: 1).  What grows is the floor.
- A retry that is due and does not come is too late as well.

Where the numbers come from: what the adapters configure (seconds, where the server can do that),
and what is built in.  The floors are what the server's documentation says, less what its clock
rounds away; the ceilings have what its queue runner adds, and what this machine may take.

RFC 5321 4.5.4.1: "the sender MUST delay retrying a particular destination after one attempt has
failed".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from faultinject.ledger import Finding

TOO_SOON, TOO_LATE = "retried_too_soon", "retried_too_late"
#: What a busy machine adds, in seconds, unless it is known better.
BUSY_S: Final = 2.0

Visits = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """pauses: before the first retry, the second, ...; the last is repeated.  spread: how much
    longer chance may make one, as a share.  grain_s: how much longer its queue runner may; early_s:
    what a clock of whole seconds takes off.  says: where that stands.
    """

    pauses_s: tuple[float, ...]
    says: str
    spread: float = 0.0
    grain_s: float = 0.0
    early_s: float = 0.05
    rising: bool = True

    def pause_s(self, retry: int) -> float:
        """Before that retry (1 or more)."""
        return self.pauses_s[min(retry, len(self.pauses_s)) - 1]

    def floor_s(self, retry: int) -> float:
        """No pause is shorter."""
        shortest = self.pause_s(retry) if self.rising else self.pauses_s[0]
        return shortest - self.early_s

    def ceiling_s(self, retry: int, busy_s: float = BUSY_S) -> float:
        """No pause is longer."""
        longest = self.pause_s(retry) if self.rising else self.pauses_s[-1]
        return longest * (1 + self.spread) + self.grain_s + busy_s


#: By the name of a target, without its architecture; who is not here is not judged.
SCHEDULES: Final[Mapping[str, Schedule]] = {
    "refmta": Schedule(
        pauses_s=(1, 2, 4, 8), spread=0.2, grain_s=1.0, early_s=1.0,
        says="[retry] minimum_s = 1, maximum_s = 8: doubled each time, lengthened by chance; from"
        " the whole second in which the attempt failed",
    ),
    "postfix": Schedule(
        pauses_s=(1, 4), grain_s=1.0, rising=False, early_s=1.0,
        says="as long as it has been in the queue, from minimal_backoff_time 1 s to"
        " maximal_backoff_time 4 s, when qmgr looks (queue_run_delay 1 s)",
    ),
    "exim": Schedule(
        pauses_s=(1,), grain_s=2.0, early_s=1.0,
        says="retry * * F,4d,1s, by a runner that begins each second (-q1s)",
    ),
    "sendmail": Schedule(
        pauses_s=(1,), grain_s=2.0, early_s=1.0,
        says="each queue run, one a second (-q1s, MinQueueAge=0)",
    ),
    "opensmtpd": Schedule(
        pauses_s=(400, 1600), says="built in: 400 s times the square of the number of attempts"
    ),
    "qmail": Schedule(
        pauses_s=(400, 1200), grain_s=60.0, says="built in: (20 times the number of attempts)^2 s"
    ),
}  # fmt: skip


def schedule_of(target: str) -> Schedule | None:
    """By NAME or NAME:ARCHITECTURE."""
    return SCHEDULES.get(target.partition(":")[0])


def judge(
    what: str, visits: Visits, schedule: Schedule, until_s: float, busy_s: float = BUSY_S
) -> Iterator[Finding]:
    """The pauses of one message at one next hop, which fails it until `until_s`."""
    for retry, ((_, gone_s), (came_s, _)) in enumerate(pairwise(visits), 1):
        pause_s = came_s - gone_s
        told = f"{what}: retry {retry} after {pause_s:.2f} s"
        if pause_s < schedule.floor_s(retry):
            yield Finding(name=TOO_SOON, text=f"{told}, not {schedule.floor_s(retry):.2f} s")
        if pause_s > (latest_s := schedule.ceiling_s(retry, busy_s)):
            yield Finding(name=TOO_LATE, text=f"{told}, not {latest_s:.2f} s")
    retry = max(1, len(visits))
    since_s = visits[-1][1] if visits else 0.0
    if not visits:
        yield Finding(name=TOO_LATE, text=f"{what}: never tried")
    elif until_s - since_s > schedule.ceiling_s(retry, busy_s):
        text = f"{what}: no retry {retry} in {until_s - since_s:.2f} s"
        yield Finding(name=TOO_LATE, text=text)


def pauses(visits: Visits) -> tuple[float, ...]:
    """For people, in seconds."""
    return tuple(round(came - gone, 2) for (_, gone), (came, _) in pairwise(visits))
