"""RFC 5321 4.1.2: the syntax of arguments: local parts, quoted strings, domains, and their octets.

- Valid and odd: a server may refuse it for reasons of its own, but 500, 501 and 555 say that it is
  not valid, and that is wrong; 501 is only a bad code where the server may mean a policy.
- Quoted and not quoted are the same local part wherever it is compared: there is no choice.
- Octets that may not be there at all (controls; in a domain all but letters, digits and hyphens)
  must be refused with 501, if there is no other reason to refuse it; above 127, they should (2.4).
- Other breaches of the grammar may be taken by a lenient server: non-strict.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import (
    EIGHT_BIT,
    FORBIDDEN,
    LENIENT,
    OWN_RECIPIENT,
    RCPT_TAKEN,
    RECIPIENT,
    SENDER,
)
from specs.conformance.arrivals import lost
from specs.conformance.asking import filled, octets, readable
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session, Stage

here = Section("5321")

#: (verb, what comes before the mailbox, stage, needs)
BOTH: Final[tuple[tuple[str, bytes, Stage, str], ...]] = (
    ("mail", b"MAIL FROM:<", "ehlo", ""),
    ("rcpt", b"RCPT TO:<", "mail", "rcpt"),
)


def _domain(verb: str, text: bytes) -> bytes:
    """{at} is this server's domain for a recipient, the client's for a sender."""
    return text.replace(b"{at}", b"{domain}" if verb == "rcpt" else b"{hostname}")


# -- valid local parts ----------------------------------------------------------------------------

LOCAL: Final[tuple[tuple[str, bytes], ...]] = (
    ("letter", b"x"), ("digits", b"12345"), ("dots", b"a.b.c.d"), ("plus", b"a+b"),
    ("hyphen-first", b"-a"), ("apostrophe", b"o'hara"), ("slash", b"a/b"), ("equals", b"a=b"),
    ("atext", b"!#$%&'*+-/=?^_`{|}~"), ("braces", b"{a}"), ("underscore", b"_a_"),
    ("length-64", b"a" * 64), ("dots-64", b".".join([b"a"] * 32) + b"a"),
    ("quoted", b'"quoted"'), ("quoted-space", b'"john doe"'), ("quoted-space-first", b'" a"'),
    ("quoted-dot-first", b'".a"'), ("quoted-dots", b'"a..b"'), ("quoted-dot-last", b'"a."'),
    ("quoted-at", b'"a@b"'), ("quoted-bracket", b'"a>b"'), ("quoted-brackets", b'"<a>"'),
    ("quoted-comma", b'"a,b"'), ("quoted-colon", b'"a:b"'), ("quoted-parenthesis", b'"a(b"'),
    ("quoted-semicolon", b'"a;b"'), ("quoted-empty", b'""'), ("quoted-pair", b'"a\\b"'),
    ("quoted-pair-quote", b'"a\\"b"'), ("quoted-pair-backslash", b'"a\\\\b"'),
    ("quoted-pair-space", b'"a\\ b"'), ("quoted-parameter", b'"a> SIZE=1 <b"'),
    ("quoted-route", b'"@a.example:b"'),
)  # fmt: skip
#: In the grammar, but of no use, or taken for an option by programs: 501 is said for policy.
DISLIKED: Final = ("hyphen-first", "quoted-empty")
for verb, before, stage, needs in BOTH:
    for slug, local in LOCAL:
        quoted = slug.startswith("quoted")
        clause = "5321-4.1.2-d" if slug.startswith("quoted-pair") else "5321-4.1.2-a"
        octets(
            here, f"4.1.2-{verb}-local-{slug}", before + local + _domain(verb, b"@{at}>"),
            level="IMPLIED", clauses=clause, upto=stage, needs=needs,
            requirement="A local part in quotes is no syntax error" if quoted
            else "Every character of an atom may be in a local part",
            allowed=OWN_RECIPIENT if verb == "rcpt"
            else SENDER | ({"501": NON_STRICT} if slug in DISLIKED else {}),
        )  # fmt: skip

# -- the same local part, in other words ----------------------------------------------------------


def _spelled(how: str, local: str) -> str:
    """In quotes; with a backslash before the first character, or before each."""
    match how:
        case "quotes":
            return f'"{local}"'
        case "pair":
            return f'"\\{local}"'
        case _:
            return '"' + "".join(f"\\{each}" for each in local) + '"'


def _same(how: str, level_of: str) -> None:
    clauses = "5321-4.1.2-b" if how == "quotes" else "5321-4.1.2-b 5321-4.1.2-d"

    @here.case(
        f"4.1.2-same-{how}", level="MUST", clauses=clauses, needs="rcpt",
        requirement="A mailbox that is known is known by every quoted form of its local part",
        sent=f"RCPT, the local part {level_of}", allowed=RCPT_TAKEN,
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("mail")
        local, _, domain = talk.given.rcpt.rpartition("@")
        return await talk.say(f"RCPT TO:<{_spelled(how, local)}@{domain}>")

    @here.case(
        f"4.1.2-same-{how}-delivered", level="MUST", clauses=clauses, role="delivery",
        requirement="Mail to a quoted form of a local part arrives in the same mailbox",
        sent=f"a message, the recipient's local part {level_of}", needs="rcpt maildir",
        allowed={"delivered": PASS, "refused": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> str | tuple[str, str]:
        await talk.upto("mail")
        local, _, domain = talk.given.rcpt.rpartition("@")
        for line in (f"RCPT TO:<{_spelled(how, local)}@{domain}>", "DATA"):
            reply = await talk.say(line)
            if not reply.positive:
                return "refused", str(reply)
        end = await talk.content(talk.message())
        if not end.positive:
            return "refused", str(end)
        return "delivered" if await talk.arrived() else await lost(talk)


_same("quotes", "in quotes")
_same("pair", "in quotes, a backslash before its first letter")
_same("pairs", "in quotes, a backslash before each letter")


# -- local parts that are none --------------------------------------------------------------------

NO_LOCAL: Final[tuple[tuple[str, bytes, str], ...]] = (
    ("dot-first", b".a", "f"), ("dot-last", b"a.", "f"), ("dots", b"a..b", "f"),
    ("dot", b".", "f"), ("empty", b"", "f"), ("space", b"a b", "i"), ("space-first", b" a", "i"),
    ("space-last", b"a ", "i"), ("comment", b"a(c)", "i"), ("comment-first", b"(c)a", "i"),
    ("parenthesis", b"a(b", "i"), ("comma", b"a,b", "j"), ("colon", b"a:b", "j"),
    ("semicolon", b"a;b", "j"), ("open", b"a<b", "j"), ("square", b"[a]", "j"),
    ("backslash", b"a\\b", "f"), ("backslash-last", b"a\\", "f"), ("quote", b'a"b', "f"),
    ("quote-open", b'"a', "f"), ("quote-behind", b'"a"b', "f"), ("quote-before", b'a"b"', "f"),
    ("quotes-two", b'"a""b"', "f"), ("quotes-dotted", b'"a".b', "f"), ("pair-open", b'"a\\"', "f"),
)  # fmt: skip
for verb, before, stage, needs in BOTH:
    for slug, local, letter in NO_LOCAL:
        octets(
            here, f"4.1.2-{verb}-no-local-{slug}", before + local + _domain(verb, b"@{at}>"),
            level="IMPLIED", upto=stage, needs=needs,
            clauses=f"5321-4.1.2-{letter} 5321-3.3-g 5321-4.1.2-i",
            requirement="A local part is an atom with dots inside, or one quoted string",
            allowed=LENIENT,
        )  # fmt: skip

for verb, before, stage, needs in BOTH:
    for slug, path in (
        ("nested", b"<a@{at}>>"), ("nested-inside", b"a<b@{at}>>"), ("no-at", b"a>"),
        ("no-domain", b"a@>"), ("only-at", b"@>"),
        ("space-at", b"a @ {at}>"), ("comment-domain", b"a@{at}(c)>"),
        ("space-last", b"a@{at} >"), ("two-domains", b"a@{at},{at}>"),
        ("mailto", b"mailto:a@{at}>"), ("dot-path", b"../../a@{at}/>"),
    ):  # fmt: skip
        octets(
            here, f"4.1.2-{verb}-no-path-{slug}", before + _domain(verb, path), level="IMPLIED",
            clauses="5321-4.1.2-j" if "nested" in slug else "5321-4.1.2-i 5321-3.3-g",
            upto=stage, needs=needs,
            requirement="A path is a mailbox in angle brackets, without anything else in them",
            allowed=LENIENT,
        )  # fmt: skip

# -- octets that may not be there -----------------------------------------------------------------

CONTROLS: Final[tuple[tuple[str, bytes], ...]] = (
    ("soh", b"a\x01b"), ("nul", b"a\0b"), ("tab", b"a\tb"), ("cr", b"a\rb"),
    ("escape", b"a\x1bb"), ("delete", b"a\x7fb"), ("quoted-soh", b'"a\x01b"'),
    ("quoted-nul", b'"a\0b"'), ("quoted-tab", b'"a\tb"'), ("quoted-cr", b'"a\rb"'),
    ("quoted-delete", b'"a\x7fb"'), ("pair-soh", b'"a\\\x01b"'),
    ("pair-nul", b'"a\\\0b"'), ("pair-tab", b'"a\\\tb"'), ("pair-cr", b'"a\\\rb"'),
)  # fmt: skip
NOT_ASCII: Final[tuple[tuple[str, bytes], ...]] = (
    ("latin", b"a\xe9b"), ("ff", b"a\xffb"), ("c1", b"a\x85b"), ("overlong", b"a\xc0\x80b"),
    ("surrogate", b"a\xed\xa0\x80b"), ("cut", b"a\xe2\x82"), ("quoted", b'"a\xe9b"'),
)  # fmt: skip
for verb, before, stage, needs in BOTH:
    for slug, local in CONTROLS:
        octets(
            here, f"4.1.2-{verb}-control-{slug}", before + local + _domain(verb, b"@{at}>"),
            level="MUST", upto=stage, needs=needs, allowed=FORBIDDEN,
            clauses="5321-2.3.8-a 5321-4.1.2-k" + (" 5321-4.1.2-e" if b'"' in local else ""),
            requirement="Control characters in a local part are refused, in quotes, too: 501",
        )  # fmt: skip
    for slug, local in NOT_ASCII:
        octets(
            here, f"4.1.2-{verb}-eight-bit-{slug}", before + local + _domain(verb, b"@{at}>"),
            level="SHOULD", clauses="5321-4.1.2-k 5321-2.4-e", upto=stage, needs=needs,
            requirement="Octets above 127 that are no UTF-8 are refused: 501", allowed=EIGHT_BIT,
        )  # fmt: skip


def _utf8(verb: str, before: bytes, stage: Stage, needs: str) -> None:
    line = before + "zoë".encode() + _domain(verb, b"@{at}>")

    @here.case(
        f"4.1.2-{verb}-eight-bit-utf8", level="SHOULD", clauses="5321-4.1.2-k 5321-2.4-e",
        requirement="Without SMTPUTF8, UTF-8 in a local part is refused: 501", needs=needs,
        sent=f"({stage}) | {readable(line)}, where EHLO does not offer SMTPUTF8", allowed=EIGHT_BIT,
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        if "SMTPUTF8" in talk.features:
            raise NotApplicable("a server without SMTPUTF8")
        await talk.upto(stage)
        return await talk.say(filled(talk, line))


for verb, before, stage, needs in BOTH:
    _utf8(verb, before, stage, needs)

# -- domains --------------------------------------------------------------------------------------

LONG: Final = b"a" * 63
DOMAINS: Final[tuple[tuple[str, bytes], ...]] = (
    ("digits-first", b"1and1.example"), ("digits", b"123.example"), ("hyphen", b"a-b.example"),
    ("hyphens", b"a--b.example"), ("a-label", b"xn--bcher-kva.example"), ("letter", b"a.example"),
    ("many", b"a.b.c.d.e.f.g.h.i.j.k.example"), ("capitals", b"CAPITALS.EXAMPLE"),
    ("label-63", LONG + b".example"), ("length-251", b".".join([LONG, LONG, LONG, LONG[:59]])),
    ("dotted-digits", b"192.0.2.1"), ("one-label", b"localhost"),
)  # fmt: skip
for verb, before, stage, _needs in BOTH:
    for slug, domain in DOMAINS:
        octets(
            here, f"4.1.2-{verb}-domain-{slug}", before + b"a@" + domain + b">", level="IMPLIED",
            clauses="5321-4.1.2-g", upto=stage,
            requirement="A well-formed domain is no syntax error",
            # All digits are in the grammar; to take them for an address without its brackets is an
            # error on the safe side.
            allowed=(RECIPIENT if verb == "rcpt" else SENDER)
            | ({"501": NON_STRICT} if slug == "dotted-digits" else {}),
        )  # fmt: skip

NO_DOMAIN: Final[tuple[tuple[str, bytes, str], ...]] = (
    ("hyphen-first", b"-a.example", "g"), ("hyphen-last", b"a-.example", "g"),
    ("hyphen-alone", b"-.example", "g"), ("hyphen-end", b"a.example-", "g"),
    ("empty-label", b"a..example", "g"), ("dot-first", b".a.example", "g"), ("dot", b".", "g"),
    ("dot-last", b"a.example.", "h"), ("dots-last", b"a.example..", "h"),
    ("label-64", LONG + b"a.example", "g"), ("length-300", b"a." * 150 + b"example", "g"),
)  # fmt: skip
for verb, before, stage, _needs in BOTH:
    for slug, domain, letter in NO_DOMAIN:
        octets(
            here, f"4.1.2-{verb}-no-domain-{slug}", before + b"a@" + domain + b">",
            level="IMPLIED", clauses=f"5321-4.1.2-{letter}", upto=stage,
            requirement="A label is not empty, begins and ends with a letter or digit, and is no"
            " longer than 63 octets",
            allowed=LENIENT,
        )  # fmt: skip

OCTETS: Final[tuple[tuple[str, bytes], ...]] = (
    ("underscore", b"a_b.example"), ("underscore-first", b"_a.example"), ("space", b"a b.example"),
    ("star", b"*.example"), ("slash", b"a/b.example"), ("backslash", b"a\\b.example"),
    ("quote", b'"a".example'), ("comma", b"a,example"), ("exclamation", b"a!b.example"),
    ("percent", b"a%b.example"), ("soh", b"a\x01b.example"), ("nul", b"a.example\0.b"),
    ("cr", b"a\rb.example"), ("delete", b"a\x7fb.example"), ("latin", b"a\xe9b.example"),
    ("dollar", b"$(id).example"), ("plus", b"a+b.example"), ("equals", b"a=b.example"),
)  # fmt: skip
for verb, before, stage, _needs in BOTH:
    for slug, domain in OCTETS:
        octets(
            here, f"4.1.2-{verb}-domain-octet-{slug}", before + b"a@" + domain + b">", level="MUST",
            upto=stage,
            clauses="5321-4.1.2-g 5321-4.1.2-k" + (" 5321-2.4-e" if slug == "latin" else ""),
            allowed=EIGHT_BIT if slug == "latin"
            # The rule is for names of clients and servers; of mail domains there is the grammar.
            else FORBIDDEN | ({"2yz": NON_STRICT} if "underscore" in slug else {}),
            requirement="A domain with others than letters, digits and hyphens is refused: 501",
        )  # fmt: skip

# -- lengths --------------------------------------------------------------------------------------

for verb, before, stage, needs in BOTH:
    for slug, local in (
        ("65", b"a" * 65),
        ("100", b"a" * 100),
        ("quoted-200", b'"' + b"a" * 200 + b'"'),
    ):
        octets(
            here, f"4.1.2-{verb}-long-local-{slug}", before + local + _domain(verb, b"@{at}>"),
            level="IMPLIED", clauses="5321-4.1.2-a", upto=stage, needs=needs,
            requirement="A local part longer than 64 octets may be taken, or refused",
            allowed={"5yz": PASS, "25z": INFO, "4yz": INFO},
        )  # fmt: skip
    octets(
        here, f"4.1.2-{verb}-long-path", before + b"a" * 900 + _domain(verb, b"@{at}>"),
        level="IMPLIED", clauses="5321-4.1.2-a", upto=stage, needs=needs,
        requirement="A path of almost a thousand octets is refused, or taken; nothing worse",
        allowed={"5yz": PASS, "25z": INFO, "4yz": INFO}, security="a buffer is too short",
    )  # fmt: skip
