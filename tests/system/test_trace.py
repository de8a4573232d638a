"""`serve --trace FILE`: every process writes its events there, whole and numbered."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from system.lines import whole_lines
from system.observe import empty, named, only, processes, send, wait_delivered
from system.server import Server, server


class Traced(Server):
    """A server that is started with a trace."""

    @property
    def trace(self) -> Path:
        return self.directory / "trace"

    def command(self, *arguments: str) -> list[str]:
        traced = ("--trace", str(self.trace)) if arguments[0] == "serve" else ()
        return super().command(*arguments, *traced)

    def traced(self, action: str = "") -> list[dict[str, Any]]:
        """The events so far; each line must be one."""
        found = [json.loads(line) for line in whole_lines(self.trace)]
        return [each for each in found if action in ("", each["action"])]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Traced]:
    with server(tmp_path / "s", start=False) as plain:
        traced = Traced(plain.directory, plain.port, plain.config)
        try:
            traced.start()
            yield traced
        finally:
            traced.kill()


def kill(running: Server, name: str) -> int:
    """SIGKILL; returns the pid, when it is gone."""
    process = only(running, name)
    os.kill(process.pid, signal.SIGKILL)
    running.wait_for(lambda: not process.alive(), f"{name} is gone")
    return process.pid


def ended(running: Traced, action: str, pid: int) -> dict[str, Any]:
    """The event by which its parent said that this process has ended."""

    def found() -> list[dict[str, Any]]:
        return [each for each in running.traced(action) if each["process"] == str(pid)]

    running.wait_for(found, f"{action} of {pid}")
    (event,) = found()
    return event


def without_gaps(events: list[dict[str, Any]]) -> None:
    """Each process counts its events from 1 (from 1 again, if its pid was given out again)."""
    last: dict[int, int] = defaultdict(int)
    for each in events:
        assert each["sequence"] in (last[each["pid"]] + 1, 1), each
        last[each["pid"]] = each["sequence"]


def test_the_file_is_its_owners_alone_and_only_regular_files_will_do(running):
    assert stat.S_IMODE(running.trace.stat().st_mode) == 0o600
    assert running.trace.stat().st_uid == os.geteuid()
    assert running.stop() == 0
    for path, reason in (("/dev/null", "not a regular file"), ("/nowhere/t", "No such file")):
        plain = Server(running.directory, running.port, running.config)
        done = plain.run("serve", "--trace", path)
        assert done.returncode == 2
        assert reason in done.stderr


def test_every_process_of_a_message_writes_and_nothing_is_missing(running):
    assert send(running, "one")[0] == 250
    wait_delivered(running, "one")
    running.wait_for(lambda: empty(running), "the queue is empty")
    running.wait_for(lambda: running.traced("qmgr.freed"), "the chunk is freed")
    said = {each["action"] for each in running.traced()}
    assert {"supervisor.started", "qmgr.dispatched", "qmgr.marked", "qmgr.freed"} <= said
    assert running.stop() == 0
    events = running.traced()
    without_gaps(events)
    assert all(isinstance(value, str) for e in events for key, value in e.items() if key not in (
        "pid", "sequence"))  # fmt: skip
    assert {e["status"] for e in events if e["action"].endswith(".ended")} == {"0"}


@pytest.mark.parametrize("name", ["enqueue", "qmgr", "resolve", "smtpd"])
def test_an_end_is_said_by_the_parent(running, name):
    assert send(running, "before")[0] == 250
    wait_delivered(running, "before")
    supervisor = only(running, "supervisor").pid
    event = ended(running, f"{name}.ended", kill(running, name))
    assert (event["pid"], event["status"]) == (supervisor, "-9")


def test_a_workers_end_is_said_by_its_pool_and_its_events_name_the_pool(running):
    assert send(running, "one")[0] == 250
    pool, worker = only(running, "smtpd").pid, kill(running, "smtpd worker")
    event = ended(running, "smtpd.ended", worker)
    assert (event["pid"], event["status"]) == (pool, "-9")
    for each in running.traced():
        assert (each.get("pool") == str(pool)) == (each["pid"] == worker)


def test_a_new_generation_begins_with_its_supervisor(running):
    first = only(running, "supervisor").pid
    kill(running, "supervisor")
    running.wait_for(lambda: len(running.traced("supervisor.started")) == 2, "a new generation")
    assert [each["sequence"] for each in running.traced("supervisor.started")] == [1, 1]
    assert running.traced("supervisor.started")[0]["pid"] == first
    without_gaps(running.traced())


def test_the_next_start_appends(running):
    running.kill()
    before = running.trace.read_bytes()
    running.start()
    assert running.trace.read_bytes().startswith(before)
    assert len(running.traced("supervisor.started")) == 2
    assert running.stop() == 0


def test_without_the_option_nobody_holds_a_file(tmp_path):
    """Control: see below, who does with it."""
    with server(tmp_path / "plain") as plain:
        assert send(plain, "one")[0] == 250
        wait_delivered(plain, "one")
        assert not [each for each in processes(plain) if holds(each, plain.directory / "trace")]


def test_with_the_option_each_compartment_holds_it(running):
    assert send(running, "one")[0] == 250
    wait_delivered(running, "one")
    assert named(running, "smtpd worker")
    holders = {each.name for each in processes(running) if holds(each, running.trace)}
    assert holders == {
        "spawner", "supervisor", "enqueue", "qmgr", "resolve", "local", "smtpd", "smtpd worker",
    }  # fmt: skip


def holds(process: Any, path: Path) -> bool:
    return str(path) in process.descriptors().values()
