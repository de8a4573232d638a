"""Does the suite find what it must, and nothing else?  `python -m specs.conformance.controls.check`

- Each fault of `faults` is planted, alone, and run against its one case: it must say what the fault
  says (fail; non-strict where a SHOULD is missed).
- The faultless server is run against all cases of servers and delivery: nothing but pass and info.
- `--liberties`: so is each server of `liberties`, which conforms in another way: no case may say
  fail to it.
- `--unproven`: which cases are found by no fault, and fail no server of `blunt` either.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import click
import trio

from specs.conformance.controls.blunt import BLUNT
from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.planting import Fault
from specs.conformance.controls.server import Parts, serving
from specs.conformance.given import Given
from specs.conformance.model import Case, Result, Verdict
from specs.conformance.registry import all_cases
from specs.conformance.run import Run, Unreachable

#: What the faultless server may be said.
GOOD: Final = frozenset({Verdict.PASS, Verdict.INFO, Verdict.NOT_APPLICABLE, Verdict.UNAVAILABLE})
#: What no conforming server may be said.
WRONG: Final = frozenset({Verdict.FAIL, Verdict.ERROR})


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one fault.  said: by its case; None if that was not, or could not, be run."""

    fault: Fault
    said: Result | None

    @property
    def caught(self) -> bool:
        return self.said is not None and self.said.verdict is self.fault.verdict

    def __str__(self) -> str:
        if self.said is None:
            return f"{self.fault.name}: {self.fault.case} is not there, or was not run"
        word = "caught" if self.caught else f"NOT CAUGHT (it should be {self.fault.verdict})"
        what = f"{self.said.verdict}, {self.said.observed or self.said.saw}"
        return f"{self.fault.name}: {word} by {self.fault.case}: {what}"


@cache
def judged() -> dict[str, Case]:
    """Cases for which the control is a control."""
    return {each.id: each for each in all_cases() if each.role in ("server", "delivery")}


def hasty(given: Given) -> Given:
    """The server is here, and quick: who waits long waits for nothing."""
    return replace(given, timeout_s=2.0, patience_s=1.5, quiet_s=0.15)


async def run(parts: Parts, cases: Sequence[Case], given: Callable[[Given], Given]) -> list[Result]:
    """Of one server, which is there for this alone; nothing if it cannot be spoken to."""
    async with serving(parts) as doors:
        with suppress(Unreachable):
            return await Run(given=given(doors), cases=cases).run()
    return []


async def find(fault: Fault) -> Found:
    """One fault against its case."""
    case = judged().get(fault.case)
    if case is None:
        return Found(fault, None)
    results = await run(fault.change(Parts()), [case], hasty)
    return Found(fault, results[0] if results else None)


async def find_all(
    faults: Iterable[Fault], say: Callable[[Found], None] = lambda _: None, jobs: int = 8
) -> list[Found]:
    """Some at a time: most of a fault's time is waiting."""
    waiting, found = iter(tuple(faults)), list[Found]()

    async def worker() -> None:
        for each in waiting:
            found.append(await find(each))
            say(found[-1])

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(worker)
    return found


async def complaints(parts: Parts, allowed: frozenset[Verdict]) -> list[Result]:
    """What a server is said by all quick cases that is not allowed to be said."""
    cases = [each for each in judged().values() if not each.slow]
    results = await run(parts, cases, lambda given: given)
    return [each for each in results if each.verdict not in allowed]


async def unproven() -> list[str]:
    """Ids of cases that neither a fault of their own nor any blunt server makes fail."""
    named = {each.case for each in all_faults() if each.verdict is Verdict.FAIL}
    left = [each for each in judged().values() if not each.slow and each.id not in named]
    for name, change in BLUNT.items():
        results = await run(change(Parts()), left, hasty)
        failed = {each.case.id for each in results if each.verdict is Verdict.FAIL}
        left = [each for each in left if each.id not in failed]
        click.echo(f"{name}: {len(left)} left")
    return [each.id for each in left]


def _told(results: Iterable[Result]) -> None:
    for each in results:
        click.echo(f"  {each.verdict} {each.case.id}: {each.observed} {each.saw}".rstrip())


async def _main(chosen: argparse.Namespace) -> bool:
    faults = [each for each in all_faults() if not chosen.name or each.name in chosen.name]
    missed = [each for each in await find_all(faults, click.echo) if not each.caught]
    click.echo(f"{len(faults) - len(missed)} of {len(faults)} faults are caught")
    wrong: list[Result] = []
    if not chosen.name:
        wrong = await complaints(Parts(), GOOD)
        click.echo(f"the faultless server: {len(wrong)} complaints")
        _told(wrong)
    for name, change in LIBERTIES.items() if chosen.liberties else ():
        said = await complaints(change(Parts()), frozenset(Verdict) - WRONG)
        click.echo(f"{name}: {len(said)} complaints")
        _told(said)
        wrong += said
    if chosen.unproven:
        left = await unproven()
        click.echo("\n  ".join([f"{len(left)} cases are proven by no fault:", *left]))
    return not missed and not wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m specs.conformance.controls.check")
    parser.add_argument("name", nargs="*", help="these faults alone")
    parser.add_argument("--liberties", action="store_true")
    parser.add_argument("--unproven", action="store_true")
    raise SystemExit(0 if trio.run(_main, parser.parse_args()) else 1)


if __name__ == "__main__":
    main()
