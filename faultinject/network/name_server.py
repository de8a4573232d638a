"""A DNS server of ours: over UDP and TCP, for the domains of a trial, and it may fail and lie.

Rules a reader may rely on
- A domain that has a row (`name_rows`) is answered by it, until `mend`; then by the truth.  Any
  other name does not exist, but for those given as hosts.
- Every question is counted, by the domain and by what was asked: that is its record.
- What is no question is dropped, and counted: nothing that comes ends the server.
- Answers may be cached by nobody (TTL 0).

It asks nobody, and serves the network that its thread is in (`faultinject.networks`).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import dns.exception
import dns.message
import dns.rdatatype
import trio

from faultinject.network import answers
from faultinject.network.answers import Asked
from faultinject.network.name_rows import NOTHING, TRUTH, Reply, Row

#: A port that is free for UDP may be taken for TCP.
TRIES: Final = 20
LONGEST: Final = 65535
#: A TCP client that says nothing more, in seconds.
IDLE_S: Final = 30.0
#: For names of no domain that it has.
STRANGE: Final = Reply(code="NXDOMAIN", authority=False)
_LENGTH: Final = struct.Struct("!H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """places: for the braces in a row's records, beside {d}."""

    row: Row
    places: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class NameServer:
    """domains: by name.  hosts: names -> address.  asked: (domain, "TYPE LABEL") -> how often."""

    domains: Mapping[str, Domain]
    hosts: Mapping[str, str] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    dropped: int = 0
    mended: bool = False

    def mend(self) -> None:
        """From now on it answers, and tells the truth."""
        self.mended = True

    async def serve(
        self,
        address: str,
        port: int = 53,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until cancelled; `nursery.start` returns the port.  Raises OSError."""
        heard, listeners = await _both(address, port)
        port = heard.getsockname()[1]
        with heard, _datagrams() as stranger:
            await stranger.bind((address, 0))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._over_tcp, listeners)
                task_status.started(port)
                while True:
                    octets, client = await heard.recvfrom(LONGEST)
                    nursery.start_soon(self._over_udp, octets, client, heard, stranger)

    async def _over_udp(
        self,
        octets: bytes,
        client: tuple[str, int],
        heard: trio.socket.SocketType,
        stranger: trio.socket.SocketType,
    ) -> None:
        understood = self._understood(octets)
        if understood is None:
            return
        query, reply, places = understood
        await trio.sleep(reply.pause_s)
        for datagram in answers.datagrams(query, reply, places):
            with suppress(OSError):  # it has gone
                await (stranger if datagram.stranger else heard).sendto(datagram.octets, client)

    async def _over_tcp(self, stream: trio.SocketStream) -> None:
        """RFC 1035 4.2.2: each message after its length."""
        held = b""
        with suppress(trio.BrokenResourceError, trio.TooSlowError):
            async with stream:
                while True:
                    with trio.fail_after(IDLE_S):
                        octets = await stream.receive_some(LONGEST)
                    if not octets:
                        return
                    held += octets
                    while len(held) >= 2 and len(held) >= 2 + _LENGTH.unpack(held[:2])[0]:
                        end = 2 + _LENGTH.unpack(held[:2])[0]
                        message, held = held[2:end], held[end:]
                        if not await self._answer(stream, message):
                            return

    async def _answer(self, stream: trio.SocketStream, octets: bytes) -> bool:
        """Whether the connection goes on."""
        understood = self._understood(octets)
        if understood is None:
            return False
        query, reply, places = understood
        await trio.sleep(reply.pause_s)
        said = answers.segment(query, reply, places)
        if said:
            await stream.send_all(_LENGTH.pack(len(said)) + said)
        return said != b""

    # -- what is answered -------------------------------------------------------------------------

    def _understood(
        self, octets: bytes
    ) -> tuple[dns.message.Message, Reply, Mapping[str, str]] | None:
        try:
            query = dns.message.from_wire(octets)
            question = answers.asked(query)
        except (dns.exception.DNSException, ValueError):
            self.dropped += 1
            return None
        reply, domain = self.reply(question)
        found = self.domains.get(domain)
        return query, reply, {"d": domain or question.name, **(found.places if found else {})}

    def reply(self, question: Asked) -> tuple[Reply, str]:
        """What is said now, and of which domain ("": of none that it has); it is counted."""
        if question.name in self.hosts:
            address = self.hosts[question.name]
            known = question.kind == "A"
            return Reply(records=(f"@ A {address}",)) if known else NOTHING, ""
        name, label = question.name, "@"
        while name and name not in self.domains:
            first, _, name = name.partition(".")
            label = first if label == "@" else f"{label}.{first}"
        if not name:
            return STRANGE, ""
        about = f"{question.kind} {label}"
        turn = self.asked[name, about]
        self.asked[name, about] += 1
        rows = TRUTH if self.mended else answers.lines(self.domains[name].row, TRUTH)
        return answers.reply_for(rows, question.kind, label, turn), name


async def _both(
    address: str, port: int
) -> tuple[trio.socket.SocketType, list[trio.SocketListener]]:
    """UDP and TCP at the same port; 0: one that is free for both.  Raises OSError."""
    for tries_left in reversed(range(TRIES)):
        heard = _datagrams()
        try:
            await heard.bind((address, port))
            here = heard.getsockname()[1]
            return heard, await trio.open_tcp_listeners(here, host=address)
        except OSError:
            heard.close()
            if port or not tries_left:
                raise
    raise OSError("no port")  # TRIES is no 0


def _datagrams() -> trio.socket.SocketType:
    return trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
