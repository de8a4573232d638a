"""RFC 6531: internationalized mail for next hops that take it, and for others.

All but the last need a server that offers SMTPUTF8 itself.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.fates import ARRIVES
from specs.conformance.hop_script import FEATURES
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import SOON, way_for

here = Section("6531", role="client")

OFFERED: Final = (*FEATURES, "SMTPUTF8")
LOCAL: Final = "Jürgen"
UTF8: Final = "SMTPUTF8 BODY=8BITMIME"


@here.case(
    "3.2-offered", level="MUST", clauses="6531-3.2-b", needs="hops", keywords="SMTPUTF8",
    requirement="A message for an address in UTF-8 is sent with SMTPUTF8, its address unchanged, to"
    " a host that offers it",
    sent=f"a message for {LOCAL}@...; the next hop offers SMTPUTF8",
    allowed={"unchanged": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        reply = await way.offer(rcpts=[f"{LOCAL}@{way.domain}"], mail=UTF8)
        if reply.code[:1] != "2":
            return "refused", str(reply)
        mail = await way.one(hop)
        if "SMTPUTF8" not in mail.sender.keywords:
            return "without SMTPUTF8", " ".join(mail.sender.parameters)
        came = mail.paths[0].rpartition("@")[0]
        return ("unchanged" if came == LOCAL else "changed"), came


for slug, what in (("rcpt", "recipient"), ("sender", "sender"), ("header", "header field")):

    @here.case(
        f"3.5-not-offered-{slug}", level="MUST", clauses="6531-3.5-b 6531-3.2-b", needs="hops",
        keywords="SMTPUTF8", role="relay",
        requirement="A message that needs SMTPUTF8 is not sent to a host that does not offer it,"
        " nor changed for it: it is returned",
        sent=f"a message with a {what} in UTF-8; the next hop does not offer SMTPUTF8",
        allowed={"returned": PASS, "refused": PASS, "not sent": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, slug: str = slug) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx()
            octets = way.message(headers=f"X-Name: {LOCAL}\r\n" if slug == "header" else "")
            reply = await way.offer(
                octets, mail=UTF8,
                rcpts=[f"{LOCAL}@{way.domain}" if slug == "rcpt" else way.rcpt],
                sender=f"{LOCAL}@back.{way.domain}" if slug == "sender" else None,
            )  # fmt: skip
            if reply.code[:1] != "2":
                return "refused", str(reply)
            if slug == "sender":  # whose report can't come to a host that does not offer it, either
                await way.visited(hop)
                await way.until(lambda: bool(hop.mails), SOON)
                return "sent" if hop.mails else "returned"
            label = await way.fate(hop, settle=0.75)
            if label == "delivered":
                mail = hop.mails[0]
                return "sent", f"{mail.sender.parameters}, {mail.paths}"
            return "returned" if label == "returned" else "not sent"


@here.case(
    "3.4-ascii", level="SHOULD", clauses="6531-3.4-b", needs="hops", keywords="SMTPUTF8",
    requirement="Whether a message in ASCII that came with SMTPUTF8 goes on to a host that does not"
    " offer it is recorded",
    sent="a message in ASCII with SMTPUTF8; the next hop does not offer it",
    allowed={"sent": PASS, "returned": INFO, "not sent": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(mail="SMTPUTF8")
        label = await way.fate(hop, settle=0.4)
        if label == "delivered":
            said = hop.taken[0].sender.keywords
            return "with SMTPUTF8" if "SMTPUTF8" in said else "sent"
        return "returned" if label == "returned" else "not sent"


@here.case(
    "3.1-parameters", level="MUST", clauses="6531-3.1-c", needs="hops",
    requirement="Parameters behind the keyword SMTPUTF8 are ignored",
    sent="a message for a next hop that offers SMTPUTF8 with parameters", allowed=ARRIVES,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=(*FEATURES, "SMTPUTF8 one two=three"))
        await way.send()
        return await way.arrives(hop)


@here.case(
    "3.7.1-ehlo", level="MUST", clauses="6531-3.7.1-a", needs="hops",
    requirement="The argument of EHLO is in ASCII",
    sent="a message for a next hop that offers SMTPUTF8; EHLO is looked at",
    allowed={"ASCII": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        await way.send()
        await way.one(hop)
        line = hop.visits[0].commands[0].line
        return ("ASCII" if line.isascii() else "not ASCII"), line


@here.case(
    "3.4-not-needed", level="SHOULD", clauses="6531-3.4-b", needs="hops",
    requirement="A message in ASCII is sent without SMTPUTF8",
    sent="a message in ASCII; the next hop offers SMTPUTF8",
    allowed={"without": PASS, "with": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        await way.send()
        mail = await way.one(hop)
        return "with" if "SMTPUTF8" in mail.sender.keywords else "without"
