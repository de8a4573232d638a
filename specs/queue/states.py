"""The life of a message: what there is to know about it at a moment.

Named tuples, because millions of them are hashed, compared and sorted: they are frozen values, and
this is what the language does fastest.

A *mail* is what a client wants delivered. A *copy* is one SMTP transaction for it, with a queue id
and a chunk of its own: a client that heard nothing, or "try again", sends another copy. What the
disk holds is told apart from what a crash would leave of it:

    name  absent | volatile | durable | removed (gone, but a crash may bring it back)
    data  partial | volatile (whole, and a crash may tear it) | durable

Marks are never synced: a crash may undo any of them, also one that an earlier crash has spared,
which is weaker than a disk. `safe`, `acknowledged`, `deliveries` and `windows` are the ghost part:
what really happened, for the invariants alone; no action may depend on it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Recipient(NamedTuple):
    """One recipient of one copy; `windows` licenses one more delivery each."""

    phase: str = "pending"  # dispatched, written, delivered, reported, marked; gone
    deliveries: int = 0
    windows: tuple[str, ...] = ()

    def __str__(self) -> str:
        times = f" delivered {self.deliveries}x" if self.deliveries else ""
        windows = f" (windows: {', '.join(self.windows)})" if self.windows else ""
        return f"{self.phase}{times}{windows}"


class Copy(NamedTuple):
    """One transaction and its chunk."""

    client: str = "waiting"  # answered (250 sent), refused (451 sent), lost (has heard nothing)
    progress: str = "none"  # created, written, synced, committed, failed, ended
    name: str = "absent"
    data: str = "partial"
    listed: bool = False  # enqueue has told qmgr, or would
    queue_id: int = 0  # 0: none yet
    own: bool = True  # the envelope is that of its own message
    acknowledged: bool = False
    safe: bool = False  # name and data were durable at some moment
    recipients: tuple[Recipient, ...] = ()

    def __str__(self) -> str:
        told = "acknowledged, " if self.acknowledged else ""
        chunk = self.name if self.name == "absent" else f"{self.name}, data {self.data}"
        others = "" if self.own else ", under another's envelope"
        recipients = "; ".join(map(str, self.recipients))
        return (
            f"#{self.queue_id or '-'} client {self.client}, {told}enqueue {self.progress}, "
            f"chunk {chunk}{', listed' if self.listed else ''}{others} | {recipients}"
        )

    @property
    def in_queue(self) -> bool:
        """A name, and whole content under it."""
        return self.name in {"volatile", "durable"} and self.data != "partial"


class Mail(NamedTuple):
    """A message as its client sees it; `crashed`: what the crash left is not decided yet."""

    recipients: int
    copies: tuple[Copy, ...] = ()
    crashed: bool = False


class State(NamedTuple):
    """The machine. `faults` is how many more may happen."""

    mails: tuple[Mail, ...]
    enqueue: bool = True
    qmgr: bool = True
    faults: int = 0

    def __str__(self) -> str:
        down = [role for role, up in (("enqueue", self.enqueue), ("qmgr", self.qmgr)) if not up]
        lines = [f"down: {', '.join(down)}"] if down else []
        for number, mail in enumerate(self.mails):
            crashed = " (crashed)" if mail.crashed else ""
            lines += [f"m{number}{crashed} {copy}" for copy in mail.copies]
        return "; ".join(lines) if len(lines) < 2 else "\n          ".join(lines)


class Bounds(NamedTuple):
    """How much is explored."""

    recipients: tuple[int, ...]  # one entry per message
    resends: int  # by all clients together
    faults: int  # crashes, kills, lost connections and failed syncs, together
    patient: bool = True  # a client sends again only when its former copy has left the queue

    def __str__(self) -> str:
        numbers = " and ".join(map(str, self.recipients))
        again = "once the former copy has left the queue" if self.patient else "at any time"
        return (
            f"{len(self.recipients)} message(s) with {numbers} recipient(s), "
            f"at most {self.resends} sent again ({again}), at most {self.faults} fault(s)"
        )


def canonical(state: State) -> State:
    """One of the states that differ only by the names of messages, recipients and queue ids."""
    mails = sorted(_recipients_sorted(mail) for mail in state.mails)
    numbers: dict[int, int] = {0: 0}
    for mail in mails:
        for copy in mail.copies:
            numbers.setdefault(copy.queue_id, len(numbers))
    if any(old != new for old, new in numbers.items()):
        mails = [_renumbered(mail, numbers) for mail in mails]
    return State(tuple(mails), state.enqueue, state.qmgr, state.faults)


def _renumbered(mail: Mail, numbers: dict[int, int]) -> Mail:
    return mail._replace(
        copies=tuple(copy._replace(queue_id=numbers[copy.queue_id]) for copy in mail.copies)
    )


@lru_cache(maxsize=1 << 18)
def _recipients_sorted(mail: Mail) -> Mail:
    columns = sorted(zip(*(copy.recipients for copy in mail.copies), strict=True))
    rows = list(zip(*columns, strict=True))
    return mail._replace(
        copies=tuple(
            copy._replace(recipients=row) for copy, row in zip(mail.copies, rows, strict=True)
        )
    )
