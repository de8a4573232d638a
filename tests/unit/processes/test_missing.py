"""What is missing is said at the start, every hour, and by the supervisor's row of `ps`."""

from __future__ import annotations

from typing import Any

import trio
from unit.processes.world import World, world

from refmta.processes.supervisor import REMIND_S

MISSING = {"landlock": "no such system call", "users": "started without root"}


def said(it: World) -> list[tuple[Any, Any]]:
    return [(e["layer"], e["reason"]) for e in it.events() if e["event"] == "layer missing"]


async def test_each_layer_is_said_once_at_the_start_and_again_every_hour(
    autojump_clock: trio.testing.MockClock,
):
    async with world(missing=MISSING) as it:
        await it.boot()
        assert said(it) == [*MISSING.items()]
        assert all(e["level"] == "warning" for e in it.events() if e["event"] == "layer missing")
        await trio.sleep(1)
        for hours in (1, 2, 3):
            await trio.sleep(REMIND_S - 2)
            assert len(said(it)) == 2 * hours
            await trio.sleep(2)
            assert len(said(it)) == 2 * (hours + 1)


async def test_where_nothing_is_missing_nothing_is_said(autojump_clock: trio.testing.MockClock):
    async with world() as it:
        await it.boot()
        await trio.sleep(10 * REMIND_S)
        assert said(it) == []


async def test_the_supervisors_row_tells_the_architecture_and_what_is_missing():
    for missing in (MISSING, {}):
        async with world(missing=missing) as it:
            await it.boot()
            _, row, *others = await it.supervisor.operators.processes()
            assert (row["architecture"], row["missing"]) == ("test", missing)
            assert not any("missing" in each for each in others)
