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
- Numbers of a process start anywhere and have no gap: a gap is an event that somebody lost.
- A key that needs more than `cap` steps of search is refused as undecided.
- A self-reported event proves nothing about the disk; that is for others to match.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, TypeVar

S = TypeVar("S", bound=Hashable)

CAP = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a process says it has done; `sequence` counts within the process."""

    pid: int
    sequence: int
    action: str
    fields: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.action}({fields}) by process {self.pid}, its event {self.sequence}"


Context = frozenset[tuple[str, int]]
"""Events without a key: action and process."""


class TraceSpec(Protocol[S]):
    """What a spec must answer to judge traces."""

    @property
    def name(self) -> str: ...

    def key(self, event: Event) -> str | None:
        """Which part of the trace this event belongs to; None: context."""
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
    """The first event at which no interleaving survives; None: at the end of the trace."""

    key: str
    event: Event | None
    reason: str

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
    """Judge a trace; the order of `events` is only a hint."""
    context: set[tuple[str, int]] = set()
    by_key: dict[str, list[Event]] = {}
    for event in events:
        key = spec.key(event)
        if key is None:
            context.add((event.action, event.pid))
        else:
            by_key.setdefault(key, []).append(event)
    refusals, steps = list(_misnumbered(spec, events)), 0
    for key, own in by_key.items():
        search = _Search(spec, own, spec.start(key, frozenset(context)), cap)
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
        for before, event in pairwise(own):
            if event.sequence != before.sequence + 1:
                twice = event.sequence == before.sequence
                reason = "this number was used before" if twice else "the event before it is lost"
                yield Refusal(key=spec.key(event) or "context", event=event, reason=reason)


class _Search:
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
        self.deepest = -1
        self.blocked: Event | None = None
        self.reason = ""

    def run(self, key: str) -> Refusal | None:
        """None if some interleaving is a behaviour."""
        first = ((0,) * len(self.lines), self.start)
        seen, todo = {first}, [first]
        while todo:
            positions, state = todo.pop()
            waiting = self._waiting(positions)
            if not waiting:
                reason = self.spec.unfinished(state)
                if not reason:
                    return None
                self._note(positions, None, reason)
            self.steps += 1
            if self.steps > self.cap:
                return Refusal(key=key, event=self.blocked, reason=f"undecided in {self.cap} steps")
            found = []
            for number, event in waiting:
                after = [*positions[:number], positions[number] + 1, *positions[number + 1 :]]
                found += [(tuple(after), then) for then in self.spec.step(state, event)]
            if waiting and not found:
                self._note(positions, waiting[0][1], "no interleaving allows it")
            for node in reversed(found):  # the last one is taken first
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
        return Refusal(key=key, event=self.blocked, reason=self.reason)

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
