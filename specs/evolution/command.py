"""`refmta-spec evolve`: from the monolith on, one pattern at a time, each step with its effect.

Exit codes: 0 each step has one, 1 a step has none, 2 wrong usage, 3 a step does not start, or it
can't be judged here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from specs.evolution import picture, steps
from specs.evolution.effects import findings
from specs.evolution.measured import Stage
from specs.evolution.rates import CLIENTS, DoesNotStart
from specs.evolution.show import Unreadable, as_json, read, show
from specs.evolution.steps import Evolution
from specs.evolution.take import take
from specs.patterns.observation import Unavailable
from specs.patterns.target import TargetError

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", default="refmta")
@click.option(
    "--rounds",
    type=click.IntRange(0, 99),
    default=5,
    show_default=True,
    help="Rounds of load that the steps take turns in; 0 for none.",
)
@click.option(
    "--messages",
    type=click.IntRange(CLIENTS, 10_000),
    default=160,
    show_default=True,
    help="Messages of each step in each round.",
)
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of a table.")
@click.option("--html", type=_FILE, help="Draw it into this file, a page that needs no network.")
@click.option("--png", type=_FILE, help="The same as a picture.")
@click.option("--read", "earlier", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Run nothing: show what --json told earlier.")  # fmt: skip
def evolve(
    name: str,
    rounds: int,
    messages: int,
    machine: bool,
    html: Path | None,
    png: Path | None,
    earlier: Path | None,
) -> None:
    """Start each architecture of the evolution NAME, as root, and say what each step changes."""
    missing = picture.unavailable() if html or png else None
    if missing is not None:
        _fail(3, missing)
    stages = _read(earlier) if earlier else _taken(name, rounds, messages)
    if machine:
        click.echo(json.dumps(as_json(stages), indent=2))
    else:
        show(stages)
    if html:
        html.write_text(picture.html(stages), encoding="utf-8")
    if png:
        png.write_bytes(picture.png(stages))
    sys.exit(1 if any(findings(stages)) else 0)


def _read(file: Path) -> Sequence[Stage]:
    try:
        return read(file.read_bytes())
    except (OSError, Unreadable) as error:
        _fail(2, f"{file}: {error}")


def _taken(name: str, rounds: int, messages: int) -> Sequence[Stage]:
    evolution = _evolution(name)
    missing = evolution.observed().unavailable()
    if missing is not None:
        _fail(3, f"{name} can't be judged here: {missing}")
    try:
        return take(evolution, rounds, messages, _tell)
    except (DoesNotStart, TargetError, Unavailable) as error:
        _fail(3, str(error))


def _evolution(name: str) -> Evolution:
    if name not in steps.names():
        _fail(2, f"no such evolution: {name} (there are: {', '.join(steps.names())})")
    return steps.load(name)


def _tell(line: str) -> None:
    """Progress is nobody's result."""
    click.echo(line, err=True)


def _fail(code: int, text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(code)
