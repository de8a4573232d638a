"""What a control is made of.  A fault, or a liberty, replaces some of it (`planting`)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from specs.conformance.controls.mailbox import House
from specs.conformance.controls.relay import Relay
from specs.conformance.controls.session import Session
from specs.conformance.controls.witness import Witness


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Of a server, and of a relay, though only one of them stands at a time; and the witness of it.

    lmtp: the session behind LMTP's door, if it is another.  late: unknown users are found out after
    the message was accepted.  context: changes what TLS is made with.
    """

    session: type[Session] = Session
    lmtp: type[Session] | None = None
    house: type[House] = House
    relay: type[Relay] = Relay
    late: bool = False
    tls: bool = True
    context: Callable[[ssl.SSLContext], None] = lambda _: None
    #: Between a connection and its session: (session, octets received) to octets to send.
    talk: Callable[[Session, bytes], bytes] = lambda session, octets: session.receive(octets)
    #: Before each answer; and how many octets of it are sent at once (0: all).
    delay_s: float = 0.0
    segment: int = 0
    witness: Witness = field(default_factory=Witness)
