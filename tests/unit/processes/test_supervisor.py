"""The supervisor against a spawner of ours: whom it starts, with what, when anew, in which order.

The test is the spawner: it sees every request, plays every compartment, and reports their ends
when it likes to.  So the order of what the supervisor does can be told for certain.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from refmta.journal import journal
from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes.channels import SocketChannel, adopt
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.processes.supervisor import FUTILE, Supervisor
from refmta.wire.messages import (
    AgentRefused,
    AgentWanted,
    Answer,
    Arrived,
    Ask,
    Configure,
    Drain,
    Link,
    Message,
    Ready,
)

BOOT = ("resolve", "enqueue", "qmgr")


def plan(**changes: Any) -> Plan:
    """A smaller architecture, in its form."""
    names = (*BOOT, "local")
    rows = [
        Compartment(
            name=name, number=number, roles=(name,), slices={name: name.encode()},
            per_user=name == "local", ends_with="qmgr" if name == "local" else "",
        )
        for number, name in enumerate(names, 1)
    ]  # fmt: skip
    talks = [("enqueue", "qmgr"), ("qmgr", "resolve"), ("qmgr", "local")]
    return Plan(
        architecture="test", compartments=tuple(rows), draining=("enqueue", "qmgr", "local"),
        channels=tuple(
            ChannelRow(client=a, client_role=a, server=b, server_role=b) for a, b in talks
        ),
        operator=os.getuid(), **changes,
    )  # fmt: skip


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
        for compartment in self.supervisor.plan.compartments:
            if not compartment.per_user:
                self.supervisor.start(compartment)
        await self.look()
        for name in BOOT:
            child = self.living(name)
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


# -- starting -------------------------------------------------------------------------------------


async def test_each_compartment_gets_its_own_slice_and_its_links_and_no_others():
    async with world() as it:
        await it.boot()
        for name in BOOT:
            assert of(it.living(name), Configure) == [Configure(role=name, slice=name.encode())]
        ports = {name: sorted(each.port for each in of(it.living(name), Link)) for name in BOOT}
        assert ports == {"resolve": ["qmgr"], "enqueue": ["qmgr"], "qmgr": ["enqueue", "resolve"]}
        assert [e["event"] for e in it.events()].count("serving") == 1


async def test_the_two_ends_of_a_link_belong_together():
    async with world() as it:
        await it.boot()
        (one,) = it.living("enqueue").links[("qmgr", "")]
        (other,) = it.living("qmgr").links[("enqueue", "")]
        near = SocketChannel(socket.socket(fileno=os.dup(one)), border("enqueue", "qmgr"))
        far = SocketChannel(socket.socket(fileno=os.dup(other)), border("qmgr", "enqueue"))
        arrived = Arrived(queue_ids=("06H06TY2DFR20W5S",))
        near.post(arrived)
        await near.flush()
        assert [each.message for each in await far.receive()] == [arrived]
        near.close()
        far.close()


# -- what dies is started anew --------------------------------------------------------------------


async def test_who_dies_is_started_anew_and_linked_with_its_peers_again():
    async with world() as it:
        await it.boot()
        await it.ends(it.living("enqueue"))
        assert it.seen == ["start enqueue"]
        assert len(it.living("qmgr").links[("enqueue", "")]) == 2
        assert len(it.living("enqueue").links[("qmgr", "")]) == 1
        assert of(it.living("enqueue"), Configure)


async def test_who_dies_again_and_again_is_started_with_growing_pauses(autojump_clock):
    async with world() as it:
        await it.boot()
        starts = []
        for _ in range(6):
            await it.ends(it.living("resolve"), status=1 << 8)
            with trio.fail_after(60):
                while "start resolve" not in it.seen:
                    await trio.sleep(0.05)
                    await it.look()
            it.seen.clear()
            starts.append(trio.current_time())
        pauses = [b - a for a, b in itertools.pairwise(starts)]
        assert pauses == sorted(pauses) and pauses[-1] > 1
        assert [e["event"] for e in it.events()].count("throttled") >= 4


async def test_agents_of_a_dead_qmgr_are_ended_and_reaped_before_the_next_one_starts():
    """An orphan could deliver what its successor delivers, too."""
    async with world() as it:
        await it.boot()
        for user in ("ada", "bob"):
            await it.living("qmgr").say(AgentWanted(user=user))
            await it.look()
            await it.living("local", user).say(Ready())
        ada, bob = it.living("local", "ada"), it.living("local", "bob")
        it.seen.clear()
        await it.ends(it.living("qmgr"))
        assert sorted(it.seen) == sorted([f"kill {ada.token} 9", f"kill {bob.token} 9"])
        await it.ends(ada)
        assert "start qmgr" not in it.seen  # bob's may still be delivering
        await it.ends(bob)
        assert it.seen[-1] == "start qmgr"
        assert it.seen.count("start qmgr") == 1


async def test_an_agent_still_starting_when_qmgr_dies_is_ended_too():
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        ada = it.living("local", "ada")
        it.seen.clear()
        await it.ends(it.living("qmgr"))
        assert it.seen == [f"kill {ada.token} 9"]
        await it.ends(ada)
        assert it.seen[1:] == ["start qmgr"]


# -- agents ---------------------------------------------------------------------------------------


async def test_an_agent_is_started_once_however_often_it_is_wanted():
    async with world() as it:
        await it.boot()
        for _ in range(3):
            await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        assert it.seen == ["start local:ada"]
        assert ("local", "ada") in it.living("qmgr").links
        assert ("qmgr", "") in it.living("local", "ada").links


async def test_there_are_never_more_agents_than_allowed_and_the_others_have_their_turn():
    async with world(max_agents=2) as it:
        await it.boot()
        for user in ("ada", "bob", "eve", "kim"):
            await it.living("qmgr").say(AgentWanted(user=user))
        await it.look()
        assert it.seen == ["start local:ada", "start local:bob"]
        await it.living("local", "ada").say(Ready())
        await it.ends(it.living("local", "ada"), status=0)
        assert it.seen[2:] == ["start local:eve"]
        await it.ends(it.living("local", "bob"))
        assert it.seen[3:] == ["start local:kim"]


async def test_qmgr_is_told_why_there_is_no_agent():
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="root"))
        await it.look()
        await it.refuse(it.living("local", "root"), "a system user receives no mail")
        refusal = AgentRefused(user="root", text="a system user receives no mail")
        assert of(it.living("qmgr"), AgentRefused) == [refusal]
        assert it.seen == ["start local:root"]


@pytest.mark.parametrize(("code", "text"), [(73, "home directory"), (77, "may not run")])
async def test_an_agent_that_cannot_become_its_user_is_hopeless_at_once(code, text):
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        await it.ends(it.living("local", "ada"), status=code << 8)
        (refusal,) = of(it.living("qmgr"), AgentRefused)
        assert refusal.user == "ada" and text in refusal.text


async def test_an_agent_that_never_becomes_ready_is_given_up_after_some_times():
    async with world() as it:
        await it.boot()
        for number in range(FUTILE):
            assert len(of(it.living("qmgr"), AgentRefused)) == 0, number
            await it.living("qmgr").say(AgentWanted(user="ada"))
            await it.look()
            await it.ends(it.living("local", "ada"))
        (refusal,) = of(it.living("qmgr"), AgentRefused)
        assert refusal == AgentRefused(user="ada", text="the delivery agent does not start")


# -- stopping, and the operator -------------------------------------------------------------------


async def test_draining_goes_compartment_by_compartment_in_the_order_of_the_plan():
    async with world() as it:
        await it.boot()
        await it.living("qmgr").say(AgentWanted(user="ada"))
        await it.look()
        done = trio.Event()

        async def drain() -> None:
            await it.supervisor.drain()
            done.set()

        it.nursery.start_soon(drain)
        for name, user in (("enqueue", ""), ("qmgr", ""), ("local", "ada")):
            await it.look()
            drained = {c.name for c in it.children if of(c, Drain)}
            assert name in drained and not done.is_set()
            assert not drained - {"enqueue", "qmgr", "local"}
            await it.ends(it.living(name, user), status=0)
        await done.wait()
        assert "start qmgr" not in it.seen and "start enqueue" not in it.seen
        assert not of(it.living("resolve"), Drain)


async def test_who_does_not_drain_is_killed_after_its_time(autojump_clock):
    async with world() as it:
        await it.boot()
        token = it.living("enqueue").token

        async def drain() -> None:
            await it.supervisor.drain()

        it.nursery.start_soon(drain)
        with trio.fail_after(100):
            while f"kill {token} 9" not in it.seen:
                await trio.sleep(1)
                await it.look()
        assert "did not drain" in [e["event"] for e in it.events()]


async def test_an_operators_question_is_passed_to_qmgr_and_its_parts_come_back():
    async with world() as it:
        await it.boot()
        answers: list[Answer] = []

        class Operator:
            def post(self, answer: Answer) -> None:
                answers.append(answer)

            async def flush(self) -> None:
                await trio.lowlevel.checkpoint()

        ask = Ask(reference=9, verb="list")
        it.nursery.start_soon(it.supervisor._obey, Operator(), ask)
        await trio.testing.wait_all_tasks_blocked()
        (question,) = of(it.living("qmgr"), Ask)
        assert question.verb == "list"
        for more in (True, False):
            part = Answer(reference=question.reference, error="", document=b"[]", more=more)
            await it.living("qmgr").say(part)
        assert [(each.reference, each.more) for each in answers] == [(9, True), (9, False)]


async def test_without_a_spawner_the_supervisor_ends():
    with pytest.RaisesGroup(ChannelBroken, flatten_subgroups=True):
        async with world() as it:
            await it.boot()
            it.end.close()
            await trio.sleep_forever()
