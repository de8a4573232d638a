"""Secure Pre-forking: a pool of workers whose parent limits what a seized one is worth.

Context (paper, section 4): creating a process per connection is slow, so workers are made before
they are needed and used again.  Problem: a worker that lives long and serves many prolongs a
compromise.  Forces: speed against freshness.
Solution: workers are capped in number, uses, age and idle time, and *the parent* enforces it: it
accepts the connections and hands them out, so that a worker that ignores its retirement wins no
other one (children that share a listening socket would).
Observable claim: no worker is handed more than `max_uses` sessions or one past `max_age_s`, never
more than `max_workers` live, and no worker has two sessions at once.

This file is the policy, pure: time is an argument (seconds), workers are numbers.  Forking,
accepting and killing are in `processes.pool`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The caps.  Precedent: Postfix's process limit 100, max_use 100, max_idle 100 s.

    A worker costs us about 15 ms of a processor to make, five times what a session costs: at 100
    uses that would be a twentieth of all work.
    """

    max_workers: int = 100
    max_uses: int = 500
    max_age_s: float = 3600.0
    max_idle_s: float = 100.0
    #: Workers kept ready beyond their idle time.
    spare: int = 2


@dataclass(slots=True)
class Worker:
    """What the parent knows of one worker."""

    born_s: float
    uses: int = 0
    busy: bool = False
    idle_since_s: float = 0.0
    retired: bool = False


@dataclass(slots=True)
class Pool:
    """The parent's books.  Every method that hands out or takes back keeps the claim.

    `_idle` is a stack of workers that may be free; one that is no longer is dropped when it comes
    to the top, so that handing out costs the same for two workers and for two thousand.
    """

    rules: Rules
    workers: dict[int, Worker] = field(default_factory=dict)
    _idle: list[int] = field(default_factory=list)

    def born(self, number: int, now_s: float) -> None:
        """A worker was made.  Raises ValueError beyond the cap."""
        if not self.may_grow():
            raise ValueError("the pool is full")
        self.workers[number] = Worker(born_s=now_s, idle_since_s=now_s)
        self._idle.append(number)

    def gone(self, number: int) -> None:
        """A worker has ended; only now its place is free."""
        self.workers.pop(number, None)

    def may_grow(self) -> bool:
        """Whether one more worker may live."""
        return len(self.workers) < self.rules.max_workers

    def has_free(self, now_s: float) -> bool:
        """Whether `hand_out` would find a worker."""
        while self._idle and not self._may_serve(self._idle[-1], now_s):
            self._idle.pop()
        return bool(self._idle)

    def hand_out(self, now_s: float) -> int | None:
        """The worker that gets the next session, marked busy; None if none may.

        The one that was idle last: its memory is warm, and the others grow old enough to go.
        """
        if not self.has_free(now_s):
            return None
        number = self._idle.pop()
        worker = self.workers[number]
        worker.busy, worker.uses = True, worker.uses + 1
        return number

    def take_back(self, number: int, now_s: float) -> None:
        """Its session has ended."""
        worker = self.workers[number]
        worker.busy, worker.idle_since_s = False, now_s
        self._idle.append(number)

    def retire(self, number: int) -> None:
        """It gets no more sessions."""
        self.workers[number].retired = True

    def is_spent(self, number: int, now_s: float) -> bool:
        """Whether it has served its last session."""
        return self._spent(self.workers[number], now_s)

    def due(self, now_s: float) -> list[int]:
        """Idle workers that must go now: used up, too old, or idle too long beyond the spare."""
        idle = [n for n, worker in self.workers.items() if not worker.busy and not worker.retired]
        spent = [number for number in idle if self._spent(self.workers[number], now_s)]
        fresh = sorted(set(idle) - set(spent), key=lambda n: self.workers[n].idle_since_s)
        surplus = fresh[: max(0, len(fresh) - self.rules.spare)]
        return spent + [
            number
            for number in surplus
            if now_s - self.workers[number].idle_since_s >= self.rules.max_idle_s
        ]

    def _may_serve(self, number: int, now_s: float) -> bool:
        worker = self.workers.get(number)
        if worker is None or worker.busy or worker.retired:
            return False
        return not self._spent(worker, now_s)

    def _spent(self, worker: Worker, now_s: float) -> bool:
        rules = self.rules
        return worker.uses >= rules.max_uses or now_s - worker.born_s >= rules.max_age_s
