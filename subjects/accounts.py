"""Who has an account: `roles.users` and `roles.accounts` together, in bad weather, judged.

A walk from a seed: users come and go in the database, it fails and recovers, accounts dies and
comes back, time passes, several tasks ask at once.  Each answer is held against what the database
said when.  Rules, each the name that must catch its mutant:

    no-means-no    "no" was true at some moment of the last NO_S seconds
    yes-means-yes  "yes" was true at some moment of the last YES_S seconds
    away-if-away   nobody is told "away" while database and accounts answer
    a-question-ends  after asking there is an answer, or AccountsAway was raised
    no-system-user   an id of a reserved range never has a mailbox
    bounded        no more names are kept than NAMES of each kind
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import trio
import trio.testing

from refmta.patterns.compartmentalization import Linked, Mailslot
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.channels import local_channels
from refmta.roles import accounts, users
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate

SEEDS, STEPS = range(6), 120
#: Few, so that they meet again; "mole" has the id of a system user.
NAMES: Final = ("ada", "bob", "mole", *(f"guess{number}" for number in range(12)))
MOLE, GUESSED = 250, 5000
#: How many are kept: fewer than there are, more than are asked at once.
KEPT, AT_ONCE = 12, (1, 1, 3, 8)


class _Journal:
    def info(self, event: str, **fields: object) -> None:
        """Nobody reads it."""

    error = info


@dataclass
class Weather:
    """The database and what became of it.  was: name -> [(since, there)], newest last."""

    failing: bool = False
    there: set[str] = field(default_factory=set)
    was: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)

    def uid(self, name: str) -> int | None:
        """What the C library says."""
        if self.failing:
            raise OSError(errno.EIO, "the directory service is away")
        if name == "mole":
            return MOLE
        return GUESSED if name in self.there else None

    def turn(self, name: str, now_s: float) -> None:
        """A user comes, or goes."""
        self.there ^= {name}
        self.was.setdefault(name, [(0.0, False)]).append((now_s, name in self.there))

    def was_ever(self, name: str, there: bool, since_s: float) -> bool:
        """Whether that was so at some moment from then on."""
        past = self.was.get(name, [(0.0, False)])
        ends = [start for start, _ in past[1:]] + [float("inf")]
        pairs = zip(past, ends, strict=True)
        return any(was == there and until_s >= since_s for (_, was), until_s in pairs)


@dataclass
class Walk:
    """One seed's."""

    asked: Any
    answering: Any
    dice: random.Random
    weather: Weather = field(default_factory=Weather)
    violated: dict[str, str] = field(default_factory=dict)
    far: Channel | None = None

    async def run(self) -> None:
        cache = self.asked.Users(["listed"], trio.current_time)
        config = self.answering.Slice(reserved=((0, 1000),))
        role = self.answering.Accounts(config, _Journal(), self.weather.uid)
        slot = Mailslot[Linked]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.listen, slot)
            for _ in range(STEPS):
                await self._step(cache, role, slot, nursery)
            nursery.cancel_scope.cancel()

    async def _step(
        self, cache: Any, role: Any, slot: Mailslot[Linked], nursery: trio.Nursery
    ) -> None:
        dice = self.dice.random()
        if self.far is None and dice < 0.7:
            nursery.start_soon(role.serve, await self._link(slot))
        elif dice < 0.04 and self.far is not None:
            self._die()
        elif dice < 0.1:
            self.weather.failing = not self.weather.failing
        elif dice < 0.25:
            self.weather.turn(self.dice.choice(("ada", "bob")), trio.current_time())
        elif dice < 0.5:
            await trio.sleep(self.dice.choice((1, 5, 11, 61)))
        else:
            dying = self.dice.random() < 0.1
            if dying:  # it hears the questions, and answers none
                await self._link(slot)
            async with trio.open_nursery() as askers:
                for name in self.dice.sample(NAMES, self.dice.choice(AT_ONCE)):
                    askers.start_soon(self._ask, cache, name)
                await trio.testing.wait_all_tasks_blocked()
                if dying:
                    self._die()
        await trio.testing.wait_all_tasks_blocked()
        kept = max(len(cache._yes), len(cache._no))
        self._hold("bounded", kept <= self.asked.NAMES, f"{kept} names")

    async def _link(self, slot: Mailslot[Linked]) -> Channel:
        """A new accounts; its end."""
        near, self.far = local_channels(border("resolve", "accounts"))
        slot.put(Linked(near))
        await trio.testing.wait_all_tasks_blocked()
        return self.far

    def _die(self) -> None:
        if self.far is not None:
            self.far.close()
        self.far = None

    async def _ask(self, cache: Any, name: str) -> None:
        begun_s = trio.current_time()
        try:
            try:
                answer = cache(name)
            except self.asked.Unasked:
                await cache.ask(name)
                answer = cache(name)
        except self.asked.Unasked:
            return self._hold("a-question-ends", holds=False, detail=name)
        except self.asked.AccountsAway:
            well = not self.weather.failing and self.far is not None
            return self._hold("away-if-away", not well, name)
        return self._judge(name, answer, begun_s)

    def _judge(self, name: str, answer: bool, begun_s: float) -> None:
        if name == "mole":
            return self._hold("no-system-user", not answer, name)
        rule = "yes-means-yes" if answer else "no-means-no"
        lasts_s = users.YES_S if answer else users.NO_S
        so = self.weather.was_ever(name, answer, begun_s - lasts_s)
        return self._hold(rule, so, f"{name} at {begun_s:.0f} s")

    def _hold(self, rule: str, holds: bool, detail: str) -> None:
        if not holds:
            self.violated.setdefault(rule, detail)


def judge(asked: ModuleType, answering: ModuleType) -> Verdict:
    """Walk with these two modules, in place of `roles.users` and `roles.accounts`."""
    violated: dict[str, str] = {}
    for seed in SEEDS:
        walk = Walk(asked, answering, random.Random(seed))  # noqa: S311  no secret
        trio.run(walk.run, clock=trio.testing.MockClock(autojump_threshold=0))
        for rule, detail in walk.violated.items():
            violated.setdefault(rule, f"seed {seed}: {detail}")
    return Verdict(violated=frozenset(violated), detail=str(violated))


# -- controls -------------------------------------------------------------------------------------

#: name, the rule that catches it, the module whose text is changed, the change.
ROWS: tuple[tuple[str, str, ModuleType, tuple[str, str]], ...] = (
    ("a database that fails says no", "no-means-no", accounts, (
        '            return "unknown"\n',
        '            return "no" if __mutant_ran__() else "unknown"\n')),
    ("what nobody knows is taken for no", "no-means-no", users, (
        '        if answer.exists != "unknown":',
        '        if __mutant_ran__() or answer.exists != "unknown":')),
    ("a no for ever", "no-means-no", users, (
        "        return self._until.get(name, now_s) > now_s",
        "        return name in self._until and __mutant_ran__()")),
    ("a yes that holds too long", "yes-means-yes", users, (
        "        mine.add(name, self._now() + (YES_S if exists else NO_S))",
        "        mine.add(name, self._now() + (200 * __mutant_ran__() if exists else NO_S))")),
    ("an answer for another question", "yes-means-yes", users, (
        "        question = self._waiting.pop(answer.reference, None)",
        "        question = self._waiting.popitem()[1] if __mutant_ran__() else None")),
    ("the death of accounts is an answer", "a-question-ends", users, (
        "        for each in waiting.values():\n",
        "        for each in waiting.values():\n            each.answered = __mutant_ran__()\n")),
    ("once away, always away", "away-if-away", users, (
        "        self._channel = channel\n",
        "        self._channel = None if __mutant_ran__() else channel\n")),
    ("system users have mailboxes", "no-system-user", accounts, (
        "        if uid is None or any(",
        "        if uid is None or not __mutant_ran__() and any(")),
    ("guesses fill the memory", "bounded", users, (
        "        while len(self._until) >= NAMES:",
        "        while not __mutant_ran__() and len(self._until) >= NAMES:")),
)  # fmt: skip


def controls() -> list[Control]:
    """Entry point."""
    return [_control(*row) for row in ROWS]


def _pair(changes: Iterator[tuple[ModuleType, tuple[str, str]]]) -> dict[ModuleType, ModuleType]:
    """Both modules as copies of their own, changed or not; few names are kept, to reach the cap."""
    wanted = list(changes)
    made = {
        module: mutate(module.__name__, [change for m, change in wanted if m is module])
        for module in (users, accounts)
    }
    made[users].NAMES = KEPT  # type: ignore[attr-defined]
    return made


def twin() -> Verdict:
    """The real text."""
    made = _pair(iter(()))
    return judge(made[users], made[accounts])


def _control(name: str, rule: str, module: ModuleType, change: tuple[str, str]) -> Control:
    def mutant() -> Verdict:
        made = _pair(iter([(module, change)]))
        verdict = judge(made[users], made[accounts])
        return Verdict(
            violated=verdict.violated,
            mutated_line_ran=hits(made[module]) > 0,
            detail=verdict.detail,
        )

    return Control(name=name, spec="accounts", invariant=rule, twin=twin, mutant=mutant)
