"""RFC 5321 appendix F.2: a source route that is used is used from its first domain.

Tricky
- Almost all servers ignore the route, or refuse it; both are allowed (3.6.1).
"""

from __future__ import annotations

from specs.conformance.model import INFO, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import way_for

here = Section("5321", role="relay")


@here.case(
    "F.2-no-shortcut", level="MUST NOT", clauses="5321-F.2-a", needs="hops",
    requirement="A source route is ignored, or followed to its first domain, never to one between",
    sent="a message for <@first,@second,@third:rcpt@last>, each with a next hop of its own",
    allowed={"ignored": PASS, "first": PASS, "refused": PASS, "returned": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hops = {"ignored": await way.mx()}
        for name in ("first", "second", "third"):
            hops[name] = await way.mx(domain=f"{name}.{way.domain}")
        route = ",".join(f"@{name}.{way.domain}" for name in ("first", "second", "third"))
        reply = await way.offer(rcpts=[f"{route}:{way.rcpt}"])
        if reply.code[:1] != "2":
            return "refused", str(reply)
        label = await way.fate(*hops.values())
        for name, hop in hops.items():
            if hop.visits:
                return name, hop.name
        return label
