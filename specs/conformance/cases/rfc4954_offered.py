"""RFC 4954, AUTH: section 3 and what 4 and 6 say of where it is offered, and who must use it."""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.sasl import CLEAR, PROTECTED, mechanisms
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("4954")

#: Passwords that everybody on the way can read, if there is no TLS.
PLAINTEXT: Final = frozenset(("PLAIN", "LOGIN"))
#: RFC 4422 3.1.
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}\Z")
READ_BY_ALL: Final = "a password can be read on the way"


# -- 3: the keyword -------------------------------------------------------------------------------

for _door in (*CLEAR, *PROTECTED):

    @here.case(
        f"3-keyword-{_door}", level="MUST", clauses="4954-3-a", door=_door, keywords="AUTH",
        requirement="AUTH in the EHLO reply is followed by names of SASL mechanisms, with spaces "
        f"between ({_door})",
        sent="EHLO", allowed={"well formed": PASS, "lower case": NON_STRICT, "empty": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        names = talk.features["AUTH"]
        if not names:
            return "empty"
        if all(_MECHANISM.match(each) for each in names.split()):
            return "well formed", names
        well = all(_MECHANISM.match(each.upper()) for each in names.split())
        return ("lower case" if well else "malformed"), names

    @here.case(
        f"4-same-list-{_door}", level="IMPLIED", clauses="4954-4-q", door=_door, keywords="AUTH",
        requirement=f"A second EHLO lists the same mechanisms as the first ({_door})",
        sent="EHLO | EHLO", allowed={"the same": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        first = sorted(mechanisms(talk))
        await talk.hello()
        second = sorted(mechanisms(talk))
        return ("the same" if first == second else "differ"), f"{first} {second}"


# -- 4: in the clear ------------------------------------------------------------------------------

for _door in ("smtp", "submission"):

    @here.case(
        f"4-plaintext-listed-{_door}", level="SHOULD NOT", clauses="4954-4-o 8314-4.1-b",
        door=_door, security=READ_BY_ALL,
        requirement="Mechanisms that send the password as it is are not offered without TLS",
        sent="EHLO in the clear", allowed={"not offered": PASS, "offered": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        names = talk.features.get("AUTH", "")
        return ("offered" if PLAINTEXT & set(mechanisms(talk)) else "not offered"), names

    @here.case(
        f"4-plaintext-taken-{_door}", level="MUST", clauses="4954-4-o 4954-4-n", door=_door,
        keywords="STARTTLS", needs="user", security=READ_BY_ALL,
        requirement="A server that offers AUTH PLAIN inside TLS only does not take it without TLS",
        sent="AUTH PLAIN (good) in the clear, where it is not listed",
        allowed={"504": PASS, "538": PASS, "534": PASS, "530": PASS, "5yz": PASS, "334": NON_STRICT,
                 "closed": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await _only_inside(talk)
        return await talk.say(f"AUTH PLAIN {talk.plain()}")

    @here.case(
        f"4-plaintext-asked-{_door}", level="SHOULD NOT", clauses="4954-4-n 4954-4-o", door=_door,
        keywords="STARTTLS", security=READ_BY_ALL,
        requirement="A server that offers AUTH LOGIN inside TLS only does not ask for a password "
        "without TLS",
        sent="AUTH LOGIN in the clear, where it is not listed",
        allowed={"504": PASS, "538": PASS, "534": PASS, "530": PASS, "5yz": PASS,
                 "334": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await _only_inside(talk, "LOGIN")
        return await talk.say("AUTH LOGIN")

    @here.case(
        f"4-too-weak-code-{_door}", level="SHOULD", clauses="4954-4-n 4954-6-a", door=_door,
        keywords="STARTTLS",
        requirement="AUTH that needs TLS is refused with a code that says so (538, 504, 530), or "
        "as not offered (503)",
        sent="AUTH PLAIN in the clear, where it is not listed",
        allowed={"538": PASS, "504": PASS, "530": PASS, "534": PASS, "503": PASS, "502": PASS,
                 "500": PASS, "5yz": NON_STRICT, "334": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await _only_inside(talk)
        return await talk.say("AUTH PLAIN")


async def _only_inside(talk: Session, mechanism: str = "PLAIN") -> None:
    """In the clear, after EHLO, where a door behind STARTTLS lists what this one does not."""
    inside = talk.another("submission-starttls" if talk.door == "submission" else "starttls")
    await inside.upto("ehlo")
    if mechanism not in mechanisms(inside):
        raise NotApplicable(f"AUTH {mechanism}")
    await inside.close()
    await talk.upto("ehlo")
    if mechanism in mechanisms(talk):
        raise NotApplicable(f"AUTH {mechanism} inside TLS only")


for _door in ("smtp", "submission"):

    @here.case(
        f"6-listed-not-permitted-{_door}", level="SHOULD NOT", clauses="4954-4-n", door=_door,
        keywords="AUTH", needs="user",
        requirement="A mechanism that is not permitted without TLS is not listed without it",
        sent="AUTH PLAIN (good) in the clear, where it is listed",
        allowed={"permitted": PASS, "refused": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        if "PLAIN" not in mechanisms(talk):
            raise NotApplicable("AUTH PLAIN in the clear")
        reply = await talk.say(f"AUTH PLAIN {talk.plain()}")
        return ("permitted" if reply.code == "235" else "refused"), str(reply)


# -- 6: who has not authenticated ------------------------------------------------------------------

for _door in ("submission", "submission-starttls"):
    here.probe(
        f"6-mail-unauthenticated-{_door}", level="SHOULD", clauses="4954-4-p", door=_door,
        keywords="AUTH",
        requirement="MAIL of somebody who must authenticate first is refused with 530",
        sent=["MAIL FROM:<{sender}>"],
        allowed={"530": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "250": INFO},
    )  # fmt: skip
    for _line in ("NOOP", "RSET", "EHLO {hostname}", "QUIT"):

        @here.case(
            f"6-needs-no-auth-{_door}-{_line.split()[0].lower()}", level="SHOULD",
            clauses="4954-4-p", door=_door, keywords="AUTH",
            requirement=f"A server that asks for AUTH still answers {_line.split()[0]} without it",
            sent=f"MAIL (refused) | {_line}", allowed={"2yz": PASS, "530": NON_STRICT},
        )  # fmt: skip
        async def _(talk: Session, line: str = _line) -> Observed:
            await talk.upto("ehlo")
            reply = await talk.say(talk.fill("MAIL FROM:<{sender}>"))
            if reply.code != "530":
                raise NotApplicable("MAIL refused with 530")
            return await talk.say(talk.fill(line))
