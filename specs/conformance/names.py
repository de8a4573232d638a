"""A scripted name server, which all relayed cases of a run share: UDP and TCP on one address.

    names.add("x.hop.example", "MX", "10 mx.x.hop.example.")
    names.fail("x.hop.example", "SERVFAIL")          # every type; or ("MX",) alone
    names.asked("x.hop.example")                     # what was asked about it, so far

Rules a reader may rely on
- It answers as the resolver of a machine does: recursion is available, a CNAME is followed as far
  as it knows.  A name above one that it knows exists, and has nothing (RFC 8020: else whoever
  trusts an NXDOMAIN would ask for nothing below it).  Whatever else is asked for does not exist.
- Nobody need keep an answer for longer than a second.
- `answer` is pure but for the record of what was asked.  What is no question is dropped.
- A mistake of ours is answered with silence, and kept (`broken`): it is the error of the case whose
  name was asked for, not the end of the run.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import trio

TTL_S: Final = 1
#: Of a chain of CNAMEs.
LONGEST_CHAIN: Final = 8
#: What a name can be made to answer instead; "silence" is no answer at all.
FAILURES: Final = frozenset({"SERVFAIL", "REFUSED", "NXDOMAIN", "silence"})
#: Octets over UDP for who asks without EDNS (RFC 1035 4.2.1); questions at most.
PLAIN_OCTETS, QUESTION_OCTETS = 512, 65535
_LENGTH: Final = struct.Struct("!H")
_SOA: Final = "ns.hop.example. hostmaster.hop.example. 1 3600 600 86400 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """name: in lower case, without the last dot.  at_s: on trio's clock."""

    name: str
    type: str
    at_s: float
    over: str = "UDP"


@dataclass(slots=True)
class Names:
    """What there is.  Names may be written with a last dot, and in any case."""

    records: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    #: Domains that are over, with all below them, and where mail that is left goes.
    retired: dict[str, str] = field(default_factory=dict)
    #: Domains whose answers say that they were validated (AD), to whoever asks for that.
    secure: set[str] = field(default_factory=set)
    questions: list[Question] = field(default_factory=list)
    _mistakes: list[tuple[str, str]] = field(default_factory=list)
    _above: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, kind: str, *texts: str) -> None:
        """Records of a type, in the zone file's form (names in it end in a dot).

        Raises ValueError, dns.exception.DNSException for what is no such record.
        """
        _records(dns.name.root, kind, texts)
        rows = self.records.setdefault(self._known(name), {})
        rows.setdefault(kind, []).extend(texts)

    def fail(self, name: str, how: str, kinds: Iterable[str] = ("*",)) -> None:
        """What it answers for these types, or for all.  Raises ValueError."""
        if how not in FAILURES:
            raise ValueError(f"{how}: not among {', '.join(sorted(FAILURES))}")
        known = self._known(name)
        for each in kinds:
            self.failures[known, each] = how

    def mend(self, name: str) -> None:
        """It answers again."""
        for key in [each for each in self.failures if each[0] == _plain(name)]:
            del self.failures[key]

    def retire(self, domain: str, host: str) -> None:
        """Forget a domain and all below it; its mail goes to that host from now on."""
        top = _plain(domain)
        self.secure = {each for each in self.secure if not _within(each, top)}
        for name in [each for each in self.records if _within(each, top)]:
            del self.records[name]
        for key in [each for each in self.failures if _within(each[0], top)]:
            del self.failures[key]
        self.retired[top] = host

    def asked(self, name: str, kind: str = "") -> list[Question]:
        """Questions about that name, of that type if one is said."""
        plain = _plain(name)
        return [
            each for each in self.questions if each.name == plain and kind in ("", each.type)
        ]  # fmt: skip

    def broken(self, domain: str) -> list[str]:
        """Mistakes in answers about a domain and all below it."""
        return [text for name, text in self._mistakes if _within(name, _plain(domain))]

    def _known(self, name: str) -> str:
        plain = _plain(name)
        if plain not in self.records:
            self.records.setdefault(plain, {})
            above = plain
            while "." in above:
                above = above.partition(".")[2]
                self._above[above] += 1
        return plain

    # -- answers ----------------------------------------------------------------------------------

    def answer(self, octets: bytes, *, over: str = "UDP", now_s: float = 0.0) -> bytes | None:
        """Of one question; None if nothing is answered."""
        try:
            query = dns.message.from_wire(octets)
        except (dns.exception.DNSException, ValueError):
            return None
        if query.flags & dns.flags.QR or len(query.question) != 1:
            return None
        asked = query.question[0]
        name, kind = _plain(asked.name.to_text()), dns.rdatatype.to_text(asked.rdtype)
        self.questions.append(Question(name=name, type=kind, at_s=now_s, over=over))
        try:
            return self._answered(query, name, kind, over)
        except Exception as error:  # of records that a case has made
            self._mistakes.append((name, f"our name server, asked for {name} {kind}: {error!r}"))
            return None

    def _answered(
        self, query: dns.message.Message, name: str, kind: str, over: str
    ) -> bytes | None:
        response = dns.message.make_response(query, recursion_available=True)
        if self._fill(response, query.question[0].name, name, kind) == "silence":
            return None
        asks = query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO
        if asks and any(_within(name, each) for each in self.secure):
            response.flags |= dns.flags.AD
        return _wire(response, query, over)

    def _fill(
        self, response: dns.message.Message, owner: dns.name.Name, name: str, kind: str
    ) -> str:
        """The answer's sections; "silence" if there is to be none."""
        for _ in range(LONGEST_CHAIN):
            how = self.failures.get((name, kind)) or self.failures.get((name, "*")) or ""
            if how == "silence":
                return how
            if how:
                response.set_rcode(dns.rcode.from_text(how))
                break
            rows = self._rows(name)
            if rows is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            if kind in rows:
                response.answer.append(_records(owner, kind, rows[kind]))
                return ""
            if "CNAME" not in rows:
                break
            response.answer.append(_records(owner, "CNAME", rows["CNAME"][:1]))
            name, owner = _plain(rows["CNAME"][0]), dns.name.from_text(rows["CNAME"][0])
        if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            zone = dns.name.from_text("hop.example" if _within(name, "hop.example") else ".")
            response.authority.append(_records(zone, "SOA", [_SOA]))
        return ""

    def _rows(self, name: str) -> dict[str, list[str]] | None:
        """By type; None if the name does not exist."""
        for domain, host in self.retired.items():
            if _within(name, domain):
                return {"MX": [f"10 {host}."]}
        if name in self.records:
            return self.records[name]
        return {} if self._above.get(name) or not name else None


def _records(owner: dns.name.Name, kind: str, texts: Iterable[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(owner, TTL_S, dns.rdataclass.IN, kind, [*texts])


def _wire(response: dns.message.Message, query: dns.message.Message, over: str) -> bytes:
    if over == "TCP":
        return response.to_wire(max_size=QUESTION_OCTETS)
    room = max(PLAIN_OCTETS, query.payload) if query.edns >= 0 else PLAIN_OCTETS
    try:
        return response.to_wire(max_size=room)
    except dns.exception.TooBig:
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


def _within(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


# -- the server -----------------------------------------------------------------------------------


def place(text: str) -> tuple[str, int]:
    """ "IP", "IP:PORT" or "[IPv6]:PORT".  Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or (":" in host and not host.startswith("[")):  # a lone address, of either kind
        host, port = text, "53"
    host = host.strip("[]")
    ipaddress.ip_address(host)
    return host, port_of(port)


def port_of(text: str) -> int:
    """0 is any that is free.  Raises ValueError."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise ValueError(f"{text}: no port")
    return int(text)


async def serve(
    names: Names, address: tuple[str, int], *, task_status: trio.TaskStatus[None]
) -> None:
    """Until it is cancelled.  Raises OSError if the address can't be had."""
    family = trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as udp:
        await udp.bind(address)
        listeners = await trio.open_tcp_listeners(address[1], host=address[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_over_udp, names, udp)
            nursery.start_soon(trio.serve_listeners, lambda each: _over_tcp(names, each), listeners)
            task_status.started()


async def _over_udp(names: Names, udp: trio.socket.SocketType) -> None:
    while True:
        with suppress(OSError):  # an answer that nobody wants any more
            octets, who = await udp.recvfrom(QUESTION_OCTETS)
            reply = names.answer(octets, now_s=trio.current_time())
            if reply is not None:
                await udp.sendto(reply, who)


async def _over_tcp(names: Names, stream: trio.SocketStream) -> None:
    buffer = b""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with stream:
            async for octets in stream:
                buffer += octets
                while len(buffer) >= 2 and len(buffer) >= 2 + _LENGTH.unpack(buffer[:2])[0]:
                    end = 2 + _LENGTH.unpack(buffer[:2])[0]
                    question, buffer = buffer[2:end], buffer[end:]
                    reply = names.answer(question, over="TCP", now_s=trio.current_time())
                    if reply is not None:
                        await stream.send_all(_LENGTH.pack(len(reply)) + reply)
