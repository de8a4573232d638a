"""The client of a recording: a few letters, so that the time of each reply is known.

Letters that are sent at once are all brought to their last octets, and then ended one right after
the other: their commits overlap.  It blocks; one line of SMTP after the other, nothing pipelined.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from faultinject import letters
from faultinject.books import Answer, Books, Sending
from faultinject.client import Letter
from faultinject.crash.recording import Replied
from faultinject.letters import Copy

REPLY_S = 60.0


class RefusedError(Exception):
    """The server did not take a valid letter; the text is what it said."""


@dataclass(slots=True, kw_only=True)
class Senders:
    """All clients of a recording.  books: get an entry for each letter."""

    run: str
    address: tuple[str, int]
    books: Books
    replies: list[Replied] = field(default_factory=list)

    def send(self, together: Sequence[Letter]) -> None:
        """At once.  Raises RefusedError, OSError."""
        lines = [smtplib.SMTP(*self.address, timeout=REPLY_S) for _ in together]
        try:
            for line, letter in zip(lines, together, strict=True):
                self._begin(line, letter)
            began_s = [self._end(line) for line in lines]
            for line, letter, from_s in zip(lines, together, began_s, strict=True):
                self._await(line, letter, from_s)
        except smtplib.SMTPException as error:
            raise RefusedError(str(error)) from None
        finally:
            for line in lines:
                line.close()

    def _begin(self, line: smtplib.SMTP, letter: Letter) -> None:
        line.ehlo("client.storm.invalid")
        _expect(line.docmd("MAIL", f"FROM:<{letter.sender}>"), 2)
        for recipient in letter.recipients:
            _expect(line.docmd("RCPT", f"TO:<{recipient}>"), 2)
        _expect(line.docmd("DATA"), 3)
        octets = letters.compose(self.run, letter.number, 1, letter.sender, letter.recipients)
        self.books.sendings[self.copy(letter)] = Sending(
            sender=letter.sender, recipients=letter.recipients, digest=letters.digest(octets),
            answer=Answer.UNANSWERED,
        )  # fmt: skip
        line.send(octets.replace(b"\r\n.", b"\r\n.."))

    @staticmethod
    def _end(line: smtplib.SMTP) -> float:
        began_s = time.time()
        line.send(b".\r\n")
        return began_s

    def _await(self, line: smtplib.SMTP, letter: Letter, from_s: float) -> None:
        code, text = line.getreply()
        _expect((code, text), 2)
        copy = self.copy(letter)
        self.books.sendings[copy].answer = Answer.ACKNOWLEDGED
        last = text.splitlines()[-1] if text else b""
        self.replies.append(Replied(token=str(copy), text=last, from_s=from_s, until_s=time.time()))

    def copy(self, letter: Letter) -> Copy:
        """By which it is known in the ledger."""
        return Copy(letters.token_of(self.run, letter.number), 1)


def _expect(reply: tuple[int, bytes], kind: int) -> None:
    code, text = reply
    if code // 100 != kind:
        raise RefusedError(f"{code} {text.decode('utf-8', 'replace')}")
