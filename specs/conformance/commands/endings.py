"""How a command ends, and what it leaves: exit codes, one line that says why, files."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def for_whoever_reads() -> Iterator[None]:
    """What is said in it need not be heard: a full disk, or a pipe that nobody reads, changes no
    exit code.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def encodable() -> None:
    """What a terminal's encoding has not is escaped there, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(text: object) -> None:
    """A line on stderr, with nothing in it that a terminal would obey."""
    click.echo(f"refmta-conform: {printable(str(text))}", err=True)


def writable(*paths: Path | None) -> None:
    """Before minutes of work, not after them.  Raises click.UsageError."""
    if sum(each == STDOUT for each in paths) > 1:
        raise click.UsageError("only one of the outputs can be -")
    if STDOUT in paths and sys.stdout is None:
        raise click.UsageError("an output is to be -, and stdout is closed")
    for each in paths:
        if each is None or each == STDOUT:
            continue
        place = each if each.exists() else each.absolute().parent
        if not each.absolute().parent.is_dir():
            raise click.UsageError(f"{each}: there is no such directory")
        if not os.access(place, os.W_OK):
            raise click.UsageError(f"{each}: it can't be written")


def write(path: Path | None, octets: bytes) -> None:
    """Into a file, or onto stdout.  Ends the program with 2 if that can't be written."""
    if path is None:
        return
    if path == STDOUT:
        try:
            sys.stdout.buffer.write(octets)
            sys.stdout.buffer.flush()
        except OSError as error:
            end(EX_USAGE, f"stdout: {error.strerror}")
        return
    try:
        path.write_bytes(octets)
    except OSError as error:
        end(EX_USAGE, f"{path}: {error.strerror}")
