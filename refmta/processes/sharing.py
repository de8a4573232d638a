"""The parent shares: its workers accept by themselves (`processes.accepting`), and it counts them.

As Postfix's master does (master_avail.c, master_status.c): while no worker is free it listens for
clients itself, without accepting, and makes a worker when one waits; a free worker is made for the
asking, none in advance.  A worker says Busy and Idle; that is all the parent knows.

It keeps two limits: how many workers live, and how soon one is made after one that failed before
its first client.  Everything else is the workers' own, and a seized one keeps to none of it: that
is what `processes.handing` is for.
"""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass, field

import trio

from refmta.patterns.secure_preforking import THROTTLE_S, Counted
from refmta.patterns.trust_partitioning import ChannelBroken, close_all
from refmta.processes.calls import LISTENER
from refmta.processes.staff import Hand, Staff
from refmta.wire.messages import Busy, Idle, Link, Message


@dataclass(slots=True, eq=False)
class Sharing:
    """The listening sockets, and who has said what."""

    staff: Staff
    books: Counted = field(init=False)
    _listeners: list[socket.socket] = field(default_factory=list)
    _watching: list[trio.CancelScope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.staff.source = self
        self.books = Counted(self.staff.terms.terms())

    def listen(self, descriptor: int) -> None:
        """Have workers accept on this socket, those that live already, too."""
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)
        for hand in self.staff.hands.values():
            self._share(hand, listener)
            self.staff.nursery.start_soon(self.staff.flush, hand.control)
        self._listeners.append(listener)
        self.staff.nursery.start_soon(self._make_on_demand, listener)

    def answer(self, link: Link, descriptor: int) -> None:
        """Raises ChannelBroken: nobody can call a worker that nobody hands anything."""
        close_all([descriptor])
        raise ChannelBroken(f"{link.port} can't call workers that accept by themselves")

    async def _make_on_demand(self, listener: socket.socket) -> None:
        """A worker, whenever a client waits and none is free."""
        with trio.CancelScope() as scope:
            self._watching.append(scope)
            while True:
                await self.staff.until(self._nobody_is_free)
                await trio.sleep_until(self.books.throttled_until_s)
                await trio.lowlevel.wait_readable(listener)
                if self._nobody_is_free() and self.books.wants_more(trio.current_time()):
                    self.staff.fork()

    def _nobody_is_free(self) -> bool:
        return not self.books.has_free(trio.current_time()) and self.staff.may_fork()

    def _share(self, hand: Hand, listener: socket.socket) -> None:
        link = Link(role=self.staff.pooled.role, port=LISTENER)
        hand.control.post(link, os.dup(listener.fileno()))

    # -- what workers say -------------------------------------------------------------------------

    def equip(self, hand: Hand) -> None:
        """It accepts on all sockets."""
        for each in self._listeners:
            self._share(hand, each)

    def heard(self, hand: Hand, message: Message) -> None:
        """It has a client, or none any more."""
        match message:
            case Busy(client=client) if client and not hand.client:
                hand.client = client
                self.books.taken(hand.number, trio.current_time())
                self.staff.look()
            case Idle() if hand.client:
                hand.client = ""
                self.books.take_back(hand.number, trio.current_time())
                if hand.stale:
                    self.staff.retire(hand)
            case _:
                said = type(message).__name__.lower()
                self.staff.distrust(hand, f"it is {said} when it was so already")
        self.staff.changed.set()

    def left(self, hand: Hand, *, failed: bool) -> None:
        """If it did not even serve one client, the next one would not either."""
        before = self.books.throttled_until_s
        if failed and not hand.told:
            self.books.failed(hand.number, trio.current_time())
        if self.books.throttled_until_s > before:
            self.staff.journal.warning("throttled", pool=self.staff.pooled.role, pause_s=THROTTLE_S)

    def tidy(self) -> None:
        """Nothing: who is spent goes by itself."""

    async def drain(self) -> None:
        """Nobody accepts any more; sessions end as soon as they may.  All are told, for any of them
        may have taken a client just now.
        """
        for scope in self._watching:
            scope.cancel()
        for each in self._listeners:
            each.close()
        self._listeners.clear()
        for hand in list(self.staff.hands.values()):
            self.staff.kill(hand, signal.SIGTERM)
        await self.staff.until(lambda: not self.staff.hands)
