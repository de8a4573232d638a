"""`refmta architectures`: compositions side by side, decision by decision."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from refmta.architectures import launch
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.configuration import ConfigurationError
from refmta.architectures.decisions import NONE, decisions, differing
from refmta.architectures.page import INDEX, index, page
from refmta.cli.options import fail, json_option

#: The width of what is no terminal.
PIPE = 160


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--diff", "pair", nargs=2, metavar="A B", help="Only the decisions between two.")
@click.option(
    "--pages",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a page about each into this directory, made from its data; and an index of all.",
)
@json_option
def architectures(
    names: tuple[str, ...], pair: tuple[str, str] | None, pages: Path | None, as_json: bool
) -> None:
    """Show the architectures: each decision, and what each of them answers.

    A name may take layers away: refmta-landlock is refmta without Landlock.
    """
    if names and pair:
        raise click.UsageError("either names or --diff")
    chosen = pair or names or tuple(ARCHITECTURES)
    if pages is not None:
        _write(pages, chosen, listed=not (names or pair))
        return
    columns = {name: _decisions(name) for name in chosen}
    if pair:
        rows: Mapping[str, tuple[str, ...]] = differing(columns[pair[0]], columns[pair[1]])
    else:
        everything = {name: NONE for each in columns.values() for name in each}
        rows = {
            decision: tuple(each.get(decision, NONE) for each in columns.values())
            for decision in everything
        }
    if as_json:
        answers = {name: dict(zip(chosen, row, strict=True)) for name, row in rows.items()}
        click.echo(json.dumps(answers))
    else:
        _show(chosen, rows)


def _write(directory: Path, names: tuple[str, ...], *, listed: bool) -> None:
    try:
        texts = {name: page(launch.architecture(name)) for name in names}
        if listed:
            texts[INDEX] = index(map(launch.architecture, names))
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / f"{name}.md").write_text(text, encoding="utf-8")
    except ConfigurationError as error:
        fail(error)
    except OSError as error:
        raise click.FileError(str(directory), hint=error.strerror) from None


def _decisions(name: str) -> dict[str, str]:
    """Also of an architecture that is not sound: exit 2."""
    try:
        return decisions(launch.architecture(name))
    except ConfigurationError as error:
        fail(error)


def _show(names: tuple[str, ...], rows: Mapping[str, tuple[str, ...]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=PIPE)
    if not rows:
        console.print("no decision differs")
        return
    table = Table("decision", *names, box=None, pad_edge=False)
    for decision, answers in rows.items():
        table.add_row(decision, *answers)
    console.print(table)
