"""The queue's events in a live trace, and which sequences of them are behaviours.

| action            | fields                          | means                                      |
|-------------------|---------------------------------|--------------------------------------------|
| enqueue.committed | queue_id, recipients, sender,   | file and directory are synced              |
|                   | path                            |                                            |
| qmgr.logged       | queue_id, recipients, sender    | the envelope is synced, where qmgr keeps   |
|                   |                                 | those; enqueue.committed may follow        |
| enqueue.recovered | queue_id                        | found whole at its start, by whoever keeps |
| qmgr.recovered    |                                 | the queue; by qmgr also now and then       |
| smtpd.replied     | queue_id                        | 250 is about to be sent                    |
| smtpd.unheard     |                                 | gave up waiting for enqueue's verdict      |
| qmgr.dispatched   | queue_id, index, recipient      | is about to be handed to an agent          |
| local.delivered   | queue_id, index, recipient, path| durable in the mailbox                     |
| remote.sent       | queue_id, index, recipient      | the next hop's 250 to the content was read |
| qmgr.returned     | queue_id, index, recipient      | its agent is lost, or has handed it back   |
| qmgr.deferred     | queue_id, index, recipient      | will be tried again                        |
| qmgr.marked       | queue_id, index, recipient,     | the outcome is written: delivered, failed, |
|                   | outcome                         | reported, discarded, expanded              |
|                   | same_as                         | delivered: by that index's delivery        |
|                   | targets                         | expanded: this many recipients are added   |
| bounce.reported   | queue_id, report, recipients,   | `report` is the queue id of a report, now  |
|                   | kind, to                        | durable, about so many of its recipients   |
| qmgr.retried      | queue_id, index, recipient      | failed, and the operator has it tried again|
| qmgr.freed        | queue_id                        | the chunk is unlinked                      |
| qmgr.set_aside    | queue_id                        | the chunk is damaged, and not in the queue |
| qmgr.removed      | queue_id                        | the operator has dropped it                |
| NAME.ended        | process, status                 | this process is dead (said by its parent)  |
| supervisor.started|                                 | all processes of before are dead           |
| machine.crashed   |                                 | the machine was started again              |

`recipients` is how many there are. An event is written *after* what it says has happened, except
smtpd.replied, qmgr.dispatched and qmgr.retried, which are written before.

What is refused, beside an order that makes no sense:
- a recipient that is delivered to, and dispatched again without a mark, unless the agent or the
  qmgr concerned died, or the machine crashed (the spec's windows);
- a mark without its outcome; a chunk freed before every recipient has one;
- a recipient marked as reported without a kept report; more reports to one address than there are
  failures (or a second warning), unless bounce or qmgr died;
- a recipient discarded although there is a sender to be told;
- a report that has a sender itself, and a report about a message with a null sender to one of its
  own recipients: such reports could go on for ever.

Whoever has ended with status 0 had finished, and excuses nothing. A qmgr that died may have done
one thing that it could not say any more: this is excused. A delivery, and the marks of all
recipients with that mailbox, are one thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from specs.kernel.lives import Context, Event

TRIED = frozenset(
    {
        "qmgr.dispatched",
        "qmgr.returned",
        "qmgr.deferred",
        "qmgr.retried",
        "qmgr.marked",
        "local.delivered",
        "remote.sent",
    }
)
GONE = frozenset({"qmgr.freed", "qmgr.set_aside", "qmgr.removed"})
SETTLED = frozenset({"delivered and marked", "reported", "discarded", "expanded"})
#: Local parts at which nobody is told (RFC 5321 4.5.5 asks for the null sender; these are ours).
NOBODY = frozenset({"mailer-daemon", "double-bounce"})


@dataclass(frozen=True, slots=True)
class Try:
    """How far a recipient is; by which qmgr, and by whose agent."""

    phase: str = "pending"  # dispatched, delivered, failed, or one of SETTLED
    qmgr: int = 0
    agent: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Reports to one address: about how many recipients, and by whom the last one."""

    to: str
    kind: str
    count: int
    pid: int


@dataclass(frozen=True, slots=True)
class Message:
    """What is known of one queue id."""

    key: str
    context: Context = field(compare=False)
    envelope: int = 0  # recipients of the envelope; 0: not known
    expected: int | None = None  # recipients with those from aliases; None: not known
    sender: str | None = None
    logged: bool = False
    committed: bool = False
    listed: bool = False
    answered: bool = False
    gone: bool = False
    tries: tuple[tuple[str, Try], ...] = ()
    addresses: frozenset[str] = frozenset()
    reports: tuple[Told, ...] = ()

    def of(self, index: str) -> Try:
        return next((after for name, after in self.tries if name == index), Try())

    def died(self, role: str, pid: int = 0) -> bool:
        """Whether such a process (any, if no pid) ended before it had finished."""
        return (f"{role}.died", pid) in self.context or self.crashed

    @property
    def crashed(self) -> bool:
        return ("machine.crashed", 0) in self.context

    @property
    def anonymous(self) -> bool:
        """Whether there is nobody to be told; also if that is not known."""
        return not self.sender or self.sender.partition("@")[0].lower() in NOBODY

    @property
    def told(self) -> int:
        """About how many recipients somebody was told that they failed."""
        return max((each.count for each in self.reports if each.kind == "failed"), default=0)

    def phases(self, *phases: str) -> int:
        return sum(after.phase in phases for _, after in self.tries)


class QueueTrace:
    """The TraceSpec; `running`: the trace was cut off while the server worked."""

    name = "queue"

    def __init__(self, *, running: bool = False) -> None:
        self.running = running

    def keys(self, event: Event) -> tuple[str, ...]:
        names = (event.fields.get("queue_id", ""), event.fields.get("report", ""))
        return tuple(dict.fromkeys(name for name in names if name))

    def start(self, key: str, context: Context) -> Message:
        return Message(key, context)

    def step(self, state: Message, event: Event) -> Iterator[Message]:
        if event.action in TRIED:
            yield from _recipient(state, event)
        elif event.action in GONE:
            if state.listed and not state.gone and _may_go(state, event.action):
                yield replace(state, gone=True)
        else:
            yield from _whole(state, event)

    def unfinished(self, state: Message) -> str:
        return "" if self.running else _unfinished(state)


# ---- the message as a whole -----------------------------------------------------------------


def _whole(state: Message, event: Event) -> Iterator[Message]:
    match event.action:
        case "qmgr.logged" if not state.listed:
            yield replace(_described(state, event), logged=True)
        case "enqueue.committed" if state.logged and not state.committed:
            yield replace(state, committed=True)
        case "enqueue.committed" if not state.committed and not state.listed:
            yield replace(_described(state, event), committed=True)
        case "enqueue.recovered" | "qmgr.recovered" if not state.gone or state.crashed:
            yield replace(state, listed=True, gone=False)
        case "smtpd.replied" if state.committed and not state.answered:
            yield replace(state, answered=True)
        case "bounce.reported" if event.fields.get("report") == state.key:
            if state.committed and not state.answered and not state.sender:
                yield replace(state, answered=True)
        case "bounce.reported" if state.listed:
            yield from _reported(state, event)


def _described(state: Message, event: Event) -> Message:
    """In the queue, as the event says."""
    return replace(
        state,
        listed=True,
        envelope=_number(event, "recipients") or 0,
        expected=_number(event, "recipients"),
        sender=event.fields.get("sender"),
    )


def _number(event: Event, name: str) -> int | None:
    text = event.fields.get(name, "")
    return int(text) if text.isdigit() else None


def _may_go(state: Message, action: str) -> bool:
    """A chunk is freed only when every recipient has its outcome."""
    if action != "qmgr.freed":
        return True
    settled = [_is_settled(state, after) for _, after in state.tries]
    missing = 0 if state.expected is None else state.expected - len(settled)
    every = missing == 0 or (missing > 0 and _is_settled(state, Try()))  # of whom nothing was said
    return bool(settled) and all(settled) and every


def _is_settled(state: Message, after: Try) -> bool:
    """A dead qmgr may have written what it could not say any more: one outcome, and with it that of
    all who have the same mailbox.
    """
    if after.phase in SETTLED:
        return True
    match after.phase:
        case "delivered":
            return state.died("qmgr", after.qmgr)
        case "failed":
            return state.died("qmgr") and (state.told > 0 or state.anonymous)
        case "pending":
            twin = state.phases("delivered", "delivered and marked") > 0
            return state.died("qmgr") and (twin or state.expected is None)
    return False


def _unfinished(state: Message) -> str:
    """Why a trace must not end here."""
    unheard = any(map(state.died, ("smtpd", "enqueue", "bounce", "qmgr")))
    unheard = unheard or ("smtpd.unheard", 0) in state.context
    if state.logged and not state.committed and not unheard:
        return "logged, but nobody was told so, and none of those died who might have said it"
    if state.committed and not state.answered and not unheard:
        return "committed, but no reply was sent, and none of those who might have died"
    for index, after in state.tries:
        excused = state.died("qmgr", after.qmgr) or state.died(after.agent, after.pid)
        if after.phase == "delivered" and not excused and not state.gone:
            return f"delivered to recipient {index}, but never marked"
    finished = state.listed and not state.gone and _may_go(state, "qmgr.freed")
    if finished and not state.died("qmgr"):
        return "every recipient has its outcome, but the chunk was never freed"
    return ""


# ---- reports ----------------------------------------------------------------------------------


def _reported(state: Message, event: Event) -> Iterator[Message]:
    """A report about this message was kept."""
    kind, count = event.fields.get("kind", "failed"), _number(event, "recipients") or 1
    to = event.fields.get("to", state.sender or "").lower()
    if state.anonymous and state.sender is not None and to in state.addresses:
        return
    if state.anonymous and state.sender is not None and kind != "failed":
        return
    known = {(each.to, each.kind): each for each in state.reports}
    before = known.get((to, kind))
    done = before.count if before else 0
    repeated = before is not None and state.died("bounce", before.pid)
    first = before is None and kind == "delayed"
    due = kind == "failed" and done + count <= state.phases("failed", "reported")
    if first or due or repeated or state.died("qmgr"):
        known[to, kind] = Told(to, kind, done + count, event.pid)
        yield replace(state, reports=tuple(sorted(known.values(), key=str)))


# ---- one recipient ----------------------------------------------------------------------------


def _recipient(state: Message, event: Event) -> Iterator[Message]:
    index = event.fields.get("index") or event.fields.get("recipient", "")
    if not index or not state.listed or not _is_there(state, index):
        return
    addresses = state.addresses
    if index.isdigit() and int(index) < state.envelope and event.action != "local.delivered":
        addresses |= {event.fields.get("recipient", "").lower()}
    for after in _tried(state, state.of(index), event):
        others = [each for each in state.tries if each[0] != index]
        yield replace(
            state,
            tries=tuple(sorted([*others, (index, after)], key=_place)),
            expected=_grown(state, index, event),
            addresses=addresses,
        )


def _place(entry: tuple[str, Try]) -> tuple[int, str]:
    return len(entry[0]), entry[0]


def _is_there(state: Message, index: str) -> bool:
    """Nothing is done for a chunk that is gone, nor for a recipient that it does not have."""
    if state.gone and not state.crashed:
        return False
    if state.expected is None or state.died("qmgr"):  # which may have added recipients unsaid
        return True
    if index.isdigit():
        return int(index) < state.expected
    return any(name == index for name, _ in state.tries) or len(state.tries) < state.expected


def _grown(state: Message, index: str, event: Event) -> int | None:
    """How many recipients there are after this event."""
    if state.expected is None or (index.isdigit() and int(index) >= state.expected):
        return None
    if event.fields.get("outcome") == "expanded":
        return state.expected + (_number(event, "targets") or 0)
    return state.expected


def _tried(state: Message, before: Try, event: Event) -> Iterator[Try]:
    """What one recipient's event leads to, if it is allowed."""
    phase, own = before.phase, before.qmgr == event.pid
    still = _is_open(state, before, event.pid)
    in_hand = still or (phase == "dispatched" and own)
    match event.action:
        case "qmgr.dispatched" if still:
            yield Try("dispatched", event.pid)
        case "local.delivered" | "remote.sent" if phase == "dispatched":
            yield Try("delivered", before.qmgr, event.role, event.pid)
        case "qmgr.returned" | "qmgr.deferred" if in_hand:
            yield Try("pending", event.pid)
        case "qmgr.retried" if _has_failed(state, before, event):
            yield Try("pending", event.pid)
        case "qmgr.marked":
            yield from _marked(state, before, event)


def _marked(state: Message, before: Try, event: Event) -> Iterator[Try]:
    outcome, phase = event.fields.get("outcome", "delivered"), before.phase
    own, still = before.qmgr == event.pid, _is_open(state, before, event.pid)
    match outcome:
        case "delivered" if phase == "delivered" and own:
            yield Try("delivered and marked", event.pid, before.agent, before.pid)
        case "delivered" if still and _has_twin(state, event):
            yield Try("delivered and marked", event.pid)
        case "failed" if still or (phase == "dispatched" and own):
            yield Try("failed", event.pid)
        case "reported" if state.phases("reported") < state.told or state.crashed:
            if _has_failed(state, before, event):
                yield Try("reported", event.pid)
        case "discarded" if state.anonymous and _has_failed(state, before, event):
            yield Try("discarded", event.pid)
        case "expanded" if still:
            yield Try("expanded", event.pid)


def _has_twin(state: Message, event: Event) -> bool:
    """Whether the mailbox has the message by the delivery to another recipient."""
    other = state.of(event.fields.get("same_as", ""))
    return other.phase in {"delivered", "delivered and marked"}


def _has_failed(state: Message, before: Try, event: Event) -> bool:
    """Perhaps a dead qmgr wrote the mark, and could not say so."""
    unsaid = _is_open(state, before, event.pid) and state.died("qmgr")
    return before.phase == "failed" or unsaid


def _is_open(state: Message, before: Try, qmgr: int) -> bool:
    """As good as pending, for this qmgr: nobody who works on it, or knows of what he did, is alive.

    What it handed out itself it knows, until the agent is dead.
    """
    former_died = before.qmgr != qmgr and state.died("qmgr", before.qmgr)
    match before.phase:
        case "pending":
            return True
        case "dispatched":
            return former_died
        case "delivered":
            return former_died or state.died(before.agent, before.pid)
    return state.crashed
