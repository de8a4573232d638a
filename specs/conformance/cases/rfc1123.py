"""RFC 1123 section 5.2: what it says of mail servers, where RFC 5321 does not say it again.

Tricky
- An unknown recipient may be refused at once or later, by a notification; only silence is wrong.
  Which of the two a server does is found out on the way.  That a notification has not come when
  patience ends proves nothing.
"""

from __future__ import annotations

from specs.conformance.allowed import FROM_NOBODY, UNVERIFIED
from specs.conformance.arrivals import never_there
from specs.conformance.model import NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session

here = Section("1123")


@here.case(
    "5.2.7-unknown-is-told", level="MUST", clauses="1123-5.2.7-a", needs="unknown",
    requirement="Of a recipient who does not exist the sender is told: by RCPT, at the end of the "
    "message, or by a notification",
    sent="MAIL | RCPT {unknown}, and if it is accepted DATA and a message",
    allowed={"at RCPT": PASS, "at the end of the message": PASS, "by a notification": PASS,
             "not yet": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("mail")
    reply = await talk.say(talk.fill("RCPT TO:<{unknown}>"))
    if not reply.positive:
        return ("at RCPT" if reply.code[:1] in ("4", "5") else reply.label), str(reply)
    await talk.must("DATA")
    reply = await talk.content(talk.message())
    if not reply.positive:
        late = reply.code[:1] in ("4", "5")
        return ("at the end of the message" if late else reply.label), str(reply)
    return "by a notification" if await talk.reports() else "not yet"


@here.case(
    "5.2.7-null-sender-not-told", level="MUST", clauses="1123-5.2.7-a",
    needs="unknown rcpt maildir", role="delivery",
    requirement="Mail with an empty reverse-path to a recipient who does not exist is not answered "
    "to the addresses in its header",
    sent="MAIL FROM:<> | RCPT {unknown} | DATA | a message from the mailbox that is looked at",
    allowed={"at RCPT": PASS, "no answer": PASS, "at the end of the message": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.upto("ehlo")
    await talk.must("MAIL FROM:<>")
    reply = await talk.say(talk.fill("RCPT TO:<{unknown}>"))
    if not reply.positive:
        return ("at RCPT" if reply.code[:1] in ("4", "5") else reply.label), str(reply)
    await talk.must("DATA")
    box = talk.given.rcpt.encode()
    octets = b"Reply-To: <" + box + b">\r\n" + talk.message()
    reply = await talk.content(octets)
    if not reply.positive:
        return "at the end of the message", str(reply)
    found = await talk.look(talk.given.maildirs[0], patience_s=min(3.0, talk.given.patience_s))
    none = not found and await never_there(talk)
    return ("no answer" if none else "an answer"), str(reply)


@here.case(
    "5.2.9-null-path-message", level="MUST", clauses="1123-5.2.9-a 5321-4.1.1.2-b", needs="rcpt",
    requirement="A message with an empty reverse-path is accepted like another",
    sent="MAIL FROM:<> | RCPT | DATA | message", allowed=FROM_NOBODY,
)  # fmt: skip
async def _(talk: Session) -> Observed | tuple[str, str]:
    await talk.another().upto("rcpt")
    await talk.upto("ehlo")
    for line in ("MAIL FROM:<>", "RCPT TO:<{rcpt}>", "DATA"):
        reply = await talk.say(talk.fill(line))
        if not reply.positive:
            return reply.label, f"{line}: {reply}"
    return await talk.content(talk.message())


here.probe(
    "5.2.5-helo-not-verified", level="MUST NOT", clauses="5321bis-4.1.1.1-a", upto="greeting",
    requirement="A session is not refused because its name is not in the DNS",
    sent=["HELO {token}.invalid"], allowed=UNVERIFIED,
)  # fmt: skip
