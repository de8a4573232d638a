"""RFC 5321 4.4: Received and Return-Path, seen in the mailbox.

- Judged is the lowest Received field above what was sent: the one of the server that had the SMTP
  session.  Others above it may be of delivery inside.
- Comments may stand anywhere in it, and say what the server likes: they are never a fault.
- Other fields that delivery adds (Delivered-To, ...) are nobody's business here; only below a
  Received field, or in what was sent, nothing may be added or changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from specs.conformance.arrivals import lost
from specs.conformance.headers import Field, added, lf, named, on_top, parts
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Reply, Role, Seen, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session
from specs.conformance.trace_fields import Stamp, date_faults, stamp, zone_of

here = Section("5321")

#: A fail of 4.4-received-added alone: nothing else can be said then.
ABSENT: Final = "no Received"
#: WITH, as registered (RFC 3848, 6531, 8314 and the registry of mail transmission types).
PROTOCOLS: Final = frozenset({
    "SMTP", "ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA", "LMTP", "LMTPA", "LMTPS", "LMTPSA", "MMS",
    "UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA", "UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS",
    "UTF8LMTPSA",
})  # fmt: skip
DOMAIN: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_-]+)*\.?\Z|\[[^][]+\]\Z"
)
LITERAL: Final = re.compile(r"\[(IPv6:)?[0-9A-Fa-f:.]+\]", re.IGNORECASE)
QUOTED: Final = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
ATOMS: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
MAILBOX: Final = rf"(?:{QUOTED}|{ATOMS})@(?:[A-Za-z0-9.-]+|\[[^][ ]+\])"
PATH: Final = re.compile(rf"(?:<(?:@[A-Za-z0-9.,@-]+:)?{MAILBOX}>|{MAILBOX}|<?[Pp]ostmaster>?)\Z")


async def delivered(talk: Session, message: bytes | None = None) -> bytes | None:
    """The message as it lies in the mailbox; None if it does not.  Raises Refused if it was not
    taken, or if the ordinary one, which says nothing about this case, does not arrive.
    """
    final = await talk.transact(message)
    if final.code != "250":
        raise Refused("a message", final)
    found = await talk.arrived()
    if not found and message is None:
        raise Refused("a message into the mailbox", Reply(kind="silent"))
    return found[0] if found else None


def lowest(message: bytes) -> tuple[Field, Stamp] | None:
    """The server's own Received field."""
    fields = named(on_top(message), "Received")
    return (fields[-1], stamp(fields[-1].value)) if fields else None


def of_stamp(
    name: str, *, level: Level, clauses: str, requirement: str, allowed: Mapping[str, Verdict],
) -> Callable[[Callable[[Stamp, Session], str]], None]:  # fmt: skip
    """A case: an ordinary message, whose Received field is looked at."""

    def add(judge: Callable[[Stamp, Session], str]) -> None:
        async def script(talk: Session) -> Seen:
            message = await delivered(talk)
            if message is None:
                return await lost(talk)
            found = lowest(message)
            return (judge(found[1], talk), found[0].value) if found else ("no Received", "")

        here.case(
            name, level=level, clauses=clauses, requirement=requirement,
            allowed={**allowed, ABSENT: INFO},
            sent="an ordinary message; its Received field is looked at", needs="rcpt maildir",
        )(script)  # fmt: skip

    return add


# -- Received -------------------------------------------------------------------------------------


@here.case(
    "4.4-received-added", level="MUST", clauses="5321-4.4-c", sent="an ordinary message",
    requirement="The server puts a Received field on top of each message", needs="rcpt maildir",
    allowed={"added": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    message = await delivered(talk)
    if message is None:
        return await lost(talk)
    found = lowest(message)
    return ("added", found[0].value) if found else ("no Received", repr(message[:300]))


@here.case(
    "4.4-received-added-to-each", level="MUST", clauses="5321-4.4-c", needs="rcpt maildir",
    sent="two messages in one session",
    requirement="Each message of a session has a Received field of its own",
    allowed={"of its own": PASS, "the same": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.transact()
    await talk.transact()
    found = [lowest(each) for each in await talk.arrived(count=2)]
    values = [each[0].value for each in found if each is not None]
    if len(found) < 2:
        return await lost(talk)
    if len(values) < 2:
        return "no Received", ""
    # Within a second only the ID tells them apart, and it is not required.
    alike = values[0] == values[1] and "id" in stamp(values[0]).clauses
    return ("the same" if alike else "of its own"), " / ".join(values)


@of_stamp(
    "4.4-received-from", level="MUST", clauses="5321-4.4-s",
    requirement="Received begins with a FROM clause",
    allowed={"there": PASS, "there, not as a domain": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    if "from" not in found.clauses:
        return "no FROM"
    return "there" if DOMAIN.match(found.clauses["from"]) else "there, not as a domain"


@of_stamp(
    "4.4-received-from-name", level="SHOULD", clauses="5321-4.4-d",
    requirement="The FROM clause has the name that the client gave in EHLO",
    allowed={"has it": PASS, "has it not": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, talk: Session) -> str:
    name = talk.given.hostname.casefold()
    clause = f"{found.clauses.get('from', '')} {found.comments.get('from', '')}".casefold()
    return "has it" if name in clause else "has it not"


@of_stamp(
    "4.4-received-from-address", level="SHOULD", clauses="5321-4.4-e",
    requirement="The FROM clause has the client's IP address as a literal in brackets",
    allowed={"has it": PASS, "without brackets": NON_STRICT, "has it not": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    clause = f"{found.clauses.get('from', '')} {found.comments.get('from', '')}"
    if LITERAL.search(clause):
        return "has it"
    return "without brackets" if re.search(r"[0-9]+(\.[0-9]+){3}|::1", clause) else "has it not"


@of_stamp(
    "4.4-received-by", level="IMPLIED", clauses="5321-4.4-i",
    requirement="Received has a BY clause that names the host",
    allowed={"there": PASS, "there, not as a domain": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    if "by" not in found.clauses:
        return "no BY"
    return "there" if DOMAIN.match(found.clauses["by"]) else "there, not as a domain"


@of_stamp(
    "4.4-received-with",
    level="IMPLIED",
    clauses="5321-4.4-j",
    requirement="A WITH clause has a registered protocol name, here ESMTP",
    allowed={
        "ESMTP": PASS,
        "no WITH": INFO,
        "another registered": NON_STRICT,
        "not registered": NON_STRICT,
    },
)
def _(found: Stamp, _talk: Session) -> str:
    word = found.clauses.get("with", "").upper()
    if not word:
        return "no WITH"
    if word == "ESMTP":
        return word
    return "another registered" if word in PROTOCOLS else "not registered"


@here.case(
    "4.4-received-with-helo", level="IMPLIED", clauses="5321-4.4-j", needs="rcpt maildir",
    sent="HELO instead of EHLO, then an ordinary message",
    requirement="After HELO, a WITH clause says SMTP",
    allowed={"SMTP": PASS, "no WITH": INFO, "another": NON_STRICT, ABSENT: INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("greeting")
    await talk.hello("HELO")
    message = await delivered(talk)
    found = lowest(message) if message is not None else None
    if found is None:
        return "no Received", ""
    word = found[1].clauses.get("with", "").upper()
    return ("SMTP" if word == "SMTP" else "another" if word else "no WITH"), found[0].value


@of_stamp(
    "4.4-received-via", level="IMPLIED", clauses="5321-4.4-k",
    requirement="A VIA clause says TCP, or another registered link",
    allowed={"no VIA": PASS, "TCP": PASS, "another": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    word = found.clauses.get("via", "").upper()
    return "no VIA" if not word else "TCP" if word == "TCP" else "another"


@of_stamp(
    "4.4-received-id", level="MAY", clauses="5321-4.4-g",
    requirement="An ID clause is one atom, or a msg-id",
    allowed={"there": PASS, "no ID": INFO, "there, not as an atom": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    if "id" not in found.clauses:
        return "no ID"
    well = re.fullmatch(rf"{ATOMS}(@{ATOMS})?|<[^<>@ ]+@[^<>@ ]+>", found.clauses["id"])
    return "there" if well else "there, not as an atom"


@of_stamp(
    "4.4-received-for", level="MUST", clauses="5321-4.4-h 5322-3.4.1-a",
    requirement="A FOR clause has one well-formed path: that of the recipient",
    allowed={"the recipient": PASS, "no FOR": PASS, "another address": INFO},
)  # fmt: skip
def _(found: Stamp, talk: Session) -> str:
    path = found.clauses.get("for", "")
    if not path:
        return "no FOR"
    if not PATH.match(path):
        return "no path"
    return "the recipient" if talk.given.rcpt.casefold() in path.casefold() else "another address"


@of_stamp(
    "4.4-received-order", level="IMPLIED", clauses="5321-4.4-g 5321-4.4-i 5321-4.4-j",
    requirement="The clauses of Received are in order: FROM, BY, VIA, WITH, ID, FOR",
    allowed={"in order": PASS, "in another order": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    order = ["from", "by", "via", "with", "id", "for"]
    there = [each for each in found.clauses if each in order]
    return "in order" if there == sorted(there, key=order.index) else "in another order"


@of_stamp(
    "4.4-received-grammar", level="IMPLIED", clauses="5321-4.4-f 5321-4.4-g",
    requirement="Received is pairs of a keyword and a word, comments, a semicolon and a date",
    allowed={"well-formed": PASS, "odd words": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    grave = ("a comment", "no semicolon")
    if any(each.startswith(grave) for each in found.odd) or not found.date:
        return "ill-formed"
    return "odd words" if found.odd else "well-formed"


@of_stamp(
    "4.4-received-date", level="IMPLIED", clauses="5321-4.4-f 5322-3.3-a 5322-3.3-b",
    requirement="Received ends in a semicolon and a date and time that are possible",
    allowed={"well-formed": PASS, "a zone by name": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    wrong = date_faults(found.date)
    return wrong[0] if wrong else "well-formed"


@of_stamp(
    "4.4-received-zone", level="SHOULD", clauses="5321-4.4-q 5322-3.3-c",
    requirement="The zone in Received is an offset in digits",
    allowed={"an offset": PASS, "a name": NON_STRICT},
)  # fmt: skip
def _(found: Stamp, _talk: Session) -> str:
    zone = zone_of(found.date)
    return "an offset" if zone[:1] in ("+", "-") and zone else "a name" if zone else "no date"


@here.case(
    "4.4-received-for-of-two",
    level="MUST",
    clauses="5321-4.4-h",
    needs="rcpt rcpt2 maildir maildir2",
    sent="a message for two recipients",
    requirement="A FOR clause has one path even if there were several recipients, and tells none of"
    " them of another",
    allowed={"no FOR": PASS, "their own": PASS, "another recipient's": NON_STRICT},
    security="blind copies are told",
)
async def _(talk: Session) -> Seen:
    given = talk.given
    final = await talk.transact(rcpts=(given.rcpt, given.rcpt2))
    found = [
        *(await talk.arrived(box=0) if final.code == "250" else []),
        *(await talk.arrived(box=1) if final.code == "250" else []),
    ]
    if len(found) != 2:
        raise Refused("a message into two mailboxes", final)
    label, shown = "no FOR", ""
    for message, own in zip(found, (given.rcpt, given.rcpt2), strict=True):
        for each in named(on_top(message), "Received"):
            one = stamp(each.value)
            path = one.clauses.get("for", "")
            shown += f"{each.value} / "
            if "for twice" in one.odd or (path and not PATH.match(path)):
                return "several paths", each.value
            if path and own.casefold() not in path.casefold():
                label = "another recipient's"
            elif path and label == "no FOR":
                label = "their own"
    return label, shown


EARLIER: Final = (
    "Received: from b.example (b.example [192.0.2.2])\r\n\tby c.example with ESMTP id 22;\r\n"
    "\tMon, 02 Nov 2026 09:59:59 +0000\r\n"
    "Received: from a.example ([192.0.2.1]) by b.example with SMTP id 11; Mon, 2 Nov 2026"
    " 09:59:58 GMT\r\n"
    "Received: (odd) by a.example;\r\n  Mon,  2 Nov 2026 09:59:57 +0000 (UTC)\r\n"
)


@here.case(
    "4.4-received-earlier-kept",
    level="MUST",
    clauses="5321-4.4-p 5321-4.4-c",
    needs="rcpt maildir",
    sent="a message with three Received fields, folded and not",
    requirement="Earlier Received fields are kept as they are and in order, and the new one is"
    " above",
    allowed={"kept": PASS, "none added": INFO},
)
async def _(talk: Session) -> Seen:
    message = await delivered(talk, EARLIER.encode() + talk.message())
    if message is None:
        return await lost(talk)
    every = named(parts(message)[0], "Received")
    wanted = named(parts(EARLIER.encode())[0], "Received")
    shown = "".join(each.raw.decode("latin-1") for each in every)
    if [each.raw for each in every[-3:]] != [each.raw for each in wanted]:
        return "changed", shown
    return ("kept" if len(every) > 3 else "none added"), shown


HEADS: Final[tuple[tuple[str, str, str], ...]] = (
    ("folded", "folded fields", "X-Fold: one\r\n two\r\n\tthree\r\n    four\r\nX-Long: "
     + " word" * 14 + "\r\n" + " word" * 14 + "\r\n"),
    ("spaces", "spaces and tabs at the ends of lines, and in a row",
     "X-Space:   three before, two behind  \r\nX-Tab:\ttab  in\t\tit\t\r\n"),
    ("order", "fields in a strange order, some twice",
     "X-Z: 1\r\nX-A: 2\r\nX-Z: 3\r\nComments: one\r\nComments: two\r\nx-z: 4\r\n"),
    ("empty", "fields without a value", "X-Empty:\r\nX-Blank: \r\nKeywords:\r\n"),
    ("long", "a field of 998 octets in a line", "X-Long: " + "x" * 990 + "\r\n"),
    ("encoded", "encoded words and quoted strings",
     "X-Word: =?utf-8?q?gr=C3=BCn?= =?utf-8?b?Z3LDvG4=?=\r\nX-Quote: \"a\\\"b\" (c (d) \\) e)\r\n"),
    ("resent", "a block of Resent fields",
     "Resent-From: <again@a.example>\r\nResent-To: <you@b.example>\r\n"
     "Resent-Date: Mon, 02 Nov 2026 10:00:01 +0000\r\nResent-Message-ID: <again@a.example>\r\n"),
    ("addresses", "addresses in groups, with names and comments",
     "Cc: friends: \"Q. Public\" <q@c.example>, (who) r@c.example;, S <s@C.example>\r\n"
     "Reply-To: \"odd one\"@d.example\r\n"),
)  # fmt: skip
for slug, what, headers in HEADS:

    async def _kept(talk: Session, headers: str = headers) -> Seen:
        sent = talk.message(headers=headers)
        message = await delivered(talk, sent)
        if message is None:
            return await lost(talk)
        if added(message, sent) is not None:
            return "kept", ""
        return "changed", repr(message)[:1500]

    # Section 6.4 lets servers mend a message that lacks something; this one lacks nothing.
    here.case(
        f"4.4-header-kept-{slug}", level="SHOULD NOT", clauses="5321-4.4-p", needs="rcpt maildir",
        sent=f"a message with {what}", requirement=f"The header arrives octet for octet ({what})",
        allowed={"kept": PASS, "changed": NON_STRICT},
    )(_kept)  # fmt: skip


@here.case(
    "4.4-nothing-between", level="MUST", clauses="5321-4.4-p 5322-3.6.7-a", needs="rcpt maildir",
    sent="an ordinary message",
    requirement="The new Received field is above all that was sent, not among it",
    allowed={"above": PASS, "something was added below": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    sent = talk.message()
    message = await delivered(talk, sent)
    if message is None:
        return await lost(talk)
    fields = parts(message)[0]
    own = {each.raw for each in parts(sent)[0]}
    places = [at for at, each in enumerate(fields) if each.raw in own]
    received = [at for at, each in enumerate(fields) if each.name.casefold() == "received"]
    if not received:
        return "no Received", ""
    if not places or max(received) > min(places):
        return "Received is among it", repr(message[:800])
    extra = len(fields) - places[0] > len(places)
    return ("something was added below" if extra else "above"), repr(message[:800]) if extra else ""


# -- what a client's name can do to it ------------------------------------------------------------

NAMES: Final[tuple[tuple[str, str], ...]] = (
    ("semicolon", "a;b.client.example"),
    ("open-comment", "a(b.client.example"),
    ("close-comment", "a)b.client.example"),
    ("comment", "(comment)client.example"),
    ("quote", 'a"b.client.example'),
    ("backslash", "client.example\\"),
    ("angle", "<client.example>"),
    ("words", "client.example by forged.example with ESMTP id 1 for <x@y.example>; Mon, 02 Nov 2026"
     " 10:00:00 +0000"),
    ("open-literal", "[127.0.0.1"),
    ("other-literal", "[192.0.2.77]"),
    ("long", ".".join(["n" * 60] * 7) + ".example"),
    ("eight-bit", "gr\u00fcn.client.example"),
    ("control", "a\x01b\x1bc.client.example"),
    ("at", "a@b.client.example"),
    ("space-in-front", "  client.example"),
)  # fmt: skip
for slug, name in NAMES:

    async def _broken(talk: Session, name: str = name) -> Seen:
        await talk.upto("greeting")
        reply = await talk.say(f"EHLO {name}")
        if not reply.positive:
            return ("refused" if reply.kind == "reply" else reply.kind), str(reply)
        talk.stage = "ehlo"
        if (
            mail := await talk.say(f"MAIL FROM:<{talk.given.sender}>")
        ).kind == "reply" and not mail.positive:
            return "refused", str(mail)
        if not (rcpt := await talk.say(f"RCPT TO:<{talk.given.rcpt}>")).positive:
            return ("refused" if rcpt.kind == "reply" else rcpt.kind), str(rcpt)
        talk.stage = "rcpt"
        await talk.upto("data")
        sent = talk.message()
        final = await talk.content(sent)
        if final.kind == "reply" and final.code[0] in "45":
            return "refused", str(final)
        arrived = await talk.arrived()
        if not arrived:
            return await lost(talk)
        found = lowest(arrived[0])
        if found is None:
            return "no Received", ""
        fields = on_top(arrived[0])
        one, shown = found[1], found[0].raw.decode("latin-1")
        torn = any(each.name == "" for each in fields) or any(
            " again" in each for each in one.clauses
        )
        dated = date_faults(one.date) in ([], ["a zone by name"])
        odd = [each for each in one.odd if each.startswith("a comment") or "twice" in each]
        if torn or odd or not dated or "by" not in one.clauses:
            return "broken", shown
        if one.odd:
            return "odd, and readable", shown
        foreign = one.clauses.get("by", "").casefold() == "forged.example"
        return ("forged" if foreign else "well-formed"), shown

    here.case(
        f"4.4-received-unbroken-{slug}",
        level="IMPLIED",
        clauses="5321-4.4-r",
        sent=f"EHLO with the name {name.encode('unicode_escape').decode()[:60]!r}, and if it is"
        f" taken, mail",
        requirement=f"A client's strange name ({slug}) is refused, or does not break Received",
        allowed={
            "refused": PASS,
            "well-formed": PASS,
            "odd, and readable": NON_STRICT,
            ABSENT: INFO,
        },
        needs="rcpt maildir",
        security="trace information can be forged by the client",
    )(_broken)


@here.case(
    "4.4-received-hides-nothing", level="SHOULD", clauses="5321-4.4-e", needs="rcpt maildir",
    sent="EHLO with another host's address literal, then mail",
    requirement="The client's address in Received is that of the connection, not the one it claims",
    allowed={
        "both": PASS, "the connection's": PASS, "refused": PASS, "neither": NON_STRICT,
        ABSENT: INFO,
    },
    security="who has sent it can be hidden",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("greeting")
    reply = await talk.say("EHLO [192.0.2.77]")
    if not reply.positive:
        return ("refused" if reply.kind == "reply" else reply.kind), str(reply)
    talk.stage = "ehlo"
    for line in (f"MAIL FROM:<{talk.given.sender}>", f"RCPT TO:<{talk.given.rcpt}>"):
        step = await talk.say(line)
        if not step.positive:
            return ("refused" if step.kind == "reply" else step.kind), str(step)
    talk.stage = "rcpt"
    await talk.upto("data")
    await talk.content(talk.message())
    arrived = await talk.arrived()
    found = lowest(arrived[0]) if arrived else None
    if found is None:
        return ("no Received", "") if arrived else await lost(talk)
    clause = f"{found[1].clauses.get('from', '')} {found[1].comments.get('from', '')}"
    literals = {each[0] for each in LITERAL.finditer(clause)}
    claimed = "[192.0.2.77]" in clause
    others = literals - {"[192.0.2.77]"} or re.search(r"127\.[0-9.]+|::1", clause)
    if others:
        return ("both" if claimed else "the connection's"), found[0].value
    return ("the claimed one alone" if claimed else "neither"), found[0].value


# -- Return-Path ----------------------------------------------------------------------------------

SENDERS: Final[tuple[tuple[str, str], ...]] = (
    ("null", ""),
    ("ordinary", "{sender}"),
    ("capitals", "Some.Body@client.conform.example"),
    ("plus", "list+tag@client.conform.example"),
    ("verp", "list-return-17-ada=mail.example@client.conform.example"),
    ("specials", "!#$%&'*/=?^_`{|}~-@client.conform.example"),
    ("quoted-space", '"some body"@client.conform.example'),
    ("quoted-at", '"a@b"@client.conform.example'),
    ("quoted-quote", '"a\\"b"@client.conform.example'),
    ("quoted-angle", '"a>b"@client.conform.example'),
    ("quoted-dots", '"..a.."@client.conform.example'),
    ("literal", "someone@[127.0.0.1]"),
    ("longest", "s" * 64 + "@client.conform.example"),
    ("digits", "123@client.conform.example"),
)  # fmt: skip


def path_of(value: str) -> str:
    """Of a Return-Path, with its domain in small letters."""
    local, at, domain = value.strip().rpartition("@")
    return f"{local}{at}{domain.casefold()}" if at else value.strip()


async def with_sender(talk: Session, sender: str, sent: bytes) -> tuple[str, list[Field], bytes]:
    """("", the fields, the message), or why there is none."""
    await talk.upto("ehlo")
    mail = await talk.say(f"MAIL FROM:<{sender}>")
    if not mail.positive:
        return ("refused" if mail.kind == "reply" else mail.kind), [], b""
    rcpt = await talk.say(f"RCPT TO:<{talk.given.rcpt}>")
    if not rcpt.positive:
        return ("refused" if rcpt.kind == "reply" else rcpt.kind), [], b""
    talk.stage = "rcpt"
    await talk.upto("data")
    final = await talk.content(sent)
    if final.kind == "reply" and final.code[0] in "45":
        return "refused", [], b""
    found = await talk.arrived()
    if not found:
        return (await lost(talk))[0], [], b""
    return "", parts(found[0])[0], found[0]


for slug, sender in SENDERS:

    async def _return_path(talk: Session, sender: str = sender) -> Seen:
        path = talk.given.sender if sender == "{sender}" else sender
        why, fields, message = await with_sender(talk, path, talk.message())
        if why:
            return why, ""
        paths = named(fields, "Return-Path")
        shown = " / ".join(each.value for each in paths) or repr(message[:300])
        if not paths:
            return "no Return-Path", shown
        if path_of(paths[0].value) == path_of(f"<{path}>"):
            return ("the sender" if len(paths) == 1 else "several, the right one first"), shown
        same = paths[0].value.replace('"', "").replace("\\", "") == f"<{path}>".replace(
            '"', ""
        ).replace("\\", "")
        if same and re.fullmatch(rf"<{MAILBOX}>", paths[0].value):
            return "the sender, quoted otherwise", shown
        return "something else", shown

    role: Role = "delivery"
    here.case(
        f"4.4-return-path-{slug}",
        level="MUST",
        role=role,
        needs="rcpt maildir",
        clauses="5321-4.4-m 1123-5.2.9-a" if slug == "null" else "5321-4.4-l 5322-3.4.1-a",
        sent=f"a message from <{sender}>",
        requirement=f"What is delivered has one Return-Path, the reverse-path of MAIL ({slug})",
        allowed={
            "the sender": PASS,
            "the sender, quoted otherwise": PASS,
            "several, the right one first": NON_STRICT,
            "refused": INFO,
        },
    )(_return_path)


@here.case(
    "4.4-return-path-first", level="MUST", role="delivery", clauses="5321-4.4-l 5322-3.6.7-a",
    needs="rcpt maildir", sent="an ordinary message",
    requirement="Return-Path is the first field of what is delivered",
    allowed={"first": PASS, "first of the trace": NON_STRICT, "no Return-Path": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    message = await delivered(talk)
    if message is None:
        return await lost(talk)
    names = [each.name.casefold() for each in parts(message)[0]]
    shown = " ".join(names)
    if "return-path" not in names:
        return "no Return-Path", shown
    if names[0] == "return-path":
        return "first", shown
    return (
        "below Received"
        if "received" in names[: names.index("return-path")]
        else "first of the trace"
    ), shown


FORGED: Final = "Return-Path: <forged@forged.example>\r\n"
for slug, sender in (("ordinary", "{sender}"), ("null", "")):

    async def _forged(talk: Session, sender: str = sender) -> Seen:
        path = talk.given.sender if sender else ""
        sent = FORGED.encode() + talk.message(
            headers="Return-path: <forged-too@forged.example>\r\n"
        )
        why, fields, message = await with_sender(talk, path, sent)
        if why:
            return why, ""
        paths = [each.value for each in named(fields, "Return-Path")]
        if not paths:
            return "no Return-Path", repr(message[:300])
        if "forged.example" in paths[0]:
            return "the forged one first", " / ".join(paths)
        if path_of(paths[0]) != path_of(f"<{path}>"):
            return "something else first", " / ".join(paths)
        return ("one" if len(paths) == 1 else "several, the right one first"), " / ".join(paths)

    here.case(
        f"4.4-return-path-forged-{slug}",
        level="SHOULD",
        role="delivery",
        clauses="5321-4.4-o 5321-4.4-l",
        sent="a message that has Return-Path fields of somebody else",
        needs="rcpt maildir",
        requirement="Of a Return-Path that came with the message nothing is left: the real one"
        " is on top",
        allowed={
            "one": PASS,
            "several, the right one first": NON_STRICT,
            "something else first": NON_STRICT,  # what 4.4-return-path-null judges
            "refused": INFO,
            "no Return-Path": INFO,
        },
        security="reports are sent to somebody else",
    )(_forged)


@here.case(
    "4.4-whole-message",
    level="IMPLIED",
    role="delivery",
    clauses="5321-4.4-p 5321-4.4-l 5321-4.4-c",
    needs="rcpt maildir",
    sent="an ordinary message of 200 lines",
    requirement="What was sent arrives whole and unchanged below what the server adds",
    allowed={"kept": PASS, "header changed": NON_STRICT},
)
async def _(talk: Session) -> Seen:
    body = "".join(f"line {at}: {'word ' * (at % 13)}\r\n" for at in range(200))
    sent = talk.message(body)
    message = await delivered(talk, sent)
    if message is None:
        return await lost(talk)
    if added(message, sent) is not None:
        return "kept", ""
    same = parts(message)[1].rstrip(b"\n") == lf(body.encode()).rstrip(b"\n")
    return ("header changed" if same else "body changed"), repr(message)[:1500]
