"""The size that a server advertises (RFC 1870): of cases that declare or send as much."""

from __future__ import annotations

from typing import Final

from specs.conformance.session import NotApplicable, Session

#: The largest limit that is tried out with real octets.
MOST: Final = 12_000_000


def limit(talk: Session) -> int:
    """The advertised maximum; 0 if there is none.  Raises NotApplicable."""
    value = talk.features.get("SIZE", "")
    if not value:
        return 0
    if not (value.isascii() and value.isdigit()):
        raise NotApplicable("SIZE with a number")
    return int(value)


async def small_limit(talk: Session) -> int:
    """A limit that can be tried out, after EHLO.  Raises NotApplicable."""
    await talk.upto("ehlo")
    most = limit(talk)
    if not 10_000 <= most <= MOST:
        raise NotApplicable(f"SIZE from 10000 to {MOST}")
    return most
