"""RFC 3464 3: how often a report is sent, and on what."""

from __future__ import annotations

from specs.conformance.headers import first
from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.report_cases import after_a_failure
from specs.conformance.reports import Report, deliveries, failing, hand_in, value
from specs.conformance.section import Section
from specs.conformance.session import Session, Unavailable

here = Section("3464", role="delivery")


# -- 3: how often, and on what --------------------------------------------------------------------


@here.case(
    "3-once-per-recipient", level="SHOULD", clauses="3464-2.1-a", keywords="DSN",
    needs="rcpt rcpt2 sendermail",
    requirement="Each of two recipients is reported once",
    sent="mail for two recipients with NOTIFY=SUCCESS",
    allowed={"each once": PASS, "one twice": NON_STRICT, "one is missing": NON_STRICT,
             "another address": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
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
async def _(talk: Session) -> Seen:
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

    ours = await after_a_failure(where)
    return ("a report" if ours else "none"), ", ".join(each.kind for each in ours)
