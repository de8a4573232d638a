"""What is tried, and what came of it: values, and the file that a run goes on from.

The file has a line of JSON for the run, one for each point that was tried and judged, and one for
each finding that belongs to no point; each line is synced.  A line that was cut short by the end of
a run is dropped: its point is tried again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from faultinject import journal
from faultinject.kill.scripts import SCRIPTS

#: Of the file; a number more whenever a word of it changes its meaning.
VERSION: Final = 1
#: How its first line does.
BEGINS: Final = b'{"target":'

Fault = Literal["kill", "twice", "tree", "stop"]
#: What each fault is, for people.
FAULTS: Final[Mapping[Fault, str]] = {
    "kill": "SIGKILL of one process, before the call",
    "twice": "SIGKILL of one process at rest; while it starts anew, of any, before the call",
    "tree": "SIGKILL of all processes, before the call",
    "stop": "SIGSTOP of one process, behind the call; SIGCONT after a while",
}
#: The kind of a point of the whole server: its calls are counted together.
ALL: Final = ""


class ResumeError(ValueError):
    """The file is of another run, or is none; the text says which."""


class Point(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Before the `number`-th call (from 1) of processes of a kind ("qmgr", "smtpd worker"; ALL),
    while the message of this script is under way.  "twice": a process of this kind dies first, and
    the calls of all count.
    """

    script: str
    fault: Fault
    kind: str
    number: int

    def __str__(self) -> str:
        who = self.kind or "all processes"
        return f"{self.script}: {self.fault} {who} at call {self.number}"


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One point as it was tried.

    hit: whether it came to that call.  struck: the kind that made it.  call, place: what it was.
    findings: (name, text).  seconds: for all of it.
    """

    point: Point
    hit: bool
    struck: str = ""
    call: str = ""
    place: str = ""
    findings: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the file."""

    target: str
    version: int = VERSION


class Other(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that belongs to no point: a message that nobody sent, say."""

    name: str
    text: str


@dataclass(slots=True)
class Record:
    """The file.  path: None for none."""

    path: Path | None
    done: dict[Point, Trial] = field(default_factory=dict)
    others: list[Other] = field(default_factory=list)
    _lock: IO[bytes] | None = None  # while this process lives

    def open(self, target: str) -> None:
        """Read what was done; begin the file if there is none.  Raises ResumeError, OSError."""
        if self.path is None:
            return
        self._own(self.path)
        octets = self.path.read_bytes()
        try:
            whole = octets[: journal.whole(octets, BEGINS, self.path)]
        except ValueError as error:
            raise ResumeError(str(error)) from None
        lines = whole.splitlines()
        if lines:
            self._read(lines, target)
        if len(whole) < len(octets):
            os.truncate(self.path, len(whole))
        if not lines:
            self._append([msgspec.json.encode(Run(target=target))])

    def close(self) -> None:
        """Others may go on with it."""
        if self._lock is not None:
            self._lock.close()

    def _own(self, path: Path) -> None:
        self._lock = path.open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResumeError(f"{path}: another run is writing it") from None

    def _read(self, lines: list[bytes], target: str) -> None:
        try:
            run = msgspec.json.decode(lines[0], type=Run)
            rows = [msgspec.json.decode(line) for line in lines[1:]]
            trials = [msgspec.convert(row, Trial) for row in rows if _is_trial(row)]
            others = [msgspec.convert(row, Other) for row in rows if not _is_trial(row)]
        except (msgspec.DecodeError, TypeError) as error:
            raise ResumeError(f"{self.path}: {error}") from None
        for trial in trials:
            if trial.point.script not in SCRIPTS:
                raise ResumeError(f"{self.path}: no such script: {trial.point.script}")
        if run.version != VERSION:
            raise ResumeError(f"{self.path}: of version {run.version}, not {VERSION}")
        if run.target != target:
            raise ResumeError(f"{self.path}: a run against {run.target}, not {target}")
        self.done = {trial.point: trial for trial in trials}
        self.others = others

    def add(self, trials: Iterable[Trial]) -> None:
        """Trials that were judged.  Raises OSError."""
        new = list(trials)
        self.done |= {trial.point: trial for trial in new}
        if new:
            self._append([msgspec.json.encode(trial) for trial in new])

    def add_others(self, findings: Iterable[Other]) -> None:
        """Findings that belong to no point.  Raises OSError."""
        new = list(findings)
        self.others += new
        if new:
            self._append([msgspec.json.encode(finding) for finding in new])

    def _append(self, lines: list[bytes]) -> None:
        if self.path is None:
            return
        with self.path.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _is_trial(row: Any) -> bool:
    return isinstance(row, dict) and "point" in row
