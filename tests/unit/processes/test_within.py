"""Several roles in one process: their channels, calls, ends, and when all is settled.

Each check takes the module under test, so that a control can run it on a mutant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import UNTAKEN, Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes import calls, within
from refmta.processes.channels import adopt, local_channels, socket_channels, socket_pair
from refmta.processes.entries import Member
from refmta.trace import Emit
from refmta.wire.messages import (
    AgentWanted,
    Arrived,
    Attach,
    Configure,
    Hurry,
    Kept,
    Line,
    Link,
    Lookup,
    Message,
    Ready,
    Route,
    Routed,
    Submit,
)
from specs.kernel.mutant import hits, mutate

ID = "06H06TY2DFR20W5S"
ARRIVED = Arrived(queue_ids=(ID,))
ROUTE = Route(reference=1, recipient="ada@example.org")
ROUTED = Routed(reference=1, code=250, enhanced="", text="")
SUBMIT = Submit(
    reverse_path="", recipients=("ada@example.org",), client="", helo="", protocol="local"
)


@dataclass
class Role:
    """A role that does what the test says, and ends when drained unless that says otherwise."""

    name: str
    act: Callable[[Context], Awaitable[None]] | None = None
    contexts: list[Context] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)

    async def run(self, context: Context, journal: Journal) -> None:
        self.contexts.append(context)
        context.ready()
        if self.act is not None:
            await self.act(context)
        await context.draining.wait()
        self.over.set()

    @property
    def context(self) -> Context:
        (context,) = self.contexts
        return context

    @property
    def member(self) -> Member:
        return Member(role=self.name, run=self.run)


@dataclass
class House:
    """A process's roles, all configured."""

    within: Any
    nursery: trio.Nursery
    said: list[Message]

    async def turn(self) -> None:
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def house(
    module: ModuleType, members: list[Member], *talks: tuple[str, str]
) -> AsyncIterator[House]:
    said: list[Message] = []
    async with trio.open_nursery() as nursery:
        here = House(module.Within(members, talks, nursery, said.append), nursery, said)
        for each in members:
            here.within.configure(each.role, b"")
        await here.turn()
        yield here
        nursery.cancel_scope.cancel()


async def said(channel: Channel) -> list[Message | None]:
    with trio.fail_after(10):
        return [each.message for each in await channel.receive()]


async def tell(channel: Channel, *messages: Message) -> None:
    for each in messages:
        channel.post(each)
    await channel.flush()


async def broken(channel: Channel, within_s: float = 10) -> bool:
    with trio.move_on_after(within_s):
        try:
            while True:
                await channel.receive()
        except ChannelBroken:
            return True
    return False


# -- starting -------------------------------------------------------------------------------------


async def test_roles_start_when_all_have_their_slices_and_are_ready_once():
    one, other, ready = Role("qmgr"), Role("bounce"), []
    async with trio.open_nursery() as nursery:
        here = within.Within([one.member, other.member], (), nursery, ready.append)
        here.configure("qmgr", b"its own")
        await trio.testing.wait_all_tasks_blocked()
        assert not one.contexts and not ready
        here.configure("bounce", b"another")
        await trio.testing.wait_all_tasks_blocked()
        assert ready == [Ready()]
        assert dict(one.context.slices) == {"qmgr": b"its own"}
        for stranger in ("bounce", "smtpd"):
            with pytest.raises(ChannelBroken):
                here.configure(stranger, b"")
        one.context.say(AgentWanted(user="ada"))
        assert ready == [Ready(), AgentWanted(user="ada")]
        nursery.cancel_scope.cancel()


async def test_orders_of_years_do_not_pile_up_at_a_role_that_never_asks():
    role = Role("enqueue")
    async with house(within, [role.member]) as here:
        for _ in range(3000):
            here.within.order(Configure(role="enqueue", slice=b""))


# -- channels in here -----------------------------------------------------------------------------


async def test_a_channel_is_made_when_the_client_listens_and_not_before():
    qmgr, resolve = Role("qmgr"), Role("resolve")
    async with house(within, [qmgr.member, resolve.member], ("qmgr", "resolve")):
        assert resolve.context.ports == {}
        near = (await qmgr.context.port("resolve").get()).channel
        far = (await resolve.context.port("qmgr").get()).channel
        await tell(near, ROUTE)
        assert await said(far) == [ROUTE]
        await tell(far, ROUTED)
        assert await said(near) == [ROUTED]
        qmgr.context.port("resolve")  # listening again makes no other
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0) as none:
            await resolve.context.port("qmgr").get()
        assert none.cancelled_caught


async def test_each_call_is_a_channel_of_its_own_and_says_for_whom():
    qmgr, local = Role("qmgr"), Role("local")
    async with house(within, [qmgr.member, local.member], ("qmgr", "local")):
        calls = [qmgr.context.call("local", user) for user in ("ada", "bob")]
        links = [await local.context.port("qmgr").get() for _ in calls]
        assert [each.detail for each in links] == ["ada", "bob"]
        calls[0].close()
        assert await broken(links[0].channel)
        with pytest.raises(KeyError):  # nobody talks to it, here or elsewhere
            qmgr.context.call("smtpd")
        assert await broken(qmgr.context.call("remote"))  # it is away


@dataclass
class Call:
    """A session that answers each question until its caller is gone, or it is told to stop."""

    channel: Channel
    client: str
    channels: Mapping[str, Channel]
    clean: bool = True
    drained: bool = False

    async def run(self) -> None:
        try:
            while True:
                await said(self.channel)
                await tell(self.channel, ROUTED)
        except ChannelBroken:
            return

    def drain(self) -> None:
        self.drained = True


def attended(role: str) -> tuple[Member, list[Call]]:
    calls: list[Call] = []

    def attend(
        channel: Channel, client: str, _slice: bytes, channels: Mapping[str, Channel],
        _journal: Journal, _trace: Emit,
    ) -> Call:  # fmt: skip
        calls.append(Call(channel, client, channels))
        return calls[-1]

    return Member(role=role, attend=attend), calls


async def test_a_role_that_can_only_be_called_gets_a_task_per_call_with_channels_of_its_own():
    qmgr, accounts = Role("qmgr"), Role("accounts")
    resolve, sessions = attended("resolve")
    talks = ("qmgr", "resolve"), ("resolve", "accounts")
    async with house(within, [qmgr.member, resolve, accounts.member], *talks) as here:
        for number in (1, 2):
            call = qmgr.context.call("resolve")
            await tell(call, ROUTE)
            assert await said(call) == [ROUTED]
            assert len(sessions) == number and sessions[-1].client == "qmgr"
            asked = (await accounts.context.port("resolve").get()).channel
            await tell(sessions[-1].channels["accounts"], Lookup(reference=1, name="ada"))
            assert await said(asked) == [Lookup(reference=1, name="ada")]
            call.close()
            await here.turn()
            assert await broken(asked), "its channels end with it"


# -- ends -----------------------------------------------------------------------------------------


async def an_end_is_felt(module: ModuleType) -> bool:
    """Whether channels that a role had, or was to get, break when it ends."""
    qmgr = Role("qmgr")

    async def answer_one(context: Context) -> None:
        await context.port("qmgr").get()
        context.draining.set()

    resolve = Role("resolve", answer_one)
    talks = [("qmgr", "resolve")]
    async with house(module, [qmgr.member, resolve.member], *talks) as here:
        had, waiting = (qmgr.context.call("resolve") for _ in range(2))
        with trio.fail_after(10):
            await resolve.over.wait()
        await here.turn()
        found = False
        with trio.move_on_after(2):
            found = await broken(had) and await broken(waiting)
        return found and not here.within.ended.is_set()


async def test_the_end_of_a_role_breaks_its_channels():
    assert await an_end_is_felt(within)


async def test_control_channels_that_outlive_their_role():
    passage = "        for each in list(self._held.get(role, ())):\n            each.close()\n"
    mutant = mutate(within.__name__, [(passage, "        __mutant_ran__()\n")])
    assert not await an_end_is_felt(mutant)
    assert hits(mutant) > 0


async def test_a_call_to_a_role_that_has_ended_is_broken():
    qmgr, resolve = Role("qmgr"), Role("resolve")
    async with house(within, [qmgr.member, resolve.member], ("qmgr", "resolve")) as here:
        resolve.context.draining.set()
        await here.turn()
        assert await broken(qmgr.context.call("resolve"))


async def drained_in_order(module: ModuleType) -> bool:
    """Whether a role drains only when those named before it are over."""
    events: list[str] = []

    def role(name: str) -> Member:
        async def run(context: Context, _: Journal) -> None:
            await context.draining.wait()
            events.append(f"{name} drains")
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            events.append(f"{name} is over")

        return Member(role=name, run=run)

    names = ("smtpd", "qmgr", "enqueue")
    async with house(module, [role(name) for name in names]) as here:
        with trio.fail_after(10):
            await here.within.drain()
        assert here.within.ended.is_set()
    return events == [f"{name} {what}" for name in names for what in ("drains", "is over")]


async def test_roles_drain_one_after_the_other():
    assert await drained_in_order(within)


async def test_control_all_drain_at_once():
    mutant = mutate(
        within.__name__, [("await self._over[role].wait()", "__mutant_ran__()")]
    )  # it still waits for nobody, and ends the process
    assert not await drained_in_order(mutant)
    assert hits(mutant) > 0


async def test_called_sessions_are_told_at_their_turn_and_waited_for_at_the_end():
    qmgr = Role("qmgr")
    remote, sessions = attended("remote")
    async with house(within, [remote, qmgr.member], ("qmgr", "remote")) as here:
        qmgr.context.call("remote")
        await here.turn()
        qmgr.context.settled_if(lambda: False)
        with trio.fail_after(10):
            await here.within.drain()  # qmgr is over, so its call is
        assert sessions[0].drained and qmgr.over.is_set()


# -- when all is settled --------------------------------------------------------------------------


async def settled(here: House) -> bool:
    with trio.move_on_after(1):
        await here.within.settled(trio.Event())
        return True
    return False


async def waits_for_what_is_on_its_way(module: ModuleType) -> bool:
    enqueue, qmgr = Role("enqueue"), Role("qmgr")
    async with house(module, [enqueue.member, qmgr.member], ("enqueue", "qmgr")) as here:
        channel = (await enqueue.context.port("qmgr").get()).channel
        before = await settled(here)
        await tell(channel, ARRIVED)
        meanwhile = await settled(here)
        await said((await qmgr.context.port("enqueue").get()).channel)
        return before and not meanwhile and await settled(here)


async def test_what_one_has_said_and_another_has_not_heard_is_not_settled():
    assert await waits_for_what_is_on_its_way(within)


async def test_control_who_looks_at_the_roles_only():
    passage = "any(each.pending for those in self._held.values() for each in those)"
    mutant = mutate(within.__name__, [(passage, "not __mutant_ran__()")])
    assert not await waits_for_what_is_on_its_way(mutant)
    assert hits(mutant) > 0


async def test_every_role_that_said_how_to_tell_must_be_idle():
    enqueue, qmgr = Role("enqueue"), Role("qmgr")
    busy = {"enqueue", "qmgr"}
    async with house(within, [enqueue.member, qmgr.member]) as here:
        for role in (enqueue, qmgr):
            role.context.settled_if(lambda name=role.name: name not in busy)
        for name in ("qmgr", "enqueue"):
            assert not await settled(here)
            busy.discard(name)
        assert await settled(here)


async def test_who_is_told_to_stop_waits_no_longer():
    role, stopping = Role("qmgr"), trio.Event()
    async with house(within, [role.member]) as here:
        role.context.settled_if(lambda: False)
        stopping.set()
        with trio.fail_after(10):
            await here.within.settled(stopping)


# -- what comes from outside ----------------------------------------------------------------------


ON_CALL = Link(role="bounce", port="enqueue", detail=within.ON_CALL)


async def next_call(pool: Channel) -> Channel:
    (item,) = await pool.receive()
    assert isinstance(item.message, Attach)
    return adopt(item.descriptors[0], border("enqueue", "bounce"))


@asynccontextmanager
async def calling(module: ModuleType) -> AsyncIterator[tuple[House, Role, Channel]]:
    """A role that wants a channel, and has a line."""
    bounce = Role("bounce")
    async with house(module, [bounce.member]) as here:
        bounce.context.port("enqueue")  # it listens before there is a line, as roles do
        near, far = socket_pair()
        here.within.link(ON_CALL, near.detach())
        pool = adopt(far.detach(), border("pool", "caller"))
        yield here, bounce, pool
        pool.close()


async def each_message_is_a_call(module: ModuleType) -> str:
    """What is wrong with it; empty for nothing."""
    async with calling(module) as (_, bounce, pool):
        channel = (await bounce.context.port("enqueue").get()).channel
        for _ in range(3):
            channel.post(SUBMIT)
            channel.post_octets(b"content")
            await channel.flush()
            worker = None
            with trio.move_on_after(2):
                worker = await next_call(pool)
            if worker is None:
                return "a message without a call of its own"
            heard = await worker.receive()
            assert [(each.message, each.octets) for each in heard] == [
                (SUBMIT, b""),
                (None, b"content"),
            ]
            await tell(worker, Kept(queue_id=ID))
            assert await said(channel) == [Kept(queue_id=ID)]
            if not await broken(worker, 2):
                worker.close()
                return "a call that lasts longer than its message"
            worker.close()
    return ""


async def test_by_a_line_each_message_is_a_call_of_its_own():
    assert await each_message_is_a_call(within) == ""


ENDS = "        self._end()\n        return received\n", "        return received\n"
BEGINS = (
    "    def _begin(self) -> None:\n        self._end()\n        if not self._closed:\n",
    "    def _begin(self) -> None:\n        __mutant_ran__()\n        if self._current is None:\n",
)


async def test_control_one_call_for_all_messages():
    clinging = mutate(calls.__name__, [BEGINS, ENDS])
    mutant = mutate(within.__name__, [], replacing={calls.__name__: clinging})
    assert await each_message_is_a_call(mutant) == "a call that lasts longer than its message"
    assert hits(clinging) > 0


async def test_a_call_that_fails_is_not_the_end_of_the_channel():
    async with calling(within) as (here, bounce, pool):
        channel = (await bounce.context.port("enqueue").get()).channel
        await tell(channel, SUBMIT)
        (await next_call(pool)).close()
        assert await broken(channel)
        await tell(channel, SUBMIT)
        worker = await next_call(pool)
        await tell(worker, Kept(queue_id=ID))
        assert await said(channel) == [Kept(queue_id=ID)]
        worker.close()
        # The pool goes away, and comes back on another line.
        pool.close()
        await here.turn()
        with pytest.raises(ChannelBroken):
            await tell(channel, SUBMIT)
            await said(channel)
        near, far = socket_pair()
        here.within.link(ON_CALL, near.detach())
        successor = adopt(far.detach(), border("pool", "caller"))
        await tell(channel, SUBMIT)
        worker = await next_call(successor)
        # A role that gives its channel up is offered another one, and one only.
        channel.close()
        channel.close()
        assert await broken(worker)
        another = (await bounce.context.port("enqueue").get()).channel
        assert another is not channel
        with trio.move_on_after(0) as none:
            await bounce.context.port("enqueue").get()
        assert none.cancelled_caught
        for each in (worker, successor, another):
            each.close()


async def test_calls_and_further_lines_come_by_a_line_with_whom_they_are_for():
    local = Role("local")
    async with house(within, [local.member]) as here:
        near, far = socket_pair()
        here.within.link(Link(role="local", port="qmgr", detail=within.POOLED), near.detach())
        first = adopt(far.detach(), border("caller", "pool"))
        near, far = socket_pair()
        first.post(Line(), near.detach())
        await first.flush()
        second = adopt(far.detach(), border("caller", "pool"))
        for line, user in ((second, "ada"), (first, "bob"), (second, "eve")):
            near, far = socket_pair()
            line.post(Attach(detail=user), near.detach())
            await line.flush()
            linked = await local.context.port("qmgr").get()
            assert linked.detail == user
            linked.channel.close()
            caller = adopt(far.detach(), border("qmgr", "local"))
            assert await broken(caller)
            caller.close()
        first.close()
        second.close()
        await here.turn()


async def test_a_flood_of_channels_breaks_those_that_nobody_takes_and_nothing_else():
    resolve = Role("resolve")
    async with house(within, [resolve.member]) as here:
        near, far = socket_pair()
        here.within.link(Link(role="resolve", port="smtpd", detail=within.POOLED), near.detach())
        seized = adopt(far.detach(), border("pool", "server"))
        kept: list[Channel] = []
        for _ in range(UNTAKEN):
            mine, theirs = local_channels(border("resolve", "smtpd"))
            resolve.context.link("smtpd", Linked(mine))
            kept.append(theirs)
        mine_, theirs_ = socket_pair()
        seized.post(Attach(), theirs_.detach())
        await seized.flush()
        late = adopt(mine_.detach(), border("smtpd", "resolve"))
        assert await broken(late)
        for each in (late, seized, *kept):
            each.close()
        assert not resolve.over.is_set()


async def test_a_call_from_outside_of_a_role_that_can_only_be_called_is_a_session():
    remote, sessions = attended("remote")
    async with house(within, [remote]) as here:
        near, far = socket_channels(border("caller", "pool"))
        here.within.link(
            Link(role="remote", port="qmgr", detail=within.POOLED), far._socket.detach()
        )
        theirs, ours = socket_pair()
        near.post(Attach(), theirs.detach())
        await near.flush()
        caller = adopt(ours.detach(), border("qmgr", "remote"))
        await tell(caller, Hurry())
        await here.turn()
        assert [each.client for each in sessions] == ["qmgr"]
        caller.close()
        near.close()
        await here.turn()


async def test_a_link_for_a_stranger_ends_the_process_and_leaves_nothing_open():
    async with house(within, [Role("qmgr").member]) as here:
        near, far = socket_pair()
        with pytest.raises(ChannelBroken):
            here.within.link(Link(role="smtpd", port="enqueue"), near.detach())
        far.setblocking(False)
        assert far.recv(1) == b""
        far.close()
