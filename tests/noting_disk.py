"""The real disk, which takes notes and fails where it is told to: for tests of roles."""

from __future__ import annotations

import os
from pathlib import Path

from refmta.stores.disk import PosixDisk


class NotingDisk(PosixDisk):
    """`done`: the operations that change something, in order."""

    #: Whether half of a write that is to fail gets through, as on a disk that is full.
    torn_writes = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.done: list[str] = []
        #: operation -> (how many of them succeed first, error number)
        self.failing: dict[str, tuple[int, int]] = {}

    def fail(self, operation: str, number: int, *, after: int = 0) -> None:
        self.failing[operation] = (after, number)

    def _note(self, operation: str) -> None:
        self.done.append(operation)
        after, number = self.failing.get(operation, (-1, 0))
        if after == 0:
            del self.failing[operation]
            raise OSError(number, os.strerror(number))
        if after > 0:
            self.failing[operation] = (after - 1, number)

    def create(self, path: str, mode: int = 0o600) -> int:
        self._note("create")
        return super().create(path, mode)

    def write(self, handle: int, data: bytes) -> None:
        if self.torn_writes and "write" in self.failing:
            super().write(handle, data[: len(data) // 2])
        self._note("write")
        super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._note("sync")
        super().sync(handle)

    def rename(self, path: str, target: str) -> None:
        self._note("rename")
        super().rename(path, target)

    def sync_dir(self, path: str) -> None:
        self._note("sync_dir")
        super().sync_dir(path)

    def unlink(self, path: str) -> None:
        self._note("unlink")
        super().unlink(path)
