"""RFC 5321 4.1.1.3: RCPT: its forms, source routes, many recipients, the same one twice.

A server may refuse a recipient for reasons of its own (550 and its like), but not what is valid as
a syntax error.  What the local part and the domain may be is in rfc5321_4_1_2.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import LENIENT, NO_PATH, NOTHING_TO_SEND, RCPT_TAKEN, ROUTED
from specs.conformance.arrivals import overtaken
from specs.conformance.asking import data_refused, octets
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

for slug, line in (("lower", "rcpt to:<{rcpt}>"), ("mixed", "RcPt tO:<{rcpt}>")):
    here.probe(
        f"4.1.1.3-case-{slug}", level="MUST", clauses="5321-2.4-b", sent=[line], upto="mail",
        requirement="RCPT TO is known in any case", allowed=RCPT_TAKEN, needs="rcpt",
    )  # fmt: skip

# -- source routes --------------------------------------------------------------------------------

for slug, route in (
    ("one", "@a.example:"), ("two", "@a.example,@b.example:"), ("own", "@{domain}:"),
    ("capitals", "@A.EXAMPLE:"),
    ("many", f"{','.join(f'@{each}.example' for each in 'abcdefghij')}:"),
):  # fmt: skip
    here.probe(
        f"4.1.1.3-source-route-{slug}", level="MUST", upto="mail", needs="rcpt", allowed=ROUTED,
        clauses="5321-4.1.1.3-a 5321-3.6.1-b 5321bis-4.1.2-a",
        requirement="A source route in RCPT is known as such: taken, or refused for policy",
        sent=[f"RCPT TO:<{route}{{rcpt}}>"],
    )  # fmt: skip

for slug, line in (("", "{relay}@{domain}"), ("-reversed", "{rcpt}@elsewhere.example")):
    here.probe(
        f"4.1.1.3-two-ats{slug}", level="IMPLIED", clauses="5321-4.1.2-f", upto="mail",
        requirement="A path with two @ outside of quotes is no path", sent=[f"RCPT TO:<{line}>"],
        allowed=NO_PATH, needs="rcpt relay",
        security="who is meant depends on the reader: mail can be relayed",
    )  # fmt: skip

# -- its syntax -----------------------------------------------------------------------------------

for slug, text in (("null", b"RCPT TO:<>"), ("null-space", b"RCPT TO:< >")):
    octets(
        here, f"4.1.1.3-{slug}", text, level="IMPLIED", clauses="5321-4.1.1.3-c 5321-3.3-g",
        upto="mail", requirement="The null path is no recipient", allowed=NO_PATH,
    )  # fmt: skip

BAD: Final[tuple[tuple[str, bytes], ...]] = (
    ("no-brackets", b"RCPT TO:{rcpt}"), ("space-after-colon", b"RCPT TO: <{rcpt}>"),
    ("space-before-colon", b"RCPT TO :<{rcpt}>"), ("space-both", b"RCPT TO : <{rcpt}>"),
    ("no-to", b"RCPT <{rcpt}>"),
    ("no-to-bare", b"RCPT {rcpt}"), ("no-colon", b"RCPT TO<{rcpt}>"),
    ("no-colon-space", b"RCPT TO <{rcpt}>"), ("from-for-to", b"RCPT FROM:<{rcpt}>"),
    ("not-closed", b"RCPT TO:<{rcpt}"), ("not-opened", b"RCPT TO:{rcpt}>"),
    ("closed-twice", b"RCPT TO:<{rcpt}>>"), ("text-behind", b"RCPT TO:<{rcpt}>x"),
    ("no-space-parameter", b"RCPT TO:<{rcpt}>NOTIFY=NEVER"),
    ("display-name", b"RCPT TO:Ada <{rcpt}>"), ("comment-behind", b"RCPT TO:<{rcpt}> (Ada)"),
    ("space-inside", b"RCPT TO:< {rcpt} >"), ("group", b"RCPT TO:<list:{rcpt};>"),
)  # fmt: skip
for slug, text in BAD:
    octets(
        here, f"4.1.1.3-bad-{slug}", text, level="IMPLIED", upto="mail", needs="rcpt",
        clauses="5321-4.1.1.3-b 5321-3.3-d 5321-3.3-g", allowed=LENIENT,
        requirement="RCPT TO: is followed by a path in angle brackets, and nothing else but"
        " parameters behind a space",
    )  # fmt: skip
#: Of two paths one is good.
GUESSED: Final = ("two-paths", "two-paths-comma", "two-paths-space")
for slug, text in (
    ("alone", b"RCPT"), ("to", b"RCPT TO"), ("to-colon", b"RCPT TO:"), ("to-space", b"RCPT TO: "),
    ("open", b"RCPT TO:<"), ("two-paths", b"RCPT TO:<{rcpt}><other@{domain}>"),
    ("two-paths-comma", b"RCPT TO:<{rcpt}>,<other@{domain}>"),
    ("two-mailboxes", b"RCPT TO:<{rcpt},other@{domain}>"),
    ("two-paths-space", b"RCPT TO:<{rcpt}> <other@{domain}>"),
    ("route-alone", b"RCPT TO:<@a.example>"),
    ("route-open", b"RCPT TO:<@a.example:>"),
):  # fmt: skip
    octets(
        here, f"4.1.1.3-none-{slug}", text, level="IMPLIED", upto="mail", needs="rcpt",
        clauses="5321-4.1.1.3-c 5321-3.3-g 5321-4.2.3-a",
        allowed=LENIENT if slug in GUESSED else NO_PATH,
        requirement="RCPT without one recipient is a syntax error",
    )  # fmt: skip

# -- what it does ---------------------------------------------------------------------------------


@here.case(
    "4.1.1.3-unknown-only", level="IMPLIED", needs="unknown",
    clauses="5321-4.1.1.3-b 5321-3.3-c 5321-4.3.2-f",
    requirement="With no recipient that was taken, a message is not taken",
    sent="MAIL | RCPT, refused | DATA",
    allowed=NOTHING_TO_SEND | {"not refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("mail")
    reply = await talk.say(talk.fill("RCPT TO:<{unknown}>"))
    if reply.positive:
        return "not refused", str(reply)
    return await data_refused(talk)


@here.case(
    "4.1.1.3-bad-then-good", level="IMPLIED", clauses="5321-4.1.1.3-b", needs="rcpt",
    requirement="A recipient that is refused takes nothing from the transaction",
    sent="MAIL | RCPT TO:<> | RCPT | DATA", allowed={"354": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("mail")
    await talk.say("RCPT TO:<>")
    reply = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
    return await talk.say("DATA") if reply.positive else reply


@here.case(
    "4.1.1.3-good-then-bad", level="IMPLIED", clauses="5321-4.1.1.3-b", needs="rcpt",
    requirement="A recipient that is refused does not take away those before it",
    sent="MAIL | RCPT | RCPT TO:<> | DATA", allowed={"354": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await talk.say("RCPT TO:<>")
    return await talk.say("DATA")


@here.case(
    "4.1.1.3-two", level="IMPLIED", clauses="5321-4.1.1.3-b", needs="rcpt rcpt2",
    requirement="Two recipients of one message are both taken", sent="MAIL | RCPT | RCPT | DATA",
    allowed={"354": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    reply = await talk.say(talk.fill("RCPT TO:<{rcpt2}>"))
    return await talk.say("DATA") if reply.positive else reply


@here.case(
    "4.1.1.3-route-delivered", level="SHOULD", role="delivery",
    clauses="5321-4.1.1.3-a 5321-3.6.1-b",
    requirement="A source route is dropped: the mail goes to the mailbox behind it",
    sent="MAIL | RCPT TO:<@a.example,@b.example:...> | DATA | a message", needs="rcpt maildir",
    allowed={"delivered": PASS, "refused": INFO, "not delivered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> str | tuple[str, str]:
    await talk.upto("mail")
    for line in ("RCPT TO:<@a.example,@b.example:{rcpt}>", "DATA"):
        reply = await talk.say(talk.fill(line))
        if not reply.positive:
            return "refused", str(reply)
    end = await talk.content(talk.message())
    if not end.positive:
        return "refused", str(end)
    return "delivered" if await talk.arrived() else "not delivered"


@here.case(
    "4.1.1.3-same-twice", level="IMPLIED", clauses="5321-4.1.1.3-f", role="delivery",
    requirement="The same recipient twice gets the message, preferably once",
    sent="MAIL | RCPT | RCPT, the same | DATA | a message", needs="rcpt maildir",
    allowed={"once": PASS, "twice": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> str | tuple[str, str]:
    await talk.upto("rcpt")
    reply = await talk.say(talk.fill("RCPT TO:<{rcpt}>"))
    await talk.must("DATA")
    end = await talk.content(talk.message())
    if not end.positive:
        return "refused", f"{reply} | {end}"
    await talk.arrived()
    await overtaken(talk)
    found = await talk.look(talk.given.maildirs[0], token=f"<{talk.token}@", patience_s=0.0)
    return {0: "not delivered", 1: "once", 2: "twice"}.get(len(found), "more than twice")
