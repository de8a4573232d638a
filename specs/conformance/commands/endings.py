"""How a command ends, and what it leaves: exit codes, one line that says why, files."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from specs.conformance.terminal import printable

#: Also of `judge`: a capture, and no tshark.
EX_UNEXPECTED, EX_USAGE, EX_UNREACHABLE = 1, 2, 3
STDOUT: Final = Path("-")
#: The type of an option that names a file to be written.
OUTPUT: Final = click.Path(path_type=Path, allow_dash=True, dir_okay=False)


def end(code: int, text: object) -> NoReturn:
    """With a line on stderr."""
    complain(text)
    sys.exit(code)


def after(name: str) -> int:
    """The exit code of who was ended by this signal."""
    return 128 + signal.Signals[name]


def complain(text: object) -> None:
    """A line on stderr, with nothing in it that a terminal would obey."""
    click.echo(f"refmta-conform: {printable(str(text))}", err=True)


def writable(*paths: Path | None) -> None:
    """Before minutes of work, not after them.  Raises click.UsageError."""
    if sum(each == STDOUT for each in paths) > 1:
        raise click.UsageError("only one of the outputs can be -")
    for each in paths:
        if each is not None and each != STDOUT and not each.absolute().parent.is_dir():
            raise click.UsageError(f"{each}: there is no such directory")


def write(path: Path | None, octets: bytes) -> None:
    """Into a file, or onto stdout.  Ends the program with 2 if that can't be written."""
    if path is None:
        return
    if path == STDOUT:
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()
        return
    try:
        path.write_bytes(octets)
    except OSError as error:
        end(EX_USAGE, f"{path}: {error.strerror}")
