"""RFC 1985, ETRN: section 5.

Tricky: which domains a server starts the queue for is its own affair: a refusal by policy is
recorded, a syntax error for a good command is not allowed.
"""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS
from specs.conformance.section import Section

here = Section("1985")

#: Of the RFC's table, but for the syntax errors; and what policy says everywhere.
_ANSWERS = {
    "250": PASS, "251": PASS, "252": PASS, "253": PASS, "458": PASS, "459": PASS, "450": INFO,
    "451": INFO, "530": INFO, "55z": INFO,
}  # fmt: skip
for _slug, _line in (
    ("domain", "ETRN {domain}"), ("lower-case", "etrn {domain}"),
    ("stranger", "ETRN elsewhere.example"),
    ("subdomains", "ETRN @{domain}"), ("queue", "ETRN #conform"),
):  # fmt: skip
    here.probe(
        f"5.1-{_slug}", level="MUST" if _slug == "domain" else "IMPLIED", clauses="1985-5.1-a",
        keywords="ETRN", needs="rcpt",
        requirement=f"ETRN with a domain is answered as the table of ETRN has it ({_line})",
        sent=[_line],
        allowed=_ANSWERS if _slug not in ("subdomains", "queue")
        else {**_ANSWERS, "501": NON_STRICT, "500": NON_STRICT},
    )  # fmt: skip

for _slug, _line in (
    ("none", "ETRN"), ("two", "ETRN {domain} {domain}"), ("signs", "ETRN ;ls"),
    ("dots", "ETRN conform..example"),
):  # fmt: skip
    here.probe(
        f"5.2-malformed-{_slug}", level="MUST" if _slug == "none" else "IMPLIED",
        clauses="1985-5.1-a", keywords="ETRN", needs="rcpt",
        requirement=f"ETRN without a domain, or with what is none, is refused with 501 ({_line})",
        sent=[_line],
        allowed={"501": PASS, "500": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT}
        if _slug == "none"
        else {"501": PASS, "500": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "25z": NON_STRICT},
    )  # fmt: skip
