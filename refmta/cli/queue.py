"""`refmta queue`: what waits, and why; and what the operator does about it."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Column, Table

from refmta.architectures.configuration import Settings
from refmta.cli.operator import RefusedError, UnreachableError, ask, exit_unreachable, rows
from refmta.cli.options import configuration_option, json_option, settings_or_exit
from refmta.roles.qmgr.view import Row, look
from refmta.stores import chunks, postfix_modebit
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import open_queue
from refmta.wire.envelope import is_queue_id
from refmta.wire.messages import Ask
from refmta.wire.reply import escaped

#: Where stores put what they can't read.
ASIDE = (chunks.DAMAGED, postfix_modebit.CORRUPT)


@click.group()
def queue() -> None:
    """Look at the queue, and act on it."""


@queue.command("list")
@configuration_option
@json_option
def list_(path: Path, as_json: bool) -> None:
    """One line per message.  Works on the queue itself when the server is stopped."""
    settings = settings_or_exit(path)
    found = _rows(settings, "")
    aside = _aside(settings)
    if as_json:
        click.echo(json.dumps({"messages": msgspec.to_builtins(found), "set_aside": aside}))
        return
    _print_table(found)
    for name in aside:
        click.echo(f"set aside: {name}")


@queue.command()
@configuration_option
@json_option
@click.argument("queue_id")
def show(path: Path, as_json: bool, queue_id: str) -> None:
    """One message, recipient by recipient."""
    found = _rows(settings_or_exit(path), _checked(queue_id))
    if not found:
        raise click.ClickException(f"no message {queue_id} in the queue")
    (row,) = found
    if as_json:
        click.echo(msgspec.json.encode(row).decode())
        return
    click.echo(f"{row.queue_id}  {row.state}, {row.octets} octets, from <{row.sender}>")
    click.echo(f"arrived {_time(row.arrival_s)} from {row.client}")
    if row.next_attempt_s is not None:
        click.echo(f"next attempt {_time(row.next_attempt_s)}")
    for each in row.recipients:
        last = f": {each.code} {each.text}" if each.code else ""
        click.echo(f"  <{each.address}> {each.status}, {each.attempts} failed attempts{last}")


def _command(verb: str, text: str, *, all_too: bool = False) -> None:
    argument = click.argument("queue_id", default="") if all_too else click.argument("queue_id")

    @queue.command(verb, help=text)
    @configuration_option
    @json_option
    @argument
    def command(path: Path, as_json: bool, queue_id: str) -> None:
        settings = settings_or_exit(path)
        checked = _checked(queue_id) if queue_id else ""
        try:
            ask(settings, Ask(reference=1, verb=verb, queue_id=checked))  # type: ignore[arg-type]
        except UnreachableError as error:
            exit_unreachable(error)
        except RefusedError as error:
            raise click.ClickException(f"{queue_id}: {error}") from None
        if as_json:
            click.echo(json.dumps({"done": verb, "queue_id": queue_id}))
        else:
            click.echo(f"{verb}: {queue_id or 'all'}")


_command("retry", "Try a message now, or without an id all of them.", all_too=True)
_command("hold", "Deliver nothing of a message until it is released.")
_command("release", "Deliver a held message again.")
_command("remove", "Delete a message, whatever its recipients are waiting for.")


def _checked(queue_id: str) -> str:
    if not is_queue_id(queue_id):
        raise click.BadParameter("a queue id has 16 letters and digits, such as 06H06TY2DFR20W5S")
    return queue_id


def _rows(settings: Settings, queue_id: str) -> list[Row]:
    try:
        return rows(settings, queue_id)
    except RefusedError:
        return []
    except UnreachableError:
        return _from_disk(settings, queue_id)


def _from_disk(settings: Settings, queue_id: str) -> list[Row]:
    """The queue of a server that is stopped."""
    try:
        store = open_queue(settings.kept_by() or "chunks", PosixDisk(settings.spool), {})
        names = [queue_id] if queue_id else store.names()
    except OSError as error:
        raise click.ClickException(f"{settings.spool}: {error.strerror}") from None
    return [row for name in names if (row := look(store, name)) is not None]


def _aside(settings: Settings) -> list[str]:
    found: list[str] = []
    for directory in ASIDE:
        with contextlib.suppress(OSError):
            # Somebody else's file may have any name: no control octet of it reaches the terminal.
            found += (escaped(each.name) for each in (settings.spool / directory).iterdir())
    return sorted(found)


def _print_table(found: list[Row]) -> None:
    table = Table(
        Column("queue id", no_wrap=True),
        "state",
        "arrived",
        "octets",
        "sender",
        "recipients",
        box=None,
    )
    for row in found:
        waiting = [each for each in row.recipients if each.status not in ("delivered", "expanded")]
        names = ", ".join(each.address for each in waiting[:3])
        more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
        reason = next((f"\n{each.code} {each.text}" for each in waiting if each.code), "")
        table.add_row(
            row.queue_id, row.state, _time(row.arrival_s), str(row.octets),
            f"<{row.sender}>", names + more + reason,
        )  # fmt: skip
    # In a pipe nothing is cut off: whoever reads it there wants the ids.
    width = None if sys.stdout.isatty() else 2000
    console = Console(width=width, soft_wrap=True, highlight=False, markup=False)
    if found:
        console.print(table)
    console.print(f"{len(found)} messages in the queue")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
