"""Faults against RFC 3461, 3464, 6522, 6533, 3834, and 5322 of what a server writes: reports."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Refusal, answer
from specs.conformance.controls.mailbox import Envelope, Outcome
from specs.conformance.controls.planting import (
    Change,
    Fault,
    around,
    both,
    house,
    house_around,
    of_mail,
    of_rcpt,
    refusing,
    reporting,
    server,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import Syntax
from specs.conformance.model import NON_STRICT

LATE: Final = server(late=True)


def text(pattern: bytes, new: bytes, count: int = 0) -> Change:
    """Reports, with something replaced."""
    return reporting(lambda octets: re.sub(pattern, new, octets, count=count, flags=re.MULTILINE))


def late(*changes: Change) -> Change:
    """Where unknown users are found out late."""
    return both(LATE, *changes)


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


def _to_header(go: Any, self: Any, envelope: Envelope, content: bytes, outcomes: Any) -> Any:
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


def part(number: int, change: Callable[[bytes], bytes]) -> Change:
    """One part of a report, from 0."""

    def of(octets: bytes) -> bytes:
        mark = re.search(rb'boundary="([^"]+)"', octets)
        if mark is None:
            raise RuntimeError("there is no mark")
        pieces = octets.split(b"--" + mark[1])
        pieces[number + 1] = change(pieces[number + 1])
        return (b"--" + mark[1]).join(pieces)

    return reporting(of)


def _354(go: Any, argument: str) -> Any:
    try:
        return go(argument)
    except Refusal as refusal:
        if "NOTIFY=" in argument.upper() and refusal.answer.code == 501:
            return answer(354, "", "go on")
        raise


def _doubled(octets: bytes) -> bytes:
    mark = re.search(rb'boundary="([^"]+)"', octets)
    if mark is None:
        raise RuntimeError("there is no mark")
    pieces = octets.split(b"--" + mark[1])
    return (b"--" + mark[1]).join([*pieces[:-1], pieces[-2], pieces[-1]])


FAULTS: Final = (
    # -- RFC 3461: parameters ---------------------------------------------------------------------
    Fault(
        "ret-unchecked",
        "3461-4.3-ret-unknown-word",
        "RET takes anything",
        of_mail("RET", lambda session, value: value or ""),
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
    # -- RFC 3461: which reports ------------------------------------------------------------------
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
        late(decided(lambda notify, action: not notify)),
    ),
    Fault(
        "failure-not-told-default",
        "3461-5.2.6-default",
        "Failures are not reported unless it is asked for",
        late(decided(lambda notify, action: "FAILURE" in notify)),
    ),
    Fault(
        "failure-told-in-spite-of-never",
        "3461-5.2.6-no-report-never",
        "A failure is reported in spite of NEVER",
        late(decided(lambda notify, action: True)),
    ),
    Fault(
        "failure-told-to-success",
        "3461-5.2.6-no-report-success",
        "NOTIFY=SUCCESS brings reports of failures",
        late(decided(lambda notify, action: "NEVER" not in notify)),
    ),
    Fault(
        "report-to-nobody",
        "3461-5.2-null-sender-delivered",
        "A report goes to whom the header names",
        house_around("report", _to_header),
    ),
    Fault(
        "report-to-nobody-on-failure",
        "3461-5.2-null-sender-failed",
        "A report on a failure goes to whom the header names",
        late(house_around("report", _to_header)),
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
        late(house_around("written", _by_return_path)),
    ),
    Fault(
        "failure-is-relayed",
        "3461-5.2.6-action",
        "The Action of a failure is relayed",
        late(text(rb"^Action: failed", b"Action: relayed")),
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
        late(house(whole=lambda self, envelope, told: True)),
        NON_STRICT,
    ),
    # -- RFC 3461 6.3: what is told ---------------------------------------------------------------
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
    # -- RFC 3464 ---------------------------------------------------------------------------------
    Fault(
        "status-part-text",
        "3464-2-second-part-of-delivery",
        "The delivery status is text/plain",
        text(rb"^Content-Type: message/delivery-status", b"Content-Type: text/plain"),
    ),
    Fault(
        "status-base64",
        "3464-2.1-seven-bit-of-delivery",
        "The delivery status is in base64",
        text(
            rb"^(Content-Type: message/delivery-status)\r\n",
            rb"\1\r\nContent-Transfer-Encoding: base64\r\n",
        ),
    ),
    Fault(
        "status-no-blocks",
        "3464-2.1-blocks-of-delivery",
        "There is no empty line between the blocks",
        text(rb"\r\n\r\n((?:Original|Final)-Recipient)", rb"\r\n\1"),
    ),
    Fault(
        "status-two-lines",
        "3464-2.1-one-empty-line-of-delivery",
        "There are two empty lines between the blocks",
        text(rb"\r\n\r\n((?:Original|Final)-Recipient)", rb"\r\n\r\n\r\n\1"),
        NON_STRICT,
    ),
    Fault(
        "status-prose",
        "3464-2.1-only-fields-of-delivery",
        "There is prose in the delivery status",
        text(rb"^Arrival-Date:", b"It came on\r\nArrival-Date:"),
    ),
    Fault(
        "status-twice",
        "3464-2.2-fields-once-of-delivery",
        "Action is there twice",
        text(rb"^(Action: .*\r\n)", rb"\1\1"),
    ),
    Fault(
        "no-reporting-mta",
        "3464-2.2.2-reporting-mta-of-delivery",
        "There is no Reporting-MTA",
        text(rb"^Reporting-MTA: .*\r\n", b""),
    ),
    Fault(
        "reporting-mta-no-type",
        "3464-2.2.2-reporting-mta-of-failure",
        "Reporting-MTA has no type",
        late(text(rb"^Reporting-MTA: dns; ", b"Reporting-MTA: ")),
    ),
    Fault(
        "gateway",
        "3464-2.2.3-no-gateway-of-delivery",
        "There is a DSN-Gateway",
        text(rb"^Arrival-Date:", b"DSN-Gateway: dns; mx.control.example\r\nArrival-Date:"),
    ),
    Fault(
        "arrival-date-bad",
        "3464-2.2.5-arrival-date-of-delivery",
        "Arrival-Date is no date",
        text(rb"^Arrival-Date: .*", b"Arrival-Date: 2026-11-02 10:00"),
    ),
    Fault(
        "no-final-recipient",
        "3464-2.3.2-final-recipient-of-delivery",
        "There is no Final-Recipient",
        text(rb"^Final-Recipient: .*\r\n", b""),
    ),
    Fault(
        "action-other-word",
        "3464-2.3.3-action-of-delivery",
        "Action is another word",
        text(rb"^Action: delivered", b"Action: success"),
    ),
    Fault(
        "no-action",
        "3464-2.3.3-action-of-failure",
        "There is no Action",
        late(text(rb"^Action: .*\r\n", b"")),
    ),
    Fault(
        "status-does-not-fit",
        "3464-2.3.4-status-fits-action-of-delivery",
        "A delivery has a Status of class 4",
        text(rb"^Status: 2", b"Status: 4"),
    ),
    Fault(
        "status-form",
        "3464-2.3.4-status-form-of-delivery",
        "Status has two numbers",
        text(rb"^Status: (\d)\.(\d)\.\d", rb"Status: \1.\2"),
    ),
    Fault(
        "diagnostic-no-type",
        "3464-2.3.6-diagnostic-code-of-delivery",
        "Diagnostic-Code has no type",
        text(rb"^(Status: .*\r\n)", rb"\1Diagnostic-Code: 250 ok\r\n"),
    ),
    Fault(
        "remote-mta-no-type",
        "3464-2.3.5-remote-mta-of-delivery",
        "Remote-MTA has no type",
        text(rb"^(Status: .*\r\n)", rb"\1Remote-MTA: mx.control.example\r\n"),
    ),
    Fault(
        "last-attempt-bad",
        "3464-2.3.7-last-attempt-date-of-delivery",
        "Last-Attempt-Date is no date",
        text(rb"^(Status: .*\r\n)", rb"\1Last-Attempt-Date: now\r\n"),
    ),
    Fault(
        "will-retry",
        "3464-2.3.9-will-retry-until-of-delivery",
        "Will-Retry-Until stands with a delivery",
        text(rb"^(Status: .*\r\n)", rb"\1Will-Retry-Until: Mon, 02 Nov 2026 10:00:00 +0000\r\n"),
    ),
    # -- RFC 6522 ---------------------------------------------------------------------------------
    Fault(
        "report-mixed",
        "6522-3-type-of-delivery",
        "A report is multipart/mixed",
        text(rb"multipart/report; report-type=delivery-status", b"multipart/mixed"),
    ),
    Fault(
        "report-type-missing",
        "6522-3-report-type-of-delivery",
        "A report has no report-type",
        text(rb" report-type=delivery-status;", b""),
    ),
    Fault(
        "report-type-other",
        "3464-2-report-type-of-delivery",
        "report-type is another one",
        text(rb"report-type=delivery-status", b"report-type=disposition-notification"),
    ),
    Fault(
        "report-not-closed",
        "6522-3-last-delimiter-of-delivery",
        "A report has no closing delimiter",
        reporting(lambda octets: re.sub(rb"--\r\n\Z", b"\r\n", octets)),
    ),
    Fault(
        "report-no-mime",
        "6522-3-mime-version-of-delivery",
        "A report has no MIME-Version",
        text(rb"^MIME-Version: .*\r\n", b""),
    ),
    Fault(
        "report-no-text",
        "6522-3-first-part-of-delivery",
        "The first part is not for people",
        part(
            0,
            lambda octets: octets.replace(b"text/plain; charset=utf-8", b"message/delivery-status"),
        ),
    ),
    Fault(
        "report-third-label",
        "6522-3-seven-bit-of-delivery",
        "There are octets outside ASCII in the status",
        part(1, lambda octets: octets.replace(b"Action:", b"X-Note: \xe9\r\nAction:")),
    ),
    Fault(
        "report-four-parts",
        "6522-3-parts-of-delivery",
        "A report has four parts",
        reporting(_doubled),
    ),
    # -- RFC 6533, 3834, 5322 ---------------------------------------------------------------------
    Fault(
        "utf8-in-ascii-status",
        "6533-4-type-of-report",
        "UTF-8 stands in message/delivery-status",
        house(status_type=lambda self, wide: b"Content-Type: message/delivery-status"),
    ),
    Fault(
        "utf8-type-lost",
        "6533-4-type-of-address",
        "The type utf-8 is told as rfc822",
        text(rb"^Original-Recipient: utf-8", b"Original-Recipient: rfc822"),
    ),
    Fault(
        "auto-generated",
        "3834-5.2-report-on-delivery",
        "A report is labelled no",
        text(rb"^Auto-Submitted: .*", b"Auto-Submitted: no"),
    ),
    Fault(
        "report-two-dates",
        "5322-3.6-report-origin",
        "A report has two Dates",
        text(rb"^(Date: .*\r\n)", rb"\1\1", 1),
    ),
    Fault(
        "report-no-from",
        "5322-3.6-report-origin",
        "A report has no From",
        text(rb"^From: .*\r\n", b"", 1),
    ),
    Fault(
        "report-two-subjects",
        "5322-3.6-report-once",
        "A report has two Subjects",
        text(rb"^(Subject: (?:D|N).*\r\n)", rb"\1\1", 1),
    ),
    Fault(
        "report-bad-date",
        "5322-3.3-report-date",
        "The Date of a report is no date",
        text(rb"^Date: .*", b"Date: Day, 32 Nov 2026 10:00:00 +0000", 1),
    ),
    Fault(
        "report-long-line",
        "5322-2.1.1-report-lines",
        "A line of a report has 2000 octets",
        text(rb"^This is a report", b"x" * 2000),
    ),
    Fault(
        "report-8bit-header",
        "5322-2.2-report-fields",
        "The header of a report has octets outside ASCII",
        text(rb"^Subject: ", b"Subject: \xc3\xa9 ", 1),
    ),
    Fault(
        "report-empty-fold",
        "5322-2.2.3-report-folds",
        "A folded line of a report is empty",
        text(rb"^(Subject: \w+)", rb"\1\r\n \r\n .", 1),
    ),
    Fault(
        "report-on-report",
        "3464-3-no-report-on-report",
        "A report leads to a report",
        late(house_around("report", _to_header)),
    ),
    Fault(
        "report-to-writer",
        "3461-6.1-to-reverse-path-of-delivery",
        "A report goes to whom the header names",
        text(rb"^To: .*", b"To: <other@elsewhere.example>", 1),
    ),
)
