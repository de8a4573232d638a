"""From what lies in mailboxes, at the next hop and in a queue, to entries in the ledger's books.

Rules: every message in every mailbox becomes exactly one kind of entry: a letter, a report about
letters, or a stranger. A report of a delay is read and settles nothing. Contents are read once, and
not kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faultinject.books import Books, Found, Queued, Reported
from faultinject.letters import named, recognise
from faultinject.network.behaviours import BEHAVIOURS, DELIVERED, Behaviour, Deaf
from faultinject.network.next_hop import Accepted, NextHop
from faultinject.reports import read_report
from faultinject.target import Waiting
from specs.mailboxes import stored

SETTLING: Final = "failed"


def _unclear(behaviour: Behaviour) -> bool:
    """Whether a client may miss its 250: the RFC lets it think otherwise, or it comes so late that
    the client has gone, and the letter is taken from what the kernel has kept of it.
    """
    steps = [step for act in (*behaviour.acts.values(), *behaviour.recipients) for step in act]
    return behaviour.allows != DELIVERED or any(isinstance(step, Deaf) for step in steps)


#: Behaviours that do not clearly say 250 to what they take.
UNCLEAR: Final = frozenset(name for name, row in BEHAVIOURS.items() if _unclear(row))


@dataclass(slots=True, kw_only=True)
class BookedHop(NextHop):
    """A next hop whose record is the ledger's books."""

    books: Books = field(default_factory=Books)

    def note(self, accepted: Accepted) -> None:
        """Instead of keeping it: a letter of the storm, or a stranger."""
        came = [each.came_s for each in self.visits[accepted.connection - 1 :][:1]]
        book_accepted(self.books, accepted, time.time(), *came)
        self.changed()


def book_accepted(
    books: Books, accepted: Accepted, when_s: float, came_s: float | None = None
) -> None:
    """One transaction at the next hop: an entry for each recipient.  came_s: when the connection
    began; a host that was deaf takes what its kernel has kept of a client that is long gone.
    """
    letter = recognise(accepted.content)
    if letter is None:
        books.strangers.append(f"at the next hop, connection {accepted.connection}")
        return
    clear = accepted.replied and accepted.behaviour not in UNCLEAR
    first_s = when_s if clear or came_s is None else came_s
    books.found += [
        Found(
            copy=letter.copy, recipient=each, digest=letter.digest, when_s=first_s,
            place="next hop", slack_s=when_s - first_s, answered=clear, clean=letter.clean,
        )
        for each in accepted.recipients
    ]  # fmt: skip


def book_mailboxes(books: Books, mailboxes: Mapping[str, Path]) -> None:
    """All mailboxes; one that was never made is empty."""
    for address, mailbox in mailboxes.items():
        for each in stored(mailbox):
            slack_s = each.until_s - each.when_s
            book_delivered(books, address, each.octets, each.when_s, each.name, slack_s)


def book_delivered(
    books: Books, address: str, octets: bytes, when_s: float, name: str, slack_s: float = 0.0
) -> None:
    """One message in a mailbox."""
    letter = recognise(octets)
    if letter is not None:
        books.found.append(
            Found(
                copy=letter.copy,
                recipient=address,
                digest=letter.digest,
                when_s=when_s,
                place="mailbox",
                slack_s=slack_s,
                clean=letter.clean,
            )
        )
        return
    told = read_report(octets)
    if not told or any(each.copy is None for each in told):
        books.strangers.append(f"{name} in the mailbox of {address}")
    books.reported += [
        Reported(
            copy=each.copy, recipient=each.recipient, to=address, message_id=each.message_id,
            when_s=when_s, made_s=each.made_s or when_s, slack_s=slack_s,
        )
        for each in told
        if each.copy is not None and each.action == SETTLING
    ]  # fmt: skip


def book_queue(books: Books, waiting: Iterable[Waiting]) -> None:
    """What is still in the queue, for anybody."""
    for message in waiting:
        letter = recognise(message.content)
        if letter is not None:
            books.queued.append(Queued(copy=letter.copy, waiting=message.recipients))
            continue
        told = read_report(message.content)
        copy = named(message.content)
        if copy is None:
            if message.recipients:  # else it is no message: a file that was only begun
                books.strangers.append(f"in the queue, for {', '.join(message.recipients)}")
            continue
        about = tuple(each.recipient for each in told if each.action == SETTLING)
        books.queued.append(Queued(copy=copy, waiting=about))
