"""How many sessions each destination of remote mail may have, whose turn it is, and who is dead.

Rules a reader may rely on
- Pure: times (seconds, any clock that does not go back) and chance ([0, 1)) are arguments.
- **Bounded**: never more than `total` sessions, nor more than a destination's window.
- **Slow start** (RFC 5321 says nothing; Postfix's queue manager, Exim's retry): a destination
  begins with `initial` sessions; each job that found it alive widens the window by one, up to
  `per_destination`; each session that found it dead halves it.
- **Dead-destination cache**: when as many sessions in a row as its window (halved by each of
  them) found nobody there, a destination is dead: after 2 of a stranger's, 4 of twenty. While it
  is, nothing is tried; then one session alone probes. Each probe in vain doubles the pause, from
  `pause_s` to `longest_pause_s`, lengthened by chance. RFC 5321 4.5.4.1: "the sender SHOULD keep
  a list of hosts it cannot reach" instead of retrying each mail.
- **Fairness**: turns go round; and a destination starts a further session only if more places
  are free than it holds itself (a dynamic threshold: Choudhury and Hahne 1998, for the buffers of
  switches). So one slow destination holds at most half of all places, two a third each, and a
  newcomer finds a place for as long as fewer than log2(total) hogs, or anyone ends.

What is tricky: a session that ends may let any destination go on that the threshold held back, so
those stay in the round; one that its own window or its death holds back leaves it, and the caller
brings it back (`wants`) when something changes for it or its pause is over (`revival_s`).

What it doesn't do: know messages, start sessions, wait (the queue manager).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final, Literal

#: Destinations that are remembered; those with sessions always are.
KNOWN: Final = 10_000
#: What a session, or a job of it, says about its destination.
Finding = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Numbers on everything. Sessions, and seconds."""

    total: int = 100  # Postfix: default_process_limit 100
    per_destination: int = 20  # Postfix: default_destination_concurrency_limit 20
    initial: int = 2  # Postfix: initial_destination_concurrency 5
    pause_s: int = 60  # Postfix: minimal_backoff_time 300
    longest_pause_s: int = 3600  # Postfix: maximal_backoff_time 4000
    spread_percent: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.initial <= self.per_destination:
            raise ValueError("limits need 1 <= initial <= per_destination")
        if self.total < 1 or not 0 < self.pause_s <= self.longest_pause_s:
            raise ValueError("limits need total >= 1 and 0 < pause <= longest pause")


DEFAULT: Final = Limits()


@dataclass(frozen=True, slots=True)
class Destination:
    """What is known of one destination.

    window: sessions it may have. busy: sessions it has. failures: sessions in a row that found
    it dead. deaths: pauses in a row. dead_until_s: when it may be probed.
    """

    window: int
    busy: int = 0
    failures: int = 0
    deaths: int = 0
    dead_until_s: float = 0.0


def may_start(destination: Destination, now_s: float) -> bool:
    """Whether its own state lets it have one more session; places aside."""
    return destination.busy < destination.window and now_s >= destination.dead_until_s


def alive(destination: Destination, limits: Limits = DEFAULT) -> Destination:
    """Somebody was there."""
    return replace(
        destination,
        window=min(limits.per_destination, max(limits.initial, destination.window + 1)),
        failures=0, deaths=0, dead_until_s=0.0,
    )  # fmt: skip


def dead(
    destination: Destination, now_s: float, chance: float, limits: Limits = DEFAULT
) -> Destination:
    """Nobody was there. Once for a whole window in a row: it is dead for a while."""
    if now_s < destination.dead_until_s:  # a session from before has learned the same
        return destination
    failures = destination.failures + 1
    narrow = replace(destination, failures=failures, window=max(1, destination.window // 2))
    if failures < destination.window:
        return narrow
    pause = pause_s(destination.deaths + 1, chance, limits)
    return replace(
        narrow, window=1, failures=0, deaths=destination.deaths + 1, dead_until_s=now_s + pause
    )


def pause_s(deaths: int, chance: float, limits: Limits = DEFAULT) -> float:
    """How long a destination is left alone after this many deaths in a row (1 or more)."""
    doublings = min(max(deaths, 1) - 1, 32)
    base_s = min(limits.pause_s << doublings, limits.longest_pause_s)
    return base_s + base_s * limits.spread_percent * chance / 100


@dataclass(slots=True)
class Destinations:
    """The books of all destinations. Every method that starts a session keeps the rules."""

    limits: Limits = DEFAULT
    known: dict[str, Destination] = field(default_factory=dict)
    busy: int = 0
    _round: deque[str] = field(default_factory=deque)
    _in_round: set[str] = field(default_factory=set)

    def of(self, name: str) -> Destination:
        """What is known; a stranger gets the initial window."""
        return self.known.get(name) or Destination(window=self.limits.initial)

    def wants(self, name: str) -> None:
        """There is work for this destination: it gets its turn."""
        if name not in self._in_round:
            self._in_round.add(name)
            self._round.append(name)

    def next(self, now_s: float) -> str | None:
        """Whose turn it is to start one session, counted as started; None if nobody may.

        Whoever is started, or held back by its own state, leaves the round until `wants`.
        """
        for _ in range(len(self._round)):
            free = self.limits.total - self.busy
            if free <= 0:
                return None
            name = self._round.popleft()
            destination = self.of(name)
            if not may_start(destination, now_s):
                self._in_round.discard(name)
            elif free > destination.busy:
                self._in_round.discard(name)
                self.known[name] = replace(destination, busy=destination.busy + 1)
                self.busy += 1
                return name
            else:
                self._round.append(name)
        return None

    def found(self, name: str, finding: Finding, now_s: float, chance: float) -> None:
        """What a job has learned of its destination."""
        if finding == "alive":
            self.known[name] = alive(self.of(name), self.limits)
        elif finding == "dead":
            self.known[name] = dead(self.of(name), now_s, chance, self.limits)

    def ended(self, name: str) -> None:
        """A session has ended. Raises ValueError for one that was never started: our mistake."""
        destination = self.of(name)
        if destination.busy < 1:
            raise ValueError("a session has ended that was never started")
        self.busy -= 1
        left = replace(destination, busy=destination.busy - 1)
        self.known[name] = left
        if left.busy == 0 and left.deaths == 0 and left.failures == 0:
            # An idle one is a stranger again: its window was measured in another hour.
            del self.known[name]
        elif len(self.known) > KNOWN:
            self._forget_one()

    def _forget_one(self) -> None:
        """The one that is known for longest; what it costs is a session that finds it dead."""
        for name, destination in self.known.items():
            if destination.busy == 0:
                del self.known[name]
                return

    def forgive(self, name: str) -> None:
        """Somebody has mended something: it is a stranger again."""
        destination = self.known.get(name)
        if destination is not None:
            self.known[name] = Destination(window=self.limits.initial, busy=destination.busy)

    def is_dead(self, name: str, now_s: float) -> bool:
        """Whether nothing is to be tried now."""
        return now_s < self.of(name).dead_until_s

    def revival_s(self, name: str) -> float:
        """When a dead destination may be probed; 0 for one that is not dead."""
        return self.of(name).dead_until_s

    def newcomer(self, now_s: float) -> bool:
        """Whether no place is free, and somebody waits who holds none and may be tried."""
        return self.busy >= self.limits.total and any(
            not destination.busy and may_start(destination, now_s)
            for destination in map(self.of, self._round)
        )

    def contended(self, now_s: float) -> bool:
        """Whether somebody would start a session if one place more were free."""
        free = self.limits.total - self.busy
        return any(
            destination.busy == free and may_start(destination, now_s)
            for destination in map(self.of, self._round)
        )
