"""qmgr: alone decides when a message is tried, by whom, and what its outcome means.

Theory: `protocol.delivery` decides what an event means for one message, `protocol.destinations`
how much goes where at once; this package brings the events and carries out the effects.

    enqueue --Arrived--> incoming --load--> active --Route--> resolve
                                              |<--targets-----'
                                              |--Deliver + descriptor--> agent of the user
                                              |<--Outcome--------------'
                                              |--Relay + descriptor----> worker for the destination
                                              |<--Relayed--------------'
                                              |--Report + descriptor---> bounce --> enqueue
                                              |<--Reported-------------'
                                              '--marks, unlink--> [queue]

    queue      messages: loaded, advanced, put to rest, freed; time
    routes     questions to resolve            agents     local delivery
    relays     remote delivery                 reports    who is told of failures and delays
    operator   commands                        view       what the operator sees of a message

Each wake-up handles all that has arrived and writes once per channel.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.roles.qmgr.agents import Agents
from refmta.roles.qmgr.operator import Operator
from refmta.roles.qmgr.queue import Queue
from refmta.roles.qmgr.relays import Relays
from refmta.roles.qmgr.state import Slice
from refmta.stores.disk import PosixDisk
from refmta.wire import messages as wire

__all__ = ["Slice", "run"]


async def run(
    context: Context,
    journal: Journal,
    *,
    wall: Callable[[], float] = time.time,
    chance: random.Random | None = None,
) -> None:
    """The role: deliver until drained.  Raises OSError if there is no spool.

    wall: the time of day.  chance: of what needs no secrecy, such as pauses.
    """
    config = context.slice("qmgr", Slice)
    queue = Queue(
        disk=PosixDisk(config.spool),
        config=config,
        journal=journal,
        wall=wall,
        trace=context.trace,
        ask_supervisor=context.say,
    )
    async with trio.open_nursery() as nursery:
        agents = Agents(queue)
        relays = Relays(queue, nursery, context.call, chance or random.Random())  # noqa: S311
        queue.carriers.update(system=agents, virtual=agents, remote=relays)
        follow = {
            "enqueue": lambda channel, _detail: _follow_enqueue(queue, channel),
            "resolve": lambda channel, _detail: queue.routes.follow(channel),
            "bounce": lambda channel, _detail: queue.reports.follow(channel),
            "local": lambda channel, detail: agents.follow(detail, channel),
        }
        for port, action in follow.items():
            nursery.start_soon(_accept, context, port, action, nursery)
        nursery.start_soon(_obey, context, Operator(queue, relays), agents)
        nursery.start_soon(queue.keep_time)
        context.ready()
        await context.draining.wait()
        queue.draining = True
        relays.hurry()
        await queue.flush()
        while agents.flying() or relays.flying() or queue.reports.flying():
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def _follow_enqueue(queue: Queue, channel: Channel) -> None:
    """Take note of what becomes durable."""
    try:
        while True:
            for item in await channel.receive():
                if isinstance(item.message, wire.Arrived):
                    queue.arrived(item.message.queue_ids)
            await queue.proceed()
    except ChannelBroken:
        channel.close()


async def _accept(
    context: Context,
    port: str,
    follow: Callable[[Channel, str], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    while True:
        linked = await context.port(port).get()
        nursery.start_soon(follow, linked.channel, linked.detail)


async def _obey(context: Context, operator: Operator, agents: Agents) -> None:
    """What the supervisor says: refused agents, and the operator's commands."""
    async for message in context.orders():
        match message:
            case wire.AgentRefused():
                agents.refused(message)
            case wire.Ask(verb="list" | "show") as ask:
                await operator.answer(context, ask)
            case wire.Ask() as ask:
                error = operator.command(ask)
                context.say(wire.Answer(reference=ask.reference, error=error, document=b""))
        await operator.queue.proceed()
