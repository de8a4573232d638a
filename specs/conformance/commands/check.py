"""`refmta-conform HOST[:PORT] [SECTION ...]`: the cases, against one server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import click

from specs.conformance import catalogue, expectations, junit, records, selection, terminal
from specs.conformance.commands.endings import (
    EX_UNEXPECTED,
    EX_UNREACHABLE,
    EX_USAGE,
    OUTPUT,
    STDOUT,
    after,
    end,
    for_whoever_reads,
    writable,
    write,
)
from specs.conformance.expectations import ExpectationError, Expected
from specs.conformance.given import SMTP_PORT
from specs.conformance.measuring import measured
from specs.conformance.model import Case, Result, Verdict
from specs.conformance.options import (
    address_argument,
    given,
    pace_options,
    run_options,
)
from specs.conformance.page import page
from specs.conformance.records import Record
from specs.conformance.registry import all_cases
from specs.conformance.run import NoTestbed, Run, Unreachable
from specs.conformance.terminal import console

#: What is a server, and no section, where both may stand.
_SERVER: Final = re.compile(r"localhost\Z|.*[.:]")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, metavar="HOST[:PORT] [SECTION ...]")
@run_options
@pace_options
@click.option("--strict", is_flag=True, help="What misses a SHOULD counts as a failure.")
@click.option("--security", is_flag=True, help="Only what can be misused.")
@click.option("--expect", "expect", type=click.Path(path_type=Path), metavar="FILE",
              help="Known failures, with a reason each (TOML).")  # fmt: skip
@click.option("--write-expect", type=OUTPUT, metavar="FILE",
              help="Write that file for what fails now; reasons that are known stay.")  # fmt: skip
@click.option("--junit", "junit_file", type=OUTPUT, metavar="FILE", help="JUnit's XML.")
@click.option("--json", "json_file", type=OUTPUT, metavar="FILE",
              help="Everything, with transcripts (- for stdout).")  # fmt: skip
@click.option("--html", "html_file", type=OUTPUT, metavar="FILE", help="A page.")
@click.option("--list", "only_list", is_flag=True,
              help="The cases, a line each; no server is needed.")  # fmt: skip
@click.option("--coverage", "only_coverage", is_flag=True,
              help="Which clauses are covered, by which cases; no server is needed.")  # fmt: skip
@click.option("--name", default="", help="What to call the server [default: its address].")
@click.option("-v", "--verbose", is_flag=True, help="A line for each case.")
def check(
    words: tuple[str, ...], strict: bool, security: bool, slow: bool, jobs: int, wait_s: float,
    expect: Path | None, write_expect: Path | None, junit_file: Path | None,
    json_file: Path | None, html_file: Path | None, only_list: bool, only_coverage: bool,
    name: str, verbose: bool, **options: Any,
) -> None:  # fmt: skip
    """Put the cases to a server, and judge its answers by the standards.

    A SECTION is an RFC (5321), a section (5321-4.1, or 4.1 for RFC 5321), a case's id, or a role.
    """
    if only_coverage:
        try:
            rows = catalogue.coverage(all_cases())
        except catalogue.CatalogueError as error:
            end(EX_USAGE, error)
        with for_whoever_reads():
            terminal.coverage_table(rows, console(), verbose=verbose)
        return
    if only_list:
        with for_whoever_reads():
            terminal.list_cases(_listed(words, security=security), console())
        return
    if not words:
        raise click.UsageError("HOST[:PORT] is missing")
    address = address_argument(words[0], SMTP_PORT)
    cases = chosen(words[1:], security=security, slow=slow)
    known = _expected(expect)
    before = {**_expected(_there(write_expect)), **known}
    writable(write_expect, junit_file, json_file, html_file)
    told = given(address, options)
    runner = Run(given=told, cases=cases, jobs=jobs, wait_s=wait_s)
    try:
        record = watched(name or f"{address[0]}:{address[1]}", runner)
    except Unreachable as error:
        end(EX_UNREACHABLE, error)
    except NoTestbed as error:
        end(EX_USAGE, error)
    judged = expectations.judge(record.results, known, strict=strict)
    write(junit_file, junit.document(record, judged))
    write(json_file, json.dumps(records.as_json(record), indent=1).encode() + b"\n")
    write(html_file, page.page([record]).encode())
    if not runner.stopped:
        write(write_expect, expectations.written(record.results, before, strict=strict).encode())
    quiet = STDOUT in (write_expect, junit_file, json_file, html_file)
    with for_whoever_reads():
        terminal.show(record, judged, console(stderr=quiet), verbose=verbose)
    if runner.stopped:
        done = sum(not each.saw.startswith("not done:") for each in record.results)
        end(after(runner.stopped), f"{runner.stopped} after {done} cases")
    if not judged.tried:
        end(EX_USAGE, "no case could be tried: this run was not given what they need")
    sys.exit(0 if judged.fine else EX_UNEXPECTED)


def watched(name: str, runner: Run) -> Record:
    """The run, with progress on a terminal; signals stop it.  Raises Unreachable, NoTestbed."""
    screen = console(stderr=True)
    done: list[Result] = []

    def say(result: Result) -> None:
        done.append(result)
        failed = sum(each.verdict in (Verdict.FAIL, Verdict.ERROR) for each in done)
        status.update(f"{safe_name}: {len(done)} of {len(runner.cases)} cases, {failed} failed")

    safe_name = terminal.safe(name)
    status = screen.status(f"{safe_name}: {len(runner.cases)} cases")
    if screen.is_terminal:
        runner.say = say
    with status if screen.is_terminal else nullcontext():
        return measured(name, [runner], stoppable=True)


def chosen(sections: Sequence[str], *, security: bool, slow: bool) -> list[Case]:
    """Ends the program with 2 if there are none."""
    try:
        return selection.chosen(all_cases(), sections, security=security, slow=slow)
    except selection.NothingMatches as error:
        end(EX_USAGE, error)


def _listed(words: Sequence[str], *, security: bool) -> list[Case]:
    """Of sections; a server may stand before them, and has no part in it."""
    known = all_cases()
    if (
        words
        and _SERVER.match(words[0])
        and not any(selection.fits(each, words[0]) for each in known)
    ):
        words = words[1:]
    return chosen(words, security=security, slow=True)


def _expected(path: Path | None) -> dict[str, Expected]:
    if path is None:
        return {}
    try:
        return expectations.read(path, (each.id for each in all_cases()))
    except ExpectationError as error:
        end(EX_USAGE, error)


def _there(path: Path | None) -> Path | None:
    """A file that is to be written anew: what it says stays, as far as it still holds."""
    return path if path is not None and path != STDOUT and path.is_file() else None
