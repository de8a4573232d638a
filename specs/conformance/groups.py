"""Several commands in one write (RFC 2920), and what their replies look like beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from specs.conformance.model import Reply
from specs.conformance.session import Session

#: How long a server is given to say what it should not.
PAUSE_S: Final = 0.03


def joined(talk: Session, lines: Sequence[str]) -> bytes:
    """The lines, filled in, as one group."""
    return b"".join(talk.fill(line).encode() + b"\r\n" for line in lines)


def stuffed(octets: bytes) -> bytes:
    """A message on the wire, with its end."""
    return (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def classes(found: Sequence[Reply]) -> str:
    """ "2 2 5 3": what is compared; codes within a class may differ by chance."""
    return " ".join(each.code[:1] if each.kind == "reply" else each.kind for each in found)


def codes(found: Sequence[Reply]) -> str:
    """ "250 250 550 354"."""
    return " ".join(each.label for each in found)
