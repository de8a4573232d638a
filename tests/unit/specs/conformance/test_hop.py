"""The scripted next hop: what it answers and records, for clients of all kinds."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from specs.conformance.hop import Hop
from specs.conformance.hop_records import Bell, path_of
from specs.conformance.hop_script import CLOSE, say
from specs.conformance.transcript import Told

Talk = Callable[..., Awaitable[bytes]]
ENVELOPE = (b"EHLO c.example\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n")


@asynccontextmanager
async def called(nursery: trio.Nursery, **more: Any) -> AsyncIterator[tuple[Hop, Talk]]:
    """A hop, and what sends octets to it and returns what comes within a moment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hop = Hop(
        name="mx.hop.example", host="127.0.0.1", port=port, told=Told(0.0), bell=Bell(), **more
    )  # fmt: skip
    await hop.listen(nursery)
    stream = await trio.open_tcp_stream("127.0.0.1", port)

    async def talk(*lines: bytes, until: bytes = b"\r\n") -> bytes:
        got = b""
        for line in lines or (b"",):
            if line:
                await stream.send_all(line)
            got = b""
            with trio.move_on_after(2.0):
                while not got.endswith(until):
                    more = bytes(await stream.receive_some(4096))
                    if not more:
                        break
                    got += more
        return got

    async with stream:
        assert (await talk())[:3] == b"220"
        yield hop, talk
    nursery.cancel_scope.cancel()


async def test_a_message(nursery: trio.Nursery) -> None:
    async with called(nursery) as (hop, talk):
        assert (await talk(*ENVELOPE))[:3] == b"354"
        assert (await talk(b"Subject: x\r\n\r\n..dot\r\nx.\n.\r\n\r\n.\r\n"))[:3] == b"250"
        assert (await talk(b"QUIT\r\n"))[:3] == b"221"
        await hop.bell.until(lambda: bool(hop.taken), 2.0)
        (mail,) = hop.taken
        assert mail.content == b"Subject: x\r\n\r\n.dot\r\nx.\n.\r\n\r\n"
        assert (mail.sender.path, mail.paths, mail.by) == ("a@b", ("c@d",), "DATA")
        visit = hop.visits[0]
        assert visit.verbs == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
        assert not any(each.early for each in visit.commands)
    await hop.bell.until(lambda: visit.ended != "", 2.0)
    assert visit.ended == "quit"


async def test_an_empty_message_and_chunks(nursery: trio.Nursery) -> None:
    async with called(nursery) as (hop, talk):
        await talk(*ENVELOPE)
        assert (await talk(b".\r\n"))[:3] == b"250"
        assert (await talk(*ENVELOPE[1:3], b"BDAT 3\r\nab\n"))[:3] == b"250"
        assert (await talk(b"BDAT 2 LAST\r\n.\r"))[:3] == b"250"
        await hop.bell.until(lambda: len(hop.taken) == 2, 2.0)  # noted after it is answered
        assert [each.content for each in hop.taken] == [b"", b"ab\n.\r"]


async def test_what_comes_before_its_time_is_early(nursery: trio.Nursery) -> None:
    async with called(nursery, table={"mail": say("250 ok", after_s=0.1)}) as (hop, talk):
        await talk(b"EHLO c\r\n")
        await talk(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", until=b"250 ok\r\n250 ok\r\n")
        assert [each.early for each in hop.visits[0].commands] == [False, False, True]


async def test_answers_that_are_held_come_in_one_piece(nursery: trio.Nursery) -> None:
    table = {"mail": say("250 held", held=True)}
    async with called(nursery, table=table) as (_, talk):
        await talk(b"EHLO c\r\n")
        got = await talk(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
        assert got == b"250 held\r\n250 ok\r\n"
        assert await talk(b"MAIL FROM:<a@b>\r\n") == b"250 held\r\n"  # nobody follows


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"mail": ("451 later", "250 ok")}, [b"451", b"250", b"250"]),
        ({"mail": lambda visit, line: "550 no" if "a@b" in line else "250 ok"}, [b"550"] * 3),
        ({"mail": b"250 raw\r\n"}, [b"250"] * 3),
        ({"mail": "250-one\r\n250 two"}, [b"250"] * 3),
    ],
)
async def test_tables(nursery: trio.Nursery, table: Any, said: list[bytes]) -> None:
    async with called(nursery, table=table) as (_, talk):
        await talk(b"EHLO c\r\n")
        assert [(await talk(b"MAIL FROM:<a@b>\r\n"))[:3] for _ in said] == said


@pytest.mark.parametrize("table", [{"mail": CLOSE}, {"mail": "421 bye"}])
async def test_it_can_end_a_visit(nursery: trio.Nursery, table: Any) -> None:
    async with called(nursery, table=table) as (hop, talk):
        await talk(b"EHLO c\r\n")
        try:
            got = await talk(b"MAIL FROM:<a@b>\r\n")
        except trio.BrokenResourceError:
            got = b""
        assert got in (b"", b"421 bye\r\n")
        assert await hop.bell.until(lambda: hop.visits[0].ended == "by us", 3.0)


async def test_who_leaves_without_quit_is_told_apart(nursery: trio.Nursery) -> None:
    async with called(nursery) as (hop, _):
        other = await trio.open_tcp_stream("127.0.0.1", hop.port)
        await other.receive_some(100)
        await other.aclose()
        assert await hop.bell.until(lambda: hop.visits[1].ended == "closed", 2.0)


async def test_it_refuses_what_is_out_of_order(nursery: trio.Nursery) -> None:
    async with called(nursery) as (_, talk):
        said = [(await talk(line))[:3] for line in
                (b"RCPT TO:<a@b>\r\n", b"DATA\r\n", b"STARTTLS\r\n", b"XYZZY\r\n")]  # fmt: skip
        assert said == [b"503", b"503", b"502", b"500"]


@pytest.mark.parametrize(
    ("line", "path", "parameters"),
    [
        ("MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME", "a@b", ("SIZE=5", "BODY=8BITMIME")),
        ('RCPT TO:<"a>b"@c>', '"a>b"@c', ()),
        ('RCPT TO:<"a\\"> b"@c> X', '"a\\"> b"@c', ("X",)),
        ("MAIL FROM:<>", "", ()),
        ("RCPT TO:a@b", "", ()),
    ],
)
def test_paths(line: str, path: str, parameters: tuple[str, ...]) -> None:
    found = path_of(line)
    assert (found.path, found.parameters) == (path, parameters)


async def test_a_mistake_in_a_table_ends_the_visit_and_nothing_else(nursery: trio.Nursery) -> None:
    def wrong(visit: object, line: str) -> str:
        raise KeyError(line)

    async with called(nursery, table={"mail": wrong}) as (hop, talk):
        await talk(b"EHLO c\r\n")
        assert await talk(b"MAIL FROM:<a@b>\r\n") == b""
        await hop.bell.until(lambda: hop.visits[0].ended != "", 2.0)
        assert "KeyError" in hop.broken
        again = await trio.open_tcp_stream("127.0.0.1", hop.port)
        assert (await again.receive_some(100))[:3] == b"220"
        await again.aclose()
