"""RFC 5321 4.1.3: address literals, in MAIL, RCPT and EHLO (the latter in rfc5321_4_1_1_1, too).

A server need not take mail for an address of this kind, nor from one: 550 is fine, and 501 a bad
code for it.  That is judged of the plain ones; of the other forms only, if it knows the plain ones,
whether it knows these.  What is malformed may be taken by a lenient server.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import (
    LENIENT,
    LITERAL_RECIPIENT,
    LITERAL_SENDER,
    RECIPIENT,
    SENDER,
)
from specs.conformance.asking import octets, readable
from specs.conformance.model import INFO, NON_STRICT, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session, Stage

here = Section("5321")

BOTH: Final[tuple[tuple[str, bytes, Stage], ...]] = (
    ("mail", b"MAIL FROM:<a@", "ehlo"),
    ("rcpt", b"RCPT TO:<a@", "mail"),
)
#: Of each clause.
PLAIN: Final = {"a": b"[192.0.2.1]", "b": b"[IPv6:2001:db8::1]"}
#: (slug, literal, clause)
LITERALS: Final[tuple[tuple[str, bytes, str], ...]] = (
    ("v4-loopback", b"[127.0.0.1]", "a"),
    ("v4-zeros", b"[0.0.0.0]", "a"), ("v4-255", b"[255.255.255.255]", "a"),
    ("v4-three-digits", b"[192.000.002.001]", "a"),
    ("v6-loopback", b"[IPv6:::1]", "b"),
    ("v6-zero", b"[IPv6:::]", "b"), ("v6-full", b"[IPv6:2001:db8:0:1:2:3:4:5]", "b"),
    ("v6-full-digits", b"[IPv6:2001:0db8:0000:0001:0002:0003:0004:0005]", "b"),
    ("v6-comp-last", b"[IPv6:2001:db8::]", "b"), ("v6-capitals", b"[IPv6:2001:DB8::ABCD]", "b"),
    ("v6-tag-lower", b"[ipv6:2001:db8::1]", "b"), ("v6-tag-capitals", b"[IPV6:2001:db8::1]", "b"),
    ("v6v4-comp", b"[IPv6:::ffff:192.0.2.1]", "b"),
    ("v6v4-full", b"[IPv6:0:0:0:0:0:ffff:192.0.2.1]", "b"),
    ("v6v4-middle", b"[IPv6:64:ff9b::192.0.2.1]", "b"),
)  # fmt: skip
MALFORMED: Final[tuple[tuple[str, bytes], ...]] = (
    ("v4-300", b"[300.1.1.1]"), ("v4-256", b"[192.0.2.256]"), ("v4-three", b"[192.0.2]"),
    ("v4-five", b"[192.0.2.1.5]"), ("v4-empty-part", b"[192..2.1]"),
    ("v4-dot-last", b"[192.0.2.1.]"),
    ("v4-four-digits", b"[0192.0.2.1]"), ("v4-hex", b"[0xC0.0.2.1]"), ("v4-sign", b"[192.0.2.-1]"),
    ("v4-letters", b"[a.b.c.d]"), ("v4-space", b"[ 192.0.2.1 ]"), ("v4-number", b"[3221225985]"),
    ("v6-untagged", b"[::1]"),
    ("v6-letters", b"[IPv6:gggg::1]"), ("v6-two-gaps", b"[IPv6:1::2::3]"),
    ("v6-five-digits", b"[IPv6:12345::1]"), ("v6-seven", b"[IPv6:1:2:3:4:5:6:7]"),
    ("v6-nine", b"[IPv6:1:2:3:4:5:6:7:8:9]"), ("v6-zone", b"[IPv6:fe80::1%eth0]"),
    ("v6-prefix", b"[IPv6:2001:db8::/32]"), ("v6-none", b"[IPv6:]"), ("v6-v4", b"[IPv6:192.0.2.1]"),
    ("v6v4-300", b"[IPv6:::ffff:300.0.2.1]"), ("v6-colon-last", b"[IPv6:1:2:3:4:5:6:7:]"),
    ("v6-three-colons", b"[IPv6:1:::2]"), ("v6-space", b"[IPv6: 2001:db8::1]"),
    ("empty", b"[]"), ("space", b"[ ]"), ("open", b"[192.0.2.1"), ("not-opened", b"192.0.2.1]"),
    ("twice", b"[192.0.2.1][192.0.2.2]"), ("nested", b"[[192.0.2.1]]"), ("behind", b"[192.0.2.1]x"),
    ("before", b"x[192.0.2.1]"), ("label", b"[192.0.2.1].example"), ("name", b"[a.example]"),
    ("parentheses", b"(192.0.2.1)"), ("tag-none", b"[:192.0.2.1]"), ("tag-hyphen", b"[IPv6-:1]"),
)  # fmt: skip


def _form(verb: str, before: bytes, stage: Stage, slug: str, literal: bytes, letter: str) -> None:
    plain = before + PLAIN[letter] + b">"
    line = before + literal + b">"

    @here.case(
        f"4.1.3-{verb}-{slug}", level="IMPLIED", clauses=f"5321-4.1.3-{letter}",
        requirement="An address literal may be written in every form of the grammar",
        sent=f"({stage}) | {readable(line)}, if {readable(plain)} is no syntax error",
        # Zeros before the digits are in the grammar, and read as octal by many.
        allowed=(RECIPIENT if verb == "rcpt" else SENDER)
        | {"no literals": INFO}
        | ({"501": NON_STRICT} if slug == "v4-three-digits" else {}),
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto(stage)
        first = await talk.say(plain)
        if first.code in ("500", "501", "555"):
            return "no literals", str(first)
        if first.positive and verb == "mail":
            await talk.must("RSET")
        return await talk.say(line)


for verb, before, stage in BOTH:
    for letter, literal in PLAIN.items():
        octets(
            here, f"4.1.3-{verb}-v{'4' if letter == 'a' else '6'}", before + literal + b">",
            level="IMPLIED", clauses=f"5321-4.1.3-{letter}", upto=stage,
            requirement="An address literal is known as such, whether it is taken or not",
            allowed=LITERAL_RECIPIENT if verb == "rcpt" else LITERAL_SENDER,
        )  # fmt: skip
    for slug, literal, letter in LITERALS:
        _form(verb, before, stage, slug, literal, letter)
    for slug, literal in MALFORMED:
        octets(
            here, f"4.1.3-{verb}-bad-{slug}", before + literal + b">", level="IMPLIED",
            clauses="5321-4.1.3-c", upto=stage,
            requirement="What is in brackets is an IPv4 address, or a tag and what belongs to it",
            allowed=LENIENT,
        )  # fmt: skip
    for slug, literal in (
        ("other-tag", b"[X-other:a.b:c]"), ("v6-untagged-full", b"[2001:db8:0:1:2:3:4:5]"),
    ):  # fmt: skip
        octets(
            here, f"4.1.3-{verb}-{slug}", before + literal + b">", level="IMPLIED",
            clauses="5321-4.1.3-c", upto=stage,
            requirement="A literal with a tag that nobody knows has the right form, and no meaning",
            allowed={"5yz": INFO, "4yz": INFO, "25z": INFO},
        )  # fmt: skip
