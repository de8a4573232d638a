"""RFC 3464 2.2 and 2.3: the fields of message/delivery-status, on the message and on recipients.

What is tricky
- The words of Action may be in any mixture of cases, and comments stand anywhere (2.1.1).
- A report on a failure may have a Status of class 4, when a server has given up (2.3.3).
- Whether a remote server took part is not known here: only the form of what it said is judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from specs.conformance.headers import Fields, first
from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.report_cases import Both, with_status
from specs.conformance.reports import Report, of_delivery, value
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session, Unavailable
from specs.conformance.status_codes import FORM

here = Section("3464", role="delivery")
both = Both(here=here)

ACTIONS: Final = ("failed", "delayed", "delivered", "relayed", "expanded")
_ATOM: Final = re.compile(r"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+\Z")
_COMMENT: Final = re.compile(r"\s*\(.*\)\s*\Z", re.DOTALL)
_DATE: Final = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\s*,\s*)?[0-9]{1,2}\s+"
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\s+(?:[0-9]{2}|[0-9]{4})\s+"
    r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})?\s+([+-][0-9]{4}|[A-Z]+)\Z",
    re.IGNORECASE,
)


# -- 2.2: on the message --------------------------------------------------------------------------


def typed(text: str) -> str:
    """What is wrong with TYPE ";" TEXT: "" if nothing."""
    kind, rest = value(text)
    if not kind:
        return "no type"
    if not _ATOM.match(kind):
        return "a type that is no atom"
    return "" if rest else "nothing behind the type"


def named(report: Report) -> Seen:
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


def gateway(report: Report) -> Seen:
    text = first(report.about, "dsn-gateway")
    return ("present" if text else "absent"), text


both("2.2.3-no-gateway", gateway, level="MUST NOT", clauses="3464-2.1-a",
     requirement="A report that was not translated from another system has no DSN-Gateway",
     allowed={"absent": PASS})  # fmt: skip


def received_from(report: Report) -> Seen:
    text = first(report.about, "received-from-mta")
    return (typed(text) or "typed" if text else "absent"), text


both("2.2.4-received-from-mta", received_from, level="IMPLIED", clauses="3464-2.1-a",
     requirement="Received-From-MTA, if there is one, has a type and a name",
     allowed={"typed": PASS, "absent": INFO})  # fmt: skip


def dated(texts: Sequence[str]) -> Seen:
    for text in texts:
        found = _DATE.match(_COMMENT.sub("", text).strip())
        if found is None:
            return "no date", text
        if found[1][0] not in "+-":
            return "a zone with a name", text
    return ("a date" if texts else "absent"), ", ".join(texts)


DATES: Final = {"a date": PASS, "absent": INFO}


def arrival(report: Report) -> Seen:
    return dated(report.about.get("arrival-date", ()))


both("2.2.5-arrival-date", arrival, level="MUST", clauses="3464-2.2.5-a", allowed=DATES,
     requirement="Arrival-Date, if there is one, is a date with a numeric zone")  # fmt: skip


# -- 2.3: on each recipient -----------------------------------------------------------------------


def finals(report: Report) -> Seen:
    for group in report.recipients:
        text = first(group, "final-recipient")
        wrong = "absent" if not text else typed(text)
        if wrong:
            return wrong, text
    return "typed", ""


both("2.3.2-final-recipient", finals, level="MUST", clauses="3464-2.3.2-a",
     requirement="Every recipient of a report has a Final-Recipient with a type and an address",
     allowed={"typed": PASS})  # fmt: skip


def action_words(report: Report) -> Seen:
    for word in report.actions:
        if word not in ACTIONS:
            return "another word" if word else "absent", word
    return "one of five", ", ".join(report.actions)


both("2.3.3-action", action_words, level="MUST", clauses="3464-2.3.3-a",
     requirement="Every recipient of a report has one of the five words as Action",
     allowed={"one of five": PASS})  # fmt: skip


def statuses(report: Report) -> Seen:
    for group in report.recipients:
        text = first(group, "status")
        if not text:
            return "absent", ""
        if not FORM.match(_COMMENT.sub("", text)):
            return "not of the form", text
    return "of the form", ", ".join(first(each, "status") for each in report.recipients)


both("2.3.4-status-form", statuses, level="MUST", clauses="3464-2.3.4-a",
     requirement="Status is three numbers with dots, the first 2, 4 or 5, without leading zeros",
     allowed={"of the form": PASS})  # fmt: skip

#: Classes that an Action may have.
CLASSES: Final = {
    "failed": "45", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2",
}  # fmt: skip


def fitting(report: Report) -> Seen:
    for action, group in zip(report.actions, report.recipients, strict=True):
        status = first(group, "status")
        if action not in CLASSES or not status:
            raise Unavailable("an Action and a Status to compare")
        if status[0] not in CLASSES[action]:
            return "contradicts", f"{action}, {status}"
    return "fits", ", ".join(report.actions)


both("2.3.4-status-fits-action", fitting, level="MUST", clauses="3464-2.3.4-a",
     requirement="The class of Status fits Action", allowed={"fits": PASS})  # fmt: skip


def every(report: Report, name: str, wrong: Callable[[Fields, str], str]) -> Seen:
    """The first recipient's field of this name that is wrong; they need not have it."""
    there = [group for group in report.recipients if name in group]
    for group in there:
        text = first(group, name)
        if label := wrong(group, text):
            return label, text
    return ("well formed" if there else "absent"), first(there[0], name) if there else ""


def remote(report: Report) -> Seen:
    return every(report, "remote-mta", lambda _, text: typed(text))


both("2.3.5-remote-mta", remote, level="IMPLIED", clauses="3464-2.3.5-a",
     requirement="Remote-MTA, if there is one, has a type and a name",
     allowed={"well formed": PASS, "absent": INFO})  # fmt: skip


def diagnostic(report: Report) -> Seen:
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


def last_attempt(report: Report) -> Seen:
    found = [text for group in report.recipients for text in group.get("last-attempt-date", ())]
    return dated(found)


both("2.3.7-last-attempt-date", last_attempt, level="MUST", clauses="3464-2.1-a", allowed=DATES,
     requirement="Last-Attempt-Date, if there is one, is a date with a numeric zone")  # fmt: skip


def retry_until(report: Report) -> Seen:
    for action, group in zip(report.actions, report.recipients, strict=True):
        if "will-retry-until" in group and action != "delayed":
            return "in another", f"{action}: {first(group, 'will-retry-until')}"
    return "only in delayed", ""


both("2.3.9-will-retry-until", retry_until, level="MUST NOT", clauses="3464-2.3.9-a",
     requirement="Will-Retry-Until is only where a message is delayed",
     allowed={"only in delayed": PASS})  # fmt: skip


# -- ENVID and ORCPT: that they are there; rfc3461_fields asks what they hold ----------------------


@here.case(
    "2.2.1-original-envelope-id", level="SHOULD", clauses="3464-2.2.1-a", keywords="DSN",
    needs="rcpt sendermail",
    requirement="A report has an Original-Envelope-Id, once, if an ENVID was given",
    sent="mail with ENVID and NOTIFY=SUCCESS",
    allowed={"once": PASS, "absent": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
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
async def _(talk: Session) -> Seen:
    report = await of_delivery(
        talk, mail=f"ENVID={talk.token}", rcpt=f"ORCPT=rfc822;{talk.given.rcpt}"
    )
    found = with_status(report).recipients[0].get("original-recipient", ())
    if not found:  # which is the question of 3461-6.3-orcpt-plain
        raise NotApplicable("Original-Recipient in reports")
    return (typed(found[0]) or "typed"), ", ".join(found)
