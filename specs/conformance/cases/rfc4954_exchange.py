"""RFC 4954 4, AUTH: challenges and responses: what is no base64, cancelled, empty, too long.

Tricky
- The RFC has MUSTs with one code (501 for what is no base64 and for `*`): another refusal there is
  a fail.  But a server whose SASL library decodes can say no more than 535 for what is no base64:
  the code is asked once, and the many forms only have to be refused.
- "NOOP" and "QUIT" are base64, too: commands in the middle of an exchange are tried with spaces.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Verdict
from specs.conformance.sasl import asked_by, encoded, offering_auth
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("4954")


# -- 4: what is no base64 -------------------------------------------------------------------------

#: (slug, what it is, a response that is none); {good} is the good one.
NO_BASE64: Final = (
    ("sign", "signs outside the alphabet", "!!!!"),
    ("sign-within", "one sign outside the alphabet", "AGFi?GM="),
    ("url-alphabet", "the alphabet of URLs", "AG-_AGFi"),
    ("pad-first", "a pad sign first", "=AAA"),
    ("pad-within", "a pad sign within", "AAA=BBB"),
    ("pad-alone", "pad signs alone", "===="),
    ("two-joined", "two encodings, one behind the other", "AGE=AGFi"),
    ("one-left", "one sign too many", "AGFiAGFiA"),
    ("tab", "a tab within", "AGFi\tAGFi"),
    ("nul", "a NUL within", "AGFi\0GFi"),
    ("eight-bit", "a sign that is not ASCII", "AGFi\u00e9GFi"),
)
#: One form asks for the code; with the others, that they are refused at all counts.
_BEST: Final[dict[str, Verdict]] = {"501": PASS, "500": NON_STRICT}
_REFUSED: Final[dict[str, Verdict]] = {"501": PASS, "5yz": NON_STRICT, "454": NON_STRICT}
for _slug, _what, _response in NO_BASE64:

    @here.case(
        f"4-base64-initial-{_slug}", level="MUST", clauses="4954-4-d",
        requirement=f"An initial response that is no base64 is refused with 501 ({_what})",
        sent=f"AUTH PLAIN with {_what}", allowed=_BEST if _slug == "sign" else _REFUSED,
    )  # fmt: skip
    async def _(talk: Session, response: str = _response) -> Observed:
        door = await offering_auth(talk)
        return await door.say(f"AUTH PLAIN {response}")

    @here.case(
        f"4-base64-response-{_slug}", level="MUST", clauses="4954-4-d",
        requirement=f"A response that is no base64 ends the exchange with 501 ({_what})",
        sent=f"AUTH PLAIN | {_what}", allowed=_BEST if _slug == "sign" else _REFUSED,
    )  # fmt: skip
    async def _(talk: Session, response: str = _response) -> Observed:
        door = await asked_by(talk)
        return await door.say(response)


for _slug, _what, _sign in (
    ("sign", "a !", "!"), ("tab", "a tab", "\t"), ("space", "a space", " "), ("dash", "a -", "-"),
):  # fmt: skip

    @here.case(
        f"4-base64-ignored-{_slug}", level="MUST", clauses="4954-4-d", needs="user",
        requirement=f"A sign outside the base64 alphabet is refused, not passed over ({_what})",
        sent=f"AUTH PLAIN | (good, with {_what} in the middle)", allowed=_REFUSED,
    )  # fmt: skip
    async def _(talk: Session, sign: str = _sign) -> Observed:
        door = await asked_by(talk)
        good = door.plain()
        return await door.say(f"{good[:4]}{sign}{good[4:]}")


@here.case(
    "4-base64-without-pads", level="IMPLIED", clauses="4954-4-d", needs="user",
    requirement="Base64 without its pad signs is refused",
    sent="AUTH PLAIN (good, without its pad signs)",
    allowed={"501": PASS, "5yz": NON_STRICT, "235": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    good = door.plain()
    if not good.endswith("="):
        raise NotApplicable("pad signs in the response of this user")
    return await door.say(f"AUTH PLAIN {good.rstrip('=')}")


@here.case(
    "4-base64-goes-on", level="MUST", clauses="4954-4-d", needs="user",
    requirement="After a response that was no base64 the exchange is over, and AUTH may be tried "
    "again",
    sent="AUTH PLAIN | !!!! | AUTH PLAIN (good)", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    await door.say("!!!!")
    return await door.say(f"AUTH PLAIN {door.plain()}")


# -- 4: cancelled, empty, interrupted -------------------------------------------------------------

for _mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):

    @here.case(
        f"4-cancel-{_mechanism.lower()}", level="MUST", clauses="4954-4-e",
        requirement=f"A line with * alone cancels AUTH, and is answered 501 ({_mechanism})",
        sent=f"AUTH {_mechanism} | *", allowed={"501": PASS},
    )  # fmt: skip
    async def _(talk: Session, mechanism: str = _mechanism) -> Observed:
        door = await asked_by(talk, mechanism)
        return await door.say("*")


@here.case(
    "4-cancel-login-password", level="MUST", clauses="4954-4-e",
    requirement="A line with * alone cancels AUTH LOGIN at the password, too",
    sent="AUTH LOGIN | a name | *", allowed={"501": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk, "LOGIN")
    await door.must(encoded(f"nobody-{talk.token}"))
    return await door.say("*")


@here.case(
    "4-cancel-goes-on", level="IMPLIED", clauses="4954-4-e", needs="user",
    requirement="After AUTH was cancelled, AUTH may be tried again",
    sent="AUTH PLAIN | * | AUTH PLAIN (good)", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    await door.say("*")
    return await door.say(f"AUTH PLAIN {door.plain()}")


@here.case(
    "4-initial-star", level="MUST", clauses="4954-4-d",
    requirement="A * in place of an initial response is no base64, and refused with 501",
    sent="AUTH PLAIN *", allowed=_REFUSED,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say("AUTH PLAIN *")


@here.case(
    "4-command-within", level="MUST", clauses="4954-4-d", security="a command in an exchange runs",
    requirement="A command in place of a response is a response that is no base64: 501",
    sent="AUTH PLAIN | MAIL FROM:<...>", allowed=_REFUSED,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    return await door.say(talk.fill("MAIL FROM:<{sender}>"))


@here.case(
    "4-quit-within", level="IMPLIED", clauses="4954-4-d",
    requirement="QUIT in place of a response is taken as a response, and AUTH refused",
    sent="AUTH PLAIN | QUIT",
    allowed={"501": PASS, "535": PASS, "5yz": NON_STRICT, "221": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    return await door.say("QUIT")


@here.case(
    "4-empty-initial", level="MUST", clauses="4954-4-h",
    requirement="= is an initial response of no octets, which PLAIN does not have",
    sent="AUTH PLAIN =",
    allowed={"501": PASS, "535": PASS, "5yz": NON_STRICT, "334": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say("AUTH PLAIN =")


@here.case(
    "4-empty-initial-external", level="MUST", clauses="4954-4-h",
    requirement="= is an initial response of no octets, as EXTERNAL may have it",
    sent="AUTH EXTERNAL =",
    allowed={"235": PASS, "535": PASS, "504": INFO, "534": INFO, "538": INFO, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, "EXTERNAL")
    return await door.say("AUTH EXTERNAL =")


@here.case(
    "4-empty-response", level="IMPLIED", clauses="4954-4-d",
    requirement="An empty line is a response of no octets, and AUTH PLAIN is refused for it",
    sent="AUTH PLAIN | (an empty line)", allowed={"501": PASS, "535": PASS, "5yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    return await door.say("")


@here.case(
    "4-initial-not-wanted", level="MUST", clauses="4954-4-h",
    requirement="An initial response for a mechanism in which the server speaks first is refused "
    "with 501",
    sent="AUTH CRAM-MD5 AGEAYg==", allowed={"501": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, "CRAM-MD5")
    return await door.say("AUTH CRAM-MD5 AGEAYg==")


@here.case(
    "4-cram-md5-fresh", level="IMPLIED", clauses="4954-4-i",
    security="a response that was heard once can be used again",
    requirement="The challenge of CRAM-MD5 is another one each time",
    sent="AUTH CRAM-MD5, on two connections", allowed={"differ": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    found = []
    for _ in range(2):
        door = await offering_auth(talk, "CRAM-MD5")
        found.append((await door.must("AUTH CRAM-MD5")).text)
        await door.close()
    return ("differ" if found[0] != found[1] else "the same"), " ".join(found)


# -- 4: long lines --------------------------------------------------------------------------------

_LONG: Final = (("12k", 12000), ("20k", 20000), ("64k", 65536))
for _slug, _octets in _LONG:

    @here.case(
        f"4-long-initial-{_slug}", level="MUST", clauses="4954-4-k 4954-4-l",
        requirement="An initial response longer than the server's buffer is refused with 500, "
        "once; one that fits is answered as any other",
        sent=f"AUTH PLAIN with {_octets} octets of base64 | NOOP",
        allowed={"500": PASS, "535": PASS, "501": PASS, "5yz": NON_STRICT, "closed": NON_STRICT},
        security="the rest of a long line is taken for commands",
    )  # fmt: skip
    async def _(talk: Session, octets: int = _octets) -> Observed:
        door = await offering_auth(talk)
        await door.send(b"AUTH PLAIN " + b"A" * octets + b"\r\n")
        return await _once(door)

    @here.case(
        f"4-long-response-{_slug}", level="MUST", clauses="4954-4-k 4954-4-l",
        requirement="A response longer than the server's buffer ends the exchange with 500, once; "
        "one that fits is answered as any other",
        sent=f"AUTH PLAIN | {_octets} octets of base64 | NOOP",
        allowed={"500": PASS, "535": PASS, "501": PASS, "5yz": NON_STRICT, "closed": NON_STRICT},
        security="the rest of a long line is taken for commands",
    )  # fmt: skip
    async def _(talk: Session, octets: int = _octets) -> Observed:
        door = await asked_by(talk)
        await door.send(b"A" * octets + b"\r\n")
        return await _once(door)


async def _once(door: Session) -> Observed:
    """The reply, if nothing comes behind it, and NOOP is answered as ever."""
    reply = await door.reply()
    if reply.kind != "reply":
        return reply
    late = await door.unasked()
    if late.kind == "closed" or late.code == "421":
        return "closed", f"{reply} | {late}"
    if late.kind != "silent":
        return "answered twice", f"{reply} | {late}"
    noop = await door.say("NOOP")
    if noop.kind == "closed" or noop.code == "421":
        return "closed", f"{reply} | NOOP: {noop}"
    return reply if noop.code == "250" else (f"NOOP then {noop.label}", f"{reply} | {noop}")
