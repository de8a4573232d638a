"""RFC 2852, deliver by: sections 2 and 4.

Tricky: a server may have a least time for mode R; good values here are a day.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("2852")


@here.case(
    "2-keyword", level="MUST", clauses="2852-2-a", keywords="DELIVERBY",
    requirement="DELIVERBY in the EHLO reply is followed by nothing, or by a least time in seconds",
    sent="EHLO", allowed={"well formed": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    text = talk.features["DELIVERBY"]
    least = text.partition(",")[0].strip()
    well = not text or (least.isascii() and least.isdigit() and len(least) <= 9)
    return ("well formed" if well else "malformed"), text


for _slug, _value in (
    ("return", "86400;R"), ("notify", "86400;N"), ("return-trace", "86400;RT"),
    ("notify-trace", "86400;NT"), ("notify-late", "-60;N"), ("nine-digits", "999999999;N"),
    ("plus", "+86400;N"), ("lower-case", "86400;r"),
):  # fmt: skip
    here.probe(
        f"4-good-{_slug}", level="MUST", clauses="2852-2-a", keywords="DELIVERBY",
        requirement="A well-formed BY= behind MAIL is taken where DELIVERBY is listed "
        f"(BY={_value})",
        sent=[f"MAIL FROM:<{{sender}}> BY={_value}"],
        # A least time of more than a day, and policy, may refuse it.
        allowed={"250": PASS, "550": INFO, "552": INFO, "554": INFO,
                 **({"555": INFO} if "R" in _value.upper() else {}),
                 **({"501": NON_STRICT} if _slug in ("plus", "lower-case") else {})},
    )  # fmt: skip

_REFUSED: Final = {"501": PASS, "5yz": NON_STRICT}
for _slug, _value in (("zero", "0;R"), ("negative", "-1;R"), ("zero-trace", "0;RT")):
    here.probe(
        f"4-return-{_slug}", level="MUST", clauses="2852-4-a", keywords="DELIVERBY",
        requirement=f"A time that is not positive, with mode R, is refused with 501 (BY={_value})",
        sent=[f"MAIL FROM:<{{sender}}> BY={_value}"], allowed=_REFUSED,
    )  # fmt: skip

for _slug, _value in (
    ("no-mode", "120"), ("no-time", ";R"), ("other-mode", "120;X"), ("no-number", "soon;R"),
    ("ten-digits", "1234567890;R"), ("more", "120;R;T"), ("trace-alone", "120;T"), ("empty", ""),
):  # fmt: skip
    here.probe(
        f"4-malformed-{_slug}", level="IMPLIED", clauses="2852-2-a", keywords="DELIVERBY",
        requirement=f"A malformed BY= behind MAIL is refused with 501 (BY={_value})",
        sent=[f"MAIL FROM:<{{sender}}> BY={_value}"], allowed=_REFUSED,
    )  # fmt: skip

here.probe(
    "4-twice", level="IMPLIED", clauses="2852-2-a", keywords="DELIVERBY",
    requirement="BY= twice behind one MAIL is best refused",
    sent=["MAIL FROM:<{sender}> BY=86400;N BY=86401;N"],
    allowed={"501": PASS, "5yz": PASS, "250": NON_STRICT},
)  # fmt: skip
