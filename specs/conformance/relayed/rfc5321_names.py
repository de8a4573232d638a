"""RFC 5321 5: which host a client goes to, by what the name server says.

A server may look a domain up when it is offered a recipient, and refuse it: for a domain that
cannot get mail that is as good as a report later.  A server that tries the next host only at its
next attempt may need minutes: then it is recorded that the message has not yet arrived.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from specs.conformance.fates import Fates
from specs.conformance.hop import Hop
from specs.conformance.hop_script import CLOSE, Say
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Unavailable
from specs.conformance.way import RETRY, SOON, Way, way_for

#: Of the block that is for nobody (RFC 6666): what is sent there is discarded.
NOBODY: Final = "100::25"
here = Section("5321", role="client")

#: A domain that can't get mail.
UNDELIVERABLE: Final[Fates] = {
    "refused": PASS, "returned": PASS, "waiting": NON_STRICT, "refused for now": NON_STRICT,
}  # fmt: skip
#: One that may get it later.
LATER: Final[Fates] = {"refused for now": PASS, "waiting": PASS}
#: A delivery that may come with the next attempt only.
NEXT: Final[Fates] = {"the other": PASS, "waiting": INFO}
#: How long a server is watched that should do nothing: a share of patience.
WATCHED: Final = 0.3


async def whither(way: Way, hops: dict[str, Hop], *, share: float = 1.0) -> Observed:
    """Send a message; the label of the hop that has taken it, or else "refused", "refused for now",
    "returned", or "waiting" (after that share of patience, and only once another message, sent
    later, has got through).  Raises Unavailable if that has not, though the domain was looked up;
    Refused if what is no delivery can't be for what the name server says: it was never asked.
    """
    reply = await way.offer()
    if reply.code[:1] != "2" and not way.names.asked(way.domain):
        raise Refused("mail to be relayed", reply)
    if reply.code[:1] == "4" or reply.kind != "reply":  # a look-up may take longer than we wait
        return "refused for now", str(reply)
    if reply.code[:1] != "2":
        return "refused", str(reply)

    def taken() -> list[str]:
        return [label for label, hop in hops.items() if hop.taken]

    come = await way.until(lambda: bool(taken()) or bool(way.reports), share)
    if not come:
        try:
            await way.compare()
        except Refused:
            if not way.names.asked(way.domain):
                raise
            raise Unavailable("a queue in which others need not wait behind it") from None
    if taken():
        return taken()[0]
    if not way.names.asked(way.domain):
        raise Refused(f"a question about {way.domain}", Reply(kind="silent"))
    return "returned" if way.reports else "waiting"


# -- MX, or addresses ------------------------------------------------------------------------------


@here.case(
    "5.1-mx-first", level="MUST", clauses="5321-5.1-a", needs="hops",
    requirement="Mail goes to the host of the MX record, not to the domain's own address",
    sent="a message for a domain with an MX record and an address", allowed={"mx": PASS},
    security="mail is sent to a host that is not meant to have it",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hops = {"mx": await way.mx(), "address": await way.hop(name=way.domain)}
        return await whither(way, hops)


@here.case(
    "5.1-implicit-mx", level="MUST", clauses="5321-5.1-a", needs="hops",
    requirement="A domain without MX records gets its mail at its own address",
    sent="a message for a domain with an address only", allowed={"address": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        return await whither(way, {"address": await way.hop(name=way.domain)})


@here.case(
    "5.2-aaaa", level="IMPLIED", clauses="5321-5.2-a", needs="hops",
    requirement="A host that has an IPv6 address only gets its mail",
    sent="a message for a domain whose MX host has only an AAAA record",
    allowed={"mx": PASS, "waiting": INFO, "returned": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        return await whither(way, {"mx": await way.mx(address=way.testbed.address6())})


@here.case(
    "5.2-aaaa-dead", level="IMPLIED", clauses="5321-5.2-a 5321-5.1-d", needs="hops",
    requirement="A host whose IPv6 address does not answer gets its mail at its IPv4 address",
    sent="a message for a domain whose MX host has a dead AAAA record, and an A record",
    allowed={"mx": PASS, "waiting": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        way.names.add(hop.name, "AAAA", NOBODY)
        return await whither(way, {"mx": hop})


# -- order -----------------------------------------------------------------------------------------

for slug, preferences in (
    ("two", (20, 10)), ("three", (30, 10, 20)), ("numeric", (100, 9, 10)), ("large", (65535, 1000)),
    ("zero", (1, 0)),
):  # fmt: skip

    @here.case(
        f"5.1-order-{slug}", level="MUST", clauses="5321-5.1-b", needs="hops",
        requirement="The MX record with the lowest preference comes first",
        sent=f"a message for a domain with MX records of preference {preferences}",
        allowed={"lowest": PASS, "others looked at, too": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, preferences: tuple[int, ...] = preferences) -> Observed:
        async with way_for(talk) as way:
            hops = {
                "lowest" if each == min(preferences) else str(each): await way.mx(preference=each)
                for each in preferences
            }  # fmt: skip
            label = await whither(way, hops)
            others = [each for each in hops if each != "lowest" and hops[each].visits]
            if label == "lowest" and others:
                return "others looked at, too", ", ".join(others)
            return label


@here.case(
    "5.1-equal", level="MUST", clauses="5321-5.1-c", needs="hops",
    requirement="Among MX records of equal preference the first host is chosen at random",
    sent="20 messages, each for another domain with the same two MX records of equal preference",
    allowed={"spread": PASS, "one connection": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hops = [await way.hop(), await way.hop()]
        for number in range(20):
            domain = f"d{number}.{way.domain}"
            way.names.add(domain, "MX", *(f"10 {each.name}." for each in hops))
            await way.send(rcpts=[f"rcpt@{domain}"])
        await way.bell.until(
            lambda: len(way.taken()) >= 20 or all(each.taken for each in hops),
            talk.given.patience_s,
        )
        if not all(each.taken for each in hops) and await way.fate(count=20) != "delivered":
            raise Refused("a message was not delivered", await talk.say("NOOP"))
        seen = Counter(mail.hop for mail in way.taken())
        shown = ", ".join(str(seen[each.name]) for each in hops)
        if len(seen) == 2:
            return "spread", shown
        # Chance does that once in half a million times.
        visits = sum(len(each.visits) for each in hops)
        label = "always the same" if visits >= 20 else "one connection"
        return label, f"{shown}; {visits} visits"


# -- the next one ----------------------------------------------------------------------------------

DEAD: Final[tuple[tuple[str, dict[str, Say], Fates], ...]] = (
    ("closed", {"connect": CLOSE}, NEXT),
    ("greeting-421", {"greeting": "421 not now"}, NEXT),
    ("greeting-554", {"greeting": "554 no mail here"}, {**NEXT, "returned": INFO}),
    ("ehlo-421", {"ehlo": "421 not now", "helo": "421 not now"}, NEXT),
    ("mail-451", {"mail": "451 not now"}, NEXT),
    ("mail-421", {"mail": "421 not now"}, NEXT),
    ("rcpt-451", {"rcpt": "451 not now"}, NEXT),
    ("lost-at-mail", {"mail": CLOSE}, NEXT),
)  # fmt: skip
for slug, table, allowed in DEAD:

    @here.case(
        f"5.1-next-{slug}", level="MUST", clauses="5321-5.1-d", needs="hops",
        requirement="If one host cannot take a message, another of the MX records gets it",
        sent=f"a message for a domain with two MX records; the first host fails ({slug})",
        allowed=allowed,
    )  # fmt: skip
    async def _(talk: Session, table: dict[str, Say] = table) -> Observed:
        async with way_for(talk) as way:
            first = await way.mx(table, preference=10)
            hops = {"the other": await way.mx(preference=20)}
            label = await whither(way, hops, share=RETRY)
            if label == "the other" and not first.visits:
                return "not in order", "the first host was not tried"
            return label


@here.case(
    "5.1-next-refuses", level="MUST", clauses="5321-5.1-d", needs="hops",
    requirement="If a host refuses connections, the next of the MX records gets the message",
    sent="a message for a domain with two MX records; nobody listens at the first",
    allowed=NEXT,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", f"10 {way.nobody()}.")
        return await whither(way, {"the other": await way.mx(preference=20)}, share=RETRY)


@here.case(
    "5.1-next-address", level="MUST", clauses="5321-5.1-d", needs="hops",
    requirement="If one address of a host refuses connections, another of its addresses is tried",
    sent="a message for a domain whose MX host has two addresses; nobody listens at one",
    allowed=NEXT,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        name = f"mx1.{way.domain}"
        way.nobody(name)
        return await whither(way, {"the other": await way.mx(name=name)}, share=RETRY)


@here.case(
    "5.1-next-no-such-host", level="MUST", clauses="5321-5.1-d", needs="hops",
    requirement="If the host of an MX record does not exist, the next one gets the message",
    sent="a message for a domain with two MX records; the first host's name does not exist",
    allowed=NEXT,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", f"10 missing.{way.domain}.")
        return await whither(way, {"the other": await way.mx(preference=20)}, share=RETRY)


@here.case(
    "5.1-next-servfail", level="MUST", clauses="5321-5.1-d 5321-5.1-h", needs="hops",
    requirement="If the address of one MX host cannot be had now, the message is kept, or sent to"
    " the next one",
    sent="a message for a domain with two MX records; SERVFAIL for the first host's address",
    allowed={"the other": PASS, "waiting": PASS, "refused for now": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "MX", f"10 broken.{way.domain}.")
        way.names.fail(f"broken.{way.domain}", "SERVFAIL")
        return await whither(way, {"the other": await way.mx(preference=20)}, share=RETRY)


# -- CNAME -----------------------------------------------------------------------------------------


@here.case(
    "5.1-cname", level="IMPLIED", clauses="5321-5.1-e", needs="hops",
    requirement="A domain that is a CNAME gets its mail at the MX hosts of its target",
    sent="a message for a domain that is a CNAME of one with an MX record", allowed={"mx": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        target = f"target.{way.domain}"
        way.names.add(way.domain, "CNAME", f"{target}.")
        return await whither(way, {"mx": await way.mx(domain=target)})


@here.case(
    "5.1-cname-address", level="IMPLIED", clauses="5321-5.1-e 5321-5.1-a", needs="hops",
    requirement="A domain that is a CNAME of one without MX records gets its mail at its address",
    sent="a message for a domain that is a CNAME of one with an address only",
    allowed={"address": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        target = f"target.{way.domain}"
        way.names.add(way.domain, "CNAME", f"{target}.")
        return await whither(way, {"address": await way.hop(name=target)})


@here.case(
    "5.1-mx-is-cname", level="MAY", clauses="5321-5.1-i", needs="hops",
    requirement="What becomes of an MX record whose host is a CNAME is recorded",
    sent="a message for a domain whose MX host is a CNAME",
    allowed={"mx": INFO, "waiting": INFO, "returned": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.hop(name=f"real.{way.domain}")
        way.names.add(f"alias.{way.domain}", "CNAME", f"{hop.name}.")
        way.names.add(way.domain, "MX", f"10 alias.{way.domain}.")
        return await whither(way, {"mx": hop}, share=WATCHED)


@here.case(
    "5.1-mx-is-address", level="MAY", clauses="5321-5.1-i", needs="hops",
    requirement="What becomes of an MX record that names an address in digits is recorded",
    sent="a message for a domain with an MX record such as 10 192.0.2.1",
    allowed={"mx": INFO, "waiting": INFO, "returned": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.hop()
        way.names.add(way.domain, "MX", f"10 {hop.host}.")
        return await whither(way, {"mx": hop}, share=WATCHED)


# -- MX records that lead nowhere ------------------------------------------------------------------

for slug in ("no-such-host", "no-address", "refuses", "servfail"):

    @here.case(
        f"5.1-unusable-{slug}", level="MUST NOT", clauses="5321-5.1-f 5321-5.1-a", needs="hops",
        requirement="The own address of a domain that has MX records is not used, even if none of"
        " them leads anywhere",
        sent=f"a message for a domain with an address, and an MX record ({slug})",
        allowed={"refused": PASS, "refused for now": PASS, "returned": PASS, "waiting": PASS},
        security="mail is sent to a host that is not meant to have it",
    )  # fmt: skip
    async def _(talk: Session, slug: str = slug) -> Observed:
        async with way_for(talk) as way:
            hops = {"address": await way.hop(name=way.domain)}
            host = f"lost.{way.domain}"
            way.names.add(way.domain, "MX", f"10 {host}.")
            if slug == "refuses":
                way.nobody(host)
            elif slug == "no-address":
                way.names.add(host, "TXT", '"nothing"')
            elif slug == "servfail":
                way.names.fail(host, "SERVFAIL")
            return await whither(way, hops, share=WATCHED)


@here.case(
    "5.1-mx-servfail", level="MUST NOT", clauses="5321-5.1-h 5321-5.1-a", needs="hops",
    requirement="If MX records cannot be had now, the domain's own address is not used instead, and"
    " the message is kept",
    sent="a message for a domain with an address; SERVFAIL for its MX records", allowed=LATER,
    security="mail is sent to a host that is not meant to have it",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.fail(way.domain, "SERVFAIL", ("MX",))
        hops = {"address": await way.hop(name=way.domain)}
        return await whither(way, hops, share=WATCHED)


@here.case(
    "5.1-servfail", level="MUST", clauses="5321-5.1-h", needs="hops",
    requirement="A failure of the name server is temporary: the message is kept",
    sent="a message for a domain for which the name server fails", allowed=LATER,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.fail(way.domain, "SERVFAIL")
        return await whither(way, {}, share=WATCHED)


@here.case(
    "5.1-silence", level="MUST", clauses="5321-5.1-h", needs="hops",
    requirement="A name server that does not answer is a temporary failure: the message is kept",
    sent="a message for a domain about which the name server says nothing",
    allowed=LATER,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.fail(way.domain, "silence")
        return await whither(way, {}, share=RETRY)


@here.case(
    "5.1-servfail-then", level="MUST", clauses="5321-5.1-h 5321-4.5.4.1-a", needs="hops",
    requirement="A message that a failure of the name server has held up is delivered after it",
    sent="a message for a domain for which the name server fails at first",
    allowed={"mx": PASS, "waiting": INFO, "refused for now": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        way.names.fail(way.domain, "SERVFAIL")
        reply = await way.offer()
        if reply.code[:1] == "4" or reply.kind != "reply":
            return "refused for now", str(reply)
        if reply.code[:1] != "2":
            return "refused", str(reply)
        await way.until(lambda: bool(way.reports), SOON / 2)
        way.names.mend(way.domain)
        if not await way.until(lambda: bool(hop.taken) or bool(way.reports), RETRY):
            return "waiting"
        return "mx" if hop.taken else "returned"


@here.case(
    "5.1-nxdomain", level="MUST", clauses="5321-5.1-h", needs="hops",
    requirement="A domain that does not exist is a permanent failure, and reported",
    sent="a message for a domain that does not exist", allowed=UNDELIVERABLE,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.fail(way.domain, "NXDOMAIN")
        return await whither(way, {})


@here.case(
    "5.1-no-records", level="MUST", clauses="5321-5.1-h", needs="hops",
    requirement="A domain without MX records and addresses cannot get mail, and that is reported",
    sent="a message for a domain that has only a TXT record", allowed=UNDELIVERABLE,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        way.names.add(way.domain, "TXT", '"nothing"')
        return await whither(way, {})


# -- oneself among them ----------------------------------------------------------------------------

for slug, own, other in (("first", 10, 20), ("equal", 10, 10)):

    @here.case(
        f"5.1-self-{slug}", level="MUST", clauses="5321-5.1-g", needs="hops",
        requirement="A server that finds itself among the MX hosts tries none that is not preferred"
        " to itself",
        sent=f"a message for a domain with MX records {own} (the server) and {other} (another)",
        allowed={"refused": PASS, "refused for now": PASS, "returned": PASS, "waiting": PASS},
        security="mail goes round in circles",
    )  # fmt: skip
    async def _(talk: Session, own: int = own, other: int = other) -> Observed:
        async with way_for(talk) as way:
            await _list_oneself(talk, way, own)
            return await whither(way, {"another": await way.mx(preference=other)}, share=WATCHED)


@here.case(
    "5.1-self-behind", level="MUST", clauses="5321-5.1-g 5321-5.1-b", needs="hops",
    requirement="A server that finds itself among the MX hosts uses those that are preferred to it",
    sent="a message for a domain with MX records 10 (another) and 20 (the server)",
    allowed={"another": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _list_oneself(talk, way, 20)
        return await whither(way, {"another": await way.mx(preference=10)})


async def _list_oneself(talk: Session, way: Way, preference: int) -> None:
    """The server itself, by the name that its reply to EHLO begins with, and its address.  At
    another port than that of MX records it is not itself.  Raises Refused, Unavailable.
    """
    if talk.given.smtp[1] != way.testbed.port:
        raise Unavailable(f"a server at port {way.testbed.port}")
    await talk.upto("connect")
    await talk.upto("greeting")
    reply = await talk.upto("ehlo")
    name = reply.lines[0].partition(" ")[0].rstrip(".")
    if "." not in name:
        raise Refused("a reply to EHLO that begins with a name", reply)
    way.names.add(way.domain, "MX", f"{preference} {name}.")
    if not way.names.records.get(name.lower()):
        host = talk.given.smtp[0]
        way.names.add(name, "AAAA" if ":" in host else "A", host)
