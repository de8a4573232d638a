"""The walk of users and accounts holds all its rules, and each rule catches its mutants."""

from __future__ import annotations

import pytest

from specs.kernel.control import Control, run_control
from subjects.accounts import ROWS, controls, twin

RULES = {
    "no-means-no", "yes-means-yes", "away-if-away", "a-question-ends", "no-system-user", "bounded",
}  # fmt: skip


def test_the_real_roles_break_no_rule():
    assert twin().violated == frozenset()


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name)
def test_each_mutant_is_caught_by_the_rule_named_beforehand(control: Control):
    result = run_control(control)
    assert result.counts, result.reason


def test_every_rule_has_a_mutant():
    assert {row[1] for row in ROWS} == RULES
