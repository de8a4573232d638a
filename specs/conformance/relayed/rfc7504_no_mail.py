"""RFC 7504: a host that greets with 521 takes no mail."""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.relayed.rfc5321_names import whither
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import RETRY, way_for

here = Section("7504", role="client")


@here.case(
    "3-other-host", level="SHOULD", clauses="7504-3-b", needs="hops",
    requirement="A host that greets with 521 is passed over: the next MX host gets the message",
    sent="a message for a domain with two MX records; the first host greets with 521",
    allowed={"the other": PASS, "waiting": INFO, "returned": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await way.mx(greeting="521 no mail here", preference=10)
        return await whither(way, {"the other": await way.mx(preference=20)}, share=RETRY)


@here.case(
    "3-only-host", level="SHOULD", clauses="7504-3-b", needs="hops",
    requirement="If the only host of a domain greets with 521, the sender is told",
    sent="a message for a domain whose only MX host greets with 521",
    allowed={"returned": PASS, "waiting": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await way.mx(greeting="521 no mail here")
        return await whither(way, {}, share=RETRY)
