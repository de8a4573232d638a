"""RFC 3464 2 and 2.1: reports and the form of message/delivery-status.

What is tricky
- Names of fields may be in any mixture of cases; folding and comments are allowed as in any header
  (2.1.1).
- The grammar lists fields in an order, but they are fields of RFC 822: the order is only noted.
- Who has no DSN to offer may report failures in words alone (3): then nothing here applies.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.headers import first
from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.report_cases import Both
from specs.conformance.reports import Report
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Unavailable

here = Section("3464", role="delivery")
both = Both(here=here)

OF_MESSAGE: Final = (
    "original-envelope-id", "reporting-mta", "dsn-gateway", "received-from-mta", "arrival-date",
)  # fmt: skip
OF_RECIPIENT: Final = (
    "original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code",
    "last-attempt-date", "final-log-id", "will-retry-until",
)  # fmt: skip


# -- 2, 2.1: the whole of it ----------------------------------------------------------------------


def type_of_second(report: Report) -> Seen:
    kinds = ", ".join(each.kind for each in report.parts)
    return ("message/delivery-status" if report.status else "another"), kinds


both("2-second-part", type_of_second, level="MUST", clauses="3464-2-a", fully=False,
     requirement="The second part of a report is of type message/delivery-status",
     allowed={"message/delivery-status": PASS})  # fmt: skip


def report_type(report: Report) -> Seen:
    if report.kind != "multipart/report":
        raise NotApplicable("a multipart/report")
    return report.report_type or "absent", first(report.header, "content-type")


both("2-report-type", report_type, level="MUST", clauses="3464-2-a", fully=False,
     requirement="The parameter report-type is delivery-status",
     allowed={"delivery-status": PASS})  # fmt: skip


def seven_bit(report: Report) -> Seen:
    part = report.status
    if part is None:
        raise Unavailable("a delivery status to look at")
    if part.encoding not in ("", "7bit"):
        return "encoded", part.encoding
    return ("octets over 127" if any(octet > 127 for octet in part.raw) else "7bit"), ""


both("2.1-seven-bit", seven_bit, level="MUST", clauses="3464-2-a", fully=False,
     requirement="A delivery status is sent as 7bit text, not encoded",
     allowed={"7bit": PASS})  # fmt: skip


def blocks(report: Report) -> Seen:
    if report.status is None:
        raise Unavailable("a delivery status to look at")
    groups = report.groups
    if not groups:
        return "empty", ""
    if "reporting-mta" not in groups[0]:
        return "no Reporting-MTA in the first block", ", ".join(groups[0])
    mixed = [name for name in groups[0] if name in OF_RECIPIENT]
    if mixed:
        return "fields of a recipient in the first block", ", ".join(mixed)
    if len(groups) < 2:
        return "no recipient", ""
    for group in groups[1:]:
        lost = [name for name in ("final-recipient", "action", "status") if name not in group]
        if lost:
            return "a block lacks a field", ", ".join(lost)
        mixed = [name for name in group if name in OF_MESSAGE]
        if mixed:
            return "fields of the message in a later block", ", ".join(mixed)
    return "well formed", f"{len(groups) - 1} recipients"


both("2.1-blocks", blocks, level="MUST", clauses="3464-2.1-a", fully=False,
     requirement="A delivery status is a block on the message and then one on each recipient",
     allowed={"well formed": PASS})  # fmt: skip


def between(report: Report) -> Seen:
    text = report.status.body.strip(b"\n") if report.status else b""
    several = re.search(rb"\n[ \t]*\n[ \t]*\n", text)
    return ("several" if several else "one"), ""


both("2.1-one-empty-line", between, level="IMPLIED", clauses="3464-2.1-a",
     requirement="One empty line is between the blocks of a delivery status",
     allowed={"one": PASS, "several": NON_STRICT})  # fmt: skip


def only_fields(report: Report) -> Seen:
    odd = [line for group in report.groups for line in group.get("", ())]
    return ("fields" if not odd else "a line that is no field"), "; ".join(odd[:3])


both("2.1-only-fields", only_fields, level="IMPLIED", clauses="3464-2.1-a",
     requirement="A delivery status has fields and nothing else",
     allowed={"fields": PASS})  # fmt: skip


def once(report: Report) -> Seen:
    known = (*OF_MESSAGE, *OF_RECIPIENT)
    twice = [
        name for group in report.groups for name in known if len(group.get(name, ())) > 1
    ]  # fmt: skip
    return ("once" if not twice else "twice"), ", ".join(twice)


both("2.2-fields-once", once, level="IMPLIED", clauses="3464-2.1-a",
     requirement="No field is twice in a block of a delivery status",
     allowed={"once": PASS})  # fmt: skip


def order(report: Report) -> Seen:
    for known, groups in ((OF_MESSAGE, report.groups[:1]), (OF_RECIPIENT, report.recipients)):
        for group in groups:
            there = [name for name in group if name in known]
            if there != sorted(there, key=known.index):
                return "another order", ", ".join(there)
    return "the grammar's order", ""


both("2.3-order", order, level="IMPLIED", clauses="3464-2.1-a",
     requirement="Fields of a delivery status come in the order of the grammar",
     allowed={"the grammar's order": PASS, "another order": INFO})  # fmt: skip


def writer(report: Report) -> Seen:
    found = report.header.get("from", ())
    if len(found) != 1:
        return "absent" if not found else "twice", ", ".join(found)
    return ("an address" if re.search(r"[^\s<>@]@[^\s<>@]", found[0]) else "no domain"), found[0]


both("2-from", writer, level="SHOULD", clauses="3464-2-a", fully=False,
     requirement="A report has one From, with an address that can be answered",
     allowed={"an address": PASS, "no domain": NON_STRICT})  # fmt: skip
