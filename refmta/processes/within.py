"""Several roles in one process: each sees what it would see alone.

A compartment, or a pool's worker, may be one role or a whole server.  This file is the room they
share: a context for each, the channels between them, the links and lines that come from outside,
and their ends.  Which roles talk to each other here is data of the architecture; no role can tell,
and none is written otherwise for it.

Rules
- A role with a life of its own (`run`) starts when all roles of its process have their slices, and
  hears of channels on its ports.  One that can only be called (`attend`) gets a task per channel.
- A channel between two roles here is made when the client first listens on its port for the server
  (one, for as long as both live), and whenever it makes a call.
- The end of a role is to the others what the end of a process is: the channels that it had here
  break.
- Roles drain one after the other, in the order in which the architecture's row names them, as
  compartments do.  Sessions that were called are told at their turn, and waited for at the end.
- The process is settled when every role that said how to tell (`Context.settled_if`) is, and
  nothing that one has said is still on its way to another.

There is no wall in here: a defect of one role ends all, and a hole in one is a hole in all.  That
is what a monolith is made of, and what it is here to show.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import trio

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Border, Channel, ChannelBroken, border
from refmta.processes.calls import LISTENER, ON_CALL, POOLED, TRACE, Fresh, Switchboard
from refmta.processes.carriers import adopt
from refmta.processes.channels import LocalChannel
from refmta.processes.entries import Conversation, Member
from refmta.trace import Emit, Trace, silent
from refmta.wire.messages import Attach, Line, Link, Message, Ready

#: How often a process that is to end looks whether it may, in seconds.
SETTLED_S: Final = 0.02


class _Held(LocalChannel):
    """One end of a channel in here, with the role that has it, until it is closed."""

    __slots__ = ("_among",)

    def __init__(self, side: Border, among: set[_Held]) -> None:
        super().__init__(side)
        self._among = among
        among.add(self)

    def close(self) -> None:
        super().close()
        self._among.discard(self)


class _Session(NamedTuple):
    """A call that a role serves here."""

    role: str
    conversation: Conversation
    over: trio.Event


class Within:
    """The roles of one process.  Its methods must be called inside of trio."""

    def __init__(
        self,
        members: Iterable[Member],
        talks: Iterable[tuple[str, str]],
        nursery: trio.Nursery,
        say: Callable[[Message], None] = lambda _message: None,
    ) -> None:
        """talks: (client role, server role) of this process.  say: to whoever started it; Ready is
        said once, when all roles are.
        """
        self._members = {each.role: each for each in members}
        self._talks = frozenset(talks)
        self._nursery = nursery
        self._outside = say
        self._board = Switchboard(nursery)
        self._slices: dict[str, bytes] = {}
        self._contexts: dict[str, Context] = {}
        living = [each.role for each in self._members.values() if each.run is not None]
        self._unready = set(living)
        self._over = {role: trio.Event() for role in living}
        self._draining: set[str] = set()
        self._sessions: list[_Session] = []
        self._held: dict[str, set[_Held]] = {}
        #: Where events of all roles go: a process numbers its events once.
        self.trace: Emit = silent
        #: Set when no role is left.
        self.ended = trio.Event()

    # -- lives ------------------------------------------------------------------------------------

    def configure(self, role: str, slice_: bytes) -> None:
        """A role's slice; with the last one they all start.  Raises ChannelBroken for a role that
        is not here, or has its slice.
        """
        member = self._members.get(role)
        if member is None or role in self._slices:
            raise ChannelBroken("a role that this process does not have")
        self._slices[role] = slice_
        if member.run is not None:
            self._contexts[role] = Context(
                slices={role: slice_},
                say=partial(self._say, role),
                call=partial(self.call, role),
                listens=partial(self._listens, role),
                trace=self._emit,
            )
        if len(self._slices) == len(self._members):
            for each in self._contexts:
                self._nursery.start_soon(self._live, each)
            if not self._contexts:
                self._outside(Ready())

    async def _live(self, role: str) -> None:
        run = self._members[role].run
        if run is not None:
            await run(self._contexts[role], journal(role, terminal=os.isatty(2)))
        self._over[role].set()
        for each in list(self._held.get(role, ())):
            each.close()
        if all(over.is_set() for over in self._over.values()) and not self._draining:
            self.ended.set()

    def _say(self, role: str, message: Message) -> None:
        if isinstance(message, Ready):
            if role not in self._unready:
                return
            self._unready.discard(role)
            if self._unready:
                return
        self._outside(message)

    def _emit(self, action: str, **fields: object) -> None:
        self.trace(action, **fields)

    def order(self, message: Message) -> None:
        """What the supervisor says to roles, whichever it concerns."""
        for context in self._contexts.values():
            context.order(message)

    async def settled(self, stopping: trio.Event) -> None:
        """Wait until nothing is begun and unfinished here, or the server stops."""
        while not (self._is_settled() or stopping.is_set()):
            with trio.move_on_after(SETTLED_S):
                await stopping.wait()

    def _is_settled(self) -> bool:
        on_its_way = any(each.pending for those in self._held.values() for each in those)
        return not on_its_way and all(each.settled() for each in self._contexts.values())

    async def drain(self) -> None:
        """Let every role finish, one after the other."""
        for role in self._members:
            self._draining.add(role)
            for session in self._sessions:
                if session.role == role:
                    session.conversation.drain()
            if role in self._contexts:
                self._contexts[role].draining.set()
                await self._over[role].wait()
        while self._sessions:
            await self._sessions[0].over.wait()
        self.ended.set()

    # -- channels in here -------------------------------------------------------------------------

    def call(self, role: str, port: str, detail: str = "") -> Channel:
        """A new channel from that role to a server, here or elsewhere (`Context.call`)."""
        if (role, port) not in self._talks:
            return self._board.call(role, port, detail)
        near, far = self._pair(role, port)
        self._arrive(port, role, far, detail)
        return near

    def channels(self, role: str) -> dict[str, Channel]:
        """For a session of that role: a channel to each server that it has here, or by a line."""
        here = {server: self.call(role, server) for client, server in self._talks if client == role}
        return here | {server: self._fresh(role, server) for server in self._board.servers(role)}

    def _listens(self, role: str, port: str) -> None:
        """A role listens for a server for the first time."""
        if (role, port) in self._talks:
            near, far = self._pair(role, port)
            self._contexts[role].link(port, Linked(near))
            self._arrive(port, role, far)
        elif port in self._board.servers(role):
            self._offer(role, port)

    def _offer(self, role: str, port: str) -> None:
        """To a role that wants a channel, and has a line: one that calls for each exchange, and is
        followed by another one when it is given up.
        """
        fresh = self._fresh(role, port, lambda: self._offer(role, port))
        self._contexts[role].link(port, Linked(fresh))

    def _fresh(self, role: str, port: str, closing: Callable[[], None] = lambda: None) -> Fresh:
        return Fresh(partial(self._board.call, role, port), closing)

    def _pair(self, client: str, server: str) -> tuple[_Held, _Held]:
        side = border(client, server)
        near = _Held(side, self._held.setdefault(client, set()))
        far = _Held(side.turned(), self._held.setdefault(server, set()))
        near.join(far)
        return near, far

    def _arrive(self, role: str, port: str, channel: Channel, detail: str = "") -> None:
        """A channel for a role: a life of its own hears of it, else it is a session."""
        over = self._over.get(role)
        if over is None:
            self._nursery.start_soon(self._attend, role, port, channel)
        elif over.is_set():
            channel.close()
        else:
            self._contexts[role].link(port, Linked(channel, detail))

    async def _attend(self, role: str, caller: str, channel: Channel) -> None:
        attend = self._members[role].attend
        if attend is None:
            raise LookupError(f"{role} can't be called")
        channels, log = self.channels(role), journal(role, terminal=os.isatty(2))
        conversation = attend(channel, caller, self._slices[role], channels, log, self._emit)
        session = _Session(role, conversation, trio.Event())
        self._sessions.append(session)
        if role in self._draining:
            conversation.drain()
        try:
            await conversation.run()
        finally:
            self._sessions.remove(session)
            for each in (channel, *channels.values()):
                each.close()
            session.over.set()

    # -- channels from outside --------------------------------------------------------------------

    def link(self, link: Link, descriptor: int) -> None:
        """What a link brings.  Raises ChannelBroken for a role that is not here, or not yet."""
        role, port = link.role, link.port
        if port == TRACE and role in self._members:
            self.trace = Trace(descriptor)
            return
        if role not in self._slices:
            os.close(descriptor)
            raise ChannelBroken("a role that this process does not have")
        if port == LISTENER:
            self._contexts[role].listeners.put(socket.socket(fileno=descriptor))
        elif link.detail == ON_CALL:
            self.connect(link, descriptor)
        elif link.detail == POOLED:
            line = adopt("frames", descriptor, border("server", "pool"))
            self._nursery.start_soon(self._introduce, link, line)
        else:
            channel = adopt(link.carrier, descriptor, border(role, port))
            self._arrive(role, port, channel, link.detail)

    def connect(self, link: Link, descriptor: int) -> None:
        """A role has a line to a server, or a new one."""
        line = adopt("frames", descriptor, border("caller", "pool"))
        known = link.port in self._board.servers(link.role)
        self._board.connect(link.role, link.port, line, link.carrier)
        context = self._contexts.get(link.role)
        if not known and context is not None and context.hears(link.port):
            self._offer(link.role, link.port)

    async def _introduce(self, link: Link, line: Channel) -> None:
        """Channels come by a line, one by one; and further lines."""
        side = border(link.role, link.port)
        try:
            while True:
                for item in await line.receive():
                    match item.message:
                        case Attach(detail=detail):
                            channel = adopt(link.carrier, item.descriptors[0], side)
                            self._arrive(link.role, link.port, channel, detail)
                        case Line():
                            further = adopt("frames", item.descriptors[0], border("server", "pool"))
                            self._nursery.start_soon(self._introduce, link, further)
                await trio.lowlevel.checkpoint()  # the role takes them meanwhile
        except ChannelBroken:
            line.close()
