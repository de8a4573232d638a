"""What runs in a compartment: takes its channel to the supervisor, and runs its roles on it.

The supervisor sends each role's slice of the configuration, then links; the roles start when their
slices are there (`processes.within`).  When the supervisor is gone the compartment ends at once:
another generation starts, and two must not work on the same mail.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Iterable

import trio

from refmta.journal import journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border, close_all
from refmta.processes.calls import ON_CALL, POOLED, TRACE
from refmta.processes.channels import adopt
from refmta.processes.entries import Member
from refmta.processes.groups import leaf
from refmta.processes.spawner import CHANNEL
from refmta.processes.within import Within
from refmta.wire.messages import Configure, Drain, Link, Message

__all__ = ["ON_CALL", "POOLED", "TRACE", "Compartment", "main", "report"]


class Compartment:
    """The roles of one process, and its supervisor."""

    def __init__(
        self,
        members: Iterable[Member],
        supervisor: Channel,
        talks: Iterable[tuple[str, str]] = (),
    ) -> None:
        """talks: which of its roles talk to each other, client first."""
        self._members = tuple(members)
        self._talks = tuple(talks)
        self._supervisor = supervisor
        self._said = trio.Event()

    async def run(self) -> None:
        """Until every role has drained, or the supervisor is gone."""
        async with trio.open_nursery() as nursery:
            within = Within(self._members, self._talks, nursery, self._say)
            nursery.start_soon(self._speak)
            nursery.start_soon(self._hear_all, within, nursery)
            await within.ended.wait()
            nursery.cancel_scope.cancel()

    async def _hear_all(self, within: Within, nursery: trio.Nursery) -> None:
        try:
            while True:
                for item in await self._supervisor.receive():
                    if item.message is not None:
                        self._hear(item.message, item.descriptors, within, nursery)
        except ChannelBroken:
            nursery.cancel_scope.cancel()

    def _hear(
        self,
        message: Message,
        descriptors: tuple[int, ...],
        within: Within,
        nursery: trio.Nursery,
    ) -> None:
        match message:
            case Configure():
                within.configure(message.role, message.slice)
            case Link():
                within.link(message, descriptors[0])
            case Drain():
                nursery.start_soon(within.drain)
            case _:
                close_all(descriptors)
                within.order(message)

    def _say(self, message: Message) -> None:
        self._supervisor.post(message)
        self._said.set()

    async def _speak(self) -> None:
        while True:
            await self._said.wait()
            self._said = trio.Event()
            try:
                await self._supervisor.flush()
            except ChannelBroken:
                return  # `_hear_all` sees it, too


def main(members: Iterable[Member], talks: Iterable[tuple[str, str]] = ()) -> None:
    """Run a compartment on descriptor 3.  Ends the process with 0 when drained."""
    members = tuple(members)

    async def enter() -> None:
        supervisor = adopt(CHANNEL, border("compartment", "supervisor"))
        await Compartment(members, supervisor, talks).run()

    gc.freeze()  # what was imported is not garbage: collections get shorter
    report(" ".join(each.role for each in members), lambda: trio.run(enter))


def report(name: str, action: Callable[[], object]) -> None:
    """Run a process's program; its failure is one line of the journal, and exit code 1.

    The environment's faults (a disk, a missing directory) are named; anything else is a defect of
    ours and brings its traceback.
    """
    log = journal(name, terminal=os.isatty(2))
    try:
        try:
            action()
        except BaseExceptionGroup as group:
            raise leaf(group) from None
    except OSError as error:
        log.critical("cannot work", path=error.filename, reason=os.strerror(error.errno or 0))
        raise SystemExit(1) from None
    except Exception as error:
        log.critical("defect", reason=repr(error), traceback=traceback.format_exc(limit=-6))
        raise SystemExit(1) from None
