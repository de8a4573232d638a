"""What the page shows, as plain values, from the records of a campaign.

Sizes are bounded, since a campaign may have a hundred thousand cases: all that found something or
broke are listed up to `MOST_ROWS` of each cell, of those that held `MOST_HELD`; the first
`MOST_EVIDENCE` of each cell carry their evidence.  What is left out is counted, and is in the
results.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from faultinject import cases
from faultinject.campaign.agenda import file_of
from faultinject.campaign.records import Ran, Record, Smallest, unknown
from faultinject.campaign.summary import (
    IN_PROCESS,
    STATES,
    Cell,
    State,
    Summary,
    faults_of,
    is_void,
    summarised,
)  # fmt: skip
from faultinject.page.words import ALWAYS, HARNESSES, Words

MOST_ROWS, MOST_HELD, MOST_EVIDENCE = 300, 60, 12
#: Points of the picture over time.
MOST_POINTS: Final = 4000
#: Cells in a state, as the first numbers call them.
_TILES: Final[dict[State, str]] = {
    "found": "cells with a finding",
    "known": "with known failures",
    "held": "held",
    "broken": "broken",
}
#: A state -> what people call it, and its sign: colours alone don't tell it to everybody.
CALLED: Final[dict[State, tuple[str, str]]] = {
    "found": ("found", "\N{MULTIPLICATION X}"),
    "broken": ("broken", "!"),
    "known": ("known failure", "\N{ALMOST EQUAL TO}"),
    "held": ("held", "\N{CHECK MARK}"),
    "unavailable": ("unavailable", "\N{EN DASH}"),
    "not run": ("not run", "\N{MIDDLE DOT}"),
}


def document(records: Sequence[Record]) -> dict[str, Any]:
    """Everything.  Raises ValueError if there are no records."""
    summary = summarised(records)
    first = summary.campaign
    runs = {each.outcome.case.key: each for each in records if isinstance(each, Ran)}
    return {
        "title": "Mail servers under fault injection",
        "said": _said(summary),
        "sums": _sums(summary),
        "targets": list(first.targets),
        "versions": {name: first.versions.get(name, "") for name in first.targets},
        "tool": first.tool,
        "command": _command(summary),
        "harnesses": [_harness(name) for name in first.harnesses],
        "always": list(ALWAYS),
        "states": [
            {"name": name, "text": text, "called": CALLED[name][0], "sign": CALLED[name][1]}
            for name, text in STATES.items()
        ],
        "cells": [_cell(each) for each in summary.cells.values()],
        "smallest": [
            _smallest(each, runs.get(each.case.key), summary)
            for cell in summary.cells.values()
            for each in (*cell.smallest, *_unshrunk(cell, summary))
        ],
        "rows": [row for cell in summary.cells.values() for row in _rows(cell, summary)],
        "known": _known(summary),
        "findings": _findings(summary),
        "tried": _tried(summary),
        "points": _points(summary),
    }


def _harness(name: str) -> dict[str, Any]:
    words = HARNESSES.get(name, Words(""))
    return {"name": name, "text": words.does, "reach": words.reach, "blind": list(words.blind)}


def _sums(summary: Summary) -> list[dict[str, str]]:
    """The numbers that come first: what, and how many."""
    cells = summary.cells.values()
    states = summary.states()
    recovered = sum(each.faults[IN_PROCESS] for each in cells)
    return [
        {"name": "faults injected", "value": f"{sum(e.injected for e in cells):,}"},
        *([{"name": "states in process", "value": f"{recovered:,}"}] if recovered else []),
        {"name": "messages promised", "value": f"{sum(e.messages for e in cells):,}"},
        *(
            {"name": text, "value": str(states[name]), "state": name}
            for name, text in _TILES.items()
            if states[name] or name == "found"
        ),
    ]


def _command(summary: Summary) -> str:
    """What makes the same plan again."""
    first = summary.campaign
    budget = f" --budget {summary.ended.budget_s:.0f}s" if summary.ended else ""
    return (
        f"refmta-fault campaign --targets {','.join(first.targets)}"
        f" --harnesses {','.join(first.harnesses)}{budget} --seed {first.seed}"
    )


def _said(summary: Summary) -> str:
    """The line below the title."""
    ran = sum(len(each.ran) for each in summary.cells.values())
    targets, harnesses = len(summary.campaign.targets), len(summary.campaign.harnesses)
    parts = [
        f"{targets} server{'s' * (targets != 1)}",
        f"{harnesses} kind{'s' * (harnesses != 1)} of faults",
        f"{ran:,} cases in {_duration(summary.clock_s)}",
        f"seed {summary.campaign.seed}",
        f"begun {summary.campaign.began} UTC" if summary.campaign.began else "",
        f"{summary.ended.why}" if summary.ended and summary.ended.why != "complete" else "",
        f"{summary.shrinking} runs to shrink what was found" if summary.shrinking else "",
        f"{summary.lost} runs lost with their worker, and run again" if summary.lost else "",
    ]
    return ", ".join(filter(None, parts)) + "."


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _cell(cell: Cell) -> dict[str, Any]:
    """What stands in the matrix."""
    return {
        "target": cell.target,
        "harness": cell.harness,
        "state": cell.state,
        "trials": cell.trials,
        "cases": len(cell.ran),
        "findings": dict(families(cell.findings).most_common()),
        "known": dict(families(cell.known).most_common()),
        "counts": dict(cell.counts),
        "reason": cell.reason,
        "reach": cell.reach,
        "cut": "".join(f"cut off after {each.after_s:.0f} s" for each in cell.cut[:1]),
        "planned": cell.planned,
        "faults": cell.faults.total(),
        "messages": cell.messages,
        "seconds": round(cell.seconds, 1),
        "left_out": max(0, len(cell.ran) - len(_shown(cell))),
    }


def state_of(ran: Ran, summary: Summary) -> State:
    """Of one case."""
    verdict = ran.outcome.verdict
    if is_void(ran):
        return "not run"
    if verdict == "found" and not unknown(ran.outcome, summary.known):
        return "known"
    return "known" if verdict == "held" and ran.outcome.findings else verdict


def _shown(cell: Cell) -> list[Ran]:
    """Those that are listed: findings first, each kind in the order in which it was run."""
    quiet = [each for each in cell.ran if each.outcome.verdict == "held"]
    quiet.sort(key=lambda each: not each.outcome.findings)
    others = [each for each in cell.ran if each.outcome.verdict != "held"]
    return [*others[:MOST_ROWS], *quiet[:MOST_HELD]]


def _rows(cell: Cell, summary: Summary) -> list[dict[str, Any]]:
    shown = _shown(cell)
    return [_row(each, summary, evidence=place < MOST_EVIDENCE) for place, each in enumerate(shown)]


def _row(ran: Ran, summary: Summary, *, evidence: bool) -> dict[str, Any]:
    """One case, with the file that replays it."""
    outcome = ran.outcome
    case, known = outcome.case, summary.known
    reasons = known.get(case.target, {}).get(case.harness, {})
    texts = dict(outcome.evidence) if evidence else {}
    return {
        "id": _id(case.key),
        "target": case.target,
        "harness": case.harness,
        "seed": case.seed,
        "state": state_of(ran, summary),
        "reason": outcome.reason,
        "findings": [
            {"name": each.name, "text": each.text, "known": reasons.get(each.name, "")}
            for each in outcome.findings
        ],
        "tried": ", ".join(
            f"{number:,} {name}" for name, number in faults_of(outcome.counts).items()
        ),
        "settings": ", ".join(f"{name}: {value}" for name, value in case.settings.items()),
        "counts": dict(outcome.counts),
        "seconds": round(outcome.seconds, 2),
        "where": ran.where,
        "lost": ran.lost,
        "evidence": texts,
        "file": cases.encode(case).decode(),
    }


def _unshrunk(cell: Cell, summary: Summary) -> list[Smallest]:
    """Findings whose smallest case is not known, each with the first case that has shown it."""
    done = {each.finding for each in cell.smallest}
    found: dict[str, Smallest] = {}
    for ran in cell.ran:
        case = ran.outcome.case
        new = unknown(ran.outcome, summary.known) if ran.outcome.verdict == "found" else ()
        for name in {each.name for each in new} - done - {*found}:
            file = file_of(case, name)
            found[name] = Smallest(
                case=case, finding=name, of=case.key, tries=0, ending="not shrunk", file=file
            )
    return list(found.values())


def _smallest(each: Smallest, ran: Ran | None, summary: Summary) -> dict[str, Any]:
    """A finding, shrunk."""
    row = _row(ran, summary, evidence=True) if ran is not None else {"id": _id(each.case.key)}
    return {
        **row,
        "target": each.case.target,
        "harness": each.case.harness,
        "finding": each.finding,
        "tries": each.tries,
        "ending": each.ending,
        "fails": each.fails,
        "runs": each.runs,
        "name": each.file,
        "file": cases.encode(each.case).decode(),
    }


def families(found: Counter[str]) -> Counter[str]:
    """Findings whose names say also where ("given_up at ...") are counted together."""
    sums = Counter[str]()
    for name, count in found.items():
        sums[name.partition(" at ")[0]] += count
    return sums


def _known(summary: Summary) -> list[dict[str, Any]]:
    """Known failures that were seen, and why: together, what is so for one reason."""
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    for cell in summary.cells.values():
        reasons = summary.known.get(cell.target, {}).get(cell.harness, {})
        for name, count in cell.known.most_common():
            found.setdefault((cell.target, cell.harness, reasons.get(name, "")), {})[name] = count
    return [
        {
            "target": target,
            "harness": harness,
            "finding": ", ".join(names),
            "count": sum(names.values()),
            "why": why,
        }
        for (target, harness, why), names in found.items()
    ]


def _findings(summary: Summary) -> list[dict[str, Any]]:
    """How often what was found, under which fault."""
    return [
        {"target": cell.target, "harness": cell.harness, "finding": name, "count": count,
         "state": state}
        for cell in summary.cells.values()
        for state, found in (("found", cell.findings), ("known", cell.known))
        for name, count in families(found).most_common()
    ]  # fmt: skip


def _tried(summary: Summary) -> list[dict[str, Any]]:
    """Faults and messages of each cell; what is none is left out, since the scale has no zero."""
    return [
        {"target": cell.target, "harness": cell.harness, "what": what, "count": count,
         "text": cell.trials}
        for cell in summary.cells.values()
        for what, count in (
            ("faults injected", cell.faults.total()), ("messages promised", cell.messages)
        )
        if count
    ]  # fmt: skip


def _points(summary: Summary) -> list[dict[str, Any]]:
    """When each case ran; all that are not "held", and as many of the others as may be."""
    points = [
        {
            "from": round(max(0.0, ran.at_s - ran.outcome.seconds) / 60, 3),
            "minute": round(ran.at_s / 60, 3),
            "target": cell.target,
            "harness": cell.harness,
            "state": state_of(ran, summary),
            "findings": ", ".join(sorted({each.name for each in ran.outcome.findings})),
        }
        for cell in summary.cells.values()
        for ran in cell.ran
    ]
    points.sort(key=lambda each: (each["state"] == "held", each["minute"]))
    return points[:MOST_POINTS]


def _id(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]
