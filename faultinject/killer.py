"""Who is killed next.

Rules a reader may rely on
- The role that was hit least is next, among those that run now; of a role the part that was hit
  least (a pool's parent, a worker); chance (a seed) decides between equals. So none is spared
  because it has few processes, or lives seldom. And none runs ahead: not by more than LEAD hits
  of the average, or whoever starts first would be killed again and again.
- A process is left alone for its first moments: between none and `grace_s`, by chance. Some die
  while they start or recover; most after they have begun to work, or nothing would ever be done
  (a role that starts on first use would be hit at each birth).
- A kill each second; if the roles would not all get their hits, several at once. Everything
  between two kills is then longer than if they were spread, and a recovery that is hit is hit hard.
- Every kill is in the books, with its time.

A role that starts on first use can only be hit while it runs: `spared` says which have not had
enough.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

import trio

from faultinject.books import Books, Kill
from faultinject.processes import Process, age_s, strike

#: How soon it is tried again when nobody could be hit.
AGAIN_S = 0.05
#: How far a role may be ahead of the average, in hits.
LEAD = 2
EVERY_S = 1.0
#: How much longer it may take to hit every role often enough, as a share of the time given.
OVERTIME = 0.5


@dataclass(slots=True, kw_only=True)
class Killer:
    """roles: those that must be hit; others are as good, but are not waited for."""

    roles: tuple[str, ...]
    books: Books
    random: Random
    now: Callable[[], float]
    grace_s: float = 0.0
    age_s: Callable[[Process], float] = age_s
    hits: Counter[str] = field(default_factory=Counter)  # by role
    kinds: Counter[str] = field(default_factory=Counter)  # by role and part
    seen: set[str] = field(default_factory=set)  # roles
    _graces: dict[tuple[int, int], float] = field(default_factory=dict)
    _struck: set[tuple[int, int]] = field(default_factory=set)

    def choose(self, processes: Iterable[Process]) -> Process | None:
        """The next victim; None if nothing runs, or only what is too young."""
        running = list(processes)
        self.seen |= {each.role for each in running}
        found = [each for each in running if self._is_ripe(each)]
        if not found:
            return None
        role = self._least(self.hits, {each.role for each in found})
        if self.hits[role] >= self.hits.total() / len(self.seen) + LEAD:
            return None
        kind = self._least(self.kinds, {each.kind for each in found if each.role == role})
        return self.random.choice([each for each in found if each.kind == kind])

    def _is_ripe(self, process: Process) -> bool:
        key = process.pid, process.born
        if key in self._struck:  # it dies already
            return False
        grace_s = self._graces.setdefault(key, self.grace_s * self.random.random())
        return grace_s == 0 or self.age_s(process) >= grace_s

    def _least(self, hits: Counter[str], names: set[str]) -> str:
        least = min(hits[name] for name in names)
        return self.random.choice(sorted(name for name in names if hits[name] == least))

    def kill_one(self, processes: Iterable[Process]) -> str:
        """The role that was hit; "" if nobody was."""
        victim = self.choose(processes)
        if victim is None:
            return ""
        # Noted before: whatever the death causes comes later.
        kill = Kill(role=victim.role, when_s=self.now())
        if not strike(victim):
            return ""
        self.books.kills.append(kill)
        self._struck.add((victim.pid, victim.born))
        self.hits[victim.role] += 1
        self.kinds[victim.kind] += 1
        return victim.role

    def spared(self, wanted: int) -> list[str]:
        """The roles that were not hit so often."""
        return [role for role in self.roles if self.hits[role] < wanted]

    def volley(self, wanted: int, left_s: float) -> int:
        """How many to kill now: one, or more where not all roles would get their hits."""
        missing = sum(max(0, wanted - self.hits[role]) for role in self.roles)
        return max(1, min(len(self.roles), math.ceil(missing * EVERY_S / max(left_s, EVERY_S))))

    def strike_some(self, running: Sequence[Process], wanted: int, left_s: float) -> int:
        """One moment's kills; returns how many.  Past the time (left_s < 0) only of the spared."""
        spared = self.spared(wanted)
        first = [each for each in running if each.role in spared]
        hits = sum(bool(self.kill_one(first)) for _ in range(self.volley(wanted, left_s)))
        # Killing others more often would not bring those that do not run now.
        return hits or (left_s >= 0 and bool(self.kill_one(running)))

    async def rage(
        self, seconds: float, wanted: int, processes: Callable[[], Iterable[Process]]
    ) -> None:
        """Kill for so long, each role so often; if need be, longer by OVERTIME."""
        end_s = trio.current_time() + seconds
        over_s = end_s + seconds * OVERTIME
        pause_s = EVERY_S
        while trio.current_time() + pause_s < (over_s if self.spared(wanted) else end_s):
            await trio.sleep(pause_s)
            left_s = end_s - trio.current_time()
            pause_s = EVERY_S if self.strike_some(list(processes()), wanted, left_s) else AGAIN_S
        await trio.sleep_until(end_s)  # at once, if that is past
