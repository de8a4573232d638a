"""The load, and the cuts while it runs: in one process beside the server, on trio.

    clients --SMTP--> target --> mailboxes      all on the image
    cut --FICLONE--> clone of the image         every now and then

The cut blocks in a thread of its own, so that the clients go on: whatever they read meanwhile is no
promise.  Before each cut as many messages are acknowledged as there are clients, however slow the
machine is; then comes the pause, so that the cut is at no particular point of a session.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio

from faultinject.books import Books
from faultinject.client import Clients
from faultinject.power.records import Cut, Settings, answers, cut_of, letter, pauses
from faultinject.target import TargetError

#: How long so many messages may take; a server that stands still is cut off all the same.
FIRST_S: Final = 60.0
LOOK_S: Final = 0.01


@dataclass(slots=True, kw_only=True)
class Load:
    """One load.  cut: makes the clone of that number; keep: is handed what was sent by then."""

    settings: Settings
    seed: int
    address: tuple[str, int]
    cut: Callable[[int], object]
    keep: Callable[[Cut], None]
    books: Books = field(default_factory=Books)
    longest_cut_s: float = 0.0

    async def run(self) -> int:
        """How many messages were acknowledged.  Raises TargetError if none is."""
        random = Random(f"letters {self.seed}")  # noqa: S311
        clients = Clients(
            run=f"p{self.seed}", address=self.address, books=self.books,
            outbox=(letter(self.settings, random, number) for number in itertools.count()),
            random=Random(f"clients {self.seed}"),  # noqa: S311
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clients.send_all, self.settings.clients)
            await self._progress(clients, 0)
            if clients.acknowledged:
                await self._cut_all(clients)
            nursery.cancel_scope.cancel()
        if not clients.acknowledged:
            said = "; ".join(each.text for each in clients.findings[:3]) or "no reply"
            raise TargetError(f"it took no message in {FIRST_S:.0f} s: {said}")
        return clients.acknowledged

    async def _progress(self, clients: Clients, before: int) -> None:
        with trio.move_on_after(FIRST_S):
            while clients.acknowledged < before + self.settings.clients:
                await trio.sleep(LOOK_S)

    async def _cut_all(self, clients: Clients) -> None:
        random = Random(f"cuts {self.seed}")  # noqa: S311
        known = 0
        for number, pause_s in enumerate(pauses(self.settings, random)):
            await self._progress(clients, known)
            await trio.sleep(pause_s)
            before, begun_s = answers(self.books), time.time()
            await trio.to_thread.run_sync(self.cut, number)
            over_s, known = time.time(), clients.acknowledged
            self.keep(cut_of(number, self.books, before, begun_s, over_s))
            self.longest_cut_s = max(self.longest_cut_s, over_s - begun_s)
