"""Faults against RFC 2920: groups of commands."""

from __future__ import annotations

import re
from typing import Any, Final

from specs.conformance.controls.answers import Answer
from specs.conformance.controls.planting import (
    DATA_FOR_NOBODY,
    Fault,
    around,
    both,
    offering,
    without,
)
from specs.conformance.controls.session import Session


def _turned(go: Any, self: Session, octets: bytes) -> bytes:
    """Replies of a batch in another order."""
    out: bytes = go(octets)
    replies = re.findall(rb"(?:\d{3}-[^\n]*\n)*\d{3} [^\n]*\n", out)
    return b"".join(reversed(replies)) if len(replies) > 2 else out


def _flushes(go: Any, self: Session, line: bytes) -> Answer:
    """After an error, what is waiting is thrown away."""
    found: Answer = go(line)
    if found.code >= 500:
        self.input = b""
    return found


def _one_at_a_time(go: Any, self: Any, octets: bytes) -> bytes:
    """The last reply of a batch is sent only when more is heard."""
    held = getattr(self, "held", b"")
    out: bytes = go(octets)
    replies = re.findall(rb"(?:\d{3}-[^\n]*\n)*\d{3} [^\n]*\n", out)
    if len(replies) > 1 and not self.ended and self.mode == "command":
        self.held = replies[-1]
        return held + b"".join(replies[:-1])
    self.held = b""
    return held + out


def _drops_after_data(go: Any, self: Session, content: bytes, **named: Any) -> Any:
    """What comes in one piece with the end of data is thrown away."""
    self.input = b""
    return go(content, **named)


FAULTS: Final = (
    Fault(
        "pipelining-parameter",
        "2920-2-no-parameter",
        "PIPELINING has a parameter in EHLO",
        both(without("PIPELINING"), offering(add=["PIPELINING 10"])),
    ),
    Fault(
        "replies-turned",
        "2920-3.2-envelope",
        "Replies of a batch come in another order",
        around("receive", _turned),
    ),
    Fault(
        "flush-on-error",
        "2920-3.2-refused-among-accepted",
        "An error throws away what waits",
        around("command", _flushes),
    ),
    Fault(
        "reply-held-back",
        "2920-3.2-half-a-group",
        "The last reply of a batch is held back",
        around("receive", _one_at_a_time),
    ),
    Fault(
        "input-lost-after-dot",
        "2920-3.1-after-the-dot-mail",
        "What comes with the end of data is lost",
        around("receive_content", _drops_after_data),
    ),
    Fault(
        "empty-to-nobody",
        "2920-3.2-dot-for-nobody-unknown",
        "An empty message to nobody is accepted",
        DATA_FOR_NOBODY,
    ),
    Fault(
        "one-command-a-packet",
        "2920-3.2-two-recipients",
        "Only the first command of a packet is done",
        around(
            "receive",
            lambda go, self, octets: go(
                octets.partition(b"\r\n")[0] + b"\r\n"
                if self.mode == "command" and octets.endswith(b"\r\n")
                else octets
            ),
        ),
    ),
    Fault(
        "reply-to-noop-held-back",
        "2920-3.2-noop-last",
        "The reply to NOOP is held back",
        around("receive", _one_at_a_time),
    ),
)
