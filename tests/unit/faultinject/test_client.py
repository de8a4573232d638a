"""The client, against servers that say what they are told: what it writes down, and when."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
import trio

from faultinject import client
from faultinject.books import Answer, Books
from faultinject.client import Clients, Letter
from faultinject.letters import Copy, compose, digest

LETTER = Letter(number=1, sender="s@x", recipients=("a@x", "b@x"))
OK = {
    "greeting": b"220 hi\r\n", "EHLO": b"250-hi\r\n250 PIPELINING\r\n", "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n", "end": b"250 kept\r\n", "QUIT": b"221 bye\r\n",
}  # fmt: skip


class Server:
    """Replies by connection: the first row for the first one, and so on."""

    def __init__(self, *rows):
        self.rows = [{**OK, **row} for row in rows]
        self.contents = []
        self.commands = []

    async def serve(self, *, task_status):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname())
        await trio.serve_listeners(self.converse, [listener])

    async def converse(self, stream):
        with contextlib.suppress(trio.BrokenResourceError):  # the client has hung up
            await self.session(stream)

    async def session(self, stream):
        row = self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]
        async with stream:
            if not await self.say(stream, row["greeting"]):
                return
            buffer = b""
            while octets := await stream.receive_some(65536):
                buffer += octets
                while b"\r\n" in buffer:
                    line, _, buffer = buffer.partition(b"\r\n")
                    verb = line[:4].decode()
                    self.commands.append(line.decode())
                    if not await self.say(stream, row[verb]):
                        return
                    if verb == "DATA" and row["DATA"][:1] == b"3":
                        while b"\r\n.\r\n" not in buffer:
                            buffer += await stream.receive_some(65536)
                        content, _, buffer = buffer.partition(b"\r\n.\r\n")
                        self.contents.append(content + b"\r\n")
                        if not await self.say(stream, row["end"]):
                            return

    async def say(self, stream, octets):
        """False if the connection ends here: nothing was said, or half a line."""
        if octets:
            await stream.send_all(octets)
        return octets.endswith(b"\r\n")


async def send(*rows, letters=(LETTER,), count=1, careless=True):
    """(books, clients, server) after all letters were answered."""
    server, books = Server(*rows), Books()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            address = await nursery.start(server.serve)
            clients = Clients(
                run="t", address=address, outbox=iter(letters), books=books, random=Random(3),
                careless=careless,
            )  # fmt: skip
            await clients.send_all(count)
            nursery.cancel_scope.cancel()
    return books, clients, server


@pytest.fixture(autouse=True)
def careful(monkeypatch):
    """Nobody hangs up by himself."""
    monkeypatch.setattr(client, "CARELESS_ONE_IN", 10**9)


async def test_a_250_is_written_down():
    books, clients, server = await send({})
    sending = books.sendings[Copy("t-1", 1)]
    assert sending.answer is Answer.ACKNOWLEDGED and clients.acknowledged == 1
    sent = compose("t", 1, 1, "s@x", ("a@x", "b@x"))
    assert sending.digest == digest(sent)
    assert server.contents == [sent.replace(b"\r\n.", b"\r\n..")]


@pytest.mark.parametrize(
    ("first", "answers"),
    [
        ({"greeting": b"421 no\r\n"}, [Answer.ACKNOWLEDGED]),
        ({"greeting": b""}, [Answer.ACKNOWLEDGED]),
        ({"EHLO": b"451 no\r\n"}, [Answer.ACKNOWLEDGED]),
        ({"MAIL": b"451 no\r\n"}, [Answer.ACKNOWLEDGED]),
        ({"MAIL": b""}, [Answer.ACKNOWLEDGED]),
        ({"RCPT": b"450 no\r\n"}, [Answer.ACKNOWLEDGED]),
        ({"DATA": b"451 no\r\n"}, [Answer.ACKNOWLEDGED]),
        ({"DATA": b""}, [Answer.ACKNOWLEDGED]),
        ({"end": b"451 no\r\n"}, [Answer.DEFERRED, Answer.ACKNOWLEDGED]),
        ({"end": b""}, [Answer.UNANSWERED, Answer.ACKNOWLEDGED]),
        ({"end": b"junk\r\n"}, [Answer.UNANSWERED, Answer.ACKNOWLEDGED]),
        ({"end": b"250"}, [Answer.UNANSWERED, Answer.ACKNOWLEDGED]),
    ],
)
async def test_what_was_not_promised_is_sent_again(first, answers):
    books, clients, _ = await send(first, {})
    assert [each.answer for each in books.sendings.values()] == answers
    assert clients.acknowledged == 1 and not clients.findings


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_a_refusal_for_good_is_a_finding_but_sent_again(stage):
    _, clients, _ = await send({stage: b"550 never\r\n"}, {})
    assert {finding.name for finding in clients.findings} == {"refused"}
    assert clients.acknowledged == 1


async def test_a_refusal_at_the_end_is_final():
    books, clients, _ = await send({"end": b"554 never\r\n"})
    (sending,) = books.sendings.values()
    assert sending.answer is Answer.REFUSED and clients.acknowledged == 0
    assert len(clients.findings) == 1


async def test_a_careless_client_does_not_wait_for_the_reply(monkeypatch):
    monkeypatch.setattr(client, "CARELESS_ONE_IN", 2)
    letters = [Letter(number=n, sender="s@x", recipients=("a@x",)) for n in range(30)]
    books, clients, _ = await send({}, letters=letters)
    answers = [each.answer for each in books.sendings.values()]
    assert clients.acknowledged == 30 == answers.count(Answer.ACKNOWLEDGED)
    assert answers.count(Answer.UNANSWERED) > 5


async def test_a_careful_client_waits_for_every_reply(monkeypatch):
    monkeypatch.setattr(client, "CARELESS_ONE_IN", 1)
    books, _, _ = await send({}, careless=False)
    assert [each.answer for each in books.sendings.values()] == [Answer.ACKNOWLEDGED]


async def test_each_letter_is_sent_by_one_client():
    letters = [Letter(number=n, sender="s@x", recipients=("a@x",)) for n in range(60)]
    books, clients, server = await send({}, letters=letters, count=5)
    assert len(books.sendings) == 60 == clients.acknowledged == len(server.contents)
    assert clients.connections < 60  # some carry many
