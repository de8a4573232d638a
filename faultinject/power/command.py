"""refmta-fault power: loss of power on real file systems."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from faultinject import cases, overlay
from faultinject import target as targets
from faultinject.cases import Case, Outcome
from faultinject.power import show
from faultinject.power.images import KINDS, unavailable
from faultinject.power.injector import NAME, PowerHarness, case, settings_of
from faultinject.power.records import Judged, Loaded, Settings, Word
from faultinject.power.results import Results, ResultsError, first_cuts, row
from faultinject.telling import (
    EX_FINDING,
    EX_UNAVAILABLE,
    EX_USAGE,
    available,
    case_in,
    check_outputs,
    fail,
    tell,
)

#: Clones of one round: more would share its start, take more memory at once, and be lost together
#: when the campaign is stopped.
PER_ROUND: Final = 15


def _systems(_context: click.Context, _option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(each.strip() for each in text.split(",")))
    for name in names:
        if name not in KINDS:
            raise click.BadParameter(f"no such file system: {name} (there are: {', '.join(KINDS)})")
    return names


@click.command()
@click.option("--target", "name", help="The server; see `refmta-fault targets`.")
@click.option(
    "--fs", "systems", default=",".join(KINDS), show_default=True, callback=_systems,
    help="File systems, with commas.",
)  # fmt: skip
@click.option(
    "--cuts", type=click.IntRange(1, 1_000_000), default=30, show_default=True,
    help="On each file system; some of them while the server recovers from another.",
)  # fmt: skip
@click.option("--clients", type=click.IntRange(1, 500), default=8, show_default=True)
@click.option("--seed", type=int, help="Of an earlier run; printed by each.")
@click.option(
    "--resume", type=click.Path(path_type=Path, dir_okay=False),
    help="Results go there, and count when it is run again (JSON Lines).",
)  # fmt: skip
@click.option(
    "--cases", "case_directory", type=click.Path(path_type=Path, file_okay=False),
    help="A case file for each round that finds something.",
)  # fmt: skip
@click.option(
    "--replay", type=click.Path(path_type=Path, dir_okay=False), help="Run a case file again."
)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its report (- for stdout)."
)
def power(
    name: str | None, systems: tuple[str, ...], cuts: int, clients: int, seed: int | None,
    resume: Path | None, case_directory: Path | None, replay: Path | None, report: Path | None,
) -> None:  # fmt: skip
    """Power is lost while mail flows: is anything lost that was answered 250?"""
    if (name is None) == (replay is None):
        fail(EX_USAGE, "one of --target and --replay is needed")
    if replay is not None:
        again = _replayed(replay)
        name, seed = again.target, again.seed
    name = name or ""
    check_outputs(report, case_directory)
    target = available(name)
    results, seed = _results(resume, name, seed)
    campaign = Campaign(name, results, seed, case_directory)
    try:
        if replay is not None:
            systems = (settings_of(again).fs,)
            campaign.run(again)
        else:
            for fs in systems:
                campaign.fill(Settings(fs=fs, clients=clients), cuts)
    finally:
        results.close()
    known = targets.known(target, NAME)
    document = show.as_json(results, known, name, systems, seed)
    tell(document, report, lambda to: show.show(results, known, systems, seed, to))
    if show.unknown(results, known):
        sys.exit(EX_FINDING)
    if campaign.broken:
        fail(EX_UNAVAILABLE, f"{name}: {'; '.join(dict.fromkeys(campaign.broken))}")


@dataclass(slots=True)
class Campaign:
    """Rounds, one after the other.  broken: why some have no verdict."""

    name: str
    results: Results
    seed: int
    case_directory: Path | None = None
    broken: list[str] = field(default_factory=list)

    def fill(self, settings: Settings, cuts: int) -> None:
        """Until that file system has so many cuts, or something is broken."""
        why = unavailable(KINDS[settings.fs])
        if why is not None:
            self.broken.append(f"{settings.fs} is unavailable: {why}")
            return
        with _progress(settings.fs, self.results.cuts(settings.fs), cuts) as step:
            while (left := cuts - self.results.cuts(settings.fs)) > 0:
                first = first_cuts(min(left, PER_ROUND), settings.again_one_in)
                number = self.results.next_seed(settings.fs, self.seed)
                each = case(self.name, number, replace(settings, cuts=first))
                if not self.run(each, step):
                    return

    def run(self, each: Case, step: Callable[[Word], None] = lambda _: None) -> bool:
        """One round; whether all of its clones were judged."""
        began_s = time.monotonic()
        with overlay.scratch(NAME) as (place, _):
            below = place / "round"
            below.mkdir(mode=0o711)
            outcome = PowerHarness(step).run(each, below)
        if outcome.reason:
            self.broken.append(outcome.reason)
        if outcome.verdict == "found" or not outcome.reason:
            self.results.add(row(outcome, self.seed, time.monotonic() - began_s))
        if outcome.verdict == "found":
            self._keep(outcome)
        return not outcome.reason

    def _keep(self, outcome: Outcome) -> None:
        """What can be run again, and what was seen."""
        if self.case_directory is None:
            return
        place = self.case_directory / f"{outcome.case.settings['fs']}-{outcome.case.seed}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "case.json").write_bytes(cases.encode(outcome.case))
        for file, text in outcome.evidence.items():
            (place / file).write_text(text, encoding="utf-8")


@contextmanager
def _progress(fs: str, done: int, cuts: int) -> Iterator[Callable[[Word], None]]:
    """A bar on a terminal; a line for each load in a pipe."""
    console = Console(stderr=True, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(fs, completed=done, total=cuts)

        def step(word: Word) -> None:
            if isinstance(word, Judged):
                bar.advance(task)
            elif isinstance(word, Loaded) and not console.is_terminal:
                text = f"{word.cuts} cuts at {word.acknowledged} messages acknowledged"
                click.echo(f"{fs}: {text}; now they are judged", err=True)

        yield step


def _results(resume: Path | None, name: str, seed: int | None) -> tuple[Results, int]:
    """What was shown so far, and the campaign's seed."""
    results = Results()
    if resume is not None:
        try:
            results = Results.open(resume)
        except ResultsError as error:
            fail(EX_USAGE, str(error))
        except OSError as error:
            fail(EX_USAGE, f"{resume}: {error.strerror}")
        if results.target() not in (None, name):
            fail(EX_USAGE, f"{resume}: results of {results.target()}, not of {name}")
    former = results.seed()
    if former is not None and seed not in (None, former):
        fail(EX_USAGE, f"{resume}: a campaign with seed {former}, not {seed}")
    if seed is None:
        seed = former if former is not None else secrets.randbelow(1 << 31)
    return results, seed


def _replayed(path: Path) -> Case:
    case = case_in(path, NAME)
    try:
        wrong = settings_of(case).wrong()
    except ValueError as error:
        wrong = str(error)
    if wrong is not None:
        fail(EX_USAGE, f"{path}: {wrong}")
    return case
