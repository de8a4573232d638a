"""The narrow boundary to the disk, and plans: commit protocols as data.

All disk work of the MTA is either one of `Disk`'s methods or an `Op` of a plan, so that it can be
recorded, enumerated, failed and counted.  Paths are relative to the store's root, and the real
disk resolves them below a directory descriptor: a store that was handed a directory reaches
nothing else by this boundary.

Theory of operation: a plan is a sequence of `Op`; its order is the durability argument.  `run`
executes it and stops at the first failure.  A completed `sync` forces a file's octets; only
`sync_dir` forces names (persistence model P3).  `reply` stands for the promise to the client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

_T = TypeVar("_T")


class Op(NamedTuple):
    """One disk operation of a plan.

    kind: create, write, writeback (start it, don't wait), sync, sync_dir, rename, link, unlink,
    truncate, mkdir, close, reply.  path: relative to the root.  data: octets of a write.
    target: second path of rename and link.
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
    def write(self, handle: int, data: bytes) -> None: ...
    def read(self, handle: int, size: int, offset: int) -> bytes: ...
    def size(self, handle: int) -> int: ...
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


class PosixDisk:
    """The real one, below a directory that is held open.  Symbolic links are not followed."""

    def __init__(self, root: str | os.PathLike[str] | int) -> None:
        # O_PATH: a root that may be entered but not listed will do.
        flags = os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC
        self._root = root if isinstance(root, int) else os.open(root, flags)

    def create(self, path: str, mode: int = 0o600) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, mode, dir_fd=self._root)

    def open_read(self, path: str) -> int:
        # O_NONBLOCK: a fifo under a queue name must not hang its reader.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(path, flags, dir_fd=self._root)

    def open_append(self, path: str) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, dir_fd=self._root)

    def write(self, handle: int, data: bytes) -> None:
        written = os.write(handle, data)
        while written < len(data):
            more = os.write(handle, memoryview(data)[written:])
            if more == 0:
                raise OSError(5, "write made no progress")
            written += more

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def writeback(self, handle: int) -> None:
        # Linux starts the write-back of dirty pages on DONTNEED (mm/fadvise.c) and does not wait;
        # pages under write-back stay cached, so the reader that follows finds them.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, handle: int) -> None:
        os.fsync(handle)

    def sync_dir(self, path: str) -> None:
        self._with_directory(path, os.fsync)

    def close(self, handle: int) -> None:
        os.close(handle)

    def rename(self, path: str, target: str) -> None:
        os.rename(path, target, src_dir_fd=self._root, dst_dir_fd=self._root)

    def link(self, path: str, target: str) -> None:
        os.link(path, target, src_dir_fd=self._root, dst_dir_fd=self._root, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path, dir_fd=self._root)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        os.mkdir(path, mode, dir_fd=self._root)

    def listdir(self, path: str) -> list[str]:
        return self._with_directory(path, os.listdir)

    def _with_directory(self, path: str, action: Callable[[int], _T]) -> _T:
        # Opened anew each time: a mailbox that was moved away must not be synced in place of the
        # one that took its name.
        flags = os.O_DIRECTORY | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(path or ".", flags, dir_fd=self._root)
        try:
            return action(handle)
        finally:
            os.close(handle)


def run(disk: Disk, plan: Iterable[Op], reply: Callable[[str], None]) -> None:
    """Execute a whole plan; `reply(token)` is called where the plan says so.  Raises OSError."""
    handles: dict[str, int] = {}
    try:
        for op in plan:
            _perform(disk, op, handles, reply)
    finally:
        for handle in handles.values():
            disk.close(handle)


def _perform(disk: Disk, op: Op, handles: dict[str, int], reply: Callable[[str], None]) -> None:
    match op.kind:
        case "create":
            handles[op.path] = disk.create(op.path)
        case "write":
            disk.write(handles[op.path], op.data)
        case "writeback":
            disk.writeback(handles[op.path])
        case "sync":
            disk.sync(handles[op.path])
        case "sync_dir":
            disk.sync_dir(op.path)
        case "rename":
            disk.rename(op.path, op.target)
            if op.path in handles:
                handles[op.target] = handles.pop(op.path)
        case "link":
            disk.link(op.path, op.target)
        case "unlink":
            disk.unlink(op.path)
        case "mkdir":
            disk.mkdir(op.path)
        case "close":
            disk.close(handles.pop(op.path))
        case "reply":
            reply(op.path)
        case _:
            raise ValueError(f"no such disk operation: {op.kind}")
