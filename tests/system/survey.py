"""Which system calls the processes of a server make: strace -ff, read back, and held against a
table of needs (`refmta.patterns.system_calls`).

Each process is told by what it executes and by whose child it is.  Its life has two phases: before
its own filter it is judged by what a process that starts may do, after it by its own kinds.  In an
architecture without filters the loop of trio takes their place, in a pool's template its birth.

Arguments are read as numbers (strace -e raw), and of them only what some rule tests is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from refmta.patterns.system_calls import ABSENT, NEEDS, Need, Test

#: What strace is told.  Executed programs are told by their arguments.
STRACE = ("strace", "-D", "-ff", "-s", "300", "-e", "raw=!execve", "-e", "signal=none")
POOLS = ("smtpd", "remote")
#: What a process attempts to prove that its filter is there; both are refused.
PROOFS, PROOF_CALLS = ("getpriority", "execve"), 40
_LINE = re.compile(r"(\w+)\((.*?)\)? +(?:= (\S+)(?: (E[A-Z0-9]+))?.*|<unfinished \.\.\.>)$")
_SET_FILTER, _PR_SET_SECCOMP, _CLONE_THREAD = 1, 22, 0x10000


class Call(NamedTuple):
    """One line.  arguments: as the kernel got them; () for execve.  error: "EPERM", or ""."""

    name: str
    arguments: tuple[int, ...]
    result: str
    error: str
    text: str


class Shape(NamedTuple):
    """A call, and those of its arguments that rules test, by place."""

    name: str
    arguments: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Life:
    """A process, or a thread.  children: pid -> whether it is a thread.  filtered: whether it has a
    filter of its own.  made: phase -> what it called, and how often.  proofs: attempts refused.
    """

    pid: int
    program: str = ""
    parent: int = 0
    thread: bool = False
    children: dict[int, bool] = field(default_factory=dict)
    made: dict[str, Counter[Shape]] = field(default_factory=dict)
    filtered: bool = False
    proofs: int = 0


def read(record: Path) -> Iterator[Call]:
    """One process's calls."""
    for line in record.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue  # a signal, or its end
        name, inside, result, error = match.groups()
        numbers = () if name == "execve" else tuple(_numbers(inside))
        yield Call(name, numbers, result or "?", error or "", inside)


def _numbers(inside: str) -> Iterator[int]:
    for each in filter(None, inside.split(", ")):
        yield int(each, 0) if each[0].isdigit() or each[0] == "-" else 0


class Survey:
    """Of one run: `lives`, by pid."""

    def __init__(self, directory: Path) -> None:
        """directory: holds a file NAME.PID per process, and nothing else."""
        records = {int(each.suffix[1:]): each for each in directory.iterdir()}
        self.lives = {pid: _life(pid, record) for pid, record in records.items()}
        for life in self.lives.values():
            for child, thread in life.children.items():
                if child in self.lives:
                    self.lives[child].parent, self.lives[child].thread = life.pid, thread
        self.filtered = any(life.filtered for life in self.lives.values())
        for pid, record in records.items():
            self._walk(self.lives[pid], list(read(record)))

    def kind(self, life: Life) -> str:
        """What it is in the end: "spawner", "starting" (it ended as that), a compartment, or of a
        pool "smtpd parent", "smtpd template", "smtpd worker"; "" for what is none of the server's.
        A thread is what its process is.
        """
        if life.program:
            return f"{life.program} parent" if life.program in POOLS else life.program
        above = self.kind(self.lives[life.parent]) if life.parent in self.lives else ""
        if life.thread:
            return above
        name, _, part = above.partition(" ")
        next_part = {"parent": "template", "template": "worker"}.get(part)
        return "starting" if above == "spawner" else f"{name} {next_part}" if next_part else ""

    def _walk(self, life: Life, calls: list[Call]) -> None:
        kind = self.kind(life)
        if not kind:
            return
        executed = [at for at, call in enumerate(calls) if _executes(call)]
        start = executed[-1] + 1 if executed else 0
        first, last = (0, 0) if life.thread else self._filtered_at(calls, kind, start)
        begin = start if kind == "spawner" else 0
        for at, call in enumerate(calls[begin:], begin):
            phase = kind if at >= last else _before(kind, own=at >= first)
            if call.name in PROOFS and call.error == "EPERM" and first <= at < first + PROOF_CALLS:
                life.proofs += 1
            elif call.name in ABSENT and call.error == "ENOSYS":
                continue
            elif phase:
                life.made.setdefault(phase, Counter())[shape(call)] += 1

    def _filtered_at(self, calls: list[Call], kind: str, start: int) -> tuple[int, int]:
        """The places of the first call after its first own filter, and after its last."""
        found = [at + 1 for at in range(start, len(calls)) if _filters(calls[at])]
        if not found and kind == "spawner":
            found = [at for at in range(start, len(calls)) if calls[at].name == "clone"][:1]
        elif not found and not self.filtered:
            if kind.endswith("template"):
                return 0, 0
            loops = [at for at in range(start, len(calls)) if calls[at].name == "epoll_create1"]
            found = loops[-1:]
        return (found[0], found[-1]) if found else (len(calls), len(calls))

    def phases(self) -> dict[str, Counter[Shape]]:
        """Phase -> what all processes called in it."""
        found: dict[str, Counter[Shape]] = {}
        for life in self.lives.values():
            for phase, made in life.made.items():
                found.setdefault(phase, Counter()).update(made)
        return found


def _life(pid: int, record: Path) -> Life:
    life = Life(pid)
    for call in read(record):
        if _executes(call):
            life.program = _program(call.text)
            life.children.clear()  # of another program: none of ours
        elif call.name in ("clone", "clone3") and call.result.startswith("0x"):
            # The C library calls clone3 for threads only (glibc 2.34).
            thread = call.name == "clone3" or bool(call.arguments[0] & _CLONE_THREAD)
            life.children[int(call.result, 16)] = thread
        elif _filters(call):
            life.filtered = True
    return life


def _program(text: str) -> str:
    """What is executed: "spawner", or the compartment."""
    words = re.findall(r'"([^"]*)"', text)
    if "refmta.processes.spawner" in words:
        return "spawner"
    if "refmta.architectures.enter" in words:
        return words[words.index("refmta.architectures.enter") + 2]
    return ""


def _executes(call: Call) -> bool:
    return call.name == "execve" and call.result == "0"


def _filters(call: Call) -> bool:
    if call.name == "seccomp":
        return call.arguments[0] == _SET_FILTER and call.result == "0"
    return call.name == "prctl" and call.arguments[0] == _PR_SET_SECCOMP and call.result == "0"


def _before(kind: str, *, own: bool) -> str:
    """By what it is judged before its last filter, `own`: after its first; "" for not at all.
    Between its filters, the first process of a pool and those that it forks make the others.
    """
    name, _, part = kind.partition(" ")
    if kind == "spawner":
        return ""
    return f"{name} template" if part in ("template", "worker") or own else "starting"


# -- shapes ---------------------------------------------------------------------------------------


def _places() -> dict[str, list[int]]:
    """name -> places of the arguments that some rule tests."""
    found: dict[str, set[int]] = {}
    for need in NEEDS:
        for name in need.names.split():
            tested = {test.argument for tests in need.tests for test in tests}
            found.setdefault(name, set()).update(tested)
    return {name: sorted(places) for name, places in found.items()}


PLACES = _places()


def shape(call: Call) -> Shape:
    """What of a call is kept."""
    there = [at for at in PLACES.get(call.name, ()) if at < len(call.arguments)]
    return Shape(call.name, tuple((at, call.arguments[at]) for at in there))


# -- judging --------------------------------------------------------------------------------------


def kinds(phase: str) -> frozenset[str]:
    """The table's kinds for one phase of a process."""
    role, _, part = phase.partition(" ")
    own = {"": {role}, "parent": {"pool parent"}, "template": {part}, "worker": {part, role}}[part]
    return frozenset({"every"} | own)


def holds(test: Test, made: Shape) -> bool:
    """Whether a rule's test is passed; no, if the argument is not known."""
    value = dict(made.arguments).get(test.argument)
    return value is not None and value & test.mask == test.value


def allows(row: Need, made: Shape) -> bool:
    """Whether this row allows that call."""
    if made.name not in row.names.split():
        return False
    return not row.tests or any(all(holds(each, made) for each in tests) for tests in row.tests)


def findings(
    phases: Mapping[str, Iterable[Shape]], needs: Iterable[Need]
) -> list[tuple[str, Shape]]:
    """(phase, call) of each that no row allows."""
    needs = tuple(needs)
    found = []
    for phase, made in phases.items():
        rows = [row for row in needs if not kinds(phase).isdisjoint(row.kinds)]
        found += [(phase, each) for each in made if not any(allows(row, each) for row in rows)]
    return sorted(found)


def unseen(phases: Mapping[str, Iterable[Shape]], needs: Iterable[Need]) -> list[tuple[Need, str]]:
    """(row, kind) of each that nothing made use of."""
    found = []
    for row in needs:
        seen: set[str] = set()
        for phase, made in phases.items():
            mine = kinds(phase) & set(row.kinds)
            if mine - seen and any(allows(row, each) for each in made):
                seen |= mine
        found += [(row, each) for each in row.kinds if each not in seen]
    return found
