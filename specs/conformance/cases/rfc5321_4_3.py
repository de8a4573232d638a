"""RFC 5321 4.3: who speaks when, and which code which command may be answered with.

The table of 4.3.2 is `TABLE`.  Codes that any command may have (500, 501, 421) are no surprise
where a line can be read in more than one way, but an ordinary line is no syntax error.  A refusal
with a code that the table does not have is no harm (its first digit decides): non-strict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Session, Stage

here = Section("5321")

#: By command: (codes of success, codes of refusal) in the table of 4.3.2.
TABLE: Final[Mapping[str, tuple[str, str]]] = {
    "connection": ("220", "554"),
    "EHLO": ("250", "504 550 502"),
    "HELO": ("250", "504 550 502"),
    "MAIL": ("250", "552 451 452 550 553 503 455 555"),
    "RCPT": ("250 251", "550 551 552 553 450 451 452 503 455 555"),
    "DATA": ("354", "503 554 450 550"),
    "content": ("250", "552 554 451 452 450 550"),
    "RSET": ("250", ""),
    "VRFY": ("250 251 252", "550 551 553 502 504"),
    "EXPN": ("250 252", "550 500 502 504"),
    "HELP": ("211 214", "502 504"),
    "NOOP": ("250", ""),
    "QUIT": ("221", ""),
}


def table(verb: str, *refusals: str) -> dict[str, Verdict]:
    """What is allowed for it by the table, and by policy.  refusals: more of them."""
    good, bad = TABLE[verb]
    allowed = dict.fromkeys((*good.split(), *bad.split(), *refusals), PASS)
    allowed[f"{good[0]}yz"] = NON_STRICT
    if bad:
        # 500 and 501 say that an ordinary line is not understood: no code of the table would.
        allowed |= {
            key: NON_STRICT for key in ("4yz", "502", "504", "53z", "55z") if key not in allowed
        }
        allowed.setdefault("521", NON_STRICT)
    return allowed


@here.case(
    "4.3.1-greeting-unasked",
    level="IMPLIED",
    clauses="5321-4.3.2-f",
    sent="nothing",
    requirement="The server greets by itself: 220, or 554 if it takes no mail",
    allowed=table("connection"),
)
async def _(talk: Session) -> Observed:
    await talk.upto("connect")
    return await talk.reply()


@here.case(
    "4.3.1-nothing-before-a-command",
    level="IMPLIED",
    clauses="5321-4.2-b",
    sent="EHLO, then nothing, then NOOP",
    requirement="The server says nothing by itself between a reply and the next command",
    allowed={"quiet": PASS},
)
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    reply = await talk.unasked()
    if reply.label not in ("silent", "421"):
        return f"{reply.kind} by itself", str(reply)
    noop = await talk.say("NOOP")
    return ("quiet" if noop.code == "250" else noop.label), str(noop)


PROBES: Final[tuple[tuple[str, str, Stage, Sequence[str], str], ...]] = (
    ("ehlo", "EHLO", "greeting", ("EHLO {hostname}",), ""),
    ("helo", "HELO", "greeting", ("HELO {hostname}",), ""),
    ("mail", "MAIL", "ehlo", ("MAIL FROM:<{sender}>",), ""),
    ("mail-null", "MAIL", "ehlo", ("MAIL FROM:<>",), ""),
    ("mail-after-rset", "MAIL", "mail", ("RSET", "MAIL FROM:<{sender}>"), ""),
    ("rcpt", "RCPT", "mail", ("RCPT TO:<{rcpt}>",), "rcpt"),
    ("rcpt-second", "RCPT", "rcpt", ("RCPT TO:<{rcpt2}>",), "rcpt rcpt2"),
    ("rcpt-unknown", "RCPT", "mail", ("RCPT TO:<{unknown}>",), "unknown"),
    ("data", "DATA", "rcpt", ("DATA",), "rcpt"),
    ("rset-at-first", "RSET", "ehlo", ("RSET",), ""),
    ("rset-after-rcpt", "RSET", "rcpt", ("RSET",), "rcpt"),
    ("vrfy", "VRFY", "ehlo", ("VRFY {rcpt}",), "rcpt"),
    ("vrfy-unknown", "VRFY", "ehlo", ("VRFY {unknown}",), "unknown"),
    ("expn", "EXPN", "ehlo", ("EXPN nobody-here",), ""),
    ("help", "HELP", "ehlo", ("HELP",), ""),
    ("help-mail", "HELP", "ehlo", ("HELP MAIL",), ""),
    ("noop", "NOOP", "ehlo", ("NOOP",), ""),
    ("noop-after-rcpt", "NOOP", "rcpt", ("NOOP",), "rcpt"),
    ("quit", "QUIT", "ehlo", ("QUIT",), ""),
    ("quit-at-first", "QUIT", "greeting", ("QUIT",), ""),
    ("quit-after-rcpt", "QUIT", "rcpt", ("QUIT",), "rcpt"),
)
#: What may not be known at all, and then is 500 (4.2.4).
OPTIONAL: Final = ("EXPN", "HELP")
for slug, verb, upto, lines, needs in PROBES:
    more = ("500", "501") if verb in OPTIONAL else ()
    allowed = table(verb, *more)
    if verb == "VRFY":  # that it is missing is a fail of 4.5.1
        allowed |= {"500": NON_STRICT, "501": NON_STRICT}
    here.probe(
        f"4.3.2-code-{slug}", level="IMPLIED", clauses="5321-4.3.2-f", sent=lines, upto=upto,
        requirement=f"{verb} ({slug}) is answered with a code that the table of replies has for it",
        allowed=allowed, needs=needs,
    )  # fmt: skip


@here.case(
    "4.3.2-code-content", level="IMPLIED", clauses="5321-4.3.2-f", sent="a message",
    requirement="A message is answered with a code that the table of replies has for it",
    allowed=table("content"), needs="rcpt",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("data")
    return await talk.content(talk.message())


# -- arguments where there are none ---------------------------------------------------------------

STRICT: Final[Mapping[str, Verdict]] = {"501": PASS, "5yz": NON_STRICT}
here.probe(
    "4.3.2-data-with-argument", level="SHOULD", clauses="5321-4.3.2-a", upto="rcpt", needs="rcpt",
    requirement="DATA with an argument is a syntax error (501)", sent=["DATA now"],
    allowed={**STRICT, "354": NON_STRICT},
)  # fmt: skip
here.probe(
    "4.3.2-rset-with-argument", level="SHOULD", clauses="5321-4.3.2-b", upto="mail",
    requirement="RSET with an argument is a syntax error (501)", sent=["RSET now"],
    allowed={**STRICT, "250": NON_STRICT},
)  # fmt: skip
here.probe(
    "4.3.2-quit-with-argument", level="SHOULD", clauses="5321-4.3.2-c", upto="ehlo",
    requirement="QUIT with an argument is a syntax error (501)", sent=["QUIT now"],
    allowed={**STRICT, "221": NON_STRICT},
)  # fmt: skip


# -- order ----------------------------------------------------------------------------------------

NO_TRANSACTION: Final[Mapping[str, Verdict]] = {
    "503": PASS,
    "554": PASS,
    "5yz": NON_STRICT,
    "354": INFO,
}
ORDER: Final[tuple[tuple[str, Stage, Sequence[str], Mapping[str, Verdict], str, str], ...]] = (
    ("data-at-first", "ehlo", ("DATA",), NO_TRANSACTION, "DATA without MAIL", ""),
    ("data-without-rcpt", "mail", ("DATA",), NO_TRANSACTION, "DATA without RCPT", ""),
    ("data-after-rset", "rcpt", ("RSET", "DATA"), NO_TRANSACTION, "DATA after RSET", "rcpt"),
    ("rcpt-at-first", "ehlo", ("RCPT TO:<{rcpt}>",), {"503": PASS, "5yz": NON_STRICT},
     "RCPT without MAIL", "rcpt"),
    ("rcpt-after-rset", "mail", ("RSET", "RCPT TO:<{rcpt}>"), {"503": PASS, "5yz": NON_STRICT},
     "RCPT after RSET", "rcpt"),
)  # fmt: skip
for slug, upto, lines, how, what, needs in ORDER:
    here.probe(
        f"4.3.2-order-{slug}",
        level="IMPLIED",
        clauses="5321-4.3.2-f 5321-4.2.3-a",
        upto=upto,
        sent=lines,
        requirement=f"{what} is out of order: 503 (DATA may be answered 554)",
        allowed=how,
        needs=needs,
    )


@here.case(
    "4.3.2-order-data-all-refused", level="IMPLIED", clauses="5321-4.3.2-f", needs="unknown",
    sent="RCPT for an address that is refused, then DATA",
    requirement="DATA is answered 503 or 554 when all recipients were refused",
    allowed={**NO_TRANSACTION, "recipient accepted": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("mail")
    if (await talk.say(talk.fill("RCPT TO:<{unknown}>"))).positive:
        return "recipient accepted"
    return await talk.say("DATA")


@here.case(
    "4.3.2-order-second-transaction", level="IMPLIED", clauses="5321-4.3.2-f", needs="rcpt",
    sent="a message, then RCPT without MAIL",
    requirement="After a message a new transaction needs MAIL again: RCPT is out of order",
    allowed={"503": PASS, "5yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.transact()
    return await talk.say(talk.fill("RCPT TO:<{rcpt}>"))


@here.case(
    "4.3.2-order-next-transaction", level="IMPLIED", clauses="5321-4.3.2-f", needs="rcpt",
    sent="a message, then MAIL",
    requirement="After a message the next transaction begins with MAIL, in the same session",
    allowed={"250": PASS, "2yz": NON_STRICT, "4yz": INFO, "550": INFO, "452": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.transact()
    return await talk.say(talk.fill("MAIL FROM:<{sender}>"))
