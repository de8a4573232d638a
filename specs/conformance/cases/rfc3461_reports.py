"""RFC 3461 5.2 and 6: who gets a report on what, in which envelope, and what it says of ENVID, RET,
ORCPT and the recipient.

What is tricky
- That a report does not come is judged when the report on a later message has come.
- ENVID carries the case's token, so that a report is found which returns nothing of the message;
  where ENVID must not be given, the header that is returned has it (6.2).
- Success may be reported as "relayed" or "expanded", where mail is handed on behind the server.
- 6.3 says of ENVID that its value must be decoded, of ORCPT only that the value is taken from it.
- A server that offers no DSN has duties towards failures alone: RFC 5321 says so, and those cases
  need no keyword.
- Aliases and lists are not asked for: no run is given one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Verdict
from specs.conformance.reports import (
    Failing,
    Report,
    deliveries,
    failing,
    first,
    hand_in,
    in_form,
    of_delivery,
    of_failure,
    taken_apart,
    unwanted,
    value,
    wait,
)
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable

here = Section("3461")


def marker(talk: Session) -> str:
    """A word of the body, and of nothing else."""
    return "m" + talk.token[:0:-1]


def with_status(report: Report) -> Report:
    """Raises Unavailable if it says nothing of any recipient: other cases judge that."""
    if not report.recipients:
        raise Unavailable("a delivery status to look at")
    return report


def kinds(found: list[Report]) -> str:
    return "; ".join(f"{each.kind} {', '.join(each.actions)}".strip() for each in found)


# -- 5.2.3: local delivery ------------------------------------------------------------------------


@here.case(
    "5.2.3-success", level="MUST", clauses="3461-5.2.3-a", keywords="DSN",
    needs="rcpt maildir sendermail",
    requirement="A delivery is reported to the sender who asked for it by NOTIFY=SUCCESS",
    sent="mail for a mailbox with NOTIFY=SUCCESS",
    allowed={"delivered": PASS, "relayed": NON_STRICT, "expanded": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    found = await deliveries(
        talk, mail=f"ENVID={talk.token}", rcpts=[(talk.given.rcpt, "NOTIFY=SUCCESS")]
    )
    if not found:
        if not await talk.arrived():
            raise Unavailable("a delivery: the message itself has not arrived")
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
async def _(talk: Session) -> tuple[str, str]:
    rcpts = [(talk.given.rcpt, "NOTIFY=failure,delay,success")]
    found = await deliveries(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
    if not found:
        # Whether it reports at all is another case: here the place in the list is asked for.
        found = await after_a_delivery(talk)
    if not found:
        return "no report", ""
    actions = [word for each in found for word in each.actions]
    return (actions[0] if actions else "no Action"), kinds(found)


#: slug, NOTIFY of a message that is delivered, section, requirement
DELIVERED_UNREPORTED: Final = (
    ("default", "", "5.2.3", "A delivery is not reported to a sender who did not give NOTIFY"),
    ("never", "NOTIFY=NEVER", "5.2.3", "A delivery is not reported with NOTIFY=NEVER"),
    ("failure", "NOTIFY=FAILURE", "5.2.3", "A delivery is not reported with NOTIFY=FAILURE"),
    ("delay", "NOTIFY=DELAY", "5.2.3", "A delivery is not reported with NOTIFY=DELAY"),
    ("failure-delay", "NOTIFY=FAILURE,DELAY", "5.2.3",
     "A delivery is not reported with NOTIFY=FAILURE,DELAY"),
)  # fmt: skip


async def after_a_delivery(talk: Session) -> list[Report]:
    """What there is, once a later delivery is reported."""

    async def later() -> None:
        rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS")]
        await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)

    return await unwanted(talk, later)


def unreported(slug: str, notify: str, section: str, requirement: str) -> None:
    @here.case(
        f"{section}-no-report-{slug}", level="MUST NOT", clauses="3461-5.2.3-a",
        keywords="DSN", needs="rcpt sendermail", requirement=requirement,
        sent=f"mail for a mailbox with {notify or 'no NOTIFY'}; a later one with NOTIFY=SUCCESS",
        allowed={"none": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
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
async def _(talk: Session) -> tuple[str, str]:
    me = talk.given.sender
    octets = talk.message(
        headers=f"Errors-To: <{me}>\r\nReply-To: <{me}>\r\nReturn-Receipt-To: <{me}>\r\n"
    )
    rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS")]
    await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts, octets=octets, sender="")
    found = await after_a_delivery(talk)
    return ("a report" if found else "none"), kinds(found)


async def after_a_failure(where: Failing) -> list[Report]:
    """What there is, once a later failure is reported to the sender."""

    async def later() -> None:
        await hand_in(where.talk, rcpts=[(where.address, "")])

    found = await unwanted(where.talk, later)
    me = where.talk.given.sender.lower()
    # A copy for the postmaster is allowed (5.2), and he may be the sender of this run.
    return [each for each in found if me in [name.lower() for name in each.addressees]]


@here.case(
    "5.2-null-sender-failed", level="MUST NOT", clauses="3461-5.2-a", needs="rcpt sendermail",
    security="reports to people who have sent nothing",
    requirement="With the null reverse-path nobody named in the header gets a report on a failure",
    sent="MAIL FROM:<>, an address that fails later; From and Errors-To name the sender",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
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
async def _(talk: Session) -> tuple[str, str]:
    where = await failing(talk)
    with_dsn(where)
    await hand_in(where.talk, rcpts=[(where.address, "NOTIFY=FAILURE")], sender="")
    found = await after_a_failure(where)
    return ("a report" if found else "none"), kinds(found)


def with_dsn(where: Failing) -> None:
    """The door may be another one than the case's."""
    if "DSN" not in where.talk.features:
        raise NotApplicable("DSN")


# -- 5.2.6: failure -------------------------------------------------------------------------------


@here.case(
    "5.2.6-default", level="IMPLIED", clauses="3461-5.2.6-b",
    needs="rcpt maildir sendermail",
    requirement="A failure is reported to a sender who did not give NOTIFY",
    sent="mail to an address that fails after it was accepted",
    allowed={"reported": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    where = await failing(talk)
    await hand_in(where.talk, rcpts=[(where.address, "")])
    return await reported(where)


async def reported(where: Failing) -> tuple[str, str]:
    """Whether a failure is.  Silence is only judged of an address that must fail at once, by a
    server that delivers other mail meanwhile.  Raises Unavailable.
    """
    found = await wait(where.talk)
    if not found:
        await surely(where)
    return ("reported" if found else "no report"), kinds(found) or f"to {where.address}"


async def surely(where: Failing) -> None:
    talk = where.talk
    if not where.sure:
        raise Unavailable(f"{where.address} to fail in {talk.given.patience_s:.0f} s")
    talk.token = "u" + talk.token[1:]
    await hand_in(talk, rcpts=[(talk.given.rcpt, "")])
    if not await talk.arrived():
        raise Unavailable("a server that delivers other mail meanwhile")


@here.case(
    "5.2.6-failure", level="MUST", clauses="3461-5.2.6-b", needs="rcpt maildir sendermail",
    keywords="DSN",
    requirement="A failure is reported to a sender who gave NOTIFY=FAILURE",
    sent="mail with NOTIFY=FAILURE to an address that fails after it was accepted",
    allowed={"reported": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    where = await failing(talk)
    with_dsn(where)
    rcpts = [(where.address, "NOTIFY=FAILURE")]
    await hand_in(where.talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
    return await reported(where)


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
    async def _(talk: Session) -> tuple[str, str]:
        where = await failing(talk)
        with_dsn(where)
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
async def _(talk: Session) -> tuple[str, str]:
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
async def _(talk: Session) -> tuple[str, str]:
    rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS"), (talk.given.rcpt2, "NOTIFY=NEVER")]
    await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
    found = await after_a_delivery(talk)
    if not any(each.of(talk.given.rcpt) for each in found):
        raise Unavailable("a report on the first of two deliveries")
    for each in found:
        if each.of(talk.given.rcpt2):
            together = each.of(talk.given.rcpt)
            return ("both in one" if together else "one on the second"), kinds(found)
    return "the first alone", kinds(found)


@here.case(
    "6.3-orcpt-of-each", level="MUST", clauses="3464-2.3.1-a 3461-6.3-c", keywords="DSN",
    needs="rcpt rcpt2 sendermail", role="delivery",
    requirement="An ORCPT stays with its recipient, and is not given to another without one",
    sent="mail for two mailboxes with NOTIFY=SUCCESS, the second with an ORCPT",
    allowed={"each its own": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    rcpts = [
        (talk.given.rcpt, "NOTIFY=SUCCESS"),
        (talk.given.rcpt2, "NOTIFY=SUCCESS ORCPT=rfc822;second@elsewhere.example"),
    ]

    def both(reports: list[Report]) -> bool:
        return all(any(each.of(to) for each in reports) for to, _ in rcpts)

    found = await deliveries(talk, mail=f"ENVID={talk.token}", rcpts=rcpts, enough=both)
    if not both(found):
        raise Unavailable("reports on both deliveries")
    of = [
        next(block for each in found if (block := each.of(to)) is not None) for to, _ in rcpts
    ]  # fmt: skip
    said = [value(first(block, "original-recipient"))[1] for block in of]
    if said[1] != "second@elsewhere.example":
        return "lost or changed", f"{said[1]!r} for the second"
    if said[0] == said[1]:
        return "given to another", f"{said[0]!r} for the first"
    # An Original-Recipient of the server's own making is the question of 6.3-no-orcpt.
    return "each its own", ", ".join(said)


# -- 6.1: the envelope ----------------------------------------------------------------------------


async def return_path(talk: Session, report: Report) -> tuple[str, str]:
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
async def _(talk: Session) -> tuple[str, str]:
    return await return_path(talk, await of_delivery(talk, mail=f"ENVID={talk.token}"))


@here.case(
    "6.1-null-sender-of-failure", level="MUST", clauses="3461-6.1-a", needs="rcpt sendermail",
    security="reports on reports, for ever", allowed=NULL,
    requirement="A report on a failure is sent with the null reverse-path",
    sent="mail to an address that fails later; Return-Path of the report",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    return await return_path(talk, await of_failure(talk))


#: Fields that might be taken for where a report should go.
OTHERS: Final = (
    "Reply-To: <other@elsewhere.example>\r\nErrors-To: <other@elsewhere.example>\r\n"
    "Sender: <other@elsewhere.example>\r\nReturn-Receipt-To: <other@elsewhere.example>\r\n"
)


def addressed(talk: Session, report: Report) -> tuple[str, str]:
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
async def _(talk: Session) -> tuple[str, str]:
    octets = talk.message(headers=OTHERS)
    return addressed(talk, await of_delivery(talk, mail=f"ENVID={talk.token}", octets=octets))


@here.case(
    "6.1-to-reverse-path-of-failure", level="MUST", clauses="3461-6.1-a",
    needs="rcpt sendermail",
    requirement="A report on a failure is addressed to the reverse-path, not to other senders",
    sent="mail to an address that fails; Reply-To, Errors-To and Sender name somebody else",
    allowed={"to the reverse-path": PASS, "another form": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    report = await of_failure(talk, octets=talk.message(headers=OTHERS))
    label, shown = addressed(talk, report)
    plain = report.kind != "multipart/report" and label != "to the reverse-path"
    return ("another form" if plain else label), shown


# -- 6.2: what is returned ------------------------------------------------------------------------


def body_of(talk: Session, report: Report) -> str:
    return "the body" if report.says(marker(talk)) else "no body"


async def on_failure(talk: Session, ret: str) -> tuple[str, str]:
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
    async def _(talk: Session) -> tuple[str, str]:
        return await on_failure(talk, ret)


for _returned in RETURNED:
    returned(*_returned)


def returned_on_delivery(slug: str, ret: str) -> None:
    @here.case(
        f"6.2-{slug}-delivery", level="SHOULD", clauses="3461-6.2-a", keywords="DSN",
        needs="rcpt sendermail", allowed={"no body": PASS, "the body": NON_STRICT},
        requirement="A report that tells of no failure returns no body, whatever RET says",
        sent=f"mail with {ret or 'no RET'} and NOTIFY=SUCCESS",
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        octets = talk.message(f"{marker(talk)}\r\n")
        mail = f"ENVID={talk.token} {ret}".strip()
        report = await of_delivery(talk, mail=mail, octets=octets)
        return body_of(talk, report), ", ".join(each.kind for each in report.parts)


for _slug, _ret in (("ret-full", "RET=FULL"), ("ret-hdrs", "RET=HDRS"), ("ret-absent", "")):
    returned_on_delivery(_slug, _ret)


# -- 6.3: ENVID -----------------------------------------------------------------------------------

#: slug, xtext, what it stands for, requirement; each goes behind the token and a dot
ENVIDS: Final = (
    ("plain", "QQ314159", "QQ314159", "An ENVID is told in the report"),
    ("case", "AbCdEf", "AbCdEf", "An ENVID keeps its upper and lower case in the report"),
    ("plus-and-equals", "a+2Bb+3Dc", "a+b=c", "An ENVID's encoded + and = are decoded"),
    ("space", "two+20words", "two words", "An ENVID's encoded space is decoded"),
    ("needless", "+41+42C", "ABC", "What need not have been encoded in an ENVID is decoded"),
    ("encoded-escape", "+2B41", "+41", "An ENVID is decoded once, not twice"),
    ("parentheses", "(no+20comment)x", "(no comment)x", "Parentheses in an ENVID are kept"),
    ("punctuation", "!\"#$%&'*,-./:;<>?@[\\]^_`{|}~", "!\"#$%&'*,-./:;<>?@[\\]^_`{|}~",
     "Every printable character of an ENVID is kept"),
    ("long", "e" * 77, "e" * 77, "An ENVID of 100 characters, with its keyword, is told whole"),
)  # fmt: skip


def compared(got: str, decoded: str, encoded: str) -> str:
    if not got:
        return "absent"
    if got == decoded:
        return "decoded"
    return "still encoded" if got == encoded else "changed"


def envid(slug: str, xtext: str, decoded: str, requirement: str) -> None:
    @here.case(
        f"6.3-envid-{slug}", level="MUST", clauses="3461-6.3-a", keywords="DSN",
        needs="rcpt sendermail", requirement=requirement, allowed={"decoded": PASS},
        sent=f"mail with ENVID={{token}}.{xtext} and NOTIFY=SUCCESS",
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        try:
            found = await of_delivery(talk, mail=f"ENVID={talk.token}.{xtext}")
        except Refused as error:
            if slug == "punctuation" and error.what.startswith("MAIL"):  # judged in 4.4
                raise Unavailable("an ENVID with punctuation") from None
            raise
        report = with_status(found)
        got = first(report.about, "original-envelope-id")
        return compared(got, f"{talk.token}.{decoded}", f"{talk.token}.{xtext}"), got


for _envid in ENVIDS:
    envid(*_envid)


@here.case(
    "6.3-envid-of-failure", level="MUST", clauses="3461-6.3-a", keywords="DSN",
    needs="rcpt sendermail", requirement="An ENVID is told, decoded, in a report on a failure",
    sent="mail with ENVID={token}.a+2Bb to an address that fails after it was accepted",
    allowed={"decoded": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    report = with_status(in_form(await of_failure(talk, mail=f"ENVID={talk.token}.a+2Bb")))
    got = first(report.about, "original-envelope-id")
    return compared(got, f"{talk.token}.a+b", f"{talk.token}.a+2Bb"), got


def without(report: Report, name: str) -> tuple[str, str]:
    """That no block has this field."""
    found = [text for group in with_status(report).groups for text in group.get(name, ())]
    return ("present" if found else "absent"), ", ".join(found)


@here.case(
    "6.3-no-envid", level="MUST NOT", clauses="3461-6.3-b", keywords="DSN", role="delivery",
    needs="rcpt sendermail", allowed={"absent": PASS},
    requirement="A report has no Original-Envelope-Id if no ENVID was given",
    sent="mail with NOTIFY=SUCCESS and without ENVID",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    return without(await of_delivery(talk), "original-envelope-id")


@here.case(
    "6.3-no-envid-of-failure", level="MUST NOT", clauses="3461-6.3-b", role="delivery",
    needs="rcpt sendermail", keywords="DSN", allowed={"absent": PASS},
    requirement="A report on a failure has no Original-Envelope-Id if no ENVID was given",
    sent="mail without ENVID to an address that fails after it was accepted",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    return without(in_form(await of_failure(talk)), "original-envelope-id")


@here.case(
    "6.3-envid-of-earlier-mail", level="MUST NOT", clauses="3461-6.3-b", keywords="DSN",
    needs="rcpt sendermail", role="delivery", allowed={"absent": PASS},
    requirement="The ENVID of an earlier transaction is not told of a later one without",
    sent="MAIL with ENVID and RET | RCPT with ORCPT | RSET | mail with NOTIFY=SUCCESS alone",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> ENVID=earlier RET=HDRS")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}> ORCPT=rfc822;earlier@x.example NOTIFY=NEVER")
    await talk.must("RSET")
    return without(await of_delivery(talk), "original-envelope-id")


# -- 6.3: ORCPT -----------------------------------------------------------------------------------

#: slug, ORCPT, type, address, requirement
ORCPTS: Final = (
    ("plain", "rfc822;first@elsewhere.example", "rfc822", "first@elsewhere.example",
     "An ORCPT is told in the report"),
    ("case", "rfc822;First.Last@Elsewhere.Example", "rfc822", "First.Last@Elsewhere.Example",
     "An ORCPT keeps its upper and lower case in the report"),
    ("plus-and-equals", "rfc822;a+2Bb+3Dc@elsewhere.example", "rfc822",
     "a+b=c@elsewhere.example", "An ORCPT's encoded + and = are decoded"),
    ("space", "rfc822;+22two+20words+22@elsewhere.example", "rfc822",
     '"two words"@elsewhere.example', "An ORCPT's encoded space is decoded"),
    ("other-type", "x400;/G+3DAda/S+3DByron/O+3DX/C+3Dgb/", "x400", "/G=Ada/S=Byron/O=X/C=gb/",
     "An ORCPT of another type is told with its type"),
    ("no-address", "rfc822;no+20address+20at+20all", "rfc822", "no address at all",
     "An ORCPT that is no address is told as it is"),
    ("long", "rfc822;" + "o" * 473 + "@other.example", "rfc822", "o" * 473 + "@other.example",
     "An ORCPT of 500 characters, with its keyword, is told whole"),
)  # fmt: skip


def orcpt(slug: str, xtext: str, kind: str, address: str, requirement: str) -> None:
    @here.case(
        f"6.3-orcpt-{slug}", level="MUST", clauses="3464-2.3.1-a 3461-4.2-a", keywords="DSN",
        needs="rcpt sendermail", requirement=requirement, role="delivery",
        allowed={"decoded": PASS, "still encoded": NON_STRICT},
        sent=f"mail with ORCPT={xtext if len(xtext) < 70 else xtext[:20] + '...'}, NOTIFY=SUCCESS",
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        try:
            report = await of_delivery(talk, mail=f"ENVID={talk.token}", rcpt=f"ORCPT={xtext}")
        except Refused as error:
            if slug in ("long", "other-type") and error.what.startswith("RCPT"):  # judged in 4.2
                raise Unavailable("an ORCPT that is long, or of another type") from None
            raise
        got = first(with_status(report).recipients[0], "original-recipient")
        label = compared(value(got)[1], address, xtext.partition(";")[2])
        return ("another type" if value(got)[0] != kind and label != "absent" else label), got


for _orcpt in ORCPTS:
    orcpt(*_orcpt)


def invented(talk: Session, report: Report) -> tuple[str, str]:
    """Whether there is an Original-Recipient, and another than the recipient."""
    label, saw = without(report, "original-recipient")
    for group in report.recipients:
        own = {value(first(group, "final-recipient"))[1].lower(), talk.given.rcpt.lower()}
        said = [value(each)[1].lower() for each in group.get("original-recipient", ())]
        if any(each not in own for each in said):
            return "another", saw
    return label, saw


#: 6.3 (d) forbids it; 5.2.1 (d) allows an ORCPT that was not given, with the recipient's own
#: address, on the way: the texts differ.
NO_ORCPT: Final[Mapping[str, Verdict]] = {"absent": PASS, "present": NON_STRICT}


@here.case(
    "6.3-no-orcpt", level="MUST NOT", clauses="3461-6.3-c", keywords="DSN", role="delivery",
    needs="rcpt sendermail", allowed=NO_ORCPT,
    requirement="A report has no Original-Recipient if no ORCPT was given",
    sent="mail with NOTIFY=SUCCESS and without ORCPT",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    return invented(talk, await of_delivery(talk, mail=f"ENVID={talk.token}"))


@here.case(
    "6.3-no-orcpt-of-failure", level="MUST NOT", clauses="3461-6.3-c", role="delivery",
    needs="rcpt sendermail", allowed=NO_ORCPT,
    requirement="A report on a failure has no Original-Recipient if no ORCPT was given",
    sent="mail without ORCPT to an address that fails after it was accepted",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    return invented(talk, in_form(await of_failure(talk)))


@here.case(
    "6.3-orcpt-of-earlier-rcpt", level="MUST NOT", clauses="3461-6.3-c", keywords="DSN",
    needs="rcpt sendermail", role="delivery", allowed={"its own or none": PASS},
    requirement="The ORCPT of an earlier transaction is not told of a later one without",
    sent="MAIL | RCPT with ORCPT | RSET | mail with NOTIFY=SUCCESS and without ORCPT",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}> ORCPT=rfc822;earlier@x.example")
    await talk.must("RSET")
    report = with_status(await of_delivery(talk, mail=f"ENVID={talk.token}"))
    got = first(report.recipients[0], "original-recipient")
    return ("the earlier one" if "earlier@x.example" in got else "its own or none"), got


# -- 6.3: the recipient, and the status -----------------------------------------------------------


def final(report: Report, address: str) -> tuple[str, str]:
    got = first(with_status(report).recipients[0], "final-recipient")
    kind, said = value(got)
    if said == address:
        return ("the same" if kind == "rfc822" else "another type"), got
    local, _, domain = address.rpartition("@")
    if said.lower() == f"{local}@{domain}".lower():
        same_local = said.rpartition("@")[0] == local
        return ("the domain's case is changed" if same_local else "case is changed"), got
    return "another", got


FINAL: Final[Mapping[str, Verdict]] = {
    "the same": PASS, "the domain's case is changed": NON_STRICT,
}  # fmt: skip


@here.case(
    "6.3-final-recipient", level="MUST", clauses="3461-6.3-d", keywords="DSN", role="delivery",
    needs="rcpt sendermail", allowed=FINAL,
    requirement="Final-Recipient has the recipient of the envelope, of type rfc822",
    sent="mail with NOTIFY=SUCCESS and another address as ORCPT",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    report = await of_delivery(
        talk, mail=f"ENVID={talk.token}", rcpt="ORCPT=rfc822;another@elsewhere.example"
    )
    return final(report, talk.given.rcpt)


@here.case(
    "6.3-final-recipient-case", level="MUST", clauses="3461-6.3-d", keywords="DSN",
    needs="rcpt sendermail", allowed=FINAL, role="delivery",
    requirement="Final-Recipient keeps the case in which the domain was given",
    sent="mail with NOTIFY=SUCCESS for the mailbox with its domain in capitals",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    local, _, domain = talk.given.rcpt.rpartition("@")
    address = f"{local}@{domain.upper()}"
    return final(await of_delivery(talk, mail=f"ENVID={talk.token}", to=address), address)


@here.case(
    "6.3-final-recipient-of-failure", level="MUST", clauses="3461-6.3-d", role="delivery",
    needs="rcpt sendermail", allowed=FINAL,
    requirement="Final-Recipient has the recipient of the envelope, of type rfc822, on a failure",
    sent="mail to an address that fails after it was accepted",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    address = (await failing(talk)).address
    return final(in_form(await of_failure(talk)), address)


#: The last detail of each subject that is registered (RFC 3463, RFC 5248 and what came after).
DETAILS: Final = {"0": 0, "1": 10, "2": 4, "3": 6, "4": 7, "5": 6, "6": 10, "7": 32}


@here.case(
    "6.3-status-of-failure", level="MUST", clauses="3461-6.3-e", role="delivery",
    needs="rcpt sendermail",
    requirement="The Status of a failure is a code that is registered, or 4.0.0 or 5.0.0",
    sent="mail to an address that fails after it was accepted",
    allowed={"registered": PASS, "not registered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    report = with_status(in_form(await of_failure(talk)))
    status = first(report.recipients[0], "status").partition("(")[0].strip()
    number, _, rest = status.partition(".")
    subject, _, detail = rest.partition(".")
    if number not in ("4", "5"):
        return "no failure", status
    known = subject in DETAILS and detail.isdigit() and int(detail) <= DETAILS[subject]
    return ("registered" if known else "not registered"), status


# -- injection ------------------------------------------------------------------------------------

#: slug, what the encoded octets do to the line
ENDS: Final = (("crlf", "+0D+0A"), ("lf", "+0A"), ("cr", "+0D"), ("empty-line", "+0A+0A"))


def injected(name: str, slug: str, end: str) -> None:
    @here.case(
        f"6.3-injection-{name}-{slug}", level="IMPLIED",
        clauses="3461-6.3-a" if name == "envid" else "3464-2.3.1-a", keywords="DSN",
        needs="rcpt sendermail", role="delivery",
        security="fields, and whole recipients, of a report written by whoever sends mail",
        requirement=f"What {name.upper()} decodes to begins no line of a report",
        sent=f"mail with {name.upper()}=...{end}X-Injected:+20yes and NOTIFY=SUCCESS",
        allowed={"refused": PASS, "no line of its own": PASS, "refused later": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        tail = f"{end}X-Injected:+20yes"
        mail = f"ENVID={talk.token}{tail if name == 'envid' else ''}"
        more = f" ORCPT=rfc822;a@x.example{tail}" if name == "orcpt" else ""
        await talk.upto("ehlo")
        reply = await talk.say(f"MAIL FROM:<{talk.given.sender}> {mail}")
        if not reply.positive:
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        reply = await talk.say(f"RCPT TO:<{talk.given.rcpt}> NOTIFY=SUCCESS{more}")
        if not reply.positive:
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        await talk.must("DATA")
        reply = await talk.content(talk.message())
        if not reply.positive:
            return ("refused later" if reply.kind == "reply" else reply.label), str(reply)
        for report in await wait(talk) or _none():
            status = report.status.body if report.status else b""
            head = report.raw.partition(b"\n\n")[0]
            for text in (b"\n" + head, b"\n" + status):
                if b"\nX-Injected:" in text:
                    return "a line of its own", text.decode("latin-1")
                if b"\rX-Injected:" in text:
                    return "behind a bare CR", text.decode("latin-1")
        return "no line of its own", ""


def _none() -> list[Report]:
    raise Unavailable("a report on a delivery, asked for by NOTIFY=SUCCESS")


for _name in ("envid", "orcpt"):
    for _slug, _end in ENDS:
        injected(_name, _slug, _end)
