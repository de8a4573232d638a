"""Processes as the kernel shows them, and one safe way to kill one.

A number in /proc may belong to somebody else a moment later. So a process is its number *and* the
time of its birth, and it is killed through a descriptor (pidfd_open(2)) that was checked against
that birth after it had been opened.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Where state, parent and birth (in ticks) stand behind the name; proc_pid_stat(5).
_STATE: Final = 0
_PARENT: Final = 1
_BORN: Final = 19
_DEAD: Final = b"ZX"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
#: Between two looks at those who are dying.
PAUSE_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a target.  part: which of several kinds with this role, such as "worker";
    born: its start time, in ticks since the machine's.
    """

    pid: int
    role: str
    part: str = ""
    born: int = 0

    @property
    def kind(self) -> str:
        """Role and part."""
        return f"{self.role} {self.part}".rstrip()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel says of a process."""

    pid: int
    parent: int
    born: int
    arguments: tuple[str, ...]


def look(pid: int) -> Seen | None:
    """None if there is none (a zombie is none)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        if fields[_STATE] in _DEAD:
            return None
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            arguments = tuple(line.read().decode("utf-8", "replace").split("\0")[:-1])
    except (OSError, IndexError):
        return None
    return Seen(pid, int(fields[_PARENT]), int(fields[_BORN]), arguments)


def family(ancestor: int) -> list[Seen]:
    """A process and all below it."""
    found, numbers = [], [ancestor]
    for number in numbers:  # grows while it is walked
        seen = look(number)
        if seen is None:
            continue
        found.append(seen)
        with suppress(OSError), open(f"/proc/{number}/task/{number}/children") as children:
            numbers += map(int, children.read().split())
    return found


def age_s(process: Process) -> float:
    """How long a process has run, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.born / _TICKS


def everyone() -> list[int]:
    """The numbers of all processes."""
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def strike(process: Process, number: int = signal.SIGKILL) -> bool:
    """Send the signal to this very process; False if it is gone.  Raises PermissionError."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        seen = look(process.pid)
        if seen is None or seen.born != process.born:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def strike_all(processes: Callable[[], Sequence[Process]], patience_s: float = 10.0) -> bool:
    """Kill all that it tells of, parents first, and whoever is born meanwhile; wait for their end.

    Whether none was left in time.
    """
    deadline = time.monotonic() + patience_s
    struck: dict[int, Process] = {}
    while True:
        running = [each for each in processes() if _runs(each)]
        struck |= {each.pid: each for each in running}
        for each in running:
            strike(each)
        if not running and not any(map(_runs, struck.values())):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_S)


def _runs(process: Process) -> bool:
    seen = look(process.pid)
    return seen is not None and seen.born == process.born
