"""Who has a mailbox on this machine, as `resolve` knows it: what it was told, for a while.

resolve sits in an empty jail and can't read the user database; `roles.accounts` does, and is asked
over a channel.  Routing stays pure: it calls `users(name)`, which answers from the configuration
and the cache, or raises `Unasked`.  Whoever routes then asks, and routes again:

    while True:
        try:
            return routing.route(table, mailbox, users)
        except Unasked as miss:
            await users.ask(miss.name)             # AccountsAway: say 451, or defer

Rules
- After `ask` returned, the same question is answered from the cache for at least NO_S; a routing
  asks at most `routing.TARGETS` names, a twentieth of what the cache holds, so the loop ends.
- "No" never pushes out a "yes": whoever guesses names at RCPT fills one half, and only that one.
- Several tasks ask at once over one channel; a name that is being asked is not asked twice.
- While accounts is away (it starts on use, and anew when it dies) nothing is answered that was not
  known: AccountsAway, never "no".
- What answers nothing that was asked is dropped: a late answer is no offence, and names nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from refmta.patterns.compartmentalization import Linked, Mailslot
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol.routing import VIRTUAL_OWNER
from refmta.wire.messages import Account, Lookup

#: How long an answer is believed.  "Yes": a user who is deleted gets mail for a minute longer, and
#: the spawner, which looks again, refuses it.  "No": a new user waits for his first mail no longer
#: than this; senders who guess names cost one look-up each in that time.  (nscd's defaults are
#: 600 s and 20 s, sssd's 5400 s and 15 s: they save a network service, we a local question.)
YES_S: Final = 60.0
NO_S: Final = 10.0
#: Names kept of each kind; with names of at most 32 octets less than 2 MB each.
NAMES: Final = 20_000
#: Questions under way; whoever comes then hears that accounts is away.  More sessions than 1,000
#: are not served at once.
WAITING: Final = 1000
#: How long a question may take: accounts starts on first use, and a directory service has its own
#: time limits (nss_ldap and sssd give up within 10 s to 30 s).  Far below smtpd's verdict_s, 300 s.
ANSWER_S: Final = 30.0


class Unasked(Exception):
    """Whether this user exists must be asked first."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class AccountsAway(Exception):
    """Nobody can say now whether a user exists: a temporary failure."""


@dataclass(slots=True, eq=False)
class _Question:
    """A name that is being asked, and who waits for it.  Done without an answer: there is none."""

    name: str
    done: trio.Event = field(default_factory=trio.Event)
    answered: bool = False


class _Remembered:
    """Names and until when they hold; the oldest goes first when there are too many."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def add(self, name: str, until_s: float) -> None:
        self._until.pop(name, None)  # to the end of the line
        while len(self._until) >= NAMES:
            del self._until[next(iter(self._until))]
        self._until[name] = until_s

    def discard(self, name: str) -> None:
        self._until.pop(name, None)

    def holds(self, name: str, now_s: float) -> bool:
        return self._until.get(name, now_s) > now_s


class Users:
    """The users of this machine, and those of the configuration.

    named: users of the configuration.  now: a clock that does not jump, in seconds.  Where no
    domain has system users routing never calls it, and nobody is asked.
    """

    def __init__(self, named: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        self._named = frozenset(named)
        self._now = now
        self._yes, self._no = _Remembered(), _Remembered()
        self._references = itertools.count(1)
        self._waiting: dict[int, _Question] = {}
        self._channel: Channel | None = None
        self._connected = trio.Event()

    def __call__(self, name: str) -> bool:
        """Whether that user has a mailbox.  Raises Unasked."""
        if name == VIRTUAL_OWNER:  # an account of that name is not he
            return False
        if name in self._named:
            return True
        now_s = self._now()
        if self._yes.holds(name, now_s):
            return True
        if self._no.holds(name, now_s):
            return False
        raise Unasked(name)

    async def ask(self, name: str) -> None:
        """Ask accounts about a name that routing has checked.  Raises AccountsAway."""
        with trio.move_on_after(ANSWER_S):
            await self._connected.wait()
            question = await self._question(name)
            await question.done.wait()
            if question.answered:
                return
        raise AccountsAway(name)

    async def _question(self, name: str) -> _Question:
        """The question under way about a name; it is put now if there is none."""
        for each in self._waiting.values():
            if each.name == name:
                return each
        channel = self._channel
        if channel is None or len(self._waiting) >= WAITING:
            raise AccountsAway(name)
        question = _Question(name)
        reference = next(self._references)
        self._waiting[reference] = question
        channel.post(Lookup(reference=reference, name=name))
        try:
            await channel.flush()
        except ChannelBroken:
            self._gone(channel)
        return question

    # -- the channel ------------------------------------------------------------------------------

    async def listen(self, port: Mailslot[Linked]) -> None:
        """Hear accounts, by the newest link, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                linked = await port.get()
                self._take(linked.channel)
                nursery.start_soon(self._hear, linked.channel)

    def _take(self, channel: Channel) -> None:
        if self._channel is not None:
            self._gone(self._channel)
        self._channel = channel
        self._connected.set()

    async def _hear(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, Account):
                        self._answered(item.message)
        except ChannelBroken:
            self._gone(channel)

    def _answered(self, answer: Account) -> None:
        question = self._waiting.pop(answer.reference, None)
        if question is None:
            return
        if answer.exists != "unknown":
            self._remember(question.name, answer.exists == "yes")
            question.answered = True
        question.done.set()

    def _remember(self, name: str, exists: bool) -> None:
        mine, other = (self._yes, self._no) if exists else (self._no, self._yes)
        other.discard(name)
        mine.add(name, self._now() + (YES_S if exists else NO_S))

    def _gone(self, channel: Channel) -> None:
        """Whoever waits for an answer on this channel gets none."""
        channel.close()
        if channel is not self._channel:
            return
        self._channel = None
        self._connected = trio.Event()
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.done.set()
