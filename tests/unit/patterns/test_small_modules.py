"""Every compartment has a budget, and keeps it; measured by running its entry point.

(The same numbers, of what runs: `refmta-spec matrix`.  Controls: tests/unit/specs.)
"""

from __future__ import annotations

import pytest

from refmta.architectures.catalogue import ARCHITECTURES
from refmta.patterns.small_modules import BUDGETS, PRIVILEGED
from specs.patterns.small_modules import measure
from subjects.modules import NotLoaded, loaded

NAMES = {
    (PRIVILEGED if number < 0 else each.rows[number].name, each.name)
    for each in ARCHITECTURES.values()
    for number in range(-1, len(each.rows))
}


def test_each_compartment_has_a_budget_and_no_other():
    assert {name for name, _ in NAMES} == set(BUDGETS)


@pytest.mark.parametrize(("name", "architecture"), sorted(NAMES))
def test_each_compartment_keeps_its_budget(name, architecture):
    found, budget = measure(loaded(name, architecture)), BUDGETS[name]
    assert found.own_lines <= budget.own_lines
    assert found.lines <= budget.lines
    assert found.modules <= budget.modules
    assert found.own_lines > budget.own_lines // 2, "a budget that says nothing"


def test_the_privileged_code_is_the_spawner_and_the_children_it_has():
    own = {each.name for each in loaded(PRIVILEGED, "refmta") if each.own}
    assert own >= {"refmta.processes.spawner", "refmta.processes.children"}
    for each in own:
        assert each.startswith(("refmta.processes", "refmta.patterns")) or each == "refmta", each


def test_the_parts_of_a_pool_are_one_program():
    assert loaded("smtpd worker", "refmta") == loaded("smtpd", "refmta")


def test_an_entry_point_that_does_not_come_to_its_own_code_is_no_measure():
    with pytest.raises(NotLoaded, match="did not load"):
        loaded("nobody", "refmta")
