"""Faults against RFC 5321 4.4, 3848, 5322, 7208 and 8601: what is put on top of a message."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from specs.conformance.controls.mailbox import Envelope, name_of, split
from specs.conformance.controls.planting import (
    Change,
    Fault,
    header,
    house,
    house_around,
    storing,
)
from specs.conformance.model import NON_STRICT


def received(pattern: bytes, new: bytes) -> Change:
    """Our own Received field is otherwise."""
    return house_around("received", lambda go, self, *rest: re.sub(pattern, new, go(*rest)))


def results(pattern: bytes, new: bytes) -> Change:
    """What the server says of its checks is otherwise."""
    return house_around("results", lambda go, self, *rest: re.sub(pattern, new, go(*rest)))


def path_line(change: Callable[[bytes], bytes]) -> Change:
    return house_around("return_path", lambda go, self, *rest: change(go(*rest)))


def _received_twice(
    go: Any, self: Any, envelope: Envelope, recipient: Any, content: bytes
) -> bytes:
    """Our Received field at the end of the header."""
    made: bytes = go(envelope, recipient, content)
    head, blank, body = split(made)
    mine: bytes = self.received(envelope, recipient)
    return head.replace(mine, b"", 1) + mine + blank + body


def _for_all(go: Any, self: Any, envelope: Envelope, recipient: Any) -> bytes:
    made: bytes = go(envelope, recipient)
    named = ", ".join(f"<{each.path.text}>" for each in envelope.recipients)
    return re.sub(
        rb";\r\n\t(?=[A-Z][a-z]{2}, )",
        f"\r\n\tfor {named};\r\n\t".encode(),
        re.sub(rb"\r\n\tfor <[^>]*>", b"", made),
    )


def _results_below(go: Any, self: Any, envelope: Envelope, recipient: Any, content: bytes) -> bytes:
    made: bytes = go(envelope, recipient, content)
    head, blank, body = split(made)
    mine: bytes = self.results(envelope)
    return head.replace(mine, b"", 1) + mine + blank + body


FAULTS: Final = (
    # -- 4.4: trace --------------------------------------------------------------------------------
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
    Fault(
        "odd-received-dropped",
        "5321-7.6-hops-kept",
        "A Received field of an odd form is dropped",
        header(lambda fields: [each for each in fields if b"odd form" not in each]),
    ),
    Fault(
        "results-below",
        "8601-4.1-prepended",
        "Results of checks stand at the end of the header",
        house_around("stored", _results_below),
    ),
)
