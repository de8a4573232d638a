"""Faults against RFC 5321 4.1.1.4, 4.4, 4.5, 6 and 7: content, trace, delivery; RFC 5322, 3848."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import no
from specs.conformance.controls.mailbox import Envelope, fields_of, name_of, put, split
from specs.conformance.controls.planting import (
    KEEPS,
    Change,
    Fault,
    around,
    both,
    ending,
    having,
    house,
    house_around,
    receiving,
    server,
    storing,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import Syntax
from specs.conformance.model import NON_STRICT


def _only_crlf(name: str) -> str:
    return f"5321-4.1.1.4-end-{name}"


def received(pattern: bytes, new: bytes) -> Change:
    """Our own Received field is otherwise."""
    return house_around("received", lambda go, self, *rest: re.sub(pattern, new, go(*rest)))


def results(pattern: bytes, new: bytes) -> Change:
    """What the server says of its checks is otherwise."""
    return house_around("results", lambda go, self, *rest: re.sub(pattern, new, go(*rest)))


def path_line(change: Callable[[bytes], bytes]) -> Change:
    return house_around("return_path", lambda go, self, *rest: change(go(*rest)))


def header(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    """Fields of a message that came."""

    def of(content: bytes) -> bytes:
        head, blank, body = split(content)
        return b"".join(change(fields_of(head))) + blank + body

    return receiving(of)


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


def _stores_refused(go: Any, self: Session, content: bytes, *, dotted: bool) -> None:
    """What is refused for its content is delivered all the same."""
    try:
        go(content, dotted=dotted)
    except Exception:
        if self.transaction is None:
            self.house.accept(self.last_envelope, content)  # type: ignore[attr-defined]
        raise


def _notes_envelope(go: Any, self: Any, content: bytes, **named: Any) -> Any:
    self.last_envelope = self.envelope(self.transaction)
    return go(content, **named)


def _received_twice(
    go: Any, self: Any, envelope: Envelope, recipient: Any, content: bytes
) -> bytes:
    """Our Received field at the end of the header."""
    made: bytes = go(envelope, recipient, content)
    head, blank, body = split(made)
    mine: bytes = self.received(envelope, recipient)
    return head.replace(mine, b"", 1) + mine + blank + body


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


def _quit_sends(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None and self.transaction.recipients:
        self.house.accept(self.envelope(self.transaction), b"Subject: given up\r\n\r\n")
    return go(argument)


def _lost(go: Any, self: Any, envelope: Envelope, content: bytes) -> None:
    """Accepted, and thrown away."""


def _for_all(go: Any, self: Any, envelope: Envelope, recipient: Any) -> bytes:
    made: bytes = go(envelope, recipient)
    named = ", ".join(f"<{each.path.text}>" for each in envelope.recipients)
    return re.sub(
        rb";\r\n\t(?=[A-Z][a-z]{2}, )",
        f"\r\n\tfor {named};\r\n\t".encode(),
        re.sub(rb"\r\n\tfor <[^>]*>", b"", made),
    )


def _in_one_piece(go: Any, self: Session) -> Any:
    if self.end_of_data[2:] in self.input or len(self.input) > 5:
        return go()
    self.content += self.input
    self.input = b""
    return None


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


FAULTS: Final = (
    # -- the end of data --------------------------------------------------------------------------
    Fault("end-lf-lf", "5321-4.1.1.4-end-lf-lf-alone", "LF . LF ends the data", ending(rb"\n\.\n")),
    Fault(
        "end-lf-lf-pipelined",
        "5321-4.1.1.4-end-lf-lf-pipelined",
        "LF . LF ends the data (a transaction behind it)",
        ending(rb"\n\.\n"),
    ),
    Fault(
        "end-lf-lf-delivered",
        "5321-4.1.1.4-end-lf-lf-delivered",
        "LF . LF ends the data (two messages arrive)",
        ending(rb"\n\.\n"),
    ),
    Fault(
        "end-lf-crlf",
        "5321-4.1.1.4-end-lf-crlf-alone",
        "LF . CRLF ends the data",
        ending(rb"(?<!\r)\n\.\r\n"),
    ),
    Fault(
        "end-crlf-lf",
        "5321-4.1.1.4-end-crlf-lf-alone",
        "CRLF . LF ends the data",
        ending(rb"\r\n\.\n"),
    ),
    Fault(
        "end-cr-cr",
        "5321-4.1.1.4-end-cr-cr-alone",
        "CR . CR ends the data",
        ending(rb"\r\.\r(?!\n)"),
    ),
    Fault(
        "end-cr-crlf",
        "5321-4.1.1.4-end-cr-crlf-alone",
        "CR . CRLF ends the data",
        ending(rb"\r\.\r\n"),
    ),
    Fault(
        "end-crlf-cr",
        "5321-4.1.1.4-end-crlf-cr-alone",
        "CRLF . CR ends the data",
        ending(rb"\r\n\.\r(?!\n)"),
    ),
    Fault(
        "end-nul",
        "5321-4.1.1.4-end-nul-nul-alone",
        "CRLF . NUL ends the data",
        ending(rb"\x00\.\x00|\r\n\.\x00\r\n|\r\n\x00\.\r\n|\r\n\.\x00"),
    ),
    Fault(
        "end-of-text",
        "5321-4.1.1.4-end-text-dot-alone",
        "A dot at the end of a line ends the data",
        ending(rb"\.\r\n"),
    ),
    Fault(
        "end-space",
        "5321-4.1.1.4-end-crlf-dot-space-alone",
        "A dot and white space end the data",
        ending(rb"\r\n[ \t]*\.[ \t]*\r\n"),
    ),
    Fault(
        "end-two-dots",
        "5321-4.1.1.4-end-crlf-dot-dot-alone",
        "Two dots end the data",
        ending(rb"\r\n\.\.\r\n"),
    ),
    Fault(
        "end-unicode",
        "5321-4.1.1.4-end-nel-nel-alone",
        "Other ends of line than CRLF are ones",
        ending(rb"(\x85|\xc2\x85|\xe2\x80\xa8|\x0b|\x0c)\.(\x85|\xc2\x85|\xe2\x80\xa8|\x0b|\x0c)"),
    ),
    Fault(
        "lf-is-a-line",
        "5321-4.1.1.4-lf-no-line-end",
        "A dot behind LF is taken away",
        both(
            KEEPS,
            # The case looks for a word that results of checks have, too.
            house_around("results", lambda go, self, envelope: b""),
            around("unstuffed", lambda go, self, content: re.sub(rb"(\n|\r)\.", rb"\1", content)),
        ),
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
    # -- content as it is -------------------------------------------------------------------------
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
        both(having(most_octets=60_000)),
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
    # -- 4.4: trace -------------------------------------------------------------------------------
    Fault(
        "no-received",
        "5321-4.4-nothing-between",
        "No Received field is added",
        house_around("received", lambda go, self, *rest: b""),
    ),
    Fault(
        "received-at-end",
        "5321-4.4-nothing-between",
        "The Received field is put at the end of the header",
        house_around("stored", _received_twice),
    ),
    Fault(
        "received-taken-away",
        "5321-4.4-received-earlier-kept",
        "Received fields of others are taken away",
        header(lambda fields: [each for each in fields if name_of(each) != b"received"]),
    ),
    Fault(
        "received-sorted",
        "5321-4.4-received-earlier-kept",
        "Received fields of others are reversed",
        header(
            lambda fields: [
                *reversed([each for each in fields if name_of(each) == b"received"]),
                *(each for each in fields if name_of(each) != b"received"),
            ]
        ),
    ),
    Fault(
        "received-no-from",
        "5321-4.4-received-from",
        "Received says not whom it is from",
        received(rb"from .*\r\n\t(?=by)", b""),
    ),
    Fault(
        "received-no-helo",
        "5321-4.4-received-from-name",
        "Received does not have the name of EHLO",
        received(rb"from \S+", b"from unknown"),
        NON_STRICT,
    ),
    Fault(
        "received-no-address",
        "5321-4.4-received-hides-nothing",
        "Received does not have the client's address",
        received(rb" \(\[.*?\]\)", b""),
    ),
    Fault(
        "received-no-by",
        "5321-4.4-received-by",
        "Received says not who took it",
        received(rb"by \S+ ", b""),
    ),
    Fault(
        "received-no-date",
        "5321-4.4-received-date",
        "Received has no date",
        received(rb";\r\n\t.*\r\n", b"\r\n"),
    ),
    Fault(
        "received-wrong-date",
        "5321-4.4-received-date",
        "The date in Received has no day of the month",
        received(rb", \d+ ", b", "),
    ),
    Fault(
        "received-short-year",
        "5321-F.5-year",
        "The year in Received has two digits",
        received(rb" 20(\d\d) ", rb" \1 "),
    ),
    Fault(
        "received-zone-name",
        "5321-4.4-received-date",
        "The zone in Received is a name",
        received(rb"\+0000", b"CEST"),
        NON_STRICT,
    ),
    Fault(
        "received-wrong-day",
        "5322-3.3-dates",
        "The day of the week in Received is wrong",
        received(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d)", rb"Day, \2"),
    ),
    Fault(
        "received-with-mail",
        "5321-4.4-received-with",
        "WITH is no registered word",
        received(rb" with \S+", b" with EMAIL"),
        NON_STRICT,
    ),
    Fault(
        "received-via",
        "5321-4.4-received-via",
        "VIA is no registered word",
        received(rb" with ", b" via PIGEON with "),
        NON_STRICT,
    ),
    Fault(
        "received-for-all",
        "5321-4.4-received-for-of-two",
        "FOR names all recipients",
        house_around("received", _for_all),
    ),
    Fault(
        "received-semicolon",
        "5321-4.4-received-date",
        "Received has no semicolon",
        received(rb";\r\n", b"\r\n"),
    ),
    Fault(
        "with-always-smtp",
        "3848-1-esmtp",
        "WITH is always SMTP",
        received(rb" with \S+", b" with SMTP"),
        NON_STRICT,
    ),
    Fault(
        "with-always-esmtp",
        "3848-1-smtp",
        "WITH is always ESMTP",
        received(rb" with \S+", b" with ESMTP"),
        NON_STRICT,
    ),
    Fault(
        "with-no-s",
        "3848-1-esmtps",
        "WITH says nothing of TLS",
        received(rb" with (UTF8|E)?SMTPS", rb" with \1SMTP"),
        NON_STRICT,
    ),
    Fault(
        "with-no-a",
        "3848-1-esmtpsa",
        "WITH says nothing of AUTH",
        received(rb" with (\w*SMTPS?)A", rb" with \1"),
        NON_STRICT,
    ),
    Fault(
        "with-lmtp-is-esmtp",
        "3848-2-lmtp",
        "WITH of LMTP is ESMTP",
        received(rb" with LMTP", b" with ESMTP"),
        NON_STRICT,
    ),
    Fault(
        "no-return-path",
        "5321-4.4-return-path-ordinary",
        "No Return-Path is added",
        path_line(lambda line: b""),
    ),
    Fault(
        "return-path-twice",
        "5321-4.4-return-path-ordinary",
        "There are two Return-Path fields",
        path_line(lambda line: line * 2),
        NON_STRICT,
    ),
    Fault(
        "return-path-bare",
        "5321-4.4-return-path-plus",
        "Return-Path has no angle brackets",
        path_line(lambda line: line.replace(b"<", b"").replace(b">", b"")),
    ),
    Fault(
        "return-path-null",
        "5321-4.4-return-path-null",
        "A null Return-Path is written MAILER-DAEMON",
        path_line(lambda line: line.replace(b"<>", b"<MAILER-DAEMON>")),
    ),
    Fault(
        "return-path-of-from",
        "5321-4.4-return-path-digits",
        "Return-Path is always the same",
        path_line(lambda line: b"Return-Path: <postmaster@control.example>\r\n"),
    ),
    Fault(
        "return-path-kept",
        "5321-4.4-return-path-forged-ordinary",
        "A Return-Path that came stays",
        house(is_old=lambda self, each: False),
        NON_STRICT,
    ),
    Fault(
        "return-path-below",
        "5322-3.6.7-trace-order",
        "Return-Path stands below Received",
        storing(
            lambda octets: re.sub(
                rb"\A(Return-Path:[^\r]*\r\n)(.*?Received: from.*?\r\n)(?![ \t])",
                rb"\2\1",
                octets,
                flags=re.DOTALL,
            )
        ),
    ),
    # -- 4.2.5, 6: responsibility -----------------------------------------------------------------
    Fault(
        "refused-and-delivered",
        "5321-4.2.5-refused-content-bare-cr",
        "What is refused after its content is delivered all the same",
        both(around("receive_content", _notes_envelope), around("check_content", _stores_refused)),
    ),
    Fault(
        "lost",
        "5321-6.1-accepted-arrives",
        "Accepted mail is thrown away",
        house_around("deliver", _lost),
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
        both(server(late=True), house_around("report", lambda go, self, *rest: None)),
    ),
    Fault(
        "shared-mailbox",
        "5321-6.1-each-recipient",
        "All mail lands in one mailbox",
        house_around(
            "maildir", lambda go, self, path: go(path) and self.mailboxes["ada@control.example"]
        ),
    ),
    Fault(
        "true-end-after-cr",
        "5321-4.1.1.4-true-end-cr",
        "The end is not seen behind a bare CR",
        both(
            KEEPS,
            around("step_content", lambda go, self: None if b"\r\r\n.\r\n" in self.input else go()),
        ),
    ),
    Fault(
        "away",
        "3834-2-answer-to-null-sender",
        "Reports are answered, too",
        house_around("deliver", _answers),
    ),
    Fault(
        "results-forged",
        "8601-5-forged-plain",
        "Results of checks are taken from outside",
        house(is_forged=lambda self, each: False),
    ),
    Fault(
        "results-forged-in-disguise",
        "8601-5-forged-comment",
        "Results of checks are known only where their name comes first",
        house(
            is_forged=lambda self, each: each.startswith(
                b"Authentication-Results: mx.control.example"
            )
        ),
    ),
    Fault(
        "results-forged-capitals",
        "8601-5-forged-capitals",
        "Results of checks are compared with case",
        house(
            is_forged=lambda self, each: (
                b"mx.control.example" in each and each.startswith(b"Authentication-Results")
            )
        ),
    ),
    Fault(
        "results-grammar",
        "8601-2.2-grammar",
        "Results of checks have no name",
        results(rb"mx\.control\.example;", b""),
    ),
    Fault(
        "spf-word",
        "7208-9.1-received-spf",
        "Received-SPF has a word of its own",
        results(rb"Received-SPF: none", b"Received-SPF: maybe"),
    ),
)
