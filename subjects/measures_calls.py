"""Who works on a message: told by the system calls of all the server's processes (strace).

    a process works on a message when a word of it, which occurs nowhere else, is in what it reads,
    receives, writes or sends

Rules a reader may rely on:
- What a process is (its program, its user) is what it was at that call: changes by execve and by
  set*id calls before it are followed; what it began as is looked up while it lives.
- A descriptor that is passed on is no word: who never reads it does not work on the message.

What is tricky: strace slows a server down, so nothing here is a speed; and it numbers processes as
this machine does, also those of a server in a namespace.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faultinject.processes import Process
from subjects.measures_places import Place
from subjects.measures_programs import tracing

#: How often processes are looked at, in seconds.
LOOK_S: Final = 0.003
DATA: Final = (
    "read,readv,pread64,recvfrom,recvmsg,write,writev,pwrite64,sendto,sendmsg,sendfile,splice"
)
IDENTITY: Final = "execve,setuid,setreuid,setresuid"
#: Octets of each call that are told.
SHOWN_OCTETS: Final = 16384
_EXEC = re.compile(r'^execve\("([^"]*)".*\) = 0$')
_USERS = re.compile(r"^(setuid|setreuid|setresuid)\(([-0-9, ]+)\) = 0$")


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that worked on the message.  users: real, effective, saved; () if nobody saw it."""

    pid: int
    program: str
    users: tuple[int, ...]

    @property
    def is_root(self) -> bool:
        return 0 in self.users


@dataclass(slots=True)
class Watch:
    """Looks at a server's processes for as long as it is entered."""

    place: Place
    programs: dict[int, str] = field(default_factory=dict)
    users: dict[int, tuple[int, ...]] = field(default_factory=dict)
    #: At some instant: how many processes of each program had the user 0.
    roots: list[dict[str, int]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """In a thread beside."""
        self.look()
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Once."""
        roots: dict[str, int] = {}
        for process in self.place.processes():
            users = users_of(process)
            if not users:
                continue
            self.programs.setdefault(process.pid, process.role)
            self.users.setdefault(process.pid, users)
            if 0 in users:
                roots[process.role] = roots.get(process.role, 0) + 1
        self.roots.append(roots)


def users_of(process: Process) -> tuple[int, ...]:
    """Real, effective and saved user, as this machine numbers them; () if it is gone."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ()
    for line in text.splitlines():
        if line.startswith("Uid:"):
            return tuple(map(int, line.split()[1:4]))
    return ()


def workers(place: Place, words: Sequence[str], act: Callable[[], None]) -> list[Worker]:
    """Who met one of these words while this was done.  Raises NotHere."""
    with tempfile.TemporaryDirectory(prefix="refmta-calls-") as directory:
        path = Path(directory)
        with Watch(place).watching() as watch, tracing(place.processes(), _options(), path):
            act()
        files = sorted(path.glob("calls.*"))
        lines = {int(file.suffix[1:]): read_lines(file) for file in files}
    found = []
    for pid, said in lines.items():
        begun = watch.programs.get(pid, "?"), watch.users.get(pid, ())
        worker = worker_of(pid, said, words, *begun)
        if worker is not None:
            found.append(worker)
    return found


def read_lines(file: Path) -> list[str]:
    return file.read_text(encoding="ascii", errors="replace").splitlines()


def worker_of(
    pid: int, lines: Sequence[str], words: Sequence[str], program: str, users: tuple[int, ...]
) -> Worker | None:
    """What this process was when it first met a word; None if it met none."""
    for line in lines:
        executed, changed = _EXEC.match(line), _USERS.match(line)
        if executed:
            program = Path(executed[1]).name
        elif changed:
            users = changed_users(changed[1], changed[2], users)
        elif any(word in line for word in words):
            return Worker(pid, program, users)
    return None


def changed_users(call: str, arguments: str, users: tuple[int, ...]) -> tuple[int, ...]:
    """Credentials after a call that succeeded; setuid(2) of root changes all three."""
    given = [int(each) for each in arguments.split(",")]
    if call == "setuid":
        return (given[0],) * 3
    if call == "setreuid":
        given.append(given[1])
    before = users or (0, 0, 0)
    return tuple(new if new >= 0 else old for new, old in zip(given, before, strict=True))


def _options() -> list[str]:
    """Of strace: each process into a file of its own, data in full."""
    return [
        "-ff", "-s", str(SHOWN_OCTETS), "-e", f"trace={DATA},{IDENTITY}", "-e", "signal=none",
    ]  # fmt: skip
