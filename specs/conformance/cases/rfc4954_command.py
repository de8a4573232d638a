"""RFC 4954 4, AUTH: the command, its mechanisms and challenges, and when it is not permitted.

Tricky: the RFC has MUSTs with one code (503 for AUTH after AUTH and in a transaction): another
refusal there is a fail.  For an unknown mechanism it says 504 without a keyword.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Verdict
from specs.conformance.sasl import encoded, in_transaction, nobody, offering_auth, without_ehlo
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("4954")

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")


# -- 4: the command -------------------------------------------------------------------------------


@here.case(
    "4-success", level="MUST", clauses="4954-4-f", needs="user",
    requirement="AUTH PLAIN with a good password in its initial response is answered 235",
    sent="AUTH PLAIN (good)", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say(f"AUTH PLAIN {door.plain()}")


@here.case(
    "4-verb-lower-case", level="IMPLIED", clauses="4954-4-f", needs="user",
    requirement="AUTH is understood in lower case, as every command is",
    sent="auth PLAIN (good)", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say(f"auth PLAIN {door.plain()}")


@here.case(
    "4-mechanism-lower-case", level="MAY", clauses="4954-4-f", needs="user",
    requirement="The name of a mechanism in lower case may be understood",
    sent="AUTH plain (good)", allowed={"235": INFO, "504": INFO, "5yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say(f"AUTH plain {door.plain()}")


@here.case(
    "4-success-after-challenge", level="MUST", clauses="4954-4-f 4954-4-i", needs="user",
    requirement="AUTH PLAIN without an initial response gets an empty challenge, and the good "
    "response to it 235",
    sent="AUTH PLAIN | (good)", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    reply = await door.say("AUTH PLAIN")
    if reply.code != "334":
        return f"{reply.label} without initial response", str(reply)
    return await door.say(door.plain())


@here.case(
    "4-success-login", level="IMPLIED", clauses="4954-4-f 4954-4-i", needs="user",
    requirement="AUTH LOGIN, where it is offered, asks for name and password and answers 235",
    sent="AUTH LOGIN | name | password", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, "LOGIN")
    for line in ("AUTH LOGIN", encoded(talk.given.user)):
        reply = await door.say(line)
        if reply.code != "334":
            return f"{reply.label} too early", str(reply)
    return await door.say(encoded(talk.given.password))


for _mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "XOAUTH2", "SCRAM-SHA-256"):

    @here.case(
        f"4-challenge-{_mechanism.lower()}", level="MUST NOT", clauses="4954-4-i",
        requirement=f"A challenge is 334, a space, and base64, and no other text ({_mechanism})",
        sent=f"AUTH {_mechanism}", allowed={"well formed": PASS, "no space": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, mechanism: str = _mechanism) -> Observed:
        door = await offering_auth(talk, mechanism)
        reply = await door.say(f"AUTH {mechanism}")
        if reply.code != "334":
            raise Refused(f"AUTH {mechanism}", reply)
        if len(reply.lines) > 1 or not _BASE64.match(reply.text):
            return "other text", str(reply)
        if mechanism == "PLAIN" and reply.text:
            return "a challenge where PLAIN has none", str(reply)
        return ("well formed" if reply.octets[3:4] == b" " else "no space"), repr(reply.octets)


for _slug, _line, _allowed in (
    ("unknown", "AUTH X-CONFORM", {"504": PASS, "5yz": NON_STRICT}),
    ("unknown-initial", "AUTH X-CONFORM AGEAYg==", {"504": PASS, "5yz": NON_STRICT}),
    ("too-long", "AUTH " + "X" * 21, {"504": PASS, "501": PASS, "5yz": NON_STRICT}),
    ("none", "AUTH", {"501": PASS, "504": NON_STRICT, "5yz": NON_STRICT}),
    ("odd-signs", "AUTH PL%41IN", {"504": PASS, "501": PASS, "5yz": NON_STRICT}),
    ("path", "AUTH ../../PLAIN", {"504": PASS, "501": PASS, "5yz": NON_STRICT}),
    ("three-words", "AUTH PLAIN AGEAYg== more", {"501": PASS, "5yz": NON_STRICT}),
):

    @here.case(
        f"4-mechanism-{_slug}", level="IMPLIED", clauses="4954-4-c",
        requirement="AUTH for a mechanism that is not there is refused with 504, and AUTH that is "
        f"malformed with 501 ({_slug})",
        sent=_line if len(_line) < 60 else f"{_line[:20]}...", allowed=_allowed,
    )  # fmt: skip
    async def _(talk: Session, line: str = _line) -> Observed:
        door = await offering_auth(talk)
        return await door.say(line)


@here.case(
    "4-goes-on-after-504", level="IMPLIED", clauses="4954-4-c",
    requirement="After AUTH for a mechanism that is not there, the session goes on",
    sent="AUTH X-CONFORM | NOOP", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.say("AUTH X-CONFORM")
    return await door.say("NOOP")


@here.case(
    "4-after-helo", level="IMPLIED", clauses="4954-4-j",
    requirement="AUTH after HELO, which offers nothing, is best refused with 503",
    sent="HELO | AUTH PLAIN",
    allowed={"503": PASS, "502": PASS, "500": PASS, "5yz": NON_STRICT, "334": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    fresh = await without_ehlo(talk)
    await fresh.hello("HELO")
    return await fresh.say("AUTH PLAIN")


@here.case(
    "4-before-ehlo", level="IMPLIED", clauses="4954-4-j",
    requirement="AUTH before EHLO is best refused with 503",
    sent="AUTH PLAIN as the first command",
    allowed={"503": PASS, "502": PASS, "500": PASS, "5yz": NON_STRICT, "334": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    fresh = await without_ehlo(talk)
    return await fresh.say("AUTH PLAIN")


# -- 4: when it is not permitted ------------------------------------------------------------------


@here.case(
    "4-in-transaction", level="MUST", clauses="4954-4-a",
    requirement="AUTH in a transaction is refused with 503",
    sent="MAIL | AUTH PLAIN (wrong)", allowed={"503": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await in_transaction(talk)
    return await door.say(f"AUTH PLAIN {nobody(door)}")


@here.case(
    "4-in-transaction-good", level="MUST", clauses="4954-4-a", needs="user",
    requirement="AUTH in a transaction is refused with 503, with a good password, too",
    sent="MAIL | AUTH PLAIN (good)", allowed={"503": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await in_transaction(talk)
    return await door.say(f"AUTH PLAIN {door.plain()}")


@here.case(
    "4-in-transaction-goes-on", level="IMPLIED", clauses="4954-4-a", needs="rcpt",
    requirement="AUTH that was refused in a transaction leaves the transaction as it was",
    sent="MAIL | AUTH PLAIN (refused) | RCPT", allowed={"2yz": PASS, "AUTH taken": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await in_transaction(talk, and_rcpt=True)
    reply = await door.say("AUTH PLAIN")
    if reply.positive:  # what 4-in-transaction judges
        return "AUTH taken", str(reply)
    return await door.say(talk.fill("RCPT TO:<{rcpt}>"))


_TWICE: Final[tuple[tuple[str, str, dict[str, Verdict]], ...]] = (
    ("at-once", "", {"503": PASS}),
    ("after-rset", "RSET", {"503": PASS}),
    ("after-noop", "NOOP", {"503": PASS}),
    ("after-ehlo", "EHLO {hostname}", {"503": PASS, "5yz": NON_STRICT, "235": NON_STRICT}),
)
for _slug, _between, _allowed in _TWICE:

    @here.case(
        f"4-twice-{_slug}", level="MUST", clauses="4954-4-b", needs="user",
        requirement=f"After AUTH that succeeded, another AUTH is refused with 503 ({_slug})",
        sent=" | ".join(("AUTH PLAIN (good)", *filter(None, [_between]), "AUTH PLAIN (good)")),
        allowed=_allowed,
    )  # fmt: skip
    async def _(talk: Session, between: str = _between) -> Observed:
        door = await offering_auth(talk)
        await door.auth()
        if between:
            await door.must(talk.fill(between))
        return await door.say(f"AUTH PLAIN {door.plain()}")


@here.case(
    "4-twice-other-mechanism", level="MUST", clauses="4954-4-b", needs="user",
    requirement="After AUTH that succeeded, AUTH for an unknown mechanism is refused, too",
    sent="AUTH PLAIN (good) | AUTH X-CONFORM", allowed={"503": PASS, "504": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.auth()
    return await door.say("AUTH X-CONFORM")


@here.case(
    "4-twice-goes-on", level="IMPLIED", clauses="4954-4-b", needs="user",
    requirement="After a second AUTH was refused, the session goes on as authenticated",
    sent="AUTH PLAIN (good) | AUTH PLAIN (refused) | MAIL", allowed={"2yz": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.auth()
    await door.say(f"AUTH PLAIN {nobody(door)}")
    return await door.say(talk.fill("MAIL FROM:<{sender}>"))


@here.case(
    "4-pipelined-good", level="IMPLIED", clauses="4954-4-f", needs="user",
    requirement="MAIL may be pipelined behind AUTH PLAIN with an initial response",
    sent="AUTH PLAIN (good) and MAIL in one segment",
    allowed={"works": PASS, "refused": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    if "PIPELINING" not in door.features:
        raise NotApplicable("PIPELINING")
    text = talk.fill(f"AUTH PLAIN {door.plain()}\r\nMAIL FROM:<{{sender}}>\r\n")
    await door.send(text.encode())
    found = await door.replies(2)
    shown = " | ".join(str(each) for each in found)
    if found[0].kind == "silent" or (len(found) > 1 and found[1].kind == "silent"):
        return "not answered", shown
    good = len(found) == 2 and found[0].code == "235" and found[1].positive
    return ("works" if good else "refused"), shown
