"""Faults against RFC 8689, 1985, 2852, 3885, 4468, 4865, 6710, 7293 and 2645."""

from __future__ import annotations

from typing import Final

from specs.conformance.controls.planting import (
    LATE,
    Fault,
    answering,
    anything,
    both,
    house_around,
    of_mail,
    of_rcpt,
    offering,
    refusing,
    without,
)
from specs.conformance.model import NON_STRICT

FAULTS: Final = (
    # -- RFC 8689 ----------------------------------------------------------------------------------
    Fault(
        "requiretls-in-clear",
        "8689-2-listed-in-clear",
        "REQUIRETLS is listed in the clear",
        offering(add=["REQUIRETLS"], within="!tls"),
    ),
    Fault(
        "requiretls-taken-in-clear",
        "8689-3-in-clear",
        "REQUIRETLS is taken in the clear",
        answering("MAIL .*REQUIRETLS.*", 250, "2.1.0", within="!tls"),
    ),
    Fault(
        "requiretls-value",
        "8689-3-value-yes",
        "REQUIRETLS takes a value",
        of_mail("REQUIRETLS", anything),
    ),
    Fault(
        "requiretls-refused",
        "8689-3-taken-as-it-is",
        "REQUIRETLS is listed, and refused",
        refusing("MAIL .*REQUIRETLS.*", 555, "5.5.4"),
    ),
    Fault(
        "requiretls-whole",
        "8689-5-ret-full",
        "A report on REQUIRETLS mail has the whole message",
        house_around("whole", lambda go, self, envelope, told: envelope.ret == "FULL"),
        behind=LATE,
    ),
    # -- RFC 1985, 2852, 3885, 4468, 4865, 6710, 7293, 2645 ----------------------------------------
    Fault("etrn-354", "1985-5.1-domain", "ETRN is answered 354", answering("ETRN .+", 354)),
    Fault(
        "etrn-no-argument",
        "1985-5.2-malformed-none",
        "ETRN without a domain is answered 250",
        answering("ETRN ?", 250, "2.0.0"),
    ),
    Fault(
        "deliverby-keyword",
        "2852-2-keyword",
        "DELIVERBY has a word in EHLO",
        both(without("DELIVERBY"), offering(add=["DELIVERBY soon"])),
    ),
    Fault("by-zero", "2852-4-return-zero", "BY=0;R is taken", of_mail("BY", anything)),
    Fault(
        "by-negative",
        "2852-4-good-notify-late",
        "A negative BY with N is refused",
        refusing("MAIL .*BY=-.*", 501, "5.5.4"),
    ),
    Fault("by-malformed", "2852-4-malformed-no-mode", "BY takes anything", of_mail("BY", anything)),
    Fault(
        "by-refused",
        "2852-4-good-return",
        "BY is listed, and a syntax error",
        refusing("MAIL .*BY=.*", 501, "5.5.4"),
    ),
    Fault(
        "mtrk-anything",
        "3885-3-malformed-days-word",
        "MTRK is taken with anything",
        of_mail("MTRK", lambda session, value: None),
        NON_STRICT,
    ),
    Fault(
        "holdfor-long",
        "4865-4-for-over-submission-starttls",
        "HOLDFOR has no limit",
        of_mail("HOLDFOR", lambda session, value: 0.0),
    ),
    Fault(
        "holdfor-anything",
        "4865-4-for-word-submission-starttls",
        "HOLDFOR takes anything",
        of_mail("HOLDFOR", lambda session, value: 1.0),
    ),
    Fault(
        "holdfor-at-once",
        "4865-4-held-submission-starttls",
        "Nothing is held",
        house_around("accept", lambda go, self, envelope, content: self.deliver(envelope, content)),
    ),
    Fault(
        "holduntil-refused",
        "4865-4-until-submission-starttls",
        "HOLDUNTIL is refused",
        refusing("MAIL .*HOLDUNTIL=.*", 555, "5.5.4"),
    ),
    Fault(
        "priority-ten",
        "6710-3-malformed-ten",
        "MT-PRIORITY=10 is taken",
        of_mail("MT-PRIORITY", anything),
    ),
    Fault(
        "priority-negative",
        "6710-3-good-minus-1",
        "A negative MT-PRIORITY is refused",
        refusing("MAIL .*MT-PRIORITY=-.*", 501, "5.5.4"),
    ),
    Fault(
        "rrvs-anything", "7293-4-malformed-word", "RRVS takes anything", of_rcpt("RRVS", anything)
    ),
    Fault(
        "rrvs-refused",
        "7293-4-good-plain",
        "RRVS is a syntax error",
        refusing("RCPT .*RRVS=.*", 501, "5.5.4"),
    ),
    Fault(
        "atrn-for-all",
        "2645-5-without-auth-alone",
        "ATRN needs no AUTH",
        answering("ATRN.*", 453, "4.3.0"),
        NON_STRICT,
    ),
    Fault(
        "burl-for-all",
        "4468-3.1-before-rcpt-imap-submission-starttls",
        "BURL needs no AUTH",
        answering("BURL .*", 250, "2.5.0"),
    ),
    Fault(
        "burl-malformed",
        "4468-3.2-malformed-submission-starttls",
        "BURL needs no URL",
        answering("BURL.*", 250, "2.5.0"),
    ),
    Fault(
        "atrn-250",
        "2645-5-without-auth-alone",
        "ATRN of anybody is answered 250",
        answering("ATRN.*", 250, "2.0.0"),
    ),
)
