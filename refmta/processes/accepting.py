"""A worker that accepts by itself: it shares listening sockets with its siblings.

The precedent is Postfix (single_server.c): children of `master` inherit the listening socket, the
kernel picks one of those that wait, and the child tells its parent that it is taken, and that it is
available again.  The parent only counts, and makes another child when none is available and a
client waits (`processes.sharing`).

What follows from it, on purpose: how often a worker is used, for how long, and how long it idles is
*its own* to honour.  A seized one goes on accepting, and its parent never hears of it (claims C16,
C17; in `processes.doors` the parent accepts).  Nobody knows all of a client's connections, so
nobody limits them; Postfix asks a service of its own, anvil.

All that wait are woken by a connection, and one wins it; the others find nothing and wait on.  That
is what Postfix locks a file for; among a hundred workers it costs less than the lock.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

import trio

from refmta.journal import Journal
from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel
from refmta.wire.messages import Busy, Session

#: Pause after an accept that failed for want of descriptors.
ACCEPT_PAUSE_S = 0.1


class Spent(Exception):
    """This worker takes no more clients; the text says why."""


@dataclass(slots=True, eq=False)
class Accepting:
    """One worker's way to its clients.  rules: its terms (`PoolSlice.terms()`)."""

    rules: Rules
    journal: Journal
    uses: int = 0
    born_s: float = field(default_factory=trio.current_time)
    _listeners: list[socket.socket] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)
    _closed: bool = False

    def add(self, descriptor: int) -> None:
        """A listening socket: it came by a link on port `calls.LISTENER`."""
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._changed.set()

    def close(self) -> None:
        """Accept nobody any more, said at any time; who waits in `next_client` gets Spent."""
        self._closed = True
        self._changed.set()

    async def next_client(self, control: Channel) -> tuple[Session, int]:
        """A client and its connection; the parent has been told (Busy).  When the session is over,
        post Idle, as after one that was handed out.  Raises Spent: end now; ChannelBroken: the
        parent is gone.
        """
        now_s, old_s = trio.current_time(), self.born_s + self.rules.max_age_s
        if self.uses >= self.rules.max_uses or now_s >= old_s:
            raise Spent("used, or old")
        taken = None
        with trio.move_on_at(min(now_s + self.rules.max_idle_s, old_s)):
            taken = await self._accept()
        if taken is None:
            raise Spent("idle for long, or old")
        self.uses += 1
        connection, (address, port, *_) = taken
        with connection:  # closed if the parent is gone
            control.post(Busy(client=address))
            await control.flush()
            return Session(client=address, port=port), connection.detach()

    async def _accept(self) -> tuple[socket.socket, tuple[str, int]]:
        while not self._closed:
            self._changed = trio.Event()
            for listener in self._listeners:
                try:
                    return listener.accept()
                except BlockingIOError:
                    continue
                except OSError as error:  # EMFILE, ECONNABORTED
                    self.journal.error("accept failed", reason=os.strerror(error.errno or 0))
                    await trio.sleep(ACCEPT_PAUSE_S)
            await self._news()
        raise Spent("told to go")

    async def _news(self) -> None:
        """Until a client may be there, or another socket, or the end."""
        async with trio.open_nursery() as nursery:

            async def look(listener: socket.socket) -> None:
                await trio.lowlevel.wait_readable(listener)
                nursery.cancel_scope.cancel()

            for each in self._listeners:
                nursery.start_soon(look, each)
            await self._changed.wait()
            nursery.cancel_scope.cancel()
