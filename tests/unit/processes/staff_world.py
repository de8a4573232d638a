"""A pool's parent without processes: the test plays supervisor, template, workers, and servers."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel, Received, border, close_all
from refmta.processes.channels import adopt, socket_channels
from refmta.processes.handing import Handing
from refmta.processes.pool import Parent
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.processes.sharing import Sharing
from refmta.processes.staff import Staff
from refmta.processes.worker import Pooled
from refmta.roles import smtpd
from refmta.wire.messages import Configure, Message, Session

POOLED = Pooled(role="smtpd", servers=("enqueue", "resolve"), converse=smtpd.converse)
#: Needs nobody.
ALONE = Pooled(role="smtpd", converse=smtpd.converse)


@dataclass(eq=False)
class World:
    """The parent, and the other ends of everything that it holds."""

    parent: Parent
    supervisor: Channel
    template: socket.socket
    #: Workers' ends of their control channels, by number, in the order of their births.
    workers: dict[int, Channel] = field(default_factory=dict)
    #: Signals that the template was asked to send, as (number, signal).
    signals: list[tuple[int, int]] = field(default_factory=list)

    @property
    def staff(self) -> Staff:
        return self.parent.staff

    @property
    def handing(self) -> Handing:
        assert isinstance(self.parent.source, Handing)
        return self.parent.source

    @property
    def sharing(self) -> Sharing:
        assert isinstance(self.parent.source, Sharing)
        return self.parent.source

    async def look(self) -> None:
        """Let everybody do what can be done, and take note of what the template was asked."""
        await trio.testing.wait_all_tasks_blocked()
        while True:
            try:
                octets, descriptors, _, _ = socket.recv_fds(self.template, 65536, 4)
            except BlockingIOError:
                return
            kind, number = struct.unpack_from("!cQ", octets)
            if kind == b"K":
                self.signals.append((number, struct.unpack_from("!i", octets, 9)[0]))
            else:
                self.workers[number] = adopt(descriptors[0], border("worker", "pool"))
            await trio.testing.wait_all_tasks_blocked()

    async def ends(self, number: int, status: int = 0) -> None:
        """A worker has ended, and was reaped."""
        self.workers[number].close()
        self.template.send(struct.pack("!cQi", b"X", number, status))
        await self.look()

    async def refuses(self, number: int) -> None:
        """The template could not fork."""
        self.workers[number].close()
        self.template.send(struct.pack("!cQ", b"E", number) + b"Cannot allocate memory")
        await self.look()

    async def says(self, number: int, message: Message) -> None:
        self.workers[number].post(message)
        await self.workers[number].flush()
        await self.look()

    async def heard(self, number: int) -> list[Received]:
        """All that a worker was sent and has not heard; its descriptors are closed."""
        await self.look()
        items: list[Received] = []
        with trio.move_on_after(0) as scope:
            while not scope.cancelled_caught:
                items += await self.workers[number].receive()
        for each in items:
            close_all(each.descriptors)
        return items

    async def told(self, number: int, kind: type[Message]) -> list[Any]:
        """What of that kind it was sent."""
        return [e.message for e in await self.heard(number) if isinstance(e.message, kind)]

    async def client(self, address: str = "192.0.2.1") -> socket.socket:
        """One client's connection goes to some worker; returns the client's end."""
        near, far = socket.socketpair()
        await self.handing.hand_out(Session(client=address, port=1), address, near)
        await self.look()
        return far


@asynccontextmanager
async def world(
    terms: PoolSlice | None = None, pooled: Pooled = ALONE, **rules: float
) -> AsyncIterator[World]:
    """A parent by these terms, or by these rules; its template forks whatever it is asked for."""
    requests, template = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (requests, template):
        each.setblocking(False)
    supervisor, other = socket_channels(border("compartment", "supervisor"))
    given = terms if terms is not None else PoolSlice(rules=msgspec.convert(rules, Rules))
    made = None
    try:
        async with trio.open_nursery() as nursery:
            parent = Parent(pooled, requests, supervisor, nursery, template=1)
            parent.configure(Configure(role=POOL, slice=msgspec.msgpack.encode(given)))
            for role in pooled.roles:
                parent.configure(Configure(role=role, slice=f"slice of {role}".encode()))
            nursery.start_soon(parent.staff.hear_template)
            made = World(parent, other, template)
            yield made
            nursery.cancel_scope.cancel()
    finally:
        for channel in (supervisor, other, *(made.workers.values() if made else ())):
            channel.close()
        requests.close()
        template.close()


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """A listening socket, non-blocking, on any port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
