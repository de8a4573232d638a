"""Does the suite find what it must, and nothing else?

A fault is caught if its one case says of the control what the fault says (fail; non-strict where a
SHOULD is missed), and that is the fault's own doing:
- The twin of the control, without the fault, passes the same case under the same conditions: alone,
  with the same `Given`, as many of them at a time.  One table judges both, so what the case
  observes of them differs.
- Every piece of the fault was met.
- The control has raised nothing: one that breaks down fails cases, too.
- Where the connection ended, or nothing came, the fault says that it does so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

import trio

from specs.conformance.catalogue import clauses
from specs.conformance.controls.blunt import BLUNT
from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.planting import Fault
from specs.conformance.controls.relay import relaying
from specs.conformance.controls.server import serving
from specs.conformance.controls.witness import Witness
from specs.conformance.expectations import UNTRIED
from specs.conformance.given import Given
from specs.conformance.model import Case, Result, Verdict
from specs.conformance.registry import all_cases
from specs.conformance.run import Run, Unreachable

#: What the faultless controls may be said.
GOOD: Final = frozenset({Verdict.PASS, Verdict.INFO, Verdict.NOT_APPLICABLE, Verdict.UNAVAILABLE})
#: What no conforming server may be said.
WRONG: Final = frozenset({Verdict.FAIL, Verdict.ERROR})
#: Of a twin, which may take a liberty that misses a SHOULD.
SOUND: Final = frozenset({Verdict.PASS, Verdict.INFO, Verdict.NON_STRICT})
#: No replies: a control that broke down would be observed so, too.
NO_REPLIES: Final = frozenset({"closed", "silent", "garbage", "flood"})
#: Takes half a minute where it fails: what is looked for by it is looked for first.
LONG: Final = "5321-4.5.3.2-each"
#: Cases of a next hop; all others are of a server.
RELAYED: Final = frozenset({"client", "relay"})


@cache
def by_id() -> dict[str, Case]:
    return {each.id: each for each in all_cases()}


def quick(*, relayed: bool) -> list[Case]:
    """All cases of that control that do not take minutes."""
    return [each for each in all_cases() if not each.slow and (each.role in RELAYED) is relayed]


def hasty(given: Given) -> Given:
    """The server is here, and quick: who waits long waits for nothing."""
    return replace(given, timeout_s=2.0, patience_s=1.5, quiet_s=0.15)


def as_given(given: Given) -> Given:
    return given


@asynccontextmanager
async def standing(parts: Parts, *, relayed: bool) -> AsyncIterator[Given]:
    """The server, or the relay, of these parts."""
    control = relaying(parts.relay, parts.witness) if relayed else serving(parts)
    async with control as given:
        yield given


async def run(
    parts: Parts, cases: Sequence[Case], given: Callable[[Given], Given] = as_given
) -> list[Result]:
    """Of one control, which is there for this alone.  Raises Unreachable."""
    relayed = any(each.role in RELAYED for each in cases)
    async with standing(parts, relayed=relayed) as doors:
        return await Run(given=doors if relayed else given(doors), cases=cases).run()


# -- faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of one fault.  said: by its case; twin: the same of the control without the fault.
    None if the case was not, or could not, be run.
    """

    fault: Fault
    said: Result | None = None
    twin: Result | None = None
    witness: Witness = field(default_factory=Witness)

    @property
    def caught(self) -> bool:
        return not self.why

    @property
    def why(self) -> str:
        """It does not count as caught; "" if it does."""
        if self.said is None or self.twin is None:
            return f"{self.fault.case} is not there, or was not run"
        if self.witness.raised:
            return f"its own server raised: {self.witness.raised[0]}"
        if self.witness.unmet:
            return f"planted, never met: {', '.join(self.witness.unmet)}"
        if self.twin.verdict not in SOUND or self.twin.verdict is self.fault.verdict:
            return f"without it, too, {_seen(self.twin)}"
        if self.said.verdict is not self.fault.verdict:
            return f"it should be {self.fault.verdict}, and is {_seen(self.said)}"
        if self.fault.observed != self.said.observed and (
            self.fault.observed or self.said.observed in NO_REPLIES
        ):
            return f"{self.said.observed} is not what it makes ({self.fault.observed or 'replies'})"
        return ""

    def __str__(self) -> str:
        """Its clauses, its case, and what that observed."""
        if self.why:
            return f"{self.fault.name}: NOT CAUGHT by {self.fault.case}: {self.why}"
        case = by_id()[self.fault.case]
        seen = "" if self.said is None else _seen(self.said)
        words = f"{self.fault.name} ({self.fault.says}): {' '.join(case.clauses)}"
        return f"{words}: caught by {case.id}: {seen}"


def _seen(result: Result) -> str:
    return f"{result.verdict}, {result.observed or result.saw}"


async def find(fault: Fault) -> Found:
    """One fault against its case, after its twin."""
    case = by_id().get(fault.case)
    if case is None:
        return Found(fault=fault)
    sound = fault.behind(Parts())
    twin = await _asked(sound, case)
    parts = fault.behind(Parts())
    parts.witness.pieces.clear()  # a liberty need not be taken
    parts = fault.change(parts)
    said = await _asked(parts, case)
    parts.witness.raised.extend(sound.witness.raised)
    return Found(fault=fault, twin=twin, said=said, witness=parts.witness)


async def _asked(parts: Parts, case: Case) -> Result | None:
    with suppress(Unreachable):
        return (await run(parts, [case], hasty))[0]
    return None


async def find_all(
    faults: Iterable[Fault], say: Callable[[Found], None] = lambda _: None, jobs: int = 12
) -> list[Found]:
    """Some at a time: most of a fault's time is waiting.  What was not caught is looked for once
    more, by itself: on a busy machine a wait may be over before anything has come.
    """
    waiting = iter(sorted(faults, key=lambda each: each.case != LONG))
    found, missed = list[Found](), list[Fault]()

    async def worker() -> None:
        for each in waiting:
            result = await find(each)
            if result.caught:
                found.append(result)
                say(result)
            else:
                missed.append(each)

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(worker)
    for each in missed:
        found.append(await find(each))
        say(found[-1])
    return found


def strict_clauses() -> frozenset[str]:
    """Those that say MUST or MUST NOT, and are covered by a case."""
    covered = {name for each in all_cases() for name in each.clauses}
    return frozenset(
        each.id for each in clauses() if each.level in ("MUST", "MUST NOT") and each.id in covered
    )


def claimed_clauses() -> frozenset[str]:
    """Those of which a case can fail: a fault is found by it.  (Of a case that looks at several
    clauses, one fault speaks for all.)
    """
    cases = [by_id()[each.case] for each in all_faults() if each.verdict is Verdict.FAIL]
    return frozenset(name for each in cases for name in each.clauses)


# -- whole servers --------------------------------------------------------------------------------


async def said_of(
    parts: Parts, allowed: frozenset[Verdict], *, relayed: bool = False
) -> list[Result]:
    """What all its quick cases say of a control.  Who says what is not allowed is asked once more,
    without the others: on a busy machine a wait may be over too soon.
    """
    results = {each.case.id: each for each in await run(parts, quick(relayed=relayed))}
    again = [each.case for each in results.values() if each.verdict not in allowed]
    if again:
        results |= {each.case.id: each for each in await run(parts, again)}
    return list(results.values())


async def complaints(
    parts: Parts, allowed: frozenset[Verdict], *, relayed: bool = False
) -> list[Result]:
    """What a control is said by its quick cases that is not allowed to be said."""
    said = await said_of(parts, allowed, relayed=relayed)
    return [each for each in said if each.verdict not in allowed]


def untried(results: Iterable[Result]) -> frozenset[str]:
    """Why cases were not carried out: what the control has not."""
    return frozenset(each.saw for each in results if each.verdict in UNTRIED)


async def unproven(say: Callable[[str], None]) -> list[str]:
    """Ids of cases that neither a fault of their own nor any blunt server makes fail."""
    named = {each.case for each in all_faults() if each.verdict is Verdict.FAIL}
    left = [each for each in quick(relayed=False) if each.id not in named]
    for name, change in BLUNT.items():
        with suppress(Unreachable):
            results = await run(change(Parts()), left, hasty)
            failed = {each.case.id for each in results if each.verdict is Verdict.FAIL}
            left = [each for each in left if each.id not in failed]
        say(f"{name}: {len(left)} left")
    return [each.id for each in left]
