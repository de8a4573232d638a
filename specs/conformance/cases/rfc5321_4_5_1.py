"""RFC 5321 4.5.1: the commands that every server has, and the mailbox that every domain has.

VRFY is in the list of required commands and the table of 4.3.2 has 502 for it nevertheless: 502 is
taken for non-strict, 500 (which says that the verb is unknown) is a fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Session, Stage

here = Section("5321")

#: All that says that a verb is known: done, or refused for another reason.
KNOWN: Final[Mapping[str, Verdict]] = {
    "2yz": PASS, "3yz": PASS, "4yz": PASS, "501": PASS, "503": PASS, "504": PASS, "52z": PASS,
    "53z": PASS, "55z": PASS,
}  # fmt: skip
VERIFIED: Final[Mapping[str, Verdict]] = {
    **dict.fromkeys(("250", "251", "252", "504", "550", "551", "553"), PASS),
    "502": NON_STRICT, "501": NON_STRICT, "503": NON_STRICT, "53z": NON_STRICT, "55z": NON_STRICT,
    "4yz": NON_STRICT,
}  # fmt: skip
REQUIRED: Final[tuple[tuple[str, Stage, Sequence[str], str], ...]] = (
    ("EHLO", "greeting", ("EHLO {hostname}",), ""),
    ("HELO", "greeting", ("HELO {hostname}",), ""),
    ("MAIL", "ehlo", ("MAIL FROM:<{sender}>",), ""),
    ("RCPT", "mail", ("RCPT TO:<{rcpt}>",), "rcpt"),
    ("DATA", "rcpt", ("DATA",), "rcpt"),
    ("RSET", "ehlo", ("RSET",), ""),
    ("NOOP", "ehlo", ("NOOP",), ""),
    ("QUIT", "ehlo", ("QUIT",), ""),
)
for verb, upto, lines, needs in REQUIRED:
    here.probe(
        f"4.5.1-verb-{verb.lower()}",
        level="MUST",
        clauses="5321-4.5.1-b",
        upto=upto,
        sent=lines,
        requirement=f"{verb} is a command that the server has (not 500 or 502)",
        allowed=KNOWN,
        needs=needs,
    )
for slug, line, needs in (
    ("known", "VRFY {rcpt}", "rcpt"),
    ("unknown", "VRFY {unknown}", "unknown"),
    ("postmaster", "VRFY postmaster", ""),
    ("word", "VRFY someone", ""),
):
    here.probe(
        f"4.5.1-vrfy-{slug}",
        level="MUST",
        clauses="5321-4.5.1-a 5321-4.5.1-b",
        sent=[line],
        needs=needs,
        requirement=f"VRFY ({slug}) is a command that the server has; 252 if it is not to tell",
        allowed=VERIFIED,
    )


@here.case(
    "4.5.1-helo-mail",
    level="MUST",
    clauses="5321-4.5.1-b",
    needs="rcpt",
    sent="HELO, then a message",
    requirement="Mail is taken from a client that says HELO and knows no extension",
    allowed={"250": PASS, "4yz": INFO},
)
async def _(talk: Session) -> Observed:
    await talk.upto("greeting")
    reply = await talk.say(f"HELO {talk.given.hostname}")
    if not reply.positive:
        return reply
    talk.stage = "ehlo"
    for line in (f"MAIL FROM:<{talk.given.sender}>", f"RCPT TO:<{talk.given.rcpt}>", "DATA"):
        reply = await talk.say(line)
        if not reply.positive:
            return reply
    return await talk.content(talk.message())


# -- postmaster -----------------------------------------------------------------------------------

TAKEN: Final[Mapping[str, Verdict]] = {"250": PASS, "251": PASS, "4yz": INFO}
for slug, address in (
    ("at-domain", "postmaster@{domain}"),
    ("capital", "Postmaster@{domain}"),
    ("capitals", "POSTMASTER@{domain}"),
    ("mixed", "pOsTmAsTeR@{domain}"),
    ("alone", "Postmaster"),
    ("alone-small", "postmaster"),
    ("alone-capitals", "POSTMASTER"),
):
    here.probe(
        f"4.5.1-postmaster-{slug}", level="MUST", clauses="5321-4.5.1-c", upto="mail", needs="rcpt",
        requirement=f"Mail for postmaster is accepted, however it is written ({slug})",
        sent=[f"RCPT TO:<{address}>"], allowed=TAKEN,
    )  # fmt: skip


@here.case(
    "4.5.1-postmaster-second-domain", level="MUST", clauses="5321-4.5.1-c", needs="rcpt rcpt2",
    sent="RCPT for postmaster at the domain of the second mailbox",
    requirement="Postmaster is accepted at each domain of the server",
    allowed={**TAKEN, "the same domain": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    domain = talk.given.rcpt2.rpartition("@")[2]
    if domain.casefold() == talk.given.domain.casefold():
        return "the same domain"
    await talk.upto("mail")
    return await talk.say(f"RCPT TO:<postmaster@{domain}>")


@here.case(
    "4.5.1-postmaster-message", level="MUST", clauses="5321-4.5.1-c", needs="rcpt",
    sent="a whole message for postmaster",
    requirement="A message for postmaster is taken",
    allowed={"250": PASS, "4yz": INFO, "content refused": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("mail")
    reply = await talk.say(f"RCPT TO:<postmaster@{talk.given.domain}>")
    if not reply.positive:
        return reply
    talk.stage = "rcpt"
    await talk.upto("data")
    final = await talk.content(talk.message())
    return ("content refused", str(final)) if final.code.startswith("5") else final


BROAD: Final[Mapping[str, Verdict]] = {
    "250": PASS,
    "251": PASS,
    "4yz": NON_STRICT,
    "5yz": NON_STRICT,
}
for slug, hello, sender, what in (
    ("null-sender", "EHLO {hostname}", "", "the null reverse-path"),
    (
        "unknown-sender",
        "EHLO {hostname}",
        "someone@no-such-domain.invalid",
        "a domain that does not exist",
    ),
    ("own-domain", "EHLO {hostname}", "postmaster@{domain}", "postmaster of the same domain"),
    ("literal", "EHLO [127.0.0.1]", "{sender}", "a client with no name"),
    ("helo", "HELO {hostname}", "{sender}", "a client that says HELO"),
):

    async def _blocked(talk: Session, hello: str = hello, sender: str = sender) -> Observed:
        await talk.upto("greeting")
        reply = Reply()
        for line in (hello, f"MAIL FROM:<{sender}>", "RCPT TO:<postmaster@{domain}>"):
            reply = await talk.say(talk.fill(line))
            if not reply.positive:
                break
        return reply

    here.case(
        f"4.5.1-postmaster-from-{slug}",
        level="SHOULD",
        clauses="5321-4.5.1-d",
        needs="rcpt",
        requirement=f"Mail for postmaster is accepted from {what}, too",
        allowed=BROAD,
        sent=f"{hello} | MAIL FROM:<{sender}> | RCPT TO:<postmaster@{{domain}}>",
    )(_blocked)
