"""How a storm's result is told: a table for people, one object for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from faultinject.ledger import FINDINGS, WINDOWS, Finding, summary
from faultinject.storm import Result

#: What must be none, whatever the target: shown even when it is.
NEVER = ("lost", "altered", "misdelivered", "duplicate")


def unknown(result: Result, known: dict[str, str]) -> list[Finding]:
    """The findings that the target is not known for."""
    return [finding for finding in result.findings if finding.name not in known]


def as_json(result: Result, known: dict[str, str]) -> dict[str, Any]:
    """Everything, in plain types."""
    account = result.account
    return {
        "target": result.target,
        "seed": result.plan.seed,
        "messages": result.plan.messages,
        "acknowledged": account.acknowledged,
        "attempts": dict(account.attempts),
        "recipients": {
            "delivered": account.delivered,
            "of_them_at_next_hops": account.at_next_hop,
            "reported": account.reported,
        },
        "queued": account.queued,
        **{name: account.found(name) for name in FINDINGS},
        "duplicates_by_window": {window: account.duplicates[window] for window in WINDOWS},
        "kills": dict(result.hits),
        "kills_by_kind": dict(result.kinds),
        "restarts": result.restarts,
        "connections": result.connections,
        "behaviours_of_next_hops": result.behaviours,
        "trace": result.trace,
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
        "findings": [{"name": each.name, "text": each.text} for each in result.findings],
        "known_failures": {e.name: known[e.name] for e in result.findings if e.name in known},
    }


def show(result: Result, known: dict[str, str], console: Console) -> None:
    """The table, then the findings with examples."""
    table = Table("what", "count", box=None, show_header=False)
    for row in _rows(result):
        table.add_row(*row)
    console.print(table)
    for name, count, example in summary(result.findings):
        why = f"; known: {known[name]}" if name in known else ""
        meaning = f" ({FINDINGS[name]})" if name in FINDINGS else ""
        console.print(f"finding: {name}: {count}{meaning}{why}: {example}", soft_wrap=True)
    console.print(f"{len(unknown(result, known))} finding(s), seed {result.plan.seed}")


def _rows(result: Result) -> list[tuple[str, str]]:
    account, seconds = result.account, result.seconds
    rows = [
        ("letters sent and acknowledged", f"{account.acknowledged} of {result.plan.messages}"),
        ("  attempts that ended otherwise", _others(result)),
        ("recipients delivered to", f"{account.delivered}, {account.at_next_hop} by next hops"),
        ("recipients reported to the sender", str(account.reported)),
        ("messages still queued", str(account.queued)),
        *((name, str(account.found(name))) for name in NEVER),
        *((f"duplicates, {window}", str(account.duplicates[window])) for window in WINDOWS),
        ("behaviours of next hops met", str(result.behaviours)),
    ]
    for role, hits in sorted(result.hits.items()):
        parts = [f"{k.removeprefix(role).strip() or 'parent'} {n}" for k, n in result.kinds.items()
                 if k.partition(" ")[0] == role]  # fmt: skip
        detail = f" ({', '.join(sorted(parts))})" if len(parts) > 1 else ""
        rows.append((f"kills of {role}", f"{hits}{detail}"))
    times = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    return [
        *rows,
        ("kills in all, starts anew", f"{result.hits.total()}, {result.restarts}"),
        ("trace", result.trace),
        ("until", times),
    ]


def _others(result: Result) -> str:
    attempts = result.account.attempts
    others = [f"{count} {name}" for name, count in attempts.items() if name != "acknowledged"]
    return ", ".join(others) or "none"
