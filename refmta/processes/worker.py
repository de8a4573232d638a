"""What a pool's worker runs: sessions, one at a time, until its parent wants no more of it.

A session is a client's connection (`converse`), or a call: a channel to another role (`attend`).
The worker is told what to do by its control channel, and nothing else reaches it but its session
and its own channels to the servers of its role.  It listens to its parent while it serves: stress
may begin at any time.

A worker may be more than its session: the other roles of its compartment stand by in the same
process (`processes.within`), and what the session began there is the worker's own.  Its session is
over when that is settled, and only then does it say so, or end.  A whole server in a worker is a
monolith with a process per connection.

Two things make it another worker, both by its pool's terms (`pool_slice`), which come by Configure:
where workers accept by themselves (`processes.accepting`), nothing is handed to it, and it tells
its parent Busy and Idle; where each becomes the user that its session is for, it does so before it
reads a single octet of it, and a user that is refused ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal, journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received, border
from refmta.processes import spawner
from refmta.processes.accepting import Accepting, Spent
from refmta.processes.calls import LISTENER, ON_CALL, TRACE
from refmta.processes.carriers import adopt
from refmta.processes.entries import Attend, ClientConversation, Conversation, Converse, Member
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.processes.within import Within
from refmta.stores.recipients import NoRecipient, Recipients
from refmta.trace import Trace
from refmta.wire.messages import Configure, Idle, Link, Session, Stress


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """What a pool's workers are: a role, by one of both kinds of sessions, and who stands by.

    servers: roles of other compartments that it talks to; each worker gets a link to each, with a
    channel, or (detail `calls.ON_CALL`) with a line, by which it makes a call for each exchange.
    standby: the other roles of the process, in the order in which they drain.  They get their
    slices by Configure, before the first session.  within: who of the process talks to whom.
    narrow: whether parent, template and workers may each make only the calls that they need
    themselves.
    """

    role: str
    servers: tuple[str, ...] = ()
    converse: Converse | None = None
    attend: Attend | None = None
    narrow: bool = False
    standby: tuple[Member, ...] = ()
    within: tuple[tuple[str, str], ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles of a worker, its session's first."""
        return (self.role, *(each.role for each in self.standby))


async def work(pooled: Pooled, configuration: bytes, control: Channel) -> None:
    """Serve sessions, one at a time, until the parent ends the control channel.

    configuration: the slice of its session's role.
    """
    async with trio.open_nursery() as nursery:
        within = Within(pooled.standby, pooled.within, nursery)
        log = journal(pooled.role, terminal=os.isatty(2))
        worker = Worker(pooled, configuration, log, within, control, os.getppid())
        await nursery.start(worker.drain_on_signal)  # before that, SIGTERM would end us
        nursery.start_soon(worker.hear)
        with contextlib.suppress(ChannelBroken, Spent):
            while True:
                await worker.serve(*await worker.next_session())
                control.post(Idle())
                await control.flush()
        await within.drain()
        nursery.cancel_scope.cancel()


@dataclass(slots=True)
class Worker:
    """What it has.  parent: the process that it came from.  channels: those that last as long as
    it does.  accepting, becomes: where the terms say so.
    """

    pooled: Pooled
    configuration: bytes
    journal: Journal
    within: Within
    control: Channel
    parent: int
    accepting: Accepting | None = None
    becomes: Recipients | None = None
    channels: dict[str, Channel] = field(default_factory=dict)
    current: Conversation | None = None
    client: ClientConversation | None = None
    draining: trio.Event = field(default_factory=trio.Event)
    stressed: bool = False
    over: bool = False
    _sessions: deque[tuple[Session, int]] = field(default_factory=deque)
    _said: trio.Event = field(default_factory=trio.Event)

    async def hear(self) -> None:
        """Whatever the parent says, until it says no more."""
        try:
            while True:
                for item in await self.control.receive():
                    self._heed(item)
        except ChannelBroken:
            self._retire()

    def _retire(self) -> None:
        """No session comes after this one."""
        self.over = True
        if self.accepting is not None:
            self.accepting.close()
        self._said.set()

    def _heed(self, item: Received) -> None:
        match item.message:
            case Link() as link:
                self.link(link, item.descriptors[0])
            case Configure(role=role) as given if role == POOL:
                self._agree(msgspec.msgpack.decode(given.slice, type=PoolSlice))
            case Configure() as given:
                self.within.configure(given.role, given.slice)
            case Stress(on=on):
                self.press(on)
            case Session() if self._sessions or self.current is not None:
                raise ChannelBroken("two sessions at once")
            case Session() as session:
                self._sessions.append((session, item.descriptors[0]))
                self._said.set()
            case _:
                raise ChannelBroken("not for a worker")

    def _agree(self, terms: PoolSlice) -> None:
        """The terms of those that keep to some by themselves."""
        self.becomes = terms.becomes
        if terms.shared:
            self.accepting = Accepting(terms.terms(), self.journal)
            self._said.set()

    async def next_session(self) -> tuple[Session, int]:
        """A session and its descriptor.  Raises ChannelBroken or Spent if there will be none."""
        while not self._sessions:
            if self.accepting is not None:
                return await self.accepting.next_client(self.control)
            if self.over:
                raise ChannelBroken("retired")
            self._said = trio.Event()
            await self._said.wait()
        return self._sessions.popleft()

    def press(self, stressed: bool) -> None:
        """Stress begins or ends, for this session and those that follow."""
        self.stressed = stressed
        if self.client is not None:
            self.client.press(stressed)

    def link(self, link: Link, descriptor: int) -> None:
        """A channel or a line to a server, or the trace (its detail is the pid of our parent)."""
        if link.port == TRACE:
            self.within.trace = Trace(descriptor, pool=link.detail)
        elif link.role != self.pooled.role:
            self.within.link(link, descriptor)
        elif link.port == LISTENER and self.accepting is not None:
            self.accepting.add(descriptor)
        elif link.detail == ON_CALL:
            self.within.connect(link, descriptor)
        else:
            side = border(link.role, link.port)
            self.channels[link.port] = adopt(link.carrier, descriptor, side)

    async def serve(self, session: Session, descriptor: int) -> None:
        """One session, and what it began here.  Raises ChannelBroken if there must be no other."""
        if self.becomes is not None:
            self._become(session.detail, self.becomes, descriptor)
        here = self.within.channels(self.pooled.role)
        try:
            await self._serve(session, descriptor, self.channels | here)
        finally:
            for each in here.values():
                each.close()
            await self.within.settled(self.draining)

    def _become(self, user: str, recipients: Recipients, descriptor: int) -> None:
        """Be the user that the session is for, from now on; else hang up, for good."""
        try:
            spawner.settle(recipients.identity(user), self.parent)
        except (NoRecipient, OSError) as error:
            os.close(descriptor)
            reason = str(error)
            self.journal.warning("call refused", user=user, reason=reason)
            raise ChannelBroken(reason) from None

    async def _serve(
        self, session: Session, descriptor: int, channels: Mapping[str, Channel]
    ) -> None:
        trace = self.within.trace
        if self.pooled.attend is not None:
            side = border(self.pooled.role, session.client)
            caller = adopt(session.carrier, descriptor, side)
            try:
                conversation = self.pooled.attend(
                    caller, session.client, self.configuration, channels, self.journal, trace
                )
                await self._run(conversation)
            finally:
                caller.close()
        elif self.pooled.converse is not None:
            self.client = self.pooled.converse(
                _connection(session, descriptor), session.client, self.configuration,
                channels, self.journal, trace,
            )  # fmt: skip
            self.client.press(self.stressed)
            await self._run(self.client)
            self.client = None

    async def _run(self, conversation: Conversation) -> None:
        self.current = conversation
        if self.draining.is_set():
            conversation.drain()
        await conversation.run()
        self.current = None
        if not conversation.clean:
            raise ChannelBroken("an answer may still be on its way")

    async def drain_on_signal(self, task_status: trio.TaskStatus[None]) -> None:
        """SIGTERM: end the session as soon as that may be."""
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                self.draining.set()
                self._retire()
                if self.current is not None:
                    self.current.drain()


def _connection(session: Session, descriptor: int) -> socket.socket:
    """A client's connection.  Told what it is, not asked: that costs three system calls."""
    family = socket.AF_INET6 if ":" in session.client else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=descriptor)
