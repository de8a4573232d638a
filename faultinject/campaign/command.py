"""refmta-fault campaign, replay and report.

Exit codes: 0 nothing was found, 1 a finding, 2 wrong usage, 3 no verdict (a case broke, or nothing
could run), 130 interrupted.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from pathlib import Path
from typing import Final

import click
import trio
from rich.console import Console
from rich.table import Table

from faultinject import cases, target
from faultinject.campaign import job, results, versions
from faultinject.campaign.campaign import MismatchError, Plan, begin
from faultinject.campaign.engines import LOCAL, Engine, EngineError, engine_of
from faultinject.campaign.progress import Watcher
from faultinject.campaign.records import Campaign, End
from faultinject.campaign.results import Results, ResultsError
from faultinject.campaign.shrink import TRIES
from faultinject.campaign.summary import Summary, as_json, left_open, summarised, table
from faultinject.cases import Case, Harness, Outcome
from faultinject.page import page
from faultinject.telling import (
    EX_FINDING,
    EX_INTERRUPTED,
    EX_UNAVAILABLE,
    EX_USAGE,
    case_in,
    check_outputs,
    console,
    fail,
    say,
    target_called,
    tell,
)

DIRECTORY: Final = "refmta-campaign"
_DURATION: Final = re.compile(r"(?=.)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)
#: Of a budget.
LONGEST_S: Final = 30 * 86400
#: Of the harnesses, for people.
ORDER: Final = ("kill", "crash", "power", "disk", "network", "storm")


def duration(_: click.Context, __: click.Parameter, value: str) -> float:
    """Seconds, of 90, 90s, 20m, 2h or 1h30m."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration, such as 90s, 20m or 1h30m")
    hours, minutes, seconds = (int(each or 0) for each in found.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= LONGEST_S:
        raise click.BadParameter(f"{value!r} is not between a second and 30 days")
    return float(total)


def names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    """Names with commas between them, each once."""
    return tuple(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))


@click.command()
@click.option("--targets", callback=names, default="refmta", show_default=True, help="A,B,...")
@click.option("--harnesses", callback=names, default="", help="A,B,... [default: all there are]")
@click.option(
    "--budget",
    "budget_s",
    callback=duration,
    default="20m",
    show_default=True,
    help="Time for all, over all starts.",
)
@click.option("--seed", type=click.IntRange(0), help="Of an earlier campaign; printed by each.")
@click.option(
    "--results",
    "directory",
    type=click.Path(path_type=Path),
    default=DIRECTORY,
    show_default=True,
    help="A campaign that is there goes on.",
)
@click.option(
    "--engine",
    "engine_name",
    default=LOCAL,
    show_default=True,
    help="local, or dask://HOST:PORT of a scheduler.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    help="Cases at a time [default: as many as there are processors, or dask threads].",
)
@click.option("--case-timeout", "case_s", callback=duration, default="10m", show_default=True)
@click.option("--cases", "most", type=click.IntRange(1), help="Of each target and harness.")
@click.option(
    "--tries",
    type=click.IntRange(0, 10_000),
    default=TRIES,
    show_default=True,
    help="To shrink a finding; 0 to shrink none.",
)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its summary (- for stdout)."
)
def campaign(
    targets: tuple[str, ...], harnesses: tuple[str, ...], budget_s: float, seed: int | None,
    directory: Path, engine_name: str, jobs: int | None, case_s: float, most: int | None,
    tries: int, report: Path | None,
) -> None:  # fmt: skip
    """Inject faults of all kinds into several servers, within a budget, and shrink what is found.

    A campaign that was killed, or whose budget is spent, continues where it stopped when it is
    started again with the same directory.
    """
    check_outputs(report)
    loaded = _harnesses(harnesses)
    about = _about(targets, loaded)
    engine = _engine(engine_name, jobs)
    try:
        with Results(directory) as there:
            plan = Plan(
                seed=_seed(seed, there), targets=targets, budget_s=budget_s, case_s=case_s,
                harnesses=tuple(each.name for each in loaded), most=most, tries=tries,
            )  # fmt: skip
            end = _run(plan, there, engine, loaded, about)
            summary = summarised(there.records)
            _write_page(there)
    except MismatchError as error:
        fail(EX_USAGE, f"{directory}: {error}; continue it with these, or name another directory")
    except ResultsError as error:
        fail(EX_USAGE, str(error))
    tell(as_json(summary), report, lambda to: _show_summary(summary, to))
    say(f"{end}; seed {plan.seed}; results: {directory}")
    sys.exit(_code(summary, end))


def _run(
    plan: Plan, there: Results, engine: Engine, harnesses: list[Harness], about: Campaign
) -> End:
    """Raises MismatchError, ResultsError."""

    async def run(watcher: Watcher) -> End:
        async with engine as ready:
            return await begin(plan, there, ready, harnesses, about, watcher).run()

    try:
        with Watcher(Console(stderr=True), plan.budget_s) as watcher:
            return trio.run(run, watcher)
    except EngineError as error:
        fail(EX_UNAVAILABLE, f"{error}; what was run is kept in {there.directory}")


def _code(summary: Summary, end: End) -> int:
    states = summary.states()
    if states["found"]:
        return EX_FINDING
    if end == "interrupted":
        return EX_INTERRUPTED
    nothing = not states["held"] and not states["known"]
    return EX_UNAVAILABLE if states["broken"] or nothing else 0


def _seed(seed: int | None, there: Results) -> int:
    """The one that is given, that of the results, or any."""
    first = there.records[0] if there.records else None
    if seed is None and isinstance(first, Campaign):
        return first.seed
    return secrets.randbelow(1 << 31) if seed is None else seed


def _harnesses(wanted: tuple[str, ...]) -> list[Harness]:
    there = cases.names()
    for name in wanted:
        if name not in there:
            fail(EX_USAGE, f"no such harness: {name} (there are: {', '.join(there) or 'none'})")
    if not (wanted or there):
        fail(EX_UNAVAILABLE, "no harness is registered")
    return [cases.load(name) for name in wanted or sorted(there, key=_place_of)]


def _place_of(name: str) -> tuple[int, str]:
    """Where a harness stands if none are named: the known ones as people tell of them."""
    return ORDER.index(name) if name in ORDER else len(ORDER), name


def _about(targets: tuple[str, ...], harnesses: list[Harness]) -> Campaign:
    """What is to be written down first, but for the seed."""
    known, there = {}, {}
    for name in targets:
        chosen = target_called(name)
        known[name] = {each.name: target.known(chosen, each.name) for each in harnesses}
        there[name] = versions.of(chosen)
    if not targets:
        fail(EX_USAGE, "no targets")
    return Campaign(
        seed=0, targets=targets, harnesses=tuple(each.name for each in harnesses), known=known,
        versions={name: version for name, version in there.items() if version},
        tool=versions.ours(),
    )  # fmt: skip


def _engine(name: str, jobs: int | None) -> Engine:
    try:
        return engine_of(name, jobs)
    except ValueError as error:
        fail(EX_USAGE, str(error))
    except EngineError as error:
        fail(EX_UNAVAILABLE, str(error))


def _write_page(there: Results) -> None:
    missing = page.unavailable()
    if missing is not None:
        say(f"no page: {missing}")
        return
    path = there.write(results.PAGE, page.html(there.records).encode())
    say(f"page: {path}")


def _show_summary(summary: Summary, to: Console) -> None:
    to.print(table(summary))
    for line in left_open(summary):
        say(line)


# -- one case, and one page -----------------------------------------------------------------------


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--case-timeout", "case_s", callback=duration, default="10m", show_default=True)
@click.option("--evidence", type=click.Path(path_type=Path), help="A new directory for it.")
def replay(file: Path, case_s: float, evidence: Path | None) -> None:
    """Run again what a case file says."""
    case = _case(file)
    try:
        if evidence is not None:
            evidence.mkdir(parents=True)
        with job.Job(case) as running:
            outcome = running.wait(case_s)
        _keep(outcome, evidence)
    except OSError as error:
        fail(EX_USAGE, f"{error.filename}: {error.strerror}")
    _show(outcome)
    codes = {"held": 0, "found": EX_FINDING}
    sys.exit(codes.get(outcome.verdict, EX_UNAVAILABLE))


def _case(file: Path) -> Case:
    case = case_in(file)
    if case.harness not in cases.names():
        fail(EX_USAGE, f"{file}: no such harness: {case.harness}")
    try:
        target.load(case.target)
    except KeyError:
        fail(EX_USAGE, f"{file}: no such target: {case.target}")
    return case


def _keep(outcome: Outcome, evidence: Path | None) -> None:
    if evidence is None:
        return
    for name, text in outcome.evidence.items():
        path = evidence / re.sub(r"[^A-Za-z0-9_. -]", "_", name).lstrip(".")
        path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _show(outcome: Outcome) -> None:
    to = console()
    case = outcome.case
    rows = Table("what", "value", box=None, show_header=False)
    rows.add_row("case", f"{case.harness} against {case.target}, seed {case.seed}")
    rows.add_row("settings", json.dumps(dict(case.settings)))
    rows.add_row("verdict", f"{outcome.verdict}{': ' if outcome.reason else ''}{outcome.reason}")
    for name, count in outcome.counts.items():
        rows.add_row(name, f"{count:,}")
    rows.add_row("seconds", f"{outcome.seconds:.1f}")
    to.print(rows)
    for finding in outcome.findings:
        to.print(f"finding: {finding.name}: {finding.text}", soft_wrap=True)
    if outcome.evidence:
        to.print(f"evidence: {', '.join(outcome.evidence)}")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="[default: report.html in it]")
@click.option("--picture", type=click.Path(path_type=Path), help="The matrix as PNG, too.")
def report(directory: Path, output: Path | None, picture: Path | None) -> None:
    """Make the page of a campaign anew, also while it runs."""
    missing = page.unavailable()
    if missing is not None:
        fail(EX_UNAVAILABLE, missing)
    path = output or directory / results.PAGE
    try:
        records = results.read(directory)
        path.write_text(page.html(records), encoding="utf-8")
        if picture is not None:
            picture.write_bytes(page.picture(records))
    except (ResultsError, ValueError) as error:
        fail(EX_USAGE, str(error))
    except OSError as error:
        fail(EX_USAGE, f"{error.filename}: {error.strerror}")
    click.echo(path)
