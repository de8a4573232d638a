"""RFC 3207 4 and 4.1, STARTTLS: the command, servers that demand TLS, and a handshake that fails.

Tricky: a server that demands TLS from everybody is judged by section 4's table of exceptions only;
it may be private, which nobody can see from outside.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Door, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session
from specs.conformance.tls import lenient

here = Section("3207")


# -- 4: the command -------------------------------------------------------------------------------


@here.case(
    "4-offered-works", level="MUST", clauses="3207-4-a", keywords="STARTTLS",
    requirement="A server that lists STARTTLS takes it, and completes a TLS handshake",
    sent="EHLO | STARTTLS | TLS handshake | EHLO inside",
    allowed={"works": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    reply = await talk.say("STARTTLS")
    if reply.code != "220":
        return reply
    try:
        await talk.handshake(lenient())
    except Refused as refused:
        return "no handshake", str(refused)
    inside = await talk.say(talk.fill("EHLO {hostname}"))
    return ("works" if inside.code == "250" else f"EHLO inside {inside.label}"), str(inside)


here.probe(
    "4-lower-case", level="IMPLIED", clauses="3207-4-a", keywords="STARTTLS",
    requirement="STARTTLS is understood in lower case, as every command is",
    sent=["starttls"], allowed={"220": PASS, "454": INFO},
)  # fmt: skip

for _slug, _line in (
    ("word", "STARTTLS now"),
    ("hostname", "STARTTLS {hostname}"),
    ("assignment", "STARTTLS VERSION=1.3"),
):
    here.probe(
        f"4-parameter-{_slug}", level="IMPLIED", clauses="3207-4-b", keywords="STARTTLS",
        requirement=f"STARTTLS takes no parameter: one is answered 501 ({_line})",
        sent=[_line], allowed={"501": PASS, "5yz": NON_STRICT},
    )  # fmt: skip


@here.case(
    "4-parameter-then-plain", level="IMPLIED", clauses="3207-4-b", keywords="STARTTLS",
    requirement="After STARTTLS was refused for its parameter, the session goes on in the clear",
    sent="STARTTLS now | NOOP", allowed={"250": PASS, "started": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    reply = await talk.say("STARTTLS now")
    if reply.code == "220":  # what 4-parameter-word judges
        return "started", str(reply)
    return await talk.say("NOOP")


here.probe(
    "4-trailing-space", level="SHOULD", clauses="3207-4-b", keywords="STARTTLS",
    requirement="White space behind STARTTLS is no parameter",
    sent=["STARTTLS "], allowed={"220": PASS, "454": INFO, "501": NON_STRICT, "500": NON_STRICT},
)  # fmt: skip

here.probe(
    "4-before-ehlo", level="MAY", clauses="3207-4-a", keywords="STARTTLS", upto="greeting",
    requirement="STARTTLS before EHLO may be refused, best with 503",
    sent=["STARTTLS"], allowed={"220": INFO, "503": PASS, "5yz": INFO, "4yz": INFO},
)  # fmt: skip


@here.case(
    "4-plain-mail", level="MUST NOT", clauses="3207-4-d", keywords="STARTTLS", needs="rcpt",
    requirement="A mail exchanger takes mail for its own mailboxes without TLS, too (a server that "
    "is not in the public DNS may demand it)",
    sent="MAIL | RCPT, in the clear", allowed={"taken": PASS, "530": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>"):
        reply = await talk.say(talk.fill(line))
        if reply.code == "530":
            return reply
        if not reply.positive:  # refused for something else: not what is asked here
            raise Refused(line, reply)
    return "taken", str(reply)


async def demanding_tls(talk: Session) -> Reply:
    """MAIL's refusal in the clear.  Raises NotApplicable if it is none for want of TLS."""
    await talk.upto("ehlo")
    if "STARTTLS" not in talk.features:
        raise NotApplicable("STARTTLS")
    reply = await talk.say(talk.fill("MAIL FROM:<{sender}>"))
    offered = "AUTH" in talk.features
    if reply.positive or offered or (reply.code != "530" and "TLS" not in reply.text.upper()):
        raise NotApplicable("TLS demanded from everybody")
    return reply


_DOORS: Final[tuple[Door, ...]] = ("smtp", "submission")
for _door in _DOORS:

    @here.case(
        f"4-demanded-{_door}-mail", level="SHOULD", clauses="3207-4-e", door=_door,
        requirement="A server that demands TLS refuses MAIL in the clear with 530",
        sent="MAIL in the clear", allowed={"530": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        return await demanding_tls(talk)

    @here.case(
        f"4-demanded-{_door}-enhanced", level="SHOULD", clauses="3207-4-e", door=_door,
        keywords="ENHANCEDSTATUSCODES",
        requirement="A server that demands TLS says 5.7.0 with its 530",
        sent="MAIL in the clear", allowed={"5.7.0": PASS, "other": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        reply = await demanding_tls(talk)
        return ("5.7.0" if reply.enhanced == "5.7.0" else "other"), str(reply)

    for _line in ("NOOP", "EHLO {hostname}", "QUIT"):

        @here.case(
            f"4-demanded-{_door}-{_line.split()[0].lower()}", level="SHOULD", clauses="3207-4-e",
            door=_door,
            requirement=f"A server that demands TLS still answers {_line.split()[0]} in the clear",
            sent=f"MAIL in the clear (refused) | {_line}", allowed={"2yz": PASS, "530": NON_STRICT},
        )  # fmt: skip
        async def _(talk: Session, line: str = _line) -> Observed:
            await demanding_tls(talk)
            return await talk.say(talk.fill(line))


# -- 4.1: a handshake that fails ------------------------------------------------------------------


@here.case(
    "4.1-garbage-hello", level="IMPLIED", clauses="3207-4.1-b", keywords="STARTTLS", needs="rcpt",
    requirement="When text comes instead of a handshake, the server ends the connection",
    sent="EHLO | MAIL | STARTTLS | text instead of a ClientHello",
    allowed={"ended": PASS, "refused": PASS, "goes on": NON_STRICT, "waits": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    reply = await talk.say("STARTTLS")
    if reply.code != "220":
        return "refused", str(reply)
    await talk.send(talk.fill("RCPT TO:<{rcpt}>\r\nNOOP this is not TLS at all\r\n").encode())
    octets = await talk.rest(talk.given.timeout_s)
    # A TLS alert may come before the end; text means that it reads on in the clear.
    if octets[:1] in (b"2", b"4", b"5"):
        return "goes on", repr(octets[:80])
    sent = await talk.send(b"NOOP\r\n")
    late = await talk.unasked() if sent else None
    gone = late is None or late.kind != "silent"
    return ("ended" if gone else "waits"), repr(octets[:80])


@here.case(
    "4.1-survives-garbage", level="IMPLIED", clauses="3207-4.1-b", keywords="STARTTLS",
    requirement="A handshake that fails ends one connection, not the service",
    sent="STARTTLS | garbage; then a new connection: EHLO | STARTTLS | TLS handshake",
    allowed={"works": PASS, "454": NON_STRICT},
    security="one packet stops the server",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.must("STARTTLS")
    await talk.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc" + b"\xff" * 512)
    await talk.close()
    new = talk.another()
    try:
        await new.upto("ehlo")
    except (Refused, OSError) as error:
        return "no service", str(error)
    reply = await new.say("STARTTLS")
    if reply.code != "220":
        return reply
    try:
        await new.handshake(lenient())
    except Refused as refused:
        return "no handshake", str(refused)
    return "works"
