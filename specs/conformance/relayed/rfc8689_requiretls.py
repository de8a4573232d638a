"""RFC 8689: mail that must not go without TLS.  Needs a server that offers REQUIRETLS, in TLS."""

from __future__ import annotations

from specs.conformance.headers import fields, named
from specs.conformance.hop_script import FEATURES
from specs.conformance.model import NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import way_for

here = Section("8689", role="relay")

for slug, features, inside in (
    ("plain", FEATURES, FEATURES), ("not-offered", (*FEATURES, "STARTTLS"), FEATURES),
    ("not-verified", (*FEATURES, "STARTTLS"), (*FEATURES, "REQUIRETLS")),
):  # fmt: skip

    @here.case(
        f"4.2.1-{slug}", level="MUST", clauses="8689-4.2.1-a 8689-4.2.1-b", needs="hops",
        door="starttls", keywords="REQUIRETLS", security="mail goes where it can be read",
        requirement="Mail with REQUIRETLS goes only to hosts in TLS that are verified, and offer"
        " it; else it is returned",
        sent=f"a message with REQUIRETLS; the next hop does not fit ({slug})",
        allowed={"returned": PASS, "put off": NON_STRICT, "kept waiting": NON_STRICT},
    )  # fmt: skip
    async def _(
        talk: Session, features: tuple[str, ...] = features, inside: tuple[str, ...] = inside
    ) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(features=features, tls_features=inside)
            await way.send(mail="REQUIRETLS")
            await way.until(lambda: bool(hop.open) or bool(way.reports))
            if hop.visits:
                return await way.fate(hop, settle=0.75)
            return "returned" if await way.returned() else "put off"


@here.case(
    "4.1-tls-required-no", level="MUST", clauses="8689-4.1-a", needs="hops",
    requirement="Mail with TLS-Required: No goes to a host without TLS",
    sent="a message with TLS-Required: No for a next hop without STARTTLS",
    allowed={"delivered": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(way.message(headers="TLS-Required: No\r\n"))
        return await way.arrives(hop)


@here.case(
    "3-once", level="MUST NOT", clauses="8689-3-c", needs="hops", role="client",
    requirement="TLS-Required stands in a message at most once, also if it was there before",
    sent="a message with TLS-Required: No", allowed={"once": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(way.message(headers="TLS-Required: No\r\n"))
        found = len(named(fields((await way.one(hop)).content), "TLS-Required"))
        return "once" if found == 1 else (f"{found} times", "")
