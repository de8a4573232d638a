"""refmta-spec: explore, enumerate, prove, and say what holds within which bounds.

Exit codes: 0 everything holds, 1 a finding, 2 wrong usage or no such spec.
"""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console

from specs.sections import run, subjects
from specs.show import as_json, show


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME ...]")
@click.option("--json", "machine", is_flag=True, help="One JSON object instead of text.")
@click.option(
    "--proof-seconds",
    type=click.IntRange(1, 3600),
    help="Seconds that CrossHair may take per condition; what it has not confirmed by then was"
    " searched, not proved.",
)
@click.option("--list", "only_list", is_flag=True, help="Say which specs there are.")
def main(names: tuple[str, ...], machine: bool, proof_seconds: int | None, only_list: bool) -> None:
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


if __name__ == "__main__":
    main()
