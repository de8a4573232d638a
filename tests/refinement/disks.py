"""Disks for refinement machines: they can be cut off in the middle, and cost what they must.

- `Fused`: a disk in memory whose fuse blows after so many changes: the operation in progress (of a
  write, its first half) is done, and nothing after it.
- `Twin`: the same calls on a real directory and on the disk in memory. Both must answer the same,
  so the model is checked against the kernel on the way; what a crash leaves is worked out from the
  model's record and then laid down as a real directory.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refmta.stores.disk import PosixDisk
from specs.persistence.model_disk import ModelDisk, Snapshot

CHANGES = frozenset(
    {"create", "write", "truncate", "sync", "sync_dir", "rename", "link", "unlink", "mkdir"}
)


class PowerCut(BaseException):
    """The machine is gone: no code of the store's may catch it."""


class DisksDisagree(AssertionError):
    """The real directory and the model gave two answers to one call."""


class Fused:
    """A ModelDisk with a fuse. `fuse`: changes that are still done; None: no limit."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.initial = snapshot
        self.model = ModelDisk(snapshot)
        self.fuse: int | None = None

    @property
    def record(self) -> list[Any]:
        return self.model.record

    def open_handles(self) -> tuple[str, ...]:
        return self.model.open_handles()

    def forget(self) -> None:
        """The machine is gone."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self.model, name)
        return self._cut(name, call) if name in CHANGES else call

    def _cut(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def done(*arguments: Any) -> Any:
            if self.fuse is None:
                return call(*arguments)
            self.fuse -= 1
            if self.fuse >= 0:
                return call(*arguments)
            if name == "write":
                handle, octets = arguments
                call(handle, octets[: len(octets) // 2])
            raise PowerCut(name)

        return done


class Twin(Fused):
    """A real directory and its model."""

    numbers = itertools.count()

    def __init__(self, snapshot: Snapshot, parent: Path) -> None:
        super().__init__(snapshot)
        self.root = parent / f"disk{next(self.numbers)}"
        lay_down(snapshot, self.root)
        self._root = os.open(self.root, os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC)
        self.real = PosixDisk(self._root)
        self.handles: dict[int, int] = {}  # the model's to the real ones

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._cut(name, lambda *arguments: self._both(name, *arguments))

    def _cut(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return super()._cut(name, call) if name in CHANGES else call

    def _both(self, name: str, *arguments: Any) -> Any:
        real = self._real(name, *arguments)
        model = answer(getattr(self.model, name), *arguments)
        if name in {"create", "open_read", "open_append"} and not isinstance(real, OSError):
            if isinstance(model, OSError):
                raise DisksDisagree(f"{name}{arguments}: really done, in the model {model}")
            self.handles[model] = real
            return model
        if name == "close":
            del self.handles[arguments[0]]
        return agreed(name, arguments, real, model)

    def _real(self, name: str, *arguments: Any) -> Any:
        if isinstance(arguments[0], int):
            arguments = (self.handles[arguments[0]], *arguments[1:])
        return answer(getattr(self.real, name), *arguments)

    def forget(self) -> None:
        for real in self.handles.values():
            os.close(real)
        os.close(self._root)


def answer(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the OSError that it raises."""
    try:
        return call(*arguments)
    except OSError as error:
        return error


def agreed(name: str, arguments: tuple[Any, ...], real: Any, model: Any) -> Any:
    """The one answer. Raises DisksDisagree, or the OSError that both gave."""
    if isinstance(real, OSError) and isinstance(model, OSError) and real.errno == model.errno:
        raise real
    same = sorted(real) == sorted(model) if name == "listdir" else real == model
    if not same:
        raise DisksDisagree(f"{name}{arguments}: really {real!r}, in the model {model!r}")
    return real


def lay_down(snapshot: Snapshot, root: Path) -> None:
    """Make a real directory that holds this snapshot, hard links and all."""
    for directory in sorted(snapshot.directories):
        (root / directory).mkdir()
    first: dict[int, Path] = {}
    for path, inode, octets in zip(snapshot.paths, snapshot.inodes, snapshot.contents, strict=True):
        if inode in first:
            os.link(first[inode], root / path)
        else:
            (root / path).write_bytes(octets)
            first[inode] = root / path


def empty(*directories: str) -> Snapshot:
    """A disk on which only these directories are."""
    return Snapshot((), (), (), frozenset({"", *directories}))
