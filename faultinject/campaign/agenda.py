"""What a campaign runs next: cells, each with its cases in order, and findings to be shrunk.

Rules a reader may rely on
- A cell that has had no case comes first; then shrinking and the cells have their turns, so that
  from the first finding on either has half of the time; among the open cells the one that has had
  the least time comes next, and among equals the one that the seed has put first.  So every cell
  has had a case before any has two, a cell of quick cases gets as much time as one of slow ones,
  and what is found in one cell does not keep the others waiting.
- A case that would take longer than there is time, going by the mean of its cell, is not begun;
  it is left to a later start (`unfinished`).  Of a cell that has had none, nothing is known: it is
  begun.
- A cell is closed when its plan is at its end, when its target or harness is unavailable, after
  `BROKEN` broken cases in a row, or after `most` cases.
- Records of an earlier start are taken in (`remember`) as if their cases had just been run: what
  has been run is not run again, and a shrinking that was cut short goes on where it stopped.

No I/O: whoever asks runs the cases, keeps the time and writes the records down.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from faultinject.campaign.portions import portions
from faultinject.campaign.records import (
    Closed,
    Closing,
    Known,
    Ran,
    Record,
    Smallest,
    unknown,
)  # fmt: skip
from faultinject.campaign.shrink import TRIES, Attempt, Shrinking, Shrunk, shrink
from faultinject.cases import Case, Harness, Outcome
from faultinject.ledger import FINDINGS

#: Broken cases in a row after which a cell is given up.
BROKEN: Final = 3
#: What says something about the server.
VERDICTS: Final = ("held", "found")
#: What a running case counts for, in seconds, while nothing is known of its cell.
GUESS_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A case to be run.  finding: whose shrinking wants it; "" if it is of the plan."""

    case: Case
    finding: str = ""
    of: str = ""
    again: int = 0


@dataclass(slots=True, eq=False, kw_only=True)
class _Cell:
    """A target under a harness."""

    target: str
    harness: Harness
    plan: Iterator[Case]
    spent_s: float = 0.0
    finished: int = 0
    begun: int = 0
    broken: int = 0
    closed: bool = False
    shrunk: set[str] = field(default_factory=set)  # findings that are, or were, shrunk

    @property
    def mean_s(self) -> float:
        """Of its cases, as far as is known."""
        return self.spent_s / self.finished if self.finished else GUESS_S

    @property
    def load_s(self) -> float:
        """Time that it has had, with a guess at what is running."""
        return self.spent_s + (self.begun - self.finished) * max(self.mean_s, 1e-3)

    def late(self, left_s: float) -> bool:
        """Whether its next case would probably not end in that time."""
        return bool(self.finished) and self.mean_s > left_s


@dataclass(slots=True, eq=False, kw_only=True)
class _Shrinker:
    """A finding being shrunk: it waits to run `next`, or for what comes of it."""

    cell: _Cell
    origin: Case
    finding: str
    steps: Shrinking
    next: Attempt


class Agenda:
    """Of one campaign.  most: cases of each cell; tries: of each shrinking (0 shrinks nothing)."""

    def __init__(
        self,
        *,
        seed: int,
        targets: Sequence[str],
        harnesses: Mapping[str, Harness],
        known: Known,
        most: int | None = None,
        tries: int = TRIES,
    ) -> None:
        self.known, self.most, self.tries = known, most, tries
        self.records: list[Record] = []  # to be written down, in order; the reader clears it
        self._cells = [
            _Cell(target=target, harness=harness, plan=_plan(harness, target, seed))
            for target in targets
            for harness in harnesses.values()
        ]
        Random(f"cells {seed}").shuffle(self._cells)  # noqa: S311
        self._done: dict[str, Outcome] = {}
        self._waiting: deque[_Shrinker] = deque()
        self._running: dict[tuple[str, str, int], _Shrinker] = {}
        self._shrunk_s = 0.0  # or more: as if it had always had its half

    # -- what comes next --------------------------------------------------------------------------

    def next(self, left_s: float = math.inf) -> Job | None:
        """The next to run, in the time that is left; None if there is nothing now (what is running
        may bring something).
        """
        if left_s <= 0:
            return None
        while cells := self._open(left_s):
            cell = min(cells, key=lambda each: (each.begun > 0, each.load_s))
            if cell.begun and self._waiting and self._shrinking_is_next:
                break
            case = self._of_plan(cell)
            if case is not None:
                cell.begun += 1
                return Job(case=case)
        while self._waiting:
            job = self._of_shrinker(self._waiting.popleft())
            if job is not None:
                return job
        return self.next(left_s) if self._open(left_s) else None

    def _open(self, left_s: float) -> list[_Cell]:
        return [each for each in self._cells if not each.closed and not each.late(left_s)]

    @property
    def _planned_s(self) -> float:
        return sum(each.load_s for each in self._cells)

    @property
    def _shrinking_is_next(self) -> bool:
        """Going by the time that each side has had, with a guess at what is running."""
        running_s = sum(each.cell.mean_s for each in self._running.values())
        return self._shrunk_s + running_s <= self._planned_s

    @property
    def unfinished(self) -> tuple[tuple[str, str], ...]:
        """(target, harness) of the cells that have cases left, as far as is known."""
        return tuple((each.target, each.harness.name) for each in self._cells if not each.closed)

    def _of_plan(self, cell: _Cell) -> Case | None:
        """Its next case that has not been run; None if there is none: then it is closed."""
        if self.most is not None and cell.begun >= self.most:
            self._close(cell, "enough", f"told to run {self.most} of its cases")
            return None
        try:
            for case in cell.plan:
                if (case.target, case.harness) != (cell.target, cell.harness.name):
                    raise ValueError(f"a case of another cell: {case.key}")
                if case.key not in self._done:
                    return case
        except Exception as error:  # a plan is another's code: its cell is broken, no other
            self._close(cell, "broken", f"its plan: {type(error).__name__}: {error}")
            return None
        self._close(cell, "complete")
        return None

    def _of_shrinker(self, shrinker: _Shrinker) -> Job | None:
        """What it wants to be run; None if all that it wanted is known, and it is at its end."""
        while True:
            attempt = shrinker.next
            outcome = None if attempt.again else self._done.get(attempt.case.key)
            if outcome is None:
                key = (attempt.case.key, shrinker.finding, attempt.again)
                self._running[key] = shrinker
                return Job(
                    case=attempt.case, finding=shrinker.finding, of=shrinker.origin.key,
                    again=attempt.again,
                )  # fmt: skip
            if not self._advance(shrinker, outcome):
                return None

    # -- what came of it --------------------------------------------------------------------------

    def settle(self, job: Job, outcome: Outcome) -> None:
        """Take what came of a job."""
        if job.finding:
            shrinker = self._running.pop((job.case.key, job.finding, job.again))
            self._shrunk_s += outcome.seconds
            if not job.again:
                self._done[job.case.key] = outcome
            if self._advance(shrinker, outcome):
                self._waiting.append(shrinker)
        else:
            self._settle_planned(job.case, outcome)

    def _settle_planned(self, case: Case, outcome: Outcome) -> None:
        self._done[case.key] = outcome
        cell = self._cell(case)
        if cell is None:
            return
        cell.spent_s += outcome.seconds
        cell.finished += 1
        cell.broken = cell.broken + 1 if outcome.verdict == "broken" else 0
        if outcome.verdict == "unavailable":
            self._close(cell, "unavailable", outcome.reason)
        elif cell.broken >= BROKEN:
            self._close(cell, "broken", outcome.reason)
        if self.tries and outcome.verdict == "found":
            for finding in self.findings(outcome):
                if finding not in cell.shrunk:
                    cell.shrunk.add(finding)
                    self._begin(cell, case, finding)

    def _begin(self, cell: _Cell, case: Case, finding: str) -> None:
        if not (self._waiting or self._running):  # what it did not need before is no credit
            self._shrunk_s = max(self._shrunk_s, self._planned_s)
        steps = shrink(case, cell.harness.smaller, self.tries)
        self._waiting.append(
            _Shrinker(cell=cell, origin=case, finding=finding, steps=steps, next=next(steps))
        )

    def _advance(self, shrinker: _Shrinker, outcome: Outcome) -> bool:
        """Tell it; whether it wants more."""
        fails = shrinker.finding in self.findings(outcome)
        try:
            shrinker.next = shrinker.steps.send(fails)
        except StopIteration as stop:
            self._smallest(shrinker, stop.value)
            return False
        return True

    def _smallest(self, shrinker: _Shrinker, shrunk: Shrunk) -> None:
        self.records.append(
            Smallest(
                case=shrunk.case, finding=shrinker.finding, of=shrinker.origin.key,
                tries=shrunk.tries, ending=shrunk.ending, fails=shrunk.fails, runs=shrunk.runs,
                file=file_of(shrunk.case, shrinker.finding),
            )
        )  # fmt: skip

    def findings(self, outcome: Outcome) -> list[str]:
        """The names of those that the target is not known for; what loses mail comes first."""
        if outcome.verdict != "found":
            return []
        names = {each.name for each in unknown(outcome, self.known)}
        order = list(FINDINGS)
        return sorted(names, key=lambda each: (order.index(each) if each in order else 99, each))

    def _close(self, cell: _Cell, why: Closing, reason: str = "") -> None:
        if not cell.closed:
            cell.closed = True
            self.records.append(
                Closed(target=cell.target, harness=cell.harness.name, why=why, reason=reason)
            )

    def _cell(self, case: Case) -> _Cell | None:
        for cell in self._cells:
            if (cell.target, cell.harness.name) == (case.target, case.harness):
                return cell
        return None

    # -- an earlier start -------------------------------------------------------------------------

    def remember(self, records: Sequence[Record]) -> None:
        """Take in what an earlier start of this campaign has written down, in its order."""
        for record in records:
            if isinstance(record, Smallest):
                cell = self._cell(record.case)
                if cell is not None:
                    cell.shrunk.add(record.finding)
            elif isinstance(record, Ran) and record.of:
                self._shrunk_s += record.outcome.seconds
                if not record.again:
                    self._done[record.outcome.case.key] = record.outcome
        for record in records:
            # what was missing may be there now, and what broke may hold: it is run again
            if isinstance(record, Ran) and not record.of and record.outcome.verdict in VERDICTS:
                cell = self._cell(record.outcome.case)
                if cell is not None:
                    cell.begun += 1
                self._settle_planned(record.outcome.case, record.outcome)


def _plan(harness: Harness, target: str, seed: int) -> Iterator[Case]:
    """Nothing happens, and nothing fails, before its first case is wanted."""
    yield from portions(harness, target, seed)


def file_of(case: Case, finding: str) -> str:
    """The name of a finding's case file."""
    words = (case.target, case.harness, finding)
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", each) for each in words) + ".json"
