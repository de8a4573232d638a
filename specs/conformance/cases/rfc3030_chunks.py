"""RFC 3030 2: the octets of a chunk, how they are cut, and what arrives of them."""

from __future__ import annotations

from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.chunking import (
    AS_COMMANDS,
    POLICY,
    bdat,
    body_of,
    chunk,
    in_step,
    must_chunk,
    send_chunks,
)
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("3030")


# -- 2: chunks ------------------------------------------------------------------------------------


@here.case(
    "2-each-chunk",
    level="MUST",
    clauses="3030-2-c",
    requirement="Each chunk of a transaction is answered 250",
    sent="BDAT | BDAT | BDAT LAST, each with a part of a message",
    allowed={"250": PASS, **POLICY},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    octets = talk.message(b"A line.\r\n" * 30)
    for part in (octets[:100], octets[100:200]):
        reply = await chunk(talk, part)
        if reply.code != "250":
            return reply
    return await chunk(talk, octets[200:], last=True)


@here.case(
    "2-waits-for-octets",
    level="MUST",
    clauses="3030-2-c 3030-2-n",
    requirement="BDAT is answered when all octets of its chunk are there, not before",
    sent="BDAT LAST with all but one octet of its chunk | (a pause) | the last octet",
    allowed={"250": PASS, **POLICY},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    octets = bdat(talk.message(), last=True)
    await talk.send(octets[:-1])
    early = await talk.unasked()
    if early.kind == "closed" or early.code == "421":
        return early
    if early.kind != "silent":
        return "too early", str(early)
    await talk.send(octets[-1:])
    return await talk.reply()


CUTS: Final = (
    ("line-and-chunk-apart", 1 << 20), ("pieces-of-seven", 7), ("each-octet", 1),
)  # fmt: skip
for slug, size in CUTS:

    async def cut(talk: Session, size: int = size) -> Observed:
        await talk.upto("rcpt")
        octets = talk.message(b"")
        first, second = bdat(octets[:150]), bdat(octets[150:], last=True)
        for part in (first, second):
            end = part.index(b"\r\n") + 2
            for piece in (part[:end], part[end:]):
                for at in range(0, len(piece), size):
                    await talk.send(piece[at : at + size])
            reply = await talk.reply()
            if reply.code != "250":
                break
        return reply

    here.case(
        f"2-{slug}",
        level="IMPLIED",
        clauses="3030-2-n",
        requirement=f"Where writes begin and end has no meaning for chunks ({slug})",
        sent=f"BDAT | BDAT LAST, in writes of at most {size} octets",
        allowed={"250": PASS, **POLICY},
        keywords="CHUNKING",
        needs="rcpt",
    )(cut)

#: Chunks that would be something else after DATA, or in the place of a command.
INSIDE: Final = (
    ("dot-line", b"A line.\r\n.\r\nQUIT\r\nMAIL FROM:<>\r\n"),
    ("commands", b"QUIT\r\nRSET\r\nDATA\r\n"),
    ("bdat-line", b"BDAT 0 LAST\r\nQUIT\r\n"),
    ("bare-lf-dot", b"A line.\n.\nQUIT\n"),
    ("bare-cr-dot", b"A line.\r.\rQUIT\r"),
    ("no-line-end", b"a text that ends without an end of line"),
)
for slug, text in INSIDE:

    async def holds(talk: Session, text: bytes = text) -> Observed:
        await talk.upto("rcpt")
        first = await chunk(talk, talk.message(text))
        judged = await in_step(talk, first)
        if not isinstance(judged, Reply) or judged.code != "250":
            return judged
        return await in_step(talk, await chunk(talk, b"\r\nThe end.\r\n", last=True))

    here.case(
        f"2-raw-{slug}",
        level="IMPLIED",
        clauses="3030-2-d 3030-2-n",
        requirement=f"The octets of a chunk are mail, whatever they look like ({slug})",
        sent=f"BDAT with a chunk ({slug}: {text[:40]!r}) | NOOP | BDAT LAST | NOOP",
        allowed={"250": PASS, "5yz": INFO, "4yz": INFO},
        keywords="CHUNKING",
        needs="rcpt",
        security=AS_COMMANDS,
    )(holds)


DOTS: Final = b".\r\n..\r\n.a\r\n..b\r\nThe end.\r\n"


for slug, size in (("whole", 1 << 20), ("in-small-chunks", 33), ("octet-chunks", 1)):

    async def dots(talk: Session, size: int = size) -> Seen:
        reply = await send_chunks(talk, talk.message(DOTS), size)
        if reply.code != "250":
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        found = await delivered(talk, reply)
        well = body_of(found[0]) == DOTS.replace(b"\r\n", b"\n")
        return ("kept" if well else "changed"), repr(body_of(found[0]))

    here.case(
        f"2-dots-kept-{slug}",
        level="IMPLIED",
        clauses="3030-2-d 3030-2-c",
        requirement="Dots at the beginning of a line stay as they are in BDAT, and nothing comes "
        f"between chunks ({slug})",
        sent=f"BDAT with chunks of {size} octets; lines: . .. .a ..b",
        allowed={"kept": PASS, "refused": INFO},
        keywords="CHUNKING",
        needs="rcpt maildir",
        role="delivery",
    )(dots)


@here.case(
    "2-bare-line-ends",
    level="IMPLIED",
    clauses="3030-2-d",
    requirement="What is done with bare CR and bare LF in a chunk that is not declared binary",
    sent="BDAT LAST; lines that end in LF alone, CR alone, CRLF",
    allowed={"kept": INFO, "changed": INFO, "refused": INFO},
    keywords="CHUNKING",
    needs="rcpt maildir",
    role="delivery",
)
async def _(talk: Session) -> Seen:
    text = b"one\ntwo\rthree\r\n"
    reply = await send_chunks(talk, talk.message(text), 1 << 20)
    if reply.code != "250":
        return ("refused" if reply.kind == "reply" else reply.label), str(reply)
    found = await delivered(talk, reply)
    return ("kept" if text in found[0] else "changed"), repr(found[0][-60:])


@here.case(
    "2-zero-last",
    level="MAY",
    clauses="3030-2-e",
    requirement="The last chunk may be empty",
    sent="BDAT with a whole message | BDAT 0 LAST",
    allowed={"250": PASS, **POLICY},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await must_chunk(talk, talk.message())
    return await talk.say("BDAT 0 LAST")


@here.case(
    "2-zero-first",
    level="IMPLIED",
    clauses="3030-2-c",
    requirement="A chunk before the last may be empty",
    sent="BDAT 0 | BDAT LAST with a whole message",
    allowed={"250": PASS, "4yz": INFO, "5yz": NON_STRICT},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    first = await talk.say("BDAT 0")
    return first if first.code != "250" else await chunk(talk, talk.message(), last=True)


@here.case(
    "2-zero-alone",
    level="IMPLIED",
    clauses="3030-2-f",
    requirement="BDAT 0 LAST as the only chunk is an empty message, or an error, and is answered",
    sent="BDAT 0 LAST | NOOP",
    allowed={"250": PASS, "5yz": PASS, "4yz": PASS},
    keywords="CHUNKING",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    return await in_step(talk, await talk.say("BDAT 0 LAST"))
