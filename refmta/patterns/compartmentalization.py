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

Whether a peer is a role of the same process (`processes.within`) or of another one, a role can't
tell: links and calls are the same, and so is what they carry.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import msgspec
import trio

from refmta.patterns.trust_partitioning import Channel
from refmta.wire.messages import Message, Ready

_S = TypeVar("_S")
_T = TypeVar("_T")

#: Links, or orders, that a role may leave lying.
UNTAKEN = 1024
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


class Mailslot(Generic[_T]):
    """What arrives on one port, oldest first."""

    __slots__ = ("_receive", "_send")

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[_T](UNTAKEN)

    def put(self, arrived: _T) -> None:
        self._send.send_nowait(arrived)

    async def get(self) -> _T:
        return await self._receive.receive()


class Call(Protocol):
    """How a role gets a channel to a server that it must not wait for."""

    def __call__(self, port: str, detail: str = "") -> Channel:
        """A new channel to that server role, for this caller alone; its end ends the call.

        detail: for whom, if that matters (the recipient user of a delivery).  The channel is
        broken already if the server is away.  Raises KeyError for a server that this role has no
        business with, OSError if there are no descriptors left.
        """
        ...


def _nobody(port: str, detail: str = "") -> Channel:
    raise KeyError(f"{port} {detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a role has: configuration, ports, and a line to its supervisor."""

    slices: Mapping[str, bytes]
    ports: dict[str, Mailslot[Linked]] = field(default_factory=dict)
    #: Sockets that this role accepts connections from.
    listeners: Mailslot[socket.socket] = field(default_factory=Mailslot)
    draining: trio.Event = field(default_factory=trio.Event)
    #: Tell the supervisor something; it is written when this wake-up is over.
    say: Callable[[Message], None] = lambda _message: None
    #: A channel to a server, made now.
    call: Call = _nobody
    #: Told when the role first listens on a port: some links are made only then.
    listens: Callable[[str], None] = lambda _port: None
    #: An event of the trace (`--trace`): an action and its fields.  Nothing happens without one.
    trace: Callable[..., None] = lambda _action, **_fields: None
    _orders: tuple[trio.MemorySendChannel[Message], trio.MemoryReceiveChannel[Message]] = field(
        default_factory=lambda: trio.open_memory_channel[Message](UNTAKEN)
    )
    _settled: list[Callable[[], bool]] = field(default_factory=list)
    _heard: set[str] = field(default_factory=set)

    def ready(self) -> None:
        """The role has recovered and is at work."""
        self.say(Ready())

    def order(self, message: Message) -> None:
        """Hand the role something from its supervisor.  A role that never asks gets no more."""
        with contextlib.suppress(trio.WouldBlock):
            self._orders[0].send_nowait(message)

    def orders(self) -> trio.MemoryReceiveChannel[Message]:
        """What the supervisor says to this role."""
        return self._orders[1]

    def settled_if(self, idle: Callable[[], bool]) -> None:
        """Say how to tell that this role has nothing begun and unfinished.

        A process that does not stay (a worker that is a whole server) ends when all of its roles
        have settled, not before.  `idle` must answer at once, and true only if nothing would be
        lost or left undone: what lies on disk for later is settled, what is in memory is not.
        """
        self._settled.append(idle)

    def settled(self) -> bool:
        """Whether the role has nothing begun and unfinished, as far as it has ever said."""
        return all(idle() for idle in self._settled)

    def port(self, name: str) -> Mailslot[Linked]:
        """Where links to the peer of that name arrive."""
        if name not in self._heard:
            self._heard.add(name)
            self.listens(name)
        return self._slot(name)

    def hears(self, name: str) -> bool:
        """Whether the role has ever listened on that port."""
        return name in self._heard

    def link(self, name: str, linked: Linked) -> None:
        """Hand the role a link, whether or not it listens for it yet.  Of those that it does not
        take, more than `UNTAKEN` break: whoever brings them may be seized.
        """
        try:
            self._slot(name).put(linked)
        except trio.WouldBlock:
            linked.channel.close()

    def _slot(self, name: str) -> Mailslot[Linked]:
        return self.ports.setdefault(name, Mailslot())

    def slice(self, role: str, form: type[_S]) -> _S:
        """The role's own slice of the configuration.  Raises KeyError, msgspec.ValidationError."""
        return msgspec.msgpack.decode(self.slices[role], type=form)
