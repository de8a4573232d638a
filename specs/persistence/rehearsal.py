"""A plan taken down from the code that carries it out: nothing is written twice.

A store whose steps depend on what the disk says (a lock, a name that is there already) has no list
of operations to show. It is let loose on a model disk, and what it did there is turned into a plan:
each operation on an open file becomes one on the name that this file had at that moment, which is
how plans are interleaved and executed again (`ModelDisk.execute`).

    def plan(self, messages):
        return rehearsed(self.directories, lambda disk: self._commit(disk, messages))

    def _commit(self, disk, messages):
        store = Store(disk)
        ...                      # the real code
        reply(disk, message.token)

What it does not take down: locks, and reading. A plan has no memory: if what the store does next
depends on what it finds, each thing it may find needs a rehearsal of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot
from specs.persistence.protocols import Op


def _nothing(_: Recorded) -> str:
    return ""


_TARGETS: Mapping[str, Callable[[Recorded], str]] = {
    "create": lambda each: f"{each.mode:o}",
    "chmod": lambda each: f"{each.mode:o}",
    "overwrite": lambda each: str(each.offset),
    "truncate": lambda each: str(each.offset),
    "rename": lambda each: each.target,
    "link": lambda each: each.target,
}
"""What stands in an operation's `target`, by kind; nothing for the others."""


def rehearsed(
    directories: Iterable[str],
    act: Callable[[ModelDisk], None],
    files: Mapping[str, bytes] | None = None,
) -> list[Op]:
    """What `act` does to a disk that has these directories and files, as a plan."""
    disk = ModelDisk.from_tree(files or {}, directories)
    initial = disk.snapshot()
    act(disk)
    return plan_of(initial, disk.record)


def reply(disk: ModelDisk, token: str) -> None:
    """The instant at which somebody is told that this message is safe."""
    disk.execute([Op(kind="reply", path=token)])


def release(disk: ModelDisk, token: str) -> None:
    """From here on this message may go."""
    disk.execute([Op(kind="release", path=token)])


def plan_of(initial: Snapshot, record: Sequence[Recorded]) -> list[Op]:
    """The operations by name. Raises ValueError if a file was changed that had no name."""
    named = dict(zip(initial.paths, initial.inodes, strict=True))
    plan = []
    for each in record:
        plan.append(_operation(each, named))
        _rename(each, named)
    return plan


def _operation(each: Recorded, named: Mapping[str, int]) -> Op:
    path = each.path
    if each.kind in {"write", "overwrite", "truncate", "chmod", "sync"}:
        path = _name_of(each, named)
    target = _TARGETS.get(each.kind, _nothing)(each)
    return Op(kind=each.kind, path=path, data=each.data, target=target)


def _name_of(each: Recorded, named: Mapping[str, int]) -> str:
    """The name by which the file was opened, if it still has it, else the first of its others."""
    if named.get(each.path) == each.inode:
        return each.path
    for path in sorted(named):
        if named[path] == each.inode:
            return path
    raise ValueError(f"{each}: the file has no name, so no plan can mean it")


def _rename(each: Recorded, named: dict[str, int]) -> None:
    match each.kind:
        case "create":
            named[each.path] = each.inode
        case "link":
            named[each.target] = each.inode
        case "unlink":
            del named[each.path]
        case "rename":
            del named[each.path]
            named[each.target] = each.inode


def time_passes(disk: ModelDisk) -> None:
    """So long that the kernel has written back everything: what came before is durable now."""
    at_rest = disk.snapshot()
    for path in at_rest.paths:
        disk.execute([Op(kind="sync", path=path)])
    for directory in sorted(at_rest.directories):
        disk.sync_dir(directory)
