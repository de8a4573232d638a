"""Local delivery by LMTP: client and server together, over both carriers, and each of them alone
against a peer that breaks the rules.
"""

from __future__ import annotations

import errno
import os
import smtplib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from lmtp_world import (
    Pair,
    World,
    chunk,
    content,
    conversation,
    head,
    near_channels,
    opened,
    queue_id,
    scripted,
    serve,
    stream_channels,
    world,
)

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.carriers import adopt
from refmta.processes.channels import socket_channels
from refmta.roles import lmtpc, lmtpd
from refmta.roles.lmtpc.courier import TRIES
from refmta.roles.lmtpd import Conversation
from refmta.stores.letters import SMALL_OCTETS
from refmta.wire.messages import AgentRefused, AgentWanted, Deliver, Message, Outcome, Ready

both = pytest.mark.parametrize("pair", [stream_channels, near_channels])
sizes = pytest.mark.parametrize("octets", [100, SMALL_OCTETS + 10, 5 * SMALL_OCTETS])

GREETING = b"220 mx LMTP\r\n"
LHLO = b"250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 XDELIVERY\r\n"


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


# -- delivered ------------------------------------------------------------------------------------


@both
@sizes
@pytest.mark.parametrize("form", ["chunk", "content and head"])
async def test_a_message_lies_in_the_mailbox_as_it_came(
    pair: Pair, tmp_path: Path, octets: int, form: str
):
    async with world(pair, tmp_path) as it:
        if form == "chunk":
            outcome = await it.deliver(1, chunk(1, octets))
        else:
            outcome = await it.deliver(1, content(1, octets), head=head(1))
        assert (outcome.kind, outcome.enhanced) == ("delivered", "2.0.0")
        ((name, message),) = it.mailbox().items()
        assert name == f"1700000000.Q{queue_id(1)}R0.mx.example.org"
        assert message == (
            b"Return-Path: <x@example.net>\nDelivered-To: ada@example.org\n"
            + content(1, octets).replace(b"\r\n", b"\n")
        )
        assert not it.leftovers()
        fields = {"queue_id": queue_id(1), "index": 0, "recipient": "ada@example.org"}
        assert it.traced == [("local.delivered", {**fields, "path": f"Maildir/new/{name}"})]


@both
async def test_each_user_has_a_server_and_many_messages_share_its_session(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        for number in range(30):
            it.hand(number, chunk(number), user=f"user{number % 3}")
        assert {each.kind for each in (await it.outcomes(30)).values()} == {"delivered"}
        assert sorted(it.asked) == ["user0", "user1", "user2"]
        assert [len(it.mailbox(f"user{each}")) for each in range(3)] == [10, 10, 10]


@both
async def test_recipients_of_one_message_share_a_transaction_and_have_a_verdict_each(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        it.disk("ada").fail("create", errno.ENOSPC, after=2)
        for index in range(3):
            it.hand(1, chunk(1), reference=index, index=index, mailbox=f"box{index}")
        found = await it.outcomes(3)
        assert [found[each].kind for each in range(3)] == ["delivered", "delivered", "deferred"]
        assert found[2].enhanced == "4.2.2"
        assert it.disk("ada").done.count("sync") >= 2 and it.asked == ["ada"]
        assert not it.leftovers()


@both
async def test_a_message_that_comes_again_replaces_the_first(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        for _ in range(2):
            assert (await it.deliver(1, chunk(1))).kind == "delivered"
        assert len(it.mailbox()) == 1
        assert (await it.deliver(1, chunk(1), index=1)).kind == "delivered"
        assert len(it.mailbox()) == 2


@both
async def test_the_250_comes_after_the_commit(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path) as it:
        await it.deliver(1, chunk(1))
        done, original = it.disk("ada").done, Conversation._reply

        def noted(role: Conversation, *arguments: Any) -> Any:
            done.append("reply")
            return original(role, *arguments)

        monkeypatch.setattr(Conversation, "_reply", noted)
        done.clear()
        assert (await it.deliver(2, chunk(2))).kind == "delivered"
        assert [each for each in done if each != "write"] == [
            "create", "sync", "rename", "sync_dir", "traced", "reply",
        ]  # fmt: skip


async def test_mbox_is_only_another_form(tmp_path: Path):
    async with world(stream_channels, tmp_path) as it:
        it.server = lambda *which: serve(*which, mailbox="mbox")
        assert (await it.deliver(1, chunk(1))).kind == "delivered"
        (mailbox,) = [each for each in (tmp_path / "ada").iterdir() if each.is_file()]
        assert mailbox.read_bytes().startswith(b"From x@example.net ")


# -- not delivered --------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("octets", [100, SMALL_OCTETS + 10])
@pytest.mark.parametrize("damage", ["bit", "cut", "another's", "empty"])
async def test_a_damaged_chunk_is_reported_and_nothing_of_it_is_said(
    pair: Pair, tmp_path: Path, octets: int, damage: str
):
    whole = chunk(1, octets)
    broken = {
        "bit": whole[:-60] + bytes((whole[-60] ^ 1,)) + whole[-59:],
        "cut": whole[:-1],
        "another's": chunk(2, octets),
        "empty": b"",
    }[damage]
    async with world(pair, tmp_path) as it:
        assert (await it.deliver(1, broken)).kind == "damaged"
        assert not list(tmp_path.rglob("new/*")) and not it.leftovers()
        assert (await it.deliver(3, chunk(3))).kind == "delivered"


@both
@pytest.mark.parametrize(
    ("operation", "number", "code"),
    [
        ("create", errno.EACCES, "4.2.0"), ("create", errno.EDQUOT, "4.2.2"),
        ("write", errno.ENOSPC, "4.2.2"), ("sync", errno.EIO, "4.2.0"),
        ("rename", errno.EIO, "4.2.0"), ("sync_dir", errno.EIO, "4.2.0"),
    ],
)  # fmt: skip
async def test_a_mailbox_that_cannot_be_written_defers_with_the_reason(
    pair: Pair, tmp_path: Path, operation: str, number: int, code: str
):
    async with world(pair, tmp_path) as it:
        await it.deliver(1, chunk(1))
        it.disk("ada").fail(operation, number)
        outcome = await it.deliver(2, chunk(2))
        assert (outcome.kind, outcome.enhanced) == ("deferred", code)
        assert os.strerror(number) in outcome.text and not it.leftovers()
        assert (await it.deliver(3, chunk(3))).kind == "delivered"
        assert len(it.asked) == 1  # the session has gone on


@both
@pytest.mark.parametrize("mailbox", ["..", "../x", "/etc", "a/../b", ".hidden", "a//b", "~"])
async def test_no_mailbox_lies_outside_of_the_mail_directory(
    pair: Pair, tmp_path: Path, mailbox: str
):
    async with world(pair, tmp_path) as it:
        assert (await it.deliver(1, chunk(1), mailbox=mailbox)).kind == "deferred"
        assert os.listdir(tmp_path) == ["ada"] and not os.listdir(tmp_path / "ada")


@both
@pytest.mark.parametrize(
    "changes",
    [
        {"recipient": "ada@example.org>\r\nRCPT TO:<bob@example.org"},
        {"recipient": "no address"},
        {"mailbox": "a b"},
        {"mailbox": "Maildir\r\nQUIT"},
        {"mailbox": "x" * 700},
    ],
)
async def test_what_would_be_a_command_of_somebodys_choosing_is_not_said(
    pair: Pair, tmp_path: Path, changes: dict[str, str]
):
    async with world(pair, tmp_path) as it:
        outcome = await it.deliver(1, chunk(1), **changes)
        assert (outcome.kind, outcome.enhanced) == ("failed", "5.1.3")
        assert (await it.deliver(2, chunk(2))).kind == "delivered"


@both
@pytest.mark.parametrize("user", ["", "no user", "x/y", "a\nb"])
async def test_a_user_whom_the_supervisor_would_not_read_is_not_asked_for(
    pair: Pair, tmp_path: Path, user: str
):
    async with world(pair, tmp_path) as it:
        outcome = await it.deliver(1, chunk(1), user=user)
        assert (outcome.kind, outcome.enhanced) == ("deferred", "4.3.5")
        assert not it.asked


@both
async def test_a_user_who_gets_no_server_has_his_mail_deferred_with_the_reason(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        it.refusal = "his home is gone"
        for number in range(3):
            it.hand(number, chunk(number))
        for outcome in (await it.outcomes(3)).values():
            assert (outcome.kind, outcome.text) == ("deferred", "his home is gone")
        it.refusal = ""
        assert (await it.deliver(4, chunk(4))).kind == "delivered"


# -- servers that fail ----------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "script",
    [
        (),
        (GREETING,),
        (GREETING, LHLO),
        (GREETING, LHLO, b"250 sender\r\n250 recipient\r\n"),
        (GREETING, LHLO, b"250 sender\r\n250 recipient\r\n354 go\r\n"),
        (b"421 4.3.2 closing\r\n",),
        (GREETING, LHLO, b"421 4.4.2 you were idle\r\n"),
        (b"500 what?\r\n\0\r\n",),
    ],
)
async def test_a_server_that_is_lost_before_the_end_is_replaced_some_times(
    pair: Pair, tmp_path: Path, script: tuple[bytes, ...]
):
    """Nothing was promised, so nothing is lost; what kills every server is deferred at last."""
    async with world(pair, tmp_path) as it:
        it.server = scripted(*script)
        large = 3 * SMALL_OCTETS  # its end is not sent while the content is written
        outcome = await it.deliver(1, chunk(1, large))
        assert outcome.kind == "deferred" and outcome.enhanced[0] == "4"
        assert 1 <= len(it.asked) <= TRIES
        it.server = None
        assert (await it.deliver(2, chunk(2))).kind == "delivered"


@both
async def test_lost_among_the_replies_some_are_delivered_and_the_rest_deferred(
    pair: Pair, tmp_path: Path
):
    said = b"250 sender\r\n" + b"250 recipient\r\n" * 3 + b"354 go\r\n"
    async with world(pair, tmp_path) as it:
        it.server = scripted(GREETING, LHLO, said, b"250 2.1.5 yes\r\n550 5.2.1 no\r\n")
        for index in range(3):
            it.hand(1, chunk(1), reference=index, index=index)
        found = await it.outcomes(3)
        assert [found[each].kind for each in range(3)] == ["delivered", "failed", "deferred"]
        assert found[1].text == "550 5.2.1 no" and len(it.asked) == 1


@both
async def test_a_server_that_hangs_keeps_nobody_else_waiting_and_ends(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, factor=0.02) as it:
        hanging = scripted(GREETING, LHLO, hang=True)

        async def server(it: World, user: str, channel: Channel) -> None:
            await (hanging if user == "eve" else serve)(it, user, channel)

        it.server = server
        it.hand(1, chunk(1), user="eve")
        it.hand(2, chunk(2), user="bob")
        found = await it.outcomes(2)
        assert found[2].kind == "delivered"
        assert found[1].kind == "deferred" and "timed out" in found[1].text


@both
async def test_endless_replies_end_the_session(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        it.server = scripted(GREETING, LHLO, b"250 2.0.0 yes\r\n" * 5000)
        outcome = await it.deliver(1, chunk(1))
        assert outcome.kind == "deferred"


@both
async def test_a_server_that_is_gone_between_messages_costs_nobody_an_attempt(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        it.server = lambda *which: serve(*which, idle_s=1.0)
        assert (await it.deliver(1, chunk(1))).kind == "delivered"
        with trio.fail_after(30):
            while any(each.busy for each in it.role.couriers.values()):
                await trio.sleep(0.005)
        assert (await it.deliver(2, chunk(2))).kind == "delivered"
        assert it.asked == ["ada", "ada"]


async def test_a_caller_that_goes_leaves_nothing_behind(tmp_path: Path):
    async with world(stream_channels, tmp_path) as it:
        it.server = scripted(hang=True)
        for number in range(5):
            it.hand(number, chunk(number))
        await it.channel.flush()
        with trio.fail_after(5):
            while it.role.waiting() < 5:
                await trio.lowlevel.checkpoint()
            it.channel.close()
            while it.role.waiting() > 1:
                await trio.lowlevel.checkpoint()
        for courier in it.role.couriers.values():  # the one that is under way fails, unheard
            courier._connection.close()  # type: ignore[union-attr]
        with trio.fail_after(5):
            while it.role.waiting():
                await trio.lowlevel.checkpoint()


@both
async def test_when_it_stops_what_has_begun_is_finished_and_the_rest_given_back(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        assert (await it.deliver(0, chunk(0))).kind == "delivered"
        with trio.fail_after(5):
            await it.role.stop()
        outcome = await it.deliver(1, chunk(1))
        assert (outcome.kind, outcome.enhanced) == ("deferred", "4.3.2")
        assert it.asked == ["ada"]


# -- the server alone -----------------------------------------------------------------------------


class Client:
    """Octets to a server, and what it says."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.heard = b""

    async def say(self, octets: bytes) -> None:
        for start in range(0, len(octets), 100_000):
            self.channel.post_octets(octets[start : start + 100_000])
        await self.channel.flush()

    async def until(self, end: bytes) -> bytes:
        """Everything up to there."""
        with trio.fail_after(10):
            while end not in self.heard:
                for item in await self.channel.receive():
                    self.heard += item.octets
        found, _, self.heard = self.heard.partition(end)
        return found + end

    async def rest(self) -> bytes:
        """Everything until the server goes."""
        with trio.fail_after(10):
            try:
                while True:
                    for item in await self.channel.receive():
                        self.heard += item.octets
            except ChannelBroken:
                return self.heard


@asynccontextmanager
async def server(
    tmp_path: Path, *, hello: bool = True, **changes: Any
) -> AsyncIterator[tuple[World, Client]]:
    """One user's server, and a client that has said LHLO, unless it has not."""
    async with world(stream_channels, tmp_path) as it:
        near, far = stream_channels()
        it.nursery.start_soon(partial(serve, it, "ada", far, **changes))
        client = Client(near)
        assert await client.until(b"\r\n") == b"220 mx.example.org LMTP refmta\r\n"
        if hello:
            await client.say(b"LHLO client\r\n")
            await client.until(b"250 XDELIVERY\r\n")
        yield it, client
        near.close()


MAIL = b"MAIL FROM:<x@example.net>\r\n"
RCPT = b"RCPT TO:<ada@example.org>\r\n"
MESSAGE = b"Subject: x\r\n\r\n..body\r\n.\r\n"
PLACED = b"RCPT TO:<ada@example.org> XMAILBOX=%s XINDEX=%d\r\n"


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"EHLO client\r\n", b"500 5.5.1 this is LMTP"),  # RFC 2033 4.1
        (b"HELO client\r\n", b"500 5.5.1 this is LMTP"),
        (MAIL, b"503 5.5.1 send LHLO"),
        (b"LHLO\r\n", b"501 5.5.4 Syntax: LHLO"),
        (b"LHLOX y\r\n", b"500 5.5.2"),
        (b"x" * 5000 + b"\r\n", b"500 5.5.2"),
        (b"\0\xff\r\n", b"500 5.5.2"),
        (b"LHLO client\r\n" + MAIL, b"554 5.5.0"),  # before the reply to LHLO
    ],
)
async def test_what_is_refused_before_lhlo(tmp_path: Path, octets: bytes, said: bytes):
    async with server(tmp_path, hello=False) as (_, client):
        await client.say(octets)
        assert (await client.until(b"\r\n")).startswith(said)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"EHLO client\r\n", b"500 5.5.1"),
        (b"DATA\r\n", b"503 5.5.1 send MAIL"),
        (RCPT, b"503 5.5.1 send MAIL"),
        (MAIL + b"DATA\r\n", b"503 5.5.1 no valid recipients"),  # RFC 2033 4.2
        (MAIL + MAIL, b"503 5.5.1 a transaction"),
        (b"MAIL FROM:<> XID=1\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<> XID=06H06TY2DFR20001\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<> XID=06H06TY2DFR20001 XARRIVAL=-1\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<> XID=06H06TY2DFR2000U XARRIVAL=1\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<> SIZE=99999999999999\r\n", b"552 5.3.4"),
        (b"MAIL FROM:<> SIZE=x\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<> BODY=9BIT\r\n", b"501 5.5.4"),
        (b"MAIL FROM:<> XMAILBOX=x\r\n", b"555 5.5.4"),
        (MAIL + b"RCPT TO:<a@b> XMAILBOX=x\r\n", b"501 5.5.4"),
        (MAIL + b"RCPT TO:<a@b> XMAILBOX=x XINDEX=y\r\n", b"501 5.5.4"),
        (MAIL + b"RCPT TO:<a@b> XMAILBOX=x XINDEX=100000\r\n", b"501 5.5.4"),
        (MAIL + b"RCPT TO:<a@b> XMAILBOX=../x XINDEX=1\r\n", b"450 4.2.0"),
        (MAIL + b"RCPT TO:<a@b> NOTIFY=NEVER\r\n", b"555 5.5.4"),
        (MAIL + PLACED % (b"x", 1) * 2, b"550 5.5.4 that delivery was named before"),
        (MAIL + RCPT * 101, b"452 4.5.3"),
        (MAIL + RCPT + b"DATA\r\nSubject: x\r\n", b"554 5.5.0"),  # behind DATA
        (b"RSET\r\n" * 100, b"421 4.7.0"),
        (b"EXPN x\r\n" * 10, b"421 4.7.0"),
    ],
)
async def test_what_is_refused_after_lhlo(tmp_path: Path, octets: bytes, said: bytes):
    async with server(tmp_path, message_octets=10_000) as (_, client):
        await client.say(octets)
        while not (await client.until(b"\r\n")).startswith(said):
            pass  # the replies to what stands before it
        assert not list(tmp_path.rglob("tmp/*"))


async def test_a_reply_for_each_recipient_also_if_two_are_the_same(tmp_path: Path):
    """RFC 2033 4.2: in the order of the RCPTs that were accepted."""
    async with server(tmp_path) as (it, client):
        it.disk("ada").fail("create", errno.EIO, after=1)
        refused = b"RCPT TO:<eve@example.org> XMAILBOX=.. XINDEX=7\r\n"
        await client.say(MAIL + RCPT + refused + RCPT + PLACED % (b"box", 9) + b"DATA\r\n")
        await client.until(b"354 end with CRLF.CRLF\r\n")
        await client.say(MESSAGE + b"NOOP\r\n")
        assert [await client.until(b"\r\n") for _ in range(4)] == [
            b"250 2.0.0 delivered\r\n",
            b"451 4.2.0 Maildir: Input/output error\r\n",
            b"250 2.0.0 delivered\r\n",
            b"250 2.0.0 OK\r\n",
        ]
        assert len(it.mailbox()) == 1 and len(it.mailbox(mailbox="box")) == 1
        assert not it.traced  # the client has not said which message it is


@pytest.mark.parametrize(
    ("message", "said", "lines"),
    [
        (b"x" * 20_000 + b"\r\n.\r\n", b"552 5.3.4", 2),
        (b"bare \r return\r\n.\r\n", b"550 5.6.0", 2),
        (b"smuggled\n.\r\nMAIL FROM:<>\r\n", b"550 5.5.2", 1),  # and the connection is closed
    ],
)
async def test_content_that_is_refused_is_refused_for_each_and_leaves_nothing(
    tmp_path: Path, message: bytes, said: bytes, lines: int
):
    async with server(tmp_path, message_octets=10_000) as (it, client):
        await client.say(MAIL + RCPT * 2 + b"DATA\r\n")
        await client.until(b"354 end with CRLF.CRLF\r\n")
        await client.say(message)
        for _ in range(lines):
            assert (await client.until(b"\r\n")).startswith(said)
        if lines == 1:
            assert await client.rest() == b""
        else:
            await client.say(b"QUIT\r\n")
            assert await client.rest() == b"221 2.0.0 bye\r\n"
        assert not it.leftovers() and not it.mailbox()


@pytest.mark.parametrize("cut", [b"DATA\r\n", b"DATA\r\n" + b"x" * 90_000])
async def test_a_session_that_is_cut_off_leaves_nothing(tmp_path: Path, cut: bytes):
    async with server(tmp_path) as (it, client):
        await client.say(MAIL + RCPT + cut[:6])
        await client.until(b"354 end with CRLF.CRLF\r\n")
        await client.say(cut[6:] or b"half a line")
        assert it.leftovers()
        client.channel.close()
        with trio.fail_after(5):
            while it.leftovers():
                await trio.lowlevel.checkpoint()
        assert not it.mailbox()


@pytest.mark.parametrize("within", ["rest", "message", "content"])
async def test_silence_ends_with_421_and_leaves_nothing(tmp_path: Path, within: str):
    async with server(tmp_path, idle_s=0.5, command_s=0.5) as (it, client):
        if within != "rest":
            await client.say(MAIL + RCPT)
        if within == "content":
            await client.say(b"DATA\r\n")
        assert (await client.rest()).endswith(b"421 4.4.2 timeout\r\n")
        assert not it.leftovers()


async def test_a_server_that_drains_finishes_the_message_first(tmp_path: Path):
    async with world(stream_channels, tmp_path) as it:
        near, far = stream_channels()
        session = conversation(it, "ada", far)
        it.nursery.start_soon(session.run)
        client = Client(near)
        await client.say(b"LHLO client\r\n")
        await client.until(b"XDELIVERY\r\n")
        await client.say(MAIL + RCPT + b"DATA\r\n")
        await client.until(b"354 end with CRLF.CRLF\r\n")
        session.drain()
        await client.say(MESSAGE)
        assert await client.rest() == (
            b"250 2.0.0 delivered\r\n421 4.3.2 service shutting down\r\n"
        )
        assert len(it.mailbox()) == 1
        near.close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_client_says_nothing_is_left_and_nothing_raised(data: st.DataObject):
    """Pieces of sessions in any order and any cut; a 250 to content is worth a file."""
    pieces = [
        b"LHLO c\r\n", MAIL, RCPT, PLACED % (b"box", 3), b"DATA\r\n", MESSAGE, b"RSET\r\n",
        b"NOOP\r\n", b".\r\n", b"\n.\r\n", b"\r", b"\0" * 9,
        b"MAIL FROM:<> XID=06H06TY2DFR20001 XARRIVAL=5\r\n",
    ]  # fmt: skip
    script = data.draw(st.lists(st.sampled_from(pieces) | st.binary(max_size=20), max_size=30))

    async def hostile(home: Path) -> None:
        async with world(near_channels, home) as it:
            near, far = near_channels()
            it.nursery.start_soon(serve, it, "ada", far)
            client = Client(near)
            for octets in (b"LHLO c\r\n", *script):
                try:
                    await client.say(octets)
                except ChannelBroken:
                    break
                await trio.testing.wait_all_tasks_blocked()
            near.close()
            await trio.testing.wait_all_tasks_blocked()
            assert not it.leftovers()
            with trio.move_on_after(0):
                await client.rest()
            assert client.heard.count(b" delivered\r\n") >= len(list(home.rglob("new/*")))

    with tempfile.TemporaryDirectory() as home:
        trio.run(hostile, Path(home))


# -- the server and a client that is not ours -----------------------------------------------------


async def test_the_standard_librarys_client_is_understood(tmp_path: Path):
    async with world(stream_channels, tmp_path) as it:
        one, other = socket.socketpair()
        far = adopt("stream", other.detach(), border("lmtpd", "lmtpc"))
        it.nursery.start_soon(serve, it, "ada", far)

        def talk() -> tuple[list[tuple[int, bytes]], dict[str, str]]:
            client = smtplib.LMTP("")
            client.sock, client.file = one, None
            said = [client.getreply(), client.ehlo("client"), client.mail("x@example.net")]
            said += [client.rcpt(f"{name}@example.org") for name in ("ada", "ada.too")]
            features = dict(client.esmtp_features)
            said += [client.data("Subject: x\n\n.dot\n"), client.getreply(), client.quit()]
            return said, features

        said, features = await trio.to_thread.run_sync(talk)
        one.close()
        assert [code for code, _ in said] == [220, 250, 250, 250, 250, 250, 250, 221]
        assert {"pipelining", "8bitmime", "enhancedstatuscodes", "size"} <= features.keys()
        assert sorted(each.split(b"\n")[1] for each in it.mailbox().values()) == [
            b"Delivered-To: ada.too@example.org", b"Delivered-To: ada@example.org",
        ]  # fmt: skip
        assert all(each.endswith(b"\n\n.dot\n") for each in it.mailbox().values())


# -- the roles' entries ---------------------------------------------------------------------------


async def test_a_process_serves_one_connection_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    context = entered("lmtpd", lmtpd.Slice(hostname="mx.example.org"))
    near, far = stream_channels()
    context.port("lmtpc").put(Linked(far))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lmtpd.run, context, journal("lmtpd"))
            client = Client(near)
            await client.say(b"LHLO client\r\n")
            await client.until(b"XDELIVERY\r\n")
            await client.say(MAIL + RCPT + b"DATA\r\n")
            await client.until(b"354 end with CRLF.CRLF\r\n")
            await client.say(MESSAGE + b"QUIT\r\n")
            assert await client.rest() == b"250 2.0.0 delivered\r\n221 2.0.0 bye\r\n"
    near.close()
    assert len(list(tmp_path.glob("Maildir/new/*"))) == 1


@pytest.mark.parametrize("why", ["idle", "drained", "drained in a session"])
async def test_a_process_that_is_not_needed_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
):
    monkeypatch.chdir(tmp_path)
    idle_s = 0.01 if why == "idle" else 60.0
    context = entered("lmtpd", lmtpd.Slice(hostname="mx.example.org", idle_s=idle_s))
    near, far = stream_channels()
    if why == "drained in a session":
        context.port("lmtpc").put(Linked(far))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lmtpd.run, context, journal("lmtpd"))
            if why == "drained in a session":
                await Client(near).until(b"LMTP refmta\r\n")
            if why != "idle":
                context.draining.set()
    near.close()
    far.close()


async def test_lmtpc_asks_its_supervisor_and_ends_when_it_is_drained(tmp_path: Path):
    said: list[Message] = []
    context = entered("lmtpc", lmtpc.Slice(hostname="mx.example.org"), said)
    near, far = socket_channels(border("qmgr", "lmtpc"))
    context.port("qmgr").put(Linked(far))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lmtpc.run, context, journal("lmtpc"))
            for reference, user in enumerate(("ada", "eve")):
                job = Deliver(
                    reference=reference, queue_id=queue_id(1), index=reference, mailbox="Maildir",
                    recipient="ada@example.org", user=user,
                )  # fmt: skip
                near.post(job, opened(chunk(1)))
            await near.flush()
            await trio.testing.wait_all_tasks_blocked()
            assert said == [Ready(), AgentWanted(user="ada"), AgentWanted(user="eve")]
            assert not context.settled()
            context.order(AgentRefused(user="eve", text="no home"))
            (refused,) = await near.receive()
            assert isinstance(refused.message, Outcome) and refused.message.text == "no home"
            context.draining.set()
            (stopped,) = await near.receive()
            assert isinstance(stopped.message, Outcome) and stopped.message.enhanced == "4.3.2"
    near.close()
    far.close()


def entered(role: str, slice_: msgspec.Struct, said: list[Message] | None = None) -> Context:
    """What the process of a role gives it."""
    heard: list[Message] = [] if said is None else said
    return Context(slices={role: msgspec.msgpack.encode(slice_)}, say=heard.append)
