"""A campaign of toys, without processes: the agenda, asked until it has nothing left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unit.faultinject.toy_harness import ToyHarness

from faultinject.campaign.agenda import Agenda
from faultinject.campaign.records import Campaign, Ran, Record, bounded
from faultinject.cases import Case, Outcome

KNOWN = {"known": {name: {"lost": "it promises nothing"} for name in ("toys", "more-toys")}}
SECONDS = 1.5


def outcome_of(case: Case, place: Path, seconds: float = SECONDS) -> Outcome:
    """What the toy says; whose target breaks or dies, breaks."""
    if case.target in ("raising", "dying"):
        return Outcome(case=case, verdict="broken", reason="it broke", seconds=seconds)
    return bounded(replace(ToyHarness(case.harness).run(case, place), seconds=seconds))


def work(
    agenda: Agenda, place: Path, most: int = 10_000, seconds=lambda _: SECONDS
) -> list[Record]:
    """One case at a time, to the end or so many; the records, in order."""
    records: list[Record] = []
    clock_s = 0.0
    for _ in range(most):
        job = agenda.next()
        records += agenda.records
        agenda.records.clear()
        if job is None:
            break
        outcome = outcome_of(job.case, place, seconds(job.case))
        clock_s += outcome.seconds
        records.append(
            Ran(outcome=outcome, of=job.of, again=job.again, at_s=clock_s, where="here", lost=0)
        )
        agenda.settle(job, outcome)
    return records


def campaign(
    place: Path, *targets: str, names=("toys", "more-toys"), cases: int = 6
) -> list[Record]:
    """All of its records."""
    harnesses = {name: ToyHarness(name, cases) for name in names}
    agenda = Agenda(seed=5, targets=targets, harnesses=harnesses, known=KNOWN)
    first = Campaign(seed=5, targets=targets, harnesses=tuple(names), known=KNOWN, began="now")
    return [first, *work(agenda, place)]
