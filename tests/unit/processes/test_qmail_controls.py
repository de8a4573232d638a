"""qmail's carriers and qmail-clean hold all their rules, and each rule catches its mutants."""

from __future__ import annotations

import pytest

from specs.kernel.control import Control, run_control
from subjects.qmail import HOSTILE, ROWS, RULES, Ends, broken_rules, controls, survived


@pytest.mark.parametrize("rule", RULES)
def test_the_real_code_breaks_no_rule(rule: str):
    assert broken_rules(Ends(), [rule]) == frozenset()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_peer_is_cut_off_for_what_it_did(name: str):
    assert await survived(Ends(), name)


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name)
def test_each_mutant_is_caught_by_the_rule_named_beforehand(control: Control):
    result = run_control(control)
    assert result.counts, result.reason


def test_every_rule_has_a_mutant():
    assert {row[1] for row in ROWS} == set(RULES)
