"""Unique Atomic Chunks: one uniquely named unit per message, published by one atomic step.

Context (paper, section 3): several processes write, read and delete the same mail.
Problem: a file that is shared needs a lock, which a crash leaves behind; an update in place tears.
Forces: a promise to the client must outlive a power cut; a sync costs more than all else that is
done for a message.
Solution: a unit is written under a name that nobody used before, and it is published by one step
that is there or not: the sync of a directory, or a rename.  What must happen in which order is a
*plan*: a sequence of `Op`, data, which is proved, enumerated and counted without a disk.  Units
that are ready at one moment share one plan, and so the sync of the directory.
Observable claim: cut or killed anywhere, each unit is absent or whole; no reply comes before the
syncs of its file and of its name; no file of the queue is ever locked.

Theory of operation: the order of a plan is the durability argument.  A completed `sync` forces a
file's octets; only `sync_dir` forces names (persistence model P3).  `reply` stands for the promise
to the client.  `carry_out` carries out the plan of a group and never tries a failed sync again: the
kernel may have dropped the pages, and would report success the second time.  The plans themselves
are in `stores`; so is the real disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol


class Op(NamedTuple):
    """One disk operation of a plan.

    kind: create, write, writeback (start it, don't wait), sync, sync_dir, rename, link, unlink,
    overwrite, chmod, truncate, reply.  path: relative to the root.  data: octets of a write.
    target: second path of rename and link; the offset of an overwrite, the mode of a chmod (octal),
    the length of a truncate, as text.
    """

    kind: str
    path: str
    data: bytes = b""
    target: str = ""


class Disk(Protocol):
    """What a store may do.  Methods raise OSError; handles are small integers."""

    def create(self, path: str, mode: int = 0o600) -> int: ...
    def open_read(self, path: str) -> int: ...
    def open_append(self, path: str) -> int: ...
    def open_change(self, path: str) -> int:
        """For `overwrite`: whoever updates in place (qmail's marks, Postfix's) needs it."""
        ...

    def write(self, handle: int, data: bytes) -> None: ...
    def read(self, handle: int, size: int, offset: int) -> bytes: ...
    def overwrite(self, handle: int, data: bytes, offset: int) -> None: ...
    def size(self, handle: int) -> int: ...
    def mode(self, handle: int) -> int:
        """The permission bits."""
        ...

    def chmod(self, handle: int, mode: int) -> None: ...
    def lock(self, handle: int) -> bool:
        """flock, exclusively, without waiting; it goes when the last duplicate of the handle is
        closed.  False: somebody else has it.
        """
        ...

    def truncate(self, handle: int, size: int) -> None: ...
    def writeback(self, handle: int) -> None: ...
    def sync(self, handle: int) -> None: ...
    def sync_dir(self, path: str) -> None: ...
    def close(self, handle: int) -> None: ...
    def rename(self, path: str, target: str) -> None: ...
    def link(self, path: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def mkdir(self, path: str, mode: int = 0o700) -> None: ...
    def listdir(self, path: str) -> list[str]: ...


class Failures(NamedTuple):
    """What did not become durable: units that failed alone, by path, and whoever else shared a
    directory that could not be synced.
    """

    units: dict[str, OSError]
    directory: OSError | None = None


def carry_out(disk: Disk, plan: Iterable[Op], handles: Mapping[str, int]) -> Failures:
    """Carry out a group's plan on open files, by their paths.  Raises nothing of the disk's.

    A unit that fails fails alone, and nothing more is done with it; a directory that can't be
    synced fails the group.  Replies are the caller's, who knows by this what it may promise.
    """
    failures = Failures({})
    for op in plan:
        try:
            if op.kind == "sync_dir":
                disk.sync_dir(op.path)
            elif op.path not in failures.units:
                _perform(disk, op, handles)
        except OSError as error:
            if op.kind == "sync_dir":
                failures = failures._replace(directory=error)
            else:
                failures.units[op.path] = error
    return failures


def _perform(disk: Disk, op: Op, handles: Mapping[str, int]) -> None:
    match op.kind:
        case "writeback":
            disk.writeback(handles[op.path])
        case "sync":
            disk.sync(handles[op.path])
        case "rename":
            disk.rename(op.path, op.target)
        case "reply":
            pass
        case _:
            raise ValueError(f"not for a group: {op.kind}")
