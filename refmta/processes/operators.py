"""The operator's line to the supervisor: `ps` is answered here, all else by qmgr.

Who may give orders is told by the kernel and by a key, not by the peer's word: the socket is its
owner's alone (mode 0600), and so is the file of the key, made anew at every start, that each
question must bring.  The key is there because SO_PEERCRED says little within a user namespace of
our own, where no other user has a name: root looks like the compartments, like anybody (the
overflow id).
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import os
import socket
import struct
import time
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import SocketChannel, adopt
from refmta.processes.plan import Compartment
from refmta.wire.messages import Answer, Ask

#: How long a compartment may take to answer, in seconds.
ANSWER_S = 60.0
#: How a user is seen who has no name in our user namespace (user_namespaces(7)).
OVERFLOW = 65534
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
class Operators:
    """Questions on their way.  `uid`: who may ask, besides root; `key`: what he brings."""

    uid: int
    key: bytes
    #: What is said of the whole system, with the supervisor's row.
    about: dict[str, object]
    instances: dict[int, Instance]
    nursery: trio.Nursery
    references: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    #: Who was asked, and the event of its last answer or its end.
    pending: dict[int, tuple[Instance, trio.Event]] = field(default_factory=dict)
    answers: dict[int, list[Answer]] = field(default_factory=dict)

    async def serve(self, descriptor: int) -> None:
        """Answer the commands that come by the control socket."""
        listener = trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
        while True:
            connection, _ = await listener.accept()
            credentials = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            uid = _CREDENTIALS.unpack(credentials)[1]
            if uid not in (0, self.uid, OVERFLOW):
                connection.close()
                continue
            channel = adopt(connection.detach(), border("supervisor", "operator"))
            self.nursery.start_soon(self._serve_operator, channel)

    async def _serve_operator(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, Ask):
                        if not hmac.compare_digest(item.message.key, self.key):
                            raise ChannelBroken("the key is wrong")
                        await self.obey(channel, item.message)
                await channel.flush()
        except ChannelBroken:
            channel.close()

    async def obey(self, channel: Channel, ask: Ask) -> None:
        """Answer one question, in parts if it is long."""
        if ask.verb == "ps":
            document = msgspec.json.encode(await self.processes())
            channel.post(Answer(reference=ask.reference, error="", document=document))
            return
        living = (each for each in self.instances.values() if _keeps_the_queue(each.compartment))
        qmgr = next(living, None)
        answers = await self._ask(qmgr, ask) if qmgr is not None else []
        if not answers:
            error = "qmgr is starting anew, try again"
            channel.post(Answer(reference=ask.reference, error=error, document=b""))
        for answer in answers:
            channel.post(msgspec.structs.replace(answer, reference=ask.reference))
            await channel.flush()

    async def _ask(self, instance: Instance, ask: Ask) -> list[Answer]:
        """Pass a question on and gather the parts of its answer; empty if none comes."""
        reference = next(self.references)
        answers = self.answers[reference] = []
        done = trio.Event()
        self.pending[reference] = (instance, done)
        instance.channel.post(msgspec.structs.replace(ask, reference=reference, key=b""))
        with contextlib.suppress(ChannelBroken):
            await instance.channel.flush()
        with trio.move_on_after(ANSWER_S):
            await done.wait()
        del self.pending[reference], self.answers[reference]
        return answers if answers and not answers[-1].more else []

    def answered(self, answer: Answer) -> None:
        """A part of an answer has come."""
        if answer.reference in self.answers:
            self.answers[answer.reference].append(answer)
            if not answer.more:
                self.pending[answer.reference][1].set()

    def ended(self, instance: Instance) -> None:
        """This process will answer nothing any more."""
        for asked, done in self.pending.values():
            if asked is instance:
                done.set()

    async def processes(self) -> list[dict[str, object]]:
        """One row per process, the spawner first."""
        rows: list[dict[str, object]] = [
            {"pid": os.getppid(), "compartment": "spawner", "state": "running"},
            {"pid": os.getpid(), "compartment": "supervisor", "state": "running", **self.about},
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
                    for part in parts:
                        kind = part.pop("part")
                        if kind == "pool":  # the parent's own row
                            row.update(part)
                        else:
                            rows.append({"compartment": f"{name}/{kind}", **part})
        return rows


def _keeps_the_queue(compartment: Compartment) -> bool:
    """Whoever runs qmgr for good; where each connection has its own, that is not asked."""
    return "qmgr" in compartment.roles and not compartment.pooled
