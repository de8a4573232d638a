"""What the page shows, as plain values: the matrix, and apart from it what was said.

Transcripts are most of the octets, and few of them are read: they are cut into blocks of cases,
each of which the page unpacks when one of its cells is opened.  Octets are shown as text, with what
can't be printed escaped; of a long line the beginning.  The whole is in the record (`--json`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from specs.conformance.model import Case, Line, Result, Verdict
from specs.conformance.records import Record

#: Most characters of one line of a transcript, and most lines.
MOST_CHARACTERS, MOST_LINES = 600, 120
#: Cases of one block: larger ones pack better, smaller ones open sooner (this is some 20 KB).
BLOCK: Final = 64
#: A verdict -> its sign in a cell (colours alone don't tell it to everybody), and what it means.
VERDICTS: Final = {
    Verdict.PASS: ("\N{CHECK MARK}", "what the standard allows"),
    Verdict.NON_STRICT: ("~", "allowed, but misses a SHOULD, or a better reply code"),
    Verdict.FAIL: ("\N{MULTIPLICATION X}", "no outcome that the standard allows"),
    Verdict.INFO: ("i", "the standard leaves it open; what the server does is recorded"),
    Verdict.NOT_APPLICABLE: ("\N{MIDDLE DOT}", "it needs an extension that is not offered"),
    Verdict.UNAVAILABLE: ("\N{EN DASH}", "the run was not given what it needs"),
    Verdict.ERROR: ("!", "it could not be carried out: nothing is said of the server"),
}


def document(found: Sequence[Record]) -> dict[str, Any]:
    """All but what was said.  A case that a run did not have is an empty cell."""
    return {
        "title": "SMTP conformance",
        "servers": [_server(each) for each in found],
        "verdicts": {
            each.value: {"sign": sign, "means": means} for each, (sign, means) in VERDICTS.items()
        },
        "block": BLOCK,
        "rows": [
            {**_case(case), "cells": [each and _cell(each) for each in results]}
            for case, results in _rows(found)
        ],
    }  # fmt: skip


def said(found: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Blocks, in the order of the rows.

    texts: those of lines, each once, with who and which connection before them ("S1", "C2", "-1");
    rows: for each case, for each server, milliseconds since the line before and a text's number, by
    turns.
    """
    rows = [results for _, results in _rows(found)]
    for start in range(0, len(rows), BLOCK):
        texts: dict[str, int] = {}
        block = [
            [each and _numbers(each.transcript, texts) for each in results]
            for results in rows[start : start + BLOCK]
        ]
        yield {"texts": list(texts), "rows": block}


def _rows(found: Sequence[Record]) -> list[tuple[Case, list[Result | None]]]:
    """A case, and its result of each record."""
    cases: dict[str, Case] = {}
    for record in found:
        for each in record.results:
            cases.setdefault(each.case.id, each.case)
    by_record = [{each.case.id: each for each in record.results} for record in found]
    return [(case, [own.get(name) for own in by_record]) for name, case in cases.items()]


def _server(record: Record) -> dict[str, Any]:
    return {
        "name": record.name, "version": record.version, "greeting": _printable(record.greeting),
        "configuration": record.configuration, "began": record.began, "seed": str(record.seed),
        "offered": {
            door: [f"{name} {words}".strip() for name, words in sorted(features.items())]
            for door, features in record.offered.items()
        },
    }  # fmt: skip


def _case(case: Case) -> dict[str, Any]:
    return {
        "id": case.id, "rfc": case.rfc, "section": case.section, "level": case.level,
        "role": case.role, "requirement": case.requirement, "sent": case.sent,
        "expected": list(case.expected), "security": case.security, "clauses": list(case.clauses),
    }  # fmt: skip


def _cell(result: Result) -> dict[str, Any]:
    return {
        "verdict": result.verdict.value, "observed": result.observed,
        "saw": _printable(result.saw)[:MOST_CHARACTERS],
    }  # fmt: skip


def _numbers(transcript: Sequence[Line], texts: dict[str, int]) -> list[int]:
    numbers, before = [], 0
    for at_ms, text in _lines(transcript):
        numbers += [at_ms - before, texts.setdefault(text, len(texts))]
        before = at_ms
    return numbers


def _lines(transcript: Sequence[Line]) -> list[tuple[int, str]]:
    """When and what, in order; one for each line that was sent."""
    rows: list[tuple[int, str]] = []
    for each in transcript:
        for part in each.octets.splitlines(keepends=True) or [b""]:
            shown = part.decode("latin-1").encode("unicode_escape").decode("ascii")
            if len(shown) > MOST_CHARACTERS:
                shown = f"{shown[:MOST_CHARACTERS]}... ({len(part)} octets)"
            rows.append((round(each.at_s * 1000), f"{each.who}{each.connection} {shown}"))
    if len(rows) > MOST_LINES:
        half = MOST_LINES // 2
        left = f"-1 ({len(rows) - 2 * half} lines are left out)"
        rows = [*rows[:half], (rows[half][0], left), *rows[-half:]]
    return rows


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
