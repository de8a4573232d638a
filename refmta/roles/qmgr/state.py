"""What qmgr knows, as data: its configuration, its numbers, a message in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from refmta.protocol import delivery, schedule
from refmta.wire.envelope import Envelope

#: Most messages in memory at once; the others wait on disk (Postfix: active limit 20,000).
ACTIVE: Final = 2000
#: Messages loaded per wake-up: a long queue must not keep its peers waiting.
LOADED_AT_ONCE: Final = 100
#: Most deliveries in flight per local agent.
WINDOW: Final = 64
#: Agents that a message may outlive before it is deferred.
LOSSES: Final = 3
#: Routes kept, and for how long: a user who is removed gets mail no longer than this.
ROUTES, ROUTE_S = 10_000, 30.0
#: Messages described per frame to the operator.
ROWS_AT_ONCE: Final = 50
#: How often a queue that can't be read, or a report that can't be kept, is tried again, in seconds.
TROUBLE_S: Final = 60
NEVER_S: Final = float("inf")


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """qmgr's configuration.  Times in seconds.

    copies: which reports postmaster gets, too ("failed", "double").
    delay_warning_s: after which time a sender is told of a delay; 0 for never.
    rewrites: whether a reverse-path may be called otherwise elsewhere.
    """

    spool: str
    hostname: str = "localhost"
    lifetime_s: int = schedule.LOCAL.lifetime_s
    retry_minimum_s: int = schedule.REMOTE.minimum_s
    retry_maximum_s: int = schedule.REMOTE.maximum_s
    delay_warning_s: int = 4 * 3600
    copies: tuple[str, ...] = ()
    postmaster: str = ""
    remote_workers: int = 100
    per_destination: int = 20
    rewrites: bool = False


@dataclass(slots=True, eq=False)
class Active:
    """A message in memory.  reports: how many about it are under way.  said_from: what to say
    elsewhere in place of its reverse-path; empty for that itself.
    """

    envelope: Envelope
    state: delivery.Message
    end: int
    descriptor: int = -1
    losses: int = 0
    reports: int = 0
    said_from: str = ""

    @property
    def queue_id(self) -> str:
        """Its name in the queue."""
        return self.envelope.queue_id


class Carrier(Protocol):
    """Who brings messages to one kind of target."""

    def crowded(self, owner: str) -> bool:
        """Whether more for this owner (a user, a destination) must wait on disk for now."""
        ...

    def take(self, owner: str, active: Active, indices: Sequence[int]) -> None:
        """Deliver to these recipients, all of this owner; says Dispatched for each."""
        ...

    def park(self, owner: str, queue_id: str) -> str:
        """Remember that this message waits on disk for this owner; returns why."""
        ...
