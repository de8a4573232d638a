"""Is what the live system says it did a behaviour that the spec allows?

A trace is a set of events from many processes. What is known of their order is little: each process
numbers its own events, and nothing else is certain, because the file in which they meet shows the
order of writing, not of happening. So the search runs over interleavings: some order that keeps
each process's own must be a behaviour of the spec. It does so for one key at a time (a queue id),
which keeps it linear in practice: a message has few events, and the order in the file, tried first,
is nearly always right.

Rules
- Events without a key (a process ended) belong to no order. They are *context*: every key may rely
  on them as an excuse, whenever they happened. That accepts more than the truth, and never less.
  Who has ended is worked out first (`kernel.lives`); for that alone the order of the file counts.
- An event may concern several keys (a report, and the message that it is about): each of them must
  allow it.
- Nobody says anything once a later generation has begun: its writer would have outlived it.
- Numbers of a process start at 1 and have no gap: a gap is an event that somebody lost.
- A key that needs more than `cap` steps of search is refused as undecided.
- A self-reported event proves nothing about the disk; that is for others to match.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from specs.kernel.lives import Context, Event, told_apart

S = TypeVar("S", bound=Hashable)

#: Steps of search per key; once many keys are refused, a tenth of it: the trace is wrong anyway.
CAP = 20_000
MANY = 20


class TraceSpec(Protocol[S]):
    """What a spec must answer to judge traces."""

    @property
    def name(self) -> str: ...

    def keys(self, event: Event) -> Sequence[str]:
        """Which parts of the trace this event belongs to; none: context."""
        ...

    def start(self, key: str, context: Context) -> S: ...

    def step(self, state: S, event: Event) -> Iterable[S]:
        """The states after this event; none if it is not allowed here."""
        ...

    def unfinished(self, state: S) -> str:
        """Why a trace must not end here; "" if it may."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The first event at which no interleaving survives; None: at the end of the trace.

    `rule`: "numbers" (of a process's events), "lives" (its writer should be dead), "interleaving"
    (none is a behaviour), "ending" (the trace must not end here), "undecided".
    """

    key: str
    event: Event | None
    reason: str
    rule: str = "interleaving"

    def __str__(self) -> str:
        where = str(self.event) if self.event else "end of the trace"
        return f"{self.key}: {where}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What was judged, and what was refused."""

    spec: str
    events: int
    keys: int
    steps: int
    refusals: tuple[Refusal, ...]

    @property
    def accepted(self) -> bool:
        return not self.refusals


def accept(spec: TraceSpec[S], events: Sequence[Event], *, cap: int = CAP) -> Acceptance:
    """Judge a trace; the order of `events` is only a hint, but for who has ended."""
    events, context, ghosts = told_apart(events)
    by_key: dict[str, list[Event]] = {}
    for event in events:
        keys = spec.keys(event)
        if not keys:
            context |= {(event.action, event.pid), (event.action, 0)}
        for key in keys:
            by_key.setdefault(key, []).append(event)
    known: Context = frozenset(context)
    refusals, steps = [*_misnumbered(spec, events), *_outlived(spec, ghosts)], 0
    for key, own in by_key.items():
        few = len(refusals) < MANY
        search = _Search(spec, own, spec.start(key, known), cap if few else cap // 10)
        refusal = search.run(key)
        steps += search.steps
        if refusal is not None:
            refusals.append(refusal)
    return Acceptance(
        spec=spec.name,
        events=len(events),
        keys=len(by_key),
        steps=steps,
        refusals=tuple(refusals),
    )


def _misnumbered(spec: TraceSpec[S], events: Iterable[Event]) -> Iterable[Refusal]:
    """Numbers that a process used twice, or left out."""
    by_pid: dict[int, list[Event]] = {}
    for event in events:
        by_pid.setdefault(event.pid, []).append(event)
    for own in by_pid.values():
        own.sort(key=lambda event: event.sequence)
        expected = 1
        for event in own:
            if event.sequence != expected:
                twice = event.sequence < expected
                reason = "this number was used before" if twice else "the event before it is lost"
                yield Refusal(key=_key(spec, event), event=event, reason=reason, rule="numbers")
            expected = event.sequence + 1


def _outlived(spec: TraceSpec[S], ghosts: Iterable[Event]) -> Iterable[Refusal]:
    """What was said by processes of an earlier generation."""
    for event in ghosts:
        reason = "a later generation had begun"
        yield Refusal(key=_key(spec, event), event=event, reason=reason, rule="lives")


def _key(spec: TraceSpec[S], event: Event) -> str:
    return next(iter(spec.keys(event)), "context")


Node = tuple[tuple[int, ...], S]
"""How far each process is, and the state that this led to."""


class _Search(Generic[S]):
    """Depth first over (how far each process is, state), the order of the file first."""

    def __init__(self, spec: TraceSpec[S], events: Sequence[Event], start: S, cap: int) -> None:
        self.spec = spec
        self.place = {id(event): number for number, event in enumerate(events)}
        lines: dict[int, list[Event]] = {}
        for event in events:
            lines.setdefault(event.pid, []).append(event)
        self.lines = [sorted(line, key=lambda event: event.sequence) for line in lines.values()]
        self.start = start
        self.cap = cap
        self.steps = 0
        self.accepted = False
        self.deepest = -1
        self.blocked: Event | None = None
        self.reason = ""

    def run(self, key: str) -> Refusal | None:
        """None if some interleaving is a behaviour."""
        first: Node[S] = ((0,) * len(self.lines), self.start)
        path = [(first, self._following(*first))]
        in_vain: set[Node[S]] = set()  # nodes from which no end was reached: mostly none
        while path:
            if self.steps > self.cap:
                reason = f"undecided in {self.cap} steps"
                return Refusal(key=key, event=self.blocked, reason=reason, rule="undecided")
            node = next(path[-1][1], None)
            if self.accepted:
                return None
            if node is None:
                in_vain.add(path.pop()[0])
            elif not in_vain or node not in in_vain:
                path.append((node, self._following(*node)))
        rule = "interleaving" if self.blocked else "ending"
        return Refusal(key=key, event=self.blocked, reason=self.reason, rule=rule)

    def _following(self, positions: tuple[int, ...], state: S) -> Iterator[Node[S]]:
        """What may come next, the order of the file first; made only as far as it is looked at."""
        waiting = self._waiting(positions)
        if not waiting:
            reason = self.spec.unfinished(state)
            self.accepted = not reason
            self._note(positions, None, reason)
            return
        self.steps += 1
        allowed = False
        for number, event in waiting:
            after = (*positions[:number], positions[number] + 1, *positions[number + 1 :])
            for then in self.spec.step(state, event):
                allowed = True
                yield after, then
        if not allowed:
            self._note(positions, waiting[0][1], "no interleaving allows it")

    def _waiting(self, positions: tuple[int, ...]) -> list[tuple[int, Event]]:
        """The next event of each process, in the order of the file."""
        found = [
            (number, line[position])
            for number, (line, position) in enumerate(zip(self.lines, positions, strict=True))
            if position < len(line)
        ]
        return sorted(found, key=lambda item: self.place[id(item[1])])

    def _note(self, positions: tuple[int, ...], event: Event | None, reason: str) -> None:
        """Remember how far the best interleaving came."""
        if sum(positions) > self.deepest:
            self.deepest, self.blocked, self.reason = sum(positions), event, reason


class TraceError(ValueError):
    """A line of a trace file that is no event."""


def read_events(lines: Iterable[str]) -> list[Event]:
    """Events as JSON objects, one per line: pid, sequence, action, and any other fields.

    Raises TraceError with the number of the line.
    """
    return [_event(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _event(number: int, line: str) -> Event:
    try:
        found = json.loads(line)
        return Event(
            pid=int(found.pop("pid")),
            sequence=int(found.pop("sequence")),
            action=str(found.pop("action")),
            fields={name: str(value) for name, value in found.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TraceError(f"line {number} is no event: {error}") from error
