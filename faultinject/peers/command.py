"""The commands about targets: which there are, and how one is installed.

    refmta-fault targets [--json FILE]
    refmta-fault provision NAME...

Exit codes: 0, 2 no such target, 3 it can't be had here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from faultinject import target
from faultinject.target import TargetError
from faultinject.telling import EX_UNAVAILABLE, check_outputs, fail, target_called, tell

#: Columns in a pipe: the table is wider than others.
WIDE = 240
#: What a target may have, and what it means that it has not.
CAPABILITIES = {
    "remote": "relays",
    "reports": "reports in RFC 3464",
    "trace": "writes a trace",
    "wary": "doubts a 250 out of place",
    "network": "in a network of its own",
}


def row(name: str) -> dict[str, Any]:
    """All about a target.  Raises KeyError."""
    chosen = target.load(name)
    return {
        "target": name,
        "unavailable": chosen.unavailable(),
        "can": [text for key, text in CAPABILITIES.items() if key in chosen.capabilities],
        "cannot": [text for key, text in CAPABILITIES.items() if key not in chosen.capabilities],
        "roles": list(chosen.roles),
        "known_failures": dict(chosen.known_failures),
    }


@click.command()
@click.option("--json", "report", type=click.Path(path_type=Path), help="Of all (- for stdout).")
def targets(report: Path | None) -> None:
    """Say which targets there are, what each can and cannot, and its known failures."""
    check_outputs(report)
    rows = [row(name) for name in target.names()]
    tell({"targets": rows}, report, lambda to: _show(rows, to), WIDE)


def _show(rows: list[dict[str, Any]], to: Console) -> None:
    table = Table("target", "here", "can", "cannot", "roles", box=None)
    for each in rows:
        table.add_row(
            each["target"], each["unavailable"] or "available", ", ".join(each["can"]),
            ", ".join(each["cannot"]), ", ".join(each["roles"]),
        )  # fmt: skip
    to.print(table)
    for each in rows:
        for name, why in each["known_failures"].items():
            to.print(f"{each['target']}: known failure: {name}: {why}", soft_wrap=True)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def provision(names: tuple[str, ...]) -> None:
    """Install targets, each in a root of its own: nothing changes on this machine but /var/tmp."""
    chosen = [(name, target_called(name)) for name in names]
    for name, each in chosen:
        why = each.unavailable()
        if why is not None:
            fail(EX_UNAVAILABLE, f"{name} is unavailable: {why}")
        try:
            each.install()
        except TargetError as error:
            fail(EX_UNAVAILABLE, str(error))
        click.echo(f"{name}: installed")
