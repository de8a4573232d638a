"""Calls: a role's channel to a worker of a pool, from the switchboard to real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio
from system.lines import whole_lines

from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received, border
from refmta.processes.calls import Switchboard
from refmta.processes.channels import SocketChannel, adopt, socket_channels, socket_pair
from refmta.processes.compartment import ON_CALL, TRACE
from refmta.processes.pool_slice import PoolSlice
from refmta.wire.messages import (
    Answer,
    Ask,
    Attach,
    Configure,
    Drain,
    Hurry,
    Link,
    Ready,
    Relayed,
    RelayOutcome,
)

CALL = border("qmgr", "remote")


async def pick_up(pool: Channel) -> list[Channel]:
    """The calls that have arrived, as the pool's parent gets them."""
    items = await pool.receive()
    assert all(isinstance(each.message, Attach) for each in items)
    return [adopt(each.descriptors[0], CALL.turned()) for each in items]


async def broken(channel: Channel) -> bool:
    """Whether it ends; what still comes before is dropped."""
    with trio.fail_after(60):
        try:
            while True:
                await channel.receive()
        except ChannelBroken:
            channel.close()
            return True


# -- the caller's end -----------------------------------------------------------------------------


@asynccontextmanager
async def switchboard() -> AsyncIterator[tuple[Switchboard, Channel]]:
    """A switchboard with one line, and the pool's end of it."""
    caller, pool = socket_channels(border("caller", "pool"))
    async with trio.open_nursery() as nursery:
        board = Switchboard(nursery)
        board.connect("qmgr", "remote", caller)
        yield board, pool
        nursery.cancel_scope.cancel()
    caller.close()
    pool.close()


async def test_what_is_said_at_once_waits_in_the_channel_and_each_call_is_a_channel_of_its_own():
    async with switchboard() as (board, pool):
        near = [board.call("qmgr", "remote") for _ in range(3)]
        for each in near:
            each.post(Hurry())
            await each.flush()
        far: list[Channel] = []
        while len(far) < 3:
            far += await pick_up(pool)
        near[1].close()
        for number, each in enumerate(far):
            assert [item.message for item in await each.receive()] == [Hurry()]
            if number == 1:
                assert await broken(each)
            each.close()
        for each in near:
            each.close()


async def test_a_call_while_the_pool_is_away_is_broken():
    async with switchboard() as (board, pool):
        pool.close()
        await trio.testing.wait_all_tasks_blocked()
        assert await broken(board.call("qmgr", "remote"))


async def test_calls_that_the_pool_has_not_taken_break_when_it_ends():
    async with switchboard() as (board, pool):
        calls = [board.call("qmgr", "remote") for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()  # they are in the pool's pipe
        pool.close()
        for each in calls:
            assert await broken(each)


async def test_calls_go_to_the_newest_line():
    async with switchboard() as (board, pool):
        caller, successor = socket_channels(border("caller", "pool"))
        board.connect("qmgr", "remote", caller)
        assert await broken(pool)
        await trio.testing.wait_all_tasks_blocked()  # the end of the former is no news
        call = board.call("qmgr", "remote")
        (far,) = await pick_up(successor)
        far.close()
        assert await broken(call)
        for each in (caller, successor):
            each.close()


async def test_a_role_calls_only_those_with_whom_it_has_business():
    async with switchboard() as (board, _):
        with pytest.raises(KeyError):
            board.call("smtpd", "remote")


# -- a pool with real workers ---------------------------------------------------------------------

#: Says its pid as soon as it is called, answers each Hurry so, and ends with its caller.
POOL = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
from dataclasses import dataclass
import refmta.processes.no_helpers
import trio
from refmta.patterns.trust_partitioning import ChannelBroken
from refmta.processes import pool
from refmta.processes.worker import Pooled
from refmta.wire.messages import Hurry, Relayed, RelayOutcome

@dataclass
class Echo:
    channel: object
    configuration: bytes
    trace: object
    clean: bool = True
    scope: object = None

    def say(self, text):
        outcome = RelayOutcome(index=0, kind="returned", enhanced="", text=text)
        self.channel.post(Relayed(reference=0, destination="unknown", outcomes=(outcome,)))

    async def run(self):
        self.trace("remote.sent", queue_id="06H06TY2DFR20W5S", index=0)
        with trio.CancelScope() as self.scope:
            try:
                self.say(f"{os.getpid()} {self.configuration.decode()}")
                await self.channel.flush()
                while True:
                    for item in await self.channel.receive():
                        self.say("heard" if item.message == Hurry() else "?")
                    await self.channel.flush()
            except ChannelBroken:
                return
        self.say("draining")
        await self.channel.flush()

    def drain(self):
        self.scope.cancel()

def attend(channel, client, configuration, channels, journal, trace):
    return Echo(channel, configuration, trace)

pool.main(Pooled(role="remote", attend=attend))
"""


def text(item: Received) -> str:
    assert isinstance(item.message, Relayed)
    (outcome,) = item.message.outcomes
    assert isinstance(outcome, RelayOutcome)
    return outcome.text


@dataclass(eq=False)
class Call:
    """One call, as its caller sees it."""

    channel: Channel
    pid: int = 0
    said: list[str] = field(default_factory=list)

    async def hear(self) -> str:
        """The next thing that the worker says."""
        with trio.fail_after(60):
            while not self.said:
                self.said += [text(each) for each in await self.channel.receive()]
        return self.said.pop(0)

    async def answered(self) -> Call:
        pid, _, configuration = (await self.hear()).partition(" ")
        assert configuration == "a slice"
        self.pid = int(pid)
        return self

    async def works(self) -> bool:
        self.channel.post(Hurry())
        await self.channel.flush()
        return await self.hear() == "heard"


@dataclass(eq=False)
class RunningPool:
    """A pool's processes; the test is their supervisor, and their caller."""

    process: subprocess.Popen[bytes]
    supervisor: SocketChannel
    line: SocketChannel
    board: Switchboard
    trace: Path

    def call(self) -> Call:
        return Call(self.board.call("qmgr", "remote"))

    async def workers(self) -> list[int]:
        self.supervisor.post(Ask(reference=1, verb="ps"))
        await self.supervisor.flush()
        (item,) = await self.supervisor.receive()
        assert isinstance(item.message, Answer)
        rows = msgspec.json.decode(item.message.document)
        return [row["pid"] for row in rows if row["part"] == "worker" and row["pid"]]

    async def has_workers(self, count: int) -> None:
        """Until it tells of so many: one may answer before the pool has heard of its number."""
        with trio.fail_after(60):
            while len(await self.workers()) != count:
                await trio.sleep(0.01)

    def events(self) -> list[dict[str, object]]:
        return [msgspec.json.decode(each) for each in whole_lines(self.trace)]


@asynccontextmanager
async def running_pool(directory: Path, **rules: float) -> AsyncIterator[RunningPool]:
    supervisor, theirs = socket_pair()
    process = subprocess.Popen(
        [sys.executable, "-c", POOL, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    near, far = socket_pair()
    trace = os.open(directory / "trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    channel = SocketChannel(supervisor, border("supervisor", "compartment"))
    line = SocketChannel(near, border("caller", "pool"))
    try:
        channel.post(Link(role="remote", port=TRACE), trace)
        rows = PoolSlice(rules=msgspec.convert(rules, Rules))
        channel.post(Configure(role="pool", slice=msgspec.msgpack.encode(rows)))
        channel.post(Configure(role="remote", slice=b"a slice"))
        channel.post(Link(role="remote", port="qmgr", detail=ON_CALL), far.detach())
        await channel.flush()
        assert [each.message for each in await channel.receive()] == [Ready()]
        async with trio.open_nursery() as nursery:
            board = Switchboard(nursery)
            board.connect("qmgr", "remote", line)
            yield RunningPool(process, channel, line, board, directory / "trace")
            nursery.cancel_scope.cancel()
    finally:
        channel.close()
        line.close()
        process.kill()
        process.wait()


async def test_a_worker_serves_one_call_and_goes(tmp_path):
    async with running_pool(tmp_path, max_uses=1, spare=0) as pool:
        pids = []
        for _ in range(3):
            call = await pool.call().answered()
            assert await call.works()
            call.channel.close()
            pids.append(call.pid)
        assert len(set(pids)) == 3


async def test_a_worker_that_may_serves_the_next_call_too(tmp_path):
    """Control: it is the rule that makes them go."""
    async with running_pool(tmp_path, max_uses=100, max_workers=1) as pool:
        pids = []
        for _ in range(3):
            call = await pool.call().answered()
            call.channel.close()
            pids.append(call.pid)
        assert len(set(pids)) == 1


async def test_a_full_pool_lets_calls_wait_and_serves_them_in_their_order(tmp_path):
    async with running_pool(tmp_path, max_uses=1, max_workers=2, spare=0) as pool:
        calls = [pool.call() for _ in range(5)]
        for each in calls[:2]:
            await each.answered()
        await pool.has_workers(2)
        for ending, served in zip(calls[:3], calls[2:], strict=True):
            ending.channel.close()
            await served.answered()
            assert len(await pool.workers()) <= 2
        assert await calls[3].works() and await calls[4].works()


async def test_a_worker_that_dies_breaks_its_own_call_only(tmp_path):
    async with running_pool(tmp_path, max_uses=1) as pool:
        one, other = await pool.call().answered(), await pool.call().answered()
        os.kill(one.pid, signal.SIGKILL)
        assert await broken(one.channel)
        assert await other.works()
        assert (await pool.call().answered()).pid not in (one.pid, other.pid)


async def test_all_calls_break_when_the_pool_dies(tmp_path):
    """Its workers live on channels that lead elsewhere; they die with their template."""
    async with running_pool(tmp_path, max_uses=1, max_workers=2) as pool:
        calls = [await pool.call().answered(), await pool.call().answered(), pool.call()]
        await trio.testing.wait_all_tasks_blocked()
        pool.process.kill()
        for each in calls:
            assert await broken(each.channel)
        assert await broken(pool.call().channel)


async def test_a_caller_that_hangs_up_frees_its_worker_and_loses_what_waits(tmp_path):
    async with running_pool(tmp_path, max_uses=1, max_workers=1) as pool:
        calls = [await pool.call().answered(), pool.call()]
        await trio.testing.wait_all_tasks_blocked()
        pool.line.close()  # as if qmgr had died: its calls end with it
        for each in calls:
            each.channel.close()
        near, far = socket_pair()
        pool.board.connect("qmgr", "remote", SocketChannel(near, border("caller", "pool")))
        pool.supervisor.post(Link(role="remote", port="qmgr", detail=ON_CALL), far.detach())
        await pool.supervisor.flush()
        assert await (await pool.call().answered()).works()


async def test_draining_tells_the_busy_hangs_up_on_the_waiting_and_ends(tmp_path):
    async with running_pool(tmp_path, max_uses=1, max_workers=1) as pool:
        busy = await pool.call().answered()
        waiting = pool.call()
        await trio.testing.wait_all_tasks_blocked()
        pool.supervisor.post(Drain())
        await pool.supervisor.flush()
        assert await busy.hear() == "draining"
        assert await broken(busy.channel) and await broken(waiting.channel)
        assert await trio.to_thread.run_sync(lambda: pool.process.wait(60)) == 0


async def test_workers_write_the_trace_and_their_parent_says_their_end(tmp_path):
    async with running_pool(tmp_path, max_uses=1) as pool:
        done, killed = await pool.call().answered(), await pool.call().answered()
        done.channel.close()
        os.kill(killed.pid, signal.SIGKILL)
        with trio.fail_after(60):
            while len(pool.events()) < 4:
                await trio.sleep(0.01)
        parent = pool.process.pid
        sent = {
            "sequence": 1, "action": "remote.sent", "pool": str(parent),
            "queue_id": "06H06TY2DFR20W5S", "index": "0",
        }  # fmt: skip
        said, ends = pool.events()[:2], pool.events()[2:]
        assert sorted(said, key=str) == sorted(
            [{"pid": done.pid, **sent}, {"pid": killed.pid, **sent}], key=str
        )
        assert [each["sequence"] for each in ends] == [1, 2]
        assert {(e["pid"], e["action"], e["process"], e["status"]) for e in ends} == {
            (parent, "remote.ended", str(done.pid), "0"),
            (parent, "remote.ended", str(killed.pid), "-9"),
        }
