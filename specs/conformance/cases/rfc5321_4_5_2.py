"""RFC 5321 4.5.2: the dot in front of a line, and every other octet of the content.

- Bodies are given as they go over the wire and as they are to lie in the mailbox, side by side.
- Each body ends in a line END, so that what is cut off is seen.  Compared is the body alone: what
  servers do to headers is in 4.4.  A Maildir's lines end in LF.
- Segments: TCP promises nothing about them, but with a pause between two `send` a server reads them
  apart, as it does with real networks.  There is no event to wait for: nothing comes back.
- A refusal of odd content is policy; content that was taken and changed is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import trio

from specs.conformance.arrivals import lost, settled
from specs.conformance.headers import lf, parts
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Reply, Seen, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

END: Final = b"the last line\r\n"
DOT: Final = b".\r\n"
#: Between two segments, in seconds.
PAUSE_S: Final = 0.03


async def ended(talk: Session, segments: Sequence[bytes], pause_s: float = PAUSE_S) -> Reply:
    """Pieces of the wire, one after the other; the reply to the last."""
    for at, segment in enumerate(segments):
        if at:
            await trio.sleep(pause_s)
        if not await talk.send(segment):
            break
    talk.stage = "ehlo"
    return await talk.reply()


async def compared(talk: Session, final: Reply, body: bytes) -> Seen:
    """What became of a message that was sent as a whole: "kept", "changed", "cut", ..."""
    if final.kind != "reply" or final.code == "421":
        return final.label, str(final)
    if final.code != "250":
        return "refused", str(final)
    found = await talk.arrived()
    if not found:
        return await lost(talk)
    return judged(parts(found[0])[1], lf(body))


def judged(got: bytes, wanted: bytes) -> Seen:
    """One blank line more at the end is nobody's harm: delivery agents add it."""
    if got in (wanted, wanted + b"\n"):
        return "kept", f"{len(wanted)} octets"
    if got.rstrip(b"\n") == wanted.rstrip(b"\n"):
        return "blank lines at the end changed", ""
    first = next(
        (at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b),
        min(len(got), len(wanted)),
    )
    label = "changed" if lf(END) in got or lf(END) not in wanted else "cut"
    around = slice(max(0, first - 20), first + 40)
    return (
        label,
        f"from octet {first}: {got[around]!r} for {wanted[around]!r}, {len(got)} of {len(wanted)}",
    )


def head(talk: Session) -> bytes:
    """All of the message but its body."""
    return talk.message(b"")


#: Of plain content that may only come in an odd way.
KEPT: Final[Mapping[str, Verdict]] = {"kept": PASS, "blank lines at the end changed": NON_STRICT}
#: Of content that a filter might not like.
TAKEN: Final[Mapping[str, Verdict]] = {**KEPT, "refused": INFO}

# -- dots: as sent, as delivered ------------------------------------------------------------------

MANY: Final = b"".join(b"." * (at % 7) + b"x" * (at % 61) + b"\r\n" for at in range(1, 1200))
MANY_STUFFED: Final = b"".join(
    b"." + line if line.startswith(b".") else line for line in MANY.splitlines(keepends=True)
)
ONE_B: Final = "5321-4.5.2-b"
ONE_C: Final = "5321-4.5.2-c 5321-4.5.2-b"
DOTS: Final[tuple[tuple[str, str, str, bytes, bytes], ...]] = (
    ("two-and-text", ONE_B, "..x is .x", b"..x\r\n", b".x\r\n"),
    ("three-and-text", ONE_C, "...x is ..x", b"...x\r\n", b"..x\r\n"),
    ("two", ONE_B, ".. is a line of one dot", b"..\r\n", b".\r\n"),
    ("three", ONE_C, "... is a line of two dots", b"...\r\n", b"..\r\n"),
    ("ten", ONE_C, "a line of ten dots has nine", b"." * 10 + b"\r\n", b"." * 9 + b"\r\n"),
    ("one-and-text", ONE_B, "a dot that is not doubled is removed", b".x\r\n", b"x\r\n"),
    ("one-and-space", ONE_B, "a dot and a space do not end the message", b". \r\n", b" \r\n"),
    ("one-and-tab", ONE_B, "a dot and a tab do not end the message", b".\t\r\n", b"\t\r\n"),
    ("inside", ONE_C, "dots inside a line stay", b"a.b..c...\r\n", b"a.b..c...\r\n"),
    ("behind-space", ONE_C, "dots behind a space stay", b" .\r\n ..\r\n", b" .\r\n ..\r\n"),
    ("in-a-row", ONE_B, "each line of a row loses one dot", b"..\r\n..\r\n...\r\n..\r\n",
     b".\r\n.\r\n..\r\n.\r\n"),
    ("between-blank-lines", ONE_B, "a line of one dot between blank lines",
     b"a\r\n\r\n..\r\n\r\nb\r\n",
     b"a\r\n\r\n.\r\n\r\nb\r\n"),
    ("commands", ONE_B, "what looks like an end and a command is text",
     b"..\r\nMAIL FROM:<a@b.example>\r\n..\r\nQUIT\r\n",
     b".\r\nMAIL FROM:<a@b.example>\r\n.\r\nQUIT\r\n"),
    ("longest-line", ONE_C, "a line of 998 octets with a dot in front",
     b".." + b"y" * 997 + b"\r\n", b"." + b"y" * 997 + b"\r\n"),
    ("everywhere", ONE_C, "dots at all places of a server's buffers", MANY_STUFFED, MANY),
)  # fmt: skip
for slug, clauses, what, wire, wanted in DOTS:

    async def _dots(talk: Session, wire: bytes = wire, wanted: bytes = wanted) -> Seen:
        await talk.upto("data")
        await talk.send(head(talk) + wire + END + DOT)
        talk.stage = "ehlo"
        return await compared(talk, await talk.reply(), wanted + END)

    here.case(
        f"4.5.2-dot-{slug}",
        level="IMPLIED",
        clauses=clauses,
        needs="rcpt maildir",
        sent=f"a body with {repr(wire)[2:60]}...",
        requirement=f"Of a line that begins with a dot one is removed: {what}",
        allowed=TAKEN,
        security="content can end the message early" if slug == "commands" else "",
    )(_dots)


@here.case(
    "4.5.2-dot-last-line", level="IMPLIED", clauses="5321-4.5.2-b", needs="rcpt maildir",
    sent="a body whose last line is one dot (doubled), then the end",
    requirement="A last line of one dot is delivered, and the end behind it is found", allowed=KEPT,
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    await talk.send(head(talk) + END + b"..\r\n" + DOT)
    talk.stage = "ehlo"
    return await compared(talk, await talk.reply(), END + b".\r\n")


@here.case(
    "4.5.2-dot-first-line", level="IMPLIED", clauses="5321-4.5.2-b", needs="rcpt maildir",
    sent="a body whose first line begins with two dots, right behind the header",
    requirement="In the first line of a body a dot is removed, too", allowed=KEPT,
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    await talk.send(head(talk) + b"..first\r\n" + END + DOT)
    talk.stage = "ehlo"
    return await compared(talk, await talk.reply(), b".first\r\n" + END)


@here.case(
    "4.5.2-dot-first-octets", level="IMPLIED", clauses="5321-4.5.2-b", needs="rcpt maildir",
    sent="two dots and a field's name as the first octets after 354",
    requirement="In the first line after DATA a dot is removed, too",
    allowed={"one dot": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    await talk.send(b"..first-" + talk.token.encode() + b": field\r\n" + head(talk) + END + DOT)
    talk.stage = "ehlo"
    final = await talk.reply()
    if final.kind == "reply" and final.code[0] in "45":
        return "refused", str(final)
    found = await talk.arrived()
    if not found:
        return await lost(talk)
    at = found[0].find(b"first-" + talk.token.encode())
    before = found[0][max(0, at - 2) : at]
    dots = len(before) - len(before.rstrip(b"."))
    return ("not there" if at < 0 else ("no dot", "one dot", "two dots")[dots]), repr(
        found[0][:600]
    )


@here.case(
    "4.5.2-dot-is-no-end-in-between", level="IMPLIED", clauses="5321-4.5.2-b", needs="rcpt maildir",
    sent="CRLF and a dot, a pause, then the rest of that line",
    requirement="A dot at the end of a segment does not end the message before CRLF has come",
    allowed=TAKEN, security="what follows is read as commands",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    await talk.send(head(talk) + b"one\r\n.")
    early = await talk.unasked()
    if early.kind != "silent":
        return "ended early", str(early)
    await talk.send(b".two\r\n" + END + DOT)
    talk.stage = "ehlo"
    return await compared(talk, await talk.reply(), b"one\r\n.two\r\n" + END)


@here.case(
    "4.5.2-cr-is-no-end-in-between", level="IMPLIED", clauses="5321-4.5.2-e", needs="rcpt maildir",
    sent="CRLF, a dot and CR, a pause, then LF",
    requirement="The end is found when LF comes, and not before", allowed=KEPT,
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    await talk.send(head(talk) + END + b".\r")
    early = await talk.unasked()
    if early.kind != "silent":
        return "ended early", str(early)
    await talk.send(b"\n")
    talk.stage = "ehlo"
    return await compared(talk, await talk.reply(), END)


# -- segments -------------------------------------------------------------------------------------

CUTS: Final[tuple[tuple[str, str, Callable[[bytes], list[bytes]]], ...]] = (
    ("before-cr", "before the CR of the last line", lambda wire: _cut(wire, -5)),
    ("before-lf", "between the CR and the LF of the last line", lambda wire: _cut(wire, -4)),
    ("before-dot", "before the last dot", lambda wire: _cut(wire, -3)),
    ("behind-dot", "behind the last dot", lambda wire: _cut(wire, -2)),
    ("before-last-lf", "before the last LF", lambda wire: _cut(wire, -1)),
    ("around-dot", "on both sides of the last dot", lambda wire: _cut(wire, -3, -2)),
    ("each-of-the-end", "at each octet of the end", lambda wire: _cut(wire, -5, -4, -3, -2, -1)),
    ("stuffed", "between two dots", lambda wire: _cut(wire, wire.index(b"..") + 1)),
    ("line-end", "between CR and LF of a line", lambda wire: _cut(wire, wire.index(b"\r\n") + 1)),
    ("blank-line", "inside the blank line behind the header",
     lambda wire: _cut(wire, wire.index(b"\r\n\r\n") + 1, wire.index(b"\r\n\r\n") + 3)),
    ("each-line", "at each line", lambda wire: wire.splitlines(keepends=True)),
    ("each-cr", "between CR and LF everywhere", lambda wire: _apart(wire, b"\r", b"\n")),
)  # fmt: skip


def _cut(wire: bytes, *places: int) -> list[bytes]:
    marks = [0, *sorted(each % len(wire) for each in places), len(wire)]
    return [wire[a:b] for a, b in pairwise(marks)]


def _apart(wire: bytes, first: bytes, second: bytes) -> list[bytes]:
    pieces = wire.split(first + second)
    return [
        pieces[0] + first,
        *(second + each + first for each in pieces[1:-1]),
        second + pieces[-1],
    ]


WIRE: Final = b"one\r\n..two\r\n\r\n...\r\n" + END
BODY: Final = b"one\r\n.two\r\n\r\n..\r\n" + END
for slug, what, cut in CUTS:

    async def _cuts(talk: Session, cut: Callable[[bytes], list[bytes]] = cut) -> Seen:
        await talk.upto("data")
        final = await ended(talk, cut(head(talk) + WIRE + DOT))
        return await compared(talk, final, BODY)

    here.case(
        f"4.5.2-segments-{slug}", level="IMPLIED", clauses="5321-4.5.2-e", needs="rcpt maildir",
        sent=f"a message in segments, cut {what}",
        requirement=f"Content and its end are the same however they are cut into segments ({what})",
        allowed=KEPT,
    )(_cuts)  # fmt: skip


@here.case(
    "4.5.2-segments-each-octet", level="IMPLIED", clauses="5321-4.5.2-e", needs="rcpt maildir",
    sent="a message, each octet in a segment of its own",
    requirement="Content and its end are the same if each octet comes alone", allowed=KEPT,
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    wire = head(talk) + WIRE + DOT
    final = await ended(talk, [wire[at : at + 1] for at in range(len(wire))], 0.001)
    return await compared(talk, final, BODY)


@here.case(
    "4.5.2-segments-commands", level="IMPLIED", clauses="5321-4.5.2-e", needs="rcpt",
    sent="each octet of the commands in a segment of its own",
    requirement="A command is the same if each of its octets comes alone",
    allowed={"done": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    for line in (f"MAIL FROM:<{talk.given.sender}>", f"RCPT TO:<{talk.given.rcpt}>", "RSET"):
        wire = f"{line}\r\n".encode()
        reply = await ended(talk, [wire[at : at + 1] for at in range(len(wire))], 0.001)
        if not reply.positive:
            # What the server says to the same line in one piece settles it.
            beside = talk.another()
            await beside.upto("ehlo" if not line.startswith("RCPT") else "mail")
            again = await beside.say(line)
            return ("done" if again.label == reply.label else "another reply"), f"{reply}, {again}"
    return "done", ""


for slug, more in (("one", b"NOOP\r\n"), ("three", b"RSET\r\nRSET\r\nNOOP\r\n")):

    async def _pipelined(talk: Session, more: bytes = more) -> Seen:
        await talk.upto("data")
        await talk.send(head(talk) + WIRE + DOT + more)
        talk.stage = "ehlo"
        final = await talk.reply()
        after = [each.label for each in await talk.replies(more.count(b"\n"))]
        if after != ["250"] * more.count(b"\n"):
            return "commands lost", f"{final}, then {' '.join(after)}"
        return await compared(talk, final, BODY)

    here.case(
        f"4.5.2-segments-end-and-{slug}-more",
        level="IMPLIED",
        clauses="5321-4.5.2-e",
        keywords="PIPELINING",
        sent=f"a message, its end, and {slug} command(s) in one segment",
        needs="rcpt maildir",
        requirement="Commands behind the end of a message, in the same segment, are answered",
        allowed=KEPT,
    )(_pipelined)


@here.case(
    "4.5.2-segments-two-messages", level="IMPLIED", clauses="5321-4.5.2-e", keywords="PIPELINING",
    sent="the end of a message and the commands of the next in one segment", needs="rcpt maildir",
    requirement="The next message may begin in the segment that ends the one before",
    allowed={"both": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("data")
    lines = (f"MAIL FROM:<{talk.given.sender}>", f"RCPT TO:<{talk.given.rcpt}>", "DATA")
    commands = "".join(f"{each}\r\n" for each in lines).encode()
    await talk.send(head(talk) + WIRE + DOT + commands)
    codes = [each.label for each in await talk.replies(4)]
    if codes != ["250", "250", "250", "354"]:
        return "not taken", " ".join(codes)
    await talk.send(head(talk) + WIRE + DOT)
    talk.stage = "ehlo"
    codes.append((await talk.reply()).label)
    found = await settled(talk, 2) if codes[-1] == "250" else []
    alike = [judged(parts(each)[1], lf(BODY))[0] for each in found]
    return ("both" if alike == ["kept", "kept"] else f"{len(found)} messages"), f"{codes} {alike}"


# -- every octet ----------------------------------------------------------------------------------

ANY: Final = [bytes([each]) for each in range(1, 128) if each not in (10, 13)]
PRINTABLE: Final = b"".join(each for each in ANY if b" " <= each <= b"~")
CONTROL: Final = b"".join(b"c" + each + b"d\r\n" for each in ANY if each < b" " or each == b"\x7f")
FROM_LINES: Final = (
    b"a\r\n\r\nFrom here on\r\n>From there\r\nFrom a@b.example Mon Nov  2 10:00:00 2026\r\n"
)
#: What may be altered by mailboxes of other formats, without a word of RFC 5321 on it.
ALTERED: Final[Mapping[str, Verdict]] = {**KEPT, "changed": NON_STRICT, "refused": NON_STRICT}
OCTETS: Final[tuple[tuple[str, Level, str, bytes, Mapping[str, Verdict], str], ...]] = (
    ("printable", "IMPLIED", "all printable ASCII characters", PRINTABLE + b"\r\n", TAKEN, ""),
    ("tabs", "IMPLIED", "horizontal and vertical tabs", b"a\tb\t\tc\r\n\td\x0be\r\n", TAKEN, ""),
    ("controls", "IMPLIED", "all control characters but NUL, CR and LF", CONTROL, TAKEN, ""),
    ("trailing-space", "IMPLIED", "spaces and tabs at the ends of lines",
     b"one \r\ntwo  \r\nthree\t\r\n \r\n\t\r\nfour   \r\n", TAKEN, ""),
    ("leading-space", "IMPLIED", "spaces and tabs at the beginnings of lines",
     b" one\r\n  two\r\n\tthree\r\n", TAKEN, ""),
    ("blank-lines", "IMPLIED", "blank lines at the beginning and in a row",
     b"\r\n\r\na\r\n\r\n\r\n\r\nb\r\n", TAKEN, ""),
    ("from-lines", "IMPLIED", "lines that begin with From and a space", FROM_LINES, ALTERED, ""),
    ("commands", "IMPLIED", "lines that are commands",
     b"QUIT\r\nRSET\r\nDATA\r\nMAIL FROM:<>\r\nNOOP\r\n", TAKEN,
     "content is read as commands"),
    ("replies", "IMPLIED", "lines that are replies", b"250 OK\r\n354 go\r\n421 bye\r\n", TAKEN, ""),
    ("header-like", "IMPLIED", "lines that look like header fields",
     b"Received: from a by b; now\r\nReturn-Path: <a@b.example>\r\nBcc: c@d.example\r\n", TAKEN,
     ""),
    ("ctrl-z", "IMPLIED", "the characters that end a file elsewhere",
     b"a\x1ab\r\n\x1a\r\n\x04\r\n", TAKEN, ""),
    ("escapes", "IMPLIED", "percent, backslash, =, tilde and dollar signs",
     b"%s %n %00 \\r\\n \\0 =3D= =\r\n~r /etc/passwd\r\n~.\r\n$HOME `x` =20\r\n", TAKEN, ""),
    ("soft-breaks", "IMPLIED", "lines that end in =", b"a=\r\nb=\r\n=\r\n", TAKEN, ""),
    ("uuencoded", "IMPLIED", "lines of symbols without letters",
     b"M`````\r\n!\r\n`\r\n-- \r\n---\r\n===\r\n", TAKEN, ""),
)  # fmt: skip
for slug, level, what, text, allowed, misuse in OCTETS:

    async def _octets(talk: Session, text: bytes = text) -> Seen:
        final = await talk.transact(talk.message(text + END))
        return await compared(talk, final, text + END)

    here.case(
        f"4.5.2-octets-{slug}",
        level=level,
        clauses="5321-4.5.2-f",
        needs="rcpt maildir",
        security=misuse,
        sent=f"a body with {what}",
        requirement=f"A body arrives octet for octet ({what})",
        allowed=allowed,
    )(_octets)


@here.case(
    "4.5.2-octets-nul", level="IMPLIED", clauses="5321-4.5.2-f", needs="rcpt maildir",
    sent="a body with NULs, and lines behind them",
    requirement="A NUL in a body does not cut off what follows it",
    allowed={**KEPT, "refused": PASS, "changed": NON_STRICT},
    security="what a filter reads and what is delivered differ",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    text = b"one\0two\r\n\0\r\nthree\r\n"
    final = await talk.transact(talk.message(text + END))
    label, shown = await compared(talk, final, text + END)
    if label == "changed" and any(b"three" not in each for each in await talk.arrived()):
        return "cut", shown
    return label, shown


@here.case(
    "4.5.2-octets-blank-end",
    level="IMPLIED",
    clauses="5321-4.5.2-f",
    needs="rcpt maildir",
    sent="a body that ends in four blank lines",
    requirement="Blank lines at the end of a body are kept",
    allowed=TAKEN,
)
async def _(talk: Session) -> Seen:
    body = END + b"\r\n" * 4
    return await compared(talk, await talk.transact(talk.message(body)), body)


@here.case(
    "4.5.2-octets-empty-body", level="IMPLIED", clauses="5321-4.5.2-f", needs="rcpt maildir",
    sent="a header and no body", requirement="A message without a body arrives", allowed=TAKEN,
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return await compared(talk, await talk.transact(talk.message(b"")), b"")


@here.case(
    "4.5.2-octets-many-lines",
    level="IMPLIED",
    clauses="5321-4.5.2-f 5321-4.5.2-c",
    needs="rcpt maildir",
    sent="a body of lines of every length from 0 to 300, each with a dot in front",
    requirement="A body of many lines with dots arrives octet for octet",
    allowed=KEPT,
)
async def _(talk: Session) -> Seen:
    body = b"".join(b"." + b"z" * length + b"\r\n" for length in range(300)) + END
    return await compared(talk, await talk.transact(talk.message(body)), body)
