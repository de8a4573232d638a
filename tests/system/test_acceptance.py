"""Three clients that we did not write, one after the other, into one running server.

5,000 messages of Postfix's smtp-source over 50 connections at a time, then swaks, then Python's
smtplib.  Every count is compared (sent, answered, logged, delivered, left in the queue), and every
delivered file octet for octet with what its client sent.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import provision
import pytest
from system.server import PATIENCE_S, Server, server

CLIENTS, MESSAGES, PAYLOAD = 50, 5000, 1024
#: What stands on top of a delivered file; `rest` is what the client sent.
DELIVERED = re.compile(
    rb"Return-Path: <(?P<sender>.*)>\nDelivered-To: (?P<recipient>.*)\n"
    rb"Received: from \S+ \(\[127\.0\.0\.1\]\)\n"
    rb"\tby mx\.example\.org with (?P<protocol>E?SMTP) id (?P<queue_id>[0-9A-Z]{16})"
    rb"(?:\n\tfor <(?P<one>.*)>)?;\n"
    rb"\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\n(?P<rest>(?s:.*))"
)
#: smtp-source's header: only Message-Id tells its messages apart.
HEADER = re.compile(
    rb"From: <load@example\.net>\nTo: <ada@example\.org>\nDate: (?P<date>.*)\n"
    rb"Message-Id: <(?P<id>[0-9a-f.]+)@\S+>\n\n"
)


@dataclass
class Ledger:
    """The server, and what it has accepted so far: messages, and copies for each user."""

    server: Server
    messages: int = 0
    ada: int = 0
    bob: int = 0

    def settled(self) -> tuple[list[re.Match[bytes]], list[re.Match[bytes]]]:
        """Both mailboxes, once the queue is empty; the counts must be exactly these."""
        chunks = self.server.spool / "chunks"
        left = 0
        while (now := len(list(chunks.iterdir()))) != left:  # as long as it gets on
            left = now
            with contextlib.suppress(AssertionError):
                self.server.wait_for(lambda: not any(chunks.iterdir()), "an empty queue")
        assert not left
        ada, bob = self.delivered("ada"), self.delivered("bob")
        assert (len(ada), len(bob)) == (self.ada, self.bob)
        return ada, bob

    def delivered(self, user: str) -> list[re.Match[bytes]]:
        return [read(octets) for octets in self.server.delivered(user)]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with server(tmp_path_factory.mktemp("acceptance") / "s") as running:
        yield Ledger(running)


def payload() -> bytes:
    """smtp-source's, by its source: lines of 80 octets, a digit, X and CRLF; the rest is X, and
    its line ends with the message.
    """
    octets = bytearray(b"X" * PAYLOAD)
    for start in range(80, PAYLOAD, 80):
        octets[start - 2 : start] = b"\r\n"
        octets[start - 80] = b"0123456789"[start // 80 % 10]
    return bytes(octets) + b"\r\n"


def read(octets: bytes) -> re.Match[bytes]:
    match = DELIVERED.fullmatch(octets)
    assert match, f"not what delivery writes: {octets[:400]!r}"
    return match


# -- one client after the other, into the same server ---------------------------------------------


@pytest.mark.needs("smtp-source")
def test_5000_messages_of_smtp_source_at_50_clients(ledger: Ledger) -> None:
    command = [
        str(provision.tool("smtp-source")), "-s", str(CLIENTS), "-m", str(MESSAGES),
        "-l", str(PAYLOAD), "-f", "load@example.net", "-t", "ada@example.org",
        f"127.0.0.1:{ledger.server.port}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    ledger.messages += MESSAGES
    ledger.ada += MESSAGES
    messages, _ = ledger.settled()
    body = payload().replace(b"\r\n", b"\n")
    seen = set()
    for each in messages:
        header = HEADER.match(each["rest"])
        assert header, each["rest"]
        assert each["rest"][header.end() :] == body
        assert (each["sender"], each["recipient"]) == (b"load@example.net", b"ada@example.org")
        assert (each["protocol"], each["one"]) == (b"SMTP", b"ada@example.org")
        seen.add(header["id"])
    assert len(seen) == MESSAGES, "one message stands for another"


LETTER = (
    "From: Swaks <swaks@example.net>\nTo: ada@example.org\nSubject: dots\n\n"
    ".\n..\n.a line\n\na last line\n"
)


@pytest.mark.needs("swaks")
def test_then_swaks(ledger: Ledger, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text(LETTER.removesuffix("\n"))  # swaks itself ends the last line
    for more in ([], ["--pipeline"], ["--protocol", "SMTP"]):
        swaks(ledger.server, "ada@example.org", letter, *more)
    swaks(ledger.server, "ada@example.org,bob@example.org", letter)
    ledger.messages += 4
    ledger.ada += 4
    ledger.bob += 1
    ada, bob = ledger.settled()
    ours = [each for each in ada if each["sender"] == b"swaks@example.net"]
    assert [each["rest"] for each in (*ours, *bob)] == [LETTER.encode()] * 5
    assert Counter(each["protocol"] for each in ours) == {b"ESMTP": 3, b"SMTP": 1}
    # Two recipients: the trace header names neither to the other.
    (shared,) = [each for each in ours if each["one"] is None]
    assert (bob[0]["queue_id"], bob[0]["one"]) == (shared["queue_id"], None)


def swaks(running: Server, to: str, letter: Path, *more: str) -> None:
    command = [
        str(provision.tool("swaks")), "--server", "127.0.0.1", "--port", str(running.port),
        "--from", "swaks@example.net", "--to", to, "--data", f"@{letter}", *more,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


BY_SMTPLIB = {
    "text": b"Subject: text\r\n\r\nhello\r\n",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n",
    "8-bit": "Subject: 8-bit\r\n\r\nGrüße\r\n".encode(),
    "controls": b"Subject: controls\r\n\r\n" + bytes({*range(256)} - {10, 13}) + b"\r\n",
    "no body": b"Subject: no body\r\n\r\n",
    "long line": b"Subject: long line\r\n\r\n" + b"x" * 100_000 + b"\r\n",
    "large": b"Subject: large\r\n\r\n" + b".0123456789\r\n" * 400_000,  # 5 MB
}


def test_then_smtplib(ledger: Ledger) -> None:
    to = ["ada@example.org", "bob@example.org"]
    with smtplib.SMTP("127.0.0.1", ledger.server.port, timeout=PATIENCE_S) as client:
        for octets in BY_SMTPLIB.values():
            assert client.sendmail("smtplib@example.net", to, octets) == {}
            ledger.messages += 1
            ledger.ada += 1
            ledger.bob += 1
    for found in ledger.settled():
        rest = [each["rest"] for each in found if each["sender"] == b"smtplib@example.net"]
        assert len(rest) == len(BY_SMTPLIB)
        altered = [
            name
            for name, octets in BY_SMTPLIB.items()
            if octets.replace(b"\r\n", b"\n") not in rest
        ]
        assert not altered


def test_and_the_books_agree(ledger: Ledger) -> None:
    """What was answered 250, logged, delivered and freed is the same, message by message."""
    assert ledger.server.queue() == []
    assert ledger.server.stop() == 0
    events = ledger.server.events()
    queue_ids = {
        kind: Counter(each["queue_id"] for each in events if each["event"] == kind)
        for kind in ("accepted", "delivered", "removed")
    }
    assert set(queue_ids["accepted"].values()) <= {1}
    assert len(queue_ids["accepted"]) == ledger.messages
    assert queue_ids["removed"] == queue_ids["accepted"]
    files = Counter(
        each["queue_id"].decode()
        for user in ("ada", "bob")
        for each in ledger.delivered(user)
    )  # fmt: skip
    assert queue_ids["delivered"] == files
    assert files.total() == ledger.ada + ledger.bob
    troubles = [each for each in events if each.get("level") in ("warning", "error")]
    # 50 clients that come anew for each message may fill a pool of 100 for a moment.
    assert [each for each in troubles if each["event"] != "stress begins"] == []
    assert not any((ledger.server.spool / "damaged").iterdir())
