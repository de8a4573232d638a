"""Mutants of the ledger's own code: each judges too kindly, and is caught by name.

And one of what is judged: a store that syncs no directory, put in place of ours, must turn the
verdict of the trial that reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType, ModuleType
from typing import Any

from specs.claims import exam, ledger, record, take, verdict
from specs.claims.instruments import Instruments
from specs.claims.take import Taker, of_matrix
from specs.claims.verdict import Missing, Outcome, Reading, judge
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.persistence.references import CERTIFIED, Reference, certified_plan

Checks = MappingProxyType[str, Callable[[Any], bool]]

#: what, the check that must catch it, old, new.
OF_VERDICTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "pending counted as holding",
        "no_verdict_without_a_number",
        "elif pending or not counted:",
        "elif __mutant_ran__() and not counted:",
    ),
    (
        "a counterexample waits for the rest",
        "one_counterexample_decides",
        'if any(each.role == "decides" for each in failed):',
        'if __mutant_ran__() and not pending and any(each.role == "decides" for each in failed):',
    ),
    (
        "a condition that did not hold is forgotten",
        "a_condition_is_told",
        '"holds with a condition" if conditions else "holds"',
        '"holds with a condition" if not __mutant_ran__() else "holds"',
    ),
    (
        "ours decides what the paper says of others",
        "what_is_beside_never_decides",
        'counted = [each for each in outcomes if each.role != "beside"]',
        "counted = [each for each in outcomes if __mutant_ran__()]",
    ),
    (
        "whatever comes out was expected",
        "a_missed_prediction_is_found",
        "if verdict != trial.expected:",
        "if not __mutant_ran__():",
    ),
    (
        "a measure that raises is only missing",
        "a_broken_measure_is_found",
        'finding = f"{trial.on}: the measure broke: {taking.error}"',
        'finding = "" if __mutant_ran__() else "broke"',
    ),
    (
        "what is missing is not told",
        "what_is_missing_is_told",
        "found.update(dict.fromkeys(each.taking.what))",
        "__mutant_ran__()",
    ),
)
OF_THE_LEDGER: tuple[tuple[str, str, str, str], ...] = (
    (
        "a key that means nothing",
        "no_unknown_key",
        "forbid_unknown_fields=True",
        "forbid_unknown_fields=not __mutant_ran__()",
    ),
    (
        "a ledger may leave claims out",
        "every_claim_is_there",
        "if tuple(ledger.claims) != IDS:",
        "if not __mutant_ran__():",
    ),
    (
        "a threshold of no number",
        "a_threshold_is_a_number",
        "if not math.isfinite(trial.threshold):",
        "if not __mutant_ran__():",
    ),
    (
        "a failure is expected for no reason",
        "a_failure_has_its_reason",
        'if (trial.expected == "fails") != bool(trial.reason):',
        "if not __mutant_ran__():",
    ),
    (
        "an architecture that no trial decides",
        "each_architecture_is_decided",
        "if name not in deciding:",
        "if not __mutant_ran__():",
    ),
    (
        "a measure that nobody describes",
        "each_measure_is_described",
        "if isinstance(trial.taken, Measure) and trial.taken.name not in ledger.measures:",
        "if not __mutant_ran__():",
    ),
    (
        "a threshold moved behind the digest's back",
        "the_digest_covers_the_threshold",
        "(each.on, each.observation, each.criterion, each.against, each.taken, each.condition)",
        "(each.on, each.observation, __mutant_ran__())",
    ),
)
OF_THE_RECORD: tuple[tuple[str, str, str, str], ...] = (
    (
        "a number of some other trial",
        "a_record_is_of_its_trial",
        "row = self.rows.get(trial.asked)",
        "row = next(iter(self.rows.values())) if __mutant_ran__() else None",
    ),
    (
        "a record passes for an observation",
        "a_record_says_so",
        'recorded=f"{row.date}, {row.machine}"',
        'recorded="" if __mutant_ran__() else ""',
    ),
    (
        "the last of two numbers counts",
        "one_number_per_trial",
        "if row.asked in rows:",
        "if not __mutant_ran__():",
    ),
    (
        "what was read is written down as new",
        "only_what_is_new_is_written",
        "and not taking.recorded and",
        "and __mutant_ran__() and",
    ),
)
OF_TAKING: tuple[tuple[str, str, str, str], ...] = (
    (
        "a record covers up a measure that breaks",
        "a_broken_measure_has_no_record",
        "if isinstance(taking, Missing):",
        "if __mutant_ran__():",
    ),
)


def controls() -> list[Control]:
    """Entry point."""
    return [
        *(_mutant(verdict, exam.VERDICTS, row) for row in OF_VERDICTS),
        *(_mutant(ledger, exam.LEDGER, row) for row in OF_THE_LEDGER),
        *(_mutant(record, exam.RECORD, row) for row in OF_THE_RECORD),
        *(_mutant(take, exam.TAKING, row) for row in OF_TAKING),
        Control(
            name="a store without a directory sync in place of ours",
            spec="claim_ledger/C08",
            invariant="holds_on_crash_states",
            twin=lambda: _crash_states(CERTIFIED),
            mutant=lambda: _crash_states(CARELESS),
        ),
        Control(
            name="a pattern of which the matrix judged nothing",
            spec="claim_ledger/matrix",
            invariant="nothing_judged_holds_nothing",
            twin=lambda: _matrix({"chroot_jail.empty": ()}),
            mutant=lambda: _matrix({"other.empty": ()}),
        ),
    ]


def examined(module: ModuleType) -> Any:
    """A module as the exam wants it: with a way from text to a ledger, however incomplete."""
    text_to_ledger = getattr(module, "convert", ledger.convert)
    module.__dict__["ledger_of"] = text_to_ledger
    return module


def _mutant(module: ModuleType, checks: Checks, row: tuple[str, str, str, str]) -> Control:
    name, invariant, old, new = row

    def mutant() -> Verdict:
        changed = mutate(module.__name__, [(old, new)])
        found = exam.broken(checks, examined(changed))
        return Verdict(violated=found, mutated_line_ran=hits(changed) > 0)

    return Control(
        name=name,
        spec=f"claim_ledger/{module.__name__.rpartition('.')[2]}",
        invariant=invariant,
        twin=lambda: Verdict(violated=exam.broken(checks, examined(mutate(module.__name__, [])))),
        mutant=mutant,
    )


# -- what is judged -------------------------------------------------------------------------------


CARELESS: Reference = replace(
    CERTIFIED, one=lambda message: (op for op in certified_plan(message) if op.kind != "sync_dir")
)


def _crash_states(store: Reference) -> Verdict:
    """The trial of C08 that reads our stores, on this one."""
    claim = ledger.load().claims["C08"]
    ((trial, stores),) = [
        (each, each.taken.stores)
        for each in claim.trials
        if isinstance(each.taken, ledger.CrashStates) and claim.role(each) == "beside"
    ]
    instruments = Instruments(stores=dict.fromkeys(stores, lambda: store))
    outcome: Outcome = judge(claim, trial, Taker(instruments).take(trial))
    if isinstance(outcome.taking, Missing):
        return Verdict(violated=frozenset({"pending"}), detail=outcome.taking.what[0])
    refused = {"holds_on_crash_states"} if outcome.verdict != "holds" else set()
    ran = isinstance(outcome.taking, Reading)
    return Verdict(violated=frozenset(refused), mutated_line_ran=ran)


def _matrix(found: dict[str, tuple[str, ...]]) -> Verdict:
    try:
        of_matrix(found, ("chroot_jail",))
    except LookupError as error:
        refused = frozenset({"nothing_judged_holds_nothing"})
        return Verdict(violated=refused, mutated_line_ran=True, detail=str(error))
    return Verdict(violated=frozenset(), mutated_line_ran=True)
