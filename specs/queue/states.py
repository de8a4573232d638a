"""The life of a message: what there is to know about it at a moment.

Named tuples, because millions of them are hashed, compared and sorted: they are frozen values, and
this is what the language does fastest.

A *mail* is what a client wants delivered. A *copy* is one SMTP transaction for it, with a queue id
and a chunk of its own: a client that heard nothing, or "try again", sends another copy. What the
disk holds is told apart from what a crash would leave of it:

    name  absent | volatile | durable | removed (gone, but a crash may bring it back)
    data  partial | volatile (whole, and a crash may tear it) | durable

A *report* is a copy, too: the one that the bounce role submits about another copy of the same mail
(`about`), for the mail's sender, with a null sender of its own. Its client is the bounce role.

A recipient's phases:

    pending, dispatched, written (in tmp/) | accepted (by the next hop), delivered, reported, marked
    dispatched, put_off, deferred; then pending again, or failed when its lifetime is over
    dispatched, rejected, failed; then discarded (null sender), or telling, told, closed
    gone

Marks are never synced: a crash may undo any of them, also one that an earlier crash has spared,
which is weaker than a disk. `safe`, `acknowledged`, `deliveries`, `reports`, `refused`, `told` and
`windows` are the ghost part: what really happened, for the invariants alone; no action may depend
on it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

SETTLED = frozenset({"marked", "closed", "discarded"})
LOCAL, REMOTE = "local", "remote"


class Recipient(NamedTuple):
    """One recipient of one copy; `windows` licenses one more delivery or report each."""

    kind: str = LOCAL
    phase: str = "pending"
    deliveries: int = 0
    reports: int = 0  # begun, whether or not they were kept
    refused: bool = False  # for good, or given up when its lifetime was over
    told: bool = False  # a report about it was kept
    windows: tuple[str, ...] = ()

    def __str__(self) -> str:
        remote = "remote " if self.kind == REMOTE else ""
        times = f" delivered {self.deliveries}x" if self.deliveries else ""
        reports = f" reports {self.reports}" if self.reports else ""
        windows = f" (windows: {', '.join(self.windows)})" if self.windows else ""
        return f"{remote}{self.phase}{times}{reports}{windows}"


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
    about: int = -1  # a report: the place of the copy that it is about

    def __str__(self) -> str:
        told = "acknowledged, " if self.acknowledged else ""
        chunk = self.name if self.name == "absent" else f"{self.name}, data {self.data}"
        others = "" if self.own else ", under another's envelope"
        recipients = "; ".join(map(str, self.recipients))
        what = f"report about copy {self.about}, " if self.about >= 0 else ""
        return (
            f"#{self.queue_id or '-'} {what}client {self.client}, {told}enqueue {self.progress}, "
            f"chunk {chunk}{', listed' if self.listed else ''}{others} | {recipients}"
        )

    @property
    def in_queue(self) -> bool:
        """A name, and whole content under it."""
        return self.name in {"volatile", "durable"} and self.data != "partial"


class Mail(NamedTuple):
    """A message as its client sees it; `crashed`: what the crash left is not decided yet."""

    recipients: tuple[str, ...]  # the kind of each
    copies: tuple[Copy, ...] = ()
    crashed: bool = False
    null: bool = False  # the client's sender is null: no report
    followed: bool = True

    @property
    def sent(self) -> tuple[Copy, ...]:
        """The client's copies."""
        return tuple([copy for copy in self.copies if copy.about < 0])

    @property
    def reports(self) -> tuple[Copy, ...]:
        return tuple([copy for copy in self.copies if copy.about >= 0])

    def has_sender(self, copy: Copy) -> bool:
        """Whether there is somebody to be told about this copy."""
        return copy.about < 0 and not self.null


class State(NamedTuple):
    """The machine. `faults` is how many more may happen, `setbacks` how many more deferrals and
    refusals by mailboxes and next hops.
    """

    mails: tuple[Mail, ...]
    enqueue: bool = True
    qmgr: bool = True
    faults: int = 0
    setbacks: int = 0

    def __str__(self) -> str:
        down = [role for role, up in (("enqueue", self.enqueue), ("qmgr", self.qmgr)) if not up]
        lines = [f"down: {', '.join(down)}"] if down else []
        for number, mail in enumerate(self.mails):
            crashed = " (crashed)" if mail.crashed else ""
            lines += [f"m{number}{crashed} {copy}" for copy in mail.copies]
        return "; ".join(lines) if len(lines) < 2 else "\n          ".join(lines)


class Bounds(NamedTuple):
    """How much is explored."""

    recipients: tuple[str, ...]  # one entry per message, one letter per recipient: "l", "r"
    resends: int  # by all clients together
    faults: int  # crashes, kills, lost connections and failed syncs, together
    patient: bool = True  # a client sends again only when its former copy has left the queue
    setbacks: int = 0  # deferrals and refusals by mailboxes and next hops, together
    null: bool = False  # every sender is null
    followed: bool = True  # reports, to their mailbox; else they leave the queue once committed

    def mails(self) -> tuple[Mail, ...]:
        """Before anything was sent."""
        kinds = {"l": LOCAL, "r": REMOTE}
        return tuple(
            Mail(tuple(kinds[letter] for letter in each), null=self.null, followed=self.followed)
            for each in self.recipients
        )

    def __str__(self) -> str:
        kinds = " and ".join(map(_kinds, self.recipients))
        again = "once the former copy has left the queue" if self.patient else "at any time"
        senders = " from a null sender" if self.null else ""
        return (
            f"{len(self.recipients)} message(s){senders} to {kinds} recipient(s), "
            f"at most {self.resends} sent again ({again}), at most {self.faults} fault(s) "
            f"and {self.setbacks} setback(s)"
            f"{'' if self.followed else ', reports followed until they are committed'}"
        )


def _kinds(letters: str) -> str:
    counts = (("l", "local"), ("r", "remote"))
    return " + ".join(
        f"{letters.count(letter)} {kind}" for letter, kind in counts if letter in letters
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
    return state._replace(mails=tuple(mails))


def _renumbered(mail: Mail, numbers: dict[int, int]) -> Mail:
    return mail._replace(
        copies=tuple(copy._replace(queue_id=numbers[copy.queue_id]) for copy in mail.copies)
    )


@lru_cache(maxsize=1 << 18)
def _recipients_sorted(mail: Mail) -> Mail:
    """Recipients of the client's copies in one order; a report has one, and no place to change."""
    columns = sorted(zip(*(copy.recipients for copy in mail.sent), strict=True))
    rows = iter(zip(*columns, strict=True))
    return mail._replace(
        copies=tuple(
            copy if copy.about >= 0 else copy._replace(recipients=next(rows))
            for copy in mail.copies
        )
    )
