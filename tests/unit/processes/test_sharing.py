"""Workers that accept by themselves: when the parent makes one, and what it makes of their word.

The last tests run real processes: a worker that keeps to its terms, and one that does not.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from unit.processes.staff_world import World, listening, world

from refmta.patterns.secure_preforking import THROTTLE_S, Rules
from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes.calls import LISTENER, ON_CALL
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.wire.messages import Busy, Configure, Drain, Idle, Link, Ready

CLIENT = Busy(client="192.0.2.1")


@asynccontextmanager
async def sharing(**rules: float) -> AsyncIterator[tuple[World, socket.socket]]:
    """A parent whose workers share a socket, which is the test's, too."""
    terms = PoolSlice(rules=msgspec.convert(rules, Rules), shared=True)
    with listening() as listener:
        async with world(terms) as it:
            it.sharing.listen(os.dup(listener.fileno()))
            yield it, listener


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname())


def take(listener: socket.socket) -> None:
    """A worker has accepted."""
    listener.accept()[0].close()


# -- when a worker is made ------------------------------------------------------------------------


async def test_a_worker_is_made_when_a_client_waits_and_none_before():
    async with sharing() as (it, listener):
        await it.look()
        assert not it.workers
        with connect(listener):
            await it.look()
            assert [*it.workers] == [1]


async def test_no_second_one_is_made_while_the_first_is_free():
    async with sharing() as (it, listener):
        with connect(listener), connect(listener):
            await it.look()
            await it.look()
            assert [*it.workers] == [1]
            take(listener)
            await it.says(1, CLIENT)
            assert [*it.workers] == [1, 2]
            take(listener)
            await it.says(2, CLIENT)
        assert [*it.workers] == [1, 2]
        await it.says(1, Idle())
        with connect(listener):
            await it.look()
            assert [*it.workers] == [1, 2]


async def test_there_are_never_more_than_allowed():
    async with sharing(max_workers=1) as (it, listener):
        with connect(listener), connect(listener):
            await it.look()
            take(listener)
            await it.says(1, CLIENT)
            assert [*it.workers] == [1]
            await it.ends(1)  # used up: it went by itself
            assert [*it.workers] == [1, 2]


async def test_a_new_worker_gets_its_terms_and_all_sockets_and_who_lives_the_later_ones():
    async with sharing(max_uses=3) as (it, listener):
        with connect(listener), listening() as other:
            await it.look()
            (given,) = [e for e in await it.told(1, Configure) if e.role == POOL]
            assert msgspec.msgpack.decode(given.slice, type=PoolSlice).terms().max_uses == 3
            it.sharing.listen(os.dup(other.fileno()))
            assert [each.port for each in await it.told(1, Link)] == [LISTENER]
            take(listener)
            await it.says(1, CLIENT)
            with connect(other):
                await it.look()
                assert [each.port for each in await it.told(2, Link)] == [LISTENER] * 2


@pytest.mark.parametrize("fails", ["ends", "refuses"])
async def test_after_one_that_failed_before_its_first_client_none_is_made_for_a_time(
    fails: str, autojump_clock
):
    async with sharing() as (it, listener):
        with connect(listener):
            await it.look()
            await (it.ends(1, status=1 << 8) if fails == "ends" else it.refuses(1))
            await trio.sleep(THROTTLE_S - 1)
            await it.look()
            assert [*it.workers] == [1]
            await trio.sleep(2)
            await it.look()
            assert [*it.workers] == [1, 2]


@pytest.mark.parametrize(("status", "used"), [(0, False), (1 << 8, True)])
async def test_one_that_went_as_it_should_or_had_a_client_is_replaced_at_once(status, used):
    async with sharing() as (it, listener):
        with connect(listener), connect(listener):
            await it.look()
            if used:
                take(listener)
                await it.says(1, CLIENT)
            await it.ends(1, status=status)
            assert 2 in it.workers


# -- their word -----------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[Idle()], [CLIENT, CLIENT], [CLIENT, Idle(), Idle()]])
async def test_who_contradicts_itself_is_ended(said):
    async with sharing() as (it, listener):
        with connect(listener):
            await it.look()
            for each in said:
                await it.says(1, each)
        assert signal.SIGKILL in [number for _, number in it.signals]


async def test_nothing_that_a_worker_does_not_say_is_held_against_it(autojump_clock):
    """The weakness, on purpose: it has had its uses, its age, its idle time, and lives on."""
    async with sharing(max_uses=1, max_age_s=10, max_idle_s=1) as (it, listener):
        it.parent.nursery.start_soon(it.parent._housekeeping)
        with connect(listener):
            await it.look()
            for _ in range(5):
                await it.says(1, CLIENT)
                await it.says(1, Idle())
            await trio.sleep(1000)
            await it.look()
            assert it.signals == [] and it.sharing.books.sessions == 5


async def test_nobody_calls_workers_that_accept_by_themselves():
    async with sharing() as (it, _):
        near, far = socket_pair()
        with pytest.raises(ChannelBroken):
            it.parent._hear(Link(role="smtpd", port="qmgr", detail=ON_CALL), (far.detach(),))
        assert near.recv(1) == b""
        near.close()


async def test_draining_tells_all_and_waits_for_all():
    """Who is idle by the books may have taken a client just now."""
    async with sharing() as (it, listener):
        with connect(listener), connect(listener):
            await it.look()
            take(listener)
            await it.says(1, CLIENT)
            take(listener)
            done = trio.Event()

            async def drain() -> None:
                await it.sharing.drain()
                done.set()

            it.parent.nursery.start_soon(drain)
            await it.look()
            assert sorted(it.signals) == [(1, signal.SIGTERM), (2, signal.SIGTERM)]
            with connect(listener):
                await it.ends(1)
                assert not done.is_set() and len(it.workers) == 2
                await it.ends(2)
            assert done.is_set()


# -- real processes -------------------------------------------------------------------------------

#: Says its pid to each client, and waits for the client to go.  The second one goes on accepting
#: when its terms are over.
SERVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
import refmta.processes.no_helpers
import trio
from refmta.processes import accepting, pool
from refmta.processes.worker import Pooled

class Say:
    clean = True
    def __init__(self, connection):
        self.connection = trio.socket.from_stdlib_socket(connection)
        self.scope = trio.CancelScope()
    async def run(self):
        with self.scope, self.connection:
            await self.connection.send(f"{os.getpid()}\\n".encode())
            await self.connection.recv(1)
    def drain(self):
        self.scope.cancel()
    def press(self, stressed):
        pass

def converse(connection, client, configuration, channels, journal, trace):
    return Say(connection)

SEIZE
pool.main(Pooled(role="smtpd", converse=converse))
"""
SEIZED = """
class Seized(accepting.Accepting):
    async def next_client(self, control):
        self.uses = 0
        return await super().next_client(control)
from refmta.processes import worker
worker.Accepting = Seized
"""


@asynccontextmanager
async def running(program: str, listener: socket.socket, **rules: float) -> AsyncIterator[
    tuple[subprocess.Popen[bytes], SocketChannel]
]:  # fmt: skip
    near, far = socket_pair()
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(far.fileno())], pass_fds=[far.fileno()]
    )
    far.close()
    supervisor = SocketChannel(near, border("supervisor", "compartment"))
    terms = PoolSlice(rules=msgspec.convert(rules, Rules), shared=True)
    try:
        supervisor.post(Configure(role="smtpd", slice=b""))
        supervisor.post(Configure(role=POOL, slice=msgspec.msgpack.encode(terms)))
        supervisor.post(Link(role="smtpd", port=LISTENER), os.dup(listener.fileno()))
        await supervisor.flush()
        assert [each.message for each in await supervisor.receive()] == [Ready()]
        yield process, supervisor
    finally:
        supervisor.close()
        process.kill()
        process.wait()


async def greeted(client: socket.socket) -> int:
    """The pid of the worker that a client has got."""
    client.settimeout(60)
    return int(await trio.to_thread.run_sync(client.recv, 100))


async def test_workers_are_made_on_demand_used_again_and_go_by_themselves():
    with listening() as listener:
        async with running(SERVER.replace("SEIZE", ""), listener, max_uses=2):
            with connect(listener) as one, connect(listener) as other:
                pids = [await greeted(one), await greeted(other)]
                assert len({*pids}) == 2
            for _ in range(2):
                with connect(listener) as client:
                    pids.append(await greeted(client))
            with connect(listener) as client:
                pids.append(await greeted(client))
            assert all(pids.count(each) <= 2 for each in pids), pids
            assert len({*pids}) >= 3


async def test_a_seized_worker_keeps_its_place_for_as_long_as_it_likes():
    """The price of the shared socket; control: the same rule, handed out, in `test_calls`."""
    with listening() as listener:
        program = SERVER.replace("SEIZE", SEIZED)
        async with running(program, listener, max_uses=1, max_workers=1):
            pids = []
            for _ in range(5):
                with connect(listener) as client:
                    pids.append(await greeted(client))
            assert len({*pids}) == 1


async def test_draining_ends_sessions_and_workers_and_the_pool():
    with listening() as listener:
        async with running(SERVER.replace("SEIZE", ""), listener) as (process, supervisor):
            with connect(listener) as client:
                await greeted(client)
                supervisor.post(Drain())
                await supervisor.flush()
                assert await trio.to_thread.run_sync(client.recv, 1) == b""
            assert await trio.to_thread.run_sync(lambda: process.wait(60)) == 0
