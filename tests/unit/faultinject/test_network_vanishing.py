"""A peer that is gone without a word, as its client sees it."""

from __future__ import annotations

import socket
from functools import partial

import pytest
import trio

from faultinject.network.next_hop import NextHop
from faultinject.network.vanishing import appear, vanish

#: Long enough for anything to arrive on a loopback interface.
SOON_S = 0.3


async def test_nothing_is_said_and_nothing_acknowledged() -> None:
    hop = NextHop(behaviour="half-open-at-mail")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(hop.serve)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for said in (b"", b"EHLO me\r\n"):
                await stream.send_all(said)
                assert (await stream.receive_some()).startswith(b"2")
            await stream.send_all(b"MAIL FROM:<a@b.example>\r\n")
            await hop.wait_for(lambda: len(hop.commands) == 2)
            await trio.sleep(SOON_S)
            await stream.send_all(b"RCPT TO:<x@y.example>\r\n")
            with trio.move_on_after(SOON_S) as waiting:
                await stream.receive_some()
            assert waiting.cancelled_caught
            assert unacknowledged(stream.socket) > 0
        assert len(hop.commands) == 2 and hop.open == 1
        nursery.cancel_scope.cancel()


def unacknowledged(where: trio.socket.SocketType) -> int:
    """Of TCP_INFO: segments on their way."""
    info = where.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[24:28], "little")


def test_a_listener_that_has_vanished_is_a_black_hole_until_it_appears() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        vanish(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname(), timeout=SOON_S)
        appear(listener)
        socket.create_connection(listener.getsockname(), timeout=5).close()


async def test_visits_are_recorded() -> None:
    hop = NextHop()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(hop.serve)
        for _ in range(2):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"QUIT\r\n")
                while await stream.receive_some():
                    pass
        await hop.wait_for(lambda: hop.open == 0)
        nursery.cancel_scope.cancel()
    first, second = hop.visits
    assert first.came_s <= first.gone_s <= second.came_s <= second.gone_s
    assert first.behaviour == "honest"


async def test_each_mail_on_a_connection_that_is_kept_is_an_attempt() -> None:
    """With RSET before it, as a client does that tries again: that is no part of the one before."""
    hop = NextHop(behaviour="4yz-at-mail")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(hop.serve)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for line in (b"EHLO c", b"MAIL FROM:<>", b"RSET", b"RSET\r\nMAIL FROM:<>", b"QUIT"):
                await stream.send_all(line + b"\r\n")
                await stream.receive_some()
        await hop.wait_for(lambda: hop.open == 0)
        nursery.cancel_scope.cancel()
    (visit,) = hop.visits
    first, second = hop.attempts
    assert visit.came_s == first.came_s <= first.gone_s <= second.came_s <= second.gone_s
    assert second.gone_s < visit.gone_s and hop.commands.count(b"RSET") == 2


def so_many(hop: NextHop, commands: int) -> bool:
    return len(hop.commands) == commands


async def test_an_attempt_is_over_when_it_was_answered_and_not_when_its_connection_goes() -> None:
    hop = NextHop(behaviour="silence-at-data")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(hop.serve)
        for lines, heard in ((b"MAIL FROM:<>", 2), (b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA", 6)):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"EHLO c\r\n" + lines + b"\r\n")
                await hop.wait_for(partial(so_many, hop, heard))
                await trio.sleep(0.05)  # it is kept open
        await hop.wait_for(lambda: hop.open == 0)
        nursery.cancel_scope.cancel()
    answered, silent = hop.attempts
    assert answered.gone_s < hop.visits[0].gone_s
    assert silent.gone_s == hop.visits[1].gone_s
