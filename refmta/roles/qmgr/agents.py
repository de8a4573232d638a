"""Local delivery: an agent per recipient user, at most `WINDOW` messages at a time.

When an agent is lost, what it had in flight is handed to the next one (a named window for
duplicates); after `LOSSES` agents a message is deferred instead, since it may be what kills them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery
from refmta.roles.qmgr.state import LOSSES, WINDOW, Active
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue


@dataclass(slots=True, eq=False)
class Agent:
    """The delivery agent of one user: away (no channel), or at work.

    parked: queue ids of messages beyond the user's share of the memory; they wait on disk.
    """

    user: str
    channel: Channel | None = None
    backlog: deque[tuple[Active, int]] = field(default_factory=deque)
    flying: dict[int, tuple[Active, int]] = field(default_factory=dict)
    wanted: bool = False
    parked: deque[str] = field(default_factory=deque)


@dataclass(slots=True)
class Agents:
    """The carrier of mail to mailboxes."""

    queue: Queue
    agents: dict[str, Agent] = field(default_factory=dict)

    def flying(self) -> bool:
        """Whether anything is with an agent."""
        return any(agent.flying for agent in self.agents.values())

    # -- what the queue asks ----------------------------------------------------------------------

    def crowded(self, owner: str) -> bool:
        """A user whose agent hangs keeps his own mail waiting, on disk, and nobody else's."""
        return len(self._agent(owner).backlog) >= self._share()

    def take(self, owner: str, active: Active, indices: Sequence[int]) -> None:
        """Marked at once as in flight, so that it is dispatched once; it may still wait for its
        agent, and an agent that is refused gives it back as deferred.
        """
        agent = self._agent(owner)
        for index in indices:
            self.queue.step(active, delivery.Dispatched((index,)))
            agent.backlog.append((active, index))
        self._fill(agent)

    def park(self, owner: str, queue_id: str) -> str:
        """Wait on disk for this user's turn."""
        self._agent(owner).parked.append(queue_id)
        return "waits for other mail to the same user"

    def _share(self) -> int:
        return max(1, self.queue.room())

    def _unpark(self, agent: Agent) -> None:
        """Bring back as many as the agent has room for."""
        for _ in range(min(len(agent.parked), self._share() - len(agent.backlog), WINDOW)):
            self.queue.bring(agent.parked.popleft())

    # -- agents -----------------------------------------------------------------------------------

    async def follow(self, user: str, channel: Channel) -> None:
        """Hand over what waits for this user, and hear outcomes."""
        agent = self._agent(user)
        if agent.channel is not None:
            self._lost(agent)
        agent.channel, agent.wanted = channel, False
        self._fill(agent)
        await self.queue.flush()
        try:
            while agent.channel is channel:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Outcome):
                        self._outcome(agent, item.message)
                self._fill(agent)
                await self.queue.proceed()
        except ChannelBroken:
            if agent.channel is channel:
                self._lost(agent)
                await self.queue.proceed()
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
            self.queue.step(active, delivery.AgentLost((index,)))
            if active.losses >= LOSSES:
                text = "the delivery agent ended without an answer"
                self.queue.settle(active, index, "deferred", "4.3.0", text)
            else:
                self.queue.dispatch(active)
            self.queue.rest(active)
        self._want(agent)

    def refused(self, refusal: wire.AgentRefused) -> None:
        """There will be no agent for this user: its mail waits, with the reason."""
        agent = self._agent(refusal.user)
        agent.wanted = False
        backlog, agent.backlog = agent.backlog, deque()
        for active, index in backlog:
            self.queue.settle(active, index, "deferred", "4.3.5", refusal.text)
            self.queue.rest(active)
        self._unpark(agent)

    def _fill(self, agent: Agent) -> None:
        if agent.channel is None:
            if agent.backlog:
                self._want(agent)
            return
        while agent.backlog and len(agent.flying) < WINDOW:
            active, index = agent.backlog.popleft()
            if not active.state.gone:
                self._hand_over(agent, agent.channel, active, index)
        if agent.parked and len(agent.backlog) * 2 <= self._share():
            self._unpark(agent)

    def _hand_over(self, agent: Agent, channel: Channel, active: Active, index: int) -> None:
        recipient = active.state.recipients[index]
        if recipient.target is None:
            return
        try:
            descriptor = self.queue.descriptor(active)
        except OSError as error:
            self.queue.refuse(active, (index,), error)
            return
        reference = self.queue.reference()
        agent.flying[reference] = (active, index)
        self.queue.trace(
            "qmgr.dispatched", queue_id=active.queue_id, recipient=recipient.address, index=index
        )
        job = wire.Deliver(
            reference=reference,
            queue_id=active.queue_id,
            index=index,
            mailbox=recipient.target.mailbox,
            recipient=recipient.address,
        )
        self.queue.post(channel, job, descriptor)

    def _outcome(self, agent: Agent, outcome: wire.Outcome) -> None:
        flying = agent.flying.pop(outcome.reference, None)
        if flying is None:
            return
        active, index = flying
        if outcome.kind == "damaged":
            self.queue.look_again(active, index, outcome.text)
            return
        self.queue.settle(active, index, outcome.kind, outcome.enhanced, outcome.text)
        if not active.state.gone:
            self.queue.dispatch(active)
            self.queue.rest(active)

    def _agent(self, user: str) -> Agent:
        agent = self.agents.get(user)
        if agent is None:
            agent = self.agents[user] = Agent(user)
        return agent

    def _want(self, agent: Agent) -> None:
        if not agent.wanted and agent.backlog and agent.channel is None:
            agent.wanted = True
            self.queue.ask_supervisor(wire.AgentWanted(user=agent.user))
