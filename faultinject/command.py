"""refmta-fault: inject faults into a mail server, and count.

Exit codes: 0 nothing was found, 1 a finding, 2 wrong usage or no such target, 3 the target does not
start or can't run here.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import trio

from faultinject import networks, overlay, show, target
from faultinject.campaign.command import campaign, replay, report
from faultinject.crash.command import crash
from faultinject.disk.command import disk
from faultinject.kill.command import kill
from faultinject.network.command import network
from faultinject.peers.command import provision, targets
from faultinject.power.command import power
from faultinject.storm import Plan, Storm
from faultinject.target import TargetError
from faultinject.telling import (
    EX_FINDING,
    EX_UNAVAILABLE,
    EX_USAGE,
    Commands,
    available,
    check_outputs,
    fail,
    say,
    tell,
)

#: Each role is hit once in so many seconds, unless --hits says otherwise.
SECONDS_PER_HIT = 6


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Inject faults into a mail server, and count what became of the mail."""


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
    check_outputs(report)
    chosen = available(name)
    plan = Plan(
        messages=messages, seconds=seconds, clients=clients, drain_s=drain_s,
        seed=secrets.randbelow(1 << 31) if seed is None else seed,
        hits=int(seconds // SECONDS_PER_HIT) if hits is None else hits,
    )  # fmt: skip
    with _place(directory, keep=keep) as place:
        try:
            with networks.around(chosen):
                result = trio.run(Storm(chosen, plan, place, say).run)
        except TargetError as error:
            fail(EX_UNAVAILABLE, f"{name}: {error}")
    known = target.known(chosen, "storm")
    tell(show.as_json(result, known), report, lambda console: show.show(result, known, console))
    sys.exit(EX_FINDING if show.unknown(result, known) else 0)


@contextmanager
def _place(directory: Path | None, *, keep: bool) -> Iterator[Path]:
    """Where a storm is.  One that nobody wants to see goes, and if the harness is killed, it is
    found and removed by the next start.
    """
    if directory is None and not keep:
        with overlay.scratch("storm") as (place, _):
            below = place / "storm"
            below.mkdir(mode=0o711)
            yield below
        return
    try:
        kept = directory or Path(tempfile.mkdtemp(prefix="refmta-storm-kept-", dir="/var/tmp"))
        kept.mkdir(parents=True, exist_ok=directory is None)
    except OSError as error:
        fail(EX_USAGE, f"{error.filename}: {error.strerror}")
    yield kept.absolute()
    say(f"kept: {kept}")


for each in (kill, crash, power, disk, network, campaign, replay, report, targets, provision):
    main.add_command(each)

if __name__ == "__main__":
    main()
