"""RFC 8689, REQUIRETLS: sections 2, 3 and 5.

Tricky: whether a server has the extension is only seen inside TLS, so that every case looks there
first, and is not applicable where it is not listed.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.arrivals import lost
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable

here = Section("8689")

IN_CLEAR: Final = "mail that must not be read on the way is promised what is not so"


async def _has_it(talk: Session) -> None:
    """Raises NotApplicable unless it is listed inside TLS."""
    inside = talk.another("starttls")
    await inside.upto("ehlo")
    if "REQUIRETLS" not in inside.features:
        raise NotApplicable("REQUIRETLS")
    await inside.close()


@here.case(
    "2-listed-in-clear", level="MUST", clauses="8689-2-a", security=IN_CLEAR,
    requirement="REQUIRETLS is listed inside TLS only",
    sent="EHLO in the clear | EHLO inside TLS", allowed={"inside only": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    if "REQUIRETLS" in talk.features:
        return "in the clear"
    await _has_it(talk)
    return "inside only"


@here.case(
    "2-without-value", level="IMPLIED", clauses="8689-2-a", door="starttls", keywords="REQUIRETLS",
    requirement="REQUIRETLS in the EHLO reply has no parameter",
    sent="EHLO inside TLS", allowed={"none": PASS, "one": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    return "one" if talk.features["REQUIRETLS"] else "none"


@here.case(
    "3-in-clear", level="MUST", clauses="8689-3-a", security=IN_CLEAR,
    requirement="REQUIRETLS behind MAIL without TLS is refused",
    sent="MAIL FROM:<...> REQUIRETLS, in the clear", allowed={"5yz": PASS, "4yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await _has_it(talk)
    await talk.upto("ehlo")
    return await talk.say(talk.fill("MAIL FROM:<{sender}> REQUIRETLS"))


for _slug, _text in (("as-it-is", "REQUIRETLS"), ("lower-case", "requiretls")):
    here.probe(
        f"3-taken-{_slug}", level="IMPLIED", clauses="8689-3-a", door="starttls",
        keywords="REQUIRETLS", requirement="REQUIRETLS behind MAIL is taken where it is listed",
        sent=[f"MAIL FROM:<{{sender}}> {_text}"],
        allowed={"250": PASS, "550": INFO, "554": INFO},
    )  # fmt: skip

for _slug, _text in (
    ("word", "REQUIRETLS=x"), ("yes", "REQUIRETLS=YES"), ("empty", "REQUIRETLS="),
):  # fmt: skip
    here.probe(
        f"3-value-{_slug}", level="MUST", clauses="8689-3-b", door="starttls",
        keywords="REQUIRETLS",
        requirement=f"REQUIRETLS behind MAIL has no value: one is refused ({_text})",
        sent=[f"MAIL FROM:<{{sender}}> {_text}"], allowed={"501": PASS, "5yz": PASS},
    )  # fmt: skip

here.probe(
    "3-twice", level="IMPLIED", clauses="8689-3-b", door="starttls", keywords="REQUIRETLS",
    requirement="REQUIRETLS twice behind one MAIL is best refused",
    sent=["MAIL FROM:<{sender}> REQUIRETLS REQUIRETLS"],
    allowed={"501": PASS, "5yz": PASS, "250": NON_STRICT},
)  # fmt: skip


@here.case(
    "3-arrives", level="IMPLIED", clauses="8689-3-a", role="delivery", door="starttls",
    keywords="REQUIRETLS", needs="rcpt maildir",
    requirement="Mail with REQUIRETLS for a mailbox of the server itself arrives there",
    sent="MAIL FROM:<...> REQUIRETLS | RCPT | DATA | a message", allowed={"there": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    reply = await talk.transact(mail="REQUIRETLS")
    if not reply.positive:
        raise Refused("the message", reply)
    return "there" if await talk.arrived() else await lost(talk)


@here.case(
    "5-ret-full", level="MUST", clauses="8689-5-b", role="delivery", door="starttls",
    keywords="REQUIRETLS DSN", needs="unknown sendermail", security=IN_CLEAR,
    requirement="A report on mail with REQUIRETLS holds its header only, whatever RET= says",
    sent="MAIL FROM:<...> REQUIRETLS RET=FULL | RCPT that cannot be delivered | a message",
    allowed={"header only": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.must(talk.fill("MAIL FROM:<{sender}> REQUIRETLS RET=FULL"))
    if not (await talk.say(talk.fill("RCPT TO:<{unknown}>"))).positive:
        raise Unavailable("an address that is accepted, and cannot be delivered to")
    await talk.must("DATA")
    body = f"This body of {talk.token[::-1]} is nobody else's business.\r\n"
    reply: Reply = await talk.content(talk.message(body))
    if not reply.positive:
        raise Unavailable("an address that is accepted, and cannot be delivered to")
    found = await talk.reports()
    if not found:
        raise Unavailable(f"a report on that failure in {talk.given.patience_s:.0f} s")
    whole = talk.token[::-1].encode() in found[0]
    return ("the body, too" if whole else "header only"), found[0][-400:].decode("utf-8", "replace")
