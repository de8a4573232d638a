"""Faults against RFC 3207, 8314 and 8996: TLS."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.planting import (
    RECIPIENTS_STAY,
    Fault,
    answering,
    around,
    both,
    on,
    refusing,
    then,
    tls,
)
from specs.conformance.controls.session import Session
from specs.conformance.model import NON_STRICT


def old_tls(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")


def only_tls_10(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")


def _keeps_input(go: Any, self: Session) -> None:
    """Commands that came before TLS are carried out inside it."""
    kept = self.input
    go()
    self.input = kept


def _keeps(*names: str) -> Any:
    def secured(go: Any, self: Session) -> None:
        kept = {name: getattr(self, name) for name in names}
        go()
        for name, value in kept.items():
            setattr(self, name, value)

    return around("secured", secured)


def _keeps_name(go: Any, self: Any) -> None:
    kept = self.helo
    go()
    self.old_name = kept


def _answers_rest(go: Any, self: Session, argument: str) -> Answer:
    """What is behind STARTTLS is answered in the clear."""
    found: Answer = go(argument)
    if self.input:
        self.wants_tls = False
        self.input, rest = b"", self.input
        more = self.receive(rest).decode()
        self.wants_tls = True
        return replace(found, lines=(f"{found.lines[0]}\r\n{more}".rstrip("\r\n"),))
    return found


def _keyword_inside(go: Any, self: Session) -> list[str]:
    return [*go(), "STARTTLS"] if self.tls else go()


def _greets(go: Any, self: Any, octets: bytes) -> Any:
    first = self.tls and not self.door.tls_first and not getattr(self, "greeted_again", False)
    self.greeted_again = self.tls
    return (self.greeting() if first else b"") + go(octets)


#: Of everybody, and all but what RFC 3207 4 lets through.
DEMANDS_TLS: Final = on(
    r"(?!(EHLO|NOOP|QUIT|STARTTLS)\b).*",
    lambda go, self, line: answer(530, "5.7.0", "STARTTLS first"),
    "!tls",
)

FAULTS: Final = (
    # -- RFC 3207 ----------------------------------------------------------------------------------
    Fault(
        "starttls-injection",
        "3207-4.2-injected-noop",
        "Commands behind STARTTLS are done inside TLS",
        around("secured", _keeps_input),
    ),
    Fault(
        "starttls-injection-of-mail",
        "3207-4.2-injected-mail",
        "A transaction behind STARTTLS is done inside TLS",
        around("secured", _keeps_input),
    ),
    Fault(
        "starttls-injection-of-half",
        "3207-4.2-injected-half-line",
        "Half a line behind STARTTLS is glued to the next",
        around("secured", _keeps_input),
    ),
    Fault(
        "starttls-rest-answered",
        "3207-4.2-injected-ehlo",
        "What is behind STARTTLS is answered in the clear",
        around("do_starttls", _answers_rest),
        NON_STRICT,
    ),
    Fault(
        "starttls-keeps-hello",
        "3207-4.2-ehlo-forgotten",
        "EHLO from before TLS still counts",
        _keeps("hello", "helo"),
    ),
    Fault(
        "starttls-keeps-transaction",
        "3207-4.2-transaction-forgotten",
        "A transaction goes on inside TLS",
        _keeps("transaction", "hello", "helo"),
    ),
    Fault(
        "starttls-keeps-recipients",
        "3207-4.2-recipients-forgotten-after-mail",
        "Recipients from before TLS still count",
        RECIPIENTS_STAY,
    ),
    Fault(
        "starttls-greets",
        "3207-4.2-greets-again",
        "There is a second greeting inside TLS",
        around("receive", _greets),
    ),
    Fault(
        "starttls-listed-inside",
        "3207-4.2-not-listed-inside-smtp",
        "STARTTLS is listed inside TLS",
        around("keywords", _keyword_inside),
    ),
    Fault(
        "starttls-inside-220",
        "3207-4.2-starttls-inside",
        "STARTTLS inside TLS is answered 220",
        answering("STARTTLS", 220, "2.0.0", within="tls"),
        NON_STRICT,
    ),
    Fault(
        "starttls-parameter",
        "3207-4-parameter-word",
        "STARTTLS takes a parameter",
        answering("STARTTLS .+", 220, "2.0.0"),
    ),
    Fault(
        "starttls-refused",
        "3207-4-offered-works",
        "STARTTLS is listed, and unknown",
        refusing("STARTTLS", 502, "5.5.1"),
    ),
    Fault(
        "starttls-demanded-554",
        "3207-4-demanded-smtp-noop",
        "A server that demands TLS takes no NOOP",
        on("NOOP.*", lambda go, self, line: answer(554, "5.7.0", "STARTTLS first"), "!tls"),
        behind=DEMANDS_TLS,
    ),
    Fault(
        "starttls-ends-session",
        "3207-4.2-refused-inside-goes-on",
        "STARTTLS inside TLS ends the session",
        then("STARTTLS", lambda self: setattr(self, "ended", self.tls and not self.wants_tls)),
        observed="closed",
    ),
    Fault(
        "starttls-plain-goes-on",
        "3207-4-parameter-then-plain",
        "A wrong STARTTLS ends the session",
        then("STARTTLS .+", lambda self: setattr(self, "ended", True)),
        observed="closed",
    ),
    # -- RFC 8314, 8996 ----------------------------------------------------------------------------
    Fault("tls-10", "8996-4-tls-10-submission", "TLS 1.0 is spoken", tls(old_tls)),
    Fault("tls-10-only", "8314-4.1-tls-12-submission", "TLS 1.2 is not spoken", tls(only_tls_10)),
    Fault(
        "implicit-tls-lists-starttls",
        "8314-3.3-no-starttls",
        "STARTTLS is listed where TLS was first",
        around("keywords", _keyword_inside),
    ),
    Fault(
        "starttls-keeps-name",
        "3207-4.2-name-forgotten",
        "The trace names what the client called itself before TLS",
        both(
            around("secured", _keeps_name),
            around(
                "envelope",
                lambda go, self, transaction: replace(
                    go(transaction), helo=getattr(self, "old_name", "") or self.helo
                ),
            ),
        ),
    ),
    Fault(
        "starttls-keeps-user",
        "3207-4.2-auth-forgotten-submission",
        "Who authenticated before TLS has done so inside it",
        _keeps("user"),
        behind=LIBERTIES["AUTH in the clear"],
    ),
)
