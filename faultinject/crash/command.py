"""refmta-fault crash: what a crash may leave, and what becomes of promised mail then."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from faultinject import cases, overlay, tracing
from faultinject.cases import Case
from faultinject.crash import crashes, stores
from faultinject.crash.crashes import NAME, Plan, Result, SettingsError, crash_states
from faultinject.crash.recorder import SCENES
from faultinject.target import TargetError
from faultinject.telling import (
    EX_FINDING,
    EX_UNAVAILABLE,
    EX_USAGE,
    case_in,
    check_outputs,
    console,
    fail,
    target_called,
    tell,
)
from specs.persistence import table as protocol_table
from specs.persistence.expected import ExpectedError, expected
from specs.persistence.table import COLUMNS

STATED = (
    "Stated: P1, P2 and P3, renames atomic and split; on the server itself the minimal states (one"
    " operation lost) at each reply and at the end, and a sample. Not shown: writes to mapped"
    " memory, and what a device does to its own cache."
)


@click.command()
@click.option("--target", "name", help="The server; see `refmta-fault targets`.")
@click.option(
    "--part", type=click.Choice(["stores", "live"]),
    help="Only the stores in process, or only the server itself [default: both, if it has both].",
)  # fmt: skip
@click.option("--scene", type=click.Choice([*SCENES]), help="How many letters [default: each].")
@click.option(
    "--most", type=click.IntRange(0), default=crashes.MOST, show_default=True,
    help="Minimal states per scene.",
)  # fmt: skip
@click.option(
    "--samples", type=click.IntRange(0), default=crashes.SAMPLES, show_default=True,
    help="Further states per scene, by chance.",
)  # fmt: skip
@click.option("--state", type=click.IntRange(0), help="Only this state of each scene.")
@click.option(
    "--table", "protocols", is_flag=True, help="The table of all encoded protocols by models, too."
)
@click.option("--seed", type=int, help="Of letters and samples; printed by each run.")
@click.option(
    "--cases", "case_directory", type=click.Path(path_type=Path, file_okay=False),
    help="A case file for each finding on the server.",
)  # fmt: skip
@click.option(
    "--replay", type=click.Path(path_type=Path, dir_okay=False), help="Run a case file again."
)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Its report (- for stdout)."
)
def crash(
    name: str | None, part: str | None, scene: str | None, most: int, samples: int,
    state: int | None, protocols: bool, seed: int | None, case_directory: Path | None,
    replay: Path | None, report: Path | None,
) -> None:  # fmt: skip
    """Every state that a crash may leave, recovered and judged: is promised mail there?"""
    if replay is not None:
        name, plan = _replayed(replay)
    else:
        plan = Plan(
            parts=(part,) if part else (),
            scenes=(scene,) if scene else tuple(SCENES), state=state, most=most, samples=samples,
            seed=secrets.randbelow(1 << 31) if seed is None else seed,
        )  # fmt: skip
    if name is None:
        fail(EX_USAGE, "one of --target and --replay is needed")
    check_outputs(report, case_directory)
    target_called(name)
    try:
        with overlay.scratch(NAME) as (place, _):
            result = crash_states(name, plan, place, _say)
    except (TargetError, ExpectedError, tracing.Unavailable, OSError) as error:
        fail(EX_UNAVAILABLE, f"{name}: {error}")
    known = crashes.known(name)
    tell(as_json(result, known), report, lambda to: _show(result, known, to))
    odd = _tell_protocols() if protocols else 0
    if case_directory is not None:
        _write_cases(result, known, name, case_directory)
    if odd or any(each.name not in known for each in result.findings()):
        sys.exit(EX_FINDING)
    if crashes.nothing_tried(result):
        fail(EX_USAGE, crashes.NOTHING)
    sys.exit(EX_UNAVAILABLE if result.unavailable else 0)


def _replayed(path: Path) -> tuple[str, Plan]:
    case = case_in(path, NAME)
    try:
        return case.target, crashes.planned(case.settings, case.seed)
    except SettingsError as error:
        fail(EX_USAGE, f"{path}: {error}")


def _write_cases(result: Result, known: dict[str, str], name: str, directory: Path) -> None:
    for kind, shown in result.lived.shown.items() if result.lived else ():
        if kind in known:
            continue
        settings = {
            "part": "live", "scene": shown.scene, "state": shown.number, "most": result.plan.most,
            "samples": result.plan.samples,
        }  # fmt: skip
        case = Case(harness=NAME, target=name, seed=result.plan.seed, settings=settings)
        (directory / f"{kind.replace(' ', '-')}.json").write_bytes(cases.encode(case))


def _say(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"... {text}", err=True)


# -- what is shown --------------------------------------------------------------------------------


def _show(result: Result, known: dict[str, str], to: Console) -> None:
    if result.enumerated is not None:
        _show_stores(result.enumerated, to)
    if result.lived is not None:
        _show_live(result, known, to)
    for part, why in result.unavailable.items():
        to.print(f"{part}: unavailable: {why}", soft_wrap=True)
    to.print(f"{STATED}\nseed {result.plan.seed}", soft_wrap=True)


def _show_stores(found: stores.Enumerated, to: Console) -> None:
    table = Table(title="States of the stores, recovered by their own code")
    for heading in ("store", "workload", "model", "states", "with crashes in recovery", *COLUMNS):
        table.add_column(heading, justify="left" if heading in _TEXTS else "right")
    for row in found.reports:
        numbers = (sum(row.counts.get(each, 0) for each in names) for names in COLUMNS.values())
        sampled = "" if row.exhaustive else " (sampled)"
        table.add_row(
            row.store, row.workload, row.model, f"{row.distinct}{sampled}", str(row.recovered),
            *(str(each) if each else "-" for each in numbers),
        )  # fmt: skip
    to.print(table)
    for report, invariant, example in found.stories():
        why = found.expected.get((report.store, report.model, invariant))
        head = f"known: {why}" if why else "FINDING"
        told = "; ".join(example.story)
        text = f"{report.store}, {report.model}, {invariant}: {head}\n    {example.detail}: {told}"
        to.print(text, soft_wrap=True)
    for each in found.findings:
        if each.kind != "violation":
            to.print(f"note: {each}", soft_wrap=True)
    to.print(
        f"{found.distinct} distinct disks recovered in {found.seconds:.2f} s of processor time:"
        f" {found.per_second} per second; {found.lost()} with promised mail lost",
        soft_wrap=True,
    )  # fmt: skip


_TEXTS = frozenset({"store", "workload", "model"})


def _tell_protocols() -> int:
    """Which protocol loses what under which model (`refmta-spec crash-table` has the counts, and
    the reasons); how many are not as expected.
    """
    every, known = protocol_table.protocols(), expected()
    made = list(protocol_table.rows(every.stores, known))
    table = Table(title="Commit protocols by persistence models")
    names = list(dict.fromkeys(row.model.partition(" ")[0] for row in made))
    for heading in ("protocol", *names):
        table.add_column(heading)
    for store in dict.fromkeys(row.store for row in made):
        rows = [row for row in made if row.store == store]
        cells = ([row for row in rows if row.model.partition(" ")[0] == name] for name in names)
        table.add_row(store, *map(_cell, cells))
    to = console()
    to.print(table)
    states = sum(row.states for row in made)
    to.print(f"-: nothing is lost, torn, left over or not recovered; {states} states")
    found = protocol_table.findings(made, every, known)
    for each in found:
        to.print(f"FINDING: {each}", soft_wrap=True)
    return len(found)


def _cell(rows: list[protocol_table.Row]) -> str:
    """What happens under a model, with renames atomic and split."""
    said = {
        row.model: ", ".join(name for name, n in row.counts.items() if n) or "-" for row in rows
    }
    if len({*said.values()}) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{model.partition(' ')[2]}: {what}" for model, what in said.items())


def _show_live(result: Result, known: dict[str, str], to: Console) -> None:
    lived = result.lived
    if lived is None:
        return
    counts = ", ".join(f"{number} {name}" for name, number in lived.counts.items() if number)
    tried = lived.counts["minimal states tried"] + lived.counts["sampled states tried"]
    pace = f"; {lived.seconds / tried:.1f} s per state" if tried else ""
    to.print(f"{lived.target}, started on crash states: {counts}{pace}", soft_wrap=True)
    if lived.passed:
        passed = ", ".join(f"{name} {number}" for name, number in lived.passed.items())
        to.print(f"seen and not modelled: {passed}", soft_wrap=True)
    if result.confirmed is not None:
        steps = len(result.confirmed.steps)
        said = result.confirmed.difference or f"strace saw the {steps} planned steps, no others"
        to.print(f"plan: {said}", soft_wrap=True)
    for name, shown in lived.shown.items():
        head = f"known: {known[name]}" if name in known else "FINDING"
        text = f"{name}: {head} ({shown.times} states)\n    {shown.finding.text}"
        lines = "".join(f"\n    {line}" for line in shown.story)
        where = f"\n    (scene {shown.scene}, state {shown.number})"
        to.print(text + lines + where, soft_wrap=True)
    if not lived.shown:
        to.print("nothing lost, altered or misdelivered", soft_wrap=True)


def as_json(result: Result, known: dict[str, str]) -> dict[str, object]:
    """For programs."""
    found: dict[str, object] = {
        "target": result.target, "seed": result.plan.seed, "counts": crashes.counts(result),
        "unavailable": result.unavailable, "evidence": crashes.evidence(result),
        "findings": [
            {"name": each.name, "text": each.text, "known": known.get(each.name)}
            for each in result.findings()
        ],
    }  # fmt: skip
    if result.confirmed is not None:
        found["plan"] = {
            "steps": len(result.confirmed.steps), "difference": result.confirmed.difference,
        }  # fmt: skip
    if result.enumerated is not None:
        found["stores"] = [
            {
                "store": row.store, "workload": row.workload, "model": row.model,
                "states": row.distinct, "recovered": row.recovered, "fresh": row.fresh,
                "exhaustive": row.exhaustive, "counts": dict(row.counts),
            }
            for row in result.enumerated.reports
        ]  # fmt: skip
    return found
