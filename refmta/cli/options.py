"""What several commands share: options, and how a bad configuration is answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from refmta.architectures.configuration import ConfigurationError, Settings, load
from refmta.patterns.defense_in_depth import LAYERS

DEFAULT_CONFIGURATION = "/etc/refmta.toml"
EX_FINDING, EX_USAGE, EX_UNREACHABLE = 1, 2, 3

configuration_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIGURATION,
    show_default=True,
    envvar="REFMTA_CONFIG",
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
architecture_option = click.option(
    "--architecture", "name", default="refmta", show_default=True, help="Which composition to run."
)
allow_missing_option = click.option(
    "--allow-missing",
    "allowed",
    type=click.Choice(tuple(LAYERS)),
    multiple=True,
    help="Start without this layer of confinement if the machine lacks it; may be repeated.",
)


def settings_or_exit(path: Path) -> Settings:
    """The configuration, or its problems on standard error and exit 2."""
    try:
        return load(path)
    except ConfigurationError as error:
        fail(error)


def fail(error: ConfigurationError) -> NoReturn:
    """Say what is wrong, a line each, and exit 2."""
    for problem in error.problems:
        click.echo(problem, err=True)
    sys.exit(EX_USAGE)
