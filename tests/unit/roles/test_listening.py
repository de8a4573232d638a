"""A role that accepts its clients by itself: places, stress, channels per session, the end.

Real sockets; the sessions are scripted.  Controls: one that counts sessions and not clients, and
one whose sessions share their channels.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import trio

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels
from refmta.roles import listening
from refmta.wire.client import network
from specs.kernel.mutant import hits, mutate


@dataclass(eq=False)
class Talk:
    """A session that greets, and lasts until its client leaves or it is told to end."""

    connection: socket.socket
    client: str
    channels: Mapping[str, Channel]
    pressed: list[bool] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        self.connection.setblocking(False)
        self.connection.send(b"220 hello\r\n")
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await trio.lowlevel.wait_readable(self.connection)
                self.over.set()

            nursery.start_soon(leave)
            await self.over.wait()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        self.over.set()

    def press(self, stressed: bool) -> None:
        self.pressed.append(stressed)


@dataclass
class World:
    context: Context
    port: int
    talks: list[Talk]
    servers: list[Channel]
    ended: trio.Event = field(default_factory=trio.Event)

    async def connect(
        self, source: str = "127.0.0.1", patience_s: float = 2.0
    ) -> tuple[socket.socket, bytes]:
        """A client, and what it is told first; nothing if it has to wait."""
        client = socket.create_connection(("127.0.0.1", self.port), 5, (source, 0))
        client.setblocking(False)
        with trio.move_on_after(patience_s):
            await trio.lowlevel.wait_readable(client)
            return client, client.recv(100)
        return client, b""


@asynccontextmanager
async def listens(
    module: ModuleType = listening, *, sessions: int = 4, per_client: int = 2,
    trusted: tuple[str, ...] = (),
) -> AsyncIterator[World]:  # fmt: skip
    talks: list[Talk] = []
    servers: list[Channel] = []

    def call(port: str, _detail: str = "") -> Channel:
        near, far = local_channels(border("smtpd", port))
        servers.append(far)
        return near

    def converse(connection: socket.socket, client: str, channels: Mapping[str, Channel]) -> Talk:
        talks.append(Talk(connection, client, channels))
        return talks[-1]

    context = Context(slices={}, call=call)
    places = module.Places(sessions=sessions, per_client=per_client, trusted=trusted)
    listener = socket.create_server(("127.0.0.1", 0))
    world = World(context, listener.getsockname()[1], talks, servers)
    context.listeners.put(listener)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            log = journal("smtpd", descriptor=-1)
            await module.serve(context, log, places, ("enqueue", "resolve"), converse)
            world.ended.set()

        nursery.start_soon(run)
        yield world
        nursery.cancel_scope.cancel()


async def broken(channel: Channel, within_s: float = 0.2) -> bool:
    with trio.move_on_after(within_s):
        try:
            await channel.receive()
        except ChannelBroken:
            return True
    return False


HELLO = b"220 hello\r\n"


async def places_are_kept(module: ModuleType) -> list[str]:
    """What is wrong."""
    wrong, clients = [], []
    async with listens(module) as it:
        for _ in range(2):
            clients.append(await it.connect())
        clients.append(await it.connect())
        if not clients[2][1].startswith(b"421 4.7.0 too many"):
            wrong.append("a client with too many connections")
        for _ in range(2):
            clients.append(await it.connect("127.0.0.2"))
        late = await it.connect("127.0.0.3", 0.2)
        clients.append(late)
        if late[1]:
            wrong.append("a session without a place")
        clients[0][0].close()  # there is room
        with trio.move_on_after(2):
            await trio.lowlevel.wait_readable(late[0])
            if late[0].recv(100) != HELLO:
                wrong.append("a place that is free and not given")
        for each, _ in clients:
            each.close()
    return wrong


async def test_there_are_so_many_places_and_so_many_of_one_client():
    assert await places_are_kept(listening) == []


async def test_control_who_counts_sessions_but_not_clients():
    passage = "self.clients[counted] >= self.places.per_client"
    mutant = mutate(listening.__name__, [(passage, "__mutant_ran__() is None")])
    assert "a client with too many connections" in await places_are_kept(mutant)
    assert hits(mutant) > 0


async def test_control_who_counts_clients_but_not_sessions():
    passage = "self._until(lambda: self._taken < self.places.sessions)"
    mutant = mutate(listening.__name__, [(passage, "self._until(__mutant_ran__)")])
    assert await places_are_kept(mutant) == ["a session without a place"]
    assert hits(mutant) > 0


async def test_who_is_trusted_may_have_every_place():
    async with listens(trusted=("127.0.0.1",)) as it:
        clients = [await it.connect() for _ in range(4)]
        assert [said for _, said in clients] == [HELLO] * 4
        for each, _ in clients:
            each.close()


async def test_each_session_has_its_own_channels_until_it_is_over():
    async with listens() as it:
        (one, _), (other, _) = [await it.connect() for _ in range(2)]
        assert [set(each.channels) for each in it.talks] == [{"enqueue", "resolve"}] * 2
        assert len({id(channel) for each in it.talks for channel in each.channels.values()}) == 4
        one.close()
        assert [await broken(each, 30) for each in it.servers[:2]] == [True, True]
        assert [await broken(each) for each in it.servers[2:]] == [False, False]
        other.close()


async def test_control_sessions_that_keep_their_channels():
    passage = "            for each in channels.values():\n                each.close()\n"
    mutant = mutate(listening.__name__, [(passage, "            __mutant_ran__()\n")])
    async with listens(mutant) as it:
        client, _ = await it.connect()
        client.close()
        assert not any([await broken(each) for each in it.servers])
    assert hits(mutant) > 0


async def test_stress_begins_with_the_last_place_and_ends_when_half_are_free():
    async with listens(per_client=9) as it:
        clients: list[Any] = [await it.connect() for _ in range(4)]
        assert [each.pressed for each in it.talks[:3]] == [[False, True]] * 3
        assert it.talks[3].pressed == [True]
        for number, stressed in ((3, [True]), (2, [True, False])):
            clients[number][0].close()
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                await it.talks[number].over.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert it.talks[0].pressed[1:] == stressed
        for each, _ in clients:
            each.close()


async def test_when_the_server_stops_nobody_is_let_in_and_who_is_here_is_told():
    async with listens() as it:
        client, _ = await it.connect()
        it.context.draining.set()
        with trio.fail_after(5):
            await it.ended.wait()
        assert it.talks[0].over.is_set()
        late = socket.socket()
        late.settimeout(5)
        assert late.connect_ex(("127.0.0.1", it.port)) != 0
        late.close()
        client.close()


async def test_what_counts_as_one_client():
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("2001:db8::1") == network("2001:db8::ffff") != network("2001:db8:0:1::1")
    assert network("fe80::1%eth0") == "fe80::/64"
