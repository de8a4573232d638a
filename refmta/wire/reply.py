"""SMTP replies (RFC 5321 4.2) with enhanced status codes (RFC 2034, RFC 3463) <-> octets.

Rules a reader may rely on:

1. What `Reply.encode` returns is a reply of RFC 5321 4.2 whatever the text holds: every line is
   printable ASCII, ends with CRLF, and has at most 512 octets with it (4.5.3.1.5).  Text often
   repeats what a client said; a CR or LF in it would otherwise be a second reply of its choosing.
2. The enhanced code stands on each line (RFC 2034 section 4) and its class agrees with the code.
3. `ReplyParser` distrusts its server: bounded line length, bounded number of lines, one code for
   all lines, CRLF only; the lines it returns are printable ASCII.

Escapes are for display, not for undoing: a backslash in the text is left as it is.
"""

import re
from dataclasses import dataclass
from typing import Final

LINE_OCTETS: Final = 512  # RFC 5321 4.5.3.1.5, with CRLF
LINES: Final = (
    100  # of one reply; EHLO replies have ten or so (Postfix's client: no limit but time)
)
RECEIVED_LINE_OCTETS: Final = 2048  # tolerated from a server, with CRLF (Postfix: 2048)

_is_enhanced = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z").match
_match_line = re.compile(rb"([2-5][0-5][0-9])(?:([ -])([^\r\n]*))?\Z").match
_match_enhanced = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|\Z)").match
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


class ReplyError(ValueError):
    """The server's octets are no reply.  The text holds no octet from outside."""


def escaped(text: str) -> str:
    r"""`text` as printable ASCII: controls and non-ASCII as \x0d, \xe9, \u20ac."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPES).encode("ascii", "backslashreplace").decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply, of one line or more.

    code: 200 to 559 (RFC 5321 4.2: Reply-code).
    enhanced: "class.subject.detail" of the code's class, or None (3yz, greeting, EHLO).
    lines: text as meant; `encode` escapes and cuts it.  None at all is one empty line.
    Raises ValueError when code and enhanced are impossible: our mistake, never the peer's.
    """

    code: int
    enhanced: str | None
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not (200 <= self.code < 600 and self.code % 100 < 60):
            raise ValueError("not a reply code of RFC 5321 4.2")
        if self.enhanced is None:
            return
        if not _is_enhanced(self.enhanced) or int(self.enhanced[0]) != self.code // 100:
            raise ValueError("enhanced code does not fit the reply code (RFC 2034 section 4)")

    def encode(self) -> bytes:
        """The octets on the wire."""
        enhanced = f"{self.enhanced} " if self.enhanced else ""
        if len(self.lines) == 1:
            return _encode_line(f"{self.code} {enhanced}", self.lines[0])
        lines = self.lines or ("",)
        more = f"{self.code}-{enhanced}"
        octets = [_encode_line(more, line) for line in lines[:-1]]
        return b"".join([*octets, _encode_line(f"{self.code} {enhanced}", lines[-1])])

    def __str__(self) -> str:
        """One printable line, for logs and errors."""
        words = (str(self.code), self.enhanced or "", *map(escaped, self.lines))
        return " ".join(word for word in words if word)


def _encode_line(prefix: str, text: str) -> bytes:
    return (prefix + escaped(text))[: LINE_OCTETS - 2].encode("ascii") + b"\r\n"


def reply(code: int, enhanced: str | None, *lines: str) -> Reply:
    """Short for Reply(...)."""
    return Reply(code=code, enhanced=enhanced, lines=lines)


class ReplyParser:
    """Octets of a server -> replies; mutable, for one connection.

    line_octets: longest line, CRLF included.  line_count: most lines of one reply.
    After a ReplyError the parser is of no more use: the connection has to end.
    """

    __slots__ = ("_code", "_line_count", "_line_octets", "_pending", "_texts")

    def __init__(self, *, line_octets: int = RECEIVED_LINE_OCTETS, line_count: int = LINES) -> None:
        self._line_octets = line_octets
        self._line_count = line_count
        self._pending = b""
        self._code = 0
        self._texts: list[str] = []

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that `octets` completes.  Raises ReplyError."""
        *lines, self._pending = (self._pending + octets).split(b"\r\n")
        replies = [done for line in lines if (done := self._line(line)) is not None]
        # A CR at the end may be half of the CRLF.
        if len(self._pending.removesuffix(b"\r")) > self._line_octets - 2:
            raise ReplyError("reply line is too long")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > self._line_octets - 2:
            raise ReplyError("reply line is too long")
        match = _match_line(line)
        if match is None:
            raise ReplyError("not a reply line of RFC 5321 4.2")
        code = int(match[1])
        if self._texts and code != self._code:
            raise ReplyError("the lines of one reply have different codes")
        if len(self._texts) >= self._line_count:
            raise ReplyError("reply has too many lines")
        self._code = code
        self._texts.append(escaped((match[3] or b"").decode("latin-1")))
        if match[2] == b"-":
            return None
        texts, self._texts = self._texts, []
        return _parsed(code, texts)


def _parsed(code: int, texts: list[str]) -> Reply:
    """The enhanced code is the first line's; it is taken off each line that repeats it."""
    first = _match_enhanced(texts[0])
    if first is None or int(first[1][0]) != code // 100:
        return Reply(code=code, enhanced=None, lines=tuple(texts))
    enhanced = first[1]
    lines = []
    for text in texts:
        match = _match_enhanced(text)
        lines.append(text[match.end() :] if match and match[1] == enhanced else text)
    return Reply(code=code, enhanced=enhanced, lines=tuple(lines))
