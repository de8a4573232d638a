"""The queue of our own architecture: one self-certifying chunk per message, committed in groups.

The protocol (pattern: Unique Atomic Chunks; paper section 3):

    create chunks/ID; write it; ... the same for every message that is complete now
    start the write-back of each; sync each; sync chunks/ once; reply 250 to each

The chunk is made at once under its final name, and no rename publishes it: its content certifies
itself (`wire.envelope`), which costs one journal commit where temporary names cost two.  The
price: a crash may leave a chunk that is torn, under a valid name.  It was never acknowledged, or
its disk lies; either way recovery sets it aside with the reason and drops nothing.

Legal states of a message (the instant of commit is the return of the directory sync):

    chunks/ID torn                being written, or a crash came before the commit: set aside
    chunks/ID whole               committed, or whole by luck before the commit: it is delivered
    chunks/ID whole, marks        some recipients have had their outcome
    chunks/ID and damaged/ID.*    a crash came while it was set aside: recovery ends that
    damaged/ID.*                  set aside
    neither                       refused, aborted, or every recipient is done

Setting aside links before it unlinks, so that no crash loses both names.  What this module leaves
to others: which messages form a group (the enqueue role), and what a mark means
(`protocol.delivery`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import ClassVar

import msgspec

from refmta.patterns.unique_atomic_chunks import Disk, Op, carry_out
from refmta.protocol.delivery import Mark
from refmta.stores.queue import Loaded
from refmta.wire.envelope import (
    MAX_BLOCK,
    Chunk,
    ChunkError,
    Envelope,
    Reader,
    Seal,
    encode_envelope,
    is_queue_id,
    mark_record,
    record,
)

CHUNKS = "chunks"
DAMAGED = "damaged"
#: Errors that say nothing about a file: another process may succeed.
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
#: Octets read at a time by recovery.
READ_OCTETS = 1 << 20

_encode_mark = msgspec.msgpack.Encoder().encode
_decode_mark = msgspec.msgpack.Decoder(Mark).decode


def chunk_path(queue_id: str) -> str:
    """Where a message's chunk lies."""
    return f"{CHUNKS}/{queue_id}"


# -- plans: pure ----------------------------------------------------------------------------------


class Draft:
    """A chunk being written: turns an envelope and pieces of content into disk operations.

    Pieces are gathered into one record until `gather` octets lie ready, so that a small message
    costs one write, and a large one neither more memory than a block nor a record per piece.
    """

    __slots__ = ("_content", "_created", "_gather", "_gathered", "_head", "_seal", "octets", "path")

    def __init__(self, envelope: Envelope, gather: int = MAX_BLOCK) -> None:
        self.path = chunk_path(envelope.queue_id)
        self.octets = 0  # of content
        self._gather = gather
        self._head = encode_envelope(envelope)
        self._content: list[bytes] = []
        self._gathered = 0
        self._seal = Seal()
        self._created = False

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
        ops = [Op("write", self.path, data)]
        if not self._created:
            self._created = True
            ops.insert(0, Op("create", self.path))
        return ops


def commit_plan(paths: Sequence[str]) -> list[Op]:
    """Make a group of written chunks durable, then reply to each: the order is the argument."""
    plan = [Op("writeback", path) for path in paths] if len(paths) > 1 else []
    plan += [Op("sync", path) for path in paths]
    plan.append(Op("sync_dir", CHUNKS))
    plan += [Op("reply", path) for path in paths]
    return plan


def aside_plan(name: str, reason: str) -> list[Op]:
    """Set a chunk aside: at every moment it has one name or both."""
    target = f"{DAMAGED}/{name}.{reason}"
    return [
        Op("link", f"{CHUNKS}/{name}", target=target),
        Op("sync_dir", DAMAGED),
        Op("unlink", f"{CHUNKS}/{name}"),
    ]


# -- the shell ------------------------------------------------------------------------------------


@dataclass(slots=True)
class OpenDraft:
    """A draft on a disk: owns the open file until `close` or `discard`."""

    disk: Disk
    draft: Draft
    _handle: int | None = field(default=None)

    @property
    def path(self) -> str:
        return self.draft.path

    @property
    def octets(self) -> int:
        return self.draft.octets

    @property
    def handle(self) -> int:
        if self._handle is None:
            raise ValueError("the chunk was not created yet")
        return self._handle

    def add(self, content: bytes) -> None:
        """Raises OSError; then the draft must be discarded."""
        self._perform(self.draft.add(content))

    def finish(self) -> None:
        """Write the end record.  Raises OSError; then the draft must be discarded."""
        self._perform(self.draft.finish())

    def _perform(self, ops: Iterable[Op]) -> None:
        for op in ops:
            if op.kind == "create":
                # The group of chunks/ (qmgr) reads the chunk and appends marks.
                self._handle = self.disk.create(op.path, 0o660)
            else:
                self.disk.write(self.handle, op.data)

    def close(self) -> None:
        if self._handle is not None:
            self.disk.close(self._handle)
            self._handle = None

    def discard(self) -> None:
        """Forget the message: nothing was promised.  The file goes, if it can."""
        if self._handle is None:
            return
        self.close()
        try:
            self.disk.unlink(self.path)
        except OSError:
            return  # a torn chunk stays: recovery sets it aside


def commit(disk: Disk, group: Sequence[OpenDraft]) -> dict[str, OSError]:
    """Carry out the commit plan for a group of finished drafts; returns the failures by path.

    A file that can't be synced fails alone; a directory that can't be synced fails the group.
    A path without failure is durable.
    """
    handles = {each.path: each.handle for each in group}
    failed = carry_out(disk, commit_plan(list(handles)), handles)
    together = dict.fromkeys(handles, failed.directory) if failed.directory else {}
    return {**together, **failed.units}


def set_aside(disk: Disk, name: str, reason: str) -> None:
    """Move a chunk out of the queue, durably.  Doing it again after a crash ends it."""
    for op in aside_plan(name, _free_reason(disk, name, reason)):
        try:
            if op.kind == "link":
                disk.link(op.path, op.target)
            elif op.kind == "sync_dir":
                disk.sync_dir(op.path)
            else:
                disk.unlink(op.path)
        except FileExistsError:
            continue  # linked before a crash; what is left is to unlink
        except PermissionError:
            # No file, or another's: Linux lets nobody link it. It is no message of ours, which a
            # crash between the two halves of a rename could lose.
            disk.rename(op.path, op.target)
            disk.sync_dir(DAMAGED)
            return


def _free_reason(disk: Disk, name: str, reason: str) -> str:
    """A queue id is never used again, so what has its name already is the same chunk; a foreign
    file may come twice, and must not take the place of the first.
    """
    if is_queue_id(name):
        return reason
    taken = set(disk.listdir(DAMAGED))
    numbers = (f"{reason}.{number}" for number in count(1))
    return next(each for each in chain([reason], numbers) if f"{name}.{each}" not in taken)


def names(disk: Disk) -> list[str]:
    """The names in the queue, by age."""
    return sorted(disk.listdir(CHUNKS))


def examine(disk: Disk, name: str, *, verify: bool = True) -> Chunk:
    """Read one chunk.  Raises ChunkError (torn, damaged, under another's name) or OSError."""
    if not is_queue_id(name):
        raise ChunkError("the file's name is no queue id")
    handle = disk.open_read(chunk_path(name))
    try:
        return read_chunk(disk, handle, name, verify=verify)
    finally:
        disk.close(handle)


def read_chunk(disk: Disk, handle: int, name: str, *, verify: bool) -> Chunk:
    """Read the chunk that a handle is open on.  Raises ChunkError or OSError."""
    reader, offset = Reader(verify=verify), 0
    while True:
        octets = disk.read(handle, READ_OCTETS, offset)
        if not octets:
            raise ChunkError("no end record: the chunk was cut short")
        offset += len(octets)
        rest = reader.feed(octets)
        if rest is not None:
            break
    while octets := disk.read(handle, READ_OCTETS, offset):
        rest += octets
        offset += len(octets)
    chunk = reader.chunk(rest)
    if chunk.envelope.queue_id != name:
        raise ChunkError("the chunk belongs to another queue id")
    return chunk


def recover(disk: Disk, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """Go through the queue after a start: yields (name, reason), an empty reason for whole ones.

    What is not whole is set aside before it is yielded.  Interrupted and repeated at will.
    `candidates`: names to look at; all by default.
    """
    for name in names(disk) if candidates is None else candidates:
        try:
            examine(disk, name)
            yield name, ""
        except FileNotFoundError:
            continue  # freed since the listing was made
        except (ChunkError, OSError) as error:
            if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
                raise
            yield name, _give_up(disk, name, error)


def _give_up(disk: Disk, name: str, error: ChunkError | OSError) -> str:
    """Set aside what can't be read as a chunk (a fifo, a file of root's); returns the reason.

    One such thing must not hold up all others, so what can't even be moved stays, and is named.
    """
    text = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    try:
        set_aside(disk, name, "torn" if "cut short" in text else "damaged")
    except OSError as second:
        return f"{text}; it stays where it is: {os.strerror(second.errno or 0)}"
    return text


# -- marks ----------------------------------------------------------------------------------------


def load(disk: Disk, queue_id: str) -> Loaded:
    """Open a chunk, read only, and read its envelope and marks.

    The digest is not checked here: the delivery agent checks it while it copies the content, and
    reports `damaged`.  Raises ChunkError, FileNotFoundError, OSError; then nothing stays open.
    """
    handle = disk.open_read(chunk_path(queue_id))
    try:
        chunk = read_chunk(disk, handle, queue_id, verify=False)
        marks = tuple([_decode_mark(payload) for payload in chunk.marks])
        end = chunk.certified + sum(len(mark_record(payload)) for payload in chunk.marks)
        return Loaded(
            handle=handle,
            envelope=chunk.envelope,
            marks=marks,
            end=end,
            octets=chunk.content_octets,
        )
    except msgspec.DecodeError as error:
        disk.close(handle)
        raise ChunkError("a mark is not what was written") from error
    except BaseException:
        disk.close(handle)
        raise


def append_marks(disk: Disk, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
    """Append marks at `end`; returns the new end.  Raises OSError.

    Not synced: a mark that a crash takes back costs a second delivery at most.  What lies behind
    `end` is a torn mark, which would hide the new ones: it is cut off first.
    """
    octets = b"".join([mark_record(_encode_mark(mark)) for mark in marks])
    handle = disk.open_append(chunk_path(queue_id))
    try:
        if disk.size(handle) > end:
            disk.truncate(handle, end)
            # Rare, and worth a sync: if a crash took the truncation back and kept the write, old
            # marks would stand behind the new ones, and say of them what was said of others.
            disk.sync(handle)
        disk.write(handle, octets)
    finally:
        disk.close(handle)
    return end + len(octets)


# -- as a store among others ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunks:
    """`stores.queue.QueueStore`, by the functions above.  It belongs to one enqueue and one qmgr:
    nothing is claimed, and nothing moves.
    """

    disk: Disk
    logs_envelopes: ClassVar[bool] = False

    def draft(self, envelope: Envelope) -> OpenDraft:
        """Nothing is written before the first content."""
        return OpenDraft(self.disk, Draft(envelope))

    def commit(self, group: Sequence[OpenDraft]) -> dict[str, OSError]:
        return commit(self.disk, group)

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        """A chunk holds its envelope."""
        return {}

    def confirm(self, queue_id: str) -> None:
        """`commit` puts nothing off."""

    def names(self) -> list[str]:
        return names(self.disk)

    def load(self, queue_id: str) -> Loaded:
        return load(self.disk, queue_id)

    def look(self, queue_id: str) -> Loaded:
        return load(self.disk, queue_id)

    def open(self, queue_id: str) -> int:
        return self.disk.open_read(chunk_path(queue_id))

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        return append_marks(self.disk, queue_id, end, marks)

    def rested(self, queue_id: str) -> None:
        """It waits where it lies."""

    def free(self, queue_id: str) -> None:
        self.disk.unlink(chunk_path(queue_id))

    def release(self, queue_id: str) -> None:
        """Nobody else delivers from here."""

    def examine(self, queue_id: str) -> None:
        examine(self.disk, queue_id)

    def set_aside(self, queue_id: str, reason: str) -> None:
        set_aside(self.disk, queue_id, reason)

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        """See above; `candidates` keeps it away from what is being written."""
        return recover(self.disk, candidates)
