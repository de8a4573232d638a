"""The narrow boundary to the disk.

All disk work of the MTA is one of `Disk`'s methods, so that it can be recorded, enumerated, failed
and counted; its order is a plan (`patterns.unique_atomic_chunks`).  Paths are relative to the
store's root, and the real disk resolves them below a directory descriptor: a store that was handed
a directory reaches nothing else by this boundary.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from refmta.patterns.unique_atomic_chunks import Disk

__all__ = ["Disk", "PosixDisk", "out_of_space"]

_T = TypeVar("_T")


def out_of_space(error: OSError) -> bool:
    """Whether the disk or the quota is full: the client gets 452, not 451."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class PosixDisk:
    """The real one, below a directory that is held open.  Symbolic links are not followed."""

    def __init__(self, root: str | os.PathLike[str] | int) -> None:
        # O_PATH: a root that may be entered but not listed will do.
        flags = os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC
        self._root = root if isinstance(root, int) else os.open(root, flags)

    def leave(self) -> None:
        """Let go of the root: nothing more is done here.  Handles that are open stay open."""
        os.close(self._root)

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

    def open_change(self, path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)

    def write(self, handle: int, data: bytes) -> None:
        written = os.write(handle, data)
        while written < len(data):
            more = os.write(handle, memoryview(data)[written:])
            if more == 0:
                raise OSError(5, "write made no progress")
            written += more

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        if os.pwrite(handle, data, offset) != len(data):
            raise OSError(5, "write made no progress")

    def mode(self, handle: int) -> int:
        return stat.S_IMODE(os.fstat(handle).st_mode)

    def chmod(self, handle: int, mode: int) -> None:
        os.fchmod(handle, mode)

    def lock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

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
