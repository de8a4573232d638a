"""A role that accepts its clients by itself, and serves all of them in one process.

Precedent: sendmail X's SMTP server, one persistent process (its threads are tasks here).  It costs
a task per client instead of a process, and gives up what `patterns.secure_preforking` is for:
whoever seizes it has every session of this moment, and every one that follows, and a defect in one
session ends them all.

Rules
- At most `sessions` at once, and `per_client` of one client (an IPv4 address, or an IPv6 /64
  network), unless it is trusted: who is too many is told 421.  Where there is no place, clients
  wait in the listening socket.
- Each session has channels of its own to its role's servers, made for it and closed after it; so
  it never hears an answer that was meant for another.
- When the last place is taken, stress begins: clients get less patience (`press`), so that places
  become free.  It ends when half of them are.
- When the server stops nobody is let in, sessions are told so, and are waited for.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel
from refmta.wire.client import network
from refmta.wire.reply import reply

#: Pause after an accept that failed for want of descriptors.
ACCEPT_PAUSE_S: Final = 0.1
TOO_MANY: Final = reply(421, "4.7.0", "too many connections from your address").encode()


class Conversation(Protocol):
    """A session with a client."""

    async def run(self) -> None: ...
    def drain(self) -> None: ...
    def press(self, stressed: bool) -> None: ...


#: A session for a connection, which it takes over: its client, and channels to servers.
Converse = Callable[[socket.socket, str, Mapping[str, Channel]], Conversation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """How many may be here at once."""

    sessions: int
    per_client: int
    trusted: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Listening:
    """The sessions of this process."""

    context: Context
    journal: Journal
    places: Places
    servers: tuple[str, ...]
    converse: Converse
    nursery: trio.Nursery
    sessions: set[Conversation] = field(default_factory=set)
    clients: Counter[str] = field(default_factory=Counter)
    stressed: bool = False
    _taken: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    async def follow_listeners(self) -> None:
        """For ever: accept from each socket that comes."""
        while True:
            listener = await self.context.listeners.get()
            listener.setblocking(False)
            self.nursery.start_soon(self._accept, listener)

    async def _accept(self, listener: socket.socket) -> None:
        """Let clients in while there are places, until the server stops."""
        with listener, trio.CancelScope() as scope:
            self.nursery.start_soon(_cancel_when, self.context.draining, scope)
            while True:
                await self._until(lambda: self._taken < self.places.sessions)
                try:
                    connection, address = listener.accept()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(listener)
                    continue
                except OSError as error:  # EMFILE, ECONNABORTED
                    self.journal.error("accept failed", reason=os.strerror(error.errno or 0))
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                self._welcome(connection, str(address[0]))

    def _welcome(self, connection: socket.socket, client: str) -> None:
        counted = network(client)
        if client not in self.places.trusted and self.clients[counted] >= self.places.per_client:
            self._turn_away(connection, client)
            return
        self._taken += 1
        self.clients[counted] += 1
        self._look()
        self.nursery.start_soon(self._serve, connection, client, counted)

    def _turn_away(self, connection: socket.socket, client: str) -> None:
        with connection:
            connection.setblocking(False)
            try:
                connection.send(TOO_MANY)
            except OSError:
                return  # it is gone, or reads nothing
            finally:
                self.journal.info("refused", client=client, reply="421 4.7.0 too many connections")

    async def _serve(self, connection: socket.socket, client: str, counted: str) -> None:
        try:
            with connection:
                await self._converse(connection, client)
        finally:
            self._taken -= 1
            self.clients[counted] -= 1
            self.clients += Counter()  # drops the zeros
            self._look()
            self._changed.set()

    async def _converse(self, connection: socket.socket, client: str) -> None:
        channels: dict[str, Channel] = {}
        try:
            for server in self.servers:
                channels[server] = self.context.call(server)
            conversation = self.converse(connection, client, channels)
            self.sessions.add(conversation)
            conversation.press(self.stressed)
            if self.context.draining.is_set():
                conversation.drain()
            try:
                await conversation.run()
            finally:
                self.sessions.discard(conversation)
        except OSError as error:  # no descriptors left
            self.journal.error("no session", client=client, reason=os.strerror(error.errno or 0))
        finally:
            for each in channels.values():
                each.close()

    def _look(self) -> None:
        """Notice stress, and tell every session when it begins or ends."""
        full = self._taken >= self.places.sessions
        calm = self._taken * 2 <= self.places.sessions
        if full == self.stressed or not (full or calm):
            return
        self.stressed = full
        say = self.journal.warning if full else self.journal.info
        say(f"stress {'begins' if full else 'ends'}", sessions=self._taken)
        for each in self.sessions:
            each.press(full)

    async def drained(self) -> None:
        """Once the server stops: when the last session is over."""
        await self.context.draining.wait()
        for each in list(self.sessions):
            each.drain()
        await self._until(lambda: not self._taken)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Many wait at once: the event is replaced only once it was set, or some never wake."""
        while not condition():
            if self._changed.is_set():
                self._changed = trio.Event()
            await self._changed.wait()


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def serve(
    context: Context,
    journal: Journal,
    places: Places,
    servers: Iterable[str],
    converse: Converse,
) -> None:
    """Serve clients until drained.  servers: who is called for each session."""
    async with trio.open_nursery() as nursery:
        here = Listening(context, journal, places, tuple(servers), converse, nursery)
        nursery.start_soon(here.follow_listeners)
        context.ready()
        await here.drained()
        nursery.cancel_scope.cancel()
