"""Faults against RFC 1870 and 6152: SIZE and BODY."""

from __future__ import annotations

import re
from typing import Any, Final

from specs.conformance.controls.answers import Refusal, no
from specs.conformance.controls.planting import (
    NOTES_ENVELOPE,
    Fault,
    answering,
    anything,
    around,
    both,
    of_mail,
    offering,
    receiving,
    refusing,
    then,
    without,
)
from specs.conformance.controls.session import Session
from specs.conformance.model import NON_STRICT


def _loose_size(session: Session, value: str | None) -> int:
    return int(re.sub("[^0-9]", "", (value or "")[:5]) or 0)


def _size_up_to(most: int) -> Any:
    def read(session: Session, value: str | None) -> int:
        if value is None or not value.isdigit() or int(value) > most:
            raise no(501, "5.5.4", "bad SIZE")
        return int(value)

    return read


def _wrapping(bits: int) -> Any:
    def read(session: Session, value: str | None) -> int:
        """A number of so many bits."""
        if value is None or not value.isdigit():
            raise no(501, "5.5.4", "bad SIZE")
        size = int(value) % (1 << bits)
        if size > session.most_octets:
            raise no(552, "5.3.4", "too large")
        return size

    return read


def _declared_decides(go: Any, self: Session) -> Any:
    """Content ends where its declared size says."""
    declared = self.transaction.kept.get("SIZE") if self.transaction else None
    if (
        isinstance(declared, int)
        and declared
        and len(self.content) + len(self.input) - 2 >= declared
    ):
        self.content += self.input
        content, self.input = bytes(self.content[2 : declared + 2]), b""
        self.mode, self.content = "command", bytearray()
        return self.receive_content(content, dotted=False)
    return go()


def _counts_stuffing(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
    go(content, dotted=dotted)
    if len(content) + content.count(b"\r\n.") > self.most_octets:
        raise no(500, "5.3.4", "too large")


def _counts_lf(go: Any, self: Any, content: bytes, *, dotted: bool) -> None:
    go(content, dotted=dotted)
    declared = self.declared
    if declared and len(content) + content.count(b"\n") > declared:
        raise no(500, "5.3.4", "larger than declared")


def _notes_size(go: Any, self: Any, content: bytes, **named: Any) -> Any:
    self.declared = self.transaction.kept.get("SIZE", 0)
    return go(content, **named)


def _cut_and_kept(go: Any, self: Any, content: bytes, **named: Any) -> None:
    try:
        go(content, **named)
    except Refusal:
        self.house.accept(self.last_envelope, content[: self.most_octets])
        raise


FAULTS: Final = (
    # -- RFC 1870 ----------------------------------------------------------------------------------
    Fault(
        "size-keyword",
        "1870-3-parameter",
        "SIZE has a unit in EHLO",
        both(without("SIZE"), offering(add=["SIZE 1MB"])),
    ),
    Fault(
        "size-unchecked",
        "1870-6-letters",
        "SIZE takes anything",
        of_mail("SIZE", _loose_size),
        NON_STRICT,
    ),
    Fault(
        "size-negative",
        "1870-6-negative",
        "SIZE takes a negative number",
        of_mail("SIZE", _loose_size),
        NON_STRICT,
    ),
    Fault(
        "size-9-digits",
        "1870-5-twenty-digits",
        "SIZE has 9 digits at most",
        refusing(r"MAIL .*SIZE=[0-9]{10,}.*", 501, "5.5.4"),
    ),
    Fault(
        "size-zero-refused",
        "1870-6-zero",
        "SIZE=0 is refused",
        refusing(r"MAIL .*SIZE=0( .*)?", 501, "5.5.4"),
    ),
    Fault(
        "size-small",
        "1870-6.1-exactly",
        "A declared size below the limit is refused",
        of_mail("SIZE", _size_up_to(1000)),
    ),
    Fault(
        "size-31-bits",
        "1870-6.1-overflow-2-32-and-500",
        "A declared size is a number of 32 bits",
        of_mail("SIZE", _wrapping(32)),
        NON_STRICT,
    ),
    Fault(
        "size-over-354",
        "1870-6.1-just-over",
        "A size over the limit is answered 354",
        answering("MAIL .*SIZE=1048577.*", 354),
    ),
    Fault(
        "size-ends-content",
        "1870-6-declared-less",
        "A message ends at its declared size",
        around("step_content", _declared_decides),
    ),
    Fault(
        "size-with-dots",
        "1870-5-stuffing-not-counted",
        "Stuffed dots are counted",
        around("check_content", _counts_stuffing),
    ),
    Fault(
        "size-with-crcrlf",
        "1870-6.3-declared-plain",
        "Each line counts an octet more than it has",
        both(around("receive_content", _notes_size), around("check_content", _counts_lf)),
    ),
    Fault(
        "size-limit-less",
        "1870-5-below-limit",
        "The limit is lower than it is said to be",
        around(
            "keywords", lambda go, self: [re.sub("^SIZE.*", "SIZE 2097152", each) for each in go()]
        ),
    ),
    Fault(
        "size-over-closes",
        "1870-6.1-in-step-after-refusal",
        "A size over the limit ends the connection",
        then("MAIL .*SIZE=[0-9]{7,}.*", lambda self: setattr(self, "ended", True)),
        observed="closed",
    ),
    Fault(
        "size-over-delivered",
        "1870-6.3-over-limit-dropped",
        "What was too large is delivered, cut",
        both(NOTES_ENVELOPE, around("check_content", _cut_and_kept)),
    ),
    # -- RFC 6152 ----------------------------------------------------------------------------------
    Fault(
        "8bitmime-parameter",
        "6152-2-no-parameter",
        "8BITMIME has a parameter in EHLO",
        both(without("8BITMIME"), offering(add=["8BITMIME yes"])),
    ),
    Fault(
        "body-refused",
        "6152-3-8bitmime",
        "BODY=8BITMIME is refused",
        refusing("MAIL .*BODY=8BITMIME.*", 555, "5.5.4"),
    ),
    Fault(
        "body-7bit-refused",
        "6152-3-7bit",
        "BODY=7BIT is refused",
        refusing("MAIL .*BODY=7BIT.*", 555, "5.5.4"),
    ),
    Fault("body-unchecked", "6152-3-bad-unknown", "BODY takes anything", of_mail("BODY", anything)),
    Fault(
        "eighth-bit-lost",
        "6152-3-keeps-latin-1",
        "The eighth bit of content is lost",
        receiving(lambda content: bytes(each & 0x7F for each in content)),
    ),
    Fault(
        "latin-1-to-utf-8",
        "6152-3-keeps-utf-8",
        "Content is made UTF-8",
        receiving(lambda content: content.decode("latin-1").encode()),
    ),
    Fault(
        "nbsp-is-space",
        "6152-3-keeps-high-octets",
        "The octets 128 to 159 are dropped",
        receiving(lambda content: re.sub(rb"[\x80-\x9f]", b"", content)),
    ),
)
