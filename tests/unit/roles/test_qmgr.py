"""qmgr over both carriers: enqueue, resolve, the agents and the supervisor are played by the test.

The queue is a real directory.  Time is trio's mock clock, so that a retry schedule of hours passes
at once; the role's `time.time` follows it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.protocol import delivery
from refmta.roles import qmgr
from refmta.roles.qmgr import Slice, queue, state
from refmta.stores import chunks
from refmta.stores.disk import PosixDisk
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import (
    AgentRefused,
    AgentWanted,
    Answer,
    Arrived,
    Ask,
    Deliver,
    Message,
    Outcome,
    Ready,
    Route,
    Routed,
    Target,
)

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]
#: When the mock clock begins, in seconds since 1970.
EPOCH_S = 1_700_000_000
LIFETIME_S = 86_400


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The role's time begins at EPOCH_S and follows trio's clock, mock or real."""
    began_s: list[float] = []

    def now_s() -> float:
        began_s.append(trio.current_time())
        return EPOCH_S + trio.current_time() - began_s[0]

    monkeypatch.setattr(qmgr.run, "__kwdefaults__", {"wall": now_s, "chance": None})


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


def target(address: str) -> Target:
    user = address.partition("@")[0]
    return Target(kind="system", user=user, mailbox="Maildir", address=address)


@dataclass
class Agent:
    """A delivery agent of the test: takes note of what it is handed."""

    user: str
    channel: Channel
    handed: list[Deliver] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    gone: bool = False

    async def listen(self) -> None:
        try:
            while True:
                for item in await self.channel.receive():
                    assert isinstance(item.message, Deliver)
                    (descriptor,) = item.descriptors
                    self.contents.append(os.pread(descriptor, 1 << 20, 0))
                    with pytest.raises(OSError):
                        os.write(descriptor, b"x")
                    os.close(descriptor)
                    self.handed.append(item.message)
        except ChannelBroken:
            self.gone = True

    async def says(self, deliver: Deliver, kind: str = "delivered", **changes: Any) -> None:
        fields: dict[str, Any] = {
            "reference": deliver.reference, "kind": kind, "enhanced": "2.0.0", "text": "",
            **changes,
        }  # fmt: skip
        if kind in ("deferred", "failed"):
            fields |= {"enhanced": "4.2.0" if kind == "deferred" else "5.2.0", "text": "why"}
            fields |= changes
        self.channel.post(Outcome(**fields))
        await self.channel.flush()
        await trio.testing.wait_all_tasks_blocked()


@dataclass
class World:
    """qmgr at work."""

    pair: Pair
    spool: Path
    context: Context
    nursery: trio.Nursery
    enqueue: Channel
    said: list[Message] = field(default_factory=list)
    asked: list[Route] = field(default_factory=list)
    #: address -> answer; False: resolve keeps silent.
    routes: dict[str, tuple[str, ...] | Routed | bool] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    resolve: Channel | None = None
    #: All that were made, to be closed at the end.
    channels: list[Channel] = field(default_factory=list)

    # -- the queue --------------------------------------------------------------------------------

    def put(self, number: int, *recipients: str, arrival_s: int = EPOCH_S) -> str:
        """A chunk, as enqueue makes it."""
        envelope = Envelope(
            queue_id=queue_id(number), arrival_s=arrival_s, reverse_path="x@example.net",
            recipients=recipients or ("ada@example.org",), client="192.0.2.1", helo="h",
            protocol="SMTP",
        )  # fmt: skip
        path = self.spool / "chunks" / queue_id(number)
        path.write_bytes(encode_chunk(envelope, [b"content of %d\r\n" % number]))
        return queue_id(number)

    async def arrives(self, *ids: str) -> None:
        self.enqueue.post(Arrived(queue_ids=ids))
        await self.enqueue.flush()
        await trio.testing.wait_all_tasks_blocked()

    def queued(self) -> list[str]:
        return sorted(os.listdir(self.spool / "chunks"))

    def marks(self, name: str) -> list[tuple[str, int]]:
        """What is marked on disk: kind and recipient."""
        disk = PosixDisk(self.spool)
        loaded = chunks.load(disk, name)
        disk.close(loaded.handle)
        os.close(disk._root)
        return [(mark.kind, mark.index) for mark in loaded.marks]

    # -- peers ------------------------------------------------------------------------------------

    async def link_resolve(self) -> None:
        near, far = self.pair(border("qmgr", "resolve"))
        self.channels += near, far
        self.resolve = far
        self.context.port("resolve").put(Linked(near))
        self.nursery.start_soon(self._answer_routes, far)
        await trio.testing.wait_all_tasks_blocked()

    async def _answer_routes(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    assert isinstance(item.message, Route)
                    self.asked.append(item.message)
                    answer = self.routed(item.message)
                    if answer is not None:
                        channel.post(answer)
                await channel.flush()
        except ChannelBroken:
            return

    def routed(self, question: Route) -> Routed | None:
        known = self.routes.get(question.recipient, (question.recipient,))
        if known is False:
            return None
        if isinstance(known, Routed):
            return msgspec.structs.replace(known, reference=question.reference)
        assert isinstance(known, tuple)
        return Routed(
            reference=question.reference, code=250, enhanced="", text="",
            targets=tuple(map(target, known)),
        )  # fmt: skip

    async def link_agent(self, user: str = "ada") -> Agent:
        near, far = self.pair(border("qmgr", "local"))
        self.channels += near, far
        self.context.port("local").put(Linked(near, user))
        agent = self.agents[user] = Agent(user, far)
        self.nursery.start_soon(agent.listen)
        await trio.testing.wait_all_tasks_blocked()
        return agent

    async def lose(self, agent: Agent) -> None:
        agent.channel.close()
        await trio.testing.wait_all_tasks_blocked()

    def wanted(self) -> list[str]:
        """The users for whom an agent was asked for."""
        return [each.user for each in self.said if isinstance(each, AgentWanted)]

    async def order(self, message: Message) -> None:
        self.context.order(message)
        await trio.testing.wait_all_tasks_blocked()

    async def operator(self, verb: Any, name: str = "") -> str:
        """An operator's command; what was wrong with it."""
        await self.order(Ask(reference=len(self.said), verb=verb, queue_id=name))
        return self.answers()[-1].error

    def answers(self) -> list[Answer]:
        """What was answered to the operator."""
        return [each for each in self.said if isinstance(each, Answer)]

    def row(self, name: str) -> dict[str, Any]:
        """`queue show`, from the last answer."""
        rows: list[dict[str, Any]] = msgspec.json.decode(self.answers()[-1].document)
        (row,) = [each for each in rows if each["queue_id"] == name]
        return row


@asynccontextmanager
async def world(pair: Pair, spool: Path, *, resolve: bool = True) -> AsyncIterator[World]:
    for name in ("chunks", "damaged"):
        (spool / name).mkdir(exist_ok=True)
    said: list[Message] = []
    config = Slice(spool=str(spool), lifetime_s=LIFETIME_S)
    context = Context(slices={"qmgr": msgspec.msgpack.encode(config)}, say=said.append)
    near, far = pair(border("enqueue", "qmgr"))
    made: World | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(qmgr.run, context, journal("qmgr"))
            context.port("enqueue").put(Linked(far))
            made = World(pair, spool, context, nursery, near, said)
            if resolve:
                await made.link_resolve()
            await trio.testing.wait_all_tasks_blocked()
            assert said.pop(0) == Ready()
            yield made
            nursery.cancel_scope.cancel()
    finally:
        ends(spool, near, far, *(made.channels if made is not None else ()))


def ends(spool: Path, *channels: Channel) -> None:
    """The process would end here: what it held open is closed for it."""
    for each in channels:
        each.close()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if str(spool) in os.readlink(f"/proc/self/fd/{name}"):
                os.close(int(name))


# -- the way of a message -------------------------------------------------------------------------


@both
async def test_a_message_is_routed_handed_over_delivered_and_freed(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        await it.arrives(name)
        assert [each.recipient for each in it.asked] == ["ada@example.org"]
        assert it.wanted() == ["ada"]
        agent = await it.link_agent()
        (deliver,) = agent.handed
        assert (deliver.queue_id, deliver.index, deliver.mailbox) == (name, 0, "Maildir")
        assert deliver.recipient == "ada@example.org"
        assert agent.contents == [(tmp_path / "chunks" / name).read_bytes()]
        await agent.says(deliver)
        assert it.queued() == []
        assert await it.operator("show", name) == "no such message in the queue"
        await it.lose(agent)


@both
async def test_what_arrives_twice_is_delivered_once(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        agent = await it.link_agent()
        await it.arrives(name, name)
        await it.arrives(name)
        assert len(agent.handed) == 1


@both
async def test_a_route_is_asked_for_once_and_again_when_it_is_old(
    pair: Pair, tmp_path: Path, autojump_clock
):
    async with world(pair, tmp_path) as it:
        await it.link_agent()
        await it.arrives(*[it.put(number) for number in range(10)])
        assert len(it.asked) == 1
        assert len(it.agents["ada"].handed) == 10
        await trio.sleep(state.ROUTE_S + 1)
        await it.arrives(it.put(11))
        assert len(it.asked) == 2


@both
async def test_an_agent_has_only_so_many_at_a_time(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        await it.arrives(*[it.put(number) for number in range(state.WINDOW + 20)])
        assert len(agent.handed) == state.WINDOW
        for deliver in list(agent.handed[:5]):
            await agent.says(deliver)
        assert len(agent.handed) == state.WINDOW + 5


# -- marks: after the outcome, and only then ------------------------------------------------------


async def check_marks_follow_outcomes(it: World) -> None:
    """Two recipients; at each moment the disk says no more than what the agents have said."""
    name = it.put(1, "ada@example.org", "bob@example.org")
    ada, bob = await it.link_agent("ada"), await it.link_agent("bob")
    await it.arrives(name)
    assert len(ada.handed) == len(bob.handed) == 1
    assert it.marks(name) == []
    await bob.says(bob.handed[0])
    assert it.marks(name) == [("delivered", 1)]
    await ada.says(ada.handed[0])
    assert it.queued() == []  # the last outcome needs no mark


@both
async def test_a_mark_is_written_after_the_outcome_and_only_then(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        await check_marks_follow_outcomes(it)


async def test_control_a_mark_before_the_delivery_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same check refuses a qmgr whose marks come with the dispatch."""
    original, ran = delivery.step, []

    def early(message: delivery.Message, event: Any) -> Any:
        after, effects = original(message, event)
        if isinstance(event, delivery.Dispatched):
            ran.append(event)
            marks = tuple(delivery.Mark("delivered", each, 0, EPOCH_S) for each in event.indices)
            effects = (*effects, delivery.AppendMark(marks))
        return after, effects

    monkeypatch.setattr(delivery, "step", early)
    async with world(local_channels, tmp_path) as it:
        with pytest.raises(AssertionError, match="delivered"):
            await check_marks_follow_outcomes(it)
    assert ran


@both
async def test_after_a_crash_only_what_is_not_marked_is_delivered(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "ada@example.org", "bob@example.org", "eve@example.org")
        await it.arrives(name)
        for user in ("ada", "bob"):
            agent = await it.link_agent(user)
            await agent.says(agent.handed[0], "delivered" if user == "ada" else "deferred")
        assert it.marks(name) == [("delivered", 0), ("deferred", 1)]
    async with world(pair, tmp_path) as it:
        await it.arrives(name)
        assert it.wanted() == ["eve"]  # bob's time has not come
        agent = await it.link_agent("eve")
        await agent.says(agent.handed[0])
        assert await it.operator("retry", name) == ""
        assert it.wanted() == ["eve", "bob"]
        agent = await it.link_agent("bob")
        await agent.says(agent.handed[0])
        assert it.queued() == []


@both
async def test_a_mark_that_cannot_be_written_loses_nothing(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "ada@example.org", "bob@example.org")
        ada, bob = await it.link_agent("ada"), await it.link_agent("bob")
        await it.arrives(name)
        path = tmp_path / "chunks" / name
        path.rename(tmp_path / "away")
        await ada.says(ada.handed[0])
        (tmp_path / "away").rename(path)
        await bob.says(bob.handed[0], "deferred")
        assert it.marks(name) == [("deferred", 1)]  # ada may get it twice, bob not never


# -- trying again ---------------------------------------------------------------------------------


@both
async def test_a_deferred_message_comes_back_after_ten_seconds_a_minute_five_minutes(
    pair: Pair, tmp_path: Path, autojump_clock
):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        name = it.put(1)
        await it.arrives(name)
        times = [trio.current_time()]
        for number in range(1, 5):
            await agent.says(agent.handed[-1], "deferred")
            await it.operator("show", name)
            row = it.row(name)
            assert row["state"] == "deferred" and row["recipients"][0]["attempts"] == number
            assert row["next_attempt_s"] > EPOCH_S + trio.current_time()
            with trio.fail_after(10_000):
                while len(agent.handed) == number:
                    await trio.sleep(1)
            times.append(trio.current_time())
        waits = [b - a for a, b in itertools.pairwise(times)]
        for waited, base in zip(waits, (10, 60, 300, 600), strict=True):
            assert base <= waited <= base * 1.1 + 2
        assert len(it.asked) >= 3  # each time it is routed anew
        await agent.says(agent.handed[-1])
        assert it.queued() == []


@both
async def test_what_is_too_old_fails_and_is_kept_for_the_operator(
    pair: Pair, tmp_path: Path, autojump_clock
):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        name = it.put(1, arrival_s=EPOCH_S - LIFETIME_S)
        await it.arrives(name)
        await agent.says(agent.handed[0], "deferred")
        assert it.marks(name) == [("failed", 0)]
        await trio.sleep(LIFETIME_S)
        assert len(agent.handed) == 1 and it.queued() == [name]
        await it.operator("show", name)
        assert it.row(name)["state"] == "failed" and it.row(name)["next_attempt_s"] is None
        await it.operator("retry", name)
        assert len(agent.handed) == 2
        await agent.says(agent.handed[1])
        assert it.queued() == []


@both
@pytest.mark.parametrize(("code", "kind"), [(550, "failed"), (450, "deferred"), (250, "deferred")])
async def test_a_recipient_that_has_no_target_is_failed_or_deferred(
    pair: Pair, tmp_path: Path, code: int, kind: str
):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "x@example.org", "ada@example.org")
        refusal = Routed(reference=0, code=code, enhanced="", text="no")
        it.routes["x@example.org"] = refusal
        agent = await it.link_agent()
        await it.arrives(name)
        await agent.says(agent.handed[0])
        assert it.marks(name) == [(kind, 0), ("delivered", 1)]
        assert it.queued() == [name]


@both
async def test_an_alias_is_marked_as_expanded_before_its_members_are_tried(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "all@example.org")
        it.routes["all@example.org"] = ("ada@example.org", "bob@example.org")
        await it.arrives(name)
        assert it.marks(name) == [("expanded", 0)]
        ada = await it.link_agent("ada")
        await ada.says(ada.handed[0])
        assert it.marks(name) == [("expanded", 0), ("delivered", 1)]
        it.routes["all@example.org"] = ("eve@example.org",)
    async with world(pair, tmp_path) as it:  # a crash; the alias has changed since
        await it.arrives(name)
        assert [each.recipient for each in it.asked] == ["bob@example.org"]
        bob = await it.link_agent("bob")
        await bob.says(bob.handed[0])
        assert it.queued() == []


# -- agents that are lost or refused --------------------------------------------------------------


@both
async def test_what_a_lost_agent_had_is_handed_to_the_next(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        ids = [it.put(number) for number in range(5)]
        await it.arrives(*ids)
        await agent.says(agent.handed[0])
        await it.lose(agent)
        assert it.wanted() == ["ada"]
        agent = await it.link_agent()
        assert sorted(each.queue_id for each in agent.handed) == ids[1:]
        for deliver in list(agent.handed):
            await agent.says(deliver)
        assert it.queued() == []


@both
async def test_a_message_that_outlives_its_agents_is_deferred_and_comes_back(
    pair: Pair, tmp_path: Path, autojump_clock
):
    """It may be what kills them; it must not be forgotten either."""
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        await it.arrives(name)
        for number in range(state.LOSSES):
            assert it.marks(name) == [], number
            agent = await it.link_agent()
            assert len(agent.handed) == 1
            await it.lose(agent)
        assert it.marks(name) == [("deferred", 0)]
        await it.operator("show", name)
        row = it.row(name)
        assert row["recipients"][0]["text"] == "the delivery agent ended without an answer"
        assert row["next_attempt_s"] > EPOCH_S
        agent = await it.link_agent()
        assert not agent.handed
        await trio.sleep(30)
        assert len(agent.handed) == 1
        await agent.says(agent.handed[0])
        assert it.queued() == []


@both
async def test_a_lost_agent_counts_once_for_a_message_however_many_recipients_it_had(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        recipients = [f"u{number}@example.org" for number in range(5)]
        for each in recipients:
            user = each.partition("@")[0]
            it.routes[each] = Routed(
                reference=0, code=250, enhanced="", text="",
                targets=(Target(kind="virtual", user="virtual", mailbox=f"o/{user}",
                                address=each),),
            )  # fmt: skip
        name = it.put(1, *recipients)
        await it.arrives(name)
        for _ in range(state.LOSSES - 1):
            agent = await it.link_agent("virtual")
            assert len(agent.handed) == 5
            await it.lose(agent)
        assert it.marks(name) == []
        agent = await it.link_agent("virtual")
        assert len(agent.handed) == 5


@both
async def test_a_recipient_whose_agent_was_lost_is_not_handed_over_twice(
    pair: Pair, tmp_path: Path
):
    """While the next agent is awaited, another recipient of the message is settled."""
    async with world(pair, tmp_path) as it:
        name = it.put(1, "ada@example.org", "bob@example.org")
        ada, bob = await it.link_agent("ada"), await it.link_agent("bob")
        await it.arrives(name)
        await it.lose(ada)
        await bob.says(bob.handed[0])
        ada = await it.link_agent("ada")
        assert len(ada.handed) == 1
        await ada.says(ada.handed[0])
        assert it.queued() == []


@both
async def test_mail_for_a_user_without_an_agent_waits_with_the_reason_and_comes_back(
    pair: Pair, tmp_path: Path, autojump_clock
):
    async with world(pair, tmp_path) as it:
        ids = [it.put(number) for number in range(3)]
        await it.arrives(*ids)
        await it.order(AgentRefused(user="ada", text="no such user"))
        for name in ids:
            await it.operator("show", name)
            row = it.row(name)
            (recipient,) = row["recipients"]
            assert (recipient["code"], recipient["text"]) == ("4.3.5", "no such user")
            assert row["next_attempt_s"] > EPOCH_S
        assert it.wanted() == ["ada"]
        await trio.sleep(30)
        assert it.wanted() == ["ada", "ada"]
        agent = await it.link_agent()
        assert len(agent.handed) == 3


@both
async def test_an_outcome_that_nobody_asked_for_changes_nothing(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        ada, bob = await it.link_agent("ada"), await it.link_agent("bob")
        await it.arrives(name)
        for reference in (0, 99, ada.handed[0].reference):
            forged = msgspec.structs.replace(ada.handed[0], reference=reference)
            await bob.says(forged)  # another user's agent
        assert it.queued() == [name] and it.marks(name) == []
        await ada.says(ada.handed[0], "deferred")
        await ada.says(ada.handed[0])  # it has said so already
        assert it.marks(name) == [("deferred", 0)]


@both
async def test_a_second_agent_for_a_user_takes_over_from_the_first(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        first = await it.link_agent()
        name = it.put(1)
        await it.arrives(name)
        second = await it.link_agent()
        assert len(second.handed) == 1
        await second.says(second.handed[0])
        assert it.queued() == []
        await it.lose(first)
        await it.arrives(it.put(2))
        assert len(second.handed) == 2


# -- damaged chunks -------------------------------------------------------------------------------


@both
async def test_a_damaged_chunk_is_set_aside_and_never_dropped(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        torn, rotten = it.put(1), it.put(2)
        path = tmp_path / "chunks" / torn
        path.write_bytes(path.read_bytes()[:-1])
        path = tmp_path / "chunks" / rotten
        path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT"))
        agent = await it.link_agent()
        await it.arrives(torn, rotten, it.put(3))
        assert [each.queue_id for each in agent.handed] == [rotten, queue_id(3)]
        await agent.says(agent.handed[0], "damaged", enhanced="5.6.0", text="digest")
        await agent.says(agent.handed[1])
        assert it.queued() == []
        found = sorted(os.listdir(tmp_path / "damaged"))
        assert found == [f"{torn}.damaged", f"{rotten}.damaged"]


@both
async def test_a_chunk_that_is_gone_is_no_trouble(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        await it.arrives(queue_id(7))
        assert await it.operator("show", queue_id(7)) == "no such message in the queue"
        agent = await it.link_agent()
        await it.arrives(it.put(1))
        assert len(agent.handed) == 1


@both
async def test_a_seized_agent_cannot_set_aside_what_is_whole(pair: Pair, tmp_path: Path):
    """ada's agent says that a message to ada and bob is damaged; bob gets it all the same."""
    async with world(pair, tmp_path) as it:
        name = it.put(1, "ada@example.org", "bob@example.org")
        ada = await it.link_agent("ada")
        await it.arrives(name)
        await ada.says(ada.handed[0], "damaged", enhanced="5.6.0", text="digest")
        assert it.queued() == [name]
        bob = await it.link_agent("bob")
        assert len(bob.handed) == 1


# -- resolve away ---------------------------------------------------------------------------------


@both
async def test_what_a_lost_resolve_left_open_is_asked_anew(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, resolve=False) as it:
        name = it.put(1)
        await it.arrives(name)
        it.routes["ada@example.org"] = False
        await it.link_resolve()
        assert len(it.asked) == 1
        assert it.resolve is not None
        it.resolve.close()
        await trio.testing.wait_all_tasks_blocked()
        it.routes.clear()
        await it.link_resolve()
        assert len(it.asked) == 2
        assert it.wanted() == ["ada"]


@both
async def test_a_late_route_of_a_message_that_was_held_and_released_is_used_once(
    pair: Pair, tmp_path: Path
):
    """Two tellings of one message must not live side by side: the older one's marks would cut
    off the newer one's.
    """
    async with world(pair, tmp_path) as it:
        it.routes["all@example.org"] = False
        name = it.put(1, "all@example.org")
        await it.arrives(name)
        await it.operator("hold", name)
        await it.operator("release", name)
        assert it.resolve is not None
        it.routes["all@example.org"] = ("ada@example.org", "bob@example.org")
        for question in list(it.asked):
            answer = it.routed(question)
            assert answer is not None
            it.resolve.post(answer)
        await it.resolve.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert it.marks(name) == [("held", -1), ("released", -1), ("expanded", 0)]
        ada = await it.link_agent("ada")
        assert len(ada.handed) == 1


# -- the operator ---------------------------------------------------------------------------------


@both
async def test_a_held_message_is_not_handed_over_and_a_released_one_is(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        name = it.put(1)
        await it.arrives(name)
        await agent.says(agent.handed[0], "deferred")
        assert await it.operator("hold", name) == ""
        await it.operator("retry", name)
        await it.operator("retry")
        assert len(agent.handed) == 1
        await it.operator("show", name)
        assert it.row(name)["state"] == "held"
        await it.operator("release", name)
        await it.operator("retry", name)
        assert len(agent.handed) == 2


@both
async def test_a_message_held_while_its_agent_is_awaited_is_not_handed_over_after_a_loss(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        name = it.put(1)
        await it.arrives(name)
        await it.operator("hold", name)  # in flight: not called back
        await it.lose(agent)
        agent = await it.link_agent()
        assert not agent.handed
        await it.operator("release", name)
        await trio.testing.wait_all_tasks_blocked()
        if not agent.handed:
            agent = await it.link_agent()
        assert len(agent.handed) == 1


@both
async def test_retry_of_all_tries_all_that_wait_and_also_what_has_failed(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        ids = [it.put(number) for number in range(4)]
        await it.arrives(*ids)
        for deliver, kind in zip(list(agent.handed), ["deferred", "failed"] * 2, strict=True):
            await agent.says(deliver, kind)
        assert await it.operator("retry") == ""
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(each.queue_id for each in agent.handed[4:]) == ids


@both
async def test_a_removed_message_is_gone_and_its_late_outcome_means_nothing(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        name = it.put(1)
        await it.arrives(name)
        assert await it.operator("remove", name) == ""
        assert it.queued() == []
        await agent.says(agent.handed[0], "deferred")
        assert it.queued() == []
        assert await it.operator("remove", name) == "no such message in the queue"


@both
async def test_only_retry_needs_no_id(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        for verb in ("hold", "release", "remove"):
            assert await it.operator(verb) == "which message?"


@both
async def test_a_long_queue_is_described_in_parts(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        ids = [it.put(number) for number in range(2 * state.ROWS_AT_ONCE + 7)]
        await it.arrives(*ids)
        it.said.clear()
        await it.operator("list")
        assert [each.more for each in it.answers()] == [True, True, False]
        rows = [row for each in it.answers() for row in msgspec.json.decode(each.document)]
        assert [row["queue_id"] for row in rows] == ids


# -- bounds ---------------------------------------------------------------------------------------


@both
async def test_only_so_many_messages_are_in_memory_and_all_are_delivered(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue, "ACTIVE", 10)
    monkeypatch.setattr(queue, "LOADED_AT_ONCE", 4)
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        await it.arrives(*[it.put(number) for number in range(50)])
        done = 0
        while done < 50:
            assert len(agent.handed) - done <= 10
            assert len(agent.handed) > done
            await agent.says(agent.handed[done])
            done += 1
        assert it.queued() == []


@both
async def test_a_user_whose_agent_hangs_keeps_nobody_elses_mail_waiting(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue, "ACTIVE", 8)
    async with world(pair, tmp_path) as it:
        await it.arrives(*[it.put(number) for number in range(20)])
        bob = await it.link_agent("bob")
        await it.arrives(it.put(100, "bob@example.org"))
        assert len(bob.handed) == 1
        ada = await it.link_agent("ada")
        done = 0
        while done < len(ada.handed):
            await ada.says(ada.handed[done])
            done += 1
        assert done == 20


@both
async def test_what_is_parked_and_retried_by_the_operator_is_handed_over_once(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue, "ACTIVE", 8)
    async with world(pair, tmp_path) as it:
        ids = [it.put(number) for number in range(12)]
        await it.arrives(*ids)
        for name in ids:
            await it.operator("retry", name)
        await it.operator("retry")
        ada = await it.link_agent("ada")
        done = 0
        while done < len(ada.handed):
            await ada.says(ada.handed[done])
            done += 1
        assert sorted(each.queue_id for each in ada.handed) == ids
        assert it.queued() == []


@both
async def test_draining_waits_for_what_is_in_flight_and_takes_nothing_new(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        agent = await it.link_agent()
        await it.arrives(it.put(1))
        it.context.draining.set()
        await trio.testing.wait_all_tasks_blocked()
        await it.arrives(it.put(2))
        assert len(agent.handed) == 1
        await agent.says(agent.handed[0])
        assert it.queued() == [queue_id(2)]
