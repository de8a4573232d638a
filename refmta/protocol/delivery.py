"""The delivery state of one message: what became of each recipient.

Rules a reader may rely on
- `step(message, event) -> (message, effects)` is pure. RECIPIENT_ROWS says what every event that
  concerns a recipient means in every status; it is total. IMPOSSIBLE is our mistake and raises.
- **A mark is appended only after the outcome that it records.** A mark written before delivery
  loses the mail when the agent dies in between. The other order may deliver twice; that is the
  named window between delivery and mark, and it is as short as one append.
- The outcome that settles the last recipient needs no mark: the chunk is unlinked (Free), and
  marked only if it can't be. A message with one recipient, delivered at once, is never written to
  again.
- No recipient is ever forgotten: it is delivered, or expanded into others, or it stays. A failed
  recipient keeps its chunk ("failed", and Undeliverable says so) until a report about it is
  durable in the queue (Reported), or nobody is to be told of it (`to` is empty: discarded).
  Only the operator's Removed frees a chunk that holds an open recipient.
- Recipients are known by index. New ones, from an alias with several targets, are appended, and
  an "expanded" mark precedes their dispatch: after a crash their marks still mean the same
  recipients, even if the alias has changed. An alias with one target needs none of this: its
  recipient just gets that target.
- Two recipients of one message that lead to one mailbox are delivered once: the later one becomes
  the twin of the first (`same_as`) and shares its outcome, and the marks of both are one append.
  A "delivered" mark names the mailbox, so that this holds across a crash.

What is tricky: a deferred recipient forgets its target, and so do its twins. Each retry resolves
anew, so that a corrected alias or a moved user takes effect; after a crash nothing else is known.

What it doesn't do: encode marks (the queue), choose times (schedule; Retry names the attempt),
route (resolve).

    pending --Expanded--> pending with a target --Dispatched--> in flight --Outcome--> delivered
       ^  '--Expanded, several targets--> expanded                  |  |--Outcome--> deferred
       |                                                 AgentLost--'  '--Outcome--> failed
       '--------------------------Due----------------------------- deferred
       '-------------------------Retried------------------ deferred, failed --Reported--> reported
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal

from refmta.protocol.routing import Target

RECIPIENTS: Final = (
    10_000  # of one message, with those from aliases; channel indices end at 100,000
)

MarkKind = Literal[
    "delivered", "deferred", "failed", "expanded", "reported", "warned", "held", "released"
]
OutcomeKind = Literal["delivered", "deferred", "failed"]


class Status(Enum):
    """Of one recipient."""

    PENDING = "pending"  # to be resolved, or to be dispatched (then it has a target)
    EXPANDED = "expanded"  # others stand for it
    IN_FLIGHT = "in flight"  # an agent has it
    DELIVERED = "delivered"
    DEFERRED = "deferred"  # waits for its next attempt
    FAILED = "failed"  # for good; somebody has to be told
    REPORTED = "reported"  # failed, and told

    __hash__ = object.__hash__  # Enum's own is slow


SETTLED: Final = frozenset({Status.EXPANDED, Status.DELIVERED, Status.REPORTED})


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient. attempt: failed attempts so far; when_s, code, text: the last outcome;
    host: who said that text, empty if we did; far: it was tried at another host.
    """

    address: str
    status: Status = Status.PENDING
    target: Target | None = None
    same_as: int = -1  # index of the recipient whose delivery serves this one too
    attempt: int = 0
    when_s: int = 0
    code: str = ""
    text: str = ""
    host: str = ""
    far: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message in the queue. open: recipients that are not settled. warned: its sender was told
    of the delay.
    """

    queue_id: str
    arrival_s: int
    recipients: tuple[Recipient, ...]
    open: int
    held: bool = False
    warned: bool = False
    gone: bool = False  # freed: nothing that comes now means anything


@dataclass(frozen=True, slots=True)
class Mark:
    """What is appended to the chunk. code: enhanced status ("4.2.2"). index: -1 for the message.

    attempt: failed attempts with this one. targets: addresses of the new recipients ("expanded"),
    or kind, user and mailbox of the target ("delivered"). host: who said the text, if not we.
    text of a "reported" mark: who was told, empty for nobody.
    """

    kind: MarkKind
    index: int
    attempt: int
    when_s: int
    code: str = ""
    text: str = ""
    targets: tuple[str, ...] = ()
    host: str = ""
    far: bool = False


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expanded:
    """Resolve's answer for one pending recipient: at least one target."""

    index: int
    targets: tuple[Target, ...]
    when_s: int

    def __post_init__(self) -> None:
        if not self.targets:
            raise ValueError("no targets: that is a failed Outcome")


@dataclass(frozen=True, slots=True)
class Dispatched:
    """These recipients and the open chunk were handed to an agent."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The agent's answer for one recipient, or resolve's refusal (deferred or failed)."""

    index: int
    kind: OutcomeKind
    code: str
    text: str
    when_s: int
    host: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """A report about these failed recipients is durable; `to`: who gets it, empty for nobody."""

    indices: tuple[int, ...]
    to: str
    when_s: int


@dataclass(frozen=True, slots=True)
class Warned:
    """A report about the delay is durable."""

    when_s: int


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent died with these recipients; whether it had delivered them nobody knows."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """The time of the next attempt has come."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retried:
    """The operator has mended something: try these now, the failed ones too."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """The operator: dispatch nothing more. What is in flight is not called back."""

    when_s: int


@dataclass(frozen=True, slots=True)
class Released:
    """The operator: go on."""

    when_s: int


@dataclass(frozen=True, slots=True)
class Removed:
    """The operator: forget this message, whatever its recipients are waiting for."""


Event = (
    Expanded | Dispatched | Outcome | Reported | Warned | AgentLost
    | Due | Retried | Held | Released | Removed
)  # fmt: skip

# --- effects, to be carried out in order ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AppendMark:
    """Append these marks to the chunk in one write, without waiting for a sync."""

    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Free:
    """Unlink the chunk.  If that fails, these marks say what it would have said."""

    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """Feed Due for this recipient when the schedule's delay after this attempt has passed."""

    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """These recipients failed for good: the sender has to be told."""

    indices: tuple[int, ...]


Effect = AppendMark | Free | Retry | Undeliverable
Effects = tuple[Effect, ...]
Step = tuple[Message, Effects]


class ImpossibleError(AssertionError):
    """The caller fed an event that the recipient's status excludes. Our mistake."""


class MarkError(ValueError):
    """Marks that this program cannot have written for this message: the chunk is damaged."""


# --- what the queue manager asks -----------------------------------------------------------------


def start(queue_id: str, arrival_s: int, recipients: Iterable[str]) -> Message:
    """A message as it arrives: every recipient pending. ValueError without any."""
    waiting = tuple(map(Recipient, recipients))
    if not 0 < len(waiting) <= RECIPIENTS:
        raise ValueError("a message has 1 to 10000 recipients")
    return Message(queue_id, arrival_s, waiting, len(waiting))


def to_resolve(message: Message) -> tuple[int, ...]:
    """Pending recipients without a target."""
    if message.held or message.gone:
        return ()
    return tuple(
        index
        for index, recipient in enumerate(message.recipients)
        if recipient.status is Status.PENDING and recipient.target is None
    )


def to_dispatch(message: Message) -> tuple[int, ...]:
    """Pending recipients with a target of their own."""
    if message.held or message.gone:
        return ()
    return tuple(
        index
        for index, recipient in enumerate(message.recipients)
        if recipient.status is Status.PENDING
        and recipient.target is not None
        and recipient.same_as < 0
    )


def with_status(message: Message, status: Status) -> tuple[int, ...]:
    """Indices of the recipients with this status, for Due and for the operator's view."""
    return tuple(
        index for index, recipient in enumerate(message.recipients) if recipient.status is status
    )


# --- steps ---------------------------------------------------------------------------------------


def step(message: Message, event: Event) -> Step:
    """One event: the next state, and what the caller has to do, in this order."""
    if message.gone:
        return message, ()
    return EVENTS[type(event)](message, event)


def _set(message: Message, changes: Mapping[int, Recipient]) -> Message:
    """With these recipients replaced, and `open` counted anew where they settled."""
    recipients = list(message.recipients)
    settled = 0
    for index, recipient in changes.items():
        was = recipients[index].status in SETTLED
        settled += (recipient.status in SETTLED) - was
        recipients[index] = recipient
    return replace(message, recipients=tuple(recipients), open=message.open - settled)


def _family(message: Message, index: int) -> tuple[int, ...]:
    """A recipient and its twins."""
    recipients = message.recipients
    return index, *[other for other, each in enumerate(recipients) if each.same_as == index]


def _settle(message: Message, marks: tuple[Mark, ...]) -> Step:
    """After deliveries: free the chunk if nobody is open, else mark them."""
    if message.open == 0:
        return replace(message, gone=True), (Free(marks),)
    return message, (AppendMark(marks),)


# What an event does to one recipient in each status.
IMPOSSIBLE: Final = "impossible"
IGNORE: Final = "ignore"
TAKE: Final = "take"

# fmt: off
RECIPIENT_ROWS: Final[dict[type, dict[Status, str]]] = {
    # A second answer of resolve comes too late, whatever has become of the recipient.
    Expanded:   {Status.PENDING: TAKE,         Status.EXPANDED: IGNORE,
                 Status.IN_FLIGHT: IGNORE,     Status.DELIVERED: IGNORE,
                 Status.DEFERRED: IGNORE,      Status.FAILED: IGNORE,
                 Status.REPORTED: IGNORE},
    Dispatched: {Status.PENDING: TAKE,         Status.EXPANDED: IMPOSSIBLE,
                 Status.IN_FLIGHT: IMPOSSIBLE, Status.DELIVERED: IMPOSSIBLE,
                 Status.DEFERRED: IMPOSSIBLE,  Status.FAILED: IMPOSSIBLE,
                 Status.REPORTED: IMPOSSIBLE},
    # For a pending one: resolve's refusal, or an agent that was given up too early; what it says
    # about the mailbox is true either way. For a deferred one: its lifetime is over.
    Outcome:    {Status.PENDING: TAKE,         Status.EXPANDED: IMPOSSIBLE,
                 Status.IN_FLIGHT: TAKE,       Status.DELIVERED: IGNORE,
                 Status.DEFERRED: TAKE,        Status.FAILED: IGNORE,
                 Status.REPORTED: IGNORE},
    # Only what has failed is reported; the operator may have sent it on its way again meanwhile.
    Reported:   {Status.PENDING: IGNORE,       Status.EXPANDED: IGNORE,
                 Status.IN_FLIGHT: IGNORE,     Status.DELIVERED: IGNORE,
                 Status.DEFERRED: IGNORE,      Status.FAILED: TAKE,
                 Status.REPORTED: IGNORE},
    AgentLost:  {Status.PENDING: IGNORE,       Status.EXPANDED: IMPOSSIBLE,
                 Status.IN_FLIGHT: TAKE,       Status.DELIVERED: IGNORE,
                 Status.DEFERRED: IGNORE,      Status.FAILED: IGNORE,
                 Status.REPORTED: IGNORE},
    Due:        {Status.PENDING: IGNORE,       Status.EXPANDED: IGNORE,
                 Status.IN_FLIGHT: IGNORE,     Status.DELIVERED: IGNORE,
                 Status.DEFERRED: TAKE,        Status.FAILED: IGNORE,
                 Status.REPORTED: IGNORE},
    Retried:    {Status.PENDING: IGNORE,       Status.EXPANDED: IGNORE,
                 Status.IN_FLIGHT: IGNORE,     Status.DELIVERED: IGNORE,
                 Status.DEFERRED: TAKE,        Status.FAILED: TAKE,
                 Status.REPORTED: IGNORE},
}
# fmt: on


def _takes(message: Message, kind: type, index: int) -> bool:
    """Look up the row. Raises ImpossibleError, also for an index that is none."""
    if not 0 <= index < len(message.recipients):
        raise ImpossibleError(f"{kind.__name__}: no recipient {index}")
    row = RECIPIENT_ROWS[kind][message.recipients[index].status]
    if row is IMPOSSIBLE:
        status = message.recipients[index].status.value
        raise ImpossibleError(f"{kind.__name__} for a recipient that is {status}")
    return row is TAKE


def _expanded(message: Message, event: Expanded) -> Step:
    if not _takes(message, Expanded, event.index):
        return message, ()
    if message.recipients[event.index].target is not None:  # others may be its twins by now
        return message, ()
    if len(event.targets) == 1:
        return _aim(message, event.index, event.targets[0], event.when_s)
    if len(message.recipients) + len(event.targets) > RECIPIENTS:
        text = "too many recipients behind aliases"
        return _outcome(message, Outcome(event.index, "failed", "5.5.3", text, event.when_s))
    addresses = tuple(target.address for target in event.targets)
    mark = Mark("expanded", event.index, 0, event.when_s, targets=addresses)
    grown = _grow(message, event.index, addresses)
    effects: Effects = (AppendMark((mark,)),)
    for offset, target in enumerate(event.targets):
        grown, further = _aim(grown, len(message.recipients) + offset, target, event.when_s)
        effects += further
    return grown, effects


def _grow(message: Message, index: int, addresses: tuple[str, ...]) -> Message:
    """With new recipients at the end, which stand for this one."""
    parent = replace(message.recipients[index], status=Status.EXPANDED, target=None)
    children = tuple(map(Recipient, addresses))
    grown = replace(
        message,
        recipients=message.recipients + children,
        open=message.open + len(children),
    )
    return _set(grown, {index: parent})


def _aim(message: Message, index: int, target: Target, when_s: int) -> Step:
    """Give one pending recipient its target, or make it the twin of one that has the same."""
    aimed = replace(message.recipients[index], target=target, same_as=-1)
    first = _same_mailbox(message, target)
    if first < 0:
        return _set(message, {index: aimed}), ()
    if message.recipients[first].status is Status.DELIVERED:
        done = replace(aimed, status=Status.DELIVERED, when_s=when_s)
        return _settle(_set(message, {index: done}), (_delivered_mark(index, done),))
    return _set(message, {index: replace(aimed, same_as=first)}), ()


def _same_mailbox(message: Message, target: Target) -> int:
    """Who is under way to this mailbox, or there already; -1 for nobody."""
    user, mailbox = target.user, target.mailbox
    for index, recipient in enumerate(message.recipients):
        other = recipient.target  # none where deferred or failed
        if (
            other is not None
            and other.user == user
            and other.mailbox == mailbox
            and recipient.same_as < 0
        ):
            return index
    return -1


def _delivered_mark(index: int, recipient: Recipient, code: str = "", text: str = "") -> Mark:
    """With its mailbox, for twins that come after a crash."""
    target = recipient.target
    place = () if target is None else (target.kind, target.user, target.mailbox)
    return Mark("delivered", index, recipient.attempt, recipient.when_s, code, text, place)


def _dispatched(message: Message, event: Dispatched) -> Step:
    changes = {}
    for index in event.indices:
        _takes(message, Dispatched, index)
        recipient = message.recipients[index]
        if recipient.target is None or recipient.same_as >= 0 or message.held:
            raise ImpossibleError("Dispatched: a recipient that is not to be dispatched")
        changes[index] = replace(recipient, status=Status.IN_FLIGHT)
    return _set(message, changes), ()


def _outcome(message: Message, event: Outcome) -> Step:
    if not _takes(message, Outcome, event.index):
        return message, ()
    family = _family(message, event.index)
    marked = _set(message, {each: _after(message.recipients[each], event) for each in family})
    marks = tuple(_mark(each, marked.recipients[each], event) for each in family)
    if event.kind == "delivered":
        return _settle(marked, marks)
    if event.kind == "failed":
        return marked, (AppendMark(marks), Undeliverable(family))
    retries = (Retry(each, marked.recipients[each].attempt) for each in family)
    return marked, (AppendMark(marks), *retries)


def _after(recipient: Recipient, event: Outcome) -> Recipient:
    """A recipient after an outcome. A delivered one keeps its target, for later twins."""
    if event.kind == "delivered":
        return replace(
            recipient,
            status=Status.DELIVERED,
            same_as=-1,
            when_s=event.when_s,
            code="",
            text="",
            host="",
        )
    return replace(
        recipient,
        status=Status.DEFERRED if event.kind == "deferred" else Status.FAILED,
        target=None,
        same_as=-1,
        attempt=recipient.attempt + 1,
        when_s=event.when_s,
        code=event.code,
        text=event.text,
        host=event.host,
        far=recipient.far if recipient.target is None else recipient.target.kind == "remote",
    )


def _mark(index: int, recipient: Recipient, event: Outcome) -> Mark:
    if event.kind == "delivered":
        return _delivered_mark(index, recipient, event.code, event.text)
    return Mark(
        event.kind, index, recipient.attempt, event.when_s, event.code, event.text,
        host=event.host, far=recipient.far,
    )  # fmt: skip


def _reported(message: Message, event: Reported) -> Step:
    told = [index for index in event.indices if _takes(message, Reported, index)]
    changes = {index: replace(message.recipients[index], status=Status.REPORTED) for index in told}
    if not changes:
        return message, ()
    marks = tuple(
        Mark("reported", index, each.attempt, event.when_s, each.code, event.to)
        for index, each in changes.items()
    )
    return _settle(_set(message, changes), marks)


def _warned(message: Message, event: Warned) -> Step:
    if message.warned:
        return message, ()
    return replace(message, warned=True), (AppendMark((Mark("warned", -1, 0, event.when_s),)),)


def _agent_lost(message: Message, event: AgentLost) -> Step:
    lost = [index for index in event.indices if _takes(message, AgentLost, index)]
    return _pending_again(message, lost), ()


def _due(message: Message, event: Due | Retried) -> Step:
    due = [index for index in event.indices if _takes(message, type(event), index)]
    return _pending_again(message, due), ()


def _pending_again(message: Message, indices: Iterable[int]) -> Message:
    return _set(
        message,
        {index: replace(message.recipients[index], status=Status.PENDING) for index in indices},
    )


def _held(message: Message, event: Held) -> Step:
    if message.held:
        return message, ()
    return replace(message, held=True), (AppendMark((Mark("held", -1, 0, event.when_s),)),)


def _released(message: Message, event: Released) -> Step:
    if not message.held:
        return message, ()
    return replace(message, held=False), (AppendMark((Mark("released", -1, 0, event.when_s),)),)


def _removed(message: Message, _event: Removed) -> Step:
    return replace(message, gone=True), (Free(),)


EVENTS: Final[dict[type, Callable[[Message, Any], Step]]] = {
    Expanded: _expanded,
    Dispatched: _dispatched,
    Outcome: _outcome,
    Reported: _reported,
    Warned: _warned,
    AgentLost: _agent_lost,
    Due: _due,
    Retried: _due,
    Held: _held,
    Released: _released,
    Removed: _removed,
}


# --- after a restart -----------------------------------------------------------------------------


def replay(message: Message, marks: Iterable[Mark]) -> Step:
    """A message that has just been `start`ed, with its marks from disk; what it waits for.

    Retry counts from the recipient's `when_s`. Raises MarkError.
    """
    for mark in marks:
        message = _replayed(message, mark)
    if message.open == 0:
        return replace(message, gone=True), (Free(),)
    effects: Effects = tuple(
        Retry(index, message.recipients[index].attempt)
        for index in with_status(message, Status.DEFERRED)
    )
    failed = with_status(message, Status.FAILED)
    return message, (*effects, Undeliverable(failed)) if failed else effects


def _replayed(message: Message, mark: Mark) -> Message:
    if mark.kind in ("held", "released"):
        return replace(message, held=mark.kind == "held")
    if mark.kind == "warned":
        return replace(message, warned=True)
    if not 0 <= mark.index < len(message.recipients):
        raise MarkError("a mark for a recipient that does not exist")
    recipient = message.recipients[mark.index]
    if recipient.status in SETTLED:
        raise MarkError("a mark for a recipient that was settled before")
    if mark.kind == "expanded":
        if not mark.targets or len(message.recipients) + len(mark.targets) > RECIPIENTS:
            raise MarkError("an expansion to no recipients or too many")
        return _grow(message, mark.index, mark.targets)
    return _set(message, {mark.index: _as_marked(recipient, mark)})


#: What a recipient's mark makes of it.
MARKED: Final[dict[str, Status]] = {
    "delivered": Status.DELIVERED,
    "deferred": Status.DEFERRED,
    "failed": Status.FAILED,
    "reported": Status.REPORTED,
}


def _as_marked(recipient: Recipient, mark: Mark) -> Recipient:
    target = _marked_target(recipient, mark.targets) if mark.kind == "delivered" else None
    return Recipient(
        address=recipient.address,
        status=MARKED[mark.kind],
        target=target,
        attempt=mark.attempt,
        when_s=mark.when_s,
        code=mark.code,
        text=mark.text,
        host=mark.host,
        far=mark.far,
    )


def _marked_target(recipient: Recipient, place: tuple[str, ...]) -> Target | None:
    """A mark without a mailbox, or with one of another shape, can only cost a duplicate."""
    match place:
        case ("system" | "virtual" | "remote" as kind, user, mailbox):
            return Target(kind=kind, user=user, mailbox=mailbox, address=recipient.address)
    return None
