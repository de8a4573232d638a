"""The parent hands out: every session goes through its hands, and by its books.

A worker is picked among the idle ones, made if there is none, or waited for if that is sooner; it
is retired when it has had what it may have.  A worker that ignores its retirement wins no further
session, because it has nothing to accept on.
"""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass, field

import trio

from refmta.patterns.secure_preforking import Pool
from refmta.processes.doors import Doors
from refmta.processes.staff import Hand, Staff
from refmta.wire.messages import Idle, Link, Message, Session

#: How long a connection waits for a busy worker before a new one is made for it.
PATIENCE_S = 0.01
#: How long a worker may leave what it is handed lying: an idle one takes it at once.
TAKING_S = 1.0


@dataclass(slots=True, eq=False)
class Handing:
    """Doors, and whoever goes through them to a worker."""

    staff: Staff
    books: Pool = field(init=False)
    doors: Doors = field(init=False)
    crowded: bool = False
    draining: bool = False

    def __post_init__(self) -> None:
        staff = self.staff
        staff.source = self
        self.books = Pool(staff.terms.terms())
        self.doors = Doors(self._room, self.hand_out, staff.nursery, staff.journal, staff.terms)

    def listen(self, descriptor: int) -> None:
        """Let clients in by this socket."""
        self.doors.listen(descriptor)

    def answer(self, link: Link, descriptor: int) -> None:
        """Take calls by this line."""
        self.doors.answer(link, descriptor)

    # -- giving -----------------------------------------------------------------------------------

    async def hand_out(self, session: Session, client: str, end: socket.socket) -> None:
        """Give a session to a worker, when there is one; `client` is whom it counts for."""
        with end:  # closed if we are to stop meanwhile
            hand = self.staff.hands[await self._worker()]
            hand.client = client
            self.doors.clients[client] += 1
            hand.control.post(session, end.detach())
        self.staff.look()
        with trio.move_on_after(TAKING_S) as scope:
            await self.staff.flush(hand.control)  # if it fails the client comes again
        if scope.cancelled_caught:
            self.staff.distrust(hand, "it does not take its session")

    async def _worker(self) -> int:
        """A worker that was free, or a new one; it is busy now."""
        while True:
            number = self.books.hand_out(trio.current_time())
            if number is not None:
                return number
            if not self.staff.may_fork():
                await self._room()
            elif not await self._worth_waiting() and self.staff.may_fork():  # it may have changed
                self.staff.fork()

    async def _worth_waiting(self) -> bool:
        """Whether a busy worker becomes free sooner than a new one would be made.

        A client that says QUIT and comes back is here before its worker has reported; without
        this there would soon be twice the workers that are needed.  Once the wait was in vain,
        nobody waits until some worker has become free.
        """
        used_once = self.books.rules.max_uses == 1
        if self.crowded or used_once or not self.books.workers:
            return False
        with trio.move_on_after(PATIENCE_S):
            await self.staff.until(lambda: self.books.has_free(trio.current_time()))
            return True
        self.crowded = True
        return False

    async def _room(self) -> None:
        """Until there is, or may be, a worker for the next session."""
        await self.staff.until(
            lambda: self.books.has_free(trio.current_time()) or self.staff.may_fork()
        )

    # -- taking back ------------------------------------------------------------------------------

    def equip(self, hand: Hand) -> None:
        """It needs nothing: all comes from us."""

    def heard(self, hand: Hand, message: Message) -> None:
        """Its session has ended."""
        if not isinstance(message, Idle):
            self.staff.distrust(hand, "it has nothing to accept on, and is busy")
            return
        if not hand.client:
            self.staff.distrust(hand, "it is idle without having had a session")
            return
        self.doors.leave(hand.client)
        hand.client = ""
        self.books.take_back(hand.number, trio.current_time())
        self.crowded = False
        spent = self.books.is_spent(hand.number, trio.current_time())
        if spent or hand.stale or self.draining:
            self.staff.retire(hand)  # now: its place is wanted
        self.staff.changed.set()

    def left(self, hand: Hand, *, failed: bool) -> None:
        """Its session, if it had one, has ended with it."""
        if hand.client:
            self.doors.leave(hand.client)

    def tidy(self) -> None:
        """Retire what is due."""
        for number in self.books.due(trio.current_time()):
            self.staff.retire(self.staff.hands[number])

    async def drain(self) -> None:
        """Let nobody in, and let sessions end as soon as they may (421 to the next command)."""
        self.draining = True
        self.doors.shut()
        for hand in list(self.staff.hands.values()):
            if hand.client:
                self.staff.kill(hand, signal.SIGTERM)
            else:
                self.staff.retire(hand)
        await self.staff.until(lambda: not self.staff.hands)
