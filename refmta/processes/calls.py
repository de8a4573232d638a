"""Calls: how a role gets a channel to a worker of a pool, and to no other.

    caller ------ Attach + descriptor ------> pool's parent ------ Session + descriptor --> worker
       '------------------------------ the channel --------------------------------------------'

The caller makes the channel, keeps one end, and sends the other to the pool's parent on its link;
the parent hands it to an idle worker, or to a new one, and never reads it.  What is said before a
worker is there waits in the channel.  A call may come at any time: if the pool is away, or goes
away before a worker has the other end, that end is closed, and the caller's channel breaks.
"""

from __future__ import annotations

import contextlib

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.wire.messages import Attach


class Switchboard:
    """The lines of a compartment's roles to the pools that they may call."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._lines: dict[tuple[str, str], Channel] = {}

    def connect(self, role: str, port: str, line: Channel) -> None:
        """From now on, calls of this role to that pool go by this line."""
        former = self._lines.get((role, port))
        self._lines[role, port] = line
        if former is not None:
            former.close()
        self._nursery.start_soon(self._watch, (role, port), line)

    async def _watch(self, key: tuple[str, str], line: Channel) -> None:
        """The pool says nothing; its end is the news."""
        try:
            while True:
                await line.receive()
        except ChannelBroken:
            line.close()
            if self._lines.get(key) is line:
                del self._lines[key]

    def call(self, role: str, port: str) -> Channel:
        """A channel to a worker; it is broken already if the pool is away.

        Raises KeyError for a pool that this role has no business with, OSError if there are no
        descriptors left.
        """
        side = border(role, port)
        near, far = socket_pair()
        line = self._lines.get((role, port))
        if line is None:
            far.close()
        else:
            line.post(Attach(), far.detach())
            self._nursery.start_soon(_flush, line)
        return SocketChannel(near, side)


async def _flush(line: Channel) -> None:
    with contextlib.suppress(ChannelBroken):  # the other end is closed: the caller sees it
        await line.flush()
