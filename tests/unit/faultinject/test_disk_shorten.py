"""Writes that the kernel was asked to make shorter: a writer sees it, and is unharmed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultinject.disk.faults import FAULTS
from faultinject.disk.injections import ByShortening
from faultinject.disk.steps import Step
from faultinject.processes import Process

pytestmark = pytest.mark.needs("strace")

#: For each line of stdin: a write of 100 octets and one in three parts; says how much was written.
WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
print("ready", flush=True)
for line in sys.stdin:
    print(os.write(file, b"x" * 100), os.writev(file, [b"a" * 4, b"b" * 4, b"c" * 4]), flush=True)
"""


@contextlib.contextmanager
def writer(file: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout.readline() == "ready\n"
        try:
            yield running
        finally:
            running.stdin.close()


def ask(running: subprocess.Popen[str]) -> list[int]:
    running.stdin.write("now\n")
    running.stdin.flush()
    return [int(each) for each in running.stdout.readline().split()]


def injection(running, below: Path, place: Path, number: int, name="short-write") -> ByShortening:
    place.mkdir()
    return ByShortening(
        fault=FAULTS[name], step=Step(number=number), directory=place,
        processes=lambda: [Process(running.pid, "writer")], directories=[str(below)],
    )  # fmt: skip


def test_one_write_is_shorter_and_the_next_is_not(tmp_path):
    with writer(tmp_path / "file") as running:
        made = injection(running, tmp_path, tmp_path / "1", 3)
        made.begin()
        assert [ask(running), ask(running), ask(running)] == [[100, 12], [50, 12], [100, 12]]
        assert made.hits() == 1
        made.end()
        assert ask(running) == [100, 12]
    assert (tmp_path / "file").stat().st_size == 4 * 112 - 50
    assert running.returncode == 0


def test_all_writes_are_shorter_until_the_fault_is_over(tmp_path):
    with writer(tmp_path / "file") as running:
        made = injection(running, tmp_path, tmp_path / "1", 1, "short-write-forever")
        made.begin()
        assert [ask(running), ask(running)] == [[50, 4], [50, 4]]
        made.over()
        assert ask(running) == [100, 12]
        assert made.hits() == 4
        made.end()
    assert running.returncode == 0


def test_what_lies_elsewhere_is_left_alone(tmp_path):
    with writer(tmp_path / "file") as running:
        made = injection(running, tmp_path / "elsewhere", tmp_path / "1", 1, "short-write-forever")
        made.begin()
        assert ask(running) == [100, 12]
        assert made.hits() == 0
        made.end()


def test_who_shortens_may_die_and_nobody_dies_with_it(tmp_path):
    with writer(tmp_path / "file") as running:
        made = injection(running, tmp_path, tmp_path / "1", 1, "short-write-forever")
        made.begin()
        assert ask(running) == [50, 4]
        made._running.kill()
        made._running.wait()
        assert ask(running) == [100, 12]
        made.end()
    assert running.returncode == 0
