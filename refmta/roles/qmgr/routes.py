"""Where mail goes: qmgr's questions to resolve, and what it remembers of the answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery, routing
from refmta.roles.qmgr.state import ROUTE_S, ROUTES, Active
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue


class Question(NamedTuple):
    """A recipient, and the reverse-path if that may be rewritten, too; else empty."""

    recipient: str
    reverse_path: str


@dataclass(frozen=True, slots=True)
class Known:
    """An answer, and until when it is believed."""

    until_s: float
    targets: tuple[routing.Target, ...]
    said_from: str


@dataclass(slots=True)
class Routes:
    """Questions that are open, by what is asked and by number; answers, until they are too old."""

    queue: Queue
    remembered: dict[Question, Known] = field(default_factory=dict)
    questions: dict[Question, list[tuple[Active, int]]] = field(default_factory=dict)
    asked: dict[int, Question] = field(default_factory=dict)
    resolve: Channel | None = None

    def ask(self, active: Active, index: int) -> None:
        """Find a pending recipient's targets: at once if they are remembered."""
        question = self._question(active, index)
        known = self.remembered.get(question)
        if known is not None and known.until_s > trio.current_time():
            self._expand(active, index, known)
            return
        waiting = self.questions.setdefault(question, [])
        waiting.append((active, index))
        if len(waiting) == 1:
            self._ask(question)

    def _question(self, active: Active, index: int) -> Question:
        """Most mail has no map to go through: then one answer serves all senders."""
        rewrites = self.queue.config.rewrites
        return Question(
            active.state.recipients[index].address, active.envelope.reverse_path if rewrites else ""
        )

    def _expand(self, active: Active, index: int, known: Known) -> None:
        queue, targets = self.queue, known.targets
        active.said_from = known.said_from
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

    def _ask(self, question: Question) -> None:
        if self.resolve is None:
            return  # asked when it is back
        reference = self.queue.reference()
        self.asked[reference] = question
        asks = wire.Route(
            reference=reference, recipient=question.recipient, reverse_path=question.reverse_path
        )
        self.queue.post(self.resolve, asks)

    async def follow(self, channel: Channel) -> None:
        """Ask anew what the former one left open, then hear answers."""
        self.resolve = channel
        self.asked.clear()
        for question in self.questions:
            self._ask(question)
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
        question = self.asked.pop(answer.reference, None)
        if question is None:
            return
        targets = tuple(
            routing.Target(kind=t.kind, user=t.user, mailbox=t.mailbox, address=t.address)
            for t in answer.targets
        )
        known = Known(trio.current_time() + ROUTE_S, targets, answer.reverse_path)
        if targets:
            if len(self.remembered) >= ROUTES:
                self.remembered.clear()
            self.remembered[question] = known
        for active, index in self.questions.pop(question, ()):
            if self.queue.active.get(active.queue_id) is not active:
                continue  # it was held or freed meanwhile; whoever loads it asks again
            if targets:
                self._expand(active, index, known)
                self.queue.dispatch(active)
            else:
                kind: delivery.OutcomeKind = "failed" if answer.code >= 500 else "deferred"
                self.queue.settle(active, index, kind, answer.enhanced, answer.text)
            self.queue.rest(active)
