"""What a pool's worker runs: sessions, one at a time, until its parent wants no more of it.

A session is a client's connection (`converse`), or a call: a channel to another role (`attend`).
The worker is told what to do by its control channel, and nothing else reaches it but its session
and its own channels to the servers of its role.  It listens to its parent while it serves: stress
may begin at any time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from refmta.journal import Journal, journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received, border
from refmta.processes.channels import adopt
from refmta.processes.compartment import TRACE
from refmta.trace import Emit, Trace, silent
from refmta.wire.messages import Idle, Link, Session, Stress


class Conversation(Protocol):
    """A session as the pool sees it.  `clean`: its worker may serve another."""

    clean: bool

    async def run(self) -> None: ...
    def drain(self) -> None:
        """End as soon as that may be; said at any time, `run` may not have begun."""


class ClientConversation(Conversation, Protocol):
    """A session with a client: its patience is the server's to give."""

    def press(self, stressed: bool) -> None:
        """Stress begins or ends; said at any time."""


#: A session with a client: connection, address, configuration, channels to servers.
Converse = Callable[
    [socket.socket, str, bytes, Mapping[str, Channel], Journal, Emit], ClientConversation
]
#: A session with a caller: its channel, configuration.
Attend = Callable[[Channel, bytes, Journal, Emit], Conversation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A role that runs in a pool, the servers it talks to, and one of both kinds of sessions."""

    role: str
    servers: tuple[str, ...] = ()
    converse: Converse | None = None
    attend: Attend | None = None
    #: Whether parent, template and workers may each make only the calls that they need themselves.
    narrow: bool = False


async def work(pooled: Pooled, configuration: bytes, control: Channel) -> None:
    """Serve sessions, one at a time, until the parent ends the control channel."""
    worker = Worker(pooled, configuration, journal(pooled.role, terminal=os.isatty(2)))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.drain_on_signal)  # before that, SIGTERM would end us
        nursery.start_soon(worker.hear, control)
        with contextlib.suppress(ChannelBroken):
            while True:
                await worker.serve(*await worker.next_session())
                control.post(Idle())
                await control.flush()
        nursery.cancel_scope.cancel()


@dataclass(slots=True)
class Worker:
    """What it has."""

    pooled: Pooled
    configuration: bytes
    journal: Journal
    channels: dict[str, Channel] = field(default_factory=dict)
    trace: Emit = silent
    current: Conversation | None = None
    client: ClientConversation | None = None
    draining: bool = False
    stressed: bool = False
    over: bool = False
    _sessions: deque[tuple[Session, int]] = field(default_factory=deque)
    _said: trio.Event = field(default_factory=trio.Event)

    async def hear(self, control: Channel) -> None:
        """Whatever the parent says, until it says no more."""
        try:
            while True:
                for item in await control.receive():
                    self._heed(item)
        except ChannelBroken:
            self.over = True
        self._said.set()

    def _heed(self, item: Received) -> None:
        match item.message:
            case Link() as link:
                self.link(link, item.descriptors[0])
            case Stress(on=on):
                self.press(on)
            case Session() if self._sessions or self.current is not None:
                raise ChannelBroken("two sessions at once")
            case Session() as session:
                self._sessions.append((session, item.descriptors[0]))
                self._said.set()
            case _:
                raise ChannelBroken("not for a worker")

    async def next_session(self) -> tuple[Session, int]:
        """A session and its descriptor.  Raises ChannelBroken if there will be none."""
        while not self._sessions:
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
        """A channel to a server, or the trace (its detail is the pid of our parent)."""
        if link.port == TRACE:
            self.trace = Trace(descriptor, pool=link.detail)
        else:
            self.channels[link.port] = adopt(descriptor, border(self.pooled.role, link.port))

    async def serve(self, session: Session, descriptor: int) -> None:
        """One session.  Raises ChannelBroken if there must be no other after it."""
        if self.pooled.attend is not None:
            caller = adopt(descriptor, border(self.pooled.role, session.client))
            try:
                await self._run(
                    self.pooled.attend(caller, self.configuration, self.journal, self.trace)
                )
            finally:
                caller.close()
        elif self.pooled.converse is not None:
            self.client = self.pooled.converse(
                _connection(session, descriptor), session.client, self.configuration,
                self.channels, self.journal, self.trace,
            )  # fmt: skip
            self.client.press(self.stressed)
            await self._run(self.client)
            self.client = None

    async def _run(self, conversation: Conversation) -> None:
        self.current = conversation
        if self.draining:
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
                self.draining = True
                if self.current is not None:
                    self.current.drain()


def _connection(session: Session, descriptor: int) -> socket.socket:
    """A client's connection.  Told what it is, not asked: that costs three system calls."""
    family = socket.AF_INET6 if ":" in session.client else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=descriptor)
