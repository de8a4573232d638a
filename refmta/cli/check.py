"""`refmta check`: what is wrong with a configuration, where; and, if nothing is, who may relay.

Relaying is told in full sentences because it is what an operator must not be mistaken about.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from refmta.architectures import launch
from refmta.architectures.configuration import ConfigurationError, Settings, routing_slice
from refmta.architectures.machine import fit
from refmta.architectures.sections import Configuration
from refmta.cli.options import (
    EX_FINDING,
    allow_missing_option,
    architecture_option,
    configuration_option,
    fail,
    json_option,
    settings_or_exit,
)
from refmta.protocol import routing
from refmta.protocol.relaying import Network, parse_network
from refmta.roles import resolve

#: Public networks wider than these are shown with a warning: /16 is what large sites have had of
#: IPv4, /32 what a provider gets of IPv6 (the widest that may be configured: `relaying.WIDEST`).
WIDE = {4: 16, 6: 32}


@click.command()
@configuration_option
@architecture_option
@allow_missing_option
@json_option
def check(path: Path, name: str, allowed: tuple[str, ...], as_json: bool) -> None:
    """Read the configuration and say what is wrong, and where; and who may relay.

    Exit 2: the file is wrong.  Exit 1: the file is right, the machine is not.
    """
    settings = settings_or_exit(path)
    problems, missing = _fitting(settings, name, allowed)
    relay = relaying(settings.configuration)
    if as_json:
        found = {
            "file": str(settings.path),
            "problems": problems,
            "relay": relay,
            "missing": missing,
        }
        click.echo(json.dumps(found))
    else:
        for problem in problems:
            click.echo(f"{settings.path}: {problem}", err=True)
        if not problems:
            click.echo(f"{settings.path}: fine")
        for layer, reason in missing.items():
            click.echo(f"missing: {layer}: {reason}")
        for line in sentences(relay):
            click.echo(line)
    sys.exit(EX_FINDING if problems else 0)


def _fitting(
    settings: Settings, name: str, allowed: tuple[str, ...]
) -> tuple[list[str], dict[str, str]]:
    """What is wrong with the machine, for this architecture; and the layers that will be missing.
    Ends the process for an architecture that there is not, or that is not sound.
    """
    try:
        fitting = fit(launch.architecture(name), allowed, uid=settings.configuration.first_uid)
    except ConfigurationError as error:
        fail(error)
    return [*launch.machine_problems(settings), *fitting.problems], fitting.missing


def relaying(configuration: Configuration) -> dict[str, Any]:
    """Who may send to other hosts, which way, and what leaves by aliases."""
    table = resolve.table(routing_slice(configuration))
    rules, networks = table.relaying, table.relaying.networks
    return {
        "networks": [str(each) for each in networks],
        "wide": [str(each) for each in networks if is_wide(each)],
        "domains": sorted(rules.domains),
        "next_hops": dict(rules.next_hops),
        "smarthost": rules.smarthost,
        "aliases": [{"key": key, "address": address} for key, address in routing.leaving(table)],
    }


def is_wide(network: Network) -> bool:
    """Whether a network is public and so wide that it is rarely one's own."""
    return network.prefixlen < WIDE[network.version] and not network.is_private


def sentences(relay: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    networks, domains = ", ".join(relay["networks"]), ", ".join(relay["domains"])
    clients = f"clients in {networks} may" if networks else "no client may"
    yield f"relaying: {clients} send to other hosts"
    if domains:
        yield f"relaying: everybody may send to {domains}"
    for each in relay["wide"]:
        count = parse_network(each).num_addresses
        yield f"warning: relay.networks: {each} is wide: {count} addresses may send through you"
    for domain, hop in relay["next_hops"].items():
        yield f"next hop: {domain} by {hop}"
    yield f"next hop: everything else by {relay['smarthost'] or 'its MX records'}"
    for row in relay["aliases"]:
        yield f"leaves: {row['key']} to {row['address']}"
