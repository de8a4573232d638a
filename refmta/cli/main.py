"""`refmta`: the command line.

Exit codes: 0 fine, 1 a finding, 2 wrong usage or configuration, 3 the server can't be reached.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from refmta.architectures import launch
from refmta.architectures.configuration import ConfigurationError
from refmta.cli.options import (
    allow_missing_option,
    architecture_option,
    configuration_option,
    fail,
    settings_or_exit,
)

#: Commands whose modules are imported only when they are called.
LATER = {
    "architectures": "refmta.cli.architectures",
    "check": "refmta.cli.check",
    "demo": "refmta.cli.demo",
    "init": "refmta.cli.init",
    "ps": "refmta.cli.ps",
    "queue": "refmta.cli.queue",
}


class Commands(click.Group):
    """A group that imports a command's module when it is needed: daemons start faster."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LATER:
            command: click.Command = getattr(importlib.import_module(LATER[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refmta")
def main() -> None:
    """A reference Mail Transfer Agent: every claim is paired with an executable spec."""


@main.command()
@configuration_option
@architecture_option
@allow_missing_option
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Append each step of each message to this file, for `refmta-spec accept`.",
)
def serve(path: Path, name: str, allowed: tuple[str, ...], trace: Path | None) -> None:
    """Run the mail server in the foreground.  SIGTERM finishes what is begun, then stops."""
    settings = settings_or_exit(path)
    try:
        prepared = launch.prepare(settings, launch.settle(name, allowed, settings), trace)
    except ConfigurationError as error:
        fail(error)
    prepared.turn_into_spawner()


if __name__ == "__main__":
    main()
