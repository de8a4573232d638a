"""The programs that measures run: strace on a server's processes, a load generator, small ones.

The one room of the measures for `subprocess`.  No shell; what a program says that failed is told.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from faultinject.processes import Process, look
from specs.claims.instruments import NotHere

SBIN: Final = "/usr/sbin:/sbin"
#: How long an attachment may take, and how often it is looked at, in seconds.
ATTACH_S, LOOK_S = 30.0, 0.003
#: Characters of what a failed program said.
TOLD: Final = 500


class Failed(RuntimeError):
    """A program did not exit 0; the text is the end of what it said."""


def tool(name: str, package: str = "") -> str:
    """The path of a program, also where it lies in sbin.  Raises NotHere."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
    found = shutil.which(name, path=path)
    if found is None:
        raise NotHere(f"{name} (Debian: {package or name})")
    return found


def said(command: Sequence[str]) -> str:
    """What it writes to its output.  Raises Failed, OSError."""
    done = subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed((done.stderr or done.stdout)[-TOLD:])
    return done.stdout


@contextmanager
def beside(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that runs meanwhile, and is killed if what goes on beside it fails."""
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as running:  # fmt: skip
        try:
            yield running
        except BaseException:
            running.kill()
            raise


# -- strace ---------------------------------------------------------------------------------------


@contextmanager
def tracing(
    processes: Sequence[Process], options: Sequence[str], directory: Path
) -> Iterator[None]:
    """strace on these processes and on all that they make; it lets go of them at the end.

    It writes to `directory`/calls, or with -ff to calls.PID.  Raises NotHere.
    """
    strace, words = tool("strace"), directory / "said"
    pids = [str(each.pid) for each in processes]
    with words.open("wb") as errors:
        tracer = subprocess.Popen(  # noqa: S603
            [strace, *options, "-o", str(directory / "calls"), "-p", ",".join(pids)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    try:
        _await_attached(words, tracer, pids)
        yield
    finally:
        with suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        tracer.wait()


def _await_attached(words: Path, tracer: subprocess.Popen[bytes], pids: Sequence[str]) -> None:
    """Wait until strace has said of each process that it has it, or that it can't have it: one that
    dies may not be traced either.  It ends if it has nobody.  Raises NotHere, Failed.
    """
    over = threading.Event()
    for _ in range(int(ATTACH_S / LOOK_S)):
        text = words.read_text(encoding="ascii", errors="replace")
        if tracer.poll() is not None:
            if any(look(int(pid)) for pid in pids) and "not permitted" in text:
                raise NotHere("permission to trace processes")
            return
        if all(
            f"Process {pid} attached" in text or f"PTRACE_SEIZE, {pid})" in text for pid in pids
        ):
            return
        over.wait(LOOK_S)
    raise Failed(f"strace did not attach to all processes: {text[-TOLD:]}")
