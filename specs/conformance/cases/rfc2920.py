"""RFC 2920: PIPELINING.  Sections 2 (the keyword), 3.1 (what a client may group), 3.2 (the server).

Most cases say the same commands twice: one by one on a connection of their own, then grouped; the
replies to the group must be those.  So nothing is judged here but that a group changes nothing.
Groups are as section 3.1 wants them: EHLO, DATA, VRFY, EXPN, NOOP and QUIT stand last, and the end
of a message first; RSET, MAIL and RCPT anywhere.

Tricky: DATA after no accepted recipient may be answered 354; the client sends a lone dot then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.asking import going_on
from specs.conformance.groups import PAUSE_S, classes, codes, joined, stuffed
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable

here = Section("2920")

MAIL: Final = "MAIL FROM:<{sender}>"
RCPT: Final = "RCPT TO:<{rcpt}>"
RCPT2: Final = "RCPT TO:<{rcpt2}>"
UNKNOWN: Final = "RCPT TO:<{unknown}>"
BAD_MAIL: Final = "MAIL FROM:<a@b@c"
BAD_RCPT: Final = "RCPT TO:<a@b@c"
#: How often RSET is said on one connection: Exim bears ten commands that bring no mail.
PER_CONNECTION: Final = 4


async def one_by_one(talk: Session, lines: Sequence[str]) -> list[Reply]:
    """The same, on a connection of its own.  Raises Refused if a line has no reply at all."""
    beside = talk.another()
    await beside.upto("ehlo")
    found: list[Reply] = []
    for line in lines:
        found.append(await beside.say(beside.fill(line)))
        if found[-1].kind != "reply":
            raise Refused(line, found[-1])
    await beside.close()
    return found


async def compare(talk: Session, lines: Sequence[str], pieces: Sequence[bytes] = ()) -> Seen:
    """ "the same" if a group is answered as its lines are one by one; and nothing more comes."""
    alone = await one_by_one(talk, lines)
    await talk.upto("ehlo")
    for piece in pieces or (joined(talk, lines),):
        await talk.send(piece)
    grouped = await talk.replies(len(lines))
    saw = f"one by one: {codes(alone)}; grouped: {codes(grouped)}"
    if "421" in codes(grouped):
        return "421", saw
    if classes(alone) != classes(grouped):
        return "different", saw
    if grouped[-1].code not in ("221", "354"):
        more = await talk.unasked(PAUSE_S)
        if more.kind != "silent":
            return "more replies", f"{saw}; then: {more}"
    return "the same", saw


here.bare_keyword("2-no-parameter", "PIPELINING", level="IMPLIED", clauses="2920-2-a")


# -- 3.2: groups ----------------------------------------------------------------------------------

#: (name, clauses, needs, what is special, lines)
GROUPS: Final[tuple[tuple[str, str, str, str, tuple[str, ...]], ...]] = (
    ("envelope", "2920-3.2-a 2920-3.2-d", "rcpt", "A whole envelope", (MAIL, RCPT, "DATA")),
    ("two-recipients", "2920-3.2-a", "rcpt rcpt2", "An envelope with two recipients",
     (MAIL, RCPT, RCPT2, "DATA")),
    ("rset-first", "2920-3.2-d", "rcpt", "RSET and a whole envelope",
     ("RSET", MAIL, RCPT, "DATA")),
    ("rset-between", "2920-3.2-d", "rcpt", "An envelope, RSET, and another envelope",
     (MAIL, RCPT, "RSET", MAIL, RCPT, "DATA")),
    ("rset-last", "2920-3.2-d", "rcpt", "An envelope that is taken back",
     (MAIL, RCPT, "RSET")),
    ("refused-among-accepted", "2920-3.2-a 2920-3.2-b", "rcpt rcpt2 unknown",
     "A refused recipient among accepted ones", (MAIL, RCPT, UNKNOWN, RCPT2, "DATA")),
    ("refused-first", "2920-3.2-a 2920-3.2-b 2920-3.2-e", "rcpt unknown",
     "A refused recipient before an accepted one", (MAIL, UNKNOWN, RCPT, "DATA")),
    ("refused-last", "2920-3.2-a 2920-3.2-b 2920-3.2-e", "rcpt unknown",
     "A refused recipient after an accepted one", (MAIL, RCPT, UNKNOWN, "DATA")),
    ("bad-rcpt", "2920-3.2-b", "rcpt", "A syntax error in the middle",
     (MAIL, BAD_RCPT, RCPT, "DATA")),
    ("bad-mail", "2920-3.2-b", "rcpt", "A syntax error at its beginning",
     (BAD_MAIL, MAIL, RCPT, "DATA")),
    ("nested-mail", "2920-3.2-b", "rcpt", "A second MAIL in the middle",
     (MAIL, MAIL, RCPT, "DATA")),
    ("rcpt-too-early", "2920-3.2-b", "rcpt", "A recipient before its MAIL",
     (RCPT, MAIL, RCPT, "DATA")),
    ("noop-last", "2920-3.2-f", "rcpt", "NOOP at its end", (MAIL, RCPT, "NOOP")),
    ("vrfy-last", "2920-3.2-f", "rcpt", "VRFY at its end", (MAIL, "VRFY {rcpt}")),
    ("expn-last", "2920-3.2-f", "rcpt", "EXPN at its end", (MAIL, "EXPN {rcpt}")),
    ("unknown-last", "2920-3.2-f", "rcpt", "An unknown command at its end", (MAIL, RCPT, "XYZZY")),
    ("turn-last", "2920-3.2-f", "rcpt", "TURN at its end", (MAIL, RCPT, "TURN")),
    ("ehlo-last", "2920-3.2-f", "rcpt", "EHLO at its end", (MAIL, RCPT, "EHLO {hostname}")),
    ("quit-last", "2920-3.2-f", "rcpt", "QUIT at its end", (MAIL, RCPT, "QUIT")),
    ("rset-noop", "2920-3.2-d 2920-3.2-f", "", "RSET and NOOP", ("RSET", "NOOP")),
    ("many-rcpt", "2920-3.2-a", "rcpt rcpt2", "An envelope with twenty recipients",
     (MAIL, *((RCPT, RCPT2) * 10), "DATA")),
)  # fmt: skip
for slug, clause, needs, what, lines in GROUPS:

    async def group(talk: Session, lines: tuple[str, ...] = lines) -> Seen:
        return await compare(talk, lines)

    here.case(
        f"3.2-{slug}",
        level="IMPLIED" if clause == "2920-3.2-d" else "MUST",
        clauses=clause,
        requirement=f"{what} in one write is answered in order, as it is one by one",
        sent="in one write: " + " | ".join(lines if len(lines) < 10 else (*lines[:4], "...")),
        allowed={"the same": PASS},
        keywords="PIPELINING",
        needs=needs,
    )(group)


@here.case(
    "3.2-each-octet",
    level="MUST",
    clauses="2920-3.2-a 2920-3.2-g",
    requirement="An envelope that comes octet by octet is answered as it is line by line",
    sent="MAIL | RCPT | DATA, each octet in a write of its own",
    allowed={"the same": PASS},
    keywords="PIPELINING",
    needs="rcpt",
)
async def _(talk: Session) -> Seen:
    lines = (MAIL, RCPT, "DATA")
    octets = joined(talk, lines)
    return await compare(talk, lines, [octets[at : at + 1] for at in range(len(octets))])


@here.case(
    "3.2-cuts",
    level="MUST",
    clauses="2920-3.2-a 2920-3.2-g",
    requirement="Wherever a group is cut in two, whole commands are answered at once, and the rest "
    "when it comes",
    sent="RSET | MAIL | RCPT, cut at different places, with a pause there",
    allowed={"the same": PASS},
    keywords="PIPELINING",
    needs="rcpt",
)
async def _(talk: Session) -> Seen:
    lines = ("RSET", MAIL, RCPT)
    octets = joined(talk, lines)
    ends = [at + 2 for at in range(len(octets)) if octets[at : at + 2] == b"\r\n"]
    near = {end + by for end in ends for by in (-3, -2, -1, 0, 1)}
    cuts = sorted({2, *near} & set(range(1, len(octets))))
    for number, cut in enumerate(cuts):
        if number % PER_CONNECTION == 0:
            beside = talk.another()
            await beside.upto("ehlo")
        whole = sum(end <= cut for end in ends)
        await beside.send(octets[:cut])
        found = await beside.replies(whole)
        early = await beside.unasked(PAUSE_S)
        if early.kind != "silent":
            return "too early", f"cut after {cut} octets: {codes(found)}, then {early}"
        await beside.send(octets[cut:])
        found += await beside.replies(len(lines) - whole)
        if classes(found) != "2 2 2":
            return "different", f"cut after {cut} octets: {codes(found)}"
    return "the same", f"{len(cuts)} cuts"


@here.case(
    "3.2-half-a-group",
    level="MUST",
    clauses="2920-3.2-g",
    requirement="Replies are not held back when no more input is there",
    sent="in one write: MAIL | RCPT | the first half of DATA; (replies); the second half",
    allowed={"sent": PASS},
    keywords="PIPELINING",
    needs="rcpt",
)
async def _(talk: Session) -> Seen:
    alone = await one_by_one(talk, (MAIL, RCPT, "DATA"))
    await talk.upto("ehlo")
    await talk.send(joined(talk, (MAIL, RCPT)) + b"DA")
    found = await talk.replies(2)
    if found[-1].kind == "silent":
        return "held back", codes(found)
    await talk.send(b"TA\r\n")
    found += await talk.replies(1)
    return ("sent" if classes(found) == classes(alone) else "different"), codes(found)


@here.case(
    "3.2-one-unit",
    level="SHOULD",
    clauses="2920-3.2-c",
    requirement="The replies to grouped RSET, MAIL and RCPT come together",
    sent="in one write: RSET | MAIL | RCPT | RCPT",
    allowed={"one unit": PASS, "several": NON_STRICT},
    keywords="PIPELINING",
    needs="rcpt rcpt2",
)
async def _(talk: Session) -> Seen:
    lines = ("RSET", MAIL, RCPT, RCPT2)
    alone = await one_by_one(talk, lines)
    await talk.upto("ehlo")
    await talk.send(joined(talk, lines))
    first = await talk.reply()
    units = 1 if talk.unread.count(b"\n") >= len(lines) - 1 else 2
    found = [first, *await talk.replies(len(lines) - 1)]
    if classes(found) != classes(alone):
        return "different", f"one by one: {codes(alone)}; grouped: {codes(found)}"
    return ("one unit" if units == 1 else "several"), codes(found)


# -- 3.2: DATA after refused recipients -----------------------------------------------------------


async def nobody(talk: Session, lines: Sequence[str]) -> tuple[Reply, Reply | None]:
    """The reply to DATA, and if that was 354, the reply to a lone dot.  Raises Unavailable."""
    await talk.upto("ehlo")
    await talk.send(joined(talk, lines))
    found = await talk.replies(len(lines))
    if len(found) == len(lines) and any(each.positive for each in found[1:-1]):
        raise Unavailable("a recipient that is refused at RCPT")
    last = found[-1]
    if last.code != "354":
        return last, None
    await talk.send(b".\r\n")
    return last, await talk.reply()


NOBODY: Final = (
    ("unknown", "unknown", (MAIL, UNKNOWN, "DATA")),
    ("two", "unknown", (MAIL, UNKNOWN, BAD_RCPT, "DATA")),
    ("malformed", "", (MAIL, BAD_RCPT, "DATA")),
)  # fmt: skip
for slug, needs, lines in NOBODY:

    async def refuses(talk: Session, lines: tuple[str, ...] = lines) -> Observed:
        return (await nobody(talk, lines))[0]

    async def nothing(talk: Session, lines: tuple[str, ...] = lines) -> Seen:
        reply, end = await nobody(talk, lines)
        if end is None:
            refused = reply.kind == "reply" and not reply.positive
            return ("refused" if refused else reply.label), str(reply)
        if end.kind != "reply":
            return end.label, str(end)
        after = going_on(await talk.say("NOOP"), closed=True)
        if after.code != "250":
            return "out of step", f"{end} | NOOP: {after}"
        return ("accepted" if end.positive else "refused after the dot"), str(end)

    shown = "in one write: " + " | ".join(lines)
    here.case(
        f"3.2-data-for-nobody-{slug}",
        level="SHOULD",
        clauses="2920-3.2-e",
        requirement="DATA is not answered 354 if every recipient of the group was refused "
        f"({slug})",
        sent=shown,
        allowed={"503": PASS, "554": PASS, "5yz": NON_STRICT, "354": NON_STRICT},
        keywords="PIPELINING",
        needs=needs,
    )(refuses)
    here.case(
        f"3.2-dot-for-nobody-{slug}",
        level="MUST NOT",
        clauses="2920-3.2-h",
        requirement="If DATA gets 354 though nobody is to receive it, an empty message is "
        f"refused ({slug})",
        sent=f"{shown} | (after 354) a lone dot",
        allowed={"refused": PASS, "refused after the dot": PASS},
        keywords="PIPELINING",
        needs=needs,
    )(nothing)

# -- 3.1: the end of a message, and what comes behind it in the same write ------------------------


AFTER: Final[tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]] = (
    ("envelope", "A new envelope", (MAIL, RCPT, "DATA"), ("2", "2", "2", "3")),
    ("rset-envelope", "RSET and a new envelope", ("RSET", MAIL, RCPT, "DATA"),
     ("2", "2", "2", "2", "3")),
    ("quit", "QUIT", ("QUIT",), ("2", "2")),
    ("noop", "NOOP", ("NOOP",), ("2", "2")),
    ("mail", "MAIL", (MAIL,), ("2", "2")),
)  # fmt: skip
for slug, what, lines, wanted in AFTER:

    async def after(
        talk: Session, lines: tuple[str, ...] = lines, wanted: tuple[str, ...] = wanted
    ) -> Seen:
        await talk.upto("data")
        await talk.send(stuffed(talk.message()) + joined(talk, lines))
        found = await talk.replies(len(wanted))
        if found[0].kind == "reply" and not found[0].positive:
            wanted = (found[0].code[:1], *wanted[1:])  # it does not like the message
        well = classes(found) == " ".join(wanted)
        return ("in order" if well else "different"), codes(found)

    here.case(
        f"3.1-after-the-dot-{slug}",
        level="IMPLIED",
        clauses="2920-3.1-e",
        requirement=f"{what} in one write with the end of a message is carried out after it",
        sent="in one write: (a message) | . | " + " | ".join(lines),
        allowed={"in order": PASS},
        keywords="PIPELINING",
        needs="rcpt",
    )(after)


@here.case(
    "3.1-two-messages-arrive",
    level="IMPLIED",
    clauses="2920-3.1-e",
    requirement="Two messages both arrive, if the envelope of one comes with the end of the other",
    sent="in one write: (a message) | . | MAIL | RCPT | DATA; then: (a message) | .",
    allowed={"two": PASS, "refused": INFO},
    keywords="PIPELINING",
    needs="rcpt maildir",
    role="delivery",
)
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    await talk.send(stuffed(talk.message(b"number one\r\n")) + joined(talk, (MAIL, RCPT, "DATA")))
    found = await talk.replies(4)
    if found[-1].code == "354":
        second = talk.message(b"number two\r\n").replace(b"Message-ID: <", b"Message-ID: <2.")
        found.append(await talk.content(second))
    if classes(found) != "2 2 2 3 2":
        return "refused", codes(found)
    arrived = await delivered(talk, found[-1], 2)
    well = [sum(word in each for each in arrived) for word in (b"number one", b"number two")]
    return ("two" if well == [1, 1] else "not both, or more"), f"{len(arrived)} arrived"


# -- 3.1: what a client must not group ------------------------------------------------------------


@here.case(
    "3.1-before-the-greeting",
    level="MAY",
    clauses="2920-3.1-f",
    requirement="What is said before the greeting may be refused, or borne",
    sent="EHLO before the greeting",
    allowed={"borne": INFO, "refused": INFO, "closed": INFO},
)
async def _(talk: Session) -> Observed:
    await talk.upto("connect")
    await talk.send(f"EHLO {talk.given.hostname}\r\n".encode())
    greeting = await talk.reply()
    if greeting.code != "220":
        return ("refused" if greeting.kind == "reply" else greeting.label), str(greeting)
    reply = await talk.reply()
    if reply.kind != "reply":
        return reply
    return ("borne" if reply.positive else "refused"), str(reply)


#: What no client may group, and a server may bear or refuse.
UNDUE: Final = (("behind-ehlo", "EHLO and MAIL", True), ("behind-noop", "NOOP and MAIL", False))
for slug, what, with_ehlo in UNDUE:

    async def undue(talk: Session, ehlo: bool = with_ehlo) -> Observed:
        await talk.upto("greeting" if ehlo else "ehlo")
        first = f"EHLO {talk.given.hostname}" if ehlo else "NOOP"
        await talk.send(joined(talk, (first, MAIL)))
        found = await talk.replies(2)
        if found[-1].kind != "reply":
            return found[-1]
        well = all(each.positive for each in found)
        return ("borne" if well else "refused"), codes(found)

    here.case(
        f"3.1-{slug}",
        level="MAY",
        clauses="2920-3.1-f",
        requirement=f"{what} in one write, which no client may send, may be refused, or borne",
        sent=f"in one write: {what}",
        allowed={"borne": INFO, "refused": INFO, "closed": INFO, "421": INFO},
    )(undue)


@here.case(
    "3.1-message-behind-data",
    level="MAY",
    clauses="2920-3.1-f",
    requirement="A message in one write with DATA, which is too early, may be refused, or borne",
    sent="in one write: DATA | (a message) | .",
    allowed={"borne": INFO, "refused": INFO, "closed": INFO, "421": INFO},
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await talk.send(b"DATA\r\n" + stuffed(talk.message()))
    found = await talk.replies(2)
    if found[-1].kind != "reply":
        return found[-1]
    return ("borne" if found[-1].positive else "refused"), codes(found)
