"""Secrets do not go into what is kept: the password, and the octets that tell it.

In a transcript, a page or a report the password stands nowhere, neither as it is nor in base64, as
PLAIN and LOGIN send it.  What takes its place has the length of nothing: `***`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from specs.conformance.model import Line

MASK: Final = b"***"
#: Words that may be base64 of something that has the password in it.
_WORD: Final = re.compile(rb"[A-Za-z0-9+/]{4,}={0,2}")


def masked(octets: bytes, password: str) -> bytes:
    """The same without the password.  An empty one is no secret."""
    if not password:
        return octets
    secret = password.encode()

    def hide(found: re.Match[bytes]) -> bytes:
        word = found[0]
        try:
            told = base64.b64decode(word + b"=" * (-len(word) % 4), validate=False)
        except (binascii.Error, ValueError):
            return word
        return MASK if secret in told else word

    return _WORD.sub(hide, octets.replace(secret, MASK))


def without_secrets(lines: Sequence[Line], password: str) -> tuple[Line, ...]:
    """A transcript."""
    return tuple(replace(each, octets=masked(each.octets, password)) for each in lines)
