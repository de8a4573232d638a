"""A storm's trace against the spec of the queue.

What it shows beyond the ledger: which process did what, so that a second delivery is excused only
by the death of the very process that could have forgotten the first.
"""

from __future__ import annotations

from pathlib import Path

from faultinject.ledger import Finding
from specs.kernel.accept import TraceError, accept, read_events
from specs.queue.trace import QueueTrace


def judge_trace(path: Path) -> tuple[str, list[Finding]]:
    """(what was judged, refusals).  Raises OSError."""
    try:
        with path.open(encoding="utf-8") as lines:
            events = read_events(lines)
    except (TraceError, UnicodeDecodeError) as error:
        return "unreadable", [Finding(name="trace", text=str(error))]
    acceptance = accept(QueueTrace(), events)
    said = f"{acceptance.events} events of {acceptance.keys} messages"
    findings = [Finding(name="trace", text=str(each)) for each in acceptance.refusals]
    return said + (", refused" if findings else ", accepted"), findings
