"""RFC 3463: enhanced status codes.  Sections 2 (their form) and 3.2 to 3.8 (which one is meant).

A code that is not the best is no fail: the RFC recommends, and allows x.0.0 where nothing fits.
What contradicts the class of its reply is one.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Stage
from specs.conformance.size_limit import limit
from specs.conformance.status_codes import FORM, all_seen

here = Section("3463")


@here.case(
    "2-form",
    level="MUST",
    clauses="3463-2-a",
    requirement="A status code is class, subject and detail: 2, 4 or 5, and twice one to three "
    "digits without leading zeros",
    sent="commands of all kinds, right and wrong",
    allowed={"well-formed": PASS},
    keywords="ENHANCEDSTATUSCODES",
)
async def _(talk: Session) -> Seen:
    found = await all_seen(talk)
    for code, reply in found:
        if not FORM.match(code):
            return "ill-formed", str(reply)
    return "well-formed", " ".join(sorted({code for code, _ in found}))


def fits(reply: Reply, wanted: tuple[str, ...]) -> Seen:
    """ "fits": one of these subjects and details.  Raises Refused if there is no reply."""
    if reply.kind != "reply":
        raise Refused("something that has a reply", reply)
    if reply.code == "421":
        return "421", str(reply)
    code = reply.enhanced
    if reply.code[0] == "2":
        return "accepted", str(reply)
    if not code:
        return "no code", str(reply)
    if code[0] != reply.code[0]:
        return "contradicts the reply", str(reply)
    return ("fits" if code.partition(".")[2] in wanted else "another code"), str(reply)


#: (name, clause, what it is, stage before, line, needs, keywords, the best codes)
WANTED: Final[tuple[tuple[str, str, str, Stage, str, str, str, tuple[str, ...]], ...]] = (
    ("3.2-unknown-mailbox", "3463-3.2-a", "A mailbox that does not exist", "mail",
     "RCPT TO:<{unknown}>", "unknown", "", ("1.1",)),
    ("3.2-recipient-syntax", "3463-3.2-b", "A recipient's address with a syntax error", "mail",
     "RCPT TO:<a@b@c>", "", "", ("1.3",)),
    ("3.2-recipient-no-local-part", "3463-3.2-b", "A recipient without a local-part", "mail",
     "RCPT TO:<@{domain}>", "rcpt", "", ("1.3",)),
    ("3.2-sender-syntax", "3463-3.2-b", "A sender's address with a syntax error", "ehlo",
     "MAIL FROM:<a@b@c>", "", "", ("1.7",)),
    ("3.6-unknown-command", "3463-3.6-a", "A command that does not exist", "ehlo",
     "XYZZY", "", "", ("5.1", "5.2")),
    ("3.6-rcpt-too-early", "3463-3.6-a", "A recipient before MAIL", "ehlo",
     "RCPT TO:<{rcpt}>", "rcpt", "", ("5.1",)),
    ("3.6-second-mail", "3463-3.6-a", "A second MAIL", "mail",
     "MAIL FROM:<{sender}>", "", "", ("5.1",)),
    ("3.6-data-too-early", "3463-3.6-a", "DATA without MAIL", "ehlo", "DATA", "", "", ("5.1",)),
    ("3.6-no-argument", "3463-3.6-a", "MAIL without its argument", "ehlo",
     "MAIL", "", "", ("5.2", "5.4")),
    ("3.6-unknown-parameter", "3463-3.6-a", "A parameter that does not exist", "ehlo",
     "MAIL FROM:<{sender}> XYZZY=1", "", "", ("5.4",)),
    ("3.6-bad-parameter", "3463-3.6-a", "A parameter with a wrong value", "ehlo",
     "MAIL FROM:<{sender}> BODY=FOO", "", "8BITMIME", ("5.4",)),
    ("3.8-relay", "3463-3.8-a", "A recipient elsewhere, for whom it must not relay", "mail",
     "RCPT TO:<{relay}>", "relay", "", ("7.1",)),
)  # fmt: skip
for name, clause, what, stage, line, needs, keywords, wanted in WANTED:

    async def asked(
        talk: Session, stage: Stage = stage, line: str = line, wanted: tuple[str, ...] = wanted
    ) -> Seen:
        await talk.upto(stage)
        return fits(await talk.say(talk.fill(line)), wanted)

    here.case(
        name,
        level="SHOULD",
        clauses=clause,
        requirement=f"{what} is refused with the code that means it",
        sent=f"({stage}) | {line}; wanted: {' or '.join(f'x.{each}' for each in wanted)}",
        allowed={"fits": PASS, "another code": NON_STRICT, "no code": NON_STRICT, "accepted": INFO},
        keywords=f"ENHANCEDSTATUSCODES {keywords}".strip(),
        needs=needs,
    )(asked)


@here.case(
    "3.4-too-big",
    level="SHOULD",
    clauses="3463-3.4-a",
    requirement="A message over the system's limit is refused with the code that means it",
    sent="MAIL FROM:<{sender}> SIZE=(limit + 1); wanted: x.3.4",
    allowed={"fits": PASS, "another code": NON_STRICT, "no code": NON_STRICT, "accepted": INFO},
    keywords="ENHANCEDSTATUSCODES SIZE",
)
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    if not (most := limit(talk)):
        raise NotApplicable("SIZE with a limit")
    reply = await talk.say(f"MAIL FROM:<{talk.given.sender}> SIZE={most + 1}")
    return fits(reply, ("3.4", "2.3"))


@here.case(
    "3.5-loop",
    level="SHOULD",
    clauses="3463-3.5-a",
    requirement="A message that has come round too often is refused with the code that means it",
    sent="a message with 120 Received fields; wanted: x.4.6",
    allowed={"fits": PASS, "another code": NON_STRICT, "no code": NON_STRICT, "accepted": INFO},
    keywords="ENHANCEDSTATUSCODES",
    needs="rcpt",
)
async def _(talk: Session) -> Seen:
    line = (
        "Received: from a.conform.example by b.conform.example with ESMTP id {};"
        " Mon, 02 Nov 2026 09:00:00 +0000\r\n"
    )
    trace = "".join(line.format(number) for number in range(120)).encode()
    return fits(await talk.transact(trace + talk.message()), ("4.6",))
