"""One SMTP session over both carriers: its servers are played by the test, and are away at will."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
import trio

from refmta.journal import journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import smtpd
from refmta.roles.smtpd import Slice
from refmta.wire.messages import (
    Abandon,
    Finish,
    Kept,
    Message,
    Refused,
    Submit,
    Verified,
    Verify,
)

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]

CONFIG = Slice(
    hostname="mx.example.org", message_octets=1 << 20, recipients=100, errors=10,
    command_s=300.0, data_s=200.0, verdict_s=100.0, stress_s=10.0,
)  # fmt: skip
KEPT = Kept(queue_id="06H06TY2DFR20W5S")
OURS = Verified(code=250, enhanced="2.1.5", text="")
LETTER = b"Subject: x\r\n\r\nhello\r\n"


@dataclass
class World:
    """A session, its client's end, and its two servers."""

    client: trio.SocketStream
    enqueue: Channel
    resolve: Channel
    conversation: smtpd.Conversation
    ended: trio.Event
    said: list[Message | bytes] = field(default_factory=list)
    _buffer: bytes = b""

    async def reply(self) -> int:
        """The next reply's code; 0 at the end."""
        while True:
            lines = self._buffer.split(b"\r\n")
            for place, line in enumerate(lines[:-1]):
                if line[3:4] != b"-":
                    self._buffer = b"\r\n".join(lines[place + 1 :])
                    return int(line[:3])
            with trio.fail_after(1000):  # of the mock clock, where there is one
                more = await self.client.receive_some()
            if not more:
                return 0
            self._buffer += more

    async def say(self, line: bytes) -> int:
        await self.client.send_all(line + b"\r\n")
        return await self.reply()

    async def hear(self, channel: Channel) -> None:
        """Take in what a server was told."""
        for each in await channel.receive():
            self.said.append(each.octets if each.message is None else each.message)

    async def answer(self, channel: Channel, message: Message) -> None:
        channel.post(message)
        await channel.flush()

    async def to_data(self) -> None:
        assert await self.reply() == 220
        assert await self.say(b"EHLO client.example.net") == 250
        assert await self.say(b"MAIL FROM:<x@example.net>") == 250
        await self.client.send_all(b"RCPT TO:<ada@example.org>\r\n")
        await self.hear(self.resolve)
        assert self.said == [Verify(recipient="ada@example.org", client="192.0.2.1")]
        self.said.clear()
        await self.answer(self.resolve, OURS)
        assert await self.reply() == 250
        assert await self.say(b"DATA") == 354

    async def until_finish(self) -> bytes:
        """What enqueue was given: the content, between Submit and Finish."""
        while not self.said or not isinstance(self.said[-1], Finish):
            await self.hear(self.enqueue)
        submit, *blocks, finish = self.said
        self.said.clear()
        assert isinstance(submit, Submit) and isinstance(finish, Finish)
        content = b"".join(each for each in blocks if isinstance(each, bytes))
        assert finish.octets == len(content)
        return content


@asynccontextmanager
async def session(pair: Pair, *, early: bytes = b"") -> AsyncIterator[World]:
    one, other = socket.socketpair()
    if early:
        other.sendall(early)
    to_enqueue, enqueue = pair(border("smtpd", "enqueue"))
    to_resolve, resolve = pair(border("smtpd", "resolve"))
    conversation = smtpd.converse(
        one, "192.0.2.1", msgspec.msgpack.encode(CONFIG),
        {"enqueue": to_enqueue, "resolve": to_resolve}, journal("smtpd"),
    )  # fmt: skip
    client = trio.SocketStream(trio.socket.from_stdlib_socket(_nonblocking(other)))
    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await conversation.run()
            ended.set()

        nursery.start_soon(run)
        yield World(client, enqueue, resolve, conversation, ended)
        await client.aclose()
        await ended.wait()
    for each in (to_enqueue, enqueue, to_resolve, resolve):
        each.close()


def _nonblocking(end: socket.socket) -> socket.socket:
    end.setblocking(False)
    return end


# -- a message ------------------------------------------------------------------------------------


@both
async def test_a_message_goes_to_enqueue_and_its_answer_to_the_client(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(LETTER + b"..\r\n.\r\n")
        assert await it.until_finish() == LETTER + b".\r\n"
        await it.answer(it.enqueue, KEPT)
        assert await it.reply() == 250
        assert await it.say(b"QUIT") == 221
        await it.ended.wait()
        assert it.conversation.clean


@both
async def test_enqueue_gets_the_envelope_as_it_was_accepted(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(b".\r\n")
        await it.hear(it.enqueue)
        assert it.said[0] == Submit(
            reverse_path="x@example.net", recipients=("ada@example.org",), client="192.0.2.1",
            helo="client.example.net", protocol="ESMTP",
        )  # fmt: skip
        await it.answer(it.enqueue, KEPT)
        assert await it.reply() == 250


@both
async def test_a_small_message_is_one_write_to_enqueue(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        with trio.move_on_after(0.01) as scope:
            await it.enqueue.receive()
        assert scope.cancelled_caught  # the envelope alone is not sent
        await it.client.send_all(LETTER + b".\r\n")
        await it.hear(it.enqueue)
        assert [type(each) for each in it.said] == [Submit, bytes, Finish]
        await it.answer(it.enqueue, KEPT)
        assert await it.reply() == 250


@both
async def test_a_large_message_is_passed_on_while_it_comes(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        line = b"x" * 998 + b"\r\n"
        await it.client.send_all(line * 400)
        with trio.fail_after(10):
            while len(it.said) < 2:
                await it.hear(it.enqueue)
        assert isinstance(it.said[0], Submit)
        await it.client.send_all(b".\r\n")
        assert await it.until_finish() == line * 400
        await it.answer(it.enqueue, KEPT)
        assert await it.reply() == 250


@both
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Refused(code=452, enhanced="4.3.1", text="full"), 452),
        (Refused(code=553, enhanced="5.1.7", text="Bad sender"), 553),
    ],
)
async def test_a_refusal_of_enqueue_is_the_clients_reply_and_the_session_goes_on(
    pair: Pair, answer: Refused, code: int
):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(b".\r\n")
        await it.hear(it.enqueue)
        await it.answer(it.enqueue, answer)
        assert await it.reply() == code
        assert await it.say(b"NOOP") == 250
        assert it.conversation.clean


@both
@pytest.mark.parametrize("code", [200, 250, 354])
async def test_a_refusal_with_a_positive_code_never_becomes_a_250(pair: Pair, code: int):
    """enqueue may be seized; only Kept is a 250."""
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(b".\r\n")
        await it.hear(it.enqueue)
        await it.answer(it.enqueue, Refused(code=code, enhanced="", text="yes"))
        assert await it.reply() == 451


@both
async def test_a_reply_that_would_forge_another_is_one_line(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(b".\r\n")
        await it.hear(it.enqueue)
        text = "no\r\n250 2.0.0 queued\r\n"
        await it.answer(it.enqueue, Refused(code=550, enhanced="5.0.0", text=text))
        assert await it.reply() == 550
        assert await it.say(b"QUIT") == 221


@both
@pytest.mark.parametrize(
    ("content", "code"),
    [(b"a\nb\r\n.\r\n", 550), (b"x\n.\n", 550), (bytes(1 << 20) + b"xx\r\n.\r\n", 552)],
)
async def test_content_that_is_refused_is_abandoned(pair: Pair, content: bytes, code: int):
    async with session(pair) as it:
        await it.to_data()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.client.send_all, content)
            while Abandon() not in it.said:
                await it.hear(it.enqueue)
        assert not any(isinstance(each, Finish) for each in it.said)
        assert await it.reply() == code


# -- servers that are away ------------------------------------------------------------------------


@both
async def test_without_resolve_a_recipient_is_a_451_and_the_worker_serves_no_other(pair: Pair):
    async with session(pair) as it:
        await it.reply()
        await it.say(b"EHLO c.example")
        await it.say(b"MAIL FROM:<>")
        it.resolve.close()
        assert await it.say(b"RCPT TO:<ada@example.org>") == 451
        assert await it.say(b"QUIT") == 221
        await it.ended.wait()
        assert not it.conversation.clean


@both
@pytest.mark.parametrize("when", ["before the content", "after the content"])
async def test_without_enqueue_a_message_is_a_451_and_never_a_250(pair: Pair, when: str):
    async with session(pair) as it:
        await it.to_data()
        if when == "before the content":
            it.enqueue.close()
        await it.client.send_all(LETTER + b".\r\n")
        if when == "after the content":
            await it.hear(it.enqueue)
            it.enqueue.close()
        assert await it.reply() == 451
        assert await it.say(b"QUIT") == 221
        await it.ended.wait()
        assert not it.conversation.clean


@both
@pytest.mark.parametrize("which", ["recipient", "commit"])
async def test_an_overdue_verdict_is_no_yes_and_a_late_one_is_given_to_nobody(
    pair: Pair, which: str, autojump_clock
):
    async with session(pair) as it:
        if which == "recipient":
            await it.reply()
            await it.say(b"EHLO c.example")
            await it.say(b"MAIL FROM:<>")
            await it.client.send_all(b"RCPT TO:<ada@example.org>\r\n")
        else:
            await it.to_data()
            await it.client.send_all(LETTER + b".\r\n")
        assert await it.reply() in (421, 451)
        assert trio.current_time() == pytest.approx(CONFIG.verdict_s, rel=0.1)
        while await it.reply():
            pass
        with trio.move_on_after(5):
            await it.ended.wait()
        assert not it.conversation.clean


@both
async def test_a_server_that_says_too_much_is_not_believed(pair: Pair):
    """Two answers where one was asked for: the second could be taken for the next one's."""
    async with session(pair) as it:
        await it.reply()
        await it.say(b"EHLO c.example")
        await it.say(b"MAIL FROM:<>")
        await it.client.send_all(b"RCPT TO:<stranger@example.org>\r\n")
        await it.hear(it.resolve)
        it.resolve.post(OURS)
        await it.answer(it.resolve, OURS)
        assert await it.reply() == 451
        assert not it.conversation.clean


# -- clients --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("phase", ["connected", "greeted", "content"])
async def test_a_silent_client_gets_421_at_its_time(pair: Pair, phase: str, autojump_clock):
    async with session(pair) as it:
        if phase == "content":
            await it.to_data()
            await it.client.send_all(LETTER)
        else:
            assert await it.reply() == 220
            if phase == "greeted":
                assert await it.say(b"EHLO c.example") == 250
        patience_s = CONFIG.data_s if phase == "content" else CONFIG.command_s
        assert await it.reply() == 421
        assert trio.current_time() == pytest.approx(patience_s, rel=0.1)
        assert await it.reply() == 0
        if phase == "content":
            while Abandon() not in it.said:
                await it.hear(it.enqueue)


@both
async def test_a_client_that_drips_is_not_silent(pair: Pair, autojump_clock):
    async with session(pair) as it:
        assert await it.reply() == 220
        for octet in b"NOOP\r\n":
            await trio.sleep(CONFIG.command_s * 0.9)
            await it.client.send_all(bytes((octet,)))
        assert await it.reply() == 250


@both
async def test_who_talks_first_is_sent_away(pair: Pair):
    async with session(pair, early=b"EHLO c.example\r\n") as it:
        assert await it.reply() == 554
        assert await it.reply() == 0


@both
async def test_a_client_that_goes_away_in_its_content_is_abandoned(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(LETTER)
        await it.client.aclose()
        while Abandon() not in it.said:
            await it.hear(it.enqueue)
        await it.ended.wait()
        assert it.conversation.clean


# -- stress ---------------------------------------------------------------------------------------


async def _reach(it: World, phase: str) -> None:
    """Where the client falls silent."""
    if phase == "content":
        await it.to_data()
        await it.client.send_all(LETTER)
    else:
        assert await it.reply() == 220
        if phase == "half a line":
            await it.client.send_all(b"MAIL FR")
    await trio.testing.wait_all_tasks_blocked()


@both
@pytest.mark.parametrize("phase", ["connected", "half a line", "content"])
async def test_stress_ends_the_wait_for_a_client_that_is_silent_already(
    pair: Pair, phase: str, autojump_clock
):
    async with session(pair) as it:
        await _reach(it, phase)
        await trio.sleep(100)
        it.conversation.press(True)
        assert await it.reply() == 421
        assert trio.current_time() == pytest.approx(100 + CONFIG.stress_s)
        assert await it.reply() == 0
        if phase == "content":
            while Abandon() not in it.said:
                await it.hear(it.enqueue)


@both
async def test_stress_gives_no_time_to_who_has_less_left(pair: Pair, autojump_clock):
    async with session(pair) as it:
        assert await it.reply() == 220
        await trio.sleep(CONFIG.command_s - 1)
        it.conversation.press(True)
        assert await it.reply() == 421
        assert trio.current_time() == pytest.approx(CONFIG.command_s, abs=0.1)


@both
async def test_when_stress_ends_patience_is_back(pair: Pair, autojump_clock):
    async with session(pair) as it:
        assert await it.reply() == 220
        it.conversation.press(True)
        await trio.sleep(CONFIG.stress_s - 1)
        it.conversation.press(False)
        await trio.sleep(CONFIG.command_s - 1)
        assert await it.say(b"NOOP") == 250
        await trio.sleep(CONFIG.command_s - 1)
        assert await it.say(b"NOOP") == 250


@both
async def test_under_stress_a_client_that_works_is_served(pair: Pair, autojump_clock):
    async with session(pair) as it:
        it.conversation.press(True)
        assert await it.reply() == 220
        for _ in range(5):
            await trio.sleep(CONFIG.stress_s - 1)
            assert await it.say(b"NOOP") == 250


@both
@pytest.mark.parametrize("phase", ["half a line", "content"])
async def test_under_stress_who_drips_is_silent(pair: Pair, phase: str, autojump_clock):
    async with session(pair) as it:
        it.conversation.press(True)
        await _reach(it, phase)
        began_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drip, it)
            assert await it.reply() == 421
            assert trio.current_time() - began_s < 2 * CONFIG.stress_s
            nursery.cancel_scope.cancel()
        if phase == "content":
            while Abandon() not in it.said:
                await it.hear(it.enqueue)


async def _drip(it: World) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await it.client.send_all(b"x")
            await trio.sleep(1)


@both
async def test_under_stress_content_that_keeps_coming_is_taken(pair: Pair, autojump_clock):
    """1,000 octets a second for a minute."""
    async with session(pair) as it:
        it.conversation.press(True)
        await it.to_data()
        for _ in range(60):
            await it.client.send_all(b"x" * 998 + b"\r\n")
            await trio.sleep(1)
        await it.client.send_all(b".\r\n")
        assert await it.until_finish() == (b"x" * 998 + b"\r\n") * 60
        await it.answer(it.enqueue, KEPT)
        assert await it.reply() == 250


@both
async def test_stress_does_not_shorten_the_wait_for_a_verdict(pair: Pair, autojump_clock):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(LETTER + b".\r\n")
        await it.until_finish()
        it.conversation.press(True)
        await trio.sleep(CONFIG.verdict_s - 1)
        await it.answer(it.enqueue, KEPT)
        assert await it.reply() == 250


# -- draining -------------------------------------------------------------------------------------


@both
async def test_an_idle_session_is_drained_at_once(pair: Pair):
    async with session(pair) as it:
        assert await it.reply() == 220
        assert await it.say(b"EHLO c.example") == 250
        it.conversation.drain()
        assert await it.reply() == 421
        assert await it.reply() == 0


@both
async def test_content_on_its_way_is_finished_before_the_421(pair: Pair):
    async with session(pair) as it:
        await it.to_data()
        await it.client.send_all(LETTER)
        await trio.testing.wait_all_tasks_blocked()
        it.conversation.drain()
        await trio.testing.wait_all_tasks_blocked()
        await it.client.send_all(b".\r\n")
        assert await it.until_finish() == LETTER
        await it.answer(it.enqueue, KEPT)
        assert [await it.reply() for _ in range(3)] == [250, 421, 0]


@both
@pytest.mark.parametrize("which", ["recipient", "commit"])
async def test_a_question_under_way_is_answered_before_the_421(pair: Pair, which: str):
    async with session(pair) as it:
        if which == "recipient":
            await it.reply()
            await it.say(b"EHLO c.example")
            await it.say(b"MAIL FROM:<>")
            await it.client.send_all(b"RCPT TO:<ada@example.org>\r\n")
            channel, answer = it.resolve, OURS
        else:
            await it.to_data()
            await it.client.send_all(b".\r\n")
            channel, answer = it.enqueue, KEPT
        await it.hear(channel)
        it.conversation.drain()
        await trio.testing.wait_all_tasks_blocked()
        await it.answer(channel, answer)
        assert [await it.reply() for _ in range(3)] == [250, 421, 0]


async def test_a_broken_channel_shows_as_broken():
    """What the tests above rely on."""
    near, far = socket_channels(border("smtpd", "resolve"))
    far.close()
    with pytest.raises(ChannelBroken):
        await near.receive()
    near.close()
