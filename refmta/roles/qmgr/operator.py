"""The operator's commands: what is in the queue, and retry, hold, release, remove."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import trio

from refmta.patterns.compartmentalization import Context
from refmta.protocol import delivery
from refmta.roles.qmgr import view
from refmta.roles.qmgr.queue import Queue
from refmta.roles.qmgr.relays import Relays
from refmta.roles.qmgr.state import ROWS_AT_ONCE, Active
from refmta.wire import messages as wire


@dataclass(slots=True)
class Operator:
    """Carries out commands, one at a time."""

    queue: Queue
    relays: Relays

    def command(self, ask: wire.Ask) -> str:
        """Carry out retry, hold, release or remove; returns what is wrong, or nothing.

        Without a queue id: all messages (retry only).
        """
        queue = self.queue
        if not ask.queue_id:
            return self._retry_all() if ask.verb == "retry" else "which message?"
        if ask.queue_id not in queue.known:
            return "no such message in the queue"
        active = queue.active.get(ask.queue_id)
        if active is None:
            self._bring_back(ask.queue_id)
            active = queue.active.get(ask.queue_id)
        if active is None:
            return ""  # it was done, or set aside, as soon as it was looked at
        now_s = int(queue.wall())
        events: dict[str, delivery.Event] = {
            "retry": self._retried(active),
            "hold": delivery.Held(now_s),
            "release": delivery.Released(now_s),
            "remove": delivery.Removed(),
        }
        if ask.verb == "retry":
            self.relays.forgive()
        queue.step(active, events[ask.verb])
        if active.state.gone:
            queue.trace("qmgr.removed", queue_id=ask.queue_id)
        else:
            queue.advance(active)
        queue.journal.info(f"operator: {ask.verb}", queue_id=ask.queue_id)
        return ""

    def _retry(self, active: Active) -> None:
        """One that is in memory: also what has failed, unless somebody is being told of it."""
        self.queue.step(active, self._retried(active))
        self.queue.advance(active)

    def _retried(self, active: Active) -> delivery.Retried:
        told = self.queue.reports.being_told(active)
        return delivery.Retried(
            tuple(n for n in range(len(active.state.recipients)) if n not in told)
        )

    def _retry_all(self) -> str:
        queue = self.queue
        self._look_around()
        queue.forced.update(queue.incoming)
        for queue_id in [each for each, when_s in queue.known.items() if when_s > 0]:
            queue.forced.add(queue_id)
            queue.schedule(queue_id, 0.0)
        queue.reports.troubled.clear()
        queue.cleaning.again()
        self.relays.forgive()
        for active in [each for each in queue.active.values() if each.reports]:
            self._retry(active)
        return ""

    def _look_around(self) -> None:
        """Where others put mail into the queue without a word, the operator means that, too."""
        if self.queue.config.scan_s:
            self.queue.intake.scan()

    def _bring_back(self, queue_id: str) -> None:
        """Load a waiting message ahead of its time."""
        queue = self.queue
        queue.known[queue_id] = 0.0
        if queue_id in queue.incoming:
            queue.incoming.remove(queue_id)
        queue.load(queue_id, resting=True)

    async def answer(self, context: Context, ask: wire.Ask) -> None:
        """Describe the queue, some messages at a time, so that mail goes on."""
        queue = self.queue
        self._look_around()
        names = [ask.queue_id] if ask.queue_id else sorted(queue.known)
        rows: list[view.Row] = []
        for name in names:
            row = view.look(queue.store, name, queue.known.get(name))
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


def _part(ask: wire.Ask, rows: list[view.Row], *, more: bool) -> wire.Answer:
    document = msgspec.json.encode(rows)
    return wire.Answer(reference=ask.reference, error="", document=document, more=more)
