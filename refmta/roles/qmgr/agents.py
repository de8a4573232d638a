"""Local delivery: what waits for each user, and agents to hand it to.

Theory: `Agents` keeps the books, for each user of his own; where agents come from is the business
of a *supply*, one of three (`Slice.agents`):

    wanted    a process per user, which the supervisor starts when it is asked; up to `WINDOW`
              messages at a time (ours)
    shared    one process for all users, of which each message says for whom it is; up to `SHARED`
              at a time (Postfix's local; a role of the same process, as in sendmail; lmtpc)
    called    a new process for each delivery, which becomes the user and ends (`spawns`: qmail)

When an agent is lost, what it had in flight is handed to the next one (a named window for
duplicates); after `LOSSES` agents a message is deferred instead, since it may be what kills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio

from refmta.patterns.compartmentalization import Call
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery
from refmta.roles.qmgr.spawns import Spawns
from refmta.roles.qmgr.state import LOSSES, WINDOW, Active
from refmta.roles.qmgr.turns import Owner, Turns
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue

#: Most deliveries in flight where one agent serves all.
SHARED: Final = 4 * WINDOW


class Supply(Protocol):
    """Where agents come from."""

    def fill(self, owner: Owner) -> None:
        """This user has mail, or his agent has room: hand over what may be handed over."""
        ...

    async def follow(self, user: str, channel: Channel) -> None:
        """There is an agent, at the other end of this channel.  Hears it until it is gone."""
        ...

    def refused(self, refusal: wire.AgentRefused) -> None:
        """There will be no agent for this user: its mail waits, with the reason."""
        ...


@dataclass(slots=True)
class Agents:
    """The carrier of mail to mailboxes.  call: makes a channel to a server (`Context.call`)."""

    queue: Queue
    nursery: trio.Nursery
    call: Call
    owners: dict[str, Owner] = field(default_factory=dict)
    supply: Supply = field(init=False)

    def __post_init__(self) -> None:
        config = self.queue.config
        match config.agents:
            case "wanted":
                self.supply = Wanted(self)
            case "shared":
                self.supply = Shared(self, Turns(SHARED, WINDOW))
            case "called":
                self.supply = Spawns(self, Turns(config.local_workers, config.local_workers))

    def flying(self) -> bool:
        """Whether anything is with an agent."""
        return any(owner.flying for owner in self.owners.values())

    async def follow(self, user: str, channel: Channel) -> None:
        """A link to an agent: of this user, or of all."""
        await self.supply.follow(user, channel)

    def refused(self, refusal: wire.AgentRefused) -> None:
        """What the supervisor says to `AgentWanted`."""
        self.supply.refused(refusal)

    # -- what the queue asks ----------------------------------------------------------------------

    def crowded(self, owner: str) -> bool:
        """A user whose agent hangs keeps his own mail waiting, on disk, and nobody else's."""
        return len(self.owner(owner).backlog) >= self._share()

    def take(self, owner: str, active: Active, indices: Sequence[int]) -> None:
        """Marked at once as in flight, so that it is dispatched once; it may still wait for its
        agent, and an agent that is refused gives it back as deferred.
        """
        user = self.owner(owner)
        for index in indices:
            self.queue.step(active, delivery.Dispatched((index,)))
            user.backlog.append((active, index))
        self.supply.fill(user)

    def park(self, owner: str, queue_id: str) -> str:
        """Wait on disk for this user's turn."""
        self.owner(owner).parked.append(queue_id)
        return "waits for other mail to the same user"

    def _share(self) -> int:
        return max(1, self.queue.room())

    # -- the books, for supplies ------------------------------------------------------------------

    def owner(self, user: str) -> Owner:
        """One user's."""
        known = self.owners.get(user)
        if known is None:
            known = self.owners[user] = Owner(user)
        return known

    def hand_over(self, owner: Owner, channel: Channel, user: str = "") -> int | None:
        """Give an agent the first of the backlog, for this user if it must be told; its reference,
        None if there was nothing to give.
        """
        active, index = owner.backlog.popleft()
        target = active.state.recipients[index].target
        if active.state.gone or target is None:
            return None
        try:
            descriptor = self.queue.descriptor(active)
        except OSError as error:
            self.queue.refuse(active, (index,), error)
            return None
        reference = self.queue.reference()
        owner.flying[reference] = (active, index)
        recipient = active.state.recipients[index].address
        self.queue.trace(
            "qmgr.dispatched", queue_id=active.queue_id, recipient=recipient, index=index
        )
        job = wire.Deliver(
            reference=reference,
            queue_id=active.queue_id,
            index=index,
            mailbox=target.mailbox,
            recipient=recipient,
            user=user,
            head=active.head,
        )
        self.queue.post(channel, job, descriptor)
        return reference

    def make_room(self, owner: Owner) -> None:
        """Bring back as much parked mail as the user has room for, once half of it is free."""
        if owner.parked and len(owner.backlog) * 2 <= self._share():
            self.unpark(owner)

    def unpark(self, owner: Owner) -> None:
        """Bring back as many as there is room for."""
        for _ in range(min(len(owner.parked), self._share() - len(owner.backlog), WINDOW)):
            self.queue.bring(owner.parked.popleft())

    def outcome(self, owner: Owner, outcome: wire.Outcome) -> bool:
        """What an agent says; False if nobody asked."""
        flying = owner.flying.pop(outcome.reference, None)
        if flying is None:
            return False
        active, index = flying
        if outcome.kind == "damaged":
            self.queue.look_again(active, index, outcome.text)
            return True
        self.queue.settle(active, index, outcome.kind, outcome.enhanced, outcome.text)
        self._go_on(active)
        return True

    def lost(self, flights: Sequence[tuple[Active, int]]) -> None:
        """One agent is gone, and nobody knows which of its deliveries it had finished."""
        for active in dict.fromkeys(active for active, _ in flights):
            active.losses += 1
        for active, index in flights:
            self.give_back(active, index, tired=active.losses >= LOSSES)

    def give_back(self, active: Active, index: int, *, tired: bool) -> None:
        """To the next agent, unless this recipient has had enough of them."""
        self.queue.step(active, delivery.AgentLost((index,)))
        if tired:
            text = "the delivery agent ended without an answer"
            self.queue.settle(active, index, "deferred", "4.3.0", text)
        else:
            self.queue.dispatch(active)
        self.queue.rest(active)

    def _go_on(self, active: Active) -> None:
        if not active.state.gone:
            self.queue.dispatch(active)
            self.queue.rest(active)


# -- an agent for each user -----------------------------------------------------------------------


@dataclass(slots=True)
class Wanted:
    """Agents are asked for, and come by a link.  wanted: users for whom that was done."""

    agents: Agents
    channels: dict[str, Channel] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)

    def fill(self, owner: Owner) -> None:
        channel = self.channels.get(owner.user)
        if channel is None:
            self._want(owner)
            return
        while owner.backlog and len(owner.flying) < WINDOW:
            self.agents.hand_over(owner, channel)
        self.agents.make_room(owner)

    async def follow(self, user: str, channel: Channel) -> None:
        owner, queue = self.agents.owner(user), self.agents.queue
        if user in self.channels:
            self._lost(owner)
        self.channels[user] = channel
        self.wanted.discard(user)
        self.fill(owner)
        await queue.flush()
        try:
            while self.channels.get(user) is channel:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Outcome):
                        self.agents.outcome(owner, item.message)
                self.fill(owner)
                await queue.proceed()
        except ChannelBroken:
            if self.channels.get(user) is channel:
                self._lost(owner)
                await queue.proceed()
        finally:
            channel.close()

    def _lost(self, owner: Owner) -> None:
        del self.channels[owner.user]
        flights, owner.flying = list(owner.flying.values()), {}
        self.agents.lost(flights)
        self._want(owner)

    def refused(self, refusal: wire.AgentRefused) -> None:
        owner = self.agents.owner(refusal.user)
        self.wanted.discard(owner.user)
        backlog, owner.backlog = owner.backlog, type(owner.backlog)()
        for active, index in backlog:
            self.agents.queue.settle(active, index, "deferred", "4.3.5", refusal.text)
            self.agents.queue.rest(active)
        self.agents.unpark(owner)

    def _want(self, owner: Owner) -> None:
        if owner.user in self.wanted or owner.user in self.channels or not owner.backlog:
            return
        self.wanted.add(owner.user)
        self.agents.queue.ask_supervisor(wire.AgentWanted(user=owner.user))


# -- one agent for all ----------------------------------------------------------------------------


@dataclass(slots=True)
class Shared:
    """The agent is a link like any other peer's.  owners: of what is in flight, by reference."""

    agents: Agents
    turns: Turns
    channel: Channel | None = None
    owners: dict[int, Owner] = field(default_factory=dict)

    def fill(self, owner: Owner) -> None:
        self.turns.wait(owner)
        self._go_round()

    def _go_round(self) -> None:
        """Hand over whatever may be, to each in his turn."""
        queue = self.agents.queue
        while self.channel is not None and not queue.draining:
            owner = self.turns.next(queue.wall())
            if owner is None:
                return
            reference = self.agents.hand_over(owner, self.channel, owner.user)
            if reference is not None:
                self.owners[reference] = owner
                self.turns.under_way += 1
            self.agents.make_room(owner)

    async def follow(self, user: str, channel: Channel) -> None:
        former, self.channel = self.channel, channel
        if former is not None:
            former.close()  # whoever had it is gone, or will find that nobody hears him
            self._lost()
        self._go_round()
        await self.agents.queue.flush()
        try:
            while self.channel is channel:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Outcome):
                        self._outcome(item.message)
                self._go_round()
                await self.agents.queue.proceed()
        except ChannelBroken:
            if self.channel is channel:
                self.channel = None
                self._lost()
                await self.agents.queue.proceed()
        finally:
            channel.close()

    def _outcome(self, outcome: wire.Outcome) -> None:
        owner = self.owners.pop(outcome.reference, None)
        if owner is not None:
            self.turns.under_way -= 1
            self.agents.outcome(owner, outcome)

    def _lost(self) -> None:
        flights = [owner.flying.pop(each) for each, owner in self.owners.items()]
        self.owners.clear()
        self.turns.under_way = 0
        self.agents.lost(flights)

    def refused(self, refusal: wire.AgentRefused) -> None:
        """Nobody was asked for one."""
