"""Replies, read by the letter of RFC 5321 section 4.2, and EHLO's keywords (section 4.1.1.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LINE = re.compile(rb"([2-5][0-5][0-9])([ -]|\Z)([\t\x20-\x7e\x80-\xff]*)\Z")
_KEYWORD = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ \t]+([\x21-\x7e]+))?")


@dataclass(frozen=True, slots=True)
class Answer:
    """code 0: these octets are no reply."""

    code: int
    texts: tuple[bytes, ...] = ()

    @property
    def digit(self) -> int:
        """A client must be guided by it alone (section 4.3.2)."""
        return self.code // 100


@dataclass(frozen=True, slots=True)
class Replies:
    """The part of a reply that has come so far."""

    octets: bytes = b""
    code: int = 0
    texts: tuple[bytes, ...] = ()

    def read(self, octets: bytes) -> tuple[Replies, tuple[Answer, ...]]:
        """What is complete now. After an Answer with code 0 nothing more is read."""
        *lines, rest = (self.octets + octets).split(b"\r\n")
        code, texts = self.code, self.texts
        found: list[Answer] = []
        for line in lines:
            match = _LINE.match(line)
            if match is None or (texts and int(match[1]) != code):
                return Replies(), (*found, Answer(0))
            code, texts = int(match[1]), (*texts, match[3])
            if match[2] != b"-":
                found.append(Answer(code, texts))
                texts = ()
        return Replies(rest, code, texts), tuple(found)


@dataclass(frozen=True, slots=True)
class Offers:
    """What a server offered. size: 0: no limit; None: no SIZE."""

    pipelining: bool = False
    eight_bit: bool = False
    size: int | None = None


def offers(texts: Iterable[bytes]) -> Offers:
    """From the lines of EHLO's reply but the first."""
    words = {match[1].upper(): match[2] for text in texts if (match := _KEYWORD.match(text))}
    size: int | None = None
    if b"SIZE" in words:
        limit = words[b"SIZE"] or b"0"
        size = int(limit) if limit.isdigit() else None
    return Offers(b"PIPELINING" in words, b"8BITMIME" in words, size)
