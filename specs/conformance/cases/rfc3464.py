"""RFC 3464: the fields of message/delivery-status, in reports on deliveries and on failures.

What is tricky
- Names of fields and the words of Action may be in any mixture of cases; folding and comments are
  allowed as in any header (2.1.1).
- The grammar lists fields in an order, but they are fields of RFC 822: the order is only noted.
- A report on a failure may have a Status of class 4, when a server has given up (2.3.3).
- Whether a remote server took part is not known here: only the form of what it said is judged.
- Who has no DSN to offer may report failures in words alone (3): then nothing here applies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Verdict
from specs.conformance.reports import (
    Fields,
    Report,
    deliveries,
    failing,
    first,
    hand_in,
    in_form,
    of_delivery,
    of_failure,
    unwanted,
    value,
)
from specs.conformance.section import Section
from specs.conformance.session import Session, Unavailable

here = Section("3464", role="delivery")

Look = Callable[[Report], tuple[str, str]]

OF_MESSAGE: Final = (
    "original-envelope-id", "reporting-mta", "dsn-gateway", "received-from-mta", "arrival-date",
)  # fmt: skip
OF_RECIPIENT: Final = (
    "original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code",
    "last-attempt-date", "final-log-id", "will-retry-until",
)  # fmt: skip
ACTIONS: Final = ("failed", "delayed", "delivered", "relayed", "expanded")
_ATOM: Final = re.compile(r"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+\Z")
_COMMENT: Final = re.compile(r"\s*\(.*\)\s*\Z", re.DOTALL)
_DATE: Final = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\s*,\s*)?[0-9]{1,2}\s+"
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(?:[0-9]{2}|[0-9]{4})\s+"
    r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?\s+([+-][0-9]{4}|[A-Z]+)\Z",
    re.IGNORECASE,
)
_STATUS: Final = re.compile(r"([245])\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\Z")


def both(
    name: str, look: Look, *, level: Level, clauses: str, requirement: str,
    allowed: Mapping[str, Verdict], fully: bool = True,
) -> None:  # fmt: skip
    """Of a report on a delivery, and of one on a failure.  fully: it needs a delivery status with
    a recipient to look at; another case says that there is none.
    """
    common: dict[str, Any] = {
        "level": level,
        "clauses": clauses,
        "allowed": allowed,
        "needs": "rcpt sendermail",
    }

    def judged(report: Report) -> tuple[str, str]:
        if fully and not report.recipients:
            raise Unavailable("a delivery status to look at")
        return look(report)

    @here.case(
        f"{name}-of-delivery", requirement=f"{requirement} (report on a delivery)",
        keywords="DSN", sent="mail with NOTIFY=SUCCESS", **common,
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        return judged(await of_delivery(talk, mail=f"ENVID={talk.token}"))

    @here.case(
        f"{name}-of-failure", requirement=f"{requirement} (report on a failure)",
        sent="mail to an address that fails after it was accepted", **common,
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        return judged(in_form(await of_failure(talk)))


# -- 2, 2.1: the whole of it ----------------------------------------------------------------------


def type_of_second(report: Report) -> tuple[str, str]:
    kinds = ", ".join(each.kind for each in report.parts)
    return ("message/delivery-status" if report.status else "another"), kinds


both("2-second-part", type_of_second, level="MUST", clauses="3464-2-a", fully=False,
     requirement="The second part of a report is of type message/delivery-status",
     allowed={"message/delivery-status": PASS})  # fmt: skip


def report_type(report: Report) -> tuple[str, str]:
    return report.report_type or "absent", first(report.header, "content-type")


both("2-report-type", report_type, level="MUST", clauses="3464-2-a", fully=False,
     requirement="The parameter report-type is delivery-status",
     allowed={"delivery-status": PASS})  # fmt: skip


def seven_bit(report: Report) -> tuple[str, str]:
    part = report.status
    if part is None:
        raise Unavailable("a delivery status to look at")
    if part.encoding not in ("", "7bit"):
        return "encoded", part.encoding
    return ("octets over 127" if any(octet > 127 for octet in part.raw) else "7bit"), ""


both("2.1-seven-bit", seven_bit, level="MUST", clauses="3464-2-a", fully=False,
     requirement="A delivery status is sent as 7bit text, not encoded",
     allowed={"7bit": PASS})  # fmt: skip


def blocks(report: Report) -> tuple[str, str]:
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


def between(report: Report) -> tuple[str, str]:
    text = report.status.body.strip(b"\n") if report.status else b""
    several = re.search(rb"\n[ \t]*\n[ \t]*\n", text)
    return ("several" if several else "one"), ""


both("2.1-one-empty-line", between, level="IMPLIED", clauses="3464-2.1-a",
     requirement="One empty line is between the blocks of a delivery status",
     allowed={"one": PASS, "several": NON_STRICT})  # fmt: skip


def only_fields(report: Report) -> tuple[str, str]:
    odd = [line for group in report.groups for line in group.get("", ())]
    return ("fields" if not odd else "a line that is no field"), "; ".join(odd[:3])


both("2.1-only-fields", only_fields, level="IMPLIED", clauses="3464-2.1-a",
     requirement="A delivery status has fields and nothing else",
     allowed={"fields": PASS})  # fmt: skip


def once(report: Report) -> tuple[str, str]:
    known = (*OF_MESSAGE, *OF_RECIPIENT)
    twice = [
        name for group in report.groups for name in known if len(group.get(name, ())) > 1
    ]  # fmt: skip
    return ("once" if not twice else "twice"), ", ".join(twice)


both("2.2-fields-once", once, level="IMPLIED", clauses="3464-2.1-a",
     requirement="No field is twice in a block of a delivery status",
     allowed={"once": PASS})  # fmt: skip


def order(report: Report) -> tuple[str, str]:
    for known, groups in ((OF_MESSAGE, report.groups[:1]), (OF_RECIPIENT, report.recipients)):
        for group in groups:
            there = [name for name in group if name in known]
            if there != sorted(there, key=known.index):
                return "another order", ", ".join(there)
    return "the grammar's order", ""


both("2.3-order", order, level="IMPLIED", clauses="3464-2.1-a",
     requirement="Fields of a delivery status come in the order of the grammar",
     allowed={"the grammar's order": PASS, "another order": INFO})  # fmt: skip


def writer(report: Report) -> tuple[str, str]:
    found = report.header.get("from", ())
    if len(found) != 1:
        return "absent" if not found else "twice", ", ".join(found)
    return ("an address" if re.search(r"[^\s<>@]@[^\s<>@]", found[0]) else "no domain"), found[0]


both("2-from", writer, level="SHOULD", clauses="3464-2-a", fully=False,
     requirement="A report has one From, with an address that can be answered",
     allowed={"an address": PASS, "no domain": NON_STRICT})  # fmt: skip


# -- 2.2: on the message --------------------------------------------------------------------------


def typed(text: str) -> str:
    """What is wrong with TYPE ";" TEXT: "" if nothing."""
    kind, rest = value(text)
    if not kind:
        return "no type"
    if not _ATOM.match(kind):
        return "a type that is no atom"
    return "" if rest else "nothing behind the type"


def named(report: Report) -> tuple[str, str]:
    text = first(report.about, "reporting-mta")
    wrong = "absent" if not text else typed(text)
    if wrong:
        return wrong, text
    kind, name = value(text)
    if kind != "dns":
        return "another type", text
    return ("a whole name" if re.search(r"\w\.\w|\A\[.+\]\Z", name) else "one label"), text


both("2.2.2-reporting-mta", named, level="MUST", clauses="3464-2.2.2-a",
     requirement="Reporting-MTA has a type and a name, of type dns a whole one",
     allowed={"a whole name": PASS, "another type": PASS, "one label": NON_STRICT})  # fmt: skip


def gateway(report: Report) -> tuple[str, str]:
    text = first(report.about, "dsn-gateway")
    return ("present" if text else "absent"), text


both("2.2.3-no-gateway", gateway, level="MUST NOT", clauses="3464-2.1-a",
     requirement="A report that was not translated from another system has no DSN-Gateway",
     allowed={"absent": PASS})  # fmt: skip


def received_from(report: Report) -> tuple[str, str]:
    text = first(report.about, "received-from-mta")
    return (typed(text) or "typed" if text else "absent"), text


both("2.2.4-received-from-mta", received_from, level="IMPLIED", clauses="3464-2.1-a",
     requirement="Received-From-MTA, if there is one, has a type and a name",
     allowed={"typed": PASS, "absent": INFO})  # fmt: skip


def dated(texts: Sequence[str]) -> tuple[str, str]:
    for text in texts:
        found = _DATE.match(_COMMENT.sub("", text).strip())
        if found is None:
            return "no date", text
        if found[1][0] not in "+-":
            return "a zone with a name", text
    return ("a date" if texts else "absent"), ", ".join(texts)


DATES: Final = {"a date": PASS, "absent": INFO}


def arrival(report: Report) -> tuple[str, str]:
    return dated(report.about.get("arrival-date", ()))


both("2.2.5-arrival-date", arrival, level="MUST", clauses="3464-2.2.5-a", allowed=DATES,
     requirement="Arrival-Date, if there is one, is a date with a numeric zone")  # fmt: skip


# -- 2.3: on each recipient -----------------------------------------------------------------------


def finals(report: Report) -> tuple[str, str]:
    for group in report.recipients:
        text = first(group, "final-recipient")
        wrong = "absent" if not text else typed(text)
        if wrong:
            return wrong, text
    return "typed", ""


both("2.3.2-final-recipient", finals, level="MUST", clauses="3464-2.3.2-a",
     requirement="Every recipient of a report has a Final-Recipient with a type and an address",
     allowed={"typed": PASS})  # fmt: skip


def action_words(report: Report) -> tuple[str, str]:
    for word in report.actions:
        if word not in ACTIONS:
            return "another word" if word else "absent", word
    return "one of five", ", ".join(report.actions)


both("2.3.3-action", action_words, level="MUST", clauses="3464-2.3.3-a",
     requirement="Every recipient of a report has one of the five words as Action",
     allowed={"one of five": PASS})  # fmt: skip


def statuses(report: Report) -> tuple[str, str]:
    for group in report.recipients:
        text = first(group, "status")
        if not text:
            return "absent", ""
        if not _STATUS.match(_COMMENT.sub("", text)):
            return "not of the form", text
    return "of the form", ", ".join(first(each, "status") for each in report.recipients)


both("2.3.4-status-form", statuses, level="MUST", clauses="3464-2.3.4-a",
     requirement="Status is three numbers with dots, the first 2, 4 or 5, without leading zeros",
     allowed={"of the form": PASS})  # fmt: skip

#: Classes that an Action may have.
CLASSES: Final = {
    "failed": "45", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2",
}  # fmt: skip


def fitting(report: Report) -> tuple[str, str]:
    for action, group in zip(report.actions, report.recipients, strict=True):
        status = first(group, "status")
        if action not in CLASSES or not status:
            raise Unavailable("an Action and a Status to compare")
        if status[0] not in CLASSES[action]:
            return "contradicts", f"{action}, {status}"
    return "fits", ", ".join(report.actions)


both("2.3.4-status-fits-action", fitting, level="MUST", clauses="3464-2.3.4-a",
     requirement="The class of Status fits Action", allowed={"fits": PASS})  # fmt: skip


def every(report: Report, name: str, wrong: Callable[[Fields, str], str]) -> tuple[str, str]:
    """The first recipient's field of this name that is wrong; they need not have it."""
    there = [group for group in report.recipients if name in group]
    for group in there:
        text = first(group, name)
        if label := wrong(group, text):
            return label, text
    return ("well formed" if there else "absent"), first(there[0], name) if there else ""


def remote(report: Report) -> tuple[str, str]:
    return every(report, "remote-mta", lambda _, text: typed(text))


both("2.3.5-remote-mta", remote, level="IMPLIED", clauses="3464-2.3.5-a",
     requirement="Remote-MTA, if there is one, has a type and a name",
     allowed={"well formed": PASS, "absent": INFO})  # fmt: skip


def diagnostic(report: Report) -> tuple[str, str]:
    def wrong(_: Fields, text: str) -> str:
        kind, rest = value(text)
        if kind == "smtp" and not re.match(r"[0-9]{3}(?:[ -]|\Z)", rest):
            return "smtp without a reply"
        found = typed(text)
        return "" if found == "nothing behind the type" else found

    return every(report, "diagnostic-code", wrong)


both("2.3.6-diagnostic-code", diagnostic, level="IMPLIED", clauses="3464-2.3.6-a",
     requirement="Diagnostic-Code has a type, and of type smtp it is a reply",
     allowed={"well formed": PASS, "absent": INFO, "smtp without a reply": NON_STRICT},
     )  # fmt: skip


def last_attempt(report: Report) -> tuple[str, str]:
    found = [text for group in report.recipients for text in group.get("last-attempt-date", ())]
    return dated(found)


both("2.3.7-last-attempt-date", last_attempt, level="MUST", clauses="3464-2.1-a", allowed=DATES,
     requirement="Last-Attempt-Date, if there is one, is a date with a numeric zone")  # fmt: skip


def retry_until(report: Report) -> tuple[str, str]:
    for action, group in zip(report.actions, report.recipients, strict=True):
        if "will-retry-until" in group and action != "delayed":
            return "in another", f"{action}: {first(group, 'will-retry-until')}"
    return "only in delayed", ""


both("2.3.9-will-retry-until", retry_until, level="MUST NOT", clauses="3464-2.3.9-a",
     requirement="Will-Retry-Until is only where a message is delayed",
     allowed={"only in delayed": PASS})  # fmt: skip


# -- ENVID and ORCPT: that they are there; rfc3461_reports asks what they hold ---------------------


@here.case(
    "2.2.1-original-envelope-id", level="SHOULD", clauses="3464-2.2.1-a", keywords="DSN",
    needs="rcpt sendermail",
    requirement="A report has an Original-Envelope-Id, once, if an ENVID was given",
    sent="mail with ENVID and NOTIFY=SUCCESS",
    allowed={"once": PASS, "absent": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    report = await of_delivery(talk, mail=f"ENVID={talk.token}")
    found = report.about.get("original-envelope-id", ())
    return ("once" if len(found) == 1 else "twice" if found else "absent"), ", ".join(found)


@here.case(
    "2.3.1-original-recipient", level="MUST", clauses="3464-2.3.1-a", keywords="DSN",
    needs="rcpt sendermail",
    requirement="A report has an Original-Recipient, with a type, if an ORCPT was given",
    sent="mail with ORCPT and NOTIFY=SUCCESS",
    allowed={"typed": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    report = await of_delivery(
        talk, mail=f"ENVID={talk.token}", rcpt=f"ORCPT=rfc822;{talk.given.rcpt}"
    )
    if not report.recipients:
        raise Unavailable("a delivery status to look at")
    found = report.recipients[0].get("original-recipient", ())
    return (typed(found[0]) or "typed" if found else "absent"), ", ".join(found)


# -- 3: how often, and on what --------------------------------------------------------------------


@here.case(
    "3-once-per-recipient", level="SHOULD", clauses="3464-2.1-a", keywords="DSN",
    needs="rcpt rcpt2 sendermail",
    requirement="Each of two recipients is reported once",
    sent="mail for two recipients with NOTIFY=SUCCESS",
    allowed={"each once": PASS, "one twice": NON_STRICT, "another address": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    wanted = [each.lower() for each in talk.given.rcpts[:2]]

    def named_in(reports: list[Report]) -> list[str]:
        return [
            value(first(group, "final-recipient"))[1].lower()
            for each in reports for group in each.recipients
        ]  # fmt: skip

    reports = await deliveries(
        talk, mail=f"ENVID={talk.token}",
        rcpts=[(each, "NOTIFY=SUCCESS") for each in talk.given.rcpts[:2]],
        enough=lambda reports: set(wanted) <= set(named_in(reports)),
    )  # fmt: skip
    found = named_in(reports)
    if not found:
        raise Unavailable("reports on deliveries")
    shown = ", ".join(found)
    if sorted(found) == sorted(wanted):
        return "each once", shown
    if set(found) == set(wanted):
        return "one twice", shown
    return ("one is missing" if set(found) < set(wanted) else "another address"), shown


@here.case(
    "3-no-report-on-report", level="MUST NOT", clauses="3464-3-a 3461-5.2-a",
    needs="rcpt sendermail", security="reports on reports, for ever",
    requirement="A report that cannot be delivered leads to no other report to whom it names",
    sent="MAIL FROM:<> and a delivery status, to an address that fails later",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    where = await failing(talk)
    headers = (
        "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b1"\r\n'
    )
    body = (
        "--b1\r\n\r\nIt was not delivered.\r\n--b1\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; client.conform.example\r\n\r\n"
        "Final-Recipient: rfc822; gone@client.conform.example\r\nAction: failed\r\n"
        "Status: 5.1.1\r\n\r\n--b1--\r\n"
    )
    octets = talk.message(body, headers=headers)
    await hand_in(where.talk, rcpts=[(where.address, "")], octets=octets, sender="")

    async def later() -> None:
        await hand_in(where.talk, rcpts=[(where.address, "")])

    found = await unwanted(where.talk, later)
    me = talk.given.sender.lower()
    ours = [each for each in found if me in [name.lower() for name in each.addressees]]
    return ("a report" if ours else "none"), ", ".join(each.kind for each in ours)
