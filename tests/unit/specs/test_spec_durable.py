"""System calls bear durability events out, or they do not, in the words of strace."""

from __future__ import annotations

import re

import pytest

from specs.kernel.accept import accept
from specs.kernel.control import Control, run_control
from specs.queue.durable import DURABLE, match_syncs
from specs.queue.sample import ADA, CALLS, ENQUEUE, SAID, numbered
from specs.queue.trace import QueueTrace
from specs.queue.trace_controls import controls

EVENTS = numbered(SAID)


def test_the_sample_is_accepted_and_borne_out() -> None:
    assert accept(QueueTrace(), EVENTS).accepted
    found = match_syncs(EVENTS, CALLS.get)
    assert found.events == sum(event.action in DURABLE for event in EVENTS) == 3
    assert found.unproved == ()


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_control(control: Control) -> None:
    result = run_control(control)
    assert result.counts, result.reason


def unproved(pid: int, lines: list[str]) -> list[str]:
    return [str(each) for each in match_syncs(EVENTS, {**CALLS, pid: lines}.get).unproved]


def test_times_signals_and_calls_that_were_cut_off_are_understood() -> None:
    lines = [f"1795365123.123456 {each}" for each in CALLS[ENQUEUE]]
    noise = [
        "--- SIGTERM {si_signo=SIGTERM} ---",
        "fsync(7</var/spool/chunks/M> <unfinished ...>) = ?",
        "+++ killed by SIGKILL +++",
        "",
    ]
    assert unproved(ENQUEUE, [*noise, *lines, *noise]) == []


def test_an_event_whose_writer_was_killed_in_the_write_is_there_all_the_same() -> None:
    """The trace has it; and what it needs is asked for as ever."""
    lines = [*CALLS[ENQUEUE]]
    lines[-1], cut = re.subn(r"\) += \d+\Z", " <unfinished ...>) = ?", lines[-1])
    assert cut == 1 and "sequence" in lines[-1]
    assert unproved(ENQUEUE, lines) == []
    early = [each for each in lines if "fsync" not in each]
    assert any("no sync" in each for each in unproved(ENQUEUE, early))


def test_a_sync_that_was_cut_off_is_none() -> None:
    lines = [each.replace("fsync(7", "fsync(7", 1) for each in CALLS[ENQUEUE]]
    lines[2] = lines[2].replace("= 0", "= ?")
    assert any("no sync of the file returned 0" in each for each in unproved(ENQUEUE, lines))


def test_a_sync_of_another_file_does_not_count() -> None:
    lines = [each.replace("fsync(7</var/spool/chunks/M>", "fsync(7</var/spool/chunks/X>")
             for each in CALLS[ENQUEUE]]  # fmt: skip
    assert any("no sync of the file returned 0" in each for each in unproved(ENQUEUE, lines))


def test_one_file_serves_one_event() -> None:
    """A second event about the first one's file."""
    lines = [*CALLS[ENQUEUE][:6], CALLS[ENQUEUE][-1]]
    assert any("R" in each and "has not written" in each for each in unproved(ENQUEUE, lines))


def test_an_event_whose_write_nobody_saw() -> None:
    lines = list(CALLS[ADA][:-1])
    assert any("no such write" in each for each in unproved(ADA, lines))


def test_a_line_that_a_message_holds_is_no_event() -> None:
    """Mail that looks like the trace, written into a mailbox, before any sync."""
    lines = list(CALLS[ADA])
    forged = lines[-1].replace("write(9</var/log/trace>", "write(7</home/ada/Maildir/tmp/m0>")
    assert unproved(ADA, [*lines[:7], forged, *lines[7:]]) == []
