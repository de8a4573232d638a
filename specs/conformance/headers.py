"""A message's header, taken apart: fields, each with its name and its value.

    fields(octets)                     # up to the first empty line, in order
    parts(octets)                      # the same, and the body; with LF
    added(came, sent)                  # what was put on top of a message on its way

Rules a reader may rely on
- Lines may end in CRLF or in LF: `raw` is as it came, and no name or value depends on it.
- A line that is no field is one with the name "".  Nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NAME: Final = re.compile(rb"[!-9;-~]+\Z")
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")

#: Names in small letters, each with its values in order, unfolded.
Fields = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Field:
    """name: in small letters.  value: unfolded, without the space around it.  raw: all its lines,
    with their ends.
    """

    name: str
    value: str
    raw: bytes


def lf(octets: bytes) -> bytes:
    """Each CRLF turned into LF."""
    return octets.replace(b"\r\n", b"\n")


def fields(octets: bytes) -> list[Field]:
    """Of a message or of its header."""
    found: list[bytes] = []
    for match in _LINE.finditer(octets):
        line = match[0]
        if line in (b"\n", b"\r\n"):
            break
        if line[:1] in (b" ", b"\t") and found:
            found[-1] += line
        else:
            found.append(line)
    return [_field(raw) for raw in found]


def _field(raw: bytes) -> Field:
    name, colon, value = raw.partition(b":")
    name = name.rstrip(b" \t")
    known = colon and NAME.match(name)
    text = _FOLD.sub(b" ", value if known else raw).decode("utf-8", "backslashreplace").strip()
    return Field(name.decode("ascii").lower() if known else "", text, raw)


def parts(message: bytes) -> tuple[list[Field], bytes]:
    """The fields, and the body; with LF."""
    head, _, body = (b"\n" + lf(message)).partition(b"\n\n")
    return fields(head[1:] + b"\n" if head else b""), body


def named(found: Sequence[Field], name: str) -> list[Field]:
    """Those of a name, in any case."""
    return [each for each in found if each.name == name.lower()]


def pairs(message: bytes) -> list[tuple[str, str]]:
    """Name and value of each field."""
    return [(each.name, each.value) for each in fields(message) if each.name]


def by_name(octets: bytes) -> Fields:
    """All values of each name; what is no field is under ""."""
    found: dict[str, list[str]] = {}
    for each in fields(octets):
        found.setdefault(each.name, []).append(each.value)
    return {name: tuple(values) for name, values in found.items()}


def first(group: Fields, name: str) -> str:
    """A field's first value, "" if there is none."""
    return group.get(name, ("",))[0]


# -- what a server has put on top -----------------------------------------------------------------


def above(came: bytes, sent: bytes) -> list[Field] | None:
    """The fields on top of what was sent, octet by octet; None if anything else was done to it."""
    if not came.endswith(sent):
        return None
    head = came.removesuffix(sent)
    found = fields(head)
    whole = b"".join(each.raw for each in found) == head
    return found if whole and all(each.name for each in found) else None


def added(came: bytes, sent: bytes) -> list[Field] | None:
    """The same where ends of lines don't matter, one more at the end neither, and what is on top
    need not be fields; None if the rest is not what was sent.
    """
    whole = lf(came)
    for tail in (lf(sent), lf(sent) + b"\n"):
        if whole.endswith(tail):
            return fields(whole[: -len(tail)])
    return None


def on_top(message: bytes) -> list[Field]:
    """With LF: the fields above the first From, which a server has put there."""
    found: list[Field] = []
    for each in parts(message)[0]:
        if each.name == "from":
            break
        found.append(each)
    return found
