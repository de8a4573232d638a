"""Calls of a server, seen as what they do to which file.  Pure.

`fair` says on which calls a fault is permitted, `Census` which call of each thread is one of these:
the numbers that strace counts by.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from faultinject import tracing
from faultinject.disk.faults import ANY_OPEN, OPENS
from faultinject.tracing import Call

#: Calls that name files: name -> where each path stands among the arguments, and before it where
#: the descriptor stands that it begins at (None: the working directory, which strace shows not).
NAMED: Final[Mapping[str, tuple[tuple[int | None, int], ...]]] = {
    **dict.fromkeys(
        ("open", "creat", "unlink", "rmdir", "mkdir", "mknod", "truncate", "chmod", "chown",
         "lchown"),
        ((None, 0),),
    ),
    **dict.fromkeys(("rename", "link"), ((None, 0), (None, 1))),
    "symlink": ((None, 1),),
    **dict.fromkeys(
        ("openat", "openat2", "unlinkat", "mkdirat", "mknodat", "fchmodat", "fchownat",
         "utimensat"),
        ((0, 1),),
    ),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), ((0, 1), (2, 3))),
    "symlinkat": ((1, 2),),
}  # fmt: skip
_WRITING: Final = ("O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC")


def places(call: Call) -> tuple[str, ...]:
    """What a call is about: paths (two for a rename or link), as they were named (`whereabouts`
    makes them absolute), or what else its descriptor is open on ("socket:[7]"); "" where strace
    did not say.
    """
    try:
        if call.name in NAMED:
            return tuple(_named(call.arguments, *each) for each in NAMED[call.name])
        return (tracing.descriptor(call.arguments[0])[1],)
    except (tracing.TracingError, IndexError):  # cut off by its process's death
        return ("",)


def _named(arguments: tuple[str, ...], directory: int | None, name: int) -> str:
    if directory is None:
        return tracing.path(arguments[name])
    below = tracing.descriptor(arguments[directory])[1]
    if not arguments[name].startswith('"'):
        return below  # NULL: the descriptor itself
    return str(PurePosixPath(below, tracing.path(arguments[name])))


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Whether it is one of the directories, or below one."""
    return any(path == each or path.startswith(f"{each}/") for each in directories)


def fair(call: Call, directories: Iterable[str], error: str = "") -> bool:
    """Whether it is about a file below one of these directories, and may fail with that error."""
    if error and error not in ANY_OPEN and call.name in OPENS and not writes(call):
        return False
    return any(is_below(each, directories) for each in places(call))


def writes(call: Call) -> bool:
    """Whether a call that opens does it to create or to write."""
    flags = "".join(call.arguments)
    return call.name == "creat" or any(flag in flags for flag in _WRITING)


@dataclass(slots=True)
class Census:
    """How often each kind of process makes each call, and at which numbers it is a fair one.

    counted: (role, call) -> the most that one thread made.  numbers: (role, call) -> the numbers,
    in a thread of that role, of calls that are fair.
    """

    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    numbers: dict[tuple[str, str], set[int]] = field(default_factory=lambda: defaultdict(set))

    def steps(self, calls: Iterable[str]) -> list[tuple[str, str, tuple[int, ...]]]:
        """(role, call, numbers) of those calls that are fair at least once, in the calls' order."""
        order = {name: place for place, name in enumerate(calls)}
        return sorted(
            (
                (role, call, tuple(sorted(numbers)))
                for (role, call), numbers in self.numbers.items()
                if call in order and numbers
            ),
            key=lambda row: (row[0], order[row[1]]),
        )


def take_census(
    traces: Iterable[tuple[str, Iterable[Call]]],
    directories: Iterable[str] | None,
    error: str = "",
) -> Census:
    """Of one run.  traces: the calls of each kind of process, and of whom they have made: as one
    strace sees them.  directories: of the mail; None: every call is fair.  error: with which it
    is to fail.
    """
    census = Census()
    below = None if directories is None else tuple(directories)
    for role, calls in traces:
        made: Counter[tuple[int, str]] = Counter()
        for call in sorted(calls, key=_begin):
            made[call.pid, call.name] += 1
            number = made[call.pid, call.name]
            key = role, call.name
            census.counted[key] = max(census.counted[key], number)
            if below is None or fair(call, below, error):
                census.numbers[key].add(number)
    return census


def _begin(call: Call) -> int:
    return call.begin
