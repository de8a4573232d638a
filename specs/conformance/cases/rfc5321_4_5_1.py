"""RFC 5321 4.5.1: the commands that every server has, and the mailbox that every domain has.

Here of the commands only VRFY; the others are where what they do is asked.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import RCPT_TAKEN, VRFY, VRFY_KNOWN, Allowed
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

for slug, line, needs, allowed in (
    ("known", "VRFY {rcpt}", "rcpt", VRFY_KNOWN),
    ("postmaster", "VRFY postmaster", "", VRFY_KNOWN),
    ("word", "VRFY someone", "", VRFY),
):
    here.probe(
        f"4.5.1-vrfy-{slug}", level="MUST", needs=needs, sent=[line], allowed=allowed,
        clauses="5321-4.5.1-a 5321-4.5.1-b 5321-3.5.1-a 5321-3.5.3-b 5321-4.3.2-f",
        requirement=f"VRFY ({slug}) is a command that the server has; 252 if it is not to tell",
    )  # fmt: skip

# -- postmaster -----------------------------------------------------------------------------------

for slug, address in (
    ("at-domain", "postmaster@{domain}"),
    ("capital", "Postmaster@{domain}"),
    ("capitals", "POSTMASTER@{domain}"),
    ("mixed", "pOsTmAsTeR@{domain}"),
    ("alone", "Postmaster"),
    ("alone-small", "postmaster"),
    ("alone-capitals", "POSTMASTER"),
    ("alone-mixed", "pOsTmAsTeR"),
):
    here.probe(
        f"4.5.1-postmaster-{slug}", level="MUST", upto="mail",
        needs="rcpt" if "{domain}" in address else "",
        clauses="5321-4.5.1-c" if "@" in address else "5321-4.5.1-c 5321-2.3.5-b",
        requirement=f"Mail for postmaster is accepted, however it is written ({slug})",
        sent=[f"RCPT TO:<{address}>"], allowed=RCPT_TAKEN,
    )  # fmt: skip


@here.case(
    "4.5.1-postmaster-second-domain", level="MUST", clauses="5321-4.5.1-c", needs="rcpt rcpt2",
    sent="RCPT for postmaster at the domain of the second mailbox",
    requirement="Postmaster is accepted at each domain of the server",
    allowed=RCPT_TAKEN | {"the same domain": INFO},
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


BROAD: Final[Allowed] = {
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
