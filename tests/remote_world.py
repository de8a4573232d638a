"""A worker of remote at one call, a next hop under a behaviour, and qmgr's end of the channel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from faultinject.network.behaviours import BEHAVIOURS
from faultinject.network.next_hop import NextHop
from refmta.journal import journal
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.channels import socket_channels
from refmta.roles import remote
from refmta.stores.letters import SMALL_OCTETS
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import Relay, Relayed, RelayRecipient

LARGE_OCTETS = 3 * SMALL_OCTETS + 17
Pair = Callable[..., tuple[Channel, Channel]]


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


def letter(number: int, octets: int = 200, *, head: bytes = b"") -> tuple[bytes, bytes]:
    """A chunk and its content, with dots where they matter."""
    start = b"X-Token: t%d\r\n%sSubject: x\r\n\r\n.\r\n..\r\n.dot\r\n" % (number, head)
    lines = b".a line of this message\r\n" * (octets // 25 + 1)
    content = (start + lines)[: max(octets - 2, len(start))].rstrip(b"\r\n") + b"\r\n"
    return chunk(number, content), content


def chunk(number: int, content: bytes) -> bytes:
    envelope = Envelope(
        queue_id=queue_id(number), arrival_s=1_700_000_000, reverse_path="from@example.org",
        recipients=("x@example.net",), client="192.0.2.1", helo="h", protocol="SMTP",
    )  # fmt: skip
    # Blocks that end anywhere: between CR and LF, before a dot.
    blocks = [content[at : at + 100_003] for at in range(0, len(content), 100_003)]
    return encode_chunk(envelope, blocks)


def opened(octets: bytes) -> int:
    """A descriptor of a file with this content."""
    handle = os.memfd_create("chunk", os.MFD_CLOEXEC)
    os.write(handle, octets)
    return handle


@dataclass
class World:
    """hop: the next hop.  traced: (action, fields) of the trace."""

    hop: NextHop
    channel: Channel
    conversation: remote.Conversation
    destination: str
    ended: trio.Event
    traced: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def hand(
        self, reference: int, octets: bytes, recipients: tuple[str, ...], number: int | None = None
    ) -> None:
        """Post a job; the message's number is the reference, if not said otherwise."""
        relay = Relay(
            reference=reference,
            queue_id=queue_id(reference if number is None else number),
            destination=self.destination,
            recipients=tuple(
                RelayRecipient(index=at, address=each) for at, each in enumerate(recipients)
            ),
        )
        self.channel.post(relay, opened(octets))

    async def relayed(self) -> Relayed:
        """The next answer."""
        await self.channel.flush()
        (item,) = await self.channel.receive()
        assert isinstance(item.message, Relayed)
        return item.message

    async def relay(
        self, reference: int, octets: bytes, recipients: tuple[str, ...], number: int | None = None
    ) -> Relayed:
        """One job, and its answer."""
        self.hand(reference, octets, recipients, number)
        relayed = await self.relayed()
        assert relayed.reference == reference
        return relayed

    async def close(self) -> None:
        """qmgr hangs up; the conversation ends."""
        self.channel.close()
        await self.ended.wait()


@asynccontextmanager
async def world(
    behaviour: str = "honest",
    *,
    factor: float = 1.0,
    seed: int = 0,
    among: tuple[str, ...] = tuple(BEHAVIOURS),
    destination: str = "",
    pair: Pair = socket_channels,
    **changes: Any,
) -> AsyncIterator[World]:
    """destination: "" for the next hop's own address and port."""
    hop = NextHop(behaviour=behaviour, seed=seed, among=among, keep_content=True)
    near, far = pair(border("qmgr", "remote"))
    before = set(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        port = await nursery.start(hop.serve)
        config = remote.Slice(
            **{
                "hostname": "mx.example.org", "port": port, "timeouts_factor": factor,
                "own_ports": (1,), **changes,
            }
        )  # fmt: skip
        traced: list[tuple[str, dict[str, Any]]] = []
        conversation = remote.attend(
            far, "qmgr", msgspec.msgpack.encode(config), {}, journal("remote", descriptor=-1),
            lambda action, **fields: traced.append((action, fields)),
        )  # fmt: skip
        ended = trio.Event()

        async def run() -> None:
            await conversation.run()
            ended.set()

        nursery.start_soon(run)
        where = destination or f"[127.0.0.1]:{port}"
        place = World(hop, near, conversation, where, ended, traced)
        yield place
        await place.close()
        nursery.cancel_scope.cancel()
    assert set(os.listdir("/proc/self/fd")) <= before, "a descriptor was left open"
