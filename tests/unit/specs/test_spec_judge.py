"""`refmta-spec accept`: what it reads, what it says, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from specs.command import main
from specs.kernel.lives import Event
from specs.queue.sample import ADA, CALLS, SAID, numbered


def trace_file(directory: Path, events: list[Event]) -> Path:
    """A trace as a server writes it."""
    file = directory / "trace"
    lines = [
        json.dumps({"pid": each.pid, "sequence": each.sequence, "action": each.action}
                   | dict(each.fields))
        for each in events
    ]  # fmt: skip
    file.write_text("\n".join(lines) + "\n")
    return file


def with_calls(directory: Path, calls: Mapping[int, Sequence[str]]) -> list[str]:
    for pid, lines in calls.items():
        (directory / f"calls.{pid}").write_text("\n".join(lines) + "\n")
    return ["--strace", str(directory / "calls")]


def test_accept_a_good_trace(tmp_path: Path) -> None:
    file = trace_file(tmp_path, numbered(SAID))
    found = CliRunner().invoke(main, ["accept", "queue", str(file), *with_calls(tmp_path, CALLS)])
    assert found.exit_code == 0, found.output
    assert "3 durability events matched" in found.output
    machine = CliRunner().invoke(main, ["accept", "queue", str(file), "--json"])
    assert json.loads(machine.output)["refusals"] == []


@pytest.mark.parametrize("gone", range(1, len(SAID)))
def test_accept_refuses_a_gap(tmp_path: Path, gone: int) -> None:
    events = numbered(SAID)
    last = not any(
        each.pid == events[gone].pid and each.sequence > events[gone].sequence for each in events
    )
    file = trace_file(tmp_path, [*events[:gone], *events[gone + 1 :]])
    found = CliRunner().invoke(main, ["accept", "queue", str(file)])
    assert found.exit_code == 1, found.output
    assert last or "the event before it is lost" in found.output


def test_accept_refuses_what_strace_did_not_see(tmp_path: Path) -> None:
    file = trace_file(tmp_path, numbered(SAID))
    dropped = [line for line in CALLS[ADA] if "/new>) = 0" not in line]
    prefix = with_calls(tmp_path, {**CALLS, ADA: dropped})
    found = CliRunner().invoke(main, ["accept", "queue", str(file), *prefix])
    assert found.exit_code == 1
    assert "refused: M: local.delivered" in found.output
    assert "no sync of the directory returned 0 before it" in found.output


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"pid": 1}', "\xff"])
def test_accept_a_file_that_is_no_trace_is_exit_2(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trace"
    file.write_bytes(text.encode("latin-1"))
    assert CliRunner().invoke(main, ["accept", "queue", str(file)]).exit_code == 2


def test_accept_wrong_usage_is_exit_2(tmp_path: Path) -> None:
    file = trace_file(tmp_path, numbered(SAID))
    for arguments in (["queue"], ["smtp", str(file)], ["queue", str(tmp_path / "nothing")]):
        assert CliRunner().invoke(main, ["accept", *arguments]).exit_code == 2
