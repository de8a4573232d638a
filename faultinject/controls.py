"""Negative controls of the ledger: the books of a run in which all is well (`sample`), and the same
books with one thing wrong, which must be found by its name.

A control tampers with what was found, or with the evidence that excuses it; it counts only if the
tampering changed the books.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from faultinject.books import Answer, Books, Found, Kill
from faultinject.collect import book_delivered
from faultinject.ledger import judge
from faultinject.sample import (
    ADA,
    BOB,
    CYD,
    FAR,
    FARTHER,
    WINDOWS,
    carried,
    copy_of,
    letter,
    report,
    sound,
)  # fmt: skip
from specs.kernel.control import Control, Verdict

# -- one thing wrong ------------------------------------------------------------------------------

Tamper = Callable[[Books], None]


def _find(books: Books, number: int, recipient: str) -> Found:
    return next(
        f for f in books.found if f.copy.token == copy_of(number).token and f.recipient == recipient
    )


def _remove(number: int, recipient: str) -> Tamper:
    return lambda books: books.found.remove(_find(books, number, recipient))


def _change(number: int, whose: str, /, **changes: object) -> Tamper:
    def tamper(books: Books) -> None:
        found = _find(books, number, whose)
        books.found[books.found.index(found)] = replace(found, **changes)  # type: ignore[arg-type]

    return tamper


def _double(number: int, recipient: str, later_s: float) -> Tamper:
    def tamper(books: Books) -> None:
        found = _find(books, number, recipient)
        books.found.append(replace(found, when_s=found.when_s + later_s))

    return tamper


def _appear(number: int) -> Tamper:
    """A letter that was refused, or not sent to its end, is there."""

    def tamper(books: Books) -> None:
        octets = letter(number, 1, CYD, (ADA,))
        book_delivered(books, ADA, carried(octets, ADA), 100.0, "file")

    return tamper


def _tell(number: int, recipient: str, *, to: str = CYD, sender: str = CYD) -> Tamper:
    """A report more, in a mailbox."""

    def tamper(books: Books) -> None:
        recipients = books.sendings[copy_of(number)].recipients
        octets = letter(number, 1, sender, recipients)
        book_delivered(books, to, report("more", octets, sender, recipient), 400.0, "file")

    return tamper


def _kill_instead(role: str) -> Tamper:
    def tamper(books: Books) -> None:
        books.kills = [Kill(role=role, when_s=kill.when_s) for kill in books.kills]

    return tamper


def _later(seconds: float) -> Tamper:
    def tamper(books: Books) -> None:
        books.kills = [replace(kill, when_s=kill.when_s + seconds) for kill in books.kills]

    return tamper


def _damage(books: Books) -> None:
    """One octet of a delivered letter, on the way."""
    found = _find(books, 1, ADA)
    books.found.remove(found)
    octets = letter(1, 1, CYD, (ADA,)).replace(b"end\r\n", b"End\r\n")
    book_delivered(books, ADA, carried(octets, ADA), 100.0, "file")


def _header(books: Books) -> None:
    """A line on top that is no trace field."""
    books.found.remove(_find(books, 1, ADA))
    octets = b"Bcc: somebody\n" + carried(letter(1, 1, CYD, (ADA,)), ADA)
    book_delivered(books, ADA, octets, 100.0, "file")


def _keep_half(books: Books) -> None:
    """The client had no reply, and one of its two recipients has the letter."""
    books.sendings[copy_of(2)].answer = Answer.UNANSWERED
    _remove(2, BOB)(books)


def _unknown(books: Books) -> None:
    book_delivered(books, ADA, b"Subject: who is this?\n\nhello\n", 100.0, "file")


#: (what is wrong, the name that must be found, how)
TAMPERINGS: Final[tuple[tuple[str, str, Tamper], ...]] = (
    ("a delivery is missing", "lost", _remove(1, ADA)),
    ("one of two recipients is missing", "lost", _remove(2, BOB)),
    ("a delivery at the next hop is missing", "lost", _remove(3, FAR)),
    ("a report is missing", "lost", lambda books: books.reported.remove(books.reported[0])),
    ("a queue entry is missing", "lost", lambda books: books.queued.clear()),
    ("an octet is another", "altered", _damage),
    ("a line was added to the header", "altered", _header),
    ("a delivery is another's", "misdelivered", _change(1, ADA, recipient=BOB)),
    ("a next hop got another's", "misdelivered", _change(3, FAR, recipient="r7@honest.example")),
    ("a delivery is there twice", "duplicate", _double(1, ADA, 1.0)),
    ("a 250 was said, and sent again", "duplicate", _change(6, FARTHER, answered=True)),
    ("nobody died between the two", "duplicate", lambda books: books.kills.clear()),
    ("the dead one had not delivered", "duplicate", _kill_instead("resolve")),
    ("it died after the second", "duplicate", _later(5.0)),
    ("it died long before the first", "duplicate", _later(-60.0)),
    ("sent again after its 250", "duplicate",
     lambda books: setattr(books.sendings[copy_of(5)], "answer", Answer.ACKNOWLEDGED)),
    ("a refused letter is there", "invented", _appear(11)),
    ("a letter without an end is there", "invented", _appear(12)),
    ("a report at somebody else's", "report_misdelivered", _tell(4, FARTHER, to=BOB)),
    ("a report about what was delivered", "report_unfounded", _tell(3, FAR)),
    ("a report about a stranger", "report_unfounded", _tell(3, "r7@honest.example")),
    ("a report about the null sender", "report_about_null_sender", _tell(10, ADA, sender="")),
    ("a report too many", "report_duplicate", _tell(4, FARTHER)),
    ("a message that nobody sent", "stranger", _unknown),
    ("kept without a promise, for one of two", "half_lost",
     _keep_half),
)  # fmt: skip


def _verdict(books: Books, *, changed: bool) -> Verdict:
    account = judge(books, WINDOWS)
    return Verdict(
        violated=frozenset(finding.name for finding in account.findings),
        mutated_line_ran=changed,
        detail="; ".join(finding.text for finding in account.findings),
    )


def _control(what: str, name: str, tamper: Tamper) -> Control:
    def mutant() -> Verdict:
        books = sound()
        tamper(books)
        return _verdict(books, changed=books != sound())

    def twin() -> Verdict:
        return _verdict(sound(), changed=False)

    return Control(name=what, spec="ledger", invariant=name, twin=twin, mutant=mutant)


def controls() -> list[Control]:
    """Entry point (refmta.specs.controls): all of them."""
    return [_control(*row) for row in TAMPERINGS]
