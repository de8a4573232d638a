"""From numbers to verdicts: pure, and total.

    a trial   holds | fails | pending
    a claim   holds | fails | holds with a condition | pending

Rules a reader may rely on:
- No verdict without a number: what could not be measured is pending, and says what is missing.
- One counterexample is enough: a deciding trial that fails makes the claim fail, whatever is still
  pending elsewhere.
- A claim holds only when every trial that decides, or that bounds it by a condition, has run.
- What ours does beside the paper's architectures never decides.
- A prediction that is not met, either way, and a measure that breaks are findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from specs.claims.ledger import COMPARISONS, Claim, Role, Trial

TrialVerdict = Literal["holds", "fails", "pending"]
ClaimVerdict = Literal["holds", "fails", "holds with a condition", "pending"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that was observed.  detail: what a reader needs to believe it.  recorded: when and
    where, if it was not observed in this run.
    """

    value: float
    detail: str = ""
    recorded: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a trial still lacks, each in words; at least one."""

    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A measure that should have worked, and raised."""

    error: str


Taking = Reading | Missing | Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A trial with its verdict.  finding: what somebody must look at; "" if nothing."""

    trial: Trial
    role: Role
    verdict: TrialVerdict
    taking: Taking
    finding: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim with its verdict.  conditions: under which it holds; missing: why it is pending."""

    name: str
    claim: Claim
    verdict: ClaimVerdict
    outcomes: tuple[Outcome, ...]
    conditions: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def findings(self) -> list[str]:
        return [each.finding for each in self.outcomes if each.finding]


def judge(claim: Claim, trial: Trial, taking: Taking) -> Outcome:
    """Compare what was observed with what was committed."""
    verdict: TrialVerdict = "pending"
    finding = ""
    if isinstance(taking, Broken):
        finding = f"{trial.on}: the measure broke: {taking.error}"
    elif isinstance(taking, Reading):
        met = COMPARISONS[trial.comparison](taking.value, trial.threshold)
        verdict = "holds" if met else "fails"
        if verdict != trial.expected:
            finding = (
                f"{trial.on}: {verdict}, expected: {trial.expected}"
                f" ({taking.value:g}, to be {trial.criterion}; {trial.observation})"
            )
    return Outcome(
        trial=trial, role=claim.role(trial), verdict=verdict, taking=taking, finding=finding
    )


def conclude(name: str, claim: Claim, outcomes: Sequence[Outcome]) -> Judged:
    """The claim's verdict, from one outcome per trial."""
    counted = [each for each in outcomes if each.role != "beside"]
    failed = [each for each in counted if each.verdict == "fails"]
    pending = [each for each in counted if each.verdict == "pending"]
    conditions = tuple(each.trial.condition for each in failed if each.role == "condition")
    verdict: ClaimVerdict = "holds with a condition" if conditions else "holds"
    if any(each.role == "decides" for each in failed):
        verdict = "fails"
    elif pending or not counted:
        verdict = "pending"
    return Judged(
        name=name,
        claim=claim,
        verdict=verdict,
        outcomes=tuple(outcomes),
        conditions=conditions,
        missing=_missing(pending),
    )


def _missing(pending: Sequence[Outcome]) -> tuple[str, ...]:
    """Each thing once, in the order of the trials."""
    found: dict[str, None] = {}
    for each in pending:
        if isinstance(each.taking, Missing):
            found.update(dict.fromkeys(each.taking.what))
        elif isinstance(each.taking, Broken):
            found["a measure that works"] = None
    return tuple(found)
