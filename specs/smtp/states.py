"""The states of a session, as far as they decide what a server may say next.

    GREETING --220--> COMMAND --DATA/354--> CONTENT --CRLF.CRLF--> COMMAND
                      COMMAND --DATA...--> CONTENT --CRLF.CRLF--> RECIPIENTS (LMTP) --> COMMAND
                      COMMAND --AUTH/334--> EXCHANGE --235 or a refusal--> COMMAND
                      COMMAND --STARTTLS/220--> SECURING --> COMMAND, as at the beginning
                      COMMAND --QUIT/221--> ENDED
    OPAQUE: what follows cannot be judged (octets of TLS, turned roles, an unknown exchange).

A state holds where it is in the client's stream: what is before `at` was answered or dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Phase(StrEnum):
    """How the client's next octets are read, and who speaks next."""

    GREETING = "before the greeting"
    COMMAND = "awaiting a command"
    CONTENT = "receiving data"
    RECIPIENTS = "answering for each recipient"
    EXCHANGE = "in an AUTH exchange"
    SECURING = "after STARTTLS"
    ENDED = "after QUIT"
    OPAQUE = "not to be judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """From an accepted MAIL on.  recipients: accepted ones.  chunks: BDAT or BURL was accepted.
    binary: BODY=BINARYMIME.
    """

    recipients: int = 0
    chunks: bool = False
    binary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """hello: the command that was accepted.  offers: keywords of its reply.  left: replies that are
    still owed for recipients.  turned_away: the greeting was a refusal.  after_last: BDAT LAST was
    the last step of a transaction (RFC 3030 2).  unsure: a command that we do not know was
    accepted, or a chunk refused, so that sequence is not judged until RSET or EHLO.  skipping: the
    rest of a line, or of content, that was answered before its end.  tls_at: of SECURING, where
    TLS begins, if it does.  why: of OPAQUE.
    """

    phase: Phase = Phase.GREETING
    at: int = 0
    lmtp: bool = False
    hello: str = ""
    offers: frozenset[str] = frozenset()
    transaction: Transaction | None = None
    left: int = 0
    tls: bool = False
    authenticated: bool = False
    turned_away: bool = False
    after_last: bool = False
    unsure: bool = False
    skipping: Literal["", "line", "content"] = ""
    tls_at: int = 0
    why: str = ""

    def __str__(self) -> str:
        if self.phase is not Phase.COMMAND:
            more = f" ({self.left} left)" if self.left else ""
            return f"{self.phase.value}{more}"
        if self.transaction is not None:
            count = self.transaction.recipients
            return f"in a transaction with {count} accepted recipient{'' if count == 1 else 's'}"
        if self.hello:
            return f"after {self.hello}, no transaction"
        return "turned away by the greeting" if self.turned_away else "greeted"


def secured(state: State, at: int) -> State:
    """All is forgotten (RFC 3207 4.2), but that it was greeted."""
    phase = Phase.GREETING if state.phase is Phase.GREETING else Phase.COMMAND
    return State(phase=phase, at=at, lmtp=state.lmtp, tls=True)
