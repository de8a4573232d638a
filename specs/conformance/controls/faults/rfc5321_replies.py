"""Faults against RFC 5321 4.2 and 4.3: replies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer
from specs.conformance.controls.planting import (
    Change,
    Fault,
    around,
    on,
    saying,
)
from specs.conformance.controls.session import Session
from specs.conformance.model import NON_STRICT


def _echo(go: Any, self: Session, line: bytes) -> Any:
    """Unknown commands are shown in the reply, as they are."""
    found = go(line)
    if found.code in (500, 501):
        return replace(found, lines=("what is " + line.decode("latin-1"),))
    return found


def _counted(session: Any, found: Answer) -> Answer:
    session.mistakes = getattr(session, "mistakes", 0) + (found.code in (500, 501, 503))
    session.ended |= session.mistakes > 1
    return answer(found.code, found.enhanced, *found.lines)


def _code(old: bytes, new: bytes) -> Change:
    return saying(lambda octets: re.sub(rb"(?m)^" + old, new, octets))


@dataclass(frozen=True)
class _Otherwise(Answer):
    """With other octets."""

    change: Callable[[bytes], bytes] = bytes

    def octets(self) -> bytes:
        return self.change(super().octets())


def to(pattern: str, change: Callable[[bytes], bytes]) -> Change:
    """The octets of the answers to such lines are changed."""

    def otherwise(go: Any, self: Session, line: bytes) -> Answer:
        found = go(line)
        return _Otherwise(found.code, found.enhanced, found.lines, change)

    return on(pattern, otherwise)


FAULTS: Final = (
    Fault(
        "greeting-twice",
        "5321-3.1-greeting-once",
        "There are two greetings",
        around("greeting", lambda go, self: go() + go()),
    ),
    Fault("code-650", "5321-4.2-digits-mistakes", "A code begins with 6", _code(b"500", b"650")),
    Fault(
        "code-560",
        "5321-4.2-digits-echo",
        "The second digit of a code is 6",
        _code(b"50(?=[0-9])", b"56"),
    ),
    Fault(
        "code-alone-unknown",
        "5321-4.2-form-echo",
        "A reply is text without a code",
        _code(rb"500 5\.5\.1 ", b"error: "),
    ),
    Fault(
        "lf-reply",
        "5321-4.2-crlf-mail",
        "Reply lines end in LF alone",
        saying(lambda octets: octets.replace(b"\r\n", b"\n")),
    ),
    Fault(
        "no-last-line",
        "5321-4.2.1-reply-lines-help",
        "The reply to HELP has no last line",
        to("HELP", lambda octets: octets.replace(b"214 ", b"214-")),
        observed="silent",
    ),
    Fault(
        "reply-too-long",
        "5321-4.2-length-mistakes",
        "A reply line has 600 octets",
        saying(lambda octets: re.sub(rb"(?m)^(500 [^\r]*)", rb"\1 " + b"x" * 600, octets)),
    ),
    Fault(
        "reply-echoes-line",
        "5321-4.2-printable-echo",
        "A reply shows the whole line again",
        around("command", _echo),
        NON_STRICT,
    ),
    Fault(
        "reply-utf8",
        "5321-4.2-ascii-mistakes",
        "Reply texts are not ASCII",
        saying(lambda octets: re.sub(rb"(?m)^(5.. [^\r]*)", b"\\1 d\xc3\xa9sol\xc3\xa9", octets)),
    ),
    Fault(
        "reply-control",
        "5321-4.2-printable-mistakes",
        "A reply text has a control character",
        saying(lambda octets: re.sub(rb"(?m)^(5.. [^\r]*)", b"\\1 \x1b[31m", octets)),
    ),
    Fault(
        "two-replies-to-rcpt",
        "5321-4.2-one-reply-rcpt",
        "RCPT is answered twice",
        to("RCPT .*", lambda octets: octets * 2),
    ),
    Fault(
        "two-replies-to-rset",
        "5321-4.2-one-reply-mail",
        "RSET is answered twice",
        to("RSET", lambda octets: octets * 2),
    ),
    Fault(
        "two-replies-to-message",
        "5321-4.2-one-reply-message",
        "The end of data is answered twice",
        around("final", lambda go, self, *rest: go(*rest) * 2),
    ),
    Fault(
        "no-reply-to-unknown",
        "5321-4.2-one-reply-wrong",
        "Unknown commands are not answered",
        saying(lambda octets: b"" if octets.startswith(b"500") else octets),
        observed="silent",
    ),
    Fault(
        "no-reply-to-refused",
        "5321-4.2-one-reply-refused",
        "A refused RCPT is not answered",
        saying(lambda octets: b"" if octets.startswith((b"550", b"501")) else octets),
        observed="silent",
    ),
    Fault(
        "help-lines-differ",
        "5321-4.2.1-reply-lines-help",
        "A line of HELP has no code",
        to("HELP", lambda octets: octets.replace(b"\r\n214 2.0.0 ", b"\r\n")),
        observed="garbage",
    ),
    Fault(
        "data-argument-250",
        "5321-4.3.2-data-with-argument",
        "DATA with an argument is answered 250",
        to("DATA .+", lambda octets: b"250 2.0.0 ok\r\n"),
    ),
    Fault(
        "rcpt-220",
        "5321-4.3.2-code-rcpt",
        "RCPT is answered 220",
        to("RCPT .*", lambda octets: octets.replace(b"250", b"220")),
        NON_STRICT,
    ),
    Fault(
        "mail-251",
        "5321-4.3.2-code-mail",
        "MAIL is answered 251",
        to("MAIL .*", lambda octets: octets.replace(b"250", b"251")),
        NON_STRICT,
    ),
    Fault(
        "helo-220",
        "5321-4.1.1.1-helo",
        "HELO is answered 220",
        to("HELO .*", lambda octets: octets.replace(b"250", b"220")),
        NON_STRICT,
    ),
    Fault(
        "message-200",
        "5321-4.3.2-code-content",
        "The end of data is answered 200",
        around(
            "final",
            lambda go, self, *rest: [
                replace(each, code=200 if each.code == 250 else each.code) for each in go(*rest)
            ],
        ),
        NON_STRICT,
    ),
    Fault(
        "second-mistake-ends",
        "5321-3.8-stays-after-unknown-verbs",
        "The second mistake ends the session without a word",
        around("command", lambda go, self, line: _counted(self, go(line))),
        observed="closed",
    ),
    Fault(
        "class-of-enhanced",
        "5321-4.2-class-mistakes",
        "An enhanced code has another class",
        _code(rb"5(\d\d [^\d]?)5\.", rb"5\g<1>4."),
    ),
    Fault(
        "texts-are-missing",
        "5321-4.2-text-mail",
        "Replies have no text",
        saying(lambda octets: re.sub(rb"(?m)^(250) [^\r]*(?=\r\n\Z)", rb"\1", octets)),
        NON_STRICT,
    ),
)
