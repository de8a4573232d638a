"""What each command says in the same way: exit codes, errors, where its results go.

Rules a reader may rely on: errors and progress go to stderr, results to stdout.  What can't be
written in the end is said before anything is run.  Nothing from outside is taken for markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from rich.console import Console

from faultinject import cases, target
from faultinject.cases import Case, CaseError
from faultinject.target import Target

EX_FINDING, EX_USAGE, EX_UNAVAILABLE, EX_INTERRUPTED = 1, 2, 3, 130
#: Columns in a pipe, where nothing is to be broken.
WIDE: Final = 200


class Commands(click.Group):
    """A group whose commands end with EX_INTERRUPTED at SIGINT; click has 1, which is a finding."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail(EX_INTERRUPTED, "interrupted")
        except BaseExceptionGroup as group:  # as trio raises it
            if group.subgroup(KeyboardInterrupt) is None:
                raise
            fail(EX_INTERRUPTED, "interrupted")


def fail(status: int, text: str) -> NoReturn:
    """End with an error."""
    say(text)
    sys.exit(status)


def say(text: str) -> None:
    """To whoever watches."""
    click.echo(text, err=True)


def console(width: int = WIDE) -> Console:
    """For results."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else width)


def target_called(name: str) -> Target:
    """Ends with EX_USAGE if there is none."""
    try:
        return target.load(name)
    except KeyError as error:
        why = str(error.args[0])  # a name alone, or what is wrong with it
        there = f"there are: {', '.join(target.names())}"
        fail(EX_USAGE, f"no such target: {name} ({why if ' ' in why else there})")


def available(name: str, *more: Callable[[], str | None]) -> Target:
    """The same, and EX_UNAVAILABLE if it can't run here.  more: what else may be missing."""
    chosen = target_called(name)
    for asked in (*more, chosen.unavailable):
        if (why := asked()) is not None:
            fail(EX_UNAVAILABLE, f"{name} is unavailable: {why}")
    return chosen


def case_in(file: Path, harness: str | None = None) -> Case:
    """What a case file says, of this harness if one is named.  Ends with EX_USAGE."""
    try:
        case = cases.decode(file.read_bytes(), str(file))
    except OSError as error:
        fail(EX_USAGE, f"{file}: {error.strerror}")
    except CaseError as error:
        fail(EX_USAGE, str(error))
    if harness is not None and case.harness != harness:
        fail(
            EX_USAGE,
            f"{file}: a case of {case.harness}, not of {harness}: `refmta-fault replay` runs it",
        )
    return case


def check_outputs(report: Path | None, directory: Path | None = None) -> None:
    """A report that can't be written, a directory that can't be made: EX_USAGE."""
    try:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        if report is not None and str(report) != "-":
            there = report.exists()
            report.open("ab").close()
            if not there:
                report.unlink()
    except OSError as error:
        fail(EX_USAGE, f"{error.filename}: {error.strerror}")


def tell(
    document: object, report: Path | None, show: Callable[[Console], None], width: int = WIDE
) -> None:
    """As JSON to a file, or alone to stdout ("-"); `show` is for people.  Ends with EX_USAGE."""
    text = json.dumps(document, indent=2) + "\n"
    if report is not None and str(report) == "-":
        click.echo(text, nl=False)
        return
    show(console(width))
    if report is not None:
        try:
            report.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(EX_USAGE, f"{report}: {error.strerror}")
