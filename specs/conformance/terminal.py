"""What a person reads: progress, a summary, and at the end the failures once more, each as

FAIL 5321-4.1.1.10-quit-lower (MUST)
  requirement       QUIT is known in any case
  sent              (ehlo) | quit
  expected any of   221
  got               500 unknown command
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specs.conformance.catalogue import Covered, share
from specs.conformance.expectations import Judged
from specs.conformance.junit import transcript
from specs.conformance.model import Case, Result, Role, Verdict
from specs.conformance.records import Record

STYLES: Mapping[Verdict, str] = {
    Verdict.PASS: "green", Verdict.NON_STRICT: "yellow", Verdict.FAIL: "bold red",
    Verdict.ERROR: "red", Verdict.INFO: "cyan", Verdict.NOT_APPLICABLE: "dim",
    Verdict.UNAVAILABLE: "dim",
}  # fmt: skip
#: Most lines of a transcript that a terminal is shown.
SHOWN_LINES = 30
#: Most cases of a clause that the table of coverage names.
SHOWN_CASES = 3


def printable(text: str) -> str:
    """For a terminal: what comes from a server may hold escape sequences, and octets of no text."""
    return "".join(
        each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text
    )


def safe(text: str) -> str:
    """The same, for rich: no markup either."""
    return escape(printable(text))


class _Console(Console):
    """As rich's, but a pipe that nobody reads is an error like others, not the program's end."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False, **more: Any) -> Console:
    """One that replaces nothing in what a server says (":a:" would be a picture)."""
    return _Console(stderr=stderr, emoji=False, **more)


def show(record: Record, judged: Judged, console: Console, *, verbose: bool = False) -> None:
    """The whole report of one server."""
    console.print(f"{safe(record.name)}: {safe(record.greeting)}", highlight=False)
    console.print(_table(record), highlight=False)
    if verbose:
        for each in record.results:
            _line(each, console)
    _skipped(record, console)
    security = [
        each for each in record.results if each.case.security and each.verdict is Verdict.FAIL
    ]
    for each in security:
        console.print(
            f"[bold red]security[/]: {each.case.id}: {safe(each.case.security)}", highlight=False
        )
    for result, expected in judged.known:
        console.print(
            f"known {result.verdict}: {result.case.id}: {safe(expected.reason)}", highlight=False
        )
    for result, expected in judged.passed:
        console.print(
            f"[bold red]UNEXPECTED {result.verdict.upper()}[/] {result.case.id}: it was expected to"
            f" {expected.verdict} ({safe(expected.reason)}); remove the entry", highlight=False,
        )  # fmt: skip
    for result in judged.unexpected:
        failure(result, console)
    counts = ", ".join(f"{number} {what}" for what, number in record.counts.items() if number)
    console.print(
        f"{len(record.results)} cases, {_clauses(record)} clauses: {counts}"
        f" ({record.seconds:.1f} s, seed {record.seed})", highlight=False,
    )  # fmt: skip


def _clauses(record: Record) -> int:
    """Clauses that were really tried."""
    return len({name for each in record.results if _tried(each) for name in each.case.clauses})


def _tried(result: Result) -> bool:
    return result.verdict not in (Verdict.NOT_APPLICABLE, Verdict.UNAVAILABLE, Verdict.ERROR)


def _table(record: Record) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("RFC")
    for verdict in Verdict:
        table.add_column(verdict.value, justify="right", style=STYLES[verdict])
    by_rfc: dict[str, Counter[Verdict]] = {}
    for each in record.results:
        by_rfc.setdefault(each.case.rfc, Counter())[each.verdict] += 1
    for rfc, counts in by_rfc.items():
        table.add_row(rfc, *(str(counts[each] or "") for each in Verdict))
    return table


def _skipped(record: Record, console: Console) -> None:
    """Why cases were not tried: by keyword, by option."""
    for verdict, says in (
        (Verdict.NOT_APPLICABLE, "not applicable, since not offered"),
        (Verdict.UNAVAILABLE, "unavailable"),
    ):
        found = Counter(each.saw for each in record.results if each.verdict is verdict)
        if found:
            told = ", ".join(f"{safe(why)} ({number})" for why, number in sorted(found.items()))
            console.print(f"{says}: {told}", highlight=False, style="dim")


def _line(result: Result, console: Console) -> None:
    style = STYLES[result.verdict]
    console.print(
        f"[{style}]{result.verdict:14}[/] {result.case.id}  {safe(result.observed)}"
        f" {safe(result.saw[:80])}".rstrip(), highlight=False, soft_wrap=True,
    )  # fmt: skip


def failure(result: Result, console: Console) -> None:
    """One that counts, whole."""
    case = result.case
    got = f"{result.observed} {result.saw}".strip() or "nothing"
    tag = " [bold red]security[/]" if case.security else ""
    console.print(
        f"[{STYLES[result.verdict]}]{result.verdict.upper()}[/] {case.id} ({case.level}){tag}",
        highlight=False,
    )
    for what, text in (
        ("requirement", case.requirement), ("sent", case.sent),
        ("expected any of", ", ".join(case.expected)), ("got", got),
    ):  # fmt: skip
        console.print(f"  {what:17} {safe(text)}", highlight=False, soft_wrap=True)
    lines = transcript(result.transcript).splitlines()
    for line in lines[-SHOWN_LINES:]:
        console.print(f"  [dim]{safe(line[:160])}[/]", highlight=False, soft_wrap=True)


def list_cases(cases: Iterable[Case], console: Console) -> None:
    """A line each."""
    for each in cases:
        tags = " ".join(
            [
                *(["security"] if each.security else []),
                *(["slow"] if each.slow else []),
                *each.keywords,
            ]
        )
        console.print(
            f"{each.id}  {each.level}  {each.role}  {safe(each.requirement)}"
            + (f"  [dim]{tags}[/]" if tags else ""), highlight=False, soft_wrap=True,
        )  # fmt: skip


def coverage_table(rows: Sequence[Covered], console: Console, *, verbose: bool = False) -> None:
    """Every clause: the cases that look at it (the first ones, or with verbose all), or why none
    does.  Then shares, by role.
    """
    for each in rows:
        clause, names = each.clause, each.cases if verbose else each.cases[:SHOWN_CASES]
        more = len(each.cases) - len(names)
        says = f"{each.state}: {safe(each.reason)}"
        if names:
            says = ", ".join(names) + (f", and {more} more" if more else "")
        console.print(
            f"{clause.id}  {clause.level}  {clause.role}  {says}", highlight=False, soft_wrap=True,
        )  # fmt: skip
    table = Table(box=None, pad_edge=False)
    for name in (
        "role",
        "clauses",
        "covered",
        "not observable",
        "not yet",
        "share",
        "MUST, MUST NOT",
    ):
        table.add_column(name, justify="left" if name == "role" else "right")
    for role in get_args(Role):
        own = [each for each in rows if each.clause.role == role]
        states = Counter(each.state for each in own)
        musts = share(rows, roles=[role], levels=["MUST", "MUST NOT"])
        table.add_row(
            role, str(len(own)), str(states["covered"]), str(states["not observable"]),
            str(states["not yet covered"]), f"{share(rows, roles=[role]):.1%}", f"{musts:.1%}",
        )  # fmt: skip
    console.print(table, highlight=False)
