"""RFC 5321 4.5.5: mail with the null reverse-path, which is how notifications come.

A blanket refusal at MAIL keeps every report away and is a fail.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import FROM_NOBODY, MAIL_TAKEN
from specs.conformance.arrivals import lost
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

NULL: Final = "MAIL FROM:<>"


def report(talk: Session) -> bytes:
    """A delivery report as RFC 3464 has it, with this case's token."""
    given, mark = talk.given, f"={talk.token}"
    lines = (
        f"From: Mail Delivery System <postmaster@{given.hostname}>",
        f"To: <{given.rcpt}>",
        f"Subject: conformance {talk.token}",
        "Date: Mon, 02 Nov 2026 10:00:00 +0000",
        f"Message-ID: <{talk.token}@{given.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{mark}"',
        "",
        f"--{mark}",
        "Content-Type: text/plain",
        "",
        "It could not be delivered.",
        "",
        f"--{mark}",
        "Content-Type: message/delivery-status",
        "",
        f"Reporting-MTA: dns; {given.hostname}",
        "",
        "Final-Recipient: rfc822; gone@elsewhere.example",
        "Action: failed",
        "Status: 5.1.1",
        "",
        f"--{mark}",
        "Content-Type: text/rfc822-headers",
        "",
        f"From: <{given.rcpt}>",
        "To: <gone@elsewhere.example>",
        "Subject: hello",
        "",
        f"--{mark}--",
        "",
    )
    return "\r\n".join(lines).encode()


for slug, line, keywords in (
    ("plain", NULL, ""),
    ("size", f"{NULL} SIZE=1000", "SIZE"),
    ("dsn", f"{NULL} RET=HDRS ENVID=conform1", "DSN"),
    ("lower-case", "mail from:<>", ""),
):
    here.probe(
        f"4.5.5-null-mail-{slug}",
        level="MUST",
        clauses="5321-4.5.5-a 1123-5.2.9-a 5321-4.1.1.2-b 5321-4.3.2-f",
        sent=[line],
        keywords=keywords,
        requirement=f"MAIL with the null reverse-path is accepted ({slug})",
        allowed=MAIL_TAKEN,
    )

here.probe(
    "4.5.5-null-rcpt", level="MUST", clauses="5321-4.5.5-a", sent=[NULL, "RCPT TO:<{rcpt}>"],
    requirement="A mailbox takes mail that has the null reverse-path", allowed=FROM_NOBODY,
    needs="rcpt",
)  # fmt: skip
here.probe(
    "4.5.5-null-two-rcpts", level="IMPLIED", clauses="5321-4.5.5-a", needs="rcpt rcpt2",
    sent=[NULL, "RCPT TO:<{rcpt}>", "RCPT TO:<{rcpt2}>"],
    requirement="Mail with the null reverse-path may have several recipients",
    allowed=FROM_NOBODY | {"5yz": NON_STRICT},
)  # fmt: skip
here.probe(
    "4.5.5-null-given-up",
    level="IMPLIED",
    clauses="5321-4.5.5-a",
    sent=["RSET", NULL, "NOOP", "RSET"],
    requirement="A transaction with the null reverse-path can be given up",
    allowed={"250": PASS},
)


@here.case(
    "4.5.5-null-report", level="MUST", clauses="5321-4.5.5-a", needs="rcpt",
    sent="a delivery report from the null reverse-path", allowed=FROM_NOBODY,
    requirement="A delivery report with the null reverse-path is accepted",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    for line in (NULL, f"RCPT TO:<{talk.given.rcpt}>"):
        reply = await talk.say(line)
        if not reply.positive:
            return reply
    talk.stage = "rcpt"
    await talk.upto("data")
    return await talk.content(report(talk))


@here.case(
    "4.5.5-null-arrives", level="MUST", clauses="5321-4.5.5-a", needs="rcpt maildir",
    sent="a delivery report from the null reverse-path",
    requirement="A delivery report with the null reverse-path that was accepted arrives",
    allowed={"arrived": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    for line in (NULL, f"RCPT TO:<{talk.given.rcpt}>"):
        reply = await talk.say(line)
        if not reply.positive:
            return "refused", str(reply)
    talk.stage = "rcpt"
    await talk.upto("data")
    final = await talk.content(report(talk))
    if not final.positive:
        return ("refused" if final.kind == "reply" else final.kind), str(final)
    return "arrived" if await talk.arrived() else await lost(talk)


@here.case(
    "4.5.5-null-then-ordinary", level="IMPLIED", clauses="5321-4.5.5-a", needs="rcpt",
    sent="a message from the null reverse-path, then an ordinary one, in one session",
    requirement="After mail with the null reverse-path the session takes ordinary mail",
    allowed={"250": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.transact(report(talk), sender="")
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}>")
    await talk.must("DATA")
    return await talk.content(talk.message())
