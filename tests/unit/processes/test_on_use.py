"""What starts on first use: by whom, when, with what in its channels, and when not."""

from __future__ import annotations

import os
import signal
import socket

import pytest
import trio
from unit.processes.world import Child, World, of, world

from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import SocketChannel, adopt
from refmta.processes.compartment import ON_CALL
from refmta.wire.messages import Attach, Drain, Link, Ready, Route

LAZY = ("resolve", "remote")
QUESTION = Route(reference=1, recipient="ada@example.org")


def link_to(client: Child, server: str) -> socket.socket:
    """The client's end of its newest channel to a server."""
    detail = ON_CALL if server == "remote" else ""
    return socket.socket(fileno=os.dup(client.links[(server, detail)][-1]))


async def ask(client: Child, server: str = "resolve") -> Channel:
    """Use a channel for the first time."""
    if server == "resolve":
        channel = SocketChannel(link_to(client, server), border(client.name, server))
        channel.post(QUESTION)
    else:
        channel = SocketChannel(link_to(client, server), border("caller", "pool"))
        channel.post(Attach(), os.open(os.devnull, os.O_RDONLY))
    await channel.flush()
    return channel


async def starts(it: World, name: str) -> None:
    """Wait until it was asked for, with the clock jumping ahead."""
    with trio.fail_after(100):
        while f"start {name}" not in it.seen:
            await trio.sleep(0.05)
            await it.look()


async def broken(channel: Channel) -> bool:
    with trio.fail_after(20):
        try:
            await channel.receive()
        except ChannelBroken:
            channel.close()
            return True
    return False


async def test_the_server_serves_before_what_nobody_has_used_yet():
    async with world(lazy=LAZY) as it:
        await it.boot()
        assert {each.name for each in it.children} == {"enqueue", "qmgr"}
        assert "serving" in [each["event"] for each in it.events()]
        ports = sorted((e.port, e.detail) for e in of(it.living("qmgr"), Link))
        assert ports == [("enqueue", ""), ("remote", ON_CALL), ("resolve", "")]
        assert [row["compartment"] for row in await it.supervisor.operators.processes()][2:] == [
            "enqueue", "qmgr",
        ]  # fmt: skip


@pytest.mark.parametrize("name", LAZY)
async def test_the_first_use_starts_it_once_and_it_finds_what_was_said(name: str):
    async with world(lazy=LAZY) as it:
        await it.boot()
        channels = [await ask(it.living("qmgr"), name) for _ in range(2)]
        await it.look()
        assert it.seen == [f"start {name}"]
        started = it.living(name)
        ((port, detail),) = started.links
        assert (port, detail) == ("qmgr", ON_CALL if name == "remote" else "")
        side = border("pool", "caller") if name == "remote" else border(name, "qmgr")
        server = adopt(started.links.pop((port, detail))[0], side)
        items = await server.receive()
        assert [type(each.message) for each in items] == [type(items[0].message)] * len(items)
        for each in items:
            for descriptor in each.descriptors:
                os.close(descriptor)
        for each in (server, *channels):
            each.close()


async def test_a_client_that_dies_starts_nothing_and_what_it_said_is_dropped():
    async with world(lazy=LAZY) as it:
        await it.boot()
        await it.ends(it.living("qmgr"))
        assert it.seen == ["start qmgr"]
        await it.look()
        assert it.seen == ["start qmgr"]
        channel = await ask(it.living("qmgr"))  # its successor's channel works
        await it.look()
        assert it.seen == ["start qmgr", "start resolve"]
        assert len(it.living("resolve").links[("qmgr", "")]) == 1
        channel.close()


async def test_what_a_client_said_and_died_starts_nothing_when_its_death_is_known_first(
    autojump_clock,
):
    async with world(lazy=LAZY) as it:
        await it.boot()
        it.supervisor.on_use.rest("resolve", 1.0)
        channel = await ask(it.living("qmgr"))
        await it.ends(it.living("qmgr"))
        channel.close()
        await trio.sleep(60)
        await it.look()
        assert it.seen == ["start qmgr"]


async def test_a_channel_that_its_client_closes_starts_nothing():
    async with world(lazy=("resolve",)) as it:
        await it.boot()
        (descriptor,) = it.living("qmgr").links.pop(("resolve", ""))
        os.close(descriptor)
        await it.look()
        assert it.seen == []


async def test_after_its_death_it_starts_on_the_next_use_and_not_before(autojump_clock):
    async with world(lazy=LAZY) as it:
        await it.boot()
        first = await ask(it.living("qmgr"))
        await starts(it, "resolve")
        resolve = it.living("resolve")
        await resolve.say(Ready())
        it.seen.clear()
        await it.ends(resolve)
        assert await broken(first)
        await trio.sleep(60)
        await it.look()
        assert it.seen == []
        assert len(it.living("qmgr").links[("resolve", "")]) == 2
        second = await ask(it.living("qmgr"))
        await starts(it, "resolve")
        assert len(it.living("resolve").links[("qmgr", "")]) == 1
        second.close()


async def test_who_dies_at_each_use_is_started_with_growing_pauses(autojump_clock):
    async with world(lazy=LAZY) as it:
        await it.boot()
        pauses = []
        for _ in range(6):
            channel, begun = await ask(it.living("qmgr")), trio.current_time()
            await starts(it, "resolve")
            pauses.append(trio.current_time() - begun)
            it.seen.clear()
            await it.ends(it.living("resolve"), status=1 << 8)
            channel.close()
        assert pauses == sorted(pauses) and pauses[-1] > 1
        assert "throttled" in [each["event"] for each in it.events()]


async def test_who_ends_with_qmgr_is_reaped_before_the_next_one_and_then_waits_for_its_use():
    """An orphan could send what its successor sends, too; its callers' channels are new."""
    async with world(lazy=LAZY) as it:
        await it.boot()
        channel = await ask(it.living("qmgr"), "remote")
        await it.look()
        remote = it.living("remote")
        it.seen.clear()
        await it.ends(it.living("qmgr"))
        assert it.seen == [f"kill {remote.token} 9"]
        await it.ends(remote)
        assert it.seen[1:] == ["start qmgr"]
        channel.close()
        again = await ask(it.living("qmgr"), "remote")
        await it.look()
        assert it.seen[1:] == ["start qmgr", "start remote"]
        again.close()


async def test_a_spawner_that_refuses_breaks_the_channel_and_the_next_use_tries_again():
    async with world(lazy=LAZY) as it:
        await it.boot()
        channel = await ask(it.living("qmgr"))
        await it.look()
        await it.refuse(it.living("resolve"), "no more processes")
        assert await broken(channel)
        again = await ask(it.living("qmgr"))
        await it.look()
        assert it.seen == ["start resolve", "start resolve"]
        again.close()


# -- stopping -------------------------------------------------------------------------------------


async def drained(it: World) -> trio.Event:
    done = trio.Event()

    async def drain() -> None:
        await it.supervisor.drain()
        done.set()

    it.nursery.start_soon(drain)
    await it.look()
    return done


async def test_draining_waits_for_nobody_who_never_ran():
    async with world(lazy=LAZY) as it:
        await it.boot()
        done = await drained(it)
        for name in ("enqueue", "qmgr"):
            await it.ends(it.living(name), status=0)
        await done.wait()
        assert it.seen == []


async def test_when_its_turn_to_drain_has_come_it_is_hung_up_and_starts_no_more():
    async with world(lazy=LAZY, draining=("resolve", "enqueue", "qmgr", "remote")) as it:
        await it.boot()
        never = SocketChannel(link_to(it.living("qmgr"), "resolve"), border("qmgr", "resolve"))
        done = await drained(it)
        assert await broken(never)  # its client lives on, and can see it
        await it.ends(it.living("enqueue"), status=0)
        await it.ends(it.living("qmgr"), status=0)
        await done.wait()
        assert it.seen == []


async def test_while_others_drain_a_use_still_starts_it_and_it_drains_in_its_turn():
    """Whoever drains before it may need it to finish."""
    async with world(lazy=LAZY) as it:
        await it.boot()
        done = await drained(it)
        channel = await ask(it.living("qmgr"))
        await it.look()
        assert it.seen == ["start resolve"]
        resolve = it.living("resolve")
        await it.ends(it.living("enqueue"), status=0)
        assert not of(resolve, Drain)
        await it.ends(it.living("qmgr"), status=0)
        assert of(resolve, Drain) and not done.is_set()
        await it.ends(resolve, status=0)
        await done.wait()
        channel.close()


async def test_who_dies_while_all_drain_is_not_waited_for():
    async with world(lazy=LAZY) as it:
        await it.boot()
        channel = await ask(it.living("qmgr"))
        await it.look()
        done = await drained(it)
        await it.ends(it.living("resolve"), status=signal.SIGKILL)
        assert await broken(channel)
        await it.ends(it.living("enqueue"), status=0)
        await it.ends(it.living("qmgr"), status=0)
        await done.wait()
        assert it.seen == ["start resolve"]
