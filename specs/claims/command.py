"""`refmta-spec claims`: the ledger, judged as far as it can be judged here.

Exit codes: 0 every verdict is as predicted, or pending; 1 a finding; 2 wrong usage, or the ledger
is wrong.
"""

from __future__ import annotations

import json
import sys

import click

from specs.claims import show
from specs.claims.installed import installed
from specs.claims.ledger import LedgerError, load
from specs.claims.take import Taker


@click.command()
@click.argument("names", nargs=-1, metavar="[ID ...]")
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of text.")
def claims(names: tuple[str, ...], machine: bool) -> None:
    """Judge the paper's claims called ID (C01 to C26), or all of them."""
    try:
        ledger = load()
    except (LedgerError, OSError) as error:
        click.echo(f"the ledger of claims: {error}", err=True)
        sys.exit(2)
    unknown = [name for name in names if name not in ledger.claims]
    if unknown:
        known = f"{min(ledger.claims)} to {max(ledger.claims)}"
        click.echo(f"no such claim: {', '.join(unknown)} (there are: {known})", err=True)
        sys.exit(2)
    chosen = {name: ledger.claims[name] for name in names or ledger.claims}
    judged = []
    for each in Taker(installed(), tell=_progress).judge_all(chosen):
        judged.append(each)
        if not machine:
            click.echo("\n".join(show.lines(each)))
    findings = sum(len(each.findings) for each in judged)
    if machine:
        report = {"findings": findings, "claims": [show.as_json(each) for each in judged]}
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo("\n".join(["", *show.closing(judged)]))
    sys.exit(1 if findings else 0)


def _progress(text: str) -> None:
    """On a terminal only: a pipe gets results."""
    if sys.stderr.isatty():
        click.echo(f"... {text}", err=True)
