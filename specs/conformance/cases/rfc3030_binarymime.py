"""RFC 3030 3: BINARYMIME, content in which line ends mean nothing."""

from __future__ import annotations

import email
import email.policy
from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.chunking import (
    send_chunks,
)
from specs.conformance.model import INFO, PASS, Observed, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("3030")


# -- 3: BINARYMIME --------------------------------------------------------------------------------

BINARY: Final = (
    "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
    "Content-Transfer-Encoding: binary\r\n"
)
for slug, parameter_ in (("taken", "BODY=BINARYMIME"), ("lower-case", "body=binarymime")):
    here.probe(
        f"3-{slug}",
        level="IMPLIED",
        clauses="3030-3-a",
        requirement="BODY=BINARYMIME is taken where it is listed",
        sent=[f"MAIL FROM:<{{sender}}> {parameter_}"],
        allowed={"250": PASS, "4yz": INFO},
        keywords="BINARYMIME CHUNKING",
    )
here.probe(
    "3-data",
    level="MUST",
    clauses="3030-3-b",
    requirement="DATA in a transaction with BODY=BINARYMIME is answered 503",
    sent=["MAIL FROM:<{sender}> BODY=BINARYMIME", "RCPT TO:<{rcpt}>", "DATA"],
    allowed={"503": PASS},
    keywords="BINARYMIME CHUNKING",
    needs="rcpt",
)

PAYLOADS: Final = (
    ("every-octet", bytes(each for each in range(256) if each not in (10, 13)) * 4),
    ("nul", b"a\x00b\x00\x00c"),
    ("long-line", b"\x80x" * 5000),
    ("line-ends", b"a\nb\rc\r\nd\n\re\r\r\nf\n\n\r\rg"),
    ("dots", b"\r\n.\r\n..\r\n\n.\n\r.\rx"),
    ("open-end", b"a line\r\nno end of line\r"),
)
for slug, payload in PAYLOADS:

    async def binary(talk: Session, payload: bytes = payload) -> Seen:
        marked = b"<<" + payload + b">>"
        octets = talk.message(marked, headers=BINARY)
        reply = await send_chunks(talk, octets, 300, "BODY=BINARYMIME")
        if reply.code != "250":
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        found = await delivered(talk, reply)
        if marked in found[0]:
            return "kept", str(reply)
        whole = email.message_from_bytes(found[0], policy=email.policy.compat32)
        decoded = whole.get_payload(decode=True)
        well = isinstance(decoded, bytes) and marked in decoded
        return ("encoded" if well else "changed"), repr(found[0][-80:])

    here.case(
        f"3-kept-{slug}",
        level="MUST",
        clauses="3030-3-c",
        requirement=f"Of binary content that was accepted, every bit arrives ({slug})",
        sent=f"MAIL with BODY=BINARYMIME | BDAT in chunks of 300 octets ({slug})",
        allowed={"kept": PASS, "encoded": PASS, "refused": INFO},
        keywords="BINARYMIME CHUNKING",
        needs="rcpt maildir",
        role="delivery",
    )(binary)

for slug, by_bdat in (("by-data", False), ("by-bdat", True)):

    async def labelled(talk: Session, by_bdat: bool = by_bdat) -> Observed:
        octets = talk.message(b"Only ASCII here.\r\n", headers=BINARY)
        if by_bdat:
            return await send_chunks(talk, octets, 1 << 20)
        return await talk.transact(octets)

    here.case(
        f"3-binary-label-{slug}",
        level="MUST",
        clauses="3030-3-e",
        requirement="A message that says its transfer encoding is binary is accepted without "
        "BODY=BINARYMIME",
        sent="a message with Content-Transfer-Encoding: binary, " + slug.replace("-", " "),
        allowed={"250": PASS, "4yz": INFO},
        keywords="BINARYMIME CHUNKING",
        needs="rcpt",
    )(labelled)
