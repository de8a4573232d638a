"""The queue's events in a live trace, and which sequences of them are behaviours.

| action            | fields                | means                                               |
|-------------------|-----------------------|-----------------------------------------------------|
| enqueue.committed | queue_id, recipients  | file and directory are synced                       |
| enqueue.recovered | queue_id              | found whole at enqueue's start, listed again        |
| smtpd.replied     | queue_id              | 250 is about to be sent                             |
| smtpd.lost        | queue_id              | committed, but the client was gone                  |
| qmgr.dispatched   | queue_id, recipient   | handed to an agent                                  |
| local.delivered   | queue_id, recipient   | durable in the mailbox                              |
| qmgr.deferred     | queue_id, recipient   | will be tried again                                 |
| qmgr.marked       | queue_id, recipient   | the outcome is written (outcome=failed: not there)  |
| qmgr.freed        | queue_id              | the chunk is unlinked                               |
| NAME.ended        | (its pid, next number)| this process is dead (said by its parent)           |
| machine.crashed   |                       | the machine was started again                       |

`recipients` is how many there are. An event is written *after* what it says has happened, except
smtpd.replied, which is written before the 250 goes out.

A message whose recipient is delivered to, and dispatched again without a mark, needs an excuse: the
agent or the qmgr concerned is dead, or the machine crashed. These are the windows of the spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from specs.kernel.accept import Context, Event


@dataclass(frozen=True, slots=True)
class Try:
    """How far a recipient is: pending, dispatched, delivered, marked; by which qmgr and agent."""

    phase: str = "pending"
    qmgr: int = 0
    agent: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """What is known of one queue id."""

    context: Context
    expected: int | None = None  # recipients; None: not said
    committed: bool = False
    listed: bool = False
    answered: bool = False
    freed: bool = False
    tries: tuple[tuple[str, Try], ...] = ()

    def of(self, recipient: str) -> Try:
        return dict(self.tries).get(recipient, Try())

    def died(self, action: str, pid: int = 0) -> bool:
        """Whether such a process (any, if no pid) or the machine is known to have died."""
        return any(
            what == "machine.crashed" or (what == action and (not pid or who == pid))
            for what, who in self.context
        )

    @property
    def crashed(self) -> bool:
        return any(what == "machine.crashed" for what, _ in self.context)


class QueueTrace:
    """The TraceSpec; `running`: the trace was cut off while the server worked."""

    name = "queue"

    def __init__(self, *, running: bool = False) -> None:
        self.running = running

    def key(self, event: Event) -> str | None:
        return event.fields.get("queue_id")

    def start(self, key: str, context: Context) -> Message:
        return Message(context)

    def step(self, state: Message, event: Event) -> Iterator[Message]:
        recipient = event.fields.get("recipient", "")
        match event.action:
            case "enqueue.committed" if not state.committed and not state.listed:
                count = event.fields.get("recipients")
                expected = int(count) if count is not None and count.isdigit() else None
                yield replace(state, committed=True, listed=True, expected=expected)
            case "enqueue.recovered" if not state.freed or state.crashed:
                yield replace(state, listed=True, freed=False)
            case "smtpd.replied" | "smtpd.lost" if state.committed and not state.answered:
                yield replace(state, answered=True)
            case "qmgr.freed" if self._may_be_freed(state):
                yield replace(state, freed=True)
            case "qmgr.dispatched" | "qmgr.deferred" | "qmgr.marked" | "local.delivered":
                if recipient and state.listed and self._is_there(state, event):
                    for after in _tried(state, state.of(recipient), event):
                        others = dict(state.tries) | {recipient: after}
                        yield replace(state, tries=tuple(sorted(others.items(), key=str)))

    @staticmethod
    def _is_there(state: Message, event: Event) -> bool:
        """Nothing is done for a chunk that is gone, nor for more recipients than it has."""
        known = {recipient for recipient, _ in state.tries} | {event.fields["recipient"]}
        few_enough = state.expected is None or len(known) <= state.expected
        return few_enough and (not state.freed or state.crashed)

    @staticmethod
    def _may_be_freed(state: Message) -> bool:
        done = [
            after.phase == "marked"
            # the qmgr that marked it may have died before it could say so
            or (after.phase == "delivered" and state.died("qmgr.ended", after.qmgr))
            for _, after in state.tries
        ]
        enough = state.expected is None or len(done) == state.expected
        return not state.freed and bool(done) and all(done) and enough

    def unfinished(self, state: Message) -> str:
        if self.running:
            return ""
        unheard = state.died("smtpd.ended") or state.died("enqueue.ended")
        if state.committed and not state.answered and not unheard:
            return "committed, but no reply was sent, and neither smtpd nor enqueue died"
        for recipient, after in state.tries:
            dead = state.died("qmgr.ended", after.qmgr) or state.died("local.ended", after.agent)
            if after.phase == "delivered" and not dead:
                return f"delivered to {recipient}, but never marked"
        if self._may_be_freed(state) and not state.died("qmgr.ended"):
            return "every recipient is marked, but the chunk was never freed"
        return ""


def _tried(state: Message, before: Try, event: Event) -> Iterator[Try]:
    """What one recipient's event leads to, if it is allowed."""
    match event.action, before.phase:
        case "qmgr.dispatched", "pending":
            yield Try("dispatched", event.pid)
        case "qmgr.dispatched", "dispatched" | "delivered" if _excused(state, before):
            yield Try("dispatched", event.pid)
        case "qmgr.dispatched", "marked" if state.crashed:
            yield Try("dispatched", event.pid)
        case "local.delivered", "dispatched":
            yield Try("delivered", before.qmgr, event.pid)
        case "qmgr.deferred", "dispatched" if before.qmgr == event.pid:
            yield Try("pending", event.pid)
        case "qmgr.deferred", "delivered" if state.died("local.ended", before.agent):
            yield Try("pending", event.pid)
        case "qmgr.marked", "delivered" if before.qmgr == event.pid:
            yield Try("marked", event.pid, before.agent)
        case "qmgr.marked", "dispatched" if event.fields.get("outcome") == "failed":
            yield Try("marked", event.pid)


def _excused(state: Message, before: Try) -> bool:
    """Dispatched again without an outcome: who knew it must be dead."""
    return state.died("qmgr.ended", before.qmgr) or state.died("local.ended", before.agent)
