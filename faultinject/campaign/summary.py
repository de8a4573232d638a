"""What a campaign's records say, cell by cell: for a terminal, for programs, and for the page.

The state of a cell is the worst of what it has (in the order of `STATES`): "found" if there is
anything that its target is not known for; "broken" if a case gave no verdict, however many others
did, since what did not run must not look as if it held.  A case that held because it had nothing to
try (of a kind of process that makes no call) says nothing; a cell of nothing else is "not run".  A
case that was run again, because it was unavailable or broken, counts by its last outcome.  Runs
that shrink a finding are no part of the sums.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from rich.table import Table
from rich.text import Text

from faultinject import cases
from faultinject.campaign.portions import is_sample
from faultinject.campaign.records import (
    Campaign,
    Closed,
    Cut,
    Ended,
    Known,
    Ran,
    Record,
    Smallest,
    unknown,
)  # fmt: skip

State = Literal["found", "broken", "known", "held", "unavailable", "not run"]
#: The worst first; state -> what it means.
STATES: Final[dict[State, str]] = {
    "found": "the server did what it must not",
    "broken": "no verdict: the harness or the target failed",
    "known": "only what this server is known to do wrong",
    "held": "nothing was found",
    "unavailable": "it can't run here",
    "not run": "the campaign ended before a case did",
}
_STYLES: Final[dict[State, str]] = {
    "found": "bold red", "broken": "magenta", "known": "yellow", "held": "green",
    "unavailable": "dim", "not run": "dim",
}  # fmt: skip
#: What is no fault of a running server: a state that its code recovers from.
IN_PROCESS: Final = "states in process"
#: What a harness counts messages as, that a server has promised to keep.
PROMISES: Final = ("messages", "acknowledged", "promised")
#: How a harness names the faults that it has brought about -> how people do.
TRIALS: Final = {
    "hit": "kills at a call",
    "disks recovered": IN_PROCESS,
    "minimal states tried": "states",
    "sampled states tried": "states",
    "cuts": "cuts",
    "hits": "calls that failed",
    "destinations": "bad destinations",
    "kills": "kills",
    "points": "points",
}


@dataclass(slots=True, kw_only=True)
class Cell:
    """A target under a harness.  findings: those that are unknown, by name; known: the others.
    given_up: its plan failed, or its cases broke.
    """

    target: str
    harness: str
    ran: list[Ran] = field(default_factory=list)
    smallest: list[Smallest] = field(default_factory=list)
    findings: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    reason: str = ""
    given_up: bool = False
    planned: int = 0
    cut: list[Cut] = field(default_factory=list)
    unfinished: bool = False

    @property
    def state(self) -> State:
        verdicts = {each.outcome.verdict for each in self.ran if not is_void(each)}
        if self.findings:
            return "found"
        if "broken" in verdicts or self.given_up:
            return "broken"
        if "held" in verdicts or "found" in verdicts:
            return "known" if self.known else "held"
        return "unavailable" if verdicts else "not run"

    @property
    def seconds(self) -> float:
        return sum(each.outcome.seconds for each in self.ran)

    @property
    def faults(self) -> Counter[str]:
        """How many faults were brought about, by what people call them."""
        return faults_of(self.counts)

    @property
    def injected(self) -> int:
        """Those of the running server."""
        return self.faults.total() - self.faults[IN_PROCESS]

    @property
    def messages(self) -> int:
        """Those that were acknowledged, and had to survive."""
        return sum(self.counts[name] for name in PROMISES)

    @property
    def trials(self) -> str:
        """How much was tried, in words."""
        if self.faults:
            return ", ".join(
                f"{number:,} {_one(name, number)}" for name, number in self.faults.items()
            )
        return f"{len(self.ran):,} case{'s' if len(self.ran) > 1 else ''}" if self.ran else ""

    @property
    def samples(self) -> int:
        """How many of its cases were samples of what they could have tried."""
        return sum(is_sample(each.outcome.case) for each in self.ran)

    @property
    def reach(self) -> str:
        """How far it got, in words: exhaustive is only what says so."""
        of = f" of {self.planned:,}" if self.planned else ""
        said = [f"{len(self.ran):,}{of} cases"]
        if self.samples:
            said.append(f"{self.samples:,} of them samples")
        if 0 < self.planned <= len(self.ran) and not self.samples:
            said.append("all that are planned")
        said += [f"one cut off after {each.after_s:.0f} s" for each in self.cut]
        return ", ".join(said)


def faults_of(counts: Mapping[str, int]) -> Counter[str]:
    """The faults among what a harness counts; if it has several names for the same, the first."""
    found = Counter[str]()
    for name, words in TRIALS.items():
        if counts.get(name) and not (name == "points" and found):
            found[words] += counts[name]
    return found


def is_void(ran: Ran) -> bool:
    """Whether it held because there was nothing to try."""
    outcome = ran.outcome
    counted = [name for name in TRIALS if name in outcome.counts]
    return outcome.verdict == "held" and bool(counted) and not faults_of(outcome.counts)


def _one(name: str, number: int) -> str:
    """Of one, not of many."""
    if number != 1:
        return name
    first, _, rest = name.partition(" ")
    return f"{first[:-1]} {rest}".rstrip() if first.endswith("s") else name[:-1]


@dataclass(slots=True, kw_only=True)
class Summary:
    """Of a campaign.  cells: by target and harness, in its order; clock_s: of its last record."""

    campaign: Campaign
    cells: dict[tuple[str, str], Cell]
    shrinking: int = 0
    lost: int = 0
    clock_s: float = 0.0
    ended: Ended | None = None

    @property
    def known(self) -> Known:
        return self.campaign.known

    def states(self) -> Counter[State]:
        """How many cells are in which."""
        return Counter(each.state for each in self.cells.values())


def summarised(records: Sequence[Record]) -> Summary:
    """Of the records of one campaign, in their order.  Raises ValueError if there are none."""
    if not records or not isinstance(records[0], Campaign):
        raise ValueError("there are no records of a campaign")
    first = records[0]
    cells = {
        (target, harness): Cell(
            target=target, harness=harness, planned=first.planned.get(target, {}).get(harness, 0)
        )
        for target in first.targets
        for harness in first.harnesses
    }
    summary = Summary(campaign=first, cells=cells)
    last: dict[str, Ran] = {}
    for record in records:
        if isinstance(record, Campaign):
            continue
        summary.clock_s = max(summary.clock_s, record.at_s)
        if isinstance(record, Ran):
            summary.lost += record.lost
            if record.of:
                summary.shrinking += 1
            else:
                last[record.outcome.case.key] = record
        elif isinstance(record, Smallest):
            cells[record.case.target, record.case.harness].smallest.append(record)
        elif isinstance(record, Closed):
            cell = cells[record.target, record.harness]
            cell.given_up = record.why == "broken"
            cell.reason = record.reason if record.why in ("broken", "unavailable") else ""
        elif isinstance(record, Ended):
            summary.ended = record
    _cut_off(summary)
    for ran in last.values():
        _count(cells[ran.outcome.case.target, ran.outcome.case.harness], ran, first.known)
    return summary


def _cut_off(summary: Summary) -> None:
    """What the last end has left: earlier ones were gone on from."""
    if summary.ended is None:
        return
    for cut in summary.ended.cut:
        if not cut.finding:
            summary.cells[cut.case.target, cut.case.harness].cut.append(cut)
    for target, harness in summary.ended.unfinished:
        summary.cells[target, harness].unfinished = True


def _count(cell: Cell, ran: Ran, known: Known) -> None:
    cell.ran.append(ran)
    cell.counts.update(dict(ran.outcome.counts))
    surprising = unknown(ran.outcome, known) if ran.outcome.verdict == "found" else ()
    cell.findings.update(each.name for each in surprising)
    cell.known.update(each.name for each in ran.outcome.findings if each not in surprising)
    if ran.outcome.verdict in ("broken", "unavailable"):
        cell.reason = cell.reason or ran.outcome.reason


# -- how it is told -------------------------------------------------------------------------------


def table(summary: Summary) -> Table:
    """The matrix, for a terminal."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    found.add_column("target")
    for harness in summary.campaign.harnesses:
        found.add_column(harness)
    for target in summary.campaign.targets:
        row = (summary.cells[target, harness] for harness in summary.campaign.harnesses)
        found.add_row(target, *map(_told, row))
    return found


def _told(cell: Cell) -> Text:
    names = cell.findings if cell.state == "found" else cell.known if cell.known else Counter()
    said = ", ".join(f"{name} {count}" for name, count in names.most_common(3))
    lines = [cell.state if not said else f"{cell.state}: {said}", cell.trials]
    return Text("\n".join(filter(None, lines)), style=_STYLES[cell.state])


def left_open(summary: Summary) -> list[str]:
    """What the end of the campaign has left undone, a line each: nothing is dropped silently."""
    found = [
        f"cut off after {cut.after_s:.0f} s: {cell.target}, {cell.harness}:"
        f" {json.dumps(dict(cut.case.settings))}"
        for cell in summary.cells.values()
        for cut in cell.cut
    ]
    if summary.ended is not None:
        found += [
            f"shrinking is not at its end: {each.finding}: {each.case.target}, {each.case.harness}"
            for each in summary.ended.cut
            if each.finding
        ]
    if open_ones := sum(each.unfinished for each in summary.cells.values()):
        found.append(f"{open_ones} of {len(summary.cells)} cells have cases left")
    none = [f"{e.target}, {e.harness}" for e in summary.cells.values() if e.state == "not run"]
    if none:
        found.append(f"without a case that ended: {'; '.join(none)}")
    return found


def as_json(summary: Summary) -> dict[str, Any]:
    """Everything but the evidence, in plain types."""
    return {
        "seed": summary.campaign.seed,
        "targets": dict(summary.campaign.versions),
        "tool": summary.campaign.tool,
        "ended": summary.ended.why if summary.ended else "",
        "seconds": round(summary.clock_s, 1),
        "runs_that_shrank": summary.shrinking,
        "runs_lost": summary.lost,
        "cells": [
            {
                "target": cell.target,
                "harness": cell.harness,
                "state": cell.state,
                "cases": len(cell.ran),
                "planned": cell.planned,
                "samples": cell.samples,
                "cut_off": [cases.encode(each.case).decode() for each in cell.cut],
                "unfinished": cell.unfinished,
                "faults": dict(cell.faults),
                "seconds": round(cell.seconds, 1),
                "counts": dict(cell.counts),
                "findings": dict(cell.findings),
                "known": dict(cell.known),
                "reason": cell.reason,
                "smallest": [_smallest(each) for each in cell.smallest],
            }
            for cell in summary.cells.values()
        ],
    }


def _smallest(each: Smallest) -> dict[str, Any]:
    return {
        "finding": each.finding,
        "file": each.file,
        "case": cases.encode(each.case).decode(),
        "ending": each.ending,
        "tries": each.tries,
        "fails": each.fails,
        "runs": each.runs,
    }
