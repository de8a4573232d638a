"""Secrets do not go into what is kept: the password, and octets that tell it, or most of it.

Cases send it whole and damaged: without its end, in other letters, with a sign too many inside its
base64.  So a line of a transcript that has a part of it, in clear or in base64 read leniently, has
`***` in the place of all its arguments.  A password shorter than `PART` is looked for as a whole.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from specs.conformance.model import Line

MASK: Final = b"***"
#: So many octets in a row tell too much.
PART: Final = 5
_LINE: Final = re.compile(rb"[^\r\n]*[\r\n]*")
#: What may stay of a line: the verb with its mechanism, or the code of a reply.
_HEAD: Final = re.compile(rb"(?:AUTH +[A-Z0-9_-]+ ?|[0-9]{3}[ -])?", re.IGNORECASE)
_NO_SIGN: Final = re.compile(rb"[^A-Za-z0-9+/]")


def masked(octets: bytes, password: str) -> bytes:
    """The same without the password.  An empty one is no secret."""
    if not password:
        return octets
    parts = tuple(_parts(password.encode("utf-8", "surrogateescape").lower()))
    return b"".join(_masked_line(found[0], parts) for found in _LINE.finditer(octets))


def _parts(secret: bytes) -> Iterator[bytes]:
    for at in range(max(1, len(secret) - PART + 1)):
        yield secret[at : at + PART]


def _masked_line(line: bytes, parts: tuple[bytes, ...]) -> bytes:
    body = line.rstrip(b"\r\n")
    found = _HEAD.match(body)
    head = found[0] if found else b""
    rest = body[len(head) :]
    told = (rest.lower(), *_decoded(rest))
    if any(part in each for part in parts for each in told):
        return head + MASK + line[len(body) :]
    return line


def _decoded(text: bytes) -> Iterator[bytes]:
    """What it would be in base64, whatever signs are between, and wherever it begins."""
    signs = _NO_SIGN.sub(b"", text)
    for at in range(4):
        kept = signs[at:]
        try:
            yield base64.b64decode(kept[: len(kept) // 4 * 4]).lower()
            yield base64.b64decode(kept + b"A" * (-len(kept) % 4)).lower()
        except binascii.Error:
            continue


def without_secrets(lines: Sequence[Line], password: str) -> tuple[Line, ...]:
    """A transcript."""
    return tuple(replace(each, octets=masked(each.octets, password)) for each in lines)
