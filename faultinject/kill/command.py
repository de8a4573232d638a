"""refmta-fault kill: SIGKILL before each system call that matters, in every process of a server.

Exit codes: 0 nothing was found, 1 a finding, 2 wrong usage, 3 the target does not start or can't
run here, 130 interrupted.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import click

from faultinject import cases, target
from faultinject.cases import Case
from faultinject.kill import show
from faultinject.kill.grip import GripError
from faultinject.kill.harness import (
    SettingsError,
    besiege,
    planned,
    settings_of,
    unavailable,
)
from faultinject.kill.leftovers import NAME, workplace
from faultinject.kill.plan import Plan
from faultinject.kill.points import FAULTS, Record, ResumeError
from faultinject.kill.scripts import SCRIPTS
from faultinject.kill.siege import Result
from faultinject.target import TargetError
from faultinject.telling import (
    EX_FINDING,
    EX_INTERRUPTED,
    EX_UNAVAILABLE,
    EX_USAGE,
    available,
    case_in,
    check_outputs,
    fail,
    say,
    tell,
)

#: Two per processor: while one waits until a process is started anew, another is busy.
JOBS = min(8, 2 * (os.cpu_count() or 1))


@click.command()
@click.option("--target", "name", help="The server; see `refmta-fault targets`.")
@click.option(
    "--script", "scripts", multiple=True, type=click.Choice([*SCRIPTS]),
    help="Which message; may be said again [default: all that the target can do].",
)  # fmt: skip
@click.option(
    "--fault", "faults", multiple=True, type=click.Choice([*FAULTS]),
    help="What happens at the call; may be said again [default: kill].",
)  # fmt: skip
@click.option(
    "--kind", "kinds", multiple=True, help="Which processes, such as qmgr [default: all]."
)
@click.option("--number", type=click.IntRange(1), help="Only before this call [default: each].")
@click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True,
    help="Only each so-manieth call, from the first: a sample.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 32), default=JOBS, show_default=True,
    help="Servers side by side.",
)  # fmt: skip
@click.option("--seed", type=int, help="Of the letters' contents; printed by each run.")
@click.option(
    "--resume", type=click.Path(path_type=Path, dir_okay=False),
    help="What was tried goes there, and is not tried again (JSON Lines).",
)  # fmt: skip
@click.option(
    "--cases", "case_directory", type=click.Path(path_type=Path, file_okay=False),
    help="A case file for each point that finds something.",
)  # fmt: skip
@click.option(
    "--replay", type=click.Path(path_type=Path, dir_okay=False), help="Run a case file again."
)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its report (- for stdout)."
)
def kill(
    name: str | None, scripts: tuple[str, ...], faults: tuple[str, ...], kinds: tuple[str, ...],
    number: int | None, every: int, jobs: int, seed: int | None, resume: Path | None,
    case_directory: Path | None, replay: Path | None, report: Path | None,
) -> None:  # fmt: skip
    """SIGKILL before each system call that changes a file or answers somebody: is anything lost?"""
    if replay is not None:
        case = case_in(replay, NAME)
        name, plan = case.target, _plan(case)
    else:
        plan = Plan(
            scripts=tuple(dict.fromkeys(scripts)) or tuple(SCRIPTS),
            faults=tuple(each for each in FAULTS if each in (faults or ("kill",))),
            kinds=kinds or None, numbers=None if number is None else (number, number),
            every=every, jobs=jobs, seed=secrets.randbelow(1 << 31) if seed is None else seed,
        )  # fmt: skip
    if name is None:
        fail(EX_USAGE, "no target: say --target, or --replay")
    check_outputs(report, case_directory)
    chosen = available(name, unavailable)
    record = _record(resume, chosen.name)
    try:
        with workplace() as place:
            result = besiege(lambda: target.load(name), plan, place, record, say)
    except KeyboardInterrupt:
        later = f"; --resume {resume} goes on from there" if resume is not None else ""
        fail(EX_INTERRUPTED, f"interrupted: {len(record.done)} points were judged{later}")
    except (TargetError, GripError, OSError) as error:
        fail(EX_UNAVAILABLE, f"{name}: {error}")
    known = target.known(chosen, NAME)
    tell(show.as_json(result, known), report, lambda console: show.show(result, known, console))
    if case_directory is not None:
        _write_cases(result, known, name, case_directory)
    if show.unknown(result, known):
        sys.exit(EX_FINDING)
    if not result.hit:
        fail(EX_USAGE, "no point was hit: no such process makes such a call that matters")


def _record(resume: Path | None, name: str) -> Record:
    """What was tried before, ready to go on."""
    record = Record(resume)
    try:
        record.open(name)
    except ResumeError as error:
        fail(EX_USAGE, str(error))
    except OSError as error:
        fail(EX_USAGE, f"{error.filename}: {error.strerror}")
    return record


def _plan(case: Case) -> Plan:
    try:
        return planned(case.settings, case.seed)
    except SettingsError as error:
        fail(EX_USAGE, f"the case: {error}")


def _write_cases(result: Result, known: dict[str, str], name: str, directory: Path) -> None:
    for count, point in enumerate(show.guilty(result, known), 1):
        case = Case(harness=NAME, target=name, seed=result.plan.seed, settings=settings_of(point))
        file = directory / f"kill-{count}.json"
        file.write_bytes(cases.encode(case))
        say(f"case: {file}")
