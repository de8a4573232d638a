"""RFC 5321 4.1.1.2: MAIL; 4.1.1.11: parameters of MAIL and RCPT.

What is not in the grammar may be refused (501, 500, 553, 555) or, where it is plain what is meant,
taken by a lenient server: that is non-strict.  What the local part and the domain may be is in
rfc5321_4_1_2.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import (
    LENIENT,
    MAIL_TAKEN,
    NO_PATH,
    NOTHING_TO_SEND,
    ROUTED,
    UNKNOWN_PARAMETER,
)
from specs.conformance.asking import data_refused, octets
from specs.conformance.model import INFO, NON_STRICT, PASS
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

for slug, line in (
    ("lower", "mail from:<{sender}>"), ("mixed", "MaIl FrOm:<{sender}>"),
):  # fmt: skip
    here.probe(
        f"4.1.1.2-case-{slug}", level="MUST", clauses="5321-2.4-b", sent=[line],
        requirement="MAIL FROM is known in any case", allowed=MAIL_TAKEN,
    )  # fmt: skip

for slug, route in (
    ("one", "@a.example:"), ("two", "@a.example,@b.example:"), ("own", "@{domain}:"),
    ("capitals", "@A.EXAMPLE:"),
):  # fmt: skip
    here.probe(
        f"4.1.1.2-source-route-{slug}", level="MUST", clauses="5321-4.1.1.3-a 5321-3.6.1-b",
        requirement="A source route in MAIL is known as such: it is no syntax error",
        sent=[f"MAIL FROM:<{route}{{sender}}>"], allowed=ROUTED,
        needs="rcpt" if slug == "own" else "",
    )  # fmt: skip

# -- its syntax -----------------------------------------------------------------------------------

BAD: Final[tuple[tuple[str, bytes, str], ...]] = (
    ("no-brackets", b"MAIL FROM:{sender}", "5321-4.1.1.2-d"),
    ("no-brackets-space", b"MAIL FROM: {sender}", "5321-4.1.1.2-d"),
    ("space-after-colon", b"MAIL FROM: <{sender}>", "5321-4.1.1.2-d 5321-3.3-d"),
    ("tab-after-colon", b"MAIL FROM:\t<{sender}>", "5321-4.1.1.2-d 5321-3.3-d"),
    ("space-before-colon", b"MAIL FROM :<{sender}>", "5321-4.1.1.2-e 5321-3.3-d"),
    ("space-both", b"MAIL FROM : <{sender}>", "5321-4.1.1.2-e 5321-3.3-d"),
    ("no-from", b"MAIL <{sender}>", "5321-4.1.1.2-e"),
    ("no-from-bare", b"MAIL {sender}", "5321-4.1.1.2-e"),
    ("no-colon", b"MAIL FROM<{sender}>", "5321-4.1.1.2-e"),
    ("no-colon-space", b"MAIL FROM <{sender}>", "5321-4.1.1.2-e"),
    ("to-for-from", b"MAIL TO:<{sender}>", "5321-4.1.1.2-e 5321-3.3-g"),
    ("equals", b"MAIL FROM=<{sender}>", "5321-4.1.1.2-e"),
    ("not-closed", b"MAIL FROM:<{sender}", "5321-4.1.1.2-f 5321-3.3-g"),
    ("not-opened", b"MAIL FROM:{sender}>", "5321-4.1.1.2-f"),
    ("nothing-closed", b"MAIL FROM:<", "5321-4.1.1.2-f"),
    ("closed-twice", b"MAIL FROM:<{sender}>>", "5321-4.1.1.2-f"),
    ("no-space-parameter", b"MAIL FROM:<{sender}>SIZE=10", "5321-4.1.1.2-g"),
    ("text-behind", b"MAIL FROM:<{sender}>x", "5321-4.1.1.2-g"),
    ("display-name", b"MAIL FROM:Sender <{sender}>", "5321-4.1.1.2-d"),
    ("display-name-quoted", b'MAIL FROM:"Sender" <{sender}>', "5321-4.1.1.2-d"),
    ("comment-behind", b"MAIL FROM:<{sender}> (a comment)", "5321-4.1.1.2-g"),
    ("space-inside", b"MAIL FROM:< {sender} >", "5321-4.1.2-i"),
    ("null-space", b"MAIL FROM:< >", "5321-4.1.2-i"),
    ("square", b"MAIL FROM:[{sender}]", "5321-4.1.1.2-d"),
    ("wide-before-parameter", b"MAIL FROM:<{sender}>  BODY=7BIT", "5321-4.1.1.2-g"),
)
for slug, text, clause in BAD:
    octets(
        here, f"4.1.1.2-bad-{slug}", text, level="IMPLIED", clauses=clause, allowed=LENIENT,
        requirement="MAIL FROM: is followed by a path in angle brackets, and nothing else but"
        " parameters behind a space",
    )  # fmt: skip

#: Of two paths one is good, and no path may be read as the null one.  Of the others nobody can tell
#: who is meant: taken, it would be a sender that the client has not given.
GUESSED: Final = ("from-colon", "from-space", "two-paths", "two-paths-comma", "two-paths-space")
for slug, text, clause in (
    ("alone", b"MAIL", "5321-4.1.1.2-e 5321-4.2.3-a"),
    ("from", b"MAIL FROM", "5321-4.1.1.2-e"),
    ("from-colon", b"MAIL FROM:", "5321-4.1.1.2-d 5321-4.2.3-a"),
    ("from-space", b"MAIL FROM: ", "5321-4.1.1.2-d"),
    ("two-paths", b"MAIL FROM:<{sender}><other@a.example>", "5321-4.1.1.2-g"),
    ("two-paths-comma", b"MAIL FROM:<{sender}>,<other@a.example>", "5321-4.1.1.2-g"),
    ("two-paths-space", b"MAIL FROM:<{sender}> <other@a.example>", "5321-4.1.1.2-g"),
    ("colon", b"MAIL :", "5321-4.1.1.2-e"),
    ("closed-opened", b"MAIL FROM:>{sender}<", "5321-4.1.1.2-f"),
):
    octets(
        here, f"4.1.1.2-none-{slug}", text, level="IMPLIED", clauses=f"{clause} 5321-3.3-g",
        allowed=LENIENT if slug in GUESSED else NO_PATH,
        requirement="MAIL without one sender is a syntax error",
    )  # fmt: skip

# -- what it does ---------------------------------------------------------------------------------


@here.case(
    "4.1.1.2-clears-recipients", level="IMPLIED", clauses="5321-4.1.1.2-a", needs="rcpt",
    requirement="A new transaction has none of the recipients of an abandoned one",
    sent="MAIL | RCPT | RSET | MAIL | DATA", allowed=NOTHING_TO_SEND,
    security="a message reaches recipients of another one",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("rcpt")
    await talk.must("RSET")
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    return await data_refused(talk)


# -- parameters (4.1.1.11) ------------------------------------------------------------------------

PARAMETERS: Final[tuple[tuple[str, bytes], ...]] = (
    ("value", b"FOO=BAR"), ("no-value", b"FOO"), ("private", b"X-CONFORM=1"),
    ("digits", b"1=1"), ("twice", b"FOO=1 BAR=2"),
)  # fmt: skip
#: By grammar none at all.
MALFORMED: Final[tuple[tuple[str, bytes], ...]] = (
    ("equals-twice", b"FOO=="), ("equals-inside", b"FOO=a=b"), ("no-keyword", b"=x"),
    ("only-equals", b"="), ("hyphen-first", b"-FOO=1"), ("no-value", b"FOO="),
    ("underscore", b"F_O=1"), ("control", b"FOO=a\x01b"), ("eight-bit", b"FOO=\xe9"),
    ("nul", b"FOO=\0"), ("bracket", b"<FOO=1>"), ("comma", b"FOO=1,BAR=2 ,"),
)  # fmt: skip
for verb, stage, path, clause, needs in (
    ("mail", "ehlo", b"MAIL FROM:<{sender}>", "5321-4.1.1.11-a", ""),
    ("rcpt", "mail", b"RCPT TO:<{rcpt}>", "5321-4.1.1.11-b", "rcpt"),
):
    for slug, text in PARAMETERS:
        octets(
            here, f"4.1.1.11-{verb}-unknown-{slug}", path + b" " + text, level="IMPLIED",
            clauses=clause, upto=stage, needs=needs,  # type: ignore[arg-type]
            requirement="A parameter that the server does not know is refused, with 555",
            allowed=UNKNOWN_PARAMETER,
        )  # fmt: skip
    for slug, text in MALFORMED:
        octets(
            here, f"4.1.1.11-{verb}-malformed-{slug}", path + b" " + text, level="IMPLIED",
            clauses=f"{clause} 5321-4.1.1.11-c",
            upto=stage, needs=needs,  # type: ignore[arg-type]
            requirement="What has not the form of a parameter is refused",
            allowed={"555": PASS, "501": PASS, "500": PASS, "5yz": NON_STRICT},
        )  # fmt: skip

here.probe(
    "4.1.1.11-known-and-unknown", level="IMPLIED", clauses="5321-4.1.1.11-a", keywords="SIZE",
    requirement="An unknown parameter behind a known one is refused, with 555",
    sent=["MAIL FROM:<{sender}> SIZE=1000 FOO=BAR"], allowed=UNKNOWN_PARAMETER,
)  # fmt: skip
here.probe(
    "4.1.1.11-same-twice", level="IMPLIED", clauses="5321-4.1.1.11-d", keywords="SIZE",
    requirement="The same parameter twice: refused, or the standard leaves it open which counts",
    sent=["MAIL FROM:<{sender}> SIZE=1000 SIZE=2000"],
    allowed={"501": PASS, "5yz": PASS, "250": INFO},
)  # fmt: skip
for slug, text in (("lower", b"size=1000"), ("mixed", b"SiZe=1000")):
    octets(
        here, f"4.1.1.11-case-{slug}", b"MAIL FROM:<{sender}> " + text, level="MUST",
        clauses="5321-2.4-b", keywords="SIZE", allowed=MAIL_TAKEN,
        requirement="Parameters are known in any case",
    )  # fmt: skip
for slug, keyword, text in (
    ("size-digits-letters", "SIZE", b"SIZE=10k"), ("body", "8BITMIME", b"BODY=9BIT"),
    ("ret", "DSN", b"RET=SOME"), ("ret-none", "DSN", b"RET"),
):  # fmt: skip
    octets(
        here, f"4.1.1.2-value-{slug}", b"MAIL FROM:<{sender}> " + text, level="IMPLIED",
        clauses="5321-4.1.1.2-c", keywords=keyword,
        requirement="A known parameter with a value that it cannot have is refused, with 501",
        allowed={"501": PASS, "555": PASS, "5yz": NON_STRICT, "250": NON_STRICT},
    )  # fmt: skip
