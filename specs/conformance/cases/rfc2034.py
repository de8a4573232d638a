"""RFC 2034: ENHANCEDSTATUSCODES.  Sections 3 (the keyword) and 4 (which replies have codes).

Every 2yz, 4yz and 5yz reply but the greeting and those to HELO and EHLO begins with a code on each
of its lines; its first digit is the reply's.  3yz replies have none.  Which code it is, is asked in
`rfc3463`.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Stage
from specs.conformance.status_codes import CODE

here = Section("2034")


def coded(reply: Reply) -> Seen:
    """What is said of the codes of a reply.  Raises Refused if there is no reply."""
    if reply.kind != "reply":
        raise Refused("something that has a reply", reply)
    if reply.code[0] == "3":  # DATA without recipients may be 354 (RFC 5321 3.3)
        return "3yz", str(reply)
    found = [CODE.match(line) for line in reply.lines]
    there = [each for each in found if each is not None]
    saw = reply.octets.decode("utf-8", "backslashreplace").strip()
    if reply.code == "421" and len(there) < len(found):  # it closes for reasons of its own
        return "421", saw
    if not there:
        return "no code", saw
    if len(there) < len(found):
        return "not on each line", saw
    if any(each[1] != reply.code[0] for each in there):
        return "contradicts the reply", saw
    if len({each[0] for each in there}) > 1:
        return "different codes", saw
    return "agrees", saw


here.bare_keyword("3-no-parameter", "ENHANCEDSTATUSCODES", level="IMPLIED", clauses="2034-3-a")


#: (name, stage before, line, needs, keywords)
REPLIES: Final[tuple[tuple[str, Stage, str, str, str], ...]] = (
    ("noop", "ehlo", "NOOP", "", ""),
    ("rset", "ehlo", "RSET", "", ""),
    ("mail", "ehlo", "MAIL FROM:<{sender}>", "", ""),
    ("null-mail", "ehlo", "MAIL FROM:<>", "", ""),
    ("rcpt", "mail", "RCPT TO:<{rcpt}>", "rcpt", ""),
    ("unknown-rcpt", "mail", "RCPT TO:<{unknown}>", "unknown", ""),
    ("relay-rcpt", "mail", "RCPT TO:<{relay}>", "relay", ""),
    ("malformed-rcpt", "mail", "RCPT TO:<a@b@c", "", ""),
    ("malformed-mail", "ehlo", "MAIL FROM:<a@b@c", "", ""),
    ("unknown-parameter", "ehlo", "MAIL FROM:<{sender}> XYZZY=1", "", ""),
    ("second-mail", "mail", "MAIL FROM:<{sender}>", "", ""),
    ("rcpt-too-early", "ehlo", "RCPT TO:<{rcpt}>", "rcpt", ""),
    ("data-too-early", "ehlo", "DATA", "", ""),
    ("data-without-rcpt", "mail", "DATA", "", ""),
    ("unknown-command", "ehlo", "XYZZY", "", ""),
    ("vrfy", "ehlo", "VRFY {rcpt}", "rcpt", ""),
    ("vrfy-unknown", "ehlo", "VRFY {unknown}", "unknown", ""),
    ("expn", "ehlo", "EXPN {rcpt}", "rcpt", ""),
    ("help", "ehlo", "HELP", "", ""),
    ("quit", "ehlo", "QUIT", "", ""),
    ("quit-in-transaction", "rcpt", "QUIT", "rcpt", ""),
    ("bad-size", "ehlo", "MAIL FROM:<{sender}> SIZE=abc", "", "SIZE"),
    ("bad-body", "ehlo", "MAIL FROM:<{sender}> BODY=FOO", "", "8BITMIME"),
    ("bdat-too-early", "ehlo", "BDAT 0", "", "CHUNKING"),
    ("bdat", "rcpt", "BDAT 0", "rcpt", "CHUNKING"),
    ("starttls", "ehlo", "STARTTLS", "", "STARTTLS"),
    ("auth-unknown", "ehlo", "AUTH XYZZY", "", "AUTH"),
)  # fmt: skip
for slug, stage, line, needs, keywords in REPLIES:

    async def said(talk: Session, stage: Stage = stage, line: str = line) -> Seen:
        await talk.upto(stage)
        return coded(await talk.say(talk.fill(line)))

    here.case(
        f"4-{slug}",
        level="IMPLIED",
        clauses="2034-4-a 2034-4-b 2034-4-c",
        requirement="Each line of a reply begins with a status code of the reply's class "
        f"({stage}: {line})",
        sent=f"({stage}) | {line}",
        allowed={"agrees": PASS, "3yz": INFO},
        keywords=f"ENHANCEDSTATUSCODES {keywords}".strip(),
        needs=needs,
    )(said)


@here.case(
    "4-end-of-message",
    level="IMPLIED",
    clauses="2034-4-a 2034-4-b 2034-4-c",
    requirement="The reply to the end of a message begins with a status code of its class",
    sent="a whole transaction",
    allowed={"agrees": PASS},
    keywords="ENHANCEDSTATUSCODES",
    needs="rcpt",
)
async def _(talk: Session) -> Seen:
    return coded(await talk.transact())


@here.case(
    "4-line-too-long",
    level="IMPLIED",
    clauses="2034-4-a 2034-4-b",
    requirement="The reply to a command line that is too long has a status code, too",
    sent="NOOP and 3000 letters",
    allowed={"agrees": PASS},
    keywords="ENHANCEDSTATUSCODES",
)
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    return coded(await talk.say("NOOP " + "x" * 3000))


@here.case(
    "4-no-code-in-3yz",
    level="IMPLIED",
    clauses="2034-4-d",
    requirement="A 3yz reply has no status code: there is none of class 3",
    sent="a transaction up to DATA",
    allowed={"no code": PASS, "a code of class 2": NON_STRICT},
    keywords="ENHANCEDSTATUSCODES",
    needs="rcpt",
)
async def _(talk: Session) -> Seen:
    reply = await talk.upto("data")
    found = CODE.match(reply.lines[0]) if reply.lines else None
    if found is None:
        return "no code", str(reply)
    return ("a code of class 2" if found[1] == "2" else "a code"), str(reply)
