"""A run in which all is well, as entries in the ledger's books: what controls start from.

The books are filled as a storm fills them: letters are composed, carried (trace fields on top, LF
for CRLF, a transaction at a next hop, a report), and read again. One letter of each kind: delivered
once and to two, by the next hop, reported, queued, sent again without a reply and after 4yz,
refused, never sent to its end; and one for each window: a next hop that withheld its 250, an agent
that died between delivery and mark, a report made twice by one that died.
"""

from __future__ import annotations

from typing import Final

from faultinject import letters
from faultinject.books import Answer, Books, Kill, Sending, Window
from faultinject.collect import book_accepted, book_delivered, book_queue
from faultinject.letters import Copy
from faultinject.network.next_hop import Accepted
from faultinject.target import Waiting

ADA, BOB, CYD = (f"{user}@storm.example" for user in ("ada", "bob", "cyd"))
FAR, FARTHER = "r1@honest.example", "r2@hostile.example"
RUN: Final = "control"
WINDOWS: Final = {
    "mailbox": Window(roles=frozenset({"local"}), before_s=1, after_s=10),
    "next hop": Window(roles=frozenset({"remote"}), before_s=1, after_s=10),
    "report": Window(roles=frozenset({"bounce"}), before_s=1, after_s=10),
}
REPORT: Final = """\
Return-Path: <>
From: MAILER-DAEMON@mx.storm.example
To: <{sender}>
Message-ID: <{identity}@mx.storm.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=="

--==

Sorry.
--==
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.storm.example

Final-Recipient: rfc822; {recipient}
Action: failed
Status: 5.1.1

--==
Content-Type: text/rfc822-headers

{header}
--==--
"""


def letter(number: int, attempt: int, sender: str, recipients: tuple[str, ...]) -> bytes:
    """As it is sent."""
    return letters.compose(RUN, number, attempt, sender, recipients)


def copy_of(number: int, attempt: int = 1) -> Copy:
    """Its name."""
    return Copy(letters.token_of(RUN, number), attempt)


def carried(octets: bytes, recipient: str) -> bytes:
    """As it lies in a mailbox."""
    top = (
        f"Return-Path: <somebody@storm.example>\nDelivered-To: {recipient}\n"
        "Received: from client.storm.invalid ([127.0.0.1])\n\tby mx.storm.example; now\n"
    )
    return top.encode() + octets.replace(b"\r\n", b"\n")


def report(identity: str, octets: bytes, sender: str, recipient: str) -> bytes:
    """A report about one recipient, as it lies in a mailbox."""
    header = octets.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"\n").decode()
    text = REPORT.format(identity=identity, sender=sender, recipient=recipient, header=header)
    return text.encode()


def accepted(octets: bytes, recipient: str, *, replied: bool) -> Accepted:
    """As a next hop takes it."""
    return Accepted(
        token="", reverse_path="", recipients=(recipient,), octets=len(octets), sha256="",
        body_sha256="", replied=replied, behaviour="honest" if replied else "taken-and-close",
        connection=1, content=b"Received: by mx; now\r\n" + octets,
    )  # fmt: skip


class Run:
    """Fills books."""

    def __init__(self) -> None:
        self.books = Books()

    def send(
        self, number: int, recipients: tuple[str, ...], *, sender: str = CYD, attempt: int = 1,
        answer: Answer = Answer.ACKNOWLEDGED,
    ) -> bytes:  # fmt: skip
        octets = letter(number, attempt, sender, recipients)
        self.books.sendings[copy_of(number, attempt)] = Sending(
            sender=sender, recipients=recipients, digest=letters.digest(octets), answer=answer
        )
        return octets

    def mailbox(self, octets: bytes, recipient: str, when_s: float = 100.0) -> None:
        book_delivered(self.books, recipient, carried(octets, recipient), when_s, "file")

    def next_hop(self, octets: bytes, recipient: str, when_s: float, *, replied: bool) -> None:
        book_accepted(self.books, accepted(octets, recipient, replied=replied), when_s)

    def told(self, identity: str, octets: bytes, recipient: str, when_s: float) -> None:
        book_delivered(self.books, CYD, report(identity, octets, CYD, recipient), when_s, "file")


def sound() -> Books:
    """One letter of each kind."""
    run = Run()
    run.mailbox(run.send(1, (ADA,)), ADA)
    both = run.send(2, (ADA, BOB))
    run.mailbox(both, ADA)
    run.mailbox(both, BOB)
    run.next_hop(run.send(3, (FAR,)), FAR, 100.0, replied=True)
    run.told("four", run.send(4, (FARTHER,)), FARTHER, 100.0)
    run.mailbox(run.send(5, (BOB,), attempt=1, answer=Answer.UNANSWERED), BOB)
    run.mailbox(run.send(5, (BOB,), attempt=2), BOB)
    withheld = run.send(6, (FARTHER,))
    run.next_hop(withheld, FARTHER, 100.0, replied=False)
    run.next_hop(withheld, FARTHER, 105.0, replied=True)
    waits = run.send(7, (FAR, FARTHER))
    run.next_hop(waits, FAR, 100.0, replied=True)
    book_queue(run.books, [Waiting(content=b"Received: x\r\n" + waits, recipients=(FARTHER,))])
    again = run.send(8, (ADA,))
    run.mailbox(again, ADA, 200.0)
    run.mailbox(again, ADA, 202.0)
    run.books.kills.append(Kill(role="local", when_s=200.5))
    twice = run.send(9, (FARTHER,))
    run.told("nine", twice, FARTHER, 300.0)
    run.told("nine again", twice, FARTHER, 303.0)
    run.books.kills.append(Kill(role="bounce", when_s=300.2))
    run.mailbox(run.send(10, (ADA,), sender=""), ADA)
    run.send(11, (ADA,), answer=Answer.REFUSED)
    run.send(12, (ADA,), answer=Answer.UNSENT)
    run.mailbox(run.send(13, (ADA,), attempt=1, answer=Answer.DEFERRED), ADA)
    run.mailbox(run.send(13, (ADA,), attempt=2), ADA)
    return run.books
