"""Relaying: who may send where, and by which next hop.

Rules a reader may rely on
- Pure: networks and names are data; the client's address is an argument.
- Nobody relays by default.  A client may send to any domain only if its address lies in one of
  `networks`; to a domain of `domains` anybody may (we are its backup).  What can't be read as an
  address lies in no network.  The name that a client calls itself, its sender address and its
  reverse DNS never count: whoever wants to relay can choose them.
- Names are compared whole: "example.net" is not "sub.example.net".
- A destination is the row of `next_hops`, else the smarthost, else the domain itself.  The same
  destination always has the same spelling, so that its connections and its failures are counted
  together.

A destination as a text (who connects reads it again):

    example.net            MX records of example.net
    example.net:2525       the same, at that port
    [relay.example.net]    that host; no MX look-up.  Likewise [192.0.2.1] and [IPv6:2001:db8::1]
    [192.0.2.1]:2525       the same, at that port

What is tricky
- An address literal has many spellings ("[192.000.002.001]", "[IPv6:0:0::1]").  Two spellings of
  our own address must not be two hosts, or mail would leave for us: `literal` has one per address.
- An IPv4 client of a socket for both families looks like ::ffff:192.0.2.1.  It is the IPv4 address.
- A network with host bits set (192.0.2.1/24) is refused rather than rounded: one of both is a slip.
- A network that holds a large part of the internet makes an open relay, which soon is on every
  block list (RFC 2505 section 2.1).  It is refused, whoever asks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from refmta.wire.address import is_address_literal, is_domain

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Wider networks are refused, but for these two.  10.0.0.0/8 is the widest private one of IPv4
#: (RFC 1918 section 3); providers get /19 to /32 of IPv6.
WIDEST: Final = {4: 8, 6: 16}
PRIVATE: Final = (ipaddress.IPv6Network("fc00::/7"), ipaddress.IPv6Network("fe80::/10"))
MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")

_hop = re.compile(r"(?:\[([^\[\]]{1,255})\]|([^\[\]:]{1,255}))(?::([0-9]{1,5}))?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """Who may relay, and by which next hop.  Names lower-cased; hops as `parse_hop` spells them.

    networks: whose clients may send anywhere.  domains: for which we take mail from anybody.
    next_hops: domain to destination.  smarthost: the destination of all others, "" for none.
    """

    networks: tuple[Network, ...] = ()
    domains: frozenset[str] = frozenset()
    next_hops: Mapping[str, str] = field(default_factory=dict)
    smarthost: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A next hop.  host: a lower-cased name, or a canonical literal with its brackets.

    mx: whether its MX records are looked up.  port: None for the usual one.
    """

    host: str
    mx: bool
    port: int | None = None

    @property
    def address(self) -> Address | None:
        """The address that it names, if it is a literal."""
        return address_of(self.host)

    def __str__(self) -> str:
        """The destination: one spelling per hop."""
        host = self.host if self.mx or self.host.startswith("[") else f"[{self.host}]"
        return host if self.port is None else f"{host}:{self.port}"


def may_relay(relaying: Relaying, domain: str, client: str) -> bool:
    """May this client (an IP address) send to this lower-cased domain, which is not ours?"""
    return domain in relaying.domains or _trusted(relaying, client)


def _trusted(relaying: Relaying, client: str) -> bool:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in relaying.networks)


def destination(relaying: Relaying, domain: str) -> str | None:
    """Where mail for a lower-cased domain or a literal goes that is not ours; None for nowhere.

    A literal of another kind than IPv4 and IPv6 (RFC 5321 section 4.1.3) is nowhere.
    """
    name = literal(domain) if domain.startswith("[") else domain
    if name is None:
        return None
    return relaying.next_hops.get(name) or relaying.smarthost or name


# -- spellings ------------------------------------------------------------------------------------


def literal(text: str) -> str | None:
    """The one spelling of an address literal, brackets included; None if it names no address."""
    address = address_of(text)
    return None if address is None else spell(address)


def spell(address: Address) -> str:
    """An address as a literal (RFC 5321 section 4.1.3)."""
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def address_of(text: str) -> Address | None:
    """The address that a literal names.

    "[IPv6:::ffff:192.0.2.1]" is the IPv4 address: a connection to it goes there.
    """
    if not is_address_literal(text):
        return None
    inner = text[1:-1]
    if inner[:5].lower() == "ipv6:":
        address = ipaddress.IPv6Address(inner[5:])
        return address.ipv4_mapped or address
    if ":" in inner:
        return None
    # Snum may have leading zeros, and is decimal all the same.
    return ipaddress.IPv4Address(bytes(int(part) for part in inner.split(".")))


def parse_hop(text: str) -> Hop:
    """A next hop as operators write it: `[::1]:25` is good for `[IPv6:::1]:25`.  ValueError."""
    match = _hop.match(text)
    if match is None:
        raise ValueError(f'{text!r}: should look like "example.net", "[host]:25", "[192.0.2.1]:25"')
    bracketed, name, digits = match.groups()
    port = int(digits) if digits else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text!r}: no such port")
    if name is not None:
        return Hop(host=_name(name, text), mx=True, port=port)
    tag = "" if bracketed[:5].lower() == "ipv6:" or ":" not in bracketed else "IPv6:"
    host = literal(f"[{tag}{bracketed}]") or _name(bracketed, text)
    return Hop(host=host, mx=False, port=port)


def _name(text: str, whole: str) -> str:
    if not is_domain(text):
        raise ValueError(f"{whole!r}: not a host: {text!r}")
    if text.replace(".", "").isdigit():
        raise ValueError(f"{whole!r}: an address stands in brackets: [{text}]")
    return text.lower()


def parse_network(text: str) -> Network:
    """A network, or one address.  Raises ValueError, also for one that is far too wide."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'{text!r}: should look like "192.0.2.0/24" or "2001:db8::/32"') from None
    if "%" in text:
        raise ValueError(f"{text!r}: no interface may be named here")
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r}: bits are set behind the prefix; did you mean {network}?")
    if network.prefixlen < WIDEST[network.version] and network not in PRIVATE:
        raise ValueError(f"{text!r}: so much of the internet makes an open relay; name your own")
    if network.version == 6 and network.overlaps(MAPPED):
        raise ValueError(f"{text!r}: IPv4 addresses are to be written as such")
    return network
