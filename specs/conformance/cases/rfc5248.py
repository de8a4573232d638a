"""RFC 5248: the registry of enhanced status codes.  Section 2.4 (what is in it).

The registry grows: a code that is not known here is no fail.  The list is that of November 2026.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.cases.rfc3463 import FORM, all_seen
from specs.conformance.model import NON_STRICT, PASS
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5248")

#: Subject to its highest detail; there are no gaps.
REGISTERED: Final = {0: 0, 1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 30}


def registered(code: str) -> bool:
    """Of a well-formed one."""
    _, subject, detail = (int(part) for part in code.split("."))
    return detail <= REGISTERED.get(subject, -1)


@here.case(
    "2.4-registered",
    level="MUST",
    clauses="5248-2.4-a",
    requirement="Status codes are those of the IANA registry",
    sent="commands of all kinds, right and wrong",
    allowed={"registered": PASS, "not known": NON_STRICT},
    keywords="ENHANCEDSTATUSCODES",
)
async def _(talk: Session) -> tuple[str, str]:
    found = await all_seen(talk)
    for code, reply in found:
        if not FORM.match(code):
            return "ill-formed", str(reply)
        if not registered(code):
            return "not known", str(reply)
    return "registered", " ".join(sorted({code for code, _ in found}))
