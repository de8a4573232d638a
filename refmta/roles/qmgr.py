"""qmgr: alone decides when a message is tried, by whom, and what its outcome means.

Theory: `protocol.delivery` decides what an event means for one message; this file brings the
events and carries out the effects.

    enqueue --Arrived--> incoming --load--> active --Route--> resolve
                                              |<--targets-----'
                                              |--Deliver + descriptor--> agent of the user
                                              |<--Outcome--------------'
                                              '--marks, unlink--> [queue]

What lives on disk is the truth: an active message is loaded when its turn comes and forgotten when
it waits; a waiting one costs a queue id and a time, so that 20,000 of them slow nothing down.

Each wake-up handles all that has arrived and writes once per channel.  Agents get at most
`WINDOW` messages at a time.  When an agent is lost, what it had in flight is handed to the next
one (a named window for duplicates); after `LOSSES` agents a message is deferred instead, since it
may be what kills them.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from zlib import crc32

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery, routing, schedule
from refmta.roles import queue_view
from refmta.stores import chunks
from refmta.stores.disk import Disk, PosixDisk
from refmta.wire import messages as wire
from refmta.wire.envelope import ChunkError, Envelope

#: Most messages in memory at once; the others wait on disk (Postfix: active limit 20,000).
ACTIVE = 2000
#: Messages loaded per wake-up: a long queue must not keep its peers waiting.
LOADED_AT_ONCE = 100
#: Most deliveries in flight per agent.
WINDOW = 64
#: Most messages in memory that wait for one agent: a user whose agent hangs keeps his own mail
#: waiting, on disk, and nobody else's.
SHARE = ACTIVE // 4
#: Agents that a message may outlive before it is deferred.
LOSSES = 3
#: Routes kept, and for how long: a user who is removed gets mail no longer than this.
ROUTES, ROUTE_S = 10_000, 30.0
#: Messages described per frame to the operator.
ROWS_AT_ONCE = 50
#: How often a queue that can't be read is tried again, in seconds.
TROUBLE_S = 60
NEVER_S = float("inf")


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """qmgr's configuration."""

    spool: str
    lifetime_s: int = schedule.LOCAL.lifetime_s


@dataclass(slots=True, eq=False)
class Active:
    """A message in memory."""

    envelope: Envelope
    state: delivery.Message
    end: int
    descriptor: int = -1
    losses: int = 0


@dataclass(slots=True, eq=False)
class Agent:
    """The delivery agent of one user: away (no channel), or at work."""

    user: str
    channel: Channel | None = None
    backlog: deque[tuple[Active, int]] = field(default_factory=deque)
    flying: dict[int, tuple[Active, int]] = field(default_factory=dict)
    wanted: bool = False
    #: Queue ids of messages beyond the share; they wait on disk.
    parked: deque[str] = field(default_factory=deque)


@dataclass(slots=True)
class Qmgr:
    """The role's state."""

    disk: Disk
    config: Slice
    journal: Journal
    ask_supervisor: Callable[[wire.Message], None]
    plan: schedule.Schedule = schedule.LOCAL
    incoming: deque[str] = field(default_factory=deque)
    active: dict[str, Active] = field(default_factory=dict)
    #: Everything known: active, incoming, or waiting (with the time of its next attempt).
    known: dict[str, float] = field(default_factory=dict)
    due: list[tuple[float, str]] = field(default_factory=list)
    agents: dict[str, Agent] = field(default_factory=dict)
    routes: dict[str, tuple[float, tuple[routing.Target, ...]]] = field(default_factory=dict)
    questions: dict[str, list[tuple[Active, int]]] = field(default_factory=dict)
    asked: dict[int, str] = field(default_factory=dict)
    resolve: Channel | None = None
    reference: int = 0
    dirty: set[Channel] = field(default_factory=set)
    #: To be tried at the next loading, whatever their schedule says.
    forced: set[str] = field(default_factory=set)
    rescheduled: trio.Event = field(default_factory=trio.Event)
    draining: bool = False

    # -- peers ------------------------------------------------------------------------------------

    async def follow_enqueue(self, channel: Channel) -> None:
        """Take note of what becomes durable."""
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Arrived):
                        self._arrived(item.message.queue_ids)
                await self.proceed()
        except ChannelBroken:
            channel.close()

    def _arrived(self, queue_ids: Iterable[str]) -> None:
        for queue_id in queue_ids:
            if queue_id not in self.known:
                self.known[queue_id] = 0.0
                self.incoming.append(queue_id)

    async def follow_resolve(self, channel: Channel) -> None:
        """Ask anew what the former one left open, then hear answers."""
        self.resolve = channel
        self.asked.clear()
        for address in self.questions:
            self._ask(address)
        await self.flush()
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Routed):
                        self._routed(item.message)
                await self.proceed()
        except ChannelBroken:
            channel.close()
            if self.resolve is channel:
                self.resolve = None

    async def follow_agent(self, user: str, channel: Channel) -> None:
        """Hand over what waits for this user, and hear outcomes."""
        agent = self._agent(user)
        if agent.channel is not None:
            self._lost(agent)
        agent.channel, agent.wanted = channel, False
        self._fill(agent)
        await self.flush()
        try:
            while agent.channel is channel:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Outcome):
                        self._outcome(agent, item.message)
                self._fill(agent)
                await self.proceed()
        except ChannelBroken:
            if agent.channel is channel:
                self._lost(agent)
                await self.proceed()
        finally:
            channel.close()

    def _lost(self, agent: Agent) -> None:
        """The agent is gone, and nobody knows which of its deliveries it had finished."""
        agent.channel = None
        flying = list(agent.flying.values())
        agent.flying.clear()
        for active in dict.fromkeys(active for active, _ in flying):
            active.losses += 1
        for active, index in flying:
            self._step(active, delivery.AgentLost((index,)))
            if active.losses >= LOSSES:
                text = "the delivery agent ended without an answer"
                self._settle(active, index, "deferred", "4.3.0", text)
                self._rest(active)
            else:
                self._dispatch(active)
        self._want(agent)

    def refused(self, refusal: wire.AgentRefused) -> None:
        """There will be no agent for this user: its mail waits, with the reason."""
        agent = self._agent(refusal.user)
        agent.wanted = False
        backlog, agent.backlog = agent.backlog, deque()
        for active, index in backlog:
            self._settle(active, index, "deferred", "4.3.5", refusal.text)
            self._rest(active)
        self._unpark(agent)

    # -- one message's way ------------------------------------------------------------------------

    async def proceed(self) -> None:
        """Load what there is room for, and write out what this wake-up has caused."""
        for _ in range(LOADED_AT_ONCE):
            if not self._has_room():
                break
            self._load(self.incoming.popleft())
        else:
            self.rescheduled.set()  # more to load: `keep_time` goes on, after the others
        await self.flush()

    def _has_room(self) -> bool:
        return bool(self.incoming) and len(self.active) < ACTIVE and not self.draining

    async def flush(self) -> None:
        """One write per channel.  A broken one shows where it is read."""
        dirty, self.dirty = self.dirty, set()
        for channel in dirty:
            try:
                await channel.flush()
            except ChannelBroken:
                continue

    def _load(self, queue_id: str, *, resting: bool = False) -> None:
        if queue_id in self.active:  # the operator was faster than its agent's turn
            return
        try:
            loaded = chunks.load(self.disk, queue_id)
        except FileNotFoundError:
            self.known.pop(queue_id, None)
            return
        except ChunkError as error:
            self._set_aside(queue_id, str(error))
            return
        except OSError as error:
            self._trouble(queue_id, error)
            return
        envelope = loaded.chunk.envelope
        state = delivery.start(queue_id, envelope.arrival_s, envelope.recipients)
        try:
            state, _ = delivery.replay(state, loaded.marks)
        except delivery.MarkError as error:
            self.disk.close(loaded.handle)
            self._set_aside(queue_id, str(error))
            return
        active = Active(envelope, state, loaded.end, loaded.handle)
        self.active[queue_id] = active
        if state.open == 0:
            self._carry_out(active, delivery.Free())
        elif not resting:
            self._wake(active)
            self._advance(active)

    def _wake(self, active: Active) -> None:
        """The deferred recipients whose time has come are pending again; all that are not done,
        if the operator said so.
        """
        if active.envelope.queue_id in self.forced:
            self.forced.discard(active.envelope.queue_id)
            self._step(active, delivery.Retried(tuple(range(len(active.state.recipients)))))
            return
        now = time.time()
        deferred = delivery.with_status(active.state, delivery.Status.DEFERRED)
        ready = tuple(index for index in deferred if self.due_s(active, index) <= now)
        if ready:
            self._step(active, delivery.Due(ready))

    def _advance(self, active: Active) -> None:
        """Route and dispatch whatever can be; let the message rest if nothing can."""
        for index in delivery.to_resolve(active.state):
            self._resolve(active, index)
            if active.state.gone:
                return
        if not self._parked(active):
            self._dispatch(active)
            self._rest(active)
        self._close(active)  # whoever needs it again opens it again: descriptors are few

    def _parked(self, active: Active) -> bool:
        """Whether a message goes back to the disk because its agent has its share already."""
        if delivery.with_status(active.state, delivery.Status.IN_FLIGHT):
            return False
        for index in delivery.to_dispatch(active.state):
            target = active.state.recipients[index].target
            agent = self._agent(target.user) if target is not None else None
            if agent is not None and len(agent.backlog) >= SHARE:
                agent.parked.append(active.envelope.queue_id)
                self.active.pop(active.envelope.queue_id, None)
                return True
        return False

    def _unpark(self, agent: Agent) -> None:
        """Bring back as many as the agent has room for."""
        for _ in range(min(len(agent.parked), SHARE - len(agent.backlog))):
            self.incoming.append(agent.parked.popleft())

    def _resolve(self, active: Active, index: int) -> None:
        address = active.state.recipients[index].address
        cached = self.routes.get(address)
        if cached is not None and cached[0] > trio.current_time():
            self._step(active, delivery.Expanded(index, cached[1], int(time.time())))
            return
        waiting = self.questions.setdefault(address, [])
        waiting.append((active, index))
        if len(waiting) == 1:
            self._ask(address)

    def _ask(self, address: str) -> None:
        if self.resolve is None:
            return  # asked when it is back
        self.reference += 1
        self.asked[self.reference] = address
        self.resolve.post(wire.Route(reference=self.reference, recipient=address))
        self.dirty.add(self.resolve)

    def _routed(self, answer: wire.Routed) -> None:
        address = self.asked.pop(answer.reference, None)
        if address is None:
            return
        targets = tuple(
            routing.Target(kind=t.kind, user=t.user, mailbox=t.mailbox, address=t.address)
            for t in answer.targets
        )
        if targets:
            if len(self.routes) >= ROUTES:
                self.routes.clear()
            self.routes[address] = (trio.current_time() + ROUTE_S, targets)
        for active, index in self.questions.pop(address, ()):
            if self.active.get(active.envelope.queue_id) is not active:
                continue  # it was held or freed meanwhile; whoever loads it asks again
            if targets:
                self._step(active, delivery.Expanded(index, targets, int(time.time())))
                if not self._parked(active):
                    self._dispatch(active)
            else:
                kind: delivery.OutcomeKind = "failed" if answer.code >= 500 else "deferred"
                self._settle(active, index, kind, answer.enhanced, answer.text)
            self._rest(active)

    def _dispatch(self, active: Active) -> None:
        for index in delivery.to_dispatch(active.state):
            target = active.state.recipients[index].target
            if target is None:
                continue
            agent = self._agent(target.user)
            # Marked at once as in flight, so that it is dispatched once; it may still wait for
            # its agent, and an agent that is refused gives it back as deferred.
            self._step(active, delivery.Dispatched((index,)))
            agent.backlog.append((active, index))
            self._fill(agent)

    def _fill(self, agent: Agent) -> None:
        if agent.channel is None:
            if agent.backlog:
                self._want(agent)
            return
        while agent.backlog and len(agent.flying) < WINDOW:
            active, index = agent.backlog.popleft()
            if not active.state.gone:
                self._hand_over(agent, agent.channel, active, index)
        if agent.parked and len(agent.backlog) < SHARE // 2:
            self._unpark(agent)

    def _hand_over(self, agent: Agent, channel: Channel, active: Active, index: int) -> None:
        recipient = active.state.recipients[index]
        if recipient.target is None:
            return
        try:
            descriptor = self._descriptor(active)
        except OSError as error:
            self._settle(active, index, "deferred", "4.3.0", os.strerror(error.errno or 0))
            self._rest(active)
            return
        self.reference += 1
        agent.flying[self.reference] = (active, index)
        channel.post(
            wire.Deliver(
                reference=self.reference,
                queue_id=active.envelope.queue_id,
                index=index,
                mailbox=recipient.target.mailbox,
                recipient=recipient.address,
            ),
            descriptor,
        )
        self.dirty.add(channel)

    def _descriptor(self, active: Active) -> int:
        """A descriptor to give away, read only.  The first one is at hand from loading."""
        if active.descriptor >= 0:
            descriptor, active.descriptor = active.descriptor, -1
            return descriptor
        return self.disk.open_read(chunks.chunk_path(active.envelope.queue_id))

    def _outcome(self, agent: Agent, outcome: wire.Outcome) -> None:
        flying = agent.flying.pop(outcome.reference, None)
        if flying is None:
            return
        active, index = flying
        if outcome.kind == "damaged":
            self._look_again(active, index, outcome.text)
            return
        self._settle(active, index, outcome.kind, outcome.enhanced, outcome.text)
        self._dispatch(active)
        self._rest(active)

    def _settle(
        self, active: Active, index: int, kind: delivery.OutcomeKind, code: str, text: str
    ) -> None:
        now_s = int(time.time())
        if kind == "deferred" and schedule.expired(active.envelope.arrival_s, now_s, self.plan):
            kind, code = "failed", "4.4.7"
        if not active.state.gone:
            recipient = active.state.recipients[index].address
            log = self.journal.info if kind == "delivered" else self.journal.warning
            log(kind, queue_id=active.envelope.queue_id, recipient=recipient, code=code, text=text)
        self._step(active, delivery.Outcome(index, kind, code, text, now_s))

    # -- effects ----------------------------------------------------------------------------------

    def _step(self, active: Active, event: delivery.Event) -> None:
        active.state, effects = delivery.step(active.state, event)
        for effect in effects:
            self._carry_out(active, effect)

    def _carry_out(self, active: Active, effect: delivery.Effect) -> None:
        queue_id = active.envelope.queue_id
        try:
            match effect:
                case delivery.AppendMark():
                    active.end = chunks.append_marks(self.disk, queue_id, active.end, effect.marks)
                case delivery.Free():
                    self._forget(active)
                    self.disk.unlink(chunks.chunk_path(queue_id))
                    self.journal.info("removed", queue_id=queue_id)
                case delivery.Undeliverable():
                    self.journal.error("undeliverable, kept", queue_id=queue_id)
                case delivery.Retry():
                    pass  # its time is in the mark; `_rest` puts the message on the schedule
        except OSError as error:
            # A lost mark or unlink costs a second delivery, never a message.
            self.journal.error(
                "queue not written", queue_id=queue_id, reason=os.strerror(error.errno or 0)
            )

    def _forget(self, active: Active) -> None:
        queue_id = active.envelope.queue_id
        self.active.pop(queue_id, None)
        self.known.pop(queue_id, None)
        self._close(active)

    def _close(self, active: Active) -> None:
        if active.descriptor >= 0:
            self.disk.close(active.descriptor)
            active.descriptor = -1

    def _rest(self, active: Active) -> None:
        """Forget a message that only waits; the schedule knows when it is due."""
        state = active.state
        if state.gone or delivery.with_status(state, delivery.Status.IN_FLIGHT):
            return
        if not state.held and delivery.with_status(state, delivery.Status.PENDING):
            return
        queue_id = active.envelope.queue_id
        self.active.pop(queue_id, None)
        self._close(active)
        deferred = delivery.with_status(state, delivery.Status.DEFERRED)
        if state.held or not deferred:
            self.known[queue_id] = NEVER_S  # until the operator does something
        else:
            self._schedule(queue_id, min(self.due_s(active, index) for index in deferred))

    def due_s(self, active: Active, index: int) -> float:
        """When a deferred recipient is tried again.  Its share of chance is always the same, so
        that a restart does not move it.
        """
        recipient = active.state.recipients[index]
        chance = crc32(f"{active.envelope.queue_id}{index}".encode()) / 2**32
        return recipient.when_s + schedule.next_attempt_s(recipient.attempt, chance, self.plan)

    def _schedule(self, queue_id: str, when_s: float) -> None:
        self.known[queue_id] = when_s
        heappush(self.due, (when_s, queue_id))
        self.rescheduled.set()

    async def keep_time(self) -> None:
        """For ever: bring back what is due."""
        while True:
            now = time.time()
            while self.due and self.due[0][0] <= now:
                when_s, queue_id = heappop(self.due)
                if self.known.get(queue_id) == when_s:
                    self.known[queue_id] = 0.0
                    self.incoming.append(queue_id)
            self.rescheduled = trio.Event()
            await self.proceed()
            await trio.lowlevel.checkpoint()
            patience_s = min(60.0, max(0.01, self.due[0][0] - time.time())) if self.due else 60.0
            with trio.move_on_after(patience_s):
                await self.rescheduled.wait()

    # -- trouble ----------------------------------------------------------------------------------

    def _look_again(self, active: Active, index: int, text: str) -> None:
        """One agent says that a chunk is damaged.  It may be seized, and the chunk others' too."""
        try:
            chunks.examine(self.disk, active.envelope.queue_id)
        except ChunkError as error:
            self._set_aside(active.envelope.queue_id, str(error))
        except OSError as error:
            text = os.strerror(error.errno or 0)
        self._settle(active, index, "deferred", "4.3.0", text)
        self._rest(active)

    def _set_aside(self, queue_id: str, reason: str) -> None:
        active = self.active.get(queue_id)
        if active is not None:
            active.state = delivery.step(active.state, delivery.Removed())[0]
            self._forget(active)
        self.known.pop(queue_id, None)
        self.journal.error("chunk set aside", queue_id=queue_id, reason=reason)
        try:
            chunks.set_aside(self.disk, queue_id, "damaged")
        except OSError as error:
            self._trouble(queue_id, error)

    def _trouble(self, queue_id: str, error: OSError) -> None:
        self.journal.error(
            "queue not readable", queue_id=queue_id, reason=os.strerror(error.errno or 0)
        )
        self._schedule(queue_id, time.time() + TROUBLE_S)

    def _agent(self, user: str) -> Agent:
        agent = self.agents.get(user)
        if agent is None:
            agent = self.agents[user] = Agent(user)
        return agent

    def _want(self, agent: Agent) -> None:
        if not agent.wanted and agent.backlog and agent.channel is None:
            agent.wanted = True
            self.ask_supervisor(wire.AgentWanted(user=agent.user))

    # -- the operator -----------------------------------------------------------------------------

    def command(self, ask: wire.Ask) -> str:
        """Carry out retry, hold, release or remove; returns what is wrong, or nothing.

        Without a queue id: all messages (retry only).
        """
        if not ask.queue_id:
            return self._retry_all() if ask.verb == "retry" else "which message?"
        if ask.queue_id not in self.known:
            return "no such message in the queue"
        active = self.active.get(ask.queue_id)
        if active is None:
            self._bring_back(ask.queue_id)
            active = self.active.get(ask.queue_id)
        if active is None:
            return ""  # it was done, or set aside, as soon as it was looked at
        now_s = int(time.time())
        events: dict[str, delivery.Event] = {
            "retry": delivery.Retried(tuple(range(len(active.state.recipients)))),
            "hold": delivery.Held(now_s),
            "release": delivery.Released(now_s),
            "remove": delivery.Removed(),
        }
        self._step(active, events[ask.verb])
        if not active.state.gone:
            self._advance(active)
        self.journal.info(f"operator: {ask.verb}", queue_id=ask.queue_id)
        return ""

    def _retry_all(self) -> str:
        for queue_id in [each for each, when_s in self.known.items() if when_s > 0]:
            self.forced.add(queue_id)
            self._schedule(queue_id, 0.0)
        return ""

    def _bring_back(self, queue_id: str) -> None:
        """Load a waiting message ahead of its time."""
        self.known[queue_id] = 0.0
        if queue_id in self.incoming:
            self.incoming.remove(queue_id)
        self._load(queue_id, resting=True)


async def run(context: Context, journal: Journal) -> None:
    """The role: deliver until drained.  Raises OSError if there is no spool."""
    config = context.slice("qmgr", Slice)
    role = Qmgr(
        PosixDisk(config.spool),
        config,
        journal,
        context.say,
        dataclasses.replace(schedule.LOCAL, lifetime_s=config.lifetime_s),
    )
    async with trio.open_nursery() as nursery:
        for port, follow in (("enqueue", role.follow_enqueue), ("resolve", role.follow_resolve)):
            nursery.start_soon(_accept, context, port, follow, nursery)
        nursery.start_soon(_accept_agents, context, role, nursery)
        nursery.start_soon(_obey, context, role)
        nursery.start_soon(role.keep_time)
        context.ready()
        await context.draining.wait()
        role.draining = True
        while any(agent.flying for agent in role.agents.values()):
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def _accept(
    context: Context,
    port: str,
    follow: Callable[[Channel], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    while True:
        linked = await context.port(port).get()
        nursery.start_soon(follow, linked.channel)


async def _accept_agents(context: Context, role: Qmgr, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port("local").get()
        nursery.start_soon(role.follow_agent, linked.detail, linked.channel)


async def _obey(context: Context, role: Qmgr) -> None:
    """What the supervisor says: refused agents, and the operator's commands."""
    async for message in context.orders():
        match message:
            case wire.AgentRefused():
                role.refused(message)
            case wire.Ask(verb="list" | "show") as ask:
                await answer(context, role, ask)
            case wire.Ask() as ask:
                error = role.command(ask)
                context.say(wire.Answer(reference=ask.reference, error=error, document=b""))
        await role.proceed()


async def answer(context: Context, role: Qmgr, ask: wire.Ask) -> None:
    """Describe the queue, some messages at a time, so that mail goes on."""
    names = [ask.queue_id] if ask.queue_id else sorted(role.known)
    rows: list[queue_view.Row] = []
    for name in names:
        row = queue_view.look(role.disk, name, role.known.get(name))
        if row is not None:
            rows.append(row)
        if len(rows) >= ROWS_AT_ONCE:
            context.say(_part(ask, rows, more=True))
            rows = []
            await trio.lowlevel.checkpoint()
    if ask.queue_id and not rows:
        error = "no such message in the queue"
        context.say(wire.Answer(reference=ask.reference, error=error, document=b""))
    else:
        context.say(_part(ask, rows, more=False))


def _part(ask: wire.Ask, rows: list[queue_view.Row], *, more: bool) -> wire.Answer:
    document = msgspec.json.encode(rows)
    return wire.Answer(reference=ask.reference, error="", document=document, more=more)
