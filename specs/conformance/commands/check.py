"""`refmta-conform HOST[:PORT] [SECTION ...]`: the cases, against one server."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console

from specs.conformance import catalogue, expectations, junit, records, selection, terminal
from specs.conformance.commands.options import address_argument, given, run_options
from specs.conformance.expectations import ExpectationError, Expected
from specs.conformance.given import Given
from specs.conformance.model import Case, Result, Verdict
from specs.conformance.page import page
from specs.conformance.registry import all_cases
from specs.conformance.run import Run, Unreachable

EX_UNEXPECTED, EX_USAGE, EX_UNREACHABLE = 1, 2, 3
SMTP_PORT = 25
Output = click.Path(path_type=Path, allow_dash=True, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="HOST[:PORT] [SECTION ...]")
@run_options
@click.option("--strict", is_flag=True, help="What misses a SHOULD counts as a failure.")
@click.option("--security", is_flag=True, help="Only what can be misused.")
@click.option("--slow", is_flag=True, help="Also cases that take minutes.")
@click.option("--expect", "expect", type=click.Path(path_type=Path), metavar="FILE",
              help="Known failures, with a reason each (TOML).")  # fmt: skip
@click.option(
    "--write-expect", type=Output, metavar="FILE", help="Write that file for what fails now."
)
@click.option("--junit", "junit_file", type=Output, metavar="FILE", help="JUnit's XML.")
@click.option(
    "--json",
    "json_file",
    type=Output,
    metavar="FILE",
    help="Everything, with transcripts (- for stdout).",
)
@click.option("--html", "html_file", type=Output, metavar="FILE", help="A page.")
@click.option(
    "--list", "only_list", is_flag=True, help="The cases, a line each; no server is needed."
)
@click.option(
    "--coverage",
    "only_coverage",
    is_flag=True,
    help="Which clauses are covered; no server is needed.",
)
@click.option("--name", default="", help="What to call the server [default: its address].")
@click.option(
    "--jobs", type=click.IntRange(1, 200), default=16, show_default=True, help="Cases at a time."
)
@click.option("-v", "--verbose", is_flag=True, help="A line for each case.")
def check(
    words: tuple[str, ...], strict: bool, security: bool, slow: bool,
    expect: Path | None, write_expect: Path | None, junit_file: Path | None,
    json_file: Path | None, html_file: Path | None, only_list: bool, only_coverage: bool,
    name: str, jobs: int, verbose: bool, **options: Any,
) -> None:  # fmt: skip
    """Put the cases to a server, and judge its answers by the standards.

    A SECTION is an RFC (5321), a section (5321-4.1, or 4.1 for RFC 5321), a case's id, or a role.
    """
    console = Console(soft_wrap=False)
    if only_coverage:
        try:
            rows = catalogue.coverage(all_cases())
        except catalogue.CatalogueError as error:
            click.echo(f"refmta-conform: {error}", err=True)
            sys.exit(EX_USAGE)
        terminal.coverage_table(rows, console)
        return
    if only_list:  # of sections; no server has a part in it
        terminal.list_cases(_chosen(words, security=security, slow=True), console)
        return
    if not words:
        raise click.UsageError("HOST[:PORT] is missing")
    address = address_argument(words[0], SMTP_PORT)
    cases = _chosen(words[1:], security=security, slow=slow)
    known = _expected(expect)
    _writable(write_expect, junit_file, json_file, html_file)
    told = given(address, options)
    record = run(name or f"{address[0]}:{address[1]}", told, cases, jobs=jobs)
    judged = expectations.judge(record.results, known, strict=strict)
    quiet = Path("-") in (write_expect, junit_file, json_file, html_file)
    terminal.show(record, judged, Console(stderr=quiet), verbose=verbose)
    write(write_expect, expectations.written(record.results, strict=strict).encode())
    write(junit_file, junit.document(record, judged))
    write(json_file, json.dumps(records.as_json(record), indent=1).encode() + b"\n")
    write(html_file, page.page([record]).encode())
    sys.exit(0 if judged.fine else EX_UNEXPECTED)


def run(name: str, told: Given, cases: Sequence[Case], *, jobs: int, **more: str) -> records.Record:
    """The run, with progress on a terminal.  Ends the program with 3 if there is no such server."""
    console = Console(stderr=True)
    began_s, began = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    bad = (Verdict.FAIL, Verdict.ERROR)
    done: list[Result] = []

    def say(result: Result) -> None:
        done.append(result)
        failed = sum(each.verdict in bad for each in done)
        status.update(f"{name}: {len(done)} of {len(cases)} cases, {failed} failed")

    status = console.status(f"{name}: {len(cases)} cases")  # shows nothing in a pipe
    runner = Run(given=told, cases=cases, jobs=jobs, say=say if console.is_terminal else _silent)
    try:
        with status if console.is_terminal else nullcontext():
            results = trio.run(runner.run)
    except Unreachable as error:
        click.echo(terminal.printable(f"refmta-conform: {name}: {error}"), err=True)
        sys.exit(EX_UNREACHABLE)
    return records.of(
        name, told, runner.offered, results, began=began, seconds=time.monotonic() - began_s, **more
    )


def _silent(_: Result) -> None:
    """No progress."""


def _chosen(sections: Sequence[str], *, security: bool, slow: bool) -> list[Case]:
    try:
        return selection.chosen(all_cases(), sections, security=security, slow=slow)
    except selection.NothingMatches as error:
        click.echo(f"refmta-conform: {error}", err=True)
        sys.exit(EX_USAGE)


def _expected(path: Path | None) -> dict[str, Expected]:
    if path is None:
        return {}
    try:
        return expectations.read(path, (each.id for each in all_cases()))
    except ExpectationError as error:
        click.echo(f"refmta-conform: {error}", err=True)
        sys.exit(EX_USAGE)


def _writable(*paths: Path | None) -> None:
    """Before minutes of work, not after them."""
    if sum(each == Path("-") for each in paths) > 1:
        raise click.UsageError("only one of the outputs can be -")
    for each in paths:
        if each is not None and each != Path("-") and not each.absolute().parent.is_dir():
            raise click.UsageError(f"{each}: there is no such directory")


def write(path: Path | None, octets: bytes) -> None:
    """Into a file, or onto stdout.  Ends the program with 2 if that can't be written."""
    if path is None:
        return
    if path == Path("-"):
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()
        return
    try:
        path.write_bytes(octets)
    except OSError as error:
        click.echo(f"refmta-conform: {path}: {error.strerror}", err=True)
        sys.exit(EX_USAGE)
