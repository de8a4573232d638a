"""RFC 8314, submission with TLS: sections 3.3 and 4.1 (the versions are RFC 8997's and 8996's).

AUTH in the clear at the submission port is judged beside RFC 4954's (4-plaintext-listed), the
versions beside RFC 8996's.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Door, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session
from specs.conformance.tls import before_tls, only

here = Section("8314")


@here.case(
    "3.3-tls-first", level="SHOULD", clauses="8314-3.3-a", needs="tls",
    requirement="At the port of submission with implicit TLS the handshake comes first, then the "
    "greeting and EHLO inside it",
    sent="connect | TLS handshake | EHLO", allowed={"works": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    inside = talk.another("tls")
    try:
        await inside.connect()
    except Refused as refused:
        return "no handshake", str(refused)
    greeting = await inside.reply()
    if greeting.code != "220":
        return f"greeting {greeting.label}", str(greeting)
    reply = await inside.say(talk.fill("EHLO {hostname}"))
    return ("works" if reply.code == "250" else f"EHLO {reply.label}"), str(reply)


@here.case(
    "3.3-nothing-in-clear", level="IMPLIED", clauses="8314-3.3-a", needs="tls",
    requirement="At the port of implicit TLS the server says nothing in the clear",
    sent="connect, without a handshake", allowed={"silent": PASS, "closed": PASS},
    security="a client that trusts the port speaks in the clear",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    plain = talk.another("smtp")
    await plain.connect(talk.given.tls)
    return await plain.reply()  # a greeting may be delayed


@here.case(
    "3.3-no-command-in-clear", level="IMPLIED", clauses="8314-3.3-a", needs="tls",
    requirement="At the port of implicit TLS no command in the clear is carried out",
    sent="EHLO in the clear, without a handshake",
    allowed={"closed": PASS, "silent": PASS, "garbage": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
    security="a client that trusts the port speaks in the clear",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    plain = talk.another("smtp")
    await plain.connect(talk.given.tls)
    await plain.send(talk.fill("EHLO {hostname}\r\n").encode())
    return await plain.reply()


@here.case(
    "3.3-no-starttls", level="MUST NOT", clauses="8314-3.3-a 3207-4.2-c", door="tls",
    requirement="STARTTLS is not listed where TLS is there from the start",
    sent="EHLO", allowed={"not listed": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    return "listed" if "STARTTLS" in talk.features else "not listed"


@here.case(
    "3.3-same-features", level="SHOULD", clauses="8314-3.3-b", door="tls", needs="submission",
    requirement="Submission with implicit TLS and with STARTTLS offer the same extensions",
    sent="EHLO inside TLS, at both ports", allowed={"the same": PASS, "differ": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    other = talk.another("submission-starttls")
    await other.upto("ehlo")
    changed = sorted(set(talk.features.items()) ^ set(other.features.items()))
    text = ", ".join(f"{word} {rest}".strip() for word, rest in changed)
    return ("differ" if changed else "the same"), text


@here.case(
    "3.3-mail", level="SHOULD", clauses="8314-3.3-a", door="tls", needs="user rcpt",
    requirement="An authenticated client can submit mail with implicit TLS",
    sent="EHLO | AUTH PLAIN (good) | MAIL | RCPT | DATA | a message", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.auth()
    return await talk.transact()


_DOORS: Final[tuple[Door, ...]] = ("submission", "tls")
for _door in _DOORS:

    @here.case(
        f"4.1-tls-12-{_door}", level="MUST", clauses="8314-4.1-a", needs=_door,
        requirement="A submission server speaks TLS 1.2 or later",
        sent="a ClientHello for TLS 1.2 and later", allowed={"works": PASS},
    )  # fmt: skip
    async def _(talk: Session, door: Door = _door) -> Observed:
        plain = await before_tls(talk, door)
        try:
            await plain.handshake()
        except Refused as refused:
            return "no handshake", str(refused)
        return "works"

    @here.case(
        f"4.1-tls-12-alone-{_door}", level="MAY", clauses="8314-4.1-a", needs=_door,
        requirement="A submission server may speak TLS 1.2, or later versions only",
        sent="a ClientHello for TLS 1.2 and no other", allowed={"works": INFO, "refused": INFO},
    )  # fmt: skip
    async def _(talk: Session, door: Door = _door) -> Observed:
        plain = await before_tls(talk, door)
        try:
            await plain.handshake(only("1.2"))
        except Refused as refused:
            return "refused", str(refused)
        return "works"


@here.case(
    "3.3-starttls-or-tls", level="SHOULD", clauses="8314-3.3-b", door="submission",
    requirement="A submission port without implicit TLS offers STARTTLS",
    sent="EHLO", allowed={"offered": PASS, "not offered": NON_STRICT},
    security="passwords and mail can be read on the way",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    if talk.given.submission == talk.given.tls:
        raise NotApplicable("a submission port of its own")
    return "offered" if "STARTTLS" in talk.features else "not offered"
