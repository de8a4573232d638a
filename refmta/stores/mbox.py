"""mbox: one file for all mail of a mailbox, appended to under a lock.

    open; flock; note the length beside it; sync the note, sync the directory; append every message
    at hand; sync the mailbox; remove the note; sync the directory; report each; unlock

This is the mailbox of sendmail's mail.local: a file that several processes share, the opposite of a
unique atomic chunk.  What a crash leaves of an append is old mail with torn mail behind it, and
the next message runs into that.  mail.local truncates back when a *write* fails; after a crash
nobody knows where.  Hence the note, `MAILBOX.length`: while it is there, an append is under way.
Whoever gets the lock next finds it and truncates back to the length that it records.

Why a note and not more: a record that is kept for ever ("so long was it last time") would take
from the user what another program appended meanwhile.  The note lives for one append, and also
holds a digest of the octets before that length: if a mail reader has rewritten the mailbox since
the crash, the note is about another file, and only the note goes.  Its price is two syncs of the
directory and one of the note for each group; `noted=False` is what mail.local does.

Legal states (the instant of commit is the sync of the directory that has lost the note):

    mailbox                         at rest, or somebody's lock is on it
    mailbox, note torn or empty     a crash came before the append began: the note goes
    mailbox, note, more than noted  a crash came while appending: truncated back, then the note goes
    mailbox, note of another file   a reader has rewritten the mailbox: the note goes
    note alone                      the mailbox was moved away: the note goes

What a crash may do (models of `specs/persistence`): with the note, under P1, P2 and P3, nothing to
what was reported, and nothing torn is left.  Without it, torn mail may stay, even if only the
process was killed (P0).

Messages have a From_ line on top and an empty line behind them; lines of their own that would look
like one are quoted with ">", reversibly (the form called mboxrd).  A message that is delivered
again after a crash stands there twice: there is no name that the second could replace.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Sequence
from zlib import crc32

import trio

from refmta.patterns.unique_atomic_chunks import Disk, Op
from refmta.stores import maildir

NOTE = ".length"
#: Octets before the recorded length by which a note knows its mailbox.
TAIL_OCTETS = 512
#: A note is shorter than this, in octets.
NOTE_OCTETS = 64
#: Written at once, in octets.
GATHER_OCTETS = 256 * 1024
#: How long a delivery waits for the lock before it is deferred, and how often it looks. Nobody
#: stands in line for it: of a hundred who look some have bad luck for 10 s (mail.local gives up
#: after 400 s).
LOCK_WAIT_S = 60.0
LOCK_PAUSE_S = 0.02

_NOTE = re.compile(rb"([0-9]{1,19}) ([0-9a-f]{8}) ([0-9a-f]{8})\n\Z")
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
#: What may become a From_ line.
_MAY_BE = re.compile(rb">*(?:F(?:r(?:om?)?)?)?\Z").match
_UNSAFE = re.compile(r"[^!-~]")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


# -- the format: pure -----------------------------------------------------------------------------


def from_line(reverse_path: str, when_s: int) -> bytes:
    """The line that begins a message: sender and time (UTC, as asctime(3))."""
    sender = _UNSAFE.sub("_", reverse_path) or "MAILER-DAEMON"
    at = time.gmtime(when_s)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"From {sender} {day} {month} {at.tm_mday:2} {clock} {at.tm_year}\n".encode("ascii")


def heading(reverse_path: str, recipient: str, when_s: int) -> bytes:
    """What stands on top of a delivered message: the From_ line, then as in a Maildir."""
    return from_line(reverse_path, when_s) + maildir.heading(reverse_path, recipient)


def stored(content: bytes) -> bytes:
    """Content as it is stored: with LF, and quoted.  For content as a whole; else `Quoter`."""
    return _FROM.sub(rb">\1", maildir.stored(content))


class Quoter:
    """Content in pieces, as it is stored.  What may yet become a From_ line is held back until more
    of it is known; `end` gives it.
    """

    __slots__ = ("_held", "_inside")

    def __init__(self) -> None:
        self._held = b""
        self._inside = False  # of a line whose beginning is given already

    def feed(self, piece: bytes) -> bytes:
        """What is certain by now."""
        octets = self._held + maildir.stored(piece)
        begun = octets[octets.rfind(b"\n") + 1 :]
        self._held = begun if not (self._inside and begun == octets) and _MAY_BE(begun) else b""
        octets = octets[: len(octets) - len(self._held)]
        line, end, rest = octets.partition(b"\n") if self._inside else (b"", b"", octets)
        if octets:
            self._inside = not octets.endswith(b"\n")
        return line + end + _FROM.sub(rb">\1", rest)

    def end(self) -> bytes:
        """What was held back: a line that became none."""
        held, self._held = self._held, b""
        return held


# -- plans: pure ----------------------------------------------------------------------------------


def note_path(mailbox: str) -> str:
    """Where the note lies while an append is under way."""
    return mailbox + NOTE


def note(length: int, tail: bytes) -> bytes:
    """The mailbox's length before the append, and a digest of the octets before that."""
    text = f"{length} {crc32(tail):08x}"
    return f"{text} {crc32(text.encode()):08x}\n".encode("ascii")


def noted(octets: bytes) -> tuple[int, int] | None:
    """(length, digest) of a note; None if it is not what was written."""
    match = _NOTE.match(octets)
    if match is None or crc32(octets[: match.end(2)]) != int(match[3], 16):
        return None
    return int(match[1]), int(match[2], 16)


def append_plan(
    mailbox: str, messages: Sequence[tuple[str, Sequence[bytes]]], the_note: bytes
) -> list[Op]:
    """Append messages, each a name and its octets in pieces, then report each.  Without a note
    (empty): as mail.local does it.
    """
    beside, directory = note_path(mailbox), _directory(mailbox)
    plan: list[Op] = []
    if the_note:
        plan += [Op("create", beside), Op("write", beside, the_note), Op("sync", beside)]
        plan.append(Op("sync_dir", directory))
    plan += [Op("write", mailbox, piece) for _, pieces in messages for piece in pieces if piece]
    plan.append(Op("sync", mailbox))
    if the_note:
        plan += [Op("unlink", beside), Op("sync_dir", directory)]
    return plan + [Op("reply", name) for name, _ in messages]


def mend_plan(mailbox: str, length: int | None) -> list[Op]:
    """After a crash: truncate back if the note says so, durably, and only then remove the note."""
    plan = []
    if length is not None:
        plan += [Op("truncate", mailbox, target=str(length)), Op("sync", mailbox)]
    return [*plan, Op("unlink", note_path(mailbox)), Op("sync_dir", _directory(mailbox))]


def _directory(mailbox: str) -> str:
    return mailbox.rpartition("/")[0]


# -- the shell ------------------------------------------------------------------------------------


class Staged:
    """One message for a mailbox, in memory until its group is appended: nothing of it may stand in
    the mailbox before all of it can.  The limit of a message's size limits it.
    """

    __slots__ = ("_pieces", "mailbox", "name")

    def __init__(self, mailbox: str, name: str) -> None:
        """name: what `commit` calls it."""
        self.mailbox, self.name = mailbox, name
        self._pieces: list[bytes] = []

    @property
    def path(self) -> str:
        return self.mailbox

    def write(self, octets: bytes) -> None:
        """First the heading, then content that is quoted already."""
        self._pieces.append(octets)

    def discard(self) -> None:
        """The attempt failed: nothing stays behind."""
        self._pieces.clear()

    def octets(self) -> list[bytes]:
        """What is appended, gathered so that a small message is one write: its last line is ended,
        and an empty line follows.
        """
        last = self._pieces[-1][-1:] if self._pieces else b""
        gathered, pieces = [bytearray()], self._pieces
        for piece in [*pieces, b"\n" if last == b"\n" else b"\n\n"]:
            if len(gathered[-1]) + len(piece) > GATHER_OCTETS:
                gathered.append(bytearray())
            gathered[-1] += piece
        return [bytes(each) for each in gathered if each]


def ensure(disk: Disk, mailbox: str) -> None:
    """Make the mailbox if it is not there, durably, and its directories.  Raises OSError."""
    parts = mailbox.split("/")
    levels = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    made = {_directory(level) for level in levels if _made(disk, level)}
    try:
        disk.close(disk.create(mailbox))
        made.add(_directory(mailbox))
    except FileExistsError:
        pass
    for directory in sorted(made):
        disk.sync_dir(directory)


def _made(disk: Disk, directory: str) -> bool:
    try:
        disk.mkdir(directory)
    except FileExistsError:
        return False
    return True


def commit(
    disk: Disk, mailbox: str, group: Sequence[Staged], *, notes: bool = True
) -> dict[str, OSError]:
    """Append messages to one mailbox; returns the failures by name.

    EAGAIN: somebody else has the lock, and nothing was done (`commit_patiently` waits for it).  A
    write or a sync that fails takes the whole group back: the mailbox is as it was before.
    """
    try:
        handle = disk.open_append(mailbox)
    except OSError as error:
        return {each.name: error for each in group}
    try:
        if not disk.lock(handle):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), mailbox)
        mend(disk, mailbox, handle)
        _append(disk, mailbox, handle, group, notes=notes)
    except OSError as error:
        return {each.name: error for each in group}
    finally:
        disk.close(handle)  # and so the lock goes
    return {}


async def commit_patiently(
    disk: Disk, mailbox: str, group: Sequence[Staged], *, notes: bool = True
) -> dict[str, OSError]:
    """`commit`, once nobody else has the lock, or after LOCK_WAIT_S its failure.  What waits for a
    lock of flock(2) without a thread can only look again.
    """
    with trio.move_on_after(LOCK_WAIT_S):
        while True:
            failures = commit(disk, mailbox, group, notes=notes)
            if not any(isinstance(each, BlockingIOError) for each in failures.values()):
                return failures
            await trio.sleep(LOCK_PAUSE_S)
    return commit(disk, mailbox, group, notes=notes)


def mend(disk: Disk, mailbox: str, handle: int) -> None:
    """Whoever has the lock: if a crash cut an append short, truncate back.  Raises OSError."""
    octets = _read(disk, note_path(mailbox), NOTE_OCTETS)
    if octets is None:
        return
    length, digest = noted(octets) or (-1, 0)
    size = disk.size(handle)
    ours = 0 <= length <= size and crc32(_tail(disk, mailbox, length)) == digest
    _carry_out(disk, mend_plan(mailbox, length if ours and length < size else None), handle)


def recover(disk: Disk, mailbox: str) -> bool:
    """What `commit` does first, by itself.  Returns whether a note was there."""
    try:
        handle = disk.open_append(mailbox)
    except FileNotFoundError:
        if _read(disk, note_path(mailbox), NOTE_OCTETS) is None:
            return False
        _carry_out(disk, mend_plan(mailbox, None), -1)
        return True
    try:
        if not disk.lock(handle):
            return False  # somebody lives who will do it
        found = _read(disk, note_path(mailbox), NOTE_OCTETS) is not None
        mend(disk, mailbox, handle)
        return found
    finally:
        disk.close(handle)


def _append(disk: Disk, mailbox: str, handle: int, group: Sequence[Staged], *, notes: bool) -> None:
    length = disk.size(handle)
    the_note = note(length, _tail(disk, mailbox, length)) if notes else b""
    plan = append_plan(mailbox, [(each.name, each.octets()) for each in group], the_note)
    try:
        _carry_out(disk, plan, handle)
    except OSError:
        _take_back(disk, mailbox, handle, length)
        raise


def _take_back(disk: Disk, mailbox: str, handle: int, length: int) -> None:
    """As mail.local does: nobody may read half a message.  If even that fails, the note stays, and
    whoever comes next tries again.
    """
    try:
        back = length if disk.size(handle) > length else None
        if _read(disk, note_path(mailbox), NOTE_OCTETS) is not None:
            _carry_out(disk, mend_plan(mailbox, back), handle)
        elif back is not None:
            disk.truncate(handle, back)
    except OSError:
        return


def _carry_out(disk: Disk, plan: Iterable[Op], handle: int) -> None:
    """Carry out a plan; `handle` is open on the mailbox.  Raises the first OSError."""
    beside = -1
    try:
        for op in plan:
            on = beside if op.path.endswith(NOTE) else handle
            match op.kind:
                case "create":
                    beside = disk.create(op.path)
                case "write":
                    disk.write(on, op.data)
                case "truncate":
                    disk.truncate(on, int(op.target))
                case "sync":
                    disk.sync(on)
                case "sync_dir":
                    disk.sync_dir(op.path)
                case "unlink":
                    disk.unlink(op.path)
    finally:
        if beside >= 0:
            disk.close(beside)


def _read(disk: Disk, path: str, size: int, offset: int = 0) -> bytes | None:
    """Octets of a file that may not be there."""
    try:
        handle = disk.open_read(path)
    except FileNotFoundError:
        return None
    try:
        return disk.read(handle, size, offset)
    finally:
        disk.close(handle)


def _tail(disk: Disk, mailbox: str, length: int) -> bytes:
    """The octets before that length, by which a note knows its mailbox."""
    start = max(0, length - TAIL_OCTETS)
    return _read(disk, mailbox, length - start, start) or b""
