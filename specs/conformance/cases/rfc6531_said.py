"""RFC 6531 3.7: what a server with SMTPUTF8 says itself, in replies and in the trace."""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.model import INFO, NON_STRICT, PASS, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Stage

here = Section("6531")


# -- 3.7: what the server says --------------------------------------------------------------------


def ascii_only(reply: Reply) -> Seen:
    """Raises Refused if there is no reply."""
    saw = reply.octets.decode("utf-8", "backslashreplace").strip()
    if reply.kind not in ("reply", "garbage"):
        raise Refused("something that has a reply", reply)
    return ("ASCII" if reply.octets.isascii() else "not ASCII"), saw


@here.case(
    "3.7.1-ehlo-ascii",
    level="MUST",
    clauses="6531-3.7.1-b",
    requirement="The reply to EHLO has its domain in ASCII, perhaps in A-labels",
    sent="EHLO",
    allowed={"ASCII": PASS},
    keywords="SMTPUTF8",
)
async def _(talk: Session) -> Seen:
    return ascii_only(await talk.upto("ehlo"))


#: (name, stage before, line, needs).  No run is given an address that is forwarded, but one of
#: these may be: then its new address is told to a client that may know nothing of UTF-8.
FORWARDED: Final[tuple[tuple[str, Stage, str, str], ...]] = (
    ("rcpt", "mail", "RCPT TO:<{rcpt}>", "rcpt"),
    ("rcpt-second", "mail", "RCPT TO:<{rcpt2}>", "rcpt2"),
    ("rcpt-unknown", "mail", "RCPT TO:<{unknown}>", "unknown"),
    ("vrfy", "ehlo", "VRFY {rcpt}", "rcpt"),
    ("vrfy-unknown", "ehlo", "VRFY {unknown}", "unknown"),
)
for slug, stage, line, needs in FORWARDED:

    async def moved(talk: Session, stage: Stage = stage, line: str = line) -> Seen:
        await talk.upto(stage)
        reply = await talk.say(talk.fill(line))
        if reply.code not in ("251", "551"):
            raise NotApplicable("251 and 551")
        return ascii_only(reply)

    here.case(
        f"3.7.4.1-{slug}",
        level="MUST NOT",
        clauses="6531-3.7.4.1-a",
        requirement="A reply 251 or 551 names no mailbox in UTF-8 unless the client gave SMTPUTF8 "
        f"({line})",
        sent=f"({stage}) | {line}, without SMTPUTF8",
        allowed={"ASCII": PASS},
        keywords="SMTPUTF8",
        needs=needs,
    )(moved)

#: Commands with UTF-8 in them, none of which has the parameter: a server may repeat them.
ECHOES: Final[tuple[tuple[str, tuple[str, ...], str, str], ...]] = (
    ("mail", (), "MAIL FROM:<müller@client.conform.example>", ""),
    ("rcpt", ("MAIL FROM:<{sender}>",), "RCPT TO:<müller@{domain}>", "rcpt"),
    ("rcpt-domain", ("MAIL FROM:<{sender}>",), "RCPT TO:<ada@bücher.example>", ""),
    ("vrfy", (), "VRFY müller", ""),
    ("expn", (), "EXPN müller", ""),
    ("help", (), "HELP müller", ""),
    ("noop", (), "NOOP müller", ""),
    ("unknown-command", (), "XYZZY müller", ""),
    ("command-in-utf-8", (), "GRÜSSE", ""),
    ("parameter", (), "MAIL FROM:<{sender}> MÜLLER=1", ""),
    ("body", (), "MAIL FROM:<{sender}> BODY=MÜLLER", ""),
    ("ehlo", (), "EHLO müller.example", ""),
    ("after-rset", ("MAIL FROM:<{sender}> SMTPUTF8", "RSET"), "VRFY müller", ""),
    ("next-transaction", ("MAIL FROM:<{sender}> SMTPUTF8", "RSET", "MAIL FROM:<{sender}>"),
     "RCPT TO:<müller@{domain}>", "rcpt"),
)  # fmt: skip
for slug, before, line, needs in ECHOES:

    async def echo(talk: Session, before: tuple[str, ...] = before, line: str = line) -> Seen:
        await talk.upto("ehlo")
        for each in before:
            await talk.must(talk.fill(each))
        return ascii_only(await talk.say(talk.fill(line)))

    # 3.7.4.2 speaks of VRFY and EXPN; of other replies RFC 5321 says that they are ASCII (2.4).
    looked_up = "VRFY" in line or "EXPN" in line
    here.case(
        f"3.7.4.2-ascii-{slug}",
        level="MUST" if looked_up else "IMPLIED",
        clauses="6531-3.7.4.2-a 6531-3.7.4.2-b" if looked_up else "6531-3.7.4.2-b 5321-2.4-d",
        requirement="A reply has nothing but ASCII unless the client gave SMTPUTF8 for it "
        f"({line})",
        sent=" | ".join([*before, line]),
        allowed={"ASCII": PASS} | ({} if looked_up else {"not ASCII": NON_STRICT}),
        keywords="SMTPUTF8",
        needs=needs,
    )(echo)

#: With the parameter, a reply may have UTF-8, but nothing else.
WIDE: Final[tuple[tuple[str, bytes, str], ...]] = (
    ("well-formed", "RCPT TO:<müller@elsewhere.example>".encode(), "what is well-formed"),
    ("ill-formed", b"RCPT TO:<m\xfcller@elsewhere.example>", "what is not"),
)
for slug, octets, what in WIDE:

    async def wide(talk: Session, octets: bytes = octets) -> Seen:
        await talk.upto("ehlo")
        await talk.must(f"MAIL FROM:<{talk.given.sender}> SMTPUTF8")
        reply = await talk.say(octets)
        label, saw = ascii_only(reply)
        try:
            reply.octets.decode()
        except UnicodeDecodeError:
            return "ill-formed", saw
        return ("UTF-8" if label == "not ASCII" else label), saw

    here.case(
        f"3.7.4.2-reply-to-{slug}",
        level="MUST",
        clauses="6531-3.7.4.2-b",
        requirement=f"Where SMTPUTF8 was given a reply is well-formed UTF-8, also to {what}",
        sent=f"MAIL with SMTPUTF8 | {octets!r}",
        allowed={"ASCII": PASS, "UTF-8": PASS},
        keywords="SMTPUTF8",
    )(wide)

for verb in ("VRFY", "EXPN"):
    for slug, name, needs in (("utf-8", "müller", ""), ("known", "{rcpt}", "rcpt")):

        async def asks(talk: Session, verb: str = verb, name: str = name) -> Seen:
            await talk.upto("ehlo")
            plain = await talk.say(f"{verb} {talk.given.rcpt or 'postmaster'}")
            reply = await talk.say(talk.fill(f"{verb} {name} SMTPUTF8"))
            saw = f"without: {plain} | with SMTPUTF8: {reply}"
            for each in (plain, reply):
                if each.kind != "reply" or each.code == "421":
                    raise Refused(f"{verb} that has a reply", each)
            if not plain.positive:
                return "not answered at all", saw
            if reply.code in ("500", "501", "502", "504", "555"):
                return "not understood", saw
            if name == "{rcpt}" and not reply.positive:
                return "another answer", saw
            return "understood", saw

        here.case(
            f"3.7.4.2-{verb.lower()}-{slug}",
            level="IMPLIED",
            clauses="6531-3.7.4.2-a",
            requirement=f"{verb}, where it is answered at all, has SMTPUTF8 as a parameter",
            sent=f"{verb} {name} SMTPUTF8",
            allowed={"understood": PASS, "another answer": NON_STRICT, "not answered at all": INFO},
            keywords="SMTPUTF8",
            needs=needs,
        )(asks)

# -- 3.7.3: trace, and a whole transaction --------------------------------------------------------

#: "with UTF8SMTPSA", at the place of the protocol in a Received field (section 4.3).
PROTOCOL: Final = re.compile(rb"\swith\s+(UTF8(?:SMTP|LMTP)S?A?)(?=[\s;(])", re.IGNORECASE)


def trace(message: bytes) -> bytes:
    """All Received fields, unfolded, in one."""
    head = message.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    fields = re.sub(rb"\n(?=[ \t])", b"", head).split(b"\n")
    return b"\n".join(each for each in fields if each.lower().startswith(b"received:"))


for slug, parameter, allowed in (
    ("trace", "SMTPUTF8", {"UTF8SMTP": PASS, "another protocol": NON_STRICT, "refused": INFO}),
    ("trace-without", "", {"another protocol": PASS, "UTF8SMTP": NON_STRICT, "refused": INFO}),
):

    async def traced(talk: Session, parameter: str = parameter) -> Seen:
        final = await talk.transact(mail=parameter)
        if final.kind == "reply" and not final.positive:
            return "refused", str(final)
        found = await delivered(talk, final)
        field = trace(found[0])
        if not field:
            raise NotApplicable("a Received field")
        saw = field.decode("utf-8", "backslashreplace")
        if not parameter and not field.isascii():
            return "not ASCII", saw
        return ("UTF8SMTP" if PROTOCOL.search(field) else "another protocol"), saw

    here.case(
        f"3.7.3-{slug}",
        level="SHOULD",
        clauses="6531-3.7.3-a",
        requirement="The trace of mail with SMTPUTF8 names a protocol of the UTF8SMTP family; that "
        "of other mail does not, and is ASCII",
        sent=f"MAIL {parameter} | a message".replace("  ", " "),
        allowed=allowed,
        keywords="SMTPUTF8",
        needs="rcpt maildir",
        role="delivery",
    )(traced)
