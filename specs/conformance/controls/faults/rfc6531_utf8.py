"""Faults against RFC 6531, 6532 and 6533: SMTPUTF8."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, no
from specs.conformance.controls.planting import (
    Fault,
    answering,
    anything,
    around,
    both,
    of_mail,
    offering,
    receiving,
    refusing,
    without,
)
from specs.conformance.controls.session import Session
from specs.conformance.model import NON_STRICT


def _ascii_only(go: Any, self: Session, path: Any, allowed: bool) -> None:
    if path.international:
        raise no(501, "5.6.7", "ASCII, please")


def _echo_utf8(go: Any, self: Session, line: bytes) -> Answer:
    found: Answer = go(line)
    if found.code >= 500 and not line.isascii():
        return replace(found, lines=(line.decode("utf-8", "replace"),))
    return found


def _normalised(content: bytes) -> bytes:
    return unicodedata.normalize("NFC", content.decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


FAULTS: Final = (
    Fault(
        "smtputf8-parameter",
        "6531-3.1-no-parameter",
        "SMTPUTF8 has a parameter in EHLO",
        both(without("SMTPUTF8"), offering(add=["SMTPUTF8 yes"])),
    ),
    Fault(
        "smtputf8-without-8bitmime",
        "6531-3.1-implies-8bitmime",
        "SMTPUTF8 is offered without 8BITMIME",
        without("8BITMIME"),
    ),
    Fault(
        "smtputf8-value", "6531-3.4-value", "SMTPUTF8 takes a value", of_mail("SMTPUTF8", anything)
    ),
    Fault(
        "smtputf8-refused",
        "6531-3.4-bare",
        "SMTPUTF8 is listed, and refused",
        refusing("MAIL .*SMTPUTF8.*", 555, "5.5.4"),
    ),
    Fault(
        "utf8-refused",
        "6531-3.2-mail-latin",
        "UTF-8 is a syntax error, with SMTPUTF8, too",
        around("check_international", _ascii_only),
    ),
    Fault(
        "utf8-rcpt-refused",
        "6531-3.2-rcpt-latin",
        "UTF-8 in RCPT is a syntax error",
        around("check_international", _ascii_only),
    ),
    Fault(
        "utf8-ill-formed",
        "6531-3.3-mail-latin-1",
        "Octets that are no UTF-8 are taken",
        around("command", lambda go, self, line: go(line.decode("utf-8", "ignore").encode())),
        verdict=NON_STRICT,
    ),
    Fault(
        "utf8-in-replies",
        "6531-3.7.4.2-ascii-unknown-command",
        "Replies show UTF-8 that came",
        around("command", _echo_utf8),
        verdict=NON_STRICT,
    ),
    Fault(
        "utf8-in-greeting",
        "6531-3.7.1-ehlo-ascii",
        "The name in EHLO's reply is UTF-8",
        around(
            "do_ehlo",
            lambda go, self, a: replace(go(a), lines=("m\u00fc.example", *go(a).lines[1:])),
        ),
    ),
    Fault(
        "header-normalised",
        "6532-3.1-kept-decomposed",
        "UTF-8 in a header is normalised",
        receiving(_normalised),
    ),
    Fault(
        "header-question-marks",
        "6532-3.1-kept-unstructured",
        "UTF-8 in a header becomes question marks",
        receiving(lambda content: content.decode("utf-8", "replace").encode("ascii", "replace")),
    ),
    Fault(
        "utf8-orcpt-refused",
        "6533-3-unitext",
        "ORCPT of the type utf-8 is refused",
        refusing("RCPT .*ORCPT=utf-8.*", 501, "5.5.4"),
    ),
    Fault(
        "utf8-orcpt-unknown",
        "6531-3.2-dsn-listed",
        "DSN and SMTPUTF8 are listed, but no type utf-8",
        refusing("RCPT .*ORCPT=utf-8.*", 501, "5.5.4"),
    ),
    Fault(
        "utf8-in-vrfy",
        "6531-3.7.4.2-ascii-vrfy",
        "VRFY shows UTF-8 that came",
        around("command", _echo_utf8),
    ),
    Fault(
        "utf8-in-251",
        "6531-3.7.4.1-rcpt",
        "251 names a mailbox in UTF-8",
        answering("RCPT TO:<ada@.*", 251, "2.1.5", "sent on to <m\u00fcller@elsewhere.example>"),
        behind=answering("RCPT TO:<ada@.*", 251, "2.1.5", "sent on to <ada@elsewhere.example>"),
    ),
)
