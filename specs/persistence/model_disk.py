"""A disk in memory that behaves as POSIX says, and writes down what was done to it.

Theory. The disk shows the *logical* state: what the processes of a running machine see. What a
crash may leave of it is worked out from the record (crash.py), which names every change together
with the inode it concerned: a rename moves a name, not octets, and a sync concerns the inode that
the handle was opened on, whatever its name is by then.

Tricky: a rename between two names of one inode does nothing (POSIX says so, and recovery code that
forgets it is wrong); a handle outlives its name; the last name to go makes the octets unreachable.

A file's mode is there because stores use it as a sign (a file is complete when it is executable);
nobody is refused anything by it. A lock lives as long as its handle.

Not modelled: renaming directories, owners, symbolic links, times, overwriting past the end of a
file. Asking for them is an OSError, so that a store cannot pass by accident.

It is the inner loop of the enumeration, so directories are plain dicts in one flat dict.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from specs.persistence.protocols import KINDS, Operation

PLAIN_MODE = 0o600
"""Of a file that nobody gave another one."""

Tree = Mapping[str, bytes]
"""Path -> octets. A path that ends in "/" is a directory with nothing in it, and has no octets."""


class Recorded(NamedTuple):
    """One change to the disk, or one sync, as it happened.

    `inode` is the file concerned (0 for directories), `offset` where a write began (for truncate:
    the new size), `displaced` the inode that a rename replaced (0: none), `last` whether the inode
    that lost a name here lost its last one, `mode` what a create or a chmod gave it.
    """

    kind: str
    path: str
    inode: int = 0
    data: bytes = b""
    target: str = ""
    offset: int = 0
    displaced: int = 0
    last: bool = False
    mode: int = PLAIN_MODE

    def __str__(self) -> str:
        detail = f" -> {self.target}" if self.target else ""
        if self.kind in {"write", "overwrite"}:
            detail = f" {len(self.data)} octets at {self.offset}"
        elif self.kind == "truncate":
            detail = f" to {self.offset} octets"
        elif self.kind == "chmod":
            detail = f" to {self.mode:o}"
        return f"{self.kind} {self.path or '.'}{detail}"


class Snapshot(NamedTuple):
    """A disk at rest. `paths`, `inodes`, `contents` and `modes` are parallel; hard links share an
    inode. No modes at all: each file's is the plain one.

    Canonical, so that equal disks are equal values: paths sorted, inodes numbered from 1 in the
    order of their first names (`ModelDisk.snapshot` keeps the disk's own numbers instead).
    """

    paths: tuple[str, ...]
    inodes: tuple[int, ...]
    contents: tuple[bytes, ...]
    directories: frozenset[str]
    modes: tuple[int, ...] = ()

    @property
    def tree(self) -> dict[str, bytes]:
        return dict(zip(self.paths, self.contents, strict=True))


def sparse(modes: tuple[int, ...]) -> tuple[int, ...]:
    """As a snapshot has them: none if all are plain, so that equal disks are equal values."""
    return modes if any(mode != PLAIN_MODE for mode in modes) else ()


def _fault(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


@lru_cache(maxsize=4096)
def _split(path: str) -> tuple[str, str]:
    """The directory above, and the last component."""
    parent, _, name = path.rpartition("/")
    return parent, name


@lru_cache(maxsize=1024)
def _made_in_order(directories: frozenset[str]) -> tuple[tuple[str, str, str], ...]:
    """(path, the one above, name) of all but the root, those above first."""
    return tuple((path, *_split(path)) for path in sorted(directories) if path)


Access = Literal["read", "append", "change"]


class _Inode:
    __slots__ = ("data", "links", "locked_by", "mode", "number")

    def __init__(self, number: int, data: bytes = b"", mode: int = PLAIN_MODE) -> None:
        self.number = number
        self.data = data
        self.mode = mode
        self.links = 1
        self.locked_by: _Handle | None = None


class _Handle:
    __slots__ = ("access", "inode", "path", "position")

    def __init__(self, inode: _Inode, path: str, access: Access, position: int | None) -> None:
        self.inode = inode
        self.path = path
        self.access = access
        self.position = position  # None: O_APPEND, always at the end


class ModelDisk:
    """Satisfies `protocols.Disk`; `record` holds what was done, oldest first."""

    __slots__ = ("_directories", "_handles", "_next_handle", "_next_inode", "record")

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._directories: dict[str, dict[str, _Inode | None]] = {"": {}}
        self._handles: dict[int, _Handle] = {}
        self._next_handle = 3
        self._next_inode = 1
        self.record: list[Recorded] = []
        if snapshot is not None:
            self._load(snapshot)

    # ---- building and dumping -------------------------------------------------------------

    @classmethod
    def from_tree(cls, tree: Tree, directories: Iterable[str] = ()) -> ModelDisk:
        """A disk that holds this tree, and these directories, all durable."""
        made = {""}
        for path in [*directories, *(p.rpartition("/")[0] for p in tree)]:
            parts = [part for part in path.split("/") if part]
            made.update("/".join(parts[: n + 1]) for n in range(len(parts)))
        paths = tuple(path for path in tree if not path.endswith("/"))
        contents = tuple(tree[path] for path in paths)
        numbers = tuple(range(1, len(paths) + 1))
        return cls(Snapshot(paths, numbers, contents, frozenset(made)))

    def _load(self, snapshot: Snapshot) -> None:
        directories = self._directories
        for path, parent, name in _made_in_order(snapshot.directories):
            directories[path] = {}
            directories[parent][name] = None
        inodes: dict[int, _Inode] = {}
        modes = snapshot.modes or (PLAIN_MODE,) * len(snapshot.paths)
        parts = zip(snapshot.paths, snapshot.inodes, snapshot.contents, modes, strict=True)
        for path, number, content, mode in parts:
            inode = inodes.get(number)
            if inode is None:
                inode = inodes[number] = _Inode(number, content, mode)
            else:
                inode.links += 1
            parent, name = _split(path)
            directories[parent][name] = inode
        self._next_inode = max(inodes, default=0) + 1

    def snapshot(self) -> Snapshot:
        """The logical state now, as a value; paths sorted."""
        found = sorted(
            (f"{directory}/{name}" if directory else name, inode)
            for directory, entries in self._directories.items()
            for name, inode in entries.items()
            if inode is not None
        )
        return Snapshot(
            tuple(path for path, _ in found),
            tuple(inode.number for _, inode in found),
            tuple(inode.data for _, inode in found),
            frozenset(self._directories),
            sparse(tuple(inode.mode for _, inode in found)),
        )

    def canonical(self) -> Snapshot:
        """The same, with the inodes numbered by their first names."""
        paths, inodes, contents, directories, modes = self.snapshot()
        numbers: dict[int, int] = {}
        links = tuple([numbers.setdefault(inode, len(numbers) + 1) for inode in inodes])
        return Snapshot(paths, links, contents, directories, modes)

    def tree(self) -> dict[str, bytes]:
        """The logical state as path -> octets; an empty directory is its path and a "/"."""
        empty = {
            f"{path}/": b"" for path, inside in self._directories.items() if path and not inside
        }
        return self.snapshot().tree | empty

    def open_handles(self) -> tuple[str, ...]:
        """Paths of what was opened and never closed."""
        return tuple(handle.path for handle in self._handles.values())

    # ---- names ----------------------------------------------------------------------------

    def _entries(self, path: str) -> tuple[dict[str, _Inode | None], str]:
        """The directory that holds `path`, and the last component."""
        parent, name = _split(path)
        if not name or name in {".", ".."}:
            raise _fault(errno.EINVAL, path)
        entries = self._directories.get(parent)
        if entries is None:
            raise self._missing(parent, path)
        return entries, name

    def _missing(self, directory: str, path: str) -> OSError:
        """Why `directory` cannot be used: it is not there, or it is a file."""
        above, _, name = directory.rpartition("/")
        if above not in self._directories:
            return self._missing(above, path)
        is_file = self._directories.get(above, {}).get(name) is not None
        return _fault(errno.ENOTDIR if is_file else errno.ENOENT, path)

    def _inode(self, path: str) -> _Inode:
        entries, name = self._entries(path)
        inode = entries.get(name)
        if inode is None:
            raise _fault(errno.EISDIR if name in entries else errno.ENOENT, path)
        return inode

    def listdir(self, path: str) -> list[str]:
        entries = self._directories.get(path)
        if entries is None:
            raise self._missing(path, path)
        return list(entries)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        entries, name = self._entries(path)
        if name in entries:
            raise _fault(errno.EEXIST, path)
        entries[name] = None
        self._directories[path] = {}
        self.record.append(Recorded("mkdir", path))

    def rename(self, path: str, target: str) -> None:
        source_entries, source = self._entries(path)
        target_entries, name = self._entries(target)
        inode = self._inode(path)
        old = target_entries.get(name)
        if old is None and name in target_entries:
            above = path.startswith(f"{target}/")  # Linux has its own answer to this one
            raise _fault(errno.ENOTEMPTY if above else errno.EISDIR, target)
        if old is inode:
            return  # two names of one file: POSIX does nothing
        del source_entries[source]
        target_entries[name] = inode
        displaced, last = 0, False
        if old is not None:
            old.links -= 1
            displaced, last = old.number, old.links == 0
        self.record.append(
            Recorded("rename", path, inode.number, target=target, displaced=displaced, last=last)
        )

    def link(self, path: str, target: str) -> None:
        entries, name = self._entries(path)
        if name not in entries:
            raise _fault(errno.ENOENT, path)
        target_entries, target_name = self._entries(target)
        if target_name in target_entries:
            raise _fault(errno.EEXIST, target)
        inode = entries[name]
        if inode is None:
            raise _fault(errno.EPERM, path)
        target_entries[target_name] = inode
        inode.links += 1
        self.record.append(Recorded("link", path, inode.number, target=target))

    def unlink(self, path: str) -> None:
        inode = self._inode(path)
        entries, name = self._entries(path)
        del entries[name]
        inode.links -= 1
        self.record.append(Recorded("unlink", path, inode.number, last=inode.links == 0))

    # ---- handles --------------------------------------------------------------------------

    def _open(self, inode: _Inode, path: str, access: Access, position: int | None = 0) -> int:
        number = self._next_handle
        self._next_handle += 1
        self._handles[number] = _Handle(inode, path, access, position)
        return number

    def _handle(self, number: int, *allowed: Access) -> _Handle:
        handle = self._handles.get(number)
        if handle is None or (allowed and handle.access not in allowed):
            raise _fault(errno.EBADF, handle.path if handle else str(number))
        return handle

    def create(self, path: str, mode: int = PLAIN_MODE) -> int:
        return self._open(self._create(path, mode), path, "append")

    def _create(self, path: str, mode: int) -> _Inode:
        entries, name = self._entries(path)
        if name in entries:
            raise _fault(errno.EEXIST, path)
        inode = entries[name] = _Inode(self._next_inode, mode=mode)
        self._next_inode += 1
        self.record.append(Recorded("create", path, inode.number, mode=mode))
        return inode

    def open_read(self, path: str) -> int:
        return self._open(self._inode(path), path, "read")

    def open_append(self, path: str) -> int:
        return self._open(self._inode(path), path, "append", None)

    def open_change(self, path: str) -> int:
        return self._open(self._inode(path), path, "change")

    def close(self, handle: int) -> None:
        opened = self._handle(handle)
        if opened.inode.locked_by is opened:
            opened.inode.locked_by = None
        del self._handles[handle]

    def lock(self, handle: int) -> bool:
        opened = self._handle(handle)
        if opened.inode.locked_by is None:
            opened.inode.locked_by = opened
        return opened.inode.locked_by is opened

    def mode(self, handle: int) -> int:
        return self._handle(handle).inode.mode

    def chmod(self, handle: int, mode: int) -> None:
        opened = self._handle(handle)
        self._chmod(opened.inode, opened.path, mode)

    def _chmod(self, inode: _Inode, path: str, mode: int) -> None:
        if not 0 <= mode <= 0o777:
            raise _fault(errno.EINVAL, path)
        inode.mode = mode
        self.record.append(Recorded("chmod", path, inode.number, mode=mode))

    def size(self, handle: int) -> int:
        return len(self._handle(handle).inode.data)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        if size < 0 or offset < 0:
            raise _fault(errno.EINVAL, self._handle(handle).path)
        return self._handle(handle, "read", "change").inode.data[offset : offset + size]

    def write(self, handle: int, data: bytes) -> None:
        opened = self._handle(handle, "append")
        offset = len(opened.inode.data) if opened.position is None else opened.position
        self._write(opened.inode, opened.path, offset, bytes(data))
        if opened.position is not None:
            opened.position += len(data)

    def _write(self, inode: _Inode, path: str, offset: int, data: bytes) -> None:
        old = inode.data
        if offset == len(old):
            inode.data = old + data
        else:  # another handle appended or truncated meanwhile: overwrite, or leave a hole
            filled = old.ljust(offset, b"\0")
            inode.data = filled[:offset] + data + filled[offset + len(data) :]
        self.record.append(Recorded("write", path, inode.number, data=data, offset=offset))

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        opened = self._handle(handle, "change")
        self._overwrite(opened.inode, opened.path, offset, bytes(data))

    def _overwrite(self, inode: _Inode, path: str, offset: int, data: bytes) -> None:
        end = offset + len(data)
        if offset < 0 or end > len(inode.data):
            raise _fault(errno.EINVAL, path)
        inode.data = inode.data[:offset] + data + inode.data[end:]
        self.record.append(Recorded("overwrite", path, inode.number, data=data, offset=offset))

    def truncate(self, handle: int, size: int) -> None:
        opened = self._handle(handle, "append", "change")
        if size < 0:
            raise _fault(errno.EINVAL, opened.path)
        self._truncate(opened.inode, opened.path, size)

    def _truncate(self, inode: _Inode, path: str, size: int) -> None:
        inode.data = inode.data[:size].ljust(size, b"\0")
        self.record.append(Recorded("truncate", path, inode.number, offset=size))

    def writeback(self, handle: int) -> None:
        self._handle(handle)

    def sync(self, handle: int) -> None:
        opened = self._handle(handle)
        self.record.append(Recorded("sync", opened.path, opened.inode.number))

    def sync_dir(self, path: str) -> None:
        if path not in self._directories:
            raise self._missing(path, path)
        self.record.append(Recorded("sync_dir", path))

    # ---- plans ----------------------------------------------------------------------------

    def execute(self, plan: Sequence[Operation]) -> None:
        """Do what a plan says. Each path means the file that has this name at that moment.

        Raises OSError where the real disk would, ValueError for a kind that is not in KINDS.
        """
        for operation in plan:
            self._execute(operation)

    def _execute(self, operation: Operation) -> None:
        kind, path = operation.kind, operation.path
        if kind not in KINDS:
            raise ValueError(f"no such disk operation: {kind!r}")
        if kind == "create":
            self._create(path, int(operation.target or "600", 8))
        elif kind == "write":
            inode = self._inode(path)
            self._write(inode, path, len(inode.data), operation.data)
        elif kind == "overwrite":
            self._overwrite(self._inode(path), path, int(operation.target), operation.data)
        elif kind == "chmod":
            self._chmod(self._inode(path), path, int(operation.target, 8))
        elif kind == "truncate":
            self._truncate(self._inode(path), path, int(operation.target or "0"))
        elif kind == "sync":
            self.record.append(Recorded("sync", path, self._inode(path).number))
        elif kind in {"rename", "link"}:
            getattr(self, kind)(path, operation.target)
        elif kind in {"unlink", "mkdir", "sync_dir"}:
            getattr(self, kind)(path)
        elif kind in {"reply", "release"}:
            self.record.append(Recorded(kind, path))
        else:  # writeback guarantees nothing, but its file must be there
            self._inode(path)
