"""What an evolution is: a line of architectures that run, each with the pattern that made it.

An adapter is a callable without arguments, registered as an entry point of the group
`refmta.specs.evolutions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from specs import registered
from specs.patterns.target import Target
from specs.persistence.protocols import CommitStore

EVOLUTIONS: Final = "refmta.specs.evolutions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """architecture: its name for a target.  pattern: the one that made it, "" for the first.  text:
    what that pattern did.  weakened: the same architecture with the kernel's filters broken, "" if
    it has none: a guard that stands behind them shows only then.
    """

    architecture: str
    pattern: str = ""
    text: str = ""
    weakened: str = ""

    def __str__(self) -> str:
        return f"{self.architecture} ({self.pattern or 'the start'})"


class Evolution(Protocol):
    """One line.  Targets are made anew at each call; nothing else is kept."""

    @property
    def steps(self) -> Sequence[Step]:
        """The first one is what all others are compared with."""
        ...

    def observed(self) -> Target:
        """A server to be looked at: one whose processes are all easily brought about."""
        ...

    def shipped(self) -> Target:
        """A server to be timed: as its users have it."""
        ...

    def stores(self, step: Step) -> Sequence[CommitStore]:
        """Where mail lies that was promised: the queue, and mailboxes."""
        ...


def names() -> tuple[str, ...]:
    """Of the registered evolutions."""
    return registered.names(EVOLUTIONS)


def load(name: str) -> Evolution:
    """The evolution of that name.  Raises KeyError if there is none."""
    evolution: Evolution = registered.make(EVOLUTIONS, name)
    return evolution
