"""SIGKILL before each system call that matters, in every process of the running server: ours in
every script, the others in one; and mutants that only this reveals.

A sample of the calls, in minutes; with REFMTA_FAULTS=all in the environment every call.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from system.harness_killed import BEGIN_S, gone

from faultinject.kill.harness import besiege, planned
from faultinject.kill.leftovers import at_work_in, workplace
from faultinject.kill.plan import Plan
from faultinject.kill.points import Point, Record
from faultinject.kill.scripts import SCRIPTS
from faultinject.overlay import SCRATCH, scratch
from subjects.kill_mutants import MUTANTS, RAN
from subjects.target import Refmta

ALL = os.environ.get("REFMTA_FAULTS") == "all"
pytestmark = [
    pytest.mark.needs("root", "strace"), pytest.mark.timeout(3600 if ALL else 600),
]  # fmt: skip
OTHERS = (
    ("sendmail", "qmail", "postfix", "postfix-unjailed", "sendmailx") if ALL
    else ("sendmail", "qmail", "postfix")
)  # fmt: skip
#: Only each so-manieth call: of ours, and of the others.
EVERY, OTHERS_EVERY = (1, 1) if ALL else (7, 9)
JOBS = 3


@pytest.fixture
def place():
    """A directory on a disk that the compartments' users can enter."""
    with scratch("test-kill") as (directory, _):
        yield directory


def siege(make, plan: Plan, place: Path):
    place.mkdir()
    place.chmod(0o711)
    return besiege(make, plan, place, Record(None), lambda _: None)


def told(result) -> str:
    return "\n".join([*(f"{each.name}: {each.text}" for each in result.all_findings()), result.log])


def composed(architecture: str):
    def make() -> Refmta:
        target = Refmta()
        target.compose(architecture)
        return target

    return make


def missed(result) -> set[Point]:
    """Points that were not hit; they can only be ends.  Two writes of the survey may have become
    one since: then a process does not come to its last call, but to any other.
    """
    ends: dict[tuple[str, str, str], Point] = {}
    for point in sorted(result.trials):
        ends[point.fault, point.script, point.kind] = point
    assert set(result.missed) <= set(ends.values()), told(result)
    return set(result.missed)


def test_nothing_is_lost_at_any_call(place):
    result = siege(Refmta, Plan(every=EVERY, jobs=JOBS, seed=1), place / "s")
    assert result.all_findings() == [], told(result)
    unhit = missed(result)
    for script in SCRIPTS:
        calls = result.calls[script]
        kinds = {each.kind for each in calls}
        assert len(calls) > 30
        trials = [trial for point, trial in result.trials.items() if point.script == script]
        struck = {trial.struck for trial in trials if trial.hit}
        assert {"enqueue", "qmgr", "smtpd", "smtpd worker"} <= struck <= kinds
        assert kinds - struck <= {point.kind for point in unhit if point.script == script}
        assert len(trials) * EVERY >= len(calls)
    assert len(result.traces) == result.servers
    assert all(trace.endswith("accepted") for trace in result.traces)
    print(f"{result.hit} points in {result.seconds:.0f} s")


@pytest.mark.parametrize("architecture", OTHERS)
def test_nothing_is_lost_in_other_architectures(architecture, place):
    plan = Plan(scripts=("one",), every=OTHERS_EVERY, jobs=JOBS if ALL else 1, seed=1)
    result = siege(composed(architecture), plan, place / "s")
    assert result.all_findings() == [], told(result)
    assert len(result.trials) * OTHERS_EVERY >= len(result.calls["one"]) > 15
    assert result.hit + len(missed(result)) == len(result.trials) and result.hit > 1


@pytest.mark.parametrize(("fault", "every"), [("tree", 16), ("stop", 8)])
def test_the_whole_server_dies_or_one_process_stands_still(fault, every, place):
    plan = Plan(
        scripts=("both",), faults=(fault,), every=1 if ALL else every, jobs=JOBS if ALL else 1
    )  # fmt: skip
    result = siege(Refmta, plan, place / "s")
    assert result.all_findings() == [], told(result)
    assert result.hit + len(missed(result)) == len(result.trials) >= 3
    assert result.restarts == (result.hit if fault == "tree" else 0)


def test_who_starts_anew_is_killed_again(place):
    plan = Plan(
        scripts=("one",), faults=("twice",), kinds=("enqueue", "qmgr"),
        numbers=(1, 20 if ALL else 7), every=1 if ALL else 3, jobs=2 if ALL else 1,
    )  # fmt: skip
    result = siege(Refmta, plan, place / "s")
    assert result.all_findings() == [], told(result)
    assert result.hit == len(result.trials) >= 6


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_server_that_a_death_makes_lose_mail_is_found_out(mutant, place):
    """By the name that is expected; and the twin by nothing."""
    few = {} if ALL else {"numbers": [*mutant.numbers]}
    plan = planned({**mutant.settings, **few, "jobs": 2 if ALL else 1}, 1)
    python = mutant.interpreter(place / "python")
    wrong = siege(lambda: mutant.target(python), plan, place / "wrong")
    names = {each.name for each in wrong.all_findings()}
    assert mutant.finding in names and names <= {mutant.finding, "half_lost", "undrained"}, told(
        wrong
    )
    assert any(RAN in log.read_text() for log in (place / "wrong").glob("s*/log"))
    twin = siege(lambda: mutant.target(sys.executable), plan, place / "twin")
    assert twin.hit and twin.all_findings() == [], told(twin)


#: The harness against the real server, as a program; it says where it works.
PROGRAM = """
import sys
from faultinject.kill.harness import besiege, planned
from faultinject.kill.leftovers import workplace
from faultinject.kill.points import Record
from subjects.target import Refmta
with workplace(sys.argv[1]) as place:
    print(place, flush=True)
    besiege(Refmta, planned({"script": "one"}, 1), place, Record(None), lambda _: None)
"""


def begun(harness: subprocess.Popen[str], condition: Callable[[], bool]) -> bool:
    """Whether it came to that, and still runs."""
    came = gone(lambda: harness.poll() is None and not condition(), BEGIN_S)
    return came and harness.poll() is None


@pytest.mark.parametrize("when", ["while the server starts", "while it serves"])
def test_a_harness_that_is_killed_leaves_nothing_that_the_next_does_not_remove(when):
    name = f"test-kill-ends-{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, name], stdout=subprocess.PIPE, text=True
    ) as harness:
        place = Path(harness.stdout.readline().strip())
        log = place / "s1" / "log"
        awaited = "accepted" if when == "while it serves" else ""
        assert begun(harness, lambda: log.exists() and awaited in log.read_text())
        harness.kill()
    with workplace(name) as next_one:
        assert [*SCRATCH.glob(f"refmta-{name}-*")] == [next_one]
    assert at_work_in(place) == []


def test_a_harness_that_is_interrupted_leaves_nothing():
    name = f"test-kill-int-{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, name], stdout=subprocess.PIPE, text=True
    ) as harness:
        place = Path(harness.stdout.readline().strip())
        assert begun(harness, (place / "s1" / "log").exists)
        harness.send_signal(signal.SIGINT)
    assert not place.exists() and at_work_in(place) == []
