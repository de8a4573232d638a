"""How refmta-spec shows its sections: tables on a terminal, lines in a pipe, or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from specs.kernel.explore import Exploration
from specs.persistence.enumerate import INVARIANTS, Counterexample, Report
from specs.sections import Section


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with a title; the last column is what a reader looks for first."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(section: Section) -> Iterator[Grid]:
    """Everything that a section has to say, but its counterexamples."""
    for number, exploration in enumerate(section.explorations, 1):
        yield from _exploration(number, exploration)
    if section.enumerations:
        yield Grid("bounds", ("what", "how much"), ENUMERATION_BOUNDS)
        yield _enumerations(section)
        known = tuple(_expectations(section))
        if known:
            yield Grid("expected", ("store", "models", "invariants", "because"), known)
    for run in section.proofs:
        rows = tuple((proof.function, proof.detail, proof.verdict) for proof in run.proofs)
        title = f"proofs: {run.module}, {run.seconds:.0f} s"
        yield Grid(title, ("condition of", "CrossHair says", "verdict"), rows)
    if section.controls:
        controls = tuple(
            (control.spec, control.name, control.reason, "counts" if control.counts else "FAILS")
            for control in section.controls
        )
        yield Grid("controls", ("spec", "mutant", "outcome", "verdict"), controls)


ENUMERATION_BOUNDS = (
    ("invariants, each judged on every state", ", ".join(INVARIANTS)),
    ("crashes", "after each operation; and after each operation of the recovery, one level deep"),
    ("names", "every prefix (P1) or subset (P2, P3) of what no sync forced"),
    ("modes", "as names, but of the file: its sync forces them"),
    ("octets", "each write there, absent, zeros or garbage, in all combinations"),
    ("overwrites", "each new, old, or (if it is torn) new in one run of slices"),
    ("each torn", "one write at a time also cut at 1, its middle and multiples of 4096"),
    ("remains", "garbage is what an older message's file held, at the same places"),
    ("concurrent", "in turn at each distance, and one inside the other at each point"),
    ("left out", "several messages, where they share nothing; in a whole life: torn, concurrent"),
    (
        "(sampled)",
        "beyond 4,000 combinations one file at a time is torn in full;"
        " beyond 40,000 states inside recovery (torn: 10,000) none is entered any more",
    ),
)


def _exploration(number: int, found: Exploration[Any]) -> Iterator[Grid]:
    how = "exhaustive" if found.exhaustive else "NOT EXHAUSTIVE"
    figures = f"{found.states} states, {found.transitions} transitions, depth {found.depth}"
    yield Grid(
        f"exploration {number}: {found.bounds}",
        ("invariant", "verdict"),
        (
            *(
                (name, "VIOLATED" if name in found.violated else "holds")
                for name in found.invariants
            ),
            (f"{figures}, {found.seconds:.1f} s", how),
        ),
    )
    fired = tuple((name, str(times)) for name, times in found.fired.items())
    yield Grid(f"exploration {number}: actions", ("action", "fired"), fired)


def _enumerations(section: Section) -> Grid:
    columns = ("store", "workload", "model", "states", "distinct", "recovered", "per s", "verdict")
    rows = tuple(
        (
            report.store,
            report.workload,
            report.model + ("" if report.exhaustive else " (sampled)"),
            str(report.enumerated),
            str(report.distinct),
            str(report.recovered),
            str(report.states_per_second),
            _verdict(report, section),
        )
        for report in section.enumerations
    )
    return Grid("crash states (recovered counts crashes inside recovery too)", columns, rows)


def _unexpected(report: Report, section: Section) -> list[str]:
    return [
        name
        for name in report.violated
        if (report.store, report.model, name) not in section.expected
    ]


def _verdict(report: Report, section: Section) -> str:
    unexpected = _unexpected(report, section)
    if unexpected:
        return "VIOLATED: " + ", ".join(unexpected)
    return "as expected: " + ", ".join(report.violated) if report.violated else "holds"


def _expectations(section: Section) -> Iterator[tuple[str, ...]]:
    """The reasons that were met, each once."""
    met: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for report in section.enumerations:
        for name in report.violated:
            reason = section.expected.get((report.store, report.model, name))
            if reason is not None:
                models, invariants = met.setdefault((report.store, reason), ([], []))
                models += [report.model] * (report.model not in models)
                invariants += [name] * (name not in invariants)
    for (store, reason), (models, invariants) in met.items():
        yield store, ", ".join(models), ", ".join(invariants), reason


def counterexamples(section: Section) -> Iterator[str]:
    """The shortest way to each violation, as text."""
    for exploration in section.explorations:
        for name, path in exploration.violated.items():
            yield f"{section.name}: {name} is violated:\n{path}"
        if exploration.dead_end is not None:
            yield f"{section.name}: dead end:\n{exploration.dead_end}"
    for report in section.enumerations:
        for name in _unexpected(report, section):
            found = report.violated[name]
            yield f"{report.store}, {report.model}, {report.workload}: {name}:\n{_crash(found)}"


def _crash(found: Counterexample) -> str:
    files = [f"    {path}: {len(octets)} octets" for path, octets in found.tree.items()]
    return "\n".join([f"  {found.detail}", *(f"  {line}" for line in found.story), *files])


def show(section: Section, console: Console) -> None:
    """One section, as the console can."""
    findings = section.findings()
    head = f"{section.name}: {'holds' if not findings else f'{len(findings)} finding(s)'}"
    if console.is_terminal:
        console.rule(Text(head))
        for grid in grids(section):
            console.print(_table(grid))
    else:
        console.print(head, **PLAIN)
        for grid in grids(section):
            console.print(f"  {grid.title}", **PLAIN)
            for row in grid.rows:
                console.print(f"    {' | '.join(row)}", **PLAIN)
    for text in counterexamples(section):
        console.print(text, **PLAIN)
    for finding in findings:
        console.print(f"  finding: {finding}", **PLAIN)


PLAIN: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True, "emoji": False}


def _table(grid: Grid) -> Table:
    table = Table(title=Text(grid.title), title_justify="left")
    for column in grid.columns:
        table.add_column(column, justify="right" if column in RIGHT else "left")
    for row in grid.rows:
        style = STYLES.get(row[-1].partition(":")[0], "") if grid.columns[-1] == "verdict" else ""
        table.add_row(*(Text(cell) for cell in row[:-1]), Text(row[-1], style=style))
    return table


STYLES = dict.fromkeys(("holds", "counts", "proved", "exhaustive"), "green") | {
    "searched": "yellow",
    "as expected": "yellow",
    "VIOLATED": "bold red",
    "FAILS": "bold red",
    "NOT EXHAUSTIVE": "bold red",
    "refuted": "bold red",
    "vacuous": "bold red",
    "failed": "bold red",
}
RIGHT = frozenset({"states", "distinct", "recovered", "per s", "fired"})


def as_json(section: Section) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "name": section.name,
        "findings": section.findings(),
        "explorations": [
            {
                "bounds": found.bounds,
                "states": found.states,
                "transitions": found.transitions,
                "depth": found.depth,
                "seconds": round(found.seconds, 3),
                "exhaustive": found.exhaustive,
                "invariants": {name: name not in found.violated for name in found.invariants},
                "fired": dict(found.fired),
                "counterexamples": {
                    name: list(path.actions) for name, path in found.violated.items()
                },
            }
            for found in section.explorations
        ],
        "enumerations": [_report_as_json(report, section) for report in section.enumerations],
        "proofs": [
            {
                "module": proof.module,
                "function": proof.function,
                "line": proof.line,
                "verdict": proof.verdict,
                "detail": proof.detail,
            }
            for run in section.proofs
            for proof in run.proofs
        ],
        "controls": [
            {
                "name": control.name,
                "spec": control.spec,
                "invariant": control.invariant,
                "counts": control.counts,
                "reason": control.reason,
            }
            for control in section.controls
        ],
    }


def _report_as_json(report: Report, section: Section) -> dict[str, Any]:
    return {
        "store": report.store,
        "model": report.model,
        "workload": report.workload,
        "states": report.enumerated,
        "distinct": report.distinct,
        "recovered": report.recovered,
        "states_per_second": report.states_per_second,
        "exhaustive": report.exhaustive,
        "violated": {
            name: {
                "detail": found.detail,
                "story": list(found.story),
                "states": report.counts.get(name, 0),
                "expected": section.expected.get((report.store, report.model, name)),
            }
            for name, found in report.violated.items()
        },
    }
