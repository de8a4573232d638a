"""RFC 6152: eight-bit mail for next hops that take it, and for others."""

from __future__ import annotations

import email
import email.policy
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import way_for

here = Section("6152", role="relay")

TEXT: Final = "Grüße, ça va, привет ☺\r\n"
#: What may become of an eight-bit message for a host that takes none.
CONVERTED: Final = {
    "converted": PASS, "returned": PASS, "put off": NON_STRICT, "kept waiting": NON_STRICT,
}  # fmt: skip
HEADERS: Final = (
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
)


@here.case(
    "3-declared", level="IMPLIED", clauses="6152-3-f", needs="hops", keywords="8BITMIME",
    role="client", requirement="Eight-bit content is declared with BODY=8BITMIME",
    sent="an eight-bit message; the next hop offers 8BITMIME",
    allowed={"declared": PASS, "not declared": NON_STRICT, "converted": INFO, "returned": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(way.message(TEXT, headers=HEADERS), mail="BODY=8BITMIME")
        await way.fate(hop)
        if way.reports:
            return "returned"
        mail = await way.one(hop)
        if mail.content.isascii():
            return "converted"
        said = mail.sender.keywords.get("BODY", "").upper()
        return ("declared" if said == "8BITMIME" else "not declared"), said


@here.case(
    "3-not-offered", level="MUST NOT", clauses="6152-3-d 6152-3-e", needs="hops",
    keywords="8BITMIME",
    requirement="Eight-bit content is not sent to a host that does not offer 8BITMIME: it is"
    " converted, or returned",
    sent="an eight-bit message; the next hop does not offer 8BITMIME",
    allowed=CONVERTED,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=("PIPELINING", "SIZE 1000000"))
        await way.send(way.message(TEXT, headers=HEADERS), mail="BODY=8BITMIME")
        label = await way.fate(hop)
        if label != "delivered":
            return label
        content = way.taken(hop)[0].content
        if not content.isascii():
            return "sent as it was"
        message = email.message_from_bytes(content, policy=email.policy.default)
        text = message.get_content().replace("\r\n", "\n").rstrip("\n")
        return "converted" if text == TEXT.rstrip("\r\n") else ("mangled", text[:80])


@here.case(
    "3-multipart", level="MUST NOT", clauses="6152-3-d 6152-3-e", needs="hops",
    keywords="8BITMIME",
    requirement="Eight-bit parts of a message are converted, or the message returned, and what was"
    " encoded before is not encoded again",
    sent="a message of an eight-bit and a base64 part; the next hop does not offer 8BITMIME",
    allowed=CONVERTED,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=())
        headers = 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
        inner = HEADERS.replace("MIME-Version: 1.0\r\n", "")
        body = (
            f"--b\r\n{inner}\r\n{TEXT}--b\r\nContent-Type: text/plain; charset=us-ascii\r\n"
            "Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n"
        )
        await way.send(way.message(body, headers=headers), mail="BODY=8BITMIME")
        label = await way.fate(hop)
        if label != "delivered":
            return label
        content = way.taken(hop)[0].content
        if not content.isascii():
            return "sent as it was"
        message = email.message_from_bytes(content, policy=email.policy.default)
        parts = [each.get_content().strip() for each in message.walk() if not each.is_multipart()]
        return "converted" if parts == [TEXT.strip(), "hello"] else ("mangled", str(parts)[:80])


@here.case(
    "3-seven-bits", level="MUST", clauses="6152-3-d", needs="hops", keywords="8BITMIME",
    requirement="A message that was declared eight-bit, and is not, may go to any host",
    sent="a message in ASCII with BODY=8BITMIME; the next hop does not offer 8BITMIME",
    allowed={"delivered": PASS, "returned": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=())
        await way.send(mail="BODY=8BITMIME")
        label = await way.arrives(hop)
        if label == "delivered" and way.taken(hop)[0].sender.parameters:
            return "parameter sent", " ".join(way.taken(hop)[0].sender.parameters)
        return label
