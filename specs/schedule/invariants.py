"""What scheduling promises: named predicates, true of every state that can be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from specs.schedule.states import Bounds, State


def invariants(bounds: Bounds) -> Mapping[str, Callable[[State], bool]]:
    """By name; the bounds of time follow from the bounds of the exploration."""
    limits = bounds.limits
    half = (limits.total + 1) // 2

    def bounded_total(state: State) -> bool:
        """Never more sessions than places."""
        return state.busy <= limits.total

    def bounded_each(state: State) -> bool:
        """Nor more to one destination than it may have; nor may it have more than `each`."""
        return all(
            each.book.busy <= limits.each and 1 <= each.book.window <= limits.each
            for each in state.destinations
        )

    def one_leaves_room(state: State) -> bool:
        """No destination holds more than half of all places, whatever it does with them."""
        return all(each.book.busy <= half for each in state.destinations)

    def no_starvation(state: State) -> bool:
        """Whoever holds no place and may be started is, within one turn of everybody."""
        return all(each.missed <= bounds.turn for each in state.messages)

    def one_probe_per_pause(state: State) -> bool:
        """A dead destination costs one session for each pause."""
        return all(each.probes <= 1 for each in state.destinations)

    def recovery_is_noticed(state: State) -> bool:
        """Mail for a destination that is up is tried, however long it was down before."""
        return all(each.waited <= bounds.revival for each in state.messages)

    def ends_in_time(state: State) -> bool:
        """Each message is delivered or given up within its lifetime and one step."""
        return all(each.age <= bounds.lifetime + bounds.step for each in state.messages)

    found = (
        bounded_total,
        bounded_each,
        one_leaves_room,
        no_starvation,
        one_probe_per_pause,
        recovery_is_noticed,
        ends_in_time,
    )
    return {each.__name__: each for each in found}
