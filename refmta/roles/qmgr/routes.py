"""Where mail goes: qmgr's questions to resolve, and what it remembers of the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery, routing
from refmta.roles.qmgr.state import ROUTE_S, ROUTES, Active
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue


@dataclass(slots=True)
class Routes:
    """Questions that are open, by address and by number; answers, until they are too old."""

    queue: Queue
    remembered: dict[str, tuple[float, tuple[routing.Target, ...]]] = field(default_factory=dict)
    questions: dict[str, list[tuple[Active, int]]] = field(default_factory=dict)
    asked: dict[int, str] = field(default_factory=dict)
    resolve: Channel | None = None

    def ask(self, active: Active, index: int) -> None:
        """Find a pending recipient's targets: at once if they are remembered."""
        address = active.state.recipients[index].address
        cached = self.remembered.get(address)
        if cached is not None and cached[0] > trio.current_time():
            self._expand(active, index, cached[1])
            return
        waiting = self.questions.setdefault(address, [])
        waiting.append((active, index))
        if len(waiting) == 1:
            self._ask(address)

    def _expand(self, active: Active, index: int, targets: tuple[routing.Target, ...]) -> None:
        queue = self.queue
        many = len(targets) > 1 and active.state.recipients[index].target is None
        before = active.state
        queue.step(active, delivery.Expanded(index, targets, int(queue.wall())))
        if many and active.state.recipients[index].status is delivery.Status.EXPANDED:
            address = active.state.recipients[index].address
            queue.trace(
                "qmgr.marked", queue_id=active.queue_id, recipient=address, index=index,
                outcome="expanded", targets=len(targets),
            )  # fmt: skip
        if before.recipients[index].status is delivery.Status.PENDING:
            for place in (index, *range(len(before.recipients), len(active.state.recipients))):
                self._trace_twin(active, place)
        queue.trace_freed(active)

    def _trace_twin(self, active: Active, index: int) -> None:
        """Whose mailbox has the message already, by the delivery to another recipient."""
        twin, recipients = active.state.recipients[index], active.state.recipients
        if twin.status is not delivery.Status.DELIVERED or twin.target is None:
            return
        mailbox = (twin.target.user, twin.target.mailbox)
        first = next(
            place
            for place, each in enumerate(recipients)
            if place != index and each.target is not None
            and (each.target.user, each.target.mailbox) == mailbox
        )  # fmt: skip
        self.queue.trace(
            "qmgr.marked", queue_id=active.queue_id, recipient=twin.address, index=index,
            outcome="delivered", same_as=first,
        )  # fmt: skip

    def _ask(self, address: str) -> None:
        if self.resolve is None:
            return  # asked when it is back
        reference = self.queue.reference()
        self.asked[reference] = address
        self.queue.post(self.resolve, wire.Route(reference=reference, recipient=address))

    async def follow(self, channel: Channel) -> None:
        """Ask anew what the former one left open, then hear answers."""
        self.resolve = channel
        self.asked.clear()
        for address in self.questions:
            self._ask(address)
        await self.queue.flush()
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Routed):
                        self._routed(item.message)
                await self.queue.proceed()
        except ChannelBroken:
            channel.close()
            if self.resolve is channel:
                self.resolve = None

    def _routed(self, answer: wire.Routed) -> None:
        address = self.asked.pop(answer.reference, None)
        if address is None:
            return
        targets = tuple(
            routing.Target(kind=t.kind, user=t.user, mailbox=t.mailbox, address=t.address)
            for t in answer.targets
        )
        if targets:
            if len(self.remembered) >= ROUTES:
                self.remembered.clear()
            self.remembered[address] = (trio.current_time() + ROUTE_S, targets)
        for active, index in self.questions.pop(address, ()):
            if self.queue.active.get(active.queue_id) is not active:
                continue  # it was held or freed meanwhile; whoever loads it asks again
            if targets:
                self._expand(active, index, targets)
                self.queue.dispatch(active)
            else:
                kind: delivery.OutcomeKind = "failed" if answer.code >= 500 else "deferred"
                self.queue.settle(active, index, kind, answer.enhanced, answer.text)
            self.queue.rest(active)
