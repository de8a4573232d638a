"""The workers of a pool as processes: how they come to be, what they get, and how they are ended.

The template forks them; this side says when, makes each worker's channels, and keeps a hand on it
until the template reports its end.  Who gets the next session, and by which books, is not decided
here but by whoever brings the sessions (`Source`: `processes.handing`, `processes.sharing`).

What a new worker is sent, in this order: the trace; the pool's terms, if they are its own to keep;
the slices of the roles that stand by in it (that of its session's role it is born with); stress, if
there is; its links.  To each server it gets a channel of its own, or, where each session or message
is to have a fresh one, a line of its own to call by.

When a server dies, its channels in the workers are dead too: idle workers are retired at once, busy
ones after their session, and no worker is made until the server is back.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.secure_preforking import Books
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.calls import ON_CALL, TRACE
from refmta.processes.channels import SocketChannel, adopt, socket_pair
from refmta.processes.children import kill_request, parse_report, send_request, start_request
from refmta.processes.links import FRESH
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.processes.worker import Pooled
from refmta.trace import Emit, silent
from refmta.wire.messages import Attach, Configure, Line, Link, Message, Stress

#: Time for a retired worker to go by itself; for one that is a whole server, to put things away.
GRACE_S, LONG_GRACE_S = 5.0, 30.0


@dataclass(slots=True, eq=False)
class Hand:
    """The parent's hold on one worker.  client: for whom its session counts, if it has one."""

    number: int
    control: SocketChannel
    client: str = ""
    pid: int = 0
    #: A server that it talks to has gone.
    stale: bool = False
    #: Whether we have told it to end.
    told: bool = False


class Server(NamedTuple):
    """Whom workers talk to: the supervisor's link, and the line by which they are introduced."""

    link: Link
    line: Channel


class Source(Protocol):
    """What brings sessions, and keeps the books of who has one."""

    @property
    def books(self) -> Books: ...
    def equip(self, hand: Hand) -> None:
        """This worker is new: what else it needs."""

    def heard(self, hand: Hand, message: Message) -> None:
        """It says that it is busy, or idle."""

    def left(self, hand: Hand, *, failed: bool) -> None:
        """It has ended."""


@dataclass(slots=True, eq=False)
class Staff:
    """All workers, and what they are made with.  source: set by itself, when it is there."""

    pooled: Pooled
    requests: socket.socket
    nursery: trio.Nursery
    journal: Journal
    terms: PoolSlice
    source: Source = field(init=False)
    hands: dict[int, Hand] = field(default_factory=dict)
    slices: dict[str, bytes] = field(default_factory=dict)
    servers: dict[tuple[str, str], Server] = field(default_factory=dict)
    #: Set when somebody may have come, gone, or become free.
    changed: trio.Event = field(default_factory=trio.Event)
    trace: Emit = silent
    #: The trace's descriptor, to be handed on to workers; -1 if there is none.
    traced: int = -1
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _introduced: list[Channel] = field(default_factory=list)

    @property
    def books(self) -> Books:
        return self.source.books

    async def until(self, condition: Callable[[], bool]) -> None:
        """Many wait at once: the event is replaced only once it was set, or some never wake."""
        while not condition():
            if self.changed.is_set():
                self.changed = trio.Event()
            await self.changed.wait()

    # -- servers ----------------------------------------------------------------------------------

    def serve_by(self, link: Link, descriptor: int) -> None:
        """A server is there, or there again."""
        line = adopt(descriptor, border("pool", "server"))
        self._renounce(link)
        self.servers[link.role, link.port] = Server(link, line)
        self.changed.set()
        self.nursery.start_soon(self._watch, link, line)

    async def _watch(self, link: Link, line: Channel) -> None:
        """The server says nothing; its end is the news."""
        try:
            while True:
                await line.receive()
        except ChannelBroken:
            server = self.servers.get((link.role, link.port))
            if server is not None and server.line is line:
                self._renounce(link)

    def _renounce(self, link: Link) -> None:
        """Workers that hold a channel to the former server must go."""
        former = self.servers.pop((link.role, link.port), None)
        if former is None:
            return
        former.line.close()
        for hand in list(self.hands.values()):
            hand.stale = True
            if not self.books.workers[hand.number].busy:
                self.retire(hand)

    # -- workers come -----------------------------------------------------------------------------

    def may_fork(self) -> bool:
        """Whether one more worker may live, and would have everything."""
        there = {port for _, port in self.servers}
        return self.books.may_grow() and there.issuperset(self.pooled.servers)

    def fork(self) -> None:
        """One more worker."""
        number = next(self._numbers)
        ours, theirs = socket_pair()
        born_with = self.slices.get(self.pooled.role, b"")
        send_request(self.requests, start_request(number, born_with), [theirs.fileno()])
        theirs.close()
        hand = Hand(number, SocketChannel(ours, border("pool", "worker")))
        self._instruct(hand)
        self.source.equip(hand)
        for server in self.servers.values():
            self._introduce(hand, server)
        self.hands[number] = hand
        self.books.born(number, trio.current_time())
        self.nursery.start_soon(self._follow, hand)

    def _instruct(self, hand: Hand) -> None:
        post, role = hand.control.post, self.pooled.role
        if self.traced >= 0:
            link = Link(role=role, port=TRACE, detail=str(os.getpid()))
            post(link, os.dup(self.traced))
        if self.terms.shared or self.terms.becomes is not None:
            post(Configure(role=POOL, slice=msgspec.msgpack.encode(self.terms)))
        for each in self.pooled.roles:
            if each != role and each in self.slices:
                post(Configure(role=each, slice=self.slices[each]))
        if self.books.stressed:
            post(Stress(on=True))

    def _introduce(self, hand: Hand, server: Server) -> None:
        """A channel between the two, or a line."""
        fresh = server.link.detail == FRESH
        near, far = socket_pair()
        link = msgspec.structs.replace(server.link, detail=ON_CALL if fresh else "")
        hand.control.post(link, near.detach())
        server.line.post(Line() if fresh else Attach(), far.detach())
        self._introduced.append(server.line)

    async def _follow(self, hand: Hand) -> None:
        """Hear one worker, until it ends."""
        introduced, self._introduced = self._introduced, []
        try:
            for each in (*introduced, hand.control):
                await self.flush(each)
            while True:
                for item in await hand.control.receive():
                    if item.message is not None:
                        self.source.heard(hand, item.message)
        except ChannelBroken:
            hand.control.close()
            self._let_go(hand)

    # -- workers go -------------------------------------------------------------------------------

    def retire(self, hand: Hand) -> None:
        """No more sessions; it should end by itself, and is ended if it does not.

        One that accepts by itself may have a client that we have not heard of: it is told, and its
        control channel stays.
        """
        if not self.terms.shared:
            hand.control.close()
        elif not hand.told:
            self.kill(hand, signal.SIGTERM)
        self._let_go(hand)

    def _let_go(self, hand: Hand) -> None:
        """It is to end, or is ending."""
        worker = self.books.workers.get(hand.number)
        if worker is not None and not worker.retired:
            self.books.retire(hand.number)
            self.nursery.start_soon(self._end, hand)

    async def _end(self, hand: Hand) -> None:
        with trio.move_on_after(LONG_GRACE_S if self.pooled.standby else GRACE_S):
            await self.until(lambda: hand.number not in self.hands)
            return
        self.journal.warning("worker ignored its retirement", worker=hand.pid)
        self.kill(hand, signal.SIGKILL)

    def distrust(self, hand: Hand, reason: str) -> None:
        """An honest worker does not do that: it is ended at once."""
        self.journal.warning("worker breaks the rules", worker=hand.pid, reason=reason)
        self.retire(hand)
        self.kill(hand, signal.SIGKILL)

    def kill(self, hand: Hand, number: int) -> None:
        """Send a worker a signal; each of ours asks it to end."""
        hand.told = True
        with contextlib.suppress(OSError):
            send_request(self.requests, kill_request(hand.number, number), [])

    async def hear_template(self) -> None:
        """Births and ends, as the template reports them.  Its own end is ours (SystemExit)."""
        while True:
            await trio.lowlevel.wait_readable(self.requests)
            octets = self.requests.recv(4096)
            if not octets:
                self.journal.critical("cannot work", reason="the template has ended")
                raise SystemExit(1)
            try:
                kind, number, value, text = parse_report(octets)
            except ValueError as error:
                self.journal.critical("cannot work", reason=f"the template: {error}")
                raise SystemExit(1) from None
            hand = self.hands.get(number)
            if hand is None:
                continue
            if kind == "P":
                hand.pid = value
                continue
            status = -1
            if kind == "E":
                self.journal.error("worker not started", reason=text)
            else:
                status = os.waitstatus_to_exitcode(value)
                self.trace(f"{self.pooled.role}.ended", process=hand.pid, status=status)
            self.gone(hand, failed=status != 0)

    def gone(self, hand: Hand, *, failed: bool) -> None:
        """It has ended; only now its place is free."""
        hand.control.close()
        self.hands.pop(hand.number, None)
        self.source.left(hand, failed=failed)
        self.books.gone(hand.number)
        self.changed.set()

    # -- all of them ------------------------------------------------------------------------------

    def look(self) -> None:
        """Notice stress, and tell every worker when it begins or ends."""
        change = self.books.look(trio.current_time())
        if change is None:
            return
        say = self.journal.warning if change else self.journal.info
        say(f"stress {'begins' if change else 'ends'}", workers=len(self.books.workers))
        for number, worker in self.books.workers.items():
            if not worker.retired:
                self.hands[number].control.post(Stress(on=change))
                self.nursery.start_soon(self.flush, self.hands[number].control)

    def end_overlong(self) -> None:
        """A session that is too long is told so, and then ended with its worker."""
        told, killed = self.books.overlong(trio.current_time())
        for number in told:
            self.journal.warning("session lasts too long", worker=self.hands[number].pid)
            self.kill(self.hands[number], signal.SIGTERM)
        for number in killed:
            self.distrust(self.hands[number], "it does not end its session")

    async def flush(self, channel: Channel) -> None:
        """Whoever is gone is heard of otherwise."""
        with contextlib.suppress(ChannelBroken):
            await channel.flush()
