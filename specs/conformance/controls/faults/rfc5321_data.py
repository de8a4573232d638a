"""Faults against RFC 5321 4.1.1.4, 4.5.2 and 4.5.3.1: the end of data, and content as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import no
from specs.conformance.controls.mailbox import fields_of, name_of, split
from specs.conformance.controls.planting import (
    KEEPS,
    Change,
    Fault,
    around,
    both,
    ending,
    having,
    header,
    house_around,
    receiving,
)
from specs.conformance.controls.session import Session
from specs.conformance.model import NON_STRICT


def _refuse_header(test: Callable[[set[bytes]], bool]) -> Change:
    def check(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
        go(content, dotted=dotted)
        if test({name_of(each) for each in fields_of(split(content)[0])}):
            raise no(554, "5.6.0", "not a proper header")

    return around("check_content", check)


def _refuse(test: Callable[[bytes], bool], code: int = 554) -> Change:
    def check(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
        go(content, dotted=dotted)
        if test(content):
            raise no(code, "5.6.0", "not taken")

    return around("check_content", check)


def _cut_lines(most: int) -> Callable[[bytes], bytes]:
    return lambda content: b"\r\n".join(each[:most] for each in content.split(b"\r\n"))


def _broken_lines(most: int) -> Callable[[bytes], bytes]:
    return lambda content: re.sub(rb"([^\r\n]{%d})(?=[^\r\n])" % most, rb"\1\r\n", content)


def _in_one_piece(go: Any, self: Session) -> Any:
    if self.end_of_data[2:] in self.input or len(self.input) > 5:
        return go()
    self.content += self.input
    self.input = b""
    return None


def _cut(content: bytes, odd: bytes) -> bytes:
    """Without its body, if that stands in the header."""
    head = split(content)[0]
    return head if re.search(odd, head) else content


FAULTS: Final = (
    # -- the end of data ---------------------------------------------------------------------------
    Fault(
        "end-lf-lf",
        "5321-4.1.1.4-end-lf-lf-alone",
        "LF . LF ends the data",
        ending(rb"\n\.\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-lf-lf-pipelined",
        "5321-4.1.1.4-end-lf-lf-pipelined",
        "LF . LF ends the data (a transaction behind it)",
        ending(rb"\n\.\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-lf-lf-delivered",
        "5321-4.1.1.4-end-lf-lf-delivered",
        "LF . LF ends the data (two messages arrive)",
        ending(rb"\n\.\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-lf-crlf",
        "5321-4.1.1.4-end-lf-crlf-alone",
        "LF . CRLF ends the data",
        ending(rb"(?<!\r)\n\.\r\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-crlf-lf",
        "5321-4.1.1.4-end-crlf-lf-alone",
        "CRLF . LF ends the data",
        ending(rb"\r\n\.\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-cr-cr",
        "5321-4.1.1.4-end-cr-cr-alone",
        "CR . CR ends the data",
        ending(rb"\r\.\r(?!\n)"),
        behind=KEEPS,
    ),
    Fault(
        "end-cr-crlf",
        "5321-4.1.1.4-end-cr-crlf-alone",
        "CR . CRLF ends the data",
        ending(rb"\r\.\r\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-crlf-cr",
        "5321-4.1.1.4-end-crlf-cr-alone",
        "CRLF . CR ends the data",
        ending(rb"\r\n\.\r(?!\n)"),
        behind=KEEPS,
    ),
    Fault(
        "end-nul",
        "5321-4.1.1.4-end-nul-nul-alone",
        "CRLF . NUL ends the data",
        ending(rb"\x00\.\x00|\r\n\.\x00\r\n|\r\n\x00\.\r\n|\r\n\.\x00"),
        behind=KEEPS,
    ),
    Fault(
        "end-of-text",
        "5321-4.1.1.4-end-text-dot-alone",
        "A dot at the end of a line ends the data",
        ending(rb"\.\r\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-space",
        "5321-4.1.1.4-end-crlf-dot-space-alone",
        "A dot and white space end the data",
        ending(rb"\r\n[ \t]*\.[ \t]*\r\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-two-dots",
        "5321-4.1.1.4-end-crlf-dot-dot-alone",
        "Two dots end the data",
        ending(rb"\r\n\.\.\r\n"),
        behind=KEEPS,
    ),
    Fault(
        "end-unicode",
        "5321-4.1.1.4-end-nel-nel-alone",
        "Other ends of line than CRLF are ones",
        ending(rb"(\x85|\xc2\x85|\xe2\x80\xa8|\x0b|\x0c)\.(\x85|\xc2\x85|\xe2\x80\xa8|\x0b|\x0c)"),
        behind=KEEPS,
    ),
    Fault(
        "lf-is-a-line",
        "5321-4.1.1.4-lf-no-line-end",
        "A dot behind LF is taken away",
        both(
            house_around("results", lambda go, self, envelope: b""),
            around("unstuffed", lambda go, self, content: re.sub(rb"(\n|\r)\.", rb"\1", content)),
        ),
        behind=KEEPS,
    ),
    Fault(
        "no-unstuffing",
        "5321-4.5.2-dot-one-and-text",
        "The dot before a dot stays",
        around("unstuffed", lambda go, self, content: content),
    ),
    Fault(
        "unstuffs-two",
        "5321-4.5.2-dot-three",
        "All dots at the beginning of a line go",
        around("unstuffed", lambda go, self, content: re.sub(rb"\r\n\.+", b"\r\n", content)),
    ),
    Fault(
        "unstuffs-one-line",
        "5321-4.5.2-dot-in-a-row",
        "Only the first such line loses its dot",
        around("unstuffed", lambda go, self, content: content.replace(b"\r\n.", b"\r\n", 1)),
    ),
    Fault(
        "unstuffs-not-first",
        "5321-4.5.2-dot-first-octets",
        "The dot of the first line stays",
        around(
            "unstuffed",
            lambda go, self, content: (
                content[:4] + go(content[4:]) if content[2:3] == b"." else go(content)
            ),
        ),
    ),
    Fault(
        "end-in-one-piece",
        "5321-4.5.2-segments-each-of-the-end",
        "An end that comes in pieces is not seen",
        around("step_content", _in_one_piece),
        observed="silent",
    ),
    Fault(
        "last-line-lost",
        "5321-4.1.1.4-last-line",
        "Another empty line is added at the end",
        receiving(lambda content: content + b"\r\n"),
    ),
    Fault(
        "empty-lines-lost",
        "5321-4.1.1.4-empty-last-lines",
        "Empty lines at the end are lost",
        receiving(lambda content: content.rstrip(b"\r\n")),
        NON_STRICT,
    ),
    Fault(
        "early-reply",
        "5321-4.1.1.4-early-content",
        "A second reply follows 354",
        around(
            "do_data",
            lambda go, self, a: replace(go(a), lines=(go(a).lines[0] + "\r\n250 2.0.0 ok",)),
        ),
    ),
    # -- content as it is --------------------------------------------------------------------------
    Fault(
        "nul-ends-content",
        "5321-4.5.2-octets-nul",
        "Content ends at a NUL",
        receiving(lambda content: content.partition(b"\0")[0]),
    ),
    Fault(
        "tabs-are-spaces",
        "5321-4.5.2-octets-tabs",
        "Tabs are made spaces",
        receiving(lambda content: content.replace(b"\t", b"        ")),
    ),
    Fault(
        "controls-dropped",
        "5321-4.5.2-octets-controls",
        "Control characters are dropped",
        receiving(lambda content: re.sub(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]", b"", content)),
    ),
    Fault(
        "trailing-space-lost",
        "5321-4.5.2-octets-trailing-space",
        "White space at the end of a line is lost",
        receiving(lambda content: re.sub(rb"[ \t]+\r\n", b"\r\n", content)),
    ),
    Fault(
        "from-is-escaped",
        "5321-4.5.2-octets-from-lines",
        "From at the beginning of a line is >From",
        receiving(lambda content: re.sub(rb"(?m)^From ", b">From ", content)),
        NON_STRICT,
    ),
    Fault(
        "lines-cut-at-900",
        "5321-4.5.3.1.6-line-letters",
        "Longer lines than 900 octets are cut",
        receiving(_cut_lines(900)),
    ),
    Fault(
        "lines-broken",
        "5321-4.5.3.1.6-line-words",
        "Longer lines are broken in two",
        receiving(_broken_lines(900)),
    ),
    Fault(
        "long-lines-cut",
        "5321-4.5.3.1.6-overlong-1024",
        "Longer lines than 1000 octets are cut",
        receiving(_cut_lines(998)),
    ),
    Fault(
        "long-line-refused",
        "5321-4.5.3.1.6-line-letters",
        "A line of 1000 octets is refused",
        _refuse(lambda content: any(len(each) > 990 for each in content.split(b"\r\n")), 500),
    ),
    Fault(
        "sixty-kilobytes",
        "5321-4.5.3.1.7-message-64k",
        "No more than 60,000 octets are taken",
        having(most_octets=60_000),
    ),
    Fault(
        "date-needed",
        "5321-3.3-content-no-date",
        "A message without Date is refused",
        _refuse_header(lambda names: b"date" not in names),
        NON_STRICT,
    ),
    Fault(
        "from-needed",
        "5321-3.3-content-no-from",
        "A message without From is refused",
        _refuse_header(lambda names: b"from" not in names),
        NON_STRICT,
    ),
    Fault(
        "resent-refused",
        "5321-3.3-resent-counts-differ",
        "A message that was resent is refused",
        _refuse_header(lambda names: any(each.startswith(b"resent") for each in names)),
    ),
    Fault(
        "trace-refused",
        "5321-3.7.2-received-bad-date",
        "A Received field of an odd form is refused",
        _refuse(lambda content: b"Received:" in content),
    ),
    Fault(
        "header-unfolded",
        "5321-4.4-received-earlier-kept",
        "Folded fields are unfolded",
        header(
            lambda fields: [re.sub(rb"\r\n[ \t]+", b" ", each[:-2]) + b"\r\n" for each in fields]
        ),
    ),
    Fault(
        "header-cased",
        "5321-4.1.1.4-last-line",
        "Names of fields are written anew",
        header(
            lambda fields: [
                each[:1].upper()
                + each[1:].partition(b":")[0].lower()
                + b":"
                + each.partition(b":")[2]
                for each in fields
            ]
        ),
    ),
    Fault(
        "true-end-after-cr",
        "5321-4.1.1.4-true-end-cr",
        "The end is not seen behind a bare CR",
        around("step_content", lambda go, self: None if b"\r\r\n.\r\n" in self.input else go()),
        behind=KEEPS,
        observed="silent",
    ),
    Fault(
        "end-lf-lf-of-bis",
        "5321bis-4.1.1.4-only-one-end",
        "LF . LF ends the data (one of many)",
        ending(rb"\n\.\n"),
        behind=KEEPS,
    ),
    Fault(
        "obsolete-is-cut",
        "5322-4-year-two-digits",
        "A message of an obsolete form loses its body",
        receiving(lambda content: _cut(content, rb"(?m)^Date:.* \d\d \d\d:")),
    ),
    Fault(
        "blank-before-colon-is-cut",
        "5322-4.5-space-before-colon",
        "A header ends where a blank stands before a colon",
        receiving(lambda content: _cut(content, rb"(?m)^[A-Za-z-]+[ \t]+:")),
    ),
)
