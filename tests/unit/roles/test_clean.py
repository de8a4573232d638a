"""clean on every carrier: it removes what it is told, and says what it could not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.carriers import adopt
from refmta.processes.channels import local_channels, socket_pair
from refmta.roles import clean
from refmta.wire.messages import Cleanse, Cleansed, Message

ID = "06H06TY2DFR20W5S"
OTHER = "06H06TY2DFR20W5T"


class Notes:
    """A journal that keeps its events."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append({"event": event, **fields})

    warning = error = critical = info


def channels(carrier: str) -> tuple[Channel, Channel]:
    side = border("qmgr", "clean")
    if carrier == "local":
        return local_channels(side)
    one, other = socket_pair()
    return adopt(carrier, one.detach(), side), adopt(carrier, other.detach(), side.turned())


@asynccontextmanager
async def cleaner(spool: Path, carrier: str) -> AsyncIterator[tuple[Channel, Notes]]:
    """clean at work, and a channel to it."""
    config = clean.Slice(spool=str(spool))
    context = Context(slices={"clean": msgspec.msgpack.encode(config)})
    notes = Notes()
    near, far = channels(carrier)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean.run, context, notes)
        context.port("qmgr").put(Linked(far))
        yield near, notes
        near.close()
        context.draining.set()
    far.close()


def a_queue(spool: Path) -> set[str]:
    for part in ("mess", "intd", "todo", "info"):
        (spool / part).mkdir()
        for name in (ID, OTHER):
            (spool / part / name).write_bytes(b"x")
    return there(spool)


def there(spool: Path) -> set[str]:
    return {f"{each.parent.name}/{each.name}" for each in spool.glob("*/*")}


@pytest.mark.parametrize("carrier", ["frames", "local", "qmail"])
async def test_clean_removes_what_it_is_told_and_nothing_else(tmp_path: Path, carrier: str):
    whole = a_queue(tmp_path)
    async with cleaner(tmp_path, carrier) as (channel, _):
        for reference, verb, rest in (
            (5, "todo", whole - {f"intd/{ID}", f"todo/{ID}"}),
            (9, "foop", whole - {f"intd/{ID}", f"todo/{ID}", f"mess/{ID}"}),
            (9, "foop", whole - {f"intd/{ID}", f"todo/{ID}", f"mess/{ID}"}),
        ):
            channel.post(Cleanse(reference=reference, queue_id=ID, verb=verb))
            await channel.flush()
            (item,) = await channel.receive()
            assert item.message == Cleansed(reference=reference, done=True)
            assert there(tmp_path) == rest


@pytest.mark.parametrize("carrier", ["frames", "local", "qmail"])
async def test_clean_says_what_it_could_not_remove(tmp_path: Path, carrier: str):
    a_queue(tmp_path)
    (tmp_path / "intd" / ID).unlink()
    (tmp_path / "intd" / ID).mkdir()
    async with cleaner(tmp_path, carrier) as (channel, notes):
        channel.post(Cleanse(reference=1, queue_id=ID))
        channel.post(Cleanse(reference=2, queue_id=OTHER))
        await channel.flush()
        found: list[Message | None] = []
        while len(found) < 2:
            found += [item.message for item in await channel.receive()]
        assert found == [Cleansed(reference=1, done=False), Cleansed(reference=2, done=True)]
    assert there(tmp_path) == {f"intd/{ID}", f"mess/{ID}", f"info/{ID}", f"info/{OTHER}"}
    assert [each["path"] for each in notes.events] == [f"{tmp_path}/intd/{ID}"]


async def test_clean_serves_the_next_qmgr(tmp_path: Path):
    a_queue(tmp_path)
    context = Context(slices={"clean": msgspec.msgpack.encode(clean.Slice(spool=str(tmp_path)))})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clean.run, context, Notes())
        for name in (ID, OTHER):
            near, far = channels("qmail")
            context.port("qmgr").put(Linked(far))
            near.post(Cleanse(reference=1, queue_id=name))
            await near.flush()
            assert [each.message for each in await near.receive()] == [
                Cleansed(reference=1, done=True)
            ]
            near.close()
            await trio.testing.wait_all_tasks_blocked()
        context.draining.set()
    assert there(tmp_path) == {f"info/{ID}", f"info/{OTHER}"}
