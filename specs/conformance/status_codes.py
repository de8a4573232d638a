"""Enhanced status codes (RFC 3463), for several files of cases: what is one, which are registered,
and those that a server says.

The registry grows: a code that is not known here is no fail.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.model import Reply
from specs.conformance.session import NotApplicable, Session

#: What looks like a code.
CODE: Final = re.compile(r"([0-9]+)\.[0-9]+\.[0-9]+(?= |\Z)")
#: What is well formed.
FORM: Final = re.compile(r"[245](\.(0|[1-9][0-9]{0,2})){2}\Z")
#: Subject to its highest detail; there are no gaps.
REGISTERED: Final = {0: 0, 1: 10, 2: 4, 3: 6, 4: 7, 5: 6, 6: 10, 7: 32}


def registered(code: str) -> bool:
    """Of a well-formed one."""
    _, subject, detail = (int(part) for part in code.split("."))
    return detail <= REGISTERED.get(subject, -1)


# -- those that a server says ---------------------------------------------------------------------

#: Commands whose replies are looked at, three wrong ones at most on each connection.
TALKS: Final[tuple[tuple[str, ...], ...]] = (
    ("NOOP", "HELP", "XYZZY", "MAIL FROM:<a@b@c", "MAIL FROM:<{sender}>", "RSET"),
    ("RCPT TO:<a@b.example>", "MAIL FROM:<{sender}>", "DATA", "MAIL FROM:<{sender}>", "QUIT"),
    ("MAIL FROM:<{sender}>", "RCPT TO:<a@b@c", "RCPT TO:<nobody@elsewhere.example>", "QUIT"),
)


async def seen(talk: Session, lines: tuple[str, ...]) -> list[tuple[str, Reply]]:
    """Each code in the replies to these, on a connection of their own."""
    beside, found = talk.another(), []
    await beside.upto("ehlo")
    for line in lines:
        reply = await beside.say(beside.fill(line))
        if reply.kind != "reply":
            break
        if reply.code == "354":  # without a recipient, too: the end is refused (RFC 5321 3.3)
            reply = await beside.content(beside.message())
            if reply.kind != "reply":
                break
        for text in reply.lines:
            if (code := CODE.match(text)) is not None and reply.code != "421":
                found.append((code[0], reply))
    await beside.close()
    return found


async def all_seen(talk: Session) -> list[tuple[str, Reply]]:
    """Raises NotApplicable if there is none."""
    found = [each for lines in TALKS for each in await seen(talk, lines)]
    if not found:
        raise NotApplicable("ENHANCEDSTATUSCODES that are used")
    return found
