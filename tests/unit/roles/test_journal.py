"""The journal: one line per event, whatever is in it; nothing reaches a terminal raw."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refmta.journal import LINE_OCTETS, journal

#: Anything that Python calls a text: lone surrogates, as in names of files, too.
ANY_TEXT = st.text(st.characters(codec=None), max_size=60)
HOSTILE = [
    "\x1b[2J\x1b]0;title\x07", "a\nb\r\nlevel=critical", "\x00\x7f\x80\x9b31m",
    "\u2028\u202e\ufeff", "\udcff\udc80", "\U0001f600", '"}\n{"event":"forged"',
    "\\u001b", "x" * 100_000, "ä" * 9000,
]  # fmt: skip


def lines(
    *, terminal: bool, level: str = "info", event: str = "refused", **fields: object
) -> list[bytes]:
    read, write = os.pipe()
    try:
        log = journal("smtpd", terminal=terminal, descriptor=write)
        getattr(log, level)(event, **fields)
    finally:
        os.close(write)
    with os.fdopen(read, "rb") as file:
        octets = file.read()
    assert octets.endswith(b"\n")
    return octets[:-1].split(b"\n")


def is_clean(line: bytes) -> bool:
    return all(0x20 <= octet < 0x7F for octet in line)


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_one_line_of_printable_ascii(text, terminal):
    for fields in ({"helo": text}, {"reply": text, "client": text, "helo": text, "more": text}):
        (line,) = lines(terminal=terminal, **fields)
        assert is_clean(line)
        assert len(line) <= LINE_OCTETS + 100
        assert b"forged" not in line or b'\\"' in line


@given(text=ANY_TEXT, number=st.integers(-(2**63), 2**63))
@example(text="\udcff", number=0)
def test_any_text_is_one_line_of_printable_ascii(text, number):
    for terminal in (False, True):
        (line,) = lines(terminal=terminal, helo=text, octets=number, nothing=None)
        assert is_clean(line)


@given(text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_what_is_logged_can_be_read_back(text):
    (line,) = lines(terminal=False, helo=text, code=250)
    event = json.loads(line)
    assert (event["helo"], event["code"], event["event"]) == (text, 250, "refused")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_every_line_is_json_however_long_its_values_are(text):
    for count in (1, 2, 5, 40):
        (line,) = lines(terminal=False, **{f"field{n}": text for n in range(count)})
        event = json.loads(line)
        assert (event["role"], event["event"]) == ("smtpd", "refused")


def test_a_line_says_who_speaks_and_how_bad_it_is():
    (line,) = lines(terminal=False, level="error", event="ended", queue_id="0ABC")
    event = json.loads(line)
    assert event["role"] == "smtpd" and event["pid"] == os.getpid()
    assert (event["level"], event["event"], event["queue_id"]) == ("error", "ended", "0ABC")
    assert event["time"].endswith("+00:00")
    (line,) = lines(terminal=False)
    assert "level" not in json.loads(line)


def test_on_a_terminal_it_reads_like_a_sentence():
    (line,) = lines(terminal=True, level="warning", event="deferred", code="4.2.0", text="no room")
    assert line.endswith(b'smtpd      warning deferred  code=4.2.0 text="no room"')


def test_a_log_that_cannot_be_written_stops_nothing():
    read, write = os.pipe()
    os.close(read)
    journal("smtpd", descriptor=write).info("refused")
    os.close(write)
    journal("smtpd", descriptor=write).info("refused")
