"""Mail for destinations that are quick, slow, dead, dying and recovering, one tick after the other.

    arrived --> ready --started--> flying --delivered--> over
                  ^ |                '--deferred--.--expired--> over
                  | '--expired, of one that is dead         |
                  '-------- due, or its lifetime is over ---'

Rules that the implementation must keep, and that hold here because of these actions
- whoever may be started is, before time goes on (no place stays free while somebody may use it);
- rules.py says who may be: bounded, with slow start, a cache of the dead, and turns;
- a message is tried a last time when its lifetime is over, or ended there and then if its
  destination is dead; a deferral after that ends it;
- mail for a dead destination waits without an attempt, and one of it is the next probe.

The world is free to end a session at any tick up to the destination's own limit, to stop answering
and to come back, as often as the bounds say; a session learns what is true when it ends.

Not here: several recipients of a message, lost sessions, restarts (specs/queue), memory, chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from specs.kernel.explore import Spec
from specs.schedule import rules
from specs.schedule.invariants import invariants
from specs.schedule.states import ENDED, HOGS, Bounds, Destination, Message, State, canonical, start

ACTIONS = frozenset(
    {
        "message.arrived",
        "message.expired",
        "session.started",
        "session.alive",
        "session.refused",
        "session.dead",
        "destination.died",
        "destination.recovered",
        "tick",
    }
)
Step = tuple[str, State]


def schedule_spec(bounds: Bounds) -> Spec[State]:
    """The spec within these bounds."""
    possible = set(ACTIONS)
    if not any(bounds.flips):
        possible -= {"destination.died", "session.dead", "message.expired"}
    if max(bounds.flips) < 2:
        possible.discard("destination.recovered")
    if not bounds.refusals:
        possible.discard("session.refused")
    return Spec(
        name="schedule",
        bounds=str(bounds),
        start=lambda: [start(bounds)],
        next=_next(bounds),
        actions=frozenset(possible),
        invariants=invariants(bounds),
        canonical=canonical,
        settled=lambda state: all(each.place in ENDED for each in state.messages),
    )


def _next(bounds: Bounds) -> Callable[[State], Iterator[Step]]:
    def steps(state: State) -> Iterator[Step]:
        yield from _world(state)
        yield from _ends(state, bounds)
        begun = list(_starts(state, bounds))
        expired = list(_expiries(state, bounds))
        yield from begun
        yield from expired
        overdue = any(
            ticks >= limit
            for destination, limit in zip(state.destinations, bounds.slow, strict=True)
            for ticks, _ in destination.sessions
        )
        if not begun and not expired and not overdue:
            yield "tick", _tick(state, bounds)

    return steps


# -- the world ------------------------------------------------------------------------------------


def _world(state: State) -> Iterator[Step]:
    for at, message in enumerate(state.messages):
        if message.place == "absent":
            yield f"message.arrived({at})", _with_message(state, at, place="ready")
    for name, destination in enumerate(state.destinations):
        if destination.flips:
            what = "died" if destination.up else "recovered"
            changed = destination._replace(up=not destination.up, flips=destination.flips - 1)
            yield f"destination.{what}({name})", _with(state, name, changed)


def _ends(state: State, bounds: Bounds) -> Iterator[Step]:
    """A session ends, and has learned what is true now."""
    for name, destination in enumerate(state.destinations):
        for session in dict.fromkeys(destination.sessions):
            at = session[1]
            if not destination.up:
                yield f"session.dead({name}, {at})", _failed(state, name, session, bounds)
                continue
            alive = _left(state, name, session, bounds, rules.found_alive, probes=0)
            yield f"session.alive({name}, {at})", _with_message(alive, at, place="delivered")
            if state.refusals and at != HOGS:
                refused = _put_off(alive, at, bounds)._replace(refusals=state.refusals - 1)
                yield f"session.refused({name}, {at})", refused


def _failed(state: State, name: int, session: tuple[int, int], bounds: Bounds) -> State:
    """Nobody was there; if that was a destination's death, the count of probes begins anew."""
    before = state.destinations[name].book
    died = rules.found_dead(before, bounds.limits).deaths > before.deaths
    probes = 0 if died else state.destinations[name].probes
    left = _left(state, name, session, bounds, rules.found_dead, probes=probes)
    return _put_off(left, session[1], bounds)


def _left(
    state: State,
    name: int,
    session: tuple[int, int],
    bounds: Bounds,
    finding: Callable[[rules.Book, rules.Limits], rules.Book],
    *,
    probes: int,
) -> State:
    destination = state.destinations[name]
    sessions = list(destination.sessions)
    sessions.remove(session)
    book = rules.ended(finding(destination.book, bounds.limits), bounds.limits)
    return _with(
        state, name, destination._replace(book=book, sessions=tuple(sessions), probes=probes)
    )


def _put_off(state: State, at: int, bounds: Bounds) -> State:
    """Deferred, or ended if its lifetime is over."""
    if at == HOGS:
        return state
    if state.messages[at].age >= bounds.lifetime:
        return _with_message(state, at, place="expired")
    return _with_message(state, at, place="deferred", due=bounds.backoff)


# -- the schedule ---------------------------------------------------------------------------------


def _waiting(state: State, bounds: Bounds) -> list[int]:
    """Destinations that there is mail for."""
    ready = {each.to for each in state.messages if each.ready}
    return [name for name, hog in enumerate(bounds.hogs) if hog or name in ready]


def _books(state: State) -> dict[int | str, rules.Book]:
    return {name: destination.book for name, destination in enumerate(state.destinations)}


def _starts(state: State, bounds: Bounds) -> Iterator[Step]:
    waiting, books = _waiting(state, bounds), _books(state)
    for name in rules.turns(books, waiting, state.passed, bounds.limits):
        passed = rules.passed_over(books, waiting, state.passed, bounds.limits, name)
        yield _started(state._replace(passed=passed), int(name))


def _started(state: State, name: int) -> Step:
    """Of one destination's messages, the one that has waited for longest goes first."""
    destination = state.destinations[name]
    ready = [at for at, each in enumerate(state.messages) if each.ready and each.to == name]
    at = max(ready, key=lambda each: state.messages[each].waited, default=HOGS)
    begun = destination._replace(
        book=rules.started(destination.book),
        sessions=tuple(sorted((*destination.sessions, (0, at)))),
        probes=destination.probes + 1 if destination.book.deaths else 0,
    )
    state = _with(state, name, begun)
    return (
        f"session.started({name}, {at})",
        _with_message(state, at, place="flying", missed=0, waited=0),
    )


def _expiries(state: State, bounds: Bounds) -> Iterator[Step]:
    for at, message in enumerate(state.messages):
        if message.ready and message.age >= bounds.lifetime and _is_dead(state, message.to):
            yield f"message.expired({at})", _with_message(state, at, place="expired")


def _is_dead(state: State, name: int) -> bool:
    return bool(state.destinations[name].book.rest)


# -- time -----------------------------------------------------------------------------------------


def _tick(state: State, bounds: Bounds) -> State:
    messages = tuple([_older(state, message, bounds) for message in state.messages])
    return state._replace(destinations=tuple(map(_later, state.destinations)), messages=messages)


def _later(destination: Destination) -> Destination:
    return destination._replace(
        book=rules.elapsed(destination.book, 1),
        sessions=tuple([(ticks + 1, at) for ticks, at in destination.sessions]),
    )


def _older(state: State, message: Message, bounds: Bounds) -> Message:
    """Counters stop one above what the invariants allow."""
    if message.place in ENDED or message.place == "absent":
        return message
    destination = state.destinations[message.to]
    message = message._replace(age=min(message.age + 1, bounds.lifetime + bounds.step + 1))
    if message.place != "flying":
        able = message.ready and not destination.book.busy and not destination.book.rest
        message = message._replace(
            missed=min(message.missed + 1, bounds.turn + 1) if able else 0,
            waited=min(message.waited + 1, bounds.revival + 1) if destination.up else 0,
        )
    if message.place == "deferred":
        due = message.due - 1
        if due <= 0 or message.age >= bounds.lifetime:
            return message._replace(place="ready", due=0)
        message = message._replace(due=due)
    return message


# -- parts ----------------------------------------------------------------------------------------


def _with(state: State, name: int, destination: Destination) -> State:
    destinations = list(state.destinations)
    destinations[name] = destination
    return state._replace(destinations=tuple(destinations))


def _with_message(state: State, at: int, **changes: object) -> State:
    """Nothing, for one of a hog's."""
    if at == HOGS:
        return state
    messages = list(state.messages)
    messages[at] = messages[at]._replace(**changes)  # type: ignore[arg-type]
    if changes.get("place") in ENDED:
        messages[at] = Message(messages[at].to, str(changes["place"]))
    return state._replace(messages=tuple(messages))
