"""The pool's parent, without processes: who waits is woken, and what counts as one client."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from refmta.patterns.secure_preforking import Pool, Rules
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.channels import SocketChannel, socket_channels, socket_pair
from refmta.processes.children import parse_report
from refmta.processes.pool import PATIENCE_S, Hand, Parent, network
from refmta.processes.worker import Pooled
from refmta.roles import smtpd
from refmta.wire.messages import Idle, Session, Stress

POOLED = Pooled(role="smtpd", servers=("enqueue", "resolve"), converse=smtpd.converse)


@pytest.mark.parametrize(
    ("client", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::9", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(client, counts_as):
    assert network(client) == counts_as


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    requests, template = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    requests.setblocking(False)
    with requests, template:
        yield requests, template


async def test_everybody_who_waits_for_a_change_is_woken_by_it(sockets):
    """An accept for each listening socket, and one for each worker that is to end: the first
    version woke only the one that had come last, and the server accepted no more.
    """
    supervisor, other = socket_channels(border("compartment", "supervisor"))
    woken: list[str] = []
    state = {"free": False}
    async with trio.open_nursery() as nursery:
        parent = Parent(POOLED, sockets[0], supervisor, nursery, template=1)

        async def wait(name: str) -> None:
            await parent._until(lambda: state["free"])
            woken.append(name)

        near, far = socket_pair()
        hand = Hand(1, SocketChannel(near, border("pool", "worker")))
        parent.hands[1] = hand
        for name in ("IPv4", "IPv6"):
            nursery.start_soon(wait, name)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(parent._end, hand)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, "later")
        await trio.testing.wait_all_tasks_blocked()
        parent._gone(hand)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        state["free"] = True
        parent.changed.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["IPv4", "IPv6", "later"]
    for each in (supervisor, other, far):
        each.close()


async def test_a_worker_that_ignores_its_retirement_is_killed_after_its_grace(
    sockets, autojump_clock
):
    requests, template = sockets
    supervisor, other = socket_channels(border("compartment", "supervisor"))
    async with trio.open_nursery() as nursery:
        parent = Parent(POOLED, requests, supervisor, nursery, template=1)
        near, far = socket_pair()
        hand = Hand(1, SocketChannel(near, border("pool", "worker")))
        parent.hands[1] = hand
        parent.pool.born(1, trio.current_time())
        parent._retire(hand)
        parent._retire(hand)  # told twice, killed once
        assert far.recv(1) == b""
        assert parent.pool.hand_out(trio.current_time()) is None
    template.setblocking(False)
    assert template.recv(100)[:1] == b"K"
    with pytest.raises(BlockingIOError):
        template.recv(100)
    for each in (supervisor, other, far):
        each.close()


async def test_no_worker_is_made_for_a_server_that_went_while_a_busy_one_was_waited_for(
    sockets, autojump_clock
):
    """The first version forked all the same, and the parent died of it."""
    supervisor, other = socket_channels(border("compartment", "supervisor"))
    async with trio.open_nursery() as nursery:
        parent = Parent(POOLED, sockets[0], supervisor, nursery, template=1)
        pairs = [socket_channels(border("pool", "server")) for _ in POOLED.servers]
        parent.servers = {name: near for name, (near, _) in zip(POOLED.servers, pairs, strict=True)}
        parent.pool.born(1, trio.current_time())
        assert parent.pool.hand_out(trio.current_time()) == 1  # busy: it is worth waiting for
        nursery.start_soon(parent._worker)
        await trio.testing.wait_all_tasks_blocked(cushion=0.001)
        parent.servers.pop("enqueue")
        await trio.sleep(10 * PATIENCE_S)
        assert list(parent.pool.workers) == [1]
        nursery.cancel_scope.cancel()
    for each in (supervisor, other, *(end for pair in pairs for end in pair)):
        each.close()


# -- distrust and stress --------------------------------------------------------------------------


@asynccontextmanager
async def parent_of(
    requests: socket.socket, rules: Rules, workers: int
) -> AsyncIterator[tuple[Parent, list[Channel]]]:
    """A parent with some workers, and their ends of their control channels."""
    supervisor, other = socket_channels(border("compartment", "supervisor"))
    ends: list[Channel] = []
    async with trio.open_nursery() as nursery:
        parent = Parent(POOLED, requests, supervisor, nursery, template=1, pool=Pool(rules))
        for number in range(workers):
            near, far = socket_channels(border("pool", "worker"))
            ends.append(far)
            parent.hands[number] = Hand(number, near, pid=100 + number)
            parent.pool.born(number, trio.current_time())
        yield parent, ends
        nursery.cancel_scope.cancel()
    for each in (supervisor, other, *ends):
        each.close()


def signals(template: socket.socket) -> list[int]:
    """The signals that the template was asked to send."""
    template.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while octets := template.recv(100):
            assert octets[:1] == b"K"
            found.append(octets[-1])
    return found


async def hand_out(parent: Parent) -> socket.socket:
    """One client's connection goes to some worker; returns the client's end."""
    near, far = socket.socketpair()
    await parent._hand_out(Session(client="192.0.2.1", port=1), "192.0.2.1", near)
    return far


async def heard(channel: Channel) -> list[object]:
    return [each.message for each in await channel.receive()]


async def test_stress_is_told_to_all_workers_once_and_its_end_too(sockets, autojump_clock):
    rules = Rules(max_workers=2, stress_command_s=10)
    async with parent_of(sockets[0], rules, 2) as (parent, ends):
        parent.nursery.start_soon(parent._housekeeping)
        clients = [await hand_out(parent), await hand_out(parent)]
        await trio.sleep(60)
        parent._idle(parent.hands[0])
        await trio.sleep(60)
        for end in ends:
            messages = []
            while len(messages) < 3:
                messages += await heard(end)
            assert [each for each in messages if isinstance(each, Stress)] == [
                Stress(on=True),
                Stress(on=False),
            ]
        for each in clients:
            each.close()


async def test_who_is_idle_without_having_had_a_session_is_ended(sockets):
    async with parent_of(sockets[0], Rules(), 1) as (parent, (end,)):
        parent.nursery.start_soon(parent._follow, parent.hands[0])
        end.post(Idle())
        await end.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert signals(sockets[1]) == [signal.SIGKILL]
        assert parent.pool.hand_out(trio.current_time()) is None


async def test_who_leaves_its_sessions_lying_does_not_hold_up_the_others(sockets, autojump_clock):
    """A seized worker says that it is idle, and reads nothing: its channel fills.  The first
    version waited for it with all clients.
    """
    rules = Rules(max_workers=2, max_uses=100_000)
    async with parent_of(sockets[0], rules, 2) as (parent, _):
        clients = []
        with trio.fail_after(3600):
            while not (sent := signals(sockets[1])):
                clients.append(await hand_out(parent))
                hand = next(each for each in parent.hands.values() if each.client)
                parent._idle(hand)
        assert sent == [signal.SIGKILL]
        liar = hand.number
        assert parent.pool.hand_out(trio.current_time()) == 1 - liar
        for each in clients:
            each.close()


async def test_a_session_without_end_is_told_to_end_and_then_ended(sockets, autojump_clock):
    rules = Rules(max_session_s=100)
    async with parent_of(sockets[0], rules, 1) as (parent, _):
        client = await hand_out(parent)
        parent.nursery.start_soon(parent._housekeeping)
        await trio.sleep(101.5)
        assert signals(sockets[1]) == [signal.SIGTERM]
        await trio.sleep(5)
        assert signals(sockets[1])[0] == signal.SIGKILL
        client.close()


def test_reports_have_three_kinds():
    with pytest.raises(ValueError):
        parse_report(b"K" + bytes(12))
