"""Which names may survive a crash: metadata operations as units that are kept or lost.

Each operation on names becomes one or more *units*; a unit makes or removes names, and is kept or
lost as a whole. What a unit does depends only on itself, so a state of the names is the subset (P2,
P3) or the prefix (P1) of the units that survived, applied in order. Units that a completed sync
forced are in every subset.

Tricky:
- a rename is one unit (atomic) or up to three (split): the target's old name goes, the new name is
  made, the source's name goes;
- under P2 the removal of a name *requires* the making of the new one, once the file was synced: the
  file is never without a name;
- a name in a directory whose own name was lost is no name;
- a rename of a directory (seen in recordings of other servers, in no plan of ours) is one unit
  under every model: it moves the names below as they were; a sync of a directory above forces it;
- a change of a file's mode is metadata as names are, so it is a unit too, and it may land before
  the file's octets or without them; but it belongs to the file, whose sync forces it under every
  model; the sync of a directory does so only under P1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from specs.persistence.model_disk import Recorded, Snapshot
from specs.persistence.models import Model

DIRECTORY = 0
"""In place of an inode: this name is a directory."""

REPLACED_LOST = "removal of the replaced name lost"
NEW_LOST = "new name lost"
OLD_LOST = "removal of the old name lost"
_SYNCS = frozenset({"sync", "sync_dir"})


@dataclass(frozen=True, slots=True)
class Unit:
    """`effects` are (path, inode made there or None for removed); `requires` is a unit's number;
    `mode` is (inode, its new mode); `within`: the directories whose sync forces it (none: those of
    its effects).
    """

    operation: int
    effects: tuple[tuple[str, int | None], ...]
    requires: int | None = None
    story: str = "lost"
    mode: tuple[int, int] | None = None
    within: frozenset[str] = frozenset()


@dataclass(slots=True)
class Names:
    """Units of the operations so far, and which of them are forced. Fed one operation at a time."""

    model: Model
    units: list[Unit] = field(default_factory=list)
    forced: frozenset[int] = frozenset()
    _made_by: dict[str, tuple[int, int | None]] = field(default_factory=dict)  # path: inode, unit
    _synced: set[int] = field(default_factory=set)

    @classmethod
    def after(cls, initial: Snapshot, model: Model) -> Names:
        """Names of a disk at rest: everything on it is durable."""
        made_by: dict[str, tuple[int, int | None]] = {
            path: (inode, None) for path, inode in zip(initial.paths, initial.inodes, strict=True)
        }
        made_by |= {path: (DIRECTORY, None) for path in initial.directories if path}
        return cls(model, _made_by=made_by, _synced=set(initial.inodes))

    def feed(self, index: int, operation: Recorded) -> None:
        """Take the next operation, which has completed."""
        before = len(self.units)
        self.units.extend(self._units(index, operation))
        for number in range(before, len(self.units)):
            for path, inode in self.units[number].effects:
                if inode is None:
                    self._made_by.pop(path, None)
                else:
                    self._made_by[path] = (inode, number)
        if self.model.names == "all":
            self.forced = frozenset(range(len(self.units)))
        elif operation.kind in _SYNCS:
            self._sync(operation)

    # ---- operations to units --------------------------------------------------------------

    def _units(self, index: int, operation: Recorded) -> Iterator[Unit]:
        path, target, inode = operation.path, operation.target, operation.inode
        match operation.kind:
            case "create":
                yield Unit(index, ((path, inode),))
            case "mkdir":
                yield Unit(index, ((path, DIRECTORY),))
            case "link":
                yield Unit(index, ((target, inode),))
            case "unlink" | "rmdir":
                yield Unit(index, ((path, None),))
            case "rename_dir":
                yield self._moved(index, operation)
            case "chmod":
                yield Unit(index, (), mode=(inode, operation.mode))
            case "rename" if self.model.rename == "atomic":
                yield Unit(index, ((path, None), (target, inode)))
            case "rename":
                yield from self._split_rename(index, operation)

    def _split_rename(self, index: int, operation: Recorded) -> Iterator[Unit]:
        path, target, inode = operation.path, operation.target, operation.inode
        if operation.displaced and not self.model.file_sync_forces_names:
            yield Unit(index, ((target, None),), None, REPLACED_LOST)
        made = len(self.units)
        yield Unit(index, ((target, inode),), None, NEW_LOST)
        safe = self.model.names == "prefix" or (
            self.model.file_sync_forces_names and inode in self._synced
        )
        yield Unit(index, ((path, None),), made if safe else None, OLD_LOST)

    def _moved(self, index: int, operation: Recorded) -> Unit:
        path, target = operation.path, operation.target
        below = [
            (name, inode)
            for name, (inode, _) in self._made_by.items()
            if name == path or name.startswith(f"{path}/")
        ]
        gone: list[tuple[str, int | None]] = [(name, None) for name, _ in below]
        made = [(target + name[len(path) :], inode) for name, inode in below]
        within = frozenset({_parent(path), _parent(target)})
        return Unit(index, (*gone, *made), within=within)

    # ---- what a sync forces ---------------------------------------------------------------

    def _sync(self, operation: Recorded) -> None:
        if self.model.names == "prefix":
            self.forced = frozenset(range(len(self.units)))
        elif operation.kind == "sync_dir":
            self.forced |= {
                number
                for number, unit in enumerate(self.units)
                if operation.path in (unit.within or {_parent(path) for path, _ in unit.effects})
            }
            return
        self.forced |= {
            number
            for number, unit in enumerate(self.units)
            if unit.mode is not None and unit.mode[0] == operation.inode
        }
        if self.model.file_sync_forces_names:
            self._synced.add(operation.inode)
            for path, (inode, _) in list(self._made_by.items()):
                if inode == operation.inode:
                    self.forced |= self._makers(path)

    def _makers(self, path: str) -> set[int]:
        """The units that made this name, and the directories above it."""
        above = path
        makers = set()
        while above:
            number = self._made_by.get(above, (DIRECTORY, None))[1]
            if number is not None:
                makers.add(number)
            above = _parent(above)
        return makers

    # ---- survivors ------------------------------------------------------------------------

    def survivors(self, limit: int) -> Iterator[tuple[int, ...]]:
        """The units lost, for each way in which a crash may lose them; fewest first.

        At most `limit` ways: whoever asks must compare with `ways`.
        """
        free = [number for number in range(len(self.units)) if number not in self.forced]
        if self.model.names == "prefix":
            yield from (tuple(free[kept:]) for kept in range(len(free), -1, -1))
            return
        count = 0
        for size in range(len(free) + 1):
            for lost in combinations(free, size):
                if self._allowed(set(lost)):
                    yield lost
                count += 1
                if count >= limit:
                    return

    def ways(self) -> int:
        """How many ways `survivors` has to look at."""
        free = len(self.units) - len(self.forced)
        return free + 1 if self.model.names == "prefix" else 1 << free

    def _allowed(self, lost: set[int]) -> bool:
        return all(
            unit.requires is None or unit.requires not in lost
            for number, unit in enumerate(self.units)
            if number not in lost
        )


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def surviving(
    initial: Mapping[str, int], units: Sequence[Unit], lost: tuple[int, ...]
) -> dict[str, int]:
    """Path -> inode (or DIRECTORY) once the lost units are left out."""
    names = dict(initial)
    directory_lost = False
    for number, unit in enumerate(units):
        if number in lost:
            directory_lost |= any(inode == DIRECTORY for _, inode in unit.effects)
            continue
        for path, inode in unit.effects:
            if inode is None:
                directory_lost |= names.pop(path, None) == DIRECTORY
            else:
                names[path] = inode
    if not directory_lost:
        return names
    return {path: inode for path, inode in names.items() if _reachable(path, names)}


def surviving_modes(
    initial: Mapping[int, int], units: Sequence[Unit], lost: tuple[int, ...]
) -> dict[int, int]:
    """Inode -> mode once the lost units are left out; `initial` has what files were made with."""
    modes = dict(initial)
    for number, unit in enumerate(units):
        if unit.mode is not None and number not in lost:
            inode, mode = unit.mode
            modes[inode] = mode
    return modes


def _reachable(path: str, names: Mapping[str, int]) -> bool:
    above = _parent(path)
    return not above or (names.get(above) == DIRECTORY and _reachable(above, names))
