"""A pool's worker, without processes: it hears its parent while it serves.

Controls: a worker that keeps what it hears for its next session, one that does not wait for what
it began, one that stays who it is.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import msgspec
import pytest
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes import worker
from refmta.processes.channels import socket_channels
from refmta.processes.entries import Member
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.stores.recipients import Identity, Known, Recipients
from refmta.wire.messages import Busy, Configure, Idle, Link, Session, Stress
from specs.kernel.mutant import hits, mutate

CLIENT = Session(client="192.0.2.1", port=1)


@dataclass
class Talk:
    """A session that lasts until it is told to end."""

    pressed: list[bool] = field(default_factory=list)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    drained: bool = False
    clean: bool = True
    over: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        await self.over.wait()

    def drain(self) -> None:
        self.drained = True

    def press(self, stressed: bool) -> None:
        self.pressed.append(stressed)


@dataclass
class World:
    """A worker, its parent's end, and its sessions."""

    parent: Channel
    talks: list[Talk]
    ended: trio.Event = field(default_factory=trio.Event)

    async def say(self, message: Any, *descriptors: int) -> None:
        self.parent.post(message, *descriptors)
        await self.parent.flush()
        await trio.testing.wait_all_tasks_blocked()

    async def session(self) -> Talk:
        near, far = socket.socketpair()
        far.close()
        await self.say(CLIENT, near.detach())
        return self.talks[-1]

    async def idle(self) -> None:
        items = await self.parent.receive()
        assert [each.message for each in items] == [Idle()]


@asynccontextmanager
async def working(module: ModuleType = worker) -> AsyncIterator[World]:
    parent, control = socket_channels(border("pool", "worker"))
    talks: list[Talk] = []

    def converse(connection: socket.socket, *_: object) -> Talk:
        connection.close()
        talks.append(Talk())
        return talks[-1]

    world = World(parent, talks)
    pooled = module.Pooled(role="smtpd", converse=converse)
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            await module.work(pooled, b"", control)
            world.ended.set()

        nursery.start_soon(work)
        yield world
        nursery.cancel_scope.cancel()
    parent.close()
    control.close()


async def stress_reaches_who_is_served(module: ModuleType) -> bool:
    async with working(module) as it:
        talk = await it.session()
        before = list(talk.pressed)
        await it.say(Stress(on=True))
        await it.say(Stress(on=False))
        return before == [False] and talk.pressed == [False, True, False]


async def test_stress_reaches_a_session_that_runs():
    assert await stress_reaches_who_is_served(worker)


async def test_control_a_worker_that_tells_only_its_next_session():
    told_later = "        if self.client is not None:\n            self.client.press(stressed)\n"
    deaf = mutate(worker.__name__, [(told_later, "        __mutant_ran__()\n")])
    assert not await stress_reaches_who_is_served(deaf)
    assert hits(deaf) > 0


async def test_stress_that_began_before_is_the_next_sessions_too():
    async with working() as it:
        await it.say(Stress(on=True))
        first = await it.session()
        assert first.pressed == [True]
        first.over.set()
        await it.idle()
        await it.say(Stress(on=False))
        second = await it.session()
        assert second.pressed == [False] and first.pressed == [True]


async def test_one_session_after_the_other():
    async with working() as it:
        for _ in range(3):
            talk = await it.session()
            talk.over.set()
            await it.idle()
        assert len(it.talks) == 3


async def test_two_sessions_at_once_end_the_worker_after_the_first():
    """The parent's claim, checked at the other end, too."""
    async with working() as it:
        talk = await it.session()
        assert await it.session() is talk
        talk.over.set()
        with trio.fail_after(10):
            await it.ended.wait()
        assert len(it.talks) == 1


async def test_a_session_under_way_is_finished_when_the_parent_wants_no_more():
    async with working() as it:
        talk = await it.session()
        it.parent.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not it.ended.is_set()
        talk.over.set()
        with trio.fail_after(10):
            await it.ended.wait()


async def test_after_an_unclean_session_there_is_no_other():
    async with working() as it:
        talk = await it.session()
        talk.clean = False
        talk.over.set()
        with trio.fail_after(10):
            await it.ended.wait()
        with pytest.raises(ChannelBroken):
            it.parent.close()
            await it.parent.receive()


# -- a worker that is more than its session -------------------------------------------------------


@dataclass
class Behind:
    """A role that stands by: the session's channels to it, and whether it has work left."""

    context: Context | None = None
    idle: bool = False
    over: bool = False

    async def run(self, context: Context, _: Journal) -> None:
        self.context = context
        context.settled_if(lambda: self.idle)
        context.ready()
        await context.draining.wait()
        self.over = True


@asynccontextmanager
async def whole(module: ModuleType = worker) -> AsyncIterator[tuple[World, Behind]]:
    """A worker with another role behind its session."""
    parent, control = socket_channels(border("pool", "worker"))
    talks: list[Talk] = []
    behind = Behind()

    def converse(
        connection: socket.socket, _client: str, _slice: bytes, channels: Mapping[str, Channel],
        *_: object,
    ) -> Talk:  # fmt: skip
        connection.close()
        talks.append(Talk(channels=channels))
        return talks[-1]

    world = World(parent, talks)
    pooled = module.Pooled(
        role="smtpd", converse=converse, within=(("smtpd", "enqueue"),),
        standby=(Member(role="enqueue", run=behind.run),),
    )  # fmt: skip
    async with trio.open_nursery() as nursery:

        async def work() -> None:
            await module.work(pooled, b"", control)
            world.ended.set()

        nursery.start_soon(work)
        await world.say(Configure(role="enqueue", slice=b"its own"))
        yield world, behind
        nursery.cancel_scope.cancel()
    parent.close()
    control.close()


async def waits_until_it_is_settled(module: ModuleType) -> bool:
    async with whole(module) as (it, behind):
        talk = await it.session()
        talk.over.set()
        said: list[object] = []
        with trio.move_on_after(1):
            said += [each.message for each in await it.parent.receive()]
        if said:
            return False
        behind.idle = True
        await it.idle()
        return True


async def test_a_session_is_over_when_what_it_began_is_settled():
    assert await waits_until_it_is_settled(worker)


async def test_control_a_worker_whose_session_is_over_at_its_end():
    passage = "            await self.within.settled(self.draining)\n"
    hasty = mutate(worker.__name__, [(passage, "            __mutant_ran__()\n")])
    assert not await waits_until_it_is_settled(hasty)
    assert hits(hasty) > 0


async def test_a_worker_that_is_retired_first_settles_and_drains_what_is_behind():
    async with whole() as (it, behind):
        talk = await it.session()
        it.parent.close()
        talk.clean = False
        talk.over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not it.ended.is_set() and not behind.over
        behind.idle = True
        with trio.fail_after(10):
            await it.ended.wait()
        assert behind.over


async def test_each_session_has_channels_of_its_own_to_who_is_behind():
    async with whole() as (it, behind):
        behind.idle = True
        for _ in range(2):
            talk = await it.session()
            assert behind.context is not None and set(talk.channels) == {"enqueue"}
            with trio.fail_after(10):
                linked = await behind.context.port("smtpd").get()
            talk.over.set()
            await it.idle()
            with pytest.raises(ChannelBroken):
                await linked.channel.receive()


async def test_a_slice_for_a_role_that_is_not_here_ends_the_worker():
    async with whole() as (it, behind):
        behind.idle = True
        await it.say(Configure(role="qmgr", slice=b""))
        with trio.fail_after(10):
            await it.ended.wait()


# -- terms that are the worker's own to keep ------------------------------------------------------


def terms(**changes: Any) -> Configure:
    return Configure(role=POOL, slice=msgspec.msgpack.encode(PoolSlice(rules=Rules(), **changes)))


async def test_a_worker_that_accepts_says_so_and_ends_when_it_is_used_up():
    async with working() as it:
        await it.say(terms(shared=True, uses=2))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            await it.say(Link(role="smtpd", port="listener"), os.dup(listener.fileno()))
        for number in (1, 2):
            with socket.create_connection(address, 5), trio.fail_after(10):
                heard = [each.message for each in await it.parent.receive()]
                await trio.testing.wait_all_tasks_blocked()
            assert heard == [Busy(client="127.0.0.1")] and len(it.talks) == number
            it.talks[-1].over.set()
            await it.idle()
        with trio.fail_after(10):
            await it.ended.wait()


@pytest.mark.parametrize("told", ["the parent is gone", "terminated"])
async def test_a_worker_that_accepts_ends_when_it_is_told(told: str):
    async with working() as it:
        await it.say(terms(shared=True))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await it.say(Link(role="smtpd", port="listener"), os.dup(listener.fileno()))
        if told == "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            it.parent.close()
        with trio.fail_after(10):
            await it.ended.wait()


async def becomes(module: ModuleType, user: str) -> tuple[list[str], bool]:
    """Whom a worker has become, and whether there was a session."""
    became: list[str] = []

    def settle(identity: Identity, _parent: int) -> None:
        became.append(identity.home)

    with mock.patch.object(module.spawner, "settle", settle):
        async with working(module) as it:
            recipients = Recipients(users={"ada": Known(1, 1, "/home/ada")}, rootless=True)
            await it.say(terms(becomes=recipients))
            near, far = socket.socketpair()
            far.close()
            await it.say(Session(client="qmgr", port=0, detail=user), near.detach())
            if it.talks:
                it.talks[-1].over.set()
                await it.idle()
            else:
                with trio.fail_after(10):
                    await it.ended.wait()
            return became, bool(it.talks)


async def test_a_worker_becomes_whom_its_session_is_for_and_refuses_others():
    assert await becomes(worker, "ada") == (["/home/ada"], True)
    assert await becomes(worker, "nobody-of-that-name") == ([], False)


async def test_control_a_worker_that_stays_who_it_is():
    passage = "            self._become(session.detail, self.becomes, descriptor)\n"
    lazy = mutate(worker.__name__, [(passage, "            __mutant_ran__()\n")])
    assert await becomes(lazy, "nobody-of-that-name") == ([], True)
    assert hits(lazy) > 0
