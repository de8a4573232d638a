"""RFC 5321 appendix F: what is left of RFC 821.

Tricky
- Source routes (F.2) are in rfc5321_4_1_1_2, rfc5321_4_1_1_3 and rfc5321_3_relaying, and the verb
  TURN is in rfc5321_4_1_1_1.
"""

from __future__ import annotations

import re

from specs.conformance.allowed import HELO_AGAIN, OBSOLETE
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("5321")


@here.case(
    "F.1-turn-not-offered", level="SHOULD NOT", clauses="5321-F.1-a",
    requirement="TURN is not offered to a client that nobody knows", sent="EHLO",
    allowed={"not offered": PASS, "offered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> str:
    await talk.upto("ehlo")
    return "offered" if "TURN" in talk.features else "not offered"


here.probe(
    "F.3-helo-after-mail", level="MUST", clauses="5321-F.3-a", upto="mail",
    requirement="HELO is accepted, also where a session has begun", sent=["HELO {hostname}"],
    allowed=HELO_AGAIN,
)  # fmt: skip

#: 2130706433 is 127.0.0.1.
for _slug, _line, _needs, _more in (
    ("rcpt", "RCPT TO:<postmaster@#2130706433>", "relay", {}),
    ("rcpt-octets", "RCPT TO:<postmaster@#127.0.0.1>", "relay", {}),
    ("mail", "MAIL FROM:<sender@#2130706433>", "", {"2yz": NON_STRICT}),
    ("ehlo", "EHLO #2130706433", "", {"2yz": NON_STRICT}),
):  # fmt: skip
    here.probe(
        f"F.4-number-{_slug}", level="MUST NOT", clauses="5321-F.4-a", needs=_needs,
        upto="mail" if _line.startswith("RCPT") else "ehlo",
        requirement="A host number with # is not an address any more", sent=[_line],
        allowed={"5yz": PASS, "4yz": INFO} | _more,
    )  # fmt: skip


@here.case(
    "F.5-year", level="MUST", clauses="5321-F.5-a", role="delivery", needs="rcpt maildir",
    requirement="Dates in the trace fields that the server adds have years of four digits",
    sent="a whole transaction", allowed={"four digits": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    reply = await talk.transact()
    if not reply.positive:
        raise Refused("the message", reply)
    found = await talk.arrived()
    if not found:
        raise Refused("what arrives", Reply(kind="silent"))
    added = found[0].replace(b"\r\n", b"\n").partition(b"\nFrom: <")[0]
    dates = re.findall(rb";\s*((?:[A-Za-z]{3},\s*)?[0-9]{1,2}\s+[A-Za-z]{3}\s+[0-9]+\s)", added)
    if not dates:
        raise NotApplicable("a date in what it adds")
    well = all(re.search(rb"[A-Za-z]{3}\s+[0-9]{4}\s", each) for each in dates)
    return ("four digits" if well else "another year"), repr(dates)


for _verb in ("SEND", "SOML", "SAML"):

    def _sending(verb: str) -> None:
        @here.case(
            f"F.6-{verb.lower()}", level="MAY", clauses="5321-F.6-a 5321-4.2.4-a 5321-4.2.3-a",
            requirement=f"{verb} is served only by a server that says so in its EHLO reply",
            sent=f"(ehlo) | {verb} FROM:<{{sender}}>",
            allowed=OBSOLETE | {"served and offered": INFO, "offered, not served": INFO},
        )  # fmt: skip
        async def _(talk: Session) -> Observed | tuple[str, str]:
            await talk.upto("ehlo")
            reply = await talk.say(talk.fill(f"{verb} FROM:<{{sender}}>"))
            offered = verb in talk.features
            if reply.positive:
                return ("served and offered" if offered else "served, not offered"), str(reply)
            return ("offered, not served", str(reply)) if offered else reply

    _sending(_verb)
