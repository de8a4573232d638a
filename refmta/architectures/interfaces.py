"""The addresses of this machine, for a server that listens on all of them.

Linux tells them without a library: /proc/net/fib_trie holds the IPv4 ones ("|-- ADDRESS" and below
it "/32 host LOCAL"), /proc/net/if_inet6 the IPv6 ones.  What the machine gets later is not known:
a server that must know such an address names it in `listen`.  Without /proc there are none.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path

NET = Path("/proc/net")
_local = re.compile(r"\|-- ([0-9.]+)\n\s*/32 host LOCAL$", re.MULTILINE)


def machine_addresses(net: Path = NET) -> tuple[str, ...]:
    """All of them, in a fixed order, link-local ones left out (they need an interface)."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        found.update(_local.findall((net / "fib_trie").read_text()))
    with contextlib.suppress(OSError):
        lines = (net / "if_inet6").read_text().splitlines()
        found.update(str(ipaddress.IPv6Address(int(line[:32], 16))) for line in lines)
    addresses = [each for each in map(ipaddress.ip_address, found) if not each.is_link_local]
    return tuple(map(str, sorted(addresses, key=lambda each: (each.version, int(each)))))
