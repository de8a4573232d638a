"""The parent's books keep the claim of their docstring, whatever happens in whatever order.

no worker is handed more than `max_uses` sessions or one past `max_age_s`, never more than
`max_workers` live, and no worker has two sessions at once
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from refmta.patterns.secure_preforking import Pool, Rules

RULES = Rules(max_workers=3, max_uses=2, max_age_s=100, max_idle_s=10, spare=1)


class Books(RuleBasedStateMachine):
    """A pool beside what an onlooker counts: births, sessions, retirements."""

    @initialize(
        rules=st.builds(
            Rules, max_workers=st.integers(1, 4), max_uses=st.integers(1, 3),
            max_age_s=st.sampled_from([1.0, 5.0]), max_idle_s=st.sampled_from([0.5, 2.0]),
            spare=st.integers(0, 2),
        )
    )  # fmt: skip
    def begin(self, rules: Rules) -> None:
        self.pool = Pool(rules)
        self.now_s = 0.0
        self.next = 0
        self.born_s: dict[int, float] = {}
        self.sessions: dict[int, int] = {}
        self.busy: set[int] = set()
        self.retired: set[int] = set()

    @property
    def living(self) -> set[int]:
        return set(self.pool.workers)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def a_worker_is_wanted(self) -> None:
        if not self.pool.may_grow():
            with pytest.raises(ValueError):
                self.pool.born(self.next, self.now_s)
            return
        self.pool.born(self.next, self.now_s)
        self.born_s[self.next] = self.now_s
        self.sessions[self.next] = 0
        self.next += 1

    @rule()
    def a_client_comes(self) -> None:
        free = self.pool.has_free(self.now_s)
        number = self.pool.hand_out(self.now_s)
        assert (number is not None) == free
        if number is None:
            return
        rules = self.pool.rules
        assert number not in self.busy
        assert number not in self.retired
        assert self.now_s - self.born_s[number] < rules.max_age_s
        self.sessions[number] += 1
        assert self.sessions[number] <= rules.max_uses
        self.busy.add(number)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def a_session_ends(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.busy)))
        self.pool.take_back(number, self.now_s)
        self.busy.discard(number)

    @rule()
    def who_is_due_is_retired(self) -> None:
        due = self.pool.due(self.now_s)
        assert len(set(due)) == len(due)
        assert not set(due) & (self.busy | self.retired)
        for number in due:
            self.pool.retire(number)
            self.retired.add(number)

    @rule()
    def after_housekeeping_nobody_spent_is_left_idle(self) -> None:
        self.who_is_due_is_retired()
        rules = self.pool.rules
        idle = self.living - self.busy - self.retired
        for number in idle:
            assert self.sessions[number] < rules.max_uses
            assert self.now_s - self.born_s[number] < rules.max_age_s
        long_idle = [
            number
            for number in idle
            if self.now_s - self.pool.workers[number].idle_since_s >= rules.max_idle_s
        ]
        assert len(long_idle) <= rules.spare

    @precondition(lambda self: self.pool.workers)
    @rule(data=st.data())
    def a_worker_ends(self, data: st.DataObject) -> None:
        """By itself, killed, or seized and gone: at any time."""
        number = data.draw(st.sampled_from(sorted(self.living)))
        self.pool.gone(number)
        self.busy.discard(number)
        self.retired.discard(number)

    @invariant()
    def who_is_spent_serves_no_more(self) -> None:
        rules = self.pool.rules
        for number in self.living:
            old = self.now_s - self.born_s[number] >= rules.max_age_s
            used = self.sessions[number] >= rules.max_uses
            assert self.pool.is_spent(number, self.now_s) == (old or used)

    @invariant()
    def the_cap_holds_and_the_books_agree(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert len(self.living) <= self.pool.rules.max_workers
        assert {n for n in self.living if self.pool.workers[n].busy} == self.busy
        assert all(self.pool.workers[n].uses == self.sessions[n] for n in self.living)


Books.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase


def test_a_retired_worker_gets_no_session_and_keeps_its_place_until_it_is_gone():
    """One that ignores its retirement wins nothing, and cannot make the pool grow past its cap."""
    pool = Pool(Rules(max_workers=1))
    pool.born(1, 0)
    pool.retire(1)
    assert pool.hand_out(0) is None and not pool.has_free(0)
    assert not pool.may_grow()
    pool.gone(1)
    assert pool.may_grow()


def test_the_worker_that_was_idle_last_is_taken_so_that_the_others_can_go():
    pool = Pool(RULES)
    for number in (1, 2, 3):
        pool.born(number, 0)
    assert pool.hand_out(1) is not None
    first = next(n for n, worker in pool.workers.items() if worker.busy)
    pool.take_back(first, 5)
    assert pool.hand_out(6) == first
    pool.take_back(first, 7)
    due = pool.due(11)
    assert first in due  # used up
    assert len(due) == 2  # one of the others is spare


def test_who_has_gone_is_not_missed():
    pool = Pool(RULES)
    pool.gone(7)
    assert pool.hand_out(0) is None and pool.due(0) == []
