"""The numbers of a step, as plain data: what a run tells, and what a picture is made from."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from specs.evolution.steps import Step

Level = Literal["none", "some", "all"]


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    have: int
    of: int

    @property
    def part(self) -> float:
        """From 0 to 1; nothing of nothing is 0."""
        return self.have / self.of if self.of else 0.0

    @property
    def level(self) -> Level:
        """What does not depend on how many there are."""
        if not self.have:
            return "none"
        return "all" if self.have == self.of else "some"

    def __str__(self) -> str:
        return f"{self.have}/{self.of}"


def total(shares: Iterable[Share]) -> Share:
    """All of them together."""
    found = list(shares)
    return Share(sum(each.have for each in found), sum(each.of for each in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Messages per second, a number for each round; the same rounds for every step."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def to(self, other: Rates) -> tuple[float, ...]:
        """In relation to another step, round by round, in order of size."""
        return tuple(sorted(a / b for a, b in zip(self.rounds, other.rounds, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a running step.

    A process here is a kind of process: those of one name count once, so that the number is not
    the load's.  root: those with user 0, of all.  users: distinct ones.  facing: the kinds that
    talk with strangers over the network.  reach: kind of file -> those that at least one of them
    can open, when it is seized.  attempts: what they then succeed in, of all that was tried.
    root_lines: of the judged's own code, that processes of user 0 have loaded.  facing_lines: the
    most that one of the facing has loaded.
    """

    root: Share
    users: int
    facing: tuple[str, ...]
    reach: Mapping[str, Share]
    attempts: tuple[str, ...]
    tried: int
    root_lines: int
    facing_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step with its numbers.  lost: store -> crash states in which promised mail is lost or
    altered, of all.  rates: None if they were not taken.  weakened: seen with the kernel's
    filters broken; None if there are none.
    """

    step: Step
    seen: Seen
    lost: Mapping[str, Share]
    rates: Rates | None = None
    weakened: Seen | None = None

    @property
    def weakest(self) -> Seen:
        """With the filters broken, if there are any."""
        return self.weakened or self.seen
