"""`python -m specs.conformance.controls.serve`: the control server, until it is killed.

It prints, on one line, what a run against it is to be given.
"""

from __future__ import annotations

import argparse
import shlex

import click
import trio

from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.server import serving
from specs.conformance.options import as_words


async def run(parts: Parts) -> None:
    async with serving(parts) as given:
        click.echo(shlex.join(as_words(given)))
        await trio.sleep_forever()


def main() -> None:
    table = {each.name: each for each in all_faults()}
    parser = argparse.ArgumentParser(prog="python -m specs.conformance.controls.serve")
    parser.add_argument("--fault", action="append", default=[], choices=table, metavar="FAULT")
    parser.add_argument(
        "--liberty", action="append", default=[], choices=LIBERTIES, metavar="LIBERTY"
    )
    chosen = parser.parse_args()
    parts = Parts()
    for name in chosen.liberty:
        parts = LIBERTIES[name](parts)
    for name in chosen.fault:
        parts = table[name].change(table[name].behind(parts))
    trio.run(run, parts)


if __name__ == "__main__":
    main()
