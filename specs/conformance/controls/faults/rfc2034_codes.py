"""Faults against RFC 2034, 3463 and 5248: enhanced status codes."""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.controls.planting import (
    Change,
    Fault,
    both,
    offering,
    saying,
    without,
)
from specs.conformance.model import NON_STRICT


def _dropping(codes: bytes) -> Change:
    """Replies of that code have no enhanced one."""
    return saying(
        lambda octets: re.sub(rb"(?m)^(" + codes + rb"[ -])[245]\.\d+\.\d+ ?", rb"\1", octets)
    )


def _enhanced(old: bytes, new: bytes) -> Change:
    return saying(lambda octets: re.sub(old, new, octets))


def _first_line_only(octets: bytes) -> bytes:
    return re.sub(rb"(\r\n\d{3}[ -])[245]\.\d+\.\d+ ", rb"\1", octets)


FAULTS: Final = (
    Fault(
        "enhanced-parameter",
        "2034-3-no-parameter",
        "ENHANCEDSTATUSCODES has a parameter",
        both(without("ENHANCEDSTATUSCODES"), offering(add=["ENHANCEDSTATUSCODES 2"])),
    ),
    Fault("no-enhanced-250", "2034-4-noop", "250 has no enhanced code", _dropping(b"250")),
    Fault(
        "no-enhanced-500", "2034-4-unknown-command", "500 has no enhanced code", _dropping(b"500")
    ),
    Fault("no-enhanced-221", "2034-4-quit", "221 has no enhanced code", _dropping(b"221")),
    Fault("no-enhanced-550", "2034-4-unknown-rcpt", "550 has no enhanced code", _dropping(b"550")),
    Fault(
        "no-enhanced-501", "2034-4-malformed-mail", "501 has no enhanced code", _dropping(b"501")
    ),
    Fault(
        "no-enhanced-503", "2034-4-rcpt-too-early", "503 has no enhanced code", _dropping(b"503")
    ),
    Fault(
        "enhanced-wrong-class",
        "2034-4-unknown-rcpt",
        "550 has an enhanced code of class 4",
        _enhanced(rb"^550 5", b"550 4"),
    ),
    Fault(
        "enhanced-first-line",
        "2034-4-help",
        "Only the first line has an enhanced code",
        saying(_first_line_only),
    ),
    Fault(
        "enhanced-zeros",
        "3463-2-form",
        "An enhanced code has leading zeros",
        _enhanced(rb"^(5\d\d 5)\.(\d)\.(\d) ", rb"\1.0\2.0\3 "),
    ),
    Fault(
        "enhanced-unregistered",
        "5248-2.4-registered",
        "An enhanced code is not registered",
        _enhanced(rb"^250 2\.1\.0", b"250 2.9.99"),
        NON_STRICT,
    ),
    Fault(
        "enhanced-3yz",
        "2034-4-no-code-in-3yz",
        "354 has an enhanced code of class 3",
        _enhanced(rb"^354 ", b"354 3.0.0 "),
    ),
)
