"""RFC 2645, on-demand mail relay: ATRN, section 5.

Only where ATRN is listed.  Turning a session around is not tried.
"""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS
from specs.conformance.section import Section

here = Section("2645")

for _slug, _line in (
    ("alone", "ATRN"), ("domain", "ATRN {domain}"), ("two", "ATRN {domain},elsewhere.example"),
):  # fmt: skip
    here.probe(
        f"5-without-auth-{_slug}", level="MUST", clauses="2645-5-a", keywords="ATRN", needs="rcpt",
        requirement=f"ATRN of somebody who is not authenticated is refused with 530 ({_line})",
        sent=[_line],
        allowed={"530": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT},
        security="anybody fetches the mail of others",
    )  # fmt: skip

here.probe(
    "5-in-transaction", level="IMPLIED", clauses="2645-5-a", keywords="ATRN", upto="mail",
    requirement="ATRN in a transaction is refused",
    sent=["ATRN"], allowed={"503": PASS, "530": PASS, "5yz": NON_STRICT, "4yz": INFO},
)  # fmt: skip
