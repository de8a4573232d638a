"""The schedule spec holds within its bounds, does all that it declares, and can fail."""

import pytest

from specs.kernel.control import run_control
from specs.kernel.explore import explore
from specs.schedule import rules
from specs.schedule.controls import controls
from specs.schedule.rules import Book, Limits
from specs.schedule.spec import schedule_spec
from specs.schedule.states import EXPLORED

CONTROLS = controls()


@pytest.mark.parametrize("bounds", EXPLORED, ids=lambda each: f"{len(each.slow)}-{each.messages}")
def test_every_state_within_the_bounds_keeps_the_invariants(bounds):
    found = explore(schedule_spec(bounds))
    assert found.holds, [*found.findings(), *map(str, found.violated.values())]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda each: each.name.replace(" ", "-"))
def test_the_mutant_is_caught_by_the_named_invariant(control):
    result = run_control(control)
    assert result.counts, result.reason


LIMITS = Limits(total=100, each=20, initial=2, pause=60, longest=3600, spread=20)


@pytest.mark.parametrize(("window", "deaths"), [(1, 1), (2, 2), (3, 2), (4, 2), (8, 3), (20, 4)])
def test_findings_in_a_row_until_a_destination_is_dead(window, deaths):
    book = Book(window=window, busy=window)
    for _ in range(deaths - 1):
        book = rules.found_dead(book, LIMITS)
        assert not book.rest
    assert rules.found_dead(book, LIMITS).rest == 60


def test_pauses_double_and_end_at_the_longest():
    assert [rules.pauses(deaths, LIMITS) for deaths in (1, 2, 6, 7, 99)] == [
        (60, 72),
        (120, 144),
        (1920, 2304),
        (3600, 4320),
        (3600, 4320),
    ]


def test_one_that_waits_without_a_session_is_passed_over_once():
    books = {"hog": Book(window=2), "mail": Book(window=2)}
    limits = Limits(total=2, each=2)
    assert rules.turns(books, ["hog", "mail"], frozenset(), limits) == ["hog", "mail"]
    passed = rules.passed_over(books, ["hog", "mail"], frozenset(), limits, "hog")
    assert rules.turns(books, ["hog", "mail"], passed, limits) == ["mail"]
    passed = rules.passed_over(books, ["hog", "mail"], passed, limits, "mail")
    assert rules.turns(books, ["hog", "mail"], passed, limits) == ["hog"]
