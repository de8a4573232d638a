"""Faults against RFC 3464, 6522, 6533, 3834 and 5322: what stands in a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from specs.conformance.controls.faults.rfc3461_dsn import to_header
from specs.conformance.controls.planting import (
    LATE,
    Change,
    Fault,
    house,
    house_around,
    reporting,
    text,
)
from specs.conformance.model import NON_STRICT


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


def _doubled(octets: bytes) -> bytes:
    mark = re.search(rb'boundary="([^"]+)"', octets)
    if mark is None:
        raise RuntimeError("there is no mark")
    pieces = octets.split(b"--" + mark[1])
    return (b"--" + mark[1]).join([*pieces[:-1], pieces[-2], pieces[-1]])


FAULTS: Final = (
    # -- RFC 3464 ----------------------------------------------------------------------------------
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
        text(rb"^Reporting-MTA: dns; ", b"Reporting-MTA: "),
        behind=LATE,
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
        text(rb"^Action: .*\r\n", b""),
        behind=LATE,
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
    # -- RFC 6522 ----------------------------------------------------------------------------------
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
    # -- RFC 6533, 3834, 5322 ----------------------------------------------------------------------
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
        house_around("report", to_header),
        behind=LATE,
    ),
)
