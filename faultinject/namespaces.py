"""A function in a process of its own, with mounts and processes of its own: the kernel cleans up
after it, whatever happens.

    child = spawn(lambda write: write(b"..."))

    caller --fork--> keeper (waits) --fork--> process 1 of a new pid namespace: the function

Rules a reader may rely on
- What is mounted in there is seen nowhere else, and gone with the last process in there; so are the
  loop devices that `mount` made for it (they clear themselves).
- When process 1 ends, in good order or not, the kernel kills whatever else runs in its namespace: a
  server's daemons can't outlive it.  It dies when the keeper dies, the keeper when the caller does
  (PR_SET_PDEATHSIG), so that a SIGKILL of anybody leaves nothing.
- A child that was waited for is gone with all its own: process 1 can be reaped only when nobody is
  left in there, and the keeper ends after it.  So a child is killed through its keeper, which
  stays for that.
- A machine that lost its power knows none of its old process numbers: so it is for the server that
  is started in there.
- The function is forked, not executed anew: it sees the caller's objects.  The caller must have no
  other threads that matter, and no trio running.

It confines nobody.  It needs root (CAP_SYS_ADMIN).
"""

from __future__ import annotations

import ctypes
import os
import select
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import pyprctl

#: sched.h.
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
READ_OCTETS: Final = 1 << 16
#: Exit codes of a process in here: it raised, or could not even begin.
EX_RAISED, EX_NOT_BEGUN = 70, 71

Write = Callable[[bytes], None]


class MountError(OSError):
    """`mount` or `umount` refused; the text is theirs."""


@dataclass(slots=True)
class Child:
    """A process that was spawned.  output: the end of the pipe that it writes to; order: of that by
    which the keeper is told to kill it.
    """

    pid: int
    output: int
    order: int
    taken: bytearray = field(default_factory=bytearray)

    def take(self) -> bool:
        """Read what is there; False at its end."""
        octets = os.read(self.output, READ_OCTETS)
        self.taken += octets
        return bool(octets)

    def wait(self) -> int:
        """Its exit code, once it and all its own have ended; negative: the signal that ended it."""
        os.close(self.output)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.order)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """It and everything in its namespace; `wait` for the end of that."""
        with suppress(BrokenPipeError):  # it has ended
            os.write(self.order, b"\n")


def spawn(function: Callable[[Write], None]) -> Child:
    """Begin; the function is handed what writes to `Child.output`."""
    reader, writer = os.pipe()
    heard, order = os.pipe()
    caller = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    keeper = os.fork()
    if keeper == 0:
        os.close(reader)
        os.close(order)
        _keep(function, writer, heard, caller)
    os.close(writer)
    os.close(heard)
    return Child(keeper, reader, order)


def _keep(function: Callable[[Write], None], writer: int, heard: int, caller: int) -> NoReturn:
    """The keeper's life: it ends as process 1 ends, and ends that if it is told to."""
    status = EX_NOT_BEGUN
    try:
        pyprctl.set_pdeathsig(signal.SIGKILL)
        if os.getppid() == caller:
            _unshare(CLONE_NEWNS | CLONE_NEWPID)
            keeper = os.pidfd_open(os.getpid())
            inner = os.fork()
            if inner == 0:
                os.close(heard)
                _live(function, writer, keeper)
            os.close(writer)
            if heard in select.select([os.pidfd_open(inner), heard], [], [])[0]:
                os.kill(inner, signal.SIGKILL)
            status = abs(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    except BaseException:  # told to people; nothing of the caller's may run here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _live(function: Callable[[Write], None], writer: int, keeper: int) -> NoReturn:
    """Process 1.  keeper: a descriptor that tells whether it lives."""
    status = EX_RAISED
    try:
        pyprctl.set_pdeathsig(signal.SIGKILL)
        if select.select([keeper], [], [], 0)[0]:  # it died before that; getppid is 0 either way
            os._exit(EX_NOT_BEGUN)
        os.close(keeper)
        run("mount", "--make-rprivate", "/")
        run("mount", "-t", "proc", "proc", "/proc")
        function(lambda octets: write_all(writer, octets))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)  # and everything in here ends with it


def write_all(writer: int, octets: bytes) -> None:
    """All of it, also into a pipe that is full."""
    while octets:
        octets = octets[os.write(writer, octets) :]


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


# -- many, some at once ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """number: of the function in its row.  late: it was killed, since its time was over."""

    number: int
    output: bytes
    status: int
    late: bool = False


def in_turn(
    functions: Sequence[Callable[[Write], None]], at_once: int, patience_s: float
) -> Iterator[Ended]:
    """Run all, so many at once, and yield each as it ends; those still running at the end of the
    iteration (or of its closing) are killed.
    """
    running: dict[int, tuple[Child, int, float]] = {}  # by descriptor
    waiting = list(enumerate(functions))[::-1]
    late: set[int] = set()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    number, function = waiting.pop()
                    child = spawn(function)
                    running[child.output] = child, number, time.monotonic() + patience_s
                    selector.register(child.output, selectors.EVENT_READ)
                for key, _ in selector.select(timeout=1.0):
                    child, number, _ = running[key.fd]
                    if not child.take():
                        selector.unregister(key.fd)
                        del running[key.fd]
                        yield Ended(
                            number=number, output=bytes(child.taken), status=child.wait(),
                            late=number in late,
                        )  # fmt: skip
                for child, number, deadline in running.values():
                    if time.monotonic() > deadline:
                        late.add(number)
                        child.kill()
        finally:
            for child, _, _ in running.values():
                child.kill()
                child.wait()


# -- mounts ---------------------------------------------------------------------------------------


def run(*command: str) -> str:
    """A program of util-linux or of a file system.  Raises MountError with what it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise MountError(error.errno, f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise MountError(5, f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout


@contextmanager
def mounted(kind: str, source: str | Path, at: Path, options: str) -> Iterator[Path]:
    """Until the end of the block, if nobody uses it then; else until the namespace ends."""
    at.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", kind, "-o", options, str(source), str(at))
    try:
        yield at
    finally:
        with suppress(MountError):
            run("umount", str(at))
