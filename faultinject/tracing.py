"""strace: attached to the processes of a server, told what to inject, and its lines read as calls.

    with Tracer(target.processes(), directory, calls=FILES, strings=1 << 20) as tracer:
        ...                                       # the server works, and is watched
    for each in tracer.records(): ...             # Call, Signalled, Ended: in strace's order

Rules a reader may rely on
- One file for all processes; what its lines say is `strace_lines`, whose names are here, too.
- Octets are shown in hexadecimal (-xx) when `strings` is given, so that each reads back as it was.

What is tricky in strace
- `when=` counts the calls of each *thread* by itself, from the attachment (or its birth) on.
- An injected SIGKILL comes before the call, which is not made; an injected error or return value
  replaces the call, which is not made either.  Any other signal comes after the call.
- EIO from strace leaves pages dirty: a later fsync succeeds and has synced them.
- A process has one tracer: who is traced by strace can't be killed by `faultinject.kill`.

strace lets go of everybody at the end.  If whoever started it is killed, it goes on until the last
process that it traces has ended.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from faultinject.processes import Process, look
from faultinject.strace_lines import (
    AT_FDCWD,
    TOLD,
    Call,
    Ended,
    Record,
    Signalled,
    TracingError,
    descriptor,
    octets,
    parse,
    path,
    split,
    written,
)

__all__ = [
    "ATTRIBUTES", "AT_FDCWD", "DESCRIPTORS", "MESSAGES", "NAMES", "PROCESSES", "SYNCS", "WRITES",
    "Call", "Ended", "Record", "Signalled", "Tampering", "Tracer", "TracingError", "Unavailable",
    "descriptor", "octets", "parse", "path", "split", "strace", "unavailable", "written",
]  # fmt: skip

#: Calls that change what a file holds, or that a later state of the disk depends on.
WRITES: Final = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
SYNCS: Final = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
NAMES: Final = (
    "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat",
    "rmdir", "symlink", "symlinkat", "mknod", "mknodat",
)  # fmt: skip
ATTRIBUTES: Final = (
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "utimensat",
    "truncate", "ftruncate", "fallocate",
)  # fmt: skip
#: Calls that tell another process something (besides writes).
MESSAGES: Final = ("sendto", "sendmsg", "sendmmsg", "sendfile", "splice", "copy_file_range")
#: Calls by which a descriptor comes to stand for something, or ceases to.
DESCRIPTORS: Final = (
    "open", "openat", "creat", "close", "dup", "dup2", "dup3", "fcntl", "recvmsg", "lseek",
)  # fmt: skip
#: Calls that make or replace processes: needed to follow descriptors.
PROCESSES: Final = ("clone", "clone3", "fork", "vfork", "execve", "chroot", "chdir", "fchdir")

#: How long strace may take to attach, to let go, and how often that is looked at, in seconds.
ATTACH_S, LETTING_GO_S, LOOK_S = 30.0, 10.0, 0.003


class Unavailable(Exception):
    """There is no strace, or it may not trace here; the text says which."""


# -- what is injected -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """What strace does to calls: `--inject`.

    calls: names.  error: "EIO" and so on, signal: "SIGKILL" and so on, result: returned without
    the call (only one of error and result).  delay_s: the call waits so long before it begins.
    first, last, step: which calls of each thread, counted from 1; last None: for ever; a single one
    has first == last.
    """

    calls: tuple[str, ...]
    error: str = ""
    signal: str = ""
    result: int | None = None
    delay_s: float = 0.0
    first: int = 1
    last: int | None = None
    step: int = 1

    @property
    def option(self) -> str:
        """As strace wants it.  Raises ValueError if it says nothing, or two results."""
        if self.error and self.result is not None:
            raise ValueError("an error and a result")
        parts = [",".join(self.calls)]
        parts += [f"error={self.error}"] if self.error else []
        parts += [f"retval={self.result}"] if self.result is not None else []
        parts += [f"signal={self.signal}"] if self.signal else []
        parts += [f"delay_enter={round(self.delay_s * 1e6)}us"] if self.delay_s else []
        if len(parts) == 1:
            raise ValueError("nothing is injected")
        return f"--inject={':'.join(parts)}:when={self._when}"

    @property
    def _when(self) -> str:
        if self.last == self.first:
            return str(self.first)
        last = "" if self.last is None else f"..{self.last}"
        return f"{self.first}{last}+{self.step}"


# -- strace itself --------------------------------------------------------------------------------


def strace() -> str:
    """The program.  Raises Unavailable."""
    found = shutil.which("strace")
    if found is None:
        raise Unavailable("there is no strace (Debian: strace)")
    return found


def unavailable() -> str | None:
    """Why nothing can be traced here; None if it can.  Containers often forbid it: it is tried."""
    try:
        program = strace()
    except Unavailable as error:
        return str(error)
    done = subprocess.run(  # noqa: S603
        [program, "-qq", "-e", "trace=none", program, "-V"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    return None if done.returncode == 0 else "tracing of processes (ptrace) is forbidden here"


@dataclass(slots=True)
class Tracer:
    """strace on these processes, and on all that they make, while the context lasts.

    directory: an existing one of its own for two files, `calls` and `said`.  calls: which are
    shown (and stop the process: the fewer the faster).  strings: how many octets of a text are
    shown, 0: none; everything is hexadecimal.  sockets: descriptors of sockets are shown with
    protocol and addresses (-yy; as is: their inode).  Raises Unavailable, TracingError on entering.
    """

    processes: Sequence[Process]
    directory: Path
    calls: Sequence[str] = (*WRITES, *SYNCS, *NAMES, *ATTRIBUTES, *MESSAGES)
    tamperings: Sequence[Tampering] = ()
    strings: int = 0
    sockets: bool = False
    follow: bool = True
    _running: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def file(self) -> Path:
        """What strace writes, while it writes: complete only after the end."""
        return self.directory / "calls"

    def options(self) -> list[str]:
        """Of strace, without program, processes and file."""
        shown = ["-xx", "-s", str(self.strings)] if self.strings else ["-s", "0"]
        return [
            *(["-f"] if self.follow else []), "-ttt", "-T", "-yy" if self.sockets else "-y", *shown,
            "-e", f"trace={','.join(f'?{each}' for each in self.calls)}",
            *(each.option for each in self.tamperings),
        ]  # fmt: skip

    def __enter__(self) -> Self:
        program, pids = strace(), [each.pid for each in self.processes]
        if not pids:
            raise TracingError("there is no process to trace")
        said = self.directory / "said"
        with said.open("wb") as errors:
            self._running = subprocess.Popen(  # noqa: S603
                [program, *self.options(), "-o", str(self.file), "-p", ",".join(map(str, pids))],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                start_new_session=True,  # a terminal's SIGINT is not for it
            )  # fmt: skip
        try:
            _await_attached(said, self._running, pids)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def stop(self) -> None:
        """Let go of everybody now.  Nothing if that was done, or all have ended."""
        self._end()

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        with suppress(ProcessLookupError):
            running.send_signal(signal.SIGINT)
        try:
            running.wait(LETTING_GO_S)
        except subprocess.TimeoutExpired:  # the kernel lets go of those whose tracer dies
            running.kill()
            running.wait()

    def running(self) -> bool:
        """Whether it still traces somebody."""
        return self._running is not None and self._running.poll() is None

    def records(self) -> Iterator[Record]:
        """Everything so far; whole only after the end.  Raises TracingError, OSError."""
        with self.file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            yield from parse(lines)


def _await_attached(said: Path, running: subprocess.Popen[bytes], pids: Sequence[int]) -> None:
    """Until strace has said of each process that it has it, or can't have it: one that dies may not
    be traced either.  Raises Unavailable, TracingError.
    """
    deadline = time.monotonic() + ATTACH_S
    while time.monotonic() < deadline:
        text = said.read_text(encoding="utf-8", errors="replace")
        if running.poll() is not None:
            if "not permitted" in text and any(look(pid) for pid in pids):
                raise Unavailable("tracing of processes (ptrace) is forbidden here")
            return  # nobody is left
        if all(f"Process {pid} attached" in text or f"SEIZE, {pid})" in text for pid in pids):
            return
        time.sleep(LOOK_S)
    raise TracingError(f"strace did not attach within {ATTACH_S:.0f} s: {text[-TOLD:]}")
