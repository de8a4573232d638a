"""qmgr: alone decides when a message is tried, by whom, and what its outcome means.

Theory: `protocol.delivery` decides what an event means for one message, `protocol.destinations`
how much goes where at once; this package brings the events and carries out the effects.

    enqueue --Arrived--> incoming --load--> active --Route--> resolve
            (Register)
                                              |<--targets-----'
                                              |--Deliver + descriptor--> agent of the user
                                              |<--Outcome--------------'
                                              |--Relay + descriptor----> worker for the destination
                                              |<--Relayed--------------'
                                              |--Report + descriptor---> bounce --> enqueue
                                              |<--Reported-------------'
                                              '--marks, unlink--> [queue]

    intake     how messages become known: enqueue, recovery, scans
    queue      messages: loaded, advanced, put to rest, freed; time
    routes     questions to resolve            agents     local delivery
    relays     remote delivery                 reports    who is told of failures and delays
    operator   commands                        view       what the operator sees of a message
    cleaning   what another role removes

Each wake-up handles all that has arrived and writes once per channel.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel
from refmta.roles.qmgr.agents import Agents
from refmta.roles.qmgr.operator import Operator
from refmta.roles.qmgr.queue import Queue
from refmta.roles.qmgr.relays import Relays
from refmta.roles.qmgr.state import JOBS, RECIPIENTS, Slice
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import open_queue
from refmta.wire import messages as wire

__all__ = ["JOBS", "RECIPIENTS", "Slice", "run"]


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

    def clean(queue_id: str, verb: Literal["foop", "todo"]) -> None:
        queue.cleaning.ask(queue_id, verb)

    disk, cleaner = PosixDisk(config.spool), clean if config.cleaned else None
    queue = Queue(
        store=open_queue(config.store, disk, config.options, cleaner),
        config=config,
        journal=journal,
        wall=wall,
        trace=context.trace,
        ask_supervisor=context.say,
    )
    context.settled_if(queue.settled)
    async with trio.open_nursery() as nursery:
        if config.keeps:
            await queue.intake.recover()
        agents = Agents(queue, nursery, context.call)
        relays = Relays(queue, nursery, context.call, chance or random.Random())  # noqa: S311
        queue.carriers.update(system=agents, virtual=agents, remote=relays)
        follow = {
            "enqueue": lambda channel, _detail: queue.intake.follow(channel),
            "resolve": lambda channel, _detail: queue.routes.follow(channel),
            "bounce": lambda channel, _detail: queue.reports.follow(channel),
            "clean": lambda channel, _detail: queue.cleaning.follow(channel),
            "local": lambda channel, detail: agents.follow(detail, channel),
            "lmtpc": lambda channel, detail: agents.follow(detail, channel),
        }
        if config.agents == "called":  # as relays are; who listens for a link is offered a call
            del follow["local"], follow["lmtpc"]
        for port, action in follow.items():
            nursery.start_soon(_accept, context, port, action, nursery)
        nursery.start_soon(_obey, context, Operator(queue, relays), agents)
        nursery.start_soon(queue.keep_time)
        nursery.start_soon(queue.intake.log_groups)
        if config.scan_s:
            nursery.start_soon(queue.intake.scan_for_ever, config.scan_s)
        context.ready()
        await context.draining.wait()
        queue.draining = True
        relays.hurry()
        await queue.flush()
        while agents.flying() or relays.flying() or queue.unanswered():
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


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
