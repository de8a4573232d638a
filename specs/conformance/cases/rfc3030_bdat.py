"""RFC 3030 2 and 3: what EHLO says of CHUNKING and BINARYMIME, and the form of BDAT."""

from __future__ import annotations

from typing import Final

from specs.conformance.chunking import (
    AS_COMMANDS,
    POLICY,
    QUIT,
)
from specs.conformance.model import NON_STRICT, PASS, Observed, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("3030")


here.bare_keyword("2-no-parameter", "CHUNKING", level="IMPLIED", clauses="3030-2-a")
here.bare_keyword("3-no-parameter", "BINARYMIME", level="IMPLIED", clauses="3030-3-a")


@here.case(
    "3-implies-chunking",
    level="MUST",
    clauses="3030-3-a",
    requirement="A server that lists BINARYMIME lists CHUNKING, too",
    sent="EHLO",
    allowed={"both": PASS},
    keywords="BINARYMIME",
)
async def _(talk: Session) -> Seen:
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
    negative = slug.startswith("negative")  # which may be read as a huge size, and waited for
    here.case(
        f"2-{slug}",
        level="IMPLIED",
        clauses="3030-2-b",
        requirement="BDAT whose arguments are not a size and perhaps LAST is a syntax error "
        f"({line})",
        sent=line + (" | QUIT (as its chunk)" if octets else ""),
        allowed={"501": PASS, "5yz": NON_STRICT, "421": NON_STRICT, "closed": NON_STRICT}
        | ({"250": NON_STRICT} if lenient or digits_first else {})
        | ({"silent": NON_STRICT} if negative else {}),
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
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await talk.send(b"BDAT %d LAST\r\n" % (2**64 + 6) + QUIT)
    reply = await talk.reply()  # a server may wait for them all
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
        requirement=f"BDAT and LAST have no case, and a size may have leading zeros ({slug})",
        sent=template.decode().replace("%d", "(size)") + " | (a message)",
        allowed={"250": PASS, **POLICY},
        keywords="CHUNKING",
        needs="rcpt",
    )(shaped)
