"""RFC 7505: a domain whose only MX record is "0 ." takes no mail."""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.relayed.rfc5321_names import UNDELIVERABLE, WATCHED, whither
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import way_for

here = Section("7505", role="client")


@here.case(
    "3-null-mx", level="MUST", clauses="7505-3-a 5321bis-5.1-a", needs="hops",
    requirement="A domain with a null MX gets no mail, and that is reported",
    sent="a message for a domain whose only MX record is 0 .", allowed=UNDELIVERABLE,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", "0 .")
        return await whither(way, {})


@here.case(
    "3-address-unused", level="MUST", clauses="7505-3-a 5321bis-5.1-a", needs="hops",
    requirement="The own address of a domain with a null MX is not used for mail",
    sent="a message for a domain with an address, whose only MX record is 0 .",
    allowed=UNDELIVERABLE, security="mail is sent to a host that is not meant to have it",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", "0 .")
        return await whither(way, {"address": await way.hop(name=way.domain)})


@here.case(
    "3-mixed", level="MAY", clauses="7505-3-b", needs="hops",
    requirement="What becomes of a domain with a null MX beside another MX record is recorded",
    sent="a message for a domain with MX records 0 . and 10",
    allowed={"mx": INFO, "refused": INFO, "returned": INFO, "waiting": INFO,
             "refused for now": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", "0 .")
        return await whither(way, {"mx": await way.mx()}, share=WATCHED)


@here.case(
    "4.1-code", level="SHOULD", clauses="7505-4.1-a 7504-4-a", needs="hops", role="relay",
    requirement="Mail for a domain with a null MX is refused with 556, or reported with 5.1.10",
    sent="a message for a domain whose only MX record is 0 .",
    allowed={"556": PASS, "5.1.10": PASS, "another code": NON_STRICT, "waiting": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", "0 .")
        reply = await way.offer()
        if reply.code[:1] != "2":
            return ("556" if reply.code == "556" else "another code"), str(reply)
        if not await way.returned():
            await way.compare()
        if not way.reports:
            return "waiting"
        statuses = way.reports[0].field("Status")
        return ("5.1.10" if "5.1.10" in statuses else "another code"), ", ".join(statuses)
