"""Command lines: CRLF alone ends one, at every split of what arrives."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.wire.line import LineCutter

LIMIT = 12


def lines_of(pieces: list[bytes]) -> list[bytes | None]:
    """Each line; None for one that was too long."""
    cutter, buffer, found = LineCutter(LIMIT), bytearray(), []
    for piece in pieces:
        buffer += piece
        while (line := cutter.cut(buffer)) is not None:
            found.append(None if cutter.too_long else line)
        assert len(buffer) <= LIMIT
    return found


ROWS = [
    (b"NOOP\r\n", [b"NOOP"]),
    (b"NOOP\nNOOP\r\n", [b"NOOP\nNOOP"]),
    (b"NOOP\rNOOP\r\n", [b"NOOP\rNOOP"]),
    (b"NOOP\n\r\n", [b"NOOP\n"]),
    (b"NOOP\r\r\n", [b"NOOP\r"]),
    (b"NOOP\n", []),
    (b"\r\n\r\n", [b"", b""]),
    (b"x" * 10 + b"\r\n", [b"x" * 10]),
    (b"x" * 11 + b"\r\nNOOP\r\n", [None, b"NOOP"]),
    (b"x" * 500 + b"\r\nNOOP\r\n", [None, b"NOOP"]),
    (b"x\n" * 500 + b"\r\nNOOP\r\n", [None, b"NOOP"]),
]


@pytest.mark.parametrize(("octets", "lines"), ROWS)
def test_whole_at_once_and_octet_by_octet(octets: bytes, lines: list[bytes | None]) -> None:
    assert lines_of([octets]) == lines
    assert lines_of([octets[at : at + 1] for at in range(len(octets))]) == lines


@pytest.mark.parametrize(("octets", "lines"), ROWS)
def test_at_every_split(octets: bytes, lines: list[bytes | None]) -> None:
    for at in range(len(octets) + 1):
        assert lines_of([octets[:at], octets[at:]]) == lines


@given(st.lists(st.text("ab\r\n", max_size=8).map(str.encode), max_size=12))
def test_as_the_table_says(pieces: list[bytes]) -> None:
    """The oracle cuts the whole stream with one regular expression."""
    whole = re.findall(rb"(.*?)\r\n", b"".join(pieces), re.DOTALL)
    assert lines_of(pieces) == [each if len(each) + 2 <= LIMIT else None for each in whole]
