"""RFC 5321 4.5.3, 4.5.4.2: sizes that every server must take, sizes that are too much, patience.

- A minimum is missed by a syntax error, or by the code for "too long", where the thing is valid.
  Any other refusal is policy: an odd address need not exist.
- What a server takes beyond the minimum is its own affair; too much must not become something else:
  no further commands, no cut text, no lost recipients.
- A path of 256 octets has a domain of 253 at most; the 255 of 4.5.3.1.2 fit only in EHLO, and no
  name of DNS is longer than 253 in text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from specs.conformance.arrivals import lost
from specs.conformance.asking import going_on
from specs.conformance.headers import lf, parts
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Observed, Reply, Seen, Verdict
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Stage

here = Section("5321")

#: All but "syntax error" and "path too long": it was read.
READ: Final[Mapping[str, Verdict]] = {
    "25z": PASS, "4yz": PASS, "503": PASS, "521": PASS, "53z": PASS, "550": PASS, "551": PASS,
    "552": NON_STRICT, "553": PASS, "554": PASS, "556": PASS,
}  # fmt: skip
TOO_LONG: Final[Mapping[str, Verdict]] = {"501": PASS, "5yz": INFO, "2yz": INFO, "4yz": INFO}


def name_of(length: int) -> str:
    """A domain of that length, with labels of 63 octets at most, under .example."""
    left = length - len(".example")
    labels = []
    while left > 0:
        size = min(left, 63)
        if left - size == 1:  # no room for a label behind the dot
            size -= 1
        labels.append("d" * size)
        left -= size + 1
    return ".".join(labels) + ".example"


# -- addresses ------------------------------------------------------------------------------------

LOCAL_64: Final = "l" * 64
ADDRESSES: Final[tuple[tuple[str, str, Stage, str, str, str], ...]] = (
    ("4.5.3.1.1-local-rcpt", "5321-4.5.3.1.1-a", "mail", f"RCPT TO:<{LOCAL_64}@{{domain}}>", "rcpt",
     "A local part of 64 octets is read in RCPT"),
    ("4.5.3.1.1-local-mail", "5321-4.5.3.1.1-a", "ehlo",
     f"MAIL FROM:<{LOCAL_64}@client.conform.example>", "",
     "A local part of 64 octets is read in MAIL"),
    ("4.5.3.1.1-local-dots", "5321-4.5.3.1.1-a", "mail", f"RCPT TO:<{'a.' * 31}bc@{{domain}}>",
     "rcpt",
     "A local part of 64 octets in 32 words is read"),
    ("4.5.3.1.1-local-quoted", "5321-4.5.3.1.1-a", "mail", f'RCPT TO:<"{"q" * 62}"@{{domain}}>',
     "rcpt",
     "A quoted local part of 64 octets is read"),
    ("4.5.3.1.2-domain-mail", "5321-4.5.3.1.2-a 5321-4.5.3.1.3-a", "ehlo",
     f"MAIL FROM:<a@{name_of(252)}>", "",
     "A domain of 252 octets, in a path of 256, is read in MAIL"),
    ("4.5.3.1.2-domain-rcpt", "5321-4.5.3.1.2-a 5321-4.5.3.1.3-a", "mail",
     f"RCPT TO:<a@{name_of(252)}>", "",
     "A domain of 252 octets, in a path of 256, is read in RCPT"),
    ("4.5.3.1.2-domain-ehlo", "5321-4.5.3.1.2-a", "greeting", f"EHLO {name_of(253)}", "",
     "A domain of 253 octets is read in EHLO"),
    ("4.5.3.1.2-domain-helo", "5321-4.5.3.1.2-a", "greeting", f"HELO {name_of(253)}", "",
     "A domain of 253 octets is read in HELO"),
    ("4.5.3.1.2-labels", "5321-4.5.3.1.2-a", "ehlo", f"MAIL FROM:<a@{'d.' * 122}example>", "",
     "A domain of 251 octets in 123 labels is read"),
    ("4.5.3.1.3-path-mail", "5321-4.5.3.1.3-a", "ehlo", f"MAIL FROM:<{LOCAL_64}@{name_of(189)}>",
     "",
     "A reverse-path of 256 octets is read"),
    ("4.5.3.1.3-path-rcpt", "5321-4.5.3.1.3-a", "mail", f"RCPT TO:<{LOCAL_64}@{name_of(189)}>", "",
     "A forward-path of 256 octets is read"),
)  # fmt: skip
for name, clauses, upto, line, needs, requirement in ADDRESSES:
    here.probe(
        name,
        level="MUST",
        clauses=f"{clauses} 5321-4.5.3.1-a",
        upto=upto,
        sent=[line],
        needs=needs,
        requirement=requirement,
        # That no mailbox here has a name in quotes is said by 501, too (as in 4.1.2).
        allowed={**READ, **({"501": NON_STRICT} if name.endswith("quoted") else {})},
    )
here.probe(
    "4.5.3.1.2-domain-255", level="MUST", clauses="5321-4.5.3.1.2-a", upto="greeting",
    sent=[f"EHLO {name_of(255)}"], requirement="A domain of 255 octets is read in EHLO",
    allowed={**READ, "501": NON_STRICT},
)  # fmt: skip
for slug, upto, line in (
    ("mail", "ehlo", f"MAIL FROM:<{'l' * 64}@{name_of(250)}>"),
    ("rcpt", "mail", f"RCPT TO:<{'l' * 64}@{name_of(250)}>"),
    ("local", "mail", f"RCPT TO:<{'l' * 200}@{{domain}}>"),
):
    stage: Stage = "mail" if upto == "mail" else "ehlo"
    here.probe(
        f"4.5.3.1.9-path-too-long-{slug}",
        level="IMPLIED",
        clauses="5321-4.5.3.1.9-a",
        upto=stage,
        sent=[line],
        requirement="A path or local part over the limit is taken, or refused with 501",
        allowed=TOO_LONG,
        needs="rcpt" if slug == "local" else "",
    )


# -- command lines --------------------------------------------------------------------------------

#: Whether arguments are taken is another question (4.1.1.9): a short line says how this one is.
for verb, argument in (("NOOP", "n" * 505), ("VRFY", "v" * 505)):

    async def _command(talk: Session, verb: str = verb, argument: str = argument) -> Seen:
        await talk.upto("ehlo")
        short = await talk.say(f"{verb} {argument[:9]}")
        reply = await talk.say(f"{verb} {argument}")
        if reply.kind != "reply":
            return reply.kind, f"{short}, then {reply}"
        if reply.label == short.label:
            return "as a short one", str(reply)
        return reply.label, f"{short}, then {reply}"

    here.case(
        f"4.5.3.1.4-{verb.lower()}", level="MUST", clauses="5321-4.5.3.1.4-a 5321-4.5.3.1-a",
        sent=f"{verb} with 9 octets, then with 505",
        requirement=f"A command line of 512 octets with its CRLF is read ({verb})",
        allowed={
            "as a short one": PASS, "25z": PASS, "4yz": PASS, "501": NON_STRICT, "502": PASS,
            "504": PASS, "53z": PASS, "55z": PASS,
        },
    )(_command)  # fmt: skip


@here.case(
    "4.5.3.1.4-after-it",
    level="MUST",
    clauses="5321-4.5.3.1.4-a",
    sent="VRFY with 505 octets, then NOOP",
    requirement="After a command line of 512 octets the next one is read afresh",
    allowed={"250": PASS},
)
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.say(f"VRFY {'v' * 505}")
    return await talk.say("NOOP")


for size in (513, 600, 1025, 2100, 5000, 20000, 70000):
    for slug, fill in (("words", b"QUIT DATA " * 8000), ("letters", b"x" * 80000)):

        async def _overlong(talk: Session, size: int = size, fill: bytes = fill) -> Seen:
            await talk.upto("ehlo")
            if not await talk.send(b"NOOP " + fill[: size - 7] + b"\r\n"):
                return "closed", ""
            first = await talk.reply()
            if first.kind != "reply":
                return first.kind, ""
            await talk.send(b"RSET\r\nQUIT\r\n" if "PIPELINING" in talk.features else b"QUIT\r\n")
            wanted = ["250", "221"] if "PIPELINING" in talk.features else ["221"]
            codes = [each.label for each in await talk.replies(len(wanted))]
            more = await talk.rest(2.0)
            shown = f"{first}, then {' '.join(codes)} {more[:100]!r}"
            if codes[:1] == ["closed"] or first.code == "421":
                return "ended", shown
            if codes != wanted or more:
                return "read as several commands", shown
            return ("500" if first.code == "500" else f"{first.code[0]}yz"), shown

        here.case(
            f"4.5.3.1.4-overlong-{size}-{slug}",
            level="IMPLIED",
            clauses="5321-4.5.3.1.4-b 5321-4.5.3.1.9-a",
            sent=f"NOOP with {size} octets of {slug}, RSET, QUIT",
            requirement="A command line that is too long gets one reply (500), and the next one"
            " is read"
            f" afresh ({size} octets of {slug})",
            allowed={
                "500": PASS,
                "2yz": PASS,
                "5yz": NON_STRICT,
                "4yz": NON_STRICT,
                "ended": NON_STRICT,
                "closed": NON_STRICT,
            },
            security="an argument is read as commands",
        )(_overlong)


# -- text lines -----------------------------------------------------------------------------------


async def text(talk: Session, body: bytes) -> Seen:
    """What became of a body."""
    final = await talk.transact(talk.message(body))
    if final.kind != "reply":
        return final.kind, ""
    if final.code != "250":
        return f"refused with {final.code[0]}yz", str(final)
    found = await talk.arrived()
    if not found:
        return await lost(talk)
    got, wanted = parts(found[0])[1].rstrip(b"\n"), lf(body).rstrip(b"\n")
    if got == wanted:
        return "kept", f"{len(wanted)} octets"
    # Sendmail breaks a line with "!", others with a space.
    whole = got.translate(None, b"\n !") == wanted.translate(None, b"\n !")
    longest = max(len(line) for line in got.split(b"\n"))
    shown = f"{len(got)} of {len(wanted)} octets, the longest line {longest}"
    return ("broken into lines" if whole else "cut or changed"), shown


NEEDED: Final[Mapping[str, Verdict]] = {"kept": PASS, "refused with 4yz": INFO}
for slug, what, long in (
    ("letters", "of 998 octets", b"x" * 998),
    ("words", "of 998 octets in words", b"word " * 199 + b"abc"),
    ("no-end-space", "of 998 octets that ends in a space", b"y" * 997 + b" "),
    ("dot", "of 998 octets that begins with a dot", b"." + b"z" * 997),
    ("many", "of 998 octets, 50 times", b"\r\n".join([b"m" * 998] * 50)),
):

    async def _line(talk: Session, long: bytes = long) -> Seen:
        return await text(talk, b"a\r\n" + long + b"\r\nb\r\n")

    here.case(
        f"4.5.3.1.6-line-{slug}", level="MUST", clauses="5321-4.5.3.1.6-a 5321-4.5.3.1-a",
        sent=f"a body with a line {what}", needs="rcpt maildir", allowed=NEEDED,
        requirement=f"A text line {what}, without CRLF, is taken and delivered as it is",
    )(_line)  # fmt: skip

for size in (999, 1000, 1001, 1024, 2047, 2048, 2049, 4096, 8191, 8192, 8193, 16384, 65536, 100000):

    async def _long(talk: Session, size: int = size) -> Seen:
        letters = b"abcdefghijklmnopqrstuvwxyz0123456789" * (size // 36 + 1)
        return await text(talk, b"a\r\n" + letters[:size] + b"\r\nb\r\n")

    here.case(
        f"4.5.3.1.6-overlong-{size}",
        level="IMPLIED",
        clauses="5321-4.5.3.1.6-b",
        needs="rcpt maildir",
        sent=f"a body with a line of {size} octets",
        requirement=f"A text line of {size} octets is refused, or delivered as it is, not cut",
        allowed={
            "kept": PASS,
            "refused with 5yz": PASS,
            "refused with 4yz": NON_STRICT,
            "broken into lines": NON_STRICT,
        },
        security="text is lost" if size > 2048 else "",
    )(_long)


@here.case(
    "4.5.3.1.6-overlong-hides-no-end",
    level="IMPLIED",
    clauses="5321-4.5.3.1.6-b",
    needs="rcpt maildir",
    sent="lines of many lengths, each of which ends in a dot",
    requirement="A dot behind a line that is too long for a buffer is not read as the end",
    allowed={
        "kept": PASS,
        "refused with 5yz": PASS,
        "refused with 4yz": NON_STRICT,
        "broken into lines": NON_STRICT,
    },
    security="content can end the message early",
)
async def _(talk: Session) -> Seen:
    sizes = [
        base + off for base in (998, 1000, 1024, 2048, 4096, 8192, 16384) for off in (-2, -1, 0, 1)
    ]
    return await text(talk, b"".join(b"e" * (size - 1) + b".\r\n" for size in sizes) + b"b\r\n")


# -- messages -------------------------------------------------------------------------------------

for slug, octets, level in (("64k", 65536, "MUST"), ("1m", 1 << 20, "IMPLIED")):
    needed: Level = "MUST" if level == "MUST" else "IMPLIED"

    async def _size(talk: Session, octets: int = octets) -> Seen:
        limit = await _limit(talk)
        if octets > 65536 and limit and limit < octets:
            return "over its limit", f"SIZE {limit}"
        left = octets - len(talk.message(b""))
        body = b"".join(b"%07d%s\r\n" % (at, b"s" * 55) for at in range(left // 64))
        body += b"r" * (left - len(body) - 2) + b"\r\n"
        return await text(talk, body)

    here.case(
        f"4.5.3.1.7-message-{slug}", level=needed, clauses="5321-4.5.3.1.7-a 5321-4.5.3.1-a",
        sent=f"a message of {octets} octets", needs="rcpt maildir",
        requirement=f"A message of {octets} octets is taken and delivered whole",
        allowed={
            **NEEDED,
            **({"over its limit": INFO, "refused with 5yz": INFO} if octets > 65536 else {}),
        },
    )(_size)  # fmt: skip


async def _limit(talk: Session) -> int:
    """What SIZE says; 0 if there is no limit, or none is told."""
    await talk.upto("ehlo")
    word = talk.features.get("SIZE", "")
    return int(word) if word.isascii() and word.isdigit() else 0


@here.case(
    "4.5.3.1.7-size-offered",
    level="SHOULD",
    clauses="5321-4.5.3.1.7-b",
    sent="EHLO",
    requirement="A server whose messages have a limit says so by SIZE (that there is none is"
    " allowed)",
    allowed={"offered": PASS, "not offered": INFO},
)
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    if "SIZE" not in talk.features:
        return "not offered", ""
    word = talk.features["SIZE"]
    return ("offered" if not word or (word.isascii() and word.isdigit()) else "no number"), word


@here.case(
    "4.5.3.1.7-size-minimum",
    level="MUST",
    clauses="5321-4.5.3.1.7-a",
    sent="EHLO",
    keywords="SIZE",
    requirement="The limit that SIZE tells is none, or at least 64 KiB",
    allowed={"enough": PASS},
)
async def _(talk: Session) -> Seen:
    limit = await _limit(talk)
    return ("enough" if limit == 0 or limit >= 65536 else "too small"), talk.features.get(
        "SIZE", ""
    )


@here.case(
    "4.5.3.1.9-message-too-big",
    level="IMPLIED",
    clauses="5321-4.5.3.1.9-a 5321-4.2.5-a",
    keywords="SIZE",
    sent="a message over the limit of SIZE, which was not announced (if that is 16 MiB at most)",
    requirement="A message over the limit is refused with 552 after its end, or taken whole",
    allowed={"552": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "2yz": INFO, "closed": NON_STRICT},
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    limit = await _limit(talk)
    if not 0 < limit <= 16 << 20:
        raise NotApplicable("SIZE of 16 MiB at most")
    await talk.upto("data")
    await talk.send(talk.message(b""))
    block = b"".join(b"%07d%s\r\n" % (at, b"s" * 55) for at in range(1024))
    for _at in range(limit // len(block) + 2):
        if not await talk.send(block):
            break
    await talk.send(b".\r\n")
    return await talk.reply()


# -- recipients -----------------------------------------------------------------------------------


def spelled(address: str, number: int) -> str:
    """The same mailbox, its domain in another mixture of capitals."""
    local, _, domain = address.rpartition("@")
    letters = [at for at, each in enumerate(domain) if each.isalpha()]
    chosen = {place for bit, place in enumerate(letters) if number >> bit & 1}
    return f"{local}@" + "".join(
        each.upper() if at in chosen else each for at, each in enumerate(domain)
    )


async def recipients(talk: Session, count: int) -> tuple[int, list[str]]:
    """So many RCPT for one mailbox: how many came before the first refusal, and all codes.  Raises
    Refused if the very first was refused, or if it ended before there were a hundred, for whatever
    reason.
    """
    found: list[Reply] = []
    batch = 50 if "PIPELINING" in talk.features else 1
    while len(found) < count:
        numbers = range(len(found), min(len(found) + batch, count))
        lines = "".join(f"RCPT TO:<{spelled(talk.given.rcpt, each)}>\r\n" for each in numbers)
        await talk.send(lines.encode())
        found += await talk.replies(len(numbers))
        if found[-1].label in ("closed", "silent", "flood", "421"):
            break
    codes = [each.label for each in found]
    refused = next((at for at, code in enumerate(codes) if code[:1] != "2"), len(codes))
    if not refused:  # not a question of number
        raise Refused("the first RCPT", found[0])
    if refused < min(len(found), 100) and going_on(found[refused], closed=True).kind == "silent":
        raise Refused("RCPT", found[refused])
    return refused, codes


for count, level, clause in (
    (99, "MUST NOT", "5321-4.5.3.1.8-b"),
    (100, "MUST", "5321-4.5.3.1.8-a"),
):
    word: Level = "MUST" if level == "MUST" else "MUST NOT"

    async def _recipients(talk: Session, count: int = count) -> Seen:
        await talk.upto("mail")
        taken, codes = await recipients(talk, count)
        if taken < count:
            return "too few", f"RCPT number {taken + 1} is answered {codes[taken]}"
        return "all", str(taken)

    here.case(
        f"4.5.3.1.8-recipients-{count}",
        level=word,
        clauses=f"{clause} 5321-4.5.3.1-a",
        needs="rcpt",
        sent=f"{count} RCPT for one mailbox, its domain in different capitals",
        requirement=f"A transaction may have {count} recipients",
        allowed={"all": PASS},
    )(_recipients)


@here.case(
    "4.5.3.1.8-recipients-message",
    level="MUST",
    clauses="5321-4.5.3.1.8-a",
    needs="rcpt maildir",
    sent="100 RCPT for one mailbox, then a message",
    requirement="A message for 100 recipients is taken, and arrives",
    allowed={"arrived": PASS, "4yz": INFO},
)
async def _(talk: Session) -> Observed | Seen:
    await talk.upto("mail")
    taken, codes = await recipients(talk, 100)
    if taken < 100:
        return "too few", f"RCPT number {taken + 1} is answered {codes[taken]}"
    talk.stage = "rcpt"
    await talk.upto("data")
    final = await talk.content(talk.message())
    if final.code != "250":
        return final
    found = await talk.arrived()
    return ("arrived", str(len(found))) if found else await lost(talk)


@here.case(
    "4.5.3.1.8-recipients-none-lost",
    level="MUST NOT",
    clauses="5321-4.5.3.1.8-c",
    sent="130 RCPT for one mailbox, RCPT for another one, and a message",
    needs="rcpt rcpt2 maildir maildir2",
    requirement="A recipient behind many others is refused, or gets the message; it is not"
    " forgotten",
    allowed={"refused": PASS, "arrived": PASS},
    security="mail is lost",
)
async def _(talk: Session) -> Seen:
    await talk.upto("mail")
    taken, _codes = await recipients(talk, 130)
    last = await talk.say(f"RCPT TO:<{talk.given.rcpt2}>")
    if not last.positive:
        return ("refused" if last.kind == "reply" else last.kind), f"{taken} taken, then {last}"
    talk.stage = "rcpt"
    await talk.upto("data")
    final = await talk.content(talk.message())
    if final.code[:1] in ("4", "5"):
        return "refused", str(final)
    shown = f"{taken} taken, {final}"
    if await talk.arrived(box=1):
        return "arrived", shown
    beside, marker = talk.another(), "z" + talk.token[1:]
    ordinary = beside.message().replace(talk.token.encode(), marker.encode())
    again = await beside.transact(ordinary, rcpts=[talk.given.rcpt2])
    if not await talk.arrived(box=1, token=marker):
        raise Refused("an ordinary message into the second mailbox", again)
    return "not delivered", shown


@here.case(
    "4.5.3.1.10-too-many",
    level="MUST",
    clauses="5321-4.5.3.1.10-a 5321-4.5.3.1.9-a 5321-4.5.3.1.8-c",
    keywords="PIPELINING",
    needs="rcpt",
    sent="1100 RCPT for one mailbox",
    requirement="Recipients over the limit are refused one by one with 452, and the others stay",
    allowed={
        "no limit met": INFO,
        "452": PASS,
        "4yz": NON_STRICT,
        "5yz": NON_STRICT,
        "ended": NON_STRICT,
    },
)
async def _(talk: Session) -> Seen:
    await talk.upto("mail")
    taken, codes = await recipients(talk, 1100)
    if taken == 1100:
        return "no limit met", ""
    if taken < 100:
        return "too few", f"RCPT number {taken + 1} is answered {codes[taken]}"
    over = codes[taken:]
    shown = f"{taken} taken, then {' '.join(sorted(set(over)))}"
    if over[-1] in ("closed", "421"):
        return "ended", shown
    return (over[0] if set(over) == {over[0]} else f"{over[0][0]}yz"), shown


# -- patience -------------------------------------------------------------------------------------

IDLE_S: Final = 299.0
for slug, stage_then in (
    ("greeting", "greeting"),
    ("ehlo", "ehlo"),
    ("mail", "mail"),
    ("rcpt", "rcpt"),
):
    begun: Stage = stage_then  # type: ignore[assignment]

    async def _idle(talk: Session, begun: Stage = begun) -> Seen:
        await talk.upto(begun)
        early = await talk.unasked(IDLE_S)
        if early.kind != "silent":
            return "ended", str(early)
        reply = await talk.say("NOOP")
        return ("waited" if reply.kind == "reply" and reply.code != "421" else "ended"), str(reply)

    here.case(
        f"4.5.3.2.7-idle-{slug}",
        level="SHOULD",
        clauses="5321-4.5.3.2.7-a",
        slow=True,
        sent=f"({slug}) nothing for 299 s, then NOOP",
        needs="rcpt" if slug == "rcpt" else "",
        requirement=f"The server waits 5 minutes for the next command ({slug})",
        allowed={"waited": PASS, "ended": NON_STRICT},
    )(_idle)


@here.case(
    "4.5.3.2.7-slow-content",
    level="SHOULD",
    clauses="5321-4.5.3.2.7-a",
    slow=True,
    needs="rcpt",
    sent="half a message, nothing for 170 s, the rest",
    requirement="The server waits 3 minutes for the next piece of content, as long as a client"
    " may be slow",
    allowed={"2yz": PASS, "ended": NON_STRICT, "4yz": NON_STRICT},
)
async def _(talk: Session) -> Observed | Seen:
    await talk.upto("data")
    await talk.send(talk.message(b"one\r\n"))
    early = await talk.unasked(170.0)
    if early.kind != "silent":
        return "ended", str(early)
    await talk.send(b"two\r\n.\r\n")
    reply = await talk.reply()
    return ("ended", str(reply)) if reply.label in ("closed", "421") else reply


# -- sessions at a time ---------------------------------------------------------------------------

for count in (2, 10):

    async def _together(talk: Session, count: int = count) -> Seen:
        every = [talk, *(talk.another() for _ in range(count - 1))]
        ready: list[int] = []

        async def begin(at: int, one: Session) -> None:
            await one.connect()
            if (await one.reply()).code == "220":
                ready.append(at)

        async with trio.open_nursery() as nursery:
            for at, one in enumerate(every):
                nursery.start_soon(begin, at, one)
        answered = 0
        for at in ready:
            answered += (await every[at].say(f"EHLO {talk.given.hostname}")).code == "250"
        return ("together" if answered == count else "not together"), f"{answered} of {count}"

    here.case(
        f"4.5.4.2-sessions-{count}", level="SHOULD", clauses="5321-4.5.4.2-a", alone=True,
        sent=f"{count} connections at a time, then EHLO on each",
        requirement=f"The server serves {count} sessions at a time",
        allowed={"together": PASS, "not together": NON_STRICT if count == 2 else INFO},
    )(_together)  # fmt: skip
