"""Did the syncs come before the events that rely on them? By strace, not by the server's word.

    strace -ff -y -s 300 -e trace=SYSTEM_CALLS -o PREFIX refmta serve --trace FILE ...

writes a file for each process, PREFIX.PID, with its calls in order. A *durability event* names the
file that it is about (`path`, the end of its full path). Its line in the trace is itself a write,
so it has its place among the calls of its process; before that place there must be, by the same
process:

1. the file's creation, and after the last write to it a sync of it that returned 0;
2. after each change of its name (creation, rename), a sync of the directory that returned 0; the
   same for directories above it that this process has made;
3. no sync of either that failed: the kernel may have dropped the pages, and a second sync that
   succeeds says nothing about them.

Each file serves one event. A call that was cut off by a kill returned nothing, and counts as not
made. What other threads did does not count: the plans sync once more in the group.

What this does not show: that the disk kept what it had said it has.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from specs.kernel.lives import LIFE, Event, told_apart

DURABLE = frozenset({"enqueue.committed", "local.delivered"})
WRITES = frozenset({"write", "pwrite64", "writev"})
SYSTEM_CALLS = (
    "openat,write,pwrite64,writev,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,mkdir,mkdirat"
)

_match_call = re.compile(r"(?:[\d.:]+ )?(\w+)\((.*)\) += (-?\d+|\?)(?:<(.*)>)?").match
_match_descriptor = re.compile(r"-?\w+<([^>]*)>").match
_find_names = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"').findall
_search_event = re.compile(r'"\{\\"pid\\": ?(\d+), ?\\"sequence\\": ?(\d+),').search

Read = Callable[[int], Iterable[str] | None]
"""The calls of a process, line by line; None if it was not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """A durability event that the system calls do not bear out.

    `rule`: "traced" (the calls that it needs were not seen), "file_synced", "directory_synced".
    """

    event: Event
    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.event.fields.get('queue_id', '-')}: {self.event}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What was matched, and what could not be."""

    events: int
    unproved: tuple[Unproved, ...]


def match_syncs(events: Sequence[Event], read: Read) -> Matching:
    """Match every durability event of a trace."""
    by_pid: dict[int, dict[int, Event]] = {}
    for event in told_apart(events)[0]:
        if event.action in DURABLE:
            by_pid.setdefault(event.pid, {})[event.sequence] = event
    unproved: list[Unproved] = []
    for life, own in by_pid.items():
        lines = read(life % LIFE)
        found = {} if lines is None else _Process(life % LIFE, own).run(lines)
        missing = "its process was not traced" if lines is None else "strace saw no such write"
        for sequence, event in own.items():
            rule, reason = found.get(sequence, ("traced", missing))
            if rule:
                unproved.append(Unproved(event=event, rule=rule, reason=reason))
    return Matching(events=sum(map(len, by_pid.values())), unproved=tuple(unproved))


Verdict = tuple[str, str]
"""The rule that is broken, and how; empty if none is."""


@dataclass(slots=True)
class _Process:
    """One process's files as far as its calls were read."""

    pid: int
    events: dict[int, Event]
    #: Path -> "written", "synced", or "failed".
    content: dict[str, str] = field(default_factory=dict)
    #: Names whose directory was not synced since: path -> "new" or "failed".
    names: dict[str, str] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)

    def run(self, lines: Iterable[str]) -> dict[int, Verdict]:
        """By the sequence number of each event that was seen."""
        for line in lines:
            call = _match_call(line)
            if call and call[3] != "?":
                self._take(call[1], call[2], int(call[3]), call[4] or "")
            elif call and call[1] in WRITES:  # it was killed in it: what it wrote may be there
                self._written(_path_of(call[2]), call[2])
        return self.verdicts

    def _take(self, name: str, arguments: str, result: int, opened: str) -> None:
        if name in {"fsync", "fdatasync"}:
            self._synced(_path_of(arguments), good=result == 0)
        elif result < 0:
            return
        elif name == "openat":
            if "O_CREAT" in arguments and opened:
                self.content[opened] = "written"
                self.names[opened] = "new"
        elif name in WRITES:
            self._written(_path_of(arguments), arguments)
        elif name.startswith(("rename", "link")):
            self._renamed(_names_in(arguments))
        elif name.startswith("mkdir"):
            for path in _names_in(arguments):
                self.names[path] = "new"

    def _written(self, path: str, arguments: str) -> None:
        if path in self.content:
            if self.content[path] == "synced":
                self.content[path] = "written"
            return
        said = _search_event(arguments)
        if said and int(said[1]) == self.pid:
            event = self.events.get(int(said[2]))
            if event is not None and event.sequence not in self.verdicts:
                self.verdicts[event.sequence] = self._judged(event)

    def _synced(self, path: str, *, good: bool) -> None:
        if path in self.content and self.content[path] != "failed":
            self.content[path] = "synced" if good else "failed"
        for name in [each for each in self.names if posixpath.dirname(each) == path]:
            if not good:
                self.names[name] = "failed"
            elif self.names[name] == "new":
                del self.names[name]

    def _renamed(self, names: Sequence[str]) -> None:
        if len(names) == 2:
            old, new = names
            self.names.pop(old, None)
            self.names[new] = "new"
            if old in self.content:
                self.content[new] = self.content.pop(old)

    def _judged(self, event: Event) -> Verdict:
        """What is missing before this event."""
        path = event.fields.get("path", "")
        found = [each for each in self.content if each.endswith(f"/{path}")] if path else []
        if len(found) != 1:
            return "traced", f"this process has not written one such file: {path or 'none said'}"
        state = self.content.pop(found[0])
        if state != "synced":
            return "file_synced", f"{path}: {SAID[state]} before it"
        for name, how in self.names.items():
            if found[0] == name or found[0].startswith(f"{name}/"):
                where = posixpath.dirname(name)
                return "directory_synced", f"{where}: {SAID[how]} before it"
        return "", ""


SAID = {
    "written": "no sync of the file returned 0",
    "new": "no sync of the directory returned 0",
    "failed": "a sync failed",
}


def _path_of(arguments: str) -> str:
    found = _match_descriptor(arguments)
    return found[1] if found else ""


def _names_in(arguments: str) -> list[str]:
    return [posixpath.join(directory, name) for directory, name in _find_names(arguments)]
