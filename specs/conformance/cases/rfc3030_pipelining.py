"""RFC 3030 4.2: BDAT in groups, with PIPELINING."""

from __future__ import annotations

from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.chunking import (
    AS_COMMANDS,
    bdat,
)
from specs.conformance.groups import PAUSE_S, classes, codes
from specs.conformance.model import INFO, PASS, Seen
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable

here = Section("3030")


# -- 4.2: with PIPELINING -------------------------------------------------------------------------


async def one_write(talk: Session, octets: bytes, wanted: str) -> Seen:
    """Everything at once: "in order" if the replies are these, 2yz, or refusals ("5": 4yz, too)."""
    await talk.upto("ehlo")
    await talk.send(octets)
    found = await talk.replies(len(wanted.split()))
    if "421" in codes(found):
        return "421", codes(found)
    if classes(found).replace("4", "5") != wanted:
        return "different", codes(found)
    more = await talk.unasked(PAUSE_S)
    return ("more replies" if more.kind == "reply" else "in order"), codes(found)


async def must_refuse(talk: Session) -> None:
    """The unknown recipient, asked beside this.  Raises Unavailable if it is accepted, Refused."""
    beside = talk.another()
    await beside.upto("mail")
    line = f"RCPT TO:<{talk.given.unknown}>"
    reply = await beside.say(line)
    if reply.positive:
        raise Unavailable("a recipient that is refused at RCPT")
    if reply.kind != "reply":
        raise Refused(line, reply)
    await beside.say("QUIT")
    await beside.close()


def envelope(talk: Session, rcpt: str = "{rcpt}") -> bytes:
    return talk.fill(f"MAIL FROM:<{{sender}}>\r\nRCPT TO:<{rcpt}>\r\n").encode()


def halves(talk: Session) -> bytes:
    octets = talk.message(b"QUIT\r\nRSET\r\n")
    return bdat(octets[:90]) + bdat(octets[90:], last=True)


#: (name, clause, needs, what, group, classes of replies)
ALL_AT_ONCE: Final = (
    ("whole", "3030-4.2-a", "rcpt", "A whole transaction", "2 2 2 2"),
    ("zero-last", "3030-4.2-a", "rcpt", "A transaction that ends with BDAT 0 LAST", "2 2 2 2 2"),
    ("two", "3030-4.2-a", "rcpt", "Two transactions", "2 2 2 2 2 2 2 2"),
    ("quit", "3030-4.2-a", "rcpt", "A transaction, and QUIT", "2 2 2 2 2"),
    ("rset", "3030-4.2-a", "rcpt", "A chunk, RSET, and a transaction", "2 2 2 2 2 2 2 2"),
    ("refused", "3030-4.2-b 3030-2-i", "unknown", "A transaction whose recipient is refused",
     "2 5 5 5 2"),
    ("malformed", "3030-4.2-b 3030-2-i", "", "A transaction whose recipient is malformed",
     "2 5 5 5 2"),
    ("nobody", "3030-4.2-b 3030-2-i", "", "A transaction without a recipient", "2 5 5 2"),
    ("some", "3030-4.2-b", "rcpt unknown", "A transaction of whose recipients one is refused",
     "2 2 5 2 2"),
)  # fmt: skip
for slug, clause, needs, what, wanted in ALL_AT_ONCE:

    async def grouped(talk: Session, slug: str = slug, wanted: str = wanted) -> Seen:
        if slug in ("refused", "some"):
            await must_refuse(talk)
        whole = envelope(talk) + halves(talk)
        mail = talk.fill("MAIL FROM:<{sender}>\r\n").encode()
        group = {
            "whole": whole,
            "zero-last": envelope(talk) + halves(talk).replace(b" LAST", b"") + b"BDAT 0 LAST\r\n",
            "two": whole + whole,
            "quit": whole + b"QUIT\r\n",
            "rset": envelope(talk) + bdat(talk.message()) + b"RSET\r\n" + whole,
            "refused": envelope(talk, "{unknown}") + halves(talk) + b"NOOP\r\n",
            "malformed": envelope(talk, "a@b@c") + halves(talk) + b"NOOP\r\n",
            "nobody": mail + halves(talk) + b"NOOP\r\n",
            "some": envelope(talk) + envelope(talk, "{unknown}")[len(mail) :] + halves(talk),
        }[slug]
        return await one_write(talk, group, wanted)

    here.case(
        f"4.2-{slug}",
        level="MUST" if "2-i" in clause else "IMPLIED",
        clauses=clause,
        requirement=f"{what} by BDAT in one write is answered in order, and no chunk is run as "
        "commands",
        sent=f"in one write: {what}; the chunks hold QUIT and RSET",
        allowed={"in order": PASS},
        keywords="CHUNKING PIPELINING",
        needs=needs,
        security=AS_COMMANDS,
    )(grouped)


@here.case(
    "4.2-two-arrive",
    level="IMPLIED",
    clauses="3030-4.2-a",
    requirement="Two messages by BDAT in one write both arrive, each by itself",
    sent="in one write: two whole transactions with BDAT LAST",
    allowed={"two": PASS, "refused": INFO},
    keywords="CHUNKING PIPELINING",
    needs="rcpt maildir",
    role="delivery",
)
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    bodies = (b"number one\r\n", b"number two\r\n")
    parts = [envelope(talk) + bdat(talk.message(each), last=True) for each in bodies]
    await talk.send(parts[0] + parts[1].replace(b"Message-ID: <t", b"Message-ID: <u"))
    found = await talk.replies(6)
    if classes(found) != "2 2 2 2 2 2":
        return "refused", codes(found)
    arrived = await delivered(talk, found[-1], 2)
    well = [sum(body.strip() in each for each in arrived) for body in bodies]
    return ("two" if well == [1, 1] else "not both, or more"), f"{len(arrived)} arrived"
