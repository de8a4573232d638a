"""Faults against RFC 5321 4.2.5 and 6, and RFC 3834: what was accepted arrives, once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.mailbox import Envelope, put
from specs.conformance.controls.planting import (
    LATE,
    NOTES_ENVELOPE,
    Fault,
    around,
    both,
    having,
    house_around,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import Syntax
from specs.conformance.model import NON_STRICT


def _stores_refused(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
    """What is refused for its content is delivered all the same."""
    try:
        go(content, dotted=dotted)
    except Exception:
        if self.transaction is None:
            self.house.accept(self.last_envelope, content)  # type: ignore[attr-defined]
        raise


def _one_for_all(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    go(replace(envelope, recipients=envelope.recipients[:1]), content)


def _first_again(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    go(envelope, content)
    go(envelope, content)


def _when_lost(go: Any, self: Any, octets: bytes) -> bytes:
    """Every content that was begun is delivered, with what there is of it."""
    out: bytes = go(octets)
    if self.mode == "content" and self.transaction is not None and len(self.content) > 100:
        self.house.accept(self.envelope(self.transaction), bytes(self.content[2:]))
    return out


def _first_lost(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    """The first message is accepted, and thrown away; where nothing arrives, nothing is known."""
    if getattr(self, "begun", False):
        go(envelope, content)
    self.begun = True


def _answers(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    """A mailbox whose owner is away answers whomever the header names."""
    go(envelope, content)
    found = re.search(rb"(?im)^From:.*<([^>]+)>", content)
    where = self.maildir(Syntax().mailbox(found[1].decode())) if found else None
    if found is not None and where is not None:
        subject = re.search(rb"(?im)^Subject: (.*)\r", content)
        about = subject[1] if subject else b""
        head = b"Return-Path: <>\r\nFrom: <ada@control.example>\r\nTo: <%s>\r\n" % found[1]
        put(where, head + b"Subject: Away: " + about + b"\r\n\r\nI am away.\r\n")


class _FirstHop(Syntax):
    """@a,@b:c@d is c@a."""

    def without_route(self, inside: str) -> str:
        mailbox = Syntax.without_route(self, inside)
        if not inside.startswith("@"):
            return mailbox
        return f"{mailbox.rpartition('@')[0]}@{re.split('[,:]', inside[1:])[0]}"


FAULTS: Final = (
    Fault(
        "null-sender-of-rcpt",
        "5321-4.5.5-null-arrives",
        "What has no sender is thrown away",
        house_around(
            "deliver",
            lambda go, self, envelope, content: (
                None if envelope.sender.null else go(envelope, content)
            ),
        ),
    ),
    Fault(
        "refused-and-delivered",
        "5321-4.2.5-refused-content-bare-cr",
        "What is refused after its content is delivered all the same",
        both(NOTES_ENVELOPE, around("check_content", _stores_refused)),
    ),
    Fault(
        "lost",
        "5321-6.1-accepted-arrives",
        "Accepted mail is thrown away, once",
        house_around("deliver", _first_lost),
    ),
    Fault(
        "twice",
        "5321-4.5.2-segments-two-messages",
        "Each message arrives twice",
        house_around("deliver", _first_again),
    ),
    Fault(
        "first-recipient-only",
        "5321-6.1-each-recipient",
        "Only the first recipient gets the message",
        house_around("deliver", _one_for_all),
    ),
    Fault(
        "connection-lost",
        "5321-4.1.1.10-lost-dot-close",
        "What came before the connection was lost is delivered",
        around("receive", _when_lost),
    ),
    Fault(
        "late-and-silent",
        "5321-6.1-report-to-routed-sender",
        "Unknown users are taken, and nobody is told",
        house_around("report", lambda go, self, *rest: None),
        behind=LATE,
        verdict=NON_STRICT,
    ),
    Fault(
        "away",
        "3834-2-answer-to-null-sender",
        "Reports are answered, too",
        house_around("deliver", _answers),
    ),
    Fault(
        "report-to-first-hop",
        "5321-6.1-report-to-routed-sender",
        "The report to a routed sender goes to the first host of the route",
        having(syntax=_FirstHop()),
        behind=LATE,
    ),
)
