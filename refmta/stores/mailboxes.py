"""The mailboxes of one user, in whichever form they are kept: for whoever delivers into them.

    entry = mailboxes.begin(mailbox, stamp)      raises ValueError, OSError
    entry.add(content) ...                       raises OSError: then discard
    entry.finish()                               raises OSError: then discard
    await mailboxes.commit(entries)              the failures, by the entries' names

An entry is a message on its way in, with what the final delivery puts on top (RFC 5321 4.4).  Once
`commit` has returned without naming it, it is in the mailbox durably; before, a reader sees nothing
of it.  What `commit` was given belongs to it.

    maildir   a file of its own, written outside of what readers see (`stores.maildir`); a group
              shares one sync of the directory
    mbox      kept in memory until its group is appended under a lock (`stores.mbox`), which may be
              waited for: such forms are `patient`, and are best committed beside other work

A user's own mailbox is called after its form; routing, which does not know the form, says
"Maildir".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from refmta.protocol.routing import SYSTEM_MAILBOX
from refmta.stores import maildir, mbox
from refmta.stores.disk import Disk

FormName = Literal["maildir", "mbox"]
#: A user's own mailbox, where it is a file.
OWN_MBOX: Final = "mbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Which delivery this is: by it the mailbox names the message, and what goes on top of it."""

    queue_id: str
    arrival_s: int
    index: int
    reverse_path: str
    recipient: str


class Entry(Protocol):
    """A message on its way into a mailbox.  place: where it will lie, for the trace."""

    @property
    def name(self) -> str: ...
    @property
    def mailbox(self) -> str: ...
    @property
    def place(self) -> str: ...

    def add(self, content: bytes) -> None:
        """A piece of content, with CRLF.  Raises OSError; then the entry must be discarded."""
        ...

    def finish(self) -> None:
        """All content is there.  Raises OSError; then the entry must be discarded."""
        ...

    def sync(self) -> None:
        """Of a large one, beside the group (by a thread, perhaps).  Raises OSError."""
        ...

    def discard(self) -> None:
        """The attempt failed: nothing stays behind, if the disk lets us."""
        ...


class Mailboxes(Protocol):
    """One user's.  patient: whether `commit` may wait for others."""

    patient: bool

    def begin(self, mailbox: str, stamp: Stamp) -> Entry:
        """An entry; the mailbox is made if it was not there.  Raises ValueError, OSError."""
        ...

    async def commit(self, group: Sequence[Entry]) -> dict[str, OSError]:
        """Make entries of one mailbox durable and visible; the failures by name."""
        ...


def open_mailboxes(
    form: FormName, disk: Disk, host: str, *, swept_before_s: float = math.inf
) -> Mailboxes:
    """The mailboxes on that disk.

    swept_before_s: remains of deliveries are removed if their mail arrived before that; all of
    them only by whoever alone delivers there.
    """
    if form == "mbox":
        return Mboxes(disk, host)
    return Maildirs(disk, host, swept_before_s)


# -- Maildir --------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _File:
    """An entry that is a file in tmp/.  heading: not written yet, so that a small message costs one
    write.
    """

    disk: Disk
    staged: maildir.Staged
    heading: bytes

    @property
    def name(self) -> str:
        return self.staged.name

    @property
    def mailbox(self) -> str:
        return self.staged.mailbox

    @property
    def place(self) -> str:
        return f"{self.mailbox}/new/{self.name}"

    def add(self, content: bytes) -> None:
        heading, self.heading = self.heading, b""
        self.staged.write(heading + maildir.stored(content))

    def finish(self) -> None:
        if self.heading:
            self.add(b"")

    def sync(self) -> None:
        self.disk.sync(self.staged.handle)

    def discard(self) -> None:
        self.staged.discard()


@dataclass(slots=True)
class Maildirs:
    """Mailboxes that are directories.  known: those that are there, and swept."""

    disk: Disk
    host: str
    swept_before_s: float = math.inf
    patient: bool = False
    known: set[str] = field(default_factory=set)

    def begin(self, mailbox: str, stamp: Stamp) -> Entry:
        maildir.check_mailbox(mailbox)
        heading = maildir.heading(stamp.reverse_path, stamp.recipient)
        name = maildir.unique_name(stamp.arrival_s, stamp.queue_id, stamp.index, self.host)
        return _File(self.disk, self._stage(mailbox, name), heading)

    def _stage(self, mailbox: str, name: str) -> maildir.Staged:
        if mailbox in self.known:
            try:
                return maildir.Staged(self.disk, mailbox, name)
            except FileNotFoundError:
                pass  # the user has moved it away: make a new one
        maildir.ensure(self.disk, mailbox, swept_before_s=self.swept_before_s)
        self.known.add(mailbox)
        return maildir.Staged(self.disk, mailbox, name)

    async def commit(self, group: Sequence[Entry]) -> dict[str, OSError]:
        staged = [each.staged for each in group if isinstance(each, _File)]
        return maildir.commit(self.disk, staged[0].mailbox, staged)


# -- mbox -----------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Append:
    """An entry that is in memory, as it will be stored."""

    staged: mbox.Staged
    quoter: mbox.Quoter = field(default_factory=mbox.Quoter)

    @property
    def name(self) -> str:
        return self.staged.name

    @property
    def mailbox(self) -> str:
        return self.staged.mailbox

    @property
    def place(self) -> str:
        return self.mailbox

    def add(self, content: bytes) -> None:
        self._write(self.quoter.feed(content))

    def finish(self) -> None:
        self._write(self.quoter.end())

    def _write(self, octets: bytes) -> None:
        if octets:  # all may be held back
            self.staged.write(octets)

    def sync(self) -> None:
        """Nothing of it is on the disk yet."""

    def discard(self) -> None:
        self.staged.discard()


@dataclass(slots=True)
class Mboxes:
    """Mailboxes that are files.  Several processes may append to one of them.

    A From_ line bears the time of the delivery, as that of mail.local does.
    """

    disk: Disk
    host: str
    patient: bool = True
    wall: Callable[[], float] = time.time

    def begin(self, mailbox: str, stamp: Stamp) -> Entry:
        maildir.check_mailbox(mailbox)
        if mailbox.endswith(mbox.NOTE):
            raise ValueError("not a mailbox path: that is the name of another mailbox's note")
        mailbox = OWN_MBOX if mailbox == SYSTEM_MAILBOX else mailbox
        heading = mbox.heading(stamp.reverse_path, stamp.recipient, int(self.wall()))
        name = maildir.unique_name(stamp.arrival_s, stamp.queue_id, stamp.index, self.host)
        mbox.ensure(self.disk, mailbox)
        staged = mbox.Staged(mailbox, name)
        staged.write(heading)
        return _Append(staged)

    async def commit(self, group: Sequence[Entry]) -> dict[str, OSError]:
        staged = [each.staged for each in group if isinstance(each, _Append)]
        return await mbox.commit_patiently(self.disk, staged[0].mailbox, staged)
