"""The octets of a reply (RFC 5321 4.2): what one is, and where the first octet is that none has.

    code [SP text] CRLF, or code "-" [text] CRLF, any number of them, and such a line

- A text is of HT and visible ASCII.  Other octets are borne, with a remark, if the client sent any
  such before: it provoked an echo, perhaps a changed one; or if it said SMTPUTF8, behind which
  UTF-8 is right (RFC 6531 3.7.4).  A CR or LF in it is never borne.
- A line has 512 octets at most; a longer one is borne, with a remark, after a long line of the
  client.
- The reply to EHLO has a form of its own (4.1.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: RFC 5321 4.5.3.1.5, with CRLF.
LONGEST: Final = 512
#: A line of the client that may be the cause of a long reply.
_LONG: Final = re.compile(rb"[^\n]{200}")
LABEL: Final = rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME: Final = re.compile(rb"(?:%b(?:\.%b)*|\[[!-Z^-~]+\])(?: |\Z)" % (LABEL, LABEL))
_NO_TEXT: Final = re.compile(rb"[^\t -~]")
#: What a client said that is an excuse for it.
_ODD: Final = re.compile(rb"[^\t\r\n -~]|SMTPUTF8", re.IGNORECASE)
_KEYWORD: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*(?= |\Z)")
#: A habit older than RFC 4954, and no keyword.
_OLD_AUTH: Final = re.compile(rb"AUTH=[!-~]*(?= |\Z)", re.IGNORECASE)
_PARAMETERS: Final = re.compile(rb"(?: [!-~]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """text: behind the separator.  at: where that begins in the server's stream."""

    text: bytes
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole one.  end: behind its last LF."""

    code: str
    lines: tuple[Line, ...]
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """An octet that is not allowed, and the rule."""

    at: int
    says: str
    section: str


def keywords(reply: Reply) -> dict[str, int]:
    """Of a reply to EHLO, in capitals, each with where it stands."""
    found: dict[str, int] = {}
    for each in reply.lines[1:]:
        word = each.text.split(b" ")[0]
        found.setdefault(word.upper().decode("latin-1"), each.at)
    return found


def wrong_in_text(
    server: bytes, begin: int, end: int, heard: tuple[bytes, int]
) -> Iterator[Wrong | str]:
    """Of a line's text (its CRLF not counted): what is wrong, or a remark.  heard: the client's
    stream, and how much of it had come.
    """
    provoked = None
    for found in _NO_TEXT.finditer(server, begin, end):
        if found[0] in (b"\r", b"\n"):
            yield Wrong(at=found.start(), section="RFC 5321 4.2, 2.3.8",
                        says="a line ends with CRLF, and has no other CR or LF")  # fmt: skip
            return
        if provoked is None:
            provoked = _ODD.search(heard[0], 0, heard[1]) is not None
            if provoked:
                yield "no visible ASCII in a text, after such, or SMTPUTF8 (RFC 5321 4.2)"
        if not provoked:
            yield Wrong(at=found.start(), section="RFC 5321 4.2",
                        says="a text is of visible ASCII, spaces and tabs")  # fmt: skip
            return


def wrong_in_length(line_at: int, end: int, heard: tuple[bytes, int]) -> Wrong | str:
    """Of a line with its CRLF, as far as it has come; "" if it is short enough."""
    if end - line_at <= LONGEST:
        return ""
    if _LONG.search(heard[0], 0, heard[1]):
        return "a line of more than 512 octets, after a long one of the client (RFC 5321 4.5.3.1.5)"
    return Wrong(at=line_at + LONGEST, says="a line has 512 octets at most",
                 section="RFC 5321 4.5.3.1.5")  # fmt: skip


def wrong_in_hello(number: int, line: Line, *, tls: bool) -> Wrong | str:
    """Of a line of a 250 to EHLO or LHLO, from 0 on: what is wrong, a remark, or ""."""
    if number == 0:
        if _NAME.match(line.text):
            return ""
        return Wrong(at=line.at, says="the reply to EHLO begins with the server's name",
                     section="RFC 5321 4.1.1.1")  # fmt: skip
    old = _OLD_AUTH.match(line.text)
    word = old or _KEYWORD.match(line.text)
    if word is None:
        return Wrong(at=line.at, says="each line of the reply to EHLO but the first has a keyword",
                     section="RFC 5321 4.1.1.1")  # fmt: skip
    if tls and word[0].upper() == b"STARTTLS":
        return Wrong(at=line.at, says="STARTTLS is not offered inside TLS",
                     section="RFC 3207 4.2")  # fmt: skip
    found = _PARAMETERS.match(line.text, word.end())
    end = found.end() if found else word.end()
    if end != len(line.text):
        return Wrong(at=line.at + end, section="RFC 5321 4.1.1.1",
                     says="behind a keyword: one space before each visible parameter")  # fmt: skip
    return "AUTH= is no keyword (RFC 5321 4.1.1.1)" if old else ""


#: What an offer implies, and where that is said.
IMPLIED: Final = (
    ("BINARYMIME", "CHUNKING", "RFC 3030 3"),
    ("SMTPUTF8", "8BITMIME", "RFC 6531 3.1"),
)


def wrong_in_offers(reply: Reply) -> Wrong | None:
    """Of a whole 250 to EHLO."""
    offered = keywords(reply)
    for one, other, section in IMPLIED:
        if one in offered and other not in offered:
            return Wrong(at=offered[one], says=f"{one} is offered with {other} only",
                         section=section)  # fmt: skip
    return None
