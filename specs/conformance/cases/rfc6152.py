"""RFC 6152: 8BITMIME.  Sections 2 (the keyword) and 3 (the parameter of MAIL, and what is kept).

Tricky: what arrives may have been encoded anew by the delivery (quoted-printable, base64): its
octets are all there then, and it is no loss.  A store may write its lines with LF alone.
"""

from __future__ import annotations

import email
import email.policy
from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("6152")

MIME: Final = "MIME-Version: 1.0\r\nContent-Type: {}\r\nContent-Transfer-Encoding: 8bit\r\n"


def kept(sent: bytes, arrived: bytes) -> str:
    """Whether this body is in what arrived: "kept", "encoded" (but whole), "changed"."""
    wanted = sent.replace(b"\r\n", b"\n").rstrip(b"\n")
    if wanted in arrived.replace(b"\r\n", b"\n"):
        return "kept"
    found = email.message_from_bytes(arrived, policy=email.policy.compat32)
    decoded = found.get_payload(decode=True)
    if isinstance(decoded, bytes) and wanted in decoded.replace(b"\r\n", b"\n"):
        return "encoded"
    return "changed"


here.bare_keyword("2-no-parameter", "8BITMIME", level="IMPLIED", clauses="6152-2-a")


for slug, parameter, requirement in (
    ("7bit", "BODY=7BIT", "BODY=7BIT is taken"),
    ("8bitmime", "BODY=8BITMIME", "BODY=8BITMIME is taken"),
    ("8bitmime-lower", "BODY=8bitmime", "The value of BODY has no case"),
    ("keyword-lower", "body=8BITMIME", "The name of the BODY parameter has no case"),
    ("all-lower", "body=7bit", "Neither name nor value of BODY has a case"),
):
    here.probe(
        f"3-{slug}",
        level="IMPLIED",
        clauses="6152-3-a",
        requirement=requirement,
        sent=[f"MAIL FROM:<{{sender}}> {parameter}"],
        allowed={"250": PASS, "4yz": INFO},
        keywords="8BITMIME",
    )
here.probe(
    "3-null-sender",
    level="IMPLIED",
    clauses="6152-3-a",
    requirement="BODY=8BITMIME goes with the empty reverse-path, too",
    sent=["MAIL FROM:<> BODY=8BITMIME"],
    allowed={"250": PASS, "4yz": INFO},
    keywords="8BITMIME",
)

for slug, parameter, lenient in (
    ("unknown", "BODY=FOO", False),
    ("8bit", "BODY=8BIT", False),
    ("8bitmime-and-more", "BODY=8BITMIMEX", False),
    ("two-values", "BODY=7BIT,8BITMIME", False),
    ("empty", "BODY=", True),
    ("no-value", "BODY", True),
):
    here.probe(
        f"3-bad-{slug}",
        level="IMPLIED",
        clauses="6152-3-b",
        requirement=f"A value of BODY that does not exist is refused ({parameter})",
        sent=[f"MAIL FROM:<{{sender}}> {parameter}"],
        allowed={"501": PASS, "555": PASS, "5yz": NON_STRICT}
        | ({"250": NON_STRICT} if lenient else {"504": PASS}),
        keywords="8BITMIME",
    )
here.probe(
    "3-twice",
    level="IMPLIED",
    clauses="6152-3-b",
    requirement="BODY given twice is refused",
    sent=["MAIL FROM:<{sender}> BODY=7BIT BODY=8BITMIME"],
    allowed={"501": PASS, "555": PASS, "5yz": NON_STRICT, "250": INFO},
    keywords="8BITMIME",
)


@here.case(
    "3-binarymime-not-listed",
    level="IMPLIED",
    clauses="6152-3-b",
    requirement="BODY=BINARYMIME is refused by a server that does not list BINARYMIME",
    sent="MAIL FROM:<{sender}> BODY=BINARYMIME",
    allowed={
        "501": PASS, "504": PASS, "555": PASS, "5yz": NON_STRICT, "250": NON_STRICT,
        "it is listed": INFO,
    },
    keywords="8BITMIME",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    if "BINARYMIME" in talk.features:
        return "it is listed"
    return await talk.say(f"MAIL FROM:<{talk.given.sender}> BODY=BINARYMIME")


HIGH: Final = b"".join(bytes(range(at, at + 32)) + b"\r\n" for at in range(128, 256, 32))
TEXT: Final = "Grüße, 你好, привет, שלום, 😀\r\n".encode()
ALL: Final = bytes(each for each in range(1, 256) if each not in (10, 13))
#: 998 octets and CRLF: the most that a line of a message may have (RFC 5321 4.5.3.1.6).
LONG: Final = b"\xe9" * 998 + b"\r\n"
BODIES: Final = (
    ("high-octets", "application/octet-stream", HIGH, "6152-3-c", "Every octet above 127"),
    ("utf-8", "text/plain; charset=utf-8", TEXT, "6152-3-c", "Text in UTF-8"),
    ("latin-1", "text/plain; charset=iso-8859-1", b"Gr\xfc\xdfe\r\n" * 3, "6152-3-c",
     "Text that is not UTF-8"),
    ("all-octets", "application/octet-stream",
     b"".join(ALL[at : at + 60] + b"\r\n" for at in range(0, 253, 60)), "6152-3-c",
     "Every octet but NUL, CR and LF"),
    ("long-line", "text/plain; charset=iso-8859-1", LONG, "6152-3-g",
     "A line of 998 octets above 127"),
    ("dots", "text/plain; charset=iso-8859-1", b".\xe9\r\n..\xe9\r\n.\r\n\xe9.\r\n", "6152-3-c",
     "Lines with dots and octets above 127"),
)  # fmt: skip
for slug, kind, body, clause, what in BODIES:

    async def carries(talk: Session, kind: str = kind, body: bytes = body) -> Seen:
        octets = talk.message(body, headers=MIME.format(kind))
        final = await talk.transact(octets, mail="BODY=8BITMIME")
        if final.kind == "reply":
            return final.code, str(final)
        return final.label, ""

    async def arrives(talk: Session, kind: str = kind, body: bytes = body) -> Seen:
        octets = talk.message(body, headers=MIME.format(kind))
        final = await talk.transact(octets, mail="BODY=8BITMIME")
        if final.kind == "reply" and not final.positive:
            return "refused", str(final)
        return kept(body, (await delivered(talk, final))[0]), str(final)

    here.case(
        f"3-takes-{slug}",
        level="MUST",
        clauses=clause,
        requirement=f"{what} can be sent under BODY=8BITMIME",
        sent=f"MAIL with BODY=8BITMIME | a message ({slug})",
        allowed={"250": PASS, "4yz": INFO, "55z": INFO},
        keywords="8BITMIME",
        needs="rcpt",
    )(carries)
    here.case(
        f"3-keeps-{slug}",
        level="MUST",
        clauses=clause,
        requirement=f"{what} arrives without loss under BODY=8BITMIME",
        sent=f"MAIL with BODY=8BITMIME | a message ({slug})",
        allowed={"kept": PASS, "encoded": NON_STRICT, "refused": INFO},
        keywords="8BITMIME",
        needs="rcpt maildir",
        role="delivery",
    )(arrives)

for slug, parameter in (("undeclared", ""), ("as-7bit", "BODY=7BIT")):

    async def undeclared(talk: Session, parameter: str = parameter) -> Seen:
        octets = talk.message(TEXT, headers=MIME.format("text/plain; charset=utf-8"))
        final = await talk.transact(octets, mail=parameter)
        if final.kind == "reply" and not final.positive:
            return "refused", str(final)
        return kept(TEXT, (await delivered(talk, final))[0]), str(final)

    here.case(
        f"3-{slug}",
        level="MUST",
        clauses="6152-3-c",
        requirement="What is done with octets above 127 in a message that is not declared 8BITMIME",
        sent=f"MAIL {parameter} | a message in UTF-8".replace("  ", " "),
        allowed={"kept": INFO, "encoded": INFO, "changed": INFO, "refused": INFO},
        keywords="8BITMIME",
        needs="rcpt maildir",
        role="delivery",
    )(undeclared)
