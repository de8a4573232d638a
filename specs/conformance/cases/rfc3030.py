"""RFC 3030: CHUNKING and BINARYMIME.  Sections 2 (BDAT), 3 (binary content), 4.2 (with PIPELINING).

Tricky: the octets of a chunk follow its line at once, whatever the server thinks of it, and have to
be taken off the wire before the reply.  A server that does not, runs mail as commands: so chunks
here hold QUIT, whose reply would be seen.  After an error the state is open until RSET, and a
server may end the connection when it cannot know how many octets follow.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Sequence
from typing import Final

from specs.conformance.cases.rfc1870 import delivered, other_token, small_limit
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable

here = Section("3030")

#: A chunk that shows itself if it is run as commands.
QUIT: Final = b"QUIT\r\n"
AS_COMMANDS: Final = "what is mail for one server is commands for another: smuggling"
#: What a server may say to a transaction for reasons of its own.
POLICY: Final = {"4yz": INFO, "550": INFO, "554": INFO}
PAUSE_S: Final = 0.03


def bdat(octets: bytes, last: bool = False) -> bytes:
    """The command and its chunk."""
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


async def chunk(talk: Session, octets: bytes, last: bool = False) -> Reply:
    await talk.send(bdat(octets, last))
    return await talk.reply()


async def must_chunk(talk: Session, octets: bytes) -> None:
    """A chunk, not the last.  Raises Refused."""
    reply = await chunk(talk, octets)
    if reply.code != "250":
        raise Refused("BDAT", reply)


def codes(found: Sequence[Reply]) -> str:
    return " ".join(each.label for each in found)


def classes(found: Sequence[Reply]) -> str:
    return " ".join(each.code[:1] if each.kind == "reply" else each.kind for each in found)


async def in_step(talk: Session, reply: Reply) -> Observed | tuple[str, str]:
    """The reply, if nothing else comes, and NOOP is answered; "run as commands" otherwise."""
    if reply.kind != "reply" or reply.code == "421":
        return reply
    early = await talk.unasked(PAUSE_S)
    if early.kind == "closed":
        return "closed", f"{reply} | closed"
    if early.kind != "silent":
        return "run as commands", f"{reply} | then, unasked: {early}"
    after = await talk.say("NOOP")
    if after.kind == "closed":
        return "closed", f"{reply} | closed"
    if after.code != "250":
        return "run as commands", f"{reply} | NOOP: {after}"
    return reply


for keyword in ("CHUNKING", "BINARYMIME"):

    async def parameter(talk: Session, keyword: str = keyword) -> tuple[str, str]:
        await talk.upto("ehlo")
        value = talk.features[keyword]
        return ("a parameter" if value else "none"), f"{keyword} {value}".rstrip()

    here.case(
        "2-no-parameter" if keyword == "CHUNKING" else "3-no-parameter",
        level="IMPLIED",
        clauses="3030-2-a" if keyword == "CHUNKING" else "3030-3-a",
        requirement=f"The {keyword} keyword has no parameter",
        sent="EHLO",
        allowed={"none": PASS},
        keywords=keyword,
    )(parameter)


@here.case(
    "3-implies-chunking",
    level="MUST",
    clauses="3030-3-a",
    requirement="A server that lists BINARYMIME lists CHUNKING, too",
    sent="EHLO",
    allowed={"both": PASS},
    keywords="BINARYMIME",
)
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    return ("both" if "CHUNKING" in talk.features else "BINARYMIME alone"), " ".join(talk.features)


# -- 2: the command -------------------------------------------------------------------------------

#: (name, line, octets sent behind it).  Of these the size is no decimal number: who takes it for
#: one may cut the chunk elsewhere than its neighbour does.  RFC 3030 has the grammar, and says
#: nothing of what a server must do with others: to read the digits at the beginning is no fail.
NO_SIZE: Final = (
    ("no-size", "BDAT", b""), ("letters", "BDAT abc", b""), ("last-alone", "BDAT LAST", b""),
    ("negative", "BDAT -1", b""), ("negative-last", "BDAT -6 LAST", QUIT),
    ("hexadecimal", "BDAT 0x6", QUIT), ("fraction", "BDAT 6.0", QUIT), ("unit", "BDAT 6K", QUIT),
    ("last-first", "BDAT LAST 6", QUIT),
)  # fmt: skip
#: Here the size is one, and what follows is not just LAST: to bear that is no fail.
NO_LAST: Final = (
    ("unknown-word", "BDAT 6 FOO", QUIT), ("too-many-words", "BDAT 6 LAST LAST", QUIT),
    ("no-space", "BDAT 6LAST", QUIT),
)  # fmt: skip
for slug, line, octets in (*NO_SIZE, *NO_LAST):

    async def malformed(talk: Session, line: str = line, octets: bytes = octets) -> Observed:
        await talk.upto("rcpt")
        await talk.send(line.encode() + b"\r\n" + octets)
        return await talk.reply()

    lenient = (slug, line, octets) in NO_LAST
    digits_first = slug in ("hexadecimal", "fraction", "unit")
    here.case(
        f"2-{slug}",
        level="IMPLIED",
        clauses="3030-2-b",
        requirement="BDAT whose arguments are not a size and perhaps LAST is a syntax error",
        sent=line + (" | QUIT (as its chunk)" if octets else ""),
        allowed={"501": PASS, "5yz": NON_STRICT, "421": NON_STRICT, "closed": NON_STRICT}
        | ({"250": NON_STRICT} if lenient or digits_first else {}),
        keywords="CHUNKING",
        needs="rcpt",
        security="" if lenient else AS_COMMANDS,
    )(malformed)


@here.case(
    "2-huge",
    level="IMPLIED",
    clauses="3030-2-b 3030-2-m",
    requirement="BDAT with a size that no integer holds does not pass for a small one",
    sent="BDAT 18446744073709551622 LAST | QUIT (six octets: the size modulo 2**64)",
    allowed={"refused": PASS, "silent": PASS, "closed": PASS, "421": PASS},
    keywords="CHUNKING",
    needs="rcpt",
    security="a size that wraps round cuts a chunk short, and its rest is run as commands",
)
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("rcpt")
    await talk.send(b"BDAT %d LAST\r\n" % (2**64 + 6) + QUIT)
    reply = await talk.unasked()  # a server may wait for them all
    if reply.kind != "reply" or reply.code == "421":
        return reply
    return ("accepted" if reply.positive else "refused"), str(reply)


#: Well-formed, in other shapes; the chunk is a whole message.
SHAPES: Final = (
    ("lower-case", b"bdat %d last"), ("mixed-case", b"Bdat %d Last"),
    ("leading-zeros", b"BDAT 000%d LAST"), ("upper-case", b"BDAT %d LAST"),
)  # fmt: skip
for slug, template in SHAPES:

    async def shaped(talk: Session, template: bytes = template) -> Observed:
        await talk.upto("rcpt")
        octets = talk.message()
        await talk.send(template % len(octets) + b"\r\n" + octets)
        return await talk.reply()

    here.case(
        f"2-{slug}",
        level="IMPLIED",
        clauses="3030-2-b 3030-2-c",
        requirement="BDAT and LAST have no case, and a size may have leading zeros",
        sent=template.decode().replace("%d", "(size)") + " | (a message)",
        allowed={"250": PASS, **POLICY},
        keywords="CHUNKING",
        needs="rcpt",
    )(shaped)

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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
        requirement="Where writes begin and end has no meaning for chunks",
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

    async def holds(talk: Session, text: bytes = text) -> Observed | tuple[str, str]:
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
        requirement="The octets of a chunk are mail, whatever they look like",
        sent=f"BDAT with a chunk ({slug}: {text[:40]!r}) | NOOP | BDAT LAST | NOOP",
        allowed={"250": PASS, "5yz": INFO, "4yz": INFO},
        keywords="CHUNKING",
        needs="rcpt",
        security=AS_COMMANDS,
    )(holds)


def body_of(arrived: bytes) -> bytes:
    """Behind the header, in lines that end in LF (a store may have changed that)."""
    return arrived.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


DOTS: Final = b".\r\n..\r\n.a\r\n..b\r\nThe end.\r\n"


async def send_chunks(talk: Session, octets: bytes, size: int, mail: str = "") -> Reply:
    """A whole transaction by BDAT, in chunks of this size; the first reply that is not 250, or the
    last.  Raises Refused if it does not come to BDAT.
    """
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> {mail}".rstrip())
    await talk.must(f"RCPT TO:<{talk.given.rcpt}>")
    reply = Reply(kind="silent")
    for at in range(0, len(octets), size):
        reply = await chunk(talk, octets[at : at + size], last=at + size >= len(octets))
        if reply.code != "250":
            break
    return reply


for slug, size in (("whole", 1 << 20), ("in-small-chunks", 33), ("octet-chunks", 1)):

    async def dots(talk: Session, size: int = size) -> tuple[str, str]:
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
        "between chunks",
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
async def _(talk: Session) -> tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("rcpt")
    return await in_step(talk, await talk.say("BDAT 0 LAST"))


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


#: (name, clauses, lines that must be taken, a line before BDAT whose reply does not count).
EARLY: Final = (
    ("no-mail", "3030-2-h", (), ""),
    ("no-rcpt", "3030-2-h", ("MAIL FROM:<{sender}>",), ""),
    ("bad-rcpt", "3030-2-h", ("MAIL FROM:<{sender}>",), "RCPT TO:<a@b@c"),
    ("refused-rcpt", "3030-2-h", ("MAIL FROM:<{sender}>",), "RCPT TO:<{unknown}>"),
    ("after-rset", "3030-2-h", ("MAIL FROM:<{sender}>", "RSET"), ""),
)  # fmt: skip
for slug, clause, lines, refused in EARLY:
    for last in (False, True):

        async def early(
            talk: Session,
            lines: tuple[str, ...] = lines,
            refused: str = refused,
            last: bool = last,
        ) -> Observed | tuple[str, str]:
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
            clauses=clause,
            requirement="BDAT without an accepted recipient is refused, and its chunk is dropped",
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> tuple[str, str]:
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

    async def unfinished(talk: Session, slug: str = slug) -> tuple[str, str]:
        await talk.upto("rcpt")
        await must_chunk(talk, talk.message())
        if slug == "quit":
            await talk.say("QUIT")
        await talk.close()
        later, beside = other_token(talk), talk.another()
        octets = talk.message().replace(talk.token.encode(), later.encode())
        reply = await beside.transact(octets)
        if not reply.positive or not await talk.arrived(token=later):
            raise Refused("an ordinary message", reply)
        found = await talk.look(talk.given.maildirs[0], patience_s=talk.given.quiet_s)
        return ("delivered" if found else "not delivered"), ""

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
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("rcpt")
    await talk.send(bdat(talk.message(), last=True) + b"\x00\xff\x80junk\r\n")
    found = await talk.replies(2)
    if len(found) < 2 or found[1].kind != "reply" or found[1].code == "421":
        return found[-1]
    return ("accepted" if found[1].positive else "refused"), codes(found)


@here.case(
    "2-over-limit",
    level="IMPLIED",
    clauses="3030-2-m",
    requirement="The chunk that exceeds the advertised limit is read, and refused with 552",
    sent="BDAT, 100000 octets each, until the limit of SIZE is exceeded | NOOP",
    allowed={
        "552": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "250": NON_STRICT, "closed": NON_STRICT,
        "421": NON_STRICT,
    },
    keywords="CHUNKING SIZE",
    needs="rcpt",
    security=AS_COMMANDS,
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
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
    allowed={
        "552": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "250": NON_STRICT, "closed": NON_STRICT,
        "421": NON_STRICT,
    },
    keywords="CHUNKING SIZE",
    needs="rcpt",
    security=AS_COMMANDS,
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
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

# -- 3: BINARYMIME --------------------------------------------------------------------------------

BINARY: Final = (
    "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    "Content-Transfer-Encoding: binary\r\n"
)
for slug, parameter_ in (("taken", "BODY=BINARYMIME"), ("lower-case", "body=binarymime")):
    here.probe(
        f"3-{slug}",
        level="IMPLIED",
        clauses="3030-3-a",
        requirement="BODY=BINARYMIME is taken where it is listed",
        sent=[f"MAIL FROM:<{{sender}}> {parameter_}"],
        allowed={"250": PASS, "4yz": INFO},
        keywords="BINARYMIME CHUNKING",
    )
here.probe(
    "3-data",
    level="MUST",
    clauses="3030-3-b",
    requirement="DATA in a transaction with BODY=BINARYMIME is answered 503",
    sent=["MAIL FROM:<{sender}> BODY=BINARYMIME", "RCPT TO:<{rcpt}>", "DATA"],
    allowed={"503": PASS},
    keywords="BINARYMIME CHUNKING",
    needs="rcpt",
)

PAYLOADS: Final = (
    ("every-octet", bytes(each for each in range(256) if each not in (10, 13)) * 4),
    ("nul", b"a\x00b\x00\x00c"),
    ("long-line", b"\x80x" * 5000),
    ("line-ends", b"a\nb\rc\r\nd\n\re\r\r\nf\n\n\r\rg"),
    ("dots", b"\r\n.\r\n..\r\n\n.\n\r.\rx"),
    ("open-end", b"a line\r\nno end of line\r"),
)
for slug, payload in PAYLOADS:

    async def binary(talk: Session, payload: bytes = payload) -> tuple[str, str]:
        marked = b"<<" + payload + b">>"
        octets = talk.message(marked, headers=BINARY)
        reply = await send_chunks(talk, octets, 300, "BODY=BINARYMIME")
        if reply.code != "250":
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        found = await delivered(talk, reply)
        if marked in found[0]:
            return "kept", str(reply)
        whole = email.message_from_bytes(found[0], policy=email.policy.compat32)
        decoded = whole.get_payload(decode=True)
        well = isinstance(decoded, bytes) and marked in decoded
        return ("encoded" if well else "changed"), repr(found[0][-80:])

    here.case(
        f"3-kept-{slug}",
        level="MUST",
        clauses="3030-3-c",
        requirement="Of binary content that was accepted, every bit arrives",
        sent=f"MAIL with BODY=BINARYMIME | BDAT in chunks of 300 octets ({slug})",
        allowed={"kept": PASS, "encoded": PASS, "refused": INFO},
        keywords="BINARYMIME CHUNKING",
        needs="rcpt maildir",
        role="delivery",
    )(binary)

for slug, by_bdat in (("by-data", False), ("by-bdat", True)):

    async def labelled(talk: Session, by_bdat: bool = by_bdat) -> Observed:
        octets = talk.message(b"Only ASCII here.\r\n", headers=BINARY)
        if by_bdat:
            return await send_chunks(talk, octets, 1 << 20)
        return await talk.transact(octets)

    here.case(
        f"3-binary-label-{slug}",
        level="MUST",
        clauses="3030-3-e",
        requirement="A message that says its transfer encoding is binary is accepted without "
        "BODY=BINARYMIME",
        sent="a message with Content-Transfer-Encoding: binary, " + slug.replace("-", " "),
        allowed={"250": PASS, "4yz": INFO},
        keywords="BINARYMIME CHUNKING",
        needs="rcpt",
    )(labelled)

# -- 4.2: with PIPELINING -------------------------------------------------------------------------


async def one_write(talk: Session, octets: bytes, wanted: str) -> tuple[str, str]:
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


async def must_refuse(talk: Session, rcpt: str) -> None:
    """That recipient, asked beside this.  Raises Unavailable if it is accepted, Refused."""
    beside = talk.another()
    await beside.upto("mail")
    reply = await beside.say(f"RCPT TO:<{rcpt}>")
    if reply.positive:
        raise Unavailable("a recipient that is refused at RCPT")
    if reply.kind != "reply":
        raise Refused(f"RCPT TO:<{rcpt}>", reply)
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

    async def grouped(talk: Session, slug: str = slug, wanted: str = wanted) -> tuple[str, str]:
        if slug in ("refused", "some"):
            await must_refuse(talk, talk.given.unknown)
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
async def _(talk: Session) -> tuple[str, str]:
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
