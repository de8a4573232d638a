"""A transcript while it is written."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from specs.conformance.model import Line

#: How much a file system's clock may be behind, in seconds.
SLACK_S: Final = 2.0
#: Most of a connection that the transcript keeps, in octets; cases may send megabytes.
TOLD: Final = 1 << 16


@dataclass(slots=True)
class Told:
    """Of all connections of a case."""

    began_s: float
    #: The time of day before which no mail is this case's.
    since_s: float = field(default_factory=lambda: time.time() - SLACK_S)
    lines: list[Line] = field(default_factory=list)
    connections: int = 0
    _left: int = 4 * TOLD

    def add(self, who: Literal["C", "S", "-"], octets: bytes, connection: int) -> None:
        """Nothing once it is too long, but a remark that says so."""
        if self._left <= 0:
            return
        self._left -= len(octets)
        shown = octets if len(octets) <= TOLD else octets[:TOLD]
        at_s = trio.current_time() - self.began_s
        self.lines.append(Line(at_s=at_s, who=who, octets=shown, connection=connection))
        if len(shown) < len(octets) or self._left <= 0:
            more = f"{len(octets)} octets, of which {len(shown)} are shown".encode()
            self.lines.append(Line(at_s=at_s, who="-", octets=more, connection=connection))
