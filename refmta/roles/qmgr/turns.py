"""Whose turn it is to have his mail delivered, where agents serve everybody."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refmta.roles.qmgr.state import Active


@dataclass(slots=True, eq=False)
class Owner:
    """One user's mail, on its way to his mailbox.

    backlog: in memory, to be handed over.  flying: with an agent, by reference.  parked: queue ids
    of messages beyond the user's share of the memory; they wait on disk.
    breaks: agents that were lost, in a row; before `not_before_s` there will be no other.
    """

    user: str
    backlog: deque[tuple[Active, int]] = field(default_factory=deque)
    flying: dict[int, tuple[Active, int]] = field(default_factory=dict)
    parked: deque[str] = field(default_factory=deque)
    breaks: int = 0
    not_before_s: float = 0.0


@dataclass(slots=True)
class Turns:
    """At most `limit` deliveries at once, `most` of one user's.

    Nobody may have more than what would be left for others (a dynamic threshold, as in
    `protocol.destinations`): one user whose deliveries hang has half of all places, two such users
    two thirds, and so on; a newcomer finds one as long as there are fewer such users than places.
    Within that, who has waited longest is next.
    """

    limit: int
    most: int
    waiting: dict[str, Owner] = field(default_factory=dict)
    under_way: int = 0

    def wait(self, owner: Owner) -> None:
        """This user has mail to be handed over; a user who waits already keeps his place."""
        if owner.backlog:
            self.waiting.setdefault(owner.user, owner)

    def next(self, now_s: float) -> Owner | None:
        """Who may have one more delivery; None if nobody may now."""
        for _ in range(len(self.waiting)):
            free = self.limit - self.under_way
            if free <= 0:
                return None
            owner = self.waiting.pop(next(iter(self.waiting)))
            if not owner.backlog:
                continue
            self.waiting[owner.user] = owner
            if len(owner.flying) < min(self.most, free) and now_s >= owner.not_before_s:
                return owner
        return None
