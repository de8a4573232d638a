"""Destinations, messages and time, as far as scheduling is concerned.

A destination is up or down (the truth, which nobody knows), and has sessions, each with the ticks
that it has taken and its message (-1 for one of a hog's, of which there is no end). A message waits
(`ready`), flies, is deferred, or has ended. `missed` and `waited` are the ghost part.
"""

from __future__ import annotations

from typing import NamedTuple

from specs.schedule.rules import Book, Limits, Passed, stranger

ENDED = frozenset({"delivered", "expired"})
HOGS = -1


class Bounds(NamedTuple):
    """What is explored. Per destination: `slow` (ticks that a session may take), `hogs` (whether it
    has mail without end), `flips` (how often it dies or recovers). `messages`: their destinations.
    """

    slow: tuple[int, ...]
    hogs: tuple[bool, ...]
    flips: tuple[int, ...]
    messages: tuple[int, ...]
    limits: Limits = Limits()
    backoff: int = 2
    lifetime: int = 6
    refusals: int = 0  # times that a destination defers a message without being dead

    @property
    def turn(self) -> int:
        """Ticks within which a place gets free for one that holds none: each of the others may go
        first, and every session takes the longest that it may.
        """
        return max(self.slow) * len(self.slow)

    @property
    def step(self) -> int:
        """Ticks that the last attempt may take: its turn comes, and a session ends."""
        return self.turn + max(self.slow)

    @property
    def revival(self) -> int:
        """Ticks within which a destination that has recovered is tried: a pause is over, or a
        retry is due, and a session that still waits for the dead one ends; then it is its turn.
        """
        return max(self.limits.longest, self.backoff) + self.step

    def __str__(self) -> str:
        kinds = [
            f"{'a hog' if hog else 'one'} with sessions of {slow}"
            + (f" that changes {flips}x" if flips else "")
            for slow, hog, flips in zip(self.slow, self.hogs, self.flips, strict=True)
        ]
        return (
            f"{'; '.join(kinds)}; {len(self.messages)} message(s), {self.refusals} refusal(s); "
            f"{self.limits.total} places, {self.limits.each} each, initially {self.limits.initial};"
            f" pauses {self.limits.pause} to {self.limits.longest}, backoff {self.backoff}, "
            f"lifetime {self.lifetime}"
        )


EXPLORED = (
    Bounds(  # two hogs, and somebody with two messages
        slow=(3, 2, 1),
        hogs=(True, True, False),
        flips=(0, 0, 0),
        messages=(2, 2),
        limits=Limits(total=3, initial=2),
        refusals=1,
    ),
    Bounds(  # as many hogs as places
        slow=(3, 2, 2, 1),
        hogs=(True, True, True, False),
        flips=(0, 0, 0, 0),
        messages=(3,),
    ),
    Bounds(  # somebody dies and recovers, beside a hog
        slow=(2, 2),
        hogs=(True, False),
        flips=(0, 2),
        messages=(1, 1),
        limits=Limits(total=3, initial=2),
    ),
    Bounds(  # and beside somebody who is well
        slow=(2, 2, 1),
        hogs=(True, False, False),
        flips=(0, 2, 0),
        messages=(1, 1, 2),
        limits=Limits(total=2),
    ),
)
"""What refmta-spec explores."""


class Destination(NamedTuple):
    """`flips`: changes that it has left; `probes`: sessions begun since it was last found dead."""

    book: Book
    up: bool = True
    flips: int = 0
    sessions: tuple[tuple[int, int], ...] = ()
    probes: int = 0

    def __str__(self) -> str:
        taken = ", ".join(f"{ticks}" for ticks, _ in self.sessions)
        return f"{'up' if self.up else 'DOWN'}, {self.book} [{taken}]"


class Message(NamedTuple):
    """`missed`: ticks that it was ready and might have been started, but others were. `waited`:
    ticks since its destination was last down, or it was last tried.
    """

    to: int
    place: str = "absent"
    age: int = 0
    due: int = 0
    missed: int = 0
    waited: int = 0

    def __str__(self) -> str:
        due = f" for {self.due}" if self.place == "deferred" else ""
        return f"to {self.to}: {self.place}{due}, age {self.age}, waited {self.waited}"

    @property
    def ready(self) -> bool:
        return self.place == "ready"


class State(NamedTuple):
    destinations: tuple[Destination, ...]
    messages: tuple[Message, ...]
    passed: Passed = frozenset()
    refusals: int = 0

    def __str__(self) -> str:
        return " | ".join(map(str, [*self.destinations, *self.messages]))

    @property
    def busy(self) -> int:
        return sum(each.book.busy for each in self.destinations)


def start(bounds: Bounds) -> State:
    """All destinations are up, and no message has come yet."""
    return State(
        tuple(Destination(stranger(bounds.limits), flips=flips) for flips in bounds.flips),
        tuple(Message(to) for to in bounds.messages),
        refusals=bounds.refusals,
    )


def canonical(state: State) -> State:
    """Messages to one destination differ by name only; so do the sessions of one."""
    order = sorted(range(len(state.messages)), key=lambda at: state.messages[at])
    if order == list(range(len(order))):
        return state
    place = {old: new for new, old in enumerate(order)} | {HOGS: HOGS}
    destinations = tuple(
        each._replace(sessions=tuple(sorted((ticks, place[at]) for ticks, at in each.sessions)))
        for each in state.destinations
    )
    return state._replace(
        destinations=destinations, messages=tuple(state.messages[at] for at in order)
    )
