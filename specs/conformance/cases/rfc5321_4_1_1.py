"""RFC 5321 4.1.1: what holds for every command: its line, its verb, the space behind it.

- A line ends in CRLF and in nothing else (2.3.8).  Whether something was taken for a line is seen
  by counting replies: every command has exactly one (4.2).
- White space before CRLF should be tolerated; nothing else of the grammar is relaxed.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.allowed import HUNG_UP, LENIENT, NO_COMMAND, SYNTAX_ERROR
from specs.conformance.asking import filled, going_on, octets, one_reply, readable
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session, Stage

here = Section("5321")

# -- white space before CRLF ----------------------------------------------------------------------

TRAILING: Final[tuple[tuple[str, Stage, str, str, str], ...]] = (
    ("noop", "ehlo", "NOOP ", "250", ""),
    ("noop-tab", "ehlo", "NOOP\t", "250", ""),
    ("noop-many", "ehlo", "NOOP        ", "250", ""),
    ("rset", "ehlo", "RSET ", "250", ""),
    ("quit", "ehlo", "QUIT ", "221", ""),
    ("ehlo", "greeting", "EHLO {hostname} ", "250", ""),
    ("helo", "greeting", "HELO {hostname} ", "250", ""),
    ("mail", "ehlo", "MAIL FROM:<{sender}> ", "250", ""),
    ("mail-tab", "ehlo", "MAIL FROM:<{sender}>\t", "250", ""),
    ("mail-null", "ehlo", "MAIL FROM:<> ", "250", ""),
    ("rcpt", "mail", "RCPT TO:<{rcpt}> ", "250", "rcpt"),
    ("data", "rcpt", "DATA ", "354", "rcpt"),
)
for slug, stage, line, code, needs in TRAILING:
    octets(
        here, f"4.1.1-trailing-space-{slug}", line.encode(), level="SHOULD", clauses="5321-4.1.1-a",
        requirement="White space between a command and its CRLF is tolerated",
        allowed={code: PASS, "5yz": NON_STRICT, "4yz": INFO}, upto=stage, needs=needs,
    )  # fmt: skip

# -- the verb, and what stands behind it ----------------------------------------------------------

for slug, line in (
    ("noopx", "NOOPX"), ("noo", "NOO"), ("no-op", "NO OP"), ("rsetx", "RSETX"),
    ("rset-hyphen", "RSET-ALL"), ("noop-colon", "NOOP:"),
    ("letter", "N"), ("helox", "HELOX a.example"),
    ("quitx", "QUITX"), ("datax", "DATAX"), ("number", "250 OK"), ("quoted", '"NOOP"'),
    ("comma", "NOOP,NOOP"), ("dot", "NOOP."), ("semicolon", "NOOP;"),
):  # fmt: skip
    here.probe(
        f"4.1.1-verb-{slug}", level="IMPLIED", sent=[line],
        clauses="5321-4.1.1-c 5321-2.4-d 5321-4.2.3-a 5321-4.2.4-a",
        requirement="A word that only resembles a verb is not taken for it",
        allowed={k: v for k, v in NO_COMMAND.items() if k not in HUNG_UP or line != "QUITX"},
    )  # fmt: skip

for slug, stage, line, needs in (
    ("mail", "ehlo", "MAILFROM:<{sender}>", ""),
    ("rcpt", "mail", "RCPTTO:<{rcpt}>", "rcpt"),
    ("ehlo", "greeting", "EHLO{hostname}", ""),
):
    here.probe(
        f"4.1.1-no-space-{slug}", level="IMPLIED", clauses="5321-4.1.1-c 5321-2.4-d",
        requirement="A verb without the space between it and its argument is a syntax error",
        sent=[line], allowed=LENIENT | HUNG_UP, upto=stage, needs=needs,
    )  # fmt: skip

for slug, stage, line, needs in (
    ("mail", "ehlo", "MAIL  FROM:<{sender}>", ""),
    ("mail-tab", "ehlo", "MAIL\tFROM:<{sender}>", ""),
    ("rcpt", "mail", "RCPT   TO:<{rcpt}>", "rcpt"),
    ("ehlo", "greeting", "EHLO  {hostname}", ""),
):
    octets(
        here, f"4.1.1-wide-space-{slug}", line.encode(), level="IMPLIED", clauses="5321-4.1.1-c",
        requirement="Between a verb and its argument stands one space",
        allowed=LENIENT, upto=stage, needs=needs,
    )  # fmt: skip

#: Of well-known extensions: EHLO keyword, line, stage.
UNOFFERED: Final[tuple[tuple[str, Stage, str], ...]] = (
    ("SIZE", "ehlo", "MAIL FROM:<{sender}> SIZE=1000"),
    ("8BITMIME", "ehlo", "MAIL FROM:<{sender}> BODY=8BITMIME"),
    ("BINARYMIME", "ehlo", "MAIL FROM:<{sender}> BODY=BINARYMIME"),
    ("SMTPUTF8", "ehlo", "MAIL FROM:<{sender}> SMTPUTF8"),
    ("DSN", "ehlo", "MAIL FROM:<{sender}> RET=HDRS"),
    ("AUTH", "ehlo", "MAIL FROM:<{sender}> AUTH=<>"),
    ("DELIVERBY", "ehlo", "MAIL FROM:<{sender}> BY=120;R"),
    ("MT-PRIORITY", "ehlo", "MAIL FROM:<{sender}> MT-PRIORITY=3"),
    ("REQUIRETLS", "ehlo", "MAIL FROM:<{sender}> REQUIRETLS"),
    ("FUTURERELEASE", "ehlo", "MAIL FROM:<{sender}> HOLDFOR=60"),
    ("DSN", "mail", "RCPT TO:<{rcpt}> NOTIFY=NEVER"),
    ("RRVS", "mail", "RCPT TO:<{rcpt}> RRVS=2014-04-03T23:01:00Z"),
)


def _unoffered(keyword: str, stage: Stage, line: str) -> None:
    verb = line[:4].lower()

    @here.case(
        f"4.1.1-unoffered-{verb}-{keyword.lower()}", level="SHOULD",
        clauses=f"5321-4.1.1-d 5321-4.1.1.11-{'a' if verb == 'mail' else 'b'}",
        requirement="A parameter of an extension that is not offered is refused",
        sent=f"{line}, where EHLO does not offer {keyword}", needs="rcpt" if verb == "rcpt" else "",
        allowed={"555": PASS, "501": PASS, "5yz": NON_STRICT, "250": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        if keyword in talk.features:
            raise NotApplicable(f"a server without {keyword}")
        await talk.upto(stage)
        return await talk.say(talk.fill(line))


for keyword, stage, line in UNOFFERED:
    _unoffered(keyword, stage, line)

# -- the end of a line ----------------------------------------------------------------------------

#: Two commands, with something between them that is no end of a line.
JOINED: Final[tuple[tuple[str, Stage, bytes, str], ...]] = (
    ("lf-noop", "ehlo", b"NOOP\nNOOP\r\n", ""),
    ("lf-rset", "ehlo", b"RSET\nRSET\r\n", ""),
    ("lf-vrfy", "ehlo", b"VRFY postmaster\nNOOP\r\n", ""),
    ("lf-mail-rcpt", "ehlo", b"MAIL FROM:<{sender}>\nRCPT TO:<{rcpt}>\r\n", "rcpt"),
    ("lf-rcpt-rcpt", "mail", b"RCPT TO:<{rcpt}>\nRCPT TO:<{rcpt}>\r\n", "rcpt"),
    ("lf-ehlo", "greeting", b"EHLO {hostname}\nMAIL FROM:<{sender}>\r\n", ""),
    ("lf-unknown", "ehlo", b"XNOTHING\nNOOP\r\n", ""),
    ("lfcr", "ehlo", b"NOOP\n\rNOOP\r\n", ""),
    ("cr-noop", "ehlo", b"NOOP\rNOOP\r\n", ""),
    ("cr-mail-rcpt", "ehlo", b"MAIL FROM:<{sender}>\rRCPT TO:<{rcpt}>\r\n", "rcpt"),
    ("cr-ehlo", "greeting", b"EHLO {hostname}\rMAIL FROM:<{sender}>\r\n", ""),
    ("nul-noop", "ehlo", b"NOOP\0NOOP\r\n", ""),
    ("nul-mail-rcpt", "ehlo", b"MAIL FROM:<{sender}>\0RCPT TO:<{rcpt}>\r\n", "rcpt"),
    ("crnul", "ehlo", b"NOOP\r\0NOOP\r\n", ""),
    ("vt", "ehlo", b"NOOP\x0bNOOP\r\n", ""),
    ("ff", "ehlo", b"NOOP\x0cNOOP\r\n", ""),
    ("nel", "ehlo", b"NOOP\x85NOOP\r\n", ""),
    ("utf8-nel", "ehlo", b"NOOP\xc2\x85NOOP\r\n", ""),
    ("utf8-ls", "ehlo", b"NOOP\xe2\x80\xa8NOOP\r\n", ""),
    ("semicolon", "ehlo", b"NOOP;NOOP\r\n", ""),
)


def _joined(slug: str, stage: Stage, line: bytes, needs: str) -> None:
    @here.case(
        f"4.1.1-joined-{slug}", level="MUST NOT", clauses="5321-2.3.8-a 5321bis-2.3.8-a",
        needs=needs, sent=f"({stage}) | {readable(line)}",
        requirement="Only CRLF ends a command: what else stands between two makes them no two",
        allowed={"one reply": PASS, "refused": PASS, "nothing carried out": NON_STRICT},
        security="a command can be hidden from what reads lines by their CRLF"
        if slug.startswith(("lf", "cr")) else "",
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto(stage)
        await talk.send(filled(talk, line))
        return await one_reply(talk)


for slug, stage, octet, needs in JOINED:
    _joined(slug, stage, octet, needs)


@here.case(
    "4.1.1-octet-by-octet", level="IMPLIED", clauses="5321-4.1.1.9-a 5321-2.3.8-a",
    requirement="A command that comes in many pieces, also CR and LF apart, is answered once",
    sent="NOOP CRLF, each octet in a segment of its own", allowed={"one reply": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    for each in b"NOOP\r":
        await talk.send(bytes([each]))
        early = await talk.unasked(0.02)
        if early.kind != "silent":
            return "too early", str(early)
    await talk.send(b"\n")
    return await one_reply(talk)


# -- what is no command at all --------------------------------------------------------------------

for slug, garbage in (
    ("nul-first", b"\0NOOP"), ("nul-inside", b"NO\0OP"), ("control", b"\x01\x02\x03\x1b[2J"),
    ("eight-bit", b"\xff\xfe\xfd"), ("eight-bit-behind", b"NOOP\xff"),
    ("percent", b"%s%s%s%n%n"), ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("telnet", b"\xff\xfb\x01\xff\xfd\x03"),
):  # fmt: skip
    octets(
        here, f"4.1.1-garbage-{slug}", garbage, level="IMPLIED", clauses="5321-4.1.1.10-a",
        requirement="What is no command is answered by a syntax error, on an open connection",
        allowed=NO_COMMAND,
    )  # fmt: skip

octets(
    here, "4.1.1-nul-behind", b"NOOP\0", level="IMPLIED", clauses="5321-4.1.1-c",
    requirement="A NUL behind a verb is no white space", allowed=SYNTAX_ERROR | {"250": NON_STRICT},
)  # fmt: skip
octets(
    here, "4.1.1-cr-behind", b"NOOP\r", level="IMPLIED", clauses="5321-4.1.1-a",
    requirement="A second CR before CRLF: a syntax error, or tolerated as white space",
    allowed=SYNTAX_ERROR | {"250": INFO},
)  # fmt: skip


@here.case(
    "4.1.1-empty-line", level="IMPLIED", clauses="5321-4.1.1.10-a",
    requirement="An empty line is a syntax error, and the session goes on", sent="CRLF | NOOP",
    allowed={"refused, then 250": PASS, "ignored, then 250": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    first = await talk.say("NOOP")
    await talk.send(b"\r\n")
    empty = going_on(await talk.unasked())
    after = going_on(await talk.say("NOOP"))
    if empty.kind == "silent" and after.kind == "reply" and after.code != "250":  # it was slow
        empty, after = after, going_on(await talk.reply())
    detail = f"{first} | {empty} | {after}"
    if after.code != "250" or (empty.kind == "reply" and empty.positive):
        return "otherwise", detail
    return ("ignored, then 250" if empty.kind == "silent" else "refused, then 250"), detail


@here.case(
    "4.1.1-garbage-pipelined", level="IMPLIED", clauses="5321-4.1.1.10-a", keywords="PIPELINING",
    requirement="Garbage between two commands has one reply of its own, and they have theirs",
    sent="NOOP | \\x00\\xff rubbish | NOOP, all at once",
    allowed={"250, refused, 250": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    await talk.send(b"NOOP\r\n\0\xff rubbish\r\nNOOP\r\n")
    found = await talk.replies(3)
    shown = ", ".join("refused" if each.code[:1] == "5" else each.label for each in found)
    return shown, ", ".join(str(each) for each in found)


octets(
    here, "4.1.1-http", b"GET / HTTP/1.1", level="IMPLIED", clauses="5321-4.1.1.10-a",
    requirement="A request of HTTP is an unknown command; hanging up on it is a known defence",
    allowed={"5yz": PASS, "221": INFO, "421": INFO, "closed": NON_STRICT}, upto="greeting",
    security="a browser can be made to send mail",
)  # fmt: skip


def _long(length: int) -> None:
    line = (b"NOOP    " * (length // 8 + 1))[: length - 2] + b"\r\n"  # one at each power of 2

    @here.case(
        f"4.1.1-long-line-{length}", level="IMPLIED", clauses="5321-4.1.1.9-a 5321-4.1.1.10-a",
        requirement="A line however long is one command and has one reply; the next is read afresh",
        sent=f"NOOP    NOOP    NOOP ... of {length} octets | QUIT",
        allowed={
            "one reply": PASS, "refused": PASS if length > 4096 else NON_STRICT,
            "nothing carried out": NON_STRICT,
        },
        security="the tail of a long line is carried out as a command",
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        await talk.send(line)
        return await one_reply(talk)


for length in (513, 1001, 2049, 4097, 8193, 70_000, 1_000_000):
    _long(length)
