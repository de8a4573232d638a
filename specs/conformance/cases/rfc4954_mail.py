"""RFC 4954 3 and 5: AUTH= behind MAIL; and section 6: which enhanced status codes AUTH has."""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.sasl import mail_taken, nobody, offering_auth
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("4954")

# -- 3, 5: the parameter of MAIL ------------------------------------------------------------------


#: Small hexadecimal digits: this RFC's grammar has them, RFC 3461's, which it refers to, has not.
_PARAMETERS: Final = (
    ("empty", "AUTH=<>", {"250": PASS}),
    ("mailbox", "AUTH=ada@example.com", {"250": PASS}),
    ("xtext", "AUTH=e+3Dmc2@example.com", {"250": PASS}),
    ("lower-case", "auth=<>", {"250": PASS}),
    ("bad-hex", "AUTH=a+ZZ@example.com", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("cut-hex", "AUTH=ada@example.com+4", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("lower-hex", "AUTH=e+3dmc2@example.com", {"250": PASS, "501": INFO}),
    ("no-value", "AUTH=", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("no-sign", "AUTH", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
    ("twice", "AUTH=<> AUTH=<>", {"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT}),
)
for _slug, _text, _allowed in _PARAMETERS:
    _good = _allowed["250"] is PASS

    @here.case(
        f"5-mail-{_slug}", level="MUST" if len(_allowed) == 1 else "IMPLIED",
        clauses="4954-5-a" if _good else "4954-5-b",
        requirement=f"A server that lists AUTH takes {_text} behind MAIL, from strangers, too"
        if _good else f"AUTH= behind MAIL that is no xtext is refused with 501 ({_text})",
        sent=f"MAIL FROM:<...> {_text}", allowed=_allowed,
    )  # fmt: skip
    async def _(talk: Session, text: str = _text) -> Observed:
        door = await mail_taken(talk)
        return await door.say(talk.fill(f"MAIL FROM:<{{sender}}> {text}"))


@here.case(
    "5-mail-authenticated", level="MUST", clauses="4954-5-a", needs="user",
    requirement="A server that lists AUTH takes AUTH= behind the MAIL of an authenticated client",
    sent="AUTH PLAIN (good) | MAIL FROM:<...> AUTH=<>", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk)
    await door.auth()
    plain = await door.say(talk.fill("MAIL FROM:<{sender}>"))
    if not plain.positive:
        raise Refused("MAIL", plain)
    await door.must("RSET")
    return await door.say(talk.fill("MAIL FROM:<{sender}> AUTH=<>"))


@here.case(
    "3-long-mail", level="IMPLIED", clauses="4954-3-b",
    requirement="AUTH adds 500 octets to the length of a MAIL command",
    sent="MAIL FROM:<...> AUTH=... of 512 to 1012 octets",
    allowed={"250": PASS, "501": NON_STRICT, "55z": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await mail_taken(talk)
    domain = f"{'d' * 60}.{'e' * 30}.example"
    # Every sign may be written as three, so that an ordinary mailbox fills the line.
    value = "".join(f"+{ord(each):02X}" for each in f"{'a' * 60}@{domain}")[:489]
    line = talk.fill(f"MAIL FROM:<{{sender}}> AUTH={value}")
    return await door.say(line)


# -- 6: enhanced codes ----------------------------------------------------------------------------

_CODES: Final = (
    ("success", "AUTH PLAIN (good)", "2.7.0", "4954-6-a", "user"),
    ("wrong", "AUTH PLAIN (wrong)", "5.7.8", "4954-6-a 4954-4-g", ""),
    ("no-base64", "AUTH PLAIN !!!!", "5.5.2", "4954-6-a", ""),
    ("unknown", "AUTH X-CONFORM", "5.5.4", "4954-6-a", ""),
    ("initial-not-wanted", "AUTH CRAM-MD5 AGEAYg==", "5.7.0", "4954-6-a", ""),
)
for _slug, _line, _code, _clauses, _needs in _CODES:

    @here.case(
        f"6-enhanced-{_slug}", level="SHOULD", clauses=_clauses, needs=_needs,
        requirement=f"A server that offers enhanced status codes says {_code} there",
        sent=_line, allowed={_code: PASS, "another": NON_STRICT, "none": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, line: str = _line, code: str = _code) -> Observed:
        door = await offering_auth(talk, "CRAM-MD5" if "CRAM-MD5" in line else "PLAIN")
        if "ENHANCEDSTATUSCODES" not in door.features:
            raise NotApplicable("ENHANCEDSTATUSCODES")
        text = line.replace("(wrong)", nobody(door)).replace("(good)", door.plain())
        reply = await door.say(text)
        said = reply.enhanced
        return (code if said == code else "another" if said else "none"), str(reply)
