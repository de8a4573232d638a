"""What the refinement machines share: named invariants, a walk that stays the same, controls.

A machine raises `Broken` with the name of the invariant that does not hold; everything else that
it raises is a mistake of the machine or a crash of the code, and no verdict. `walk` runs a machine
with a fixed number of examples, derandomized: the examples follow from the machine's own code, so
a run is repeated by running it again. `REFMTA_SEED=n` walks elsewhere; the seed is printed.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, reject, seed, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SEED = os.environ.get("REFMTA_SEED")
_sought: list[str] = []  # the invariant that a control looks for, if one is running


class Broken(AssertionError):
    """An invariant, by its name, does not hold."""

    def __init__(self, invariant: str, detail: str = "") -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


def hold(invariant: str, holds: bool, detail: object = "") -> None:
    """Raise Broken if it does not hold. While one is sought, a walk that breaks another is no
    example of it, and is given up.
    """
    if holds:
        return
    if _sought and invariant != _sought[-1]:
        reject()
    raise Broken(invariant, str(detail))


def walk(
    machine: Callable[[], RuleBasedStateMachine], *, examples: int, steps: int, shrink: bool = True
) -> None:
    """Run a machine; raises what its first failing example raises, the shortest if it shrinks."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    rules = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=SEED is None,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    print(f"seed: {SEED or 'derandomized'}, {examples} examples of at most {steps} steps")
    if SEED is not None:
        machine = seed(int(SEED))(machine)
    run_state_machine_as_test(machine, settings=rules)


def breaks(
    machine: Callable[[], RuleBasedStateMachine], invariant: str, *, examples: int, steps: int
) -> bool:
    """Whether one of the walks breaks this invariant before any other."""
    _sought.append(invariant)
    silenced = io.StringIO()
    try:
        with contextlib.redirect_stdout(silenced), contextlib.redirect_stderr(silenced):
            walk(machine, examples=examples, steps=steps, shrink=False)
    except Broken:
        return True
    except FlakyFailure as unsteady:  # sets of objects have no order that could be repeated
        return all(isinstance(each, Broken) for each in unsteady.exceptions)
    finally:
        _sought.pop()
    return False


def made(machine: type[Any], **fields: Any) -> type[Any]:
    """The machine over other subjects: a class of its own, with these fields."""
    return type(machine.__name__, (machine,), fields)
