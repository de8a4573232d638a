"""Files as the kernel shows them: owners, modes, sizes below some places; and the locks on them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Kind = Literal["file", "dir", "link", "socket", "fifo", "char", "block"]
_KINDS: Final[tuple[tuple[Callable[[int], bool], Kind], ...]] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "dir"),
    (stat.S_ISLNK, "link"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISCHR, "char"),
    (stat.S_ISBLK, "block"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One name below an observed place.  kind: as in find(1)'s -type.  links: its names."""

    path: str
    kind: Kind
    owner: int
    group: int
    mode: int
    size: int
    inode: int
    links: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A line of /proc/locks about an observed file.  kind: POSIX, FLOCK, OFDLCK or LEASE."""

    pid: int
    kind: str
    path: str


def walk(places: Iterable[Path]) -> tuple[File, ...]:
    """The places themselves and all below them, sorted by path; links are not followed, and what
    goes away meanwhile is left out.
    """
    found: dict[str, File] = {}
    for place in places:
        with suppress(OSError):
            found[os.path.normpath(place)] = _file(str(place))
        for directory, folders, files in os.walk(place):
            for name in (".", *folders, *files):
                path = os.path.normpath(f"{directory}/{name}")
                with suppress(OSError):
                    found[path] = _file(path)
    return tuple(found[path] for path in sorted(found))


def _file(path: str) -> File:
    status = os.lstat(path)
    return File(
        path=path,
        kind=next(kind for test, kind in _KINDS if test(status.st_mode)),
        owner=status.st_uid,
        group=status.st_gid,
        mode=stat.S_IMODE(status.st_mode),
        size=status.st_size,
        inode=status.st_ino,
        links=status.st_nlink,
    )


def locks(files: Iterable[File]) -> tuple[Lock, ...]:
    """Those that somebody holds now on one of the files."""
    paths = {each.inode: each.path for each in files}
    found = []
    for line in Path("/proc/locks").read_text().splitlines():
        row = [each for each in line.split() if each != "->"]  # "->": one that waits
        inode = int(row[5].rpartition(":")[2])
        if inode in paths:
            found.append(Lock(pid=int(row[4]), kind=row[1], path=paths[inode]))
    return tuple(found)
