"""Paths in calls, made absolute: each process has a root and a working directory.

strace shows what a descriptor is open on, but not what a path of rename(2), unlink(2) or link(2) is
relative to, nor that a process was confined by chroot(2), whose "/queue" is another's
"/var/spool/smtpd/queue".  Both are asked of /proc when a process is first watched, and followed
from there: chdir, fchdir, chroot, and forks.

What is tricky: a process in a pid namespace is told its child's number in there, while strace
counts by its own.  Whose child a new process is, is then taken to be the last one's that forked;
those of one trace are one server's processes of one kind, and seldom differ.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from faultinject import tracing
from faultinject.disk.calls import NAMED
from faultinject.tracing import Call

FORKS: Final = ("clone", "clone3", "fork", "vfork")
MOVES: Final = ("chdir", "fchdir", "chroot")
#: What must be traced for it.
FOLLOWED: Final = (*FORKS, *MOVES)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """root, cwd: absolute, as seen from outside any chroot."""

    root: str = "/"
    cwd: str = "/"

    def absolute(self, name: str, directory: str = "") -> str:
        """What a path means.  directory: where a relative one begins; "": the working one."""
        if name.startswith("/"):
            return os.path.normpath(f"{self.root.rstrip('/')}{name}")
        return os.path.normpath(f"{(directory or self.cwd).rstrip('/')}/{name}")

    def after(self, call: Call) -> Whereabouts:
        """Where the process is when the call has been made."""
        try:
            if call.name == "fchdir":
                return replace(self, cwd=tracing.descriptor(call.arguments[0])[1])
            there = self.absolute(tracing.path(call.arguments[0]))
        except (tracing.TracingError, IndexError):
            return self
        return replace(self, root=there) if call.name == "chroot" else replace(self, cwd=there)


def whereabouts_of(pid: int) -> Whereabouts:
    """As the kernel shows it now; of a process that is gone, the machine's root."""
    with suppress(OSError):
        links = (Path(f"/proc/{pid}/{name}").readlink() for name in ("root", "cwd"))
        return Whereabouts(*map(str, links))
    return Whereabouts()


def located(calls: Iterable[Call], known: Mapping[int, Whereabouts]) -> list[Call]:
    """The same calls in the order of their begins, with absolute paths.  known: of the processes
    that were there before; the calls are those of one trace.
    """
    ordered = sorted(calls, key=lambda call: call.begin)
    parents = {call.result: call.pid for call in ordered if call.name in FORKS and call.result}
    where, last, found = dict(known), 0, []
    for call in ordered:
        if call.pid not in where:
            parent = parents.get(call.pid, last)
            where[call.pid] = where.get(parent, Whereabouts())
        if call.name in FORKS:
            last = call.pid
        found.append(_absolute(call, where[call.pid]))
        if call.name in MOVES and call.made:
            where[call.pid] = where[call.pid].after(call)
    return found


def _absolute(call: Call, where: Whereabouts) -> Call:
    if call.name not in NAMED:
        return call
    arguments = list(call.arguments)
    try:
        for directory, name in NAMED[call.name]:
            if arguments[name].startswith('"'):
                below = "" if directory is None else tracing.descriptor(arguments[directory])[1]
                arguments[name] = _quoted(where.absolute(tracing.path(arguments[name]), below))
    except (tracing.TracingError, IndexError):  # cut off by its process's death
        return call
    return replace(call, arguments=tuple(arguments))


def _quoted(path: str) -> str:
    """As strace would write it."""
    octets = path.encode("utf-8", "surrogateescape")
    return f'"{"".join(f"{chr(92)}x{octet:02x}" for octet in octets)}"'
