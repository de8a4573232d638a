"""RFC 5321 2.3.8, 2.4, 3.6.3, 3.7, 4.4, 4.5.2: what becomes of addresses and content on their way.

The message that is sent is whole (it has From, To, Date, Message-ID): nothing needs to be mended.
What the server puts on top is told by the end of what came, which must be what was sent, octet by
octet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from specs.conformance.headers import above, fields
from specs.conformance.hop_records import Mail
from specs.conformance.hop_script import FEATURES
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import Way, way_for

here = Section("5321", role="relay")

#: Fields that a relay may put on top: of its own trace (RFC 5321 4.4), and of what others say of
#: the message on its way (RFC 6376, 7208, 8601, 8617).
TRACE: Final = frozenset({
    "received", "return-path", "dkim-signature", "authentication-results", "received-spf",
    "arc-seal", "arc-message-signature", "arc-authentication-results", "x-received",
})  # fmt: skip
#: A server may refuse what it does not like, at once or later; it may not change it.
KEPT: Final = {"kept": PASS, "more on top": NON_STRICT, "refused": INFO, "returned": INFO}


async def _through(way: Way, octets: bytes, *, mail: str = "") -> Mail | str:
    """As it came to a hop; else what the server has said or done.  Raises Refused if nothing."""
    hop = await way.mx()
    reply = await way.offer(octets, mail=mail)
    if reply.code[:1] != "2":
        return "refused"
    await way.fate(hop)
    return "returned" if way.reports else await way.one(hop)


async def _plainly(way: Way, octets: bytes) -> Mail:
    """What every server takes.  Raises Refused."""
    hop = await way.mx()
    await way.send(octets)
    return await way.one(hop)


def compared(sent: bytes, came: bytes) -> Observed:
    """ "kept", "more on top" (than trace), or "changed", with the first difference."""
    added = above(came, sent)
    if added is None:
        return "changed", _difference(sent, came)
    odd = [each.name for each in added if each.name not in TRACE]
    return ("more on top", ", ".join(odd)) if odd else "kept"


def _difference(sent: bytes, came: bytes) -> str:
    """The first line of what was sent that is not there any more, or not in its place."""
    lines, there = sent.splitlines(keepends=True), came.splitlines(keepends=True)
    begin = next((at for at, each in enumerate(there) if each == lines[0]), 0)
    for number, line in enumerate(lines):
        found = there[begin + number] if begin + number < len(there) else b"(nothing)"
        if found != line:
            return f"line {number + 1}: {line[:60]!r} became {found[:60]!r}"
    return f"{len(there) - begin - len(lines)} lines more"


# -- content, octet by octet -----------------------------------------------------------------------


def _long_dots() -> Iterator[bytes]:
    """Lines with and without a dot, of all lengths: some dot stands at every boundary."""
    for number in range(2000):
        yield b"." * (number % 4) + b"x" * (number % 61) + b"\r\n"


BODIES: Final[tuple[tuple[str, str, str, bytes], ...]] = (
    ("dots", "5321-4.5.2-a 5321-4.5.2-g 5321-4.5.2-h", "dots at the beginning, and elsewhere",
     b".\r\n..\r\n...\r\n.x\r\na.b\r\n x.\r\n\r\n.\r\n.. \r\n. \r\nend.\r\n"),
    ("dot-first", "5321-4.5.2-a", "a body that begins with a dot", b".\r\nx\r\n"),
    ("dot-last", "5321-4.5.2-a", "a body that ends with a line of one dot", b"x\r\n.\r\n"),
    ("dots-at-boundaries", "5321-4.5.2-d 5321-4.5.2-a", "dots at all offsets of 60 000 octets",
     b"".join(_long_dots())),
    ("dot-lines", "5321-4.5.2-d", "20 000 lines of one dot", b".\r\n" * 20000),
    ("blanks", "5321-3.6.3-a", "blanks and tabs at the ends of lines", b"a \r\nb\t\r\n \r\n\t\r\n"),
    ("empty-lines", "5321-3.6.3-a", "empty lines at the end", b"a\r\n\r\n\r\n\r\n"),
    ("empty", "5321-3.6.3-a", "no body", b""),
    ("from", "5321-3.6.3-a", "lines that begin with From", b"From a\r\n\r\nFrom b\r\n>From c\r\n"),
    ("long-lines", "5321-3.6.3-a", "lines of 998 octets", (b"x" * 998 + b"\r\n") * 3),
    ("header-like", "5321-3.6.3-a", "lines like a header's",
     b"Received: from nobody\r\nDate: never\r\n\r\nTo: nobody\r\n"),
    ("controls", "5321-3.6.3-a", "control characters", b"a\x01b\x07c\x1bd\x7f\x0c\r\n\x08\r\n"),
    ("commands", "5321-3.6.3-a", "lines like commands", b"QUIT\r\nRSET\r\nDATA\r\n250 ok\r\n"),
    ("large", "5321-3.6.3-a", "a million octets", (b"0123456789" * 7 + b"\r\n") * 14000),
)  # fmt: skip
for slug, clauses, what, body in BODIES:

    @here.case(
        f"3.6.3-body-{slug}" if "4.5.2" not in clauses else f"4.5.2-body-{slug}",
        level="MUST NOT", clauses=clauses, needs="hops",
        requirement=f"A body is relayed as it is: {what}", sent=f"a message with {what}",
        allowed=KEPT,
        security="content ends where its sender did not end it" if slug.startswith("dot") else "",
    )  # fmt: skip
    async def _(talk: Session, body: bytes = body) -> Observed:
        async with way_for(talk) as way:
            sent = way.message(body)
            mail = await _through(way, sent)
            return mail if isinstance(mail, str) else compared(sent, mail.content)


@here.case(
    "3.6.3-body-8bit", level="MUST NOT", clauses="5321-3.6.3-a", needs="hops", keywords="8BITMIME",
    requirement="A body of eight-bit octets is relayed as it is to a host that takes such",
    sent="a message in UTF-8 with BODY=8BITMIME; the next hop offers 8BITMIME",
    allowed={**KEPT, "changed": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        headers = (
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: 8bit\r\n"
        )
        sent = way.message("Grüße, ça va, привет\r\n", headers=headers)
        mail = await _through(way, sent, mail="BODY=8BITMIME")
        return mail if isinstance(mail, str) else compared(sent, mail.content)


@here.case(
    "4.5.2-not-doubled", level="IMPLIED", clauses="5321-4.5.2-g 5321-4.5.2-a", needs="hops",
    requirement="On the wire a dot at the beginning of a line is doubled, and no other",
    sent="a message with dots; the octets on the wire are looked at",
    allowed={"doubled": PASS, "by BDAT": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(way.message(b".x\r\na.b\r\n..y\r\nend\r\n"))
        mail = await way.one(hop)
        if mail.by == "BDAT":
            return "by BDAT"
        tail = mail.wire.rpartition(b"\r\n\r\n")[2]
        return ("doubled" if tail == b"..x\r\na.b\r\n...y\r\nend\r\n" else "not so"), repr(tail)


HEADERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("folding", "folded lines and odd blanks",
     "X-Folded: one\r\n two\r\n\tthree   four\r\nX-Blanks:    many   \r\nX-None:\r\n"),
    ("order", "an odd order, and names twice",
     "X-B: 2\r\nX-A: 1\r\nX-B: 1\r\nComments: b\r\nComments: a\r\nKeywords: k\r\n"),
    ("case", "names in odd cases", "x-lower: a\r\nX-UPPER: b\r\nmime-VERSION: 1.0\r\n"),
    ("long", "a field of 900 octets in one line", f"X-Long: {'y' * 890}\r\n"),
    ("encoded", "encoded words", "X-Word: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?4pi6?=\r\n"),
    ("addresses", "addresses in several forms",
     "Cc: \"Ann B.\" <ann@b.example>, group: c@d.example, e@f.example;\r\n"
     "Reply-To: (comment) g@h.example\r\n"),
    ("resent", "resent blocks between trace fields",
     "Resent-From: <r@s.example>\r\nResent-Date: Mon, 02 Nov 2026 09:00:00 +0000\r\n"
     "Resent-To: <rcpt@t.example>\r\nResent-Message-ID: <1@s.example>\r\n"
     "Received: from a by b; Mon, 02 Nov 2026 08:00:00 +0000\r\n"),
    ("unknown-mime", "a type of content that nobody knows",
     "MIME-Version: 1.0\r\nContent-Type: application/x-odd; a=\"b\\\"c\"\r\n"),
)  # fmt: skip
for slug, what, headers in HEADERS:

    @here.case(
        f"3.6.3-header-{slug}", level="MUST NOT", clauses="5321-3.6.3-a", needs="hops",
        requirement=f"Header fields are relayed as they are, and in their order: {what}",
        sent=f"a message with {what}", allowed=KEPT,
    )  # fmt: skip
    async def _(talk: Session, headers: str = headers) -> Observed:
        async with way_for(talk) as way:
            sent = way.message(headers=headers)
            mail = await _through(way, sent)
            return mail if isinstance(mail, str) else compared(sent, mail.content)


@here.case(
    "3.6.3-body-1500", level="MAY", clauses="5321-4.5.2-h", needs="hops",
    requirement="What becomes of lines that are longer than 998 octets is recorded",
    sent="a message with a line of 1500 octets",
    allowed={"kept": PASS, "more on top": PASS, "refused": INFO, "changed": INFO,
             "returned": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        sent = way.message("z" * 1500 + "\r\n")
        mail = await _through(way, sent)
        return mail if isinstance(mail, str) else compared(sent, mail.content)


# -- 6.4: nothing is mended ------------------------------------------------------------------------

PASSED_ON: Final = (
    "Received: from a.example by b.example with ESMTP id 1;\r\n"
    "\tMon, 02 Nov 2026 09:59:00 +0000\r\n"
)  # fmt: skip
for missing in ("Date", "Message-ID", "From", "To"):

    @here.case(
        f"6.4-missing-{missing.lower()}", level="MUST NOT", clauses="5321-6.4-b", needs="hops",
        requirement="A relay that is not the first mends nothing in a message",
        sent=f"a message that has passed another host, and has no {missing}",
        # Whoever may relay may be taken for a user who submits: then it may be mended (RFC 6409).
        allowed={"stays missing": PASS, "added": INFO, "refused": INFO, "returned": INFO},
    )  # fmt: skip
    async def _(talk: Session, missing: str = missing) -> Observed:
        async with way_for(talk) as way:
            whole = PASSED_ON.encode() + way.message()
            sent = re.sub(rb"(?m)^%s: .*\r\n" % missing.encode(), b"", whole)
            mail = await _through(way, sent)
            if isinstance(mail, str):
                return mail
            head = mail.content.partition(b"\r\n\r\n")[0] + b"\r\n"
            names = [each.name for each in fields(head)]
            return "added" if missing.lower() in names else "stays missing"


# -- 3.7, 4.4: trace -------------------------------------------------------------------------------

OLD_TRACE: Final = (
    "Received: from c.example (c.example [192.0.2.3])\r\n\tby d.example with ESMTP id x3;\r\n"
    "\tMon, 02 Nov 2026 09:58:00 +0000\r\n"
    "Received: by c.example; 2 Nov 2026 09:57 EST (odd form)\r\n"
    "received:   from   a.example   by b.example; Mon, 02 Nov 2026 09:56:00 +0000\r\n"
)  # fmt: skip


@here.case(
    "4.4-received-kept", level="MUST NOT", clauses="5321-4.4-a 5321-3.7.1-a 5321-3.7.2-a",
    needs="hops",
    requirement="Received fields of others are neither changed, removed nor moved, and the new one"
    " stands on top",
    sent="a message with three Received fields in odd forms", allowed={"kept": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        sent = OLD_TRACE.encode() + way.message()
        mail = await _plainly(way, sent)
        head = mail.content.partition(b"\r\n\r\n")[0] + b"\r\n"
        trace = [each for each in fields(head) if each.name == "received"]
        old = fields(OLD_TRACE.encode())
        if trace[-3:] != old:
            return "changed", repr(b"".join(each.raw for each in trace[-3:])[:200])
        return "kept" if len(trace) > 3 else ("none added", "")


@here.case(
    "3.7.2-on-top", level="MUST", clauses="5321-3.7.2-a", needs="hops",
    requirement="The new Received field stands above all fields that were there",
    sent="a message without trace", allowed={"on top": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        mail = await _plainly(way, way.message())
        names = [each.name for each in fields(mail.content)]
        if "received" not in names:
            return "missing", ", ".join(names)
        above = names[: names.index("received")]
        odd = [each for each in above if each in ("from", "to", "subject", "date", "message-id")]
        return ("below others", ", ".join(above)) if odd else "on top"


@here.case(
    "4.4-no-return-path", level="SHOULD NOT", clauses="5321-4.4-n", needs="hops",
    requirement="A relay puts no Return-Path on a message: only the last host does",
    sent="a message", allowed={"none": PASS, "added": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        mail = await _plainly(way, way.message())
        head = mail.content.partition(b"\r\n\r\n")[0] + b"\r\n"
        found = [each for each in fields(head) if each.name == "return-path"]
        return ("added", repr(found[0].raw)) if found else "none"


# -- 2.3.8: line ends ------------------------------------------------------------------------------

ENDS: Final = (
    ("bare-lf", b"one\ntwo\r\n"), ("bare-cr", b"one\rtwo\r\n"), ("lf-dot-lf", b"one\n.\ntwo\r\n"),
    ("lf-dot-crlf", b"one\n.\r\ntwo\r\n"), ("cr-dot-cr", b"one\r.\rtwo\r\n"),
    ("crlf-dot-lf", b"one\r\n.\ntwo\r\n"), ("crlf-dot-cr", b"one\r\n.\rtwo\r\n"),
    ("cr-at-end", b"one\r\r\ntwo\r\n"),
)  # fmt: skip
for slug, body in ENDS:

    @here.case(
        f"2.3.8-{slug}", level="MUST NOT", clauses="5321-2.3.8-b 5321-2.3.8-c", needs="hops",
        role="client",
        requirement="A client sends no CR and no LF by itself, whatever it was given",
        sent=f"a message with {body!r}; the octets that come to the next hop are looked at",
        allowed={"none": PASS, "refused": PASS, "not relayed": INFO},
        security="a next hop that takes it for a line's end sees other messages (SMTP smuggling)",
    )  # fmt: skip
    async def _(talk: Session, body: bytes = body) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx()
            await talk.upto("ehlo")
            for line in (f"MAIL FROM:<{way.sender}>", f"RCPT TO:<{way.rcpt}>", "DATA"):
                await talk.must(line)
            await talk.send(way.message(body) + b".\r\n")
            reply = await talk.reply()
            if reply.kind == "closed" or reply.code[:1] in ("4", "5"):
                return "refused", str(reply)
            await way.until(lambda: bool(way.taken(hop)) or bool(way.reports))
            if not way.taken(hop):
                return "not relayed", "returned" if way.reports else ""
            wire = b"".join(mail.wire for mail in hop.mails)
            bare = re.search(rb"(?<!\r)\n|\r(?!\n)", wire)
            return ("bare", repr(wire[max(0, bare.start() - 20) :][:50])) if bare else "none"


# -- 2.3.11, 2.4, 4.1.2: addresses -----------------------------------------------------------------


def opaque(local: str) -> str:
    """A local part without the quotes and backslashes that stand for nothing."""
    if len(local) > 1 and local.startswith('"') and local.endswith('"'):
        return re.sub(r"\\(.)", r"\1", local[1:-1])
    return local


LOCALS: Final = (
    ("mixed-case", "SmItH", "5321-2.4-c 5321-2.3.11-a"),
    ("tag", "MiXeD+tag.x", "5321-2.3.11-a 5321-2.4-c"),
    ("odd-atoms", "a/b=c{d}~e_f-g", "5321-2.3.11-a"),
    ("more-atoms", "!#$&'*?^`|", "5321-2.3.11-a"),
    ("apostrophe", "o'hara", "5321-2.3.11-a"),
    ("slash-equals", "/C=xx/S=name/", "5321-2.3.11-a"),
    ("long", "x" * 64, "5321-2.3.11-a"),
    ("quoted", '"John Doe"', "5321-2.3.11-a"),
    ("quoted-at", '"a@b"', "5321-2.3.11-a 5321-2.3.11-b"),
    ("quoted-percent", '"a%b"', "5321-2.3.11-a 5321-2.3.11-b"),
    ("quoted-backslash", '"a\\\\b\\"c"', "5321-2.3.11-a"),
    ("quoted-dots", '".a..b."', "5321-2.3.11-a"),
    ("quoted-bracket", '"a>b"', "5321-2.3.11-a"),
)  # fmt: skip
for slug, local, clauses in LOCALS:

    @here.case(
        f"2.3.11-rcpt-{slug}", level="MUST", clauses=clauses, needs="hops",
        requirement="The local part of an address elsewhere is relayed as it is",
        sent=f"a message for <{local}@...>",
        allowed={"kept": PASS, "refused": INFO, "returned": INFO},
    )  # fmt: skip
    async def _(talk: Session, local: str = local) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx()
            reply = await way.offer(rcpts=[f"{local}@{way.domain}"])
            if reply.code[:1] != "2":
                return "refused", str(reply)
            await way.fate(hop)
            if way.reports:
                return "returned"
            came = (await way.one(hop)).paths[0].rpartition("@")[0]
            return ("kept" if opaque(came) == opaque(local) else "changed"), came

    if slug in ("mixed-case", "tag", "odd-atoms", "quoted"):

        @here.case(
            f"2.3.11-sender-{slug}", level="MUST", clauses=clauses, needs="hops",
            requirement="The local part of a sender elsewhere is relayed as it is",
            sent=f"a message from <{local}@...>",
            allowed={"kept": PASS, "refused": INFO, "returned": INFO},
        )  # fmt: skip
        async def _(talk: Session, local: str = local) -> Observed:
            async with way_for(talk) as way:
                hop = await way.mx()
                reply = await way.offer(sender=f"{local}@back.{way.domain}")
                if reply.code[:1] != "2":
                    return "refused", str(reply)
                await way.fate(hop)
                if way.reports:
                    return "returned"
                came = (await way.one(hop)).sender.path.rpartition("@")[0]
                return ("kept" if opaque(came) == opaque(local) else "changed"), came


@here.case(
    "4.1.2-shortest", level="SHOULD", clauses="5321-4.1.2-c", needs="hops", role="client",
    requirement="A local part that needs no quotes is sent without them",
    sent='a message for <"user"@...>',
    allowed={"user": PASS, '"user"': NON_STRICT, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        reply = await way.offer(rcpts=[f'"user"@{way.domain}'])
        if reply.code[:1] != "2":
            return "refused", str(reply)
        return (await way.one(hop)).paths[0].rpartition("@")[0], ""


for slug, form in (
    ("percent", "a%{other}@{domain}"), ("bang", "{other}!a@{domain}"),
    ("quoted-percent", '"a%{other}"@{domain}'), ("quoted-at", '"a@{other}"@{domain}'),
    ("quoted-bang", '"{other}!a"@{domain}'),
):  # fmt: skip

    @here.case(
        f"2.3.11-no-route-{slug}", level="MUST NOT", clauses="5321-2.3.11-b", needs="hops",
        requirement="Nothing in the local part of an address elsewhere decides where mail goes",
        sent=f"a message for <{form}>",
        allowed={"its domain": PASS, "refused": PASS, "returned": PASS},
        security="mail can be led around what may be relayed",
    )  # fmt: skip
    async def _(talk: Session, form: str = form) -> Observed:
        async with way_for(talk) as way:
            right = await way.mx()
            wrong = await way.mx(domain=f"other.{way.domain}")
            address = form.format(other=f"other.{way.domain}", domain=way.domain)
            reply = await way.offer(rcpts=[address])
            if reply.code[:1] != "2":
                return "refused", str(reply)
            label = await way.arrives(right, wrong)
            if wrong.visits:
                return "rerouted", wrong.commands[-1].line
            if label != "delivered":
                return label
            came = way.taken(right)[0].paths[0].rpartition("@")[0]
            wanted = opaque(address.rpartition("@")[0])
            return ("its domain" if opaque(came) == wanted else "changed"), came


# -- 3.6.1, 4.1.1.3: source routes -----------------------------------------------------------------


@here.case(
    "3.6.1-none-made", level="SHOULD NOT", clauses="5321-3.6.1-a 5321bis-F.2-a", needs="hops",
    role="client", requirement="A client makes no source routes",
    sent="a message; RCPT is looked at", allowed={"none": PASS, "route": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send()
        mail = await way.one(hop)
        return ("route" if mail.paths[0].startswith("@") else "none"), mail.paths[0]


@here.case(
    "4.1.1.3-route", level="SHOULD", clauses="5321-4.1.1.3-d 5321-4.1.1.3-e", needs="hops",
    requirement="Of a source route only the last domain counts, and the route is taken off",
    sent="a message for <@first,@second:rcpt@last>, each with a next hop of its own",
    allowed={"taken off": PASS, "refused": INFO, "route kept": NON_STRICT, "followed": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        last = await way.mx()
        first = await way.mx(domain=f"first.{way.domain}")
        second = await way.mx(domain=f"second.{way.domain}")
        route = f"@first.{way.domain},@second.{way.domain}:{way.rcpt}"
        reply = await way.offer(rcpts=[route])
        if reply.code[:1] != "2":
            return "refused", str(reply)
        mail = await way.one(last, first, second)
        if mail.hop != last.name:
            return "followed", mail.hop
        return ("route kept" if mail.paths[0].startswith("@") else "taken off"), mail.paths[0]


@here.case(
    "4.1.1.3-reverse-path", level="MUST NOT", clauses="5321-4.1.1.3-g", needs="hops",
    requirement="What is taken off a source route is not put into the reverse-path",
    sent="a message for <@first:rcpt@last>; MAIL is looked at",
    allowed={"as it was": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await way.mx()
        await way.mx(domain=f"first.{way.domain}")
        reply = await way.offer(rcpts=[f"@first.{way.domain}:{way.rcpt}"])
        if reply.code[:1] != "2":
            return "refused", str(reply)
        path = (await way.one()).sender.path
        return ("as it was" if path.lower() == way.sender.lower() else "changed"), path


# -- 7.2: blind copies -----------------------------------------------------------------------------


@here.case(
    "7.2-blind", level="SHOULD NOT", clauses="5321-7.2-b", needs="hops",
    requirement="A recipient who stands in no header field does not come into one",
    sent="a message for two, of whom one is in To; the header is looked at",
    allowed={"hidden": PASS, "shown": NON_STRICT}, security="tells who got blind copies",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(rcpts=[way.rcpt, f"hidden@{way.domain}"])
        await way.fate(hop)
        await way.until(lambda: sum(len(each.paths) for each in way.taken(hop)) >= 2, 0.25)
        for mail in way.taken(hop):
            for each in fields(mail.content):
                if b"hidden@" in each.raw:
                    return "shown", repr(each.raw[:200])
        return "hidden"


@here.case(
    "7.2-bcc", level="MAY", clauses="5321-7.2-c", needs="hops",
    requirement="What becomes of a Bcc field is recorded",
    sent="a message with a Bcc field",
    allowed={"kept": INFO, "removed": INFO, "refused": INFO, "returned": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        mail = await _through(way, way.message(headers=f"Bcc: <hidden@{way.domain}>\r\n"))
        if isinstance(mail, str):
            return mail
        names = [each.name for each in fields(mail.content)]
        return "kept" if "bcc" in names else "removed"


@here.case(
    "4.5.2-features", level="MUST", clauses="5321-4.5.2-h 5321-3.6.3-a", needs="hops",
    requirement="A message is the same for a next hop that offers nothing",
    sent="a message in ASCII for a next hop without extensions", allowed=KEPT,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        sent = way.message("One line.\r\n.Another\r\n")
        came: list[bytes] = []
        for number, features in enumerate((FEATURES, ())):
            hop = await way.mx(domain=f"d{number}.{way.domain}", features=features)
            await way.send(sent, rcpts=[f"rcpt@d{number}.{way.domain}"])
            came.append((await way.one(hop)).content)
        found = [compared(sent, each) for each in came]
        return next((each for each in found if each != "kept"), "kept")
