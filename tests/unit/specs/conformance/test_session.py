"""One case's talk with a server: how it begins."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from specs.conformance import session
from specs.conformance.given import Given
from specs.conformance.session import Refused, Session
from specs.conformance.transcript import Told


@asynccontextmanager
async def greeted_by(nursery: trio.Nursery, *greetings: bytes) -> AsyncIterator[Session]:
    """A server that greets its clients so, one after the other, and the last one for ever."""
    waiting = [*greetings]

    async def handle(stream: trio.SocketStream) -> None:
        greeting = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        with suppress(trio.BrokenResourceError):
            if greeting:
                await stream.send_all(greeting)
            if greeting.startswith(b"220"):
                await trio.sleep_forever()

    (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    given = Given(smtp=listener.socket.getsockname(), timeout_s=4.0)
    async with Session(given=given, door="smtp", token="t", told=Told(trio.current_time())) as talk:
        yield talk
    nursery.cancel_scope.cancel()


async def test_a_set_up_tries_again_where_there_are_too_many_connections(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "AGAIN_S", (0.01, 0.01))
    async with greeted_by(nursery, b"421 too many\r\n", b"220 hello\r\n") as talk:
        assert (await talk.upto("greeting")).code == "220"
        assert any(b"once more" in each.octets for each in talk.told.lines)
        assert talk.told.connections == 2


async def test_so_it_does_where_they_are_closed(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "AGAIN_S", (0.01, 0.01))
    async with greeted_by(nursery, b"", b"220 hello\r\n") as talk:
        assert (await talk.upto("greeting")).code == "220"
        assert any(b"closed: once more" in each.octets for each in talk.told.lines)
        assert talk.told.connections == 2


async def test_so_it_does_where_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REFUSED_AGAIN_S", (0.01, 0.01))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        given = Given(smtp=nobody.getsockname())
        told = Told(trio.current_time())
        async with Session(given=given, door="smtp", token="t", told=told) as talk:
            with pytest.raises(OSError, match="failed"):
                await talk.upto("ehlo")
            assert sum(b"once more" in each.octets for each in told.lines) == 2
            assert told.connections == 3
            with pytest.raises(OSError, match="failed"):
                await talk.connect()
            assert told.connections == 4


async def test_but_not_for_ever(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "AGAIN_S", (0.01, 0.01, 9.0))  # longer than the timeout
    async with greeted_by(nursery, b"421 too many\r\n") as talk:
        with pytest.raises(Refused, match="421"):
            await talk.upto("ehlo")
        assert talk.told.connections == 3


async def test_who_connects_by_himself_sees_what_comes(nursery: trio.Nursery) -> None:
    async with greeted_by(nursery, b"421 too many\r\n", b"220 hello\r\n") as talk:
        await talk.connect()
        with pytest.raises(Refused, match="421"):
            await talk.upto("greeting")
        assert talk.told.connections == 1
