"""A compartment: what its supervisor says becomes slices, links and orders of its roles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import adopt, local_channels, socket_channels, socket_pair
from refmta.processes.compartment import ON_CALL, POOLED, TRACE, Compartment, report
from refmta.processes.entries import Member
from refmta.wire.messages import (
    AgentRefused,
    AgentWanted,
    Arrived,
    Attach,
    Configure,
    Drain,
    Hurry,
    Link,
    Message,
    Name,
    Ready,
    Verified,
    Verify,
)

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]


class Slice(msgspec.Struct, frozen=True):
    value: int


@dataclass
class Role:
    """A role that records what it gets, and ends when drained."""

    name: str
    config: Slice | None = None
    contexts: list[Context] = field(default_factory=list)

    async def run(self, context: Context, journal: Journal) -> None:
        self.config = context.slice(self.name, Slice)
        self.contexts.append(context)
        context.ready()
        await context.draining.wait()


def members(*roles: Role) -> tuple[Member, ...]:
    return tuple(Member(role=each.name, run=each.run) for each in roles)


def slice_(value: int) -> bytes:
    return msgspec.msgpack.encode(Slice(value))


async def said(channel: Channel) -> list[Message | None]:
    return [each.message for each in await channel.receive()]


async def run(compartment: Compartment, ended: trio.Event) -> None:
    await compartment.run()
    ended.set()


@both
async def test_a_role_starts_with_its_own_slice_and_ends_when_drained(pair: Pair):
    supervisor, ours = pair(border("supervisor", "compartment"))
    roles = {name: Role(name) for name in ("qmgr", "resolve")}
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(*roles.values()), ours), ended)
        for number, name in enumerate(roles):
            supervisor.post(Configure(role=name, slice=slice_(number)))
        await supervisor.flush()
        assert await said(supervisor) == [Ready()]  # once, when all are
        assert [role.config for role in roles.values()] == [Slice(0), Slice(1)]
        with pytest.raises(KeyError):
            roles["qmgr"].contexts[0].slice("resolve", Slice)
        supervisor.post(Drain())
        await supervisor.flush()
        await ended.wait()
    supervisor.close()
    ours.close()


@both
async def test_a_link_becomes_a_channel_on_the_roles_port_and_a_new_one_follows(pair: Pair):
    supervisor, ours = pair(border("supervisor", "compartment"))
    role, ended = Role("qmgr"), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(role), ours), ended)
        supervisor.post(Configure(role="qmgr", slice=slice_(1)))
        peers = []
        for detail in ("first", "second"):
            near, far = socket_pair()
            peers.append(adopt(near.detach(), border("enqueue", "qmgr")))
            supervisor.post(Link(role="qmgr", port="enqueue", detail=detail), far.detach())
        await supervisor.flush()
        await trio.testing.wait_all_tasks_blocked()
        (context,) = role.contexts
        arrived = Arrived(queue_ids=("06H06TY2DFR20W5S",))
        for peer, detail in zip(peers, ("first", "second"), strict=True):
            linked = await context.port("enqueue").get()
            assert linked.detail == detail
            peer.post(arrived)
            await peer.flush()
            assert await said(linked.channel) == [arrived]
            linked.channel.close()
            peer.close()
        supervisor.close()
        await ended.wait()
    ours.close()


@both
async def test_orders_reach_the_role_and_what_it_says_the_supervisor(pair: Pair):
    supervisor, ours = pair(border("supervisor", "compartment"))
    role, ended = Role("qmgr"), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(role), ours), ended)
        supervisor.post(Configure(role="qmgr", slice=slice_(1)))
        supervisor.post(AgentRefused(user="ada", text="no"))
        await supervisor.flush()
        assert await said(supervisor) == [Ready()]
        (context,) = role.contexts
        assert await context.orders().receive() == AgentRefused(user="ada", text="no")
        for user in ("ada", "bob"):
            context.say(AgentWanted(user=user))
        assert await said(supervisor) == [AgentWanted(user="ada"), AgentWanted(user="bob")]
        supervisor.close()
        await ended.wait()
    ours.close()


@both
async def test_a_pool_introduces_each_worker_by_a_channel_of_its_own(pair: Pair):
    supervisor, ours = pair(border("supervisor", "compartment"))
    role, ended = Role("resolve"), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(role), ours), ended)
        near, far = socket_pair()
        pool = adopt(near.detach(), border("pool", "server"))
        supervisor.post(Configure(role="resolve", slice=slice_(1)))
        supervisor.post(Link(role="resolve", port="smtpd", detail=POOLED), far.detach())
        await supervisor.flush()
        for number in range(3):
            near, far = socket_pair()
            worker = adopt(near.detach(), border("smtpd", "resolve"))
            pool.post(Attach(), far.detach())
            await pool.flush()
            await trio.testing.wait_all_tasks_blocked()
            linked = await role.contexts[0].port("smtpd").get()
            question = Verify(recipient=f"{number}@example.org")
            worker.post(question)
            await worker.flush()
            assert await said(linked.channel) == [question]
            linked.channel.post(Verified(code=250, enhanced="", text=""))
            await linked.channel.flush()
            assert len(await said(worker)) == 1
            worker.close()
            linked.channel.close()
        pool.close()
        supervisor.close()
        await ended.wait()
    ours.close()


@both
async def test_a_pool_on_call_is_called_by_the_role_and_comes_by_no_port(pair: Pair):
    supervisor, ours = pair(border("supervisor", "compartment"))
    role, ended = Role("qmgr"), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(role), ours), ended)
        near, far = socket_pair()
        pool = adopt(near.detach(), border("pool", "caller"))
        supervisor.post(Configure(role="qmgr", slice=slice_(1)))
        supervisor.post(Link(role="qmgr", port="remote", detail=ON_CALL), far.detach())
        await supervisor.flush()
        await said(supervisor)
        await trio.testing.wait_all_tasks_blocked()
        (context,) = role.contexts
        call = context.call("remote")
        call.post(Hurry())
        await call.flush()
        (item,) = await pool.receive()
        worker = adopt(item.descriptors[0], border("remote", "qmgr"))
        assert await said(worker) == [Hurry()]
        assert "remote" not in context.ports
        with pytest.raises(KeyError):
            context.call("nobody")
        for each in (call, worker, pool, supervisor):
            each.close()
        await ended.wait()
    ours.close()


@both
@pytest.mark.parametrize("traced", [True, False])
async def test_the_trace_is_there_before_the_roles_and_is_one_for_all(
    pair: Pair, traced: bool, tmp_path: Path
):
    supervisor, ours = pair(border("supervisor", "compartment"))
    roles = [Role("qmgr"), Role("resolve")]
    ended, path = trio.Event(), tmp_path / "trace"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(*roles), ours), ended)
        if traced:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            supervisor.post(Link(role="qmgr", port=TRACE), descriptor)
        for each in roles:
            supervisor.post(Configure(role=each.name, slice=slice_(1)))
        await supervisor.flush()
        while not all(each.contexts for each in roles):
            await trio.testing.wait_all_tasks_blocked()
        for each in roles:
            each.contexts[0].trace(f"{each.name}.did", index=3)
        supervisor.close()
        await ended.wait()
    ours.close()
    lines = path.read_text().splitlines() if traced else []
    assert [json.loads(line) for line in lines] == [
        {"pid": os.getpid(), "sequence": number, "action": action, "index": "3"}
        for number, action in enumerate(("qmgr.did", "resolve.did"), 1)
        if traced
    ]


@pytest.mark.parametrize("word", [POOLED, ON_CALL])
def test_what_a_links_detail_means_is_no_users_name(word: str):
    """A detail may be the user of an agent: one named "pool" once broke its channel."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(word, Name)


@both
@pytest.mark.parametrize("wrong", ["configure", "link"])
async def test_a_role_that_it_does_not_have_ends_it(pair: Pair, wrong: str):
    supervisor, ours = pair(border("supervisor", "compartment"))
    ended = trio.Event()
    near, far = socket_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(Role("resolve")), ours), ended)
        if wrong == "configure":
            supervisor.post(Configure(role="qmgr", slice=slice_(1)))
        else:
            supervisor.post(Link(role="qmgr", port="local"), far.detach())
        await supervisor.flush()
        await ended.wait()
    for each in (near, far, supervisor, ours):
        each.close()


@both
async def test_without_a_supervisor_it_ends_at_once_whatever_its_roles_do(pair: Pair):
    """Another generation starts, and two must not work on the same mail."""
    supervisor, ours = pair(border("supervisor", "compartment"))
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, Compartment(members(Role("qmgr")), ours), ended)
        supervisor.post(Configure(role="qmgr", slice=slice_(1)))
        await supervisor.flush()
        await said(supervisor)
        supervisor.close()
        await ended.wait()
    ours.close()


# -- how it ends ----------------------------------------------------------------------------------


def ends(capfd: pytest.CaptureFixture[str], error: BaseException) -> dict[str, object]:
    def action() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        report("qmgr", action)
    assert caught.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    event: dict[str, object] = json.loads(line)
    assert (event["role"], event["level"]) == ("qmgr", "critical")
    return event


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_fault_of_the_machine_is_named_with_its_place_and_no_traceback(capfd, wrapped):
    error: BaseException = OSError(28, os.strerror(28), "/spool/chunks")
    if wrapped:
        error = BaseExceptionGroup("nursery", [BaseExceptionGroup("nursery", [error])])
    event = ends(capfd, error)
    assert event["event"] == "cannot work"
    assert (event["path"], event["reason"]) == ("/spool/chunks", "No space left on device")
    assert "traceback" not in event


def test_a_defect_of_ours_brings_its_traceback(capfd):
    event = ends(capfd, ExceptionGroup("nursery", [KeyError("x")]))
    assert event["event"] == "defect"
    assert event["reason"] == "KeyError('x')"
    assert "KeyError" in str(event["traceback"])


def test_a_channel_that_broke_is_a_defect_only_where_nobody_expected_it(capfd):
    assert ends(capfd, ChannelBroken("the template is gone"))["reason"]
