"""RFC 4954 4, AUTH: wrong names and passwords, and what they permit: nothing.

Tricky: wrong passwords are for names that do not exist: no account is locked because of a case
here.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.groups import joined
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.sasl import asked_by, encoded, nobody, offering_auth
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("4954")


# -- 4: wrong passwords ---------------------------------------------------------------------------

_WRONG: Final = {"535": PASS, "5yz": NON_STRICT, "454": NON_STRICT}


@here.case(
    "4-wrong-name", level="SHOULD", clauses="4954-4-g",
    requirement="AUTH for a name that does not exist is refused with 535",
    sent="AUTH PLAIN (a name that does not exist)", allowed=_WRONG, security="anybody gets in",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say(f"AUTH PLAIN {nobody(door)}")


_PASSWORDS: Final = (
    ("other", "another", "wrong-{token}"),
    ("longer", "the password and one sign more", "{password}x"),
    ("shorter", "the password without its last sign", "{shorter}"),
    ("case", "the password with its case turned", "{turned}"),
    ("empty", "none at all", ""),
)
for _slug, _what, _text in _PASSWORDS:

    @here.case(
        f"4-wrong-password-{_slug}", level="SHOULD", clauses="4954-4-g", needs="user",
        requirement=f"AUTH with a wrong password is refused with 535 ({_what})",
        sent=f"AUTH PLAIN (password: {_what})", security="anybody gets in",
        allowed={**_WRONG, "501": PASS},
    )  # fmt: skip
    async def _(talk: Session, text: str = _text) -> Observed:
        door = await offering_auth(talk)
        good = talk.given.password
        known = {"{password}": good, "{shorter}": good[:-1], "{turned}": good.swapcase()}
        wrong = talk.fill(known.get(text, text.replace("{password}", good)))
        if wrong == good:
            raise NotApplicable("letters in this password")
        return await door.say(f"AUTH PLAIN {door.plain(password=wrong)}")


@here.case(
    "4-wrong-login", level="SHOULD", clauses="4954-4-g",
    requirement="AUTH LOGIN with a wrong name is refused with 535, at the end or at once",
    sent="AUTH LOGIN | a name | a password", allowed=_WRONG, security="anybody gets in",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk, "LOGIN")
    reply = await door.say(encoded(f"nobody-{talk.token}"))
    return await door.say(encoded("wrong")) if reply.code == "334" else reply


@here.case(
    "4-wrong-then-good", level="IMPLIED", clauses="4954-4-g", needs="user",
    requirement="After one wrong password, the good one is taken on the same connection",
    sent="AUTH PLAIN (wrong) | AUTH PLAIN (good)",
    allowed={"235": PASS, "454": INFO, "421": INFO, "closed": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.say(f"AUTH PLAIN {nobody(door)}")
    return await door.say(f"AUTH PLAIN {door.plain()}")


@here.case(
    "4-wrong-gives-nothing", level="MUST", clauses="4954-4-g", needs="relay user",
    requirement="AUTH that failed permits nothing: mail to elsewhere is still refused",
    sent="AUTH PLAIN (wrong) | MAIL | RCPT elsewhere",
    allowed={"5yz": PASS, "4yz": PASS, "closed": PASS, "421": PASS},
    security="anybody may relay",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.say(f"AUTH PLAIN {nobody(door)}")
    reply = await door.say(talk.fill("MAIL FROM:<{sender}>"))
    return await door.say(talk.fill("RCPT TO:<{relay}>")) if reply.positive else reply


@here.case(
    "4-cancelled-gives-nothing", level="MUST", clauses="4954-4-e", needs="relay",
    requirement="AUTH that was cancelled permits nothing: mail to elsewhere is still refused",
    sent="AUTH PLAIN | * | MAIL | RCPT elsewhere",
    allowed={"5yz": PASS, "4yz": PASS}, security="anybody may relay",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    await door.say("*")
    reply = await door.say(talk.fill("MAIL FROM:<{sender}>"))
    return await door.say(talk.fill("RCPT TO:<{relay}>")) if reply.positive else reply


@here.case(
    "4-wrong-pipelined", level="IMPLIED", clauses="4954-4-g", needs="relay",
    requirement="Commands sent in one go with AUTH that fails are not those of a user",
    sent="AUTH PLAIN (wrong), MAIL and RCPT elsewhere in one segment",
    allowed={"refused": PASS}, security="anybody may relay",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    wrong = f"AUTH PLAIN {nobody(door)}"
    await door.send(joined(door, (wrong, "MAIL FROM:<{sender}>", "RCPT TO:<{relay}>")))
    found = await door.replies(3)
    shown = " | ".join(str(each) for each in found)
    taken = len(found) == 3 and found[2].positive
    return ("taken" if taken or found[0].positive else "refused"), shown


@here.case(
    "4-secret-in-reply", level="IMPLIED", clauses="4954-4-g",
    requirement="A password is not in the reply that refuses it",
    sent="AUTH PLAIN (wrong), in the initial response and after a challenge",
    allowed={"not there": PASS, "there": NON_STRICT}, security="passwords come into logs",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    secret, response = f"wrong-{talk.token}", nobody(door)
    replies = [await door.say(f"AUTH PLAIN {response}"), await door.say("AUTH PLAIN")]
    if replies[-1].code == "334":
        replies.append(await door.say(response))
    for each in replies:
        if secret.encode() in each.octets or response.encode() in each.octets:
            return "there", str(each)
    return "not there"


@here.case(
    "4-user-known", level="MAY", clauses="4954-4-g", needs="user",
    requirement="The reply may tell a name that exists from one that does not, and best does not",
    sent="AUTH PLAIN (good name, wrong password) | AUTH PLAIN (name that does not exist)",
    allowed={"the same": PASS, "differ": INFO}, security="names can be found out",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    known = await door.say(f"AUTH PLAIN {door.plain(talk.given.user, 'wrong')}")
    unknown = await door.say(f"AUTH PLAIN {nobody(door)}")
    alike = (known.code, known.enhanced) == (unknown.code, unknown.enhanced)
    return ("the same" if alike else "differ"), f"{known} | {unknown}"


@here.case(
    "4-tries-limited", level="MAY", clauses="4954-4-r", slow=True,
    requirement="The number of tries on one connection may be limited, but best not to fewer than "
    "three",
    sent="AUTH PLAIN (wrong), ten times",
    allowed={"ten tries": INFO, "ended with 421": INFO, "ended": INFO, "ended early": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    for number in range(1, 11):
        reply = await door.say(f"AUTH PLAIN {nobody(door)}", timeout_s=60)
        if number < 3 and (reply.code == "421" or reply.kind == "closed"):
            return "ended early", f"at the {number}th"
        if reply.code == "421":
            return "ended with 421", f"at the {number}th"
        if reply.kind != "reply":
            return ("ended" if reply.kind == "closed" else reply.kind), f"at the {number}th"
        if reply.code[0] not in "45":
            return reply.code, str(reply)
    return "ten tries"
