"""What qmgr knows, as data: its configuration, its numbers, a message in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

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
#: Deliveries at once where each has a process of its own (qmail: concurrencylocal).
LOCAL_WORKERS: Final = 10
#: Recipients of one remote job (RFC 5321 4.5.3.1.8: every server takes 100; Postfix sends 50).
RECIPIENTS: Final = 100
#: Jobs of one remote session: then its worker is replaced (Postfix: max_use 100, of one
#: connection).
JOBS: Final = 500
#: Routes kept, and for how long: a user who is removed gets mail no longer than this.
ROUTES, ROUTE_S = 10_000, 30.0
#: Messages described per frame to the operator.
ROWS_AT_ONCE: Final = 50
#: How often a queue that can't be read, or a report that can't be kept, is tried again, in seconds.
TROUBLE_S: Final = 60
NEVER_S: Final = float("inf")


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """qmgr's configuration.  Times in seconds.

    store, options: how messages are kept (`stores.queue.open_queue`).
    keeps: whether this role recovers the queue at its start, and takes up all that lies in it.
    scan_s: how often it looks for what nobody told it of; 0 for never.
    delivery: "background": what arrives is tried at once; "interactive": and who told of it hears
    when that is over; "queue": only what lies in the queue at the start or at a scan is tried.
    cleaned: whether another role removes what is left of a message (port "clean").
    copies: which reports postmaster gets, too ("failed", "double").
    delay_warning_s: after which time a sender is told of a delay; 0 for never.
    rewrites: whether a reverse-path may be called otherwise elsewhere.
    agents: where local deliveries go: "wanted": to a process of the recipient's, which the
    supervisor starts; "shared": to one process for all users, on port "local" or "lmtpc";
    "called": to a new process for each, `local_workers` at most at once.
    recipients_per_job, jobs_per_session: of remote deliveries.
    """

    spool: str
    store: str = "chunks"
    options: dict[str, str] = {}
    keeps: bool = False
    scan_s: float = 0.0
    delivery: Literal["background", "interactive", "queue"] = "background"
    cleaned: bool = False
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
    agents: Literal["wanted", "shared", "called"] = "wanted"
    local_workers: int = LOCAL_WORKERS
    recipients_per_job: int = RECIPIENTS
    jobs_per_session: int = JOBS


@dataclass(slots=True, eq=False)
class Active:
    """A message in memory.  reports: how many about it are under way.  said_from: what to say
    elsewhere in place of its reverse-path; empty for that itself.  head: its envelope for agents,
    where the file does not hold it (`stores.queue`).
    """

    envelope: Envelope
    state: delivery.Message
    end: int
    descriptor: int = -1
    losses: int = 0
    reports: int = 0
    said_from: str = ""
    head: bytes = b""

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
