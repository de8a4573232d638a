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

from specs.persistence.crash import LIMIT, CrashState, Enumeration
from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot, sparse
from specs.persistence.models import Model
from specs.persistence.octets import COARSE, Tearing
from specs.persistence.protocols import CommitStore, Message, Recovered

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
_CHANGES_NOTHING = frozenset({"sync", "sync_dir", "reply", "release"})


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
    distinct states of crashes inside recovery. `exhaustive`: no combination was left out. `counts`:
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

    @property
    def states_per_second(self) -> int:
        return int(self.recovered / self.seconds) if self.seconds else 0


@dataclass(slots=True)
class Judge:
    """Recovers one state after the other, and remembers the worst that it saw."""

    store: CommitStore
    submitted: Mapping[str, bytes]
    model: Model
    limit: int = LIMIT  # of crashes inside one recovery, as for those before it (crash.py)
    inside: int = INSIDE
    exhaustive: bool = True
    renames: bool = False
    recovered: int = 0
    violated: dict[str, Counterexample] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _entered: dict[Snapshot, list[frozenset[str]]] = field(default_factory=dict)
    _judged: dict[Snapshot, list[frozenset[str]]] = field(default_factory=dict)
    _needed: dict[object, str] = field(default_factory=dict)

    def judge(self, state: CrashState) -> None:
        """Recover this state, then every state that a crash during that recovery leaves."""
        if not self._is_news(self._entered, state):
            return
        self._count(state)
        record, found, spoilt = self._recover(state.snapshot, state.acknowledged)
        for invariant, detail in found.items():
            self._remember(invariant, detail, state, None)
        if not _changes(record):
            return
        if self.recovered - self.distinct < self.inside:
            self._judge_crashes_inside(state, record, spoilt)
        else:
            self.exhaustive = False

    @property
    def distinct(self) -> int:
        """Disk states judged, without those of crashes inside recovery."""
        return len(self._entered)

    def _judge_crashes_inside(
        self, state: CrashState, record: Sequence[Recorded], spoilt: frozenset[str]
    ) -> None:
        """spoilt: the messages that were lost or wrong already."""
        inside = Enumeration(
            state.snapshot,
            record,
            self.model,
            acknowledged=state.acknowledged - spoilt,
            limit=self.limit,
        )
        for second in inside.states():
            if self._count(second):
                _, found, _ = self._recover(second.snapshot, second.acknowledged, spoilt)
                if found:
                    detail = "; ".join(f"{name}: {what}" for name, what in found.items())
                    self._remember("crash_in_recovery", detail, state, second)
        self.exhaustive &= inside.exhaustive

    def _count(self, state: CrashState) -> bool:
        """Whether recovery has not yet run on this state, with as much acknowledged."""
        if state.snapshot not in self._judged:
            self.recovered += 1
        return self._is_news(self._judged, state)

    @staticmethod
    def _is_news(known: dict[Snapshot, list[frozenset[str]]], state: CrashState) -> bool:
        earlier = known.setdefault(state.snapshot, [])
        if any(state.acknowledged <= before for before in earlier):
            return False
        earlier.append(state.acknowledged)
        return True

    def _remember(
        self, invariant: str, detail: str, state: CrashState, second: CrashState | None
    ) -> None:
        self.counts[invariant] = self.counts.get(invariant, 0) + 1
        story = tuple(state.witness())
        if second is not None:
            story += tuple(f"in recovery, {line}" for line in second.witness())
        known = self.violated.get(invariant)
        if known is None or len(story) < len(known.story):
            tree = (second or state).tree
            self.violated[invariant] = Counterexample(detail=detail, story=story, tree=tree)

    # ---- one recovery ---------------------------------------------------------------------

    def _recover(
        self,
        snapshot: Snapshot,
        acknowledged: frozenset[str],
        spoilt: frozenset[str] = frozenset(),
    ) -> tuple[Sequence[Recorded], dict[str, str], frozenset[str]]:
        """What recovery did to the disk, the invariants that it violates, with details, and which
        messages are lost or wrong now. spoilt: those that were before, and are not told again.
        """
        disk = ModelDisk(snapshot)
        try:
            first = self.store.recover(disk)
            record = tuple(disk.record)
            self.renames = self.renames or any(each.kind == "rename" for each in record)
            changed_something = bool(_changes(record))  # if not, the second run is the first
            again = self.store.recover(disk) if changed_something else first
        except Exception as error:  # whatever it is: recovery must not raise
            return (), {"recovery_completes": f"{type(error).__name__}: {error}"}, frozenset()
        found: dict[str, str] = {}
        for token in acknowledged:
            if token not in first.visible:
                found["acknowledged_present"] = f"{token} was acknowledged and is not there"
        wrong = {token for token, octets in first.visible.items() if self._differs(token, octets)}
        for token, octets in first.visible.items():
            if token in wrong - spoilt:
                found["visible_is_complete"] = self._difference(token, octets)
        changed = [str(operation) for operation in _changes(disk.record[len(record) :])]
        if changed or again.visible != first.visible or again.aside != first.aside:
            found["recovery_idempotent"] = (
                f"the second run did: {', '.join(changed) or 'nothing, but saw something else'}"
            )
        left = self._left_over(disk, again)
        if left:
            found["nothing_left_over"] = left
        return record, found, frozenset(wrong | (acknowledged - first.visible.keys()))

    def _differs(self, token: str, octets: bytes) -> bool:
        return self.submitted.get(token) != octets

    def _difference(self, token: str, octets: bytes) -> str:
        submitted = self.submitted.get(token)
        if submitted is None:
            return f"{token} is visible and was never submitted"
        return f"{token} has {len(octets)} octets that differ from the {len(submitted)} submitted"

    def _left_over(self, disk: ModelDisk, recovered: Recovered) -> str:
        """What is there and serves nothing; "" if there is no such thing."""
        if disk.open_handles():
            return f"handles left open: {', '.join(disk.open_handles())}"
        after = disk.snapshot()
        apart = recovered.aside | recovered.notes
        missing = apart.difference(after.paths)
        if missing:
            return f"said to be set aside or kept, but not there: {', '.join(sorted(missing))}"
        kept = [number for number, path in enumerate(after.paths) if path not in apart]
        rest = _only(after, kept)
        key = (rest.paths, rest.contents, rest.modes)
        if key not in self._needed:
            self._needed[key] = self._unneeded(rest)
        return self._needed[key]

    def _unneeded(self, rest: Snapshot) -> str:
        """A file without which the same messages are visible."""
        everything = self.store.recover(ModelDisk(rest)).visible
        for number, path in enumerate(rest.paths):
            others = [other for other in range(len(rest.paths)) if other != number]
            if self.store.recover(ModelDisk(_only(rest, others))).visible == everything:
                return f"{path} serves nothing"
        return ""


def _changes(record: Sequence[Recorded]) -> list[Recorded]:
    """What changed the disk, without what only forced it."""
    return [operation for operation in record if operation.kind not in _CHANGES_NOTHING]


def _only(snapshot: Snapshot, numbers: Sequence[int]) -> Snapshot:
    """The same disk with some of its names only."""
    return Snapshot(
        tuple(snapshot.paths[number] for number in numbers),
        tuple(snapshot.inodes[number] for number in numbers),
        tuple(snapshot.contents[number] for number in numbers),
        snapshot.directories,
        sparse(tuple(snapshot.modes[number] for number in numbers if snapshot.modes)),
    )


def examine(store: CommitStore, model: Model, workload: Workload, *, limit: int = LIMIT) -> Report:
    """Enumerate, recover, judge."""
    submitted = {message.token: message.content for message in workload.messages}
    tearing = workload.tearing(store)
    judge = Judge(store, submitted, model, limit, INSIDE_FINE if tearing.fine else INSIDE)
    enumerated, exhaustive, renames = 0, True, False
    started = time.thread_time()
    for run in workload.runs(store, workload.messages):
        enumeration = Enumeration(
            run.initial,
            run.operations,
            model,
            tearing=tearing,
            limit=limit,
        )
        for state in enumeration.states():
            judge.judge(state)
        renames = renames or any(each.kind == "rename" for each in run.operations)
        enumerated += enumeration.enumerated
        exhaustive &= enumeration.exhaustive
    return Report(
        store=store.name,
        model=str(model),
        workload=workload.name,
        enumerated=enumerated,
        distinct=judge.distinct,
        recovered=judge.recovered,
        seconds=time.thread_time() - started,
        exhaustive=exhaustive and judge.exhaustive,
        violated=judge.violated,
        counts=judge.counts,
        renames=renames or judge.renames,
    )


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
    for workload in workloads:
        without: dict[str, Report] = {}
        for model in models:
            report = without.get(model.name)
            if report is None:
                report = examine(store, model, workload, limit=limit)
            if not report.renames:
                without[model.name] = report
            yield replace(report, model=str(model))
