"""How the results of power cuts are told: a table for people, one object for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from faultinject.ledger import FINDINGS
from faultinject.power.images import BLIND
from faultinject.power.results import Results

#: Column -> the count it shows.  Sums over all clones: a message counts at each cut after it.
COLUMNS: Final = {
    "cuts": "cuts",
    "of them during recovery": "cuts during recovery",
    "promises judged": "promised",
    "up to 250 ms before": "fresh",
    "in flight": "in flight",
    "delivered": "delivered",
    "queued": "queued",
    "delivered again": "delivered again",
}
#: Findings of this harness alone.
OWN: Final = {
    "unrecovered": "it does not start on what a cut has left",
    "stop": "it does not stop in good order afterwards",
    "defect": "what no cut excuses in its log",
}
EXAMPLES: Final = 3


def unknown(results: Results, known: dict[str, str]) -> set[str]:
    """Names of findings that the target is not known for."""
    return {name for name, _ in results.findings() if name not in known}


def as_json(
    results: Results, known: dict[str, str], target: str, systems: tuple[str, ...], seed: int
) -> dict[str, Any]:
    """Everything, in plain types."""
    return {
        "target": target,
        "seed": seed,
        "file_systems": {fs: dict(results.sums(fs)) for fs in systems},
        "findings": [{"name": name, "text": text} for name, text in results.findings()],
        "known_failures": {n: known[n] for n, _ in results.findings() if n in known},
        "not_shown": list(BLIND),
    }


def show(
    results: Results, known: dict[str, str], systems: tuple[str, ...], seed: int, console: Console
) -> None:
    """The table, the findings with examples, and what the cuts can't show."""
    names = list(dict.fromkeys(name for name, _ in results.findings()))
    table = Table("file system", *COLUMNS, *names, "s per cut", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for fs in systems:
        sums = results.sums(fs)
        pace = sums["milliseconds"] / 1000 / sums["cuts"] if sums["cuts"] else 0.0
        counts = [sums[count] for count in (*COLUMNS.values(), *names)]
        table.add_row(fs, *(f"{count:,}" for count in counts), f"{pace:.1f}")
    console.print(table)
    shown: Counter[str] = Counter()
    for name, text in results.findings():
        shown[name] += 1
        if shown[name] == 1:
            why = f"; known: {known[name]}" if name in known else ""
            console.print(f"finding: {name} ({FINDINGS.get(name) or OWN.get(name, '')}){why}")
        if shown[name] <= EXAMPLES:
            console.print(f"  {text}", soft_wrap=True)
    for text in BLIND:
        console.print(f"not shown by such cuts: {text}", soft_wrap=True)
    console.print(f"{len(unknown(results, known))} kind(s) of findings, seed {seed}")
