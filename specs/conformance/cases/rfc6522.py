"""RFC 6522: the form of multipart/report, of reports on deliveries and on failures.

What is tricky
- A server that does not offer DSN may report failures in words alone: then nothing here applies to
  its reports on failures.  Who offers DSN has to use the form (RFC 3461 6.2).
- Section 4 says of a header that is returned as message/rfc822 only that it should not be so.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.headers import by_name as fields
from specs.conformance.headers import first
from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.report_cases import Both, marker
from specs.conformance.reports import (
    Report,
    best,
    failing,
    hand_in,
    in_form,
    of_delivery,
    of_failure,
    wait,
)
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session, Unavailable

here = Section("6522", role="delivery")

#: What may lie in a third part.
RETURNED: Final = ("message/rfc822", "text/rfc822-headers")
#: What no human reads: the first part may otherwise be of any registered type (section 3).
MACHINE_READABLE: Final = (
    "message/delivery-status", "message/global-delivery-status", "message/feedback-report",
    "message/disposition-notification", "message/global-disposition-notification",
)  # fmt: skip
#: A body that no report needs, and a header with it.
HEADERS: Final = (
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nX-Conform: a field\r\n"
)
NAMES: Final = ("from", "to", "subject", "date", "message-id", "mime-version", "content-type",
                "x-conform")  # fmt: skip


async def delivered(talk: Session) -> Report:
    """A report on a delivery; ENVID has it found whatever it returns."""
    return await of_delivery(
        talk,
        mail=f"ENVID={talk.token}",
        octets=talk.message(f"{marker(talk)}\r\n", headers=HEADERS),
    )


async def failed(talk: Session) -> Report:
    return await of_failure(talk, octets=talk.message(f"{marker(talk)}\r\n", headers=HEADERS))


def enough(report: Report) -> Report:
    """Raises Unavailable if it has no parts."""
    if len(report.parts) < 2:
        raise Unavailable("a report with parts to look at")
    return report


both = Both(here=here, delivery=delivered, failure=failed, enough=enough)


@here.case(
    "3-type-of-delivery", level="MUST", clauses="6522-3-a", needs="rcpt sendermail",
    keywords="DSN", requirement="A report on a delivery is a multipart/report",
    sent="mail with NOTIFY=SUCCESS", allowed={"multipart/report": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = await delivered(talk)
    return report.kind, first(report.header, "content-type")


@here.case(
    "3-type-of-failure", level="IMPLIED", clauses="6522-3-a", needs="rcpt sendermail",
    requirement="A report on a failure is a multipart/report, where DSN is offered",
    sent="mail to an address that fails after it was accepted",
    allowed={"multipart/report": PASS, "another, without DSN": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = await of_failure(talk)
    if report.kind != "multipart/report" and "DSN" not in talk.features:
        return "another, without DSN", report.kind
    return report.kind, first(report.header, "content-type")


def mime_version(report: Report) -> Seen:
    found = report.header.get("mime-version", ())
    plain = [re.sub(r"\([^()]*\)|\s", "", each) for each in found]
    return ("1.0" if plain == ["1.0"] else "absent" if not found else "wrong"), ", ".join(found)


both("3-mime-version", mime_version, level="MUST", clauses="6522-3-a", fully=False,
     requirement="A report has the field MIME-Version: 1.0, once",
     allowed={"1.0": PASS})  # fmt: skip


def count(report: Report) -> Seen:
    return str(len(report.parts)), ", ".join(each.kind for each in report.parts)


both("3-parts", count, level="MUST", clauses="6522-3-a", fully=False,
     requirement="A report has two or three parts", allowed={"2": PASS, "3": PASS})  # fmt: skip


def ended(report: Report) -> Seen:
    boundary = (report.message.get_boundary() or "").encode()
    closed = re.search(rb"(?m)^--" + re.escape(boundary) + rb"--[ \t]*$", report.raw)
    return ("closed" if closed else "open"), ""


both("3-last-delimiter", ended, level="MUST", clauses="6522-3-a",
     requirement="A report ends with its closing delimiter", allowed={"closed": PASS})  # fmt: skip


def people(report: Report) -> Seen:
    part = report.parts[0]
    if part.kind in MACHINE_READABLE:
        return "no text", part.kind
    if part.kind.partition("/")[0] not in ("text", "multipart"):
        return "another type", part.kind
    return ("text" if part.body.strip() else "empty"), part.kind


both("3-first-part", people, level="MUST", clauses="6522-3-a",
     requirement="The first part of a report is for people",
     allowed={"text": PASS, "empty": NON_STRICT, "another type": NON_STRICT})  # fmt: skip


def second(report: Report) -> Seen:
    if report.kind != "multipart/report":
        raise NotApplicable("a multipart/report")
    subtype = report.parts[1].kind.rpartition("/")[2]
    if not report.report_type:
        return "no report-type", subtype
    same = report.report_type == subtype
    return ("the same" if same else "another"), f"{report.report_type} and {subtype}"


both("3-report-type", second, level="MUST", clauses="6522-3-a",
     requirement="The parameter report-type is the subtype of the second part",
     allowed={"the same": PASS})  # fmt: skip


def third(report: Report) -> Seen:
    if len(report.parts) < 3:
        return "absent", ""
    kind = report.parts[2].kind
    return (kind if kind in RETURNED else "another"), kind


both("3-third-part", third, level="SHOULD", clauses="6522-3-b",
     requirement="What is returned is labelled message/rfc822 or text/rfc822-headers",
     allowed={**dict.fromkeys(RETURNED, PASS), "absent": INFO, "another": NON_STRICT})  # fmt: skip


def declared(report: Report) -> Seen:
    """8-bit octets only where a part says so, and the whole of it, too (RFC 2045 6.4)."""
    whole = first(report.header, "content-transfer-encoding").lower()
    for part in report.parts:
        if any(octet > 127 for octet in part.raw):
            if part.encoding not in ("8bit", "binary"):
                return "undeclared", f"{part.kind}: {part.encoding or 'no encoding'}"
            if whole not in ("8bit", "binary"):
                return "declared inside only", f"{part.kind}: {part.encoding}"
    return "as declared", ""


both("3-seven-bit", declared, level="MUST", clauses="6522-3-a",
     requirement="Octets outside ASCII are only in parts of a report that declare them",
     allowed={"as declared": PASS, "declared inside only": NON_STRICT})  # fmt: skip


def all_fields(report: Report) -> Seen:
    if len(report.parts) < 3 or report.parts[2].kind not in RETURNED:
        raise NotApplicable("a header that is returned")
    header = fields(report.parts[2].body.strip(b"\n").partition(b"\n\n")[0])
    missing = [each for each in NAMES if each not in header]
    return ("all" if not missing else "some are missing"), ", ".join(missing)


both("4-whole-header", all_fields, level="SHOULD", clauses="6522-3-b",
     requirement="The header that is returned has all fields of the message",
     allowed={"all": PASS, "some are missing": NON_STRICT})  # fmt: skip


def labelled(report: Report) -> Seen:
    if len(report.parts) < 3 or report.parts[2].kind not in RETURNED:
        raise NotApplicable("a header or a message that is returned")
    part = report.parts[2]
    body = part.body.strip(b"\n").partition(b"\n\n")[2].strip()
    if part.kind == "message/rfc822":
        return ("a message" if body else "a header as message/rfc822"), ""
    return ("a header" if not body else "a body in text/rfc822-headers"), body[:60].decode(
        "latin-1"
    )


both("4-label-fits", labelled, level="SHOULD NOT", clauses="6522-3-b",
     requirement="A header that is returned alone is text/rfc822-headers, and holds no body",
     allowed={"a message": PASS, "a header": PASS, "a header as message/rfc822": NON_STRICT,
              "a body in text/rfc822-headers": NON_STRICT},
     )  # fmt: skip


@here.case(
    "3-eight-bit-message", level="IMPLIED", clauses="6522-3-a", needs="rcpt sendermail",
    keywords="8BITMIME",
    requirement="A report on a message with 8-bit octets declares those that it returns",
    sent="mail with BODY=8BITMIME and octets over 127, to an address that fails later",
    allowed={"as declared": PASS, "declared inside only": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    headers = (
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
    )
    where = await failing(talk)
    if "8BITMIME" not in where.talk.features:
        raise NotApplicable("8BITMIME")
    octets = talk.message("Grüße aus der Prüfung\r\n".encode(), headers=headers)
    await hand_in(where.talk, mail="BODY=8BITMIME", rcpts=[(where.address, "")], octets=octets)
    found = await wait(where.talk)
    if not found:
        raise Unavailable("a report on that failure")
    return declared(in_form(best(found)))
