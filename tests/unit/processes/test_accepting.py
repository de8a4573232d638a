"""A worker that accepts by itself: what it tells its parent, and when it has had enough."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from unit.processes.staff_world import listening

from refmta.journal import journal
from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.accepting import ACCEPT_PAUSE_S, Accepting, Spent
from refmta.processes.channels import socket_channels
from refmta.wire.messages import Busy, Session


@asynccontextmanager
async def worker(**rules: float) -> AsyncIterator[tuple[Accepting, Channel, Channel]]:
    """A worker's way to its clients, its end of its control channel, and the parent's."""
    parent, control = socket_channels(border("pool", "worker"))
    log = journal("smtpd", terminal=False)
    yield Accepting(msgspec.convert(rules, Rules), log), control, parent
    parent.close()
    control.close()


async def serve(accepting: Accepting, control: Channel) -> Session:
    session, descriptor = await accepting.next_client(control)
    os.close(descriptor)
    return session


def connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname())


async def test_the_parent_is_told_of_each_client_and_the_worker_goes_when_it_is_used():
    with listening() as listener:
        async with worker(max_uses=2) as (accepting, control, parent):
            accepting.add(os.dup(listener.fileno()))
            for _ in range(2):
                with connect(listener) as client:
                    session = await serve(accepting, control)
                    assert (session.client, session.port) == client.getsockname()
                    (item,) = await parent.receive()
                    assert item.message == Busy(client="127.0.0.1")
            with connect(listener), pytest.raises(Spent, match="used"):
                await serve(accepting, control)


async def test_a_worker_that_shares_with_others_waits_on_when_they_were_quicker():
    with listening() as listener:
        async with worker() as (accepting, control, _), worker() as (other, its, _):
            for each in (accepting, other):
                each.add(os.dup(listener.fileno()))
            served: list[str] = []

            async def serve_one(name: str, one: Accepting, its_control: Channel) -> None:
                await serve(one, its_control)
                served.append(name)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_one, "one", accepting, control)
                nursery.start_soon(serve_one, "other", other, its)
                for count in (1, 2):
                    await trio.testing.wait_all_tasks_blocked()
                    with connect(listener):
                        await trio.testing.wait_all_tasks_blocked(cushion=0.01)
                    assert len(served) == count
            assert sorted(served) == ["one", "other"]


async def test_it_accepts_on_a_socket_that_comes_while_it_waits():
    with listening() as first, listening() as second:
        async with worker() as (accepting, control, _), trio.open_nursery() as nursery:
            for listener in (first, second):
                nursery.start_soon(serve, accepting, control)
                await trio.testing.wait_all_tasks_blocked()
                accepting.add(os.dup(listener.fileno()))
                connect(listener).close()


@pytest.mark.parametrize(
    ("rules", "after_s"), [({"max_idle_s": 10}, 10), ({"max_age_s": 7, "max_idle_s": 10}, 7)]
)
async def test_it_goes_when_it_was_idle_for_long_or_is_old(rules, after_s, autojump_clock):
    with listening() as listener:
        async with worker(**rules) as (accepting, control, _):
            accepting.add(os.dup(listener.fileno()))
            begun_s = trio.current_time()
            with pytest.raises(Spent, match="idle"):
                await serve(accepting, control)
            assert trio.current_time() - begun_s == pytest.approx(after_s)


async def test_one_that_is_old_takes_no_client_even_if_one_waits(autojump_clock):
    with listening() as listener:
        async with worker(max_age_s=5) as (accepting, control, _):
            accepting.add(os.dup(listener.fileno()))
            await trio.sleep(6)
            with connect(listener), pytest.raises(Spent):
                await serve(accepting, control)
            assert accepting.uses == 0


async def test_told_to_go_it_goes_while_it_waits_and_before_it_does():
    with listening() as listener:
        async with worker() as (accepting, control, _):
            accepting.add(os.dup(listener.fileno()))

            async def wait() -> None:
                with pytest.raises(Spent, match="told"):
                    await serve(accepting, control)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                accepting.close()
            with connect(listener):
                await wait()


async def test_without_a_parent_it_hangs_up():
    with listening() as listener:
        async with worker() as (accepting, control, parent):
            accepting.add(os.dup(listener.fileno()))
            parent.close()
            with connect(listener) as client:
                with pytest.raises(ChannelBroken):
                    await serve(accepting, control)
                assert client.recv(1) == b""


async def test_an_accept_that_fails_is_tried_again_after_a_pause(monkeypatch, capfd):
    failing = {"times": 2}
    accept = socket.socket.accept

    def scarce(self: socket.socket) -> tuple[socket.socket, object]:
        if failing["times"]:
            failing["times"] -= 1
            raise OSError(24, "Too many open files")
        return accept(self)

    with listening() as listener:
        async with worker() as (accepting, control, _):
            accepting.add(os.dup(listener.fileno()))
            monkeypatch.setattr(socket.socket, "accept", scarce)
            begun_s = trio.current_time()
            with connect(listener):
                await serve(accepting, control)
            assert trio.current_time() - begun_s >= 2 * ACCEPT_PAUSE_S
            assert capfd.readouterr().err.count("accept failed") == 2
