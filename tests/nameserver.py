"""A small name server for tests: answers from a table, over UDP and TCP, on a loopback port.

A zone is plain data: {(name, type): [record, ...]}, names with their last dot.  A name without any
row does not exist (NXDOMAIN); one with rows of other types has no data.  Instead of records a row
may hold "SERVFAIL", "REFUSED", "silence", "truncated" (over UDP only), or "garbage".  The answer to
a question whose name is an alias holds the whole chain, as a recursive resolver's does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

Zone = Mapping[tuple[str, str], Sequence[str] | str]


@dataclass(slots=True)
class NameServer:
    """asked: (name, type) of each question, in order."""

    zone: Zone
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; `nursery.start` returns "127.0.0.1:PORT"."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        with udp:
            await udp.bind(("127.0.0.1", port))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._converse, listeners)
                task_status.started(f"127.0.0.1:{port}")
                while True:
                    octets, address = await udp.recvfrom(4096)
                    answer = self.answer(octets, udp=True)
                    if answer is not None:
                        await udp.sendto(answer, address)

    async def _converse(self, stream: trio.SocketStream) -> None:
        octets = await stream.receive_some(4096)
        answer = self.answer(bytes(octets[2:]), udp=False)
        if answer is not None:
            await stream.send_all(len(answer).to_bytes(2, "big") + answer)

    def answer(self, octets: bytes, *, udp: bool) -> bytes | None:
        """The answer's octets; None for silence."""
        query = dns.message.from_wire(octets)
        (question,) = query.question
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        response = dns.message.make_response(query, recursion_available=True)
        rows = self._fill(response, name, kind)
        match rows:
            case "silence":
                return None
            case "garbage":
                return octets[:2] + b"\xff" * 20
            case "truncated" if udp:
                response.flags |= dns.flags.TC
            case "truncated":
                self._add(response, name, kind, self.zone[name, f"{kind} by TCP"])
            case str() as rcode:
                response.set_rcode(dns.rcode.from_text(rcode))
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> str:
        """The records into the response; what is special about it, or "NOERROR"."""
        for _ in range(20):
            rows = self.zone.get((name, kind))
            if isinstance(rows, str):
                return rows
            if rows is not None:
                self._add(response, name, kind, rows)
                return "NOERROR"
            alias = self.zone.get((name, "CNAME"))
            if alias is None:
                known = any(each == name for each, _ in self.zone)
                return "NOERROR" if known else "NXDOMAIN"
            self._add(response, name, "CNAME", alias)
            name = alias[0]
        return "NOERROR"

    def _add(
        self, response: dns.message.Message, name: str, kind: str, rows: Sequence[str]
    ) -> None:
        response.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *rows))
