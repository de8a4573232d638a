"""Taking the numbers: each way to observe, and what of it is counted.

The slow ways are taken once however many trials read them: the matrix of an architecture, for all
patterns that are asked for; a measure of one subject; a module's proofs. Whatever an instrument
raises is a finding of the trials that need it, and of no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from specs.claims.instruments import Answer, Instruments, NotHere
from specs.claims.ledger import Claim, CrashStates, Matrix, Measure, Proofs, Taken, Trial
from specs.claims.record import Record
from specs.claims.verdict import Broken, Judged, Missing, Reading, Taking, conclude, judge
from specs.persistence.enumerate import examine
from specs.persistence.models import MODELS
from specs.persistence.workloads import CONCURRENT, ONE

#: What a crash may interrupt, for a claim: the spec `persistence` has the others.
WORKLOADS = (ONE, CONCURRENT)
#: Counterexamples that a reading quotes.
QUOTED = 3


@dataclass(slots=True)
class Taker:
    """Judges claims with these instruments.  tell: hears what is being taken.  record: read where
    a number can't be taken now.
    """

    instruments: Instruments
    tell: Callable[[str], None] = lambda _: None
    record: Record = field(default_factory=lambda: Record({}))
    _patterns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _taken: dict[tuple[str, str, Taken], Taking] = field(default_factory=dict)
    _matrices: dict[str, Mapping[str, Answer] | NotHere] = field(default_factory=dict)

    def judge_all(self, claims: Mapping[str, Claim]) -> Iterator[Judged]:
        """Each claim, when its trials have run."""
        self._patterns = self._asked_of_matrices(claims.values())
        for name, claim in claims.items():
            yield conclude(
                name, claim, [judge(claim, trial, self.take(trial)) for trial in claim.trials]
            )

    def take(self, trial: Trial) -> Taking:
        """The trial's number, or why there is none."""
        missing = self.instruments.missing(trial)
        taking = Missing(missing) if missing else self._once(trial)
        if isinstance(taking, Missing):
            return self.record.of(trial) or taking
        return taking

    def _once(self, trial: Trial) -> Taking:
        key = (trial.on, trial.against, trial.taken)
        if key not in self._taken:
            self.tell(f"{trial.on}: {trial.observation}")
            self._taken[key] = self._guarded(trial)
        return self._taken[key]

    def _guarded(self, trial: Trial) -> Taking:
        try:
            return self._read(trial)
        except NotHere as absent:
            return Missing((str(absent),))
        except Exception as error:  # it is somebody else's code
            return Broken(f"{type(error).__name__}: {error}")

    def _read(self, trial: Trial) -> Reading:
        match trial.taken:
            case CrashStates(stores=stores, models=models):
                return crash_states([self.instruments.stores[name]() for name in stores], models)
            case Proofs(proofs=names):
                return self._proofs(names)
            case Matrix(patterns=patterns):
                return of_matrix(self._matrix(trial.architecture), patterns)
            case Measure(name=name, part=part):
                take = self.instruments.measures[name]()
                found = take(trial.on, part)
                return ratio(found, take(trial.against, part)) if trial.against else found

    # -- the ways ---------------------------------------------------------------------------------

    def _proofs(self, names: Iterable[str]) -> Reading:
        proofs = [
            proof
            for name in names
            for proof in self.instruments.run_proofs(name, self.instruments.proofs[name]).proofs
        ]
        bad = [proof for proof in proofs if proof.is_finding]
        proved = sum(proof.verdict == "proved" for proof in proofs)
        told = [f"{proved} of {len(proofs)} proved, {len(proofs) - proved - len(bad)} searched"]
        told += [f"{each.function}: {each.verdict}: {each.detail}" for each in bad[:QUOTED]]
        return Reading(len(bad), "; ".join(told))

    def _matrix(self, architecture: str) -> Mapping[str, Answer]:
        """All patterns that any trial asks of this architecture, in one run of the system."""
        run = self.instruments.run_matrix
        if run is None:
            raise NotHere("a runner of the matrix")
        if architecture not in self._matrices:
            try:
                self._matrices[architecture] = run(architecture, self._patterns[architecture])
            except NotHere as absent:
                self._matrices[architecture] = absent
        found = self._matrices[architecture]
        if isinstance(found, NotHere):
            raise found
        return found

    def _asked_of_matrices(self, claims: Iterable[Claim]) -> dict[str, tuple[str, ...]]:
        asked: dict[str, dict[str, None]] = {}
        for claim in claims:
            for trial in claim.trials:
                if isinstance(trial.taken, Matrix) and not self.instruments.missing(trial):
                    wanted = asked.setdefault(trial.architecture, {})
                    wanted.update(dict.fromkeys(trial.taken.patterns))
        return {name: tuple(wanted) for name, wanted in asked.items()}


def ratio(number: Reading, other: Reading) -> Reading:
    """Nothing against nothing is the same."""
    against_nothing = math.inf if number.value else 1.0
    value = number.value / other.value if other.value else against_nothing
    return Reading(value, f"{number.value:g} ({number.detail}) : {other.value:g} ({other.detail})")


def crash_states(stores: Iterable[Any], models: Iterable[str]) -> Reading:
    """Violations over all states that a crash may leave.  Raises KeyError for an unknown model."""
    by_name = {str(model): model for model in MODELS}
    chosen = [by_name[name] for name in models]
    reports = [
        examine(store, model, workload)
        for store in stores
        for workload in WORKLOADS
        for model in chosen
    ]
    bad = [
        f"{each.store}, {each.model}, {each.workload}: {invariant}: {found.detail}"
        for each in reports
        for invariant, found in each.violated.items()
    ]
    told = [f"{sum(each.distinct for each in reports)} states", *bad[:QUOTED]]
    return Reading(len(bad), "; ".join(told))


def of_matrix(matrix: Mapping[str, Answer], patterns: Iterable[str]) -> Reading:
    """How many claims of these patterns do not hold.  Raises NotHere if one can't be judged here,
    LookupError if there was none to be judged: that is no success.
    """
    wanted = {
        key: found
        for pattern in patterns
        for key, found in matrix.items()
        if key.partition(".")[0] == pattern
    }
    if not wanted:
        raise LookupError(f"the matrix judged no claim of {', '.join(patterns)}")
    for answer in wanted.values():
        if isinstance(answer, NotHere):
            raise answer
    bad = [
        f"{key}: {found[0]}" for key, found in wanted.items() if isinstance(found, tuple) and found
    ]
    return Reading(len(bad), "; ".join([f"{len(wanted)} claims", *bad[:QUOTED]]))
