"""RFC 5322 3.6.7: blocks of trace and Resent fields stay as they are."""

from __future__ import annotations

from specs.conformance.model import NON_STRICT, PASS, Observed
from specs.conformance.relayed.rfc5321_content import compared
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import way_for

here = Section("5322", role="relay")

BLOCK = (
    "Received: from b.example by c.example; Mon, 02 Nov 2026 09:00:00 +0000\r\n"
    "Resent-Date: Mon, 02 Nov 2026 09:00:00 +0000\r\nResent-From: <second@b.example>\r\n"
    "Resent-To: <rcpt@c.example>\r\nResent-Message-ID: <2@b.example>\r\n"
    "Received: from a.example by b.example; Mon, 02 Nov 2026 08:00:00 +0000\r\n"
    "Resent-Date: Mon, 02 Nov 2026 08:00:00 +0000\r\nResent-From: <first@a.example>\r\n"
    "Resent-To: <rcpt@b.example>\r\nResent-Message-ID: <1@a.example>\r\n"
)


@here.case(
    "3.6.7-order", level="MUST NOT", clauses="5322-3.6.7-b", needs="hops",
    requirement="Fields are not moved around blocks of trace and Resent fields",
    sent="a message that was resent twice", allowed={"kept": PASS, "more on top": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        sent = BLOCK.encode() + way.message()
        await way.send(sent)
        return compared(sent, (await way.one(hop)).content)
