"""Plans of more than one file, carried out step by step; and setting aside, in two durable halves.

`patterns.unique_atomic_chunks.carry_out` syncs a group of files that are open already.  The stores
of qmail and of Postfix make, link and rename files on the way: `OpenFiles` carries such a plan out
in its order, and knows each file by the name that it has at that moment.  An error ends the plan;
what was made until then is the store's to remove.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count

import msgspec

from refmta.patterns.unique_atomic_chunks import Disk, Op
from refmta.protocol.delivery import Mark
from refmta.wire.envelope import ChunkError, is_queue_id, mark_record, split_marks

#: Errors that say nothing about a file: another process may succeed.
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

_encode_mark = msgspec.msgpack.Encoder().encode
_decode_mark = msgspec.msgpack.Decoder(Mark).decode


@dataclass(slots=True)
class OpenFiles:
    """Files that a plan has made, by name, until `close`.  mode: of what it creates."""

    disk: Disk
    mode: int = 0o600
    handles: dict[str, int] = field(default_factory=dict)

    def perform(self, plan: Iterable[Op]) -> None:
        """Do it, step by step.  Raises OSError at the first step that fails."""
        for op in plan:
            self._perform(op)

    def _perform(self, op: Op) -> None:
        disk, handles = self.disk, self.handles
        match op.kind:
            case "create":
                handles[op.path] = disk.create(op.path, self.mode)
            case "write":
                disk.write(handles[op.path], op.data)
            case "chmod":
                disk.chmod(handles[op.path], int(op.target, 8))
            case "sync":
                disk.sync(handles[op.path])
            case "link":
                disk.link(op.path, op.target)
                if op.path in handles:
                    handles[op.target] = handles[op.path]
            case "rename":
                disk.rename(op.path, op.target)
                if op.path in handles:
                    handles[op.target] = handles.pop(op.path)
            case "unlink":
                disk.unlink(op.path)
                self._forget(op.path)
            case "sync_dir":
                disk.sync_dir(op.path)
            case "reply":
                pass  # the caller's, who knows by the end of the plan what it may promise
            case _:
                raise ValueError(f"not for a plan of files: {op.kind}")

    def _forget(self, path: str) -> None:
        """One name fewer; the file is closed with the last that was known here."""
        handle = self.handles.pop(path, None)
        if handle is not None and handle not in self.handles.values():
            self.disk.close(handle)

    def close(self, path: str | None = None) -> None:
        """Of one name, or of all."""
        for each in list(self.handles) if path is None else [path]:
            self._forget(each)


def unlink_if_there(disk: Disk, *paths: str) -> None:
    """In this order.  Raises OSError, unless a name is gone already."""
    for path in paths:
        with suppress(FileNotFoundError):
            disk.unlink(path)


# -- setting aside --------------------------------------------------------------------------------


def aside_plan(moves: Sequence[tuple[str, str]], directory: str) -> list[Op]:
    """Set these names aside, each to its target in this directory: at every moment each file has
    its old name or its new one, or both.
    """
    plan = [Op("link", path, target=target) for path, target in moves]
    plan.append(Op("sync_dir", directory))
    return plan + [Op("unlink", path) for path, _ in moves]


def carry_aside(disk: Disk, moves: Sequence[tuple[str, str]], directory: str) -> None:
    """Carry that plan out.  Doing it again after a crash ends it.  Raises OSError."""
    for op in aside_plan(moves, directory):
        if op.kind == "link":
            _link_aside(disk, op)
        elif op.kind == "sync_dir":
            disk.sync_dir(op.path)
        else:
            unlink_if_there(disk, op.path)


def _link_aside(disk: Disk, op: Op) -> None:
    try:
        disk.link(op.path, op.target)
    except FileExistsError:
        return  # linked before a crash; what is left is to unlink
    except PermissionError:
        # No file, or another's: Linux lets nobody link it. It is no message of ours, which a crash
        # between the two halves of a rename could lose.
        disk.rename(op.path, op.target)


def free_reason(name: str, reason: str, taken: Iterable[str]) -> str:
    """The reason, or one with a number behind it.  A queue id is never used again, so what has its
    name already is the same message; a stranger's file may come twice, and must not take the place
    of the first.  taken: what begins like a name that was set aside.
    """
    if is_queue_id(name):
        return reason
    known = tuple(taken)
    numbers = (f"{reason}.{number}" for number in count(1))
    candidates = chain([reason], numbers)
    return next(
        each
        for each in candidates
        if not any(old == f"{name}.{each}" or old.startswith(f"{name}.{each}.") for old in known)
    )


# -- marks ----------------------------------------------------------------------------------------


def encode_marks(marks: Iterable[Mark]) -> bytes:
    """Mark records, each with a checksum of its own (`wire.envelope`)."""
    return b"".join([mark_record(_encode_mark(mark)) for mark in marks])


def decode_marks(octets: bytes) -> tuple[tuple[Mark, ...], int]:
    """The marks up to the first that is torn, and where they end.  Raises ChunkError for a whole
    one that nobody here wrote.
    """
    payloads = list(split_marks(octets))
    try:
        marks = tuple([_decode_mark(payload) for payload in payloads])
    except msgspec.DecodeError as error:
        raise ChunkError("a mark is not what was written") from error
    return marks, sum([len(mark_record(payload)) for payload in payloads])


def append_at(disk: Disk, path: str, end: int, octets: bytes) -> int:
    """Append at `end`; returns the new end.  Not synced; see `stores.queue`.  Raises OSError.

    What lies behind `end` is a torn mark, which would hide the new ones: it is cut off first, and
    durably, lest a crash bring old marks back behind the new ones.
    """
    handle = disk.open_append(path)
    try:
        if disk.size(handle) > end:
            disk.truncate(handle, end)
            disk.sync(handle)
        disk.write(handle, octets)
    finally:
        disk.close(handle)
    return end + len(octets)
