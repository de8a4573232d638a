"""Disk faults against the running server: nothing is lost and nothing untrue is said; and mutants,
each of which must be found out by the name that it was written with.

A sample of everything, unless the environment has REFMTA_FAULTS=all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from system import harness_killed
from system.harness_killed import held

from faultinject import cases
from faultinject.campaign.job import Job, apart
from faultinject.campaign.records import decode_outcome
from faultinject.cases import Case, Outcome
from faultinject.disk.faults import FAULTS
from faultinject.overlay import scratch
from subjects.disk_mutants import MUTANTS, RAN

#: Only what hangs takes so long; a test waits for some such things, one after the other.
LONG_S = 600
pytestmark = [pytest.mark.needs("root", "strace"), pytest.mark.timeout(4 * LONG_S)]

EVERYTHING = os.environ.get("REFMTA_FAULTS") == "all"
COMMAND = [*harness_killed.COMMAND, "disk"]
#: Of each fault, so many steps: all of them are `refmta-fault disk --target refmta`.
SAMPLE = 3
#: At most so many trials of a wrong server.
LOOKS = 3
#: One of each way, both ends of a letter's life.
SOME = (
    "eio", "enospc-forever", "emfile", "eintr", "slow-sync", "short-write-forever", "full-disk",
    "read-only",
)  # fmt: skip
#: Their stores differ.
OTHERS = ("sendmailx", "postfix", "sendmail", "qmail")


def case(target: str = "refmta", **settings) -> Case:
    return Case(harness="disk", target=target, seed=7, settings=settings)


def outcome_of(wanted: Case) -> Outcome:
    """In namespaces of its own."""
    with Job(wanted) as job:
        return job.wait(LONG_S)


def assert_held(outcome: Outcome) -> None:
    assert (outcome.verdict, outcome.reason, outcome.findings) == ("held", "", ()), outcome
    assert outcome.counts["steps"] and not outcome.counts["blurred"]
    assert outcome.counts["acknowledged"] >= outcome.counts["steps"]


@pytest.mark.parametrize("fault", FAULTS if EVERYTHING else SOME)
def test_nothing_is_lost_and_nothing_untrue_is_said(fault):
    outcome = outcome_of(case(fault=fault, sample=SAMPLE))
    assert_held(outcome)
    assert outcome.counts["hits"] > 0


@pytest.mark.parametrize("architecture", OTHERS if EVERYTHING else OTHERS[:1])
def test_nor_by_another_architecture(architecture):
    outcome = outcome_of(case(f"refmta:{architecture}", fault="eio", sample=SAMPLE))
    assert_held(outcome)


@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=[each.what for each in MUTANTS])
def test_a_wrong_server_is_found_out_by_name(number):
    """Seldom a trial ends before its tracer has seen all: then it is looked at once more."""
    mutant = MUTANTS[number]
    outcomes = (found_out(number) for _ in range(LOOKS))
    seen = next((each for each in outcomes if mutant.finding in names(each)), None)
    assert seen is not None, f"not found out in {LOOKS} trials: {mutant.finding}"
    again = cases.decode(seen.evidence[f"case-{mutant.finding}.json"].encode(), "evidence")
    assert again.settings["first"] == again.settings["last"]


def names(outcome):
    return {each.name for each in outcome.findings}


def found_out(number):
    """What a trial says of a wrong server, whose wrong line has run."""
    with scratch("fault-disk-test") as (place, _):
        done = subprocess.run(
            [*apart(), sys.executable, "-P", "-m", "subjects.disk_mutants", str(number), place],
            capture_output=True, timeout=LONG_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        assert RAN in (place / "run" / "site" / "log").read_text()
        return decode_outcome(done.stdout)


@pytest.mark.parametrize(
    "settings", {tuple(sorted(each.settings.items())): None for each in MUTANTS}
)
def test_the_twin_of_every_mutant_passes(settings):
    assert_held(outcome_of(case(**dict(settings))))


# -- the command ----------------------------------------------------------------------------------


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=LONG_S, check=False,
        **options,
    )  # fmt: skip


def test_the_command_tells_a_table_and_leaves_nothing(tmp_path):
    report = tmp_path / "report.json"
    done = run(
        "--target", "refmta", "--fault", "enospc", "--fault", "quota", "--sample", "2",
        "--seed", "3", "--json", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 finding(s)" in done.stdout and "Not shown" in done.stdout
    told = json.loads(report.read_text())
    assert [each["fault"] for each in told["faults"]] == ["enospc", "quota"]
    assert all(each["verdict"] == "held" and each["steps"] for each in told["faults"])


WRONG = {
    "no target": ([], 2, "one of --target and --replay"),
    "an unknown one": (["--target", "nobody"], 2, "no such target: nobody"),
    "an unknown architecture": (["--target", "refmta:vms"], 2, "no such target: refmta:vms"),
    "an unknown fault": (["--target", "refmta", "--fault", "flood"], 2, "flood"),
    "no case file": (["--replay", "/nowhere/case.json"], 2, "No such file"),
    "no place for cases": (["--target", "refmta", "--cases", "/proc/no"], 2, "/proc/no"),
    "no place for a report": (["--target", "refmta", "--json", "/proc/no"], 2, "/proc/no"),
}


@pytest.mark.parametrize("row", WRONG)
def test_bad_input_is_one_line(row):
    arguments, code, text = WRONG[row]
    done = run(*arguments)
    assert done.returncode == code and text in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_without_strace_it_says_so_in_a_line():
    done = run("--target", "refmta", env={"PATH": "/nowhere"})
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "refmta is unavailable: there is no strace (Debian: strace)\n"


AS_NOBODY = (
    "import os; from faultinject.disk.command import disk; from subjects import target;"
    " os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3);"
    " target.Refmta.unavailable = lambda _: None; disk()"
)


def test_without_root_it_says_so_in_a_line():
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "--target", "refmta"],
        capture_output=True, text=True, check=False, timeout=LONG_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    why = "processes of other users are traced: that needs root"
    assert done.stderr == f"refmta is unavailable: {why}\n"


def test_a_case_of_another_version_or_with_unknown_settings_is_refused(tmp_path):
    file = tmp_path / "case.json"
    for octets, text in (
        (b'{"harness":"disk","target":"refmta","version":99}', "version 99"),
        (cases.encode(case(fault="flood")), "no such disk fault: flood"),
        (cases.encode(case(fault="eio", colour=1)), "colour"),
        (cases.encode(Case(harness="kill", target="refmta")), "a case of kill"),
    ):
        file.write_bytes(octets)
        done = run("--replay", str(file))
        assert done.returncode == 2 and text in done.stderr, done.stderr


# -- a harness that is ended ----------------------------------------------------------------------


def directories() -> set[Path]:
    return set(Path("/var/tmp").glob("refmta-case-*"))


def traces_of(place: Path) -> list[str]:
    """Mounts of ours, loop devices, and processes that name the place; in this namespace, where
    processes of others are seen, too.
    """
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line for line in lines if str(place) in line]
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            found += [text for text in [device.read_text()] if str(place) in text]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found += [line] if str(place) in line else []
    return found


def wait_for(condition: Callable[[], object], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG_S / 2
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@contextmanager
def interrupted_by(number: int) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A sweep on a file system of its own that is hit in its first steps; and its directory."""
    before = directories()
    with subprocess.Popen(
        [*COMMAND, "--target", "refmta", "--fault", "full-disk"], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        mine: list[Path] = []

        def begun() -> bool:
            assert running.poll() is None
            for place in directories() - before:
                if held(place) == running.pid and any(place.glob("run/step*")):
                    mine.append(place)
            return bool(mine)

        try:
            wait_for(begun, lambda: "no step was begun")
            running.send_signal(number)
            yield running, mine[0]
        finally:
            running.kill()


def test_an_interrupted_harness_leaves_nothing():
    with interrupted_by(signal.SIGINT) as (running, place):
        said = running.communicate(timeout=LONG_S)[1]
        assert running.returncode == 130
        assert "interrupted: 0 of 1 faults were swept" in said and "Traceback" not in said
    assert not place.exists()
    wait_for(lambda: not traces_of(place), lambda: traces_of(place))


def test_a_killed_harness_leaves_only_a_directory_that_the_next_one_removes():
    with scratch("case") as (another, _):
        with interrupted_by(signal.SIGKILL) as (running, place):
            running.wait()
        wait_for(lambda: not traces_of(place), lambda: traces_of(place))
        again = run("--target", "refmta", "--fault", "slow-sync", "--sample", "1")
        assert again.returncode == 0, again.stdout + again.stderr
        assert not place.exists()
        assert another.exists()  # somebody's who lives
