"""RFC 5321 sections 3.5 and 7.3: VRFY and EXPN.

Tricky
- Both may be switched off, and then the code is 252 (7.3).  EXPN may not be there at all; VRFY must
  (4.5.1: there it is asked for mailboxes, too).
- EXPN may refuse for policy (the example in 3.5.1 says 550); VRFY of a mailbox that RCPT accepts
  may not say that it does not exist.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.allowed import EXPN, EXPN_UNKNOWN, VRFY_ELSEWHERE, VRFY_KNOWN, VRFY_UNKNOWN
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("5321")

MAILBOX: Final = re.compile(r"[^\s<>@]+@[^\s<>@]+")
IN_BRACKETS: Final = re.compile(r"<[^\s<>@]+@[^\s<>@]+>")
# -- 3.5.1: arguments -----------------------------------------------------------------------------

here.probe(
    "3.5.1-vrfy-quoted", level="IMPLIED", clauses="5321-3.5.1-a", sent=['VRFY "postmaster"'],
    requirement="VRFY takes a user name, in quotes, too", allowed=VRFY_KNOWN,
)  # fmt: skip
for _slug, _line, _needs in (("word", "EXPN postmaster", ""), ("mailbox", "EXPN {rcpt}", "rcpt")):
    here.probe(
        f"3.5.1-expn-{_slug}", level="IMPLIED", clauses="5321-3.5.1-a 5321-7.3-a", needs=_needs,
        requirement="EXPN takes the name of a list; switched off, it says 252", sent=[_line],
        allowed=EXPN,
    )  # fmt: skip


async def _expanded(talk: Session) -> list[Reply]:
    """What EXPN of some names is answered, if that is an expansion.  Raises NotApplicable."""
    await talk.upto("ehlo")
    names = ["postmaster", *([talk.given.rcpt] if talk.given.rcpt else [])]
    replies = [await talk.say(f"EXPN {each}") for each in names]
    found = [each for each in replies if each.code == "250"]
    if not found:
        raise NotApplicable("an expansion by EXPN")
    return found


@here.case(
    "3.5.1-expn-one-a-line", level="MUST", clauses="5321-3.5.1-b",
    requirement="An expansion has exactly one mailbox in each line of the reply",
    sent="EXPN of the mailboxes that are known", allowed={"one a line": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    for reply in await _expanded(talk):
        for line in reply.lines:
            if len(MAILBOX.findall(line)) != 1:
                return "not one a line", reply.text
    return "one a line", ""


# -- 3.5.2: what a positive reply has -------------------------------------------------------------


@here.case(
    "3.5.2-expn-listed", level="MUST", clauses="5321-3.5.2-a",
    requirement="A server that expands lists with EXPN says EXPN in its EHLO reply",
    sent="EXPN of the mailboxes that are known", allowed={"listed": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    found = await _expanded(talk)
    return ("listed" if "EXPN" in talk.features else "expands, but is not listed"), str(found[0])


@here.case(
    "3.5.2-vrfy-mailbox", level="MUST", clauses="5321-3.5.2-b", needs="rcpt",
    requirement="A positive reply to VRFY has the mailbox, in angle brackets",
    sent="VRFY {rcpt}", allowed={"in brackets": PASS, "bare": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    reply = await talk.say(f"VRFY {talk.given.rcpt}")
    if reply.code not in ("250", "251", "551"):
        raise NotApplicable("a verification by VRFY")
    if IN_BRACKETS.search(reply.text):
        return "in brackets", reply.text
    return ("bare" if MAILBOX.search(reply.text) else "no mailbox"), reply.text


for _verb in ("VRFY", "EXPN"):

    def _route(verb: str) -> None:
        @here.case(
            f"3.5.2-{verb.lower()}-no-route", level="MUST NOT", clauses="5321-3.5.2-c",
            needs="rcpt", requirement=f"A positive reply to {verb} has no source route",
            sent=f"{verb} {{rcpt}} | {verb} <@relay.example:{{rcpt}}>",
            allowed={"no route": PASS, "repeated by 252": INFO},
        )  # fmt: skip
        async def _(talk: Session) -> tuple[str, str]:
            await talk.upto("ehlo")
            plain = await talk.say(f"{verb} {talk.given.rcpt}")
            routed = await talk.say(f"{verb} <@relay.example:{talk.given.rcpt}>")
            for reply in (plain, routed):
                if not re.search(r"@[^\s<>@]+:[^\s<>]+@", reply.text):
                    continue
                if reply.code in ("250", "251", "551"):
                    return "a route", reply.text
                if reply.code == "252":
                    return "repeated by 252", reply.text
            return "no route", f"{plain} | {routed}"

    _route(_verb)

#: What once named a program or a file (3.5.2: the mailbox that leads to it is given, not its like).
PLACES = (
    ("program", "|/bin/sh"), ("program-quoted", '"|/bin/sh"'), ("file", "/etc/passwd"),
    ("include", ":include:/etc/passwd"), ("include-quoted", '":include:/etc/passwd"'),
    ("tilde", "~root/.forward"), ("parent", "../../../../etc/passwd"),
)  # fmt: skip


def _place(verb: str, slug: str, argument: str) -> None:
    @here.case(
        f"3.5.2-{verb.lower()}-{slug}", level="MUST", clauses="5321-3.5.2-b",
        requirement=f"{verb} does not show what is in a file, nor verify a program as a mailbox",
        sent=f"{verb} {argument}", security="files of the server can be read, or programs run",
        allowed={"refused": PASS, "252": PASS, "4yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        reply = await talk.say(f"{verb} {argument}")
        if "root:" in reply.text:
            return "a file is shown", reply.text[:200]
        return ("refused" if reply.code[:1] == "5" else reply.label), str(reply)


for _verb in ("VRFY", "EXPN"):
    for _slug, _argument in PLACES:
        _place(_verb, _slug, _argument)

# -- 3.5.3: what a positive reply means -----------------------------------------------------------

here.probe(
    "3.5.3-vrfy-unknown", level="MUST NOT", needs="unknown", sent=["VRFY {unknown}"],
    clauses="5321-3.5.3-a 5321-3.5.1-a 5321-4.3.2-f 5321-4.5.1-a 5321-4.5.1-b",
    requirement="VRFY does not answer 250 for a name that does not exist", allowed=VRFY_UNKNOWN,
)  # fmt: skip
here.probe(
    "3.5.3-expn-unknown", level="MUST NOT", clauses="5321-3.5.3-a", needs="unknown",
    requirement="EXPN does not answer 250 for a name that does not exist", sent=["EXPN {unknown}"],
    allowed=EXPN_UNKNOWN,
)  # fmt: skip
here.probe(
    "3.5.3-vrfy-elsewhere", level="SHOULD", clauses="5321-3.5.3-b", needs="relay",
    requirement="VRFY of a mailbox elsewhere does not claim to have verified it",
    sent=["VRFY {relay}"], allowed=VRFY_ELSEWHERE,
)  # fmt: skip

# -- 7.3: switched off ----------------------------------------------------------------------------


@here.case(
    "7.3-vrfy-misleads", level="MUST", clauses="5321-7.3-a", needs="rcpt",
    requirement="VRFY does not say that a mailbox does not exist when RCPT accepts it; switched "
    "off, it says 252",
    sent="(on another connection) MAIL | RCPT {rcpt} | (here) VRFY {rcpt}, or its local part",
    allowed={code: how for code, how in VRFY_KNOWN.items() if code != "55z"},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.another().upto("rcpt")
    await talk.upto("ehlo")
    reply = await talk.say(f"VRFY {talk.given.rcpt}")
    if reply.code[:2] == "55":  # perhaps only user names are known to it
        reply = await talk.say(f"VRFY {talk.given.rcpt.rpartition('@')[0]}")
    return reply


@here.case(
    "7.3-vrfy-unknown-and-known", level="MUST", clauses="5321-7.3-a", needs="rcpt unknown",
    requirement="VRFY that does not verify answers alike for names that exist and others",
    sent="VRFY {rcpt} | VRFY {unknown}",
    allowed={"alike": PASS, "told apart": INFO, "refused for known ones only": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    known = await talk.say(f"VRFY {talk.given.rcpt}")
    unknown = await talk.say(f"VRFY {talk.given.unknown}")
    seen = f"{known} | {unknown}"
    if known.kind != "reply" or unknown.kind != "reply":
        return (known if known.kind != "reply" else unknown).label, seen
    if known.code == unknown.code:
        return "alike", seen
    if unknown.positive and not known.positive:
        return "refused for known ones only", seen
    return "told apart", seen
