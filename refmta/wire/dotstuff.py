r"""Dot-stuffing (RFC 5321 4.5.2): the octets after DATA <-> the content of a message.

Why this is tricky: servers that take anything but CRLF.CRLF for the end of a message, behind
servers that pass it on as content, let a sender hide a second message in the first (SMTP
smuggling; RFC 5321 2.3.8 and 4.1.1.4 forbid it).  So there is one end, and whatever another
server might take for one is refused at once, and the connection with it.

Which lone dots end a message (EOL1 "." EOL2; the start of the message counts as CRLF):

    EOL1 \ EOL2 |  CRLF      LF        CR and an octet other than LF
    CRLF, start |  complete  refused   refused
    LF          |  refused   refused   refused
    CR          |  refused   refused   refused

"At once" is the first octet that decides: of "CRLF . CR" the next octet, of all others EOL2's
first or only octet.  A dot after a bare CR or LF that is not alone is content, and is not removed.

The decoder octet by octet, as a table that the tests read and hold the decoder to, at every split:

    state  | CR       | LF       | dot      | other
    line   | cr       | lf !     | stuffed  | text
    text   | cr       | lf !     | text     | text
    cr     | cr !     | line     | held !   | text !
    lf     | cr       | lf !     | held     | text
    stuffed| end      | REFUSED  | text     | text
    end    | REFUSED  | COMPLETE | REFUSED  | REFUSED
    held   | REFUSED  | REFUSED  | text .   | text .

It starts in `line`.  The octet is content on the way to line, text, cr and lf, and on no other way;
"." means that the held dot comes out before it; "!" sets `bare`.  Nothing is emitted that may have
to be taken back: only a dot after a bare CR or LF is ever held, and only until the next octet.

The code works on whole buffers and so has no states.  Instead it keeps the last octets fed, at
most four ("context"), puts them before the next buffer, and drops from the result what of them is
out already.  The start of a message is the context CRLF.

What it does not do: limit the size (the caller watches `size`), or look at octets other than CR,
LF and ".": NUL, controls and 8-bit octets pass.
"""

import re
from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["more", "complete", "refused_end"]

_has_bare_cr = re.compile(rb"\r[^\n]").search
_find_dot_line = re.compile(rb"\n\.").search
# A dot between line ends of any kind; where all are CRLF, only the first row can occur.
_LONE_DOTS: Final = (b"\n.\r", b"\n.\n", b"\r.\r", b"\r.\n")

# What to keep of a buffer that ends so: (ending, octets of it held back, octets of it emitted).
# The first row that fits; every buffer fits the last.
_CONTEXTS: Final = (
    (b"\r\n.\r", 1, 2),
    (b"\r\n.", 0, 2),
    (b"\r.", 1, 1),
    (b"\n.", 1, 1),
    (b"\r\n", 0, 2),
    (b"\r", 0, 1),
    (b"\n", 0, 1),
    (b"", 0, 0),
)


class Decoder:
    """Decodes one message; mutable.  The tests hold it equal to the table above.

    status: "more" until the end; then "complete", or "refused_end": the server answers 550 5.5.2,
        closes, and executes nothing that follows.
    bare: the content has a bare CR or LF: the message is to be refused once it is complete.
    rest: what follows the end in the octets fed; after a refused end empty, by design.
    size: octets of content returned so far.
    """

    __slots__ = ("_context", "_emitted", "bare", "rest", "size", "status")

    def __init__(self) -> None:
        self.status: Status = "more"
        self.bare = False
        self.rest = b""
        self.size = 0
        self._context = b"\r\n"
        self._emitted = 2

    def feed(self, octets: bytes) -> bytes:
        """The content that `octets` adds.  Any split of the input gives the same content, status,
        bare and end.  Raises RuntimeError after the end."""
        if self.status != "more":
            raise RuntimeError("fed after the end of the message")
        buffer = self._context + octets
        clean = not self.bare and _all_crlf(buffer)
        dot_line = _find_dot_line(buffer) if clean else None
        if clean and dot_line is None:  # nearly every buffer of a large message
            self._keep(buffer)
            content = octets
        else:
            content = self._decoded(buffer, clean, dot_line.start() if dot_line else 0)
        self.size += len(content)
        return content

    def _decoded(self, buffer: bytes, clean: bool, start: int) -> bytes:
        """The content of a buffer with bare line ends or dot lines; no dot line before `start`."""
        dot = self._find_end(buffer, clean, start)
        emitted = self._emitted
        if dot is None:
            self.bare = self.bare or not (clean or _all_crlf(buffer))
            held = self._keep(buffer)
            stop = len(buffer)
        else:  # the dot shows whether a CR before it is bare
            self.bare = self.bare or not (clean or _all_crlf(buffer[: dot + 1]))
            held = 0
            stop = dot
        content = buffer[:stop]
        if dot != start + 1:  # else the lone dot is the first dot line
            content = content.replace(b"\r\n.", b"\r\n")
        return content[emitted : len(content) - held]

    def _find_end(self, buffer: bytes, clean: bool, start: int) -> int | None:
        """The index of the first lone dot, status and rest set; None if there is none yet."""
        lone_dots = _LONE_DOTS[:1] if clean else _LONE_DOTS
        starts = [found for dot in lone_dots if (found := buffer.find(dot, start)) >= 0]
        if not starts:
            return None
        dot = min(starts) + 1
        after_crlf = buffer.endswith(b"\r\n", 0, dot)
        after = buffer[dot + 1 : dot + 3]
        if after_crlf and after == b"\r":  # and there the buffer ends: CRLF or bare CR?
            return None
        if after_crlf and after == b"\r\n":
            self.status = "complete"
            self.rest = buffer[dot + 3 :]
        else:
            self.status = "refused_end"
        return dot

    def _keep(self, buffer: bytes) -> int:
        """Sets the context for the next buffer; returns how many octets are held back."""
        for ending, held, emitted in _CONTEXTS:
            if buffer.endswith(ending):
                self._context, self._emitted = ending, emitted
                return held
        raise AssertionError("the last row fits every buffer")


def _all_crlf(buffer: bytes) -> bool:
    """No CR without LF, no LF without CR; a CR at the very end is still undecided."""
    if _has_bare_cr(buffer):
        return False
    return buffer.count(b"\r") - buffer.endswith(b"\r") == buffer.count(b"\n")


def encode(content: bytes) -> bytes:
    """`content` as sent after DATA's 354: dots stuffed, CRLF added where the last line has none,
    then ".CRLF".  Raises ValueError for a bare CR or LF, which RFC 5321 2.3.8 forbids to send."""
    if content.endswith(b"\r") or not _all_crlf(content):
        raise ValueError("bare CR or LF in the content")
    if not content.endswith(b"\r\n") and content:
        content += b"\r\n"
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
