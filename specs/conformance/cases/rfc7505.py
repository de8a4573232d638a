"""RFC 7505: domains that take no mail.

Tricky
- A run has no name server of its own when mail is received, so the domain is a public one with a
  null MX; a server that does not see the public DNS can't know, and nothing is held against it.
"""

from __future__ import annotations

from specs.conformance.model import INFO, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("7505")


@here.case(
    "4.2-null-mx-sender", level="MAY", clauses="7505-4.2-a", needs="rcpt",
    requirement="A sender whose domain has a null MX may be refused, with 550",
    sent="MAIL FROM:<sender@example.com> | RCPT",
    allowed={"550 5.7.27": PASS, "550": INFO, "5yz": INFO, "4yz": INFO, "2yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.another().upto("rcpt")
    await talk.upto("ehlo")
    reply = await talk.say("MAIL FROM:<sender@example.com>")
    if reply.positive:
        reply = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
    if reply.code == "550" and reply.enhanced == "5.7.27":
        return "550 5.7.27", str(reply)
    return reply
