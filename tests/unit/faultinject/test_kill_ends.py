"""How a run of the kill harness ends when it is told to, or killed: nothing stays, and what it has
judged so far is right.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from system.harness_killed import gone

from faultinject.kill.leftovers import at_work_in, end_abandoned, workplace
from faultinject.overlay import LOCK, SCRATCH
from faultinject.processes import everyone, look

TESTS = Path(__file__).parents[2]
#: The command against the toy, in a place with a name of its own.
PROGRAM = """
import functools, sys
from unit.faultinject.toy_target import Toy
from faultinject import target
from faultinject.kill import command
target.load = lambda _: Toy("sound", followed=True)
command.workplace = functools.partial(command.workplace, sys.argv[1])
command.kill(["--target", "toy", "--script", "one", "--fault", "twice", "--fault", "kill",
              "--jobs", "2", *sys.argv[2:]])
"""
pytestmark = pytest.mark.timeout(240)
as_root = pytest.mark.needs("root", "strace")  # who has strace may trace


@pytest.fixture
def name():
    """Of the places of one test; none of them stays."""
    yield f"kill-ends-{os.getpid()}"
    end_abandoned(f"refmta-kill-ends-{os.getpid()}")
    for place in places(f"kill-ends-{os.getpid()}"):
        shutil.rmtree(place)


def places(name):
    return list(SCRATCH.glob(f"refmta-{name}-*"))


def judged(record):
    """Trials, by now; a last line may just be being written."""
    octets = record.read_bytes() if record.exists() else b""
    lines = octets.rpartition(b"\n")[0].splitlines()
    return [json.loads(line) for line in lines[1:]]


def running_siege(name, record):
    """The command, once it has judged something."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    with open(f"{record}.said", "wb") as said:  # a pipe would be held open by who outlives it
        siege = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name, "--resume", str(record)],
            env=environment, stdout=subprocess.DEVNULL, stderr=said,
        )  # fmt: skip
    while not judged(record) and siege.poll() is None:
        time.sleep(0.01)
    return siege


@as_root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_good_order(number, name, tmp_path):
    siege = running_siege(name, tmp_path / "record")
    siege.send_signal(number)
    status = siege.wait()
    said = (tmp_path / "record.said").read_text().splitlines()[-1]
    assert status == 130, said
    assert said.startswith("interrupted: ") and str(tmp_path / "record") in said
    assert places(name) == []
    trials = judged(tmp_path / "record")
    assert trials and all(trial["hit"] and not trial.get("findings") for trial in trials)
    assert str(len(trials)) in said


@as_root
def test_what_a_killed_run_leaves_is_removed_by_the_next(name, tmp_path):
    siege = running_siege(name, tmp_path / "record")
    (place,) = places(name)
    siege.kill()
    siege.wait()  # and leaves its place, and perhaps a server that was just being started
    with workplace(name) as mine:
        assert places(name) == [mine]
    assert places(name) == []
    # whoever was followed dies with the tracer
    assert gone(lambda: of_the_toy(place)), of_the_toy(place)


def of_the_toy(place):
    """The toys that were told of that directory."""
    seen = (look(pid) for pid in everyone())
    return [each for each in seen if each is not None and str(place) in " ".join(each.arguments)]


@pytest.fixture
def sleeper():
    """Start somebody in a directory, or with its output there; ended after the test."""
    started = []

    def start(directory, output=None):
        with open(output or os.devnull, "ab") as file:
            started.append(
                subprocess.Popen(["sleep", "300"], cwd=directory, stdout=file, stderr=file)
            )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def test_who_works_in_a_place_of_the_dead_is_ended_and_nobody_else(name, sleeper, tmp_path):
    dead, alive = (
        Path(tempfile.mkdtemp(prefix=f"refmta-{name}-", dir=SCRATCH)) for _ in range(2)
    )  # fmt: skip
    (dead / LOCK).touch()
    (dead / "s1").mkdir()
    inside, writing = sleeper(dead / "s1"), sleeper(tmp_path, dead / "s1" / "log")
    others = [sleeper(alive), sleeper(tmp_path)]
    with open(alive / LOCK, "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with workplace(name) as mine:
            assert {*places(name)} == {alive, mine}
    assert inside.wait() == writing.wait() == -signal.SIGKILL
    assert [each.poll() for each in others] == [None, None]
    assert [each.pid for each in at_work_in(alive)] == [others[0].pid]


def test_a_place_without_a_lock_is_not_touched(name, sleeper):
    """Who made it is not known: the harness's are never seen without one."""
    other = Path(tempfile.mkdtemp(prefix=f"refmta-{name}-", dir=SCRATCH))
    there = sleeper(other)
    with workplace(name):
        assert there.poll() is None and other.exists()
