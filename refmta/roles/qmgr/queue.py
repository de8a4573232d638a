"""The messages of the queue: brought into memory, advanced, put to rest, freed.

What lives on disk is the truth: an active message is loaded when its turn comes and forgotten when
it waits; a waiting one costs a queue id and a time, so that 20,000 of them slow nothing down.  How
it lies there is the store's business (`stores.queue`); where several processes work on one store,
loading claims a message, and one that rests is released.

A message is in one of these places:

    incoming          to be loaded as soon as there is room
    active            in memory: asked about, in flight, or being reported
    due               on disk, until a time
    parked            on disk, until its carrier has room (or a time: its lifetime goes on)

How it becomes known is in `intake`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery, schedule
from refmta.roles.qmgr.cleaning import Cleaning
from refmta.roles.qmgr.intake import Intake
from refmta.roles.qmgr.reports import Reports
from refmta.roles.qmgr.routes import Routes
from refmta.roles.qmgr.state import (
    ACTIVE,
    LOADED_AT_ONCE,
    NEVER_S,
    TROUBLE_S,
    Active,
    Carrier,
    Slice,
)
from refmta.stores.queue import Claimed, QueueStore
from refmta.wire.envelope import ChunkError
from refmta.wire.messages import Message

#: A message of which some recipient was tried.
TRIED = (delivery.Status.DEFERRED, delivery.Status.FAILED)


@dataclass(slots=True, kw_only=True)
class Queue:
    """All messages, and those who work on them.

    wall: the time of day, seconds since 1970.  carriers: by the kind of a target.
    """

    store: QueueStore[Any]
    config: Slice
    journal: Journal
    wall: Callable[[], float]
    trace: Callable[..., None]
    ask_supervisor: Callable[[Message], None]
    incoming: deque[str] = field(default_factory=deque)
    active: dict[str, Active] = field(default_factory=dict)
    #: Everything known: active and incoming (0.0), or waiting (until this time at the latest).
    known: dict[str, float] = field(default_factory=dict)
    due: list[tuple[float, str]] = field(default_factory=list)
    alarms: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    carriers: dict[str, Carrier] = field(default_factory=dict)
    #: Done, but the disk did not let go of them: when their time comes, they are freed, not loaded.
    unfreed: set[str] = field(default_factory=set)
    #: To be tried at the next loading, whatever their schedule says.
    forced: set[str] = field(default_factory=set)
    rescheduled: trio.Event = field(default_factory=trio.Event)
    draining: bool = False
    intake: Intake = field(init=False)
    cleaning: Cleaning = field(init=False)
    routes: Routes = field(init=False)
    reports: Reports = field(init=False)
    local_plan: schedule.Schedule = field(init=False)
    remote_plan: schedule.Schedule = field(init=False)
    #: Channels to be flushed, in order: what happens must not depend on where objects lie.
    _dirty: dict[Channel, None] = field(default_factory=dict)
    _refused: list[tuple[Active, tuple[int, ...], str]] = field(default_factory=list)
    _reference: int = 0
    _serial: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        config = self.config
        self.intake, self.cleaning = Intake(self), Cleaning(self)
        self.routes, self.reports = Routes(self), Reports(self)
        self.local_plan = schedule.Schedule(
            first_s=schedule.LOCAL.first_s, lifetime_s=config.lifetime_s
        )
        self.remote_plan = schedule.Schedule(
            minimum_s=config.retry_minimum_s,
            maximum_s=config.retry_maximum_s,
            lifetime_s=config.lifetime_s,
        )

    # -- speaking ---------------------------------------------------------------------------------

    def post(self, channel: Channel, message: Message, *descriptors: int) -> None:
        """Say something; it is written when this wake-up is over."""
        channel.post(message, *descriptors)
        self._dirty[channel] = None

    def reference(self) -> int:
        """A fresh number for a question or a job."""
        self._reference += 1
        return self._reference

    async def flush(self) -> None:
        """One write per channel.  A broken one shows where it is read."""
        dirty, self._dirty = self._dirty, {}
        try:
            for channel in list(dirty):
                with contextlib.suppress(ChannelBroken):
                    await channel.flush()
                del dirty[channel]
        finally:
            if dirty:  # cancelled, as a session that has to end: `keep_time` writes the rest
                self._dirty = {**dirty, **self._dirty}
                self.rescheduled.set()

    def settled(self) -> bool:
        """Whether nothing is begun and unfinished.  What waits on disk is no part of it."""
        return not (self.active or self.incoming or self._dirty or self.unanswered())

    def unanswered(self) -> bool:
        """Whether a report is being written, or an envelope waits to be logged."""
        return bool(self.reports.flying() or self.intake.registering)

    # -- into memory ------------------------------------------------------------------------------

    def arrived(self, queue_ids: Iterable[str]) -> None:
        """These are durable; those that are known already mean nothing."""
        for queue_id in queue_ids:
            if queue_id not in self.known:
                self.known[queue_id] = 0.0
                self.incoming.append(queue_id)

    def bring(self, queue_id: str) -> None:
        """A waiting message goes on as soon as there is room."""
        if self.known.get(queue_id, 0.0) > 0:
            self.known[queue_id] = 0.0
            self.incoming.append(queue_id)

    async def proceed(self) -> None:
        """Load what there is room for, and write out what this wake-up has caused."""
        self._defer_refused()
        for _ in range(LOADED_AT_ONCE):
            if not (self.incoming and self.room() and not self.draining):
                break
            self.load(self.incoming.popleft())
        else:
            self.rescheduled.set()  # more to load: `keep_time` goes on, after the others
        self._defer_refused()
        await self.flush()

    def room(self) -> int:
        """How many more messages may be in memory.  Nobody who waits for one owner may use all of
        it: see `crowded` (a dynamic threshold, as in `protocol.destinations`).
        """
        return ACTIVE - len(self.active)

    def load(self, queue_id: str, *, resting: bool = False) -> None:
        """Bring a message into memory, and let it go on (unless it is only looked at)."""
        if queue_id in self.active:  # the operator was faster than its carrier's turn
            return
        if queue_id in self.unfreed:
            if self._free(queue_id):
                self.trace("qmgr.freed", queue_id=queue_id)
            return
        try:
            loaded = self.store.load(queue_id)
        except (FileNotFoundError, Claimed):  # done, or in somebody's hands: a scan looks again
            self.known.pop(queue_id, None)
            self.intake.tried(queue_id)
            return
        except ChunkError as error:
            self.set_aside(queue_id, str(error))
            return
        except OSError as error:
            self._trouble(queue_id, error)
            return
        envelope = loaded.envelope
        state = delivery.start(queue_id, envelope.arrival_s, envelope.recipients)
        try:
            state, _ = delivery.replay(state, loaded.marks)
        except delivery.MarkError as error:
            self.store.disk.close(loaded.handle)
            self.set_aside(queue_id, str(error))
            return
        active = Active(envelope, state, loaded.end, loaded.handle, head=loaded.head)
        self.active[queue_id] = active
        if state.open == 0:
            self._carry_out(active, delivery.Free())
            self.trace_freed(active)
        elif not resting:
            self._wake(active)
            self.advance(active)

    def _wake(self, active: Active) -> None:
        """The deferred recipients whose time has come are pending again; all that are not done,
        if the operator said so.
        """
        if active.queue_id in self.forced:
            self.forced.discard(active.queue_id)
            told = self.reports.being_told(active)
            every = range(len(active.state.recipients))
            self.step(active, delivery.Retried(tuple(n for n in every if n not in told)))
            return
        now = self.wall()
        deferred = delivery.with_status(active.state, delivery.Status.DEFERRED)
        ready = tuple(index for index in deferred if self.due_s(active, index) <= now)
        if ready:
            self.step(active, delivery.Due(ready))

    # -- one message's way ------------------------------------------------------------------------

    def advance(self, active: Active) -> None:
        """Route and dispatch whatever can be; let the message rest if nothing can."""
        for index in delivery.to_resolve(active.state):
            self.routes.ask(active, index)
            if active.state.gone:
                return
        self.dispatch(active)
        self.rest(active)
        self._close(active)  # whoever needs it again opens it again: descriptors are few

    def dispatch(self, active: Active) -> None:
        """Hand over what has a target, as far as its carrier has room.

        Not before every recipient has its target: those of one destination share a transaction.
        """
        if self.draining or delivery.to_resolve(active.state):
            return
        groups: dict[tuple[str, str], list[int]] = {}
        for index in delivery.to_dispatch(active.state):
            target = active.state.recipients[index].target
            if target is not None:
                groups.setdefault((target.kind, target.user), []).append(index)
        for (kind, owner), indices in groups.items():
            carrier = self.carriers[kind]
            if not carrier.crowded(owner):
                carrier.take(owner, active, indices)

    def settle(
        self, active: Active, index: int, kind: delivery.OutcomeKind, code: str, text: str,
        host: str = "",
    ) -> None:  # fmt: skip
        """What became of one recipient (and of its twins)."""
        if active.state.gone:
            return
        now_s = int(self.wall())
        if kind == "deferred" and self.expired(active):
            kind, code = "failed", "4.4.7"
        family = [
            (each, recipient.address)
            for each, recipient in enumerate(active.state.recipients)
            if each == index or recipient.same_as == index
        ]
        log = self.journal.info if kind == "delivered" else self.journal.warning
        extra = {"host": host} if host else {}
        for _, address in family:
            log(kind, queue_id=active.queue_id, recipient=address, code=code, text=text, **extra)
        self.step(active, delivery.Outcome(index, kind, code, text, now_s, host))
        for each, address in family:
            twin = {} if each == index else {"same_as": index}
            self._trace_outcome(active.queue_id, each, address, kind, **twin)
        self.trace_freed(active)

    def _trace_outcome(
        self, queue_id: str, index: int, address: str, kind: str, **twin: int
    ) -> None:
        if kind == "deferred":
            self.trace("qmgr.deferred", queue_id=queue_id, recipient=address, index=index)
        else:
            self.trace(
                "qmgr.marked", queue_id=queue_id, recipient=address, index=index, outcome=kind,
                **twin,
            )  # fmt: skip

    def trace_freed(self, active: Active) -> None:
        """After the events that led to it."""
        if active.state.gone and active.queue_id not in self.unfreed:
            self.trace("qmgr.freed", queue_id=active.queue_id)

    def expired(self, active: Active) -> bool:
        """Whether its lifetime is over."""
        return schedule.expired(active.envelope.arrival_s, int(self.wall()), self.local_plan)

    def rest(self, active: Active) -> None:
        """Forget a message that only waits; say when it goes on."""
        state = active.state
        if state.gone or delivery.with_status(state, delivery.Status.IN_FLIGHT):
            return
        if delivery.to_resolve(state):
            return
        self.intake.tried(active.queue_id)
        if self.reports.begin(active):
            return
        waiting = delivery.to_dispatch(state)
        if waiting and self.expired(active):
            for index in waiting:
                self.settle(active, index, "deferred", "4.4.7", self._park(active, index))
            self.rest(active)
            return
        self.active.pop(active.queue_id, None)
        self._close(active)
        for index in waiting:
            self._park(active, index)
        self._lay_down(active)
        times = [] if state.held else list(self._times(active, waiting))
        self.schedule(active.queue_id, min(times, default=NEVER_S))

    def _lay_down(self, active: Active) -> None:
        """On the disk, too, if the store makes a difference."""
        with self._written(active.queue_id):
            if any(each.status in TRIED for each in active.state.recipients):
                self.store.rested(active.queue_id)
            self.store.release(active.queue_id)

    def _park(self, active: Active, index: int) -> str:
        """Let a pending recipient wait for its carrier; returns what it waits for."""
        target = active.state.recipients[index].target
        if target is None:
            return ""
        return self.carriers[target.kind].park(target.user, active.queue_id)

    def _times(self, active: Active, waiting: tuple[int, ...]) -> Iterable[float]:
        """When something is to be done for a message that waits."""
        now_s, end_s = self.wall(), active.envelope.arrival_s + self.config.lifetime_s
        for index in delivery.with_status(active.state, delivery.Status.DEFERRED):
            due_s = self.due_s(active, index)
            # The last attempt is at the end of its lifetime, not an interval later.
            yield min(due_s, end_s) if end_s > now_s else due_s
        if waiting:
            yield max(end_s, now_s + 1)
        yield from self.reports.times_s(active)

    def due_s(self, active: Active, index: int) -> float:
        """When a deferred recipient is tried again.  Its share of chance is always the same, so
        that a restart does not move it.
        """
        recipient = active.state.recipients[index]
        plan = self.remote_plan if recipient.far else self.local_plan
        chance = crc32(f"{active.queue_id}{index}".encode()) / 2**32
        delay_s = schedule.next_attempt_s(max(1, recipient.attempt), chance, plan)
        return min(
            recipient.when_s + delay_s,
            max(active.envelope.arrival_s + self.config.lifetime_s, recipient.when_s + 1),
        )

    # -- effects ----------------------------------------------------------------------------------

    def step(self, active: Active, event: delivery.Event) -> None:
        """An event, and what it causes on the disk."""
        if isinstance(event, delivery.Retried):
            self._trace_retried(active, event)
        if isinstance(event, delivery.AgentLost) and not active.state.gone:
            for index in event.indices:
                address = active.state.recipients[index].address
                self.trace(
                    "qmgr.returned", queue_id=active.queue_id, recipient=address, index=index
                )
        active.state, effects = delivery.step(active.state, event)
        for effect in effects:
            self._carry_out(active, effect)

    def _trace_retried(self, active: Active, event: delivery.Retried) -> None:
        for index in event.indices:
            recipient = active.state.recipients[index]
            if recipient.status is delivery.Status.FAILED:
                self.trace(
                    "qmgr.retried", queue_id=active.queue_id, recipient=recipient.address,
                    index=index,
                )  # fmt: skip

    def _carry_out(self, active: Active, effect: delivery.Effect) -> None:
        queue_id = active.queue_id
        with self._written(queue_id):
            match effect:
                case delivery.AppendMark():
                    active.end = self.store.append_marks(queue_id, active.end, effect.marks)
                case delivery.Free():
                    self._forget(active)
                    if not self._free(queue_id) and effect.marks:
                        self.store.append_marks(queue_id, active.end, effect.marks)
                case delivery.Undeliverable() | delivery.Retry():
                    pass  # `rest` reads it from the state: it has the report made, or waits

    def _free(self, queue_id: str) -> bool:
        """Whether it is gone.  If the disk fails, it is freed later, and not delivered again."""
        try:
            with contextlib.suppress(FileNotFoundError):
                self.store.free(queue_id)
        except OSError as error:
            self.unfreed.add(queue_id)
            self._trouble(queue_id, error, "queue not written")
            return False
        self.unfreed.discard(queue_id)
        self.known.pop(queue_id, None)
        self.journal.info("removed", queue_id=queue_id)
        return True

    @contextlib.contextmanager
    def _written(self, queue_id: str) -> Iterator[None]:
        """A lost mark costs a second delivery, never a message."""
        try:
            yield
        except OSError as error:
            self.journal.error(
                "queue not written", queue_id=queue_id, reason=os.strerror(error.errno or 0)
            )

    def _forget(self, active: Active) -> None:
        self.active.pop(active.queue_id, None)
        self.known.pop(active.queue_id, None)
        self.reports.forget(active.queue_id)
        self.intake.tried(active.queue_id)
        self._close(active)

    # -- descriptors ------------------------------------------------------------------------------

    def descriptor(self, active: Active) -> int:
        """A descriptor to give away, read only.  The first one is at hand from loading.

        Raises OSError.
        """
        if active.descriptor >= 0:
            descriptor, active.descriptor = active.descriptor, -1
            return descriptor
        return self.store.open(active.queue_id)

    def _close(self, active: Active) -> None:
        if active.descriptor >= 0:
            self.store.disk.close(active.descriptor)
            active.descriptor = -1

    def refuse(self, active: Active, indices: Iterable[int], error: OSError) -> None:
        """A chunk that can't be opened (no descriptor is left, perhaps): these are deferred, when
        this wake-up is over.  Not at once: whoever hands it over is in the midst of its recipients.
        """
        self._refused.append((active, tuple(indices), os.strerror(error.errno or 0)))

    def _defer_refused(self) -> None:
        refused, self._refused = self._refused, []
        for active, indices, text in refused:
            for index in indices:
                self.settle(active, index, "deferred", "4.3.0", text)
            self.rest(active)

    # -- time -------------------------------------------------------------------------------------

    def schedule(self, queue_id: str, when_s: float) -> None:
        """Bring this message back at that time, if nobody does so before."""
        self.known[queue_id] = when_s
        if when_s < NEVER_S:
            heapq.heappush(self.due, (when_s, queue_id))
            self.rescheduled.set()

    def alarm(self, when_s: float, action: Callable[[], None]) -> None:
        """Do something at a time of day."""
        heapq.heappush(self.alarms, (when_s, next(self._serial), action))
        self.rescheduled.set()

    async def keep_time(self) -> None:
        """For ever: bring back what is due."""
        while True:
            now = self.wall()
            while self.alarms and self.alarms[0][0] <= now:
                heapq.heappop(self.alarms)[2]()
            while self.due and self.due[0][0] <= now:
                when_s, queue_id = heapq.heappop(self.due)
                if self.known.get(queue_id) == when_s:
                    self.known[queue_id] = 0.0
                    self.incoming.append(queue_id)
            self.rescheduled = trio.Event()
            await self.proceed()
            await trio.lowlevel.checkpoint()
            with trio.move_on_after(self._patience_s()):
                await self.rescheduled.wait()

    def _patience_s(self) -> float:
        """Until the next time that something is due; a minute at most, as clocks are set."""
        first_s = min([each[0][0] for each in (self.due, self.alarms) if each], default=NEVER_S)
        return min(60.0, max(0.01, first_s - self.wall()))

    # -- trouble ----------------------------------------------------------------------------------

    def look_again(self, active: Active, index: int, text: str) -> None:
        """One agent says that a chunk is damaged: see for ourselves, else try it again later."""
        self.examine(active)
        self.settle(active, index, "deferred", "4.3.0", text)
        self.rest(active)

    def examine(self, active: Active) -> None:
        """Whoever calls a chunk damaged may be seized, and the chunk others' too."""
        try:
            self.store.examine(active.queue_id)
        except ChunkError as error:
            self.set_aside(active.queue_id, str(error))
        except OSError as error:
            self.journal.error(
                "queue not readable", queue_id=active.queue_id,
                reason=os.strerror(error.errno or 0),
            )  # fmt: skip

    def set_aside(self, queue_id: str, reason: str) -> None:
        """A damaged chunk is kept elsewhere, and not delivered."""
        active = self.active.get(queue_id)
        if active is not None:
            active.state = delivery.step(active.state, delivery.Removed())[0]
            self._forget(active)
        self.known.pop(queue_id, None)
        self.intake.tried(queue_id)
        self.journal.error("chunk set aside", queue_id=queue_id, reason=reason)
        try:
            self.store.set_aside(queue_id, "damaged")
            self.trace("qmgr.set_aside", queue_id=queue_id)
        except OSError as error:
            self._trouble(queue_id, error)

    def _trouble(self, queue_id: str, error: OSError, what: str = "queue not readable") -> None:
        self.journal.error(what, queue_id=queue_id, reason=os.strerror(error.errno or 0))
        self.intake.tried(queue_id)
        self.schedule(queue_id, self.wall() + TROUBLE_S)
