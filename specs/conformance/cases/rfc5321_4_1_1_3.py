"""RFC 5321 4.1.1.3: RCPT: its forms, source routes, many recipients, the same one twice.

A server may refuse a recipient for reasons of its own (550 and its like), but not what is valid as
a syntax error.  What the local part and the domain may be is in rfc5321_4_1_2.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.cases.rfc5321_4_1_1 import LENIENT, SYNTAX, octets
from specs.conformance.cases.rfc5321_4_1_1_4 import NOTHING_TO_SEND, data_refused, later
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

#: A valid recipient that the server need not like; 500, 501 and 555 would say that it is not valid.
VALID: Final = {
    "25z": PASS, "550": PASS, "551": PASS, "554": PASS, "504": INFO, "521": INFO, "552": INFO,
    "556": INFO,
    "553": NON_STRICT, "4yz": INFO,
}  # fmt: skip
TAKEN: Final = {"25z": PASS, "4yz": INFO}

here.probe(
    "4.1.1.3-rcpt", level="IMPLIED", clauses="5321-4.1.1.3-b", sent=["RCPT TO:<{rcpt}>"],
    requirement="A mailbox of this server is taken", allowed=TAKEN, upto="mail", needs="rcpt",
)  # fmt: skip
for slug, line in (("lower", "rcpt to:<{rcpt}>"), ("mixed", "RcPt tO:<{rcpt}>")):
    here.probe(
        f"4.1.1.3-case-{slug}", level="MUST", clauses="5321-2.4-b", sent=[line], upto="mail",
        requirement="RCPT TO is known in any case", allowed=TAKEN, needs="rcpt",
    )  # fmt: skip
for slug, line in (
    ("short", "RCPT TO:<Postmaster>"), ("short-lower", "RCPT TO:<postmaster>"),
    ("short-capitals", "RCPT TO:<POSTMASTER>"), ("long", "RCPT TO:<Postmaster@{domain}>"),
    ("long-lower", "RCPT TO:<postmaster@{domain}>"),
):  # fmt: skip
    here.probe(
        f"4.1.1.3-postmaster-{slug}", level="IMPLIED", clauses="5321-4.1.1.3-b", sent=[line],
        requirement="The postmaster, with or without a domain and in any case, is no syntax error",
        allowed=VALID, upto="mail", needs="rcpt",
    )  # fmt: skip

# -- source routes --------------------------------------------------------------------------------

for slug, line in (
    ("one", "RCPT TO:<@a.example:{rcpt}>"), ("two", "RCPT TO:<@a.example,@b.example:{rcpt}>"),
    ("own", "RCPT TO:<@{domain}:{rcpt}>"),
    ("many", f"RCPT TO:<{','.join(f'@{each}.example' for each in 'abcdefghij')}:{{rcpt}}>"),
):  # fmt: skip
    here.probe(
        f"4.1.1.3-source-route-{slug}", level="MUST", clauses="5321-4.1.1.3-a", sent=[line],
        requirement="A source route in RCPT is known as such: taken, or refused for policy",
        allowed=VALID, upto="mail", needs="rcpt",
    )  # fmt: skip
here.probe(
    "4.1.1.3-source-route-relay", level="IMPLIED", clauses="5321-4.1.1.3-a", upto="mail",
    requirement="A source route that begins here does not open the way to others",
    sent=["RCPT TO:<@{domain}:{relay}>"], needs="rcpt relay",
    allowed={"55z": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
    security="mail is relayed for anybody",
)  # fmt: skip


def _hidden_route(slug: str, line: str) -> None:
    @here.case(
        f"4.1.1.3-hidden-route-{slug}", level="IMPLIED", clauses="5321-4.1.1.3-a", sent=line,
        requirement="An address elsewhere hidden in a local part is, at most, a local part",
        needs="rcpt relay", allowed={"5yz": PASS, "4yz": INFO, "25z": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("mail")
        remote, _, elsewhere = talk.given.relay.rpartition("@")
        text = line.replace("{remote}", remote).replace("{elsewhere}", elsewhere)
        return await talk.say(talk.fill(text))


for slug, line in (
    ("percent", "RCPT TO:<{remote}%{elsewhere}@{domain}>"),
    ("bang", "RCPT TO:<{elsewhere}!{remote}@{domain}>"),
    ("quoted", 'RCPT TO:<"{relay}"@{domain}>'),
):  # fmt: skip
    _hidden_route(slug, line)

for slug, line in (("", "{relay}@{domain}"), ("-reversed", "{rcpt}@elsewhere.example")):
    here.probe(
        f"4.1.1.3-two-ats{slug}", level="IMPLIED", clauses="5321-4.1.2-f", upto="mail",
        requirement="A path with two @ outside of quotes is no path", sent=[f"RCPT TO:<{line}>"],
        allowed=SYNTAX | {"553": PASS, "550": PASS, "554": PASS}, needs="rcpt relay",
        security="who is meant depends on the reader: mail can be relayed",
    )  # fmt: skip

# -- its syntax -----------------------------------------------------------------------------------

for slug, text in (("null", b"RCPT TO:<>"), ("null-space", b"RCPT TO:< >")):
    octets(
        here, f"4.1.1.3-{slug}", text, level="IMPLIED", clauses="5321-4.1.1.3-c", upto="mail",
        requirement="The null path is no recipient",
        allowed={"501": PASS, "550": PASS, "553": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
    )  # fmt: skip

BAD: Final[tuple[tuple[str, bytes], ...]] = (
    ("no-brackets", b"RCPT TO:{rcpt}"), ("space-after-colon", b"RCPT TO: <{rcpt}>"),
    ("space-before-colon", b"RCPT TO :<{rcpt}>"), ("no-to", b"RCPT <{rcpt}>"),
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
        clauses="5321-4.1.1.3-b", allowed=LENIENT | {"550": PASS},
        requirement="RCPT TO: is followed by a path in angle brackets, and nothing else but"
        " parameters behind a space",
    )  # fmt: skip
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
        clauses="5321-4.1.1.3-c", requirement="RCPT without one recipient is a syntax error",
        allowed=SYNTAX | {"553": PASS, "555": PASS, "550": PASS},
    )  # fmt: skip

# -- what it does ---------------------------------------------------------------------------------


@here.case(
    "4.1.1.3-unknown-only", level="IMPLIED", clauses="5321-4.1.1.3-b", needs="rcpt unknown",
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
    "4.1.1.3-two-delivered", level="IMPLIED", clauses="5321-4.1.1.3-b", role="delivery",
    requirement="A message for two recipients arrives at both",
    sent="MAIL | RCPT | RCPT | DATA | a message", needs="rcpt rcpt2 maildir maildir2",
    allowed={"both": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    end = await talk.transact(rcpts=talk.given.rcpts[:2])
    if not end.positive:
        return end
    first, second = await talk.arrived(), await talk.arrived(box=1)
    return "both" if first and second else "not both", f"{len(first)} and {len(second)}"


@here.case(
    "4.1.1.3-route-delivered", level="SHOULD", clauses="5321-4.1.1.3-a", role="delivery",
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
    await later(talk)
    found = await talk.look(talk.given.maildirs[0], token=f"<{talk.token}@", patience_s=0.0)
    return {0: "not delivered", 1: "once", 2: "twice"}.get(len(found), "more than twice")
