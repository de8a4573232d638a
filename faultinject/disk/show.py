"""How disk faults are told: a row for each fault, then the findings; one object for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from faultinject.cases import Outcome
from faultinject.disk.faults import FAULTS
from faultinject.disk.verdicts import FINDINGS
from faultinject.ledger import FINDINGS as OF_LEDGER
from faultinject.ledger import Finding, summary

#: Of an outcome's counts, which are shown in columns.
COLUMNS: Final = ("steps", "hits", "elsewhere", "missed", "blurred")
ANSWER: Final = "answer: "
#: What no sweep can show; said each time.
LIMITS: Final = (
    "Not shown: a device that says 'synced' and has not; pages that the kernel drops after a failed"
    " sync (judged instead by the calls: trusted_failed_sync)."
)


def unknown(outcome: Outcome, known: Mapping[str, str]) -> list[Finding]:
    """The findings that the target is not known for."""
    return [each for each in outcome.findings if each.name not in known]


def faults(console: Console) -> None:
    """The table of faults."""
    table = Table("fault", "is", "and may happen", box=None)
    for fault in FAULTS.values():
        how = "injected" if fault.injected else "real"
        table.add_row(fault.name, f"{how}, {'for ever' if fault.forever else 'once'}", fault.why)
    console.print(table)


def row(outcome: Outcome) -> str:
    """One line, while it goes on."""
    counts = outcome.counts
    numbers = ", ".join(f"{counts[name]} {name}" for name in COLUMNS if counts.get(name))
    told = "; ".join(filter(None, (numbers, _answers(outcome), outcome.reason)))
    return f"{_fault(outcome):16} {outcome.verdict:12} {told}; {outcome.seconds:.0f} s"


def _fault(outcome: Outcome) -> str:
    return str(outcome.case.settings.get("fault", ""))


def _answers(outcome: Outcome) -> str:
    rows = outcome.counts.items()
    found = {name.removeprefix(ANSWER): count for name, count in rows if name.startswith(ANSWER)}
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def findings(outcomes: Sequence[Outcome], known: Mapping[str, str], console: Console) -> None:
    """All of them by name, with an example, and the sum."""
    everything = [
        Finding(name=each.name, text=f"{_fault(outcome)}: {each.text}")
        for outcome in outcomes
        for each in outcome.findings
    ]
    for name, count, example in summary(everything):
        meaning = FINDINGS.get(name) or OF_LEDGER.get(name, "")
        why = f"; known: {known[name]}" if name in known else ""
        console.print(f"finding: {name}: {count} ({meaning}){why}: {example}", soft_wrap=True)
    sums = {name: sum(each.counts.get(name, 0) for each in outcomes) for name in COLUMNS}
    new = sum(len(unknown(each, known)) for each in outcomes)
    console.print(LIMITS, soft_wrap=True)
    console.print(
        f"{len(outcomes)} faults, {sums['steps']} steps, {sums['hits']} calls failed,"
        f" {sums['missed']} steps missed; {new} finding(s)"
    )


def as_json(
    outcomes: Sequence[Outcome], known: Mapping[str, str], target: str, seed: int
) -> dict[str, Any]:
    """Everything, in plain types."""
    return {
        "target": target,
        "seed": seed,
        "known_failures": dict(known),
        "faults": [
            {
                "fault": _fault(each),
                "verdict": each.verdict,
                "reason": each.reason,
                "counts": dict(each.counts),
                "seconds": round(each.seconds, 1),
                "findings": [{"name": f.name, "text": f.text} for f in each.findings],
                "unknown": len(unknown(each, known)),
                "steps": each.evidence.get("steps.txt", "").splitlines(),
            }
            for each in outcomes
        ],
    }
