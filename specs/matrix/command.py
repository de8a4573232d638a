"""`refmta-spec matrix`: an architecture is started, observed and judged.

Exit codes: 0 every claim as expected, 1 not, 2 wrong usage or a wrong table, 3 it can't be started
or judged here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs.matrix.expected import ExpectationError, load, match
from specs.matrix.judge import Judged, judge
from specs.patterns import claims as registry
from specs.patterns import target as targets
from specs.patterns.gather import gather
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.target import NoSuchArchitecture, TargetError

#: Counterexamples that are printed for each claim; --json has all.
SHOWN = 3
_COLUMNS = ("claim", "verdict", "expected", "reason")
_STYLES = {"holds": "green", "fails": "yellow"}


@click.command("matrix")
@click.option("--target", "wanted", metavar="NAME:ARCHITECTURE", help="For example refmta:refmta.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Judge only this pattern's claims.")
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of a table.")
@click.option("--list", "only_list", is_flag=True, help="Say which targets and claims there are.")
def matrix(wanted: str | None, only: tuple[str, ...], machine: bool, only_list: bool) -> None:
    """Start an architecture as root in a directory of its own, and judge each claim on it."""
    try:
        chosen = registry.claims(_known(only))
        if only_list:
            _list(chosen)
            return
        name, architecture = _target(wanted or "")
        rows = load(name, architecture)
        among = [each for each in rows if not only or each.partition(".")[0] in only]
        match([each.key for each in chosen], among)
    except (ExpectationError, ValueError) as error:
        _fail(2, str(error))
    observation = _observe(name, architecture, only)
    judged = judge(observation, chosen, rows)
    wrong = sum(not each.as_expected for each in judged)
    tables = registry.tables(observation, only)
    if machine:
        report = {**_as_json(name, architecture, judged), "tables": tables}
        click.echo(json.dumps(report, indent=2))
    else:
        show(judged, Console())
        for pattern, rows_of in tables.items():
            _show_table(pattern, rows_of, Console())
        click.echo(f"{name}:{architecture}: {len(judged)} claim(s), {wrong} not as expected")
    sys.exit(1 if wrong else 0)


# -- what is asked for ----------------------------------------------------------------------------


def _known(only: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError."""
    patterns = registry.patterns()
    unknown = [each for each in only if each not in patterns]
    if unknown:
        raise ValueError(
            f"no such pattern: {', '.join(unknown)} (there are: {', '.join(patterns)})"
        )
    return only


def _target(wanted: str) -> tuple[str, str]:
    """(name, architecture).  Raises ValueError."""
    name, _, architecture = wanted.partition(":")
    known = targets.names()
    if name not in known or not architecture:
        raise ValueError(f"--target NAME:ARCHITECTURE is needed, NAME one of: {', '.join(known)}")
    return name, architecture


def _list(chosen: Iterable[registry.Claim]) -> None:
    click.echo(f"targets: {', '.join(targets.names())}")
    for each in chosen:
        click.echo(f"{each.key}: {each.text}")


def _observe(name: str, architecture: str, only: tuple[str, ...]) -> Observation:
    missing = targets.load(name).unavailable()
    if missing is not None:
        _fail(3, f"{name} can't be judged here: {missing}")
    try:
        return gather(lambda: targets.load(name), architecture, registry.experiments(only), _tell)
    except NoSuchArchitecture as error:
        _fail(2, str(error))
    except (TargetError, Unavailable) as error:
        _fail(3, str(error))


def _tell(line: str) -> None:
    """Progress is nobody's result."""
    click.echo(line, err=True)


def _fail(code: int, text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(code)


# -- what is said ---------------------------------------------------------------------------------


def show(judged: Iterable[Judged], console: Console) -> None:
    """A table on a terminal, lines in a pipe; counterexamples below."""
    rows = list(judged)
    if console.is_terminal:
        table = Table(*_COLUMNS)
        for each in rows:
            table.add_row(*(Text(cell) for cell in _cells(each)), style=_style(each))
        console.print(table)
    else:
        for each in rows:
            click.echo(" | ".join(_cells(each)))
    for each in rows:
        for line in each.counterexamples[:SHOWN]:
            click.echo(f"  {each.claim.key}: {line}")
        if len(each.counterexamples) > SHOWN:
            click.echo(f"  {each.claim.key}: ... and {len(each.counterexamples) - SHOWN} more")


def _show_table(title: str, rows: tuple[tuple[str, ...], ...], console: Console) -> None:
    if console.is_terminal:
        table = Table(*rows[0], title=title, title_justify="left")
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        click.echo(f"{title}:")
        for row in rows:
            click.echo(f"  {' | '.join(row)}")


def _cells(each: Judged) -> tuple[str, str, str, str]:
    verdict = each.verdict if each.as_expected else f"{each.verdict.upper()} (not expected)"
    return each.claim.key, verdict, each.expected.verdict, each.expected.reason


def _style(each: Judged) -> str:
    return _STYLES[each.verdict] if each.as_expected else "bold red"


def _as_json(name: str, architecture: str, judged: Iterable[Judged]) -> dict[str, Any]:
    rows = list(judged)
    return {
        "target": name,
        "architecture": architecture,
        "as_expected": all(each.as_expected for each in rows),
        "claims": [
            {
                "pattern": each.claim.pattern,
                "name": each.claim.name,
                "text": each.claim.text,
                "verdict": each.verdict,
                "expected": each.expected.verdict,
                "reason": each.expected.reason,
                "as_expected": each.as_expected,
                "counterexamples": list(each.counterexamples),
            }
            for each in rows
        ],
    }
