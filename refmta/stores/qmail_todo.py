"""qmail's queue: a message is the set of files that bear its name.

    create pid/ID; link it to mess/ID; unlink pid/ID; write mess/ID; sync it
    create intd/ID; write the envelope; sync it; link it to todo/ID; exit 0       (qmail-queue)
    create info/ID, local/ID, remote/ID from todo/ID; sync each
    unlink intd/ID; unlink todo/ID                                                (qmail-send)
    overwrite one octet per recipient that is done; no sync                       (qmail-send)
    unlink local/ID, remote/ID, bounce/ID, info/ID (qmail-send), mess/ID (qmail-clean)

Source: INTERNALS of qmail 1.03, whose states these are (+ there, - not there, ? either):

    S1  -mess -intd -todo -info -local -remote -bounce   no message
    S2  +mess -intd -todo -info -local -remote -bounce   being written, or being removed
    S3  +mess +intd -todo -info -local -remote -bounce   its envelope is being written
    S4  +mess ?intd +todo ?info ?local ?remote -bounce   queued: the link to todo/ID is the commit
    S5  +mess -intd -todo +info ?local ?remote ?bounce   preprocessed: it is delivered from here

What is not yet queued lies in S2 or S3, or in pid/.  Nobody locks anything, so only age tells what
a crash has left: after 36 hours it is removed (qmail-queue gives up after 24), and a queue id tells
its own age.  In S4 what qmail-send had begun is done again from the start.

The files hold records, a letter, a text, NUL (`wire.qmail`):

    intd, todo      A arrival, C client, H its name, P protocol; F sender, T recipient ...
    info            the same without recipients
    local, remote   T recipient, or D: nothing more is owed to this one
    bounce          what one octet can't say: marks as in `wire.envelope`, each with a checksum
    mess            the content, raw

Where it differs from qmail, and why
- Names are queue ids; qmail's are inode numbers, for which mess/ID has to exist before anything
  else does, and why its queue can't be restored from a backup.  The steps are the same.
- Recipients are put into local and remote by their domains here too (`local_domains`), but that
  decides nothing: whoever delivers asks `resolve`.
- qmail writes what failed into bounce/ID and overwrites T by D at once, and syncs neither: a crash
  may keep the D alone, and nobody hears of the failure.  Here D waits for the report.  When it is
  to be tried again stands in bounce/ID too (qmail derives that from the message's age), and so do
  recipients from aliases (qmail-send has none) and the operator's wishes.
- A message that can't be read is set aside in damaged/ (qmail-send warns and tries for ever).

What a crash may do.  mess/, intd/ and todo/ are never synced: qmail asks for file systems whose
directory operations are synchronous.  Without them acknowledged mail may be lost under each of P1,
P2 and P3; under P0 it is not.  If the unlink of todo/ID is lost, the message is preprocessed again
and marks are forgotten: whoever was done gets it twice.  And neither content nor envelope certifies
itself: where the last unlink of a file truncates it first (P2, P3), a message that was delivered
may come back empty; where todo/ID is lost and the half-written info/ID lies on the blocks of an
older one, a message may appear under another's envelope.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from refmta.patterns.unique_atomic_chunks import Disk, Op
from refmta.protocol.delivery import Mark
from refmta.stores.queue import Claimed, Cleaner, Loaded
from refmta.stores.steps import (
    OUT_OF_DESCRIPTORS,
    OpenFiles,
    append_at,
    carry_aside,
    decode_marks,
    encode_marks,
    free_reason,
    unlink_if_there,
)
from refmta.wire.envelope import (
    MAX_BLOCK,
    MAX_RECIPIENTS,
    ChunkError,
    Envelope,
    encode_envelope,
    is_queue_id,
    made_s,
)
from refmta.wire.qmail import QmailError, Record, record, records

PID: Final = "pid"
MESS: Final = "mess"
INTD: Final = "intd"
TODO: Final = "todo"
INFO: Final = "info"
LOCAL: Final = "local"
REMOTE: Final = "remote"
BOUNCE: Final = "bounce"
DAMAGED: Final = "damaged"
#: Of one message, in the order in which they are set aside: a name in todo/ or info/ makes it one.
PARTS: Final = (TODO, INFO, MESS, INTD, LOCAL, REMOTE, BOUNCE)
#: What has to be there before the store is used.
DIRECTORIES: Final = (PID, *PARTS, DAMAGED)
#: What qmail-send writes and removes itself.
OURS: Final = (LOCAL, REMOTE, BOUNCE, INFO)
#: qmail's are 0644 in directories that others can't enter.
MODE: Final = 0o640
#: What was not queued by then never will be (INTERNALS, section 6).
UNFINISHED_S: Final = 36 * 60 * 60
#: No file of records is longer: recipients at their longest, and the rest.
RECORDS_OCTETS: Final = (MAX_RECIPIENTS + 8) * 1024

WAITING, DONE = "T", "D"
_BYTE_MARKS: Final = frozenset({"delivered", "reported"})


# -- plans: pure ----------------------------------------------------------------------------------


def path_of(part: str, queue_id: str) -> str:
    """Where a part of a message lies."""
    return f"{part}/{queue_id}"


def enter_plan(queue_id: str) -> list[Op]:
    """S1 to S2.  In qmail the inode of pid/x gives the message its name."""
    pid, mess = path_of(PID, queue_id), path_of(MESS, queue_id)
    return [Op("create", pid), Op("link", pid, target=mess), Op("unlink", pid)]


def commit_plan(queue_id: str, envelope: bytes) -> list[Op]:
    """S2 to S4: content, envelope, and the link that commits both."""
    mess, intd, todo = (path_of(part, queue_id) for part in (MESS, INTD, TODO))
    return [
        Op("sync", mess),
        Op("create", intd),
        Op("write", intd, envelope),
        Op("sync", intd),
        Op("link", intd, target=todo),
        Op("reply", mess),
    ]


def preprocess_plan(queue_id: str, files: Mapping[str, bytes]) -> list[Op]:
    """S4 to S5.  files: octets by part, for info, and for local and remote if anybody is there."""
    plan: list[Op] = []
    for part, octets in files.items():
        path = path_of(part, queue_id)
        plan += [Op("create", path), Op("write", path, octets)]
    plan += [Op("sync", path_of(part, queue_id)) for part in files]
    return [*plan, Op("unlink", path_of(INTD, queue_id)), Op("unlink", path_of(TODO, queue_id))]


def envelope_records(envelope: Envelope) -> bytes:
    """What stands in intd and todo.  Raises ValueError if it is out of bounds."""
    encode_envelope(envelope)  # its bounds are ours
    parts = [
        record("A", str(envelope.arrival_s)),
        record("C", envelope.client),
        record("H", envelope.helo),
        record("P", envelope.protocol),
        record("F", envelope.reverse_path),
        *(record(WAITING, recipient) for recipient in envelope.recipients),
    ]
    return b"".join(parts)


def parse_envelope(queue_id: str, octets: bytes) -> Envelope:
    """The envelope of what `envelope_records` made.  Raises ChunkError."""
    found = _records(octets, "ACHPFT")
    if [each.letter for each in found[:5]] != list("ACHPF"):
        raise ChunkError("an envelope without its head")
    arrival, client, helo, protocol, sender = (each.text for each in found[:5])
    envelope = Envelope(
        queue_id=queue_id,
        arrival_s=_number(arrival),
        reverse_path=sender,
        recipients=tuple([each.text for each in found[5:]]),
        client=client,
        helo=helo,
        protocol=protocol,
    )
    if any(each.letter != WAITING for each in found[5:]):
        raise ChunkError("not a recipient, in an envelope")
    try:
        encode_envelope(envelope)
    except ValueError as error:
        raise ChunkError("an envelope out of bounds") from error
    return envelope


def _records(octets: bytes, letters: str) -> list[Record]:
    try:
        return records(octets, letters)
    except QmailError as error:
        raise ChunkError(str(error)) from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ChunkError("not a time of arrival")
    return int(text)


def divided(envelope: Envelope, is_local: Callable[[str], bool]) -> dict[str, bytes]:
    """The files of S5, by part; one that would be empty is not made."""
    recipients = {LOCAL: b"", REMOTE: b""}
    for each in envelope.recipients:
        recipients[LOCAL if is_local(each) else REMOTE] += record(WAITING, each)
    info = envelope_records(envelope)[: -sum(map(len, recipients.values()))]
    return {INFO: info} | {part: octets for part, octets in recipients.items() if octets}


def in_order(envelope: Envelope, is_local: Callable[[str], bool]) -> Envelope:
    """As it is read back from S5, so that a recipient has the same index in both states."""
    recipients = sorted(envelope.recipients, key=lambda each: not is_local(each))
    return replace(envelope, recipients=tuple(recipients))


def combined(notes: Sequence[Mark], letters: str) -> tuple[Mark, ...]:
    """The marks, from bounce/ID and from the letters of the recipients, T or D, in order.

    A D whose recipient has failed says that somebody was told of it.
    """
    last = {note.index: note for note in notes}
    marks = list(notes)
    for index, letter in enumerate(letters):
        note = last.get(index)
        if letter != DONE or (note is not None and note.kind in ("delivered", "reported")):
            continue
        if note is None or note.kind not in ("failed", "expanded"):
            marks.append(Mark("delivered", index, 0, 0))
        elif note.kind == "failed":
            marks.append(replace(note, kind="reported", text="", host=""))
    return tuple(marks)


# -- the way in -----------------------------------------------------------------------------------


class Draft:
    """A message in mess/, its file open until `close` or `discard`."""

    __slots__ = ("_content", "_entered", "_envelope", "_files", "_gather", "_gathered", "octets")

    def __init__(self, disk: Disk, envelope: Envelope, gather: int = MAX_BLOCK) -> None:
        self.octets = 0  # of content
        self._envelope = envelope
        self._gather = gather
        self._content: list[bytes] = []
        self._gathered = 0
        self._files = OpenFiles(disk, MODE)
        self._entered = False

    @property
    def path(self) -> str:
        return path_of(MESS, self._envelope.queue_id)

    @property
    def handle(self) -> int | None:
        return self._files.handles.get(self.path)

    def add(self, content: bytes) -> None:
        """Raises OSError; then the draft must be discarded."""
        self._content.append(content)
        self._gathered += len(content)
        self.octets += len(content)
        if self._gathered >= self._gather:
            self._write()

    def finish(self) -> None:
        """Write what is left.  Raises OSError; then the draft must be discarded."""
        self._write()

    def _write(self) -> None:
        if not self._entered:
            self._entered = True
            self._files.perform(enter_plan(self._envelope.queue_id))
        octets = b"".join(self._content)
        self._content, self._gathered = [], 0
        if octets:
            self._files.perform([Op("write", self.path, octets)])

    def commit(self) -> None:
        """Raises OSError; then the draft must be discarded."""
        envelope = self._envelope
        self._files.perform(commit_plan(envelope.queue_id, envelope_records(envelope)))

    def close(self) -> None:
        self._files.close()

    def discard(self) -> None:
        """Forget the message: nothing was promised.  The files go, if they can (qmail-queue's
        cleanup()); the one that made it a message first.
        """
        self.close()
        if self._entered:
            parts = (path_of(part, self._envelope.queue_id) for part in (TODO, INTD, MESS, PID))
            with suppress(OSError):  # S2 or S3: recovery removes it
                unlink_if_there(self._files.disk, *parts)


# -- the store ------------------------------------------------------------------------------------


@dataclass(slots=True)
class QmailTodo:
    """`stores.queue.QueueStore`.  Many processes write, one delivers.

    cleaner: has what is another user's removed (qmail-clean): "foop" mess/ID, intd/ID and todo/ID,
    "todo" the latter two; by default we do.  While todo/ID is being removed the message is Claimed.
    local_domains: of the recipients in local/, with spaces between (control/locals).
    unfinished_s: the age from which what is unfinished is removed.  Texts, as options are.
    """

    disk: Disk
    cleaner: Cleaner | None = None
    local_domains: str = ""
    unfinished_s: str = str(UNFINISHED_S)
    now: Callable[[], float] = time.time
    logs_envelopes: ClassVar[bool] = False
    _locals: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        if not self.unfinished_s.isdigit():
            raise ValueError("unfinished_s: a number of seconds")
        self._locals = frozenset(self.local_domains.lower().split())

    def _is_local(self, recipient: str) -> bool:
        return recipient.rpartition("@")[2].lower() in self._locals

    # ---- the way in ---------------------------------------------------------------------------

    def draft(self, envelope: Envelope) -> Draft:
        """Nothing is written before there is a block of content, or all of it."""
        return Draft(self.disk, envelope)

    def commit(self, group: Sequence[Draft]) -> dict[str, OSError]:
        """Each by itself, as by a qmail-queue of its own: what fails fails alone."""
        failures: dict[str, OSError] = {}
        for each in group:
            try:
                each.commit()
            except OSError as error:
                failures[each.path] = error
        return failures

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        """todo/ID holds the envelope."""
        return {}

    def confirm(self, queue_id: str) -> None:
        """`commit` puts nothing off."""

    # ---- delivery -----------------------------------------------------------------------------

    def names(self) -> list[str]:
        """S4 and S5."""
        return sorted({*self.disk.listdir(TODO), *self.disk.listdir(INFO)})

    def load(self, queue_id: str) -> Loaded:
        """Preprocess it, if it is in S4, and open it.  Raises ChunkError, OSError; then nothing
        stays open, and it is in S4 still, or in S5.
        """
        return self._read(queue_id, preprocess=True)

    def look(self, queue_id: str) -> Loaded:
        """As `load`, and it stays in its state."""
        return self._read(queue_id, preprocess=False)

    def _read(self, queue_id: str, *, preprocess: bool) -> Loaded:
        todo = self._octets(TODO, queue_id)
        handle = self._open_mess(queue_id, queued=todo is not None)
        try:
            if todo is not None:
                envelope = parse_envelope(queue_id, todo)
                if preprocess:
                    self._preprocess(envelope)
                envelope = in_order(envelope, self._is_local)
                marks, end = combined((), ""), 0
            else:
                envelope, marks, end = self._preprocessed(queue_id)
            octets = self.disk.size(handle)
        except BaseException:
            self.disk.close(handle)
            raise
        return Loaded(
            handle=handle,
            envelope=envelope,
            marks=marks,
            end=end,
            octets=octets,
            head=encode_envelope(envelope),
        )

    def _open_mess(self, queue_id: str, *, queued: bool) -> int:
        """The content.  FileNotFoundError means: no such message."""
        if not is_queue_id(queue_id):
            raise ChunkError("the file's name is no queue id")
        try:
            return self.disk.open_read(path_of(MESS, queue_id))
        except FileNotFoundError:
            if queued or self._octets(INFO, queue_id) is not None:
                raise ChunkError("its content is gone") from None
            raise

    def _preprocess(self, envelope: Envelope) -> None:
        """S4 to S5; what was begun before is done again."""
        queue_id = envelope.queue_id
        parts = (INFO, LOCAL, REMOTE, BOUNCE)
        unlink_if_there(self.disk, *(path_of(part, queue_id) for part in parts))
        plan = preprocess_plan(queue_id, divided(envelope, self._is_local))
        foreign = () if self.cleaner is None else (path_of(INTD, queue_id), path_of(TODO, queue_id))
        files = OpenFiles(self.disk, MODE)
        try:
            for op in plan:
                if op.path in foreign:
                    continue
                if op.path == path_of(INTD, queue_id):
                    unlink_if_there(self.disk, op.path)  # a crash may have left the link alone
                else:
                    files.perform([op])
        finally:
            files.close()
        if self.cleaner is not None:
            # Nothing is delivered before todo/ID is gone: else it would be done again, unmarked.
            self.cleaner(queue_id, "todo")
            raise Claimed(queue_id)

    def _preprocessed(self, queue_id: str) -> tuple[Envelope, tuple[Mark, ...], int]:
        """Envelope, marks, and the end of the notes, of S5."""
        info = self._octets(INFO, queue_id)
        if info is None:
            raise FileNotFoundError(2, os.strerror(2), path_of(INFO, queue_id))
        recipients = self._recipients(queue_id)
        waiting = b"".join([record(WAITING, each.text) for _, each in recipients])
        envelope = parse_envelope(queue_id, info + waiting)
        notes, end = decode_marks(self._octets(BOUNCE, queue_id) or b"")
        return envelope, combined(notes, "".join([each.letter for _, each in recipients])), end

    def _recipients(self, queue_id: str) -> list[tuple[str, Record]]:
        """The recipients by index, each with the file that it stands in.  Raises ChunkError."""
        return [
            (part, each)
            for part in (LOCAL, REMOTE)
            for each in _records(self._octets(part, queue_id) or b"", WAITING + DONE)
        ]

    def _octets(self, part: str, queue_id: str) -> bytes | None:
        """All of a file of records, None if there is none.  Raises ChunkError for a long one."""
        try:
            handle = self.disk.open_read(path_of(part, queue_id))
        except FileNotFoundError:
            return None
        try:
            size = self.disk.size(handle)
            if size > RECORDS_OCTETS and part != BOUNCE:
                raise ChunkError("a file of records that is too long")
            return self.disk.read(handle, size, 0)
        finally:
            self.disk.close(handle)

    def open(self, queue_id: str) -> int:
        """One more descriptor on the content."""
        return self.disk.open_read(path_of(MESS, queue_id))

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        """D for whom nothing more is owed, and a note of all else; neither is synced.

        Returns the new end of the notes.  Raises OSError, ChunkError.
        """
        given = list(marks)
        recipients = self._recipients(queue_id)
        done = {each.index for each in given if each.kind in _BYTE_MARKS} & set(
            range(len(recipients))
        )
        noted = [each for each in given if each.kind not in _BYTE_MARKS or each.index not in done]
        if noted:
            end = self._note(queue_id, end, encode_marks(noted))
        for part in (LOCAL, REMOTE):
            offsets = [
                recipients[index][1].offset
                for index in sorted(done)
                if recipients[index][0] == part
            ]
            self._mark_done(path_of(part, queue_id), offsets)
        return end

    def _note(self, queue_id: str, end: int, octets: bytes) -> int:
        path = path_of(BOUNCE, queue_id)
        try:
            return append_at(self.disk, path, end, octets)
        except FileNotFoundError:
            self.disk.close(self.disk.create(path, MODE))
            return append_at(self.disk, path, 0, octets)

    def _mark_done(self, path: str, offsets: Sequence[int]) -> None:
        """One octet each, and no sync (qmail-send's markdone)."""
        if not offsets:
            return
        handle = self.disk.open_change(path)
        try:
            for offset in offsets:
                self.disk.overwrite(handle, DONE.encode(), offset)
        finally:
            self.disk.close(handle)

    def rested(self, queue_id: str) -> None:
        """It waits where it lies."""

    def free(self, queue_id: str) -> None:
        """S5 to S1; the content is the cleaner's, if there is one."""
        parts = OURS if self.cleaner is not None else (TODO, *OURS, INTD)
        unlink_if_there(self.disk, *(path_of(part, queue_id) for part in parts))
        if self.cleaner is None:
            self.disk.unlink(path_of(MESS, queue_id))
        else:
            self.cleaner(queue_id, "foop")

    def release(self, queue_id: str) -> None:
        """Nobody else delivers from here."""

    # ---- after a crash ------------------------------------------------------------------------

    def examine(self, queue_id: str) -> None:
        """Read all of it.  Nothing certifies the content: it is enough that it can be read.

        Raises ChunkError, OSError.
        """
        loaded = self.look(queue_id)
        try:
            offset = 0
            while octets := self.disk.read(loaded.handle, MAX_BLOCK, offset):
                offset += len(octets)
        finally:
            self.disk.close(loaded.handle)

    def set_aside(self, queue_id: str, reason: str) -> None:
        """All parts of it, to damaged/ID.reason.part; with a cleaner, those that are ours.  One
        that is still in todo/ stays then (PermissionError), and is tried again, as qmail-send does.
        """
        movable = PARTS if self.cleaner is None else OURS
        if self.cleaner is not None and queue_id in self.disk.listdir(TODO):
            raise PermissionError(errno.EACCES, "it belongs to another user")
        parts = [part for part in movable if queue_id in self.disk.listdir(part)]
        free = free_reason(queue_id, reason, self.disk.listdir(DAMAGED))
        moves = [(path_of(part, queue_id), f"{DAMAGED}/{queue_id}.{free}.{part}") for part in parts]
        carry_aside(self.disk, moves, DAMAGED)

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        """Set aside what can't be read, end what was being removed, remove what is unfinished and
        old.  Others may write meanwhile.  Interrupted and repeated at will.
        """
        for name in self.names() if candidates is None else list(candidates):
            try:
                if self._is_over(name):
                    self._remove(name)
                    continue
                self.examine(name)
                yield name, ""
            except FileNotFoundError:
                continue  # freed since the listing was made
            except (ChunkError, OSError) as error:
                if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
                    raise
                yield name, self._give_up(name, error)
        self._sweep()

    def _is_over(self, name: str) -> bool:
        """S5 without recipients: it was being removed."""
        if not is_queue_id(name) or self._octets(TODO, name) is not None:
            return False
        return (
            self._octets(INFO, name) is not None
            and self._octets(LOCAL, name) is None
            and self._octets(REMOTE, name) is None
        )

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.free(name)

    def _give_up(self, name: str, error: ChunkError | OSError) -> str:
        """Set aside what can't be read; what can't even be moved stays, and is named."""
        text = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        try:
            self.set_aside(name, "lost" if "is gone" in text else "damaged")
        except OSError as second:
            return f"{text}; it stays where it is: {os.strerror(second.errno or 0)}"
        return text

    def _sweep(self) -> None:
        """Remove what is in no legal state and too old to be still on its way."""
        before = self.now() - int(self.unfinished_s)
        todo, info = (set(self.disk.listdir(part)) for part in (TODO, INFO))
        needed = {MESS: todo | info, **dict.fromkeys((LOCAL, REMOTE, BOUNCE), todo | info)}
        if self.cleaner is None:
            needed |= {PID: set[str](), INTD: todo}
        for part, kept in needed.items():
            for name in self.disk.listdir(part):
                if is_queue_id(name) and name not in kept and made_s(name) <= before:
                    if part == MESS and self.cleaner is not None:
                        self.cleaner(name, "foop")
                    else:
                        unlink_if_there(self.disk, path_of(part, name))
