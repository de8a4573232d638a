"""A pool's worker, without processes: it hears its parent while it serves.

Control: a worker that keeps what it hears for its next session.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes import worker
from refmta.processes.channels import socket_channels
from refmta.wire.messages import Idle, Session, Stress
from specs.kernel.mutant import hits, mutate

CLIENT = Session(client="192.0.2.1", port=1)


@dataclass
class Talk:
    """A session that lasts until it is told to end."""

    pressed: list[bool] = field(default_factory=list)
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
