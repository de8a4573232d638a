"""Compartmentalization: what a role sees of the compartment that it runs in.

Context (paper, section 3): a monolith that is seized anywhere is lost everywhere.
Problem: code that was written together is trusted together; whatever one part can reach, a hole in
any other part reaches.
Forces: parts that know less need more messages, and a message costs a wake-up.
Solution: roles run in separate processes; each gets the channels, the listening sockets and the
slice of the configuration that it needs, and nothing else.  A process begins with the descriptors
of `GRANTED`, and refuses to start with one more; all others come by links.
Observable claim: a process has the descriptors that its links brought, and no others; its peers are
those of the architecture; what it never was told is not in its memory.

A `Context` is all that a role has.  Links arrive over time: the first ones at the start, and a
new one on the same port whenever the peer was started anew.  A role therefore reads links until
it ends, and treats a broken channel as "the peer is away", not as an error.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import trio

from refmta.patterns.trust_partitioning import Channel
from refmta.wire.messages import Message, Ready

_S = TypeVar("_S")

#: With what a compartment begins: nothing to read, nowhere to print, the log, its supervisor.
GRANTED = frozenset(range(4))


def foreign_descriptors(granted: Iterable[int] = GRANTED) -> list[int]:
    """What else is open in this process.  Needs /proc; raises OSError without it."""
    known, found = set(granted), []
    for each in os.listdir("/proc/self/fd"):  # it opens one itself, which is closed by now
        with contextlib.suppress(OSError):
            os.fstat(int(each))
            found.append(int(each))
    return sorted(set(found) - known)


@dataclass(frozen=True, slots=True)
class Linked:
    """A channel to a peer, and what the supervisor says about it (a user's name, perhaps)."""

    channel: Channel
    detail: str = ""


class Mailslot:
    """Links as they arrive on one port, oldest first."""

    __slots__ = ("_receive", "_send")

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Linked](1024)

    def put(self, linked: Linked) -> None:
        self._send.send_nowait(linked)

    async def get(self) -> Linked:
        return await self._receive.receive()


def _no_pool(port: str) -> Channel:
    raise KeyError(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a role has: configuration, ports, and a line to its supervisor."""

    slices: Mapping[str, bytes]
    ports: dict[str, Mailslot] = field(default_factory=dict)
    draining: trio.Event = field(default_factory=trio.Event)
    #: Tell the supervisor something; it is written when this wake-up is over.
    say: Callable[[Message], None] = lambda _message: None
    #: A channel to a worker of a pool, made now; it breaks if the pool is away.
    call: Callable[[str], Channel] = _no_pool
    #: An event of the trace (`--trace`): an action and its fields.  Nothing happens without one.
    trace: Callable[..., None] = lambda _action, **_fields: None
    _orders: tuple[trio.MemorySendChannel[Message], trio.MemoryReceiveChannel[Message]] = field(
        default_factory=lambda: trio.open_memory_channel[Message](1024)
    )

    def ready(self) -> None:
        """The role has recovered and is at work."""
        self.say(Ready())

    def order(self, message: Message) -> None:
        """Hand the role something from its supervisor."""
        self._orders[0].send_nowait(message)

    def orders(self) -> trio.MemoryReceiveChannel[Message]:
        """What the supervisor says to this role."""
        return self._orders[1]

    def port(self, name: str) -> Mailslot:
        """Where links to the peer of that name arrive."""
        return self.ports.setdefault(name, Mailslot())

    def slice(self, role: str, form: type[_S]) -> _S:
        """The role's own slice of the configuration.  Raises KeyError, msgspec.ValidationError."""
        return msgspec.msgpack.decode(self.slices[role], type=form)
