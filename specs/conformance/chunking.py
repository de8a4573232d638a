"""BDAT (RFC 3030), for several files of cases: chunks on the wire, and whether they stay mail.

Tricky: the octets of a chunk follow its line at once, whatever the server thinks of it, and have to
be taken off the wire before the reply.  A server that does not, runs mail as commands: so chunks
here hold QUIT, whose reply would be seen.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.groups import PAUSE_S
from specs.conformance.model import INFO, Observed, Reply
from specs.conformance.session import Refused, Session

#: A chunk that shows itself if it is run as commands.
QUIT: Final = b"QUIT\r\n"
AS_COMMANDS: Final = "what is mail for one server is commands for another: smuggling"
#: What a server may say to a transaction for reasons of its own.
POLICY: Final = {"4yz": INFO, "550": INFO, "554": INFO}


def bdat(octets: bytes, last: bool = False) -> bytes:
    """The command and its chunk."""
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


async def chunk(talk: Session, octets: bytes, last: bool = False) -> Reply:
    await talk.send(bdat(octets, last))
    return await talk.reply()


async def must_chunk(talk: Session, octets: bytes) -> None:
    """A chunk, not the last.  Raises Refused."""
    reply = await chunk(talk, octets)
    if reply.code != "250":
        raise Refused("BDAT", reply)


async def send_chunks(talk: Session, octets: bytes, size: int, mail: str = "") -> Reply:
    """A whole transaction by BDAT, in chunks of this size; the first reply that is not 250, or the
    last.  Raises Refused if it does not come to BDAT.
    """
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> {mail}".rstrip())
    await talk.must(f"RCPT TO:<{talk.given.rcpt}>")
    reply = Reply(kind="silent")
    for at in range(0, len(octets), size):
        reply = await chunk(talk, octets[at : at + size], last=at + size >= len(octets))
        if reply.code != "250":
            break
    return reply


async def in_step(talk: Session, reply: Reply) -> Observed:
    """The reply, if nothing else comes, and NOOP is answered; "run as commands" otherwise.  421
    may be said at any time: it is what was observed then.
    """
    if reply.kind != "reply" or reply.code == "421":
        return reply
    early = await talk.unasked(PAUSE_S)
    if early.kind == "closed":
        return "closed", f"{reply} | closed"
    if early.code == "421":
        return "421", f"{reply} | {early}"
    if early.kind != "silent":
        return "run as commands", f"{reply} | then, unasked: {early}"
    after = await talk.say("NOOP")
    if after.kind == "closed":
        return "closed", f"{reply} | closed"
    if after.code == "421":
        return "421", f"{reply} | NOOP: {after}"
    if after.code != "250":
        return "run as commands", f"{reply} | NOOP: {after}"
    return reply


def body_of(arrived: bytes) -> bytes:
    """Behind the header, in lines that end in LF (a store may have changed that)."""
    return arrived.replace(b"\r\n", b"\n").partition(b"\n\n")[2]
