"""Limits of a running process, changed from outside: also where root lacks CAP_SYS_RESOURCE."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
from collections.abc import Iterator

import pytest

from faultinject.disk import descriptors
from faultinject.tracing import Unavailable

pytestmark = pytest.mark.needs("root")

#: For each line: how many files it can open now, and the errno that ended it.
OPENER = """
import os, sys
if len(sys.argv) > 1:
    os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)
print("ready", flush=True)
for line in sys.stdin:
    made, error = [], 0
    try:
        while len(made) < 10:
            made.append(os.open("/", os.O_PATH))
    except OSError as wrong:
        error = wrong.errno
    print(len(made), error, flush=True)
    for each in made:
        os.close(each)
"""


@contextlib.contextmanager
def opener(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", OPENER, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout.readline() == "ready\n"
        try:
            yield running
        finally:
            running.stdin.close()


def ask(running: subprocess.Popen[str]) -> tuple[int, ...]:
    running.stdin.write("now\n")
    running.stdin.flush()
    return tuple(int(each) for each in running.stdout.readline().split())


@pytest.mark.parametrize("arguments", [(), ("as somebody else",)], ids=["root", "nobody"])
def test_so_many_are_left_and_then_all_again(arguments):
    with opener(*arguments) as running:
        soft, _ = descriptors.limits_of(running.pid)
        for left in (0, 2):
            most = descriptors.limit(descriptors.numbers_of(running.pid), left)
            descriptors.set_soft(running.pid, most)
            assert ask(running) == (left, errno.EMFILE)
        descriptors.set_soft(running.pid, soft)
        assert descriptors.limits_of(running.pid)[0] == soft
        assert ask(running) == (10, 0)


def test_who_is_gone_is_told_from_who_may_not_be_limited(monkeypatch):
    with pytest.raises(OSError):
        descriptors.set_soft((1 << 22) + 1, 10)
    with opener() as running:

        def refuse(*_):
            raise PermissionError(1, "no")

        monkeypatch.setattr(descriptors.resource, "prlimit", refuse)
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(Unavailable, match="there is no prlimit"):
            descriptors.set_soft(running.pid, 10)
