"""The search itself, on specs small enough to check by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from specs.kernel.explore import Spec, explore

Pair = tuple[int, int]


def counters(limit: int = 3, **changes: object) -> Spec[Pair]:
    """Two counters that go up one at a time."""

    def following(state: Pair) -> Iterator[tuple[str, Pair]]:
        left, right = state
        if left < limit:
            yield f"left({left})", (left + 1, right)
        if right < limit:
            yield "right", (left, right + 1)

    known: dict[str, object] = {
        "name": "counters",
        "bounds": f"up to {limit}",
        "start": lambda: [(0, 0)],
        "next": following,
        "actions": frozenset({"left", "right"}),
        "invariants": {},
    }
    return Spec(**(known | changes))  # type: ignore[arg-type]


def test_every_state_once() -> None:
    found = explore(counters())
    assert (found.states, found.transitions, found.depth) == (16, 24, 6)
    assert dict(found.fired) == {"left": 12, "right": 12}
    assert found.exhaustive
    assert found.holds


def test_states_that_differ_by_names_are_merged() -> None:
    found = explore(counters(canonical=lambda state: (min(state), max(state))))
    assert found.states == 10


def test_the_counterexample_is_a_shortest_one_and_readable() -> None:
    found = explore(counters(invariants={"sum_below_4": lambda state: sum(state) < 4}))
    path = found.violated["sum_below_4"]
    assert len(path.actions) == 4
    assert path.states[0] == (0, 0)
    assert sum(path.states[-1]) == 4
    assert str(path).splitlines()[0].split() == ["start", "(0,", "0)"]
    assert "1. left(0)" in str(path)
    assert found.findings() == ["violated: sum_below_4"]


def test_the_start_may_violate_as_well() -> None:
    found = explore(counters(invariants={"never": lambda state: state != (0, 0)}))
    assert found.violated["never"].actions == ()


def test_an_action_that_never_fires_fails_the_search() -> None:
    found = explore(counters(actions=frozenset({"left", "right", "down"})))
    assert found.never_fired == ("down",)
    assert not found.holds


def test_an_action_that_was_not_declared_fails_the_search() -> None:
    found = explore(counters(actions=frozenset({"left"})))
    assert found.undeclared == ("right",)
    assert not found.holds


def test_the_cap_is_reported_and_fails() -> None:
    found = explore(counters(limit=100), cap=50)
    assert not found.exhaustive
    assert not found.holds
    assert "not exhaustive" in found.findings()[0]


@pytest.mark.parametrize(("goal", "dead"), [((3, 3), False), ((3, 0), True)])
def test_dead_ends(goal: Pair, dead: bool) -> None:
    found = explore(counters(settled=lambda state: state == goal))
    assert (found.dead_end is not None) is dead
    if found.dead_end is not None:
        assert found.dead_end.actions == ("right",)


def test_a_search_may_stop_at_what_it_looks_for() -> None:
    spec = counters(limit=1000, invariants={"low": lambda state: sum(state) < 5})
    found = explore(spec, stop_at=["low"])
    assert "low" in found.violated
    assert found.states < 100
