"""`refmta-conform replay FILE ... --to HOST[:PORT]`: plain dialogues against a server."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

import click
import trio

from specs.conformance import replay
from specs.conformance.commands.endings import EX_UNEXPECTED, EX_UNREACHABLE, EX_USAGE, end
from specs.conformance.given import NEEDS, SMTP_PORT
from specs.conformance.junit import transcript
from specs.conformance.masking import without_secrets
from specs.conformance.options import address_argument, given, run_options
from specs.conformance.terminal import printable


@click.command("replay")
@click.argument("files", nargs=-1, metavar="[FILE ...]")
@click.option("--to", required=True, metavar="HOST[:PORT]", help="The server.")
@click.option("--appendix-d", is_flag=True, help="The scenarios of RFC 5321, appendix D.")
@click.option("-v", "--verbose", is_flag=True, help="Also what was said when all went well.")
@run_options
def replay_command(
    files: tuple[str, ...], to: str, appendix_d: bool, verbose: bool, **options: Any
) -> None:
    """Play dialogues of `C:` and `S:` lines; 1 if a reply is another than expected."""
    address = address_argument(to, SMTP_PORT)
    told = given(address, options)
    dialogues = [(name, _text(Path(name))) for name in files]
    if appendix_d:
        place = resources.files("specs.conformance.dialogues")
        found = sorted(each.name for each in place.iterdir() if each.name.endswith(".txt"))
        dialogues += [(name, (place / name).read_text(encoding="utf-8")) for name in found]
    if not dialogues:
        raise click.UsageError("a FILE, or --appendix-d")
    failed = 0
    for name, text in dialogues:
        try:
            steps = replay.parse(text)
        except replay.DialogueError as error:
            end(EX_USAGE, f"{name}: {error}")
        for need in sorted(replay.needs(steps)):
            if not told.has(need):
                end(EX_USAGE, f"{name}: it needs {NEEDS[need]}")
        try:
            played = trio.run(replay.play, steps, told)
        except (OSError, UnicodeError) as error:
            end(EX_UNREACHABLE, f"{address[0]}:{address[1]}: {error}")
        failed += bool(played.wrong)
        click.echo(printable(f"{name}: {played.wrong or 'as written'}"))
        if played.wrong or verbose:
            click.echo(transcript(without_secrets(played.transcript, told.password)))
    sys.exit(EX_UNEXPECTED if failed else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        end(EX_USAGE, f"{path}: {error.strerror}")
    except UnicodeDecodeError as error:
        end(EX_USAGE, f"{path}: {error}")
