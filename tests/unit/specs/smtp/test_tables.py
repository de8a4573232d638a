"""The tables: total, consistent, each row with a section."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import specs.smtp
from specs.smtp.reading import Unit, end_of_content, units
from specs.smtp.states import Phase, State
from specs.smtp.step import moves
from specs.smtp.tables import (
    BARS,
    CODES,
    DEMANDS,
    REPLIES,
    SAME_AS,
    beginnings,
    codes_of,
    shown,
)

SECTION = re.compile(r"RFC [0-9]{4} (?:[0-9]+|F)(?:\.[0-9]+)*(?:, [0-9.]+|; RFC [0-9]{4} [0-9.]+)*")


def test_it_is_pure_and_shares_nothing() -> None:
    """No I/O, no clock, no chance, and nothing of a server or of the suite."""
    allowed = {"__future__", "bisect", "collections", "dataclasses", "enum", "functools", "re",
               "typing", "specs.smtp"}  # fmt: skip
    for path in Path(specs.smtp.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                parts = name.split(".")
                assert parts[0] in allowed or ".".join(parts[:2]) in allowed, (path, name)


def test_codes_are_those_of_the_grammar() -> None:
    assert len(CODES) == 240
    assert {"200", "559"} <= CODES
    assert not {"199", "260", "600"} & CODES


@pytest.mark.parametrize("what", REPLIES)
def test_every_row_has_codes_and_a_section(what: str) -> None:
    row = REPLIES[what]
    assert row.usual <= CODES
    assert {"4", "5"} <= set(row.digits) <= set("2345")
    if what != "XCLIENT":
        assert SECTION.fullmatch(row.section), row.section
    own = {each for each in row.usual if each[0] in "23"}
    assert all(each[0] in row.digits for each in own)


def test_only_data_and_auth_have_3yz() -> None:
    found = {what for what, row in REPLIES.items() if "3" in row.digits}
    assert found == {"DATA", "AUTH", "a response", "another command"}


def test_other_tables_name_rows_and_sections() -> None:
    assert set(SAME_AS.values()) <= set(REPLIES)
    assert set(DEMANDS) <= set(REPLIES)
    assert {each.what for each in BARS} <= set(REPLIES)
    for each in (*BARS, *DEMANDS.values()):
        assert SECTION.match(each.section)
    for demand in DEMANDS.values():
        assert "421" in demand.codes


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_its_moves(phase: Phase) -> None:
    """421 at any time, but the greeting has its own; nothing where nothing is judged."""
    found = moves(State(phase=phase, left=1), b"", 0)
    unasked = [each for each in found if each.unit is None]
    assert bool(unasked) == (phase not in (Phase.GREETING, Phase.OPAQUE))
    assert all(each.shown for each in found)


def test_codes_are_shown_shortly() -> None:
    assert shown(codes_of("45"), frozenset()) == "4yz, 5yz"
    assert shown(codes_of("25"), frozenset({"250", "550"})) == "250, another 2yz, 5yz"
    assert shown(frozenset({"250", "421"}), frozenset()) == "250, 421"


def test_beginnings() -> None:
    assert beginnings(frozenset({"250"})) == {"2", "25", "250"}


CONTENT = (
    (b".\r\n", 3), (b"x\r\n.\r\n", 6), (b"x\r\n..\r\n.\r\n", 10), (b"\r\n.\r\n", 5), (b"x", -1),
    (b"x\r\n.\n", -1), (b"x\n.\r\n", -1), (b"x\r\n.\r", -1), (b"x\r.\r", -1), (b"..\r\n", -1),
    (b"x\r\r\n.\r\n", 7), (b"x\r\n.\r\n.\r\n", 6),
)  # fmt: skip


@pytest.mark.parametrize(("octets", "end"), CONTENT)
def test_the_end_of_content(octets: bytes, end: int) -> None:
    assert end_of_content(octets, 0) == end


AWAITING = State(phase=Phase.COMMAND)
CHUNKING = State(phase=Phase.COMMAND, hello="EHLO", offers=frozenset({"CHUNKING"}))
#: (state, octets, the ways to read them: what, where it ends).
READ: tuple[tuple[State, bytes, list[tuple[str, int]]], ...] = (
    (AWAITING, b"NOOP", []),
    (AWAITING, b"NOOP\r", []),
    (AWAITING, b"NOOP\r\n", [("NOOP", 6)]),
    (AWAITING, b"noop\r\nx", [("NOOP", 6)]),
    (AWAITING, b"NOOPS\r\n", [("another command", 7)]),
    (AWAITING, b"\x00\r\n", [("no command", 3)]),
    (AWAITING, b"a recipient\r\n", [("another command", 13)]),
    (AWAITING, b"\r\nNOOP\r\n", [("no command", 2), ("NOOP", 8)]),
    (AWAITING, b"NOOP\nNOOP", [("a bare CR or LF", 0)]),
    (AWAITING, b"NOOP\rNOOP", [("a bare CR or LF", 0)]),
    (AWAITING, b"x" * 513, [("a line that is too long", 0)]),
    (AWAITING, b"SAML FROM:<>\r\n", [("MAIL", 14)]),
    (AWAITING, b"BDAT 2\r\nxx", [("BDAT", 10), ("BDAT", 8)]),
    (CHUNKING, b"BDAT 2\r\nxx", [("BDAT", 10)]),
    (CHUNKING, b"BDAT 2\r\nx", []),
    (CHUNKING, b"BDAT x\r\nx", [("BDAT", 8)]),
    (CHUNKING, b"BDAT 1 FOO\r\nx", [("BDAT", 13), ("BDAT", 12)]),
    (CHUNKING, b"BDAT 18446744073709551618\r\nxx", [("BDAT", 27)]),
)


@pytest.mark.parametrize(("state", "octets", "ways"), READ)
def test_what_a_reply_can_answer(state: State, octets: bytes, ways: list[tuple[str, int]]) -> None:
    found: tuple[Unit, ...] = units(state, octets, len(octets))
    assert [(each.what, each.end) for each in found] == ways
    assert all(each.end <= len(octets) for each in found)
