"""RFC 2033, LMTP: sections 4.1 to 4.3 and 5.

Tricky
- After the end of a message there are as many replies as RCPTs were accepted, no more and no fewer;
  what follows must be counted, too: a late reply would answer the next command.
- A recipient may be refused at RCPT or after the message.  Cases count what was accepted.
- The order of replies can only be seen where they name the recipient, or where they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from specs.conformance.arrivals import lost
from specs.conformance.asking import going_on
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable

here = Section("2033")

COUNTED = "replies that answer other recipients, so that mail is lost or sent twice"


async def envelope(talk: Session, rcpts: Sequence[str]) -> list[str]:
    """LHLO, MAIL, and a RCPT for each: those that were accepted."""
    await talk.upto("mail")
    accepted = []
    for each in rcpts:
        reply = await talk.say(f"RCPT TO:<{each}>")
        if reply.positive:
            accepted.append(each)
    return accepted


async def counted(talk: Session, accepted: Sequence[str]) -> Seen:
    """Whether as many replies come, each about its own recipient if it names one at all."""
    replies = await talk.replies(len(accepted))
    shown = " | ".join(str(each) for each in replies)
    whole = [each for each in replies if each.kind == "reply"]
    if len(whole) < len(accepted):
        for each in replies:
            going_on(each)
        return "too few", shown
    late = going_on(await talk.unasked())
    if late.kind == "reply":
        return "too many", f"{shown} | {late}"
    noop = going_on(await talk.say("NOOP"), closed=True)
    if noop.code != "250":
        return f"NOOP then {noop.label}", f"{shown} | {noop}"
    for rcpt, reply in zip(accepted, whole, strict=True):
        named = {each for each in accepted if each.lower() in reply.text.lower()}
        if named and rcpt not in named:
            return "out of order", shown
    if any(each.code[0] not in "245" for each in whole):
        return "odd codes", shown
    return "one each", shown


async def delivered(talk: Session, rcpts: Sequence[str]) -> Seen:
    """A whole transaction to the end of DATA."""
    accepted = await envelope(talk, rcpts)
    if not accepted:
        raise Refused("every RCPT", Reply(kind="silent"))
    await talk.must("DATA")
    await talk.send(talk.message() + b".\r\n")
    return await counted(talk, accepted)


# -- 4.1 ------------------------------------------------------------------------------------------

for _verb in ("EHLO", "HELO"):
    here.probe(
        f"4.1-{_verb.lower()}", level="MUST NOT", clauses="2033-4.1-a", door="lmtp",
        upto="greeting",
        requirement="LMTP has no EHLO and no HELO: they are refused, best with 500",
        sent=[f"{_verb} {{hostname}}"],
        allowed={"500": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "closed": NON_STRICT},
    )  # fmt: skip

here.probe(
    "4.1-lhlo", level="MUST", clauses="2033-4.1-a", needs="lmtp", door="lmtp", upto="greeting",
    requirement="LHLO is answered 250", sent=["LHLO {hostname}"], allowed={"250": PASS},
)  # fmt: skip
here.probe(
    "4.1-lhlo-lower-case", level="IMPLIED", clauses="2033-4.1-a", door="lmtp", upto="greeting",
    requirement="LHLO is understood in lower case",
    sent=["lhlo {hostname}"], allowed={"250": PASS},
)  # fmt: skip
here.probe(
    "4.1-lhlo-without-name", level="IMPLIED", clauses="2033-4.1-a", door="lmtp", upto="greeting",
    requirement="LHLO without a name is refused with 501, as EHLO would be",
    sent=["LHLO"], allowed={"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT},
)  # fmt: skip
here.probe(
    "4.1-mail-before-lhlo", level="IMPLIED", clauses="2033-4.1-a", door="lmtp", upto="greeting",
    requirement="MAIL before LHLO is refused, best with 503",
    sent=["MAIL FROM:<{sender}>"],
    allowed={"503": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "250": NON_STRICT},
)  # fmt: skip


@here.case(
    "4.1-lhlo-resets", level="IMPLIED", clauses="2033-4.1-a", door="lmtp", needs="rcpt",
    requirement="LHLO in a transaction ends it, as EHLO would",
    sent="LHLO | MAIL | RCPT | LHLO | RCPT", allowed={"503": PASS, "5yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    reply = going_on(await talk.say(talk.fill("LHLO {hostname}")))
    if not reply.positive:
        return f"LHLO then {reply.label}", str(reply)
    return await talk.say(talk.fill("RCPT TO:<{rcpt}>"))


# -- 4.2 ------------------------------------------------------------------------------------------


@here.case(
    "4.2-one", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt", security=COUNTED,
    requirement="A message for one recipient is answered once",
    sent="MAIL | RCPT | DATA | a message | NOOP", allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await delivered(talk, [talk.given.rcpt])


@here.case(
    "4.2-two", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt rcpt2",
    security=COUNTED,
    requirement="A message for two recipients is answered once for each, in their order",
    sent="MAIL | RCPT | RCPT | DATA | a message | NOOP", allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await delivered(talk, [talk.given.rcpt, talk.given.rcpt2])


@here.case(
    "4.2-two-turned", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt rcpt2",
    security=COUNTED,
    requirement="The replies come in the order of the RCPTs, whatever order the server prefers",
    sent="MAIL | RCPT of the second | RCPT of the first | DATA | a message | NOOP",
    allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await delivered(talk, [talk.given.rcpt2, talk.given.rcpt])


for _slug, _what, _order in (
    ("first", "before the good ones", ("unknown", "rcpt", "rcpt2")),
    ("between", "between the good ones", ("rcpt", "unknown", "rcpt2")),
    ("last", "behind the good ones", ("rcpt", "rcpt2", "unknown")),
):

    @here.case(
        f"4.2-refused-{_slug}", level="MUST", clauses="2033-4.2-a", door="lmtp",
        needs="rcpt rcpt2 unknown", security=COUNTED,
        requirement="A recipient that was refused has no reply after the message; each of the "
        "others has one",
        sent=f"MAIL | two good RCPTs, and an unknown one {_what} | DATA | a message | NOOP",
        allowed={"one each": PASS},
    )  # fmt: skip
    async def _(talk: Session, order: tuple[str, ...] = _order) -> Observed:
        return await delivered(talk, [talk.fill(f"{{{each}}}") for each in order])


@here.case(
    "4.2-malformed-between", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt rcpt2",
    security=COUNTED,
    requirement="A malformed RCPT has no reply after the message",
    sent="MAIL | RCPT | RCPT, malformed | RCPT | DATA | a message | NOOP",
    allowed={"one each": PASS, "malformed taken": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    bad = await talk.say("RCPT TO:<<>>")
    if bad.positive:
        return "malformed taken", str(bad)
    await talk.must(talk.fill("RCPT TO:<{rcpt2}>"))
    await talk.must("DATA")
    await talk.send(talk.message() + b".\r\n")
    return await counted(talk, [talk.given.rcpt, talk.given.rcpt2])


@here.case(
    "4.2-same-twice", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt",
    security=COUNTED,
    requirement="A recipient that was named twice, and accepted twice, has two replies",
    sent="MAIL | RCPT | the same RCPT | DATA | a message | NOOP", allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await delivered(talk, [talk.given.rcpt, talk.given.rcpt])


@here.case(
    "4.2-ten-times", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt rcpt2",
    security=COUNTED,
    requirement="Ten accepted RCPTs have ten replies",
    sent="MAIL | ten RCPTs of two recipients in turn | DATA | a message | NOOP",
    allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await delivered(talk, [talk.given.rcpt, talk.given.rcpt2] * 5)


@here.case(
    "4.2-pipelined", level="MUST", clauses="2033-4.2-a", door="lmtp", keywords="PIPELINING",
    needs="rcpt rcpt2 unknown", security=COUNTED,
    requirement="Pipelined, too, there is one reply for each accepted RCPT after the message",
    sent="MAIL, three RCPTs (one unknown) and DATA in one segment | a message | NOOP",
    allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    rcpts = [talk.given.rcpt, talk.given.unknown, talk.given.rcpt2]
    lines = [f"MAIL FROM:<{talk.given.sender}>", *(f"RCPT TO:<{each}>" for each in rcpts), "DATA"]
    await talk.send("".join(f"{each}\r\n" for each in lines).encode())
    replies = [going_on(each) for each in await talk.replies(5)]
    shown = " | ".join(str(each) for each in replies)
    if len(replies) < 5 or replies[-1].code != "354":
        return "no 354", shown
    accepted = [rcpt for rcpt, reply in zip(rcpts, replies[1:4], strict=True) if reply.positive]
    await talk.send(talk.message() + b".\r\n")
    return await counted(talk, accepted)


@here.case(
    "4.2-second-message", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt rcpt2",
    security=COUNTED,
    requirement="Recipients of one message have no reply after the next",
    sent="a message for two recipients | a message for one | NOOP", allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    label, shown = await delivered(talk, [talk.given.rcpt, talk.given.rcpt2])
    if label != "one each":
        return f"{label}, at the first", shown
    talk.stage = "ehlo"
    return await delivered(talk, [talk.given.rcpt2])


@here.case(
    "4.2-after-rset", level="MUST", clauses="2033-4.2-a", door="lmtp", needs="rcpt rcpt2",
    security=COUNTED,
    requirement="Recipients from before RSET have no reply after the message",
    sent="MAIL | RCPT | RCPT | RSET | MAIL | RCPT | DATA | a message | NOOP",
    allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await envelope(talk, [talk.given.rcpt, talk.given.rcpt2])
    await talk.must("RSET")
    talk.stage = "ehlo"
    return await delivered(talk, [talk.given.rcpt])


_EMPTY = {"503": PASS}
here.probe(
    "4.2-data-without-rcpt", level="MUST", clauses="2033-4.2-b", door="lmtp", upto="mail",
    requirement="DATA without any accepted recipient is refused with 503",
    sent=["DATA"], allowed=_EMPTY,
)  # fmt: skip


@here.case(
    "4.2-data-all-refused", level="MUST", clauses="2033-4.2-b", door="lmtp", needs="unknown",
    requirement="DATA after every recipient was refused is refused with 503",
    sent="MAIL | RCPT, unknown | DATA", allowed=_EMPTY,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    if await envelope(talk, [talk.given.unknown]):
        raise Unavailable("an address that is refused at RCPT")
    return await talk.say("DATA")


@here.case(
    "4.2-data-all-refused-goes-on", level="IMPLIED", clauses="2033-4.2-b", door="lmtp",
    needs="unknown rcpt",
    requirement="After DATA was refused for want of recipients, a RCPT still counts",
    sent="MAIL | RCPT, unknown | DATA (refused) | RCPT | DATA",
    allowed={"354": PASS, "503": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    if await envelope(talk, [talk.given.unknown]):
        raise Unavailable("an address that is refused at RCPT")
    first = await talk.say("DATA")
    if first.positive:
        return "DATA taken", str(first)
    rcpt = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
    return await talk.say("DATA") if rcpt.positive else rcpt


here.probe(
    "4.2-data-before-mail", level="IMPLIED", clauses="2033-4.2-b", door="lmtp",
    requirement="DATA without MAIL is refused with 503",
    sent=["DATA"], allowed=_EMPTY,
)  # fmt: skip


@here.case(
    "4.2-accepted-arrives", level="MUST", clauses="2033-4.2-a", door="lmtp", role="delivery",
    needs="rcpt unknown maildir",
    requirement="A recipient whose reply after the message is 250 has the message, whatever became "
    "of the others",
    sent="MAIL | RCPT, unknown | RCPT | DATA | a message",
    allowed={"there": PASS, "refused": INFO, "deferred": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    accepted = await envelope(talk, [talk.given.unknown, talk.given.rcpt])
    if talk.given.rcpt not in accepted:
        raise Refused("RCPT", Reply(kind="silent"))
    await talk.must("DATA")
    await talk.send(talk.message() + b".\r\n")
    replies = await talk.replies(len(accepted))
    shown = " | ".join(str(each) for each in replies)
    last = replies[-1]
    if len(replies) < len(accepted) or last.kind != "reply":
        return "too few replies", shown
    if not last.positive:
        return ("deferred" if last.code[0] == "4" else "refused"), shown
    return ("there", shown) if await talk.arrived() else await lost(talk)


# -- 4.3: BDAT ------------------------------------------------------------------------------------


@here.case(
    "4.3-last", level="MUST", clauses="2033-4.2-c", door="lmtp", keywords="CHUNKING",
    needs="rcpt rcpt2 unknown", security=COUNTED,
    requirement="BDAT LAST is answered once for each accepted recipient",
    sent="MAIL | three RCPTs (one unknown) | BDAT LAST | NOOP", allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    rcpts = [talk.given.rcpt, talk.given.unknown, talk.given.rcpt2]
    accepted = await envelope(talk, rcpts)
    message = talk.message()
    await talk.send(f"BDAT {len(message)} LAST\r\n".encode() + message)
    return await counted(talk, accepted)


@here.case(
    "4.3-chunks", level="MUST", clauses="2033-4.2-c", door="lmtp", keywords="CHUNKING",
    needs="rcpt rcpt2", security=COUNTED,
    requirement="BDAT without LAST is answered once, however many recipients there are",
    sent="MAIL | RCPT | RCPT | BDAT | BDAT LAST of no octets | NOOP",
    allowed={"one each": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    accepted = await envelope(talk, [talk.given.rcpt, talk.given.rcpt2])
    message = talk.message()
    await talk.send(f"BDAT {len(message)}\r\n".encode() + message)
    first = going_on(await talk.reply())
    late = going_on(await talk.unasked())
    if first.code != "250" or late.kind != "silent":
        return "chunk not answered once", f"{first} | {late}"
    await talk.send(b"BDAT 0 LAST\r\n")
    return await counted(talk, accepted)


@here.case(
    "4.3-without-rcpt", level="MUST", clauses="2033-4.2-c", door="lmtp", keywords="CHUNKING",
    requirement="BDAT LAST without any accepted recipient is refused with 503, once",
    sent="MAIL | BDAT LAST | NOOP", allowed={"503": PASS, "5yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("mail")
    message = talk.message()
    await talk.send(f"BDAT {len(message)} LAST\r\n".encode() + message)
    reply = await talk.reply()
    late = await talk.unasked()
    if late.kind == "reply":
        return "answered twice", f"{reply} | {late}"
    return reply


# -- 5: what must be there, and where not ---------------------------------------------------------

for _keyword, _level in (
    ("PIPELINING", "MUST"), ("ENHANCEDSTATUSCODES", "MUST"), ("8BITMIME", "SHOULD"),
):  # fmt: skip

    @here.case(
        f"5-offers-{_keyword.lower()}", level="MUST" if _level == "MUST" else "SHOULD",
        clauses="2033-5-b", door="lmtp",
        requirement="An LMTP server offers PIPELINING and ENHANCEDSTATUSCODES, and best 8BITMIME",
        sent="LHLO",
        allowed={"offered": PASS} if _level == "MUST"
        else {"offered": PASS, "not offered": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, keyword: str = _keyword) -> Observed:
        await talk.upto("ehlo")
        offered = keyword in talk.features
        return ("offered" if offered else "not offered"), " ".join(talk.features)


@here.case(
    "5-port", level="MUST NOT", clauses="2033-5-a", needs="lmtp",
    requirement="LMTP is not spoken at port 25",
    sent="LHLO at the port of LMTP, if that is 25", allowed={"another port": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    where = talk.given.lmtp
    if where is None or where[1] != 25:
        return "another port"
    beside = talk.another("lmtp")
    await beside.upto("ehlo")
    return "port 25"


@here.case(
    "5-lhlo-at-smtp", level="IMPLIED", clauses="2033-5-a",
    requirement="An SMTP server has no LHLO: it is refused, best with 500",
    sent="LHLO, at the port of SMTP",
    allowed={"500": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "taken elsewhere": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("greeting")
    reply = await talk.say(talk.fill("LHLO {hostname}"))
    if reply.positive and talk.given.smtp[1] != 25:
        return "taken elsewhere", str(reply)
    if reply.kind == "closed":
        raise NotApplicable("a server that goes on after an unknown command")
    return reply
