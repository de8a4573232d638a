"""refmta-fault network: hostile next hops and a lying name server; is anything lost, or late?"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from faultinject import cases, target
from faultinject.campaign.job import Job
from faultinject.cases import Case, Outcome
from faultinject.network import show
from faultinject.network.harness import (
    GROUPS,
    NAME,
    SettingsError,
    plan_of,
    unavailable,
)
from faultinject.telling import (
    EX_FINDING,
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
    "--group", "groups", multiple=True, type=click.Choice([*GROUPS, "all"]), metavar="NAME",
    help="Which trial; may be said again [default: each group; `all` is one trial of everything].",
)  # fmt: skip
@click.option(
    "--bad", multiple=True, metavar="NAME",
    help="One trial with these bad destinations instead; see --list.",
)  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1, 3600), help="How long a fault lasts.")
@click.option("--seed", type=int, help="Of an earlier run; printed by each.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(1, 86400), default=600.0, show_default=True,
    help="Seconds that one trial may take.",
)  # fmt: skip
@click.option(
    "--replay", type=click.Path(path_type=Path, dir_okay=False), help="Run this case file alone."
)
@click.option(
    "--cases", "kept", type=click.Path(path_type=Path, file_okay=False),
    help="Write a case file there for each trial that finds something.",
)  # fmt: skip
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its report (- for stdout)."
)
@click.option("--list", "listed", is_flag=True, help="Show the bad destinations, and end.")
def network(
    name: str | None, groups: tuple[str, ...], bad: tuple[str, ...], seconds: float | None,
    seed: int | None, timeout_s: float, replay: Path | None, kept: Path | None,
    report: Path | None, listed: bool,
) -> None:  # fmt: skip
    """Next hops and name servers fail and lie: is mail lost, given up, or late?"""
    if listed:
        show.destinations(console())
        return
    if (name is None) == (replay is None):
        fail(EX_USAGE, "one of --target and --replay is needed")
    if bad and groups:
        fail(EX_USAGE, "one of --group and --bad, not both")
    if replay is not None:
        wanted = [_replayed(replay)]
    else:
        number = secrets.randbelow(1 << 31) if seed is None else seed
        wanted = [_case(name or "", number, groups, bad, seconds)] if bad else [
            _case(name or "", number, (group,), (), seconds) for group in groups or GROUPS
        ]  # fmt: skip
    check_outputs(report, kept)
    first = wanted[0]
    server = available(first.target, unavailable)
    if "remote" not in server.capabilities:
        fail(EX_UNAVAILABLE, f"{first.target} is unavailable: it sends no mail to other hosts")
    known = target.known(server, NAME)
    outcomes = _run(wanted, timeout_s)

    def shown(console: Console) -> None:
        show.show(outcomes, known, console)
        console.print(f"target {first.target}, seed {first.seed}")

    tell(show.as_json(outcomes, known, first.target, first.seed), report, shown)
    if kept is not None:
        _keep(outcomes, known, kept)
    sys.exit(_status(outcomes, known))


def _case(
    name: str, seed: int, groups: tuple[str, ...], bad: tuple[str, ...], seconds: float | None
) -> Case:
    settings: dict[str, object] = {"bad": list(bad)} if bad else {"group": groups[0]}
    if seconds is not None:
        settings["seconds"] = seconds
    case = Case(harness=NAME, target=name, seed=seed, settings=settings)
    try:
        plan_of(case)
    except SettingsError as error:
        fail(EX_USAGE, str(error))
    return case


def _replayed(file: Path) -> Case:
    case = case_in(file, NAME)
    try:
        plan_of(case)
    except SettingsError as error:
        fail(EX_USAGE, f"{file}: {error}")
    return case


def _run(wanted: Sequence[Case], timeout_s: float) -> list[Outcome]:
    """One after the other, each in processes of its own, with a line for each."""
    outcomes = []
    for case in wanted:
        if sys.stderr.isatty():
            click.echo(f"{case.target}: {case.settings} ...\r", err=True, nl=False)
        with Job(case) as job:
            outcomes.append(job.wait(timeout_s))
        click.echo(show.line(outcomes[-1]), err=True)
    return outcomes


def _keep(outcomes: Sequence[Outcome], known: dict[str, str], directory: Path) -> None:
    for number, outcome in enumerate(outcomes, 1):
        if show.unknown(outcome, known):
            path = directory / f"network-{number}.json"
            path.write_bytes(cases.encode(outcome.case))
            click.echo(f"to be run again by --replay {path}", err=True)


def _status(outcomes: Sequence[Outcome], known: dict[str, str]) -> int:
    if any(show.unknown(each, known) for each in outcomes):
        return EX_FINDING
    return 0 if all(each.verdict in ("held", "found") for each in outcomes) else EX_UNAVAILABLE
