"""RFC 5321 4.1.4: the order of commands.

- Out of order is 503, and the state stays as it was.  To DATA without a recipient 554 is allowed,
  and 354 with a failure in the end (3.3).
- Nothing says that MAIL before EHLO cannot be processed: it may be taken.
- A second MAIL is the client's fault: the server refuses it, or begins anew (4.1.1.2), which is not
  how it is meant; in no case may it keep the recipients.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import (
    EARLY,
    EHLO_AGAIN,
    HELO_AGAIN,
    MAIL_AGAIN,
    MAIL_BEFORE_EHLO,
    MAIL_TAKEN,
    NOTHING_TO_SEND,
    RCPT_WITHOUT_MAIL,
    Allowed,
)
from specs.conformance.arrivals import lost
from specs.conformance.asking import data_refused, needs
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session, Stage

here = Section("5321")

# -- DATA, RCPT and MAIL where they don't belong --------------------------------------------------


TABLE: Final = "5321-3.3-b 5321-4.3.2-f 5321-4.2.3-a"


def _data_at(slug: str, stage: Stage, lines: tuple[str, ...], needs: str, clauses: str) -> None:
    shown = " | ".join((f"({stage})", *lines, "DATA"))

    @here.case(
        f"4.1.4-data-{slug}", level="MUST", clauses=clauses, needs=needs, sent=shown,
        requirement="DATA without a sender and a recipient is out of order, or fails",
        allowed=NOTHING_TO_SEND | {"not refused": INFO, "greeting refused": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto(stage)
        for line in lines:
            reply = await talk.say(talk.fill(line))
            if line.startswith(("EHLO", "HELO")):
                if not reply.positive:  # then the transaction stays
                    return "greeting refused", f"{line}: {reply}"
            elif reply.positive:
                return "not refused", f"{line}: {reply}"
        return await data_refused(talk)


_data_at("before-ehlo", "greeting", (), "", "5321-4.1.4-a 5321-4.1.4-d")
_data_at("before-mail", "ehlo", (), "", f"5321-4.1.4-a {TABLE}")
_data_at("before-rcpt", "mail", (), "", f"5321-4.1.4-a 5321-4.1.4-h {TABLE}")
_data_at("after-rcpt-refused", "mail", ("RCPT TO:<>",), "", "5321-4.1.4-a 5321-3.3-c")
_data_at("after-mail-refused", "ehlo", ("MAIL FROM:<", "RCPT TO:<{rcpt}>"), "rcpt", "5321-4.1.4-a")
_data_at("after-ehlo-again", "rcpt", ("EHLO {hostname}",), "rcpt", "5321-4.1.4-b")
_data_at("after-helo-again", "rcpt", ("HELO {hostname}",), "rcpt", "5321-4.1.4-b")

here.probe(
    "4.1.4-rcpt-before-mail", level="MUST", sent=["RCPT TO:<{rcpt}>"], needs="rcpt",
    clauses="5321-4.1.4-h 5321-3.3-a 5321-4.3.2-f 5321-4.2.3-a",
    requirement="RCPT before MAIL is out of order: 503", allowed=RCPT_WITHOUT_MAIL,
)  # fmt: skip
here.probe(
    "4.1.4-mail-before-ehlo", level="IMPLIED", clauses="5321-4.1.4-d", upto="greeting",
    requirement="MAIL before EHLO: out of order, or taken", sent=["MAIL FROM:<{sender}>"],
    allowed=MAIL_BEFORE_EHLO,
)  # fmt: skip
here.probe(
    "4.1.4-rcpt-before-ehlo", level="MUST", clauses="5321-4.1.4-d 5321-4.1.4-h", upto="greeting",
    requirement="RCPT before EHLO and MAIL is out of order", sent=["RCPT TO:<{rcpt}>"],
    allowed=RCPT_WITHOUT_MAIL, needs="rcpt",
)  # fmt: skip


@here.case(
    "4.1.4-mail-before-ehlo-consistent", level="IMPLIED", clauses="5321-4.1.4-d", needs="rcpt",
    requirement="A server that takes MAIL without EHLO takes the rest; one that does not, nothing",
    sent="MAIL | RCPT | DATA, without EHLO",
    allowed={"none taken": PASS, "all taken": INFO, "RCPT refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("greeting")
    mail = await talk.say(talk.fill("MAIL FROM:<{sender}>"))
    rcpt = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
    data = await talk.say("DATA")
    detail = f"{mail} | {rcpt} | {data}"
    taken = (mail.positive, rcpt.positive, data.positive)
    if mail.positive and not rcpt.positive:
        return "RCPT refused", detail
    return {(False,) * 3: "none taken", (True,) * 3: "all taken"}.get(taken, "otherwise"), detail


@here.case(
    "4.1.4-ehlo-after-refusal", level="MUST", clauses="5321-4.1.4-d 5321-4.1.4-h", needs="rcpt",
    requirement="EHLO is taken after commands that came too early, and mail after it",
    sent="MAIL | RCPT | EHLO | MAIL", allowed=MAIL_TAKEN,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("greeting")
    for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>"):
        await talk.say(talk.fill(line))
    reply = await talk.say(talk.fill("EHLO {hostname}"))
    return await talk.say(talk.fill("MAIL FROM:<{sender}>")) if reply.positive else reply


# -- the state stays as it was --------------------------------------------------------------------

#: (slug, stage, what is refused, what must then go as before, its reply, clause)
STAYS: Final[tuple[tuple[str, Stage, str, str, str, str], ...]] = (
    ("rcpt-then-mail", "ehlo", "RCPT TO:<{rcpt}>", "MAIL FROM:<{sender}>", "250", "h"),
    ("data-then-mail", "ehlo", "DATA", "MAIL FROM:<{sender}>", "250", "h"),
    ("data-then-rcpt", "mail", "DATA", "RCPT TO:<{rcpt}>", "250", "h"),
    ("bad-mail-then-mail", "ehlo", "MAIL FROM:", "MAIL FROM:<{sender}>", "250", "j"),
    ("bad-domain-then-mail", "ehlo", "MAIL FROM:<a@-.->", "MAIL FROM:<{sender}>", "250", "j"),
    ("bad-parameter-then-mail", "ehlo", "MAIL FROM:<> FOO=1", "MAIL FROM:<{sender}>", "250", "j"),
    ("bad-mail-then-rcpt", "mail", "MAIL FROM:", "RCPT TO:<{rcpt}>", "250", "j"),
    ("bad-mail-then-data", "rcpt", "MAIL FROM:", "DATA", "354", "j"),
    ("bad-rcpt-then-rcpt", "mail", "RCPT TO:", "RCPT TO:<{rcpt}>", "250", "h"),
    ("bad-rcpt-then-data", "rcpt", "RCPT TO:", "DATA", "354", "h"),
    ("parameter-then-data", "rcpt", "DATA now", "DATA", "354", "h"),
    ("bad-ehlo-then-mail", "ehlo", "EHLO", "MAIL FROM:<{sender}>", "250", "g"),
    ("bad-helo-then-mail", "ehlo", "HELO", "MAIL FROM:<{sender}>", "250", "g"),
    ("bad-ehlo-then-rcpt", "mail", "EHLO", "RCPT TO:<{rcpt}>", "250", "g"),
    ("bad-ehlo-then-data", "rcpt", "EHLO", "DATA", "354", "g"),
    ("garbage-ehlo-then-data", "rcpt", "EHLO <a b>", "DATA", "354", "g"),
    ("unknown-then-data", "rcpt", "XYZZY", "DATA", "354", "h"),
)  # fmt: skip


def _stays(slug: str, stage: Stage, refused: str, then: str, code: str, letter: str) -> None:
    @here.case(
        f"4.1.4-stays-{slug}", level="MUST", clauses=f"5321-4.1.4-{letter}",
        needs="rcpt" if stage == "rcpt" or "{rcpt}" in refused + then else "",
        requirement="A command that is refused leaves the session in the state it was in",
        sent=f"({stage}) | {refused}, refused | {then}",
        allowed={code: PASS, "4yz": INFO, "not refused": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto(stage)
        first = await talk.say(talk.fill(refused))
        if first.positive:
            return "not refused", str(first)
        return await talk.say(talk.fill(then))


for row in STAYS:
    _stays(*row)


@here.case(
    "4.1.4-stays-delivered", level="MUST", clauses="5321-4.1.4-h", role="delivery",
    requirement="Refused commands in between do no harm to the message", needs="rcpt maildir",
    sent="MAIL | DATA, refused | RCPT | RCPT TO:<>, refused | DATA | a message",
    allowed={"delivered": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> str | tuple[str, str]:
    await talk.upto("mail")
    early = await talk.say("DATA")
    if early.positive:
        return "refused", "DATA without a recipient was not"
    await talk.must(talk.fill("RCPT TO:<{rcpt}>"))
    await talk.say("RCPT TO:<>")
    await talk.must("DATA")
    end = await talk.content(talk.message())
    if not end.positive:
        return "refused", str(end)
    return "delivered" if await talk.arrived() else await lost(talk)


# -- a second MAIL --------------------------------------------------------------------------------

IN_TRANSACTION: Final[tuple[Stage, ...]] = ("mail", "rcpt")
for stage in IN_TRANSACTION:
    here.probe(
        f"4.1.4-mail-again-after-{stage}", level="MUST", clauses="5321-4.1.4-c",
        requirement="MAIL in a transaction is out of order", sent=["MAIL FROM:<{sender}>"],
        upto=stage, needs=needs(stage), allowed=MAIL_AGAIN,
    )  # fmt: skip


@here.case(
    "4.1.4-mail-again-recipients", level="IMPLIED", clauses="5321-4.1.4-c 5321-4.1.1.2-a",
    requirement="A second MAIL is refused and changes nothing, or it drops all recipients",
    sent="MAIL | RCPT | MAIL | DATA", needs="rcpt",
    allowed=NOTHING_TO_SEND | {"refused, nothing changed": PASS},
    security="a message reaches recipients of another one",
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("rcpt")
    again = await talk.say("MAIL FROM:<>")
    if again.positive:
        return await data_refused(talk)
    data = await talk.say("DATA")
    if data.code == "354":
        return "refused, nothing changed"
    return "refused, but the transaction is gone", f"{again} | {data}"


# -- EHLO again -----------------------------------------------------------------------------------


def _again(verb: str, stage: Stage, slug: str, then: str, allowed: Allowed) -> None:
    @here.case(
        f"4.1.4-{verb.lower()}-{slug}", level="MUST", needs="rcpt",
        clauses="5321-4.1.4-b 5321-3.3-a",
        requirement=f"{verb} in a transaction ends it: RCPT is out of order, MAIL is not",
        sent=f"({stage}) | {verb} client.conform.example | {then}",
        allowed={**allowed, "greeting refused": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto(stage)
        again = await talk.say(talk.fill(f"{verb} {{hostname}}"))
        if not again.positive:
            return "greeting refused", str(again)
        return await talk.say(talk.fill(then))


for verb, again in (("EHLO", EHLO_AGAIN), ("HELO", HELO_AGAIN)):
    here.probe(
        f"4.1.4-{verb.lower()}-again", level="IMPLIED",
        clauses="5321-4.1.4-b" if verb == "EHLO" else "5321-4.1.4-b 5321-F.3-a",
        requirement=f"{verb} may be given again", sent=[f"{verb} {{hostname}}"], allowed=again,
    )  # fmt: skip
    _again(verb, "mail", "clears-sender", "RCPT TO:<{rcpt}>", RCPT_WITHOUT_MAIL)
    _again(verb, "rcpt", "then-mail", "MAIL FROM:<{sender}>", MAIL_TAKEN)
here.probe(
    "4.1.4-ehlo-after-helo", level="IMPLIED", clauses="5321-4.1.4-b", upto="greeting",
    requirement="EHLO may follow HELO", sent=["HELO {hostname}", "EHLO {hostname}"],
    allowed=EHLO_AGAIN,
)  # fmt: skip

# -- without EHLO ---------------------------------------------------------------------------------

#: RSET, NOOP and QUIT are in rfc5321_4_1_1_5.
for slug, line, allowed in (
    ("help", "HELP", {"2yz": PASS, "50z": INFO}),
    ("vrfy", "VRFY postmaster", {"25z": PASS, "5yz": INFO, "4yz": INFO}),
    ("expn", "EXPN staff", {"25z": PASS, "5yz": INFO, "4yz": INFO}),
):
    here.probe(
        f"4.1.4-early-{slug}", level="SHOULD", clauses="5321-4.1.4-e", sent=[line],
        requirement="Commands that have nothing to do with a transaction need no EHLO: no 503",
        allowed=allowed | EARLY, upto="greeting",
    )  # fmt: skip

# -- the name in EHLO -----------------------------------------------------------------------------


@here.case(
    "4.1.4-unverified-name", level="MUST NOT", clauses="5321-4.1.4-f 5321bis-4.1.1.1-a",
    requirement="Mail is not refused only because the name in EHLO is not the client's",
    sent="EHLO with a name that does not exist | MAIL | RCPT | DATA | a message", needs="rcpt",
    allowed={"250": PASS, "5yz": NON_STRICT, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.another().upto("rcpt")  # with the ordinary name
    await talk.upto("greeting")
    lines = ("EHLO no-such-name.invalid", "MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA")
    for line in lines:
        reply = await talk.say(talk.fill(line))
        if not reply.positive:
            return reply
    return await talk.content(talk.message())
