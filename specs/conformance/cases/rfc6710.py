"""RFC 6710, MT-PRIORITY: section 3.  A server may refuse a priority to whom it does not trust."""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS
from specs.conformance.section import Section

here = Section("6710")

for _value in ("-9", "-1", "0", "1", "4", "9"):
    here.probe(
        f"3-good-{_value.replace('-', 'minus-')}", level="MUST", clauses="6710-3-a",
        keywords="MT-PRIORITY",
        requirement=f"MT-PRIORITY= from -9 to 9 behind MAIL is well formed (MT-PRIORITY={_value})",
        sent=[f"MAIL FROM:<{{sender}}> MT-PRIORITY={_value}"],
        allowed={"250": PASS, "450": INFO, "530": INFO, "550": INFO, "554": INFO},
    )  # fmt: skip

for _slug, _value in (
    ("ten", "10"), ("minus-ten", "-10"), ("word", "high"), ("plus", "+1"), ("half", "1.5"),
    ("empty", ""), ("minus", "-"),
):  # fmt: skip
    here.probe(
        f"3-malformed-{_slug}", level="MUST" if "ten" in _slug else "IMPLIED", clauses="6710-3-a",
        keywords="MT-PRIORITY",
        requirement="MT-PRIORITY= that is no number from -9 to 9 is refused with 501 "
        f"(MT-PRIORITY={_value})",
        sent=[f"MAIL FROM:<{{sender}}> MT-PRIORITY={_value}"],
        allowed={"501": PASS, "5yz": NON_STRICT},
    )  # fmt: skip

here.probe(
    "3-twice", level="IMPLIED", clauses="6710-3-a", keywords="MT-PRIORITY",
    requirement="MT-PRIORITY= twice behind one MAIL is best refused",
    sent=["MAIL FROM:<{sender}> MT-PRIORITY=1 MT-PRIORITY=2"],
    allowed={"501": PASS, "5yz": PASS, "250": NON_STRICT},
)  # fmt: skip
