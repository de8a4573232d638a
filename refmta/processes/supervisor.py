"""The supervisor: carries out the plan; without privilege, and without mail.

It asks the spawner for processes, makes the channels, hands each compartment its descriptors and
its own slice of the configuration, and starts anew what dies: at once the first time, then with
growing pauses, and says so.  A channel whose peer was started anew is made anew; both get their
end by a `Link`.

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
import struct
import time
from collections import deque
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal, journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import SocketChannel, adopt, socket_pair
from refmta.processes.children import (
    kill_request,
    parse_report,
    send_request,
    start_request,
)
from refmta.processes.compartment import POOLED
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.processes.spawner import CHANNEL, EX_NOHOME, EX_NOPERM, request
from refmta.wire.messages import (
    AgentRefused,
    AgentWanted,
    Answer,
    Ask,
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
#: Agents of one user that may end in a row before its mail is deferred.
FUTILE = 3
_CREDENTIALS = struct.Struct("3i")


@dataclass(slots=True, eq=False)
class Instance:
    """One process of a compartment, as the supervisor knows it."""

    token: int
    compartment: Compartment
    user: str
    channel: SocketChannel
    pid: int = 0
    born_s: float = field(default_factory=time.monotonic)
    ready: bool = False
    retiring: bool = False
    ended: trio.Event = field(default_factory=trio.Event)
    status: int = 0


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
    pending: dict[int, tuple[Channel, int, trio.Event]] = field(default_factory=dict)
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    draining: bool = False
    serving: bool = False

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
        send_request(self.spawner, start_request(instance.token, rest), [theirs.fileno()])
        theirs.close()
        for role, slice_ in compartment.slices.items():
            instance.channel.post(Configure(role=role, slice=slice_))
        if compartment.listener:
            for descriptor in self.listeners:
                link = Link(role=compartment.roles[0], port="listener")
                instance.channel.post(link, os.dup(descriptor))
        touched = {instance}
        for row in self.plan.channels:
            touched |= self._connect(row, instance)
        for each in touched:
            self.nursery.start_soon(self._flush, each)
        self.nursery.start_soon(self._follow, instance)

    def _connect(self, row: ChannelRow, new: Instance) -> set[Instance]:
        """Make the channels between a new process and its living peers of one row."""
        name = new.compartment.name
        pairs = []
        if row.client == name:
            pairs += [(new, peer) for peer in self._living(row.server) if peer is not new]
        if row.server == name:
            pairs += [(peer, new) for peer in self._living(row.client) if peer is not new]
        for client, server in pairs:
            near, far = socket_pair()
            to_client = Link(role=row.client_role, port=row.server_role, detail=server.user)
            detail = POOLED if client.compartment.pooled else client.user
            to_server = Link(role=row.server_role, port=row.client_role, detail=detail)
            client.channel.post(to_client, near.detach())
            server.channel.post(to_server, far.detach())
        return {each for pair in pairs for each in pair}

    def _living(self, name: str) -> list[Instance]:
        return [each for each in self.instances.values() if each.compartment.name == name]

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
                self._answered(message)

    def _ready(self, instance: Instance) -> None:
        instance.ready = True
        boot = [each for each in self.plan.compartments if not each.per_user]
        ready = all(any(i.ready for i in self._living(each.name)) for each in boot)
        if ready and not self.serving:
            self.serving = True
            self.journal.info("serving", architecture=self.plan.architecture)

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
            octets = self.spawner.recv(4096)
            if not octets:
                raise ChannelBroken("the spawner is gone")
            kind, token, value, text = parse_report(octets)
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
        lived_s = time.monotonic() - instance.born_s
        expected = instance.retiring or (instance.status == 0 and instance.compartment.per_user)
        if not expected:
            self.journal.error(
                "ended", compartment=instance.compartment.name, process=instance.pid,
                status=instance.status, user=instance.user, reason=text,
            )  # fmt: skip
        if self.draining:
            return
        if instance.compartment.per_user:
            self._agent_ended(instance, text)
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
            for qmgr in self._living(instance.compartment.ends_with):
                qmgr.channel.post(AgentRefused(user=user, text=reason))
                self.nursery.start_soon(self._flush, qmgr)
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
        dependants = [
            each
            for each in self.instances.values()
            if each.compartment.ends_with == compartment.name
        ]
        for each in dependants:
            each.retiring = True
            self._kill(each, signal.SIGKILL)
        for each in dependants:
            await each.ended.wait()
        await trio.sleep(pause_s)
        if not self.draining:
            self.start(compartment)

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
        """Compartment by compartment, in the order of the plan."""
        self.draining = True
        self.journal.info("draining")
        for name in self.plan.draining:
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

    # -- the operator -----------------------------------------------------------------------------

    async def serve_operators(self, descriptor: int) -> None:
        """Answer the commands that come by the control socket."""
        listener = trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
        while True:
            connection, _ = await listener.accept()
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            uid = _CREDENTIALS.unpack(credentials)[1]
            if uid not in (0, self.plan.operator):
                connection.close()
                continue
            channel = adopt(connection.detach(), border("supervisor", "operator"))
            self.nursery.start_soon(self._serve_operator, channel)

    async def _serve_operator(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, Ask):
                        await self._obey(channel, item.message)
                await channel.flush()
        except ChannelBroken:
            channel.close()

    async def _obey(self, channel: Channel, ask: Ask) -> None:
        if ask.verb == "ps":
            document = msgspec.json.encode(await self._processes())
            channel.post(Answer(reference=ask.reference, error="", document=document))
            return
        (qmgr,) = self._living("qmgr") or (None,)
        answers = await self._ask(qmgr, ask) if qmgr is not None else []
        if not answers:
            error = "qmgr is starting anew, try again"
            channel.post(Answer(reference=ask.reference, error=error, document=b""))
        for answer in answers:
            channel.post(msgspec.structs.replace(answer, reference=ask.reference))
            await channel.flush()

    async def _ask(self, instance: Instance, ask: Ask) -> list[Answer]:
        """Pass a question on and gather the parts of its answer; empty if none comes."""
        reference = next(self.tokens)
        answers = self.answers[reference] = []
        done = trio.Event()
        self.pending[reference] = (instance.channel, reference, done)
        instance.channel.post(msgspec.structs.replace(ask, reference=reference))
        await self._flush(instance)
        with trio.move_on_after(60):
            await done.wait()
        self.pending.pop(reference, None)
        self.answers.pop(reference, None)
        return answers if done.is_set() else []

    def _answered(self, answer: Answer) -> None:
        if answer.reference in self.answers:
            self.answers[answer.reference].append(answer)
            if not answer.more:
                self.pending[answer.reference][2].set()

    async def _processes(self) -> list[dict[str, object]]:
        """One row per process, the spawner first."""
        rows: list[dict[str, object]] = [
            {"pid": os.getppid(), "compartment": "spawner", "state": "running"},
            {"pid": os.getpid(), "compartment": "supervisor", "state": "running"},
        ]
        now_s = time.monotonic()
        for instance in list(self.instances.values()):
            name = instance.compartment.name
            row = {
                "pid": instance.pid,
                "compartment": name,
                "roles": list(instance.compartment.roles),
                "user": instance.user,
                "age_s": round(now_s - instance.born_s, 1),
                "state": "ready" if instance.ready else "starting",
            }
            rows.append(row)
            if instance.compartment.pooled and instance.ready:
                for answer in await self._ask(instance, Ask(reference=0, verb="ps")):
                    parts = msgspec.json.decode(answer.document)
                    rows += [
                        {"compartment": f"{name}/{part.pop('part')}", **part} for part in parts
                    ]
        return rows


REASONS = {
    EX_NOHOME: "the user's home directory can't be entered",
    EX_NOPERM: "the delivery agent may not run as that user",
}


def main() -> None:
    """On descriptors 3 (spawner), 4 (plan), 5 (control socket), 6... (listening sockets)."""
    plan_octets = os.pread(CHANNEL + 1, 1 << 26, 0)
    plan = msgspec.msgpack.decode(plan_octets, type=Plan)
    listeners = []
    for descriptor in itertools.count(CHANNEL + 3):
        try:
            os.fstat(descriptor)
        except OSError:
            break
        listeners.append(descriptor)
    log = journal("supervisor", terminal=os.isatty(2))
    try:
        trio.run(_enter, plan, listeners, log)
    except* ChannelBroken as broken:
        log.error("ended", reason=str(broken.exceptions[0]))
        raise SystemExit(1) from None


async def _enter(plan: Plan, listeners: list[int], log: Journal) -> None:
    spawner = socket.socket(fileno=CHANNEL)
    spawner.setblocking(False)
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(plan, spawner, listeners, nursery, log)
        nursery.start_soon(supervisor.hear_spawner)
        nursery.start_soon(supervisor.drain_on_signal)
        nursery.start_soon(supervisor.serve_operators, CHANNEL + 2)
        for compartment in plan.compartments:
            if not compartment.per_user:
                supervisor.start(compartment)


if __name__ == "__main__":
    main()
