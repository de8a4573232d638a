"""RFC 6532: headers in UTF-8.  Sections 3.1 and 3.2 (what may stand there), 3.4 (long lines).

Tricky: a field may be folded anew on its way; its characters must be the same then.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("6532", role="delivery")


def unfolded(octets: bytes) -> bytes:
    return re.sub(rb"\s+", b" ", octets)


def kept(field: bytes, arrived: bytes) -> str:
    """ "kept", "folded anew" (the same but for white space), "changed"."""
    message = arrived.replace(b"\r\n", b"\n")
    wanted = field.replace(b"\r\n", b"\n")
    if b"\n" + wanted in b"\n" + message:
        return "kept"
    head = message.partition(b"\n\n")[0]
    return "folded anew" if unfolded(wanted).strip() in unfolded(head) else "changed"


def told(field: bytes, arrived: bytes) -> str:
    """The field as it came, for people."""
    name = field.partition(b":")[0].lower()
    head = re.sub(rb"\n(?=[ \t])", b"", arrived.replace(b"\r\n", b"\n").partition(b"\n\n")[0])
    found = [each for each in head.split(b"\n") if each.lower().startswith(name + b":")]
    return b" | ".join(found).decode("utf-8", "backslashreplace")[:300]


async def look(talk: Session, field: str, mail: str) -> Seen:
    """A message with this field, and how it arrives."""
    octets = field.encode()
    final = await talk.transact(talk.message(headers=field), mail=mail)
    if final.kind == "reply" and not final.positive:
        return "refused", str(final)
    found = await delivered(talk, final)
    return kept(octets, found[0]), told(octets, found[0])


FIELDS: Final = (
    ("unstructured", "Comments: Grüße, 你好, привет, שלום\r\n", "text"),
    ("phrase", "Reply-To: Jürgen Müller <ada@client.conform.example>\r\n", "a name"),
    ("address", "Cc: <müller@client.conform.example>\r\n", "an address"),
    ("u-label", "Resent-To: <ada@bücher.example>\r\n", "a domain"),
    ("own-field", "X-Conform: 用户\r\n", "a field of nobody's standard"),
    ("decomposed", "X-Conform: mu\u0308ller e\u0301 A\u030a\r\n", "decomposed characters (NFD)"),
    ("compatibility", "X-Conform: ﬁ ² Å Ω ﷺ\r\n", "characters that NFC or NFKC would change"),
    ("four-octets", "X-Conform: 😀 🜁 \U0010fffd\r\n", "characters of four octets"),
    ("folded", "Comments: Grüße,\r\n 你好,\r\n\t안녕\r\n", "a folded field"),
    ("keyword", "Keywords: größe, 用户\r\n", "words"),
    ("bidi", "X-Conform: \u202eשלם\u202c \u200d\r\n", "characters that cannot be seen"),
)  # fmt: skip
for slug, field, what in FIELDS:

    async def untouched(talk: Session, field: str = field) -> Seen:
        return await look(talk, field, "SMTPUTF8 BODY=8BITMIME")

    here.case(
        f"3.1-kept-{slug}",
        level="MUST",
        clauses="6532-3.1-a",
        requirement=f"UTF-8 in a header, here {what}, arrives octet by octet as it was sent",
        sent=f"MAIL with SMTPUTF8 BODY=8BITMIME | {field.strip()!r}",
        allowed={"kept": PASS, "folded anew": NON_STRICT, "refused": INFO},
        keywords="SMTPUTF8",
        needs="rcpt maildir",
    )(untouched)


@here.case(
    "3.2-without-parameter",
    level="MUST",
    clauses="6532-3.2-a",
    requirement="Mail with UTF-8 in its header that came without SMTPUTF8 is refused, or delivered "
    "as it is",
    sent="MAIL without SMTPUTF8 | Comments: Grüße, 你好",
    allowed={"kept": PASS, "folded anew": NON_STRICT, "changed": NON_STRICT, "refused": INFO},
    keywords="SMTPUTF8",
    needs="rcpt maildir",
    role="server",
)
async def _(talk: Session) -> Seen:
    return await look(talk, "Comments: Grüße, 你好\r\n", "")


def exactly(octets: int, character: str, gap: bool) -> str:
    """A field of one line with so many octets, without CRLF; gap: with white space in it."""
    name = "X-Conform: "
    size = len(character.encode())
    words = (character * (octets // size))[: (octets - len(name)) // size]
    if gap:
        words = " ".join(words[at : at + 9] for at in range(0, len(words), 10))
    line = name + words
    return line + "x" * (octets - len(line.encode())) + "\r\n"


for slug, octets, character, gap in (
    ("998-octets", 998, "é", True), ("998-octets-one-word", 998, "é", False),
    ("900-octets-han", 900, "用", True), ("78-characters", 200, "用", False),
):  # fmt: skip

    async def long(
        talk: Session, octets: int = octets, character: str = character, gap: bool = gap
    ) -> Seen:
        return await look(talk, exactly(octets, character, gap), "SMTPUTF8 BODY=8BITMIME")

    here.case(
        f"3.4-{slug}",
        level="SHOULD",
        clauses="6532-3.4-a",
        requirement="A line of a header in UTF-8, of at most 998 octets, arrives without loss "
        f"({slug})",
        sent=f"MAIL with SMTPUTF8 BODY=8BITMIME | a field of one line, {octets} octets",
        allowed={"kept": PASS, "folded anew": NON_STRICT, "refused": INFO},
        keywords="SMTPUTF8",
        needs="rcpt maildir",
    )(long)
