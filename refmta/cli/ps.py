"""`refmta ps`: the processes of a running server, and what each of them is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from refmta.cli.operator import RefusedError, UnreachableError, ask, exit_unreachable
from refmta.cli.options import configuration_option, json_option, settings_or_exit
from refmta.wire.messages import Ask


@click.command()
@configuration_option
@json_option
def ps(path: Path, as_json: bool) -> None:
    """Show each process: its compartment, user, sessions, age and memory."""
    settings = settings_or_exit(path)
    try:
        (document,) = ask(settings, Ask(reference=1, verb="ps"))
    except UnreachableError as error:
        exit_unreachable(error)
    except RefusedError as error:
        raise click.ClickException(str(error)) from None
    rows = [{**row, **observed(row["pid"])} for row in msgspec.json.decode(document)]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        show(rows)


def show(rows: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print the table."""
    table = Table(
        "pid", "compartment", "runs as", "recipient", "uses", "age", "memory", "state", box=None
    )
    for row in rows:
        age = row.get("age_s")
        table.add_row(
            str(row["pid"]),
            row["compartment"],
            str(row["uid"]),
            row.get("user", ""),
            str(row.get("uses", "")),
            "" if age is None else f"{age:.0f} s",
            "" if row["pss_kib"] is None else f"{row['pss_kib'] / 1024:.1f} MiB",
            state(row),
        )
    (console or Console(highlight=False)).print(table)


def state(row: dict[str, Any]) -> str:
    """One word."""
    if "busy" in row:
        return "busy" if row["busy"] else "idle"
    return str(row.get("state", ""))


def observed(pid: int) -> dict[str, Any]:
    """What the kernel says of a process, not what it says of itself."""
    uid, pss = None, None
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        uid = next(int(line.split()[2]) for line in status.splitlines() if line.startswith("Uid:"))
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):
        pass  # it has ended, or it is not ours to look at
    return {"uid": uid, "pss_kib": pss}
