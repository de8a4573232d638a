"""A client, as it is counted: by what one holder of addresses can't have many of."""

from __future__ import annotations

import ipaddress


def network(client: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64 network.

    RFC 6177 2: an end site gets at least a /64, so that all addresses in one are the same client's.
    """
    if ":" not in client:
        return client
    return str(ipaddress.IPv6Network((client.partition("%")[0], 64), strict=False))
