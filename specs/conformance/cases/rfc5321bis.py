"""RFC 5321bis (draft-ietf-emailcore-rfc5321bis): what it says more sharply than RFC 5321.

Tricky
- It is stricter about line ends, and freer about source routes, which may be refused in any way
  (`allowed.ROUTED`).
- Bare CR and LF between commands are in rfc5321_2.py, and all about the end of mail data in the
  files of RFC 5321 section 4; here is one case for each of them.
- Null MX needs a domain that has one.  example.com has, for whoever sees the public DNS; a server
  that does not see it can't know, and nothing is held against it.
"""

from __future__ import annotations

from specs.conformance.allowed import UNVERIFIED
from specs.conformance.asking import one_reply
from specs.conformance.model import INFO, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("5321bis")

#: Where a line of a message may have a bare CR or LF.
BARE = (
    ("lf-in-body", b"one\ntwo\r\n", b""), ("cr-in-body", b"one\rtwo\r\n", b""),
    ("lf-in-header", b"body\r\n", b"X-One: one\nX-Two: two\r\n"),
    ("cr-in-header", b"body\r\n", b"X-One: one\rX-Two: two\r\n"),
)  # fmt: skip


def _bare(slug: str, body: bytes, headers: bytes) -> None:
    @here.case(
        f"2.3.8-{slug}", level="MUST", clauses="5321bis-2.3.8-a", needs="rcpt",
        requirement="A message with a CR or LF that is no part of a CRLF should be refused",
        sent=f"an ordinary message, then one with {repr(headers or body)[2:-1]}",
        allowed={"5yz": PASS, "421": INFO, "4yz": INFO, "2yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        reply = await talk.transact()
        if not reply.positive:
            raise Refused("an ordinary message", reply)
        return await talk.transact(headers + talk.message(body))


for _slug, _body, _headers in BARE:
    _bare(_slug, _body, _headers)

#: Names that are no reason to refuse: not the client's, or not in the DNS.
for _slug, _name in (
    ("other-name", "another.conform.example"), ("no-such-name", "{token}.invalid"),
):  # fmt: skip
    here.probe(
        f"4.1.1.1-ehlo-{_slug}", level="IMPLIED", clauses="5321bis-4.1.1.1-a", upto="greeting",
        requirement="EHLO is not refused because its name does not check, when it is well formed",
        sent=[f"EHLO {_name}"], allowed=UNVERIFIED,
    )  # fmt: skip

#: What might be taken for the end of mail data; each is followed by a command.
NO_ENDS = (
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r.\n",
    b"\r\n.\r\r\n", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n",
)  # fmt: skip


@here.case(
    "4.1.1.4-only-one-end", level="MUST", clauses="5321bis-4.1.1.4-a", needs="rcpt",
    requirement="Only CRLF.CRLF ends a message",
    sent="messages with what is like it, one on each connection, each followed by NOOP and the end",
    security="one message becomes two: the second with a sender of the attacker's choice",
    allowed={"only one end": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    others = [talk.another() for _ in NO_ENDS]
    for octets, other in zip(NO_ENDS, others, strict=True):
        await other.upto("data")
        await other.send(talk.message(b"body") + octets + b"NOOP\r\n")
    wait_s, refused = talk.given.quiet_s, set[bytes]()  # once for all
    for octets, other in zip(NO_ENDS, others, strict=True):
        while (early := await other.unasked(wait_s)).kind == "reply":
            if early.positive:  # to the message, or to NOOP behind what was refused
                return "another end", f"{octets!r}: {early}"
            refused.add(octets)
        wait_s = 0.05
        await other.send(b"more\r\n.\r\n")
    for octets, other in zip(NO_ENDS, others, strict=True):
        label, detail = await one_reply(other)
        if label == "silent":  # who has refused it may have no more to say
            if octets not in refused:
                raise Refused("the true end", Reply(kind="silent"))
        elif label not in ("one reply", "refused", "nothing carried out"):
            return "another end", f"{octets!r}: {detail}"
    return "only one end", f"{len(NO_ENDS)} others"


here.probe(
    "4.2.2-null-mx", level="IMPLIED", clauses="5321bis-4.2.2-a", upto="mail",
    requirement="556 is a reply to RCPT for a domain that takes no mail",
    sent=["RCPT TO:<someone@example.com>"],
    allowed={"556": PASS, "5yz": INFO, "4yz": INFO, "2yz": INFO},
)  # fmt: skip

#: Received fields with clauses that some server does not know.
CLAUSES = (
    b"Received: from a.example ([192.0.2.1]) by b.example with ESMTPS\r\n"
    b" tls TLS_AES_256_GCM_SHA384 group X25519 id 1; Mon, 02 Nov 2026 10:00:00 +0000\r\n"
    b"Received: from a.example by b.example with UTF8SMTPSA newclause value id 2 (x);\r\n"
    b"\tMon, 02 Nov 2026 10:00:00 +0000\r\n"
)


@here.case(
    "4.4.1-more-clauses", level="IMPLIED", clauses="5321bis-4.4.1-a", needs="rcpt",
    requirement="A message is taken whatever clauses its Received fields have",
    sent="a message whose Received fields have tls, group and unknown clauses",
    allowed={"2yz": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    reply = await talk.transact()
    if not reply.positive:
        raise Refused("an ordinary message", reply)
    return await talk.transact(CLAUSES + talk.message())


@here.case(
    "4.4.1-clauses-kept", level="IMPLIED", clauses="5321bis-4.4.1-a", role="delivery",
    needs="rcpt maildir",
    requirement="Clauses of earlier Received fields are delivered as they came",
    sent="a message whose Received fields have tls, group and unknown clauses",
    allowed={"kept": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    reply = await talk.transact(CLAUSES + talk.message())
    if not reply.positive:
        raise NotApplicable("acceptance of such fields")
    found = await talk.arrived()
    if not found:
        raise Refused("what arrives", Reply(kind="silent"))
    kept = CLAUSES.replace(b"\r\n", b"\n") in found[0].replace(b"\r\n", b"\n")
    return ("kept" if kept else "changed"), repr(found[0][:600])
