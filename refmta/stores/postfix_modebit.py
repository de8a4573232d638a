"""Postfix's queue: one file per message, complete when it is executable.

    create incoming/tmp.ID; rename it to incoming/ID; write records, the end record last
    fchmod u+x; fsync; close; reply 250                                      (cleanup)
    rename incoming/ID to active/ID ... active/ID to deferred/ID and back    (qmgr, no sync)

Source: mail_queue_enter() and mail_stream_finish_file() of src/global, whose comment has the
argument about the order of the last steps: the mode may reach the disk before the data, and that
is harmless, since a file is refused unless its typed records end with the end record.  The records
are ours (`wire.envelope`), whose end record also has a digest of all octets; so a mark is appended
(Postfix overwrites the type of a recipient's record, R by D).

Legal states of a message (the instant of commit is the return of the fsync):

    incoming/tmp.ID                         being written, or unfinished
    incoming/ID, not executable             being written, or unfinished
    incoming/ID, executable, torn           a crash before the commit, mode before data: corrupt/
    incoming/ID, executable, whole          committed, or whole by luck
    active/ID                               qmgr has it
    deferred/ID                             it waits for its next attempt
    active/ID and incoming/ID, one file     a rename that a crash cut in two: recovery ends it
    corrupt/ID.*                            set aside

Unfinished files are removed by recovery when they are older than a day, as by `postsuper -p`: a
cleanup process may be writing when qmgr starts.  A queue id tells its own age.

What a crash may do.  The directory is never synced: the fsync of the file is trusted to make its
name durable, and a later rename to leave the old name or the new one.  That is the persistence
model P2 (and P1); under P3 acknowledged mail is lost, with renames atomic and split.

What this module leaves to others: when mail moves (qmgr), which messages are committed together
(each by itself: a cleanup process has one message).  The directories defer, trace, hold and saved
are not here; queue ids are our own, and a queue is one directory each, never hashed into more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from refmta.patterns.unique_atomic_chunks import Disk, Op
from refmta.protocol.delivery import Mark
from refmta.stores.chunks import read_chunk
from refmta.stores.queue import Claimed, Loaded
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
    Chunk,
    ChunkError,
    Envelope,
    Seal,
    encode_envelope,
    is_queue_id,
    made_s,
    record,
)

INCOMING: Final = "incoming"
ACTIVE: Final = "active"
DEFERRED: Final = "deferred"
CORRUPT: Final = "corrupt"
#: What has to be there before the store is used.
DIRECTORIES: Final = (INCOMING, ACTIVE, DEFERRED, CORRUPT)
TEMPORARY: Final = "tmp."
#: Of a file that is being written, and of one that is complete.
MODE: Final = 0o600
COMPLETE: Final = 0o700
EXECUTABLE: Final = 0o100
#: Unfinished files that are older were left by a crash.
UNFINISHED_S: Final = 24 * 60 * 60


# -- plans: pure ----------------------------------------------------------------------------------


def incoming_path(queue_id: str) -> str:
    """Where a message is written."""
    return f"{INCOMING}/{queue_id}"


def enter_plan(queue_id: str) -> list[Op]:
    """A new file under its queue id, which nobody takes for complete."""
    temporary, path = f"{INCOMING}/{TEMPORARY}{queue_id}", incoming_path(queue_id)
    return [Op("create", temporary), Op("rename", temporary, target=path)]


class Writing:
    """The records of a message as disk operations; pieces are gathered as in `stores.chunks`."""

    __slots__ = ("_content", "_gather", "_gathered", "_head", "_queue_id", "_seal", "octets")

    def __init__(self, envelope: Envelope, gather: int = MAX_BLOCK) -> None:
        self.octets = 0  # of content
        self._queue_id = envelope.queue_id
        self._gather = gather
        self._head = encode_envelope(envelope)
        self._content: list[bytes] = []
        self._gathered = 0
        self._seal = Seal()

    def add(self, content: bytes) -> list[Op]:
        """A piece of content, at most MAX_BLOCK octets."""
        ops = self._write() if self._gathered + len(content) > MAX_BLOCK else []
        self._content.append(content)
        self._gathered += len(content)
        self.octets += len(content)
        return ops + self._write() if self._gathered >= self._gather else ops

    def finish(self) -> list[Op]:
        """What is left to write, the end record last."""
        return self._write(final=True)

    def _write(self, *, final: bool = False) -> list[Op]:
        data = self._head
        if self._content:
            data += record(b"B", b"".join(self._content))
        self._head, self._content, self._gathered = b"", [], 0
        self._seal.update(data)
        if final:
            data += self._seal.end_record()
        return [Op("write", incoming_path(self._queue_id), data)]


def commit_plan(queue_id: str) -> list[Op]:
    """Complete, then durable, then the reply: mail_stream_finish_file()."""
    path = incoming_path(queue_id)
    return [Op("chmod", path, target=f"{COMPLETE:o}"), Op("sync", path), Op("reply", path)]


# -- the way in -----------------------------------------------------------------------------------


class Draft:
    """A message in incoming/, its file open until `close` or `discard`."""

    __slots__ = ("_entered", "_files", "_queue_id", "_writing")

    def __init__(self, disk: Disk, envelope: Envelope, gather: int = MAX_BLOCK) -> None:
        self._queue_id = envelope.queue_id
        self._files = OpenFiles(disk, MODE)
        self._writing = Writing(envelope, gather)
        self._entered = False

    @property
    def octets(self) -> int:
        """Of content."""
        return self._writing.octets

    @property
    def path(self) -> str:
        return incoming_path(self._queue_id)

    @property
    def handle(self) -> int | None:
        return self._files.handles.get(self.path)

    def add(self, content: bytes) -> None:
        """Raises OSError; then the draft must be discarded."""
        self._perform(self._writing.add(content))

    def finish(self) -> None:
        """Write the end record.  Raises OSError; then the draft must be discarded."""
        self._perform(self._writing.finish())

    def _perform(self, ops: list[Op]) -> None:
        if ops and not self._entered:
            self._entered = True
            self._files.perform(enter_plan(self._queue_id))
        self._files.perform(ops)

    def commit(self) -> None:
        """Raises OSError; then the draft must be discarded."""
        self._files.perform(commit_plan(self._queue_id))

    def close(self) -> None:
        self._files.close()

    def discard(self) -> None:
        """Forget the message: nothing was promised.  The file goes, if it can."""
        self.close()
        try:
            temporary = f"{INCOMING}/{TEMPORARY}{self._queue_id}"
            unlink_if_there(self._files.disk, *([temporary, self.path] if self._entered else []))
        except OSError:
            return  # unfinished: recovery removes it


# -- the store ------------------------------------------------------------------------------------


@dataclass(slots=True)
class PostfixModebit:
    """`stores.queue.QueueStore`.  Many processes write, one delivers.

    unfinished_s: the age from which what is unfinished is removed; a text, as options are.
    """

    disk: Disk
    unfinished_s: str = str(UNFINISHED_S)
    now: Callable[[], float] = time.time
    logs_envelopes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.unfinished_s.isdigit():
            raise ValueError("unfinished_s: a number of seconds")

    # ---- the way in ---------------------------------------------------------------------------

    def draft(self, envelope: Envelope) -> Draft:
        """Nothing is written before the first content."""
        return Draft(self.disk, envelope)

    def commit(self, group: Sequence[Draft]) -> dict[str, OSError]:
        """Each by itself: what fails fails alone."""
        failures: dict[str, OSError] = {}
        for each in group:
            try:
                each.commit()
            except OSError as error:
                failures[each.path] = error
        return failures

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        """A file holds its envelope."""
        return {}

    def confirm(self, queue_id: str) -> None:
        """`commit` puts nothing off."""

    # ---- delivery -----------------------------------------------------------------------------

    def names(self) -> list[str]:
        """All in active/ and deferred/, and what is complete in incoming/."""
        found = {*self.disk.listdir(ACTIVE), *self.disk.listdir(DEFERRED)}
        for name in self.disk.listdir(INCOMING):
            if not name.startswith(TEMPORARY) and self._is_complete(name):
                found.add(name)
        return sorted(found)

    def _is_complete(self, name: str) -> bool:
        """Whether a name in incoming/ is of a complete file; a stranger's is for recovery."""
        try:
            handle = self.disk.open_read(incoming_path(name))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                raise
            return True
        try:
            return not is_queue_id(name) or bool(self.disk.mode(handle) & EXECUTABLE)
        finally:
            self.disk.close(handle)

    def load(self, queue_id: str) -> Loaded:
        """Move it to active/, without a sync, and read its envelope and marks.

        Raises Claimed while it is being written.  The digest is the delivery agent's to check.
        """
        directory, loaded = self._read(queue_id)
        if directory != ACTIVE:
            try:
                self.disk.rename(f"{directory}/{queue_id}", f"{ACTIVE}/{queue_id}")
            except BaseException:
                self.disk.close(loaded.handle)
                raise
        return loaded

    def look(self, queue_id: str) -> Loaded:
        """As `load`, without moving it; unfinished ones are not there."""
        try:
            return self._read(queue_id)[1]
        except Claimed:
            raise FileNotFoundError(2, os.strerror(2), incoming_path(queue_id)) from None

    def _read(self, queue_id: str) -> tuple[str, Loaded]:
        """Where it lies, and the message, opened."""
        directory, handle = self._open(queue_id)
        try:
            if directory == INCOMING and not self.disk.mode(handle) & EXECUTABLE:
                raise Claimed(queue_id)
            chunk = read_chunk(self.disk, handle, queue_id, verify=False)
            marks, length = decode_marks(self._behind(handle, chunk))
        except BaseException:
            self.disk.close(handle)
            raise
        return directory, Loaded(
            handle=handle,
            envelope=chunk.envelope,
            marks=marks,
            end=chunk.certified + length,
            octets=chunk.content_octets,
        )

    def _behind(self, handle: int, chunk: Chunk) -> bytes:
        """What was appended after the end record."""
        return self.disk.read(handle, self.disk.size(handle) - chunk.certified, chunk.certified)

    def _open(self, queue_id: str) -> tuple[str, int]:
        """Where it lies, and a descriptor.  Raises FileNotFoundError if it is nowhere."""
        if not is_queue_id(queue_id):
            raise ChunkError("the file's name is no queue id")
        for directory in (ACTIVE, INCOMING, DEFERRED):
            try:
                return directory, self.disk.open_read(f"{directory}/{queue_id}")
            except FileNotFoundError:
                continue
        raise FileNotFoundError(2, os.strerror(2), queue_id)

    def open(self, queue_id: str) -> int:
        """One more descriptor on the file."""
        return self._open(queue_id)[1]

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        """Behind the end record, not synced; returns the new end."""
        octets = encode_marks(marks)
        for directory in (ACTIVE, DEFERRED):
            try:
                return append_at(self.disk, f"{directory}/{queue_id}", end, octets)
            except FileNotFoundError:
                continue
        return append_at(self.disk, incoming_path(queue_id), end, octets)

    def rested(self, queue_id: str) -> None:
        """active/ to deferred/, without a sync (qmgr_active_defer)."""
        try:
            self.disk.rename(f"{ACTIVE}/{queue_id}", f"{DEFERRED}/{queue_id}")
        except FileNotFoundError:
            return  # it rests already

    def free(self, queue_id: str) -> None:
        """Whatever name it has; mostly the first."""
        for directory in (ACTIVE, DEFERRED, INCOMING):
            try:
                return self.disk.unlink(f"{directory}/{queue_id}")
            except FileNotFoundError:
                continue
        raise FileNotFoundError(2, os.strerror(2), queue_id)

    def release(self, queue_id: str) -> None:
        """Nobody else delivers from here."""

    # ---- after a crash ------------------------------------------------------------------------

    def examine(self, queue_id: str) -> None:
        """Read all of it, and check the digest.  Raises ChunkError, OSError."""
        _, handle = self._open(queue_id)
        try:
            read_chunk(self.disk, handle, queue_id, verify=True)
        finally:
            self.disk.close(handle)

    def set_aside(self, queue_id: str, reason: str) -> None:
        """To corrupt/, durably, from wherever it is."""
        target = f"{CORRUPT}/{queue_id}.{free_reason(queue_id, reason, self.disk.listdir(CORRUPT))}"
        places = [each for each in (ACTIVE, INCOMING, DEFERRED) if self._lies_in(each, queue_id)]
        carry_aside(self.disk, [(f"{each}/{queue_id}", target) for each in places], CORRUPT)

    def _lies_in(self, directory: str, name: str) -> bool:
        return name in self.disk.listdir(directory)

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        """What is complete and torn goes to corrupt/; what is unfinished and old is removed.

        Others may write meanwhile.  Interrupted and repeated at will.
        """
        self._end_moves()
        for name in self.names() if candidates is None else list(candidates):
            try:
                self.examine(name)
                yield name, ""
            except FileNotFoundError:
                continue  # freed since the listing was made
            except (ChunkError, OSError) as error:
                if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
                    raise
                yield name, self._give_up(name, error)
        self._sweep()

    def _end_moves(self) -> None:
        """A message has one name: a move that a crash cut in two is ended, or taken back."""
        taken: set[str] = set()
        for directory in (ACTIVE, INCOMING, DEFERRED):
            for name in self.disk.listdir(directory):
                if name in taken and is_queue_id(name):
                    unlink_if_there(self.disk, f"{directory}/{name}")
            taken.update(self.disk.listdir(directory))

    def _give_up(self, name: str, error: ChunkError | OSError) -> str:
        """Set aside what can't be read; what can't even be moved stays, and is named."""
        text = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        try:
            self.set_aside(name, "torn" if "cut short" in text else "damaged")
        except OSError as second:
            return f"{text}; it stays where it is: {os.strerror(second.errno or 0)}"
        return text

    def _sweep(self) -> None:
        """Remove from incoming/ what is unfinished and too old to be still written."""
        before = self.now() - int(self.unfinished_s)
        for name in self.disk.listdir(INCOMING):
            queue_id = name.removeprefix(TEMPORARY)
            if not is_queue_id(queue_id) or made_s(queue_id) > before:
                continue
            if queue_id != name or not self._is_complete(name):
                unlink_if_there(self.disk, f"{INCOMING}/{name}")
