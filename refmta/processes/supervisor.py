"""The supervisor: carries out the plan; without privilege, and without mail.

It asks the spawner for processes, makes the channels, hands each compartment its descriptors and
its own slice of the configuration, and starts anew what dies: at once the first time, then with
growing pauses, and says so.  A channel whose peer was started anew is made anew; both get their
end by a `Link`.  What is seldom needed starts on first use (`processes.on_use`), and so again after
its death.

When qmgr dies, its delivery agents are ended and reaped before the next qmgr starts: an orphan
could deliver what its successor delivers, too.

Stopping drains in the order of the plan: first nobody is let in, then what is begun is finished.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal, journal
from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes.calls import LISTENER, TRACE
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.processes.children import (
    kill_request,
    parse_report,
    send_request,
    start_request,
)
from refmta.processes.groups import leaf
from refmta.processes.links import to_client, to_server
from refmta.processes.on_use import Kept, OnUse
from refmta.processes.operators import Instance, Operators
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.processes.spawner import CHANNEL, EX_CONFIG, EX_NOHOME, EX_NOPERM, request
from refmta.trace import Emit, Trace, silent
from refmta.wire.messages import (
    AgentRefused,
    AgentWanted,
    Answer,
    Configure,
    Drain,
    Link,
    Message,
    Ready,
)

#: A process that lived longer than this is started anew at once.
STEADY_S = 10.0
LONGEST_PAUSE_S = 30.0
#: How long a compartment may take to drain before it is killed.
DRAIN_S = 60.0
#: How often the log says which layers of confinement are missing: often enough to be in every
#: rotated file, seldom enough not to be filtered out.
REMIND_S = 3600.0
#: Agents of one user that may end in a row before its mail is deferred.
FUTILE = 3


class NotConfined(Exception):
    """What confines a compartment is not there, or not tight: nothing of this system may run."""


@dataclass(slots=True)
class Supervisor:
    """The state of one generation."""

    plan: Plan
    spawner: socket.socket
    listeners: list[int]
    nursery: trio.Nursery
    journal: Journal
    instances: dict[int, Instance] = field(default_factory=dict)
    tokens: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    pauses: dict[tuple[str, str], float] = field(default_factory=dict)
    futile: dict[str, int] = field(default_factory=dict)
    wanted: deque[str] = field(default_factory=deque)
    draining: bool = False
    serving: bool = False
    trace: Emit = silent
    #: The trace's descriptor, for every compartment; -1 if there is none.
    traced: int = -1
    on_use: OnUse = field(init=False)
    operators: Operators = field(init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        about: dict[str, object] = {"architecture": plan.architecture, "missing": plan.missing}
        self.operators = Operators(plan.operator, plan.key, about, self.instances, self.nursery)
        self.on_use = OnUse(self.nursery, lambda name: self.start(self._compartment(name)))

    def boot(self) -> None:
        """Start all that does not wait for its use."""
        self.trace("supervisor.started")
        for compartment in self.plan.compartments:
            if not (compartment.per_user or compartment.lazy):
                self.start(compartment)

    # -- starting ---------------------------------------------------------------------------------

    def start(self, compartment: Compartment, user: str = "") -> None:
        """Ask for a process and prepare its channels; it finds everything when it is there."""
        ours, theirs = socket_pair()
        instance = Instance(
            next(self.tokens), compartment, user,
            SocketChannel(ours, border("supervisor", "compartment")),
        )  # fmt: skip
        self.instances[instance.token] = instance
        rest = request(compartment.number, user)
        with contextlib.suppress(BrokenPipeError):  # it is gone: `hear_spawner` will see it
            send_request(self.spawner, start_request(instance.token, rest), [theirs.fileno()])
        theirs.close()
        if self.traced >= 0:  # before its roles: they start when their slices are there
            link = Link(role=compartment.roles[0], port=TRACE)
            instance.channel.post(link, os.dup(self.traced))
        for role, slice_ in compartment.slices.items():
            instance.channel.post(Configure(role=role, slice=slice_))
        if compartment.listener:
            for descriptor in self.listeners:
                link = Link(role=compartment.roles[0], port=LISTENER)
                instance.channel.post(link, os.dup(descriptor))
        touched = {instance, *self._connect_all(instance)}
        for each in touched:
            self.nursery.start_soon(self._flush, each)
        self.nursery.start_soon(self._follow, instance)

    def _connect_all(self, new: Instance) -> set[Instance]:
        """Make a new process's channels; returns the peers that got an end."""
        kept = self.on_use.take(new.compartment.name)
        for each in kept:
            new.channel.post(each.link, each.end.detach())
        connected = {(each.row, each.client) for each in kept}
        touched = set()
        for row in self.plan.channels:
            if row.server == new.compartment.name:
                for client in self._living(row.client):
                    if client is not new and (row, client) not in connected:
                        self._connect(row, client, new)
                        touched.add(client)
            if row.client == new.compartment.name:
                servers = [each for each in self._living(row.server) if each is not new]
                for server in servers:
                    self._connect(row, new, server)
                if not servers and self._compartment(row.server).lazy:
                    self._keep(row, new)
                touched |= {*servers}
        return touched

    def _connect(self, row: ChannelRow, client: Instance, server: Instance) -> None:
        near, far = socket_pair()
        ends = client.compartment, server.compartment
        client.channel.post(to_client(row, *ends, server.user), near.detach())
        server.channel.post(to_server(row, *ends, client.user), far.detach())

    def _keep(self, row: ChannelRow, client: Instance) -> None:
        """A channel to a server that starts when it is used."""
        server = self._compartment(row.server)
        near, far = socket_pair()
        ends = client.compartment, server
        client.channel.post(to_client(row, *ends), near.detach())
        self.on_use.keep(Kept(row, client, to_server(row, *ends, client.user), far))

    def _await_use(self, compartment: Compartment, pause_s: float) -> None:
        """It has ended; it starts anew when a client uses its new channel."""
        self.on_use.rest(compartment.name, pause_s)
        for row in self.plan.channels:
            if row.server == compartment.name:
                for client in self._living(row.client):
                    self._keep(row, client)
                    self.nursery.start_soon(self._flush, client)

    def _compartment(self, name: str) -> Compartment:
        return next(each for each in self.plan.compartments if each.name == name)

    def _living(self, name: str) -> list[Instance]:
        return [each for each in self.instances.values() if each.compartment.name == name]

    def _clients(self, server: Compartment) -> list[Instance]:
        names = {row.client for row in self.plan.channels if row.server == server.name}
        return [each for each in self.instances.values() if each.compartment.name in names]

    async def _flush(self, instance: Instance) -> None:
        with contextlib.suppress(ChannelBroken):
            await instance.channel.flush()

    # -- following --------------------------------------------------------------------------------

    async def _follow(self, instance: Instance) -> None:
        """Hear a compartment; its end is reported by the spawner."""
        try:
            while True:
                for item in await instance.channel.receive():
                    if item.message is not None:
                        self._hear(instance, item.message)
        except ChannelBroken:
            instance.channel.close()

    def _hear(self, instance: Instance, message: Message) -> None:
        match message:
            case Ready():
                self._ready(instance)
            case AgentWanted():
                self._agent_wanted(message.user)
            case Answer():
                self.operators.answered(message)

    def _ready(self, instance: Instance) -> None:
        instance.ready = True
        boot = [each for each in self.plan.compartments if not (each.per_user or each.lazy)]
        ready = all(any(i.ready for i in self._living(each.name)) for each in boot)
        if ready and not self.serving:
            self.serving = True
            self.journal.info("serving", architecture=self.plan.architecture)
            self.nursery.start_soon(self._remind)

    async def _remind(self) -> None:
        """A layer that is missing is easily forgotten."""
        while self.plan.missing:
            for layer, reason in self.plan.missing.items():
                self.journal.warning("layer missing", layer=layer, reason=reason)
            await trio.sleep(REMIND_S)

    def _agent_wanted(self, user: str) -> None:
        if user not in self.wanted:
            self.wanted.append(user)
        self._start_agents()

    def _start_agents(self) -> None:
        """Start what is wanted, as far as the cap allows; the others wait for one to end."""
        (compartment,) = [each for each in self.plan.compartments if each.per_user]
        for _ in range(len(self.wanted)):
            living = self._living(compartment.name)
            if len(living) >= self.plan.max_agents or self.draining:
                return
            user = self.wanted.popleft()
            if any(each.user == user for each in living):
                self.wanted.append(user)  # it is ending, or it will answer
            else:
                self.start(compartment, user)

    async def hear_spawner(self) -> None:
        """Starts and ends, as the spawner reports them; its own end ends everything."""
        while True:
            await trio.lowlevel.wait_readable(self.spawner)
            octets = b""
            with contextlib.suppress(ConnectionResetError):  # it has left requests unread
                octets = self.spawner.recv(4096)
            if not octets:
                raise ChannelBroken("the spawner is gone")
            try:
                kind, token, value, text = parse_report(octets)
            except ValueError as error:
                raise ChannelBroken(f"the spawner: {error}") from None
            instance = self.instances.get(token)
            if instance is None:
                continue
            if kind == "P":
                instance.pid = value
                self.journal.info(
                    "started", compartment=instance.compartment.name, process=value,
                    **({"user": instance.user} if instance.user else {}),
                )  # fmt: skip
            else:
                instance.status = os.waitstatus_to_exitcode(value) if kind == "X" else -1
                self._ended(instance, text)

    def _ended(self, instance: Instance, text: str) -> None:
        self.instances.pop(instance.token, None)
        instance.channel.close()
        instance.ended.set()
        self.on_use.forget(instance)
        self.operators.ended(instance)
        if instance.pid:
            name = instance.compartment.name
            self.trace(f"{name}.ended", process=instance.pid, status=instance.status)
        lived_s = time.monotonic() - instance.born_s
        expected = instance.retiring or (instance.status == 0 and instance.compartment.per_user)
        if not expected:
            self.journal.error(
                "ended", compartment=instance.compartment.name, process=instance.pid,
                status=instance.status, user=instance.user, reason=text,
            )  # fmt: skip
        if instance.status == EX_CONFIG:
            raise NotConfined(instance.compartment.name)
        if self.draining:
            return
        if instance.compartment.per_user:
            self._agent_ended(instance, text)
        elif instance.compartment.lazy:
            pause_s = 0.0 if instance.retiring else self._pause(instance.compartment.name, lived_s)
            self._await_use(instance.compartment, pause_s)
        elif not instance.retiring:
            pause_s = self._pause(instance.compartment.name, lived_s)
            self.nursery.start_soon(self._start_anew, instance.compartment, pause_s)

    def _agent_ended(self, instance: Instance, text: str) -> None:
        """Mail for this user waits with a reason, if its agents end again and again."""
        user = instance.user
        if instance.ready or instance.retiring:
            self.futile.pop(user, None)
        else:
            self.futile[user] = self.futile.get(user, 0) + 1
        hopeless = instance.status in (-1, EX_NOHOME, EX_NOPERM)
        if hopeless or self.futile.get(user, 0) >= FUTILE:
            self.futile.pop(user, None)
            with contextlib.suppress(ValueError):
                self.wanted.remove(user)
            reason = text or REASONS.get(instance.status, "the delivery agent does not start")
            for client in self._clients(instance.compartment):
                client.channel.post(AgentRefused(user=user, text=reason))
                self.nursery.start_soon(self._flush, client)
        self._start_agents()

    def _pause(self, name: str, lived_s: float) -> float:
        key = (name, "")
        if lived_s > STEADY_S:
            self.pauses.pop(key, None)
            return 0.0
        pause_s = self.pauses.get(key, 0.0)
        self.pauses[key] = min(LONGEST_PAUSE_S, pause_s * 2 + 0.1)
        if pause_s:
            self.journal.warning("throttled", compartment=name, pause_s=round(pause_s, 1))
        return pause_s

    async def _start_anew(self, compartment: Compartment, pause_s: float) -> None:
        """A compartment, after all that end with it have; those of them that stay start behind it.

        Two ends at once may bring the same dependant here twice: it starts once.
        """
        dependants = self._ending_with(compartment.name)
        for each in dependants:
            each.retiring = True
            self._kill(each, signal.SIGKILL)
        for each in dependants:
            await each.ended.wait()
        await trio.sleep(pause_s)
        staying = [each.compartment for each in dependants]
        for next_one in dict.fromkeys([compartment.name, *(each.name for each in staying)]):
            chosen = self._compartment(next_one)
            waits = chosen.lazy or chosen.per_user
            if not (self.draining or self._living(next_one) or waits):
                self.start(chosen)

    def _ending_with(self, name: str) -> list[Instance]:
        """What ends with a compartment, and what ends with that."""
        direct = [e for e in self.instances.values() if e.compartment.ends_with == name]
        further = {each.compartment.name for each in direct}
        return [*direct, *(each for one in further for each in self._ending_with(one))]

    def _kill(self, instance: Instance, number: int) -> None:
        with contextlib.suppress(OSError):
            send_request(self.spawner, kill_request(instance.token, number), [])

    # -- stopping ---------------------------------------------------------------------------------

    async def drain_on_signal(self) -> None:
        """SIGTERM, SIGINT: finish what is begun, then end with 0."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                await self.drain()
                self.nursery.cancel_scope.cancel()

    async def drain(self) -> None:
        """Compartment by compartment, in the order of the plan.  Until its turn comes, what starts
        on first use still does: those before it may need it to finish.
        """
        self.draining = True
        self.journal.info("draining")
        for name in self.plan.draining:
            self.on_use.hang_up(name)
            for instance in self._living(name):
                instance.retiring = True
                instance.channel.post(Drain())
                await self._flush(instance)
            for instance in self._living(name):
                with trio.move_on_after(DRAIN_S):
                    await instance.ended.wait()
                if not instance.ended.is_set():
                    self.journal.error("did not drain", compartment=name, process=instance.pid)
                    self._kill(instance, signal.SIGKILL)
        self.journal.info("stopped")


REASONS = {
    EX_NOHOME: "the user's home directory can't be entered",
    EX_NOPERM: "the delivery agent may not run as that user",
}


def main() -> None:
    """On descriptors 3 (spawner), 4 (plan), 5 (control socket), then the trace's file if the plan
    says so, then the listening sockets.
    """
    plan_octets = os.pread(CHANNEL + 1, 1 << 26, 0)
    plan = msgspec.msgpack.decode(plan_octets, type=Plan)
    traced = CHANNEL + 3 if plan.traced else -1
    listeners = []
    for descriptor in itertools.count(max(traced, CHANNEL + 2) + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            break
        listeners.append(descriptor)
    log = journal("supervisor", terminal=os.isatty(2))
    status = 0  # what is raised in an except* comes as a group, whose traceback is no message
    try:
        trio.run(_enter, plan, listeners, log, traced)
    except* NotConfined as failed:
        log.critical("refuses to start", reason=str(failed.exceptions[0]))
        status = EX_CONFIG
    except* ChannelBroken as broken:
        log.error("ended", reason=str(broken.exceptions[0]))
        status = status or 1
    except* OSError as failed:  # no descriptor is left, perhaps: whoever started us starts us anew
        log.critical("cannot work", reason=str(leaf(failed)))
        status = status or 1
    raise SystemExit(status)


async def _enter(plan: Plan, listeners: list[int], log: Journal, traced: int) -> None:
    spawner = socket.socket(fileno=CHANNEL)
    spawner.setblocking(False)
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(plan, spawner, listeners, nursery, log)
        if traced >= 0:
            supervisor.trace, supervisor.traced = Trace(traced), traced
        nursery.start_soon(supervisor.hear_spawner)
        nursery.start_soon(supervisor.drain_on_signal)
        nursery.start_soon(supervisor.operators.serve, CHANNEL + 2)
        supervisor.boot()


if __name__ == "__main__":
    main()
