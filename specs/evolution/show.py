"""How an evolution is told: a table on a terminal, lines in a pipe, JSON and back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs.evolution.effects import MEASURES, changes, findings
from specs.evolution.measured import Seen, Stage

#: The width of what is no terminal.
PIPE: Final = 170
_MARKS: Final = {True: "+", False: "-"}


class Unreadable(ValueError):
    """What is to be shown is no evolution; the text says why."""


class _Told(msgspec.Struct, forbid_unknown_fields=False, kw_only=True):
    """The part of the JSON that is read back; the rest follows from it."""

    stages: list[Stage]


def as_json(stages: Sequence[Stage]) -> dict[str, Any]:
    """Everything, with what each step changed."""
    return {
        "stages": [msgspec.to_builtins(each) for each in stages],
        "effects": [
            {
                "architecture": stage.step.architecture,
                "pattern": stage.step.pattern,
                "better": [each.measure for each in found if each.better],
                "worse": [each.measure for each in found if not each.better],
            }
            for stage, found in zip(stages, changes(stages), strict=True)
        ],
        "findings": list(findings(stages)),
    }


def read(text: bytes) -> list[Stage]:
    """The stages of what `as_json` told.  Raises Unreadable."""
    try:
        return msgspec.json.decode(text, type=_Told).stages
    except msgspec.DecodeError as error:
        raise Unreadable(str(error)) from None


def columns() -> tuple[str, ...]:
    """The heads of a row's cells."""
    return ("architecture", "pattern", *(each.title for each in MEASURES))


def rows(stages: Sequence[Stage]) -> Iterator[tuple[str, ...]]:
    """Cells; what a step made better ends with "+", what it made worse with "-"."""
    for stage, found in zip(stages, changes(stages), strict=True):
        marks = {each.measure: _MARKS[each.better] for each in found}
        cells = (
            f"{each.text(stage, stages[0])} {marks.get(each.name, '')}".rstrip()
            for each in MEASURES
        )
        yield (stage.step.architecture, stage.step.pattern or stage.step.text, *cells)


def show(stages: Sequence[Stage], console: Console | None = None) -> None:
    """The table, what each seized process reaches, and findings."""
    console = console or Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=PIPE, file=console.file)
    table = Table(*columns(), box=None, pad_edge=False)
    for row in rows(stages):
        table.add_row(*(Text(cell, style=_style(cell)) for cell in row))
    console.print(table)
    console.print("+ better, - worse than before; processes by kind, seen under load")
    for each in stages:
        console.print(f"{each.step.architecture}: in reach {_reach(each.seen)}", markup=False)
        if each.weakened is not None:
            console.print(f"{each.step.weakened}: in reach {_reach(each.weakened)}", markup=False)
    for line in findings(stages):
        console.print(f"finding: {line}", style="bold red", markup=False)


def _style(cell: str) -> str:
    return {"+": "green", "-": "yellow"}.get(cell[-2:].strip(), "") if cell[-2:-1] == " " else ""


def _reach(seen: Seen) -> str:
    return ", ".join(f"{kind} {share}" for kind, share in seen.reach.items() if share.have) or "-"
