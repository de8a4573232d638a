"""A process that gets into a state, says "ready", and stays there until it is told a line."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

#: What all sitters can use.
PROLOGUE = """\
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def ready():
    print("ready", flush=True)
"""
WAIT = "\nready()\nsys.stdin.readline()\n"


class Sitter(subprocess.Popen):
    """stdin and stdout are its own: `tell` a line, `hear` the next."""

    def hear(self) -> str:
        return self.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        with contextlib.suppress(BrokenPipeError):  # it may have ended
            os.write(self.stdin.fileno(), f"{line}\n".encode())


@contextlib.contextmanager
def sitter(code: str, *, waits: bool = True, **options: Any) -> Iterator[Sitter]:
    """Runs the code behind PROLOGUE; unless it does so itself, it then says ready and waits."""
    program = PROLOGUE + code + (WAIT if waits else "")
    with Sitter(
        [sys.executable, "-I", "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options,
    ) as process:  # fmt: skip
        try:
            assert process.hear() == "ready"
            yield process
        finally:
            process.kill()
