"""System calls of a running system while something happens, by strace: what the kernel really did.

Theory.  What a server says of itself proves nothing; what it asks of the kernel does.  strace is
attached to every living process, writes a file for each thread, and is taken off again.  A call has
a beginning and an end (-ttt, -T): "before" means that one had ended when the other began, whatever
process made it.  Descriptors are shown as the paths that they are open on (-y), as seen from
outside of any jail.

A process that is born meanwhile is followed if its parent was attached (-f).  Calls that were cut
off by the end of their process returned nothing, and count as not made.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specs.observe.waiting import within
from specs.patterns.observation import Unavailable

#: How long strace may take to attach to all, in seconds.
ATTACH_S: Final = 15.0
#: Octets of each text that are shown.
_TEXT: Final = 400
_LINE = re.compile(
    r"(?P<at>\d+\.\d+) (?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)"
    r"(?:<(?P<opened>[^>]*)>)?.*?(?: <(?P<took>\d+\.\d+)>)?$"
)
_PLACE = re.compile(r"-?\w+<([^>]*)>")
_NAMED = re.compile(r'(?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that returned.

    at, until: its beginning and end, in seconds.  process: the name of who made it.  place: the
    path of the descriptor that it was made on.  paths: the absolute paths that it names.  opened:
    the path of the descriptor that it returned.
    """

    at: float
    until: float
    pid: int
    process: str
    name: str
    arguments: str
    result: int
    place: str = ""
    paths: tuple[str, ...] = ()
    opened: str = ""


def parse(lines: Iterable[str], pid: int, process: str) -> Iterator[Call]:
    """The calls of one thread's file."""
    for line in lines:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        at, arguments = float(match["at"]), match["arguments"]
        place = _PLACE.match(arguments)
        yield Call(
            at=at,
            until=at + float(match["took"] or 0),
            pid=pid,
            process=process,
            name=match["name"],
            arguments=arguments,
            result=int(match["result"]),
            place=place[1] if place else "",
            paths=tuple(_paths(arguments)),
            opened=match["opened"] or "",
        )


def _paths(arguments: str) -> Iterator[str]:
    for directory, name in _NAMED.findall(arguments):
        yield name if name.startswith("/") else f"{directory}/{name}"


@contextlib.contextmanager
def watched(processes: Mapping[int, str], names: str, directory: Path) -> Iterator[list[Call]]:
    """While the block runs these calls (comma between names) are noted; the list is filled, in the
    order of their beginnings, when it ends.  Raises Unavailable.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise Unavailable("there is no strace")
    prefix = directory / "calls"
    tracer = subprocess.Popen(  # noqa: S603
        [
            strace, "-ff", "-ttt", "-T", "-y", "-s", str(_TEXT), "-e", f"trace={names}",
            "-o", str(prefix), *(word for pid in processes for word in ("-p", str(pid))),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    found: list[Call] = []
    try:
        _wait_attached(processes, tracer)
        yield found
    finally:
        tracer.terminate()
        tracer.communicate()
    found += sorted(_read(directory, processes), key=lambda call: call.at)


def _wait_attached(processes: Mapping[int, str], tracer: subprocess.Popen[bytes]) -> None:
    """A traced process says who traces it."""

    def attached() -> bool:
        return all(_traced(pid, tracer.pid) for pid in processes)

    within(ATTACH_S, lambda: tracer.poll() is not None or attached())
    if not attached():
        said = tracer.stderr.read(500) if tracer.poll() is not None and tracer.stderr else b""
        raise Unavailable(f"strace can't attach: {said.decode('utf-8', 'replace').strip()}")


def _traced(pid: int, by: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True  # it has ended: there is nothing to wait for
    return f"TracerPid:\t{by}\n" in status


def _read(directory: Path, processes: Mapping[int, str]) -> Iterator[Call]:
    for file in directory.glob("calls.*"):
        pid = int(file.suffix[1:])
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from parse(lines, pid, processes.get(pid, "born meanwhile"))
