"""RFC 5321 sections 3.1 to 3.4, 3.8 and 3.9: sessions, transactions, forwarding, closing.

Tricky
- A server may accept unknown recipients and bounce (3.3); what needs a refusal is then not
  applicable.
- The other parts of section 3 are in rfc5321_3_content.py (what messages are not refused for),
  rfc5321_3_relaying.py (3.6) and rfc5321_3_verifying.py (3.5).
"""

from __future__ import annotations

import re
from typing import Final

import trio

from specs.conformance.allowed import RCPT_WITHOUT_MAIL, UNKNOWN_RECIPIENT
from specs.conformance.arrivals import lost
from specs.conformance.keywords import REGISTERED
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("5321")

#: Names that a greeting may tell (3.1), in small letters.
PRODUCTS: Final = re.compile(
    r"postfix|exim|sendmail|opensmtpd|qmail|exchange|james|haraka|aiosmtpd|courier|halon|"
    r"stalwart|maddy|mox|zimbra|[0-9]+\.[0-9]+\.[0-9]+",
    re.IGNORECASE,
)

# -- 3.1, 3.2: beginning ------------------------------------------------------------------------


@here.case(
    "3.1-greeting", level="MUST", clauses="5321-3.1-a 5321-4.3.2-f",
    requirement="The server speaks first, with 220",
    sent="nothing",
    allowed={"220": PASS, "2yz": NON_STRICT, "521": INFO, "554": INFO, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.connect()
    return await talk.reply()


@here.case(
    "3.1-greeting-once", level="MUST", clauses="5321-3.1-a",
    requirement="There is one greeting, and nothing comes behind it until the client speaks",
    sent="nothing; then EHLO", allowed={"silent": PASS, "421": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("greeting")
    more = await talk.unasked()
    if more.kind != "silent":
        return more
    reply = await talk.say(f"EHLO {talk.given.hostname}")
    return ("silent" if reply.code == "250" else reply.label), str(reply)


@here.case(
    "3.1-greeting-names-software", level="MAY", clauses="5321-3.1-c",
    requirement="The greeting may name the software and its version",
    sent="nothing", allowed={"named": INFO, "not named": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    reply = await talk.upto("greeting")
    return ("named" if PRODUCTS.search(reply.text) else "not named"), reply.text


def _helo_reply(slug: str, before: tuple[str, ...]) -> None:
    @here.case(
        f"3.2-helo-{slug}", level="MUST NOT", clauses="5321-3.2-b",
        requirement="The reply to HELO does not list extensions",
        sent=" | ".join([*before, "HELO"]), allowed={"one line": PASS, "more lines": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("greeting")
        for line in before:
            await talk.must(talk.fill(line))
        reply = await talk.say(f"HELO {talk.given.hostname}")
        if not reply.positive and before:
            raise NotApplicable("HELO in a session that has begun")
        if not reply.positive:
            raise Refused("HELO", reply)
        words = [each.partition(" ")[0].upper() for each in reply.lines[1:]]
        if any(each in REGISTERED for each in words):
            return "extensions", reply.text
        return ("more lines" if words else "one line"), reply.text


_helo_reply("alone", ())
_helo_reply("after-ehlo", ("EHLO {hostname}",))

# -- 3.3: order ---------------------------------------------------------------------------------

RCPT: Final = "RCPT TO:<postmaster>"
#: How a session may come to have no transaction; others are in rfc5321_4_1_4.
for _slug, _before in (
    ("after-helo", ("HELO {hostname}",)), ("after-noop", ("EHLO {hostname}", "NOOP")),
):  # fmt: skip
    here.probe(
        f"3.3-rcpt-{_slug}", level="MUST", clauses="5321-3.3-a", upto="greeting",
        requirement="RCPT without a MAIL before it is answered 503", sent=[*_before, RCPT],
        allowed=RCPT_WITHOUT_MAIL,
    )  # fmt: skip


@here.case(
    "3.3-rcpt-after-refused-mail", level="MUST", clauses="5321-3.3-a",
    requirement="RCPT after a MAIL that was refused is answered 503",
    sent="MAIL without an argument | RCPT", allowed=RCPT_WITHOUT_MAIL,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await _refused(talk, "MAIL")
    return await talk.say(RCPT)


# -- 3.3: recipients ----------------------------------------------------------------------------


def _beside(slug: str, bad: str, name: str, need: str) -> None:
    @here.case(
        f"3.3-good-recipient-after-{slug}", level="IMPLIED", clauses="5321-3.3-h",
        needs=f"rcpt {need}",
        requirement="A recipient that is refused does not spoil the transaction for another",
        sent=f"MAIL | RCPT {name} | RCPT | DATA | message", allowed={"2yz": PASS, "4yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.another().upto("rcpt")
        await talk.upto("mail")
        await _unknown(talk, talk.fill(bad))
        reply = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
        if reply.positive:
            reply = await talk.say("DATA")
        return await talk.content(talk.message()) if reply.code == "354" else reply

    @here.case(
        f"3.3-good-recipient-before-{slug}", level="IMPLIED", clauses="5321-3.3-h",
        needs=f"rcpt {need} maildir", role="delivery",
        requirement="A recipient that was accepted gets the message when one after it is refused",
        sent=f"MAIL | RCPT | RCPT {name} | DATA | message",
        allowed={"delivered": PASS, "4yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("rcpt")
        await _unknown(talk, talk.fill(bad))
        reply = await talk.say("DATA")
        if reply.code == "354":
            reply = await talk.content(talk.message())
        if not reply.positive:
            return reply
        return "delivered" if await talk.arrived() else await lost(talk)


_beside("unknown", "RCPT TO:<{unknown}>", "of an unknown user", "unknown")
_beside("relay", "RCPT TO:<{relay}>", "elsewhere", "relay")
_beside("nonsense", "RCPT TO:", "without a path", "")

here.probe(
    "3.3-unknown-user", level="SHOULD", clauses="5321-3.3-i 5321-4.3.2-f", needs="unknown",
    requirement="A recipient known not to exist is refused with 550", sent=["RCPT TO:<{unknown}>"],
    upto="mail", allowed=UNKNOWN_RECIPIENT,
)  # fmt: skip

# -- 3.4: forwarding ----------------------------------------------------------------------------


@here.case(
    "3.4-forwarding-replies", level="MAY", clauses="5321-3.4-a", needs="rcpt unknown relay",
    requirement="A reply 251 or 551 to RCPT tells the new address in angle brackets",
    sent="RCPT of a known, an unknown and a foreign mailbox",
    allowed={"told": PASS, "not told": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("mail")
    boxes = (talk.given.rcpt, talk.given.unknown, talk.given.relay)
    replies = [await talk.say(f"RCPT TO:<{each}>") for each in boxes]
    moved = [each for each in replies if each.code in ("251", "551")]
    if not moved:
        raise NotApplicable("251 and 551")
    well = all(re.search(r"<[^<>@\s]+@[^<>\s]+>", each.text) for each in moved)
    return ("told" if well else "not told"), str(moved[0])


# -- 3.8: closing -------------------------------------------------------------------------------

#: After which the connection stays; one unknown verb, in each state: rfc5321_4_1_1_5.
STAYS = (
    ("unknown-verbs", ("XYZZY", "FOO BAR", "QUUX")),
    ("empty-line", ("",)),
    ("wrong-arguments", ("MAIL FROM:", "RCPT TO:", "EHLO")),
    ("wrong-order", ("RCPT TO:<postmaster>", "DATA", "MAIL")),
    ("verify", ("VRFY xyzzy", "EXPN xyzzy", "HELP xyzzy")),
)  # fmt: skip


def _stays(slug: str, lines: tuple[str, ...]) -> None:
    @here.case(
        f"3.8-stays-after-{slug}", level="MUST NOT", clauses="5321-3.8-a",
        requirement="The connection is not closed for commands that are not understood or not in "
        "order",
        sent=" | ".join([*(each or "(an empty line)" for each in lines), "NOOP"]),
        allowed={"250": PASS, "421": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        for line in lines:
            reply = await talk.say(line)
            if reply.kind != "reply" or reply.code == "421":
                return reply
            if reply.code == "354":
                await talk.content(b"")
        return await talk.say("NOOP")


for _slug, _lines in STAYS:
    _stays(_slug, _lines)


@here.case(
    "3.8-stays-after-refused-recipient", level="MUST NOT", clauses="5321-3.8-a", needs="unknown",
    requirement="The connection is not closed because a recipient is refused",
    sent="MAIL | RCPT of an unknown user | NOOP", allowed={"250": PASS, "421": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("mail")
    reply = await talk.say(talk.fill("RCPT TO:<{unknown}>"))
    return reply if reply.kind != "reply" or reply.code == "421" else await talk.say("NOOP")


@here.case(
    "3.8-stays-after-message", level="MUST NOT", clauses="5321-3.8-a", needs="rcpt",
    requirement="The connection is not closed after a message; the next one can follow",
    sent="a whole transaction | another one", allowed={"2yz": PASS, "421": NON_STRICT, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await _accepted(talk)
    for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA"):
        reply = await talk.say(talk.fill(line))
        if not reply.positive:
            return reply
    return await talk.content(talk.message())


@here.case(
    "3.8-idle", level="SHOULD", clauses="5321-3.8-b", slow=True,
    requirement="A client that says nothing is told 421 before the connection is closed for it",
    sent="EHLO, then nothing",
    allowed={"421, then closed": PASS, "closed": INFO, "not closed": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    began_s = trio.current_time()
    reply = await talk.reply(840)
    waited = f"{reply} after {trio.current_time() - began_s:.0f} s"
    if reply.code == "421":
        end = await talk.reply()
        return "421, then closed" if end.kind == "closed" else "421, not closed", waited
    return {"closed": "closed", "silent": "not closed"}.get(reply.kind, reply.label), waited


# -- 3.9: aliases -------------------------------------------------------------------------------


@here.case(
    "3.9.1-alias", level="IMPLIED", clauses="5321-3.9.1-a", role="delivery", needs="rcpt maildir",
    requirement="What an alias receives keeps its reverse-path and its content",
    sent="mail to Postmaster, if that is an alias of the mailbox that is looked at",
    allowed={"kept": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("mail")
    if not (await talk.say("RCPT TO:<Postmaster>")).positive:
        raise NotApplicable("an alias to the mailbox that is looked at")
    await talk.must("DATA")
    reply = await talk.content(talk.message("kept as it is\r\n"))
    found = await talk.look(talk.given.maildirs[0], patience_s=min(2.0, talk.given.patience_s))
    if not found:
        raise NotApplicable("an alias to the mailbox that is looked at")
    back = re.search(rb"(?im)^return-path:\s*<([^>]*)>", found[0])
    if back and back[1] != talk.given.sender.encode():
        return "another reverse-path", repr(back[0])
    whole = b"From: <" + talk.given.sender.encode() + b">" in found[0] and b"kept as" in found[0]
    return ("kept" if whole else "another content"), str(reply)


# -- of more than one case ----------------------------------------------------------------------


async def _refused(talk: Session, line: str) -> Reply:
    """A line that must be refused for the question to make sense.  Raises Refused if it is not."""
    reply = await talk.say(line)
    if reply.kind != "reply" or reply.positive:
        raise Refused(f"{line} (it should be refused)", reply)
    return reply


async def _unknown(talk: Session, line: str = "RCPT TO:<{unknown}>") -> Reply:
    """The same, of a recipient, which many servers accept for the time being.  Raises
    NotApplicable, Refused.
    """
    reply = await talk.say(talk.fill(line))
    if reply.positive:
        raise NotApplicable("refusal of this recipient")
    if reply.kind != "reply" or reply.code == "421":
        raise Refused(line, reply)
    return reply


async def _accepted(talk: Session) -> None:
    """An ordinary message, accepted.  Raises Refused."""
    reply = await talk.transact()
    if not reply.positive:
        raise Refused("an ordinary message", reply)
