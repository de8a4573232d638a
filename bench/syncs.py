"""File and directory syncs per message, counted by strace on every process of a server.

What is counted: fsync, fdatasync and syncfs that returned 0, and apart from them the calls that
only start a write-back (sync_file_range, and fadvise as Linux takes it). What is not: files opened
with O_SYNC, and journal commits that a sync shares with another; so this says what a server asks
for, not what it costs.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import LoadError, Shape, run
from bench.target import Target

CALLS = "fsync,fdatasync,syncfs,sync,sync_file_range,fadvise64"
STARTS_WRITE_BACK = ("sync_file_range", "fadvise64")
DONE = re.compile(r"(\w+)\((?:\d+<(.*)>)?[^<>]*\) += 0$")
ATTACH_TIMEOUT_S = 20
KINDS = ("file", "directory", "write-back")


def shapes() -> list[Shape]:
    """A fixed number of messages at 1 and 20 clients."""
    return [Shape(clients=clients, messages=400, kept=True) for clients in (1, 20)]


def traced(process: int) -> bool:
    """Whether somebody traces it (or it is gone)."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return "\nTracerPid:\t0\n" not in status


@contextmanager
def tracing(target: Target, place: Path) -> Iterator[None]:
    """strace on all processes of the target and on those they start, a file for each in `place`."""
    processes = target.processes()
    attach = [f"-p{process}" for process in processes]
    tracer = subprocess.Popen(
        ["strace", "-ff", "-qq", "-y", f"-e{CALLS}", f"-o{place}/trace", *attach],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + ATTACH_TIMEOUT_S
        while not all(map(traced, processes)):
            if time.monotonic() > deadline or tracer.poll() is not None:
                raise LoadError(f"{target.name}: strace does not attach")
            time.sleep(0.05)
        yield
    finally:
        tracer.terminate()  # it detaches; the server goes on
        tracer.wait()


def kind_of(call: str, path: str, target: Target) -> str:
    """One of KINDS. A file may be gone by now, a directory is there."""
    if call in STARTS_WRITE_BACK:
        return "write-back"
    return "directory" if path and target.path(path).is_dir() else "file"


def count_calls(target: Target, place: Path) -> Counter[str]:
    """How many successful syncs of each kind the traces have."""
    found: Counter[str] = Counter()
    for trace in place.glob("trace.*"):
        for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
            if call := DONE.match(line):
                found[kind_of(call[1], call[2] or "", target)] += 1
    return found


def per_message(target: Target, shape: Shape) -> dict[str, float]:
    """Syncs per message by kind, under this load."""
    with tempfile.TemporaryDirectory() as place:
        with tracing(target, Path(place)):
            run(target, shape)
        found = count_calls(target, Path(place))
    return {kind: found[kind] / shape.messages for kind in KINDS}
