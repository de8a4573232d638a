"""RFC 5321 4.3: who speaks when, and which code which command may be answered with.

The table of 4.3.2 is in `allowed`, in the words of each question.  What is asked in another section
is not asked here once more: greetings, EHLO, HELO, DATA, RSET, VRFY, HELP, NOOP, QUIT.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from specs.conformance.allowed import (
    EXPN,
    MAIL_TAKEN,
    MAILBOX,
    MESSAGE,
    SENDER,
    Allowed,
    with_argument,
)
from specs.conformance.model import PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session, Stage

here = Section("5321")


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


REQUIRED: Final = "5321-4.3.2-f 5321-4.5.1-b"
PROBES: Final[tuple[tuple[str, str, Stage, Sequence[str], str, Allowed], ...]] = (
    ("mail", REQUIRED, "ehlo", ("MAIL FROM:<{sender}>",), "", SENDER),
    ("mail-after-rset", "5321-4.3.2-f", "mail", ("RSET", "MAIL FROM:<{sender}>"), "", SENDER),
    ("rcpt", f"{REQUIRED} 5321-4.1.1.3-b", "mail", ("RCPT TO:<{rcpt}>",), "rcpt", MAILBOX),
    ("rcpt-second", "5321-4.3.2-f", "rcpt", ("RCPT TO:<{rcpt2}>",), "rcpt rcpt2", MAILBOX),
    ("expn", "5321-4.3.2-f", "ehlo", ("EXPN nobody-here",), "", EXPN),
)
for slug, clauses, upto, lines, needs, allowed in PROBES:
    here.probe(
        f"4.3.2-code-{slug}", level="IMPLIED", clauses=clauses, sent=lines, upto=upto,
        requirement=f"{lines[-1][:4]} is answered with a code that the table of replies has for it",
        allowed=allowed, needs=needs,
    )  # fmt: skip


@here.case(
    "4.3.2-code-content", level="IMPLIED", clauses="5321-4.3.2-f", sent="(data) | a message",
    requirement="A message is answered with a code that the table of replies has for it",
    allowed=MESSAGE, needs="rcpt",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("data")
    return await talk.content(talk.message())


# -- arguments where there are none ---------------------------------------------------------------

NO_ARGUMENT: Final[tuple[tuple[str, str, Stage, str, str, str], ...]] = (
    ("data-with-argument", "a", "rcpt", "DATA now", "354", "rcpt"),
    ("data-with-path", "a", "rcpt", "DATA <{rcpt}>", "354", "rcpt"),
    ("rset-with-argument", "b", "mail", "RSET now", "250", ""),
    ("quit-with-argument", "c", "ehlo", "QUIT now", "221", ""),
)
for slug, letter, upto, line, done, needs in NO_ARGUMENT:
    here.probe(
        f"4.3.2-{slug}", level="SHOULD", clauses=f"5321-4.3.2-{letter} 5321-4.1.1-d", upto=upto,
        requirement=f"{line[:4]} with an argument is a syntax error (501)", sent=[line],
        allowed=with_argument(done), needs=needs,
    )  # fmt: skip

# -- order: the rest is in rfc5321_4_1_4 ----------------------------------------------------------


@here.case(
    "4.3.2-order-next-transaction", level="IMPLIED", clauses="5321-4.3.2-f", needs="rcpt",
    sent="a message, then MAIL",
    requirement="After a message the next transaction begins with MAIL, in the same session",
    allowed=MAIL_TAKEN,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.transact()
    return await talk.say(talk.fill("MAIL FROM:<{sender}>"))
