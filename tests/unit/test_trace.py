"""The trace's lines: one write each, numbered, printable, and never in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from refmta.trace import Trace, silent


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def test_events_are_numbered_and_their_fields_are_texts(tmp_path):
    trace = Trace(opened(tmp_path / "t"), pool="7")
    trace("qmgr.freed", queue_id="06H072KR0HTJXZ44", index=3)
    trace("qmgr.freed")
    lines = [json.loads(line) for line in (tmp_path / "t").read_bytes().splitlines()]
    assert lines == [
        {
            "pid": os.getpid(), "sequence": 1, "action": "qmgr.freed", "pool": "7",
            "queue_id": "06H072KR0HTJXZ44", "index": "3",
        },
        {"pid": os.getpid(), "sequence": 2, "action": "qmgr.freed", "pool": "7"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[31m", "\x7f", "\x9b", "\u202e", "\udc80", '"', "\\", "\U0001f600"]
)
def test_what_came_from_outside_is_escaped_and_read_back_as_it_was(tmp_path, text):
    Trace(opened(tmp_path / "t"))("x", recipient=text)
    octets = (tmp_path / "t").read_bytes()
    assert octets.endswith(b"\n")
    assert all(0x20 <= each < 0x7F for each in octets[:-1])
    assert json.loads(octets)["recipient"] == text


def test_each_event_is_one_write_and_two_writers_do_not_mix(tmp_path):
    one, other = Trace(opened(tmp_path / "t")), Trace(opened(tmp_path / "t"))
    for number in range(50):
        one("x", number=number)
        other("y", text="z" * 5000)
    lines = (tmp_path / "t").read_bytes().splitlines()
    assert len([json.loads(line) for line in lines]) == 100


def test_a_file_that_cannot_be_written_shows_as_a_gap_and_stops_nobody(tmp_path):
    handle = opened(tmp_path / "t")
    trace = Trace(handle)
    trace("x")
    saved = os.dup(handle)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, handle)
    trace("x")
    os.dup2(saved, handle)
    trace("x")
    lines = [json.loads(line) for line in (tmp_path / "t").read_bytes().splitlines()]
    assert [each["sequence"] for each in lines] == [1, 3]


def test_silence_takes_anything():
    silent("x", queue_id="y", recipient=object())
