"""refmta-fault disk: a disk that is full, fails, is read-only or slow, at each call in turn."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from faultinject import target
from faultinject.campaign.job import Job
from faultinject.cases import Case, Outcome
from faultinject.disk import show
from faultinject.disk.faults import FAULTS
from faultinject.disk.harness import NAME, SettingsError, settings_of, unavailable
from faultinject.telling import (
    EX_FINDING,
    EX_INTERRUPTED,
    EX_UNAVAILABLE,
    EX_USAGE,
    available,
    case_in,
    check_outputs,
    console,
    fail,
    tell,
)


@click.command()
@click.option("--target", "name", help="The server; see `refmta-fault targets`.")
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice([*FAULTS]), metavar="NAME",
    help="Which fault; may be said again [default: all; see --list].",
)  # fmt: skip
@click.option(
    "--sample", type=click.IntRange(1, 10_000),
    help="So many steps of each fault, chosen by the seed [default: all].",
)  # fmt: skip
@click.option("--seed", type=int, help="Of an earlier run; printed by each.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, 86400), default=1800.0, show_default=True,
    help="Seconds that one fault may take.",
)  # fmt: skip
@click.option(
    "--replay", type=click.Path(path_type=Path, dir_okay=False), help="Run this case file alone."
)
@click.option(
    "--cases", "kept", type=click.Path(path_type=Path, file_okay=False),
    help="Write a case file there for each kind of finding.",
)  # fmt: skip
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its report (- for stdout)."
)
@click.option("--list", "listed", is_flag=True, help="Show the faults, and end.")
def disk(
    name: str | None, faults: tuple[str, ...], sample: int | None, seed: int | None,
    timeout_s: float, replay: Path | None, kept: Path | None, report: Path | None, listed: bool,
) -> None:  # fmt: skip
    """The disk fails at each call in turn: is an answer untrue, or anything lost?"""
    if listed:
        show.faults(console())
        return
    if (name is None) == (replay is None):
        fail(EX_USAGE, "one of --target and --replay is needed")
    if replay is not None:
        wanted = [_replayed(replay)]
    else:
        number = secrets.randbelow(1 << 31) if seed is None else seed
        settings = {"sample": sample} if sample else {}
        wanted = [
            Case(harness=NAME, target=name or "", seed=number, settings={"fault": each, **settings})
            for each in faults or FAULTS
        ]
    check_outputs(report, kept)
    case = wanted[0]
    known = target.known(available(case.target, _lacks), NAME)
    outcomes = _run(wanted, timeout_s)

    def shown(console: Console) -> None:
        show.findings(outcomes, known, console)
        console.print(f"target {case.target}, seed {case.seed}")

    tell(show.as_json(outcomes, known, case.target, case.seed), report, shown)
    if kept is not None:
        _keep(outcomes, kept)
    sys.exit(_status(outcomes, known))


def _lacks() -> str | None:
    return unavailable(FAULTS["eio"])


def _replayed(file: Path) -> Case:
    case = case_in(file, NAME)
    try:
        settings_of(case)
    except SettingsError as error:
        fail(EX_USAGE, f"{file}: {error}")
    return case


def _run(wanted: Sequence[Case], timeout_s: float) -> list[Outcome]:
    """One after the other, each in processes of its own, with a line for each."""
    outcomes: list[Outcome] = []
    try:
        for case in wanted:
            if sys.stderr.isatty():
                click.echo(f"{case.target}: {case.settings['fault']} ...\r", err=True, nl=False)
            with Job(case) as job:
                outcomes.append(job.wait(timeout_s))
            click.echo(show.row(outcomes[-1]), err=True)
    except KeyboardInterrupt:
        fail(EX_INTERRUPTED, f"interrupted: {len(outcomes)} of {len(wanted)} faults were swept")
    return outcomes


def _keep(outcomes: Sequence[Outcome], directory: Path) -> None:
    """Their evidence has a case for each kind of finding."""
    for outcome in outcomes:
        for file, text in outcome.evidence.items():
            if file.endswith(".json"):
                path = directory / f"{outcome.case.settings['fault']}-{file}"
                path.write_text(text, encoding="utf-8")
                click.echo(f"to be run again by --replay {path}", err=True)


def _status(outcomes: Sequence[Outcome], known: dict[str, str]) -> int:
    """What can't be brought about here is no finding; if nothing can, nothing was shown."""
    if any(show.unknown(each, known) for each in outcomes):
        return EX_FINDING
    shown = [each for each in outcomes if each.verdict in ("held", "found")]
    broken = [each for each in outcomes if each.verdict == "broken"]
    return EX_UNAVAILABLE if broken or not shown else 0
