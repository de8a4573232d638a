"""Faults against RFC 5321 2 and 3: sessions, what is offered, what is taken; RFC 1123."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer, no
from specs.conformance.controls.planting import (
    DATA_FOR_NOBODY,
    Fault,
    answering,
    around,
    both,
    drop,
    grammar,
    having,
    hearing,
    house_around,
    offering,
    on,
    refusing,
    then,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import Path, Syntax
from specs.conformance.model import NON_STRICT


def end(session: Session) -> None:
    session.ended = True


def _strict_case(go: Any, self: Session, line: bytes) -> Any:
    verb = line.partition(b" ")[0]
    return go(b"WHAT" if verb != verb.upper() else line)


def _sevenbit(go: Any, self: Session, line: bytes) -> Any:
    return go(bytes(each & 0x7F for each in line))


def _exact_domain(go: Any, self: Any, path: Path) -> Any:
    return "elsewhere" if path.domain != path.domain.lower() else go(path)


def _quiet_expn(self: Session, argument: str) -> Answer:
    raise no(500, "5.5.1", "what?")


def _percent(go: Any, self: Session, path: Path) -> Any:
    """user%elsewhere@here is sent on to elsewhere."""
    return None if "%" in path.local else go(path)


class _Cased(Syntax):
    """<Postmaster> in just that spelling."""

    def path(self, text: str, *, null: bool = False, postmaster: bool = False) -> tuple[Path, str]:
        return Syntax.path(self, text, null=null, postmaster=postmaster and "<Postmaster>" in text)


def _close_if(session: Session, found: Answer, code: int) -> Answer:
    session.ended |= found.code == code
    return found


FAULTS: Final = (
    # -- 2 and 3: sessions -------------------------------------------------------------------------
    Fault("helo-unknown", "5321-4.1.1.1-helo", "HELO is not known", refusing("HELO .*", 500, "")),
    Fault(
        "helo-mail-refused",
        "5321-2.2.1-helo-transaction",
        "No mail after HELO",
        around(
            "greeted",
            lambda go, self: self.__setattr__("hello", self.hello.replace("HELO", "")) or go(),
        ),
    ),
    Fault(
        "helo-keywords",
        "5321-3.2-helo-after-ehlo",
        "HELO is answered with the keywords of EHLO",
        around(
            "do_helo", lambda go, self, a: replace(go(a), lines=(*go(a).lines, *self.keywords()))
        ),
    ),
    Fault(
        "keyword-not-registered",
        "5321-2.2.2-keywords",
        "EHLO lists a word with an underscore",
        offering(add=["FAST_MAIL"]),
    ),
    Fault(
        "expn-listed-and-unknown",
        "5321-4.2.4-listed-expn",
        "EXPN is listed, and answered 500",
        having(do_expn=_quiet_expn),
    ),
    Fault(
        "help-listed-and-unknown",
        "5321-4.2.4-listed-help",
        "HELP is listed, and answered 502",
        refusing("HELP.*", 502, "5.5.1"),
    ),
    Fault(
        "postmaster-refused",
        "5321-4.5.1-postmaster-alone",
        "RCPT TO:<Postmaster> without a domain is refused",
        refusing("RCPT TO:<postmaster>.*", 550, "5.1.1"),
    ),
    Fault(
        "postmaster-one-case",
        "5321-4.5.1-postmaster-alone-small",
        "Only the spelling Postmaster is known",
        having(syntax=_Cased()),
    ),
    Fault(
        "postmaster-of-domain-refused",
        "5321-4.5.1-postmaster-at-domain",
        "There is no postmaster in the domain",
        refusing("RCPT TO:<postmaster@.*", 550, "5.1.1"),
    ),
    Fault(
        "lf-ends-command",
        "5321-2.3.8-command-ends-in-lf",
        "A line feed alone ends a command",
        hearing(lambda octets: re.sub(rb"(?<!\r)\n", b"\r\n", octets)),
    ),
    Fault(
        "cr-ends-command",
        "5321-2.3.8-command-ends-in-cr",
        "A carriage return alone ends a command",
        hearing(lambda octets: re.sub(rb"\r(?!\n)", b"\r\n", octets)),
    ),
    Fault(
        "verbs-in-capitals-only",
        "5321-4.1.1.9-noop-lower",
        "A verb in small letters is not known",
        around("command", _strict_case),
    ),
    Fault(
        "parameters-in-capitals-only",
        "6152-3-keyword-lower",
        "A parameter in small letters is not known",
        refusing("MAIL .*> .*(?-i:size|body|siZe|boDy).*", 555, "5.5.4"),
    ),
    Fault(
        "domain-with-case",
        "5321-2.4-case-rcpt-domain",
        "A domain in capitals is another one",
        house_around("knows", _exact_domain),
    ),
    Fault(
        "eight-bits-stripped",
        "5321-2.4-high-bit-noop",
        "The high bit of commands is taken off",
        around("command", _sevenbit),
    ),
    Fault(
        "leading-space",
        "5321-2.4-blank-before-verb-space",
        "Spaces before a verb are taken",
        around("command", lambda go, self, line: go(line.lstrip(b" \t"))),
        NON_STRICT,
    ),
    Fault(
        "early-rcpt",
        "5321-4.1.4-rcpt-before-mail",
        "RCPT before MAIL is answered 250",
        answering("RCPT .*", 250, "2.1.5", within="!transaction"),
    ),
    Fault(
        "early-data",
        "5321-4.1.4-data-before-rcpt",
        "DATA before RCPT is answered 354, and its content 250",
        DATA_FOR_NOBODY,
    ),
    Fault(
        "relay",
        "5321-3.6.2-relay",
        "Mail for strangers to anywhere is taken",
        having(check_recipient=lambda self, path: None),
    ),
    Fault(
        "relay-by-percent",
        "5321-3.6.2-disguise-percent-elsewhere",
        "user%elsewhere@here is taken",
        around("check_recipient", _percent),
    ),
    Fault(
        "unknown-user-taken",
        "5321-3.3-unknown-user",
        "Everybody is known, and most are never told",
        around(
            "check_recipient", lambda go, self, path: None if "nobody" in path.text else go(path)
        ),
        NON_STRICT,
    ),
    Fault(
        "unknown-ends-transaction",
        "5321-3.3-good-recipient-after-relay",
        "A refused RCPT ends the transaction",
        then("RCPT TO:<(nobody|.*elsewhere).*", drop),
    ),
    Fault(
        "route-refused",
        "5321-4.1.1.3-source-route-one",
        "A source route is a syntax error",
        grammar(routes=False),
        verdict=NON_STRICT,
    ),
    # -- 3.8: the connection -----------------------------------------------------------------------
    Fault(
        "closes-on-unknown",
        "5321-4.1.1.10-unknown-after-ehlo",
        "An unknown command ends the connection",
        around("command", lambda go, self, line: _close_if(self, go(line), 500)),
        observed="closed",
    ),
    Fault(
        "closes-on-bad-argument",
        "5321-3.8-stays-after-wrong-arguments",
        "A wrong argument ends the connection",
        around("command", lambda go, self, line: _close_if(self, go(line), 501)),
        observed="closed",
    ),
    Fault(
        "closes-on-refused-rcpt",
        "5321-3.8-stays-after-refused-recipient",
        "A refused recipient ends the connection",
        around("command", lambda go, self, line: _close_if(self, go(line), 550)),
        observed="closed",
    ),
    Fault(
        "closes-on-rset",
        "5321-4.1.1.5-keeps-hello",
        "RSET ends the connection",
        then("RSET", end),
        observed="closed",
    ),
    Fault(
        "quit-250",
        "5321-4.1.1.10-quit-after-ehlo",
        "QUIT is answered 250",
        answering("QUIT", 250, "2.0.0"),
    ),
    Fault(
        "quit-stays",
        "5321-4.1.1.10-quit-closes",
        "The connection stays after QUIT",
        then("QUIT", lambda self: setattr(self, "ended", False)),
        observed="silent",
    ),
    Fault(
        "quit-without-reply",
        "5321-4.1.1.10-quit-after-ehlo",
        "QUIT ends the connection at once",
        around("written", lambda go, self, each: b"" if each.code == 221 else go(each)),
        observed="closed",
    ),
    Fault(
        "unknown-user-never-told",
        "1123-5.2.7-unknown-is-told",
        "Everybody is known, and their mail thrown away",
        both(
            around("check_recipient", lambda go, self, path: None),
            house_around("report", lambda go, self, *rest: None),
        ),
        verdict=NON_STRICT,
    ),
    Fault(
        "null-sender-refused-of-message",
        "1123-5.2.9-null-path-message",
        "A message without a sender has a wrong syntax",
        refusing("MAIL FROM:<>.*", 501, "5.1.7"),
    ),
    Fault(
        "relay-by-route",
        "5321-3.6.2-disguise-route",
        "A source route leads anywhere",
        on("RCPT TO:<@.*", lambda go, self, line: answer(250, "2.1.5", "sent on"), "transaction"),
    ),
)
