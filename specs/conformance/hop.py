"""A scripted next hop: it listens, records every octet of the server under test (`hop_records`),
and answers by a table (`hop_script`).

Rules a reader may rely on
- 421 ends the connection, unless the answer says otherwise.  It ends as a polite server's does:
  what was said can be read.
- A hop judges nothing.  It belongs to one case, and ends with it.
- A mistake in a table ends the visit, and stands in `broken`: it is the case's, not the run's.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from specs.conformance.hop_conversation import Conversation
from specs.conformance.hop_records import Bell, Command, Mail, Visit
from specs.conformance.hop_script import FEATURES, Say, ScriptedReply, Table, say
from specs.conformance.transcript import Told

IPV6_FREEBIND: Final = 78  # linux/in6.h


@dataclass(slots=True, kw_only=True)
class Hop:
    """name: what it calls itself.  table: what it answers.  stall_s: how long it reads nothing once
    content has begun.  room: of its receive buffer, in octets; 0 for the kernel's choice.  broken:
    the first mistake in its table; "" if there is none.
    """

    name: str
    host: str
    port: int
    told: Told
    bell: Bell
    table: Table = field(default_factory=dict)
    features: tuple[str, ...] = FEATURES
    tls_features: tuple[str, ...] | None = None
    certificate: ssl.SSLContext | None = None
    stall_s: float = 0.0
    room: int = 0
    visits: list[Visit] = field(default_factory=list)
    broken: str = ""
    _times: dict[str, int] = field(default_factory=dict)

    @property
    def mails(self) -> list[Mail]:
        """Of all visits, in the order in which they came."""
        return sorted((m for each in self.visits for m in each.mails), key=lambda m: m.at_s)

    @property
    def taken(self) -> list[Mail]:
        return [each for each in self.mails if each.taken]

    @property
    def commands(self) -> list[Command]:
        return [heard for each in self.visits for heard in each.commands]

    @property
    def open(self) -> list[Visit]:
        return [each for each in self.visits if not each.ended]

    async def listen(self, nursery: trio.Nursery) -> None:
        """From now on, until the nursery ends.  Raises OSError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        door = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # of a network that is routed here, and not configured
                door.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            if self.room:
                door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.room)
            await door.bind((self.host, self.port))
            door.listen(100)
        except OSError:
            door.close()
            raise
        nursery.start_soon(trio.serve_listeners, self._receive, [trio.SocketListener(door)])

    async def _receive(self, stream: trio.SocketStream) -> None:
        self.told.connections += 1
        number = self.told.connections
        visit = Visit(hop=self.name, number=len(self.visits) + 1, began_s=trio.current_time())
        self.visits.append(visit)
        talk = Conversation(hop=self, visit=visit, number=number)
        talk.note(f"the server connects to {self.name} ({self.host})")
        self.bell.ring()
        try:
            await talk.hold(stream)
        except Exception as error:  # of a table, which is the case's
            self.broken = self.broken or f"{self.name}: {_innermost(error)!r}"
            talk.note(f"our hop is broken: {self.broken}")
        finally:
            if not visit.ended:
                talk.end("by us")
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    def answer_to(self, key: str, visit: Visit, line: str) -> ScriptedReply:
        """By the table, or what is usual."""
        times = self._times[key] = self._times.get(key, 0) + 1
        chosen: Say = self.table[key] if key in self.table else self._usual(key, visit)
        while not isinstance(chosen, ScriptedReply):
            if isinstance(chosen, tuple):
                chosen = chosen[min(times, len(chosen)) - 1]
            elif callable(chosen):
                chosen = chosen(visit, line)
            else:
                chosen = say(chosen)
        if chosen.code == "421" and not chosen.then:
            return replace(chosen, then="close")
        return chosen

    def _usual(self, key: str, visit: Visit) -> Say:
        taken = any(each.code[:1] == "2" for each in visit.rcpts)
        match key:
            case "greeting":
                return f"220 {self.name} ESMTP"
            case "ehlo":
                inside = self.tls_features if visit.tls else None
                features = self.features if inside is None else inside
                lines = [self.name, *features]
                return "\r\n".join([*(f"250-{each}" for each in lines[:-1]), f"250 {lines[-1]}"])
            case "helo":
                return f"250 {self.name}"
            case "rcpt" if visit.mail is None:
                return "503 MAIL first"
            case "data" if not taken:
                return "503 no recipients"
            case "data":
                return "354 go on"
            case "starttls":
                return "220 go on" if "STARTTLS" in self.features else "502 not here"
            case "connect":
                return ScriptedReply()
            case _:
                return {"quit": "221 bye", "vrfy": "252 perhaps", "other": "500 what?"}.get(
                    key, "250 ok"
                )


def _innermost(error: Exception) -> Exception:
    """Without the groups that nurseries put around it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
