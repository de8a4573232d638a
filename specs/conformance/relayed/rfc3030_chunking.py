"""RFC 3030: BDAT, where a client uses it.  DATA is always right."""

from __future__ import annotations

import email
import re

from specs.conformance.headers import above
from specs.conformance.hop import Hop
from specs.conformance.hop_script import FEATURES
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session
from specs.conformance.way import RETRY, SOON, Way, way_for

here = Section("3030", role="client")

OFFERED = (*FEATURES, "CHUNKING")


async def _by_bdat(way: Way, hop: Hop) -> None:
    """Raises NotApplicable if a message for a hop that offers CHUNKING comes by DATA."""
    await way.visited(hop)
    await way.fate(hop, settle=SOON)
    if not any("BDAT" in each.verbs for each in hop.visits):
        raise NotApplicable("a client that uses BDAT")


@here.case(
    "2-used", level="MUST", clauses="3030-2-o", needs="hops",
    requirement="A message arrives whole, by BDAT or by DATA, if CHUNKING is offered",
    sent="a message with dots for a next hop that offers CHUNKING",
    allowed={"whole, by BDAT": PASS, "whole, by DATA": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        sent = way.message(".x\r\n.\r\n..\r\nend\r\n")
        await way.send(sent)
        mail = await way.one(hop)
        return f"whole, by {mail.by}" if above(mail.content, sent) is not None else "changed"


@here.case(
    "2-not-offered", level="MUST", clauses="3030-2-o", needs="hops",
    requirement="BDAT is not used if CHUNKING is not offered",
    sent="a message for a next hop without CHUNKING", allowed={"DATA": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send()
        await way.fate(hop)
        return "BDAT" if any("BDAT" in each.verbs for each in hop.visits) else "DATA"


@here.case(
    "2-line-ends", level="MUST", clauses="3030-2-q", needs="hops",
    requirement="Text sent by BDAT has CRLF at the ends of its lines, and no dots are doubled",
    sent="a message with dots for a next hop that offers CHUNKING", allowed={"CRLF": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        await way.send(way.message(".x\r\n.\r\nend\r\n"))
        await _by_bdat(way, hop)
        content = (await way.one(hop)).content
        if re.search(rb"(?<!\r)\n|\r(?!\n)", content):
            return "bare"
        return "CRLF" if content.endswith(b"\r\n\r\n.x\r\n.\r\nend\r\n") else "changed"


@here.case(
    "2-after-failure", level="MUST", clauses="3030-2-r", needs="hops",
    requirement="After a BDAT that failed a client says RSET, or leaves, before it goes on",
    sent="two messages for a next hop that answers the first BDAT 452",
    allowed={"RSET": PASS, "left": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED, bdat=("452 no room", "250 ok"))
        await way.send()
        await _by_bdat(way, hop)
        await way.send()
        await way.until(lambda: bool(hop.taken), RETRY)
        visit = next(each for each in hop.visits if "BDAT" in each.verbs)
        verbs = visit.verbs
        after = [each for each in verbs[verbs.index("BDAT") :] if each != "BDAT"]
        if not after or after[0] in ("QUIT", "EHLO"):
            return "left"
        return (after[0] if after[0] == "RSET" else "another"), ", ".join(after)


@here.case(
    "3-binary-not-offered", level="MUST", clauses="3030-3-d 3030-3-f", needs="hops", role="relay",
    keywords="BINARYMIME CHUNKING",
    requirement="Binary content is not sent to a host that does not offer BINARYMIME: it is"
    " converted, or returned",
    sent="a message with BODY=BINARYMIME, by BDAT; the next hop does not offer BINARYMIME",
    allowed={"converted": PASS, "returned": PASS, "put off": NON_STRICT,
             "kept waiting": NON_STRICT, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        headers = (
            "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
            "Content-Transfer-Encoding: binary\r\n"
        )
        binary = bytes(range(256)) + b"\n\r\n.\r\n\r"
        content = way.message(binary, headers=headers)
        await talk.upto("ehlo")
        for line in (f"MAIL FROM:<{way.sender}> BODY=BINARYMIME", f"RCPT TO:<{way.rcpt}>"):
            reply = await talk.say(line)
            if not reply.positive:
                raise Refused(line, reply)
        await talk.send(f"BDAT {len(content)} LAST\r\n".encode() + content)
        reply = await talk.reply()
        if reply.code[:1] != "2":
            return "refused", str(reply)
        label = await way.fate(hop)
        if label != "delivered":
            return label
        mail = way.taken(hop)[0]
        raw = mail.content.partition(b"\r\n\r\n")[2]
        if raw == binary or b"\0" in raw or b"content-transfer-encoding: binary" in (
            mail.content.partition(b"\r\n\r\n")[0].lower()
        ):  # fmt: skip
            return "sent as it was"
        payload = email.message_from_bytes(mail.content).get_payload(decode=True)
        return "converted" if payload == binary else "mangled"
