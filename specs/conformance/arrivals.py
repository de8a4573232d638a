"""What has arrived of a case's mail, and what is said of mail that has not.

A message that was accepted and is not there may lie in another directory, or have bounced: a case
that asks for its content cannot be carried out then (`Refused`).
"""

from __future__ import annotations

from specs.conformance.model import Reply, Seen
from specs.conformance.session import Refused, Session


def other_token(talk: Session) -> str:
    """For a second message of the same case: neither token is a part of the other."""
    return "o" + talk.token[:0:-1]


async def delivered(talk: Session, final: Reply, count: int = 1) -> list[bytes]:
    """What arrived of accepted mail; final: the reply to its end.  Fewer than `count` only when
    mail that was sent later is there.  Raises Refused if there is none.
    """
    if not await talk.arrived():
        raise Refused("an accepted message that arrives", final)
    return await settled(talk, count)


async def settled(talk: Session, count: int = 1) -> list[bytes]:
    """What arrived, perhaps nothing.  Fewer than `count` only when mail that was sent later is
    there.  Raises Refused.
    """
    found = await talk.arrived(count=count)
    if len(found) < count:
        await overtaken(talk)
        found = await talk.look(talk.given.maildirs[0], count=count, patience_s=talk.given.quiet_s)
    return found


async def taken(talk: Session, octets: bytes | None = None) -> bytes:
    """A message on a session that is ready, as it arrives.  Raises Refused."""
    final = await talk.transact(octets)
    if not final.positive:
        raise Refused("the message", final)
    return (await delivered(talk, final))[0]


async def overtaken(talk: Session, box: int = 0) -> None:
    """Sends an ordinary message over another connection, by SMTP, and waits until it has arrived in
    the Maildir of that `rcpt`.  Raises Refused.
    """
    later, beside = other_token(talk), talk.another("smtp" if talk.door == "lmtp" else None)
    octets = talk.message().replace(talk.token.encode(), later.encode())
    reply = await beside.transact(octets, rcpts=((talk.given.rcpt, talk.given.rcpt2)[box],))
    if not reply.positive or not await talk.arrived(box=box, token=later):
        raise Refused("an ordinary message", reply)


async def never_there(talk: Session) -> bool:
    """Whether nothing that the case has sent is there when a later message is.  Raises Refused."""
    await overtaken(talk)
    return not await talk.look(talk.given.maildirs[0], patience_s=talk.given.quiet_s)


async def lost(talk: Session, box: int = 0) -> Seen:
    """Nothing arrived: ("not delivered", why), if ordinary mail does arrive.  Raises Refused if it
    does not either: then nothing is known of the message that was looked for.
    """
    await overtaken(talk, box)
    late = await talk.look(talk.given.maildirs[box], patience_s=0.5)
    if late:  # it is slow, and not lost
        raise Refused("a message into the mailbox in time", Reply(kind="silent"))
    return "not delivered", "an ordinary message, sent afterwards, has arrived"
