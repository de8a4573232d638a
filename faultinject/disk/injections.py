"""How each way of a fault is brought about, and what is seen meanwhile: one interface.

    begin()     the fault may happen from now on; everything is watched
    hits()      how often it has happened so far
    over()      the fault ends; watching goes on
    end()       nobody is watched any more; then `calls` has what was seen

A process has one tracer.  So processes of the kind that is to be hit have a strace of their own,
which injects; the others that have to do with the disk have one that only watches.  Where writes
are made shorter nobody is watched, and nothing is said of failed syncs: there are none.
"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from faultinject.disk import descriptors
from faultinject.disk.faults import SLOW_S, WATCHED, Fault
from faultinject.disk.room import Room
from faultinject.disk.steps import Step
from faultinject.disk.whereabouts import FOLLOWED, Whereabouts, located, whereabouts_of
from faultinject.processes import Process
from faultinject.tracing import Call, Tampering, Tracer, TracingError, Unavailable, parse

READY_S: Final = 30.0


class Injection(Protocol):
    """Methods block."""

    def begin(self) -> None: ...

    def hits(self) -> int: ...

    def over(self) -> None: ...

    def end(self) -> None: ...

    @property
    def calls(self) -> Sequence[Call]: ...


@dataclass(slots=True)
class Watch:
    """strace on some processes, and on others, and what all of them have seen: a trace for each
    attachment.  names: of the calls that are shown.
    """

    directory: Path
    names: tuple[str, ...]
    tracers: list[Tracer] = field(default_factory=list)
    _known: list[dict[int, Whereabouts]] = field(default_factory=list)

    def attach(self, processes: Sequence[Process], tampering: Sequence[Tampering] = ()) -> Tracer:
        """Raises Unavailable, TracingError."""
        place = self.directory / f"trace{len(self.tracers)}"
        place.mkdir()
        tracer = Tracer(processes, place, calls=self.names, tamperings=tampering)
        known = {each.pid: whereabouts_of(each.pid) for each in processes}
        tracer.__enter__()
        self.tracers.append(tracer)
        self._known.append(known)
        return tracer

    def count(self, *marks: str) -> int:
        """How often one of these texts stands in what was written so far."""
        found = 0
        for tracer in self.tracers:
            with suppress(OSError):
                text = tracer.file.read_text(encoding="utf-8", errors="replace")
                found += sum(text.count(mark) for mark in marks)
        return found

    def stop(self) -> None:
        """Nobody is watched any more."""
        for tracer in self.tracers:
            tracer.stop()

    def traces(self) -> list[list[Call]]:
        """What was seen, with absolute paths, by attachment; whole only after the end."""
        return [
            located(_calls(tracer.file), known)
            for tracer, known in zip(self.tracers, self._known, strict=True)
        ]

    def end(self) -> list[Call]:
        """Everything that was seen."""
        self.stop()
        return [call for trace in self.traces() for call in trace]


def _calls(file: Path) -> list[Call]:
    if not file.exists():  # nobody was left to be traced
        return []
    with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        return [each for each in parse(lines) if isinstance(each, Call)]


@dataclass(slots=True, kw_only=True)
class ByStrace:
    """An error in place of a call, or a delay before it.

    processes: those of the step's role, and the others that are watched.
    """

    fault: Fault
    step: Step
    processes: Callable[[], tuple[Sequence[Process], Sequence[Process]]]
    watch: Watch
    calls: Sequence[Call] = ()
    _injecting: Tracer | None = None

    def begin(self) -> None:
        victims, others = self.processes()
        if not victims:
            raise TracingError(f"there is no {self.step.role} now")
        self._injecting = self.watch.attach(victims, [self._tampering()])
        if others:
            self.watch.attach(others)

    def _tampering(self) -> Tampering:
        first = self.step.number
        last = None if self.fault.forever else first
        if self.fault.way == "delay":
            return Tampering(calls=self.fault.calls, delay_s=SLOW_S, first=first, last=last)
        return Tampering(calls=(self.step.call,), error=self.fault.error, first=first, last=last)

    def hits(self) -> int:
        return self.watch.count("(INJECTED)", "(DELAYED)")

    def over(self) -> None:
        """Also of one that comes once: strace counts anew in each process that is made."""
        if self._injecting is not None:
            self._injecting.stop()
            victims, _ = self.processes()
            if victims:
                self.watch.attach(victims)

    def end(self) -> None:
        self.calls = self.watch.end()


@dataclass(slots=True, kw_only=True)
class ByRoom:
    """Blocks, inodes, quota, or the right to write are taken away."""

    fault: Fault
    step: Step
    room: Room
    processes: Callable[[], Sequence[Process]]
    watch: Watch
    calls: Sequence[Call] = ()

    def begin(self) -> None:
        self.watch.attach(self.processes())
        self.room.take(self.fault.way, self.step.number)

    def hits(self) -> int:
        return self.watch.count(f"= -1 {self.fault.error} ")

    def over(self) -> None:
        self.room.give_back()

    def end(self) -> None:
        self.calls = self.watch.end()


@dataclass(slots=True, kw_only=True)
class ByLimit:
    """RLIMIT_NOFILE of each process leaves so many descriptors more than it has.

    Of processes that nobody may limit here (a real user that is not the effective one), nothing is
    asked; if all are such ones, the fault is unavailable.
    """

    fault: Fault
    step: Step
    processes: Callable[[], Sequence[Process]]
    watch: Watch
    calls: Sequence[Call] = ()
    _before: dict[int, int] = field(default_factory=dict)

    def begin(self) -> None:
        self.watch.attach(self.processes())
        refused = None
        for process in self.processes():
            try:
                soft, _ = descriptors.limits_of(process.pid)
                most = descriptors.limit(descriptors.numbers_of(process.pid), self.step.number)
                descriptors.set_soft(process.pid, min(soft, most))
                self._before[process.pid] = soft
            except OSError:  # gone
                continue
            except Unavailable as error:
                refused = error
        if refused is not None and not self._before:
            raise refused

    def hits(self) -> int:
        return self.watch.count("= -1 EMFILE ")

    def over(self) -> None:
        """Whoever was born meanwhile has the limit of its parent; it gets the widest of all."""
        if not self._before:
            return
        widest = max(self._before.values())
        for process in self.processes():
            with suppress(OSError, Unavailable):
                descriptors.set_soft(process.pid, self._before.get(process.pid, widest))

    def end(self) -> None:
        self.calls = self.watch.end()


@dataclass(slots=True, kw_only=True)
class ByShortening:
    """Writes that are made shorter (`shorten`).  directories: of the mail, as the server's
    processes name them.
    """

    fault: Fault
    step: Step
    processes: Callable[[], Sequence[Process]]
    directories: Sequence[str]
    directory: Path
    calls: Sequence[Call] = ()
    _running: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> Path:
        return self.directory / "shortened"

    def begin(self) -> None:
        last = 0 if self.fault.forever else self.step.number
        with self.said.open("wb") as out:
            self._running = subprocess.Popen(  # noqa: S603
                [
                    sys.executable, "-P", "-m", "faultinject.disk.shorten", str(self.step.number),
                    str(last), *self.directories,
                ],
                stdin=subprocess.PIPE, stdout=out, start_new_session=True,
            )  # fmt: skip
        if self._running.stdin is not None:
            pids = " ".join(str(each.pid) for each in self.processes())
            self._running.stdin.write(pids.encode("ascii") + b"\n")
            self._running.stdin.flush()
        for _ in range(int(READY_S / 0.003)):
            if self.said.read_bytes().startswith(b"ready\n") or self._running.poll() is not None:
                break
            select.select([], [], [], 0.003)
        if self._running.poll() is not None:
            raise TracingError(f"writes are not shortened: exit code {self._running.returncode}")

    def hits(self) -> int:
        return max(0, self.said.read_bytes().count(b"\n") - 1)

    def over(self) -> None:
        if self.fault.forever:
            self.end()

    def end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if running.stdin is not None:
            running.stdin.close()
        try:
            running.wait(READY_S)
        except subprocess.TimeoutExpired:  # the kernel lets go of those whose tracer dies
            running.kill()
            running.wait()


def watched(fault: Fault) -> tuple[str, ...]:
    """The calls that strace is to show."""
    return tuple(dict.fromkeys((*WATCHED, *FOLLOWED, *fault.calls)))
