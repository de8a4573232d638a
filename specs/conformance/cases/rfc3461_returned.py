"""RFC 3461 6.1 and 6.2: the envelope of a report, to whom it is addressed, and what it returns of
the message, by RET.

Tricky: where ENVID must not be given, the header that is returned has the case's token.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from specs.conformance.headers import first
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Seen, Verdict
from specs.conformance.report_cases import (
    marker,
)
from specs.conformance.reports import (
    Report,
    in_form,
    of_delivery,
    of_failure,
    taken_apart,
)
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable

here = Section("3461")


# -- 6.1: the envelope ----------------------------------------------------------------------------


async def return_path(talk: Session, report: Report) -> Seen:
    """Raises Unavailable if any mail with the null reverse-path shows what this report shows."""
    found = report.header.get("return-path", ())
    if not found:
        return "no Return-Path", ""
    if found[0].replace(" ", "") == "<>":
        return "null", ", ".join(found)
    if found[0] == await null_shown(talk):
        raise Unavailable("a mailbox that shows the null reverse-path as it is")
    return "another", ", ".join(found)


async def null_shown(talk: Session) -> str:
    """What Return-Path the sender's mailbox gives to mail with the null reverse-path."""
    beside = talk.another()
    beside.token = "n" + talk.token[1:]
    with suppress(Refused):
        await beside.transact(sender="", rcpts=(talk.given.sender,))
        for each in await beside.reports():
            return first(taken_apart(each).header, "return-path")
    return ""


NULL: Final[Mapping[str, Verdict]] = {"null": PASS, "no Return-Path": INFO}


@here.case(
    "6.1-null-sender-of-delivery", level="MUST", clauses="3461-6.1-a", keywords="DSN",
    needs="rcpt sendermail", security="reports on reports, for ever", allowed=NULL,
    requirement="A report on a delivery is sent with the null reverse-path",
    sent="mail with NOTIFY=SUCCESS; Return-Path of the report",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return await return_path(talk, await of_delivery(talk, mail=f"ENVID={talk.token}"))


@here.case(
    "6.1-null-sender-of-failure", level="MUST", clauses="3461-6.1-a", needs="rcpt sendermail",
    security="reports on reports, for ever", allowed=NULL,
    requirement="A report on a failure is sent with the null reverse-path",
    sent="mail to an address that fails later; Return-Path of the report",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return await return_path(talk, await of_failure(talk))


#: Fields that might be taken for where a report should go.
OTHERS: Final = (
    "Reply-To: <other@elsewhere.example>\r\nErrors-To: <other@elsewhere.example>\r\n"
    "Sender: <other@elsewhere.example>\r\nReturn-Receipt-To: <other@elsewhere.example>\r\n"
)


def addressed(talk: Session, report: Report) -> Seen:
    local, _, domain = talk.given.sender.rpartition("@")
    shown = ", ".join(report.addressees)
    for each in report.addressees:
        name, _, place = each.rpartition("@")
        if name == local and place.lower() == domain.lower():
            return "to the reverse-path", shown
    return ("to another" if report.addressees else "no To"), shown


@here.case(
    "6.1-to-reverse-path-of-delivery", level="MUST", clauses="3461-6.1-a", keywords="DSN",
    needs="rcpt sendermail",
    requirement="A report on a delivery is addressed to the reverse-path, not to other senders",
    sent="mail with NOTIFY=SUCCESS; Reply-To, Errors-To and Sender name somebody else",
    allowed={"to the reverse-path": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    octets = talk.message(headers=OTHERS)
    return addressed(talk, await of_delivery(talk, mail=f"ENVID={talk.token}", octets=octets))


@here.case(
    "6.1-to-reverse-path-of-failure", level="MUST", clauses="3461-6.1-a",
    needs="rcpt sendermail",
    requirement="A report on a failure is addressed to the reverse-path, not to other senders",
    sent="mail to an address that fails; Reply-To, Errors-To and Sender name somebody else",
    allowed={"to the reverse-path": PASS, "another form": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = await of_failure(talk, octets=talk.message(headers=OTHERS))
    label, shown = addressed(talk, report)
    plain = report.kind != "multipart/report" and label != "to the reverse-path"
    return ("another form" if plain else label), shown


# -- 6.2: what is returned ------------------------------------------------------------------------


def body_of(talk: Session, report: Report) -> str:
    return "the body" if report.says(marker(talk)) else "no body"


async def on_failure(talk: Session, ret: str) -> Seen:
    octets = talk.message(f"{marker(talk)}\r\n")
    mail = f"ENVID={talk.token} {ret}".strip()
    report = in_form(await of_failure(talk, mail=mail, octets=octets))
    return body_of(talk, report), ", ".join(each.kind for each in report.parts)


#: slug, RET, level, clause, requirement, allowed
RETURNED: Final[tuple[tuple[str, str, Level, str, str, Mapping[str, Verdict]], ...]] = (
    ("ret-hdrs", "RET=HDRS", "IMPLIED", "3461-6.2-a",
     "With RET=HDRS a report on a failure returns no body",
     {"no body": PASS, "the body": NON_STRICT}),
    ("ret-hdrs-lower-case", "RET=hdrs", "IMPLIED", "3461-6.2-a",
     "With RET=hdrs in small letters a report on a failure returns no body",
     {"no body": PASS, "the body": NON_STRICT}),
    ("ret-full", "RET=FULL", "SHOULD", "3461-6.2-b",
     "With RET=FULL a report on a failure returns the whole message",
     {"the body": PASS, "no body": NON_STRICT}),
    ("ret-absent", "", "MAY", "3461-6.2-b",
     "What a report on a failure returns if nothing is asked for",
     {"the body": INFO, "no body": INFO}),
)  # fmt: skip


def returned(
    slug: str, ret: str, level: Level, clause: str, requirement: str, allowed: Mapping[str, Verdict]
) -> None:
    @here.case(
        f"6.2-{slug}-failure", level=level, clauses=clause, keywords="DSN",
        needs="rcpt sendermail", requirement=requirement, allowed=allowed,
        sent=f"mail with {ret or 'no RET'} to an address that fails after it was accepted",
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        return await on_failure(talk, ret)


for _returned in RETURNED:
    returned(*_returned)


def returned_on_delivery(slug: str, ret: str) -> None:
    @here.case(
        f"6.2-{slug}-delivery", level="SHOULD", clauses="3461-6.2-a", keywords="DSN",
        needs="rcpt sendermail", allowed={"no body": PASS, "the body": NON_STRICT},
        requirement="A report that tells of no failure returns no body, whatever RET says "
        f"({ret or 'no RET'})",
        sent=f"mail with {ret or 'no RET'} and NOTIFY=SUCCESS",
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        octets = talk.message(f"{marker(talk)}\r\n")
        mail = f"ENVID={talk.token} {ret}".strip()
        report = await of_delivery(talk, mail=mail, octets=octets)
        return body_of(talk, report), ", ".join(each.kind for each in report.parts)


for _slug, _ret in (("ret-full", "RET=FULL"), ("ret-hdrs", "RET=HDRS"), ("ret-absent", "")):
    returned_on_delivery(_slug, _ret)
