"""A campaign at work: the agenda says what is next, the engine runs it, the results keep it.

It ends when there is nothing left to do, when its budget is spent, or when it is cancelled; what
was on its way then is given up, written down as cut off, and run again by the next start.  The
budget counts the campaign's own time over all of its starts.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import msgspec
import trio

from faultinject import cases
from faultinject.campaign.agenda import Agenda, Job
from faultinject.campaign.engines import Engine, EngineError, Run
from faultinject.campaign.portions import portions
from faultinject.campaign.records import (
    Campaign,
    Cut,
    End,
    Ended,
    Ran,
    Record,
    Smallest,
)  # fmt: skip
from faultinject.campaign.results import CASES, Results, ResultsError
from faultinject.campaign.shrink import TRIES
from faultinject.cases import Harness

#: Cases of a cell that are counted beforehand.
COUNTED: Final = 100_000


class MismatchError(ValueError):
    """The results are those of another campaign; the text says in what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """budget_s, case_s: for all, and for one case, in seconds.  most: cases of each cell, None for
    all.  tries: of each shrinking, 0 for none.
    """

    seed: int
    targets: tuple[str, ...]
    harnesses: tuple[str, ...]
    budget_s: float
    case_s: float
    most: int | None = None
    tries: int = TRIES


#: Told of each record, and (with None) of each case that begins.
Watch = Callable[["Underway", Record | None], None]


@dataclass(slots=True)
class Underway:
    """One start of a campaign."""

    plan: Plan
    results: Results
    engine: Engine
    agenda: Agenda
    watch: Watch
    before_s: float = 0.0
    running: int = 0
    end: End = "complete"
    _failure: Exception | None = None
    _cut: list[Cut] = field(default_factory=list)
    _began_s: float = field(default_factory=time.monotonic)
    _news: trio.Event = field(default_factory=trio.Event)

    @property
    def clock_s(self) -> float:
        """Of the campaign: it stands still while it doesn't run."""
        return self.before_s + time.monotonic() - self._began_s

    async def run(self) -> End:
        """How it ended.  Raises EngineError, ResultsError."""
        self._note()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heed, nursery.cancel_scope)
            with trio.move_on_after(max(0.0, self.plan.budget_s - self.before_s)) as budget:
                async with trio.open_nursery() as workers:
                    for _ in range(self.engine.width):
                        workers.start_soon(self._work, workers.cancel_scope)
            if budget.cancelled_caught:
                self.end = "the budget is spent"
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        self._note()
        if self.end == "complete" and self.agenda.unfinished:
            self.end = "the budget is spent"
        self._write(
            Ended(
                why=self.end, budget_s=self.plan.budget_s, cut=tuple(self._cut),
                unfinished=self.agenda.unfinished, at_s=self.clock_s,
            )
        )  # fmt: skip
        return self.end

    async def _heed(self, everything: trio.CancelScope) -> None:
        """SIGINT and SIGTERM end it in good order."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.end = "interrupted"
                everything.cancel()

    async def _work(self, workers: trio.CancelScope) -> None:
        """One of as many as the engine has room for."""
        try:
            while await self._step():
                pass
        except (EngineError, ResultsError) as error:  # raised outside: a nursery would wrap it
            self._failure = error
            workers.cancel()

    async def _step(self) -> bool:
        """Run one case, or wait until there may be one; False when there is nothing left."""
        job = self.agenda.next(self.plan.budget_s - self.clock_s)
        self._note()
        if job is None:
            if self.running:
                await self._news.wait()
                return True
            self._wake()
            return False
        self.running += 1
        began_s = self.clock_s
        try:
            self.watch(self, None)
            run = await self.engine.run(job.case, self.plan.case_s)
        except trio.Cancelled:
            after_s = self.clock_s - began_s
            self._cut.append(Cut(case=job.case, after_s=after_s, finding=job.finding))
            raise
        finally:
            self.running -= 1
        self._take(job, run)
        return True

    def _take(self, job: Job, run: Run) -> None:
        """Written first, then believed."""
        self._write(
            Ran(
                outcome=run.outcome, of=job.of, again=job.again, where=run.where, lost=run.lost,
                at_s=self.clock_s,
            )
        )  # fmt: skip
        self.agenda.settle(job, run.outcome)
        self._note()
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    def _note(self) -> None:
        """Write down what the agenda has concluded; a case file is there before its record."""
        records, self.agenda.records = self.agenda.records, []
        for record in records:
            if isinstance(record, Smallest):
                self.results.write(f"{CASES}/{record.file}", cases.encode(record.case))
            if not isinstance(record, (Campaign, Ran)):
                self._write(msgspec.structs.replace(record, at_s=self.clock_s))

    def _write(self, record: Record) -> None:
        self.results.add(record)
        self.watch(self, record)


def settled(plan: Plan, records: list[Record]) -> Plan:
    """The plan, as the results that are there want it.  Raises MismatchError if it is another's."""
    if not records:
        return plan
    first = records[0]
    if not isinstance(first, Campaign):
        raise MismatchError("the results begin without saying what they are of")
    for name in ("targets", "harnesses"):
        mine, theirs = getattr(plan, name), getattr(first, name)
        if set(mine) != set(theirs):
            raise MismatchError(f"the results are of {name} {', '.join(theirs)}")
    if plan.seed != first.seed:
        raise MismatchError(f"the results are of seed {first.seed}")
    return replace(plan, targets=first.targets, harnesses=first.harnesses)


def _count(harness: Harness, target: str, seed: int) -> int:
    """How many cases there are, at least; its failures are told when the cases are wanted."""
    count = 0
    with suppress(Exception):
        for _ in islice(portions(harness, target, seed), COUNTED):
            count += 1
    return count


def begin(
    plan: Plan,
    results: Results,
    engine: Engine,
    harnesses: list[Harness],
    about: Campaign,
    watch: Watch,
) -> Underway:
    """A new campaign, or one that goes on.  about: what is written down of a new one; without its
    seed, and what is counted here.  Raises MismatchError, ResultsError.
    """
    plan = settled(plan, results.records)
    agenda = Agenda(
        seed=plan.seed, targets=plan.targets, known=about.known, most=plan.most, tries=plan.tries,
        harnesses={each.name: each for each in harnesses},
    )  # fmt: skip
    clocks = [each.at_s for each in results.records if not isinstance(each, Campaign)]
    if not results.records:
        results.add(
            msgspec.structs.replace(
                about, seed=plan.seed, began=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
                planned={
                    target: {each.name: _count(each, target, plan.seed) for each in harnesses}
                    for target in plan.targets
                },
            )
        )  # fmt: skip
    agenda.remember(results.records)
    return Underway(plan, results, engine, agenda, watch, before_s=max(clocks, default=0.0))
