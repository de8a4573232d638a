"""One trial: a server, bad destinations, and honest ones that must not suffer for it.

    start | letters to live destinations alone, twice   the control: how long the second time takes
          | letters to the bad ones, and to both         they are met, and hang or fail; in waves
          | letters to live destinations again           isolation: they arrive all the same
          | until so many seconds after the fault began  schedule: retries are seen
          | until what must come of it at once has come  however busy this machine is
          | everything is mended; drained; stopped       the ledger

Rules a reader may rely on
- It knows its target by the Protocol alone, and gives it nothing but a name server and letters.
- What was true while the fault lasted is told from times: of a take at a next hop, of a report.
- Nothing is killed, so no death excuses a duplicate.
- What is slow may be slow because of the machine: the same letters without a fault, before and
  after, are the measure, and who was late three times in a row was made late by the fault.

It runs in a network of its own, on trio; the adapter's blocking calls have a thread each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import trio

from faultinject import endings, networks
from faultinject.books import Books
from faultinject.client import Clients, Letter
from faultinject.collect import book_mailboxes
from faultinject.ledger import Account, Finding, judge
from faultinject.letters import token_of
from faultinject.network import places
from faultinject.network.behaviours import DELIVERED, FAILED
from faultinject.network.hosts import Hosts
from faultinject.target import Site, Target, TargetError

DOMAIN: Final = "network.example"
USERS: Final = ("ada", "bob", "cyd")
CLIENTS: Final = 4
#: How often what is waited for is looked at; a flush of the queue while it is drained.
LOOK_S, POLL_S, FLUSH_S = 0.02, 0.2, 3.0
#: How long letters may take where nothing is wrong.
PATIENCE_S: Final = 60.0
#: Until the bad destinations were met, where not all of them must be.
MEET_S: Final = 5.0
#: Isolation: so many times what the letters took alone, and never less than so many seconds; it is
#: tried so often before they are called late.
SLOWER, LEAST_S, TRIES = 5.0, 3.0, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """bad: destinations.  burst: letters for each of them.  live: letters to the honest ones, each
    time.  isolates, paces: whether isolation, and the schedule of retries, are judged.  prompt:
    whether a recipient must have its final outcome while the fault lasts; not where so many hang
    that others wait for their turn.  wave: so many destinations have their letters at once; 0: all.
    """

    bad: tuple[str, ...]
    seed: int = 0
    burst: int = 1
    live: int = 12
    seconds: float = 6.0
    drain_s: float = 90.0
    isolates: bool = False
    paces: bool = False
    prompt: bool = True
    wave: int = 0


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a trial has seen, for `verdicts`: times in seconds since 1970.

    alone_s, beside_s: what the live letters took without the fault, and beside it; beside_s is 0
    if they have not all arrived while it lasted.  meanwhile: how many of them were taken while a
    connection to the bad destination was open; None if there are none to be seen.  hung:
    connections to bad destinations open then.
    """

    plan: Plan
    hosts: Hosts
    books: Books
    began_s: float = 0.0
    mended_s: float = 0.0
    alone_s: float = 0.0
    beside_s: float = 0.0
    live_tokens: frozenset[str] = frozenset()
    arrived: int = 0
    meanwhile: int | None = None
    hung: int = 0
    waiting: int = 0
    unmet: tuple[str, ...] = ()
    acknowledged: int = 0
    oddities: list[Finding] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    trace: str = ""
    seconds: float = 0.0

    @property
    def bound_s(self) -> float:
        """What live letters may take beside the fault."""
        return max(LEAST_S, SLOWER * self.alone_s)


@dataclass(slots=True)
class Trial:
    """One trial's state."""

    target: Target
    plan: Plan
    directory: Path
    say: Callable[[str], None]
    books: Books = field(default_factory=Books)
    _number: int = 0

    async def run(self) -> Seen:
        """From start to account.  Raises TargetError, OSError."""
        began_s = time.monotonic()
        hosts = Hosts(bad=self.plan.bad, books=self.books, itself=f"mx.{DOMAIN}")
        seen = Seen(plan=self.plan, hosts=hosts, books=self.books)
        failure: TargetError | None = None
        async with trio.open_nursery() as nursery:
            await hosts.open(nursery)
            try:
                await self._start(hosts)
                await self._play(hosts, seen)
                await networks.in_thread(lambda: self._stop(seen))
            except TargetError as error:
                failure = error  # raised outside: a nursery would wrap it
            finally:
                with trio.CancelScope(shield=True):
                    await networks.in_thread(self.target.dispose)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        self._settle(seen)
        seen.seconds = time.monotonic() - began_s
        return seen

    async def _start(self, hosts: Hosts) -> None:
        site = Site(
            directory=self.directory, hostname=f"mx.{DOMAIN}", domain=DOMAIN, users=USERS,
            next_hops={}, nameserver=places.NAME_SERVER,
        )  # fmt: skip
        await networks.in_thread(self.target.install)
        await networks.in_thread(lambda: self.target.configure(site))
        hosts.names.hosts = {site.hostname: self.target.address[0]}
        await networks.in_thread(self.target.start)

    # -- letters ----------------------------------------------------------------------------------

    def _live_letters(self) -> list[Letter]:
        return [
            self._letter(f"r{number}@{places.LIVE_ONES[number % len(places.LIVE_ONES)]}")
            for number in range(self.plan.live)
        ]

    def _waves(self) -> Iterator[tuple[str, ...]]:
        size = self.plan.wave or len(self.plan.bad)
        for first in range(0, len(self.plan.bad), size):
            yield self.plan.bad[first : first + size]

    def _bad_letters(self, bad: tuple[str, ...]) -> list[Letter]:
        """To each of them alone; then one for two of them, a live one and a mailbox."""
        letters = [
            self._letter(f"r{count}@{places.domain(name)}")
            for count in range(self.plan.burst)
            for name in bad
        ]
        if not self.plan.paces:  # there every message is watched by itself
            for first, second in zip(bad[::2], bad[1::2], strict=False):
                both = (f"s@{places.domain(first)}", f"s@{places.domain(second)}")
                ours = (f"s@{places.LIVE_ONES[0]}", f"{USERS[1]}@{DOMAIN}")
                letters.append(self._letter(*both, *ours))
        return letters

    def _letter(self, *recipients: str) -> Letter:
        self._number += 1
        sender = f"{USERS[0]}@{DOMAIN}"
        return Letter(number=self._number, sender=sender, recipients=recipients)

    async def _send(self, letters: Iterable[Letter], seen: Seen) -> None:
        """Until each has its 250, or patience ends."""
        sent = tuple(letters)
        clients = Clients(
            run=self._run, address=self.target.address, outbox=iter(sent), books=self.books,
            random=Random(f"network {self.plan.seed} {self._number}"),  # noqa: S311
            findings=seen.oddities,
            careless=not self.plan.paces,  # a letter that is sent twice has two schedules
        )  # fmt: skip
        with trio.move_on_after(PATIENCE_S):
            await clients.send_all(CLIENTS)
        seen.acknowledged += clients.acknowledged
        if clients.acknowledged < len(sent):
            text = f"{len(sent) - clients.acknowledged} letters had no 250 in {PATIENCE_S:.0f} s"
            seen.oddities.append(Finding(name="unanswered", text=text))

    @property
    def _run(self) -> str:
        return f"n{self.plan.seed}"[:16]

    # -- the trial --------------------------------------------------------------------------------

    async def _play(self, hosts: Hosts, seen: Seen) -> None:
        for _ in ("for the first time", "as usual"):
            seen.alone_s = await self._round_trip(seen, PATIENCE_S)
            if not seen.alone_s:
                raise TargetError(f"mail does not come through:\n{self.target.log_end()}")
        seen.began_s = time.time()
        for bad in self._waves():
            await self._send(self._bad_letters(bad), seen)
            await self._meet(hosts, bad)
        if not self.plan.paces:
            await self._beside(hosts, seen)
        seen.hung = sum(map(hosts.open_at, self.plan.bad))
        seen.waiting = self.target.waiting()
        await trio.sleep(max(0.0, self.plan.seconds - (time.time() - seen.began_s)))
        if self.plan.prompt:
            with trio.move_on_after(PATIENCE_S):
                while await networks.in_thread(self._is_due):
                    await trio.sleep(POLL_S)
        seen.unmet = tuple(name for name in self.plan.bad if not hosts.met(name))
        seen.mended_s = time.time()
        hosts.mend()
        with trio.move_on_after(self.plan.drain_s):
            await endings.drain(self.target, self.say, flush_s=FLUSH_S, look_s=POLL_S)
        if self.plan.paces or self.plan.isolates:
            seen.alone_s = max(seen.alone_s, await self._round_trip(seen, PATIENCE_S))

    async def _meet(self, hosts: Hosts, bad: tuple[str, ...]) -> None:
        with trio.move_on_after(PATIENCE_S if self.plan.prompt else MEET_S):
            while not all(map(hosts.met, bad)):
                await trio.sleep(LOOK_S)

    async def _beside(self, hosts: Hosts, seen: Seen) -> None:
        """Live letters; again if they were late, and that is judged."""
        for number in range(TRIES if self.plan.isolates else 1):
            if number:
                with trio.move_on_after(MEET_S):  # one that has just begun to hang
                    await hosts.wait_for_visit(self.plan.bad[0])
            left_s = self.plan.seconds - (time.time() - seen.began_s)
            patience_s = max(left_s, self.plan.seconds / 2, seen.bound_s)
            seen.beside_s = await self._round_trip(seen, patience_s)
            seen.meanwhile = self._meanwhile(hosts, seen)
            if 0 < seen.beside_s <= seen.bound_s and seen.meanwhile != 0:
                return

    def _meanwhile(self, hosts: Hosts, seen: Seen) -> int | None:
        """How many live letters were taken while a connection hung; None if that is not seen."""
        hop = hosts.hops.get(self.plan.bad[0])
        if not self.plan.isolates or hop is None or not hop.visits:
            return None
        return sum(
            any(each.came_s <= found.when_s < (each.gone_s or math.inf) for each in hop.visits)
            for found in self.books.found
            if found.copy.token in seen.live_tokens
        )

    def _is_due(self) -> bool:
        """Whether what must come while the fault lasts has not come for some letter to one."""
        told = Books()
        book_mailboxes(told, self.target.mailboxes())
        come = {(each.copy, each.recipient) for each in told.reported}
        come |= {(each.copy, each.recipient) for each in self.books.found}
        return any(
            sending.answered_s and (copy, recipient) not in come
            for copy, sending in self.books.sendings.items()
            for recipient in sending.recipients[:1]
            if len(sending.recipients) == 1
            and places.ALLOWED.get(places.destination(recipient)) in (FAILED, DELIVERED)
        )

    async def _round_trip(self, seen: Seen, patience_s: float) -> float:
        """Seconds until all live letters were taken by their hosts; 0 if patience ended first."""
        letters, began_s = self._live_letters(), trio.current_time()
        tokens = frozenset(token_of(self._run, each.number) for each in letters)
        seen.live_tokens, seen.arrived = tokens, 0
        await self._send(letters, seen)
        while trio.current_time() - began_s < patience_s:
            taken = {each.copy.token for each in self.books.found}
            seen.arrived = len(tokens & taken)
            if seen.arrived == len(tokens):
                return trio.current_time() - began_s
            await trio.sleep(LOOK_S)
        return 0.0

    def _stop(self, seen: Seen) -> None:
        if not self.target.alive():
            seen.oddities.append(Finding(name="died", text="by itself"))
        seen.oddities += endings.stop(self.target)

    def _settle(self, seen: Seen) -> None:
        endings.gather(self.books, self.target)
        seen.account = judge(self.books, self.target.windows)
        seen.trace, found = endings.health(self.target)
        seen.oddities += found
