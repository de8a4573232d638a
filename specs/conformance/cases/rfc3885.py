"""RFC 3885, message tracking: MTRK behind MAIL, section 3.  Goes with ENVID (RFC 3461)."""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS
from specs.conformance.section import Section

here = Section("3885")

#: Of the right length, in base64: a SHA-1 of nothing that anybody knows.
_CERTIFIER = "fHjPaoRuA9kGSsMtVVMVdqWpnK0="
for _slug, _value in (("plain", _CERTIFIER), ("days", f"{_CERTIFIER}:5184000")):
    here.probe(
        f"3-good-{_slug}", level="MAY", clauses="3885-3-a", keywords="MTRK DSN",
        requirement="A well-formed MTRK= behind MAIL is taken where it is listed",
        sent=[f"MAIL FROM:<{{sender}}> MTRK={_value.replace('=', '+3D')} ENVID={{token}}"],
        allowed={"250": PASS, "501": INFO, "5yz": INFO},
    )  # fmt: skip
for _slug, _value in (("empty", ""), ("days-word", "fHjPaoRuA9kGSsMtVVMVdqWpnK0:soon")):
    here.probe(
        f"3-malformed-{_slug}", level="IMPLIED", clauses="3885-3-a", keywords="MTRK DSN",
        requirement="A malformed MTRK= behind MAIL is refused",
        sent=[f"MAIL FROM:<{{sender}}> MTRK={_value} ENVID={{token}}"],
        allowed={"501": PASS, "5yz": PASS, "250": NON_STRICT},
    )  # fmt: skip
