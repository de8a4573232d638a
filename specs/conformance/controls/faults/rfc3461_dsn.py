"""Faults against RFC 3461: what is asked of reports, and which are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Refusal, answer
from specs.conformance.controls.mailbox import Envelope, Outcome
from specs.conformance.controls.planting import (
    LATE,
    Change,
    Fault,
    around,
    house,
    house_around,
    of_mail,
    of_rcpt,
    refusing,
    text,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import Syntax
from specs.conformance.model import NON_STRICT


def decided(wanted: Callable[[frozenset[str], str], bool]) -> Change:
    """(NOTIFY, action) to whether there is a report."""
    return house(wanted=lambda self, outcome: wanted(outcome[0].notify, outcome[1]))


def told(change: Callable[[Outcome], Outcome]) -> Change:
    return house_around(
        "send_report",
        lambda go, self, envelope, content, outcomes: go(
            envelope, content, [change(each) for each in outcomes]
        ),
    )


def enveloped(change: Callable[[Envelope], Envelope]) -> Change:
    return house_around(
        "send_report", lambda go, self, envelope, *rest: go(change(envelope), *rest)
    )


def encoded(value: str) -> str:
    """As if it had not been decoded."""
    return re.sub(r"[^!-*,-<>-~]|[+=]", lambda found: f"+{ord(found[0]):02X}", value)


def _raw(session: Session, value: str | None) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), value or "")


def _raw_orcpt(session: Session, value: str | None) -> tuple[str, str]:
    kind, _, address = _raw(session, value).partition(";")
    return kind, address


def _orcpt(change: Callable[[str], str]) -> Change:
    def of(outcome: Outcome) -> Outcome:
        who = outcome[0]
        if who.orcpt is None:
            return outcome
        return (replace(who, orcpt=(who.orcpt[0], change(who.orcpt[1]))), *outcome[1:])

    return told(of)


def _invented(outcome: Outcome) -> Outcome:
    who = outcome[0]
    return (replace(who, orcpt=who.orcpt or ("rfc822", who.path.text)), *outcome[1:])


def _remembered(name: str) -> Change:
    """A parameter of an earlier transaction counts, where the next one has none."""

    def read(go: Any, self: Any, words: str, table: Any) -> Any:
        found = go(words, table)
        if name in table:
            kept = getattr(self, "old_" + name, None)
            setattr(self, "old_" + name, found.get(name, kept))
            if name not in found and kept is not None:
                found[name] = kept
        return found

    return around("read_parameters", read)


def to_header(go: Any, self: Any, envelope: Envelope, content: bytes, outcomes: Any) -> Any:
    """A report for a null sender goes to whom the header names."""
    found = re.search(
        rb"(?im)^(?:From|Reply-To|Sender|Errors-To|Disposition-Notification-To):.*<([^>]+)>",
        content,
    )
    if envelope.sender.null and found:
        envelope = replace(envelope, sender=Syntax().mailbox(found[1].decode()))
    return go(envelope, content, outcomes)


def _by_return_path(go: Any, self: Any, envelope: Envelope, content: bytes, told_: Any) -> bytes:
    made: bytes = go(envelope, content, told_)
    return made.replace(b"Return-Path: <>", f"Return-Path: <{envelope.sender.text}>".encode())


def _354(go: Any, argument: str) -> Any:
    try:
        return go(argument)
    except Refusal as refusal:
        if "NOTIFY=" in argument.upper() and refusal.answer.code == 501:
            return answer(354, "", "go on")
        raise


def _repeats(go: Any, self: Session, text: str, table: Any) -> Any:
    """The last of several counts."""
    seen = {each.partition("=")[0].upper(): each for each in text.split()}
    return go("".join(f" {each}" for each in seen.values()), table)


FAULTS: Final = (
    # -- RFC 3461: parameters ----------------------------------------------------------------------
    Fault(
        "ret-unchecked",
        "3461-4.3-ret-unknown-word",
        "RET takes anything",
        of_mail("RET", lambda session, value: value or ""),
        verdict=NON_STRICT,
    ),
    Fault(
        "ret-in-capitals",
        "3461-4.3-ret-lower-case",
        "RET is known in capitals only",
        refusing("MAIL .*RET=(?-i:[a-z]+).*", 501, "5.5.4"),
    ),
    Fault(
        "ret-full-refused",
        "3461-4.3-ret-full",
        "RET=FULL is refused",
        refusing("MAIL .*RET=FULL.*", 501, "5.5.4"),
    ),
    Fault(
        "envid-unchecked",
        "3461-4.4-envid-wrong-hex",
        "ENVID takes anything",
        of_mail("ENVID", lambda session, value: value or ""),
    ),
    Fault(
        "envid-32",
        "3461-5.4-long-envid",
        "ENVID has 32 characters at most",
        refusing("MAIL .*ENVID=[^ ]{33,}.*", 501, "5.5.4"),
    ),
    Fault(
        "envid-punctuation",
        "3461-4.4-envid-punctuation",
        "ENVID has letters and digits only",
        refusing("MAIL .*ENVID=[^ ]*[!#$%&*].*", 501, "5.5.4"),
    ),
    Fault(
        "notify-354",
        "3461-4.1-notify-unknown-word",
        "NOTIFY with a wrong word is answered 354",
        around("do_rcpt", lambda go, self, a: _354(go, a)),
    ),
    Fault(
        "notify-never-refused",
        "3461-4.1-notify-never",
        "NOTIFY=NEVER is refused",
        refusing("RCPT .*NOTIFY=NEVER.*", 501, "5.5.4"),
    ),
    Fault(
        "notify-one-word",
        "3461-4.1-notify-another-order",
        "NOTIFY has one word only",
        refusing("RCPT .*NOTIFY=[A-Z]+,.*", 501, "5.5.4"),
    ),
    Fault(
        "notify-in-capitals",
        "3461-4.1-notify-lower-case",
        "NOTIFY is known in capitals only",
        refusing("RCPT .*NOTIFY=(?-i:[a-z]+).*", 501, "5.5.4"),
    ),
    Fault(
        "orcpt-refused",
        "3461-4.2-orcpt",
        "ORCPT is unknown",
        refusing("RCPT .*ORCPT=.*", 555, "5.5.4"),
    ),
    Fault(
        "orcpt-must-match",
        "3461-4.2-orcpt-other-address",
        "ORCPT must be the address of RCPT",
        refusing("RCPT TO:<([^>]*)>.*ORCPT=(?!rfc822;ada@).*", 553, "5.5.4"),
    ),
    Fault(
        "orcpt-100",
        "3461-5.4-long-orcpt",
        "ORCPT has 100 characters at most",
        refusing("RCPT .*ORCPT=[^ ]{100,}.*", 501, "5.5.4"),
    ),
    Fault(
        "dsn-order",
        "3461-5.1-ret-and-envid",
        "ENVID must come before RET",
        refusing("MAIL .*RET=.*ENVID=.*", 501, "5.5.4"),
    ),
    Fault(
        "dsn-with-null",
        "3461-5.4-long-envid-null-sender",
        "DSN parameters need a sender",
        refusing("MAIL FROM:<> .*(ENVID|RET)=.*", 501, "5.5.4"),
    ),
    # -- RFC 3461: which reports -------------------------------------------------------------------
    Fault(
        "success-not-told",
        "3461-5.2.3-success",
        "NOTIFY=SUCCESS is not heard",
        decided(lambda notify, action: action == "failed"),
    ),
    Fault(
        "success-told-always",
        "3461-5.2.3-no-report-default",
        "Each delivery is reported",
        decided(lambda notify, action: "NEVER" not in notify),
    ),
    Fault(
        "never-not-heard",
        "3461-5.2.3-no-report-never",
        "NOTIFY=NEVER is not heard",
        decided(lambda notify, action: True),
    ),
    Fault(
        "failure-told-of-success",
        "3461-5.2.3-no-report-failure",
        "NOTIFY=FAILURE brings reports of deliveries",
        decided(lambda notify, action: bool(notify) and "NEVER" not in notify),
    ),
    Fault(
        "failure-not-told",
        "3461-5.2.6-failure",
        "NOTIFY=FAILURE is not heard",
        decided(lambda notify, action: not notify),
        behind=LATE,
    ),
    Fault(
        "failure-not-told-default",
        "3461-5.2.6-default",
        "Failures are not reported unless it is asked for",
        decided(lambda notify, action: "FAILURE" in notify),
        behind=LATE,
    ),
    Fault(
        "failure-told-in-spite-of-never",
        "3461-5.2.6-no-report-never",
        "A failure is reported in spite of NEVER",
        decided(lambda notify, action: True),
        behind=LATE,
    ),
    Fault(
        "failure-told-to-success",
        "3461-5.2.6-no-report-success",
        "NOTIFY=SUCCESS brings reports of failures",
        decided(lambda notify, action: "NEVER" not in notify),
        behind=LATE,
    ),
    Fault(
        "report-to-nobody",
        "3461-5.2-null-sender-delivered",
        "A report goes to whom the header names",
        house_around("report", to_header),
    ),
    Fault(
        "report-to-nobody-on-failure",
        "3461-5.2-null-sender-failed",
        "A report on a failure goes to whom the header names",
        house_around("report", to_header),
        behind=LATE,
    ),
    Fault(
        "report-has-sender",
        "3461-6.1-null-sender-of-delivery",
        "A report has a sender",
        house_around("written", _by_return_path),
    ),
    Fault(
        "report-has-sender-on-failure",
        "3461-6.1-null-sender-of-failure",
        "A report on a failure has a sender",
        house_around("written", _by_return_path),
        behind=LATE,
    ),
    Fault(
        "failure-is-relayed",
        "3461-5.2.6-action",
        "The Action of a failure is relayed",
        text(rb"^Action: failed", b"Action: relayed"),
        behind=LATE,
    ),
    Fault(
        "success-is-failed",
        "3461-5.2.3-success",
        "The Action of a delivery is failed",
        text(rb"^Action: delivered", b"Action: failed"),
    ),
    Fault(
        "hdrs-brings-all",
        "3461-6.2-ret-hdrs-failure",
        "RET=HDRS is not heard",
        house(whole=lambda self, envelope, told: True),
        NON_STRICT,
        behind=LATE,
    ),
    # -- RFC 3461 6.3: what is told ----------------------------------------------------------------
    Fault(
        "envid-not-told",
        "3461-6.3-envid-plain",
        "ENVID is not told",
        text(rb"^Original-Envelope-Id: .*\r\n", b""),
    ),
    Fault(
        "envid-encoded",
        "3461-6.3-envid-space",
        "ENVID is told as it came",
        enveloped(
            lambda envelope: replace(envelope, envid=envelope.envid and encoded(envelope.envid))
        ),
    ),
    Fault(
        "envid-decoded-twice",
        "3461-6.3-envid-encoded-escape",
        "ENVID is decoded twice",
        enveloped(
            lambda envelope: replace(
                envelope,
                envid=envelope.envid
                and re.sub(
                    r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), envelope.envid
                ),
            )
        ),
    ),
    Fault(
        "envid-small",
        "3461-6.3-envid-case",
        "ENVID is told in small letters",
        enveloped(
            lambda envelope: replace(envelope, envid=envelope.envid and envelope.envid.lower())
        ),
    ),
    Fault(
        "envid-cut",
        "3461-6.3-envid-long",
        "ENVID is cut",
        enveloped(lambda envelope: replace(envelope, envid=envelope.envid and envelope.envid[:32])),
    ),
    Fault(
        "envid-comment-lost",
        "3461-6.3-envid-parentheses",
        "Parentheses of ENVID are lost",
        enveloped(
            lambda envelope: replace(
                envelope, envid=envelope.envid and re.sub(r"\(.*?\)", "", envelope.envid)
            )
        ),
    ),
    Fault(
        "envid-invented",
        "3461-6.3-no-envid",
        "There is always an ENVID",
        enveloped(lambda envelope: replace(envelope, envid=envelope.envid or envelope.id)),
    ),
    Fault(
        "envid-remembered",
        "3461-6.3-envid-of-earlier-mail",
        "ENVID of an earlier transaction is told",
        _remembered("ENVID"),
    ),
    Fault(
        "envid-injects",
        "3461-6.3-injection-envid-crlf",
        "ENVID may hold ends of line",
        of_mail("ENVID", _raw),
    ),
    Fault(
        "orcpt-injects",
        "3461-6.3-injection-orcpt-crlf",
        "ORCPT may hold ends of line",
        of_rcpt("ORCPT", _raw_orcpt),
    ),
    Fault(
        "orcpt-not-told",
        "3461-6.3-orcpt-plain",
        "ORCPT is not told",
        text(rb"^Original-Recipient: .*\r\n", b""),
    ),
    Fault(
        "orcpt-small", "3461-6.3-orcpt-case", "ORCPT is told in small letters", _orcpt(str.lower)
    ),
    Fault("orcpt-cut", "3461-6.3-orcpt-long", "ORCPT is cut", _orcpt(lambda value: value[:64])),
    Fault(
        "orcpt-type-lost",
        "3461-6.3-orcpt-other-type",
        "The type of ORCPT is always rfc822",
        text(rb"^Original-Recipient: [^;]*;", b"Original-Recipient: rfc822;"),
    ),
    Fault(
        "orcpt-invented",
        "3461-6.3-no-orcpt",
        "There is always an ORCPT",
        told(_invented),
        NON_STRICT,
    ),
    Fault(
        "orcpt-remembered",
        "3461-6.3-orcpt-of-earlier-rcpt",
        "ORCPT of an earlier RCPT is told",
        _remembered("ORCPT"),
    ),
    Fault(
        "final-recipient-other",
        "3461-6.3-final-recipient",
        "Final-Recipient is the mailbox's inner name",
        text(rb"^Final-Recipient: rfc822; ", b"Final-Recipient: rfc822; local-"),
    ),
    Fault(
        "report-to-writer",
        "3461-6.1-to-reverse-path-of-delivery",
        "A report goes to whom the header names",
        text(rb"^To: .*", b"To: <other@elsewhere.example>", 1),
    ),
    Fault(
        "status-of-success",
        "3461-6.3-status-of-failure",
        "The Status of a failure has class 2",
        text(rb"^Status: 5", b"Status: 2"),
        behind=LATE,
    ),
    Fault(
        "report-to-header-of-1123",
        "1123-5.2.7-null-sender-not-told",
        "Who has no sender is told by whom the header names",
        house_around("report", to_header),
        behind=LATE,
    ),
    Fault(
        "parameter-twice",
        "3461-4.5-ret-twice",
        "A parameter may be given twice",
        around("read_parameters", _repeats),
        NON_STRICT,
    ),
)
