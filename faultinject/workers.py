"""A function in a process whose life is a pipe: when whoever asked for it is dead, so is it, with
all that it has mounted or started.

    caller --a request, one line--> python -m MODULE --fork--> keeper --fork--> process 1: the work
           <-- words, one a line --

At the end of its input the worker kills what it has forked, and the kernel the rest (`namespaces`).
It is executed anew, so that the caller may have threads; and has a session of its own, so that an
interrupt from a terminal is the caller's alone.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from faultinject.namespaces import Child, Write, spawn, write_all

EX_WRONG: Final = 2
#: Octets of a request, at most; and of a worker's complaints.
LONGEST: Final = 1 << 16
COMPLAINTS: Final = 4000
#: How long a worker may take to end when it is told to, in seconds.
END_S: Final = 30.0


# -- the caller's side ----------------------------------------------------------------------------


@dataclass(slots=True)
class Worker:
    """One that runs.  status: of its end, negative for a signal; None while it runs."""

    _process: subprocess.Popen[bytes]
    _complaints: IO[bytes]
    status: int | None = None

    def words(self) -> Iterator[bytes]:
        """What it says, line by line, until it has ended; one that its death has torn is none."""
        if self._process.stdout is not None:
            yield from (line for line in self._process.stdout if line.endswith(b"\n"))
        self.end()

    def end(self) -> None:
        """The end of its input ends it, and everything that it has started."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self.status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.status = self._process.wait()

    def complaints(self) -> str:
        """What it said beside its words, at its end."""
        self._complaints.seek(0)
        return self._complaints.read()[-COMPLAINTS:].decode("utf-8", "replace")


@contextmanager
def worker(module: str, request: bytes) -> Iterator[Worker]:
    """It is gone at the end of the block.  request: without its newline."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
            start_new_session=True,
        )  # fmt: skip
        made = Worker(process, complaints)
        try:
            if process.stdin is not None:
                process.stdin.write(request + b"\n")
                process.stdin.flush()
            yield made
        finally:
            made.end()


# -- the worker's side ----------------------------------------------------------------------------


def serve(prepare: Callable[[bytes], Callable[[Write], None]]) -> int:
    """A worker's whole life.  prepare: from a request to the work; ValueError or KeyError if it
    makes no sense.  Exit codes: 0 the work has ended in good order, 1 it was abandoned, 2 a wrong
    request; else the work's own.
    """
    try:
        function = prepare(_line())
    except (ValueError, KeyError) as error:
        sys.stderr.write(f"{error}\n")
        return EX_WRONG
    words, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(2, 1)  # nothing else may write there

    def work(write: Write) -> None:
        os.dup2(null, 0)  # the pipe's end is for the keeper to see
        os.close(words)
        function(write)

    return _relay(spawn(work), words)


def _line() -> bytes:
    """Unbuffered, so that what follows stays in the pipe."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST:
        octet = os.read(0, 1)
        if not octet:
            break
        line += octet
    return line


def _relay(child: Child, words: int) -> int:
    """Hand on what it says, until it ends, or our input does."""
    with selectors.DefaultSelector() as selector:
        selector.register(child.output, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if 0 in ready and not os.read(0, 1):
                child.kill()
                child.wait()
                return 1
            if child.output in ready:
                if not child.take():
                    break
                write_all(words, bytes(child.taken))
                child.taken.clear()
    return child.wait()
