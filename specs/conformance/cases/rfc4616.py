"""RFC 4616, the PLAIN mechanism: section 2.

Tricky
- A message that is malformed may be refused as syntax (501) or as credentials (535).  What may not
  be is success: each malformed form here holds a good name and a good password somewhere, so that a
  server which reads it loosely lets it pass.
- The grammar of RFC 4616 ends with the password, but nothing there demands that a server refuses
  what stands behind a NUL too many, once the good name and password are where they belong.
- Names, passwords and identities of up to 255 octets must be accepted as PLAIN's message, which
  says nothing of whether they are good.
- Some servers let a user act as anybody.  The identity here is one that cannot exist.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.sasl import asked_by, encoded, offering_auth
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("4616")

_REFUSED: Final = {"501": PASS, "535": PASS, "5yz": NON_STRICT, "454": NON_STRICT}
LOOSE: Final = "credentials are read another way than they were meant"

GOOD: Final = b"\0{u}\0{p}"
OWN: Final = b"{u}" + GOOD
SWAPPED: Final = b"\0{p}\0{u}"
#: Of what has more behind good credentials.
_MORE_BEHIND: Final = {**_REFUSED, "235": NON_STRICT}
#: (slug, what it is, the message); {u} and {p} are the good name and password.
MALFORMED: Final = (
    ("no-nul", "no NUL at all", b"{u}{p}"),
    ("one-nul", "one NUL: name and password without an identity", b"{u}\0{p}"),
    ("one-nul-first", "one NUL: an identity and a name", b"\0{u}"),
    ("nul-alone", "one NUL alone", b"\0"),
    ("two-nuls-alone", "two NULs alone", b"\0\0"),
    ("nul-behind", "a third NUL, at the end", b"\0{u}\0{p}\0"),
    ("field-behind", "a third NUL, and more behind it", b"\0{u}\0{p}\0more"),
    ("nul-before", "a third NUL, at the start", b"\0\0{u}\0{p}"),
    ("no-name", "no name", b"\0\0{p}"),
    ("no-password", "no password", b"\0{u}\0"),
    ("spaces", "spaces in place of the NULs", b" {u} {p}"),
    ("line-end", "a line end behind it", b"\0{u}\0{p}\r\n"),
    ("not-utf8", "a name that is not UTF-8", b"\0{u}\xff\xfe\0{p}"),
)


def _filled(talk: Session, message: bytes) -> str:
    given = talk.given
    for what, value in ((b"{u}", given.user), (b"{p}", given.password)):
        message = message.replace(what, value.encode())
    return encoded(message)


for _slug, _what, _message in MALFORMED:

    @here.case(
        f"2-malformed-{_slug}", level="MUST", clauses="4616-2-a", needs="user", security=LOOSE,
        requirement="PLAIN is identity, NUL, name, NUL, password, and nothing else is taken for "
        f"it ({_what})",
        sent=f"AUTH PLAIN: {_what}",
        allowed=_MORE_BEHIND if _slug in ("nul-behind", "field-behind") else _REFUSED,
    )  # fmt: skip
    async def _(talk: Session, message: bytes = _message) -> Observed:
        door = await offering_auth(talk)
        return await door.say(f"AUTH PLAIN {_filled(talk, message)}")


@here.case(
    "2-malformed-after-challenge", level="MUST", clauses="4616-2-a", needs="user", security=LOOSE,
    requirement="PLAIN with a NUL too many is refused after a challenge, too",
    sent="AUTH PLAIN | NUL name NUL password NUL", allowed=_MORE_BEHIND,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await asked_by(talk)
    return await door.say(_filled(talk, b"\0{u}\0{p}\0"))


@here.case(
    "2-malformed-goes-on", level="IMPLIED", clauses="4616-2-a", needs="user",
    requirement="After PLAIN that was malformed, good PLAIN is taken",
    sent="AUTH PLAIN: one NUL alone | AUTH PLAIN (good)",
    allowed={"235": PASS, "454": INFO, "421": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.say(f"AUTH PLAIN {_filled(talk, bytes(1))}")
    return await door.say(f"AUTH PLAIN {door.plain()}")


_LENGTHS: Final = (
    ("identity", 255, 10, 10), ("name", 0, 255, 10), ("password", 0, 10, 255),
    ("all", 255, 255, 255),
)  # fmt: skip
for _slug, _identity, _name, _password in _LENGTHS:

    @here.case(
        f"2-long-{_slug}", level="MUST", clauses="4616-2-a",
        requirement=f"Identity, name and password of 255 octets each are no syntax error ({_slug})",
        sent=f"AUTH PLAIN | (wrong): {_identity}, {_name} and {_password} octets",
        allowed={"535": PASS, "454": NON_STRICT, "530": NON_STRICT, "534": NON_STRICT,
                 "538": NON_STRICT, "550": NON_STRICT, "554": NON_STRICT},
    )  # fmt: skip
    async def _(
        talk: Session, sizes: tuple[int, int, int] = (_identity, _name, _password)
    ) -> Observed:
        # Not as an initial response: a command is no longer than RFC 5321's lines (RFC 4954 4).
        door = await asked_by(talk)
        parts = (letter * size for letter, size in zip((b"i", b"n", b"p"), sizes, strict=True))
        return await door.say(encoded(bytes(1).join(parts)))


@here.case(
    "2-identity-own", level="IMPLIED", clauses="4616-2-a", needs="user",
    requirement="An authorization identity that is the name itself is taken",
    sent="AUTH PLAIN: the name as identity, too", allowed={"235": PASS, "535": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    return await door.say(f"AUTH PLAIN {_filled(talk, OWN)}")


@here.case(
    "2-identity-nobody", level="IMPLIED", clauses="4616-2-a", needs="user",
    requirement="A good password does not let a user act as an identity that does not exist",
    sent="AUTH PLAIN: an identity that does not exist, with a good name and password",
    allowed={"535": PASS, "5yz": NON_STRICT, "235": NON_STRICT},
    security="who acts as somebody else is not noticed",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    identity = f"nobody-{talk.token}".encode()
    return await door.say(
        f"AUTH PLAIN {_filled(talk, identity + bytes(1) + b'{u}' + bytes(1) + b'{p}')}"
    )


@here.case(
    "2-swapped", level="MUST", clauses="4616-2-a", needs="user", security=LOOSE,
    requirement="Name and password in each other's place are refused",
    sent="AUTH PLAIN: NUL password NUL name", allowed=_REFUSED,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    if talk.given.user == talk.given.password:
        raise NotApplicable("a password that is not the name")
    door = await offering_auth(talk)
    return await door.say(f"AUTH PLAIN {_filled(talk, SWAPPED)}")
