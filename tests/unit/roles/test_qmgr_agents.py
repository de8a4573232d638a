"""qmgr and the agents for local mail that are not a process per user: one agent for all, and one
for each delivery.  On trio's mock clock, with agents of the test.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import qmgr
from refmta.roles.qmgr import Slice, agents, spawns, state
from refmta.roles.qmgr.turns import Owner, Turns
from refmta.stores import chunks
from refmta.stores.disk import PosixDisk
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import Arrived, Deliver, Message, Outcome, Route, Routed, Target

Pair = Callable[..., tuple[Channel, Channel]]
Mode = Literal["shared", "called"]
both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
modes = pytest.mark.parametrize("mode", ["shared", "called"])
EPOCH_S = 1_700_000_000
#: Deliveries at once where each is a call.
WORKERS = 10


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


@dataclass(eq=False)
class Agent:
    """The far end of a link, or of one call."""

    channel: Channel
    user: str = ""
    handed: list[Deliver] = field(default_factory=list)
    open: list[Deliver] = field(default_factory=list)
    gone: bool = False

    async def listen(self) -> None:
        try:
            while True:
                for item in await self.channel.receive():
                    for each in item.descriptors:
                        os.close(each)
                    assert isinstance(item.message, Deliver)
                    self.handed.append(item.message)
                    self.open.append(item.message)
        except ChannelBroken:
            self.gone = True
            self.channel.close()

    async def says(self, deliver: Deliver, kind: str = "delivered", **changes: Any) -> None:
        code = {"delivered": "2.0.0", "deferred": "4.2.0", "damaged": "5.6.0"}[kind]
        fields = {"reference": deliver.reference, "kind": kind, "enhanced": code, "text": "why"}
        self.channel.post(Outcome(**{**fields, **changes}))
        self.open.remove(deliver)
        await self.channel.flush()
        await trio.testing.wait_all_tasks_blocked()

    async def dies(self) -> None:
        self.channel.close()
        await trio.testing.wait_all_tasks_blocked()


@dataclass
class World:
    """qmgr at work; the user of every address is its local part, but for those of `virtual`."""

    pair: Pair
    mode: Mode
    spool: Path
    nursery: trio.Nursery
    enqueue: Channel
    context: Context
    agents: list[Agent] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    #: What goes wrong when an agent is called: no descriptor, or nobody.
    trouble: str = ""

    def call(self, port: str, detail: str = "") -> Channel:
        assert (port, self.mode) == ("local", "called") and detail
        if self.trouble == "descriptors":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        near, agent = self._agent(detail)
        if self.trouble == "away":
            agent.channel.close()
            agent.gone = True
        else:
            self.nursery.start_soon(agent.listen)
        return near

    def _agent(self, user: str = "") -> tuple[Channel, Agent]:
        near, far = self.pair(border("qmgr", "local"))
        self.channels += near, far
        agent = Agent(far, user)
        self.agents.append(agent)
        return near, agent

    async def link(self, port: str = "local") -> Agent | None:
        """The agent of all, where there is one."""
        if self.mode == "called":
            return None
        near, agent = self._agent()
        self.context.port(port).put(Linked(near))
        self.nursery.start_soon(agent.listen)
        await trio.testing.wait_all_tasks_blocked()
        return agent

    def put(self, number: int, *recipients: str) -> str:
        envelope = Envelope(
            queue_id=queue_id(number), arrival_s=EPOCH_S, reverse_path="x@example.org",
            recipients=recipients or ("ada@example.org",), client="192.0.2.1", helo="h",
            protocol="SMTP",
        )  # fmt: skip
        path = self.spool / "chunks" / queue_id(number)
        path.write_bytes(encode_chunk(envelope, [b"Subject: x\r\n\r\nx\r\n"]))
        return queue_id(number)

    async def arrives(self, *ids: str) -> None:
        self.enqueue.post(Arrived(queue_ids=ids))
        await self.enqueue.flush()
        await trio.testing.wait_all_tasks_blocked()

    async def put_for(self, user: str, numbers: range) -> None:
        await self.arrives(*[self.put(number, f"{user}@example.org") for number in numbers])

    def open(self) -> list[tuple[Agent, Deliver]]:
        """What agents are at."""
        return [(each, job) for each in self.agents if not each.gone for job in each.open]

    def at_work(self) -> Counter[str]:
        """How many of each user's."""
        return Counter(job.recipient.partition("@")[0] for _, job in self.open())

    async def finish(self, user: str = "", number: int = 1, kind: str = "delivered") -> None:
        for _ in range(number):
            found = [(a, j) for a, j in self.open() if j.recipient.startswith(user)]
            await found[0][0].says(found[0][1], kind)

    async def finish_all(self) -> None:
        while self.open():
            await self.finish()

    async def kill(self) -> None:
        """The agent of the first delivery that is under way."""
        await self.open()[0][0].dies()

    def queued(self) -> list[str]:
        return sorted(os.listdir(self.spool / "chunks"))

    def marks(self, name: str) -> list[str]:
        disk = PosixDisk(self.spool)
        loaded = chunks.load(disk, name)
        disk.close(loaded.handle)
        disk.leave()
        return [mark.kind for mark in loaded.marks]

    async def answer_routes(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    assert isinstance(item.message, Route)
                    address = item.message.recipient
                    user, _, domain = address.partition("@")
                    virtual = domain == "virtual.example"
                    target = Target(
                        kind="virtual" if virtual else "system", address=address,
                        user="virtual" if virtual else user,
                        mailbox=f"v/{user}" if virtual else "Maildir",
                    )  # fmt: skip
                    answer = Routed(
                        reference=item.message.reference, code=250, enhanced="", text="",
                        targets=(target,),
                    )  # fmt: skip
                    channel.post(answer)
                await channel.flush()
        except ChannelBroken:
            return


@asynccontextmanager
async def world(pair: Pair, mode: Mode, spool: Path) -> AsyncIterator[World]:
    for name in ("chunks", "damaged"):
        (spool / name).mkdir(exist_ok=True)
    said: list[Message] = []
    began_s = trio.current_time()
    near, far = pair(border("enqueue", "qmgr"))
    resolve, theirs = pair(border("qmgr", "resolve"))
    config = Slice(spool=str(spool), agents=mode, local_workers=WORKERS)
    made: list[World] = []
    context = Context(
        slices={"qmgr": msgspec.msgpack.encode(config)}, say=said.append,
        call=lambda port, detail="": made[0].call(port, detail),
    )  # fmt: skip
    try:
        async with trio.open_nursery() as nursery:
            made.append(World(pair, mode, spool, nursery, near, context))
            nursery.start_soon(made[0].answer_routes, theirs)

            async def run() -> None:
                wall = lambda: EPOCH_S + trio.current_time() - began_s  # noqa: E731
                await qmgr.run(context, journal("qmgr"), wall=wall)

            nursery.start_soon(run)
            context.port("enqueue").put(Linked(far))
            context.port("resolve").put(Linked(resolve))
            await trio.testing.wait_all_tasks_blocked()
            yield made[0]
            assert len(said) == 1, "nobody asks the supervisor for an agent"
            nursery.cancel_scope.cancel()
    finally:
        for each in (near, far, resolve, theirs, *made[0].channels):
            each.close()
        for name in os.listdir("/proc/self/fd"):
            if os.path.exists(f"/proc/self/fd/{name}") and str(spool) in os.readlink(
                f"/proc/self/fd/{name}"
            ):
                os.close(int(name))


# -- the way of a message -------------------------------------------------------------------------


@both
@modes
async def test_each_recipient_is_delivered_for_his_user_and_the_message_freed(
    pair: Pair, mode: Mode, tmp_path: Path
):
    async with world(pair, mode, tmp_path) as it:
        await it.link()
        await it.arrives(it.put(1, "ada@example.org", "bob@example.org", "v@virtual.example"))
        found = {job.recipient: (agent.user or job.user, job.mailbox) for agent, job in it.open()}
        assert found == {
            "ada@example.org": ("ada", "Maildir"),
            "bob@example.org": ("bob", "Maildir"),
            "v@virtual.example": ("virtual", "v/v"),
        }
        if mode == "called":
            assert all(not job.user for _, job in it.open()), "the process is the user already"
            assert len(it.agents) == 3
        await it.finish_all()
        assert it.queued() == []
        assert all(each.gone for each in it.agents) == (mode == "called")


@both
async def test_an_lmtp_client_is_handed_mail_as_one_agent_for_all(pair: Pair, tmp_path: Path):
    async with world(pair, "shared", tmp_path) as it:
        await it.put_for("ada", range(3))
        agent = await it.link("lmtpc")
        assert agent is not None
        assert [job.user for job in agent.handed] == ["ada"] * 3
        await it.finish_all()
        assert it.queued() == []


@both
async def test_a_call_makes_one_delivery_and_ends(pair: Pair, tmp_path: Path):
    async with world(pair, "called", tmp_path) as it:
        await it.put_for("ada", range(30))
        while it.open():
            await it.finish()
        assert [len(each.handed) for each in it.agents] == [1] * 30
        assert it.queued() == [] and all(each.gone for each in it.agents)


@both
@modes
async def test_what_an_agent_calls_damaged_is_looked_at_again(
    pair: Pair, mode: Mode, tmp_path: Path
):
    async with world(pair, mode, tmp_path) as it:
        await it.link()
        whole, broken = it.put(1), it.put(2)
        path = tmp_path / "chunks" / broken
        path.write_bytes(path.read_bytes().replace(b"Subject", b"Subjekt"))
        await it.arrives(whole, broken)
        await it.finish(kind="damaged", number=2)
        assert it.queued() == [whole] and it.marks(whole) == ["deferred"]


# -- nobody waits for others ----------------------------------------------------------------------


@both
@modes
async def test_users_whose_deliveries_hang_leave_room_for_others(
    pair: Pair, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agents, "SHARED", WORKERS)
    async with world(pair, mode, tmp_path) as it:
        await it.link()
        await it.put_for("ada", range(50))
        assert it.at_work() == {"ada": 5}
        await it.put_for("bob", range(100, 150))
        assert it.at_work() == {"ada": 5, "bob": 3}
        await it.put_for("eve", range(200, 201))
        assert it.at_work() == {"ada": 5, "bob": 3, "eve": 1}
        for _ in range(20):
            await it.put_for("zoe", range(300, 301))
            assert it.at_work()["zoe"] == 1
            await it.finish("zoe")
        await it.finish("ada", 49)
        assert it.at_work()["ada"] == 1


@both
@modes
async def test_places_go_to_who_has_waited_longest(
    pair: Pair, mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agents, "SHARED", WORKERS)
    async with world(pair, mode, tmp_path) as it:
        await it.link()
        for place in range(30):
            await it.put_for(f"user{place:02}", range(place * 10, place * 10 + 3))
        order = []
        while it.open():
            user = it.open()[0][1].recipient.partition("@")[0]
            order.append(user)
            await it.finish(user)
        assert it.queued() == [] and len(order) == 90
        # Whoever came last has had his first before the first one had more than his share.
        assert order.index("user29") < 60


@both
async def test_one_agent_for_all_has_only_so_many_of_a_user(pair: Pair, tmp_path: Path):
    async with world(pair, "shared", tmp_path) as it:
        await it.link()
        await it.put_for("ada", range(state.WINDOW + 50))
        assert it.at_work() == {"ada": state.WINDOW}
        await it.finish(number=60)
        assert it.at_work() == {"ada": 54}


# -- agents that are lost -------------------------------------------------------------------------


@both
async def test_what_the_agent_of_all_had_is_handed_to_the_next(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agents, "SHARED", WORKERS)  # whose places are free again, too
    async with world(pair, "shared", tmp_path) as it:
        agent = await it.link()
        assert agent is not None
        await it.put_for("ada", range(3))
        await it.put_for("bob", range(10, 13))
        await it.finish("ada")
        await agent.dies()
        assert it.open() == []
        agent = await it.link()
        assert it.at_work() == {"ada": 2, "bob": 3}
        await it.link()  # before the end of the former was seen
        assert it.at_work() == {"ada": 2, "bob": 3}
        await it.finish_all()
        assert it.queued() == []


@both
async def test_the_agent_of_all_counts_once_for_a_message_of_many_users(pair: Pair, tmp_path: Path):
    async with world(pair, "shared", tmp_path) as it:
        name = it.put(1, *[f"user{place}@example.org" for place in range(5)])
        await it.arrives(name)
        for _ in range(state.LOSSES - 1):
            agent = await it.link()
            assert agent is not None and len(agent.open) == 5
            await agent.dies()
        assert it.marks(name) == []
        agent = await it.link()
        assert agent is not None and len(agent.open) == 5
        await agent.dies()
        assert it.marks(name) == ["deferred"] * 5


@both
async def test_a_recipient_that_outlives_his_calls_is_deferred_and_no_other(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    """Each loss is of one recipient; he has a pause, and the others have none."""
    async with world(pair, "called", tmp_path) as it:
        name = it.put(1, "ada@example.org", "bob@example.org")
        await it.arrives(name)
        for number in range(state.LOSSES):
            (agent,) = [each for each, job in it.open() if job.recipient.startswith("ada")]
            before_s = trio.current_time()
            await agent.dies()
            if number < state.LOSSES - 1:
                assert it.at_work() == {"bob": 1} and it.marks(name) == []
                await it.put_for("eve", range(10 + number, 11 + number))
                assert it.at_work()["eve"] == 1
                await it.finish("eve")
                await trio.sleep(spawns.PAUSES_S[number] + 0.01)
                assert it.at_work() == {"ada": 1, "bob": 1}
                assert trio.current_time() - before_s >= spawns.PAUSES_S[number]
        assert it.marks(name) == ["deferred"] and it.at_work() == {"bob": 1}
        await it.finish("bob")
        await trio.sleep(3600)
        await it.finish("ada")
        assert it.queued() == []


@both
async def test_mail_waits_out_a_pool_that_starts_anew(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, "called", tmp_path) as it:
        it.trouble = "away"
        ids = [it.put(number) for number in range(20)]
        await it.arrives(*ids)
        await trio.sleep(0.2)
        assert len(it.agents) < 10, "no storm of calls"
        it.trouble = ""
        await trio.sleep(1)
        while it.queued():
            await it.finish_all()
            await trio.sleep(10)


@both
async def test_without_a_descriptor_left_a_delivery_is_deferred(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, "called", tmp_path) as it:
        it.trouble = "descriptors"
        name = it.put(1)
        await it.arrives(name)
        assert it.marks(name) == ["deferred"] and not it.agents
        it.trouble = ""
        await trio.sleep(3600)
        await it.finish()
        assert it.queued() == []


@both
async def test_a_call_that_answers_what_nobody_asked_is_lost(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, "called", tmp_path) as it:
        name = it.put(1)
        await it.arrives(name)
        ((agent, job),) = it.open()
        await agent.says(job, reference=job.reference + 1)
        assert it.queued() == [name] and it.marks(name) == []
        await trio.sleep(1)
        assert len(it.agents) == 2
        await it.finish()
        assert it.queued() == []


@both
@modes
async def test_draining_waits_for_what_is_with_agents_and_hands_over_no_more(
    pair: Pair, mode: Mode, tmp_path: Path
):
    async with world(pair, mode, tmp_path) as it:
        await it.link()
        ids = [it.put(number) for number in range(100)]
        await it.arrives(*ids)
        begun = len(it.open())
        assert 0 < begun < 100
        it.context.draining.set()
        await trio.testing.wait_all_tasks_blocked()
        await it.finish_all()
        assert len(it.queued()) == 100 - begun


# -- whose turn it is -----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=80), st.integers(1, 12))
def test_turns_are_bounded_and_leave_nobody_out(moves: list[tuple[int, bool]], limit: int):
    """Mail comes and deliveries end in any order: never more than the limit at once; nobody who
    waits without a place is left out while one is free; whoever has the last one had none before.
    """
    turns = Turns(limit, limit)
    owners = [Owner(str(number)) for number in range(6)]
    reference = 0
    for number, comes in moves:
        owner = owners[number]
        if comes:
            owner.backlog.append((None, 0))  # type: ignore[arg-type]
            turns.wait(owner)
        elif owner.flying:
            owner.flying.popitem()
            turns.under_way -= 1
            turns.wait(owner)
        while (chosen := turns.next(0.0)) is not None:
            assert len(chosen.flying) < limit - turns.under_way
            reference += 1
            chosen.flying[reference] = chosen.backlog.popleft()
            turns.under_way += 1
        assert turns.under_way == sum(len(each.flying) for each in owners) <= limit
        if turns.under_way < limit:
            assert all(each.flying or not each.backlog for each in owners)
