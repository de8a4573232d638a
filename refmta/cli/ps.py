"""`refmta ps`: the processes of a running server, what each of them is, and what confines it.

Two tables: a wide one with a column for everything, and one of 80 columns, in which the guards
around a process are a word of six letters (`GUARDS`).  What this system lacks stands below it as
long as it is lacking.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from refmta.architectures.catalogue import UnknownArchitecture, find
from refmta.architectures.configuration import Settings
from refmta.cli.observed import observed
from refmta.cli.operator import RefusedError, UnreachableError, ask, exit_unreachable
from refmta.cli.options import configuration_option, json_option, settings_or_exit
from refmta.patterns.chroot_jail import EMPTY
from refmta.wire.messages import Ask

#: From this width on there is a column for each guard; and the width of what is no terminal.
WIDE, PIPE = 125, 180
#: The letters of the narrow table, in their order: "-" for what is not there, "?" if unknown.
GUARDS: Final = {
    "u": "user namespace of its own",
    "n": "network of its own",
    "c": "no capability (else how many)",
    "p": "no new privileges",
    "l": "Landlock",
    "s": "seccomp",
}
#: It makes users of processes: it has the machine's namespaces and files.
UNLANDLOCKED: Final = "spawner"


@click.command()
@configuration_option
@json_option
def ps(path: Path, as_json: bool) -> None:
    """Show each process: its compartment, user, root, guards, sessions, age and memory."""
    settings = settings_or_exit(path)
    try:
        found = look(settings)
    except UnreachableError as error:
        exit_unreachable(error)
    except RefusedError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(found))
        return
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=PIPE)
    show(found, settings, console)
    footer(found, console)


def look(settings: Settings) -> dict[str, Any]:
    """architecture, missing (layer -> reason), processes (rows).  Raises as `ask` does."""
    (document,) = ask(settings, Ask(reference=1, verb="ps"))
    return judged(msgspec.json.decode(document))


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The server's rows with what the kernel says of each process."""
    about = next((row for row in rows if row["compartment"] == "supervisor"), {})
    name, missing = about.pop("architecture", ""), about.pop("missing", {})
    layers = _layers(name)
    return {
        "architecture": name,
        "missing": missing,
        "processes": [
            {**row, **observed(row["pid"]), "landlock": _landlock(row, layers)} for row in rows
        ],
    }


def _layers(name: str) -> tuple[str, ...] | None:
    try:
        return find(name).layers
    except UnknownArchitecture:  # the server is of another version
        return None


def _landlock(row: dict[str, Any], layers: tuple[str, ...] | None) -> bool | None:
    """As its name says that it was started, once its proof is behind it."""
    if layers is None or row.get("state") == "starting":
        return None
    return "landlock" in layers and row["compartment"] != UNLANDLOCKED


# -- the tables -----------------------------------------------------------------------------------


def show(found: dict[str, Any], settings: Settings, console: Console) -> None:
    """Print the table that fits, and what its signs mean."""
    wide = console.width >= WIDE
    rows = [_row(each, settings.spool, wide=wide) for each in found["processes"]]
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        fold = "fold" if name in ("compartment", "root") else "ellipsis"
        table.add_column(name, overflow=fold, no_wrap=fold != "fold")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    if not wide:
        legend = ", ".join(f"{letter} {what}" for letter, what in GUARDS.items())
        console.print(f"guards: {legend}")
    if any(each["root"] is None for each in found["processes"]):
        console.print("?: these processes may not be looked into, but by root")


def footer(found: dict[str, Any], console: Console) -> None:
    """What this is, and what it lacks."""
    console.print(f"architecture {found['architecture']}", markup=False)
    for layer, reason in found["missing"].items():
        console.print(f"missing: {layer}: {reason}", markup=False)


def _row(row: dict[str, Any], spool: Path, *, wide: bool) -> dict[str, str]:
    age_s, pss = row.get("age_s"), row["pss_kib"]
    user = row.get("user", "")
    guards = (
        {
            "capabilities": _capabilities(row["capabilities"]),
            "no new privs": _word(row["no_new_privs"]),
            "seccomp": _word(row["seccomp"]),
            "Landlock": _word(row["landlock"]),
            "own namespaces": _namespaces(row["namespaces"]),
        }
        if wide
        else {"guards": guards_word(row)}
    )
    return {
        "pid": str(row["pid"]),
        "compartment": f"{row['compartment']} {user}".strip(),
        "user": "?" if row["uid"] is None else str(row["uid"]),
        "root": _root(row["root"], spool),
        **guards,
        "uses": str(row.get("uses", "")),
        "age": "" if age_s is None else age(age_s),
        "memory": "?" if pss is None else f"{pss / 1024:.1f}M",
        "state": state(row),
    }


def guards_word(row: dict[str, Any]) -> str:
    """Six letters: see GUARDS."""
    held = row["capabilities"]
    there = {
        "u": row["namespaces"]["user"],
        "n": row["namespaces"]["net"],
        "p": row["no_new_privs"],
        "l": row["landlock"],
        "s": row["seccomp"],
    }
    letters = {letter: _letter(letter, there.get(letter)) for letter in GUARDS}
    letters["c"] = "?" if held is None else "c" if not held else str(min(len(held), 9))
    return "".join(letters.values())


def _letter(letter: str, there: bool | None) -> str:
    return "?" if there is None else letter if there else "-"


def _word(there: bool | None) -> str:
    return "?" if there is None else "yes" if there else "no"


def _capabilities(held: list[str] | None) -> str:
    return "?" if held is None else ",".join(held[:4]) + (",..." if held[4:] else "") or "none"


def _namespaces(own: dict[str, bool | None]) -> str:
    if None in own.values():
        return "?"
    return ",".join(name for name, there in own.items() if there) or "none"


def _root(root: str | None, spool: Path) -> str:
    """The jails by their names."""
    names = {str(spool / EMPTY): EMPTY, str(spool): "spool"}
    return "?" if root is None else names.get(root, root)


def age(seconds: float) -> str:
    """At most five letters."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def state(row: dict[str, Any]) -> str:
    """One word."""
    if "busy" in row:
        return "busy" if row["busy"] else "idle"
    return str(row.get("state", ""))
