"""refmta-spec: explore, enumerate, prove, and say what holds within which bounds; or judge a trace.

    refmta-spec [NAME ...]              check specs
    refmta-spec accept queue FILE       is what a live server has written a behaviour of the spec?
    refmta-spec matrix --target T:ARCH  start an architecture, and judge each pattern's claims on it
    refmta-spec claims [ID ...]         the claims of the paper: verdict, measurement, or pending
    refmta-spec evolve                  from the monolith on, one pattern at a time: what each does
    refmta-spec crash-table             what a crash may do to each commit protocol, by model

Exit codes: 0 everything holds, 1 a finding, 2 wrong usage or no such spec.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from rich.console import Console

from specs.claims.command import claims
from specs.evolution.command import evolve
from specs.kernel.accept import TraceError, accept, read_events
from specs.kernel.lives import Event
from specs.matrix.command import matrix
from specs.persistence.command import crash_table
from specs.queue.durable import SYSTEM_CALLS, match_syncs
from specs.queue.trace import QueueTrace
from specs.sections import run, subjects
from specs.show import as_json, show

#: Most refusals that are printed.
SHOWN = 20


class Specs(click.Group):
    """A group whose subcommand may be left out: then it is `check`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] not in (*([name] for name in self.commands), ["-h"], ["--help"]):
            args = ["check", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Specs, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Check executable specs (`refmta-spec [NAME ...]`), or judge a server's trace (`accept`)."""


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of text.")
@click.option(
    "--proof-seconds",
    type=click.IntRange(1, 3600),
    help="Seconds that CrossHair may take per condition; what it has not confirmed by then was"
    " searched, not proved.",
)
@click.option("--list", "only_list", is_flag=True, help="Say which specs there are.")
def check(
    names: tuple[str, ...], machine: bool, proof_seconds: int | None, only_list: bool
) -> None:
    """Check the executable specs called NAME, or all of them."""
    found = subjects()
    if only_list:
        click.echo("\n".join(found.names))
        return
    unknown = [name for name in names if name not in found.names]
    if unknown:
        click.echo(
            f"no such spec: {', '.join(unknown)} (there are: {', '.join(found.names)})", err=True
        )
        sys.exit(2)
    console, sections = Console(), []
    for section in run(found, names or found.names, proof_seconds):
        sections.append(section)
        if not machine:
            show(section, console)
    findings = sum(len(section.findings()) for section in sections)
    if machine:
        report = {"findings": findings, "specs": [as_json(section) for section in sections]}
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(f"{len(sections)} spec(s), {findings} finding(s)")
    sys.exit(1 if findings else 0)


@main.command("accept")
@click.argument("name", type=click.Choice(["queue"]))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--strace",
    "prefix",
    metavar="PREFIX",
    help="Match each durability event with the system calls in PREFIX.PID, as written by"
    f" `strace -ff -y -s 300 -e trace={SYSTEM_CALLS} -o PREFIX`.",
)
@click.option("--running", is_flag=True, help="The trace was cut off while the server worked.")
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of text.")
def judge(name: str, file: Path, prefix: str | None, running: bool, machine: bool) -> None:
    """Accept or refuse the trace in FILE (`refmta serve --trace FILE`) by the spec NAME."""
    try:
        with file.open(encoding="utf-8") as lines:
            events = read_events(lines)
        report, refusals = _judged(events, prefix, running)
    except (OSError, TraceError, UnicodeDecodeError) as error:
        click.echo(f"{file}: {error}", err=True)
        sys.exit(2)
    if machine:
        click.echo(json.dumps({"spec": name, **report, "refusals": refusals}, indent=2))
    else:
        _say(report, refusals)
    sys.exit(1 if refusals else 0)


def _judged(
    events: list[Event], prefix: str | None, running: bool
) -> tuple[dict[str, int], list[str]]:
    """What was judged, in numbers, and every refusal."""
    found = accept(QueueTrace(running=running), events)
    report = {"events": found.events, "messages": found.keys, "steps": found.steps}
    refusals = list(map(str, found.refusals))
    if prefix is not None:
        matching = match_syncs(events, lambda pid: _calls(Path(f"{prefix}.{pid}")))
        report["durable"] = matching.events
        refusals += map(str, matching.unproved)
    return report, refusals


def _calls(file: Path) -> Iterable[str] | None:
    return _lines(file) if file.exists() else None


def _lines(file: Path) -> Iterator[str]:
    """One at a time: such files are large."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        yield from lines


def _say(report: dict[str, int], refusals: list[str]) -> None:
    for refusal in refusals[:SHOWN]:
        click.echo(f"refused: {refusal}")
    if len(refusals) > SHOWN:
        click.echo(f"... and {len(refusals) - SHOWN} more")
    judged = f"{report['events']} events of {report['messages']} messages"
    if "durable" in report:
        judged += f", {report['durable']} durability events matched with system calls"
    click.echo(f"{judged}: {'refused' if refusals else 'accepted'}")


main.add_command(matrix)
main.add_command(claims)
main.add_command(evolve)
main.add_command(crash_table)

if __name__ == "__main__":
    main()
