"""RFC 7293, RRVS: section 4.  When a mailbox changed hands cannot be known from outside."""

from __future__ import annotations

from specs.conformance.model import INFO, NON_STRICT, PASS
from specs.conformance.section import Section

here = Section("7293")

HANDS = "mail for the former owner of a mailbox is given to the new one"
for _slug, _value in (
    ("plain", "2026-10-01T12:00:00Z"), ("reject", "2026-10-01T12:00:00Z;R"),
    ("continue", "2026-10-01T12:00:00Z;C"), ("offset", "2026-10-01T12:00:00-05:00"),
):  # fmt: skip
    here.probe(
        f"4-good-{_slug}", level="MUST", clauses="7293-4-a", keywords="RRVS", needs="rcpt",
        upto="mail",
        requirement="A well-formed RRVS= behind RCPT is taken, or refused with 550 if the mailbox "
        f"changed hands since (RRVS={_value})",
        sent=[f"RCPT TO:<{{rcpt}}> RRVS={_value}"],
        allowed={"250": PASS, "550": INFO, "450": INFO, "451": INFO},
    )  # fmt: skip

for _slug, _value in (
    ("word", "yesterday"), ("day-alone", "2026-10-01"),
    ("thirteenth-month", "2026-13-01T12:00:00Z"), ("no-zone", "2026-10-01T12:00:00"),
    ("empty", ""), ("other-mode", "2026-10-01T12:00:00Z;X"),
):  # fmt: skip
    here.probe(
        f"4-malformed-{_slug}", level="MUST", clauses="7293-4-a", keywords="RRVS", needs="rcpt",
        upto="mail", requirement="RRVS= that is no date and time is refused with 501 "
        f"(RRVS={_value})",
        sent=[f"RCPT TO:<{{rcpt}}> RRVS={_value}"],
        allowed={"501": PASS, "5yz": NON_STRICT}, security=HANDS,
    )  # fmt: skip
