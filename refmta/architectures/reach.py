"""Can the compartments' users reach the interpreter?  If a directory on the way is closed, give
the system a view of the file system in which it is not.

Many machines keep an interpreter below a closed directory (/root/.pyenv, a home of mode 0700).
Root could start from there, but no compartment could.  The launcher then enters a mount namespace
of its own, puts an empty read-only file system over the closed directory, and binds only what is
needed into it, at the same paths.  Nothing outside the namespace changes, and it ends with its
last process.  What was in the closed directory is hidden from the whole system, spawner included.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

#: How directories of installed packages are called.
INSTALLED = ("site-packages", "dist-packages")

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def program_paths() -> list[Path]:
    """What a compartment must be able to read: interpreter, environment, all installed packages
    (an environment may refer to those of another one), and ours.
    """
    here = Path(__file__).resolve().parents[2]
    installed = {Path(each).resolve() for each in sys.path if Path(each).name in INSTALLED}
    there = {each for each in installed if each.is_dir()}  # Debian names some that are not
    return sorted({Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), here, *there})


def closed_directory(path: Path) -> Path | None:
    """The topmost directory on the way to a path, or it itself, that not everyone may enter."""
    for each in [*reversed(path.parents), path]:
        if each.is_dir() and not each.stat().st_mode & stat.S_IXOTH:
            return each
    return None


def open_view(paths: Iterable[Path]) -> list[Path]:
    """Enter a namespace in which the paths can be reached; returns the directories covered.

    Raises OSError where the kernel does not allow it (no CAP_SYS_ADMIN).
    """
    needed = sorted(paths)  # a path comes before those below it
    covered: list[Path] = []
    # Again for what is closed further down, within a path that the first round has uncovered.
    while closed := _closed(needed):
        if not covered:
            _check(_libc.unshare(_CLONE_NEWNS), "unshare")
            _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
        for directory, below in closed.items():
            _cover(directory, below)
            covered.append(directory)
    return covered


def _closed(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """The closed directories on the way to these paths, and which paths lie below each."""
    found: dict[Path, list[Path]] = {}
    for path in paths:
        directory = closed_directory(path)
        if directory == path:
            raise OSError(errno.EACCES, f"can't be opened to all: {path}")
        if directory is not None:
            found.setdefault(directory, []).append(path)
    return found


def _cover(directory: Path, below: list[Path]) -> None:
    """An empty directory in place of this one, with only these paths in it."""
    # Opened first, and in this namespace: a bind across namespaces is refused.
    opened = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY)) for path in below]
    _mount("refmta", str(directory), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
    for path, descriptor in opened:
        path.mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", str(path), None, _MS_BIND | _MS_REC)
        os.close(descriptor)
    flags = _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    _mount("refmta", str(directory), "tmpfs", flags, "mode=0755,size=1m")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount on {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
