"""`refmta-conform matrix FILE ...`: results of several servers (--json of a run), side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from specs.conformance import records, summary
from specs.conformance.commands.check import EX_USAGE, Output, write
from specs.conformance.page import page
from specs.conformance.registry import all_cases


@click.command("matrix")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE ..."
)
@click.option("--html", "html_file", type=Output, metavar="FILE", help="One self-contained page.")
@click.option("--markdown", "text_file", type=Output, metavar="FILE", help="A summary per server.")
def matrix_command(files: tuple[Path, ...], html_file: Path | None, text_file: Path | None) -> None:
    """Put results side by side: rows are cases, columns servers, a cell opens its transcript."""
    cases = {each.id: each for each in all_cases()}
    found = []
    for each in files:
        try:
            found.append(records.read(each, cases))
        except (records.RecordError, OSError) as error:
            _end(str(error))
    names = [each.name for each in found]
    if len(set(names)) != len(names):
        _end("two of these are results of the same server: give each run a --name")
    if html_file is None and text_file is None:
        click.echo(summary.markdown(found), nl=False)
    write(html_file, page.page(found).encode())
    write(text_file, summary.markdown(found).encode())


def _end(text: str) -> NoReturn:
    click.echo(f"refmta-conform: {text}", err=True)
    sys.exit(EX_USAGE)
