"""Calls: how a role gets a channel to another compartment when it needs one, and to no other.

    caller ---- Attach + descriptor ----> pool's parent ---- Session + descriptor --> worker
       |                             '--> a role that stays: one more channel for it
       '------------------------------ the channel --------------------------------------------'

The caller makes the channel, keeps one end, and sends the other to the server on its line; a pool's
parent hands it to an idle worker, or to a new one, and never reads it.  What is said before
somebody is there waits in the channel.  A call may come at any time: if the server is away, or goes
away before it has the other end, that end is closed, and the caller's channel breaks.

`Fresh` makes calls look like one channel to a role that wants one: each exchange (a message and its
verdict, a question and its answer) goes by a call of its own.  So a process may serve one message,
as qmail-queue does, and its client need not know.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received, border, close_all
from refmta.processes.carriers import adopt
from refmta.processes.channels import socket_pair
from refmta.wire.messages import Abandon, Attach, Finish, Message

#: What a link's detail says
#: - to a server: channels for it come one by one (workers of a pool, calls): `introduce`;
#: - to a client: it has a line here, and makes calls.  (Of a pool's parent: calls come by it.)
#: No user's name has a space in it.
POOLED: Final = "by introduction"
ON_CALL: Final = "on call"
#: The port of the trace's descriptor: it comes first, and is for all roles of the process; and of
#: a listening socket.
TRACE: Final = "trace"
LISTENER: Final = "listener"


class Line(NamedTuple):
    """By what a role reaches a server, and in which form it talks to it then."""

    channel: Channel
    carrier: str


class Switchboard:
    """The lines of a process's roles to the servers that they may call."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._lines: dict[tuple[str, str], Line] = {}

    def connect(self, role: str, port: str, line: Channel, carrier: str = "frames") -> None:
        """From now on, calls of this role to that server go by this line."""
        former = self._lines.get((role, port))
        self._lines[role, port] = Line(line, carrier)
        if former is not None:
            former.channel.close()
        self._nursery.start_soon(_watch, line)

    def servers(self, role: str) -> list[str]:
        """Whom this role can call, or could."""
        return [port for client, port in self._lines if client == role]

    def call(self, role: str, port: str, detail: str = "") -> Channel:
        """A channel to the server; it is broken already if that is away.

        Raises KeyError for a server that this role has no business with, OSError if there are no
        descriptors left.
        """
        side = border(role, port)
        near, far = socket_pair()
        line = self._lines.get((role, port))
        if line is None:
            far.close()
            return adopt("frames", near.detach(), side)
        line.channel.post(Attach(detail=detail), far.detach())
        self._nursery.start_soon(_flush, line.channel)
        return adopt(line.carrier, near.detach(), side)


async def _watch(line: Channel) -> None:
    """The server says nothing; its end is the news: from then on, what is posted is closed."""
    try:
        while True:
            await line.receive()
    except ChannelBroken:
        line.close()


async def _flush(line: Channel) -> None:
    with contextlib.suppress(ChannelBroken):  # the other end is closed: the caller sees it
        await line.flush()


class Fresh:
    """A channel to the role that has it; below, a call for each exchange.

    A message begins an exchange, unless it goes on with one (`GOES_ON`).  An answer ends it, and so
    does `Abandon` when it is out.  A call that fails breaks its exchange; the next one is as good
    as new.
    """

    __slots__ = ("_abandoned", "_call", "_closed", "_closing", "_current")

    GOES_ON: Final = (Finish, Abandon)

    def __init__(self, call: Callable[[], Channel], closing: Callable[[], None]) -> None:
        """call: to the server.  closing: told once, when the role closes this."""
        self._call = call
        self._closing = closing
        self._current: Channel | None = None
        self._abandoned = False
        self._closed = False

    def post(self, message: Message, *descriptors: int) -> None:
        if not isinstance(message, self.GOES_ON):
            self._begin()
        if self._current is None:
            close_all(descriptors)
            return
        self._current.post(message, *descriptors)
        self._abandoned = isinstance(message, Abandon)

    def post_octets(self, octets: bytes) -> None:
        if self._current is not None:
            self._current.post_octets(octets)

    async def flush(self) -> None:
        await self._exchange().flush()
        if self._abandoned:
            self._end()

    async def receive(self) -> list[Received]:
        received = await self._exchange().receive()
        self._end()
        return received

    def close(self) -> None:
        self._end()
        if not self._closed:
            self._closed = True
            self._closing()

    def _begin(self) -> None:
        self._end()
        if not self._closed:
            with contextlib.suppress(OSError):  # no descriptors: the exchange is broken
                self._current = self._call()

    def _exchange(self) -> Channel:
        if self._current is None:
            raise ChannelBroken("no exchange is under way")
        return self._current

    def _end(self) -> None:
        self._abandoned = False
        if self._current is not None:
            self._current.close()
            self._current = None
