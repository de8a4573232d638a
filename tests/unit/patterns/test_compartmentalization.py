"""What a role has: its slice, its ports, its orders; nothing of another's."""

from __future__ import annotations

import msgspec
import pytest
import trio

from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import border
from refmta.processes.channels import local_channels
from refmta.wire.messages import AgentRefused, Message, Ready


class Slice(msgspec.Struct, frozen=True):
    limit: int


def test_a_role_reads_its_own_slice_and_no_other():
    context = Context(slices={"qmgr": msgspec.msgpack.encode(Slice(7))})
    assert context.slice("qmgr", Slice) == Slice(7)
    with pytest.raises(KeyError):
        context.slice("enqueue", Slice)


def test_a_slice_of_another_form_is_refused():
    context = Context(slices={"qmgr": msgspec.msgpack.encode({"limit": "many"})})
    with pytest.raises(msgspec.ValidationError):
        context.slice("qmgr", Slice)


async def test_links_are_taken_oldest_first_whoever_asks_first():
    context = Context(slices={})
    ends = [local_channels(border("qmgr", "resolve")) for _ in range(3)]
    links = [Linked(near, str(place)) for place, (near, _) in enumerate(ends)]
    context.port("resolve").put(links[0])
    assert await context.port("resolve").get() is links[0]
    found: list[Linked] = []
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            found.append(await context.port("resolve").get())
            found.append(await context.port("resolve").get())

        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        context.port("local").put(links[0])  # another port
        for each in links[1:]:
            context.port("resolve").put(each)
    assert found == links[1:]


async def test_a_role_tells_its_supervisor_and_hears_its_orders():
    said: list[Message] = []
    context = Context(slices={}, say=said.append)
    context.ready()
    assert said == [Ready()]
    order = AgentRefused(user="ada", text="no")
    context.order(order)
    assert await context.orders().receive() == order
    assert not context.draining.is_set()
