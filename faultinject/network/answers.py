"""From a question to the octets that answer it: pure, on dnspython's messages.

Rules a reader may rely on
- What is said follows from the rows, the question, and how often it was asked: no clock, no chance.
- A forged answer differs from a true one in what its name says, and in its records.
- Over UDP nothing is longer than the client said it takes (RFC 6891 6.2.3; 512 octets without).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from faultinject.network.name_rows import Reply, Row

TTL_S: Final = 0
UDP_OCTETS: Final = 512
FORGED: Final = frozenset({"wrong-id", "wrong-question", "no-response", "stranger"})
GARBAGE: Final = bytes(range(40, 100))


@dataclass(frozen=True, slots=True)
class Datagram:
    """octets: b"" is an empty one.  stranger: it comes from another port."""

    octets: bytes
    stranger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question, in lower case; kind: "MX"."""

    name: str
    kind: str


def asked(query: dns.message.Message) -> Asked:
    """Raises ValueError if it is no single question."""
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        raise ValueError("not one question")
    (question,) = query.question
    name = question.name.to_text(omit_final_dot=True).lower()
    return Asked(name=name, kind=dns.rdatatype.to_text(question.rdtype))


def reply_for(rows: Mapping[str, tuple[Reply, ...]], kind: str, label: str, turn: int) -> Reply:
    """The most specific line, at that turn (from 0).  Raises KeyError."""
    for question in (f"{kind} {label}", f"* {label}", f"{kind} *", "* *"):
        if question in rows:
            replies = rows[question]
            return replies[min(turn, len(replies) - 1)]
    raise KeyError(f"{kind} {label}")


def lines(row: Row, truth: Mapping[str, tuple[Reply, ...]]) -> dict[str, tuple[Reply, ...]]:
    """A row on top of the truth: its "* LABEL" hides what is true of that label."""
    hidden = {question.partition(" ")[2] for question in row.replies if question.startswith("* ")}
    kept = {
        question: replies
        for question, replies in truth.items()
        if question.partition(" ")[2] not in hidden - {"*"}
    }
    return {**kept, **row.replies}


def datagrams(
    query: dns.message.Message, reply: Reply, places: Mapping[str, str]
) -> Iterator[Datagram]:
    """What is sent over UDP, in order.  places: for the braces in records."""
    true = _built(query, reply.records, reply, places)
    way = reply.way.removeprefix("only-")
    if way in FORGED:
        yield _forged(query, reply, places, way)
        if way != reply.way:
            return
    match reply.way:
        case "silence":
            return
        case "garbage":
            yield Datagram(GARBAGE)
        case "empty":
            yield Datagram(b"")
        case "half":
            octets = true.to_wire()
            yield Datagram(octets[: len(octets) // 2])
        case "cut" | "cut-and-closed" | "cut-and-silent":
            yield Datagram(_cut(query))
        case "no-edns" if query.edns >= 0:
            refusal = dns.message.make_response(query)
            refusal.use_edns(False)
            refusal.set_rcode(dns.rcode.FORMERR)
            yield Datagram(refusal.to_wire())
        case _:
            if reply.way == "garbage-first":
                yield Datagram(GARBAGE)
            octets = true.to_wire(max_size=65535)
            limit = max(UDP_OCTETS, query.payload if query.edns >= 0 else 0)
            yield Datagram(octets if len(octets) <= limit else _cut(query))


def segment(query: dns.message.Message, reply: Reply, places: Mapping[str, str]) -> bytes | None:
    """What is sent over TCP, without its length; None: nothing, and b"": the connection ends."""
    match reply.way:
        case "silence" | "cut-and-silent":
            return None
        case "cut-and-closed":
            return b""
        case _:
            return _built(query, reply.records, reply, places).to_wire(max_size=65535)


def _cut(query: dns.message.Message) -> bytes:
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.TC | dns.flags.RA
    return answer.to_wire()


def _forged(
    query: dns.message.Message, reply: Reply, places: Mapping[str, str], way: str
) -> Datagram:
    answer = _built(query, reply.forged, reply, places)
    if way == "wrong-id":
        answer.id ^= 0x5555
    elif way == "no-response":
        answer.flags &= ~dns.flags.QR
    elif way == "wrong-question":
        (question,) = query.question
        other = dns.name.from_text("other", question.name)
        answer.question = [dns.rrset.RRset(other, question.rdclass, question.rdtype)]
    return Datagram(answer.to_wire(), stranger=way == "stranger")


def _built(
    query: dns.message.Message, records: tuple[str, ...], reply: Reply, places: Mapping[str, str]
) -> dns.message.Message:
    answer = dns.message.make_response(query, recursion_available=True)
    if query.edns >= 0 and reply.way == "no-edns":
        answer.use_edns(False)
    answer.set_rcode(dns.rcode.from_text(reply.code))
    for record in records:
        text = record.format_map(places)
        owner, kind, data = text.split(None, 2)
        name = query.question[0].name if owner == "@" else dns.name.from_text(owner)
        rrset = answer.find_rrset(
            answer.answer, name, dns.rdataclass.IN, dns.rdatatype.from_text(kind), create=True
        )
        for rdata in dns.rrset.from_text(name, TTL_S, "IN", kind, data):
            rrset.add(rdata, TTL_S)
    if not records and reply.authority and reply.code in ("NOERROR", "NXDOMAIN"):
        zone = dns.name.from_text(places["d"])
        soa = f"ns.{places['d']}. root.{places['d']}. 1 60 60 60 0"
        answer.authority.append(dns.rrset.from_text(zone, TTL_S, "IN", "SOA", soa))
    return answer
