"""Faults against RFC 5321 4.1.1, 3.5 and 4.5.1: commands, and their order."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, Refusal, answer
from specs.conformance.controls.liberties import LIBERTIES
from specs.conformance.controls.planting import (
    RECIPIENTS_STAY,
    Change,
    Fault,
    answering,
    around,
    both,
    drop,
    grammar,
    offering,
    on,
    refusing,
    rewriting,
    then,
    without,
)
from specs.conformance.controls.session import Session, Transaction
from specs.conformance.controls.syntax import Path
from specs.conformance.model import NON_STRICT


def lost_hello(session: Session) -> None:
    session.hello = ""
    session.transaction = None


def _prefixes(go: Any, self: Session, line: bytes) -> Any:
    """NOOPX is NOOP, and MAILX is MAIL."""
    verb = line[:4].upper()
    return go(verb + b" " + line[5:] if verb in (b"NOOP", b"RSET") else line)


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


def _keeps_after_message(go: Any, self: Session, *rest: Any, **named: Any) -> Any:
    kept = self.transaction
    found = go(*rest, **named)
    self.transaction = kept
    return found


def _spaced_parameters(go: Any, self: Session, text: str, table: Any) -> Any:
    return go(re.sub(r"^(?! )", " ", text) if text else text, table)


def _ignores_unknown(go: Any, self: Session, text: str, table: Any) -> Any:
    words = [each for each in text.split() if each.partition("=")[0].upper() in table]
    return go("".join(f" {each}" for each in words), table)


def refusing_early(verb: str) -> Change:
    """503 before EHLO."""

    def command(go: Any, self: Session, line: bytes) -> Any:
        if not self.hello and line.upper().startswith(verb.encode()):
            return answer(503, "5.5.1", "EHLO comes first")
        return go(line)

    return around("command", command)


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


FAULTS: Final = (
    Fault(
        "etrn-listed-and-unknown",
        "5321-2.2.2-offered-etrn",
        "ETRN is listed, and answered 502",
        refusing("ETRN.*", 502, "5.5.1"),
    ),
    # -- 4.1.1.1: EHLO -----------------------------------------------------------------------------
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
        "5321bis-4.1.1.1-ehlo-no-such-name",
        "A name in EHLO that nobody knows is refused",
        refusing(r"EHLO .*\.invalid", 550, ""),
        NON_STRICT,
    ),
    # -- 4.1.1.2: MAIL -----------------------------------------------------------------------------
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
        "5321-4.5.5-null-mail-plain",
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
    # -- 4.1.1.3: RCPT -----------------------------------------------------------------------------
    Fault(
        "null-recipient",
        "5321-4.1.1.3-null",
        "RCPT TO:<> is taken",
        answering("RCPT TO:<>.*", 250, "2.1.5"),
    ),
    Fault(
        "one-recipient",
        "5321-6.1-each-recipient",
        "Only the last recipient counts",
        around("add_recipient", lambda go, self, t, *rest: (t.recipients.clear(), go(t, *rest))[1]),
    ),
    # -- 4.1.1.4, 4.1.1.5: the end of a transaction ------------------------------------------------
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
        RECIPIENTS_STAY,
    ),
    Fault("data-250", "5321-4.1.1.4-354", "DATA is answered 250", answering("DATA", 250, "2.0.0")),
    Fault(
        "empty-message",
        "5321-4.1.1.4-empty",
        "A dot right behind 354 is no end",
        then("DATA", lambda self: self.content.clear()),
        observed="silent",
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
        "rset-early",
        "5321-4.1.1.5-rset-after-greeting",
        "RSET needs EHLO",
        refusing_early("RSET"),
        NON_STRICT,
    ),
    Fault(
        "rset-221",
        "5321-4.1.1.5-rset-after-ehlo",
        "RSET is answered 221",
        answering("RSET", 221, "2.0.0"),
    ),
    # -- 4.1.1.6 to 4.1.1.9 ------------------------------------------------------------------------
    Fault(
        "vrfy-unknown",
        "5321-4.5.1-vrfy-known",
        "VRFY is not known",
        refusing("VRFY.*", 500, "5.5.1"),
        verdict=NON_STRICT,
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
        behind=LIBERTIES["VRFY verifies"],
    ),
    Fault(
        "vrfy-no-argument",
        "5321-4.1.1.6-vrfy-no-argument",
        "VRFY without an argument is answered 252",
        answering("VRFY ?", 252, "2.0.0"),
        verdict=NON_STRICT,
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
        "noop-early",
        "5321-4.1.1.9-noop-after-greeting",
        "NOOP needs EHLO",
        refusing_early("NOOP"),
        NON_STRICT,
    ),
    Fault(
        "quit-early", "5321-4.1.1.10-quit-after-greeting", "QUIT needs EHLO", refusing_early("QUIT")
    ),
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
    # -- 4.1.1.11: parameters ----------------------------------------------------------------------
    Fault(
        "unknown-parameter",
        "5321-4.1.1.11-mail-unknown-no-value",
        "Unknown parameters are no matter",
        around("read_parameters", _ignores_unknown),
    ),
    Fault(
        "etrn-works-unlisted",
        "5321-4.1.1.1-unlisted-etrn",
        "ETRN works, though it is not listed",
        on("ETRN .*", lambda go, self, line: answer(250, "2.0.0", "queue run started")),
        behind=both(without("ETRN"), refusing("ETRN.*", 500, "5.5.1")),
    ),
    Fault(
        "expn-works-unlisted",
        "5321-3.5.2-expn-listed",
        "EXPN works, though it is not listed",
        offering(drop=["EXPN"]),
    ),
    Fault(
        "data-unknown",
        "5321-4.1.1.4-354",
        "DATA is not known",
        refusing("DATA.*", 500, "5.5.1"),
    ),
    Fault(
        "rset-unknown",
        "5321-4.1.1.5-rset-after-ehlo",
        "RSET is not known",
        refusing("RSET.*", 502, "5.5.1"),
    ),
    Fault(
        "expn-in-one-line",
        "5321-3.5.1-expn-one-a-line",
        "EXPN gives all members in one line",
        around("do_expn", lambda go, self, a: replace(go(a), lines=(", ".join(go(a).lines),))),
    ),
    Fault(
        "vrfy-gives-route",
        "5321-3.5.2-vrfy-no-route",
        "VRFY gives a source route",
        answering("VRFY .+", 250, "2.1.5", "<@relay.example:ada@control.example>"),
    ),
    Fault(
        "vrfy-misleads",
        "5321-7.3-vrfy-misleads",
        "VRFY that is switched off says 550",
        refusing("VRFY .*", 550, "5.1.1"),
    ),
    Fault(
        "data-before-mail",
        "5321-4.1.4-data-before-mail",
        "DATA before MAIL is answered 250",
        answering("DATA", 250, "2.0.0", within="!transaction"),
    ),
)
