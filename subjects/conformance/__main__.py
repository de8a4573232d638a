"""python -m subjects.conformance: servers set up, and measured by the conformance suite.

python -m subjects.conformance --docs docs/conformance [SERVER ...]   measure, write documents
python -m subjects.conformance --json DIR [SERVER ...]                measure, keep the records
python -m subjects.conformance --up SERVER [COMMAND ...]              a command beside a server
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from faultinject import networks, overlay
from faultinject.target import TargetError
from specs.conformance import records, summary
from specs.conformance.measuring import measured
from specs.conformance.model import Case, Result, Verdict
from specs.conformance.options import as_words
from specs.conformance.page import page
from specs.conformance.records import Record
from specs.conformance.registry import all_cases
from specs.conformance.reports import LATER
from specs.conformance.run import NoTestbed, Run, Unreachable
from specs.conformance.selection import NothingMatches, chosen
from subjects.conformance.servers import SERVERS
from subjects.conformance.setup import Ready

JOBS: Final = 12
WITHHELD: Final = "withheld: its authors are to hear of it first"
#: Whose cases begin where it relays for us, and where it does not.
OURS, STRANGERS = ("client", "relay"), ("server", "delivery")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1)
@click.option(
    "--docs", type=click.Path(path_type=Path, file_okay=False), help="Write the documents there."
)
@click.option(
    "--json",
    "kept",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the records there.",
)
@click.option("--section", "sections", multiple=True, help="Only these cases.")
@click.option(
    "--up", "up", is_flag=True, help="The words are a server and a command to run beside it."
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--jobs", type=click.IntRange(1, 100), default=JOBS, show_default=True)
@click.option("--slow", is_flag=True, help="Also cases that take minutes.")
@click.option("-v", "verbose", is_flag=True, help="Show what failed.")
def main(
    words: tuple[str, ...], docs: Path | None, kept: Path | None, sections: tuple[str, ...],
    up: bool, seed: int, jobs: int, slow: bool, verbose: bool,
) -> None:  # fmt: skip
    """Set servers up, each in a root and a network of its own, and measure them."""
    names = words[:1] if up else words or tuple(SERVERS)
    if unknown := [each for each in names if each not in SERVERS]:
        raise click.UsageError(f"no such server: {unknown[0]}; there are {', '.join(SERVERS)}")
    try:
        cases = chosen(all_cases(), sections, slow=slow)
    except NothingMatches as error:
        raise click.UsageError(str(error)) from None
    found: list[Record] = []
    published: list[Record] = []
    for name in names:
        setup = SERVERS[name]()
        why = setup.unavailable()
        if why is not None:
            click.echo(f"{name}: unavailable: {why}", err=True)
            sys.exit(3)
        with overlay.scratch("conform") as (place, _), networks.own():
            try:
                with setup.up(place) as ready:
                    if up:
                        sys.exit(_beside(ready, words[1:]))
                    found.append(measure(setup.name, ready, cases, seed=seed, jobs=jobs))
                    published.append(publishable(found[-1], ready.withheld, place))
            except (TargetError, Unreachable, NoTestbed) as error:
                click.echo(f"{name}: {error}", err=True)
                sys.exit(3)
        counts = ", ".join(f"{number} {what}" for what, number in found[-1].counts.items())
        click.echo(f"{name}: {counts} ({found[-1].seconds:.1f} s)", err=True)
        if verbose:
            _tell(found[-1].results)
    _write(found, kept)
    _publish(published, docs)


def measure(name: str, ready: Ready, cases: Sequence[Case], *, seed: int, jobs: int) -> Record:
    """All cases; those about what it sends from where it relays for us."""
    spared = list(_spared(cases, ready))
    left = {each.id for each in cases} - {each.case.id for each in spared}
    ours, strangers = replace(ready.relaying, seed=seed), replace(ready.given, seed=seed)

    def runs() -> Iterator[Run]:
        """What a stranger can't ask is asked once more by one whom it relays for."""
        first = [each for each in cases if each.role in STRANGERS and each.id in left]
        yield (asked := Run(given=strangers, cases=first, jobs=jobs))
        again = {each.case.id for each in asked.results if each.saw.startswith(LATER)}
        second = [
            each for each in cases if (each.role in OURS and each.id in left) or each.id in again
        ]
        yield Run(given=ours, cases=second, jobs=jobs)

    record = measured(
        name, runs(), spared=spared, version=ready.version, configuration=ready.configuration
    )
    return replace(record, results=tuple(_explained(each, ready) for each in record.results))


def _explained(result: Result, ready: Ready) -> Result:
    """With the reason why this server can't be given what the case needs."""
    option, _, rest = result.saw.partition(" ")
    if result.verdict is Verdict.UNAVAILABLE and rest == "was not given" and option in ready.lacks:
        return replace(result, saw=ready.lacks[option])
    return result


def _spared(cases: Sequence[Case], ready: Ready) -> Iterator[Result]:
    """What is not put to it."""
    for each in cases:
        for name, why in ready.spared.items():
            if each.id.startswith(name):
                yield Result(case=each, verdict=Verdict.UNAVAILABLE, saw=why)
                break


def _beside(ready: Ready, command: Sequence[str]) -> int:
    """A command in the server's network, with the options of `refmta-conform` in REFMTA_CONFORM: a
    stranger's; in REFMTA_CONFORM_RELAYING those of one whom it relays for.
    """
    words = {
        "REFMTA_CONFORM": shlex.join(as_words(replace(ready.given, names=""))),
        "REFMTA_CONFORM_RELAYING": shlex.join(as_words(ready.relaying)),
    }
    for name, value in words.items():
        click.echo(f"{name}={value}")
    environment = {**os.environ, **words}
    line, inherited = networks.command(*(command or ("sleep", "infinity")))
    return subprocess.run(line, env=environment, check=False, pass_fds=inherited).returncode  # noqa: S603


def _tell(results: Sequence[Result]) -> None:
    for each in results:
        if each.verdict in ("fail", "error", "non-strict"):
            got = f"{each.observed} {each.saw}".strip()
            told = f"  {each.verdict} {each.case.id}: {each.case.requirement}; got {got}"
            click.echo(told.encode("ascii", "backslashreplace").decode(), err=True)


def _write(found: Sequence[Record], kept: Path | None) -> None:
    if kept is None:
        return
    kept.mkdir(parents=True, exist_ok=True)
    for each in found:
        told = json.dumps(records.as_json(each), indent=1)
        (kept / f"{each.name.lower()}.json").write_text(told + "\n", encoding="utf-8")


def publishable(record: Record, withheld: tuple[str, ...], place: Path) -> Record:
    """Without what its authors should hear of first, and without the directory of this run."""

    def told(result: Result) -> Result:
        if result.case.id.startswith(withheld):
            return Result(case=result.case, verdict=Verdict.UNAVAILABLE, saw=WITHHELD)
        old, new = str(place).encode(), b"/srv"
        lines = (replace(each, octets=each.octets.replace(old, new)) for each in result.transcript)
        saw = result.saw.replace(str(place), "/srv")
        return replace(result, saw=saw, transcript=tuple(lines))

    return replace(record, results=tuple(map(told, record.results)))


def _publish(found: Sequence[Record], docs: Path | None) -> None:
    if docs is None:
        return
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "matrix.html").write_text(page.page(found), encoding="utf-8")
    (docs / "summary.md").write_text(summary.markdown(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
