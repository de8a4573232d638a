"""Remote delivery: sessions with workers of the remote pool, some per destination.

Theory: `protocol.destinations` says how many sessions a destination may have, and whose turn it is;
this file makes a channel for each (`Context.call`), feeds it with jobs, and reads their ends.  All
jobs of one session have one destination: its worker never holds two destinations' mail.

A job is a message and some of its recipients (`Slice.recipients_per_job`).  A session has some
lanes, each of which is a place in the books: a job at a time, and so a connection.

When a session breaks, nobody knows which of its recipients have got the message: they are handed
out again (a named window for duplicates); after `LOSSES` sessions a message is deferred instead.
Mail for a dead destination waits on disk, without an attempt and without a mark; the first one to
go when its pause is over is the probe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery
from refmta.protocol.destinations import Destinations, Limits
from refmta.roles.qmgr.state import LOSSES, Active
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue

#: Jobs of one session at once.  A worker opens a connection for each.
LANES: Final = 10
#: How long a session without work is kept, so that its connection is used again.
IDLE_S: Final = 1.0
#: Messages brought back at once.
BACKLOG: Final = 40
#: Pauses after calls that broke without news, in a row: the pool is away.
AWAY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
NEVER_S: Final = float("inf")


@dataclass(slots=True, eq=False)
class Session:
    """One worker, from the call to its end."""

    name: str
    channel: Channel
    flying: dict[int, tuple[Active, tuple[int, ...]]] = field(default_factory=dict)
    lanes: int = 1
    jobs: int = 0
    heard: bool = False
    over: bool = False
    idle_since_s: float = 0.0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass(slots=True, eq=False)
class Hop:
    """What waits for one destination: in memory, and on disk."""

    backlog: deque[tuple[Active, tuple[int, ...]]] = field(default_factory=deque)
    parked: deque[str] = field(default_factory=deque)
    sessions: list[Session] = field(default_factory=list)
    alarmed: bool = False
    text: str = ""


@dataclass(slots=True)
class Relays:
    """The carrier of mail to other hosts.  call: makes a channel to a worker."""

    queue: Queue
    nursery: trio.Nursery
    call: Callable[[str], Channel]
    chance: Random
    books: Destinations = field(init=False)
    hops: dict[str, Hop] = field(default_factory=dict)
    away: int = 0
    away_until_s: float = 0.0

    def __post_init__(self) -> None:
        config = self.queue.config
        self.books = Destinations(
            Limits(
                total=config.remote_workers,
                per_destination=config.per_destination,
                initial=min(2, config.per_destination),
                pause_s=min(60, config.retry_minimum_s),
                longest_pause_s=max(min(60, config.retry_minimum_s), config.retry_maximum_s),
            )
        )

    def flying(self) -> bool:
        """Whether anything is with a worker."""
        return any(each.flying for hop in self.hops.values() for each in hop.sessions)

    def hurry(self) -> None:
        """The server stops: workers give back what is not on its way yet."""
        for hop in self.hops.values():
            for session in hop.sessions:
                self.queue.post(session.channel, wire.Hurry())

    def forgive(self) -> None:
        """The operator has mended something: nobody counts as dead."""
        for name, hop in self.hops.items():
            self.books.forgive(name)
            self._bring_back(name, hop)

    # -- what the queue asks ----------------------------------------------------------------------

    def crowded(self, owner: str) -> bool:
        """Dead, being probed, or with more than its share of the memory already."""
        hop, known = self._hop(owner), self.books.of(owner)
        if self.books.is_dead(owner, self.queue.wall()):
            return True
        if known.deaths:
            return bool(hop.backlog) or any(each.flying for each in hop.sessions)
        return len(hop.backlog) >= max(1, self.queue.room())

    def take(self, owner: str, active: Active, indices: Sequence[int]) -> None:
        """Marked at once as in flight; an idle session takes it now, else it waits for one."""
        hop, size = self._hop(owner), self.queue.config.recipients_per_job
        for start in range(0, len(indices), size):
            part = tuple(indices[start : start + size])
            self.queue.step(active, delivery.Dispatched(part))
            hop.backlog.append((active, part))
        for session in hop.sessions:
            self._fill(session, hop)
        self._start(owner, hop)

    def park(self, owner: str, queue_id: str) -> str:
        """Wait on disk until the destination is there again, or less crowded."""
        hop = self._hop(owner)
        hop.parked.append(queue_id)
        self._set_alarm(owner, hop)
        return hop.text or "waits for other mail to the same destination"

    # -- sessions ---------------------------------------------------------------------------------

    def _start(self, name: str, hop: Hop) -> None:
        """This destination has work: as many new sessions as all rules allow."""
        if hop.backlog:
            self.books.wants(name)
        self._start_all()

    def _start_all(self) -> None:
        now_s = self.queue.wall()
        if now_s < self.away_until_s or self.queue.draining:
            return
        while (name := self.books.next(now_s)) is not None:
            hop = self._hop(name)
            if not hop.backlog:
                self.books.ended(name)
                continue
            self._fill(self._widen(name, hop), hop)
            if hop.backlog:
                self.books.wants(name)
        if self.books.contended(now_s):
            self._make_room()

    def _widen(self, name: str, hop: Hop) -> Session:
        """One lane more, in a session that bears it or in a new one."""
        for session in hop.sessions:
            ending = session.over or session.scope.cancel_called
            idle = session.lanes - len(session.flying)
            if session.lanes < LANES and idle < self._left(session) and not ending:
                session.lanes += 1
                return session
        session = Session(name, self.call("remote"))
        hop.sessions.append(session)
        self.nursery.start_soon(self._follow, session, hop)
        return session

    def _left(self, session: Session) -> int:
        """How many more jobs it may have."""
        return self.queue.config.jobs_per_session - session.jobs

    def _narrow(self, session: Session) -> None:
        """Give back the places that are not in use; one is kept until the session ends."""
        while session.lanes > max(1, len(session.flying)):
            session.lanes -= 1
            self.books.ended(session.name)

    def _make_room(self) -> None:
        """Somebody waits for a place: the session that has been idle for longest goes."""
        idle = [
            each
            for hop in self.hops.values()
            for each in hop.sessions
            if not each.flying and not each.over
        ]
        if idle:
            min(idle, key=lambda each: each.idle_since_s).scope.cancel()

    def _fill(self, session: Session, hop: Hop) -> None:
        """A job for each lane that is free."""
        # One that was told to end takes no more: its worker would relay a job that nobody awaits.
        while hop.backlog and not (session.over or session.scope.cancel_called):
            if len(session.flying) >= session.lanes or not self._left(session):
                return
            if session.jobs and self.books.newcomer(self.queue.wall()):
                # A slow destination's lanes must not last for all of its mail.
                self._narrow(session)
                session.over = not session.flying
                return
            active, indices = hop.backlog.popleft()
            if not active.state.gone:
                self._hand_over(session, active, indices)
        self._unpark(session.name, hop)
        if not hop.backlog:
            self._narrow(session)

    def _hand_over(self, session: Session, active: Active, indices: tuple[int, ...]) -> None:
        queue = self.queue
        try:
            descriptor = queue.descriptor(active)
        except OSError as error:
            queue.refuse(active, indices, error)
            return
        reference = queue.reference()
        session.flying[reference] = (active, indices)
        session.jobs += 1
        session.scope.deadline = NEVER_S
        recipients = []
        for index in indices:
            recipient = active.state.recipients[index]
            address = recipient.address if recipient.target is None else recipient.target.mailbox
            recipients.append(wire.RelayRecipient(index=index, address=address))
            queue.trace(
                "qmgr.dispatched", queue_id=active.queue_id, recipient=recipient.address,
                index=index,
            )  # fmt: skip
        job = wire.Relay(
            reference=reference,
            queue_id=active.queue_id,
            destination=session.name,
            recipients=tuple(recipients),
            reverse_path=active.said_from,
            head=active.head,
        )
        queue.post(session.channel, job, descriptor)

    async def _follow(self, session: Session, hop: Hop) -> None:
        """Hear one session until it ends, or has had no work for a while."""
        await self.queue.flush()
        try:
            with session.scope:
                while not session.over:
                    for item in await session.channel.receive():
                        if isinstance(item.message, wire.Relayed):
                            self._done(session, hop, item.message)
                    self._fill(session, hop)
                    self._rest(session)
                    self._start(session.name, hop)
                    await self.queue.proceed()
        except ChannelBroken:
            pass
        await self._ended(session, hop)

    def _rest(self, session: Session) -> None:
        """A session without jobs is kept for a moment, unless it has served its time."""
        if session.flying:
            return
        if not self._left(session) or self.queue.draining:
            session.over = True
        session.idle_since_s = trio.current_time()
        session.scope.deadline = session.idle_since_s + IDLE_S

    async def _ended(self, session: Session, hop: Hop) -> None:
        session.over = True
        session.channel.close()
        hop.sessions.remove(session)
        for _ in range(session.lanes):
            self.books.ended(session.name)
        if session.flying and not session.heard:
            self._pool_is_away()
        self._lost(session)
        self._start(session.name, hop)
        if not (hop.backlog or hop.parked or hop.sessions):
            self.hops.pop(session.name, None)
        await self.queue.proceed()

    def _pool_is_away(self) -> None:
        """A call broke without news: it says nothing about the destination."""
        pause_s = AWAY_S[min(self.away, len(AWAY_S) - 1)]
        self.away += 1
        self.away_until_s = self.queue.wall() + pause_s
        self.queue.alarm(self.away_until_s, self._start_all)

    def _lost(self, session: Session) -> None:
        flying = list(session.flying.values())
        session.flying.clear()
        for active, indices in flying:
            active.losses += 1
            self.queue.step(active, delivery.AgentLost(indices))
            if active.losses >= LOSSES:
                text = "the delivery agent ended without an answer"
                for index in indices:
                    self.queue.settle(active, index, "deferred", "4.3.0", text)
            self.queue.dispatch(active)
            self.queue.rest(active)

    # -- news -------------------------------------------------------------------------------------

    def _done(self, session: Session, hop: Hop, relayed: wire.Relayed) -> None:
        """The end of a job.  What it does not mention is as open as before."""
        flown = session.flying.pop(relayed.reference, None)
        if flown is None:
            return
        session.heard, self.away = True, 0
        active, indices = flown
        self._learn(session, hop, relayed)
        outcomes = {each.index: each for each in relayed.outcomes}
        if relayed.damaged:
            self.queue.step(active, delivery.AgentLost(indices))
            self.queue.look_again(active, indices[0], relayed.outcomes[0].text)
            return
        for index in indices:
            outcome = outcomes.get(index)
            if outcome is None or outcome.kind == "returned":
                self.queue.step(active, delivery.AgentLost((index,)))
            else:
                kind: delivery.OutcomeKind = outcome.kind
                self.queue.settle(active, index, kind, outcome.enhanced, outcome.text, outcome.host)
        self.queue.dispatch(active)
        self.queue.rest(active)

    def _learn(self, session: Session, hop: Hop, relayed: wire.Relayed) -> None:
        """What the job says about the destination, and what follows for all that waits for it."""
        now_s = self.queue.wall()
        self.books.found(session.name, relayed.destination, now_s, self.chance.random())
        if relayed.destination != "dead":
            hop.text = ""
            return
        hop.text = relayed.outcomes[0].text
        # The lane that found it dead ends; what goes on needs a new place.
        if session.lanes > 1:
            session.lanes -= 1
            self.books.ended(session.name)
        session.over = not session.flying
        if self.books.is_dead(session.name, now_s):
            self.queue.journal.warning(
                "destination is dead", destination=session.name, reason=hop.text,
                until_s=int(self.books.revival_s(session.name)),
            )  # fmt: skip
            self._give_back(hop)
            self._set_alarm(session.name, hop)

    def _give_back(self, hop: Hop) -> None:
        """Nothing more goes to a dead destination: what waits in memory waits on disk now."""
        backlog, hop.backlog = hop.backlog, deque()
        for active, indices in backlog:
            self.queue.step(active, delivery.AgentLost(indices))
        for active in dict.fromkeys(active for active, _ in backlog):
            self.queue.rest(active)

    # -- waiting on disk --------------------------------------------------------------------------

    def _unpark(self, name: str, hop: Hop) -> None:
        """Bring back as many as there is room for; of a dead or doubtful one, one at a time."""
        share = max(1, self.queue.room())
        if not hop.parked or len(hop.backlog) * 2 > share:
            return
        if self.books.of(name).deaths:
            return  # the alarm brings its probe
        for _ in range(min(len(hop.parked), share - len(hop.backlog), BACKLOG)):
            self.queue.bring(hop.parked.popleft())

    def _set_alarm(self, name: str, hop: Hop) -> None:
        if hop.alarmed:
            return
        hop.alarmed = True
        when_s = max(self.books.revival_s(name), self.queue.wall() + 1)

        def ring() -> None:
            hop.alarmed = False
            self._bring_back(name, hop)

        self.queue.alarm(when_s, ring)

    def _bring_back(self, name: str, hop: Hop) -> None:
        """The pause is over: one message probes, or all go on if nobody counts as dead."""
        if self.books.is_dead(name, self.queue.wall()):
            self._set_alarm(name, hop)
            return
        if self.books.of(name).deaths:
            if hop.parked and not self.crowded(name):
                self.queue.bring(hop.parked.popleft())
        else:
            self._unpark(name, hop)
        if hop.parked:
            self._set_alarm(name, hop)  # in case that it came to nothing
        self._start(name, hop)

    def _hop(self, name: str) -> Hop:
        hop = self.hops.get(name)
        if hop is None:
            hop = self.hops[name] = Hop()
        return hop
