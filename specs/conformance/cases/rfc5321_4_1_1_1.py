"""RFC 5321 4.1.1.1: EHLO and HELO: what they are given, and the form of their replies.

What the name in EHLO must never do is add a header field of its own to a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from specs.conformance.allowed import EHLO, EIGHT_BIT, FORBIDDEN, HELO, LENIENT, OBSOLETE
from specs.conformance.asking import octets
from specs.conformance.keywords import KEYWORD
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("5321")

LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
#: A Domain, or an address literal, which the greeting may have.
NAME: Final = re.compile(rf"(?:{LABEL}(?:\.{LABEL})*|\[[!-Z^-~]+\])\Z")
PARAMETER: Final = re.compile(r"[!-~]+\Z")

# -- both are known -------------------------------------------------------------------------------

REQUIRED: Final = "5321-2.2.1-a 5321-4.3.2-f 5321-4.5.1-b"
for slug, line, clauses in (
    ("helo", "HELO", f"5321-4.1.1.1-a 5321-F.3-a {REQUIRED}"),
    ("helo-lower", "helo", "5321-4.1.1.1-a 5321-2.4-b"),
    ("helo-mixed", "hElO", "5321-4.1.1.1-a 5321-2.4-b"),
    ("ehlo", "EHLO", f"5321-4.1.1.1-e {REQUIRED}"),
    ("ehlo-lower", "ehlo", "5321-4.1.1.1-e 5321-2.4-b"),
    ("ehlo-mixed", "eHLo", "5321-4.1.1.1-e 5321-2.4-b"),
):
    here.probe(
        f"4.1.1.1-{slug}", level="MUST", clauses=clauses, sent=[f"{line} {{hostname}}"],
        requirement=f"{line.upper()} is supported, in any case", upto="greeting",
        allowed=HELO if slug.startswith("helo") else EHLO,
    )  # fmt: skip

# -- the form of their replies --------------------------------------------------------------------


def _form(
    slug: str, verb: str, requirement: str, clauses: str, judge: Callable[[Reply], tuple[str, str]]
) -> None:
    @here.case(
        f"4.1.1.1-{slug}", level="IMPLIED", clauses=clauses, requirement=requirement,
        sent=f"{verb} client.conform.example", allowed={"well": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("greeting")
        reply = await talk.must(f"{verb} {talk.given.hostname}")
        return judge(reply)


def _name_first(reply: Reply) -> tuple[str, str]:
    first = reply.lines[0] if reply.lines else ""
    return ("well" if NAME.match(first.partition(" ")[0]) else "no name"), first


def _code_in_all(reply: Reply) -> tuple[str, str]:
    lines = reply.octets.split(b"\r\n")
    well = (
        lines[-1] == b""
        and lines[-2][:4] == b"250 "
        and all(each[:4] == b"250-" for each in lines[:-2])
        and b"\n" not in b"".join(lines)
    )
    return ("well" if well else "otherwise"), repr(reply.octets)


def _keywords(reply: Reply) -> tuple[str, str]:
    wrong = [each for each in reply.lines[1:] if not KEYWORD.match(each.split(" ")[0])]
    # AUTH=LOGIN beside AUTH is a habit older than RFC 4954; it is no keyword.
    return ("no keyword" if wrong else "well"), ", ".join(map(repr, wrong))


def _parameters(reply: Reply) -> tuple[str, str]:
    wrong = [
        each
        for each in reply.lines[1:]
        if not all(PARAMETER.match(word) for word in each.split(" ")[1:])
    ]
    return ("no parameters" if wrong else "well"), ", ".join(map(repr, wrong))


_form("ehlo-name-first", "EHLO", "The reply to EHLO begins with the server's name",
      "5321-4.1.1.1-b", _name_first)  # fmt: skip
_form("helo-name-first", "HELO", "The reply to HELO begins with the server's name",
      "5321-4.1.1.1-b", _name_first)  # fmt: skip
_form("ehlo-form", "EHLO", "Each line of the reply to EHLO has 250 and a hyphen, the last a space",
      "5321-4.1.1.1-e", _code_in_all)  # fmt: skip
_form("ehlo-keywords", "EHLO", "Each line but the first begins with a well-formed keyword",
      "5321-4.1.1.1-g 5321-4.1.1.1-e", _keywords)  # fmt: skip
_form("ehlo-parameters", "EHLO", "Behind a keyword, one space before each visible parameter",
      "5321-4.1.1.1-g", _parameters)  # fmt: skip


@here.case(
    "4.1.1.1-ehlo-keyword-once", level="IMPLIED", clauses="5321-4.1.1.1-g",
    requirement="No keyword is listed twice", sent="EHLO client.conform.example",
    allowed={"each once": PASS, "some twice": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("greeting")
    reply = await talk.hello()
    words = [each.split(" ")[0].upper() for each in reply.lines[1:]]
    twice = sorted({each for each in words if words.count(each) > 1})
    return ("some twice" if twice else "each once"), " ".join(twice)


#: EHLO keyword, what is said, for commands that are not required of every server (4.5.1).
UNLISTED: Final = (
    ("STARTTLS", "STARTTLS"), ("AUTH", "AUTH PLAIN AGEAYgBj"), ("BDAT", "BDAT 0 LAST"),
    ("ETRN", "ETRN {hostname}"), ("ATRN", "ATRN"), ("TURN", "TURN"), ("BURL", "BURL imap://a LAST"),
    ("EXPN", "EXPN staff"),
)  # fmt: skip
#: Where the keyword is not the command's name.
LISTED_AS: Final = {"BDAT": "CHUNKING"}


def _unlisted(verb: str, line: str) -> None:
    keyword = LISTED_AS.get(verb, verb)
    common = verb == "EXPN"  # of old, it is there and not listed
    clauses = "5321-4.2.4-a 5321-4.2.3-a " if verb == "TURN" else ""

    @here.case(
        f"4.1.1.1-unlisted-{verb.lower()}", level="MUST", clauses=f"{clauses}5321-4.1.1.1-j",
        requirement="A command that not every server has works only if EHLO lists it",
        sent=f"{line}, where EHLO does not list {keyword}",
        allowed=OBSOLETE if verb == "TURN"
        else {"5yz": PASS, "4yz": NON_STRICT} | ({"2yz": NON_STRICT} if common else {}),
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        if keyword in talk.features:
            raise NotApplicable(f"a server without {keyword}")
        return await talk.say(talk.fill(line))


for verb, line in UNLISTED:
    _unlisted(verb, line)

# -- their argument -------------------------------------------------------------------------------

for verb in ("EHLO", "HELO"):
    for slug, line in (("", verb), ("-space", f"{verb} ")):
        here.probe(
            f"4.1.1.1-{verb.lower()}-no-argument{slug}", level="IMPLIED", clauses="5321-4.1.1.1-f",
            requirement=f"{verb} without a name is a syntax error", sent=[line], allowed=LENIENT,
            upto="greeting",
        )  # fmt: skip

for slug, argument in (
    ("ipv4", "[127.0.0.1]"), ("ipv4-other", "[192.0.2.7]"), ("ipv6", "[IPv6:::1]"),
    ("ipv6-full", "[IPv6:2001:db8:0:0:0:0:0:7]"), ("ipv6-comp", "[IPv6:2001:db8::7]"),
    ("ipv6-v4", "[IPv6:::ffff:192.0.2.7]"), ("ipv6-tag-lower", "[ipv6:2001:db8::7]"),
):  # fmt: skip
    here.probe(
        f"4.1.1.1-ehlo-literal-{slug}", level="IMPLIED", clauses="5321-4.1.1.1-h",
        requirement="EHLO may be given an address literal", sent=[f"EHLO {argument}"],
        allowed=EHLO, upto="greeting",
    )  # fmt: skip
for slug, argument in (
    ("label", "localhost"), ("digits", "1and1.example"), ("all-digits", "4.3.2.1.in-addr.example"),
    ("capitals", "CLIENT.CONFORM.EXAMPLE"), ("hyphens", "a-b--c.conform.example"),
    ("a-label", "xn--bcher-kva.example"), ("label-63", f"{'a' * 63}.example"),
    ("many-labels", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.example"), ("letter", "x.example"),
    ("long", f"{('a' * 59 + '.') * 4}example"),
):  # fmt: skip
    here.probe(
        f"4.1.1.1-ehlo-name-{slug}", level="IMPLIED",
        clauses="5321-4.1.1.1-i 5321-2.4-b" if slug == "capitals" else "5321-4.1.1.1-i",
        requirement="EHLO may be given any well-formed name", sent=[f"EHLO {argument}"],
        allowed=EHLO, upto="greeting",
    )  # fmt: skip

for slug, text in (
    ("two-words", b"a.example b.example"), ("script", b"<script>"), ("empty-label", b"a..example"),
    ("dot-first", b".example"), ("dot-last", b"a.example."), ("hyphen-first", b"-a.example"),
    ("hyphen-last", b"a-.example"), ("label-64", b"a" * 64 + b".example"),
    ("long", b"a." * 200 + b"example"), ("address", b"user@a.example"), ("comma", b"a,b.example"),
    ("literal-open", b"[127.0.0.1"), ("literal-300", b"[300.1.1.1]"), ("literal-empty", b"[]"),
    ("literal-untagged", b"[::1]"), ("path", b"../../etc/passwd"), ("percent", b"%n%n%n%s"),
    ("shell", b"$(id)"), ("backtick", b"`id`"), ("quote", b'"a b"'), ("comment", b"a(b).example"),
):  # fmt: skip
    octets(
        here, f"4.1.1.1-ehlo-bad-{slug}", b"EHLO " + text, level="IMPLIED",
        clauses="5321-4.1.1.1-i", upto="greeting", allowed=LENIENT,
        requirement="What is neither a name nor an address literal is refused, or harmless",
    )  # fmt: skip
for slug, text in (
    ("underscore", b"my_host.example"), ("control", b"a\x01b.example"), ("nul", b"a\0b.example"),
    ("delete", b"a\x7fb.example"), ("eight-bit", b"a\xe9b.example"), ("cr", b"a\rb.example"),
    ("escape", b"a\x1b[2Jb.example"),
):  # fmt: skip
    octets(
        here, f"4.1.1.1-ehlo-octet-{slug}", b"EHLO " + text, level="MUST",
        upto="greeting",
        clauses="5321-4.1.2-k 5321-4.1.1.1-i 5321-2.4-e" if slug == "eight-bit"
        else "5321-4.1.2-k 5321-4.1.1.1-i",
        allowed=EIGHT_BIT if slug == "eight-bit" else FORBIDDEN,
        requirement="A name with other characters than letters, digits and hyphens is refused: 501",
    )  # fmt: skip

#: What must not become a line of its own in the message.
INJECTED: Final = (
    ("cr", b"a.example\rX-Injected: yes"), ("lf", b"a.example\nX-Injected: yes"),
    ("crcr", b"a.example\r\rX-Injected: yes"), ("nul", b"a.example\0X-Injected: yes"),
    ("word", b"a.example X-Injected: yes"), ("vt", b"a.example\x0bX-Injected: yes"),
)  # fmt: skip


def _injected(slug: str, argument: bytes) -> None:
    @here.case(
        f"4.1.1.1-ehlo-injection-{slug}", level="IMPLIED", clauses="5321-4.1.1.1-i",
        requirement="What is said in EHLO adds no header field to a message", role="delivery",
        sent=f"EHLO {repr(argument)[2:-1]} | EHLO again, if refused | a message",
        allowed={"nothing added": PASS, "not delivered": INFO, "hung up": INFO,
                 "refused": INFO},
        needs="rcpt maildir",
        security="a client writes header fields that look like the server's own",
    )  # fmt: skip
    async def _(talk: Session) -> Observed | tuple[str, str]:
        await talk.upto("greeting")
        reply = await talk.say(b"EHLO " + argument)
        second = await talk.unasked()  # there is one if LF was taken for the end of a line
        if second.kind == "closed" or second.code == "221":
            return "hung up"
        if not reply.positive:
            again = await talk.say(talk.fill("EHLO {hostname}"))
            if again.kind == "closed" or again.code == "421":
                return "hung up"
            if not again.positive:  # on another connection nothing of the first can be seen
                return "refused", f"{reply} | {again}"
        for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA"):
            step = await talk.say(talk.fill(line))
            if not step.positive:
                return "refused", str(step)
        await talk.content(talk.message())
        found = await talk.arrived()
        if not found:
            return "not delivered"
        head = re.split(rb"\r?\n\r?\n", found[0], maxsplit=1)[0]
        lines = re.split(rb"[\r\n\x0b\0]+", head)
        added = [each for each in lines if each.lower().startswith(b"x-injected")]
        return ("a field is added" if added else "nothing added"), repr(head[:300])


for slug, text in INJECTED:
    _injected(slug, text)
