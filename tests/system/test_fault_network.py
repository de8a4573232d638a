"""Hostile next hops and a lying name server beside the running server: the ledger holds, others are
not delayed, retries keep their schedule; and mutants, each of which must be found out by the name
that it was written with.

A sample, in minutes; with REFMTA_FAULTS=all in the environment every destination, each mutant's
twin alone, and all architectures.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from system import harness_killed

from faultinject import cases
from faultinject.cases import Case, CaseError
from faultinject.network import places
from faultinject.network.harness import SPECIAL, run_on
from faultinject.network.verdicts import kind
from faultinject.overlay import scratch
from faultinject.telling import EX_INTERRUPTED
from subjects.network_mutants import MUTANTS, RAN
from subjects.target import Refmta

ALL = os.environ.get("REFMTA_FAULTS") == "all"
pytestmark = [pytest.mark.needs("root"), pytest.mark.timeout(600)]

#: What the specification of the queue says of the events that were written.
TRACE = re.compile(r"trace: [0-9]+ events of [0-9]+ messages, accepted")
COMMAND = [*harness_killed.COMMAND, "network"]
#: How long a mutant's queue, which may never become empty, is waited for.
SHORT_S = 1.0
#: Where a machine is too busy for a mutant to show itself in time, or for retries, it has more of
#: it.
LONGER = (1, 4)
GROUPS = tuple(places.GROUPS) if ALL else ("refusals",)
HANGING = ("smtp-silence-at-final", "smtp-half-open-at-data", "tcp-black-hole", "dns-silent")
SHOWN = MUTANTS if ALL else tuple({each.finding: each for each in MUTANTS}.values())
OTHERS = ("qmail", "sendmail", "postfix", "postfix-unjailed", "sendmailx")


@pytest.fixture
def place():
    """A directory that the compartments' users can enter; pytest's own are closed."""
    with scratch("fault-network-test") as (made, _):
        (made / "run").mkdir()
        yield made


def case(**settings) -> Case:
    return Case(harness="network", target="refmta", seed=7, settings=settings)


def told(outcome) -> str:
    return "\n".join(
        [str(outcome.verdict), outcome.reason, *map(str, outcome.findings), str(outcome.counts),
         *outcome.evidence.values()]
    )  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_bad_destinations(group, place):
    """What is refused is reported, what can be is delivered, and in the end nothing is missing."""
    outcome = run_on(Refmta(), case(group=group), place / "run")
    assert (outcome.verdict, outcome.findings) == ("held", ()), told(outcome)
    assert outcome.counts["destinations"] == len(places.GROUPS[group])
    assert TRACE.search(outcome.evidence["destinations.txt"])


class Untrue(Refmta):
    """Its events are told as if one outcome had never been written down."""

    def trace(self) -> Path | None:
        file = self.directory / "trace"
        lines = file.read_text().splitlines(keepends=True)
        lines.remove(next(line for line in lines if "marked" in line))
        file.write_text("".join(lines))
        return file


def test_events_that_the_specification_of_the_queue_has_not_are_found(place):
    """Control of the trace; above the events are told as they were, and accepted."""
    outcome = run_on(Untrue(), case(bad=["dns-null-mx"], seconds=1), place / "run")
    assert {each.name for each in outcome.findings} == {"trace"}, told(outcome)


def test_retries_keep_their_schedule(place):
    for longer in LONGER:
        run = place / f"run{longer}"
        run.mkdir()
        seconds = longer * SPECIAL["schedule"]["seconds"]
        outcome = run_on(Refmta(), case(group="schedule", seconds=seconds), run)
        assert (outcome.verdict, outcome.findings) == ("held", ()), told(outcome)
        visits = re.findall(r"; ([0-9]+) attempts", outcome.evidence["destinations.txt"])
        if min(map(int, visits), default=0) >= 3:
            break
    assert len(visits) == 6 and min(map(int, visits)) >= 3, told(outcome)


@pytest.mark.parametrize("name", HANGING if ALL else HANGING[:1])
def test_one_that_hangs_does_not_delay_the_others(name, place):
    settings = {"bad": [name], "burst": 40, "isolates": True, "seconds": 4}
    outcome = run_on(Refmta(), case(**settings), place / "run")
    assert (outcome.verdict, outcome.findings) == ("held", ()), told(outcome)
    assert outcome.counts["queued then"] >= 40  # they still hang, and the others have arrived
    assert outcome.counts["live letters beside it"] == 12


@pytest.mark.parametrize("architecture", OTHERS if ALL else OTHERS[:1])
def test_other_architectures(architecture, place):
    target = Refmta()
    try:
        target.compose(architecture)
    except KeyError:
        pytest.fail(f"no such architecture: {architecture}")
    bad = ["smtp-close-at-final", "smtp-5yz-at-rcpt", "dns-servfail", "dns-null-mx"]
    outcome = run_on(target, case(bad=bad, seconds=4), place / "run")
    assert (outcome.verdict, outcome.findings) == ("held", ()), told(outcome)


@pytest.mark.parametrize("mutant", SHOWN, ids=lambda each: each.what)
def test_mutants_are_found_out(mutant, place):
    """In the sample one for each finding."""
    for longer in LONGER:
        run = place / f"run{longer}"
        run.mkdir()
        target = mutant.target(place / f"python{longer}")
        wanted = {**mutant.settings, "seconds": longer * mutant.settings["seconds"]}
        outcome = run_on(target, case(**wanted), run, drain_s=SHORT_S)
        if mutant.finding in {kind(each.name) for each in outcome.findings}:
            break
    assert RAN in target.log.read_text()
    assert mutant.finding in {kind(each.name) for each in outcome.findings}, told(outcome)


def twins() -> dict[str, dict[str, object]]:
    """What mutants were shown, without what makes no difference to who is right: all of it that is
    judged in one way, at once; or, if everything is tried, each alone.
    """
    if ALL:
        return {each.what: dict(each.settings) for each in MUTANTS}
    plain = [each.settings for each in MUTANTS if not {"paces", "isolates"} & {*each.settings}]
    bad = dict.fromkeys(name for settings in plain for name in settings["bad"])
    return {"all that are in no hurry": {"bad": [*bad], "seconds": 3.0}}


@pytest.mark.parametrize("settings", twins().values(), ids=twins())
def test_the_twin_of_every_mutant_passes(settings, place):
    """Those that hurry have theirs above: retries, and one that hangs."""
    outcome = run_on(Refmta(), case(**settings), place / "run")
    assert (outcome.verdict, outcome.findings) == ("held", ()), told(outcome)


# -- the command ----------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_the_command_tells_a_table_and_writes_a_report(tmp_path):
    report = tmp_path / "report.json"
    done = run(
        "--target", "refmta", "--bad", "dns-nxdomain", "--bad", "smtp-4yz-at-mail",
        "--seconds", "3", "--seed", "3", "--json", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 finding(s)" in done.stdout and "Not shown" in done.stdout
    (trial,) = json.loads(report.read_text())["trials"]
    assert trial["verdict"] == "held" and trial["counts"]["destinations"] == 2
    assert trial["counts"]["failed while it lasted"] >= 1


def test_a_case_file_is_run_again(tmp_path):
    file = tmp_path / "case.json"
    file.write_bytes(cases.encode(case(bad=["dns-servfail"], seconds=2)))
    done = run("--replay", str(file))
    assert done.returncode == 0 and "seed 7" in done.stdout, done.stdout + done.stderr


def processes_of(place: Path) -> list[str]:
    """Command lines that name that directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(place) in line:
                found.append(line)
    return found


def directory_of(seed: int) -> Path | None:
    """Where the case of that seed has a server now."""
    for file in Path("/var/tmp").glob("refmta-case-*/case.json"):
        try:
            ours = cases.decode(file.read_bytes(), str(file)).seed == seed
        except (OSError, CaseError):  # somebody else's, going or coming
            continue
        if ours and (file.parent / "run/site/spool").is_dir():
            return file.parent
    return None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_harness_that_is_ended_leaves_nothing_that_the_next_one_does_not_remove(number):
    """Of others nothing is removed; after SIGINT there is nothing left to do."""
    seed = os.getpid() * 100 + number
    running = subprocess.Popen(
        [*COMMAND, "--target", "refmta", "--bad", "dns-silent", "--seconds", "60",
         "--seed", str(seed)],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while (directory := directory_of(seed)) is None:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    _, said = running.communicate()
    assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while processes_of(directory):
        assert time.monotonic() < deadline, processes_of(directory)
        time.sleep(0.02)
    if number == signal.SIGINT:
        assert running.returncode == EX_INTERRUPTED and said.endswith("interrupted\n")
        assert not directory.exists()
        return
    with scratch("case") as (others, _):
        assert run("--target", "refmta", "--bad", "dns-nxdomain", "--seconds", "1").returncode == 0
        assert not directory.exists() and others.is_dir()
