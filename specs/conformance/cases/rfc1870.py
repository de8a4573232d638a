"""RFC 1870: SIZE.  Sections 3 (the keyword), 5 (what is counted), 6 to 6.3 (the parameter of MAIL).

Tricky: a server may refuse MAIL for reasons of its own, and it may refuse a message once it has
seen it; so what is judged is mostly that a well-formed value is not called a syntax error, and that
the declared size never decides where a message ends.  Cases that send more than the limit, or just
less, are carried out only where the limit is not too large.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.arrivals import delivered, never_there
from specs.conformance.asking import going_on
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session
from specs.conformance.size_limit import limit, small_limit

here = Section("1870")

#: Octets sent at once, so that each piece has a time-out of its own.
PIECE: Final = 1 << 18
#: For the reply to megabytes.
PATIENCE_S: Final = 40.0


async def pour(talk: Session, octets: bytes) -> bool:
    """Piece by piece; whether all of it was taken."""
    for at in range(0, len(octets), PIECE):
        if not await talk.send(octets[at : at + PIECE]):
            return False
    return True


def filled(talk: Session, size: int, line: bytes = b"x" * 70 + b"\r\n") -> bytes:
    """A message of exactly so many octets, in whole lines."""
    head = talk.message(b"")
    room = size - len(head)
    body = line * (room // len(line))
    left = room - len(body)
    if left == 1:  # an end of line takes two
        body = body[: -len(line)]
        left += len(line)
    return head + body + (b"y" * (left - 2) + b"\r\n" if left else b"")


# -- 3: the keyword --------------------------------------------------------------------------------


@here.case(
    "3-parameter",
    level="IMPLIED",
    clauses="1870-3-a",
    requirement="The SIZE keyword has no parameter, or one decimal number of at most 20 digits",
    sent="EHLO",
    allowed={"number": PASS, "none": PASS},
    keywords="SIZE",
)
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    value = talk.features["SIZE"]
    if not value:
        return "none", "SIZE"
    well = value.isascii() and value.isdigit() and len(value) <= 20
    return ("number" if well else "something else"), f"SIZE {value}"


# -- 5, 6: values ----------------------------------------------------------------------------------

#: Well-formed and small: never a syntax error, never too big.
WELL: Final = (
    ("6-zero", "1870-6-b", "SIZE=0", "SIZE=0, for an unknown size, is taken"),
    ("6-one", "1870-6-b", "SIZE=1", "SIZE=1 is taken"),
    ("6-ordinary", "1870-6-b", "SIZE=500", "An ordinary declared size is taken"),
    ("6-lower-case", "1870-6-b", "size=500", "The name of the SIZE parameter has no case"),
    ("5-leading-zeros", "1870-5-a", "SIZE=0000500", "Leading zeros of a declared size are taken"),
    ("5-twenty-digits", "1870-5-a", "SIZE=00000000000000000500",
     "A declared size of 20 digits with a small value is taken"),
)  # fmt: skip
for slug, clause, parameter, requirement in WELL:
    here.probe(
        slug,
        level="IMPLIED",
        clauses=clause,
        requirement=requirement,
        sent=[f"MAIL FROM:<{{sender}}> {parameter}"],
        allowed={"250": PASS, "4yz": INFO},
        keywords="SIZE",
    )

here.probe(
    "6-null-sender",
    level="IMPLIED",
    clauses="1870-6-b",
    requirement="A declared size goes with the empty reverse-path, too",
    sent=["MAIL FROM:<> SIZE=500"],
    allowed={"250": PASS, "4yz": INFO, "550": INFO, "554": INFO},
    keywords="SIZE",
)
for slug, parameters in (
    ("6-before-body", "SIZE=500 BODY=8BITMIME"), ("6-after-body", "BODY=8BITMIME SIZE=500"),
):  # fmt: skip
    here.probe(
        slug,
        level="IMPLIED",
        clauses="1870-6-b",
        requirement="A declared size stands before or after another parameter",
        sent=[f"MAIL FROM:<{{sender}}> {parameters}"],
        allowed={"250": PASS, "4yz": INFO},
        keywords="SIZE 8BITMIME",
    )

#: Not a number of 1 to 20 digits.  No text obliges a server to refuse it: to bear it is no fail.
JUNK: Final = (
    ("negative", "SIZE=-1"), ("letters", "SIZE=abc"), ("trailing-letter", "SIZE=1a"),
    ("hexadecimal", "SIZE=0x10"), ("fraction", "SIZE=1.5"), ("exponent", "SIZE=1e3"),
    ("comma", "SIZE=1,000"), ("equals-twice", "SIZE==5"), ("underscore", "SIZE=1_000"),
    ("unit", "SIZE=10K"), ("empty", "SIZE="), ("no-value", "SIZE"), ("plus", "SIZE=+5"),
    ("space", "SIZE= 500"),
)  # fmt: skip
for slug, parameter in JUNK:
    here.probe(
        f"6-{slug}",
        level="IMPLIED",
        clauses="1870-6-c",
        requirement=f"A declared size that is no decimal number is a syntax error ({parameter})",
        sent=[f"MAIL FROM:<{{sender}}> {parameter}"],
        allowed={"501": PASS, "555": PASS, "5yz": NON_STRICT, "250": NON_STRICT},
        keywords="SIZE",
    )

here.probe(
    "6-twice",
    level="IMPLIED",
    clauses="1870-6-c",
    requirement="A size declared twice is refused",
    sent=["MAIL FROM:<{sender}> SIZE=500 SIZE=600"],
    allowed={"501": PASS, "555": PASS, "5yz": NON_STRICT, "250": INFO},
    keywords="SIZE",
)
here.probe(
    "6-twenty-one-digits",
    level="IMPLIED",
    clauses="1870-6-c 1870-5-a",
    requirement="A declared size of more than 20 digits is refused",
    sent=["MAIL FROM:<{sender}> SIZE=100000000000000000000"],
    allowed={"501": PASS, "552": PASS, "5yz": NON_STRICT, "452": NON_STRICT, "250": NON_STRICT},
    keywords="SIZE",
)

# -- 6.1: too big ----------------------------------------------------------------------------------


async def declare(talk: Session, size: int) -> Observed:
    """MAIL with a size beyond the advertised limit.  Raises NotApplicable, also where one that is
    twice the limit is taken: who does not look at sizes in MAIL can't misread them.
    """
    await talk.upto("ehlo")
    most = limit(talk)
    if not most or size <= most:
        raise NotApplicable(f"SIZE with a limit below {size}")
    reply = await talk.say(f"MAIL FROM:<{talk.given.sender}> SIZE={size}")
    if reply.positive:
        await talk.must("RSET")
        if (await talk.say(f"MAIL FROM:<{talk.given.sender}> SIZE={2 * most}")).positive:
            raise NotApplicable("SIZE that is looked at in MAIL")
    return reply


#: Where 32 and 64 bits end, and the largest value.  Modulo 2**32 or 2**64 some of them are small.
BIG: Final = (
    ("2-31", 2**31), ("2-32", 2**32), ("2-32-and-500", 2**32 + 500), ("2-63-less-1", 2**63 - 1),
    ("2-63", 2**63), ("2-64-less-1", 2**64 - 1), ("2-64", 2**64), ("2-64-and-500", 2**64 + 500),
    ("largest", 10**20 - 1),
)  # fmt: skip
for slug, value in BIG:

    async def declares(talk: Session, value: int = value) -> Observed:
        return await declare(talk, value)

    here.case(
        f"6.1-overflow-{slug}",
        level="IMPLIED",
        clauses="1870-6.1-a 1870-5-a",
        requirement="A declared size of up to 20 digits that is over the limit is refused with "
        f"552 ({value})",
        sent=f"MAIL FROM:<{{sender}}> SIZE={value}",
        allowed={
            "552": PASS, "452": NON_STRICT, "501": NON_STRICT, "55z": NON_STRICT, "250": NON_STRICT,
        },
        keywords="SIZE",
        security="a size that wraps round may get past a limit",
    )(declares)  # fmt: skip


@here.case(
    "6.1-just-over",
    level="IMPLIED",
    clauses="1870-6.1-a",
    requirement="A declared size one octet over the advertised limit is refused with 552",
    sent="MAIL FROM:<{sender}> SIZE=(limit + 1)",
    allowed={"552": PASS, "452": NON_STRICT, "55z": NON_STRICT, "250": NON_STRICT},
    keywords="SIZE",
)
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    return await declare(talk, limit(talk) + 1)


@here.case(
    "6.1-exactly",
    level="IMPLIED",
    clauses="1870-6.1-a",
    requirement="A declared size that is exactly the advertised limit is not too big",
    sent="MAIL FROM:<{sender}> SIZE=(limit)",
    allowed={"250": PASS, "4yz": INFO},
    keywords="SIZE",
)
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    if not (most := limit(talk)):
        raise NotApplicable("SIZE with a limit")
    return await talk.say(f"MAIL FROM:<{talk.given.sender}> SIZE={most}")


@here.case(
    "6.1-in-step-after-refusal",
    level="IMPLIED",
    clauses="1870-6.1-a",
    requirement="After a declared size was refused, the session goes on and a smaller one is taken",
    sent="MAIL with SIZE=(limit + 1) | MAIL with SIZE=500",
    allowed={"250": PASS, "4yz": INFO},
    keywords="SIZE",
)
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    most = limit(talk)
    first = await talk.say(f"MAIL FROM:<{talk.given.sender}> SIZE={most + 1}")
    if not most or first.positive:
        raise NotApplicable("SIZE that is looked at in MAIL")
    return await talk.say(f"MAIL FROM:<{talk.given.sender}> SIZE=500")


# -- 6: never the end of data ----------------------------------------------------------------------


async def lie(talk: Session, declared: int, body: bytes) -> Observed:
    """A message under a wrong size, and what shows that the session is in step after it."""
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> SIZE={declared}")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}>")
    await talk.must("DATA")
    await talk.send(talk.message(body))
    early = going_on(await talk.unasked())
    if early.kind != "silent":
        return "before the end", str(early)
    await talk.send(b".\r\n")
    final = going_on(await talk.reply())
    if final.kind != "reply":
        return final
    after = going_on(await talk.say("NOOP"), closed=True)
    if after.code != "250":
        return "out of step", f"{final} | NOOP: {after}"
    return ("accepted" if final.positive else "refused"), str(final)


COMMANDS: Final = b"A line.\r\nRSET\r\nNOOP\r\nRCPT TO:<>\r\n" + b"Another line.\r\n" * 100


@here.case(
    "6-declared-less",
    level="MUST NOT",
    clauses="1870-6-d",
    requirement="A message goes on beyond its declared size, until its dot",
    sent="SIZE=10 | DATA | 2000 octets, commands among them | (a pause) | dot | NOOP",
    allowed={"accepted": PASS, "refused": PASS},
    keywords="SIZE",
    needs="rcpt",
    security="what comes behind the declared size would be run as commands",
)
async def _(talk: Session) -> Observed:
    return await lie(talk, 10, COMMANDS)


@here.case(
    "6-declared-more",
    level="MUST NOT",
    clauses="1870-6-d",
    requirement="A message ends with its dot, also if it is smaller than its declared size",
    sent="SIZE=9000 | DATA | some 400 octets | dot | NOOP",
    allowed={"accepted": PASS, "refused": NON_STRICT},
    keywords="SIZE",
    needs="rcpt",
    security="commands behind the dot would be taken for mail",
)
async def _(talk: Session) -> Observed:
    return await lie(talk, 9000, b"Short.\r\n")


@here.case(
    "6-declared-less-arrives",
    level="MUST NOT",
    clauses="1870-6-d",
    requirement="An accepted message arrives whole, also if its declared size was too small",
    sent="SIZE=10 | DATA | 2000 octets",
    allowed={"whole": PASS, "refused": INFO},
    keywords="SIZE",
    needs="rcpt maildir",
    role="delivery",
)
async def _(talk: Session) -> Observed:
    final = await talk.transact(talk.message(COMMANDS + b"the last line\r\n"), mail="SIZE=10")
    if final.kind == "reply" and not final.positive:
        return "refused", str(final)
    found = await delivered(talk, final)
    count = found[0].count(b"Another line."), found[0].count(b"the last line")
    return ("whole" if count == (100, 1) else "cut"), f"{count[0]} of 100 lines"


@here.case(
    "6.3-more-than-declared",
    level="MAY",
    clauses="1870-6.3-c",
    requirement="A message somewhat larger than declared may be accepted or refused",
    sent="SIZE=300 | DATA | some 2000 octets",
    allowed={"250": INFO, "552": INFO, "5yz": INFO, "4yz": INFO},
    keywords="SIZE",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    return await talk.transact(talk.message(b"A line.\r\n" * 200), mail="SIZE=300")


#: Bodies whose true size is declared.
HONEST: Final = (
    ("plain", b"A line of text.\r\n" * 50),
    ("dots", b".\r\n..\r\n.a line\r\n" * 50),
    ("empty-lines", b"\r\n" * 200),
)
for slug, text in HONEST:

    async def honest(talk: Session, text: bytes = text) -> Observed:
        octets = talk.message(text)
        return await talk.transact(octets, mail=f"SIZE={len(octets)}")

    here.case(
        f"6.3-declared-{slug}",
        level="SHOULD NOT",
        clauses="1870-6.3-a 1870-5-b",
        requirement="A message of just its declared size is not found too big after MAIL took it; "
        f"ends of line count as two octets, stuffed dots not at all ({slug})",
        sent=f"SIZE=(its octets, without stuffing) | a message ({slug})",
        allowed={"250": PASS, "552": NON_STRICT, "4yz": INFO, "550": INFO, "554": INFO},
        keywords="SIZE",
        needs="rcpt",
    )(honest)

# -- 5, 6.3: the limit with real octets ------------------------------------------------------------


async def at_limit(talk: Session, octets: bytes) -> Reply:
    """A whole transaction of megabytes, without a declared size."""
    await talk.upto("data")
    stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    await pour(talk, stuffed + b".\r\n")
    return await talk.reply(PATIENCE_S)


@here.case(
    "5-below-limit",
    level="IMPLIED",
    clauses="1870-5-b",
    requirement="A message of 2000 octets less than the advertised limit is not too big",
    sent="DATA with (limit - 2000) octets",
    allowed={"250": PASS, "4yz": INFO, "550": INFO, "554": INFO},
    keywords="SIZE",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    most = await small_limit(talk)
    return await at_limit(talk, filled(talk, most - 2000))


@here.case(
    "5-exact-limit",
    level="IMPLIED",
    clauses="1870-5-b",
    requirement="A message of exactly the advertised limit is not too big",
    sent="DATA with (limit) octets",
    allowed={"250": PASS, "552": NON_STRICT, "4yz": INFO, "550": INFO, "554": INFO},
    keywords="SIZE",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    return await at_limit(talk, filled(talk, await small_limit(talk)))


@here.case(
    "5-stuffing-not-counted",
    level="IMPLIED",
    clauses="1870-5-b",
    requirement="Stuffed dots don't count: a message within the limit is not too big by them",
    sent="DATA with less than (limit) octets, which stuffed dots make more than (limit)",
    allowed={"250": PASS, "552": NON_STRICT, "4yz": INFO, "550": INFO, "554": INFO},
    keywords="SIZE",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    most = await small_limit(talk)
    return await at_limit(talk, filled(talk, most - most // 100, b"." + b"x" * 30 + b"\r\n"))


def well_over(most: int) -> int:
    """Also for a server that counts an end of line as one octet."""
    return most + most // 20


@here.case(
    "6.3-over-limit",
    level="IMPLIED",
    clauses="1870-6.3-b",
    requirement="A message over the limit is read to its end, refused with 552, and the session "
    "goes on",
    sent="DATA with 5 % and 100000 octets over the limit, commands among them | dot | NOOP",
    allowed={
        "552": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "250": NON_STRICT, "closed": NON_STRICT,
        "421": NON_STRICT,
    },
    keywords="SIZE",
    needs="rcpt",
    security="the rest of a message that is too big would be run as commands",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    most = await small_limit(talk)
    octets = filled(talk, well_over(most)) + b"RSET\r\nNOOP\r\n" * 8000
    final = await at_limit(talk, octets)
    if final.kind != "reply" or final.code == "421":
        return final
    early = await talk.unasked()
    if early.kind == "reply" and early.code != "421":
        return "out of step", f"{final} | then, unasked: {early}"
    if early.kind in ("closed", "reply"):
        return "closed", str(final)
    after = await talk.say("NOOP")
    if after.kind == "closed" or after.code == "421":
        return "closed", f"{final} | NOOP: {after}"
    return final if after.code == "250" else ("out of step", f"{final} | NOOP: {after}")


@here.case(
    "6.3-over-limit-dropped",
    level="IMPLIED",
    clauses="1870-6.3-b",
    requirement="A message that was refused for its size is not delivered",
    sent="DATA with 5 % and 100000 octets over the limit | an ordinary message",
    allowed={"not delivered": PASS, "accepted": INFO},
    keywords="SIZE",
    needs="rcpt maildir",
    role="delivery",
)
async def _(talk: Session) -> Observed:
    most = await small_limit(talk)
    final = await at_limit(talk, filled(talk, well_over(most) + 100_000))
    if final.positive:
        return "accepted", str(final)
    return ("not delivered" if await never_there(talk) else "delivered"), str(final)
