"""The steps of a sweep: which are made, and what came of each, as values.  Pure but for a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from faultinject.books import Answer
from faultinject.disk.calls import Census
from faultinject.disk.faults import Fault
from faultinject.ledger import Account, Finding

#: A fault without census ends when so many steps in a row hit nothing, and at this number.
CALM, MOST = 3, 4096
#: Steps beyond the census, at most.
BEYOND: Final = 3
#: Of room that becomes less by and by, so many numbers are sampled from, for each step wanted; of
#: other faults the first ones are taken.
SPREAD: Final = 4
#: An answer that shows no fault.
ACKNOWLEDGED: Final = Answer.ACKNOWLEDGED.value
#: The number that a way begins with, and the last that it has (else MOST).
FIRST: Final = {"space": 0, "inodes": 0, "quota": 0, "descriptors": 0}
LAST: Final = {"delay": 1, "read-only": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One run of a fault.  role, call: of an injected one; number: which call, or how much is left,
    or which write.
    """

    number: int
    role: str = ""
    call: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.role, self.call, str(self.number))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Which steps are made.  role, call: "" for all; first, last: numbers, None for no end.
    sample: so many of all, chosen by the seed; 0 for all.
    """

    role: str = ""
    call: str = ""
    first: int = 0
    last: int | None = None
    sample: int = 0

    def allow(self, step: Step) -> bool:
        """Whether this step is among them; the sample aside."""
        return (
            self.role in ("", step.role)
            and self.call in ("", step.call)
            and self.first <= step.number
            and (self.last is None or step.number <= self.last)
        )


@dataclass(slots=True, kw_only=True)
class Made:
    """A step that was made.  letter: its number.  hits: calls that failed, were delayed or made
    shorter; elsewhere: of these, on what is no file of the mail.  answers: how the attempts to
    send ended.  expected: the census knew its call.  blurred: findings (by name) that are none,
    since a call failed elsewhere, too.
    """

    step: Step
    letter: int
    expected: bool
    hits: int = 0
    elsewhere: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    blurred: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the fault was noticed: by a call, or by a server that looks for room first."""
        return bool(self.hits) or any(name != ACKNOWLEDGED for name in self.answers)

    @property
    def missed(self) -> bool:
        """Whether it should have hit something, and has not."""
        return self.expected and not self.met


@dataclass(slots=True, kw_only=True)
class Swept:
    """What came of all.  planned: steps that were to be made; findings: with their steps."""

    fault: Fault
    planned: int
    steps: list[Made]
    account: Account
    findings: list[Finding]

    @property
    def answers(self) -> Counter[str]:
        """Of all steps."""
        return sum((made.answers for made in self.steps), Counter())


def by_census(fault: Fault, census: Census, limits: Limits, seed: int) -> list[Step]:
    """Of an injected error: each fair number of each call of each kind of process."""
    steps = [
        Step(role=role, call=call, number=number)
        for role, call, numbers in census.steps(fault.calls)
        for number in numbers
    ]
    return sampled([step for step in steps if limits.allow(step)], limits.sample, seed)


def by_number(fault: Fault, limits: Limits, seed: int) -> list[Step]:
    """Of any other fault: each small number; of room, then fewer and fewer."""
    steps = [step for step in _numbers(fault) if limits.allow(step)]
    if limits.sample:
        spread = SPREAD if fault.way in ("space", "quota") else 1
        steps = sampled(steps[: spread * limits.sample], limits.sample, seed)
    return steps


def _numbers(fault: Fault) -> Iterator[Step]:
    number = FIRST.get(fault.way, 1)
    while number <= LAST.get(fault.way, MOST):
        yield Step(number=number)
        number += max(1, number // 4) if fault.way in ("space", "quota") else 1


def sampled(steps: Sequence[Step], count: int, seed: int) -> list[Step]:
    """So many of them (0: all), in their order."""
    if not count or len(steps) <= count:
        return list(steps)
    random = Random(f"steps {seed}")  # noqa: S311
    chosen = {*random.sample(range(len(steps)), count)}
    return [step for place, step in enumerate(steps) if place in chosen]


def ends(steps: Sequence[Step]) -> list[bool]:
    """Of each step, whether the next one is another call's, or another process's."""
    calls = [(step.role, step.call) for step in steps]
    return [this != after for this, after in zip(calls, [*calls[1:], None], strict=False)]


def beyond(last: Step, limits: Limits) -> Iterator[Step]:
    """What comes after the last one that the census knew."""
    for more in range(1, BEYOND + 1):
        step = replace(last, number=last.number + more)
        if limits.allow(step):
            yield step
