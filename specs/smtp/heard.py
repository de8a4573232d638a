"""A session as somebody saw it: two streams of octets, and which came before which.

What is known of time is one thing: when an octet of the server was seen, the client had sent so
much, and no more.  So the server had read *at most* that.  How streams are cut into chunks has no
other meaning.

Beside octets there are marks: "tls" (from here on inside TLS, as it was said and not as it was
sent), and "lost" (something is missing from here on: nothing behind it can be judged).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets of the client ("C") or the server ("S"), or a mark, which has none."""

    who: Literal["C", "S", "tls", "lost"]
    octets: bytes = b""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where TLS begins in both streams."""

    client: int
    server: int


class Heard:
    """See above.  client, server: the streams, up to where something is lost."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        client, server = bytearray(), bytearray()
        self._starts: list[int] = []
        self._limits: list[int] = []
        marks: list[Mark] = []
        self.lost = False
        for each in chunks:
            match each.who:
                case "C":
                    client += each.octets
                case "S" if each.octets:
                    self._starts.append(len(server))
                    self._limits.append(len(client))
                    server += each.octets
                case "tls":
                    marks.append(Mark(client=len(client), server=len(server)))
                case "lost":
                    self.lost = True
                    break
        self.client, self.server, self.marks = bytes(client), bytes(server), tuple(marks)

    def limit(self, at: int) -> int:
        """How much the client had sent when the server's octet at this offset was seen."""
        return self._limits[bisect_right(self._starts, at) - 1]
