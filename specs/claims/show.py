"""How the ledger is shown: a line per claim, its trials below, what is missing once; or JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from specs.claims.verdict import Broken, Judged, Missing, Outcome, Reading

#: Characters of a detail that a terminal gets, and things that are told to be missing most.
LONGEST, MOST_WANTED = 400, 12
#: How a reader finds the trials that decide.
MARKS = {"decides": " ", "condition": "?", "beside": "+"}


def lines(judged: Judged) -> Iterator[str]:
    """A claim: verdict, condition, trials with their measurements, what is missing."""
    claim = judged.claim
    about = f"{claim.section}; {', '.join(claim.architectures)}; held to {claim.digest}"
    yield f"{judged.name}  {judged.verdict.upper()}  {claim.claim} [{about}]"
    for condition in judged.conditions:
        yield f"      condition: {condition}"
    for outcome in judged.outcomes:
        yield from _measured(outcome) if outcome.verdict != "pending" else ()
    yield from _waiting(judged)
    for finding in judged.findings:
        yield f"      finding: {plain(finding)}"


def _measured(outcome: Outcome) -> Iterator[str]:
    trial = outcome.trial
    yield f"    {MARKS[outcome.role]} {outcome.verdict:5}  {trial.on}: {trial.observation}"
    if isinstance(outcome.taking, Reading):
        against = f", against {trial.against}" if trial.against else ""
        told = f" ({plain(outcome.taking.detail)})" if outcome.taking.detail else ""
        yield f"             {outcome.taking.value:g}{against}, to be {trial.criterion}{told}"
        if outcome.taking.recorded:
            yield f"             from the record: {plain(outcome.taking.recorded)}"
    if outcome.verdict == "fails" and trial.reason:
        yield f"             as expected: {trial.reason}"


def _waiting(judged: Judged) -> Iterator[str]:
    """What the pending trials lack, those that count before those beside."""
    pending = [each for each in judged.outcomes if each.verdict == "pending"]
    beside = [each for each in pending if each.role == "beside"]
    if judged.missing:
        count = f"{len(pending) - len(beside)} of {len(judged.outcomes)} trials"
        yield f"      pending ({count}): {'; '.join(map(plain, judged.missing))}"
    lacks = dict.fromkeys(
        what for each in beside if isinstance(each.taking, Missing) for what in each.taking.what
    )
    if lacks:
        yield f"    + pending ({len(beside)}): {'; '.join(map(plain, lacks))}"


def plain(text: str) -> str:
    """For a terminal: nothing that moves its cursor, and no more than a few lines."""
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."


def closing(judged: Iterable[Judged]) -> Iterator[str]:
    """What most trials wait for; then how many of each verdict."""
    found = list(judged)
    outcomes = [outcome for each in found for outcome in each.outcomes]
    lacks = Counter(
        what for each in outcomes if isinstance(each.taking, Missing) for what in each.taking.what
    )
    yield "+ beside the claim's own architectures: no part of its verdict;  ? bounds the claim"
    for what, times in lacks.most_common(MOST_WANTED):
        yield f"{times:3} trial(s) wait for: {plain(what)}"
    verdicts = Counter(each.verdict for each in found)
    told = ", ".join(f"{times} {verdict}" for verdict, times in sorted(verdicts.items()))
    run = sum(each.verdict != "pending" for each in outcomes)
    takings = [each.taking for each in outcomes]
    recorded = sum(isinstance(each, Reading) and each.recorded != "" for each in takings)
    findings = sum(len(each.findings) for each in found)
    of_old = f" ({recorded} from the record)" if recorded else ""
    yield (
        f"{len(found)} claim(s): {told}; {run} of {len(outcomes)} trials run{of_old},"
        f" {findings} finding(s)"
    )


def as_json(judged: Judged) -> dict[str, Any]:
    """Everything, with the digest of what the claim was held to."""
    return {
        "id": judged.name,
        "section": judged.claim.section,
        "claim": judged.claim.claim,
        "architectures": list(judged.claim.architectures),
        "verdict": judged.verdict,
        "conditions": list(judged.conditions),
        "missing": list(judged.missing),
        "findings": judged.findings,
        "criterion": judged.claim.digest,
        "trials": [_trial(outcome) for outcome in judged.outcomes],
    }


def _trial(outcome: Outcome) -> dict[str, Any]:
    trial, taking = outcome.trial, outcome.taking
    found: dict[str, Any] = {
        "on": trial.on,
        "role": outcome.role,
        "observation": trial.observation,
        "against": trial.against or None,
        "comparison": trial.comparison,
        "threshold": trial.threshold,
        "unit": trial.unit,
        "expected": trial.expected,
        "reason": trial.reason or None,
        "condition": trial.condition or None,
        "verdict": outcome.verdict,
    }
    match taking:
        case Reading(value=value, detail=detail, recorded=recorded):
            # JSON knows no infinity.
            found |= {"measurement": value if math.isfinite(value) else None, "detail": detail}
            found |= {"recorded": recorded} if recorded else {}
        case Missing(what=what):
            found["missing"] = list(what)
        case Broken(error=error):
            found["error"] = error
    return found
