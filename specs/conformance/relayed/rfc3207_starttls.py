"""RFC 3207: how a client begins TLS with a next hop.

The hop's certificate is its own work: a client that sends mail to whoever the MX record names takes
it, or goes on without TLS.  One that never begins TLS is not judged.
"""

from __future__ import annotations

from specs.conformance.hop import Hop
from specs.conformance.hop_records import Visit
from specs.conformance.hop_script import FEATURES, say
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session
from specs.conformance.way import SOON, Way, way_for

here = Section("3207", role="client")

OFFERED = (*FEATURES, "STARTTLS")


async def _inside(way: Way, hop: Hop) -> Visit:
    """The first visit in which the client has begun TLS.  Raises NotApplicable if it never does."""
    await way.visited(hop)
    await way.until(lambda: any(each.tls for each in hop.visits) or bool(hop.taken), 0.5)
    for each in hop.visits:
        if each.tls:
            return each
    if any(each.handshake for each in hop.visits):
        raise NotApplicable("a client that takes any certificate")
    raise NotApplicable("a client that begins TLS")


@here.case(
    "6-used", level="SHOULD", clauses="3207-6-a", needs="hops",
    requirement="Whether a client begins TLS with whoever offers it is recorded",
    sent="a message for a next hop that offers STARTTLS",
    allowed={"TLS": PASS, "plain": INFO, "not delivered": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        await way.send()
        if await way.fate(hop) != "delivered":
            return "not delivered", hop.visits[0].handshake
        return "TLS" if way.taken(hop)[0].tls else "plain"


@here.case(
    "4-waits", level="MUST", clauses="3207-4-f", needs="hops",
    requirement="A client sends nothing between STARTTLS and its answer",
    sent="a message for a next hop that answers STARTTLS after a second", allowed={"waits": PASS},
    security="what is sent in between is not protected",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED, starttls=say("220 go on", after_s=1.0))
        await way.send()
        await way.fate(hop, settle=SOON)
        for each in hop.visits:
            if each.early_octets:
                return "sends", repr(each.early_octets[:50])
        await _inside(way, hop)
        return "waits"


@here.case(
    "4.2-ehlo-again", level="SHOULD", clauses="3207-4.2-b", needs="hops",
    requirement="The first command inside TLS is EHLO",
    sent="a message for a next hop that offers STARTTLS",
    allowed={"EHLO": PASS, "HELO": NON_STRICT, "another": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        await way.send()
        visit = await _inside(way, hop)
        await way.until(lambda: any(each.tls for each in visit.commands), 0.25)
        verbs = [each.verb for each in visit.commands if each.tls]
        first = verbs[0] if verbs else "nothing"
        return (first if first in ("EHLO", "HELO") else "another"), first


@here.case(
    "4.2-forgets", level="MUST", clauses="3207-4.2-b", needs="hops",
    requirement="What was offered before TLS is forgotten in it",
    sent="a message for a next hop that offers SIZE, 8BITMIME, DSN and PIPELINING before TLS, and"
    " nothing in it",
    allowed={"forgotten": PASS}, security="who is in between can make up what is offered",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(
            features=(*OFFERED, "DSN", "CHUNKING"), tls_features=(),
            mail=say("250 ok", after_s=0.3), rcpt=say("250 ok", after_s=0.3),
        )  # fmt: skip
        await way.send()
        visit = await _inside(way, hop)
        mail = await way.one(hop)
        used = [*mail.sender.parameters, *(each for path in mail.rcpts for each in path.parameters)]
        used += [each.verb for each in visit.commands if each.tls and each.verb == "BDAT"]
        used += [f"{each.verb} without waiting" for each in visit.commands
                 if each.tls and each.early and each.verb != "QUIT"]  # fmt: skip
        return ("used", ", ".join(used)) if used and mail.tls else "forgotten"


@here.case(
    "4.2-learns", level="MAY", clauses="3207-4.2-b", needs="hops",
    requirement="A message goes through if more is offered in TLS than before",
    sent="a message for a next hop that offers only STARTTLS before TLS, and more in it",
    allowed={"delivered": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=("STARTTLS",), tls_features=FEATURES)
        await way.send()
        await _inside(way, hop)
        return await way.arrives(hop)


@here.case(
    "4.2-not-again", level="MUST NOT", clauses="3207-4.2-g", needs="hops",
    requirement="STARTTLS is not said inside TLS, even if it is offered there",
    sent="a message for a next hop that offers STARTTLS inside TLS, too",
    allowed={"once": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED, tls_features=OFFERED)
        await way.send()
        visit = await _inside(way, hop)
        await way.fate(hop, settle=SOON)
        return "again" if any(e.tls and e.verb == "STARTTLS" for e in visit.commands) else "once"


@here.case(
    "6-injection", level="IMPLIED", clauses="3207-6-b", needs="hops",
    requirement="Octets that come behind the 220 to STARTTLS, in plain, are not taken for replies"
    " that came in TLS",
    sent="a message; 220 to STARTTLS is followed at once by a plain reply to EHLO",
    allowed={"not believed": PASS, "gives up": PASS},
    security="who is in between can put words into the mouth of the next hop",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        injected = b"220 go on\r\n250-mx.injected\r\n250 XINJECTED\r\n"
        ehlo_in_tls = f"250-mx1.{way.domain}\r\n250 8BITMIME"
        before = "\r\n".join(f"250-{each}" for each in (f"mx1.{way.domain}", *OFFERED[:-1]))

        hop = await way.mx(
            features=OFFERED, starttls=say(injected, counts="220"),
            ehlo=lambda visit, _: say(ehlo_in_tls, after_s=1.0) if visit.tls
            else say(f"{before}\r\n250 STARTTLS"),
        )  # fmt: skip
        await way.send()
        await way.visited(hop)
        await way.fate(hop, settle=SOON)
        begun = [each for each in hop.visits if each.handshake]
        if not begun:
            if any("STARTTLS" in each.verbs for each in hop.visits):
                return "gives up"
            raise NotApplicable("a client that begins TLS")
        inside = [e for v in begun for e in v.commands if e.tls and e.verb not in ("EHLO", "HELO")]
        if inside and inside[0].early:
            return "believed", inside[0].line
        return "not believed" if inside else "gives up"


@here.case(
    "4-454", level="MAY", clauses="3207-4.1-a", needs="hops",
    requirement="A next hop that can't begin TLS now does not make mail fail for good",
    sent="a message for a next hop that answers STARTTLS 454",
    allowed={"delivered": PASS, "put off": INFO, "kept waiting": INFO, "returned": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED, starttls="454 not now")
        await way.send()
        label = await way.fate(hop, settle=0.4)
        if not any("STARTTLS" in each.verbs for each in hop.visits):
            raise NotApplicable("a client that begins TLS")
        return label


@here.case(
    "4-no-handshake", level="MAY", clauses="3207-4.1-a", needs="hops",
    requirement="A handshake that fails does not make mail fail for good, nor does it go on in the"
    " same connection",
    sent="a message for a next hop that says 220 to STARTTLS, and then garbage",
    allowed={"delivered": PASS, "put off": INFO, "kept waiting": INFO, "returned": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        garbage = say(b"220 go on\r\n\x00\x01\x02garbage, no TLS\r\n" * 2, then="close",
                      counts="421")  # fmt: skip
        hop = await way.mx(features=OFFERED, starttls=garbage)
        await way.send()
        label = await way.fate(hop, settle=0.4)
        if not any("STARTTLS" in each.verbs for each in hop.visits):
            raise NotApplicable("a client that begins TLS")
        return label
