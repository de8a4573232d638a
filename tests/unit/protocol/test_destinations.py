"""Windows, turns and the dead: stories, and walks that keep the bounds whatever happens."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.protocol import destinations
from refmta.protocol.destinations import Destinations, Limits

LIMITS = Limits(total=8, per_destination=4, initial=2, pause_s=60, longest_pause_s=300)


def books(**changes: int) -> Destinations:
    values = {
        "total": 8, "per_destination": 4, "initial": 2, "pause_s": 60, "longest_pause_s": 300,
    }  # fmt: skip
    return Destinations(Limits(**{**values, **changes}))


def start(it: Destinations, *names: str, now_s: float = 0.0) -> list[str]:
    """Everybody wants, again and again, until nobody may start."""
    started = []
    while True:
        for name in names:
            it.wants(name)
        found = it.next(now_s)
        if found is None:
            return started
        started.append(found)


def test_a_stranger_begins_with_the_initial_window_and_widens_with_success() -> None:
    it = books()
    assert start(it, "a") == ["a", "a"]
    it.found("a", "alive", 0, 0)
    assert start(it, "a") == ["a"]
    for _ in range(9):
        it.found("a", "alive", 0, 0)
    assert start(it, "a") == ["a"]  # per_destination is 4
    assert it.of("a").busy == 4


def test_places_are_bounded_and_turns_go_round() -> None:
    it = books(total=5, initial=1)
    assert start(it, "a", "b", "c") == ["a", "b", "c"]
    assert start(it, "d", "e", "f") == ["d", "e"]
    it.ended("b")
    assert start(it) == ["f"]


def test_whoever_holds_as_many_as_are_free_gets_no_more() -> None:
    it = books(total=6, per_destination=6, initial=6)
    assert start(it, "hog") == ["hog"] * 3
    assert start(it, "hog", "b").count("b") == 2
    assert it.busy == 5
    assert start(it, "newcomer") == ["newcomer"]


def test_a_whole_window_in_vain_and_it_is_dead_until_one_probe_succeeds() -> None:
    it = books()
    start(it, "a")
    it.found("a", "dead", 10, 0)
    assert not it.is_dead("a", 10)
    it.found("a", "dead", 10, 0)
    assert it.is_dead("a", 10) and it.revival_s("a") == 70
    it.ended("a")
    it.ended("a")
    assert start(it, "a", now_s=69.9) == []
    assert start(it, "a", now_s=70) == ["a"]  # one probe
    it.found("a", "dead", 71, 0)
    it.ended("a")
    assert it.revival_s("a") == 71 + 120
    assert start(it, "a", now_s=191) == ["a"]
    it.found("a", "alive", 192, 0)
    assert it.of("a").deaths == 0 and start(it, "a", now_s=192) == ["a"]


def test_the_pause_doubles_up_to_the_longest_and_chance_only_lengthens() -> None:
    assert [destinations.pause_s(n, 0, LIMITS) for n in range(1, 6)] == [60, 120, 240, 300, 300]
    assert destinations.pause_s(10**6, 0.999, LIMITS) < 300 * 1.2


def test_sessions_from_before_a_death_do_not_lengthen_its_pause() -> None:
    it = books(per_destination=4, initial=4)
    start(it, "a")
    for now_s in range(4):
        it.found("a", "dead", now_s, 0)
    revival = it.revival_s("a")
    it.found("a", "dead", 5, 0)
    assert it.revival_s("a") == revival and it.of("a").deaths == 1


def test_an_idle_destination_is_forgotten_unless_it_failed() -> None:
    it = books()
    start(it, "a")
    it.found("a", "alive", 0, 0)
    it.ended("a")
    it.ended("a")
    assert it.known == {}
    start(it, "b")
    it.found("b", "dead", 0, 0)
    it.ended("b")
    it.ended("b")
    assert it.of("b").failures == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "KNOWN", 5)
    it = books(total=100, initial=1)
    for number in range(50):
        name = f"d{number}"
        assert start(it, name) == [name]
        it.found(name, "dead", 0, 0)
        it.ended(name)
        assert len(it.known) <= 6


def test_forgiven_means_a_stranger_again() -> None:
    it = books()
    start(it, "a")
    for _ in range(2):
        it.found("a", "dead", 0, 0)
    it.forgive("a")
    assert not it.is_dead("a", 0) and it.of("a").busy == 2


def test_the_end_of_a_session_that_never_began_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="never started"):
        books().ended("a")


@pytest.mark.parametrize(
    "wrong", [{"initial": 0}, {"initial": 5}, {"total": 0}, {"pause_s": 0}, {"pause_s": 301}]
)
def test_limits_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="limits need"):
        books(**wrong)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 5))
def test_whatever_happens_the_bounds_hold_and_nobody_is_forgotten(
    seed: int, total: int, most: int
) -> None:
    chance = random.Random(seed)
    it = books(total=total, per_destination=most, initial=1)
    running: list[str] = []
    now_s = 0.0
    for _ in range(300):
        now_s += chance.random() * 20
        name = chance.choice("abcd")
        it.wants(name)
        while (started := it.next(now_s)) is not None:
            assert now_s >= it.of(started).dead_until_s
            running.append(started)
        if running and chance.random() < 0.7:
            name = running.pop(chance.randrange(len(running)))
            it.found(name, chance.choice(("alive", "dead", "unknown")), now_s, chance.random())
            it.ended(name)
        assert it.busy == len(running) <= total
        for each in "abcd":
            assert it.of(each).busy == running.count(each) <= most
            assert not it.of(each).deaths or it.of(each).window == 1
    for name in running:
        it.ended(name)
    for name in "abcd":
        it.wants(name)
    served = set()
    for _ in "abcd":  # none is starved for ever
        name = it.next(now_s + 10_000) or ""
        served.add(name)
        it.ended(name)
    assert served == set("abcd")
