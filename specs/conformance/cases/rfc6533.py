"""RFC 6533: delivery reports for addresses in UTF-8.  Sections 3 (ORCPT) and 4 (the report).

A report is had by NOTIFY=SUCCESS, which a server may hand on or refuse: without one nothing is
judged.  A report in ASCII may be message/delivery-status: it writes the address with \\x{...} then,
for a sender whose server may know nothing of UTF-8.
"""

from __future__ import annotations

import email
import email.policy
import re
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("6533")

POLICY: Final = {"4yz": INFO, "550": INFO, "551": INFO, "553": INFO, "554": INFO}

#: (name, MAIL's parameter, address): what section 3 has for each of both.
FORMS: Final = (
    ("unitext", "SMTPUTF8", "utf-8;müller@client.conform.example"),
    ("xtext-form", "SMTPUTF8", "utf-8;m\\x{FC}ller@client.conform.example"),
    ("han", "SMTPUTF8", "utf-8;用户@client.conform.example"),
    ("han-xtext", "SMTPUTF8", "utf-8;\\x{7528}\\x{6237}@client.conform.example"),
    ("emoji-xtext", "SMTPUTF8", "utf-8;\\x{1F600}@client.conform.example"),
    ("plus", "SMTPUTF8", "utf-8;a\\x{2B}b\\x{3D}@client.conform.example"),
    ("upper-case", "SMTPUTF8", "UTF-8;m\\x{FC}ller@client.conform.example"),
    ("ascii", "SMTPUTF8", "utf-8;ada@client.conform.example"),
    ("rfc822", "SMTPUTF8", "rfc822;ada@client.conform.example"),
    ("without-smtputf8", "", "utf-8;m\\x{FC}ller@client.conform.example"),
)
for slug, parameter, original in FORMS:
    here.probe(
        f"3-{slug}",
        level="MUST",
        clauses="6533-3-a",
        requirement=f"ORCPT takes the address type utf-8, in both its forms ({original})",
        sent=[
            f"MAIL FROM:<{{sender}}> {parameter}".rstrip(),
            f"RCPT TO:<{{rcpt}}> ORCPT={original}",
        ],
        allowed={"250": PASS, "251": PASS, **POLICY},
        keywords="SMTPUTF8 DSN",
        needs="rcpt",
    )
for slug, original in (
    ("no-hexadecimal", "utf-8;m\\x{ZZ}ller@client.conform.example"),
    ("open-brace", "utf-8;m\\x{FCller@client.conform.example"),
    ("surrogate", "utf-8;m\\x{D800}@client.conform.example"),
    ("no-semicolon", "utf-8"),
):
    here.probe(
        f"3-bad-{slug}",
        level="IMPLIED",
        clauses="6533-3-a",
        requirement="ORCPT with a malformed address of the type utf-8 is refused or borne "
        f"({original})",
        sent=["MAIL FROM:<{sender}> SMTPUTF8", f"RCPT TO:<{{rcpt}}> ORCPT={original}"],
        allowed={"501": PASS, "5yz": NON_STRICT, "250": NON_STRICT, "4yz": NON_STRICT},
        keywords="SMTPUTF8 DSN",
        needs="rcpt",
    )

# -- 4: the report --------------------------------------------------------------------------------

ORIGINAL: Final = "utf-8;m\\x{FC}ller@client.conform.example"
STATUS: Final = ("message/global-delivery-status", "message/delivery-status")


def status_of(report: bytes) -> tuple[str, bytes]:
    """(its type, its octets) of the part that says what became of the mail; ("", b"") if none."""
    whole = email.message_from_bytes(report, policy=email.policy.compat32)
    for part in whole.walk():
        if part.get_content_type() not in STATUS:
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            return part.get_content_type(), payload
        inner = part.get_payload()
        blocks = inner if isinstance(inner, list) else [inner]
        octets = b"\n".join(
            each.as_bytes() if hasattr(each, "as_bytes") else str(each).encode() for each in blocks
        )
        return part.get_content_type(), octets
    return "", b""


async def report_for(talk: Session) -> bytes:
    """The report of a delivery that was asked for; b"" if none comes."""
    final = await talk.transact(
        mail="SMTPUTF8 RET=HDRS", rcpt=f"NOTIFY=SUCCESS,FAILURE ORCPT={ORIGINAL}"
    )
    if not final.positive:
        return b""
    found = await talk.reports()
    return found[0] if found else b""


@here.case(
    "4-type-of-report",
    level="MUST",
    clauses="6533-4-a",
    requirement="A report with UTF-8 is message/global-delivery-status; message/delivery-status is "
    "ASCII",
    sent="MAIL with SMTPUTF8 | RCPT with NOTIFY=SUCCESS and ORCPT=utf-8;m\\x{FC}ller@...",
    allowed={"global": PASS, "in ASCII": PASS, "no report": INFO},
    keywords="SMTPUTF8 DSN",
    needs="rcpt sendermail",
    role="delivery",
)
async def _(talk: Session) -> Seen:
    report = await report_for(talk)
    kind, octets = status_of(report)
    saw = f"{kind}: {octets.decode('utf-8', 'backslashreplace')[:300]}"
    if not report:
        return "no report", ""
    if not kind:
        return "no delivery status", saw
    if kind == STATUS[0]:
        return "global", saw
    return ("in ASCII" if octets.isascii() else "UTF-8 in message/delivery-status"), saw


@here.case(
    "4-type-of-address",
    level="MUST",
    clauses="6533-4-b",
    requirement="A report names the original recipient with the address type utf-8 that was given",
    sent="MAIL with SMTPUTF8 | RCPT with NOTIFY=SUCCESS and ORCPT=utf-8;m\\x{FC}ller@...",
    allowed={"utf-8": PASS, "no field": INFO, "no report": INFO},
    keywords="SMTPUTF8 DSN",
    needs="rcpt sendermail",
    role="delivery",
)
async def _(talk: Session) -> Seen:
    report = await report_for(talk)
    if not report:
        return "no report", ""
    _, octets = status_of(report)
    found = re.search(rb"(?im)^Original-Recipient:\s*([^;\s]+)\s*;\s*(.*)$", octets)
    if found is None:
        return "no field", octets.decode("utf-8", "backslashreplace")[:300]
    kind, address = found[1].lower(), found[2].strip().decode("utf-8", "backslashreplace")
    if kind != b"utf-8":
        return "another type", found[0].decode("utf-8", "backslashreplace")
    well = address in ("müller@client.conform.example", ORIGINAL.partition(";")[2])
    return ("utf-8" if well else "another address"), address
