"""Stories in town: events one after the other, played to the end of every lifetime.

An event is the name of one of Story's methods, with its arguments. `tell` plays them in trio's loop
on a mock clock that jumps to whatever is due next, so that days cost as much as what happens in
them; the loop's own choices are seeded by pytest-trio and Hypothesis.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import trio
from refinement.ledger import HOSTS, HOUR_S, STEP_S, Ledger
from refinement.machines import Broken, hold
from refinement.town import Town, close_below
from trio.testing import MockClock

from refmta.wire import messages as wire

Event = tuple[str, tuple[Any, ...], dict[str, Any]]


class Story:
    """What a test tells: each call is one event in town."""

    def __init__(self, town: Town, nursery: trio.Nursery) -> None:
        self.town, self.nursery = town, nursery
        self.number = 0

    async def mail(
        self, *addresses: str, null: bool = False, copies: int = 1, each: bool = False
    ) -> None:
        """So many equal messages, or (`each`) one for each address; announced together."""
        names = []
        for to in [(address,) for address in addresses] if each else [addresses]:
            for _ in range(copies):
                self.number += 1
                names.append(self.town.submit(f"m{self.number}", to, null=null))
        await self.town.announce(*names)

    async def weather(self, place: str, weather: str) -> None:
        town = self.town
        if weather != "fair":
            town.fair_since[place] = float("inf")
        elif town.weather[place] != "fair":
            town.fair_since[place] = trio.current_time()
        if town.weather[place] == "away":
            town.fair_since.update(dict.fromkeys(HOSTS, trio.current_time()))
        town.weather[place] = weather
        if weather == "away" and place in HOSTS:
            self.nursery.start_soon(self._hour, self.weather, place, "fair")

    async def reporter(self, weather: str) -> None:
        self.town.reporter = weather
        self.town.uneasy_s = trio.current_time()
        if weather != "fair":
            self.nursery.start_soon(self._hour, self.reporter, "fair")

    async def _hour(self, after: Any, *arguments: str) -> None:
        await trio.sleep(HOUR_S)
        await after(*arguments)

    async def wait(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.town.judge()

    async def kill(self, *, power: bool = False, seed: int = 0) -> None:
        await self.town.kill()
        if power:
            self.town.chance = Random(seed)
            self.town.cut_power()
        self.town.judge()
        await self.nursery.start(self.town.live)

    async def retry(self) -> None:
        """The operator wants everything tried now."""
        self.town.context.order(wire.Ask(reference=1, verb="retry"))

    async def end(self) -> None:
        """Until every lifetime is over, and the queue with it."""
        await self.reporter("fair")
        await self.wait(self.town.lifetime_s + STEP_S + 60)
        hold("ends_in_time", not self.town.queued(), self.town.queued())
        self.town.nursery.cancel_scope.cancel()


def tell(role: Any, events: Iterable[Event], **config: Any) -> Ledger:
    """Play a story to its end. Raises what was raised first, without the nurseries around it."""
    spool = Path(tempfile.mkdtemp(prefix="refmta-town-"))
    try:
        return _tell(Town(spool, role, **config), events)
    except BaseExceptionGroup as group:
        raise next(leaves(group)) from None
    finally:
        close_below(spool)
        shutil.rmtree(spool)


def _tell(town: Town, events: Iterable[Event]) -> Ledger:
    async def play() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(town.live)
            story = Story(town, nursery)
            for name, arguments, options in events:
                await getattr(story, name)(*arguments, **options)
            await story.end()
            nursery.cancel_scope.cancel()

    trio.run(play, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
    return town.ledger


def broken_in(role: Any, events: Iterable[Event], **config: Any) -> str:
    """The invariant that a story breaks, or nothing."""
    try:
        tell(role, events, **config)
    except Broken as broken:
        return broken.invariant
    return ""


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error
