"""Authentication-Results (RFC 8601 2.2), taken apart.

    parsed("mx.x.example; spf=pass ...")  Results, or raises Malformed with what is wrong

What is tricky: comments may stand nearly anywhere and nest, and hold any of the characters that
part things; so they are taken out first, outside quoted strings.  Values may be quoted strings.
The parser asks for less than the grammar where software is known to differ (an address or a value
with "=", "/" or ":" in it without quotes): a wrong complaint is worse than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

KEYWORD: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\Z")
_VALUE: Final = r'(?:"(?:[^"\\]|\\.)*"|[^\s;"])+'
_ID: Final = re.compile(rf"\s*({_VALUE})(?:\s+([0-9]+))?\s*\Z")
_METHOD: Final = re.compile(
    r"\s*([A-Za-z0-9_-]+)(?:\s*/\s*([0-9]+))?\s*=\s*([A-Za-z0-9_-]+)(?=\s|\Z)(.*)\Z", re.DOTALL
)
_PROPERTY: Final = re.compile(
    rf"\s*(?:reason\s*=\s*{_VALUE}|[A-Za-z0-9-]+\s*\.\s*[A-Za-z0-9_-]+\s*=\s*{_VALUE}?)(?=\s|\Z)",
    re.IGNORECASE,
)


class Malformed(Exception):
    """No Authentication-Results; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """id: of the service, in small letters.  version: "" if not given.  results: method, result."""

    id: str
    version: str
    results: tuple[tuple[str, str], ...]


def without_comments(text: str) -> str:
    """Each becomes a space.  Raises Malformed if one is not closed."""
    found, depth, quoted, at = [], 0, False, 0
    while at < len(text):
        char = text[at]
        if char == "\\" and (quoted or depth):
            if not depth:
                found.append(text[at : at + 2])
            at += 2
            continue
        if char == '"' and not depth:
            quoted = not quoted
        if char == "(" and not quoted:
            depth += 1
        if not depth:
            found.append(char)
        if char == ")" and not quoted and depth:
            depth -= 1
            found.append(" ")
        at += 1
    if depth or quoted:
        raise Malformed("a comment or a quoted string does not end")
    return "".join(found)


def parsed(text: str) -> Results:
    """Raises Malformed."""
    first, *rest = _cut(without_comments(text))
    found = _ID.match(first)
    if found is None:
        raise Malformed("no authserv-id")
    if not rest:
        raise Malformed("nothing behind the authserv-id")
    results = []
    for each in rest:
        if each.strip().lower() == "none" and len(rest) == 1:
            break
        if not each.strip():
            raise Malformed("an empty result")
        results.append(_result(each))
    return Results(id=found[1].strip('"').lower(), version=found[2] or "", results=tuple(results))


def _cut(text: str) -> list[str]:
    """At semicolons outside quoted strings."""
    pieces, quoted, begun = [], False, 0
    for at, char in enumerate(text):
        if char == '"' and text[at - 1 : at] != "\\":
            quoted = not quoted
        if char == ";" and not quoted:
            pieces.append(text[begun:at])
            begun = at + 1
    return [*pieces, text[begun:]]


def _result(text: str) -> tuple[str, str]:
    found = _METHOD.match(text)
    if found is None:
        raise Malformed(f"no method=result: {text.strip()[:60]}")
    method, result, rest = found[1], found[3], found[4]
    for word in (method, result):
        if not KEYWORD.match(word):
            raise Malformed(f"no keyword: {word}")
    while rest.strip():
        more = _PROPERTY.match(rest)
        if more is None:
            raise Malformed(f"no ptype.property=value: {rest.strip()[:60]}")
        rest = rest[more.end() :]
    return method.lower(), result.lower()
