"""`python -m specs.conformance.controls`: is every planted fault caught, and nothing else said?

Exit codes: 0 so it is, 1 it is not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence

import click
import trio

from specs.conformance.controls.check import (
    GOOD,
    WRONG,
    Found,
    claimed_clauses,
    complaints,
    find_all,
    strict_clauses,
    unproven,
)
from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.planting import Fault
from specs.conformance.model import Result, Verdict


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m specs.conformance.controls",
        description="Is every planted fault caught, and nothing else said?",
    )
    parser.add_argument("name", nargs="*", help="these faults alone")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each fault")
    parser.add_argument("--list", action="store_true", help="faults and liberties, and no more")
    parser.add_argument(
        "--liberties", action="store_true", help="also servers that conform otherwise"
    )
    parser.add_argument(
        "--unproven", action="store_true", help="also which cases are made to fail by nothing"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.name) - {each.name for each in all_faults()}:
        parser.error(f"there is no fault {', '.join(sorted(unknown))}")
    return chosen


def show() -> None:
    for each in all_faults():
        click.echo(f"{each.name}: {each.says} [{each.case}, {each.verdict}]")
    for name in LIBERTIES:
        click.echo(f"(a liberty) {name}")


async def caught(faults: Sequence[Fault], *, verbose: bool) -> bool:
    """Whether all are."""

    def say(found: Found) -> None:
        if verbose or not found.caught:
            click.echo(str(found))

    began_s = time.monotonic()
    number = sum(each.caught for each in await find_all(faults, say))
    click.echo(
        f"{number} of {len(faults)} faults are caught, in {time.monotonic() - began_s:.0f} s"
    )
    return number == len(faults)


async def sound(
    what: str, parts: Parts, allowed: frozenset[Verdict], *, relayed: bool = False
) -> bool:
    """Whether nothing is said of that control but what is allowed."""
    wrong = await complaints(parts, allowed, relayed=relayed)
    click.echo(f"{what}: {len(wrong)} complaints")
    _told(wrong)
    for each in parts.witness.raised:
        click.echo(f"  it raised {each}")
    return not wrong and not parts.witness.raised


def _told(results: Iterable[Result]) -> None:
    for each in results:
        click.echo(f"  {each.verdict} {each.case.id}: {each.observed} {each.saw}".rstrip())


async def run(chosen: argparse.Namespace) -> bool:
    faults = [each for each in all_faults() if not chosen.name or each.name in chosen.name]
    good = [await caught(faults, verbose=chosen.verbose)]
    if not chosen.name:
        strict = strict_clauses()
        click.echo(
            f"{len(strict & claimed_clauses())} of {len(strict)} covered clauses with MUST or"
            " MUST NOT have a fault"
        )
        good.append(await sound("the faultless server", Parts(), GOOD))
        good.append(await sound("the faultless relay", Parts(), GOOD, relayed=True))
    for name, change in LIBERTIES.items() if chosen.liberties else ():
        good.append(await sound(name, change(Parts()), frozenset(Verdict) - WRONG))
    if chosen.unproven:
        left = await unproven(click.echo)
        click.echo("\n  ".join([f"{len(left)} cases are made to fail by nothing:", *left]))
    return all(good)


def main() -> None:
    chosen = arguments()
    if chosen.list:
        show()
        return
    raise SystemExit(0 if trio.run(run, chosen) else 1)


if __name__ == "__main__":
    main()
