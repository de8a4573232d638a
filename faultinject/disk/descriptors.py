"""How many descriptors a running process may have: its soft RLIMIT_NOFILE, changed from outside.

prlimit(2) lets a process change another's limits if both have the same user and group, or with
CAP_SYS_RESOURCE, which root in a container may lack.  Then it is done in the name of the process's
own user (prlimit(1)); a soft limit needs no more.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
from collections.abc import Set
from pathlib import Path
from typing import Final

from faultinject.tracing import Unavailable

_ROW: Final = "Max open files"
_TIMEOUT_S: Final = 30.0


def limit(numbers: Set[int], left: int) -> int:
    """RLIMIT_NOFILE for who has descriptors of these numbers and may have so many more: numbers are
    given out from below, so it is the number that would come next.
    """
    free = (number for number in itertools.count() if number not in numbers)
    return next(itertools.islice(free, left, None))


def numbers_of(pid: int) -> set[int]:
    """Its descriptors.  Raises OSError if it is gone."""
    return {int(each) for each in os.listdir(f"/proc/{pid}/fd")}  # noqa: PTH208


def limits_of(pid: int) -> tuple[int, int]:
    """(soft, hard).  Raises OSError if it is gone."""
    for line in Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines():
        if line.startswith(_ROW):
            soft, hard = line.removeprefix(_ROW).split()[:2]
            return _number(soft), _number(hard)
    raise ProcessLookupError(f"process {pid} has no limits any more")


def _number(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def set_soft(pid: int, soft: int) -> None:
    """Raises OSError if it is gone, Unavailable if nobody may."""
    hard = limits_of(pid)[1]
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    except PermissionError:
        _in_its_name(pid, soft)


def _in_its_name(pid: int, soft: int) -> None:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    rows = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    try:
        done = subprocess.run(  # noqa: S603
            ["prlimit", f"--pid={pid}", f"--nofile={soft}:"],  # noqa: S607
            user=int(rows["Uid"].split()[0]), group=int(rows["Gid"].split()[0]), extra_groups=[],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=_TIMEOUT_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise Unavailable("limits of others can't be changed: there is no prlimit") from None
    if done.returncode != 0 and Path(f"/proc/{pid}").exists():
        raise Unavailable(f"limits of others can't be changed: {done.stderr.strip()[-200:]}")
