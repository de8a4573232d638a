"""Faults against RFC 5321 2, 3 and 4.1: commands, their order, their syntax."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, Refusal, answer, no
from specs.conformance.controls.planting import (
    Change,
    Fault,
    answering,
    around,
    both,
    grammar,
    having,
    hearing,
    house_around,
    offering,
    refusing,
    rewriting,
    then,
)
from specs.conformance.controls.session import Session, Transaction
from specs.conformance.controls.syntax import ATEXT, Path, Syntax
from specs.conformance.model import NON_STRICT


def drop(session: Session) -> None:
    """The transaction is given up."""
    session.transaction = None


def lost_hello(session: Session) -> None:
    session.hello = ""
    session.transaction = None


def end(session: Session) -> None:
    session.ended = True


def _prefixes(go: Any, self: Session, line: bytes) -> Any:
    """NOOPX is NOOP, and MAILX is MAIL."""
    verb = line[:4].upper()
    return go(verb + b" " + line[5:] if verb in (b"NOOP", b"RSET") else line)


def _truncated(go: Any, self: Session, line: bytes) -> Any:
    return go(line[:100] if len(line) > 510 else line)


def _twice_closed(go: Any, self: Session, line: bytes) -> Any:
    found = go(line)
    if found.code == 500 and found.enhanced == "5.5.2":
        self.ended = True
    return found


def _keeps_transaction(go: Any, self: Session, *rest: Any) -> Any:
    kept = self.transaction
    found = go(*rest)
    self.transaction = kept
    return found


def _any_mail(go: Any, self: Session, argument: str) -> Answer:
    """MAIL within a transaction begins another one."""
    self.transaction = None
    found = go(argument)
    if not isinstance(found, Answer):
        raise TypeError(f"Answer was expected, not {found!r}")
    return found


def _failed_hello_forgets(go: Any, self: Session, *rest: Any) -> Any:
    self.hello, self.transaction = "", None
    return go(*rest)


def _data_without(go: Any, self: Session, argument: str) -> Any:
    """354 for a message to nobody."""
    if self.transaction is not None and not self.transaction.recipients:
        self.mode, self.content = "content", bytearray(b"\r\n")
        return answer(354, "", "go on")
    return go(argument)


def _keeps_after_message(go: Any, self: Session, *rest: Any, **named: Any) -> Any:
    kept = self.transaction
    found = go(*rest, **named)
    self.transaction = kept
    return found


def _left_recipients(go: Any, self: Session, argument: str) -> Any:
    """Recipients of the message before are there in the next one."""
    found = go(argument)
    if self.transaction is not None:
        self.transaction.recipients = list(getattr(self, "old", []))
    return found


def _remembers(go: Any, self: Any, transaction: Any, *rest: Any) -> Any:
    go(transaction, *rest)
    self.old = list(transaction.recipients)


def _strict_case(go: Any, self: Session, line: bytes) -> Any:
    verb = line.partition(b" ")[0]
    return go(b"WHAT" if verb != verb.upper() else line)


def _sevenbit(go: Any, self: Session, line: bytes) -> Any:
    return go(bytes(each & 0x7F for each in line))


def _bare_end(end_: bytes) -> Any:
    return hearing(end_, b"\r\n")


def _exact_domain(go: Any, self: Any, path: Path) -> Any:
    return "elsewhere" if path.domain != path.domain.lower() else go(path)


def _spaced_parameters(go: Any, self: Session, text: str, table: Any) -> Any:
    return go(re.sub(r"^(?! )", " ", text) if text else text, table)


def _ignores_unknown(go: Any, self: Session, text: str, table: Any) -> Any:
    words = [each for each in text.split() if each.partition("=")[0].upper() in table]
    return go("".join(f" {each}" for each in words), table)


def _repeats(go: Any, self: Session, text: str, table: Any) -> Any:
    """The last of several counts."""
    seen = {each.partition("=")[0].upper(): each for each in text.split()}
    return go("".join(f" {each}" for each in seen.values()), table)


def _quiet_expn(self: Session, argument: str) -> Answer:
    raise no(500, "5.5.1", "what?")


def _quoted_differs(go: Any, self: Any, path: Path) -> Any:
    return None if path.text.startswith('"') else go(path)


def _percent(go: Any, self: Session, path: Path) -> Any:
    """user%elsewhere@here is sent on to elsewhere."""
    return None if "%" in path.local else go(path)


def _accept_route(go: Any, self: Session, argument: str) -> Any:
    if re.match(r"TO:<@", argument, re.IGNORECASE) and self.transaction is not None:
        return answer(250, "2.1.5", "sent on")
    return go(argument)


class _Cased(Syntax):
    """<Postmaster> in just that spelling."""

    def path(self, text: str, *, null: bool = False, postmaster: bool = False) -> tuple[Path, str]:
        return Syntax.path(self, text, null=null, postmaster=postmaster and "<Postmaster>" in text)


def refusing_early(verb: str) -> Change:
    """503 before EHLO."""

    def command(go: Any, self: Session, line: bytes) -> Any:
        if not self.hello and line.upper().startswith(verb.encode()):
            return answer(503, "5.5.1", "EHLO comes first")
        return go(line)

    return around("command", command)


def _close_if(session: Session, found: Answer, code: int) -> Answer:
    session.ended |= found.code == code
    return found


def _drop_if(session: Session, found: Answer, code: int) -> Answer:
    if found.code == code:
        session.transaction = None
    return found


def _instead(found: Answer, code: int, other: int) -> Answer:
    return answer(other, "2.0.0", "ok") if found.code == code else found


def _fresh(session: Session) -> bool:
    """Whether this MAIL began the transaction."""
    known = session.transaction
    fresh = known is not None and not hasattr(session, f"seen{id(known)}")
    if known is not None:
        setattr(session, f"seen{id(known)}", True)
    return fresh


def _begins(session: Session, go: Any, argument: str, word: str, status: str) -> Any:
    try:
        return go(argument, word, status)
    except Refusal:
        session.transaction = session.transaction or Transaction(Path(), {})
        raise


def _split(session: Session, octets: bytes) -> bytes:
    if session.mode != "command":
        return octets
    return re.sub(rb"([^\r\n]{2048})(?=[^\r\n])", rb"\1\r\n", octets)


FAULTS: Final = (
    # -- 2 and 3: sessions ------------------------------------------------------------------------
    Fault("helo-unknown", "5321-2.2.1-helo", "HELO is not known", refusing("HELO .*", 500, "")),
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
        "etrn-listed-and-unknown",
        "5321-2.2.2-offered-etrn",
        "ETRN is listed, and answered 502",
        refusing("ETRN.*", 502, "5.5.1"),
    ),
    Fault(
        "help-listed-and-unknown",
        "5321-4.2.4-listed-help",
        "HELP is listed, and answered 502",
        refusing("HELP.*", 502, "5.5.1"),
    ),
    Fault(
        "postmaster-refused",
        "5321-2.3.5-postmaster-capital",
        "RCPT TO:<Postmaster> without a domain is refused",
        refusing("RCPT TO:<postmaster>.*", 550, "5.1.1"),
    ),
    Fault(
        "postmaster-one-case",
        "5321-2.3.5-postmaster-lower",
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
        around("receive", lambda go, self, octets: go(re.sub(rb"(?<!\r)\n", b"\r\n", octets))),
    ),
    Fault(
        "cr-ends-command",
        "5321-2.3.8-command-ends-in-cr",
        "A carriage return alone ends a command",
        around("receive", lambda go, self, octets: go(re.sub(rb"\r(?!\n)", b"\r\n", octets))),
    ),
    Fault(
        "verbs-in-capitals-only",
        "5321-2.4-case-noop",
        "A verb in small letters is not known",
        around("command", _strict_case),
    ),
    Fault(
        "parameters-in-capitals-only",
        "5321-2.4-case-parameter-body-keyword",
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
        "5321-3.3-rcpt-after-ehlo",
        "RCPT before MAIL is answered 250",
        answering("RCPT .*", 250, "2.1.5", within="!transaction"),
    ),
    Fault(
        "early-data",
        "5321-3.3-data-without-rcpt",
        "DATA before RCPT is answered 354, and its content 250",
        both(around("do_data", _data_without)),
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
    ),
    # -- 3.8: the connection ----------------------------------------------------------------------
    Fault(
        "closes-on-unknown",
        "5321-4.1.1.10-unknown-after-ehlo",
        "An unknown command ends the connection",
        around("command", lambda go, self, line: _close_if(self, go(line), 500)),
    ),
    Fault(
        "closes-on-bad-argument",
        "5321-3.8-stays-after-wrong-arguments",
        "A wrong argument ends the connection",
        around("command", lambda go, self, line: _close_if(self, go(line), 501)),
    ),
    Fault(
        "closes-on-refused-rcpt",
        "5321-3.8-stays-after-refused-recipient",
        "A refused recipient ends the connection",
        around("command", lambda go, self, line: _close_if(self, go(line), 550)),
    ),
    Fault(
        "closes-on-rset", "5321-4.1.1.5-keeps-hello", "RSET ends the connection", then("RSET", end)
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
    ),
    Fault(
        "quit-without-reply",
        "5321-4.1.1.10-quit-after-ehlo",
        "QUIT ends the connection at once",
        around("written", lambda go, self, each: b"" if each.code == 221 else go(each)),
    ),
    # -- 4.1.1.1: EHLO ----------------------------------------------------------------------------
    Fault(
        "ehlo-no-argument",
        "5321-4.1.1.1-ehlo-no-argument",
        "EHLO without a name is welcome",
        answering("EHLO ?", 250, "", "mx.control.example hello"),
        NON_STRICT,
    ),
    Fault(
        "helo-no-argument",
        "5321-4.1.1.1-helo-no-argument",
        "HELO without a name is welcome",
        answering("HELO ?", 250, "", "mx.control.example hello"),
        NON_STRICT,
    ),
    Fault(
        "ehlo-literal-refused",
        "5321-4.1.1.1-ehlo-literal-ipv4",
        "EHLO with an address literal is refused",
        refusing(r"EHLO \[.*", 501, ""),
    ),
    Fault(
        "ehlo-keyword-form",
        "5321-4.1.1.1-ehlo-keywords",
        "An EHLO line begins with a hyphen",
        offering(add=["-FAST", "X@FAST"]),
    ),
    Fault(
        "ehlo-keyword-control",
        "5321-4.1.1.1-ehlo-parameters",
        "An EHLO line holds a control character",
        offering(add=["XFAST \x01"]),
    ),
    Fault(
        "ehlo-no-domain",
        "5321-4.1.1.1-ehlo-name-first",
        "The reply to EHLO does not begin with a domain",
        around(
            "do_ehlo",
            lambda go, self, a: replace(go(a), lines=("Hello, nice to meet you", *go(a).lines[1:])),
        ),
    ),
    Fault(
        "ehlo-not-250",
        "5321-4.1.1.1-ehlo",
        "EHLO is answered 252",
        around("do_ehlo", lambda go, self, a: replace(go(a), code=252)),
    ),
    Fault(
        "ehlo-keeps-transaction",
        "5321-4.1.4-ehlo-clears-sender",
        "EHLO does not end the transaction",
        around("hail", _keeps_transaction),
    ),
    Fault(
        "ehlo-wrong-forgets",
        "5321-4.1.4-stays-bad-ehlo-then-data",
        "A wrong EHLO forgets the session",
        around("hail", _failed_hello_forgets),
    ),
    Fault(
        "ehlo-name-decides",
        "1123-5.2.5-ehlo-not-verified",
        "A name in EHLO that nobody knows is refused",
        refusing(r"EHLO .*\.invalid", 550, ""),
        NON_STRICT,
    ),
    # -- 4.1.1.2: MAIL ----------------------------------------------------------------------------
    Fault(
        "nested-mail",
        "5321-4.1.4-stays-bad-mail-then-data",
        "MAIL in a transaction begins a new one",
        around("do_mail", _any_mail),
    ),
    Fault(
        "nested-mail-ends",
        "5321-4.1.4-mail-again-recipients",
        "MAIL in a transaction is refused, and ends it",
        then("MAIL .*", lambda self: None if _fresh(self) else drop(self)),
    ),
    Fault(
        "null-sender-refused",
        "5321-4.1.1.2-null-sender",
        "The null reverse-path is refused",
        refusing("MAIL FROM:<>.*", 550, "5.7.1"),
    ),
    Fault(
        "null-sender-syntax",
        "5321-4.5.5-null-mail-plain",
        "The null reverse-path is a syntax error",
        refusing("MAIL FROM:<>.*", 501, "5.1.7"),
    ),
    Fault(
        "no-brackets",
        "5321-4.1.1.2-bad-no-brackets",
        "A path needs no angle brackets",
        grammar(brackets=False),
        NON_STRICT,
    ),
    Fault(
        "mail-without-from",
        "5321-4.1.1.2-bad-no-from",
        "MAIL needs no FROM:",
        rewriting("MAIL:? ?<.*", "MAIL FROM:<>"),
        NON_STRICT,
    ),
    Fault(
        "unbalanced",
        "5321-4.1.1.2-bad-not-closed",
        "The closing bracket may be missing",
        around(
            "command",
            lambda go, self, line: go(
                line + b">"
                if line[:9].upper() in (b"MAIL FROM", b"RCPT TO:<") and b">" not in line
                else line
            ),
        ),
        NON_STRICT,
    ),
    Fault(
        "no-space-before-parameters",
        "5321-4.1.1.2-bad-no-space-parameter",
        "Text may follow the path at once",
        around("read_parameters", _spaced_parameters),
        NON_STRICT,
    ),
    Fault(
        "bad-mail-keeps-state",
        "5321-4.1.4-stays-bad-domain-then-mail",
        "After a wrong MAIL there is a transaction",
        around("path", lambda go, self, *rest: _begins(self, go, *rest)),
    ),
    # -- 4.1.1.3: RCPT ----------------------------------------------------------------------------
    Fault(
        "null-recipient",
        "5321-4.1.1.3-null",
        "RCPT TO:<> is taken",
        answering("RCPT TO:<>.*", 250, "2.1.5"),
    ),
    Fault(
        "one-recipient",
        "5321-4.1.1.3-two-delivered",
        "Only the last recipient counts",
        around("add_recipient", lambda go, self, t, *rest: (t.recipients.clear(), go(t, *rest))[1]),
    ),
    Fault(
        "fifty-recipients",
        "5321-4.5.3.1.8-recipients-100",
        "No more than 50 recipients",
        having(most_recipients=50),
    ),
    Fault(
        "recipients-forgotten",
        "5321-4.5.3.1.8-recipients-none-lost",
        "Recipients beyond 99 are taken, and forgotten",
        around(
            "add_recipient",
            lambda go, self, t, *rest: go(t, *rest) if len(t.recipients) < 99 else None,
        ),
    ),
    # -- 4.1.1.4, 4.1.1.5: the end of a transaction -----------------------------------------------
    Fault(
        "sender-left",
        "5321-4.1.1.4-cleared",
        "After a message its transaction goes on",
        around("receive_content", _keeps_after_message),
    ),
    Fault(
        "recipients-left",
        "5321-4.1.1.4-recipients-cleared",
        "Recipients stay for the next message",
        both(around("do_mail", _left_recipients), around("add_recipient", _remembers)),
    ),
    Fault("data-250", "5321-4.1.1.4-354", "DATA is answered 250", answering("DATA", 250, "2.0.0")),
    Fault(
        "empty-message",
        "5321-4.1.1.4-empty",
        "A dot right behind 354 is no end",
        then("DATA", lambda self: self.content.clear()),
    ),
    Fault(
        "rset-nothing",
        "5321-4.1.1.5-drops-sender",
        "RSET is answered, and does nothing",
        around("do_rset", lambda go, self, a: answer(250, "2.0.0", "done")),
    ),
    Fault(
        "rset-forgets-ehlo",
        "5321-4.1.1.5-keeps-hello",
        "EHLO is needed again after RSET",
        then("RSET", lost_hello),
    ),
    Fault(
        "rset-early", "5321-4.1.4-early-rset", "RSET needs EHLO", refusing_early("RSET"), NON_STRICT
    ),
    Fault(
        "rset-221",
        "5321-4.1.1.5-rset-after-ehlo",
        "RSET is answered 221",
        answering("RSET", 221, "2.0.0"),
    ),
    # -- 4.1.1.6 to 4.1.1.9 -----------------------------------------------------------------------
    Fault(
        "vrfy-unknown",
        "5321-4.5.1-vrfy-known",
        "VRFY is not known",
        refusing("VRFY.*", 500, "5.5.1"),
    ),
    Fault(
        "vrfy-yes",
        "5321-3.5.3-vrfy-unknown",
        "VRFY says 250 to everything",
        answering("VRFY .+", 250, "2.1.5", "<you@control.example>"),
    ),
    Fault(
        "vrfy-no-mailbox",
        "5321-3.5.2-vrfy-mailbox",
        "VRFY says 250 without a mailbox",
        answering("VRFY .+", 250, "2.1.5", "yes"),
    ),
    Fault(
        "vrfy-no-argument",
        "5321-4.1.1.6-vrfy-no-argument",
        "VRFY without an argument is answered 252",
        answering("VRFY ?", 252, "2.0.0"),
    ),
    Fault(
        "vrfy-ends-transaction",
        "5321-4.1.1.6-vrfy-changes-nothing",
        "VRFY ends the transaction",
        then("VRFY .*", drop),
    ),
    Fault(
        "expn-ends-transaction",
        "5321-4.1.1.7-expn-changes-nothing",
        "EXPN ends the transaction",
        then("EXPN .*", drop),
    ),
    Fault(
        "help-ends-transaction",
        "5321-4.1.1.8-help-changes-nothing",
        "HELP ends the transaction",
        then("HELP.*", drop),
    ),
    Fault(
        "noop-ends-transaction",
        "5321-4.1.1.9-noop-changes-nothing",
        "NOOP ends the transaction",
        then("NOOP.*", drop),
    ),
    Fault(
        "noop-354", "5321-4.1.1.9-noop-after-ehlo", "NOOP is answered 354", answering("NOOP", 354)
    ),
    Fault(
        "noop-unknown",
        "5321-4.1.1.9-noop-after-ehlo",
        "NOOP is not known",
        refusing("NOOP.*", 500, "5.5.1"),
    ),
    Fault("help-354", "5321-4.1.1.8-help", "HELP is answered 354", answering("HELP.*", 354)),
    Fault(
        "noop-early", "5321-4.1.4-early-noop", "NOOP needs EHLO", refusing_early("NOOP"), NON_STRICT
    ),
    Fault("quit-early", "5321-4.1.4-early-quit", "QUIT needs EHLO", refusing_early("QUIT")),
    Fault(
        "prefix-is-enough",
        "5321-4.1.1-verb-noopx",
        "A verb with a letter more is the verb",
        around("command", _prefixes),
    ),
    Fault(
        "unknown-250",
        "5321-4.2.4-unknown-word",
        "Unknown commands are answered 250",
        around("command", lambda go, self, line: _instead(go(line), 500, 250)),
    ),
    Fault(
        "out-of-order-ends",
        "5321-4.1.4-stays-data-then-rcpt",
        "A command out of order ends the transaction",
        around("command", lambda go, self, line: _drop_if(self, go(line), 503)),
    ),
    Fault(
        "syntax-error-ends",
        "5321-4.1.4-stays-bad-ehlo-then-data",
        "A syntax error ends the transaction",
        around("command", lambda go, self, line: _drop_if(self, go(line), 501)),
    ),
    Fault(
        "unknown-ends",
        "5321-4.1.1.10-unknown-changes-nothing",
        "An unknown command ends the transaction",
        around("command", lambda go, self, line: _drop_if(self, go(line), 500)),
    ),
    # -- 4.1.1.11: parameters ---------------------------------------------------------------------
    Fault(
        "unknown-parameter",
        "5321-4.1.1.11-mail-unknown-no-value",
        "Unknown parameters are no matter",
        around("read_parameters", _ignores_unknown),
    ),
    Fault(
        "parameter-twice",
        "1870-6-twice",
        "A parameter may be given twice",
        around("read_parameters", _repeats),
        NON_STRICT,
    ),
    # -- 4.1.2, 4.1.3: addresses ------------------------------------------------------------------
    Fault(
        "quoted-refused",
        "5321-4.1.2-mail-local-quoted",
        "A quoted local part is a syntax error",
        grammar(quoted="\x00"),
    ),
    Fault(
        "quoted-differs",
        "5321-4.1.2-same-quotes",
        'ada and "ada" are two mailboxes',
        house_around("maildir", _quoted_differs),
    ),
    Fault(
        "quoted-pair-kept",
        "5321-4.1.2-same-pair",
        "A quoted pair is not taken apart",
        house_around("maildir", lambda go, self, path: None if "\\" in path.text else go(path)),
    ),
    Fault(
        "dots-anywhere",
        "5321-4.1.2-mail-no-local-dots",
        "Dots may stand anywhere in a local part",
        grammar(dot_string=rf"[.{ATEXT}]+"),
        NON_STRICT,
    ),
    Fault(
        "hyphens-anywhere",
        "5321-4.1.2-mail-no-domain-hyphen-first",
        "A label may begin and end with a hyphen",
        grammar(label=r"[A-Za-z0-9-]+"),
        NON_STRICT,
    ),
    Fault(
        "underscores",
        "5321-4.1.2-mail-domain-octet-underscore",
        "A label may have an underscore",
        grammar(label=r"[A-Za-z0-9_-]+"),
    ),
    Fault(
        "empty-labels",
        "5321-4.1.2-mail-no-domain-empty-label",
        "A label may be empty",
        grammar(label=r"[A-Za-z0-9-]*"),
        NON_STRICT,
    ),
    Fault(
        "comments",
        "5321-4.1.2-mail-no-local-comment",
        "Comments in a path are taken out",
        around("command", lambda go, self, line: go(re.sub(rb"\([^)]*\)", b"", line))),
        NON_STRICT,
    ),
    Fault(
        "controls-in-quotes",
        "5321-4.1.2-mail-control-quoted-soh",
        "Control characters are taken",
        around(
            "command", lambda go, self, line: go(re.sub(rb"[\x00-\x09\x0b-\x1f\x7f]", b"", line))
        ),
    ),
    Fault(
        "brackets-nested",
        "5321-4.1.2-mail-no-path-nested",
        "Angle brackets are taken in an address",
        around(
            "command", lambda go, self, line: go(line.replace(b"<<", b"<").replace(b">>", b">"))
        ),
        NON_STRICT,
    ),
    Fault(
        "literals-refused",
        "5321-4.1.3-mail-v4",
        "An address literal is a syntax error",
        grammar(literals=False),
    ),
    Fault(
        "ipv6-refused",
        "5321-4.1.3-mail-v6",
        "IPv6 literals are a syntax error",
        refusing(r"MAIL FROM:<[^>]*\[IPv6:.*", 501, "5.1.7"),
    ),
    Fault(
        "literals-unchecked",
        "5321-4.1.3-mail-bad-v4-256",
        "Anything in square brackets is a literal",
        around(
            "command", lambda go, self, line: go(re.sub(rb"\[[^\]>]*\]?>", b"[127.0.0.1]>", line))
        ),
        NON_STRICT,
    ),
    Fault(
        "hash-literal",
        "5321-F.4-number-rcpt",
        "A number behind # is an address",
        around("command", lambda go, self, line: go(re.sub(rb"@#[0-9]+>", b"@[127.0.0.1]>", line))),
    ),
    # -- 4.5.3.1: sizes ---------------------------------------------------------------------------
    Fault(
        "local-32",
        "5321-4.5.3.1.1-local-rcpt",
        "A local part has 32 octets at most",
        grammar(most_local=32),
    ),
    Fault(
        "local-63",
        "5321-4.5.3.1.1-local-mail",
        "A local part has 63 octets at most",
        grammar(most_local=63),
    ),
    Fault(
        "domain-64",
        "5321-4.5.3.1.2-domain-mail",
        "A domain has 64 octets at most",
        grammar(most_domain=64),
    ),
    Fault(
        "domain-200",
        "5321-4.5.3.1.2-domain-rcpt",
        "A domain has 200 octets at most",
        grammar(most_domain=200),
    ),
    Fault(
        "path-128",
        "5321-4.5.3.1.3-path-mail",
        "A path has 128 octets at most",
        grammar(most_path=128),
    ),
    Fault(
        "path-255",
        "5321-4.5.3.1.3-path-rcpt",
        "A path has 255 octets at most",
        grammar(most_path=255),
    ),
    Fault(
        "line-256",
        "5321-4.5.3.1.4-noop",
        "A command line has 256 octets at most",
        having(most_line=256),
    ),
    Fault(
        "line-511",
        "5321-4.5.3.1.4-vrfy",
        "A command line has 511 octets at most",
        having(most_line=511),
    ),
    Fault(
        "line-split",
        "5321-4.5.3.1.4-overlong-5000-words",
        "The rest of a long line is another command",
        around("receive", lambda go, self, octets: go(_split(self, octets))),
    ),
    Fault(
        "long-line-closes",
        "5321-4.5.3.1.4-overlong-5000-letters",
        "A long line ends the connection",
        around("command", _twice_closed),
        NON_STRICT,
    ),
    # -- more of the same sections ----------------------------------------------------------------
    Fault(
        "etrn-works-unlisted",
        "5321-4.1.1.1-unlisted-etrn",
        "ETRN works, though it is not listed",
        offering(drop=["ETRN"]),
    ),
    Fault(
        "expn-works-unlisted",
        "5321-3.5.2-expn-listed",
        "EXPN works, though it is not listed",
        offering(drop=["EXPN"]),
    ),
    Fault(
        "data-unknown",
        "5321-4.5.1-verb-data",
        "DATA is not known",
        refusing("DATA.*", 500, "5.5.1"),
    ),
    Fault(
        "rset-unknown",
        "5321-4.5.1-verb-rset",
        "RSET is not known",
        refusing("RSET.*", 502, "5.5.1"),
    ),
    Fault(
        "null-sender-of-rcpt",
        "5321-4.5.5-null-arrives",
        "What has no sender is thrown away",
        house_around(
            "deliver",
            lambda go, self, envelope, content: (
                None if envelope.sender.null else go(envelope, content)
            ),
        ),
    ),
)
