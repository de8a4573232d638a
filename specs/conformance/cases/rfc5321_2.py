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

from specs.conformance.allowed import MAIL_TAKEN, NO_COMMAND, RCPT_TAKEN
from specs.conformance.keywords import KEYWORD, REGISTERED
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("5321")

# -- 2.2: extensions ----------------------------------------------------------------------------


@here.case(
    "2.2.1-helo-transaction", level="MUST", needs="rcpt",
    clauses="5321-2.2.1-a 5321-4.1.1.1-a 5321-4.5.1-b",
    requirement="A session that begins with HELO can carry a whole message",
    sent="HELO | MAIL | RCPT | DATA | message", allowed={"2yz": PASS, "4yz": INFO},
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


#: keyword, what is said for it; harmless without a transaction.  HELP, VRFY and EXPN: rfc5321_4_2.
VERBS = (
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

here.probe(
    "2.3.5-postmaster-from-null", level="MUST", clauses="5321-2.3.5-b",
    requirement="Postmaster without a domain is accepted for mail with an empty reverse-path, too",
    sent=["MAIL FROM:<>", "RCPT TO:<Postmaster>"], allowed=RCPT_TAKEN,
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

#: What might be taken for an end of line; between two commands: rfc5321_4_1_1.
NO_ENDS = (
    ("lf", b"\n", "a bare LF"), ("cr", b"\r", "a bare CR"), ("lf-cr", b"\n\r", "LF CR"),
    ("nul", b"\0", "a NUL"), ("vt", b"\v", "a vertical tab"), ("ff", b"\f", "a form feed"),
    ("nel", b"\x85", "the octet 85 (hex)"), ("u2028", b"\xe2\x80\xa8", "U+2028"),
)  # fmt: skip


def _no_end(slug: str, octets: bytes, name: str) -> None:
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


#: Each verb in any case: rfc5321_4_1_1_1 and those behind it.
for _slug, _line in (("mail", "mail FROM:<{sender}>"), ("from", "MAIL from:<{sender}>")):
    here.probe(
        f"2.4-case-{_slug}", level="MUST", clauses="5321-2.4-b",
        requirement="Verbs and the words FROM: and TO: have no case", sent=[_line],
        allowed=MAIL_TAKEN,
    )  # fmt: skip
for _slug, _keyword, _parameter in (
    ("body-value", "8BITMIME", "BODY=8bitMime"), ("ret", "DSN", "ret=hdrs"),
):  # fmt: skip
    here.probe(
        f"2.4-case-parameter-{_slug}", level="MUST", clauses="5321-2.4-b", keywords=_keyword,
        requirement=f"The parameter {_parameter} of MAIL is understood in any case",
        sent=[f"MAIL FROM:<{{sender}}> {_parameter}"], allowed=MAIL_TAKEN,
    )  # fmt: skip


@here.case(
    "2.4-case-rcpt-domain", level="MUST", clauses="5321-2.4-b", needs="rcpt",
    requirement="A recipient is accepted alike however its domain is written",
    sent="MAIL | RCPT as usual | RSET | MAIL | RCPT with the other case in the domain",
    allowed=RCPT_TAKEN,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("rcpt")
    await talk.must("RSET")
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    local, _, domain = talk.given.rcpt.rpartition("@")
    return await talk.say(f"RCPT TO:<{local}@{domain.swapcase()}>")


for _slug, _line in (("space", " NOOP"), ("tab", "\tNOOP"), ("many", "    NOOP")):
    here.probe(
        f"2.4-blank-before-verb-{_slug}", level="IMPLIED", clauses="5321-2.4-d",
        requirement="A blank before the verb is no part of the grammar", sent=[_line],
        allowed=NO_COMMAND | {"2yz": NON_STRICT},
    )  # fmt: skip


def _high_bit(slug: str, line: bytes) -> None:
    @here.case(
        f"2.4-high-bit-{slug}", level="IMPLIED", clauses="5321-2.4-f",
        requirement="A verb is not recognized by dropping the high bit of an octet",
        sent=repr(line)[2:-1], allowed=NO_COMMAND,
        security="a filter before the server sees another command",
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        return await talk.say(line)


_high_bit("noop", b"\xceOOP")
_high_bit("rset", b"RSE\xd4")
