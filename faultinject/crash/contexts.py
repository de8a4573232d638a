"""What a process's system calls mean by a descriptor, a relative path and an owner.

strace shows for each descriptor the file that it is open on, by the name that this file has now; so
no table of descriptors is needed to know *which* file is meant, whoever opened it and handed it
over.  What is not shown is where in the file a write lands.  That is followed here: opens, dups,
seeks and writes, over forks; a descriptor that came from elsewhere (inherited from before the
recording, or received from another process) writes at the end, as mail is written.

Nor is the directory shown that a relative path begins at, in the old calls without a descriptor
(rename, unlink, link): it is asked of /proc when the recording begins, and followed from there.

What this doesn't follow: positions moved by reading, and mappings (mmap).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from faultinject.tracing import Call, TracingError

FORKS: Final = frozenset({"clone", "clone3", "fork", "vfork"})
IDS: Final = ("setuid", "setreuid", "setresuid", "setgid", "setregid", "setresgid", "setfsuid")


@dataclass(slots=True)
class Open:
    """An open file.  at: where the next write lands; None: at the end, always."""

    at: int | None


@dataclass(slots=True)
class Context:
    """Of one process.  cwd, root: as this machine names them; uid, gid: effective; program: what
    people call it, "" if that is not known.
    """

    cwd: str = "/"
    root: str = "/"
    uid: int = 0
    gid: int = 0
    program: str = ""
    opened: dict[int, Open] = field(default_factory=dict)

    def born(self, *, shares: bool) -> Context:
        """Of a child; threads share descriptors."""
        return replace(self, opened=self.opened if shares else dict(self.opened))


def context_of(pid: int, program: str = "") -> Context:
    """As the kernel shows it now; a process that is gone is nobody's context."""
    found = Context(program=program)
    with suppress(OSError, IndexError, ValueError):
        found.root = str(Path(f"/proc/{pid}/root").readlink())
        found.cwd = str(Path(f"/proc/{pid}/cwd").readlink())
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        rows = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        found.uid, found.gid = int(rows["Uid"].split()[1]), int(rows["Gid"].split()[1])
    return found


@dataclass(slots=True)
class Contexts:
    """Of all processes, while their calls are read in order.

    known: of those that ran when the recording began.  parents: child -> (parent, threads).
    """

    known: dict[int, Context]
    parents: Mapping[int, tuple[int, bool]]

    @classmethod
    def of(
        cls, known: Mapping[int, Context], calls: Iterable[Call], seen: Iterable[int] = ()
    ) -> Contexts:
        """calls: all of them, as a child's first call may end before its parent's fork does.
        seen: who else was traced.  Raises TracingError.
        """
        forks, new = [], {*seen}
        for call in calls:
            new.add(call.pid)
            if call.name in FORKS and call.result is not None and call.result > 0:
                forks.append(call)
        numbers = _numbers({each.result or 0 for each in forks}, new - known.keys())
        parents = {}
        for call in forks:
            shares = any("CLONE_FILES" in each for each in call.arguments)
            parents[numbers[call.result or 0]] = (call.pid, shares)
        return cls(dict(known), parents)

    def __getitem__(self, pid: int) -> Context:
        found = self.known.get(pid)
        if found is None:
            parent, shares = self.parents.get(pid, (0, False))
            above = self[parent] if parent and parent != pid else Context()
            found = self.known[pid] = above.born(shares=shares)
        return found

    def note_ids(self, call: Call) -> None:
        """A process becomes somebody else."""
        numbers = [int(each) for each in call.arguments if each.lstrip("-").isdigit()]
        if call.result != 0 or not numbers:
            return
        number = numbers[1] if call.name.startswith("setre") and len(numbers) > 1 else numbers[0]
        if number < 0:
            return
        if "uid" in call.name:
            self[call.pid].uid = number
        else:
            self[call.pid].gid = number


def _numbers(forked: set[int], seen: set[int]) -> dict[int, int]:
    """What a fork returned -> the number by which strace knows the child.

    They differ where the server has a pid namespace of its own.  There every process has a number
    in both, given at the same moment, and both count upwards: so they have the same order.
    """
    if forked <= seen:
        return {number: number for number in forked}
    if len(forked) != len(seen):
        raise TracingError(f"{len(forked)} processes were forked, and {len(seen)} were seen")
    return dict(zip(sorted(forked), sorted(seen), strict=True))
