"""RFC 3848: the words behind WITH in the trace, for ESMTP and LMTP, with TLS and AUTH.

Tricky
- The field that the server under test added first is the last one: messages here bring none.
- Comments are taken out before WITH is looked for: "(using TLSv1.3 with cipher ...)".
- WITH may be left out (RFC 5321 4.4); that there is a trace at all is asked beside RFC 5321.
- A word that says less than it could (ESMTP inside TLS) is not strict.  One that says what is not
  so (TLS where there was none) is wrong.
"""

from __future__ import annotations

import email
import re
from collections.abc import Mapping
from typing import Final

from specs.conformance.arrivals import delivered, taken
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Seen, Verdict
from specs.conformance.sasl import CLEAR, PROTECTED, offering_auth
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session

here = Section("3848", role="delivery")

_WITH: Final = re.compile(r"\swith\s+([A-Za-z0-9-]+)", re.IGNORECASE)
#: IANA's "WITH protocol types" for mail, of which another would be a claim.
KNOWN: Final = frozenset(
    f"{name}{tls}{auth}"
    for name in ("SMTP", "ESMTP", "LMTP", "UTF8SMTP", "UTF8LMTP")
    for tls in ("", "S")
    for auth in ("", "A")
)
LIES: Final = "the trace claims protection or authentication that was not there"


def uncommented(text: str) -> str:
    """Without RFC 5322 comments, nested ones too."""
    kept: list[str] = []
    depth, escaped = 0, False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
            kept.append(" ")
            continue
        if not depth:
            kept.append(char)
    return "".join(kept)


def protocol(message: bytes) -> Seen:
    """(the word behind WITH in the oldest Received in capitals, that field)."""
    fields = email.message_from_bytes(message).get_all("Received") or []
    if not fields:
        return "no trace", ""
    oldest = str(fields[-1])
    found = _WITH.search(uncommented(oldest))
    if found is None:
        return "none", oldest
    word = found[1].upper()
    return (word if word in KNOWN else "another word"), oldest


async def traced(talk: Session) -> Observed:
    """A message on a session that is ready, and the word in its trace."""
    return protocol(await taken(talk))


def _allowed(best: str, *weaker: str) -> Mapping[str, Verdict]:
    open_ = {"none": INFO, "no trace": INFO, "another word": NON_STRICT}
    return {best: PASS, **dict.fromkeys(weaker, NON_STRICT), **open_}


@here.case(
    "1-esmtp", level="IMPLIED", clauses="3848-1-a", needs="rcpt maildir", security=LIES,
    requirement="A message that came after EHLO, without TLS and AUTH, is traced WITH ESMTP",
    sent="EHLO | a message", allowed=_allowed("ESMTP", "SMTP"),
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await traced(talk)


@here.case(
    "1-smtp", level="IMPLIED", clauses="3848-1-e", needs="rcpt maildir", security=LIES,
    requirement="A message that came after HELO is traced WITH SMTP",
    sent="HELO | a message", allowed=_allowed("SMTP", "ESMTP"),
)  # fmt: skip
async def _(talk: Session) -> Observed:
    await talk.upto("greeting")
    await talk.hello("HELO")
    return await traced(talk)


@here.case(
    "1-esmtps", level="IMPLIED", clauses="3848-1-b", needs="rcpt maildir", door="starttls",
    security=LIES,
    requirement="A message that came inside TLS is traced WITH ESMTPS",
    sent="STARTTLS | TLS handshake | EHLO | a message",
    allowed=_allowed("ESMTPS", "ESMTP", "SMTP"),
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await traced(talk)


@here.case(
    "1-esmtpa", level="SHOULD", clauses="3848-1-c", needs="rcpt maildir user", security=LIES,
    requirement="A message of an authenticated client without TLS is traced WITH ESMTPA",
    sent="EHLO | AUTH | a message, in the clear", allowed=_allowed("ESMTPA", "ESMTP", "SMTP"),
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, doors=CLEAR)
    await door.auth()
    return await traced(door)


@here.case(
    "1-esmtpsa", level="SHOULD", clauses="3848-1-d", needs="rcpt maildir user",
    requirement="A message of an authenticated client inside TLS is traced WITH ESMTPSA",
    sent="EHLO | AUTH | a message, inside TLS",
    allowed=_allowed("ESMTPSA", "ESMTPS", "ESMTPA", "ESMTP", "SMTP"),
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, doors=PROTECTED)
    await door.auth()
    return await traced(door)


@here.case(
    "1-failed-auth", level="IMPLIED", clauses="3848-1-a 3848-1-b", needs="rcpt maildir",
    security=LIES,
    requirement="A message after AUTH that failed is not traced as an authenticated client's",
    sent="EHLO | AUTH with a wrong password | a message",
    allowed={"not so": PASS, "none": INFO, "no trace": INFO, "another word": INFO,
             "no mail then": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    door = await offering_auth(talk, doors=("starttls", "smtp"))
    await door.say(f"AUTH PLAIN {door.plain(f'nobody-{door.token}', 'wrong')}")
    try:
        reply = await door.transact()
    except Refused as refused:
        return "no mail then", str(refused)
    if not reply.positive:
        return "no mail then", str(reply)
    word, field = protocol((await delivered(door, reply))[0])
    return ("not so" if word in KNOWN and not word.endswith("A") else word), field


@here.case(
    "2-lmtp", level="IMPLIED", clauses="3848-2-a", needs="rcpt maildir", door="lmtp", security=LIES,
    requirement="A message that came by LMTP is traced WITH LMTP",
    sent="LHLO | a message",
    allowed=_allowed("LMTP", "ESMTP", "SMTP"),
)  # fmt: skip
async def _(talk: Session) -> Observed:
    return await traced(talk)
