"""Campaigns on dask's workers, of which one is killed; and without a scheduler, or any worker.

With REFMTA_FAULTS=all in the environment the scheduler is killed, too.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from unit.faultinject.toy_commands import (
    LIMIT_S,
    PATIENCE_S,
    await_,
    cases_of,
    everything,
    lines,
    planned,
    registered,
    run,
    start,
)  # fmt: skip
from unit.faultinject.toy_harness import BUG

from faultinject.campaign.records import Ran, Smallest
from faultinject.campaign.results import read

pytestmark = pytest.mark.timeout(LIMIT_S)


@pytest.fixture
def toys(tmp_path_factory, monkeypatch) -> dict[str, str]:
    """The environment in which the toys are registered; of this process, too."""
    return registered(tmp_path_factory, monkeypatch)


def dask(program: str, *arguments: str, place: Path) -> subprocess.Popen[bytes]:
    """A scheduler or a worker of its own, without a nanny that would start it again."""
    module = f"distributed.cli.dask_{program}"
    with (place / f"{program}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments, "--no-dashboard"], cwd=place,
            stdout=log, stderr=log,
        )  # fmt: skip


def address_in(file: Path) -> str:
    """What the scheduler tells there, once it has written all of it."""
    with suppress(OSError, ValueError):
        address: str = json.loads(file.read_text())["address"]
        return address
    return ""


class Cluster:
    """A scheduler and workers on loopback; the workers' processes, by address."""

    def __init__(self, place: Path, stack: ExitStack, workers: int) -> None:
        self.place = place
        self._stack = stack
        file = place / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)
        )
        self.address = await_(lambda: address_in(file), "no scheduler").removeprefix("tcp://")
        self.workers = [
            self._start(
                "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny",
                "--host", "127.0.0.1", "--name", f"w{number}", "--local-directory", str(place),
            )
            for number in range(workers)
        ]  # fmt: skip

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = dask(*arguments, place=self.place)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def log(self) -> str:
        return (self.place / "scheduler.log").read_text() + (self.place / "worker.log").read_text()


def working(worker: subprocess.Popen[bytes]) -> bool:
    """Whether it has been running a case for a moment, and is stopped in the middle of it."""
    before = cases_of(worker.pid)
    time.sleep(0.3)
    worker.send_signal(signal.SIGSTOP)
    if before and cases_of(worker.pid) == before:
        return True
    worker.send_signal(signal.SIGCONT)
    return False


def workers_of(results: Path) -> set[str]:
    """Those by which cases were run."""
    if not (results / "results.jsonl").exists():
        return set()
    return {each.where for each in read(results) if isinstance(each, Ran)}


@pytest.fixture
def cluster(toys, tmp_path):
    with ExitStack() as stack:
        yield lambda workers: Cluster(tmp_path, stack, workers)


def campaign_on(cluster, *more: str) -> tuple[str, ...]:
    return ("campaign", "--engine", f"dask://{cluster.address}", "--targets", "sound,buggy",
            "--harnesses", "slow-toys", "--seed", "5", "--results", "r", *more)  # fmt: skip


def test_of_three_workers_one_is_killed_and_no_case_is_lost(cluster, tmp_path):
    there = cluster(3)
    await_(lambda: there.log().count("Registered to") >= 3, "not all workers came")
    arguments = campaign_on(there, "--jobs", "3", "--cases", "6", "--tries", "4")
    with start(*arguments, place=tmp_path) as process:
        await_(lambda: len(workers_of(tmp_path / "r")) == 3, "not all workers have worked")
        await_(lambda: working(there.workers[1]), "it never works")
        there.workers[1].kill()
        _, err = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == 1, err
    counts = planned(tmp_path / "r")
    assert len(counts) == 12 and set(counts.values()) == {1}
    ran = [each for each in read(tmp_path / "r") if isinstance(each, Ran)]
    assert {each.outcome.verdict for each in ran} == {"held", "found"}, "none is broken"
    assert sum(each.lost for each in ran) == 1, "the one that it ran was run again, and it is said"
    (smallest,) = [each for each in read(tmp_path / "r") if isinstance(each, Smallest)]
    assert set(smallest.case.settings["faults"]) >= BUG
    code, out, _ = run(*arguments, "--json", "-", place=tmp_path)
    assert code == 1 and json.loads(out)["runs_lost"] == 1


@everything
def test_when_the_scheduler_dies_the_results_are_kept_and_another_engine_goes_on(cluster, tmp_path):
    there = cluster(1)
    await_(lambda: "Registered to" in there.log(), "no worker came")
    with start(*campaign_on(there, "--cases", "3"), place=tmp_path) as process:
        await_(lambda: lines(tmp_path / "r") >= 2, "nothing was written")
        there.scheduler.kill()
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3 and "what was run is kept in r" in err.splitlines()[-1], err
    assert "Traceback" not in err
    before = planned(tmp_path / "r")
    assert 0 < len(before) < 6
    arguments = [each for each in campaign_on(there, "--cases", "3") if "dask:" not in each]
    arguments.remove("--engine")
    assert run(*arguments, place=tmp_path)[0] == 1
    assert len(planned(tmp_path / "r")) == 6 and set(planned(tmp_path / "r").values()) == {1}


def test_without_a_scheduler_or_without_workers_it_says_so(cluster, tmp_path, monkeypatch):
    there = cluster(0)
    code, _, err = run(*campaign_on(there), place=tmp_path)
    assert code == 3 and "the scheduler has no workers" in err
    code, _, err = run(
        "campaign", "--targets", "sound", "--harnesses", "toys", "--results", "q",
        "--engine", "dask://127.0.0.1:1", place=tmp_path,
    )  # fmt: skip
    assert code == 3 and "127.0.0.1:1" in err.splitlines()[-1]
