"""Real messages go in over SMTP, octet for octet, and are looked for in the Maildir.

Each is delivered equal (CRLF as LF, our three trace headers aside), or `real_mail.toml` lists it
with the reply that it must get.  A refusal that is not listed, a listed one that is accepted, a
changed octet, a message under another's envelope and a corpus of another size are all failures.

The client is ours and raw: smtplib would mend line ends on the way.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.corpus import SOURCES, Mail, Source
from system.server import PATIENCE_S, Server, server

LISTED = Path(__file__).with_name("real_mail.toml")
SENDER, RECIPIENT = "sender@example.net", "ada@example.org"
#: What delivery puts on top: exactly these lines, in this order.
TRACE = re.compile(
    rb"Return-Path: <(?P<sender>.*)>\n"
    rb"Delivered-To: (?P<recipient>.*)\n"
    rb"Received: from client\.example\.net \(\[127\.0\.0\.1\]\)\n"
    rb"\tby mx\.example\.org with ESMTP id (?P<queue_id>[0-9A-Z]{16})\n"
    rb"\tfor <ada@example\.org>;\n"
    rb"\t\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000\n"
)
NAME = re.compile(r"[0-9]+\.Q([0-9A-Z]{16})R0\.mx\.example\.org")


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to the end of a message."""

    code: int
    enhanced: str
    text: str

    @property
    def queue_id(self) -> str:
        return self.text.rpartition(" ")[2] if self.code == 250 else ""


class RawClient:
    """Sends octets as they are.  One message per connection, so that a refusal that closes it
    disturbs no other.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._replies = self._socket.makefile("rb")

    def send(self, octets: bytes) -> Answer:
        body = "" if octets.isascii() else " BODY=8BITMIME"
        self._expect(220)
        self._command(250, "EHLO client.example.net")
        self._command(250, f"MAIL FROM:<{SENDER}> SIZE={len(octets)}{body}")
        self._command(250, f"RCPT TO:<{RECIPIENT}>")
        self._command(354, "DATA")
        self._socket.sendall(dot_stuffed(octets))
        return self._reply()

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def _command(self, code: int, line: str) -> None:
        self._socket.sendall(line.encode("ascii") + b"\r\n")
        self._expect(code)

    def _expect(self, code: int) -> None:
        answer = self._reply()
        assert answer.code == code, answer

    def _reply(self) -> Answer:
        while (line := self._replies.readline())[3:4] == b"-":
            continue
        match = re.fullmatch(rb"(\d{3})(?: (\d\.\d+\.\d+))?(?: (.*))?\r\n", line)
        assert match, f"not a reply: {line!r}"
        code, enhanced, text = (each.decode("ascii") if each else "" for each in match.groups())
        return Answer(int(code), enhanced, text)


def dot_stuffed(octets: bytes) -> bytes:
    """RFC 5321 4.5.2: a dot before each line that begins with one; a line ends at CRLF, and so
    must the octets.
    """
    lines = [b"." + line if line[:1] == b"." else line for line in octets.split(b"\r\n")]
    return b"\r\n".join(lines) + b".\r\n"


def submit(port: int, octets: bytes) -> Answer:
    client = RawClient(port)
    try:
        return client.send(octets)
    finally:
        client.close()


# -- the verdict: pure ----------------------------------------------------------------------------


def wrong(mail: Mail, answer: Answer, stored: bytes | None, listed: Answer | None) -> str:
    """What is wrong with one message's fate; "" if nothing is.

    stored: the file in the Maildir that belongs to the answer's queue id.
    """
    got = f"{answer.code} {answer.enhanced} {answer.text}"
    if listed is not None:
        if answer.code == 250:
            return "is listed as refused, but was accepted"
        same = (answer.code, answer.enhanced) == (listed.code, listed.enhanced)
        return "" if same else f"must get {listed.code} {listed.enhanced}, not {got}"
    if answer.code != 250:
        return f"was refused and is not listed: {got}"
    if stored is None:
        return "was answered 250 and is not in the Maildir"
    trace = TRACE.match(stored)
    if trace is None:
        return f"has no trace headers, or others: {stored[:300]!r}"
    if trace["sender"] != SENDER.encode() or trace["recipient"] != RECIPIENT.encode():
        return f"was delivered under another envelope: {trace[0]!r}"
    if trace["queue_id"] != answer.queue_id.encode():
        return f"was delivered under another queue id than {answer.queue_id}"
    return difference(mail.kept, stored[trace.end() :])


def difference(sent: bytes, stored: bytes) -> str:
    if sent == stored:
        return ""
    place = next((i for i, (a, b) in enumerate(zip(sent, stored)) if a != b), -1)  # noqa: B905
    return f"was altered: {len(sent)} octets sent, {len(stored)} stored, they part at {place}"


def the_list() -> dict[tuple[str, str], Answer]:
    rows = tomllib.loads(LISTED.read_text())["refused"]
    assert all(row["reason"] for row in rows)
    found = {(r["source"], r["file"]): Answer(r["code"], r["enhanced"], "") for r in rows}
    assert len(found) == len(rows), "a message is listed twice"
    return found


# -- against the running server -------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("real") / "s") as started:
        yield started


def needing(source: Source) -> object:
    return pytest.param(source, id=source.name, marks=[pytest.mark.needs(n) for n in source.needs])


@pytest.mark.parametrize("source", [needing(each) for each in SOURCES])
def test_each_message_is_delivered_equal_or_gets_its_listed_reply(
    source: Source, running: Server, request: pytest.FixtureRequest
) -> None:
    mails = source.mails(request.config.cache.mkdir(source.name))
    before = {each.name for each in files(running)}
    answers = [submit(running.port, mail.wire) for mail in mails]
    accepted = {each.queue_id for each in answers if each.code == 250}
    new = delivered_since(running, before, len(accepted))
    listed = the_list()
    faults = [
        f"{mail.name} {fault}"
        for mail, answer in zip(mails, answers, strict=True)
        if (fault := wrong(mail, answer, new.get(answer.queue_id), listed.get(key(mail))))
    ]
    assert not faults, "\n".join(faults)
    assert set(new) == accepted, "something was delivered that was not answered 250"
    names = {mail.name for mail in mails}
    unknown = {name for where, name in listed if where == source.name} - names
    assert not unknown, f"listed, but not in the corpus: {unknown}"


def test_no_message_gets_in_with_the_line_ends_of_a_file(
    running: Server, request: pytest.FixtureRequest
) -> None:
    """A client that forgets to convert LF is told so; nothing is repaired on its behalf."""
    mails = SOURCES[0].mails(request.config.cache.mkdir(SOURCES[0].name))
    before = {each.name for each in files(running)}
    bare = [mail for mail in mails if b"\n" in mail.octets.replace(b"\r\n", b"")]
    assert len(bare) == 61
    answers = [submit(running.port, mail.octets + b"\r\n") for mail in bare]
    assert {(each.code, each.enhanced) for each in answers} == {(550, "5.6.0")}
    assert delivered_since(running, before, 0) == {}


def test_the_list_names_no_unknown_source() -> None:
    assert {where for where, _ in the_list()} <= {source.name for source in SOURCES}


def key(mail: Mail) -> tuple[str, str]:
    return mail.source, mail.name


def files(running: Server) -> list[Path]:
    place = running.maildir("ada")
    return list(place.iterdir()) if place.exists() else []


def delivered_since(running: Server, before: set[str], count: int) -> dict[str, bytes]:
    """Queue id -> file, once all are there and the queue is empty."""
    running.wait_for(lambda: len(files(running)) >= len(before) + count, f"{count} deliveries")
    running.wait_for(lambda: not any((running.spool / "chunks").iterdir()), "an empty queue")
    found = [each for each in files(running) if each.name not in before]
    by_queue_id = {NAME.fullmatch(each.name)[1]: each.read_bytes() for each in found}
    assert len(by_queue_id) == len(found), "a message was delivered twice"
    return by_queue_id


# -- negative controls: the verdict sees what it is for -------------------------------------------

LETTER = Mail("made here", "letter", b"Subject: x\n\n.dot\nlast")
ON_TOP = (
    b"Return-Path: <sender@example.net>\nDelivered-To: ada@example.org\n"
    b"Received: from client.example.net ([127.0.0.1])\n"
    b"\tby mx.example.org with ESMTP id 0123456789ABCDEF\n"
    b"\tfor <ada@example.org>;\n\tThu, 01 Jan 2026 00:00:00 +0000\n"
)
STORED = ON_TOP + b"Subject: x\n\n.dot\nlast\n"
KEPT = Answer(250, "2.0.0", "queued as 0123456789ABCDEF")
REFUSED = Answer(550, "5.6.0", "no")


def test_the_verdict_accepts_what_is_right() -> None:
    assert wrong(LETTER, KEPT, STORED, None) == ""
    assert wrong(LETTER, REFUSED, None, Answer(550, "5.6.0", "")) == ""


@pytest.mark.parametrize(
    ("answer", "stored", "listed", "named"),
    [
        (REFUSED, None, None, "refused and is not listed"),
        (KEPT, STORED, REFUSED, "but was accepted"),
        (Answer(550, "5.5.2", "no"), None, REFUSED, "must get 550 5.6.0"),
        (Answer(451, "4.3.0", "later"), None, REFUSED, "must get 550 5.6.0"),
        (KEPT, None, None, "not in the Maildir"),
        (KEPT, STORED[:-1], None, "altered"),
        (KEPT, STORED + b"\n", None, "altered"),
        (KEPT, STORED.replace(b"\n.dot", b"\n..dot"), None, "altered"),
        (KEPT, STORED.replace(b"\n.dot", b"\ndot"), None, "altered"),
        (KEPT, STORED.replace(b"\n", b"\r\n"), None, "trace headers"),
        (KEPT, ON_TOP.replace(b"\tfor", b"\tto"), None, "trace headers"),
        (KEPT, STORED.replace(b"0123456789ABCDEF", b"0123456789ABCDE0"), None, "queue id"),
        (KEPT, STORED.replace(b"<sender@", b"<other@"), None, "another envelope"),
        (KEPT, STORED.replace(b"To: ada", b"To: bob"), None, "another envelope"),
    ],
)
def test_the_verdict_names_what_is_wrong(
    answer: Answer, stored: bytes | None, listed: Answer | None, named: str
) -> None:
    assert named in wrong(LETTER, answer, stored, listed)


def test_a_smaller_corpus_is_an_error(tmp_path: Path) -> None:
    source = Source("made here", 2, lambda _: iter([("only", b"one")]))
    with pytest.raises(AssertionError, match="1 messages, not 2"):
        source.mails(tmp_path)


@pytest.mark.parametrize(
    ("octets", "wire"),
    [
        (b"a\nb", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\n", b"a\rb\n\r\n"),
        (b"a\r\nb\n", b"a\r\nb\n\r\n"),
        (b"", b"\r\n"),
    ],
)
def test_the_client_mends_only_what_a_client_should(octets: bytes, wire: bytes) -> None:
    assert Mail("made here", "x", octets).wire == wire
