"""Negative controls: a check that cannot fail proves nothing.

A control pairs a check with a twin that it must accept and a mutant that it must refuse. It counts
only if all three hold: the twin violates nothing, the mutant violates the invariant *named
beforehand* (not just any), and the mutated line ran (a mutant that was never executed was not
refused, it was missed).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check said: the names of the violated invariants, and whether the mutation ran.

    `mutated_line_ran` means nothing for a twin. `detail` is for people (a counterexample).
    """

    violated: frozenset[str]
    mutated_line_ran: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """`invariant` is the name that must catch the mutant; `spec` the spec that it belongs to."""

    name: str
    spec: str
    invariant: str
    twin: Callable[[], Verdict]
    mutant: Callable[[], Verdict]

    def run_twin(self) -> Verdict:
        return self.twin()

    def run_mutant(self) -> Verdict:
        return self.mutant()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlResult:
    """Whether a control counts, and if not, why."""

    name: str
    spec: str
    invariant: str
    counts: bool
    reason: str


def run_control(control: Control) -> ControlResult:
    """Run both sides; never raises: a check that crashes has not refused anything."""
    try:
        reason = _reason(control)
    except Exception as error:  # the verdict on a crash is the same whatever it was
        reason = f"the check itself failed: {type(error).__name__}: {error}"
    return ControlResult(
        name=control.name,
        spec=control.spec,
        invariant=control.invariant,
        counts=not reason,
        reason=reason or f"refused by {control.invariant}",
    )


def _reason(control: Control) -> str:
    """Empty if the control counts."""
    twin = control.run_twin()
    if twin.violated:
        return f"the unmutated twin is refused by {', '.join(sorted(twin.violated))}"
    mutant = control.run_mutant()
    if not mutant.mutated_line_ran:
        return "the mutated line never ran"
    if control.invariant not in mutant.violated:
        by = ", ".join(sorted(mutant.violated)) or "nothing"
        return f"the mutant is refused by {by}, not by {control.invariant}"
    return ""
