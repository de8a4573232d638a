"""Local delivery by a process for each message and recipient (qmail's lspawn and its children).

A delivery is a call (`Context.call`), for a user: a privileged parent forks a process, which
becomes that user and then gets the channel.  It hears one order, answers it, and ends; at most
`local_workers` at once (qmail: concurrencylocal).

A call that ends without an answer tells nothing of why: the parent is away or refuses the user, or
the message has killed the process.  Whoever it was for has a pause that grows (`PAUSES_S`), and
nobody else has; after `LOSSES` calls his recipient of that message is deferred.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.roles.qmgr.state import LOSSES
from refmta.roles.qmgr.turns import Owner, Turns
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.agents import Agents

#: Pauses after calls for one user that broke, in a row: a pool's parent takes half a second to be
#: there again.
PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(slots=True)
class Spawns:
    """A supply of agents that live for one delivery.  losses: by queue id and recipient."""

    agents: Agents
    turns: Turns
    losses: Counter[tuple[str, int]] = field(default_factory=Counter)

    def fill(self, owner: Owner) -> None:
        """As many calls as may be made."""
        self.turns.wait(owner)
        self._go_round()

    def _go_round(self) -> None:
        queue = self.agents.queue
        while not queue.draining:
            owner = self.turns.next(queue.wall())
            if owner is None:
                return
            self._spawn(owner)
            self.agents.make_room(owner)

    def _spawn(self, owner: Owner) -> None:
        try:
            channel = self.agents.call("local", owner.user)
        except OSError as error:  # no descriptor is left
            active, index = owner.backlog.popleft()
            self.agents.queue.refuse(active, (index,), error)
            return
        reference = self.agents.hand_over(owner, channel)
        if reference is None:
            channel.close()
            return
        self.turns.under_way += 1
        self.agents.nursery.start_soon(self._hear, owner, channel, reference)

    async def _hear(self, owner: Owner, channel: Channel, reference: int) -> None:
        """One delivery's end, however it ends."""
        queue = self.agents.queue
        await queue.flush()
        try:
            while reference in owner.flying:
                for item in await channel.receive():
                    match item.message:
                        case wire.Outcome() as outcome if outcome.reference == reference:
                            self._outcome(owner, outcome)
                        case _:
                            raise ChannelBroken("not what was asked for")
        except ChannelBroken:
            if reference in owner.flying:
                self._lost(owner, reference)
        finally:
            channel.close()
            self.turns.under_way -= 1
        self.fill(owner)
        await queue.proceed()

    def _outcome(self, owner: Owner, outcome: wire.Outcome) -> None:
        active, index = owner.flying[outcome.reference]
        owner.breaks, owner.not_before_s = 0, 0.0
        self.losses.pop((active.queue_id, index), None)
        self.agents.outcome(owner, outcome)

    def _lost(self, owner: Owner, reference: int) -> None:
        queue = self.agents.queue
        active, index = owner.flying.pop(reference)
        owner.not_before_s = queue.wall() + PAUSES_S[min(owner.breaks, len(PAUSES_S) - 1)]
        owner.breaks += 1
        queue.alarm(owner.not_before_s, self._go_round)
        key = (active.queue_id, index)
        self.losses[key] += 1
        tired = self.losses[key] >= LOSSES
        if tired:
            del self.losses[key]
        self.agents.give_back(active, index, tired=tired)

    async def follow(self, user: str, channel: Channel) -> None:
        """Nobody is linked: agents are called."""
        channel.close()

    def refused(self, refusal: wire.AgentRefused) -> None:
        """Nobody was asked for one."""
