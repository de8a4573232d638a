"""Secure Pre-forking: a pool of workers whose parent limits what a seized one is worth.

Context (paper, section 4): creating a process per connection is slow, so workers are made before
they are needed and used again.  Problem: a worker that lives long and serves many prolongs a
compromise.  Forces: speed against freshness.
Solution: workers are capped in number, uses, age, idle time and length of a session, and *the
parent* enforces it: it accepts the connections and hands them out, so that a worker that ignores
its retirement wins no other one (children that share a listening socket would).  Each worker is
forked from a process that has served nobody, so that nothing planted in one reaches the next.  When
the cap is reached clients get less patience instead of more workers.
Observable claim: no worker is handed more than `max_uses` sessions or one past `max_age_s`, none
lives beyond `longest_life_s`, never more than `max_workers` live, and no worker has two sessions at
once.  What was planted in a worker is not in the next one.  Of the sessions after its retirement a
worker that ignores it gets none.

What it does not limit: a seized worker that says "idle" with sessions still in its hands is given
further ones, one each time, until it has had `max_uses`.

The books of children that do share a listening socket are here, too (`Counted`): what Postfix's
master knows of its daemons.  They keep the cap and the throttle; all else is the children's word.

This file is the policy, pure: time is an argument (seconds), workers are numbers.  `processes.pool`
names the files that fork, accept and kill.
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
    #: The longest session.  Precedent: the watchdog of Postfix's daemons, 18000 s.
    max_session_s: float = 18000.0
    #: How long a client may be silent under stress; 0: the sessions of this pool know no stress.
    stress_command_s: float = 0.0

    @property
    def last_word_s(self) -> float:
        """How long a session that is too long has to end by itself: 15 minutes after five hours."""
        return max(5.0, self.max_session_s / 20)

    @property
    def longest_life_s(self) -> float:
        """Past this age no worker lives, but for the parent's second between looks."""
        return self.max_age_s + self.max_session_s + self.last_word_s


@dataclass(slots=True)
class Worker:
    """What the parent knows of one worker."""

    born_s: float
    uses: int = 0
    busy: bool = False
    #: Since when it is busy, or idle.
    since_s: float = 0.0
    retired: bool = False
    #: When it was told that its session is too long.
    warned_s: float | None = None


@dataclass(slots=True)
class Books:
    """What any parent knows of its workers, and what follows whoever accepts."""

    rules: Rules
    workers: dict[int, Worker] = field(default_factory=dict)
    #: Sessions of all workers.
    sessions: int = 0
    stressed: bool = False
    _full_s: float = 0.0

    def has_free(self, now_s: float) -> bool:
        """Whether some worker may take a session."""
        return any(self._may_serve(number, now_s) for number in self.workers)

    def born(self, number: int, now_s: float) -> None:
        """A worker was made.  Raises ValueError beyond the cap."""
        if not self.may_grow():
            raise ValueError("the pool is full")
        self.workers[number] = Worker(born_s=now_s, since_s=now_s)
        self._is_free(number)

    def gone(self, number: int) -> None:
        """A worker has ended; only now its place is free."""
        self.workers.pop(number, None)

    def may_grow(self) -> bool:
        """Whether one more worker may live."""
        return len(self.workers) < self.rules.max_workers

    def retire(self, number: int) -> None:
        """It gets no more sessions."""
        self.workers[number].retired = True

    def take_back(self, number: int, now_s: float) -> None:
        """Its session has ended."""
        worker = self.workers[number]
        worker.busy, worker.since_s = False, now_s
        self._is_free(number)

    def overlong(self, now_s: float) -> tuple[list[int], list[int]]:
        """Workers whose session is too long: those to be told so, now, and those to be killed."""
        told, killed = [], []
        for number, worker in self.workers.items():
            if not worker.busy or now_s - worker.since_s < self.rules.max_session_s:
                continue
            if worker.warned_s is None:
                worker.warned_s = now_s
                told.append(number)
            elif now_s - worker.warned_s >= self.rules.last_word_s:
                killed.append(number)
        return told, killed

    def look(self, now_s: float) -> bool | None:
        """Whether stress begins (True) or ends (False) now; None if nothing has changed.

        It begins when nobody is free and no more may live, as Postfix's does ("all server ports are
        busy", STRESS_README), and ends when every look has found room for as long as a client may
        be silent under stress: else it would come and go with every session.  (Postfix: 1000 s.)
        """
        if not self.rules.stress_command_s:
            return None
        full = not self.may_grow() and not self.has_free(now_s)
        if full:
            self._full_s = now_s
        calm = now_s - self._full_s >= self.rules.stress_command_s
        if full == self.stressed or not (full or calm):
            return None
        self.stressed = full
        return full

    def _begins(self, number: int, now_s: float) -> None:
        worker = self.workers[number]
        worker.busy, worker.since_s, worker.uses = True, now_s, worker.uses + 1
        self.sessions += 1

    def _is_free(self, number: int) -> None:
        """Some books keep a list."""

    def _may_serve(self, number: int, _now_s: float) -> bool:
        worker = self.workers.get(number)
        return worker is not None and not worker.busy and not worker.retired


@dataclass(slots=True)
class Pool(Books):
    """The books of a parent that hands out.  Every method that does, or takes back, keeps the
    claim.

    `_idle` is a stack of workers that may be free; one that is no longer is dropped when it comes
    to the top, so that handing out costs the same for two workers and for two thousand.
    """

    _idle: list[int] = field(default_factory=list)

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
        self._begins(number, now_s)
        return number

    def is_spent(self, number: int, now_s: float) -> bool:
        """Whether it has served its last session."""
        return self._spent(self.workers[number], now_s)

    def due(self, now_s: float) -> list[int]:
        """Idle workers that must go now: used up, too old, or idle too long beyond the spare."""
        idle = [n for n, worker in self.workers.items() if not worker.busy and not worker.retired]
        spent = [number for number in idle if self._spent(self.workers[number], now_s)]
        fresh = sorted(set(idle) - set(spent), key=lambda n: self.workers[n].since_s)
        surplus = fresh[: max(0, len(fresh) - self.rules.spare)]
        return spent + [
            number
            for number in surplus
            if now_s - self.workers[number].since_s >= self.rules.max_idle_s
        ]

    def _is_free(self, number: int) -> None:
        self._idle.append(number)

    def _may_serve(self, number: int, now_s: float) -> bool:
        worker = self.workers.get(number)
        if worker is None or worker.busy or worker.retired:
            return False
        return not self._spent(worker, now_s)

    def _spent(self, worker: Worker, now_s: float) -> bool:
        rules = self.rules
        used_up = worker.uses >= rules.max_uses or worker.warned_s is not None
        return used_up or now_s - worker.born_s >= rules.max_age_s


#: How long no worker is made after one that failed before its first client.  Precedent: Postfix's
#: service_throttle_time (master_spawn.c: "bad command startup -- throttling").
THROTTLE_S = 60.0


@dataclass(slots=True)
class Counted(Books):
    """The books of a parent whose workers accept by themselves, and say so.

    Uses, age and idle time are the workers' own to honour: the parent has no say in who gets the
    next client, and learns of it when a worker says that it is busy.
    """

    throttled_until_s: float = 0.0

    def taken(self, number: int, now_s: float) -> None:
        """It says that it has a client."""
        self._begins(number, now_s)

    def failed(self, number: int, now_s: float) -> None:
        """It ended by itself, and not as it should; if it never had a client, none is made for a
        time.
        """
        if not self.workers[number].uses:
            self.throttled_until_s = now_s + THROTTLE_S

    def wants_more(self, now_s: float) -> bool:
        """Whether the next client that waits is a reason for one more worker."""
        return not self.has_free(now_s) and self.may_grow() and now_s >= self.throttled_until_s
