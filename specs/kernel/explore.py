"""Exhaustive search over a spec: every state within its bounds, breadth first.

A spec is ordinary Python: states are frozen, hashable values; `start()` gives the first states and
`next(state)` the steps out of a state, as (action, state). An action is a name, optionally followed
by its arguments: "qmgr.dispatched(m1, r0)" is an occurrence of "qmgr.dispatched". Invariants are
named predicates, true of every state that may be reached.

Rules
- Breadth first, so the first counterexample to an invariant is a shortest one.
- `canonical(state)` picks one of the states that differ only by names (symmetry); the search then
  walks through representatives, and a counterexample is one up to renaming.
- A declared action that never fires fails the search: a spec that cannot do what it says proves
  nothing. So does an action that fires and was not declared.
- More than `cap` states: the search stops, says "not exhaustive", and fails.
- With `settled`: from each state a settled state must be reachable, or the state is a dead end.
  (Not liveness: it says that one *can* get there, not that one will.)
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

CAP = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Generic[S]):
    """What is explored, and the bounds within which, in words."""

    name: str
    bounds: str
    start: Callable[[], Iterable[S]]
    next: Callable[[S], Iterable[tuple[str, S]]]
    actions: frozenset[str]
    invariants: Mapping[str, Callable[[S], bool]]
    canonical: Callable[[S], S] | None = None
    settled: Callable[[S], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Path(Generic[S]):
    """Actions and the states between them; one state more than actions."""

    actions: tuple[str, ...]
    states: tuple[S, ...]

    def __str__(self) -> str:
        lines = [f"   start  {self.states[0]}"]
        for number, (action, state) in enumerate(
            zip(self.actions, self.states[1:], strict=True), 1
        ):
            lines += [f"{number:4}. {action}", f"          {state}"]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration(Generic[S]):
    """What the search found. `violated` maps invariants to a shortest path that breaks them."""

    spec: str
    bounds: str
    states: int
    transitions: int
    depth: int
    seconds: float
    exhaustive: bool
    fired: Mapping[str, int]
    never_fired: tuple[str, ...]
    undeclared: tuple[str, ...]
    invariants: tuple[str, ...]
    violated: Mapping[str, Path[S]]
    dead_end: Path[S] | None

    @property
    def holds(self) -> bool:
        """All invariants, everywhere, and the spec did all that it declares."""
        return (
            self.exhaustive
            and not self.violated
            and not self.never_fired
            and not self.undeclared
            and self.dead_end is None
        )

    def findings(self) -> list[str]:
        """Why it does not hold, one line each."""
        found = [f"violated: {name}" for name in self.violated]
        found += [f"action never fired: {name}" for name in self.never_fired]
        found += [f"action not declared: {name}" for name in self.undeclared]
        if self.dead_end is not None:
            found.append("dead end: no settled state can be reached from one of the states")
        if not self.exhaustive:
            found.append(f"not exhaustive: stopped at {self.states} states")
        return found


def name_of(action: str) -> str:
    """The action without its arguments."""
    return action.partition("(")[0]


class _Search(Generic[S]):
    """The states found so far, in order, each with the step that led to it first."""

    def __init__(self, spec: Spec[S]) -> None:
        self.spec = spec
        self.numbers: dict[S, int] = {}
        self.states: list[S] = []
        self.parents: list[tuple[int, str]] = []
        self.depths: list[int] = []
        self.sources = array("L")  # an edge is a source and a target, at the same place
        self.targets = array("L")
        self.fired: dict[str, int] = dict.fromkeys(sorted(spec.actions), 0)
        self.transitions = 0
        self.violated: dict[str, int] = {}

    def add(self, state: S, parent: int, action: str) -> int:
        canonical = self.spec.canonical
        if canonical is not None:
            state = canonical(state)
        number = self.numbers.get(state)
        if number is None:
            number = self.numbers[state] = len(self.states)
            self.states.append(state)
            self.parents.append((parent, action))
            self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
            for name, holds in self.spec.invariants.items():
                if name not in self.violated and not holds(state):
                    self.violated[name] = number
        return number

    def run(self, cap: int, *, stop_at: frozenset[str]) -> bool:
        """Whether every state was visited."""
        for state in self.spec.start():
            self.add(state, -1, "")
        number = 0
        while number < len(self.states):
            if len(self.states) > cap or (stop_at and stop_at <= self.violated.keys()):
                return False
            for action, state in self.spec.next(self.states[number]):
                self.transitions += 1
                name = name_of(action)
                self.fired[name] = self.fired.get(name, 0) + 1
                reached = self.add(state, number, action)
                if self.spec.settled is not None:
                    self.sources.append(number)
                    self.targets.append(reached)
            number += 1
        return True

    def path(self, number: int) -> Path[S]:
        actions, states = [], [self.states[number]]
        while self.parents[number][0] >= 0:
            number, action = self.parents[number]
            actions.append(action)
            states.append(self.states[number])
        return Path(actions=tuple(reversed(actions)), states=tuple(reversed(states)))

    def dead_end(self) -> int | None:
        """The first state from which no settled state can be reached."""
        settled = self.spec.settled
        if settled is None:
            return None
        before: list[list[int]] = [[] for _ in self.states]
        for source, reached in zip(self.sources, self.targets, strict=True):
            before[reached].append(source)
        todo = [number for number, state in enumerate(self.states) if settled(state)]
        good = set(todo)
        while todo:
            for source in before[todo.pop()]:
                if source not in good:
                    good.add(source)
                    todo.append(source)
        return next((number for number in range(len(self.states)) if number not in good), None)


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """A search only adds values without cycles; looking for cycles would take half of its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def explore(spec: Spec[S], *, cap: int = CAP, stop_at: Sequence[str] = ()) -> Exploration[S]:
    """Search all states; with `stop_at`, only until these invariants are violated."""
    search = _Search(spec)
    started = time.perf_counter()
    with _nothing_to_collect():
        exhaustive = search.run(cap, stop_at=frozenset(stop_at))
        dead_end = search.dead_end() if exhaustive else None
    fired = search.fired
    return Exploration(
        spec=spec.name,
        bounds=spec.bounds,
        states=len(search.states),
        transitions=search.transitions,
        depth=max(search.depths, default=0),
        seconds=time.perf_counter() - started,
        exhaustive=exhaustive,
        fired=fired,
        never_fired=tuple(name for name, times in fired.items() if not times) if exhaustive else (),
        undeclared=tuple(sorted(fired.keys() - spec.actions)),
        invariants=tuple(spec.invariants),
        violated={name: search.path(number) for name, number in search.violated.items()},
        dead_end=None if dead_end is None else search.path(dead_end),
    )
