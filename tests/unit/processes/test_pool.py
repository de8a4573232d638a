"""The pool's parent, without processes: who waits is woken, who is distrusted, what a new worker is
sent, and how all end.
"""

from __future__ import annotations

import os
import signal
import socket

import pytest
import trio
from unit.processes.staff_world import ALONE, POOLED, World, world

from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.calls import ON_CALL, TRACE
from refmta.processes.calls import POOLED as BY_INTRODUCTION
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.processes.children import MAX_REQUEST, parse_report, start_request
from refmta.processes.entries import Member
from refmta.processes.handing import PATIENCE_S
from refmta.processes.links import FRESH
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.processes.staff import GRACE_S, LONG_GRACE_S, Hand
from refmta.processes.worker import Pooled
from refmta.roles import smtpd
from refmta.stores.recipients import Recipients
from refmta.wire.messages import Attach, Busy, Configure, Idle, Line, Link, Ready, Session, Stress

# -- waiting --------------------------------------------------------------------------------------


async def test_everybody_who_waits_for_a_change_is_woken_by_it():
    """An accept for each listening socket, and one for each worker that is to end: the first
    version woke only the one that had come last, and the server accepted no more.
    """
    woken: list[str] = []
    state = {"free": False}
    async with world() as it:
        staff = it.staff

        async def wait(name: str) -> None:
            await staff.until(lambda: state["free"])
            woken.append(name)

        near, far = socket_pair()
        hand = Hand(1, SocketChannel(near, border("pool", "worker")))
        staff.hands[1] = hand
        for name in ("IPv4", "IPv6"):
            staff.nursery.start_soon(wait, name)
            await trio.testing.wait_all_tasks_blocked()
        staff.nursery.start_soon(staff._end, hand)
        await trio.testing.wait_all_tasks_blocked()
        staff.nursery.start_soon(wait, "later")
        await trio.testing.wait_all_tasks_blocked()
        staff.gone(hand, failed=False)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        state["free"] = True
        staff.changed.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["IPv4", "IPv6", "later"]
        far.close()


async def server(it: World, port: str, detail: str = BY_INTRODUCTION) -> Channel:
    """A server is there; returns its end of the line."""
    near, far = socket_pair()
    link = Link(role="smtpd", port=port, detail=detail)
    it.staff.serve_by(link, near.detach())
    await trio.testing.wait_all_tasks_blocked()
    return SocketChannel(far, border("server", "pool"))


async def test_no_worker_is_made_for_a_server_that_went_while_a_busy_one_was_waited_for(
    autojump_clock,
):
    """The first version forked all the same, and the parent died of it."""
    async with world(pooled=POOLED) as it:
        lines = [await server(it, port) for port in POOLED.servers]
        client = await it.client()
        it.staff.nursery.start_soon(it.handing._worker)  # busy: it is worth waiting for
        await trio.testing.wait_all_tasks_blocked(cushion=0.001)
        lines[0].close()
        await trio.sleep(10 * PATIENCE_S)
        await it.look()
        assert list(it.workers) == [1]
        for each in (client, lines[1]):
            each.close()


# -- what a worker is sent ------------------------------------------------------------------------


async def test_a_new_worker_gets_a_channel_to_each_server_or_a_line_of_its_own():
    async with world(pooled=POOLED, max_uses=1) as it:
        enqueue, resolve = await server(it, "enqueue", FRESH), await server(it, "resolve")
        for number in (1, 2):
            (await it.client()).close()
            links = await it.told(number, Link)
            assert {(each.port, each.detail) for each in links} == {
                ("enqueue", ON_CALL), ("resolve", ""),
            }  # fmt: skip
        for line, said in ((enqueue, Line()), (resolve, Attach())):
            items = [*await line.receive(), *await line.receive()]  # never two with descriptors
            assert [each.message for each in items] == [said, said]
            for each in items:
                os.close(each.descriptors[0])
            line.close()


async def test_a_workers_line_leads_to_the_server():
    async with world(pooled=POOLED) as it:
        enqueue, resolve = await server(it, "enqueue", FRESH), await server(it, "resolve")
        (await it.client()).close()
        items = await it.workers[1].receive()
        (descriptor,) = [
            each.descriptors[0] for each in items
            if isinstance(each.message, Link) and each.message.detail == ON_CALL
        ]  # fmt: skip
        line = SocketChannel(socket.socket(fileno=descriptor), border("caller", "pool"))
        near, far = socket_pair()
        line.post(Attach(detail="ada"), far.detach())
        await line.flush()
        (introduced,) = await enqueue.receive()
        further = SocketChannel(
            socket.socket(fileno=introduced.descriptors[0]), border("server", "pool")
        )
        assert [each.message for each in await further.receive()] == [Attach(detail="ada")]
        for each in (near, line, further, enqueue, resolve):
            each.close()


STANDING_BY = Pooled(
    role="smtpd",
    converse=smtpd.converse,
    standby=(Member(role="resolve"), Member(role="accounts")),
)


async def test_a_new_worker_gets_the_trace_then_the_slices_of_who_stands_by_then_its_session():
    async with world(pooled=STANDING_BY) as it:
        it.staff.traced = os.memfd_create("trace")
        (await it.client()).close()
        messages = [each.message for each in await it.heard(1)]
        assert messages == [
            Link(role="smtpd", port=TRACE, detail=str(os.getpid())),
            Configure(role="resolve", slice=b"slice of resolve"),
            Configure(role="accounts", slice=b"slice of accounts"),
            Session(client="192.0.2.1", port=1),
        ]
        os.close(it.staff.traced)


@pytest.mark.parametrize(
    "terms",
    [
        PoolSlice(rules=Rules(), becomes=Recipients(rootless=True)),
        PoolSlice(rules=Rules()),
    ],
)
async def test_only_a_worker_that_keeps_to_terms_by_itself_is_told_them(terms: PoolSlice):
    """What it never was told is not in its memory."""
    async with world(terms) as it:
        (await it.client()).close()
        told = await it.told(1, Configure)
        assert [each.role for each in told] == ([POOL] if terms.becomes is not None else [])


async def test_the_parent_is_ready_once_and_only_when_it_has_the_slices_of_all_roles():
    async with world(pooled=STANDING_BY) as it:
        await it.parent.supervisor.flush()
        assert [each.message for each in await it.supervisor.receive()] == [Ready()]


def test_who_becomes_somebody_is_used_once_whatever_the_rules_say():
    rules = Rules(max_uses=7)
    assert PoolSlice(rules=rules).terms().max_uses == 7
    assert PoolSlice(rules=rules, uses=3).terms().max_uses == 3
    assert PoolSlice(rules=rules, uses=3, becomes=Recipients()).terms().max_uses == 1


def test_a_request_that_is_too_long_is_not_sent():
    assert len(start_request(1, bytes(MAX_REQUEST - 9))) == MAX_REQUEST
    with pytest.raises(ValueError, match="too long"):
        start_request(1, bytes(MAX_REQUEST - 8))


# -- distrust, retirement and stress --------------------------------------------------------------


@pytest.mark.parametrize("pooled", [ALONE, STANDING_BY], ids=["alone", "a whole server"])
async def test_a_worker_that_ignores_its_retirement_is_killed_after_its_grace(
    pooled: Pooled, autojump_clock
):
    grace_s = GRACE_S if pooled is ALONE else LONG_GRACE_S
    async with world(pooled=pooled, max_uses=1) as it:
        client = await it.client()
        await it.says(1, Idle())
        it.staff.retire(it.staff.hands[1])  # told twice, killed once
        assert it.handing.books.hand_out(trio.current_time()) is None
        await trio.sleep(grace_s - 0.1)
        await it.look()
        assert it.signals == []
        await trio.sleep(1)
        await it.look()
        assert it.signals == [(1, signal.SIGKILL)]
        client.close()


async def test_stress_is_told_to_all_workers_once_and_its_end_too(autojump_clock):
    async with world(max_workers=2, stress_command_s=10) as it:
        it.parent.nursery.start_soon(it.parent._housekeeping)
        clients = [await it.client(), await it.client()]
        await trio.sleep(60)
        await it.says(1, Idle())
        await trio.sleep(60)
        for number in (1, 2):
            assert await it.told(number, Stress) == [Stress(on=True), Stress(on=False)]
        for each in clients:
            each.close()


async def test_a_worker_that_is_made_under_stress_is_told_so():
    async with world(max_workers=1, max_uses=1, stress_command_s=10) as it:
        clients = [await it.client()]
        await it.says(1, Idle())
        await it.ends(1)
        clients.append(await it.client())
        assert await it.told(2, Stress) == [Stress(on=True)]
        for each in clients:
            each.close()


@pytest.mark.parametrize("message", [Idle(), Busy(client="192.0.2.1")])
async def test_who_says_what_is_not_so_is_ended(message: Idle | Busy):
    """Idle without having had a session; busy, with nothing to accept on."""
    async with world() as it:
        it.staff.fork()
        await it.look()
        await it.says(1, message)
        assert it.signals == [(1, signal.SIGKILL)]
        assert it.handing.books.hand_out(trio.current_time()) is None


async def test_who_leaves_its_sessions_lying_does_not_hold_up_the_others(autojump_clock):
    """A seized worker says that it is idle, and reads nothing: its channel fills.  The first
    version waited for it with all clients.
    """
    async with world(max_workers=2, max_uses=100_000) as it:
        clients = []
        with trio.fail_after(3600):
            while not it.signals:
                clients.append(await it.client())
                hand = next(each for each in it.staff.hands.values() if each.client)
                it.handing.heard(hand, Idle())
        assert it.signals == [(hand.number, signal.SIGKILL)]
        assert it.handing.books.hand_out(trio.current_time()) != hand.number
        for each in clients:
            each.close()


async def test_a_session_without_end_is_told_to_end_and_then_ended(autojump_clock):
    async with world(max_session_s=100) as it:
        client = await it.client()
        it.parent.nursery.start_soon(it.parent._housekeeping)
        await trio.sleep(101.5)
        await it.look()
        assert it.signals == [(1, signal.SIGTERM)]
        await trio.sleep(5)
        await it.look()
        assert it.signals[1] == (1, signal.SIGKILL)
        client.close()


# -- draining -------------------------------------------------------------------------------------


async def test_draining_ends_when_the_last_worker_has_ended_and_lets_nobody_in():
    async with world() as it:
        done = trio.Event()

        async def drain() -> None:
            await it.handing.drain()
            done.set()

        clients = [await it.client(), await it.client()]
        await it.says(2, Idle())
        it.parent.nursery.start_soon(drain)
        await it.look()
        assert it.signals == [(1, signal.SIGTERM)]  # the other one is told by its channel's end
        await it.ends(2)
        await it.says(1, Idle())  # 421 was said; its channel ends now, too
        assert not done.is_set()
        await it.ends(1)
        assert done.is_set()
        for each in clients:
            each.close()


def test_reports_have_three_kinds():
    with pytest.raises(ValueError):
        parse_report(b"K" + bytes(12))
