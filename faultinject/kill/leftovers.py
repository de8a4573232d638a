"""What a run that was killed has left behind: found by the next one, and removed.

The tracer dies with its harness, and whom it follows dies with the tracer; the roots of real
servers end by themselves (`faultinject.overlay`).  What may stay is a directory, and a server that
was just being started, and that nobody followed yet.

Rule: a process is ours if it works in such a directory, or writes its output there, and the
directory is nobody's: its owner's lock is free.  Nobody else is touched.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from faultinject.overlay import LOCK, places_of, scratch
from faultinject.processes import Process, everyone, look, strike_all

NAME: Final = "kill"
#: What of a process tells where it works: its directory, root, output and errors.
_LINKS: Final = ("cwd", "root", "fd/1", "fd/2")


@contextmanager
def workplace(name: str = NAME) -> Iterator[Path]:
    """An empty directory on a disk, removed at the end; before that, what dead runs have left."""
    end_abandoned(f"refmta-{name}")
    with scratch(name) as (place, _):
        yield place


def end_abandoned(prefix: str) -> None:
    """End the processes that work in directories of this prefix whose owner is dead."""
    for place in places_of(prefix):
        with suppress(OSError):  # its owner lives, it is gone, or it was not made by us
            if place.is_symlink() or place.stat().st_uid != os.geteuid():
                continue
            with open(place / LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end(place)


def _end(place: Path) -> None:
    strike_all(lambda: at_work_in(place))


def at_work_in(place: Path) -> list[Process]:
    """The processes that work below a directory."""
    found = []
    for pid in everyone():
        seen = look(pid)
        if seen is not None and pid != os.getpid() and _works_in(pid, place):
            found.append(Process(pid, "left", born=seen.born))
    return found


def _works_in(pid: int, place: Path) -> bool:
    for link in _LINKS:
        with suppress(OSError):
            target = os.readlink(f"/proc/{pid}/{link}")  # noqa: PTH115
            if Path(target.removesuffix(" (deleted)")).is_relative_to(place):
                return True
    return False
