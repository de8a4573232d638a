"""RFC 6409, submission: sections 3, 4, 5, 6 and 8.

Tricky
- A server may take mail without AUTH from where it knows the network, and a test often comes from
  there: MAIL that is taken is recorded.  Mail for elsewhere (`relay`) is what it must not take.
- Most of section 8 is a MAY: what is added to a message is recorded.
- What an MSA does to envelope addresses is seen in Return-Path, where the delivery adds one.
"""

from __future__ import annotations

import email
from email.message import Message
from typing import Final

from specs.conformance.arrivals import delivered
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Observed, Verdict
from specs.conformance.sasl import offering_auth
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("6409")

RELAY: Final = "anybody may send mail to anywhere"


async def submitting(talk: Session) -> Session:
    """An authenticated user's session at the submission port, or where TLS comes first."""
    door = await offering_auth(talk, doors=("submission-starttls", "submission", "tls"))
    await door.auth()
    return door


# -- 3 and 4.3: who may submit --------------------------------------------------------------------


@here.case(
    "3.1-esmtp", level="MUST", clauses="6409-3.1-a", needs="submission",
    requirement="The submission port greets with 220 and takes EHLO",
    sent="connect to the submission port | EHLO", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = talk.another("submission")
    await door.connect()
    greeting = await door.reply()
    if greeting.code != "220":
        return f"greeting {greeting.label}", str(greeting)
    return await door.say(talk.fill("EHLO {hostname}"))


for _door in ("submission", "submission-starttls"):
    here.probe(
        f"4.3-mail-without-auth-{_door}", level="MUST", clauses="6409-4.3-a 6409-3.3-a",
        door=_door,
        requirement="MAIL without AUTH is refused, best with 530, unless the client is known "
        "otherwise",
        sent=["MAIL FROM:<{sender}>"],
        allowed={"530": PASS, "550": PASS, "554": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT,
                 "2yz": INFO},
    )  # fmt: skip

    @here.case(
        f"4.3-relay-without-auth-{_door}", level="MUST", clauses="6409-4.3-a 6409-3.3-a",
        door=_door, needs="relay", security=RELAY,
        requirement="Mail for elsewhere is not taken without AUTH",
        sent="MAIL | RCPT elsewhere | DATA",
        allowed={"refused at MAIL": PASS, "refused at RCPT": NON_STRICT,
                 "refused at DATA": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        for line in ("MAIL FROM:<{sender}>", "RCPT TO:<{relay}>", "DATA"):
            reply = await talk.say(talk.fill(line))
            if reply.kind != "reply":
                return reply
            if not reply.positive:
                return f"refused at {line.split()[0]}", str(reply)
        last = await talk.content(talk.message())
        return ("taken" if last.positive else "refused at DATA"), str(last)


@here.case(
    "4.3-with-auth", level="MUST", clauses="6409-4.3-a", needs="user submission rcpt",
    requirement="Mail of an authenticated user is taken",
    sent="AUTH PLAIN (good) | MAIL | RCPT | DATA | a message", allowed={"250": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await submitting(talk)
    return await door.transact()


# -- 4.1, 4.2, 5.1, 6.1: the envelope -------------------------------------------------------------

_BAD: Final = (
    ("space", "ada lovelace@conform.example"),
    ("two-ats", "ada@lovelace@conform.example"),
    ("no-local-part", "@conform.example"),
    ("no-domain", "ada@"),
    ("dot-first", ".ada@conform.example"),
    ("two-dots", "ada..lovelace@conform.example"),
    ("domain-dots", "ada@conform..example"),
    ("angle", "ada<@conform.example"),
    ("control", "ada\x01@conform.example"),
)
for _slug, _address in _BAD:

    @here.case(
        f"5.1-sender-{_slug}", level="SHOULD", clauses="6409-5.1-a 6409-4.1-a",
        needs="user submission",
        requirement=f"A malformed sender is refused at submission, with 501 ({_slug})",
        sent=f"AUTH PLAIN (good) | MAIL FROM:<{_address}>".replace("\x01", "^A"),
        allowed={"501": PASS, "553": PASS, "5yz": NON_STRICT, "2yz": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, address: str = _address) -> Observed:
        door = await submitting(talk)
        return await door.say(f"MAIL FROM:<{address}>")

    @here.case(
        f"5.1-recipient-{_slug}", level="SHOULD", clauses="6409-5.1-a 6409-4.1-a",
        needs="user submission",
        requirement=f"A malformed recipient is refused at submission, with 501 ({_slug})",
        sent=f"AUTH PLAIN (good) | MAIL | RCPT TO:<{_address}>".replace("\x01", "^A"),
        allowed={"501": PASS, "553": PASS, "5yz": NON_STRICT, "2yz": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, address: str = _address) -> Observed:
        door = await submitting(talk)
        await door.upto("mail")
        return await door.say(f"RCPT TO:<{address}>")


def _field(message: bytes, name: str) -> str:
    return str(email.message_from_bytes(message).get(name, ""))


for _slug, _sender in (("no-domain", "ada"), ("one-label", "ada@sales")):

    @here.case(
        f"4.2-sender-{_slug}", level="MUST", clauses="6409-4.2-a", role="delivery",
        needs="user submission rcpt maildir",
        requirement="A sender whose domain is not fully qualified is refused or completed",
        sent=f"AUTH PLAIN (good) | MAIL FROM:<{_sender}> | RCPT | DATA | a message",
        # One label may be a top-level domain, and whole (RFC 5321 2.3.5): nobody can see that here.
        allowed={"refused": PASS, "completed": PASS, "no Return-Path": INFO}
        | ({"kept": NON_STRICT} if _slug == "one-label" else {}),
    )  # fmt: skip
    async def _(talk: Session, sender: str = _sender) -> Observed:
        door = await submitting(talk)
        for line in (f"MAIL FROM:<{sender}>", "RCPT TO:<{rcpt}>", "DATA"):
            reply = await door.say(talk.fill(line))
            if not reply.positive:
                return "refused", str(reply)
        last = await door.content(door.message())
        if not last.positive:
            return "refused", str(last)
        found = await delivered(door, last)
        path = _field(found[0], "Return-Path").strip()
        if not path:
            return "no Return-Path"
        domain = path.strip("<>").rpartition("@")[2] if "@" in path else ""
        return ("completed" if "." in domain.strip(".") or "[" in domain else "kept"), path


@here.case(
    "4.2-recipient-one-label", level="MUST", clauses="6409-4.2-a 6409-4.1-a",
    needs="user submission",
    requirement="A recipient whose domain is not fully qualified is refused, best with 554, or "
    "completed",
    sent="AUTH PLAIN (good) | MAIL | RCPT TO:<ada@sales>",
    allowed={"554": PASS, "5yz": PASS, "4yz": NON_STRICT, "2yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await submitting(talk)
    await door.upto("mail")
    return await door.say("RCPT TO:<ada@sales>")


@here.case(
    "6.1-other-sender", level="MAY", clauses="6409-6.1-a", needs="user submission",
    requirement="A sender that is not the user's may be refused, with 550",
    sent="AUTH PLAIN (good) | MAIL FROM:<president@elsewhere.example>",
    allowed={"550": INFO, "553": INFO, "5yz": INFO, "2yz": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await submitting(talk)
    return await door.say("MAIL FROM:<president@elsewhere.example>")


# -- 8: what is done to the message ---------------------------------------------------------------


async def submitted(talk: Session, headers: str) -> Message | str:
    """What arrives of a message with these fields, or how it was refused."""
    door = await submitting(talk)
    content = f"{headers}Subject: conformance {door.token}\r\n\r\nA message.\r\n".encode()
    reply = await door.transact(content)
    if not reply.positive:
        return f"refused {reply}" if reply.kind == "reply" else reply.label
    return email.message_from_bytes((await delivered(door, reply))[0])


_ADDED: Final[tuple[tuple[str, Level, str, str, dict[str, Verdict]], ...]] = (
    ("8.2-date", "MAY", "6409-8.2-a", "Date", {"added": INFO, "not added": INFO}),
    (
        "8.3-message-id", "SHOULD", "6409-8.3-a", "Message-ID",
        {"added": PASS, "not added": NON_STRICT},
    ),
)  # fmt: skip
for _name, _level, _clause, _missing, _allowed in _ADDED:

    @here.case(
        f"{_name}-added", level=_level, clauses=_clause,
        role="delivery", needs="user submission rcpt maildir",
        requirement=f"A message that was submitted without {_missing} is given one",
        sent=f"a message without {_missing}", allowed={**_allowed, "refused": INFO},
    )  # fmt: skip
    async def _(talk: Session, missing: str = _missing) -> Observed:
        lines = {
            "From": talk.fill("<{sender}>"), "To": talk.fill("<{rcpt}>"),
            "Date": "Mon, 02 Nov 2026 10:00:00 +0000",
            "Message-ID": talk.fill("<{token}@{hostname}>"),
        }  # fmt: skip
        text = "".join(f"{name}: {rest}\r\n" for name, rest in lines.items() if name != missing)
        message = await submitted(talk, text)
        if isinstance(message, str):
            return ("refused" if message.startswith("refused") else message), message
        found = str(message.get(missing, ""))
        return ("added" if found else "not added"), found


@here.case(
    "8.3-message-id-kept", level="IMPLIED", clauses="6409-8.3-a", role="delivery",
    needs="user submission rcpt maildir",
    requirement="A good Message-ID is not replaced, and there is one only",
    sent="a message with Date and Message-ID", allowed={"kept": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    wanted = talk.fill("<{token}@{hostname}>")
    message = await submitted(
        talk,
        talk.fill("From: <{sender}>\r\nTo: <{rcpt}>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n")
        + f"Message-ID: {wanted}\r\n",
    )
    if isinstance(message, str):
        return ("refused" if message.startswith("refused") else message), message
    found = [str(each).strip() for each in message.get_all("Message-ID") or []]
    return ("kept" if found == [wanted] else "changed"), " ".join(found)


@here.case(
    "8.1-sender-added", level="MAY", clauses="6409-8.1-a", role="delivery",
    needs="user submission rcpt maildir",
    requirement="A Sender field may be added when From is not the user",
    sent="a message with somebody else's From",
    allowed={"added": INFO, "not added": INFO, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    message = await submitted(
        talk,
        talk.fill(
            "From: <president@elsewhere.example>\r\nTo: <{rcpt}>\r\n"
            "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{token}@{hostname}>\r\n"
        ),
    )
    if isinstance(message, str):
        return ("refused" if message.startswith("refused") else message), message
    found = str(message.get("Sender", ""))
    return ("added" if found else "not added"), found


@here.case(
    "8.8-bcc", level="MAY", clauses="6409-8.8-a", role="delivery",
    needs="user submission rcpt maildir",
    requirement="A Bcc field may be taken out at submission",
    sent="a message with a Bcc field", allowed={"gone": PASS, "kept": INFO, "refused": INFO},
    security="who was named in Bcc is shown to the others",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    message = await submitted(
        talk,
        talk.fill(
            "From: <{sender}>\r\nTo: <{rcpt}>\r\nBcc: <secret-{token}@elsewhere.example>\r\n"
            "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{token}@{hostname}>\r\n"
        ),
    )
    if isinstance(message, str):
        return ("refused" if message.startswith("refused") else message), message
    return ("kept" if message.get("Bcc") else "gone"), str(message.get("Bcc", ""))


@here.case(
    "4.1-no-from", level="IMPLIED", clauses="6409-4.1-a", needs="user submission rcpt",
    requirement="A message that is improper is refused with 554 if it is refused",
    sent="AUTH PLAIN (good) | a message without From",
    allowed={"554": PASS, "55z": PASS, "5yz": NON_STRICT, "250": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await submitting(talk)
    text = "To: <{rcpt}>\r\nSubject: conformance {token}\r\n\r\nA message.\r\n"
    return await door.transact(talk.fill(text).encode())
