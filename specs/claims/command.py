"""`refmta-spec claims`: the ledger, judged as far as it can be judged here.

Exit codes: 0 every verdict is as predicted, or pending; 1 a finding; 2 wrong usage, or the ledger
is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import click

from specs.claims import record as written
from specs.claims import show
from specs.claims.installed import installed
from specs.claims.instruments import is_long
from specs.claims.ledger import LedgerError, load
from specs.claims.record import FILE, Record, RecordError
from specs.claims.take import Taker
from specs.claims.verdict import Judged


@click.command()
@click.argument("names", nargs=-1, metavar="[ID ...]")
@click.option(
    "--peers",
    is_flag=True,
    help="Also what takes minutes: real servers from Debian, rates, kills. Else their record.",
)
@click.option(
    "--record", is_flag=True, help=f"Write what was measured down (with --peers): {FILE.name}."
)
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of text.")
def claims(names: tuple[str, ...], peers: bool, record: bool, machine: bool) -> None:
    """Judge the paper's claims called ID (C01 to C26), or all of them."""
    try:
        ledger, known_numbers = load(), written.load()
    except (LedgerError, RecordError, OSError) as error:
        click.echo(f"the ledger of claims: {error}", err=True)
        sys.exit(2)
    unknown = [name for name in names if name not in ledger.claims]
    if unknown:
        known = f"{min(ledger.claims)} to {max(ledger.claims)}"
        click.echo(f"no such claim: {', '.join(unknown)} (there are: {known})", err=True)
        sys.exit(2)
    if record and not peers:
        click.echo("--record goes with --peers", err=True)
        sys.exit(2)
    chosen = {name: ledger.claims[name] for name in names or ledger.claims}
    judged = []
    taker = Taker(installed(patient=peers), tell=_progress, record=known_numbers)
    for each in taker.judge_all(chosen):
        judged.append(each)
        if not machine:
            click.echo("\n".join(show.lines(each)))
    if record:
        _write_down(known_numbers, judged)
    findings = sum(len(each.findings) for each in judged)
    if machine:
        report = {"findings": findings, "claims": [show.as_json(each) for each in judged]}
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo("\n".join(["", *show.closing(judged)]))
    sys.exit(1 if findings else 0)


def _write_down(known: Record, judged: Iterable[Judged]) -> None:
    """What takes long, so that it need not be taken each time; older numbers of others stay."""
    long = [each for claim in judged for each in claim.outcomes if is_long(each.trial)]
    today = datetime.now(UTC).date().isoformat()
    rows = {**known.rows, **written.rows(long, today)}
    FILE.write_text(written.text_of(rows), encoding="utf-8")


def _progress(text: str) -> None:
    """On a terminal only: a pipe gets results."""
    if sys.stderr.isatty():
        click.echo(f"... {text}", err=True)
