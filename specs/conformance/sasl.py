"""AUTH (RFC 4954), for several files of cases: where it is offered, and what is said to it.

AUTH is seldom offered at the first door.  `offering_auth` looks for one that does, inside TLS
first, and the case goes on there.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from specs.conformance.model import Door
from specs.conformance.session import NotApplicable, Refused, Session

PROTECTED: Final[tuple[Door, ...]] = ("submission-starttls", "tls", "starttls")
CLEAR: Final[tuple[Door, ...]] = ("submission", "smtp")


def encoded(text: str | bytes) -> str:
    """In base64."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def mechanisms(talk: Session) -> tuple[str, ...]:
    """Of the last EHLO."""
    return tuple(talk.features.get("AUTH", "").upper().split())


def nobody(talk: Session) -> str:
    """PLAIN for a name that does not exist, with a password that nobody has."""
    return talk.plain(f"nobody-{talk.token}", f"wrong-{talk.token}")


async def offering_auth(
    talk: Session, mechanism: str = "PLAIN", *, doors: Sequence[Door] = (*PROTECTED, *CLEAR)
) -> Session:
    """The first of these doors that offers it, after EHLO.  Raises NotApplicable."""
    for door in doors:
        if talk.given.address(door) is None:
            continue
        beside = talk.another(door)
        with suppress(Refused, NotApplicable, OSError):
            await beside.upto("ehlo")
            if mechanism in mechanisms(beside):
                return beside
        await beside.close()
    raise NotApplicable(f"AUTH {mechanism}")


async def asked_by(talk: Session, mechanism: str = "PLAIN") -> Session:
    """Where AUTH has begun, and the server waits for a response.  Raises NotApplicable, Refused."""
    door = await offering_auth(talk, mechanism)
    await door.must(f"AUTH {mechanism}")
    return door


async def without_ehlo(talk: Session) -> Session:
    """Where AUTH is offered, before the EHLO; inside TLS if it is offered there."""
    door = (await offering_auth(talk)).door
    fresh = talk.another(door)
    await fresh.upto("greeting")
    if door in ("starttls", "submission-starttls"):
        await fresh.hello()
        await fresh.must("STARTTLS")
        await fresh.handshake()
    return fresh


async def in_transaction(talk: Session, *, and_rcpt: bool = False) -> Session:
    """After MAIL of somebody who is not authenticated, where AUTH is offered; with and_rcpt only
    where such a one's RCPT is taken, too.  Raises NotApplicable.
    """
    for door in (*PROTECTED, *CLEAR):
        with suppress(NotApplicable, Refused):
            found = await offering_auth(talk, doors=(door,))
            await found.upto("rcpt" if and_rcpt else "mail")
            if and_rcpt:
                await found.must("RSET")
                found.stage = "ehlo"
                await found.upto("mail")
            return found
    raise NotApplicable("AUTH where MAIL is taken without it")


async def mail_taken(talk: Session) -> Session:
    """Somewhere AUTH is listed and MAIL is taken from strangers, before MAIL."""
    door = await in_transaction(talk)
    await door.must("RSET")
    return door
