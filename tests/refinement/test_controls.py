"""Every negative control counts: the twin passes, the mutant is refused by the invariant named
beforehand, and the mutated line ran.
"""

import pytest

from specs.kernel.control import run_control
from subjects.controls import controls

CONTROLS = controls()


@pytest.mark.parametrize("control", CONTROLS, ids=lambda each: each.name.replace(" ", "-"))
def test_the_mutant_is_caught_by_the_named_invariant(control):
    result = run_control(control)
    assert result.counts, result.reason
