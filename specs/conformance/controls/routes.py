"""Where the control relay sends mail: RFC 5321 5.1, RFC 7505, and RFC 7672 2.1 of TLSA records.

All of it is asked of one name server, each time anew.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Final

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import trio

HOSTNAME: Final = "relay.control.example"
_NULL_MX: Final = "5.1.10"


class Never(Exception):
    """Fails for good: (status, what was said)."""

    def __init__(self, text: str, status: str = "5.0.0") -> None:
        self.text, self.status = text, status
        super().__init__(text)


class Later(Exception):
    """Fails for now."""


class Routes:
    """A relay's; each decision stands in a method of its own, which a fault may override."""

    hostname: ClassVar[str] = HOSTNAME

    def __init__(self) -> None:
        self.names: tuple[str, int] = ("127.0.0.1", 53)
        self.port = 25
        #: The host's name of an address; names whose answers were validated.
        self.named: dict[str, str] = {}
        self.validated: set[str] = set()

    async def hosts(self, domain: str) -> list[str]:
        """Addresses in order (RFC 5321 5.1).  Raises Never, Later."""
        domain, records = await self.lookup(domain, "MX")
        if not records:
            return await self.addresses(domain, need=True)
        rows = [(int(each.split()[0]), each.split()[1].rstrip(".")) for each in records]
        if self.null(rows):
            raise Never("takes no mail", _NULL_MX)
        ordered = self.ordered(rows)
        ordered = self.before_oneself(ordered)
        if not ordered:
            raise Never("that is me", "5.4.6")
        found: list[str] = []
        later = False
        for _, host in ordered:
            try:
                found += await self.addresses(host)
            except Later:
                later = True
        if not found and later:
            raise Later("no addresses now")
        if not found:
            raise Never("no addresses", "5.4.4")
        return found

    def null(self, rows: Sequence[tuple[int, str]]) -> bool:
        return any(not host for _, host in rows)

    def ordered(self, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        return sorted(random.sample(rows, len(rows)), key=lambda row: row[0])

    def before_oneself(self, rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
        own = min((row[0] for row in rows if row[1].lower() == self.hostname), default=1 << 16)
        return [row for row in rows if row[0] < own]

    async def addresses(self, host: str, *, need: bool = False) -> list[str]:
        """Of a name; none for one that does not exist, unless needed.  Raises Later, Never."""
        try:
            _, four = await self.lookup(host, "A")
            _, six = await self.lookup(host, "AAAA")
        except Never:
            if need:
                raise
            return []
        if need and not four + six:
            raise Never("no addresses", "5.1.2")
        self.named.update(dict.fromkeys(six + four, host))
        return six + four

    async def dane(self, host: str) -> list[str]:
        """TLSA records, if the host's name was validated.  Raises Later."""
        if host not in self.validated:
            return []
        try:
            _, records = await self.lookup(f"_{self.port}._tcp.{host}", "TLSA")
        except Never:
            return []
        return records

    async def lookup(self, name: str, kind: str) -> tuple[str, list[str]]:
        """(the name that aliases lead to, texts of the records).  Raises Never, Later."""
        query = dns.message.make_query(name, kind, flags=dns.flags.RD | dns.flags.AD)
        with trio.move_on_after(2.0), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
            await udp.connect(self.names)
            await udp.send(query.to_wire())
            try:
                answer = dns.message.from_wire(await udp.recv(65535))
            except (dns.exception.DNSException, OSError):
                raise Later("no answer of the name server") from None
            return self.understood(answer, name, kind)
        raise Later("no answer of the name server")

    def understood(
        self, answer: dns.message.Message, name: str, kind: str
    ) -> tuple[str, list[str]]:
        if answer.rcode() == dns.rcode.NXDOMAIN:
            raise Never("no such domain", "5.1.2")
        if answer.rcode() != dns.rcode.NOERROR:
            raise Later("the name server failed")
        if answer.flags & dns.flags.AD:
            self.validated.add(name)
        aliases = [s[0] for s in answer.answer if s.rdtype == dns.rdatatype.CNAME]
        if aliases:
            name = str(aliases[-1]).rstrip(".")
        wanted = dns.rdatatype.from_text(kind)
        return name, [str(each) for s in answer.answer if s.rdtype == wanted for each in s]
