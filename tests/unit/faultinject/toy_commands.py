"""The commands about campaigns, as processes that find the toys; and what to wait for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unit.faultinject.toy_entries import environment, register
from unit.faultinject.toy_harness import RUN

from faultinject.campaign.records import Ran
from faultinject.campaign.results import read
from faultinject.overlay import SCRATCH

COMMAND = """
import click
from faultinject.campaign import command, job
job.GRACE_S = 1.0
main = click.Group("refmta-fault", {
    each.name: each for each in (command.campaign, command.replay, command.report)})
main()
"""
#: A whole campaign of toys takes seconds, on a machine that does nothing else.
PATIENCE_S = 120.0
#: Up to eight of these, one after the other; beyond it the run ends.
LIMIT_S = 1000
ALL = os.environ.get("REFMTA_FAULTS") == "all"


def everything(test: Callable[..., None]) -> Callable[..., None] | None:
    """A test that is none of the sample."""
    return test if ALL else None


def registered(tmp_path_factory: Any, monkeypatch: Any) -> dict[str, str]:
    """The environment in which the toys are registered; of this process, too."""
    path = register(tmp_path_factory.mktemp("path"))
    for each in path:
        monkeypatch.syspath_prepend(each)
    there = environment(path)
    monkeypatch.setenv("PYTHONPATH", there["PYTHONPATH"])
    monkeypatch.setenv(RUN, str(os.getpid()))
    return there


def start(*arguments: str, place: Path) -> subprocess.Popen[str]:
    """refmta-fault campaign ..., replay ..., report ..."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], cwd=place, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*arguments: str, place: Path) -> tuple[int, str, str]:
    """Its exit code, and what it said."""
    with start(*arguments, place=place) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def await_(condition: Callable[[], Any], what: str) -> Any:
    """What it says, once that is anything."""
    deadline = time.monotonic() + PATIENCE_S
    while not (held := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return held


def lines(results: Path) -> int:
    """How many records are there."""
    file = results / "results.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def planned(results: Path) -> Counter[str]:
    """How often each case of the plan was run."""
    return Counter(e.outcome.case.key for e in read(results) if isinstance(e, Ran) and not e.of)


def cases_of(pid: int) -> list[Path]:
    """The directories of the cases that this process now runs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in words_of(task)[0].split():
            words = words_of(Path(f"/proc/{child}/cmdline"))
            found += [Path(each) for each in words if each.startswith(f"{SCRATCH}/refmta-")]
    return found


def words_of(path: Path) -> list[str]:
    """Of a file in /proc; nothing if its process is gone."""
    try:
        return path.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]
