"""RFC 3207 4.2, STARTTLS: what is forgotten when TLS begins, and what counts inside it.

Tricky: "forgets the EHLO" can only be seen on a server that asks for EHLO at all: it is asked that
first.
"""

from __future__ import annotations

import email
from typing import Final

from specs.conformance.arrivals import taken
from specs.conformance.asking import data_refused
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session
from specs.conformance.tls import secured

here = Section("3207")

KEPT: Final = "what an attacker said before TLS counts as said by the client inside TLS"


# -- 4.2: what counts inside TLS ------------------------------------------------------------------

for _door in ("smtp", "submission"):

    @here.case(
        f"4.2-not-listed-inside-{_door}", level="MUST NOT", clauses="3207-4.2-c", door=_door,
        keywords="STARTTLS",
        requirement="STARTTLS is not listed any more once TLS is up",
        sent="STARTTLS | TLS handshake | EHLO", allowed={"not listed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
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
async def _(talk: Session) -> Observed:
    await talk.upto("greeting")
    old = f"before-{talk.token}.conform.example"
    await talk.must(f"EHLO {old}")
    if why := await secured(talk):
        raise NotApplicable(why)
    await talk.hello()
    talk.stage = "ehlo"
    fields = email.message_from_bytes(await taken(talk)).get_all("Received") or [""]
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
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        await talk.auth()
        if why := await secured(talk):
            return "no TLS", why
        await talk.hello()
        if "PLAIN" not in talk.features.get("AUTH", "").upper().split():
            return "AUTH not offered inside"
        return await talk.say(f"AUTH PLAIN {talk.plain()}")
