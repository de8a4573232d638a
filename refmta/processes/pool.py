"""A pool: a parent that holds no mail, and a template for its workers.

    [template]  forked before trio starts, single-threaded, unused: forks workers on request
    [parent]    counts, and lets sessions in; holds no channel that carries mail
    [worker]    one session at a time, with channels of its own to each server role

A session is a client's connection, from a listening socket, or a call (`processes.calls`) of
another compartment.  Who lets it in is said by the pool's terms (`processes.pool_slice`):

    processes.handing   the parent: it accepts, and hands out   (`processes.doors`)
    processes.sharing   the workers: they share the socket      (`processes.accepting`)

The policy is `patterns.secure_preforking`; `processes.staff` makes and ends workers.  This file is
the two processes that stay, and the parent's talk with the supervisor.

When a server role dies no worker is made until it is back; connections wait in the listening socket
meanwhile.
"""

from __future__ import annotations

import gc
import os
import socket
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal, journal
from refmta.patterns.least_privilege import allow_calls
from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.calls import LISTENER, ON_CALL, TRACE
from refmta.processes.channels import adopt
from refmta.processes.children import Children, StartRefused
from refmta.processes.compartment import report
from refmta.processes.handing import Handing
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.processes.sharing import Sharing
from refmta.processes.spawner import CHANNEL, die_with_parent
from refmta.processes.staff import Staff
from refmta.processes.worker import Pooled, work
from refmta.trace import Trace
from refmta.wire.messages import Answer, Ask, Configure, Drain, Link, Message, Ready

# -- the template ---------------------------------------------------------------------------------


def template(pooled: Pooled, requests: socket.socket) -> None:
    """Fork workers on request until the parent is gone; then end them all."""

    def start(rest: bytes, descriptors: list[int]) -> int:
        if len(descriptors) != 1:
            raise StartRefused("its channel did not come: no descriptor is left for it")
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            report(pooled.role, lambda: become(parent, rest, descriptors[0]))
            status = 0
        finally:
            os._exit(status)

    def become(parent: int, rest: bytes, control: int) -> None:
        die_with_parent(parent)
        for each in children.descriptors():
            os.close(each)
        if pooled.narrow:
            allow_calls((*pooled.roles, "worker"))
        trio.run(work, pooled, rest, adopt(control, border("worker", "pool")))

    # What is there now stays: the collector of a worker must not touch, and so copy, our pages.
    gc.collect()
    gc.freeze()
    children = Children(requests, start)
    children.serve()
    children.end_all()


# -- the parent -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Parent:
    """Obeys the supervisor; counts and retires.  template: its pid."""

    pooled: Pooled
    requests: socket.socket
    supervisor: Channel
    nursery: trio.Nursery
    template: int
    journal: Journal = field(default_factory=lambda: journal("pool", terminal=os.isatty(2)))
    staff: Staff = field(init=False)
    source: Handing | Sharing = field(init=False)

    def __post_init__(self) -> None:
        terms = PoolSlice(rules=Rules())
        self.staff = Staff(self.pooled, self.requests, self.nursery, self.journal, terms)
        self.source = Handing(self.staff)

    async def run(self) -> None:
        """Until the supervisor is gone, or the nursery is cancelled because all is drained."""
        self.nursery.start_soon(self.staff.hear_template)
        self.nursery.start_soon(self._housekeeping)
        try:
            while True:
                for item in await self.supervisor.receive():
                    if item.message is not None:
                        self._hear(item.message, item.descriptors)
                await self.supervisor.flush()
        except ChannelBroken:
            return

    def _hear(self, message: Message, descriptors: tuple[int, ...]) -> None:
        match message:
            case Configure():
                self.configure(message)
            case Link() if message.port == TRACE:
                self.staff.trace, self.staff.traced = Trace(descriptors[0]), descriptors[0]
            case Link() if message.port == LISTENER:
                self.source.listen(descriptors[0])
            case Link() if message.detail == ON_CALL:
                self.source.answer(message, descriptors[0])
            case Link():
                self.staff.serve_by(message, descriptors[0])
            case Ask():
                self.supervisor.post(self._describe(message))
            case Drain():
                self.nursery.start_soon(self._drain)
            case _:
                raise ChannelBroken("not for a pool")

    def configure(self, given: Configure) -> None:
        """A slice: the pool's terms, or a role's, which goes on to each worker.  Links follow."""
        if given.role == POOL:
            terms = msgspec.msgpack.decode(given.slice, type=PoolSlice)
            self.staff.terms = terms
            self.source = Sharing(self.staff) if terms.shared else Handing(self.staff)
            return
        self.staff.slices[given.role] = given.slice
        if self.staff.slices.keys() >= {*self.pooled.roles}:
            self.supervisor.post(Ready())

    async def _housekeeping(self) -> None:
        """Retire what is due, end what lasts too long, once a second."""
        while True:
            await trio.sleep(1)
            self.source.tidy()
            self.staff.end_overlong()
            self.staff.look()

    async def _drain(self) -> None:
        await self.source.drain()
        self.nursery.cancel_scope.cancel()

    def _describe(self, ask: Ask) -> Answer:
        now_s, books = trio.current_time(), self.source.books
        state = "stress" if books.stressed else "ready"
        rows: list[dict[str, object]] = [
            {"part": "pool", "uses": books.sessions, "state": state},
            {"part": "template", "pid": self.template},
        ]
        rows += [
            {
                "part": "worker",
                "pid": self.staff.hands[number].pid,
                "uses": worker.uses,
                "busy": worker.busy,
                "age_s": round(now_s - worker.born_s, 1),
            }
            for number, worker in books.workers.items()
        ]
        return Answer(reference=ask.reference, error="", document=msgspec.json.encode(rows))


def main(pooled: Pooled) -> None:
    """Run a pool's parent on descriptor 3, its template beside it."""
    requests, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)
        os.close(CHANNEL)
        requests.close()
        if pooled.narrow:
            allow_calls((*pooled.roles, "template", "worker"))
        template(pooled, others)
        os._exit(0)
    others.close()
    requests.setblocking(False)
    if pooled.narrow:
        allow_calls(("pool parent",))

    async def enter() -> None:
        supervisor = adopt(CHANNEL, border("compartment", "supervisor"))
        async with trio.open_nursery() as nursery:
            await Parent(pooled, requests, supervisor, nursery, pid).run()
            nursery.cancel_scope.cancel()

    report(f"{pooled.role} pool", lambda: trio.run(enter))
