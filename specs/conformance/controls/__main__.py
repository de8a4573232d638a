"""`python -m specs.conformance.controls`: the control server, until it is killed.

It prints, on one line, what a run against it is to be given.
"""

from __future__ import annotations

import argparse

import click
import trio

from specs.conformance.controls.faults import all_faults
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.server import Parts, serving
from specs.conformance.given import Given


def options(given: Given) -> str:
    """Of a command that runs cases."""
    words = [
        "{}:{}".format(*given.smtp),
        f"--unknown-rcpt {given.unknown} --relay-rcpt {given.relay}",
    ]
    words += [f"--rcpt {each}" for each in given.rcpts]
    words += [f"--maildir {each}" for each in given.maildirs]
    words += [f"--sender {given.sender} --sender-maildir {given.sender_maildir}"]
    for name, where in (("submission", given.submission), ("tls", given.tls), ("lmtp", given.lmtp)):
        words += [f"--{name} {where[0]}:{where[1]}"] if where else []
    return " ".join([*words, f"--user {given.user}:{given.password}"])


async def run(parts: Parts) -> None:
    async with serving(parts) as given:
        click.echo(options(given))
        await trio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m specs.conformance.controls")
    parser.add_argument("--fault", action="append", default=[], help="plant this one")
    parser.add_argument("--liberty", action="append", default=[], help="take this one")
    parser.add_argument("--list", action="store_true", help="all faults, and what finds them")
    chosen = parser.parse_args()
    table = {each.name: each for each in all_faults()}
    if chosen.list:
        for each in table.values():
            click.echo(f"{each.name}: {each.says} [{each.case}, {each.verdict}]")
        for name in LIBERTIES:
            click.echo(f"(a liberty) {name}")
        return
    parts = Parts()
    for name in chosen.fault:
        parts = table[name].change(parts)
    for name in chosen.liberty:
        parts = LIBERTIES[name](parts)
    trio.run(run, parts)


if __name__ == "__main__":
    main()
