"""What another role removes for us: the files that belong to the user who wrote the queue.

Pattern: Distributed Delegation.  Whoever decides that a message is done may not unlink its content,
and whoever may unlink decides nothing (qmail INTERNALS: qmail-send asks qmail-clean).

    foop    all that is left of a message.  It is out of the queue before this begins, so nothing
            depends on it but disk space.
    todo    what says that it is new.  It is delivered when that is gone, and not before.

What is not answered when clean or we die, recovery asks for again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.roles.qmgr.state import TROUBLE_S
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue


Verb = Literal["foop", "todo"]


@dataclass(slots=True)
class Cleaning:
    """Questions that are open, by reference."""

    queue: Queue
    clean: Channel | None = None
    asked: dict[int, tuple[str, Verb]] = field(default_factory=dict)

    def ask(self, queue_id: str, verb: Verb) -> None:
        """Have it removed, as soon as clean is there."""
        if (queue_id, verb) not in self.asked.values():
            reference = self.queue.reference()
            self.asked[reference] = queue_id, verb
            self._say(reference)

    def again(self) -> None:
        """The operator wants it now."""
        for reference in self.asked:
            self._say(reference)

    def _say(self, reference: int) -> None:
        if self.clean is not None and reference in self.asked:
            queue_id, verb = self.asked[reference]
            question = wire.Cleanse(reference=reference, queue_id=queue_id, verb=verb)
            self.queue.post(self.clean, question)

    async def follow(self, channel: Channel) -> None:
        """Ask anew what the former one left open, then hear answers."""
        self.clean = channel
        for reference in self.asked:
            self._say(reference)
        await self.queue.flush()
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Cleansed):
                        self._cleansed(item.message)
                await self.queue.proceed()
        except ChannelBroken:
            channel.close()
            if self.clean is channel:
                self.clean = None

    def _cleansed(self, answer: wire.Cleansed) -> None:
        reference = answer.reference
        queue_id, verb = self.asked.get(reference, ("", "foop"))
        if not queue_id:
            return
        if answer.done:
            del self.asked[reference]
            if verb == "todo":
                self.queue.arrived([queue_id])
            return
        self.queue.journal.error("not cleaned", queue_id=queue_id)
        self.queue.alarm(self.queue.wall() + TROUBLE_S, lambda: self._say(reference))
