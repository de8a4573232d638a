"""RFC 5248: the registry of enhanced status codes.  Section 2.4 (what is in it).

The registry grows: a code that is not known here is no fail.
"""

from __future__ import annotations

from specs.conformance.model import NON_STRICT, PASS, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.status_codes import FORM, all_seen, registered

here = Section("5248")


@here.case(
    "2.4-registered",
    level="MUST",
    clauses="5248-2.4-a",
    requirement="Status codes are those of the IANA registry",
    sent="commands of all kinds, right and wrong",
    allowed={"registered": PASS, "not known": NON_STRICT},
    keywords="ENHANCEDSTATUSCODES",
)
async def _(talk: Session) -> Seen:
    found = await all_seen(talk)
    for code, reply in found:
        if not FORM.match(code):
            return "ill-formed", str(reply)
        if not registered(code):
            return "not known", str(reply)
    return "registered", " ".join(sorted({code for code, _ in found}))
