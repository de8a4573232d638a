"""RFC 3207, STARTTLS: sections 4 and 4.2, and what is known of TLS that fails.

Tricky
- A server may refuse STARTTLS when it is not alone in its segment, or in a transaction: nobody can
  be harmed then.  What is wrong is a command from before TLS that is answered, or has an effect,
  inside TLS (CVE-2011-0411 and its many sisters).
- "Forgets the EHLO" can only be seen on a server that asks for EHLO at all: it is asked that first.
- A server that demands TLS from everybody is judged by section 4's table of exceptions only; it may
  be private, which nobody can see from outside.
"""

from __future__ import annotations

import email
import ssl
import warnings
from typing import Final

from specs.conformance.cases.rfc5321_4_1_1_4 import data_refused
from specs.conformance.model import INFO, NON_STRICT, PASS, Door, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, trusting

here = Section("3207")

INJECTED: Final = (
    "commands sent in the clear by an attacker are taken as the client's own inside TLS"
)
KEPT: Final = "what an attacker said before TLS counts as said by the client inside TLS"


def lenient() -> ssl.SSLContext:
    """Any version, any strength: only whether there is TLS at all is asked."""
    context = trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


async def secured(talk: Session) -> str:
    """STARTTLS and the handshake, and no more: "" or why there is no TLS.  No TLS is a refusal that
    most cases here allow.
    """
    reply = await talk.say("STARTTLS")
    if reply.code != "220":
        return f"refused: {reply}"
    try:
        await talk.handshake(lenient())
    except Refused as refused:
        return f"no handshake: {refused}"
    return ""


# -- 4: the command -------------------------------------------------------------------------------


@here.case(
    "4-offered-works", level="MUST", clauses="3207-4-a", keywords="STARTTLS",
    requirement="A server that lists STARTTLS takes it, and completes a TLS handshake",
    sent="EHLO | STARTTLS | TLS handshake | EHLO inside",
    allowed={"works": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
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
        requirement="STARTTLS takes no parameter: one is answered 501",
        sent=[_line], allowed={"501": PASS, "5yz": NON_STRICT},
    )  # fmt: skip


@here.case(
    "4-parameter-then-plain", level="IMPLIED", clauses="3207-4-b", keywords="STARTTLS",
    requirement="After STARTTLS was refused for its parameter, the session goes on in the clear",
    sent="STARTTLS now | NOOP", allowed={"250": PASS, "started": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
    async def _(talk: Session) -> Observed | tuple[str, str]:
        reply = await demanding_tls(talk)
        return ("5.7.0" if reply.enhanced == "5.7.0" else "other"), str(reply)

    for _line in ("NOOP", "EHLO {hostname}", "QUIT"):

        @here.case(
            f"4-demanded-{_door}-{_line.split()[0].lower()}", level="SHOULD", clauses="3207-4-e",
            door=_door,
            requirement="A server that demands TLS still answers NOOP, EHLO and QUIT in the clear",
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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


# -- 4.2: what counts inside TLS ------------------------------------------------------------------

for _door in ("smtp", "submission"):

    @here.case(
        f"4.2-not-listed-inside-{_door}", level="MUST NOT", clauses="3207-4.2-c", door=_door,
        keywords="STARTTLS",
        requirement="STARTTLS is not listed any more once TLS is up",
        sent="STARTTLS | TLS handshake | EHLO", allowed={"not listed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("ehlo")
        await talk.starttls()
        return "listed" if "STARTTLS" in talk.features else "not listed"


@here.case(
    "4.2-second-ehlo-inside", level="MUST NOT", clauses="3207-4.2-c", door="starttls",
    requirement="STARTTLS is not listed by a second EHLO inside TLS either",
    sent="EHLO, twice, inside TLS", allowed={"not listed": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.hello()
    return "listed" if "STARTTLS" in talk.features else "not listed"


here.probe(
    "4.2-starttls-inside", level="IMPLIED", clauses="3207-4.2-d", door="starttls",
    requirement="STARTTLS inside TLS is refused, best with 503",
    sent=["STARTTLS"],
    # That it MUST NOT be sent is said of the client; of the server only that it is not offered.
    allowed={"503": PASS, "502": PASS, "554": PASS, "5yz": NON_STRICT, "454": NON_STRICT,
             "220": NON_STRICT},
)  # fmt: skip


@here.case(
    "4.2-refused-inside-goes-on", level="IMPLIED", clauses="3207-4.2-d", door="starttls",
    requirement="After STARTTLS was refused inside TLS, TLS and the session go on",
    sent="STARTTLS | NOOP, inside TLS", allowed={"250": PASS, "started": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    reply = await talk.say("STARTTLS")
    if reply.positive:  # what 4.2-starttls-inside judges
        return "started", str(reply)
    return await talk.say("NOOP")


@here.case(
    "4.2-lists-differ", level="MAY", clauses="3207-4.2-f", keywords="STARTTLS",
    requirement="The list of extensions inside TLS may be another than before it",
    sent="EHLO | STARTTLS | TLS handshake | EHLO", allowed={"the same": INFO, "differ": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    before = {**talk.features}
    before.pop("STARTTLS", None)
    await talk.starttls()
    inside = talk.features
    changed = sorted(set(before.items()) ^ set(inside.items()))
    return ("differ" if changed else "the same"), ", ".join(f"{k} {v}" for k, v in changed)


@here.case(
    "4.2-greets-again", level="IMPLIED", clauses="3207-4.2-a", keywords="STARTTLS",
    requirement="Inside TLS the server waits for the client: no second greeting",
    sent="STARTTLS | TLS handshake | EHLO", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    if why := await secured(talk):
        raise NotApplicable(why)
    early = await talk.unasked()
    if early.kind == "reply":
        return "greets inside TLS", str(early)
    return await talk.say(talk.fill("EHLO {hostname}"))


@here.case(
    "4.2-transaction-forgotten", level="MUST", clauses="3207-4.2-a", keywords="STARTTLS",
    needs="rcpt", security=KEPT,
    requirement="A transaction that was begun before TLS is forgotten inside it",
    sent="EHLO | MAIL | STARTTLS | TLS handshake | RCPT",
    allowed={"no TLS": PASS, "503": PASS, "5yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("mail")
    if why := await secured(talk):
        return "no TLS", why
    return await talk.say(talk.fill("RCPT TO:<{rcpt}>"))


@here.case(
    "4.2-recipients-forgotten", level="MUST", clauses="3207-4.2-a", keywords="STARTTLS",
    needs="rcpt", security=KEPT,
    requirement="Recipients that were named before TLS are forgotten inside it",
    sent="EHLO | MAIL | RCPT | STARTTLS | TLS handshake | DATA",
    allowed={"no TLS": PASS, "503": PASS, "5yz": NON_STRICT, "354, then refused": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("rcpt")
    if why := await secured(talk):
        return "no TLS", why
    return await data_refused(talk)


@here.case(
    "4.2-recipients-forgotten-after-mail", level="MUST", clauses="3207-4.2-a", keywords="STARTTLS",
    needs="rcpt", security=KEPT,
    requirement="Recipients that were named before TLS are not those of a MAIL inside it",
    sent="EHLO | MAIL | RCPT | STARTTLS | TLS handshake | EHLO | MAIL | DATA",
    allowed={"no TLS": PASS, "503": PASS, "5yz": PASS, "354, then refused": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("rcpt")
    if why := await secured(talk):
        return "no TLS", why
    await talk.hello()
    await talk.must(talk.fill("MAIL FROM:<{sender}>"))
    return await data_refused(talk)


@here.case(
    "4.2-ehlo-forgotten", level="MUST", clauses="3207-4.2-a", keywords="STARTTLS",
    requirement="A server that asks for EHLO before MAIL asks for it again inside TLS",
    sent="MAIL without EHLO in the clear; then EHLO | STARTTLS | TLS handshake | MAIL",
    allowed={"503": PASS, "5yz": NON_STRICT, "never asked": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    first = talk.another()
    await first.upto("greeting")
    reply = await first.say(talk.fill("MAIL FROM:<{sender}>"))
    if reply.positive:
        return "never asked", str(reply)
    await first.close()
    await talk.upto("ehlo")
    if why := await secured(talk):
        raise NotApplicable(why)
    return await talk.say(talk.fill("MAIL FROM:<{sender}>"))


@here.case(
    "4.2-name-forgotten", level="MUST", clauses="3207-4.2-a", keywords="STARTTLS", role="delivery",
    needs="rcpt maildir",
    requirement="The trace names what the client called itself inside TLS, not before it",
    sent="EHLO one name | STARTTLS | TLS handshake | EHLO another | a message",
    allowed={"the new name": PASS, "neither name": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("greeting")
    old = f"before-{talk.token}.conform.example"
    await talk.must(f"EHLO {old}")
    if why := await secured(talk):
        raise NotApplicable(why)
    await talk.hello()
    talk.stage = "ehlo"
    reply = await talk.transact()
    if not reply.positive:
        raise Refused("the message", reply)
    found = await talk.arrived()
    if not found:  # that mail arrives is asked elsewhere
        raise Refused("the delivery", Reply(kind="silent"))
    fields = email.message_from_bytes(found[0]).get_all("Received") or [""]
    trace = "\n".join(str(each) for each in fields)
    if old.lower() in trace.lower():
        return "the old name", trace
    named = talk.given.hostname.lower() in trace.lower()
    return ("the new name" if named else "neither name"), trace


for _door in ("smtp", "submission"):

    @here.case(
        f"4.2-auth-forgotten-{_door}", level="MUST", clauses="3207-4.2-a 4954-4-b", door=_door,
        keywords="STARTTLS AUTH", needs="user", security=KEPT,
        requirement="Who authenticated before TLS has not done so inside it, and may do it again",
        sent="AUTH (good) | STARTTLS | TLS handshake | EHLO | AUTH (good)",
        allowed={"235": PASS, "no TLS": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("ehlo")
        await talk.auth()
        if why := await secured(talk):
            return "no TLS", why
        await talk.hello()
        if "PLAIN" not in talk.features.get("AUTH", "").upper().split():
            return "AUTH not offered inside"
        return await talk.say(f"AUTH PLAIN {talk.plain()}")


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
        "inside TLS",
        sent=f"STARTTLS and {_what} in one segment | TLS handshake | RCPT | EHLO",
        allowed={"nothing": PASS, "no TLS": PASS, "answered in the clear": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, octets: bytes = _octets) -> Observed | tuple[str, str]:
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
        early = await talk.unasked()
        if early.kind != "silent":
            return "answered inside TLS", str(early)
        rcpt = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
        if rcpt.positive:
            return "carried out inside TLS", str(rcpt)
        # Two answers to one command: a late one of the attacker's.
        hello = await talk.say(talk.fill("EHLO {hostname}"))
        late = await talk.unasked()
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
