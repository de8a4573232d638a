"""lmtpc and lmtpd: qmgr's end of a channel, the client, and the servers that it asks for."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from noting_disk import NotingDisk

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.carriers import adopt
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import lmtpc, lmtpd
from refmta.stores.disk import PosixDisk
from refmta.stores.mailboxes import open_mailboxes
from refmta.wire.envelope import Envelope, encode_chunk, encode_envelope
from refmta.wire.messages import AgentRefused, AgentWanted, Deliver, Message, Outcome

Pair = Callable[[], tuple[Channel, Channel]]
#: What serves a user's stream.
Server = Callable[[Channel], Awaitable[None]]


def stream_channels() -> tuple[Channel, Channel]:
    """Both ends of a stream: the client's, and the server's."""
    one, other = socket.socketpair()
    side = border("lmtpc", "lmtpd")
    return adopt("stream", one.detach(), side), adopt("stream", other.detach(), side.turned())


def near_channels() -> tuple[Channel, Channel]:
    """The same within one process."""
    return local_channels(border("lmtpc", "lmtpd"))


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


def envelope(number: int) -> Envelope:
    return Envelope(
        queue_id=queue_id(number), arrival_s=1_700_000_000, reverse_path="x@example.net",
        recipients=("ada@example.org",), client="192.0.2.1", helo="h", protocol="SMTP",
    )  # fmt: skip


def content(number: int, octets: int = 100) -> bytes:
    """With dots where they matter."""
    start = b"Subject: %d\r\n\r\n.\r\n..\r\n.dot\r\n" % number
    return start + b"x" * max(0, octets - len(start) - 2) + b"\r\n"


def chunk(number: int, octets: int = 100) -> bytes:
    whole = content(number, octets)
    return encode_chunk(
        envelope(number), [whole[at : at + 100_000] for at in range(0, len(whole), 100_000)]
    )


def head(number: int) -> bytes:
    return encode_envelope(envelope(number))


def opened(octets: bytes) -> int:
    """A descriptor for reading, as qmgr hands it over."""
    writing = os.memfd_create("message")
    os.write(writing, octets)
    reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
    os.close(writing)
    return reading


@dataclass
class World:
    """home: where users' homes are.  module: of the servers.  server: what is started for a user
    who is wanted; None: the real one.  refusal: why nothing is.

    asked: for which users, in order.  traced: (action, fields) by the servers.
    """

    home: Path
    pair: Pair
    channel: Channel
    role: Any
    nursery: trio.Nursery
    module: Any = lmtpd
    disks: dict[str, NotingDisk] = field(default_factory=dict)
    server: Callable[[World, str, Channel], Awaitable[None]] | None = None
    asked: list[str] = field(default_factory=list)
    traced: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: str = ""

    def say(self, message: Message) -> None:
        """To the supervisor."""
        assert isinstance(message, AgentWanted)
        self.asked.append(message.user)
        if self.refusal:
            self.role.refused(AgentRefused(user=message.user, text=self.refusal))
            return
        near, far = self.pair()
        self.role.follow(message.user, near)
        self.nursery.start_soon(self.server or serve, self, message.user, far)

    def disk(self, user: str) -> NotingDisk:
        if user not in self.disks:
            (self.home / user).mkdir(exist_ok=True)
            self.disks[user] = NotingDisk(self.home / user)
        return self.disks[user]

    def hand(self, number: int, octets: bytes, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "reference": number, "queue_id": queue_id(number), "index": 0, "mailbox": "Maildir",
            "recipient": "ada@example.org", "user": "ada", **changes,
        }  # fmt: skip
        self.channel.post(Deliver(**fields), opened(octets))

    async def outcomes(self, count: int) -> dict[int, Outcome]:
        found: dict[int, Outcome] = {}
        with trio.fail_after(20):
            await self.channel.flush()
            while len(found) < count:
                for item in await self.channel.receive():
                    assert isinstance(item.message, Outcome)
                    assert item.message.reference not in found
                    found[item.message.reference] = item.message
        return found

    async def deliver(self, number: int, octets: bytes, **changes: Any) -> Outcome:
        self.hand(number, octets, **changes)
        return (await self.outcomes(1))[number]

    def mailbox(self, user: str = "ada", mailbox: str = "Maildir") -> dict[str, bytes]:
        directory = self.home / user / mailbox / "new"
        return {each.name: each.read_bytes() for each in directory.iterdir()}

    def leftovers(self) -> list[Path]:
        return list(self.home.rglob("tmp/*"))


async def serve(world: World, user: str, channel: Channel, **changes: Any) -> None:
    """The real server of one user."""
    await conversation(world, user, channel, **changes).run()


def conversation(world: World, user: str, channel: Channel, **changes: Any) -> Any:
    slice_ = world.module.Slice(hostname="mx.example.org", **changes)
    mailboxes = open_mailboxes(slice_.mailbox, world.disk(user), slice_.hostname)

    def trace(action: str, **fields: Any) -> None:
        world.disk(user).done.append("traced")
        world.traced.append((action, fields))

    return world.module.Conversation(channel, slice_, mailboxes, journal("lmtpd"), trace)


def scripted(*script: bytes, hang: bool = False) -> Callable[..., Awaitable[None]]:
    """A server that says these, one at each time it is spoken to (the first at once), and goes."""

    async def server(_world: World, _user: str, channel: Channel) -> None:
        try:
            for number, each in enumerate(script):
                if number:
                    await channel.receive()
                channel.post_octets(each)
                await channel.flush()
            if hang:
                await trio.sleep_forever()
        except ChannelBroken:
            return
        finally:
            channel.close()

    return server


@asynccontextmanager
async def world(
    pair: Pair, home: Path, *, factor: float = 1.0, client: Any = lmtpc, server: Any = lmtpd
) -> AsyncIterator[World]:
    """client, server: the modules that play them."""
    near, far = socket_channels(border("qmgr", "lmtpc"))
    context = Context(slices={}, say=lambda message: it.say(message))  # noqa: PLW0108
    config = client.Slice(hostname="mx.example.org", timeouts_factor=factor)
    async with trio.open_nursery() as nursery:
        role = client.Lmtpc(PosixDisk(-1), config, context, journal("lmtpc"), nursery)
        it = World(home, pair, near, role, nursery, server)
        nursery.start_soon(role.serve, far)
        yield it
        near.close()
        nursery.cancel_scope.cancel()
    far.close()
    for disk in it.disks.values():
        os.close(disk._root)
