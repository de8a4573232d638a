"""What runs in a compartment: takes its channel to the supervisor, and runs its roles on it.

The supervisor sends each role's slice of the configuration, then links; the role starts when its
slice is there.  When the supervisor is gone the compartment ends at once: another generation
starts, and two must not work on the same mail.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from refmta.journal import Journal, journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Border, Channel, ChannelBroken, border
from refmta.processes.calls import Switchboard
from refmta.processes.channels import adopt
from refmta.processes.spawner import CHANNEL
from refmta.trace import Emit, Trace, silent
from refmta.wire.messages import Attach, Configure, Drain, Link, Message

Run = Callable[[Context, Journal], Awaitable[None]]
#: What a link's detail says of a client whose workers are introduced one by one, and of a server
#: whose workers are called (`processes.pool`).  No user's name has a space in it.
POOLED = "by introduction"
ON_CALL = "on call"
#: The port of the trace's descriptor: it comes first, and is for all roles of the process.
TRACE = "trace"


class Compartment:
    """The roles of one process and their contexts."""

    def __init__(self, runs: Mapping[str, Run], supervisor: Channel) -> None:
        self._runs = runs
        self._supervisor = supervisor
        self._contexts: dict[str, Context] = {}
        self._said = trio.Event()
        self._running = 0
        self._trace: Emit = silent

    async def run(self) -> None:
        """Until every role has drained, or the supervisor is gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            calls = Switchboard(nursery)
            try:
                while True:
                    for item in await self._supervisor.receive():
                        if item.message is not None:
                            self._hear(item.message, item.descriptors, nursery, calls)
            except ChannelBroken:
                nursery.cancel_scope.cancel()

    def _hear(
        self,
        message: Message,
        descriptors: tuple[int, ...],
        nursery: trio.Nursery,
        calls: Switchboard,
    ) -> None:
        match message:
            case Configure(role=role) if role in self._runs:
                context = self._contexts[role] = Context(
                    slices={role: message.slice},
                    say=self._say,
                    call=partial(calls.call, role),
                    trace=self._trace,
                )
                self._running += 1
                nursery.start_soon(self._run_role, role, context, nursery)
            case Link() if message.port == TRACE and message.role in self._runs:
                self._trace = Trace(descriptors[0])
            case Link() if message.detail == ON_CALL and message.role in self._contexts:
                line = adopt(descriptors[0], border("caller", "pool"))
                calls.connect(message.role, message.port, line)
            case Link() if message.role in self._contexts:
                self._link(self._contexts[message.role], message, descriptors[0], nursery)
            case Drain():
                for context in self._contexts.values():
                    context.draining.set()
            case Configure() | Link():
                raise ChannelBroken("a role that this compartment does not have")
            case _:
                for context in self._contexts.values():
                    context.order(message)

    def _link(self, context: Context, link: Link, descriptor: int, nursery: trio.Nursery) -> None:
        if link.detail == POOLED:
            parent = adopt(descriptor, border("server", "pool"))
            nursery.start_soon(introduce, context, link, parent, border(link.role, link.port))
        else:
            channel = adopt(descriptor, border(link.role, link.port))
            context.port(link.port).put(Linked(channel, link.detail))

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
                return  # `run` sees it, too

    async def _run_role(self, role: str, context: Context, nursery: trio.Nursery) -> None:
        await self._runs[role](context, journal(role, terminal=os.isatty(2)))
        self._running -= 1
        if not self._running:
            nursery.cancel_scope.cancel()


async def introduce(context: Context, link: Link, parent: Channel, side: Border) -> None:
    """A pool's parent brings the channel of each new worker."""
    try:
        while True:
            for item in await parent.receive():
                if isinstance(item.message, Attach):
                    context.port(link.port).put(Linked(adopt(item.descriptors[0], side)))
    except ChannelBroken:
        parent.close()


def main(runs: Mapping[str, Run]) -> None:
    """Run a compartment on descriptor 3.  Ends the process with 0 when drained."""

    async def enter() -> None:
        supervisor = adopt(CHANNEL, border("compartment", "supervisor"))
        await Compartment(runs, supervisor).run()

    gc.freeze()  # what was imported is not garbage: collections get shorter
    report(" ".join(runs), lambda: trio.run(enter))


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
            raise _first(group) from None
    except OSError as error:
        log.critical("cannot work", path=error.filename, reason=os.strerror(error.errno or 0))
        raise SystemExit(1) from None
    except Exception as error:
        log.critical("defect", reason=repr(error), traceback=traceback.format_exc(limit=-6))
        raise SystemExit(1) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
