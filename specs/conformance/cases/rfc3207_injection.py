"""RFC 3207 4.2, STARTTLS: what stood in the clear behind it, in the same segment.

Tricky: a server may refuse STARTTLS when it is not alone in its segment, or in a transaction:
nobody can be harmed then.  What is wrong is a command from before TLS that is answered, or has an
effect, inside TLS (CVE-2011-0411 and its many sisters).
"""

from __future__ import annotations

from typing import Final

from specs.conformance.asking import going_on
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session
from specs.conformance.tls import lenient

here = Section("3207")

INJECTED: Final = (
    "commands sent in the clear by an attacker are taken as the client's own inside TLS"
)


# -- 4.2: what stood behind STARTTLS --------------------------------------------------------------

#: (slug, what it is, what stands behind "STARTTLS CRLF" in the same segment)
BEHIND: Final = (
    ("noop", "NOOP", b"NOOP\r\n"),
    ("ehlo", "EHLO", b"EHLO injected.conform.example\r\n"),
    ("rset-lf", "RSET that ends in LF", b"RSET\n"),
    ("mail", "EHLO and MAIL", b"EHLO injected.conform.example\r\nMAIL FROM:<{sender}>\r\n"),
    (
        "data", "a transaction up to DATA",
        b"EHLO injected.conform.example\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{rcpt}>\r\nDATA\r\n",
    ),
    ("auth", "AUTH", b"EHLO injected.conform.example\r\nAUTH PLAIN AGEAYg==\r\n"),
    ("quit", "QUIT", b"QUIT\r\n"),
    ("many", "four hundred times NOOP", b"NOOP\r\n" * 400),
)  # fmt: skip

for _slug, _what, _octets in BEHIND:

    @here.case(
        f"4.2-injected-{_slug}", level="IMPLIED", clauses="3207-4.2-e 3207-4.2-a",
        keywords="STARTTLS", needs="rcpt", security=INJECTED,
        requirement="Commands in the clear behind STARTTLS are neither answered nor carried out "
        f"inside TLS ({_what})",
        sent=f"STARTTLS and {_what} in one segment | TLS handshake | RCPT | EHLO",
        allowed={"nothing": PASS, "no TLS": PASS, "answered in the clear": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, octets: bytes = _octets) -> Observed:
        await talk.upto("ehlo")
        behind = talk.fill(octets.decode()).encode()
        await talk.send(b"STARTTLS\r\n" + behind)
        reply = await talk.reply()
        if reply.code != "220":
            return ("no TLS" if reply.kind in ("reply", "closed") else reply.label), str(reply)
        clear = talk.unread
        try:
            await talk.handshake(lenient())
        except Refused as refused:
            return "no TLS", str(refused)
        early = going_on(await talk.unasked(), closed=True)
        if early.kind != "silent":
            return "answered inside TLS", str(early)
        rcpt = going_on(await talk.say(talk.fill("RCPT TO:<{rcpt}>")), closed=True)
        if rcpt.positive:
            return "carried out inside TLS", str(rcpt)
        # Two answers to one command: a late one of the attacker's.
        hello = going_on(await talk.say(talk.fill("EHLO {hostname}")), closed=True)
        late = going_on(await talk.unasked(), closed=True)
        if late.kind != "silent" or hello.code != "250":
            return "answered inside TLS", f"{hello}; {late}"
        return ("answered in the clear" if clear else "nothing"), repr(clear[:80])


@here.case(
    "4.2-injected-half-line", level="IMPLIED", clauses="3207-4.2-e 3207-4.2-a", keywords="STARTTLS",
    security=INJECTED,
    requirement="Half a line in the clear behind STARTTLS is not glued to the first one inside TLS",
    sent="STARTTLS CRLF NOOP SP in one segment | TLS handshake | QUIT",
    allowed={"221": PASS, "no TLS": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.send(b"STARTTLS\r\nNOOP ")
    reply = await talk.reply()
    if reply.code != "220":
        return ("no TLS" if reply.kind in ("reply", "closed") else reply.label), str(reply)
    try:
        await talk.handshake(lenient())
    except Refused as refused:
        return "no TLS", str(refused)
    return await talk.say("QUIT")


@here.case(
    "4.2-pipelined-before", level="IMPLIED", clauses="3207-4.2-e", keywords="STARTTLS PIPELINING",
    requirement="STARTTLS may be the last of a pipelined group: each is answered, and TLS starts",
    sent="NOOP | NOOP | STARTTLS in one segment | TLS handshake | EHLO",
    allowed={"works": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.send(b"NOOP\r\nNOOP\r\nSTARTTLS\r\n")
    found = await talk.replies(3)
    labels = " ".join(each.label for each in found)
    if found[-1].code == "454":
        return found[-1]
    if labels != "250 250 220":
        return "not in order", labels
    try:
        await talk.handshake(lenient())
    except Refused as refused:
        return "no handshake", str(refused)
    reply = await talk.say(talk.fill("EHLO {hostname}"))
    return ("works" if reply.code == "250" else reply.label), str(reply)
