"""How cases ask what a line of text can't: any octets, and how many replies come for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from specs.conformance.model import Level, Observed, Reply, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Stage

#: What people are shown of a line at most.
SHOWN: Final = 90


def needs(stage: Stage) -> str:
    """What a session must have been given to come so far."""
    return "rcpt" if stage in ("rcpt", "data") else ""


def readable(line: bytes) -> str:
    """As people may read it, and XML may hold it."""
    text = repr(line)[2:-1]
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(line)} octets)"


def filled(talk: Session, line: bytes) -> bytes:
    """`Session.fill` of octets."""
    return talk.fill(line.decode("latin-1")).encode("latin-1")


def octets(
    section: Section, name: str, line: bytes, *, level: Level, clauses: str, requirement: str,
    allowed: Mapping[str, Verdict], upto: Stage = "ehlo", **more: Any,
) -> None:  # fmt: skip
    """A probe of one line, without its CRLF, that may hold any octet."""

    async def script(talk: Session) -> Observed:
        await talk.upto(upto)
        return await talk.say(filled(talk, line))

    section.case(
        name, level=level, clauses=clauses, requirement=requirement,
        sent=f"({upto}) | {readable(line)}", allowed=allowed, **more,
    )(script)  # fmt: skip


def going_on(reply: Reply, *, closed: bool = False) -> Reply:
    """The same.  Raises Refused for 421, which may be said at any time (RFC 5321 3.8), as the run
    takes it where it is all that a case observes; closed: for the end of the connection, too.
    """
    if reply.code == "421" or (closed and reply.kind == "closed"):
        raise Refused("it would not go on", reply)
    return reply


async def count(talk: Session) -> tuple[list[Reply], bool]:
    """Replies until that to QUIT, without it, and whether QUIT was answered.

    QUIT goes out once the first reply is here: all that was sent before it has been read by then,
    or will be before QUIT is.
    """
    found = [await talk.reply()]
    if found[0].kind != "reply":
        return found, False
    await talk.send(b"QUIT\r\n")
    while len(found) < 50:
        reply = await talk.reply()
        if reply.code == "221":
            return found, True
        if reply.kind == "closed" or reply.code == "421":  # which answers no command
            return found, False
        found.append(reply)
        if reply.kind != "reply":
            break
    return found, False


async def one_reply(talk: Session) -> tuple[str, str]:
    """A label: "one reply", "refused" (a failure or none, and the connection ended), "nothing
    carried out" (several replies, all failures), "2 replies" and so on, "silent", "garbage".
    """
    found, ended = await count(talk)
    detail = ", ".join(str(each) for each in found)
    if len(found) > 1:
        refused = all(each.kind == "reply" and not each.positive for each in found)
        return ("nothing carried out" if refused else f"{len(found)} replies"), detail
    first = found[0]
    if first.kind == "closed" or (not ended and first.kind == "reply" and not first.positive):
        return "refused", detail
    return ("one reply" if first.kind == "reply" else first.kind), detail


async def data_refused(talk: Session) -> tuple[str, str]:
    """DATA where there is nothing to send: its code, or, if it is 354, what the end is answered."""
    reply = await talk.say("DATA")
    if reply.code != "354":
        return reply.label, str(reply)
    end = await talk.content(talk.message())
    what = {"2": "accepted", "4": "refused", "5": "refused"}.get(end.code[:1], end.kind)
    return f"354, then {what}", str(end)
