"""Who sends a step's letter: the storm's client (`client`), one letter at a time, with a clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from random import Random
from typing import Final

from faultinject import letters
from faultinject.books import Answer
from faultinject.client import Clients, Letter, Line
from faultinject.disk.trust import Answered
from faultinject.letters import Copy

RUN: Final = "disk"
#: Octets of a letter that takes more than one write.
LARGE_OCTETS: Final = 200_000


@dataclass(slots=True)
class TimedClients(Clients):
    """Clients that note when each attempt began and was answered 250, and how large each letter was
    (in octets, with LF for CRLF).
    """

    answers: list[Answered] = field(default_factory=list)
    made: list[Copy] = field(default_factory=list)
    sizes: dict[Copy, int] = field(default_factory=dict)

    async def _attempt(self, line: Line, letter: Letter, attempt: int) -> bool:
        begun_s = time.time()
        copy = Copy(letters.token_of(self.run, letter.number), attempt)
        self.made.append(copy)
        octets = letters.compose(
            self.run, letter.number, attempt, letter.sender, letter.recipients, letter.octets
        )
        self.sizes[copy] = len(octets) - octets.count(b"\r\n")
        done = await Clients._attempt(self, line, letter, attempt)
        sending = self.books.sendings.get(copy)
        if sending is not None and sending.answer is Answer.ACKNOWLEDGED:
            self.answers.append(Answered(what=str(copy), begun_s=begun_s, answered_s=time.time()))
        return done


class Careful(Random):
    """Chance for a client that waits for every reply: what would be one in many never comes."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return max(1, super().randrange(start, stop, step))
