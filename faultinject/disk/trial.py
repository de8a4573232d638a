"""A letter while a fault comes and goes: it is sent, and its delivery is waited for.

    the fault may happen; a letter is sent, and again until it is answered 250
    the fault ends, once it was met (or has lasted a while), or when there is nothing more to come
    the letter is answered, and delivered: helped by an operator who has the queue tried, and who
    restarts only what has already failed, so that the next letter has a chance

Nothing is judged by the clock alone: how long a letter may take grows with what the slowest letter
without a fault has taken here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from faultinject import networks
from faultinject.books import Books
from faultinject.client import REPLY_S, Letter
from faultinject.disk.faults import Fault
from faultinject.disk.sender import LARGE_OCTETS, RUN, Careful, TimedClients
from faultinject.disk.steps import Made, Step
from faultinject.ledger import Finding
from faultinject.target import Target, TargetError

DOMAIN: Final = "disk.example"
USERS: Final = ("ada", "bob")
#: How long a fault that lasts goes on after it was first met, and until something is met at all.
LASTS_S, MEETS_S = 0.6, 6.0
#: How long a letter may take to be answered and delivered when the fault has ended.
SETTLES_S: Final = REPLY_S + 15.0
#: Of this, how long it may take to be delivered once it was answered.
DELIVERS_S: Final = 20.0
#: Without a fault; and, of a letter with one, so many times what it took without.
CALM_S, SLOWER = 120.0, 10.0
#: When the queue is tried again, the first time and from then on; and how often it is looked at.
FLUSH_S, FLUSH_AGAIN_S, LOOK_S = 0.1, 1.0, 0.01
#: Characters of a log that a finding tells.
TOLD: Final = 300


class Fading(Protocol):
    """An injection that has begun.  Methods block."""

    def hits(self) -> int: ...

    def over(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Trials:
    """Letters to one server.  say: told of progress.

    stuck: how many messages earlier faults have left in the queue for good.  calm_s: what the
    slowest letter without a fault took.
    """

    target: Target
    fault: Fault
    seed: int
    books: Books
    say: Callable[[str], None]
    settles_s: float = SETTLES_S
    stuck: int = 0
    calm_s: float = 0.0
    numbers: int = 0

    def next_number(self) -> int:
        """Of a letter."""
        self.numbers += 1
        return self.numbers

    def clients(self, made: Made) -> TimedClients:
        """Who will send its letter: to both mailboxes, in turns."""
        users = USERS if made.letter % 2 else USERS[::-1]
        addresses = tuple(f"{user}@{DOMAIN}" for user in users)
        letter = Letter(
            number=made.letter, sender=addresses[0], recipients=addresses,
            octets=self._octets(made.letter),
        )  # fmt: skip
        return TimedClients(
            run=RUN, address=self.target.address, outbox=iter([letter]), books=self.books,
            random=Careful(f"client {self.seed} {made.letter}"), findings=made.findings,
        )  # fmt: skip

    def _octets(self, number: int) -> int:
        """Every other letter is large where that takes more than one write."""
        scarce = self.fault.way in ("space", "quota", "short")
        return LARGE_OCTETS if scarce and number % 2 == 0 else 0

    async def calm(self) -> None:
        """A letter without a fault.  Raises TargetError if it is not delivered."""
        made = Made(step=Step(number=0), letter=self.next_number(), expected=False)
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            answered = trio.Event()
            nursery.start_soon(self._have_sent, self.clients(made), answered)
            settled = await self._settle(answered, made, CALM_S, CALM_S)
            nursery.cancel_scope.cancel()
        self.calm_s = max(self.calm_s, trio.current_time() - began_s)
        if not settled or made.findings:
            found = "; ".join(f"{each.name}: {each.text}" for each in made.findings)
            raise TargetError(f"a letter without any fault fails: {found}\n{self.target.log_end()}")

    async def run(self, clients: TimedClients, fading: Fading, made: Made) -> bool:
        """The letter, the fault's end, and what follows; whether everything is done then."""
        longer_s = SLOWER * self.calm_s
        async with trio.open_nursery() as nursery:
            answered = trio.Event()
            nursery.start_soon(self._have_sent, clients, answered)
            await self._meet(answered, fading, clients)
            await networks.in_thread(fading.over)
            settled = await self._settle(
                answered, made, self.settles_s + longer_s, DELIVERS_S + longer_s
            )
            nursery.cancel_scope.cancel()
        return settled

    @staticmethod
    async def _have_sent(clients: TimedClients, answered: trio.Event) -> None:
        await clients.send_all(1)
        answered.set()

    async def _meet(self, answered: trio.Event, fading: Fading, clients: TimedClients) -> None:
        """Until the fault has lasted long enough, or there is nothing more to come of it."""
        began_s, met_s = trio.current_time(), None
        meets_s = MEETS_S + SLOWER * self.calm_s
        while self.target.alive():
            now_s = trio.current_time()
            if met_s is None and (len(clients.made) > 1 or fading.hits()):
                met_s = now_s
            if answered.is_set() and self._waiting() <= self.stuck:
                return
            if met_s is not None and (not self.fault.forever or now_s > met_s + LASTS_S):
                return
            if now_s > began_s + meets_s:
                return
            await trio.sleep(LOOK_S)

    def _waiting(self) -> int:
        """How many are queued; more than were stuck if that can't be told now."""
        try:
            return self.target.waiting()
        except (TargetError, OSError):
            return self.stuck + 1

    async def _settle(
        self, answered: trio.Event, made: Made, within_s: float, delivers_s: float
    ) -> bool:
        """Until the letter is answered and nothing is queued; helped as an operator would."""
        deadline_s = trio.current_time() + within_s
        flush_s, answered_s = trio.current_time() + FLUSH_S, 0.0
        while trio.current_time() < deadline_s:
            if answered.is_set() and not answered_s:
                answered_s = trio.current_time()
                deadline_s = min(deadline_s, answered_s + delivers_s)
            if not self.target.alive():
                made.findings.append(Finding(name="died", text=self.target.log_end()[-TOLD:]))
                await networks.in_thread(lambda: self._recover(made))
            waiting = self._waiting()
            if answered.is_set() and waiting <= self.stuck:
                self.stuck = waiting
                return True
            if waiting > self.stuck and trio.current_time() > flush_s:
                await networks.in_thread(self._flush)
                flush_s = trio.current_time() + FLUSH_AGAIN_S
            await trio.sleep(LOOK_S)
        name = "still_queued" if answered.is_set() else "unanswered"
        made.findings.append(Finding(name=name, text="although the fault had ended"))
        if not answered.is_set():
            await networks.in_thread(self._restart)
        self.stuck = self._waiting()  # so that later steps are judged by their own letters
        return False

    def _flush(self) -> None:
        try:
            self.target.flush()
        except TargetError as error:
            self.say(f"flush: {str(error)[:200]}")

    def _restart(self) -> None:
        """What an operator would do, at last; the finding stays."""
        with suppress(TargetError):
            self.target.stop()
        self.target.start()

    def _recover(self, made: Made) -> None:
        made.findings += [Finding(name="leftover", text=oddity) for oddity in self.target.recover()]
