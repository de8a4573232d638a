"""RFC 7672: DANE, for clients that trust what their resolver says (AD).

The suite's name server signs nothing: it says that answers were validated, as a validating resolver
on the same machine does.  A client that validates itself, or never asks for TLSA records, is not
judged; which it is shows at a host that has the right record.
"""

from __future__ import annotations

from specs.conformance.hop import Hop
from specs.conformance.hop_script import FEATURES
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session
from specs.conformance.way import SOON, Way, way_for

here = Section("7672", role="client")

OFFERED = (*FEATURES, "STARTTLS")
#: The mail does not get there: it waits, or comes back.
HELD_BACK = {"put off": PASS, "kept waiting": PASS, "returned": PASS}
IN_TLS = {"in TLS": PASS, "put off": NON_STRICT, "kept waiting": NON_STRICT, "returned": NON_STRICT}
WRONG = "00" * 32


async def _host(way: Way, label: str, *records: str, tls: bool = True, secure: bool = True) -> Hop:
    """The host of a domain of its own, with TLSA records."""
    domain = f"{label}.{way.domain}"
    if secure:
        way.names.secure.add(domain)
    hop = await way.mx(
        domain=domain, name=f"mx.{domain}", features=OFFERED if tls else FEATURES
    )  # fmt: skip
    way.names.add(_base(hop), "TLSA", *records)
    return hop


def _base(hop: Hop) -> str:
    return f"_{hop.port}._tcp.{hop.name}"


async def _must_use_dane(way: Way) -> None:
    """Raises NotApplicable unless a host's TLSA record is asked for, and it gets mail in TLS."""
    hop = await _host(way, "right", f"3 0 1 {await way.testbed.digest()}")
    await way.send(rcpts=[f"rcpt@right.{way.domain}"])
    label = await way.fate(hop)
    if not way.names.asked(_base(hop), "TLSA") or label != "delivered" or not hop.taken[0].tls:
        raise NotApplicable("a client that uses DANE, and trusts its resolver")


async def _fate(way: Way, hop: Hop, label: str, *, arrives: bool = True) -> str:
    """arrives: whether anything else may be a failure."""
    await way.send(rcpts=[f"rcpt@{label}.{way.domain}"])
    fate = await (way.arrives(hop) if arrives else way.fate(hop, settle=SOON))
    if fate != "delivered":
        return fate
    return "in TLS" if hop.taken[0].tls else "in plain"


@here.case(
    "3.1.1-match", level="MUST", clauses="7672-3.1.1-a", needs="hops",
    requirement="A certificate that a record of usage 3 matches is taken, whatever name it has",
    sent="a message for a host whose certificate has another name, and a record that matches",
    allowed={"in TLS": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _must_use_dane(way)
        hop = await _host(way, "other", f"3 0 1 {WRONG}", f"3 0 1 {await way.testbed.digest()}")
        return await _fate(way, hop, "other")


@here.case(
    "2.2-mismatch", level="MUST", clauses="7672-2.2-a", needs="hops",
    requirement="A host whose certificate no usable record matches gets no mail",
    sent="a message for a host with a record of another certificate", allowed=HELD_BACK,
    security="mail goes to whoever is in between",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _must_use_dane(way)
        hop = await _host(way, "wrong", f"3 0 1 {WRONG}")
        return await _fate(way, hop, "wrong", arrives=False)


@here.case(
    "2.2-no-starttls", level="MUST", clauses="7672-2.2-a", needs="hops",
    requirement="A host with usable records that does not offer STARTTLS gets no mail",
    sent="a message for a host with a record, and without STARTTLS", allowed=HELD_BACK,
    security="who is in between can take TLS away",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _must_use_dane(way)
        hop = await _host(way, "plain", f"3 0 1 {await way.testbed.digest()}", tls=False)
        return await _fate(way, hop, "plain", arrives=False)


@here.case(
    "2.1.2-servfail", level="MUST", clauses="7672-2.1.2-a", needs="hops",
    requirement="A host whose TLSA records can't be had now gets no mail now",
    sent="a message for a host; SERVFAIL for its TLSA records", allowed=HELD_BACK,
    security="who is in between can take DANE away",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _must_use_dane(way)
        hop = await _host(way, "failing", f"3 0 1 {WRONG}")
        way.names.fail(_base(hop), "SERVFAIL")
        await way.send(rcpts=[f"rcpt@failing.{way.domain}"])
        await way.until(lambda: bool(hop.taken) or bool(way.reports), 0.3)
        if hop.taken:
            return "in TLS" if hop.taken[0].tls else "in plain"
        return "returned" if way.reports else "put off"


@here.case(
    "2.1-not-secure", level="MUST", clauses="7672-2.1-a", needs="hops",
    requirement="Records that were not validated count for nothing",
    sent="a message for a host with a record of another certificate, which was not validated",
    allowed={"in TLS": PASS, "in plain": PASS}, security="who can forge answers can stop mail",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _must_use_dane(way)
        hop = await _host(way, "open", f"3 0 1 {WRONG}", secure=False)
        return await _fate(way, hop, "open")


for slug, clause, record in (
    ("unknown-type", "7672-2.2-b", f"3 1 9 {WRONG}"),
    ("unknown-usage", "7672-2.2-b", f"9 1 1 {WRONG}"),
    ("usage-0", "7672-3.1.3-a", f"0 1 1 {WRONG}"), ("usage-1", "7672-3.1.3-a", f"1 1 1 {WRONG}"),
):  # fmt: skip

    @here.case(
        f"2.2-unusable-{slug}" if clause.startswith("7672-2.2") else f"3.1.3-{slug}",
        level="MUST" if clause.startswith("7672-2.2") else "SHOULD NOT", clauses=clause,
        needs="hops",
        requirement="If no record is usable, mail goes in TLS, and certificates are not looked at",
        sent=f"a message for a host with a record that is not usable ({slug})",
        allowed={**IN_TLS, "in plain": NON_STRICT} if slug.startswith("usage") else IN_TLS,
    )  # fmt: skip
    async def _(talk: Session, record: str = record) -> Observed:
        async with way_for(talk) as way:
            await _must_use_dane(way)
            return await _fate(way, await _host(way, "odd", record), "odd")


@here.case(
    "2-used", level="MAY", clauses="7672-2.1-a", needs="hops",
    requirement="Whether a client uses DANE here is recorded",
    sent="a message for a host with the right record", allowed={"used": PASS, "not used": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        try:
            await _must_use_dane(way)
        except NotApplicable:
            return "not used"
        return "used"
