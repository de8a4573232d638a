"""Real recovery on every state that a crash may leave, judged by named invariants.

The invariants (each is violated or holds on one crash state):
- acknowledged_present: a message whose reply came before the crash is visible after recovery;
- visible_is_complete: what is visible under a token is the message submitted under that token,
  octet for octet;
- recovery_completes: recovery raises nothing;
- recovery_idempotent: running it again changes neither the disk nor what is visible;
- nothing_left_over: each file that is there after recovery is set aside, is a note about something
  visible, or is needed: without it something visible would be gone. Handles are closed;
- crash_in_recovery: the above, on every state that a crash *during* this recovery may leave
  (one level deep; the same persistence model, coarse tearing). What was lost or wrong already is
  not counted again.

Not judged here: whether the reply was sent in truth (the trace), who may read what, duplicates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from specs.persistence.crash import LIMIT, Enumeration
from specs.persistence.model_disk import Recorded, Snapshot
from specs.persistence.models import Model
from specs.persistence.octets import COARSE, Tearing
from specs.persistence.protocols import CommitStore, Message
from specs.persistence.recoveries import Inside, Outcome, Recoveries
from specs.persistence.states import CrashState, Merged, is_news

INVARIANTS = (
    "acknowledged_present",
    "visible_is_complete",
    "recovery_completes",
    "recovery_idempotent",
    "nothing_left_over",
    "crash_in_recovery",
)
INSIDE, INSIDE_FINE = 40_000, 10_000
"""States of crashes inside recovery, per report, after which no recovery is entered any more; where
each write is torn finely, most of them differ in octets that recovery removes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recorded history: how the disk was before it, and what was done."""

    initial: Snapshot
    operations: tuple[Recorded, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Messages, and the histories (one per schedule) by which a store commits them."""

    name: str
    messages: tuple[Message, ...]
    runs: Callable[[CommitStore, tuple[Message, ...]], Iterable[Run]]
    tearing: Callable[[CommitStore], Tearing] = lambda _: COARSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """The state with the fewest losses that violates an invariant."""

    detail: str
    story: tuple[str, ...]
    tree: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One store, one model, one workload.

    `enumerated` counts states before equal ones are merged, `distinct` after; `recovered` adds the
    distinct states of crashes inside recovery. `fresh`: those of them that no model and no workload
    before had led to, where they are examined one after the other; the speed is told by these, as
    recovery is run once on each disk. `exhaustive`: no combination was left out. `counts`:
    how many states violate each invariant (for crash_in_recovery: of those inside). `renames`:
    whether anything was renamed, by the store or by its recovery.
    """

    store: str
    model: str
    workload: str
    enumerated: int
    distinct: int
    recovered: int
    seconds: float
    exhaustive: bool
    violated: Mapping[str, Counterexample]
    counts: Mapping[str, int] = field(default_factory=dict)
    renames: bool = True
    fresh: int = 0

    @property
    def states_per_second(self) -> int:
        """Disks recovered per second of processor time, each counted once."""
        return int(self.fresh / self.seconds) if self.seconds else 0


@dataclass(slots=True)
class Judge:
    """Judges one state after the other under one model, and remembers the worst that it saw."""

    recoveries: Recoveries
    model: Model
    limit: int = LIMIT  # of crashes inside one recovery, as for those before it (crash.py)
    inside: int = INSIDE
    exhaustive: bool = True
    renames: bool = False
    fresh: int = 0
    violated: dict[str, Counterexample] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _patterns: Inside = field(init=False)
    _entered: set[Snapshot] = field(default_factory=set)
    _judged: dict[Snapshot, list[frozenset[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._patterns = Inside(self.model, self.limit)

    @property
    def distinct(self) -> int:
        """Disks judged, without those of crashes inside recovery."""
        return len(self._entered)

    @property
    def recovered(self) -> int:
        """Disks judged, with those of crashes inside recovery."""
        return len(self._judged)

    def judge(self, state: CrashState) -> None:
        """Recover this state, then every state that a crash during that recovery leaves. Nobody
        asks twice for the same disk with as much acknowledged.
        """
        snapshot = state.snapshot
        self._entered.add(snapshot)
        self._count(snapshot, state.acknowledged)
        outcome = self.recoveries.outcome(snapshot)
        ran = outcome.ran
        self.renames |= ran.renamed
        spoilt = frozenset(outcome.wrong) | (state.acknowledged - outcome.visible)
        if spoilt or not outcome.clean:
            for invariant, detail in _violations(outcome, state.acknowledged).items():
                self._remember(invariant, detail, state)
        if not ran.changed or "recovery_completes" in outcome.violated:
            return
        if self.recovered - len(self._entered) < self.inside:
            self._judge_crashes_inside(state, ran.record, spoilt)
        else:
            self.exhaustive = False

    def _judge_crashes_inside(
        self, state: CrashState, record: tuple[Recorded, ...], spoilt: frozenset[str]
    ) -> None:
        """spoilt: the messages that were lost or wrong already."""
        acknowledged = state.acknowledged - spoilt
        outcome_of = self.recoveries.outcome
        for snapshot, second in self._patterns.states(state.snapshot, record):
            if not self._count(snapshot, acknowledged):
                continue
            outcome = outcome_of(snapshot)
            self.renames |= outcome.ran.renamed
            if outcome.clean and acknowledged <= outcome.visible:
                continue
            found = _violations(outcome, acknowledged, spoilt)
            if found:
                detail = "; ".join(f"{name}: {what}" for name, what in found.items())
                self._remember("crash_in_recovery", detail, state, second, snapshot)
        self.exhaustive &= self._patterns.exhaustive

    def _count(self, snapshot: Snapshot, acknowledged: frozenset[str]) -> bool:
        """Whether recovery has not yet been judged on this disk, with as much acknowledged."""
        known = self._judged.get(snapshot)
        if known is None:
            self._judged[snapshot] = [acknowledged]
            ever = self.recoveries.judged
            if snapshot not in ever:
                ever.add(snapshot)
                self.fresh += 1
            return True
        return is_news(known, acknowledged)

    def _remember(
        self,
        invariant: str,
        detail: str,
        state: CrashState,
        second: CrashState | None = None,
        inside: Snapshot | None = None,
    ) -> None:
        self.counts[invariant] = self.counts.get(invariant, 0) + 1
        known = self.violated.get(invariant)
        if known is not None and len(known.story) == 1:
            return  # there is no shorter one
        story = tuple(state.witness())
        if second is not None:
            story += tuple(f"in recovery, {line}" for line in second.witness())
        if known is None or len(story) < len(known.story):
            tree = (inside or state.snapshot).tree
            self.violated[invariant] = Counterexample(detail=detail, story=story, tree=tree)


def _violations(
    outcome: Outcome, acknowledged: frozenset[str], spoilt: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Invariant -> detail. spoilt: messages that were wrong before, and are not told again."""
    found = dict(outcome.violated)
    if "recovery_completes" in found:
        return found
    for token in sorted(acknowledged - outcome.visible):
        found["acknowledged_present"] = f"{token} was acknowledged and is not there"
    for token, detail in outcome.wrong.items():
        if token not in spoilt:
            found["visible_is_complete"] = detail
    return found


@dataclass(slots=True)
class Examination:
    """One store and one workload; what one model's states have shown serves the next."""

    store: CommitStore
    workload: Workload
    limit: int = LIMIT
    judged: set[Snapshot] = field(default_factory=set)  # disks recovered before, by other workloads
    _recoveries: Recoveries = field(init=False)
    _merged: Merged = field(default_factory=Merged)
    _runs: tuple[Run, ...] = ()

    def __post_init__(self) -> None:
        submitted = {message.token: message.content for message in self.workload.messages}
        self._recoveries = Recoveries(self.store, submitted, self.judged)

    def under(self, model: Model) -> Report:
        """Enumerate, recover, judge."""
        started = time.thread_time()
        self._runs = self._runs or tuple(self.workload.runs(self.store, self.workload.messages))
        tearing = self.workload.tearing(self.store)
        judge = Judge(self._recoveries, model, self.limit, INSIDE_FINE if tearing.fine else INSIDE)
        merged = self._merged = self._merged.of_other_names()
        enumerated, exhaustive = 0, True
        for run in self._runs:
            enumeration = Enumeration(
                run.initial, run.operations, model, tearing=tearing, limit=self.limit, merged=merged
            )
            for state in enumeration.states():
                judge.judge(state)
            enumerated += enumeration.enumerated
            exhaustive &= enumeration.exhaustive
        renames = any(each.kind == "rename" for run in self._runs for each in run.operations)
        return Report(
            store=self.store.name,
            model=str(model),
            workload=self.workload.name,
            enumerated=enumerated,
            distinct=judge.distinct,
            recovered=judge.recovered,
            fresh=judge.fresh,
            seconds=time.thread_time() - started,
            exhaustive=exhaustive and judge.exhaustive,
            violated=judge.violated,
            counts=judge.counts,
            renames=renames or judge.renames,
        )


def examine(store: CommitStore, model: Model, workload: Workload, *, limit: int = LIMIT) -> Report:
    """Enumerate, recover, judge."""
    return Examination(store, workload, limit).under(model)


def examine_all(
    store: CommitStore,
    models: Sequence[Model],
    workloads: Iterable[Workload],
    *,
    limit: int = LIMIT,
) -> Iterator[Report]:
    """Every workload under every model. Where nothing is renamed, how renames part is no matter: a
    report stands for both kinds.
    """
    judged: set[Snapshot] = set()
    for workload in workloads:
        without: dict[str, Report] = {}
        examination = Examination(store, workload, limit, judged)
        for model in models:
            report = without.get(model.name)
            if report is None:
                report = examination.under(model)
            else:
                report = replace(report, fresh=0, seconds=0.0)
            if not report.renames:
                without[model.name] = report
            yield replace(report, model=str(model))
