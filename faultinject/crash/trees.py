"""Directories on a real disk: copied whole, read as a snapshot, and written as a state.

A copy keeps owners, modes and hard links; sockets are left out, as they are nobody's by then; fifos
are made anew.  Nothing is opened but regular files: a mail spool has fifos in it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from specs.persistence.model_disk import PLAIN_MODE, Snapshot, sparse

#: Of what nobody was seen to make.
DIRECTORY_MODE: Final = 0o700


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path below, status) of all that is there, those above first; links are not followed."""
    places = [""]
    while places:
        place = places.pop()
        for entry in sorted(os.scandir(root / place), key=lambda each: each.name):
            relative = f"{place}/{entry.name}" if place else entry.name
            status = entry.stat(follow_symlinks=False)
            yield relative, status
            if stat.S_ISDIR(status.st_mode):
                places.append(relative)


def copy(source: Path, target: Path) -> None:
    """All of it.  target: not there yet.  Raises OSError."""
    target.mkdir()
    _own(target, source.stat())
    linked: dict[tuple[int, int], Path] = {}
    for relative, status in walk(source):
        there, here = target / relative, source / relative
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            there.mkdir()
        elif kind == stat.S_IFLNK:
            there.symlink_to(here.readlink())
            os.lchown(there, status.st_uid, status.st_gid)
            continue
        elif kind == stat.S_IFIFO:
            os.mkfifo(there)
        elif kind != stat.S_IFREG:
            continue
        elif (status.st_dev, status.st_ino) in linked:
            there.hardlink_to(linked[status.st_dev, status.st_ino])
            continue
        else:
            shutil.copyfile(here, there)
            linked[status.st_dev, status.st_ino] = there
        _own(there, status)
        if kind == stat.S_IFREG:
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))


def _own(path: Path, status: os.stat_result) -> None:
    os.chown(path, status.st_uid, status.st_gid)
    path.chmod(stat.S_IMODE(status.st_mode))


def snapshot(root: Path, within: Iterable[str]) -> Snapshot:
    """Regular files below these directories of it, and all directories."""
    tops = tuple(within)
    paths, inodes, contents, modes, directories = [], [], [], [], {""}
    numbers: dict[int, int] = {}
    for relative, status in sorted(walk(root)):
        if stat.S_ISDIR(status.st_mode):
            directories.add(relative)
        elif stat.S_ISREG(status.st_mode) and is_within(relative, tops):
            paths.append(relative)
            inodes.append(numbers.setdefault(status.st_ino, len(numbers) + 1))
            contents.append((root / relative).read_bytes())
            modes.append(stat.S_IMODE(status.st_mode) & 0o777)
    return Snapshot(
        tuple(paths), tuple(inodes), tuple(contents), frozenset(directories),
        sparse(tuple(modes)),
    )  # fmt: skip


def is_within(relative: str, tops: Iterable[str]) -> bool:
    """Whether it is one of these directories, or below one."""
    return any(relative == top or relative.startswith(f"{top}/") for top in tops)


def owners(root: Path) -> dict[str, tuple[int, int]]:
    """Path below -> (user, group), of all that is there now."""
    return {relative: (status.st_uid, status.st_gid) for relative, status in walk(root)}


def groups(root: Path) -> dict[str, int]:
    """Directory below -> the group that it gives to what is made in it (set-group-id)."""
    return {
        relative: status.st_gid
        for relative, status in walk(root)
        if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISGID
    }


def write(
    state: Snapshot, base: Path, target: Path, owned: Mapping[str, tuple[int, int]],
    within: Iterable[str],
) -> None:  # fmt: skip
    """The base with this state in place of its files in those directories.  Raises OSError.

    Other files, such as logs, may be written by everybody: a server that repairs its queue may log
    that as another user than the one who made the log.
    """
    tops = tuple(within)
    copy(base, target)
    for relative, status in list(walk(target)):
        if stat.S_ISREG(status.st_mode):
            if is_within(relative, tops):
                (target / relative).unlink()
            else:
                (target / relative).chmod(status.st_mode | 0o666)
    for relative in sorted(state.directories):
        if relative and not (target / relative).is_dir():
            (target / relative).mkdir(mode=DIRECTORY_MODE)
            _give(target, relative, owned)
    modes = state.modes or (PLAIN_MODE,) * len(state.paths)
    first: dict[int, str] = {}
    rows = zip(state.paths, state.inodes, state.contents, modes, strict=True)
    for relative, inode, content, mode in rows:
        there = target / relative
        if inode in first:
            there.hardlink_to(target / first[inode])
            continue
        first[inode] = relative
        there.write_bytes(content)
        _give(target, relative, owned)
        there.chmod(mode)


def _give(target: Path, relative: str, owned: Mapping[str, tuple[int, int]]) -> None:
    """To whom it belonged, or else to the owner of its directory."""
    above = (target / relative).parent.stat()
    uid, gid = owned.get(relative, (above.st_uid, above.st_gid))
    os.chown(target / relative, uid, gid)
