"""A harness is killed or interrupted while a server of its own runs; what stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faultinject.overlay import LOCK, SCRATCH, scratch
from faultinject.processes import everyone, family, look
from faultinject.telling import EX_INTERRUPTED

#: refmta-fault, for which SIGINT is what it is on a terminal: whom a shell has started in the
#: background ignores it.
COMMAND = [
    sys.executable, "-P", "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    " from faultinject.command import main; main()",
]  # fmt: skip
#: How long a server may take to be there, and to be gone; the harness itself has 30 s for that.
BEGIN_S, END_S = 90.0, 120.0
#: They are called before there is a server, and name its place, too.
NO_SERVERS = ("mkfs", "mount", "umount", "sync", "tar", "cp")


def gone(condition: Callable[[], object], patience_s: float = END_S) -> bool:
    """Whether it no longer holds, in the end."""
    deadline = time.monotonic() + patience_s
    while condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def at_work_in(place: Path) -> list[int]:
    """Processes whose command line names something below that place."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and int(each.name) != os.getpid():
            try:
                if f"{place}/".encode() in (each / "cmdline").read_bytes():
                    found.append(int(each.name))
            except OSError:
                continue
    return found


def serves(process: int) -> bool:
    """Whether it is more than a tool of file systems."""
    seen = look(process)
    program = Path(seen.arguments[0]).name if seen is not None and seen.arguments else ""
    return program != "" and not program.startswith(NO_SERVERS)


def loops(place: Path) -> list[str]:
    """Files below that place which are behind loop devices."""
    found = []
    for each in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it was let go of meanwhile
            found.append(each.read_text())
    return [text for text in found if f"{place.name}/" in text]


def mounts(place: Path) -> list[str]:
    """Mounts at that place, or of what lies there, in this namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if place.name in line]


def leaves_nothing(name: str, arguments: list[str], number: signal.Signals, said: Path) -> None:
    """refmta-fault NAME is sent that signal as soon as a server, or the root that it is to have,
    runs in its scratch directory.
    """
    before = set(SCRATCH.glob(f"refmta-{name}-*"))
    with said.open("wb") as log:
        harness = subprocess.Popen([*COMMAND, name, *arguments], stdout=log, stderr=log)
    mine: list[Path] = []

    def runs() -> bool:
        places = set(SCRATCH.glob(f"refmta-{name}-*")) - before
        held_ones = [each for each in places if held(each) == harness.pid]
        mine[:] = [each for each in held_ones if any(map(serves, at_work_in(each)))]
        return bool(mine)

    try:
        assert gone(lambda: not runs() and harness.poll() is None, BEGIN_S), said.read_text()
        assert mine, said.read_text()
        (place,) = mine
        its = {(each.pid, each.born) for each in family(harness.pid)}
        harness.send_signal(number)
        status = harness.wait(END_S)
    finally:
        harness.kill()
        harness.wait(END_S)
    assert gone(lambda: its & alive()), its & alive()  # also those that name no place
    assert gone(lambda: at_work_in(place)), at_work_in(place)
    assert gone(lambda: loops(place)), loops(place)
    assert mounts(place) == []
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
        with scratch(name):  # the next start, unless another's on this machine came before
            assert gone(place.exists)
    else:
        assert status == EX_INTERRUPTED and not place.exists()
        assert "Traceback" not in said.read_text() and "interrupted" in said.read_text()


def alive() -> set[tuple[int, int]]:
    """(number, birth) of every process."""
    return {(seen.pid, seen.born) for each in everyone() if (seen := look(each)) is not None}


def device(place: Path) -> str:
    """Of the file system that it lies on, as the kernel writes it (st_dev may be another)."""
    found = ("", "")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        number, at = line.split()[2], line.split()[4]
        if place.is_relative_to(at) and len(at) >= len(found[0]):
            found = at, number
    major, _, minor = found[1].partition(":")
    return f"{int(major):02x}:{int(minor):02x}"


def held(place: Path) -> int:
    """Who holds the lock of a scratch directory (as /proc/locks has it); 0 if nobody does."""
    try:
        file = f"{device(place)}:{(place / LOCK).stat().st_ino}"
    except OSError:
        return 0
    rows = map(str.split, Path("/proc/locks").read_text().splitlines())
    # a row with an arrow is of somebody who waits for it
    return next((int(row[4]) for row in rows if row[1] != "->" and row[5] == file), 0)
