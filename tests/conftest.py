"""What all tests share: capabilities.

A test that needs something of the machine says so: `@pytest.mark.needs("root", "strace")`.  Where
it is missing the test is *unavailable*: its own result, counted and named at the end, never a
skip that looks green.  The run fails if anything was unavailable that `unavailable.toml` does not
list, with its reason, for this kind of run (as root, or as an ordinary user); no other skip is
allowed at all.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import provision  # noqa: E402

PREFIX = "unavailable: "
_unavailable: dict[str, str] = {}
_skipped: list[str] = []


def listed() -> dict[str, str]:
    """Capability -> reason, for this kind of run."""
    kind = "root" if os.geteuid() == 0 else "user"
    rows = tomllib.loads((HERE / "unavailable.toml").read_text())["unavailable"]
    return {row["capability"]: row["reason"] for row in rows if kind in row["when"]}


@pytest.fixture(scope="session")
def capabilities() -> dict[str, str | None]:
    """Each capability's name, and None or why it is missing."""
    return provision.capabilities()


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> Iterator[None]:
    wanted = [name for mark in request.node.iter_markers("needs") for name in mark.args]
    if wanted:
        found = request.getfixturevalue("capabilities")
        for name in wanted:
            if found[name] is not None:
                pytest.skip(f"{PREFIX}{name} ({found[name]})")
    yield


def pytest_runtest_logreport(report: Any) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason.startswith(PREFIX):
            _unavailable[report.nodeid] = reason.removeprefix(PREFIX).split(" ")[0]
        else:
            _skipped.append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workerinput"):
        return
    allowed = listed()
    unlisted = {node: name for node, name in _unavailable.items() if name not in allowed}
    session.config._refmta_unavailable = (unlisted, _skipped)  # type: ignore[attr-defined]
    if (unlisted or _skipped) and exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    unlisted, skipped = getattr(terminalreporter.config, "_refmta_unavailable", ({}, []))
    if _unavailable:
        terminalreporter.section(f"unavailable: {len(_unavailable)}")
        reasons = listed()
        for name in sorted(set(_unavailable.values())):
            count = sum(1 for each in _unavailable.values() if each == name)
            reason = reasons.get(name, "NOT LISTED in tests/unavailable.toml")
            terminalreporter.write_line(f"{name}: {count} tests: {reason}")
    for node in [*unlisted, *skipped]:
        terminalreporter.write_line(f"fails the run, skipped without a listed reason: {node}")
