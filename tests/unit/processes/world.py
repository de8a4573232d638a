"""A spawner of ours for a supervisor: it sees every request, and plays every compartment.

It reports ends when the test likes to, so the order of what the supervisor does can be told for
certain.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from refmta.journal import journal
from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes.channels import SocketChannel, adopt
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.processes.supervisor import Supervisor
from refmta.wire.messages import Link, Message, Ready

BOOT = ("resolve", "enqueue", "qmgr")


def plan(lazy: tuple[str, ...] = (), **changes: Any) -> Plan:
    """A smaller architecture, in its form; `lazy`: what starts on first use, perhaps "remote"."""
    names = (*BOOT, "local", *({"remote"} & {*lazy}))
    rows = [
        Compartment(
            name=name, number=number, roles=(name,), slices={name: name.encode()},
            per_user=name == "local", ends_with="qmgr" if name in ("local", "remote") else "",
            lazy=name in lazy, pooled=name == "remote",
        )
        for number, name in enumerate(names, 1)
    ]  # fmt: skip
    talks = [("enqueue", "qmgr"), ("qmgr", "resolve"), ("qmgr", "local"), ("qmgr", "remote")]
    made = Plan(
        architecture="test",
        compartments=tuple(rows),
        draining=("enqueue", "qmgr", *names[3:], *({"resolve"} & {*lazy})),
        channels=tuple(
            ChannelRow(client=a, client_role=a, server=b, server_role=b)
            for a, b in talks
            if b in names
        ),
        operator=os.getuid(),
    )
    return msgspec.structs.replace(made, **changes)


@dataclass(eq=False)
class Child:
    """A compartment as the supervisor started it."""

    token: int
    name: str
    user: str
    channel: SocketChannel
    heard: list[Message] = field(default_factory=list)
    links: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Everything that the supervisor says; its channels are kept open."""
        try:
            while True:
                for item in await self.channel.receive():
                    assert item.message is not None
                    self.heard.append(item.message)
                    if isinstance(item.message, Link):
                        key = (item.message.port, item.message.detail)
                        self.links.setdefault(key, []).append(item.descriptors[0])
        except ChannelBroken:
            for descriptors in self.links.values():
                for each in descriptors:
                    os.close(each)
            self.links.clear()

    async def say(self, message: Message) -> None:
        self.channel.post(message)
        await self.channel.flush()
        await trio.testing.wait_all_tasks_blocked()


@dataclass(eq=False)
class World:
    """The spawner's end, and what it has seen."""

    end: socket.socket
    supervisor: Supervisor
    nursery: trio.Nursery
    log: int
    #: "start NAME" and "kill TOKEN SIGNAL", in order.
    seen: list[str] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)

    async def look(self) -> None:
        """Take note of every request so far."""
        await trio.testing.wait_all_tasks_blocked()
        while True:
            try:
                octets, descriptors, _, _ = socket.recv_fds(self.end, 4096, 4)
            except BlockingIOError:
                break
            kind, token = struct.unpack_from("!cQ", octets)
            if kind == b"K":
                self.seen.append(f"kill {token} {struct.unpack_from('!i', octets, 9)[0]}")
                continue
            (number,) = struct.unpack_from("!H", octets, 9)
            row = self.supervisor.plan.compartments[number - 1]
            channel = adopt(descriptors[0], border("compartment", "supervisor"))
            child = Child(token, row.name, octets[11:].decode(), channel)
            self.seen.append(f"start {child.name}{':' if child.user else ''}{child.user}")
            self.children.append(child)
            self.nursery.start_soon(child.listen)
        await trio.testing.wait_all_tasks_blocked()

    def living(self, name: str, user: str = "") -> Child:
        return next(c for c in reversed(self.children) if (c.name, c.user) == (name, user))

    async def ends(self, child: Child, status: int = signal.SIGKILL) -> None:
        """It has ended, and was reaped."""
        child.channel.close()
        self.end.send(struct.pack("!cQi", b"X", child.token, status))
        await self.look()

    async def refuse(self, child: Child, text: str) -> None:
        child.channel.close()
        self.end.send(struct.pack("!cQ", b"E", child.token) + text.encode())
        await self.look()

    async def boot(self) -> None:
        """Start what is always there, and say that it is ready."""
        self.supervisor.boot()
        await self.look()
        for child in [*self.children]:
            self.end.send(struct.pack("!cQi", b"P", child.token, 100 + child.token))
            await child.say(Ready())
        self.seen.clear()

    def events(self) -> list[dict[str, Any]]:
        octets = os.pread(self.log, 1 << 20, 0)
        return [json.loads(line) for line in octets.splitlines()]


@asynccontextmanager
async def world(**changes: Any) -> AsyncIterator[World]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log = os.memfd_create("log")
    for each in (ours, theirs):
        each.setblocking(False)
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(
            plan(**changes), theirs, [], nursery, journal("supervisor", descriptor=log)
        )
        nursery.start_soon(supervisor.hear_spawner)
        made = World(ours, supervisor, nursery, log)
        try:
            yield made
        finally:
            for child in made.children:
                child.channel.close()
            for instance in supervisor.instances.values():
                instance.channel.close()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    ours.close()
    theirs.close()
    os.close(log)


def of(child: Child, kind: type) -> list[Any]:
    return [each for each in child.heard if isinstance(each, kind)]
