"""RFC 3834 2 and 5: automatic answers, and how a server's own reports are labelled.

What is tricky
- A report is governed by RFC 3464; RFC 3834 5.2 says only how it may be labelled: auto-replied is
  allowed, auto-generated is not.
- Most servers answer nothing by themselves, and then the cases of section 2 find nothing, which is
  right: they find out a vacation program, or a filter that writes to senders.
"""

from __future__ import annotations

import re

from specs.conformance.arrivals import delivered, overtaken
from specs.conformance.model import INFO, NON_STRICT, PASS, Reply, Seen
from specs.conformance.reports import Report, hand_in, here_now, of_delivery, of_failure
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("3834", role="delivery")


def label(report: Report) -> Seen:
    """The keyword, without comments and parameters."""
    found = report.header.get("auto-submitted", ())
    if len(found) > 1:
        return "twice", "; ".join(found)
    if not found:
        return "absent", ""
    keyword = re.sub(r"\([^()]*\)", "", found[0]).partition(";")[0].strip().lower()
    return keyword or "empty", found[0]


#: A response must not be "auto-generated" (5.2); whether a report is one is not said.
LABELS = {"auto-replied": PASS, "absent": INFO, "auto-generated": NON_STRICT}


@here.case(
    "5.2-report-on-delivery", level="MUST NOT", clauses="3834-5-a", keywords="DSN",
    needs="rcpt sendermail", allowed=LABELS,
    requirement="A report on a delivery is labelled auto-replied, if at all",
    sent="mail with NOTIFY=SUCCESS; Auto-Submitted of the report",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return label(await of_delivery(talk, mail=f"ENVID={talk.token}"))


@here.case(
    "5.2-report-on-failure", level="MUST NOT", clauses="3834-5-a", needs="rcpt sendermail",
    allowed=LABELS, requirement="A report on a failure is labelled auto-replied, if at all",
    sent="mail to an address that fails later; Auto-Submitted of the report",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return label(await of_failure(talk))


async def answers(talk: Session, sender: str | None, headers: str) -> list[Report]:
    """What has come back by the time that a later message on the same path has arrived."""
    rcpts = [(talk.given.rcpt, "")]
    await hand_in(talk, rcpts=rcpts, octets=talk.message(headers=headers), sender=sender)
    await overtaken(talk)
    await delivered(talk, Reply(kind="silent"))  # mail that has not arrived is not answered either
    await talk.unasked()
    return here_now(talk)


@here.case(
    "2-answer-to-null-sender", level="MUST NOT", clauses="3834-2-a",
    needs="rcpt maildir sendermail", allowed={"none": PASS},
    security="loops of automatic answers",
    requirement="Mail with the null reverse-path is not answered, whatever its header says",
    sent="MAIL FROM:<>, mail for a mailbox, From and Reply-To name the sender",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    found = await answers(talk, "", f"Reply-To: <{talk.given.sender}>\r\n")
    return ("an answer" if found else "none"), "; ".join(each.kind for each in found)


@here.case(
    "2-answer-to-automatic-mail", level="SHOULD NOT", clauses="3834-2-a",
    needs="rcpt maildir sendermail", allowed={"none": PASS, "an answer": NON_STRICT},
    security="loops of automatic answers",
    requirement="Mail that says it was sent automatically is not answered",
    sent="mail for a mailbox with Auto-Submitted: auto-replied",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    found = await answers(talk, None, "Auto-Submitted: auto-replied\r\n")
    return ("an answer" if found else "none"), "; ".join(each.kind for each in found)
