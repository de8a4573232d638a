"""RFC 5321 section 2: the extension model, names in addresses, and the general syntax.

Tricky
- Postmaster without a domain is the only recipient that may lack one (2.3.5).
- Whether a bare LF or CR ended a command is seen by counting replies up to the 221 of a QUIT behind
  it.  How mail data ends is another file's (4.1.1.4).
- The registry of keywords grows, since RFC 5321bis at anybody's request: a keyword that we do not
  know is no fail.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

#: Of the IANA registry of SMTP service extensions (May 2025).
REGISTERED: Final = (
    "8BITMIME", "ATRN", "AUTH", "BINARYMIME", "BURL", "CHECKPOINT", "CHUNKING", "CONNEG", "CONPERM",
    "DELIVERBY", "DSN", "ENHANCEDSTATUSCODES", "ETRN", "EXPN", "FUTURERELEASE", "HELP", "LIMITS",
    "MT-PRIORITY", "MTRK", "NO-SOLICITING", "ONEX", "PIPELINING", "REQUIRETLS", "RRVS", "SAML",
    "SEND", "SIZE", "SMTPUTF8", "SOML", "STARTTLS", "SUBMITTER", "TURN", "UTF8SMTP", "VERB", "VRFY",
)  # fmt: skip
KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")

# -- 2.2: extensions ----------------------------------------------------------------------------

here.probe(
    "2.2.1-ehlo", level="MUST", clauses="5321-2.2.1-a", upto="greeting",
    requirement="EHLO is understood and answered 250", sent=["EHLO {hostname}"],
    allowed={"250": PASS},
)  # fmt: skip
here.probe(
    "2.2.1-helo", level="MUST", clauses="5321-2.2.1-a", upto="greeting",
    requirement="HELO, the older way to begin, is answered 250", sent=["HELO {hostname}"],
    allowed={"250": PASS},
)  # fmt: skip


@here.case(
    "2.2.1-helo-transaction", level="MUST", clauses="5321-2.2.1-a", needs="rcpt",
    requirement="A session that begins with HELO can carry a whole message",
    sent="HELO | MAIL | RCPT | DATA | message", allowed={"2yz": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.another().upto("rcpt")  # the same sender and recipient, after EHLO: no policy
    await talk.upto("greeting")
    for line in ("HELO {hostname}", "MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA"):
        reply = await talk.say(talk.fill(line))
        if not reply.positive:
            return reply.label, f"{line}: {reply}"
    return await talk.content(talk.message())


@here.case(
    "2.2.2-keywords", level="MUST", clauses="5321-2.2.2-b",
    requirement="Every keyword of the EHLO reply is well formed, and registered or begins with X",
    sent="EHLO", allowed={"registered or X": PASS, "not known as registered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    words = [each.partition("=")[0] if each.startswith("AUTH=") else each for each in talk.features]
    local = [each for each in words if not each.startswith("X")]
    malformed = [each for each in local if not KEYWORD.match(each)]
    unknown = [each for each in local if each not in REGISTERED]
    if malformed:
        return "malformed", " ".join(malformed)
    return ("not known as registered", " ".join(unknown)) if unknown else ("registered or X", "")


#: keyword, what is said for it; harmless without a transaction.
VERBS = (
    ("VRFY", "VRFY postmaster"), ("EXPN", "EXPN postmaster"), ("HELP", "HELP"),
    ("ETRN", "ETRN {hostname}"), ("STARTTLS", "STARTTLS"), ("AUTH", "AUTH X-NO-SUCH-MECHANISM"),
    ("CHUNKING", "BDAT 0 LAST"), ("ATRN", "ATRN"), ("TURN", "TURN"),
    ("BURL", "BURL imap://imap.example/x LAST"), ("SEND", "SEND FROM:<{sender}>"),
    ("SOML", "SOML FROM:<{sender}>"), ("SAML", "SAML FROM:<{sender}>"),
)  # fmt: skip


def _offered(keyword: str, line: str) -> None:
    @here.case(
        f"2.2.2-offered-{keyword.lower()}", level="MUST NOT", clauses="5321-2.2.2-c",
        requirement=f"A server that offers {keyword} does not answer its verb as unknown",
        sent=f"(ehlo) | {line}", keywords=keyword,
        allowed={"known": PASS, "closed": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        reply = await talk.say(talk.fill(line))
        if reply.kind != "reply":
            return reply.label, ""
        return "unknown" if reply.code in ("500", "502") else "known", str(reply)


for _keyword, _line in VERBS:
    _offered(_keyword, _line)

# -- 2.3.5: names -------------------------------------------------------------------------------

for _slug, _written in (
    ("capital", "Postmaster"), ("lower", "postmaster"), ("upper", "POSTMASTER"),
    ("mixed", "pOsTmAsTeR"),
):  # fmt: skip
    here.probe(
        f"2.3.5-postmaster-{_slug}", level="MUST", clauses="5321-2.3.5-b", upto="mail",
        requirement=f"The recipient {_written}, without a domain, is accepted",
        sent=[f"RCPT TO:<{_written}>"], allowed={"2yz": PASS, "4yz": INFO},
    )  # fmt: skip
here.probe(
    "2.3.5-postmaster-from-null", level="MUST", clauses="5321-2.3.5-b",
    requirement="Postmaster without a domain is accepted for mail with an empty reverse-path, too",
    sent=["MAIL FROM:<>", "RCPT TO:<Postmaster>"], allowed={"2yz": PASS, "4yz": INFO},
)  # fmt: skip
here.probe(
    "2.3.5-other-name-without-domain", level="IMPLIED", clauses="5321-2.3.5-b", upto="mail",
    requirement="No name but Postmaster may be a recipient without a domain",
    sent=["RCPT TO:<{token}>"], allowed={"5yz": PASS, "4yz": INFO, "2yz": NON_STRICT},
)  # fmt: skip


@here.case(
    "2.3.5-short-domain", level="MUST NOT", clauses="5321-2.3.5-c", needs="rcpt unknown",
    requirement="A domain that is only the first label of a local one is not taken as a full name",
    sent="RCPT to the mailbox at the first label of its domain",
    allowed={"5yz": PASS, "4yz": INFO, "2yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("mail")
    local, _, domain = talk.given.rcpt.rpartition("@")
    return await talk.say(f"RCPT TO:<{local}@{domain.partition('.')[0]}>")


# -- 2.3.8: lines -------------------------------------------------------------------------------

#: What might be taken for an end of line, between two commands.
NO_ENDS = (
    ("lf", b"\n", "a bare LF"), ("cr", b"\r", "a bare CR"), ("lf-cr", b"\n\r", "LF CR"),
    ("nul", b"\0", "a NUL"), ("vt", b"\v", "a vertical tab"), ("ff", b"\f", "a form feed"),
    ("nel", b"\x85", "the octet 85 (hex)"), ("u2028", b"\xe2\x80\xa8", "U+2028"),
)  # fmt: skip


def _no_end(slug: str, octets: bytes, name: str) -> None:
    @here.case(
        f"2.3.8-two-commands-{slug}", level="MUST NOT", clauses="5321-2.3.8-a 5321bis-2.3.8-a",
        requirement=f"A second command behind {name} in one line is not executed",
        sent=f"NOOP | {name} | NOOP CRLF, then QUIT CRLF",
        security="a proxy or filter before the server sees one command where the server sees two",
        allowed={"one line": PASS, "both refused": PASS, "closed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        await talk.send(b"NOOP" + octets + b"NOOP\r\n")
        found = [await talk.reply()]
        await talk.send(b"QUIT\r\n")
        while found[-1].kind == "reply" and found[-1].code not in ("221", "421"):
            found.append(await talk.reply())
        seen = " | ".join(str(each) for each in found)
        if any(each.code[:1] == "2" for each in found[1:] if each.code != "221"):
            return "second executed", seen
        if found[-1].code not in ("221", "421"):
            return found[-1].label, seen
        return ("both refused" if len(found) > 2 else "one line"), seen

    @here.case(
        f"2.3.8-command-ends-in-{slug}", level="MUST NOT",
        clauses="5321-2.3.8-a 5321bis-2.3.8-a",
        requirement=f"A command that ends in {name} alone is not executed before CRLF comes",
        sent=f"NOOP | {name}, and nothing; then CRLF",
        allowed={"waits": PASS, "refused at once": PASS, "closed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        await talk.send(b"NOOP" + octets)
        early = await talk.unasked()
        if early.kind == "silent":
            await talk.send(b"\r\n")
            late = await talk.reply()
            return ("waits" if late.kind in ("reply", "closed") else late.label), str(late)
        if early.kind == "reply":
            return "executed" if early.code[0] == "2" else "refused at once", str(early)
        return early.label, ""


for _slug, _octets, _name in NO_ENDS:
    _no_end(_slug, _octets, _name)


@here.case(
    "2.3.8-no-action-before-crlf", level="MUST NOT", clauses="5321-2.3.8-a",
    requirement="A command is answered when its end has come, and not before",
    sent="NOO, nothing for a while, P CRLF", allowed={"250 at its end": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    await talk.send(b"NOO")
    early = await talk.unasked()
    if early.kind != "silent":
        return "too early", str(early)
    reply = await talk.say("P")
    return "250 at its end" if reply.code == "250" else reply.label, str(reply)


@here.case(
    "2.3.8-cr-and-lf-apart", level="MUST NOT", clauses="5321-2.3.8-a",
    requirement="A CRLF whose CR and LF come one after the other ends a command like any other",
    sent="NOOP CR, nothing for a while, LF", allowed={"250 at its end": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    await talk.send(b"NOOP\r")
    early = await talk.unasked()
    if early.kind != "silent":
        return "too early", str(early)
    await talk.send(b"\n")
    reply = await talk.reply()
    return "250 at its end" if reply.code == "250" else reply.label, str(reply)


@here.case(
    "2.3.8-octet-by-octet", level="MUST NOT", clauses="5321-2.3.8-a",
    requirement="Commands that come octet by octet are understood",
    sent="NOOP CRLF and RSET CRLF, each octet sent alone", allowed={"250 250": PASS},
)  # fmt: skip
async def _(talk: Session) -> str:
    await talk.upto("ehlo")
    for each in b"NOOP\r\nRSET\r\n":
        await talk.send(bytes([each]))
    return " ".join(each.label for each in await talk.replies(2))


#: What a reply may repeat; CR or LF in it would make a reply line of the client's choice.
ECHOED = (
    ("unknown-cr", b"XYZZY\r250 made up"), ("unknown-lf", b"XYZZY\n250 made up"),
    ("vrfy-cr", b"VRFY a\r250 made up"), ("ehlo-cr", b"EHLO a\r250-made.up"),
    ("mail-cr", b"MAIL FROM:<a\r250 made up@client.example>"), ("vrfy-nul", b"VRFY a\x00b"),
)  # fmt: skip


def _echo(slug: str, line: bytes) -> None:
    @here.case(
        f"2.3.8-reply-{slug}", level="IMPLIED", clauses="5321-2.3.8-a",
        requirement="No reply has a bare CR, a bare LF or a NUL in it, whatever the command had",
        sent=repr(line)[2:-1] + " CRLF",
        security="a client's octets become a reply line that the server never meant",
        allowed={"clean": PASS, "closed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("ehlo")
        reply = await talk.say(line)
        if reply.kind != "reply":
            return reply.label, repr(reply.octets)
        text = reply.octets.replace(b"\r\n", b"")
        controls = (("CR", b"\r"), ("LF", b"\n"), ("NUL", b"\0"))
        bad = [name for name, octet in controls if octet in text]
        return (f"bare {bad[0]}" if bad else "clean"), repr(reply.octets)


for _slug, _octets in ECHOED:
    _echo(_slug, _octets)

# -- 2.4: characters, case, blanks --------------------------------------------------------------


@here.case(
    "2.4-eight-bit-after-helo", level="MAY", clauses="5321-2.4-a", needs="rcpt",
    requirement="8-bit content in a session without extensions may be refused or taken",
    sent="HELO | MAIL | RCPT | DATA | message with the octet E9 (hex) in its body",
    allowed={"2yz": INFO, "4yz": INFO, "5yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("greeting")
    await talk.must(f"HELO {talk.given.hostname}")
    talk.stage = "ehlo"
    return await talk.transact(talk.message(b"caf\xe9\r\n"))


@here.case(
    "2.4-eight-bit-delivered", level="MAY", clauses="5321-2.4-a", role="delivery",
    needs="rcpt maildir",
    requirement="8-bit content that was accepted without an extension arrives as it was, or cut to "
    "seven bits, or is returned",
    sent="HELO | MAIL | RCPT | DATA | message with the octet E9 (hex) in its body",
    allowed={"kept": INFO, "stripped": INFO, "encoded": INFO, "refused": INFO,
             "not delivered": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("greeting")
    await talk.must(f"HELO {talk.given.hostname}")
    talk.stage = "ehlo"
    reply = await talk.transact(talk.message(b"begin caf\xe9 end\r\n"))
    if not reply.positive:
        return "refused", str(reply)
    found = await talk.arrived()
    if not found:
        return "not delivered", ""
    for label, octets in (("kept", b"begin caf\xe9 end"), ("stripped", b"begin cafi end")):
        if octets in found[0]:
            return label, ""
    coded = re.search(rb"(?im)^content-transfer-encoding:\s*(quoted-printable|base64)", found[0])
    return ("encoded" if coded else "changed"), repr(found[0][-120:])


for _slug, _line, _code in (
    ("ehlo", "ehlo {hostname}", "250"), ("ehlo-mixed", "eHlO {hostname}", "250"),
    ("helo", "hElO {hostname}", "250"), ("ehlo-domain", "EHLO CLIENT.Conform.EXAMPLE", "250"),
):  # fmt: skip
    here.probe(
        f"2.4-case-{_slug}", level="MUST", clauses="5321-2.4-b", upto="greeting",
        requirement="The verb and the domain that open a session have no case",
        sent=[_line], allowed={_code: PASS},
    )  # fmt: skip
for _slug, _line, _code in (
    ("noop", "noop", "250"), ("rset", "rSeT", "250"), ("quit", "quit", "221"),
    ("mail", "mail FROM:<{sender}>", "2yz"), ("from", "MAIL from:<{sender}>", "2yz"),
    ("mail-null", "mAiL fRoM:<>", "2yz"),
):  # fmt: skip
    here.probe(
        f"2.4-case-{_slug}", level="MUST", clauses="5321-2.4-b",
        requirement="Verbs and the words FROM: and TO: have no case", sent=[_line],
        allowed={_code: PASS} | ({"4yz": INFO} if _code == "2yz" else {}),
    )  # fmt: skip
for _slug, _keyword, _parameter in (
    ("size", "SIZE", "size=1000"), ("body-keyword", "8BITMIME", "body=8BITMIME"),
    ("body-value", "8BITMIME", "BODY=8bitMime"), ("ret", "DSN", "ret=hdrs"),
):  # fmt: skip
    here.probe(
        f"2.4-case-parameter-{_slug}", level="MUST", clauses="5321-2.4-b", keywords=_keyword,
        requirement=f"The parameter {_parameter} of MAIL is understood in any case",
        sent=[f"MAIL FROM:<{{sender}}> {_parameter}"], allowed={"2yz": PASS, "4yz": INFO},
    )  # fmt: skip


def _recipient_case(slug: str, about: str, line: str) -> None:
    @here.case(
        f"2.4-case-{slug}", level="MUST", clauses="5321-2.4-b", needs="rcpt",
        requirement=f"A recipient is accepted alike however {about} is written",
        sent=f"MAIL | RCPT as usual, then {line}", allowed={"2yz": PASS, "4yz": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("rcpt")
        await talk.must("RSET")
        await talk.must(f"MAIL FROM:<{talk.given.sender}>")
        local, _, domain = talk.given.rcpt.rpartition("@")
        return await talk.say(line.replace("{local}", local).replace("{DOMAIN}", domain.swapcase()))


_recipient_case("rcpt", "the verb", "rcpt tO:<{local}@{DOMAIN}>")
_recipient_case("rcpt-domain", "its domain", "RCPT TO:<{local}@{DOMAIN}>")


@here.case(
    "2.4-case-data", level="MUST", clauses="5321-2.4-b", needs="rcpt",
    requirement="DATA is understood in small letters", sent="(rcpt) | data | message",
    allowed={"2yz": PASS, "4yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    reply = await talk.say("data")
    return await talk.content(talk.message()) if reply.code == "354" else reply


@here.case(
    "2.4-case-vrfy", level="MUST", clauses="5321-2.4-b",
    requirement="VRFY in small letters is answered as VRFY in capitals is",
    sent="VRFY postmaster | vrfy postmaster", allowed={"alike": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await talk.upto("ehlo")
    upper, lower = await talk.say("VRFY postmaster"), await talk.say("vrfy postmaster")
    return "alike" if upper.label == lower.label else "differs", f"{upper} | {lower}"


for _slug, _line in (("space", " NOOP"), ("tab", "\tNOOP"), ("many", "    NOOP")):
    here.probe(
        f"2.4-blank-before-verb-{_slug}", level="IMPLIED", clauses="5321-2.4-d",
        requirement="A blank before the verb is no part of the grammar", sent=[_line],
        allowed={"5yz": PASS, "2yz": NON_STRICT},
    )  # fmt: skip

#: Not verbs: what is answered as if it were one.
NEAR = (
    ("longer", "NOOPS"), ("shorter", "NOO"), ("abbreviated", "N"), ("glued", "NOOP,NOOP"),
    ("dotted", "NOOP."), ("quoted", '"NOOP"'), ("semicolon", "NOOP;"),
)  # fmt: skip
for _slug, _line in NEAR:
    here.probe(
        f"2.4-near-verb-{_slug}", level="IMPLIED", clauses="5321-2.4-d",
        requirement=f"{_line} is not taken for NOOP", sent=[_line],
        allowed={"5yz": PASS, "221": NON_STRICT, "closed": NON_STRICT},
    )  # fmt: skip
for _slug, _line in (("mail", "MAILFROM:<{sender}>"), ("ehlo", "EHLO{hostname}")):
    here.probe(
        f"2.4-no-space-{_slug}", level="IMPLIED", clauses="5321-2.4-d",
        requirement="A verb without a space before its argument is not that verb", sent=[_line],
        allowed={"5yz": PASS, "2yz": NON_STRICT},
    )  # fmt: skip


def _eight_bit(slug: str, about: str, line: bytes) -> None:
    @here.case(
        f"2.4-eight-bit-{slug}", level="SHOULD", clauses="5321-2.4-e",
        requirement=f"Octets above 127 in {about} are refused when SMTPUTF8 was not asked for",
        sent=f"(before it, what is needed) | {repr(line)[2:-1]}",
        allowed={"5yz": PASS, "4yz": INFO, "2yz": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("mail" if line.startswith(b"RCPT") else "ehlo")
        domain = talk.given.domain or "conform.example"
        return await talk.say(line.replace(b"{domain}", domain.encode()))


for _slug, _about, _octets in (
    ("mail-latin", "the local part of MAIL", b"MAIL FROM:<caf\xe9@client.conform.example>"),
    ("mail-utf8", "the local part of MAIL", b"MAIL FROM:<caf\xc3\xa9@client.conform.example>"),
    ("mail-domain", "the domain of MAIL", b"MAIL FROM:<cafe@caf\xc3\xa9.example>"),
    ("mail-quoted", "a quoted local part of MAIL", b'MAIL FROM:<"caf\xe9"@client.conform.example>'),
    ("rcpt-latin", "the local part of RCPT", b"RCPT TO:<caf\xe9@{domain}>"),
    ("rcpt-utf8", "the local part of RCPT", b"RCPT TO:<caf\xc3\xa9@{domain}>"),
    ("ehlo", "the argument of EHLO", b"EHLO caf\xc3\xa9.example"),
):
    _eight_bit(_slug, _about, _octets)


def _high_bit(slug: str, line: bytes) -> None:
    @here.case(
        f"2.4-high-bit-{slug}", level="IMPLIED", clauses="5321-2.4-f",
        requirement="A verb is not recognized by dropping the high bit of an octet",
        sent=repr(line)[2:-1] + " CRLF", allowed={"5yz": PASS, "closed": NON_STRICT},
        security="a filter before the server sees another command",
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        return await talk.say(line)


_high_bit("noop", b"\xceOOP")
_high_bit("rset", b"RSE\xd4")
