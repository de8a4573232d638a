"""How a siege is told: a table for people, one object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from faultinject.kill.harness import settings_of
from faultinject.kill.points import FAULTS, Fault, Point, Trial
from faultinject.kill.scripts import SCRIPTS
from faultinject.kill.siege import Result
from faultinject.ledger import FINDINGS, WINDOWS, Finding, summary


def unknown(result: Result, known: Mapping[str, str]) -> list[Finding]:
    """The findings that the target is not known for."""
    return [finding for finding in result.all_findings() if finding.name not in known]


def guilty(result: Result, known: Mapping[str, str]) -> list[Point]:
    """The points that found something which is not known."""
    return [
        point
        for point, trial in sorted(result.trials.items())
        if any(name not in known for name, _ in trial.findings)
    ]


def as_json(result: Result, known: Mapping[str, str]) -> dict[str, Any]:
    """Everything, in plain types."""
    return {
        "target": result.target,
        "seed": result.plan.seed,
        "points": len(result.trials),
        "hit": result.hit,
        "missed": [settings_of(point) for point in result.missed],
        "left_out": list(result.left_out),
        "acknowledged": result.acknowledged,
        "duplicates_by_window": {window: result.duplicates[window] for window in WINDOWS},
        "findings": [{"name": each.name, "text": each.text} for each in result.all_findings()],
        "new_findings": len(unknown(result, known)),
        "known_failures": dict(known),
        "calls": {
            script: dict(Counter(each.kind for each in seen))
            for script, seen in result.calls.items()
        },
        "trials": [_trial(trial) for _, trial in sorted(result.trials.items())],
        "restarts": result.restarts,
        "restarts_by_hand": result.operated,
        "remnants": result.remnants,
        "servers": result.servers,
        "traces": result.traces,
        "tried_now": result.tried,
        "seconds": round(result.seconds, 1),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        **settings_of(trial.point), "hit": trial.hit, "struck": trial.struck, "call": trial.call,
        "place": trial.place, "findings": [list(each) for each in trial.findings],
        "seconds": round(trial.seconds, 3),
    }  # fmt: skip


def show(result: Result, known: Mapping[str, str], console: Console) -> None:
    """The table, then the sums, then the findings with examples."""
    table = Table("fault", "message", "process", "points", "hit", "findings", box=None)
    rows: dict[tuple[Fault, str, str], list[Trial]] = {}
    for point, trial in result.trials.items():
        rows.setdefault((point.fault, point.script, point.kind or "all"), []).append(trial)
    for (fault, script, kind), trials in sorted(rows.items(), key=_order):
        hit, found = sum(each.hit for each in trials), sum(len(each.findings) for each in trials)
        table.add_row(fault, script, kind, str(len(trials)), str(hit), str(found or "none"))
    console.print(table)
    for fault in result.plan.faults:
        console.print(f"{fault}: {FAULTS[fault]}")
    for script in result.calls:
        console.print(f"{script}: {SCRIPTS[script].says}")
    for script in result.left_out:
        console.print(f"unavailable: {script}: {SCRIPTS[script].says}: {result.target} can't")
    _sums(result, console)
    for point in result.missed:
        console.print(f"not hit: {point}")
    for name, count, example in summary(result.all_findings()):
        why = f"; known: {known[name]}" if name in known else ""
        meaning = f" ({FINDINGS[name]})" if name in FINDINGS else ""
        console.print(f"finding: {name}: {count}{meaning}{why}: {example}", soft_wrap=True)
    console.print(
        f"{len(result.trials)} points, {result.hit} hit, {len(result.missed)} missed,"
        f" {len(unknown(result, known))} finding(s), seed {result.plan.seed}"
    )


def _order(row: tuple[tuple[Fault, str, str], list[Trial]]) -> tuple[int, int, str]:
    (fault, script, kind), _ = row
    return [*FAULTS].index(fault), [*SCRIPTS].index(script), kind


def _sums(result: Result, console: Console) -> None:
    rate = result.tried / result.seconds if result.seconds else 0.0
    windows = ", ".join(f"{count} {name}" for name, count in result.duplicates.items() if count)
    console.print(
        f"{result.tried} points tried in {result.seconds:.0f} s ({rate:.1f}/s), on"
        f" {result.servers} server(s), started anew {result.restarts} times,"
        f" and {result.operated} times by hand for the queue to be looked at;"
        f" {result.acknowledged} letters acknowledged"
    )
    console.print(f"duplicates, by window: {windows or 'none'}")
    console.print(f"left in queues by deaths, and nobody waits for it: {result.remnants}")
    console.print(f"traces: {'; '.join(result.traces) or 'none'}")
