"""RFC 5321 4.1.1.4: DATA: its replies, the one true end of the mail data, what is there afterwards.

The end is CRLF . CRLF and nothing else.  What only looks like it, where another server on the way
does not see it, lets a client hide a second transaction in a message (SMTP smuggling).

- "alone": the look-alike, then a pause, then the true end: nothing may be said in the pause.
- "pipelined": a whole transaction behind the look-alike, then the true end: one reply, not six.
- "delivered": the same, judged by what lies in the mailbox.
- A server may refuse such content (5yz), and may hang up on it: nothing is smuggled then.
- Where the server keeps lines in a file with LF, a lone LF cannot be told from CRLF afterwards: how
  lines are taken apart shows by the dots that are removed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from specs.conformance.allowed import DATA, NOTHING_TO_SEND, RCPT_WITHOUT_MAIL
from specs.conformance.arrivals import overtaken
from specs.conformance.asking import count, data_refused, going_on, one_reply, readable
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

CLAUSES: Final = "5321-4.1.1.4-b 5321-4.1.1.4-c 5321-2.3.8-a"
SMUGGLED: Final = "a second message can be smuggled in"

# -- DATA and its replies -------------------------------------------------------------------------

for slug, line, clauses in (
    ("354", "DATA", "5321-4.1.1.4-a 5321-4.3.2-f 5321-4.5.1-b"),
    ("case-lower", "data", "5321-2.4-b 5321-4.1.1.4-a"),
    ("case-mixed", "dAtA", "5321-2.4-b 5321-4.1.1.4-a"),
):
    here.probe(
        f"4.1.1.4-{slug}", level="IMPLIED" if slug == "354" else "MUST", clauses=clauses,
        requirement="DATA, in any case, is answered 354 in a transaction with a recipient",
        sent=[line], upto="rcpt", allowed=DATA, needs="rcpt",
    )  # fmt: skip


@here.case(
    "4.1.1.4-early-content", level="IMPLIED", clauses="5321-4.1.1.4-a", needs="rcpt",
    requirement="After 354, nothing is said until the end of the mail data",
    sent="half of a message, a pause, the rest", allowed={"one reply": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("data")
    await talk.send(talk.message("first half\r\n"))
    early = await talk.unasked()
    if early.kind != "silent":
        return "too early", str(early)
    await talk.send(b"second half\r\n.\r\n")
    return await one_reply(talk)


@here.case(
    "4.1.1.4-empty", level="IMPLIED", clauses="5321-4.1.1.4-g 5321-4.5.2-e", needs="rcpt",
    requirement="The end of the mail data may follow 354 at once: it is seen, and answered",
    sent="(data) | .", allowed={"2yz": PASS, "5yz": INFO, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("data")
    return await talk.say(".")


@here.case(
    "4.1.1.4-empty-line", level="MUST", clauses="5321-4.1.1.4-b", needs="rcpt",
    requirement="An empty line and a dot end the mail data", sent="DATA | CRLF . CRLF",
    allowed={"250": PASS, "5yz": INFO, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("data")
    await talk.send(b"\r\n.\r\n")
    return await talk.reply()


@here.case(
    "4.1.1.4-quit-in-content", level="IMPLIED", clauses="5321-4.1.1.4-b", needs="rcpt",
    requirement="Lines of the mail data that look like commands are none",
    sent="a message with the lines QUIT, RSET, NOOP, then its end", allowed={"one reply": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("data")
    await talk.send(talk.message("RSET\r\nNOOP\r\nHELP\r\nQUIT\r\n") + b".\r\n")
    return await one_reply(talk)


# -- afterwards -----------------------------------------------------------------------------------


@here.case(
    "4.1.1.4-cleared", level="MUST", clauses="5321-4.1.1.4-f 5321-3.3-a 5321-4.3.2-f", needs="rcpt",
    requirement="After the end of the mail data, no sender is left over: RCPT is out of order",
    sent="a message | RCPT", allowed=RCPT_WITHOUT_MAIL,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.transact()
    return await talk.say(f"RCPT TO:<{talk.given.rcpt}>")


@here.case(
    "4.1.1.4-recipients-cleared", level="IMPLIED", clauses="5321-4.1.1.4-f", needs="rcpt",
    requirement="After the end of the mail data, no recipient is left over for the next message",
    sent="a message | MAIL | DATA", allowed=NOTHING_TO_SEND,
    security="a message reaches recipients of another one",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.transact()
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    return await data_refused(talk)


@here.case(
    "4.1.1.4-next", level="IMPLIED", clauses="5321-4.1.1.4-f", needs="rcpt",
    requirement="After a message, accepted or not, the next one is taken on the same connection",
    sent="a message | MAIL | RCPT | DATA", allowed={"354": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.transact()
    for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>"):
        reply = await talk.say(talk.fill(line))
        if not reply.positive:
            return reply
    return await talk.say("DATA")


# -- what arrives ---------------------------------------------------------------------------------


def _unix(message: bytes) -> bytes:
    """Whatever ends its lines in the mailbox."""
    return message.replace(b"\r\n", b"\n")


@here.case(
    "4.1.1.4-arrives-once", level="IMPLIED", clauses="5321-4.1.1.4-f", role="delivery",
    requirement="A message that was accepted once arrives once", needs="rcpt maildir",
    sent="a message; a later one, awaited",
    allowed={"once": PASS, "not delivered": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    reply = await talk.transact()
    if not reply.positive:
        return "refused", str(reply)
    await talk.arrived()
    await overtaken(talk)
    found = await talk.look(talk.given.maildirs[0], count=2, patience_s=0.2)
    if len(found) > 1:
        return "twice", f"{len(found)} times"
    return "once" if found else "not delivered"


@here.case(
    "4.1.1.4-last-line", level="MUST NOT", clauses="5321-4.1.1.4-e", role="delivery",
    requirement="CRLF before the last dot ends the last line of the content; none is added",
    sent="a message that ends in 'last' CRLF . CRLF", needs="rcpt maildir",
    allowed={"kept": PASS, "without its end": NON_STRICT, "not delivered": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    reply = await talk.transact(talk.message("last\r\n"))
    if not reply.positive:
        return "refused", str(reply)
    found = await talk.arrived()
    if not found:
        return "not delivered"
    end = _unix(found[0])[-12:]
    if end.endswith(b"\n\nlast\n"):
        return "kept"
    return ("without its end" if end.endswith(b"last") else "changed"), repr(end)


@here.case(
    "4.1.1.4-empty-last-lines", level="IMPLIED", clauses="5321-4.1.1.4-e", role="delivery",
    requirement="Empty lines before the last dot are content", needs="rcpt maildir",
    sent="a message that ends in 'last' CRLF CRLF CRLF . CRLF",
    allowed={"kept": PASS, "changed": NON_STRICT, "not delivered": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    reply = await talk.transact(talk.message("last\r\n\r\n\r\n"))
    if not reply.positive:
        return "refused", str(reply)
    found = await talk.arrived()
    if not found:
        return "not delivered"
    end = _unix(found[0])[-12:]
    return ("kept" if end.endswith(b"\n\nlast\n\n\n") else "changed"), repr(end)


#: What stands before two dots, where no line ends: both of them are content.
NO_LINE: Final = (("lf", b"\n"), ("cr", b"\r"), ("lfcr", b"\n\r"), ("crcr", b"\r\r"))


def _two_dots(slug: str, end: bytes) -> None:
    @here.case(
        f"4.1.1.4-{slug}-no-line-end", level="MUST NOT", clauses="5321-4.1.1.4-d",
        requirement="A lone CR or LF ends no line: no dot is taken away behind it",
        sent=f"a message with 'a{readable(end)}..b' in a line", needs="rcpt maildir",
        allowed={"both dots": PASS, "refused": PASS, "otherwise": INFO, "not delivered": INFO},
        role="delivery",
    )  # fmt: skip
    async def _(talk: Session) -> str | tuple[str, str]:
        await talk.upto("data")
        await talk.send(talk.message(b"one" + end + b"..two\r\n") + b".\r\n")
        reply = await talk.reply()
        if not reply.positive:
            return "refused" if reply.kind in ("reply", "closed") else reply.label, str(reply)
        found = await talk.arrived()
        if not found:
            return "not delivered"
        body = found[0].replace(b"\r\n", b"\n").partition(b"\n\n")[2]
        at = body.find(b"one")
        line = body[at : at + 20]
        if b"..two" in line:
            return "both dots", repr(line)
        return ("a dot is lost" if b".two" in line else "otherwise"), repr(line)


for slug, end in NO_LINE:
    _two_dots(slug, end)

# -- what only looks like the end -----------------------------------------------------------------

LOOKALIKES: Final[tuple[tuple[str, bytes], ...]] = (
    ("lf-lf", b"\n.\n"),
    ("lf-crlf", b"\n.\r\n"),
    ("crlf-lf", b"\r\n.\n"),
    ("cr-cr", b"\r.\r"),
    ("cr-lf", b"\r.\n"),
    ("lf-cr", b"\n.\r"),
    ("crlf-cr", b"\r\n.\r"),
    ("cr-crlf", b"\r.\r\n"),
    ("crlf-crcrlf", b"\r\n.\r\r\n"),
    ("crlf-lfcr", b"\r\n.\n\r"),
    ("lfcr-lfcr", b"\n\r.\n\r"),
    ("crlf-nul-crlf", b"\r\n\0.\r\n"),
    ("crlf-dot-nul-crlf", b"\r\n.\0\r\n"),
    ("crlf-dot-crnul-lf", b"\r\n.\r\0\n"),
    ("cr-nul-lf-crlf", b"\r\0\n.\r\n"),
    ("nul-nul", b"\0.\0"),
    ("crlf-dot-dot", b"\r\n..\r\n"),
    ("crlf-dot-space", b"\r\n. \r\n"),
    ("crlf-dot-tab", b"\r\n.\t\r\n"),
    ("crlf-space-dot", b"\r\n .\r\n"),
    ("text-dot", b".\r\n"),
    ("vt-vt", b"\x0b.\x0b"),
    ("ff-ff", b"\x0c.\x0c"),
    ("nel-nel", b"\x85.\x85"),
    ("utf8-nel", b"\r\n.\xc2\x85"),
    ("utf8-ls", b"\xe2\x80\xa8.\xe2\x80\xa8"),
)
#: Nothing of these is a line end in mail: content with them need not be refused.
TAKEN: Final = {"one reply": PASS, "refused": PASS}


def _hidden(talk: Session, mark: bytes) -> bytes:
    """A message with a look-alike, and a whole transaction behind it.  Begins inside DATA."""
    given, inner = talk.given, f"{talk.token}inner"
    return (
        talk.message("visible").removesuffix(b"\r\n") + mark
        + f"MAIL FROM:<{given.sender}>\r\nRCPT TO:<{given.rcpt}>\r\nDATA\r\n".encode()
        + f"From: <{given.sender}>\r\nTo: <{given.rcpt}>\r\nSubject: conformance {inner}\r\n"
        f"Message-ID: <{inner}@{given.hostname}>\r\n"
        "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\nhidden\r\n.\r\n".encode()
    )  # fmt: skip


def _lookalike(slug: str, mark: bytes) -> None:
    shown = readable(mark)

    @here.case(
        f"4.1.1.4-end-{slug}-alone", level="MUST NOT", clauses=CLAUSES, needs="rcpt",
        requirement="Only CRLF . CRLF ends the mail data: what looks like it is not answered",
        sent=f"a message, {shown}, a pause, the true end", allowed=TAKEN, security=SMUGGLED,
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("data")
        await talk.send(talk.message("visible") + mark)
        early = await talk.unasked()
        if early.positive:
            return "taken for the end", str(early)
        if early.kind == "closed":
            return "refused", ""
        await talk.send(b"more\r\n.\r\n")
        if early.kind == "silent":
            return await one_reply(talk)
        # It was refused at once: what comes behind must not be taken for commands.
        after = await talk.unasked()
        detail = f"{early} | {after}"
        return ("taken for the end" if after.kind == "reply" else "refused"), detail

    @here.case(
        f"4.1.1.4-end-{slug}-pipelined", level="MUST NOT", clauses=CLAUSES, needs="rcpt",
        requirement="What only looks like CRLF . CRLF does not make commands of what is behind it",
        sent=f"a message, {shown}, MAIL, RCPT, DATA, a second message, the true end",
        allowed=TAKEN, security=SMUGGLED,
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("data")
        await talk.send(_hidden(talk, mark))
        return await one_reply(talk)

    @here.case(
        f"4.1.1.4-end-{slug}-delivered", level="MUST NOT", clauses=CLAUSES, role="delivery",
        requirement="What only looks like CRLF . CRLF does not make two messages of one",
        sent=f"a message, {shown}, MAIL, RCPT, DATA, a second message, the true end",
        allowed={"one message": PASS, "no message": PASS}, needs="rcpt maildir",
        security=SMUGGLED,
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("data")
        await talk.send(_hidden(talk, mark))
        replies, _ = await count(talk)
        if replies[0].kind in ("silent", "garbage", "flood"):
            return replies[0].kind, ""
        if replies[0].positive:
            await talk.arrived()
        await overtaken(talk)
        box = talk.given.maildirs[0]
        found = await talk.look(box, token=f"Subject: conformance {talk.token}", patience_s=0.2)
        alone = [each for each in found if f"<{talk.token}@".encode() not in each]
        own = [each for each in found if f"<{talk.token}@".encode() in each]
        if any(f"{talk.token}inner".encode() in each for each in alone):
            return "two messages", f"the second arrived, and {len(own)} of the first"
        return ("one message" if own else "no message"), ", ".join(map(str, replies))


for slug, mark in LOOKALIKES:
    _lookalike(slug, mark)

# -- the true end, however it comes ---------------------------------------------------------------

#: (slug, what comes before the last CRLF . CRLF, for people)
BEFORE_END: Final[tuple[tuple[str, bytes, str], ...]] = (
    ("text", b"text", "text"),
    ("empty-lines", b"text\r\n\r\n\r\n", "empty lines"),
    ("cr", b"text\r", "a lone CR"),
    ("lf", b"text\n", "a lone LF"),
    ("nul", b"text\0", "NUL"),
    ("dots", b"text\r\n...", "a line of dots"),
    ("eight-bit", b"text\xff", "0xFF"),
)


def _true_end(slug: str, before: bytes, shown: str) -> None:
    @here.case(
        f"4.1.1.4-true-end-{slug}", level="MUST", clauses="5321-4.1.1.4-b", needs="rcpt",
        requirement="CRLF . CRLF ends the mail data, whatever stands before it",
        sent=f"a message that ends in {shown}, CRLF . CRLF", allowed=TAKEN,
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("data")
        await talk.send(talk.message(before) + b"\r\n.\r\n")
        return await one_reply(talk)


for slug, before, shown in BEFORE_END:
    _true_end(slug, before, shown)

#: Where the end is cut into segments: how many octets of CRLF . CRLF are in the first ones.
CUTS: Final = ((1,), (2,), (3,), (4,), (1, 2, 3, 4))


def _cut(cuts: tuple[int, ...]) -> None:
    end = b"\r\n.\r\n"
    edges = (0, *cuts, len(end))
    pieces = [end[a:b] for a, b in pairwise(edges)]

    @here.case(
        f"4.1.1.4-cut-{'-'.join(map(str, cuts))}", level="MUST", clauses="5321-4.1.1.4-b",
        requirement="CRLF . CRLF ends the mail data also if it comes in pieces",
        sent=f"a message, then {' / '.join(readable(each) for each in pieces)} one by one",
        allowed={"one reply": PASS}, needs="rcpt",
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("data")
        await talk.send(talk.message("text") + pieces[0])
        for piece in pieces[1:]:
            early = await talk.unasked(0.05)
            if early.kind != "silent":
                return "too early", str(early)
            await talk.send(piece)
        return await one_reply(talk)


for cuts in CUTS:
    _cut(cuts)

#: Sizes of buffers in use (qmail 1024, Postfix 4096, Exim 8192, pipes 65536); the end straddles.
BUFFERS: Final = (512, 1000, 1024, 2048, 4096, 8192, 16384, 65536)
PLACES: Final = (-5, -4, -3, -2, -1, 0)


def _exactly(talk: Session, size: int) -> bytes:
    """A message of so many octets, in lines of ordinary length; the last has no end."""
    head = talk.message("")
    lines = (b"x" * 70 + b"\r\n") * (size // 72 + 1)
    return (head + lines)[: size - 4].rstrip(b"\r\n").ljust(size, b"y")


def _edge(size: int) -> None:
    @here.case(
        f"4.1.1.4-edge-{size}", level="MUST", clauses="5321-4.1.1.4-b", needs="rcpt",
        requirement="CRLF . CRLF ends the mail data also where it straddles the end of a buffer",
        sent=f"six messages whose end begins 5 to 0 octets before octet {size}",
        allowed={"one reply each": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("ehlo")
        for place in PLACES:
            for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA"):
                await talk.must(talk.fill(line))
            await talk.send(_exactly(talk, size + place) + b"\r\n.\r\n")
            reply = going_on(await talk.reply())
            if reply.kind != "reply":
                return f"{reply.kind} at {place}"
            noop = going_on(await talk.say("NOOP"), closed=True)
            if noop.code != "250":
                return f"out of step at {place}", str(noop)
        return "one reply each"

    @here.case(
        f"4.1.1.4-edge-{size}-dot", level="MUST", clauses="5321-4.1.1.4-b", needs="rcpt",
        requirement="A dot inside a line ends nothing, also at the beginning of a buffer",
        sent=f"six messages with '.' CRLF in a line 5 to 0 octets before octet {size}",
        allowed={"one reply each": PASS}, security=SMUGGLED,
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("ehlo")
        for place in PLACES:
            for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA"):
                await talk.must(talk.fill(line))
            await talk.send(_exactly(talk, size + place) + b".\r\nNOOP\r\nNOOP\r\n.\r\n")
            reply = going_on(await talk.reply())
            if reply.kind != "reply":
                return f"{reply.kind} at {place}"
            noop: Reply = going_on(await talk.say("NOOP"), closed=True)
            after = going_on(await talk.unasked(0.05), closed=True)
            if noop.code != "250" or after.kind != "silent":
                return f"taken for the end at {place}", f"{reply} | {noop} | {after}"
        return "one reply each"


for size in BUFFERS:
    _edge(size)
