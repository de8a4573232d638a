"""RFC 5321 4.2: what a reply is, every reply of a whole session judged octet for octet.

Three walks over a session are judged for each rule: what ordinary mail meets, what mistakes meet,
and what is sent to be echoed.  A walk never raises: a server that goes away in the middle is judged
by what it said until then.  Codes are in `rfc5321_4_3`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from specs.conformance.allowed import UNKNOWN_COMMAND
from specs.conformance.arrivals import overtaken
from specs.conformance.asking import going_on
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Observed, Reply, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session

here = Section("5321")

#: What is said, and its reply.
Walk = list[tuple[str, Reply]]
Walker = Callable[[Session], Awaitable[Walk]]
#: All codes of RFC 5321 and of registered extensions (AUTH, ETRN, ODMR, RFC 7504, 4468...).
CODES: Final = frozenset({
    "211", "214", "220", "221", "235", "250", "251", "252", "253", "334", "354", "421", "422",
    "430", "432", "450", "451", "452", "453", "454", "455", "458", "459", "500", "501", "502",
    "503", "504", "521", "523", "524", "525", "530", "533", "534", "535", "538", "550", "551",
    "552", "553", "554", "555", "556",
})  # fmt: skip


async def said(talk: Session, line: str) -> tuple[str, Reply]:
    """One step of a walk."""
    return talk.fill(line)[:60], await talk.say(talk.fill(line))


async def begun(talk: Session) -> Walk:
    """The greeting and EHLO."""
    if not talk.stage:
        await talk.connect()
    greeting = await talk.reply()
    found = [("the connection", greeting)]
    if greeting.code == "220":
        found.append(await said(talk, "EHLO {hostname}"))
    return found


async def lines(talk: Session, wanted: Sequence[str]) -> Walk:
    """A connection's whole walk, as long as it lasts."""
    walk = await begun(talk)
    for each in wanted:
        if walk[-1][1].kind in ("closed", "silent", "flood"):
            break
        walk.append(await said(talk, each))
    return walk


async def ordinary(talk: Session) -> Walk:
    """Mail, and what mail programs ask for beside it."""
    first = ("NOOP", "VRFY {rcpt}", "MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "RSET",
             "MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA")  # fmt: skip
    walk = await lines(talk, first)
    if walk[-1][1].code == "354":
        walk.append(("a message", await talk.content(talk.message())))
        walk.append(await said(talk, "RSET"))
    if walk[-1][1].kind == "reply":
        walk.append(await said(talk, "QUIT"))
    return walk


async def mistaken(talk: Session) -> Walk:
    """Mistakes, three on a connection."""
    walk: Walk = []
    for row in (
        ("XYZZY", "MAIL FROM:", "RCPT TO:<{rcpt}>"),
        ("DATA", "HELP", "EXPN nobody-here"),
        ("MAIL FROM:<{sender}>", "RCPT TO:<@>", "RCPT TO:<nobody-here@nowhere.example>", "DATA"),
        ("MAIL FROM:<{sender}> CONFORM=1", "VRFY", "AUTH"),
    ):
        beside = talk.another()
        walk += await lines(beside, row)
        await beside.close()
    return walk


async def echoed(talk: Session) -> Walk:
    """What a server might be tempted to say again: long, 8-bit, control characters, no CR or LF."""
    walk: Walk = []
    for row in (
        (f"VRFY {'v' * 480}", f"EHLO {'e' * 60}.{'f' * 60}.{'g' * 60}.{'h' * 60}.example",
         f"{'X' * 490}"),
        (f"MAIL FROM:<{'a' * 60}@{'b' * 60}.{'c' * 60}.{'d' * 60}.conform.example>",
         f"RCPT TO:<{'r' * 200}@{{domain}}>",
         f"RCPT TO:<{'s' * 240}@{'t' * 200}>"),
        ("VRFY gr\u00fcn", "MAIL FROM:<gr\u00fcn@b\u00fccher.example>", "GR\u00dcN"),
        ("MAIL FROM:<{sender}>", "RCPT TO:<gr\u00fcn@{domain}>", "RCPT TO:<\x07\x1b[2J@{domain}>"),
        ("VRFY \x01\x1b[31m\x7f", "EHLO \x1b]0;x\x07", "MAIL FROM:<{sender}> BODY=\x1b[2J"),
    ):  # fmt: skip
        beside = talk.another()
        walk += await lines(beside, row)
        await beside.close()
    return walk


WALKS: Final[tuple[tuple[str, Walker, str, str], ...]] = (
    ("mail", ordinary, "an ordinary session", ""),
    ("mistakes", mistaken, "a session of mistakes", ""),
    ("echo", echoed, "a session whose lines are long, or have octets that are no text", "echo"),
)


def _endings(reply: Reply) -> str:
    octets = reply.octets
    if not octets or reply.kind in ("silent", "flood"):
        return ""
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", octets)
    return "a bare CR or LF" if bare or not octets.endswith(b"\r\n") else ""


def _form(reply: Reply) -> str:
    return "no reply" if reply.kind in ("garbage", "flood") else ""


def _digits(reply: Reply) -> str:
    out = reply.kind == "reply" and not re.fullmatch("[2-5][0-5][0-9]", reply.code)
    return f"out of range: {reply.code}" if out else ""


def _octet(reply: Reply) -> str:
    return "8-bit" if any(octet > 126 for octet in reply.octets) else ""


def _control(reply: Reply) -> str:
    return (
        "a control character"
        if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", reply.octets)
        else ""
    )


def _length(reply: Reply) -> str:
    longest = max((len(line) for line in reply.octets.splitlines(keepends=True)), default=0)
    return f"a line of {longest}" if longest > 512 else ""


def _known(reply: Reply) -> str:
    return f"unknown: {reply.code}" if reply.kind == "reply" and reply.code not in CODES else ""


def _text(reply: Reply) -> str:
    return "no text" if reply.kind == "reply" and not all(reply.lines) else ""


def _class(reply: Reply) -> str:
    wrong = reply.kind == "reply" and reply.enhanced and reply.enhanced[0] != reply.code[0]
    return f"{reply.enhanced} in a {reply.code}" if wrong else ""


def _one_enhanced(reply: Reply) -> str:
    shape = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?= |\Z)")
    codes = {found[0] if (found := shape.match(line)) else "" for line in reply.lines}
    return f"mixed: {sorted(codes)}" if len(codes) > 1 else ""


Judge = Callable[[Reply], str]
#: slug, clauses, level, judge, label when it finds something, its verdict (None: a fail),
#: requirement, keywords, what may be misused.
RULES: Final[tuple[tuple[str, str, Level, Judge, str, Verdict | None, str, str, str], ...]] = (
    ("crlf", "5321-4.2-c", "IMPLIED", _endings, "bare", None,
     "Each line of each reply ends with CRLF and has no other CR or LF", "",
     "replies can be forged by what is echoed"),
    ("form", "5321-4.2-c 5321-4.2.1-a", "MUST", _form, "no reply", None,
     "All that the server says is replies: three digits, then a space or a hyphen and text, the"
     " same"
     " code on all lines", "", ""),
    ("digits", "5321-4.3.2-d", "MUST", _digits, "out of range", None,
     "Each reply code begins with 2 to 5, then 0 to 5", "", ""),
    ("ascii", "5321-4.2-g", "IMPLIED", _octet, "8-bit", None,
     "Reply texts are ASCII while SMTPUTF8 is not in use", "", ""),
    ("printable", "5321-4.2-c", "IMPLIED", _control, "a control character", None,
     "Reply texts have no control characters but tabs", "",
     "terminals and logs of clients can be written to"),
    ("length", "5321-4.5.3.1.5-a", "MUST", _length, "too long", None,
     "No reply line is longer than 512 octets", "", ""),
    ("known", "5321-4.3.2-e", "SHOULD NOT", _known, "unknown", NON_STRICT,
     "Only codes of the standard, or of an extension, are sent", "", ""),
    ("text", "5321-4.2-c", "IMPLIED", _text, "no text", NON_STRICT,
     "Each reply line has a text behind its code", "", ""),
    ("class", "2034-4-b", "IMPLIED", _class, "contradiction", None,
     "An enhanced status code is of the class of the reply code", "ENHANCEDSTATUSCODES", ""),
    ("one-enhanced", "2034-4-c", "IMPLIED", _one_enhanced, "mixed", NON_STRICT,
     "All lines of a reply have the same enhanced status code", "ENHANCEDSTATUSCODES", ""),
)  # fmt: skip
#: Replies to these have texts of their own form, without enhanced codes (RFC 2034 4).
OWN_FORM: Final = re.compile(r"EHLO|HELO|LHLO|HELP|the connection")


def _judge(slug: str, judge: Judge, word: str, walk: Walk) -> tuple[str, str]:
    for sent, reply in walk:
        if "enhanced" in slug and OWN_FORM.match(sent):
            continue
        if wrong := judge(reply):
            return word, f"{wrong}, after {sent!r}: {reply.octets[:200]!r}"
    heard = sum(1 for _, reply in walk if reply.kind in ("reply", "garbage"))
    if not heard:
        raise Refused("the greeting", walk[-1][1])
    return "kept", f"{heard} replies"


def _add_walks() -> None:
    for slug, clauses, level, judge, word, verdict, requirement, keywords, misuse in RULES:
        for name, walker, what, echo in WALKS:

            async def script(
                talk: Session, slug: str = slug, judge: Judge = judge, word: str = word,
                walker: Walker = walker,
            ) -> tuple[str, str]:  # fmt: skip
                return _judge(slug, judge, word, await walker(talk))

            # What a client provoked is graded milder, but where it may pass for another reply.
            mild = echo and slug in ("ascii", "printable", "length")
            graded = NON_STRICT if mild else verdict
            here.case(
                f"4.2-{slug}-{name}", level=level, clauses=clauses,
                requirement=f"{requirement} ({what})", sent=what, keywords=keywords,
                allowed={"kept": PASS, **({word: graded} if graded else {})},
                needs="rcpt", security=misuse if echo else "",
            )(script)  # fmt: skip


_add_walks()


# -- one reply for each command -------------------------------------------------------------------


async def counted(talk: Session, wanted: Sequence[str]) -> tuple[str, str]:
    """Lines and QUIT, each when the one before was answered; all is read until the end."""
    codes: list[str] = []
    for each in wanted:
        reply = going_on(await talk.say(talk.fill(each)))
        codes.append(reply.label)
        if reply.kind != "reply":
            return reply.kind, f"{' '.join(codes)}, the last after {each!r}"
        if talk.unread:
            return "too many", f"{talk.unread[:200]!r} beside the reply to {each!r}"
    reply = going_on(await talk.say("QUIT"))
    more = await talk.rest(2.0)
    codes.append(reply.label)
    if more or reply.code != "221":
        return ("too many" if more else "out of step"), f"{' '.join(codes)}, then {more[:200]!r}"
    return "one each", " ".join(codes)


ONCE: Final = {"one each": PASS}
COUNTS: Final[tuple[tuple[str, str, str, tuple[str, ...]], ...]] = (
    ("mail", "5321-4.2-b", "commands of a transaction that is given up",
     ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "RSET", "NOOP")),
    ("rcpt", "5321-4.2-a 5321-4.2-b", "several RCPT, then NOOP",
     ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "RCPT TO:<{rcpt}>", "RCPT TO:<{rcpt}>", "NOOP",
      "RSET")),
    ("refused", "5321-4.2-b", "a refused RCPT between two others",
     ("MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "RCPT TO:<@@>", "RCPT TO:<{rcpt}>", "RSET")),
    ("wrong", "5321-4.2-b", "two unknown commands between others",
     ("NOOP", "XYZZY", "NOOP", "XYZZY x", "RSET")),
    ("ehlo", "5321-4.2-b", "EHLO several times", ("EHLO {hostname}", "EHLO {hostname}", "NOOP")),
    ("help", "5321-4.2-b 5321-4.2.1-a", "HELP and VRFY between others",
     ("NOOP", "HELP", "NOOP", "VRFY {rcpt}", "NOOP")),
)  # fmt: skip
for slug, clauses, what, wanted in COUNTS:

    async def _count(talk: Session, wanted: Sequence[str] = wanted) -> tuple[str, str]:
        await talk.upto("ehlo")
        return await counted(talk, wanted)

    here.case(
        f"4.2-one-reply-{slug}", level="MUST", clauses=clauses, sent=f"{what}, then QUIT",
        requirement=f"Each command gets exactly one reply, in order ({what})",
        allowed=ONCE, needs="rcpt",
    )(_count)  # fmt: skip


@here.case(
    "4.2-one-reply-message",
    level="MUST",
    clauses="5321-4.2-b",
    sent="a message, then NOOP, then QUIT",
    requirement="A whole message gets one reply, and nothing comes after it by itself",
    allowed={"one each": PASS},
    needs="rcpt",
)
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("data")
    final = going_on(await talk.content(talk.message()))
    if final.kind != "reply" or talk.unread:
        return ("too many" if talk.unread else final.kind), f"{final}, {talk.unread[:200]!r}"
    return await counted(talk, ("NOOP",))


@here.case(
    "4.2-one-reply-batch", level="MUST", clauses="5321-4.2-a 5321-4.2-b", keywords="PIPELINING",
    sent="MAIL, 5 RCPT (some refused), RSET, QUIT in one piece",
    requirement="A batch of commands gets one reply for each, in order",
    allowed=ONCE, needs="rcpt",
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    good, bad = "RCPT TO:<{rcpt}>", "RCPT TO:<@@>"
    batch = ("MAIL FROM:<{sender}>", good, bad, good, bad, good, "RSET", "QUIT")
    await talk.send("".join(talk.fill(f"{each}\r\n") for each in batch).encode())
    codes = [going_on(each).label for each in await talk.replies(len(batch))]
    more = await talk.rest(2.0)
    firsts = "".join(each[0] for each in codes)
    if more or len(codes) != len(batch):
        return "another number", f"{' '.join(codes)}, then {more[:200]!r}"
    right = re.fullmatch("22[45]2[45]222", firsts) or re.fullmatch("22[45][245]{3}22", firsts)
    return ("one each" if right else "out of step"), " ".join(codes)


# -- lines of a reply -----------------------------------------------------------------------------

for verb, stage, line in (
    ("ehlo", "greeting", "EHLO {hostname}"),
    ("help", "ehlo", "HELP"),
    ("vrfy", "ehlo", "VRFY {rcpt}"),
):

    async def _lines(talk: Session, stage: str = stage, line: str = line) -> tuple[str, str]:
        await talk.upto("greeting" if stage == "greeting" else "ehlo")
        reply = await talk.say(talk.fill(line))
        whole = reply.octets.split(b"\r\n")[:-1]
        if reply.kind != "reply" or not whole:
            return reply.kind, f"{reply.octets[:200]!r}"
        before = all(each[:3] == whole[-1][:3] and each[3:4] == b"-" for each in whole[:-1])
        last = re.match(rb"[0-9]{3}( |\Z)", whole[-1])
        return ("well-formed" if before and last else "ill-formed"), f"{reply.octets[:200]!r}"

    here.case(
        f"4.2.1-reply-lines-{verb}",
        level="MUST",
        clauses="5321-4.2.1-a",
        sent=f"({stage}) | {line}",
        requirement=f"A reply to {verb.upper()} has the same code on all lines, a hyphen behind"
        f" it on"
        " all but the last",
        allowed={"well-formed": PASS},
        needs="rcpt" if verb == "vrfy" else "",
    )(_lines)


# -- which code for which mistake -----------------------------------------------------------------

for slug, line in (
    ("word", "XYZZY"),
    ("word-with-argument", "XYZZY a@b.example"),
    ("beginning-of-a-verb", "MAI FROM:<{sender}>"),
    ("digits", "12345"),
    ("header-field", "Subject: hello"),
):
    here.probe(
        f"4.2.4-unknown-{slug}", level="SHOULD", sent=[line], allowed=UNKNOWN_COMMAND,
        clauses="5321-4.2.3-a 5321-4.2.4-a 5321-4.1.5-a 5321-4.1.1.10-a",
        requirement="A verb that is not known is answered 500, not done",
    )  # fmt: skip

here.probe(
    "4.2.3-bad-parameter", level="IMPLIED", clauses="5321-4.2.3-a", keywords="8BITMIME",
    sent=["MAIL FROM:<{sender}> BODY=CONFORM"],
    requirement="A value that a known parameter cannot have is refused: 501, 504 or 555",
    allowed={"501": PASS, "504": PASS, "555": PASS, "5yz": NON_STRICT},
)  # fmt: skip

for verb, line in (
    ("HELP", "HELP"),
    ("EXPN", "EXPN nobody-here"),
    ("VRFY", "VRFY nobody-here"),
):

    async def _listed(talk: Session, line: str = line) -> tuple[str, str]:
        await talk.upto("ehlo")
        reply = await talk.say(line)
        if reply.kind != "reply":
            return reply.label, ""
        return ("unknown" if reply.code in ("500", "502") else "known"), str(reply)

    here.case(
        f"4.2.4-listed-{verb.lower()}", level="MUST NOT", clauses="5321-4.2.4-a 5321-2.2.2-c",
        requirement=f"{verb} is not answered 500 or 502 when EHLO lists it", sent=line,
        allowed={"known": PASS, "closed": NON_STRICT}, keywords=verb,
    )(_listed)  # fmt: skip


# -- what was refused after its content is not delivered ------------------------------------------


def _hops(talk: Session) -> bytes:
    line = "Received: from a.example by b.example with SMTP; Mon, 02 Nov 2026 10:00:00 +0000\r\n"
    return line.encode() * 250 + talk.message()


PROVOCATIONS: Final[tuple[tuple[str, str, Callable[[Session], bytes]], ...]] = (
    ("many-received", "250 Received fields on top", _hops),
    ("bare-lf", "a body with a bare LF", lambda talk: talk.message(b"one\ntwo\r\n")),
    ("bare-cr", "a body with a bare CR", lambda talk: talk.message(b"one\rtwo\r\n")),
    ("nul", "a body with a NUL", lambda talk: talk.message(b"one\0two\r\n")),
    ("long-line", "a line of 70000 octets", lambda talk: talk.message(b"x" * 70000 + b"\r\n")),
    ("no-header", "a body without a header", lambda talk: b"\r\n" + talk.token.encode() + b"\r\n"),
    ("two-froms", "two From fields",
     lambda talk: b"From: <" + talk.given.sender.encode() + b">\r\n" + talk.message()),
    ("eight-bit", "8-bit octets in the header and body, not announced",
     lambda talk: talk.message("gr\u00fcn\r\n", headers="X-Color: gr\u00fcn\r\n")),
)  # fmt: skip


for slug, what, make in PROVOCATIONS:

    async def _not_kept(talk: Session, make: Callable[[Session], bytes] = make) -> tuple[str, str]:
        await talk.upto("data")
        final = await talk.content(make(talk))
        if final.kind != "reply" or final.code[0] not in "45":
            return "not refused", str(final)
        await overtaken(talk)
        found = await talk.look(talk.given.maildirs[0], patience_s=1.0)
        return ("delivered" if found else f"{final.code[0]}yz, nothing delivered"), str(final)

    here.case(
        f"4.2.5-refused-content-{slug}",
        level="MUST NOT",
        clauses="5321-4.2.5-a 5321-4.2.5-c",
        requirement=f"A message refused after its content ({what}) is not delivered",
        sent=f"a message with {what}; if it is refused: another one, and a look into the mailbox",
        allowed={
            "4yz, nothing delivered": PASS,
            "5yz, nothing delivered": PASS,
            "not refused": INFO,
        },
        needs="rcpt maildir",
    )(_not_kept)
