"""A server without work uses no processor: in each architecture, before and after its first mail.

A role that is offered again what it has just given up, a retry without a pause, a descriptor that
is always readable and never read: each of these looks well in every other test, only slow.
"""

from __future__ import annotations

import os
import smtplib
import time
from contextlib import suppress
from pathlib import Path

import pytest
from system.server import server

from refmta.architectures.catalogue import ARCHITECTURES

#: How long is looked, and how much of one processor all processes together may have used meanwhile.
LOOK_S, AT_MOST = 0.5, 0.1
TICKS = os.sysconf("SC_CLK_TCK")


def used_s(processes: list[int]) -> float:
    """Processor time of them together, in seconds."""
    ticks = 0
    for pid in processes:
        with suppress(OSError):  # gone meanwhile
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def is_quiet(processes: list[int]) -> bool:
    before = used_s(processes)
    time.sleep(LOOK_S)
    return used_s(processes) - before <= AT_MOST * LOOK_S


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_who_has_nothing_to_do_does_nothing(name: str, tmp_path: Path):
    with server(tmp_path / "s", architecture=name) as running:
        running.wait_for(lambda: is_quiet(running.survivors()), "quiet before any mail")
        with smtplib.SMTP("127.0.0.1", running.port) as client:
            client.sendmail("x@example.net", ["ada@example.org"], b"Subject: hi\r\n\r\nhello\r\n")
        running.wait_for(lambda: b'"event":"removed"' in running.log.read_bytes(), "delivery")
        running.wait_for(lambda: is_quiet(running.survivors()), "quiet after a message")
        assert running.stop() == 0


def test_a_process_that_is_busy_is_seen():
    """Control: this one, for as much of the processor's time."""
    before, until = used_s([os.getpid()]), time.process_time() + LOOK_S
    while time.process_time() < until:
        pass
    assert used_s([os.getpid()]) - before > AT_MOST * LOOK_S
