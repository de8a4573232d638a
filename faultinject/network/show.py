"""How trials of the network are told: a table for people, one object for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from faultinject.cases import Outcome
from faultinject.ledger import Finding, summary
from faultinject.network import harness, places, schedules, verdicts
from faultinject.network.name_rows import ROWS

NOT_SHOWN = (
    "Not shown: what happens between networks (congestion, fragments, another route); IPv6; TLS;"
    " faults that last longer than a trial, so no give-up time."
)


def unknown(outcome: Outcome, known: Mapping[str, str]) -> list[Finding]:
    """The findings that the target is not known for."""
    return [each for each in outcome.findings if each.name not in known]


def as_json(
    outcomes: Sequence[Outcome], known: Mapping[str, str], name: str, seed: int
) -> dict[str, Any]:
    """Everything, in plain types."""
    return {
        "target": name,
        "seed": seed,
        "known_failures": dict(known),
        "new_findings": sum(len(unknown(each, known)) for each in outcomes),
        "trials": [
            {
                "settings": each.case.settings, "verdict": each.verdict, "reason": each.reason,
                "counts": dict(each.counts), "seconds": round(each.seconds, 1),
                "findings": [{"name": one.name, "text": one.text} for one in each.findings],
                "destinations": each.evidence.get("destinations.txt", "").splitlines(),
            }
            for each in outcomes
        ],
    }  # fmt: skip


def group_of(outcome: Outcome) -> str:
    """What a trial is called."""
    settings = outcome.case.settings
    return str(settings.get("group") or ", ".join(settings.get("bad", ())))


def line(outcome: Outcome) -> str:
    """One trial, while others go on."""
    counts = outcome.counts
    told = outcome.reason or ", ".join(
        f"{counts.get(name, 0)} {name}" for name in ("destinations", "messages", "findings")
    )
    return f"{group_of(outcome)}: {outcome.verdict}: {told} ({outcome.seconds:.1f} s)"


def show(outcomes: Sequence[Outcome], known: Mapping[str, str], console: Console) -> None:
    """The table, then the findings with examples."""
    table = Table(
        "trial", "destinations", "letters", "delivered", "failed", "deferred", "live", "alone",
        "beside", "open", "findings", box=None,
    )  # fmt: skip
    for each in outcomes:
        table.add_row(*_row(each))
    console.print(table)
    console.print(
        "delivered, failed, deferred: recipients at bad destinations, while the fault lasted;"
        " live: letters to others, that arrived while it lasted; open: connections that hung then"
    )
    for each in outcomes:
        if each.reason:
            console.print(f"{each.verdict}: {group_of(each)}: {each.reason}", soft_wrap=True)
    for each in outcomes:
        _findings(each, known, console)
    console.print(NOT_SHOWN, soft_wrap=True)
    number = sum(len(unknown(each, known)) for each in outcomes)
    console.print(f"{len(outcomes)} trials, {number} finding(s)")


def _row(outcome: Outcome) -> tuple[str, ...]:
    counts = outcome.counts
    became = [str(counts.get(f"{each} while it lasted", 0)) for each in verdicts.OUTCOMES]
    return (
        group_of(outcome), str(counts.get("destinations", "-")), str(counts.get("messages", "-")),
        *became, str(counts.get("live letters beside it", "-")),
        f"{counts.get('milliseconds alone', 0) / 1000:.2f} s",
        f"{counts.get('milliseconds beside it', 0) / 1000:.2f} s",
        str(counts.get("open then", "-")), str(len(outcome.findings) or "none"),
    )  # fmt: skip


def _findings(outcome: Outcome, known: Mapping[str, str], console: Console) -> None:
    for name, count, example in summary(list(outcome.findings)):
        why = f"; known: {known[name]}" if name in known else ""
        said = verdicts.MEANINGS.get(verdicts.kind(name))
        meaning = f" ({said})" if said else ""
        console.print(
            f"finding: {group_of(outcome)}: {name}: {count}{meaning}{why}: {example}",
            soft_wrap=True,
        )


def destinations(console: Console) -> None:
    """All groups, and what may become of a recipient at each bad destination."""
    for group, names in places.GROUPS.items():
        console.print(f"{group}: {places.SAYS[group]}")
        for name in names:
            console.print(f"  {name:44} {' or '.join(sorted(places.ALLOWED[name]))}")
    for group in harness.SPECIAL:
        console.print(f"{group}: {len(harness.SPECIAL[group]['bad'])} of the above")
    console.print(f"{len(places.ALLOWED)} destinations, {len(ROWS)} of them of name servers")
    for name, schedule in schedules.SCHEDULES.items():
        console.print(f"schedule of {name}: {schedule.says}")
