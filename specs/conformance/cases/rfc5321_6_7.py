"""RFC 5321 sections 6 and 7: responsibility for mail, loops, irregular mail, disclosure, attacks.

Tricky
- That mail outlives a crash of the server cannot be seen from outside; that what was accepted
  arrives, can.
- A server that does not count Received fields may detect loops in another way (6.3), and mail for
  its own mailboxes is in no loop: to accept such a message is no fail.
- That a report has not come when patience ends proves nothing, unless one for another did come.
- 7.3 is in rfc5321_3_verifying.py, 7.9 in rfc5321_3_relaying.py.
"""

from __future__ import annotations

import re

import trio

from specs.conformance.arrivals import lost, other_token, settled
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("5321")

# -- 6.1: what was accepted arrives ---------------------------------------------------------------


@here.case(
    "6.1-accepted-arrives", level="MUST", clauses="5321-6.1-a 5321-6.1-d", role="delivery",
    needs="rcpt maildir",
    requirement="A message that was accepted is delivered, once and with its content",
    sent="a whole transaction, then QUIT", allowed={"delivered": PASS, "twice": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await _accepted(talk, talk.message("first line\r\nsecond line\r\n"))
    await talk.say("QUIT")
    return await _once(talk, b"first line", b"second line")


@here.case(
    "6.1-accepted-then-dropped", level="MUST", clauses="5321-6.1-a 5321-6.1-d", role="delivery",
    needs="rcpt maildir",
    requirement="A message that was accepted is delivered although no QUIT follows it",
    sent="a whole transaction, then the connection is closed",
    allowed={"delivered": PASS, "twice": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await _accepted(talk, talk.message("first line\r\nsecond line\r\n"))
    await talk.close()
    return await _once(talk, b"first line", b"second line")


@here.case(
    "6.1-accepted-then-reset", level="MUST", clauses="5321-6.1-a 5321-6.1-d", role="delivery",
    needs="rcpt maildir",
    requirement="A message that was accepted is delivered although RSET and a transaction that is "
    "given up follow",
    sent="a whole transaction, RSET, MAIL, RCPT, RSET, QUIT",
    allowed={"delivered": PASS, "twice": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await _accepted(talk, talk.message("first line\r\nsecond line\r\n"))
    for line in ("RSET", "MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "RSET", "QUIT"):
        await talk.say(talk.fill(line))
    return await _once(talk, b"first line", b"second line")


@here.case(
    "6.1-each-recipient", level="MUST", clauses="5321-6.1-a 5321-6.1-d", role="delivery",
    needs="rcpt rcpt2 maildir maildir2",
    requirement="A message for two recipients that were both accepted arrives at both",
    sent="MAIL | RCPT | RCPT | DATA | message", allowed={"both": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    given = talk.given
    await _accepted(talk, rcpts=(given.rcpt, given.rcpt2))
    for box in range(2):
        if not await talk.arrived(box=box):
            return await lost(talk, box)
    return "both", ""


@here.case(
    "6.1-several", level="MUST", clauses="5321-6.1-d", role="delivery", needs="rcpt maildir",
    requirement="All of several messages that were accepted in one session arrive",
    sent="five transactions on one connection", allowed={"all": PASS, "more": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    for number in range(5):
        await _accepted(talk, _numbered(talk, number))
    found = await settled(talk, 5)
    there = {each for each in range(5) if any(b"number %d.\r" % each in _crlf(m) for m in found)}
    if len(there) < 5:
        return "some are missing", f"{len(there)} of 5"
    return ("all" if len(found) == 5 else "more"), f"{len(found)} copies"


@here.case(
    "6.1-several-at-once", level="MUST", clauses="5321-6.1-d", role="delivery",
    needs="rcpt maildir",
    requirement="All messages that were accepted over connections at the same time arrive",
    sent="four transactions on four connections", allowed={"all": PASS, "more": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    others = [talk.another() for _ in range(4)]
    for each in others:
        await each.upto("data")
    for number, each in enumerate(others):
        reply = await each.content(_numbered(talk, number))
        if not reply.positive:
            raise Refused("a message", reply)
    found = await settled(talk, 4)
    there = {each for each in range(4) if any(b"number %d.\r" % each in _crlf(m) for m in found)}
    if len(there) < 4:
        return "some are missing", f"{len(there)} of 4"
    return ("all" if len(found) == 4 else "more"), f"{len(found)} copies"


@here.case(
    "6.1-prompt", level="MUST", clauses="5321-6.1-g", needs="rcpt",
    requirement="The end of a message is answered without delay",
    sent="a whole transaction; the time until the last reply",
    allowed={"within 10 s": PASS, "within 45 s": NON_STRICT, "later": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("data")
    began_s = trio.current_time()
    await talk.send(talk.message() + b".\r\n")
    reply = await talk.reply(45)
    took_s = trio.current_time() - began_s
    if reply.kind not in ("reply", "silent"):
        return reply
    label = "later" if reply.kind == "silent" else "within 10 s" if took_s < 10 else "within 45 s"
    return label, f"{reply} after {took_s:.1f} s"


@here.case(
    "6.1-report-to-routed-sender", level="MUST", clauses="5321-6.1-h", role="server",
    needs="unknown sendermail",
    requirement="The report to a sender with a source route goes to the mailbox at its end",
    sent="a message to {unknown}, from {sender} and from <@one.example,@two.example:{sender}>",
    allowed={"arrived": PASS, "not yet, nor that to a plain sender": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> str:
    plain = talk.another()
    plain.token = other_token(talk)
    for each, route in ((plain, ""), (talk, "@one.example,@two.example:")):
        await each.upto("ehlo")
        for line in (f"MAIL FROM:<{route}{{sender}}>", "RCPT TO:<{unknown}>", "DATA"):
            reply = await each.say(talk.fill(line))
            if not reply.positive:
                raise NotApplicable("mail that is accepted and returned later, from a source route")
        reply = await each.content(each.message())
        if not reply.positive:
            raise NotApplicable("mail that is accepted and returned later")
    if await talk.reports():
        return "arrived"
    come = await plain.reports(token=plain.token)
    return "that to a plain sender only" if come else "not yet, nor that to a plain sender"


# -- 6.2: nothing is dropped ----------------------------------------------------------------------


@here.case(
    "6.2-twice-the-same", level="SHOULD NOT", clauses="5321-6.2-b", role="delivery",
    needs="rcpt maildir",
    requirement="A message that is sent twice is delivered twice",
    sent="the same message in two transactions",
    allowed={"both": PASS, "one": NON_STRICT, "more": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    await _accepted(talk)
    await _accepted(talk)
    found = await settled(talk, 2)
    label = {0: "none", 1: "one", 2: "both"}.get(len(found), "more")
    return label, f"{len(found)} copies"


#: Mail that is easily lost: its reverse-path, or what its header is.
UNUSUAL = (
    ("null-sender", "", "Subject: {token}\r\nFrom: <{sender}>\r\n\r\nbody\r\n"),
    ("no-header", None, "\r\nbody {token}\r\n"),
    ("no-body", None, "Subject: {token}\r\nFrom: <{sender}>\r\n\r\n"),
    ("bad-header", None, "Subject: {token}\r\nno field at all\r\n\r\nbody\r\n"),
    ("bulk", None, "Subject: {token}\r\nFrom: <{sender}>\r\nPrecedence: bulk\r\n\r\nbody\r\n"),
)  # fmt: skip


def _unusual(slug: str, sender: str | None, octets: str) -> None:
    @here.case(
        f"6.2-not-dropped-{slug}", level="SHOULD NOT", clauses="5321-6.2-b 5321-6.1-d",
        role="delivery", needs="rcpt maildir",
        requirement="Mail that is unusual, but was accepted, is not dropped",
        sent=f"an ordinary sender, or a null one, and a message: {slug}",
        allowed={"delivered": PASS, "refused": INFO, "dropped": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        reply = await talk.transact(talk.fill(octets).encode(), sender=sender)
        if not reply.positive:
            return "refused", str(reply)
        return ("delivered" if await settled(talk) else "dropped"), str(reply)


for _slug, _sender, _octets in UNUSUAL:
    _unusual(_slug, _sender, _octets)

# -- 6.3: loops -----------------------------------------------------------------------------------


def _received(count: int) -> bytes:
    return b"".join(
        b"Received: from h%d.example by h%d.example with ESMTP id %d;\r\n"
        b" Mon, 02 Nov 2026 10:00:00 +0000\r\n" % (each, each - 1, each)
        for each in range(count, 0, -1)
    )


def _hops(count: int) -> None:
    many = count > 100

    @here.case(
        f"6.3-received-{count}", level="MUST" if many else "SHOULD",
        clauses="5321-6.3-a" if many else "5321-6.3-b", needs="rcpt",
        requirement="A message with very many Received fields is taken for one that loops"
        if many
        else "A message with less than a hundred Received fields is not taken for one that loops",
        sent=f"an ordinary message, then one with {count} Received fields",
        allowed={"5yz": PASS, "2yz": INFO, "4yz": NON_STRICT}
        if many
        else {"2yz": PASS, "4yz": INFO, "5yz": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await _accepted(talk)
        return await talk.transact(_received(count) + talk.message())


for _count in (26, 31, 51, 99, 150, 1000):
    _hops(_count)

# -- 6.4, 7.2, 7.6: what is added, disclosed, kept ------------------------------------------------


@here.case(
    "6.4-completed", level="MAY", clauses="5321-6.4-a", role="delivery", needs="rcpt maildir",
    requirement="Only a server for submission adds a Date or a Message-ID that is not there",
    sent="a message without Date and Message-ID",
    allowed={"as it was": PASS, "Date added": INFO, "Message-ID added": INFO, "both added": INFO},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    sender = talk.given.sender.encode()
    octets = b"From: <" + sender + b">\r\nSubject: " + talk.token.encode() + b"\r\n\r\nbody\r\n"
    await _accepted(talk, octets)
    head = _head(await _first(talk))
    date, number = b"\ndate:" in head, b"\nmessage-id:" in head
    label = {(True, True): "both added", (True, False): "Date added"}.get((date, number))
    return label or ("Message-ID added" if number else "as it was"), ""


for _order in ("first", "last"):

    def _blind(order: str) -> None:
        @here.case(
            f"7.2-blind-recipient-{order}", level="SHOULD NOT", clauses="5321-7.2-a",
            role="delivery", needs="rcpt rcpt2 maildir",
            requirement="A recipient whom the header does not name is not shown to the others",
            sent=f"two recipients, of which the {order} is not in the header",
            security="who gets a blind copy is told to others",
            allowed={"not shown": PASS, "shown": NON_STRICT},
        )  # fmt: skip
        async def _(talk: Session) -> tuple[str, str]:
            named, blind = talk.given.rcpt, talk.given.rcpt2
            await _accepted(talk, rcpts=(blind, named) if order == "first" else (named, blind))
            name = blind.lower().encode()
            lines = [each for each in _head(await _first(talk)).splitlines() if name in each]
            return ("shown" if lines else "not shown"), repr(lines)

    _blind(_order)


@here.case(
    "7.2-apparently-to", level="SHOULD NOT", clauses="5321-7.2-a", role="delivery",
    needs="rcpt rcpt2 maildir",
    requirement="No field with the recipients is made up for a message that has none",
    sent="two recipients, and a message without To", allowed={"none": PASS, "made up": NON_STRICT},
    security="who gets a blind copy is told to others",
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    given = talk.given
    octets = f"From: <{given.sender}>\r\nSubject: {talk.token}\r\n\r\nbody\r\n".encode()
    await _accepted(talk, octets, rcpts=(given.rcpt, given.rcpt2))
    head = _head(await _first(talk))
    fields = re.findall(rb"\n((?:apparently-)?(?:to|cc|bcc):[^\n]*)", head)
    shown = [each for each in fields if b"@" in each]
    return ("made up" if shown else "none"), repr(fields)


@here.case(
    "7.6-hops-kept", level="IMPLIED", clauses="5321-7.6-a", role="delivery", needs="rcpt maildir",
    requirement="Received fields of earlier hosts are delivered unchanged and in order",
    sent="a message with three Received fields", allowed={"kept": PASS},
)  # fmt: skip
async def _(talk: Session) -> tuple[str, str]:
    fields = _received(2) + b"Received: of an odd form\r\n"
    await _accepted(talk, fields + talk.message())
    head = _crlf(await _first(talk)).partition(b"\r\n\r\n")[0] + b"\r\n"
    return ("kept" if fields in head else "changed"), repr(head[:600])


# -- 7.8: attacks ---------------------------------------------------------------------------------


def _attack(slug: str, stage: str, line: str) -> None:
    @here.case(
        f"7.8-{slug}", level="IMPLIED", clauses="5321-7.8-a", slow=True, alone=True,
        requirement="A client that sends very many bad commands may be sent away; others are not",
        sent=f"200 times {line}, or until the server ends it; then EHLO on another connection",
        allowed={"all answered": INFO, "421": INFO, "closed": INFO, "slowed down": INFO},
    )  # fmt: skip
    async def _(talk: Session) -> tuple[str, str]:
        await talk.upto("mail" if stage == "mail" else "ehlo")
        label, count = "all answered", 0
        with trio.move_on_after(120) as scope:
            for count in range(1, 201):
                reply = await talk.say(line.replace("{n}", str(count)), 60)
                if reply.kind != "reply" or reply.code == "421":
                    label = reply.label
                    break
        if scope.cancelled_caught:
            label = "slowed down"
        await talk.another().upto("ehlo")
        return label, f"after {count}"


_attack("unknown-commands", "ehlo", "XYZZY {n}")
_attack("syntax-errors", "ehlo", "MAIL FROM:{n}")

# -- of more than one case ------------------------------------------------------------------------


async def _accepted(
    talk: Session, octets: bytes | None = None, *, rcpts: tuple[str, ...] | None = None
) -> None:
    """A message, accepted.  Raises Refused."""
    reply = await talk.transact(octets, rcpts=rcpts)
    if not reply.positive:
        raise Refused("the message", reply)


async def _first(talk: Session) -> bytes:
    """What arrived, where another question is asked than whether it does.  Raises Refused."""
    found = await talk.arrived()
    if not found:
        raise Refused("what arrives", Reply(kind="silent"))
    return found[0]


async def _once(talk: Session, *parts: bytes) -> tuple[str, str]:
    """How it arrived, with all that parts say."""
    found = await talk.arrived()
    if not found:
        return await lost(talk)
    if not all(part in found[0] for part in parts):
        return "changed", repr(found[0][-200:])
    return ("delivered" if len(found) == 1 else "twice"), f"{len(found)} copies"


def _numbered(talk: Session, number: int) -> bytes:
    return talk.message(f"number {number}.\r\n", headers=f"X-Number: {number}\r\n").replace(
        b"Message-ID: <", b"Message-ID: <%d." % number
    )


def _crlf(octets: bytes) -> bytes:
    """With line ends of the wire, however they are stored."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _head(octets: bytes) -> bytes:
    """The header, in small letters, lines that end in LF."""
    return b"\n" + octets.replace(b"\r\n", b"\n").partition(b"\n\n")[0].lower()
