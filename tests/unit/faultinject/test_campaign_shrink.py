"""Shrinking, over a bug that is known: it needs two faults of twelve."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.faultinject.toy_harness import BUG, ToyHarness

from faultinject.campaign.shrink import CONFIRMATIONS, Attempt, shrink
from faultinject.cases import Case

HARNESS = ToyHarness()


def case_of(faults) -> Case:
    return Case(harness="toys", target="buggy", settings={"faults": sorted(faults)})


def fails(case: Case) -> bool:
    return set(case.settings["faults"]) >= BUG


def run(case, fails=fails, smaller=HARNESS.smaller, **limits):
    """The result, and what was run for it."""
    steps, asked, answer = shrink(case, smaller, **limits), [], None
    while True:
        try:
            attempt = steps.send(answer)
        except StopIteration as stop:
            return stop.value, asked
        asked.append(attempt)
        answer = fails(attempt.case)


@given(st.sets(st.integers(0, 11)))
def test_it_ends_in_what_the_bug_needs_and_nothing_else(others):
    shrunk, asked = run(case_of(others | BUG))
    assert set(shrunk.case.settings["faults"]) == BUG and shrunk.ending == "minimal"
    assert (shrunk.fails, shrunk.runs) == (CONFIRMATIONS, CONFIRMATIONS)
    tries = [each.case.key for each in asked if not each.again]
    assert len(tries) == len(set(tries)) == shrunk.tries, "a case was tried twice"


def test_what_is_as_simple_as_can_be_is_only_confirmed():
    shrunk, asked = run(case_of(BUG), smaller=lambda _: iter(()))
    assert shrunk.case == case_of(BUG) and shrunk.tries == 0
    assert asked == [Attempt(case=case_of(BUG), again=n) for n in (1, 2)]


def test_a_case_that_never_fails_again_stays_as_it_is_and_is_said_to():
    shrunk, _ = run(case_of(range(12)), fails=lambda _: False)
    assert shrunk.case == case_of(range(12))
    assert (shrunk.fails, shrunk.runs, shrunk.ending) == (0, 2, "minimal")


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_tries_are_bounded(tries):
    shrunk, asked = run(case_of(range(12)), tries=tries)
    assert shrunk.tries == tries and shrunk.ending == "enough tries"
    assert len(asked) == tries + CONFIRMATIONS
    assert fails(shrunk.case)


def test_a_harness_that_fails_to_simplify_ends_it():
    def broken(case):
        yield case_of(range(11))
        raise RuntimeError

    shrunk, _ = run(case_of(range(12)), smaller=broken, fails=lambda each: len(each.key) < 0)
    assert shrunk.ending == "the harness failed" and shrunk.case == case_of(range(12))


def test_one_whose_smaller_cases_are_itself_ends():
    shrunk, _ = run(case_of(BUG), smaller=lambda case: iter([case]))
    assert shrunk.tries == 0
