"""refmta-fault: inject faults into a mail server, and count.

Exit codes: 0 nothing was found, 1 a finding, 2 wrong usage or no such target, 3 the target does not
start or can't run here.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click
import trio
from rich.console import Console

from faultinject import show, target
from faultinject.storm import Plan, Result, Storm
from faultinject.target import Target, TargetError

EX_FINDING, EX_USAGE, EX_UNREACHABLE = 1, 2, 3
#: Each role is hit once in so many seconds, unless --hits says otherwise.
SECONDS_PER_HIT = 6
#: Columns in a pipe, where nothing is to be broken.
WIDE = 200


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Inject faults into a mail server, and count what became of the mail."""


@main.command()
def targets() -> None:
    """Say which targets there are."""
    click.echo("\n".join(target.names()))


@main.command()
@click.option("--target", "name", required=True, help="The server; see `refmta-fault targets`.")
@click.option("--messages", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(1, 86400), default=30.0, show_default=True,
    help="How long processes are killed, and the letters spread.",
)  # fmt: skip
@click.option("--seed", type=int, help="Of an earlier run; printed by each.")
@click.option("--clients", type=click.IntRange(1, 500), default=8, show_default=True)
@click.option(
    "--hits", type=click.IntRange(0, 10_000),
    help=f"How often each role must be killed at least [default: seconds / {SECONDS_PER_HIT}].",
)  # fmt: skip
@click.option(
    "--drain", "drain_s", type=click.FloatRange(0, 86400), default=120.0, show_default=True,
    help="Seconds after the kills in which the queue may become empty.",
)  # fmt: skip
@click.option("--directory", type=click.Path(path_type=Path), help="Where [default: a temporary].")
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its report (- for stdout)."
)
@click.option("--keep", is_flag=True, help="Leave the directory, with queue, mail and log.")
def storm(
    name: str, messages: int, seconds: float, seed: int | None, clients: int, hits: int | None,
    drain_s: float, directory: Path | None, report: Path | None, keep: bool,
) -> None:  # fmt: skip
    """Mail flows, next hops misbehave, a random process is killed each second: is anything lost?"""
    chosen = _target(name)
    plan = Plan(
        messages=messages, seconds=seconds, clients=clients, drain_s=drain_s,
        seed=secrets.randbelow(1 << 31) if seed is None else seed,
        hits=int(seconds // SECONDS_PER_HIT) if hits is None else hits,
    )  # fmt: skip
    with _place(directory, keep=keep) as place:
        try:
            result = trio.run(Storm(chosen, plan, place, _say).run)
        except TargetError as error:
            _fail(EX_UNREACHABLE, f"{name}: {error}")
    known = dict(chosen.known_failures)
    _tell(result, known, report)
    sys.exit(EX_FINDING if show.unknown(result, known) else 0)


def _target(name: str) -> Target:
    try:
        chosen = target.load(name)
    except KeyError:
        _fail(EX_USAGE, f"no such target: {name} (there are: {', '.join(target.names())})")
    why = chosen.unavailable()
    if why is not None:
        _fail(EX_UNREACHABLE, f"{name} is unavailable: {why}")
    return chosen


class _Kept:
    """A directory that stays."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __enter__(self) -> Path:
        return self.place

    def __exit__(self, *_: object) -> None:
        _say(f"kept: {self.place}")


class _Temporary:
    """A directory that goes."""

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="refmta-storm-", dir="/var/tmp")

    def __enter__(self) -> Path:
        return Path(self.directory.__enter__())

    def __exit__(self, *_: object) -> None:
        self.directory.cleanup()


def _place(directory: Path | None, *, keep: bool) -> _Kept | _Temporary:
    if directory is not None:
        directory.mkdir(parents=True)
        return _Kept(directory.absolute())
    if keep:
        return _Kept(Path(tempfile.mkdtemp(prefix="refmta-storm-", dir="/var/tmp")))
    return _Temporary()


def _say(text: str) -> None:
    click.echo(text, err=True)


def _tell(result: Result, known: dict[str, str], report: Path | None) -> None:
    document = json.dumps(show.as_json(result, known), indent=2)
    if report is not None and str(report) == "-":
        click.echo(document)
        return
    width = None if sys.stdout.isatty() else WIDE
    show.show(result, known, Console(highlight=False, markup=False, width=width))
    if report is not None:
        report.write_text(document + "\n", encoding="utf-8")


def _fail(code: int, text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
