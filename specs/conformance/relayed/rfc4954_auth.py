"""RFC 4954 5: the AUTH= of a client that nobody has authenticated, on its way.

Who says without a password from whom a message comes has said nothing: to the next hop it is
AUTH=<>, or nothing at all.  AUTH=<> is owed to a hop only where the server has authenticated
itself; here it has no password, so that both are right.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from specs.conformance.hop_script import FEATURES
from specs.conformance.model import PASS, Observed
from specs.conformance.sasl import CLEAR, PROTECTED, offering_auth
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session
from specs.conformance.way import Way, way_for

here = Section("4954", role="relay")

OFFERED: Final = (*FEATURES, "AUTH PLAIN LOGIN")
IN_TLS: Final = (*FEATURES, "STARTTLS")


async def _sent(way: Way, parameter: str, *, by_user: bool) -> None:
    """By the user that was given, or by a stranger, over a door where AUTH is offered.  Raises
    NotApplicable.
    """
    for door in (*PROTECTED, *CLEAR):
        with suppress(NotApplicable, Refused):
            over = await offering_auth(way.talk, doors=(door,))
            if by_user:
                await over.auth()
            if (await way.offer(mail=parameter, over=over)).code[:1] == "2":
                return
    raise NotApplicable(f"AUTH where a {'user' if by_user else 'stranger'}'s mail is relayed")


async def _said(
    way: Way, parameter: str, features: tuple[str, ...] = OFFERED, *, by_user: bool = False
) -> Observed:
    """What becomes of it.  Raises Refused, NotApplicable."""
    hop = await way.mx(features=features, tls_features=OFFERED)
    await _sent(way, parameter, by_user=by_user)
    said = (await way.one(hop)).sender
    value = said.keywords.get("AUTH")
    if value is None:
        return "nothing"
    if value == "<>":
        return "AUTH=<>"
    same = f"AUTH={value}".lower() == parameter.lower()
    return ("passed on" if same else "another"), f"AUTH={value}"


for slug, parameter, features in (
    ("mailbox", "AUTH=ada@origin.example", OFFERED),
    ("xtext", "AUTH=e+3Dmc2@origin.example", OFFERED),
    ("in-tls", "AUTH=ada@origin.example", IN_TLS),
):

    @here.case(
        f"5-untrusted-{slug}", level="MUST", clauses="4954-5-c", needs="hops",
        requirement="What a client that is not authenticated says in AUTH= is not passed on",
        sent=f"a message with {parameter}, without AUTH before; the next hop offers AUTH"
        + " inside TLS" * (features is IN_TLS),
        allowed={"nothing": PASS, "AUTH=<>": PASS},
        security="a stranger's mail counts as an authenticated user's at the next hop",
    )  # fmt: skip
    async def _(
        talk: Session, parameter: str = parameter, features: tuple[str, ...] = features
    ) -> Observed:
        async with way_for(talk) as way:
            return await _said(way, parameter, features)


for slug, parameter in (("empty", "AUTH=<>"), ("absent", "")):

    @here.case(
        f"5-untrusted-{slug}", level="MUST", clauses="4954-5-c", needs="hops",
        requirement="Nobody is named in AUTH= for a client that is not authenticated",
        sent=f"a message with {parameter or 'no AUTH='}, without AUTH before; the next hop offers"
        " AUTH",
        allowed={"nothing": PASS, "AUTH=<>": PASS},
        security="a stranger's mail counts as an authenticated user's at the next hop",
    )  # fmt: skip
    async def _(talk: Session, parameter: str = parameter) -> Observed:
        async with way_for(talk) as way:
            return await _said(way, parameter)


@here.case(
    "5-explicit-empty", level="MUST", clauses="4954-5-c", needs="hops user",
    requirement="A user who says AUTH=<> is not named in AUTH= to the next hop",
    sent="AUTH PLAIN (good), then a message with AUTH=<>; the next hop offers AUTH",
    allowed={"nothing": PASS, "AUTH=<>": PASS},
    security="a message that is not a user's own counts as it at the next hop",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        return await _said(way, "AUTH=<>", by_user=True)


@here.case(
    "5-not-offered", level="MUST NOT", clauses="4954-5-c 5321-2.2.2-a", needs="hops", role="client",
    requirement="AUTH= is not sent to a host that does not offer AUTH",
    sent="a message with AUTH=<>; the next hop does not offer AUTH", allowed={"nothing": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        return await _said(way, "AUTH=<>", FEATURES)
