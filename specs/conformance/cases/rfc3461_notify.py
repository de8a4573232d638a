"""RFC 3461 5.2: who gets a report on what, by NOTIFY.

What is tricky
- That a report does not come is judged when the report on a later message has come.  If none comes
  at all, a server may be slow: silence alone is no fail.
- ENVID carries the case's token, so that a report is found which returns nothing of the message.
- Success may be reported as "relayed" or "expanded", where mail is handed on behind the server.
- A server that offers no DSN has duties towards failures alone: RFC 5321 says so, and those cases
  need no keyword.
- Aliases and lists are not asked for: no run is given one.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.report_cases import (
    after_a_delivery,
    after_a_failure,
    failing_with_dsn,
    kinds,
    overtaken,
    reported,
    with_status,
)
from specs.conformance.reports import (
    Failing,
    deliveries,
    failing,
    hand_in,
    in_form,
    of_failure,
)
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable

here = Section("3461")


# -- 5.2.3: local delivery ------------------------------------------------------------------------


@here.case(
    "5.2.3-success", level="MUST", clauses="3461-5.2.3-a", keywords="DSN",
    needs="rcpt maildir sendermail",
    requirement="A delivery is reported to the sender who asked for it by NOTIFY=SUCCESS",
    sent="mail for a mailbox with NOTIFY=SUCCESS",
    allowed={"delivered": PASS, "relayed": NON_STRICT, "expanded": NON_STRICT,
             "none in time": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    found = await deliveries(
        talk, mail=f"ENVID={talk.token}", rcpts=[(talk.given.rcpt, "NOTIFY=SUCCESS")]
    )
    if not found:
        if not await talk.look(talk.given.maildirs[0], patience_s=talk.given.quiet_s):
            raise Unavailable("a delivery: the message itself has not arrived")
        later = await overtaken(talk)
        if later is None:
            return "none in time", ""
        found = later
    if not found:
        return "no report", ""
    actions = [word for each in found for word in each.actions]
    return (actions[0] if actions else "no Action"), kinds(found)


@here.case(
    "5.2.3-success-among-others", level="MUST", clauses="3461-5.2.3-a", keywords="DSN",
    needs="rcpt sendermail",
    requirement="SUCCESS counts wherever it is in the list of NOTIFY, and in small letters",
    sent="mail for a mailbox with NOTIFY=failure,delay,success",
    allowed={"delivered": PASS, "relayed": NON_STRICT, "expanded": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    rcpts = [(talk.given.rcpt, "NOTIFY=failure,delay,success")]
    found = await deliveries(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
    if not found:
        # Whether it reports at all is another case: here the place in the list is asked for.
        found = await after_a_delivery(talk)
    if not found:
        return "no report", ""
    actions = [word for each in found for word in each.actions]
    return (actions[0] if actions else "no Action"), kinds(found)


#: slug, NOTIFY of a message that is delivered, requirement
DELIVERED_UNREPORTED: Final = (
    ("default", "", "A delivery is not reported to a sender who did not give NOTIFY"),
    ("never", "NOTIFY=NEVER", "A delivery is not reported with NOTIFY=NEVER"),
    ("failure", "NOTIFY=FAILURE", "A delivery is not reported with NOTIFY=FAILURE"),
    ("delay", "NOTIFY=DELAY", "A delivery is not reported with NOTIFY=DELAY"),
    ("failure-delay", "NOTIFY=FAILURE,DELAY",
     "A delivery is not reported with NOTIFY=FAILURE,DELAY"),
)  # fmt: skip


def unreported(slug: str, notify: str, requirement: str) -> None:
    @here.case(
        f"5.2.3-no-report-{slug}", level="MUST NOT", clauses="3461-5.2.3-a",
        keywords="DSN", needs="rcpt sendermail", requirement=requirement,
        sent=f"mail for a mailbox with {notify or 'no NOTIFY'}; a later one with NOTIFY=SUCCESS",
        allowed={"none": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=[(talk.given.rcpt, notify)])
        found = await after_a_delivery(talk)
        return ("a report" if found else "none"), kinds(found)


for _row in DELIVERED_UNREPORTED:
    unreported(*_row)


# -- 5.2: the null reverse-path -------------------------------------------------------------------


@here.case(
    "5.2-null-sender-delivered", level="MUST NOT", clauses="3461-5.2-a", keywords="DSN",
    needs="rcpt sendermail", security="reports to people who have sent nothing",
    requirement="With the null reverse-path nobody in the header gets a report on a delivery",
    sent="MAIL FROM:<>, RCPT with NOTIFY=SUCCESS, From and Errors-To name the sender",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    me = talk.given.sender
    octets = talk.message(
        headers=f"Errors-To: <{me}>\r\nReply-To: <{me}>\r\nReturn-Receipt-To: <{me}>\r\n"
    )
    rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS")]
    await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts, octets=octets, sender="")
    found = await after_a_delivery(talk)
    return ("a report" if found else "none"), kinds(found)


@here.case(
    "5.2-null-sender-failed", level="MUST NOT", clauses="3461-5.2-a", needs="rcpt sendermail",
    security="reports to people who have sent nothing",
    requirement="With the null reverse-path nobody named in the header gets a report on a failure",
    sent="MAIL FROM:<>, an address that fails later; From and Errors-To name the sender",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    where = await failing(talk)
    me = talk.given.sender
    octets = talk.message(headers=f"Errors-To: <{me}>\r\nReply-To: <{me}>\r\n")
    await hand_in(where.talk, rcpts=[(where.address, "")], octets=octets, sender="")
    found = await after_a_failure(where)
    return ("a report" if found else "none"), kinds(found)


@here.case(
    "5.2-null-sender-failed-notify", level="MUST NOT", clauses="3461-5.2-a",
    needs="rcpt sendermail", keywords="DSN",
    security="reports to people who have sent nothing",
    requirement="With the null reverse-path NOTIFY=FAILURE leads to no report either",
    sent="MAIL FROM:<>, RCPT with NOTIFY=FAILURE for an address that fails later",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    where = await failing_with_dsn(talk)
    await hand_in(where.talk, rcpts=[(where.address, "NOTIFY=FAILURE")], sender="")
    found = await after_a_failure(where)
    return ("a report" if found else "none"), kinds(found)


# -- 5.2.6: failure -------------------------------------------------------------------------------


async def judged(where: Failing) -> Seen:
    found = await reported(where)
    if found is None:
        return "none in time", f"to {where.address}"
    return ("reported" if found else "no report"), kinds(found) or f"to {where.address}"


@here.case(
    "5.2.6-default", level="IMPLIED", clauses="3461-5.2.6-b",
    needs="rcpt sendermail",
    requirement="A failure is reported to a sender who did not give NOTIFY",
    sent="mail to an address that fails after it was accepted",
    allowed={"reported": PASS, "none in time": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    where = await failing(talk)
    await hand_in(where.talk, rcpts=[(where.address, "")])
    return await judged(where)


@here.case(
    "5.2.6-failure", level="MUST", clauses="3461-5.2.6-b", needs="rcpt sendermail",
    keywords="DSN",
    requirement="A failure is reported to a sender who gave NOTIFY=FAILURE",
    sent="mail with NOTIFY=FAILURE to an address that fails after it was accepted",
    allowed={"reported": PASS, "none in time": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    where = await failing_with_dsn(talk)
    rcpts = [(where.address, "NOTIFY=FAILURE")]
    await hand_in(where.talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
    return await judged(where)


#: slug, NOTIFY of a message that fails, clause, requirement
FAILED_UNREPORTED: Final = (
    ("never", "NOTIFY=NEVER", "3461-5.2.6-a", "A failure is not reported with NOTIFY=NEVER"),
    ("success", "NOTIFY=SUCCESS", "3461-5.2.6-c", "A failure is not reported with NOTIFY=SUCCESS"),
    ("delay", "NOTIFY=DELAY", "3461-5.2.6-c", "A failure is not reported with NOTIFY=DELAY"),
    ("success-delay", "NOTIFY=SUCCESS,DELAY", "3461-5.2.6-c",
     "A failure is not reported with NOTIFY=SUCCESS,DELAY"),
)  # fmt: skip


def failure_unreported(slug: str, notify: str, clause: str, requirement: str) -> None:
    @here.case(
        f"5.2.6-no-report-{slug}", level="MUST NOT", clauses=clause, keywords="DSN",
        needs="rcpt sendermail", requirement=requirement, allowed={"none": PASS},
        sent=f"mail with {notify} to an address that fails later; a later one without it",
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        where = await failing_with_dsn(talk)
        await hand_in(where.talk, mail=f"ENVID={talk.token}", rcpts=[(where.address, notify)])
        found = await after_a_failure(where)
        # A report that the message is late may come with DELAY (5.2.5).
        told = [each for each in found if "delayed" not in each.actions or "DELAY" not in notify]
        return ("a report" if told else "none"), kinds(found)


for _failed in FAILED_UNREPORTED:
    failure_unreported(*_failed)


@here.case(
    "5.2.6-action", level="MUST", clauses="3461-5.2.6-d", needs="rcpt sendermail",
    role="delivery",
    requirement="The Action of what could not be delivered is failed",
    sent="mail to an address that fails after it was accepted",
    allowed={"failed": PASS, "delayed": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = with_status(in_form(await of_failure(talk)))
    return report.actions[0] or "absent", ", ".join(report.actions)


# -- 5.2.8, and what belongs to whom --------------------------------------------------------------


@here.case(
    "5.2.8-who-asked-for-none", level="SHOULD NOT", clauses="3461-5.2.3-a", keywords="DSN",
    needs="rcpt rcpt2 sendermail", role="delivery",
    requirement="A report says nothing of a recipient with NOTIFY=NEVER beside one with SUCCESS",
    sent="mail for two mailboxes, the first with NOTIFY=SUCCESS, the second with NOTIFY=NEVER",
    allowed={"the first alone": PASS, "both in one": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS"), (talk.given.rcpt2, "NOTIFY=NEVER")]
    try:
        await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
    except Refused as refused:  # which is a question of its own: 3461-5.1-notify-of-each
        raise Unavailable(f"a transaction with a NOTIFY for each of two ({refused})") from None
    found = await after_a_delivery(talk)
    if not any(each.of(talk.given.rcpt) for each in found):
        raise Unavailable("a report on the first of two deliveries")
    for each in found:
        if each.of(talk.given.rcpt2):
            together = each.of(talk.given.rcpt)
            return ("both in one" if together else "one on the second"), kinds(found)
    return "the first alone", kinds(found)
