"""How sessions come to a pool's parent: by listening sockets, and by the lines of callers.

    a client     connects to a listening socket; the parent accepts, and hands the connection out
    a call       comes on a caller's line as `Attach`, with the channel's other end
    a line       comes on a line as `Line`: another one by which the same role may call.  A pool's
                 parent asks for one for each of its workers, which calls once per message

Clients and calls are handed out in their order; those that find no worker wait where they are: in
the listening socket, or unread on their line, so that a caller without measure fills its own pipe
only.  A worker's line brings calls and no further lines.

What is refused here costs no worker: a client with too many connections, a call that says no user
where each worker becomes one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import (
    ChannelBroken,
    Received,
    border,
    close_all,
)
from refmta.processes.channels import adopt
from refmta.processes.pool_slice import PoolSlice
from refmta.wire.messages import Attach, Line, Link, Session
from refmta.wire.reply import reply

#: Pause after an accept that failed for want of descriptors.
ACCEPT_PAUSE_S = 0.1
#: Lines that one caller's parent may bring: as many as a pool may have workers, and some that end.
LINES = 4000
TOO_MANY = reply(421, "4.7.0", "too many connections from your address").encode()


class HandOut(Protocol):
    """Give a session to a worker, when there is one."""

    async def __call__(self, session: Session, client: str, end: socket.socket) -> None:
        """client: whom it counts for.  The end is taken over."""
        ...


@dataclass(slots=True, eq=False)
class _Caller:
    """Who calls, and by how many lines."""

    link: Link
    lines: int = 1


@dataclass(slots=True, eq=False)
class Doors:
    """room: until there is, or may be, a worker."""

    room: Callable[[], Awaitable[None]]
    hand_out: HandOut
    nursery: trio.Nursery
    journal: Journal
    terms: PoolSlice
    #: Sessions by client, as it counts.
    clients: Counter[str] = field(default_factory=Counter)
    _open: set[trio.CancelScope] = field(default_factory=set)
    _shut: bool = False

    def listen(self, descriptor: int) -> None:
        """Let clients in by this socket."""
        self.nursery.start_soon(self._accept, descriptor)

    def answer(self, link: Link, descriptor: int) -> None:
        """Take calls of the role at the link's port by this line, and further lines of its own."""
        caller = _Caller(link)
        self.nursery.start_soon(partial(self._answer, caller, descriptor, introduces=True))

    def shut(self) -> None:
        """Let nobody in any more; calls that wait are hung up."""
        self._shut = True
        for scope in self._open:
            scope.cancel()

    def leave(self, client: str) -> None:
        """One session of this client is over."""
        self.clients[client] -= 1
        if not self.clients[client]:
            del self.clients[client]

    # -- clients ----------------------------------------------------------------------------------

    async def _accept(self, descriptor: int) -> None:
        """Take connections while there is, or may be, a worker for them."""
        with self._door(), socket.socket(fileno=descriptor) as listener:
            listener.setblocking(False)
            while True:
                await self.room()
                try:
                    connection, address = listener.accept()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(listener)
                    continue
                except OSError as error:  # EMFILE, ECONNABORTED
                    self.journal.error("accept failed", reason=os.strerror(error.errno or 0))
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                client = str(address[0])
                if self._welcome(connection, client):
                    session = Session(client=client, port=int(address[1]))
                    await self.hand_out(session, network(client), connection)

    def _welcome(self, connection: socket.socket, client: str) -> bool:
        """Whether this client may have one more connection."""
        if client in self.terms.trusted:
            return True
        if self.clients[network(client)] < self.terms.connections_per_client:
            return True
        with contextlib.suppress(OSError), connection:
            connection.setblocking(False)
            connection.send(TOO_MANY)
        self.journal.info("refused", client=client, reply="421 4.7.0 too many connections")
        return False

    # -- callers ----------------------------------------------------------------------------------

    async def _answer(self, caller: _Caller, descriptor: int, *, introduces: bool) -> None:
        """Hand out one line's calls, until it ends; those that still wait are hung up."""
        waiting: deque[Received] = deque()
        with self._door(), contextlib.suppress(ChannelBroken):
            line = adopt(descriptor, border("pool", "caller"))
            try:
                while True:
                    waiting += await line.receive()
                    while waiting:
                        await self._take(caller, waiting, introduces=introduces)
            except ChannelBroken:
                caller.lines -= 1
            finally:
                line.close()
                for each in waiting:
                    close_all(each.descriptors)

    async def _take(self, caller: _Caller, waiting: deque[Received], *, introduces: bool) -> None:
        """What came first."""
        link, message = caller.link, waiting[0].message
        if isinstance(message, Attach) and (message.detail or self.terms.becomes is None):
            await self.room()
            session = Session(client=link.port, port=0, detail=message.detail, carrier=link.carrier)
            (descriptor,) = waiting.popleft().descriptors
            await self.hand_out(session, link.port, socket.socket(fileno=descriptor))
        elif isinstance(message, Line) and introduces and caller.lines < LINES:
            caller.lines += 1
            (descriptor,) = waiting.popleft().descriptors
            self.nursery.start_soon(partial(self._answer, caller, descriptor, introduces=False))
        else:
            said = type(message).__name__.lower()
            self.journal.warning("call refused", caller=link.port, said=said)
            close_all(waiting.popleft().descriptors)

    @contextlib.contextmanager
    def _door(self) -> Iterator[None]:
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                if self._shut:
                    scope.cancel()
                yield
            finally:
                self._open.discard(scope)


def network(client: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64 network."""
    if ":" not in client:
        return client
    return str(ipaddress.IPv6Network((client.partition("%")[0], 64), strict=False))
