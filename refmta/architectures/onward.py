"""What the configuration says of mail that leaves: its contradictions, and what it comes to.

A next hop that is this server would make mail run in a circle until its hops are counted out; a
domain both local and relayed would never be relayed.  Such a file is refused.  What can't be known
from the file (where the MX records of a domain lead) `remote` finds out when it gets there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence

from refmta.architectures.sections import Configuration, parse_endpoint, parse_listen
from refmta.protocol import relaying
from refmta.protocol.relaying import Hop, parse_hop, parse_network
from refmta.protocol.routing import LOCALHOST
from refmta.roles import resolve
from refmta.wire.address import is_domain

DNS_PORT = 53
LOOPBACK = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


def problems(configuration: Configuration) -> list[str]:
    """Contradictions in [relay] and [retry]; hostname, domains and listen are right already."""
    relay, retry, limits = configuration.relay, configuration.retry, configuration.limits
    found = [*_misread("relay.networks", relay.networks, parse_network)]
    found += _misread("relay.nameservers", relay.nameservers, nameserver)
    found += [
        f"relay.domains[{place}]: {problem}"
        for place, name in enumerate(relay.domains)
        if (problem := _not_elsewhere(name, configuration))
    ]
    for key, text in relay.next_hops.items():
        found += _next_hop_problems(f'relay.next_hops."{key}"', key, text, configuration)
    if relay.smarthost:
        found += _hop_problems("relay.smarthost", relay.smarthost, configuration)
    if retry.minimum_s > retry.maximum_s:
        found.append(f"retry.minimum_s: {retry.minimum_s} is more than retry.maximum_s")
    if retry.maximum_s >= limits.lifetime_s:
        found.append(f"retry.maximum_s: {retry.maximum_s} is not less than limits.lifetime_s")
    return found


def _misread(key: str, texts: tuple[str, ...], parse: Callable[[str], object]) -> Iterator[str]:
    for place, text in enumerate(texts):
        try:
            parse(text)
        except ValueError as error:
            yield f"{key}[{place}]: {error}"


def _not_elsewhere(name: str, configuration: Configuration) -> str:
    """Why a domain is none to which mail could leave; "" if it is one."""
    if not is_domain(name):
        return f"not a domain name: {name!r}"
    return f"{name} is ours: mail for it never leaves" if _is_ours(name, configuration) else ""


def _is_ours(name: str, configuration: Configuration) -> bool:
    ours = (configuration.hostname, LOCALHOST, *configuration.domains)
    return name.lower() in (each.lower() for each in ours)


def _next_hop_problems(where: str, key: str, text: str, configuration: Configuration) -> list[str]:
    if key == "*":
        return [f"{where}: for everything else there is relay.smarthost"]
    problem = _not_elsewhere(key, configuration)
    return [f"{where}: {problem}"] if problem else _hop_problems(where, text, configuration)


def _hop_problems(where: str, text: str, configuration: Configuration) -> list[str]:
    try:
        hop = parse_hop(text)
    except ValueError as error:
        return [f"{where}: {error}"]
    if leads_to_us(hop, configuration):
        return [f"{where}: {text!r} is this server; mail would run in a circle"]
    return []


def leads_to_us(hop: Hop, configuration: Configuration) -> bool:
    """Whether a next hop is this server, as far as the file knows.

    Another server may share our address or name at another port; but a domain of ours, looked up by
    its MX records, is us at any port.
    """
    if hop.mx and _is_ours(hop.host, configuration):
        return True
    port = hop.port or configuration.relay.port
    listening = [address for address, at in map(parse_listen, configuration.listen) if at == port]
    if hop.address is None:
        return bool(listening) and hop.host in (configuration.hostname.lower(), LOCALHOST)
    own = own_addresses(listening)
    return bool(own) and (hop.address in own or hop.address.is_unspecified)


def own_addresses(listening: list[str], machine: Sequence[str] = ()) -> set[relaying.Address]:
    """The addresses that a server has which listens there.

    machine: those of the machine, which a wildcard stands for (always for the loopback address).
    """
    own: set[relaying.Address] = set()
    every = [*LOOPBACK, *map(ipaddress.ip_address, machine)]
    for address in map(ipaddress.ip_address, listening):
        own.add(address)
        if address.is_unspecified:
            own.update(each for each in every if each.version == address.version)
    return own


def ourselves(configuration: Configuration, machine: Sequence[str] = ()) -> list[relaying.Address]:
    """All addresses that reach us, at one port or another, in a fixed order."""
    listening = [address for address, _ in map(parse_listen, configuration.listen)]
    return sorted(own_addresses(listening, machine), key=lambda each: (each.version, int(each)))


def own_ports(configuration: Configuration) -> tuple[int, ...]:
    """Where we listen."""
    return tuple(sorted({port for _, port in map(parse_listen, configuration.listen)}))


def nameserver(text: str) -> tuple[str, int]:
    """("address", port); the port may be left out.  Raises ValueError."""
    return parse_endpoint(text, port=DNS_PORT)


def relay_slice(configuration: Configuration) -> resolve.RelaySlice:
    """resolve's part of [relay]."""
    relay = configuration.relay
    return resolve.RelaySlice(
        networks=relay.networks,
        domains=relay.domains,
        next_hops=relay.next_hops,
        smarthost=relay.smarthost,
    )
