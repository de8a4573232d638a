"""Command lines, cut out of what has arrived: CRLF alone ends one (RFC 5321 2.3.8).

Why this matters: a server that takes a lone LF for the end of a command executes what a front end,
or whoever wrote the command's argument, took for a part of it.  A line with a lone CR or LF inside
is one line, and no command; a client that never sends CRLF is never answered, until it is timed
out.
"""

from __future__ import annotations

_END = b"\r\n"


class LineCutter:
    """For one direction of one connection.  limit: of a line with its CRLF, in octets.

    What is longer is swallowed to its end, in constant memory.
    """

    __slots__ = ("_swallowing", "limit", "too_long")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: Whether the line that `cut` returned last was longer: then it is not the whole of it.
        self.too_long = False
        self._swallowing = False

    def cut(self, buffer: bytearray) -> bytes | None:
        """The next line without its CRLF, taken off the buffer; None until its end is there."""
        end = buffer.find(_END)
        if end < 0:
            if len(buffer) > self.limit:
                self._swallowing = True
                del buffer[: len(buffer) - buffer.endswith(_END[:1])]  # a CR may be half its end
            return None
        line = bytes(buffer[:end])
        del buffer[: end + len(_END)]
        self.too_long = self._swallowing or end + len(_END) > self.limit
        self._swallowing = False
        return line
