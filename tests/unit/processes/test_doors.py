"""How sessions come to a pool's parent: who is let in, who is refused, and who hangs up."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from unit.processes.staff_world import listening

from refmta.journal import journal
from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes import doors
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.processes.doors import Doors, network
from refmta.processes.pool_slice import PoolSlice
from refmta.stores.recipients import Recipients
from refmta.wire.messages import Attach, Line, Link, Session

BECOMES = PoolSlice(rules=Rules(), becomes=Recipients(rootless=True))


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


@dataclass(eq=False)
class House:
    """What is behind the doors: everything that came through them, and whether there is room."""

    doors: Doors = field(init=False)
    came: list[tuple[Session, str]] = field(default_factory=list)
    ends: list[socket.socket] = field(default_factory=list)
    room: trio.Event = field(default_factory=trio.Event)

    async def wait_for_room(self) -> None:
        await self.room.wait()

    async def hand_out(self, session: Session, client: str, end: socket.socket) -> None:
        self.came.append((session, client))
        self.ends.append(end)
        self.doors.clients[client] += 1

    async def line(self, link: Link | None = None) -> SocketChannel:
        """A caller's end of a new line."""
        near, far = socket_pair()
        self.doors.answer(link or Link(role="local", port="qmgr"), far.detach())
        await trio.testing.wait_all_tasks_blocked()
        return SocketChannel(near, border("caller", "pool"))


@asynccontextmanager
async def house(terms: PoolSlice | None = None) -> AsyncIterator[House]:
    made = House()
    made.room.set()
    async with trio.open_nursery() as nursery:
        made.doors = Doors(
            made.wait_for_room, made.hand_out, nursery, journal("pool", terminal=False),
            terms or PoolSlice(rules=Rules()),
        )  # fmt: skip
        yield made
        nursery.cancel_scope.cancel()
    for each in made.ends:
        each.close()


async def say(line: SocketChannel, message: Attach | Line) -> SocketChannel:
    """Say something with a channel's other end; returns this end."""
    near, far = socket_pair()
    line.post(message, far.detach())
    await line.flush()
    await trio.testing.wait_all_tasks_blocked()
    return SocketChannel(near, border("caller", "pool"))


async def is_closed(channel: SocketChannel) -> bool:
    with trio.move_on_after(30):
        try:
            await channel.receive()
        except ChannelBroken:
            return True
    return False


# -- callers --------------------------------------------------------------------------------------


async def test_a_call_says_who_calls_for_whom_and_in_which_form():
    async with house() as it:
        line = await it.line(Link(role="local", port="qmgr", carrier="qmail"))
        near = await say(line, Attach(detail="ada"))
        session = Session(client="qmgr", port=0, detail="ada", carrier="qmail")
        assert it.came == [(session, "qmgr")]
        for each in (near, line):
            each.close()


async def test_a_callers_line_brings_further_lines_and_these_bring_calls():
    async with house() as it:
        line = await it.line()
        workers = [await say(line, Line()) for _ in range(3)]
        calls = [await say(each, Attach()) for each in workers]
        assert it.came == [(Session(client="qmgr", port=0), "qmgr")] * 3
        workers[0].close()  # a worker ends: nobody else minds
        calls.append(await say(workers[1], Attach()))
        assert len(it.came) == 4
        for each in (*workers, *calls, line):
            each.close()


async def test_a_workers_line_brings_no_further_lines_and_goes_on(capfd):
    """A seized worker must not be able to fill the pool with lines of its own making."""
    async with house() as it:
        line = await it.line()
        worker = await say(line, Line())
        forbidden = await say(worker, Line())
        assert await is_closed(forbidden)
        assert '"call refused"' in capfd.readouterr().err
        call = await say(worker, Attach())
        assert len(it.came) == 1
        for each in (line, worker, call):
            each.close()


async def test_a_caller_has_so_many_lines_and_no_more_until_one_ends(monkeypatch):
    monkeypatch.setattr(doors, "LINES", 3)
    async with house() as it:
        line = await it.line()
        workers = [await say(line, Line()) for _ in range(2)]
        assert await is_closed(await say(line, Line()))
        workers.pop().close()
        await trio.testing.wait_all_tasks_blocked()
        workers.append(await say(line, Line()))
        (await say(workers[-1], Attach())).close()
        assert len(it.came) == 1
        for each in (line, *workers):
            each.close()


@pytest.mark.parametrize("detail", ["", "ada"])
async def test_where_workers_become_somebody_a_call_must_say_whom(detail: str):
    async with house(BECOMES) as it:
        line = await it.line()
        near = await say(line, Attach(detail=detail))
        assert len(it.came) == bool(detail)
        if not detail:
            assert await is_closed(near)
        for each in (near, line):
            each.close()


async def test_calls_wait_for_room_in_their_order_and_are_hung_up_when_their_caller_ends():
    async with house() as it:
        it.room = trio.Event()
        line = await it.line()
        calls = [await say(line, Attach(detail=str(number))) for number in range(3)]
        assert it.came == []
        it.room.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [session.detail for session, _ in it.came] == ["0", "1", "2"]
        it.room = trio.Event()
        late = await say(line, Attach())
        line.close()
        it.room.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(it.came) == 4  # it had been heard; what its caller wants of it is its business
        for each in (*calls, late):
            each.close()


async def test_shut_doors_hang_up_on_who_waits_and_on_who_comes_later():
    async with house() as it:
        it.room = trio.Event()
        line = await it.line()
        waiting = await say(line, Attach())
        it.doors.shut()
        assert await is_closed(waiting) and await is_closed(line)
        assert await is_closed(await it.line())
        assert it.came == []


# -- clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trusted", "welcome"), [((), 1), (("127.0.0.1",), 3)])
async def test_a_client_has_so_many_connections_and_the_next_one_is_refused(trusted, welcome):
    terms = PoolSlice(rules=Rules(), connections_per_client=1, trusted=trusted)
    with listening() as listener:
        async with house(terms) as it:
            clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
            it.doors.listen(listener.detach())
            await trio.testing.wait_all_tasks_blocked()
            assert len(it.came) == welcome
            answers = [each.recv(100) for each in clients[welcome:]]
            assert all(each.startswith(b"421 4.7.0") for each in answers)
            it.doors.leave("127.0.0.1")
            assert it.doors.clients.total() == welcome - 1
    for each in clients:
        each.close()


async def test_without_room_nobody_is_accepted():
    with listening() as listener:
        async with house() as it:
            it.room = trio.Event()
            address = listener.getsockname()
            it.doors.listen(listener.detach())
            client = socket.create_connection(address)
            await trio.testing.wait_all_tasks_blocked()
            assert it.came == []
            it.room.set()
            await trio.testing.wait_all_tasks_blocked()
            assert [session.client for session, _ in it.came] == ["127.0.0.1"]
            client.close()
