"""A model disk that is told what a real one was seen to do.

Nothing is refused: what the kernel has done was possible.  Files are reached by the number of their
inode too, as a descriptor outlives the last name.
"""

from __future__ import annotations

from collections.abc import Iterator

from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot, _Inode


class ObservedDisk(ModelDisk):
    """See the module."""

    __slots__ = ("_known",)

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        super().__init__(snapshot)
        self._known = {
            inode.number: inode
            for entries in self._directories.values()
            for inode in entries.values()
            if inode is not None
        }

    def has(self, path: str) -> bool:
        """Whether a file has this name."""
        return self._at(path) is not None

    def is_directory(self, path: str) -> bool:
        return path in self._directories

    def inode_number(self, path: str) -> int:
        """Of the file that has this name.  Raises OSError."""
        return self._inode(path).number

    def everything(self) -> Iterator[tuple[int, str]]:
        """(inode, name) of each name of a file."""
        for directory, entries in list(self._directories.items()):
            for name, inode in list(entries.items()):
                if inode is not None:
                    yield inode.number, f"{directory}/{name}" if directory else name

    def all_directories(self) -> list[str]:
        """Their paths."""
        return list(self._directories)

    def note(self, kind: str, path: str, inode: int = 0) -> None:
        """What changes nothing: a sync, a reply."""
        self.record.append(Recorded(kind, path, inode))

    def make(self, path: str, mode: int) -> bool:
        """A new file; False if its directory is not on this disk."""
        parent = path.rpartition("/")[0]
        if parent not in self._directories or path in self._directories:
            return False
        made = self._create(path, mode)
        self._known[made.number] = made
        return True

    def move(self, path: str, target: str) -> None:
        """A file gets another name, in place of whoever had it."""
        if target.rpartition("/")[0] in self._directories and target not in self._directories:
            self.rename(path, target)

    def move_directory(self, path: str, target: str) -> None:
        """A directory, and all below it, gets another name; an empty one may be there."""
        above, _, name = path.rpartition("/")
        parent, _, new = target.rpartition("/")
        if parent not in self._directories or self._directories.get(target):
            return
        del self._directories[above][name]
        self._directories[parent][new] = None
        for each in [each for each in self._directories if f"{each}/".startswith(f"{path}/")]:
            self._directories[target + each[len(path) :]] = self._directories.pop(each)
        self.record.append(Recorded("rename_dir", path, target=target))

    def remove_directory(self, path: str) -> None:
        """One that is empty."""
        if path and not self._directories.get(path):
            above, _, name = path.rpartition("/")
            self._directories[above].pop(name, None)
            self._directories.pop(path, None)
            self.record.append(Recorded("rmdir", path))

    def patch(self, inode: int, path: str, at: int | None, data: bytes) -> None:
        """Octets land in a file, at its end or at an offset."""
        found = self._known[inode]
        size = len(found.data)
        at = size if at is None else at
        inside = max(0, min(len(data), size - at))
        if inside:
            self._overwrite(found, path, at, data[:inside])
        if len(data) > inside or not data:
            self._write(found, path, at + inside, data[inside:])

    def cut(self, path: str, size: int) -> None:
        """A file gets this size."""
        self._truncate(self._inode(path), path, size)

    def set_mode(self, path: str, mode: int, inode: int | None = None) -> None:
        """Of the file with this name, or of that inode."""
        self._chmod(self._known[inode] if inode is not None else self._inode(path), path, mode)

    def _at(self, path: str) -> _Inode | None:
        parent, _, name = path.rpartition("/")
        return self._directories.get(parent, {}).get(name)
