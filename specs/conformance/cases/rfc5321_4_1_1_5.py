"""RFC 5321 4.1.1.5 to 4.1.1.10 and 4.1.5: RSET, VRFY, EXPN, HELP, NOOP, QUIT, and unknown commands.

VRFY and EXPN may be refused for policy (7.3), VRFY by 252, too: here only that they change nothing.
A connection that is lost counts as QUIT: what was not ended by CRLF . CRLF is not delivered.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import (
    EARLY,
    HELP,
    HELP_ABOUT,
    MAIL_TAKEN,
    NOOP,
    NOTHING_TO_SEND,
    NOTHING_TO_VERIFY,
    OBSOLETE,
    QUIT,
    RCPT_WITHOUT_MAIL,
    RSET,
    UNKNOWN_COMMAND,
)
from specs.conformance.arrivals import lost, overtaken
from specs.conformance.asking import data_refused, needs
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session, Stage

here = Section("5321")

STAGES: Final[tuple[Stage, ...]] = ("greeting", "ehlo", "mail", "rcpt")


# -- RSET, NOOP, in every state -------------------------------------------------------------------

for stage in STAGES:
    early = stage == "greeting"
    level: Level = "SHOULD" if early else "MUST"
    for verb, clause, done in (("RSET", "5321-4.1.1.5-a", RSET), ("NOOP", "5321-4.1.1.9-a", NOOP)):
        more = "5321-4.1.4-e" + (" 5321-4.1.1.5-b" if verb == "RSET" else "")
        here.probe(
            f"{clause[5:-2]}-{verb.lower()}-after-{stage}",
            level=level, sent=[verb], upto=stage,
            clauses=f"{clause} {more if early else '5321-4.3.2-f 5321-4.5.1-b'}",
            requirement=f"{verb} is answered 250 at any time", needs=needs(stage),
            allowed=done | EARLY if early else done,
        )  # fmt: skip
for verb, clause, done in (("RSET", "5321-4.1.1.5-a", RSET), ("NOOP", "5321-4.1.1.9-a", NOOP)):
    for slug, line in (("lower", verb.lower()), ("mixed", verb[0] + verb[1:].lower())):
        here.probe(
            f"{clause[5:-2]}-{verb.lower()}-{slug}", level="MUST", clauses=f"5321-2.4-b {clause}",
            requirement=f"{verb} is known in any case", sent=[line], allowed=done,
        )  # fmt: skip


@here.case(
    "4.1.1.5-drops", level="MUST", clauses="5321-4.1.1.5-a 5321-4.3.2-f", needs="rcpt",
    requirement="RSET drops the sender and the recipients", sent="MAIL | RCPT | RSET | DATA",
    allowed=NOTHING_TO_SEND,
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("rcpt")
    await talk.must("RSET")
    return await data_refused(talk)


here.probe(
    "4.1.1.5-drops-sender", level="MUST", clauses="5321-4.1.1.5-a 5321-3.3-a", upto="mail",
    requirement="After RSET, RCPT is out of order", sent=["RSET", "RCPT TO:<{rcpt}>"],
    allowed=RCPT_WITHOUT_MAIL, needs="rcpt",
)  # fmt: skip
here.probe(
    "4.1.1.5-keeps-hello", level="MUST NOT", clauses="5321-4.1.1.5-c",
    requirement="RSET does not undo EHLO", sent=["RSET", "MAIL FROM:<{sender}>"],
    allowed=MAIL_TAKEN,
)  # fmt: skip
here.probe(
    "4.1.1.5-keeps-open", level="MUST NOT", clauses="5321-4.1.1.5-c", upto="mail",
    requirement="RSET does not close the connection, also not when repeated",
    sent=["RSET", "RSET", "RSET", "NOOP"], allowed=NOOP,
)  # fmt: skip


@here.case(
    "4.1.1.5-new-sender", level="MUST", clauses="5321-4.1.1.5-a", role="delivery",
    requirement="What was said before RSET is not found in the message after it",
    sent="MAIL | RCPT second | RSET | MAIL | RCPT first | DATA | a message",
    needs="rcpt rcpt2 maildir maildir2", allowed={"first only": PASS},
    security="a message reaches recipients of another one",
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("mail")
    await talk.must(talk.fill("RCPT TO:<{rcpt2}>"))
    await talk.must("RSET")
    end = await talk.transact()
    if not end.positive:
        return end
    first = await talk.arrived()
    await overtaken(talk, box=1)
    if await talk.look(talk.given.maildirs[1], patience_s=0.0):
        return "dropped recipient, too"
    return "first only" if first else await lost(talk)


# -- what changes nothing -------------------------------------------------------------------------

HARMLESS: Final = (
    ("4.1.1.6-vrfy", "VRFY postmaster", "5321-4.1.1.6-a"),
    ("4.1.1.6-vrfy-nothing", "VRFY", "5321-4.1.1.6-a"),
    ("4.1.1.7-expn", "EXPN staff", "5321-4.1.1.7-a"),
    ("4.1.1.8-help", "HELP", "5321-4.1.1.8-c"),
    ("4.1.1.8-help-mail", "HELP MAIL", "5321-4.1.1.8-c"),
    ("4.1.1.9-noop", "NOOP", "5321-4.1.1.9-a"),
    ("4.1.1.9-noop-argument", "NOOP RSET", "5321-4.1.1.9-a 5321-4.1.1.9-b"),
    ("4.1.1.10-unknown", "XYZZY", "5321-4.1.1.10-a 5321-4.1.5-a"),
)


def _harmless(slug: str, line: str, clauses: str) -> None:
    @here.case(
        f"{slug}-changes-nothing", level="IMPLIED", clauses=clauses, needs="rcpt",
        requirement=f"{line[:4]} in a transaction changes nothing in it",
        sent=f"MAIL | {line} | RCPT | {line} | DATA", allowed={"354": PASS, "4yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("mail")
        await talk.say(line)
        reply = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
        if not reply.positive:
            return reply
        await talk.say(line)
        return await talk.say("DATA")


for slug, line, clauses in HARMLESS:
    _harmless(slug, line, clauses)

# -- VRFY, EXPN, HELP, NOOP -----------------------------------------------------------------------

for slug, line in (("", "VRFY"), ("-space", "VRFY ")):
    here.probe(
        f"4.1.1.6-vrfy-no-argument{slug}", level="IMPLIED", clauses="5321-4.1.1.6-b 5321-3.5.1-a",
        sent=[line],
        requirement="VRFY without an argument is a syntax error", allowed=NOTHING_TO_VERIFY,
    )  # fmt: skip
here.probe(
    "4.1.1.7-expn-no-argument", level="IMPLIED", clauses="5321-4.1.1.7-a", sent=["EXPN"],
    requirement="EXPN without an argument is a syntax error", allowed=NOTHING_TO_VERIFY,
)  # fmt: skip
here.probe(
    "4.1.1.8-help", level="SHOULD", clauses="5321-4.1.1.8-a 5321-4.3.2-f", sent=["HELP"],
    requirement="HELP is supported", allowed=HELP,
)  # fmt: skip
for slug, line in (("verb", "HELP MAIL"), ("nonsense", "HELP XYZZY")):
    here.probe(
        f"4.1.1.8-help-{slug}", level="MAY", clauses="5321-4.1.1.8-b 5321-4.3.2-f", sent=[line],
        requirement="HELP may take an argument", allowed=HELP_ABOUT,
    )  # fmt: skip
for slug, line in (
    ("word", "NOOP anything"), ("verb", "NOOP QUIT"), ("quoted", 'NOOP "any thing"'),
    ("long", f"NOOP {'x' * 400}"),
):  # fmt: skip
    here.probe(
        f"4.1.1.9-noop-argument-{slug}", level="SHOULD", clauses="5321-4.1.1.9-b", sent=[line],
        requirement="An argument of NOOP is ignored", allowed={"250": PASS, "5yz": NON_STRICT},
    )  # fmt: skip
here.probe(
    "4.1.1.9-noop-arguments", level="IMPLIED", clauses="5321-4.1.1.9-b", sent=["NOOP a b c"],
    requirement="NOOP takes one word; more may be ignored as well",
    allowed={"250": PASS, "50z": PASS, "5yz": NON_STRICT},
)  # fmt: skip


def _same_in_lower(verb: str, argument: str) -> None:
    number = {"VRFY": 6, "EXPN": 7, "HELP": 8}[verb]

    @here.case(
        f"4.1.1.{number}-{verb.lower()}-lower", level="MUST", clauses="5321-2.4-b",
        requirement=f"{verb} is known, or not, in any case alike",
        sent=f"{verb}{argument} | {verb.lower()}{argument}", allowed={"the same": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        upper, lower = await talk.say(verb + argument), await talk.say(verb.lower() + argument)
        same = upper.label == lower.label or "421" in (upper.code, lower.code)
        return ("the same" if same else "another"), f"{upper} | {lower}"


for verb, argument in (("VRFY", " postmaster"), ("EXPN", " staff"), ("HELP", "")):
    _same_in_lower(verb, argument)

# -- unknown commands -----------------------------------------------------------------------------

for slug, line in (
    ("private", "XFOO"), ("private-argument", "XFOO bar baz"),
    ("letters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), ("send", "SOML"),
):  # fmt: skip
    here.probe(
        f"4.1.5-{slug}", level="IMPLIED", clauses="5321-4.1.5-a 5321-4.1.1.10-a", sent=[line],
        requirement="An unknown command is answered 500",
        allowed=OBSOLETE if slug == "send" else UNKNOWN_COMMAND,
    )  # fmt: skip
for stage in STAGES:

    def _goes_on(stage: Stage) -> None:
        @here.case(
            f"4.1.1.10-unknown-after-{stage}", level="MUST NOT", needs=needs(stage),
            clauses="5321-4.1.1.10-a 5321-3.8-a", sent=f"({stage}) | XYZZY | NOOP",
            requirement="An unknown command does not end the connection",
            allowed=NOOP | {"421": NON_STRICT} | (EARLY if stage == "greeting" else {}),
        )  # fmt: skip
        async def _(talk: Session) -> Observed:
            await talk.upto(stage)
            reply = await talk.say("XYZZY")
            return reply if reply.code == "421" else await talk.say("NOOP")

    _goes_on(stage)

# -- QUIT -----------------------------------------------------------------------------------------

for stage in STAGES:
    here.probe(
        f"4.1.1.10-quit-after-{stage}", level="MUST", clauses="5321-4.1.1.10-g 5321-4.1.1.10-e "
        + ("5321-4.1.4-e" if stage == "greeting" else "5321-4.3.2-f 5321-4.5.1-b"),
        requirement="QUIT is answered 221 at any time", sent=["QUIT"], allowed=QUIT,
        upto=stage, needs=needs(stage),
    )  # fmt: skip
for slug, line in (("lower", "quit"), ("mixed", "QuiT")):
    here.probe(
        f"4.1.1.10-quit-{slug}", level="MUST", clauses="5321-2.4-b 5321-4.1.1.10-g", sent=[line],
        requirement="QUIT is known in any case", allowed=QUIT,
    )  # fmt: skip


def _closes(slug: str, octets: bytes, sent: str, keywords: str = "") -> None:
    @here.case(
        f"4.1.1.10-{slug}", level="MUST", clauses="5321-4.1.1.10-d 5321-3.8-a", sent=sent,
        keywords=keywords,
        requirement="After the 221 to QUIT the server closes the connection, and says no more",
        allowed={"closed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("ehlo")
        await talk.send(octets)
        reply = await talk.reply()
        if reply.code != "221":
            return f"no 221 but {reply.label}", str(reply)
        after = await talk.reply()
        return "went on" if after.kind == "reply" else after.label, str(after)


_closes("quit-closes", b"QUIT\r\n", "QUIT, and nothing more")
_closes("quit-then-more", b"QUIT\r\nNOOP\r\nNOOP\r\n", "QUIT and NOOP NOOP at once", "PIPELINING")

# -- connections that end -------------------------------------------------------------------------

#: What is sent behind 354 before the connection is lost.
CUT_OFF: Final = (
    ("half", b"half of a line"), ("line", b"a line\r\n"), ("dot", b"a line\r\n."),
    ("dot-cr", b"a line\r\n.\r"), ("nothing", b""),
)  # fmt: skip


def _cut_off(slug: str, octets: bytes, how: str) -> None:
    @here.case(
        f"4.1.1.10-lost-{slug}-{how}", level="MUST", clauses="5321-4.1.1.10-c 5321-4.1.1.5-d",
        requirement="What was not ended by CRLF . CRLF when the connection was lost is dropped",
        sent=f"a message that ends in {repr(octets)[2:-1] or 'its header'}, {how}",
        role="delivery", needs="rcpt maildir", allowed={"not delivered": PASS},
        security="half a message is delivered, and the whole one again",
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("data")
        await talk.send(talk.message(octets))
        if how == "half-close":
            await talk.half_close()
            reply = await talk.unasked()
            if reply.positive:
                return "answered as if ended", str(reply)
        else:
            await talk.close()
        await overtaken(talk)
        found = await talk.look(talk.given.maildirs[0], token=f"<{talk.token}@", patience_s=0.0)
        return "delivered" if found else "not delivered"


for slug, rest in CUT_OFF:
    for how in ("close", "half-close"):
        _cut_off(slug, rest, how)


@here.case(
    "4.1.1.5-lost-healthy", level="SHOULD", clauses="5321-4.1.1.5-d", needs="rcpt",
    requirement="Connections that end without QUIT, in any state, do the server no harm",
    sent="ten connections, closed in five states, then a message",
    allowed={"250": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    stages: tuple[Stage, ...] = ("greeting", "ehlo", "mail", "rcpt", "data")
    for stage in stages * 2:
        beside = talk.another()
        await beside.upto(stage)
        await beside.close()
    return await talk.transact()


@here.case(
    "4.1.1.10-quit-in-transaction", level="IMPLIED", clauses="5321-4.1.1.10-e", needs="rcpt",
    requirement="QUIT gives up the transaction, and the next connection begins without one",
    sent="MAIL | RCPT | QUIT, then elsewhere DATA", allowed=NOTHING_TO_SEND,
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("rcpt")
    await talk.must("QUIT")
    beside = talk.another()
    await beside.upto("ehlo")
    return await data_refused(beside)
