"""What is to be tried, and whose turn is next.  No clock, no I/O: times are given."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from faultinject.kill.grip import Seen
from faultinject.kill.points import ALL, Fault, Point
from faultinject.kill.scripts import SCRIPTS
from faultinject.kill.stand import PATIENCE_S

#: How many points in a row that were not hit are past the end.
OVER: Final = 2
#: No more than so many past the calls of the survey.
MOST_OVER: Final = 200
#: How long a kind of process is left alone that took long to come back; what its absence costs.
REST_S, ABSENT_S = 12.0, 1.0
#: Who would take longer than that, and longer than it takes to start a server, is better tried with
#: a new one, which has no memory of deaths.
SLOW_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """scripts: names; those that the target can't do are left out, and said.  kinds: None for all.
    numbers: from and to, None for all.  every: only each so-manieth call (from the first):
    a sample.  jobs: servers side by side.  patience_s: for a 250, and again for
    an empty queue.
    """

    scripts: tuple[str, ...] = tuple(SCRIPTS)
    faults: tuple[Fault, ...] = ("kill",)
    kinds: tuple[str, ...] | None = None
    numbers: tuple[int, int] | None = None
    every: int = 1
    jobs: int = 2
    seed: int = 0
    patience_s: float = PATIENCE_S


@dataclass(slots=True)
class Lane:
    """The points of a fault, a script and a kind of process, one after the other.

    points: what is to be tried.  last: of these.  on: whether to go on past it, by that step.
    """

    points: deque[Point]
    last: Point
    on: bool = False
    step: int = 1
    over: int = 0  # how many past the end were not hit, in a row
    beyond: int = 0

    @property
    def kind(self) -> str:
        """Whose calls."""
        return self.last.kind

    @property
    def open(self) -> bool:
        """Whether there is anything left."""
        return bool(self.points) or (self.on and self.over < OVER and self.beyond < MOST_OVER)

    def take(self) -> tuple[Point, bool]:
        """The next point, and whether it is past the calls of the survey."""
        if self.points:
            return self.points.popleft(), False
        self.beyond += 1
        self.last = msgspec.structs.replace(self.last, number=self.last.number + self.step)
        return self.last, True

    def leave_out(self, tried: Collection[Point]) -> None:
        """Go on where an earlier run has ended."""
        left = deque(point for point in self.points if point not in tried)
        like = [each for each in tried if _same_lane(each, self.last)]
        if self.last.fault == "twice":  # its end is not known before it is reached
            self.last = max([*like, self.last])
        elif not left:
            self.on = False
        self.points = left


def _same_lane(one: Point, other: Point) -> bool:
    return msgspec.structs.replace(one, number=0) == msgspec.structs.replace(other, number=0)


def lanes(
    plan: Plan, calls: Mapping[str, Sequence[Seen]], kinds: Iterable[str] = ()
) -> Iterator[Lane]:
    """The work, for what the survey has seen.  kinds: of the processes at rest."""
    for fault in plan.faults:
        for script, seen in calls.items():
            counts: Mapping[str, int] = Counter(each.kind for each in seen)
            if fault == "tree":
                counts = {ALL: len(seen)}
            elif fault == "twice":
                counts = dict.fromkeys(sorted(kinds), 1)  # from there on, until it exceeds the run
            for kind, count in counts.items():
                if kind == ALL or plan.kinds is None or kind in plan.kinds:
                    yield _lane(plan, script, fault, kind, count)


def _lane(plan: Plan, script: str, fault: Fault, kind: str, count: int) -> Lane:
    first, last = plan.numbers or (1, count)
    numbers = range(first, last + 1, plan.every)
    points = [Point(script=script, fault=fault, kind=kind, number=n) for n in numbers]
    end = Point(script=script, fault=fault, kind=kind, number=last)
    on = plan.numbers is None and (plan.every == 1 or fault == "twice")
    return Lane(deque(points), end, on=on, step=plan.every)


@dataclass(slots=True)
class Turns:
    """Whose calls are next at one server: servers start anew more slowly who dies again and again.

    Who took long is left alone for a while; who does not run now has time to come back.  start_s:
    what it takes to have another server instead.
    """

    start_s: float = 0.0
    took: dict[str, tuple[float, float]] = field(default_factory=dict)  # kind -> (s, until)

    def note(self, kind: str, seconds: float, now_s: float) -> None:
        """A point of this kind took so long."""
        self.took[kind] = seconds, now_s + REST_S

    def choose(self, open_ones: Sequence[Lane], absent: Iterable[str], now_s: float) -> Lane:
        """One of them, of which there is at least one.  absent: kinds that ran at rest once."""
        away = {*absent}

        def cost(lane: Lane) -> tuple[float, int]:
            price = self.price(lane, now_s)
            return price + (ABSENT_S if lane.kind in away else 0.0), -len(lane.points)

        return min(open_ones, key=cost)

    def price(self, lane: Lane, now_s: float) -> float:
        """How long a point of it may take now, in seconds; 0 if that is not known."""
        seconds, until_s = self.took.get(lane.kind, (0.0, 0.0))
        return seconds if now_s < until_s else 0.0

    def tired(self, lane: Lane, now_s: float) -> bool:
        """Whether this server is too slow for it: its processes have died too often lately."""
        return self.price(lane, now_s) > max(SLOW_S, self.start_s)
