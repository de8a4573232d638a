"""What the page shows, as plain values.

Octets of a transcript are shown as text, with what can't be printed escaped; of a long line the
beginning.  The whole of it is in the record (`--json`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from specs.conformance.model import Case, Line, Result, Verdict
from specs.conformance.records import Record

#: Most characters of one line of a transcript, and most lines.
MOST_CHARACTERS, MOST_LINES = 600, 120
#: A verdict -> its sign in a cell: colours alone don't tell it to everybody.
SIGNS: Final = {
    Verdict.PASS: "\N{CHECK MARK}", Verdict.NON_STRICT: "~", Verdict.FAIL: "\N{MULTIPLICATION X}",
    Verdict.INFO: "i", Verdict.NOT_APPLICABLE: "\N{MIDDLE DOT}", Verdict.UNAVAILABLE: "\N{EN DASH}",
    Verdict.ERROR: "!",
}  # fmt: skip


def document(found: Sequence[Record]) -> dict[str, Any]:
    """Everything.  A case that a run did not have is an empty cell."""
    cases: dict[str, Case] = {}
    for record in found:
        for each in record.results:
            cases.setdefault(each.case.id, each.case)
    by_record = [{each.case.id: each for each in record.results} for record in found]
    rows = []
    for name, case in cases.items():
        cells = [own.get(name) for own in by_record]
        rows.append({**_case(case), "cells": [each and _cell(each) for each in cells]})
    return {
        "title": "SMTP conformance",
        "servers": [_server(each) for each in found],
        "verdicts": {each.value: sign for each, sign in SIGNS.items()},
        "rows": rows,
    }


def _server(record: Record) -> dict[str, Any]:
    return {
        "name": record.name, "version": record.version, "greeting": _printable(record.greeting),
        "configuration": record.configuration, "counts": record.counts,
        "offered": {
            door: " ".join(sorted(features)) for door, features in record.offered.items()
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
        "saw": _printable(result.saw)[:MOST_CHARACTERS], "lines": list(_lines(result.transcript)),
    }  # fmt: skip


def _lines(transcript: Sequence[Line]) -> list[list[Any]]:
    """[who, connection, text] in order; one for each line that was sent."""
    rows: list[list[Any]] = []
    for each in transcript:
        for part in each.octets.splitlines(keepends=True) or [b""]:
            shown = part.decode("latin-1").encode("unicode_escape").decode("ascii")
            if len(shown) > MOST_CHARACTERS:
                shown = f"{shown[:MOST_CHARACTERS]}... ({len(part)} octets)"
            rows.append([each.who, each.connection, shown])
    if len(rows) > MOST_LINES:
        left = len(rows) - MOST_LINES
        rows = [
            *rows[: MOST_LINES // 2],
            ["-", 0, f"({left} lines are left out)"],
            *rows[-MOST_LINES // 2 :],
        ]
    return rows


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
