"""`refmta-spec crash-table`: what a crash may do to each commit protocol, under each model.

Exit codes: 0 all of it is as expected; 1 a finding; 2 wrong usage, or no such protocol.
"""

from __future__ import annotations

import json
import sys
import time

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs.persistence import table
from specs.persistence.expected import ExpectedError, expected

STYLES = {"clean": "green", "as expected": "yellow", "FINDING": "bold red"}


@click.command("crash-table")
@click.argument("names", nargs=-1, metavar="[PROTOCOL ...]")
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of text.")
def crash_table(names: tuple[str, ...], machine: bool) -> None:
    """Tell what crashes do to mail under each protocol called PROTOCOL, or under all of them."""
    try:
        known = expected()
    except (ExpectedError, OSError) as error:
        click.echo(f"the expected violations: {error}", err=True)
        sys.exit(2)
    every = table.protocols()
    unknown = [name for name in names if name not in every.names]
    if unknown:
        there = ", ".join(every.names)
        click.echo(f"no such protocol: {', '.join(unknown)} (there are: {there})", err=True)
        sys.exit(2)
    chosen = [store for store in every.stores if not names or store.name in names]
    started = time.monotonic()
    made = list(table.rows(chosen, known, tell=_progress))
    seconds = time.monotonic() - started
    found = table.findings(made, every, known)
    if machine:
        report = {
            "findings": found,
            "seconds": round(seconds, 1),
            "rows": [table.as_json(row) for row in made],
        }
        click.echo(json.dumps(report, indent=2))
    else:
        _say(made, found, seconds)
    sys.exit(1 if found else 0)


def _say(made: list[table.Row], found: list[str], seconds: float) -> None:
    console = Console()
    if console.is_terminal:
        console.print(_table(made))
    else:
        click.echo(" | ".join(table.HEADINGS))
        for row in made:
            click.echo(" | ".join(table.cells(row)))
    for reason in table.reasons(made):
        click.echo(f"expected of {reason}")
    for finding in found:
        click.echo(f"finding: {finding}")
    states = sum(row.states for row in made)
    click.echo(f"{len(made)} rows, {states} states, {seconds:.0f} s, {len(found)} finding(s)")


def _table(made: list[table.Row]) -> Table:
    drawn = Table()
    for heading in table.HEADINGS:
        counts = heading == "states" or heading in table.COLUMNS
        drawn.add_column(heading, justify="right" if counts else "left")
    before = ""
    for row in made:
        if row.store != before and before:
            drawn.add_section()
        protocol, *middle, verdict = table.cells(row)
        style = STYLES[verdict.partition(":")[0]]
        shown = "" if row.store == before else protocol
        drawn.add_row(shown, *(Text(cell) for cell in middle), Text(verdict, style=style))
        before = row.store
    return drawn


def _progress(text: str) -> None:
    """On a terminal only: a pipe gets results."""
    if sys.stderr.isatty():
        click.echo(f"\r... {text:60}", err=True, nl=False)
