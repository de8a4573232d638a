"""RFC 1870: what a client says of a message's size, and makes of a next hop's limit."""

from __future__ import annotations

from specs.conformance.fates import ARRIVES
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import way_for

here = Section("1870", role="client")

FEATURES = ("PIPELINING", "8BITMIME")


@here.case(
    "6-declared", level="MAY", clauses="1870-6-a", needs="hops",
    requirement="Whether a client declares the size of a message is recorded",
    sent="a message for a next hop that offers SIZE",
    allowed={"about right": PASS, "not declared": INFO, "far off": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=("SIZE 50000000",))
        await way.send(way.message("0123456789\r\n" * 1000))
        mail = await way.one(hop)
        said = mail.sender.keywords.get("SIZE")
        if said is None:
            return "not declared"
        real = len(mail.content)
        near = said.isdigit() and real - 1000 <= int(said) <= real + real // 10 + 1000
        return ("about right" if near else "far off"), f"{said}, and {real} octets came"


@here.case(
    "6.2-too-large", level="SHOULD", clauses="1870-6.2-a", needs="hops",
    requirement="A message that is larger than the next hop takes is not sent there, and reported",
    sent="a message of 12 000 octets for a next hop that offers SIZE 1000",
    allowed={"held back": PASS, "only declared": PASS, "sent": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(
            features=("SIZE 1000",),
            mail=lambda _, line: "552 too large" if "SIZE=" in line.upper() else "250 ok",
            end="552 too large",
        )  # fmt: skip
        await way.send(way.message("0123456789\r\n" * 1000))
        await way.visited(hop)
        await way.until(lambda: bool(hop.mails) or bool(way.reports))
        if hop.mails:
            return "sent", f"{len(hop.mails[0].wire)} octets"
        said = [each.line for each in hop.commands if each.verb == "MAIL"]
        return ("only declared", said[0]) if said else "held back"


for slug, feature in (("zero", "SIZE 0"), ("none", "SIZE"), ("huge", "SIZE 99999999999999999999")):

    @here.case(
        f"3-limit-{slug}", level="MUST", clauses="1870-6.2-a", needs="hops",
        requirement="SIZE 0, or without a number, is no limit",
        sent=f"a message of 12 000 octets for a next hop that offers {feature}", allowed=ARRIVES,
    )  # fmt: skip
    async def _(talk: Session, feature: str = feature) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(features=(feature,))
            await way.send(way.message("0123456789\r\n" * 1000))
            return await way.arrives(hop)


@here.case(
    "6.2-452", level="SHOULD", clauses="1870-6.2-a 5321-4.2.1-b", needs="hops",
    requirement="452 to MAIL with a size means later, not never",
    sent="a message for a next hop that answers MAIL 452, the first time",
    allowed={"delivered": PASS, "put off": INFO, "kept waiting": INFO, "returned": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(mail=("452 no room now", "250 ok"))
        await way.send()
        return await way.fate(hop, settle=0.5)
