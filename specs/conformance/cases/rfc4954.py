"""RFC 4954, AUTH: sections 3 to 6.

Tricky
- AUTH is seldom offered at the first door.  `offering_auth` looks for one that does, inside TLS
  first, and the case goes on there.
- The RFC has MUSTs with one code (501 for what is no base64 and for `*`, 503 for AUTH after AUTH
  and in a transaction): another refusal there is a fail.  For an unknown mechanism it says 504
  without a keyword.
- "NOOP" and "QUIT" are base64, too: commands in the middle of an exchange are tried with spaces.
- A server whose SASL library decodes can say no more than 535 for what is no base64: the code is
  asked once, and the many forms only have to be refused.
- Wrong passwords are for names that do not exist: no account is locked because of a case here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Door, Observed, Reply, Verdict
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("4954")

PROTECTED: Final[tuple[Door, ...]] = ("submission-starttls", "tls", "starttls")
CLEAR: Final[tuple[Door, ...]] = ("submission", "smtp")
#: Passwords that everybody on the way can read, if there is no TLS.
PLAINTEXT: Final = frozenset(("PLAIN", "LOGIN"))
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
#: RFC 4422 3.1.
_MECHANISM: Final = re.compile(r"[A-Z0-9_-]{1,20}\Z")
READ_BY_ALL: Final = "a password can be read on the way"


def mechanisms(talk: Session) -> tuple[str, ...]:
    """Of the last EHLO."""
    return tuple(talk.features.get("AUTH", "").upper().split())


async def offering_auth(
    talk: Session, mechanism: str = "PLAIN", *, doors: Sequence[Door] = (*PROTECTED, *CLEAR)
) -> Session:
    """The first of these doors that offers it, after EHLO.  Raises NotApplicable."""
    for door in doors:
        if talk.given.address(door) is None:
            continue
        beside = talk.another(door)
        with suppress(Refused, NotApplicable, OSError):
            await beside.upto("ehlo")
            if mechanism in mechanisms(beside):
                return beside
        await beside.close()
    raise NotApplicable(f"AUTH {mechanism}")


def nobody(talk: Session) -> str:
    """PLAIN for a name that does not exist, with a password that nobody has."""
    return talk.plain(f"nobody-{talk.token}", f"wrong-{talk.token}")


async def without_ehlo(talk: Session) -> Session:
    """Where AUTH is offered, before the EHLO; inside TLS if it is offered there."""
    door = (await offering_auth(talk)).door
    fresh = talk.another(door)
    await fresh.upto("greeting")
    if door in ("starttls", "submission-starttls"):
        await fresh.hello()
        await fresh.must("STARTTLS")
        await fresh.handshake()
    return fresh


# -- 3: the keyword -------------------------------------------------------------------------------

_ALL: Final[tuple[Door, ...]] = ("smtp", "submission", "starttls", "submission-starttls", "tls")
for _door in _ALL:

    @here.case(
        f"3-keyword-{_door}", level="MUST", clauses="4954-3-a", door=_door, keywords="AUTH",
        requirement="AUTH in the EHLO reply is followed by names of SASL mechanisms, with spaces "
        "between",
        sent="EHLO", allowed={"well formed": PASS, "lower case": NON_STRICT, "empty": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
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
        requirement="A second EHLO lists the same mechanisms as the first",
        sent="EHLO | EHLO", allowed={"the same": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
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
    async def _(talk: Session) -> Observed | tuple[str, str]:
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
    async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
    door = await offering_auth(talk, "LOGIN")
    for line in ("AUTH LOGIN", _encoded(talk.given.user)):
        reply = await door.say(line)
        if reply.code != "334":
            return f"{reply.label} too early", str(reply)
    return await door.say(_encoded(talk.given.password))


def _encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


for _mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "DIGEST-MD5", "XOAUTH2", "SCRAM-SHA-256"):

    @here.case(
        f"4-challenge-{_mechanism.lower()}", level="MUST NOT", clauses="4954-4-i",
        requirement="A challenge is 334, a space, and base64, and no other text",
        sent=f"AUTH {_mechanism}", allowed={"well formed": PASS, "no space": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, mechanism: str = _mechanism) -> Observed | tuple[str, str]:
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
        "malformed with 501",
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


async def in_transaction(talk: Session, *, and_rcpt: bool = False) -> Session:
    """After MAIL of somebody who is not authenticated, where AUTH is offered; with and_rcpt only
    where such a one's RCPT is taken, too.  Raises NotApplicable.
    """
    for door in (*PROTECTED, *CLEAR):
        with suppress(NotApplicable, Refused):
            found = await offering_auth(talk, doors=(door,))
            await found.upto("rcpt" if and_rcpt else "mail")
            if and_rcpt:
                await found.must("RSET")
                found.stage = "ehlo"
                await found.upto("mail")
            return found
    raise NotApplicable("AUTH where MAIL is taken without it")


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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
        requirement="After AUTH that succeeded, another AUTH is refused with 503",
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
        requirement="An initial response that is no base64 is refused with 501",
        sent=f"AUTH PLAIN with {_what}", allowed=_BEST if _slug == "sign" else _REFUSED,
    )  # fmt: skip
    async def _(talk: Session, response: str = _response) -> Observed:
        door = await offering_auth(talk)
        return await door.say(f"AUTH PLAIN {response}")

    @here.case(
        f"4-base64-response-{_slug}", level="MUST", clauses="4954-4-d",
        requirement="A response that is no base64 ends the exchange with 501",
        sent=f"AUTH PLAIN | {_what}", allowed=_BEST if _slug == "sign" else _REFUSED,
    )  # fmt: skip
    async def _(talk: Session, response: str = _response) -> Observed:
        door = await offering_auth(talk)
        await door.must("AUTH PLAIN")
        return await door.say(response)


for _slug, _what, _sign in (
    ("sign", "a !", "!"), ("tab", "a tab", "\t"), ("space", "a space", " "), ("dash", "a -", "-"),
):  # fmt: skip

    @here.case(
        f"4-base64-ignored-{_slug}", level="MUST", clauses="4954-4-d", needs="user",
        requirement="A sign outside the base64 alphabet is refused, not passed over",
        sent=f"AUTH PLAIN | (good, with {_what} in the middle)", allowed=_REFUSED,
    )  # fmt: skip
    async def _(talk: Session, sign: str = _sign) -> Observed:
        door = await offering_auth(talk)
        await door.must("AUTH PLAIN")
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
    door = await offering_auth(talk)
    await door.must("AUTH PLAIN")
    await door.say("!!!!")
    return await door.say(f"AUTH PLAIN {door.plain()}")


# -- 4: cancelled, empty, interrupted -------------------------------------------------------------

for _mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):

    @here.case(
        f"4-cancel-{_mechanism.lower()}", level="MUST", clauses="4954-4-e",
        requirement="A line with * alone cancels AUTH, and is answered 501",
        sent=f"AUTH {_mechanism} | *", allowed={"501": PASS},
    )  # fmt: skip
    async def _(talk: Session, mechanism: str = _mechanism) -> Observed:
        door = await offering_auth(talk, mechanism)
        await door.must(f"AUTH {mechanism}")
        return await door.say("*")


@here.case(
    "4-cancel-login-password", level="MUST", clauses="4954-4-e",
    requirement="A line with * alone cancels AUTH LOGIN at the password, too",
    sent="AUTH LOGIN | a name | *", allowed={"501": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, "LOGIN")
    await door.must("AUTH LOGIN")
    await door.must(_encoded(f"nobody-{talk.token}"))
    return await door.say("*")


@here.case(
    "4-cancel-goes-on", level="IMPLIED", clauses="4954-4-e", needs="user",
    requirement="After AUTH was cancelled, AUTH may be tried again",
    sent="AUTH PLAIN | * | AUTH PLAIN (good)", allowed={"235": PASS, "454": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.must("AUTH PLAIN")
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
    door = await offering_auth(talk)
    await door.must("AUTH PLAIN")
    return await door.say(talk.fill("MAIL FROM:<{sender}>"))


@here.case(
    "4-quit-within", level="IMPLIED", clauses="4954-4-d",
    requirement="QUIT in place of a response is taken as a response, and AUTH refused",
    sent="AUTH PLAIN | QUIT",
    allowed={"501": PASS, "535": PASS, "5yz": NON_STRICT, "221": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.must("AUTH PLAIN")
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
    door = await offering_auth(talk)
    await door.must("AUTH PLAIN")
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
async def _(talk: Session) -> Observed | tuple[str, str]:
    found = []
    for _ in range(2):
        door = await offering_auth(talk, "CRAM-MD5")
        found.append((await door.must("AUTH CRAM-MD5")).text)
        await door.close()
    return ("differ" if found[0] != found[1] else "the same"), " ".join(found)


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
        requirement="AUTH with a wrong password is refused with 535",
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
    door = await offering_auth(talk, "LOGIN")
    await door.must("AUTH LOGIN")
    reply = await door.say(_encoded(f"nobody-{talk.token}"))
    return await door.say(_encoded("wrong")) if reply.code == "334" else reply


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
    door = await offering_auth(talk)
    await door.must("AUTH PLAIN")
    await door.say("*")
    reply = await door.say(talk.fill("MAIL FROM:<{sender}>"))
    return await door.say(talk.fill("RCPT TO:<{relay}>")) if reply.positive else reply


for _slug, _line in (("pipelined", "AUTH PLAIN {wrong}\r\nMAIL FROM:<{sender}>\r\n"),):

    @here.case(
        f"4-wrong-{_slug}", level="IMPLIED", clauses="4954-4-g", needs="relay",
        requirement="Commands sent in one go with AUTH that fails are not those of a user",
        sent="AUTH PLAIN (wrong), MAIL and RCPT elsewhere in one segment",
        allowed={"refused": PASS}, security="anybody may relay",
    )  # fmt: skip
    async def _(talk: Session, lines: str = _line) -> Observed | tuple[str, str]:
        door = await offering_auth(talk)
        text = talk.fill(lines + "RCPT TO:<{relay}>\r\n").replace("{wrong}", nobody(door))
        await door.send(text.encode())
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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
async def _(talk: Session) -> Observed | tuple[str, str]:
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


@here.case(
    "4-pipelined-good", level="IMPLIED", clauses="4954-4-f", needs="user",
    requirement="MAIL may be pipelined behind AUTH PLAIN with an initial response",
    sent="AUTH PLAIN (good) and MAIL in one segment",
    allowed={"works": PASS, "refused": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
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


for _door in ("smtp", "submission"):

    @here.case(
        f"6-listed-not-permitted-{_door}", level="SHOULD NOT", clauses="4954-4-n", door=_door,
        keywords="AUTH", needs="user",
        requirement="A mechanism that is not permitted without TLS is not listed without it",
        sent="AUTH PLAIN (good) in the clear, where it is listed",
        allowed={"permitted": PASS, "refused": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("ehlo")
        if "PLAIN" not in mechanisms(talk):
            raise NotApplicable("AUTH PLAIN in the clear")
        reply = await talk.say(f"AUTH PLAIN {talk.plain()}")
        return ("permitted" if reply.code == "235" else "refused"), str(reply)


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
    async def _(talk: Session, octets: int = _octets) -> Observed | tuple[str, str]:
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
    async def _(talk: Session, octets: int = _octets) -> Observed | tuple[str, str]:
        door = await offering_auth(talk)
        await door.must("AUTH PLAIN")
        await door.send(b"A" * octets + b"\r\n")
        return await _once(door)


async def _once(door: Session) -> Reply | tuple[str, str]:
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
    return reply if noop.code == "250" else (f"NOOP then {noop.label}", f"{reply} | {noop}")


# -- 4, 5, 6: mail --------------------------------------------------------------------------------

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
            requirement="A server that asks for AUTH still answers EHLO, NOOP, RSET and QUIT "
            "without it",
            sent=f"MAIL (refused) | {_line}", allowed={"2yz": PASS, "530": NON_STRICT},
        )  # fmt: skip
        async def _(talk: Session, line: str = _line) -> Observed:
            await talk.upto("ehlo")
            reply = await talk.say(talk.fill("MAIL FROM:<{sender}>"))
            if reply.code != "530":
                raise NotApplicable("MAIL refused with 530")
            return await talk.say(talk.fill(line))


async def mail_taken(talk: Session) -> Session:
    """Somewhere AUTH is listed and MAIL is taken from strangers, before MAIL."""
    door = await in_transaction(talk)
    await door.must("RSET")
    return door


#: Small hexadecimal digits: this RFC's grammar has them, RFC 3461's, which it refers to, has not.
_PARAMETERS: Final = (
    ("empty", "AUTH=<>", {"250": PASS}),
    ("mailbox", "AUTH=ada@example.com", {"250": PASS}),
    ("xtext", "AUTH=e+3Dmc2@example.com", {"250": PASS}),
    ("lower-case", "auth=<>", {"250": PASS}),
    ("bad-hex", "AUTH=a+ZZ@example.com", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("cut-hex", "AUTH=ada@example.com+4", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("lower-hex", "AUTH=e+3dmc2@example.com", {"250": PASS, "501": INFO}),
    ("no-value", "AUTH=", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("no-sign", "AUTH", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("twice", "AUTH=<> AUTH=<>", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
)
for _slug, _text, _allowed in _PARAMETERS:
    _good = _allowed["250"] is PASS

    @here.case(
        f"5-mail-{_slug}", level="MUST" if len(_allowed) == 1 else "IMPLIED",
        clauses="4954-5-a" if _good else "4954-5-b",
        requirement="A server that lists AUTH takes a good AUTH= behind MAIL, from strangers, too"
        if _good else "AUTH= behind MAIL that is no xtext is refused with 501",
        sent=f"MAIL FROM:<...> {_text}", allowed=_allowed,
    )  # fmt: skip
    async def _(talk: Session, text: str = _text) -> Observed:
        door = await mail_taken(talk)
        return await door.say(talk.fill(f"MAIL FROM:<{{sender}}> {text}"))


@here.case(
    "5-mail-authenticated", level="MUST", clauses="4954-5-a", needs="user",
    requirement="A server that lists AUTH takes AUTH= behind the MAIL of an authenticated client",
    sent="AUTH PLAIN (good) | MAIL FROM:<...> AUTH=<>", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.auth()
    plain = await door.say(talk.fill("MAIL FROM:<{sender}>"))
    if not plain.positive:
        raise Refused("MAIL", plain)
    await door.must("RSET")
    return await door.say(talk.fill("MAIL FROM:<{sender}> AUTH=<>"))


@here.case(
    "3-long-mail", level="IMPLIED", clauses="4954-3-b",
    requirement="AUTH adds 500 octets to the length of a MAIL command",
    sent="MAIL FROM:<...> AUTH=... of 512 to 1012 octets",
    allowed={"250": PASS, "501": NON_STRICT, "55z": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    door = await mail_taken(talk)
    domain = f"{'d' * 60}.{'e' * 30}.example"
    # Every sign may be written as three, so that an ordinary mailbox fills the line.
    value = "".join(f"+{ord(each):02X}" for each in f"{'a' * 60}@{domain}")[:489]
    line = talk.fill(f"MAIL FROM:<{{sender}}> AUTH={value}")
    return await door.say(line)


# -- 6: enhanced codes ----------------------------------------------------------------------------

_CODES: Final = (
    ("success", "AUTH PLAIN (good)", "2.7.0", "4954-6-a", "user"),
    ("wrong", "AUTH PLAIN (wrong)", "5.7.8", "4954-6-a 4954-4-g", ""),
    ("no-base64", "AUTH PLAIN !!!!", "5.5.2", "4954-6-a", ""),
    ("unknown", "AUTH X-CONFORM", "5.5.4", "4954-6-a", ""),
    ("initial-not-wanted", "AUTH CRAM-MD5 AGEAYg==", "5.7.0", "4954-6-a", ""),
)
for _slug, _line, _code, _clauses, _needs in _CODES:

    @here.case(
        f"6-enhanced-{_slug}", level="SHOULD", clauses=_clauses, needs=_needs,
        requirement=f"A server that offers enhanced status codes says {_code} there",
        sent=_line, allowed={_code: PASS, "another": NON_STRICT, "none": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, line: str = _line, code: str = _code) -> Observed | tuple[str, str]:
        door = await offering_auth(talk, "CRAM-MD5" if "CRAM-MD5" in line else "PLAIN")
        if "ENHANCEDSTATUSCODES" not in door.features:
            raise NotApplicable("ENHANCEDSTATUSCODES")
        text = line.replace("(wrong)", nobody(door)).replace("(good)", door.plain())
        reply = await door.say(text)
        said = reply.enhanced
        return (code if said == code else "another" if said else "none"), str(reply)
