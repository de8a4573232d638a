"""Asking the DNS where a destination's mail goes: `protocol.mx` decides, this file asks.

Rules a reader may rely on
- dnspython on trio's sockets: no thread, nothing of libc's resolver, no search list, no
  /etc/hosts.  Every name is asked for as it is.
- A look-up takes at most `Names.patience_s` seconds; what is not answered by then is `Trouble`.
- What an answer holds is data: names are bounded and checked (`protocol.mx`), addresses are
  parsed again, and errors are told in our words, never in the name server's.

dnspython follows aliases (with a limit to the chain), ignores answers of strangers, and repeats a
truncated answer's question over TCP.  It imports record types when it first meets them; they are
imported here, so that a jail without files changes nothing (it would silently return records that
it can't read).  For the same reason /etc/resolv.conf is read once, before that (`preload`): who
changes it restarts the server.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.OPT
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.resolver
import trio

from refmta.protocol import mx
from refmta.protocol.relaying import Hop, address_of

#: The largest answer over UDP that we offer to take (DNS flag day 2020).
UDP_OCTETS = 1232
#: Hosts of one level that are asked for at once.
HOSTS = 20
_match_server = re.compile(
    r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)|([0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*))"
    r"(?::([0-9]{1,5}))?\Z"
).match
_backend = dns.asyncbackend.get_backend("trio")
#: The machine's name servers, as the process found them before it was confined.
_machine: list[Any] = []


def preload() -> None:
    """Read /etc/resolv.conf while it can be seen.  A machine without one may still have the
    configuration name its servers.
    """
    with contextlib.suppress(dns.resolver.NoResolverConfiguration, OSError):
        _machine[:] = dns.asyncresolver.Resolver().nameservers


@dataclass(slots=True)
class Names:
    """Questions to name servers: those given (as "192.0.2.1", "192.0.2.1:53" or
    "[2001:db8::1]:53"), else those of the machine, as `preload` or /etc/resolv.conf has them.
    Raises ValueError for what is no name server, and dns.resolver.NoResolverConfiguration.
    """

    nameservers: Sequence[str] = ()
    patience_s: float = 10.0
    _resolver: dns.asyncresolver.Resolver = field(init=False)
    _without_edns: dns.asyncresolver.Resolver = field(init=False)

    def __post_init__(self) -> None:
        self._resolver, self._without_edns = self._made(), self._made()
        self._resolver.use_edns(0, 0, UDP_OCTETS)
        self._without_edns.use_edns(False)

    def _made(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=not (self.nameservers or _machine))
        if self.nameservers or _machine:
            given = [_nameserver(each) for each in self.nameservers]
            resolver.nameservers = given or list(_machine)
        resolver.lifetime = self.patience_s
        resolver.timeout = self.patience_s / 4  # of one try at one server
        return resolver

    async def exchangers(self, domain: str) -> mx.MxAnswer:
        """The MX records of a domain."""
        records = await self._ask(domain, dns.rdatatype.MX)
        if isinstance(records, mx.Absent | mx.Trouble):
            return records
        return tuple(
            mx.Exchanger(each.preference, _text(each.exchange)) for each in records[: mx.RECORDS]
        )

    async def addresses(self, host: str) -> mx.AddressAnswer:
        """The addresses of a host, or the one that a literal names."""
        literal = address_of(host)
        if literal is not None:
            return (str(literal),)
        answers: dict[dns.rdatatype.RdataType, Any] = {}

        async def ask(kind: dns.rdatatype.RdataType) -> None:
            answers[kind] = await self._ask(host, kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, dns.rdatatype.A)
            nursery.start_soon(ask, dns.rdatatype.AAAA)
        return _merged(answers[dns.rdatatype.A], answers[dns.rdatatype.AAAA])

    async def _ask(
        self, name: str, kind: dns.rdatatype.RdataType
    ) -> Sequence[Any] | mx.Absent | mx.Trouble:
        """The records of one kind."""
        try:
            question = dns.name.from_text(name, origin=dns.name.root)
            # dnspython measures its lifetime by the wall clock, which may jump.
            with trio.fail_after(self.patience_s):
                try:
                    answer = await self._put(question, kind, self._resolver)
                except dns.resolver.NoNameservers as error:
                    if not _refuses_edns(error):
                        raise
                    answer = await self._put(question, kind, self._without_edns)
            return list(answer)
        except dns.resolver.NXDOMAIN:
            return mx.Absent.NO_DOMAIN
        except dns.resolver.NoAnswer:
            return mx.Absent.NO_DATA
        except (dns.exception.Timeout, trio.TooSlowError):
            return mx.Trouble("no answer in time")
        except dns.resolver.NoNameservers:
            return mx.Trouble("the name servers failed")
        except (dns.exception.DNSException, OSError, ValueError, EOFError):
            return mx.Trouble("no usable answer")

    @staticmethod
    async def _put(
        question: dns.name.Name,
        kind: dns.rdatatype.RdataType,
        resolver: dns.asyncresolver.Resolver,
    ) -> dns.resolver.Answer:
        return await resolver.resolve(question, kind, search=False, backend=_backend)


def _refuses_edns(error: dns.resolver.NoNameservers) -> bool:
    """RFC 6891 section 7: who doesn't know EDNS says FORMERR, and is to be asked without."""
    return any(said[3] == "FORMERR" for said in error.kwargs["errors"])


def _nameserver(text: str) -> dns.nameserver.Do53Nameserver:
    """A name server as an operator writes it."""
    match = _match_server(text)
    if match is None:
        raise ValueError(f"{text!r}: not a name server")
    host, port = match[1] or match[2] or match[3], int(match[4] or 53)
    if not 0 < port < 65536:
        raise ValueError(f"{text!r}: no such port")
    return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host)), port)


def _text(name: dns.name.Name) -> str:
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True)


def _merged(*answers: Sequence[Any] | mx.Absent | mx.Trouble) -> mx.AddressAnswer:
    """Both families: some addresses are enough; a trouble leaves open whether there are any."""
    addresses = [
        _canonical(record.address)
        for records in answers
        if not isinstance(records, mx.Absent | mx.Trouble)
        for record in records[: mx.RECORDS]
    ]
    if addresses:
        return tuple(addresses)
    for answer in answers:
        if isinstance(answer, mx.Trouble):
            return answer
    return mx.Absent.NO_DOMAIN if mx.Absent.NO_DOMAIN in answers else mx.Absent.NO_DATA


def _canonical(text: str) -> str:
    """One spelling per address; ::ffff:192.0.2.1 leads to the IPv4 host."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


# -- a destination's hosts, one after the other ---------------------------------------------------


@dataclass(slots=True)
class Route:
    """The addresses to try for a destination, found out only as far as somebody asks."""

    hop: Hop
    port: int
    names: Names
    own: mx.Own
    _levels: mx.Levels | mx.Refusal | None = None
    _level: int = 0
    _candidates: list[mx.Candidate] = field(default_factory=list)
    _cut: bool = False
    _trouble: str = ""
    _asking: trio.Lock = field(default_factory=trio.Lock)

    async def candidate(self, number: int) -> mx.Candidate | None:
        """The address to try after `number` others were tried; None if there is none."""
        if number < len(self._candidates):
            return self._candidates[number]
        async with self._asking:  # several jobs may want to know the same
            return await self._find(number)

    async def _find(self, number: int) -> mx.Candidate | None:
        if self._levels is None:
            self._levels = await self._find_levels()
        while number >= len(self._candidates) and number < mx.ADDRESSES:
            if not await self._next_level():
                return None
        return self._candidates[number] if number < len(self._candidates) else None

    def refusal(self) -> mx.Refusal:
        """Why there was no candidate at all."""
        if isinstance(self._levels, mx.Refusal):
            return self._levels
        levels = self._levels or mx.Levels(hosts=())
        return mx.refusal(self.hop.host, levels, cut=self._cut, trouble=self._trouble)

    async def _find_levels(self) -> mx.Levels | mx.Refusal:
        if not self.hop.mx or address_of(self.hop.host) is not None:
            return mx.direct(self.hop)
        answer = await self.names.exchangers(self.hop.host)
        return mx.levels(self.hop.host, answer, self.own, self.port, _chances(mx.RECORDS))

    async def _next_level(self) -> bool:
        """Resolve one more level; False if there is none."""
        if not isinstance(self._levels, mx.Levels) or self._level >= len(self._levels.hosts):
            return False
        hosts = self._levels.hosts[self._level][:HOSTS]
        answers: dict[str, mx.AddressAnswer] = {}

        async def ask(host: str) -> None:
            answers[host] = await self.names.addresses(host)

        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(ask, host)
        limit = mx.ADDRESSES - len(self._candidates)
        found = mx.found(hosts, answers, self.own, self.port, limit, _chances(len(hosts)))
        self._level = len(self._levels.hosts) if found.cut else self._level + 1
        self._cut = self._cut or found.cut
        self._trouble = self._trouble or found.trouble
        self._candidates += found.candidates
        return True


def _chances(count: int) -> list[float]:
    return [random.random() for _ in range(count)]  # noqa: S311
