"""RFC 3030 2: BDAT at the wrong time, beside other commands, and over the limit of SIZE.

Tricky: after an error the state is open until RSET, and a server may end the connection when it
cannot know how many octets follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from specs.conformance.arrivals import delivered, never_there
from specs.conformance.chunking import (
    AS_COMMANDS,
    POLICY,
    QUIT,
    bdat,
    body_of,
    chunk,
    in_step,
    must_chunk,
    send_chunks,
)
from specs.conformance.groups import codes
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Seen, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable
from specs.conformance.size_limit import small_limit

here = Section("3030")


# -- 2: out of order ------------------------------------------------------------------------------


@here.case(
    "2-data-after-bdat",
    level="MUST",
    clauses="3030-2-g",
    requirement="DATA after BDAT in one transaction is answered 503",
    sent="BDAT (not the last) | DATA",
    allowed={"503": PASS},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await must_chunk(talk, talk.message())
    return await talk.say("DATA")


for slug, clause, line, allowed in (
    ("mail", "3030-2-k", "MAIL FROM:<{sender}>", {"503": PASS, "5yz": NON_STRICT}),
    ("rcpt", "3030-2-k", "RCPT TO:<{rcpt}>",
     {"503": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("noop", "3030-2-c", "NOOP", {"250": PASS}),
    ("rset", "3030-2-j", "RSET", {"250": PASS}),
    ("ehlo", "3030-2-j", "EHLO {hostname}", {"250": PASS, "503": NON_STRICT}),
    ("quit", "3030-2-j", "QUIT", {"221": PASS}),
):  # fmt: skip

    async def between(talk: Session, line: str = line) -> Observed:
        await talk.upto("rcpt")
        await must_chunk(talk, talk.message())
        return await talk.say(talk.fill(line))

    here.case(
        f"2-{slug}-between",
        level="IMPLIED",
        clauses=clause,
        requirement=f"{slug.upper()} between two chunks is answered as its state wants it",
        sent=f"BDAT (not the last) | {line}",
        allowed=allowed,
        keywords="CHUNKING",
        needs="rcpt",
    )(between)


@here.case(
    "2-noop-does-not-end-it",
    level="IMPLIED",
    clauses="3030-2-c",
    requirement="NOOP between two chunks does not disturb the transaction",
    sent="BDAT | NOOP | BDAT LAST",
    allowed={"250": PASS, **POLICY},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    octets = talk.message()
    await must_chunk(talk, octets[:100])
    await talk.must("NOOP")
    return await chunk(talk, octets[100:], last=True)


#: (name, lines that must be taken, a line before BDAT whose reply does not count).
EARLY: Final = (
    ("no-mail", (), ""),
    ("no-rcpt", ("MAIL FROM:<{sender}>",), ""),
    ("bad-rcpt", ("MAIL FROM:<{sender}>",), "RCPT TO:<a@b@c"),
    ("refused-rcpt", ("MAIL FROM:<{sender}>",), "RCPT TO:<{unknown}>"),
    ("after-rset", ("MAIL FROM:<{sender}>", "RSET"), ""),
)  # fmt: skip
for slug, lines, refused in EARLY:
    for last in (False, True):

        async def early(
            talk: Session,
            lines: tuple[str, ...] = lines,
            refused: str = refused,
            last: bool = last,
        ) -> Observed:
            await talk.upto("ehlo")
            for line in lines:
                await talk.must(talk.fill(line))
            if refused and (await talk.say(talk.fill(refused))).positive:
                raise Unavailable("a recipient that is refused at RCPT")
            return await in_step(talk, await chunk(talk, QUIT, last=last))

        shown = " | ".join([*lines, *([refused] if refused else []), "BDAT 6"])
        here.case(
            f"2-{slug}{'-last' if last else ''}",
            level="MUST",
            clauses="3030-2-h",
            requirement="BDAT without an accepted recipient is refused, and its chunk is dropped "
            f"({slug}{', LAST' if last else ''})",
            sent=f"{shown}{' LAST' if last else ''} | QUIT (its chunk) | NOOP",
            allowed={"503": PASS, "554": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
            keywords="CHUNKING",
            needs="unknown" if "{unknown}" in refused else "",
            security=AS_COMMANDS,
        )(early)


@here.case(
    "2-after-last",
    level="MUST",
    clauses="3030-2-l",
    requirement="BDAT after the last chunk is answered 503, and its chunk is dropped",
    sent="BDAT LAST with a whole message | BDAT 6 | QUIT (its chunk) | NOOP",
    allowed={"503": PASS},
    keywords="CHUNKING",
    needs="rcpt",
    security=AS_COMMANDS,
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    reply = await chunk(talk, talk.message(), last=True)
    if not reply.positive:
        raise Refused("BDAT LAST", reply)
    return await in_step(talk, await chunk(talk, QUIT))


@here.case(
    "2-last-after-rset",
    level="IMPLIED",
    clauses="3030-2-j 3030-2-l",
    requirement="After RSET the chunks are gone: BDAT LAST is refused, and its chunk is dropped",
    sent="BDAT | RSET | BDAT 6 LAST | QUIT (its chunk) | NOOP",
    allowed={"503": PASS, "554": PASS, "5yz": NON_STRICT},
    keywords="CHUNKING",
    needs="rcpt",
    security=AS_COMMANDS,
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await must_chunk(talk, talk.message())
    await talk.must("RSET")
    return await in_step(talk, await chunk(talk, QUIT, last=True))


@here.case(
    "2-rset-discards",
    level="IMPLIED",
    clauses="3030-2-j",
    requirement="Of chunks before RSET nothing arrives, and what comes after it arrives whole",
    sent="BDAT | RSET | MAIL | RCPT | BDAT LAST with another message",
    allowed={"only the second": PASS, "refused": INFO},
    keywords="CHUNKING",
    needs="rcpt maildir",
    role="delivery",
)
async def _(talk: Session) -> Seen:
    await talk.upto("rcpt")
    await must_chunk(talk, talk.message(b"the first\r\n"))
    await talk.must("RSET")
    reply = await send_chunks(talk, talk.message(b"the second\r\n"), 1 << 20)
    if reply.code != "250":
        return ("refused" if reply.kind == "reply" else reply.label), str(reply)
    found = await delivered(talk, reply)
    well = len(found) == 1 and body_of(found[0]).strip() == b"the second"
    return ("only the second" if well else "something else"), repr(body_of(found[0]))


for slug, how in (("quit", "QUIT"), ("closed", "the client closes the connection")):

    async def unfinished(talk: Session, slug: str = slug) -> str:
        await talk.upto("rcpt")
        await must_chunk(talk, talk.message())
        if slug == "quit":
            await talk.say("QUIT")
        await talk.close()
        return "not delivered" if await never_there(talk) else "delivered"

    here.case(
        f"2-unfinished-{slug}",
        level="IMPLIED",
        clauses="3030-2-j",
        requirement="A message without its last chunk is not delivered",
        sent=f"BDAT with a whole message, not the last | {how}",
        allowed={"not delivered": PASS},
        keywords="CHUNKING",
        needs="rcpt maildir",
        role="delivery",
    )(unfinished)


@here.case(
    "2-shorter-than-sent",
    level="MUST",
    clauses="3030-2-n 3030-2-d",
    requirement="What is sent beyond the size of the last chunk is no mail, but a command: octets "
    "that make none are refused",
    sent="BDAT LAST with a whole message | \\x00\\xff\\x80junk (beyond its size)",
    allowed={"refused": PASS, "closed": NON_STRICT, "421": NON_STRICT},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await talk.send(bdat(talk.message(), last=True) + b"\x00\xff\x80junk\r\n")
    found = await talk.replies(2)
    if len(found) < 2 or found[1].kind != "reply" or found[1].code == "421":
        return found[-1]
    return ("accepted" if found[1].positive else "refused"), codes(found)


#: Of what is larger than the advertised limit, and read to its end.
OVER_LIMIT: Final[Mapping[str, Verdict]] = {
    "552": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "250": NON_STRICT, "closed": NON_STRICT,
    "421": NON_STRICT,
}  # fmt: skip


@here.case(
    "2-over-limit",
    level="IMPLIED",
    clauses="3030-2-m",
    requirement="The chunk that exceeds the advertised limit is read, and refused with 552",
    sent="BDAT, 100000 octets each, until the limit of SIZE is exceeded | NOOP",
    allowed=OVER_LIMIT,
    keywords="CHUNKING SIZE",
    needs="rcpt",
    security=AS_COMMANDS,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    most = await small_limit(talk)
    await talk.upto("rcpt")
    reply = await chunk(talk, talk.message(b""))
    part = b"NOOP\r\nQUIT\r\nRSET\r\n01" * 5000
    for _ in range(most // len(part) + 2):
        if reply.code != "250":
            break
        reply = await chunk(talk, part)
    return await in_step(talk, reply)


@here.case(
    "2-one-chunk-over-limit",
    level="IMPLIED",
    clauses="3030-2-m",
    requirement="A single chunk that is larger than the advertised limit is read and refused",
    sent="BDAT LAST with (limit + 100000) octets, commands among them | NOOP",
    allowed=OVER_LIMIT,
    keywords="CHUNKING SIZE",
    needs="rcpt",
    security=AS_COMMANDS,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    most = await small_limit(talk)
    await talk.upto("rcpt")
    head, part = talk.message(b""), b"NOOP\r\nQUIT\r\nRSET\r\n01" * 5000
    count = most // len(part) + 2
    await talk.send(b"BDAT %d LAST\r\n" % (len(head) + count * len(part)) + head)
    for _ in range(count):
        if not await talk.send(part):
            break
    return await in_step(talk, await talk.reply())


# -- 2: beside DATA -------------------------------------------------------------------------------


@here.case(
    "2-data-still-works",
    level="MUST",
    clauses="3030-2-p",
    requirement="DATA still works where CHUNKING is listed",
    sent="an ordinary transaction with DATA",
    allowed={"250": PASS, **POLICY},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    reply = await talk.say("DATA")
    return reply if reply.code != "354" else await talk.content(talk.message())


for slug, data_first in (("data-then-bdat", True), ("bdat-then-data", False)):

    async def mixed(talk: Session, data_first: bool = data_first) -> Observed:
        if data_first:
            reply = await talk.transact()
            if not reply.positive:
                raise Refused("a message by DATA", reply)
            return await send_chunks(talk, talk.message(), 200)
        reply = await send_chunks(talk, talk.message(), 200)
        if not reply.positive:
            raise Refused("a message by BDAT", reply)
        talk.stage = "ehlo"
        return await talk.transact()

    here.case(
        f"2-{slug}",
        level="MUST",
        clauses="3030-2-p",
        requirement="DATA and BDAT can be used in one session, in transactions of their own",
        sent="two transactions: " + slug.replace("-", " "),
        allowed={"250": PASS, **POLICY},
        keywords="CHUNKING",
        needs="rcpt",
    )(mixed)
