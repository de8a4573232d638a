"""The states that a crash may leave of a server's stores, each recovered by its real code, in
process: `specs.persistence`, for one message and for two concurrent ones, under P1, P2 and P3, with
renames atomic and split.

Which stores a server has is told by an entry point of the group `refmta.faultinject.crash`, of the
target's name: a callable without arguments that makes `Stores`. A server that has none such is
tried from outside only (`live`).

The speed is that of distinct disks: each on which recovery was run, counted once, whichever models,
schedules and crashes inside recovery lead to it, per second of this process's processor time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from specs import registered
from specs.persistence.enumerate import Counterexample, Report, examine_all
from specs.persistence.expected import Finding, compare, expected
from specs.persistence.model_disk import Snapshot
from specs.persistence.models import MODELS, Model
from specs.persistence.protocols import CommitStore
from specs.persistence.workloads import ONE, OVERLAPPING, REMAINS

GROUP: Final = "refmta.faultinject.crash"
#: P1, P2, P3, with renames atomic and split.
WEAK: Final[tuple[Model, ...]] = tuple(model for model in MODELS if model.octets_lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step that a server's code says it takes.

    line: file and line of the code that takes it, "" where that is not known.
    """

    kind: str
    path: str
    data: bytes = b""
    target: str = ""
    line: str = ""


class Stores(Protocol):
    """What a server's own code says of itself, for an architecture ("": its default)."""

    def stores(self, architecture: str) -> Sequence[CommitStore]:
        """Its queue, then its mailboxes.  Raises KeyError if there is no such architecture."""
        ...

    def planned(self, architecture: str, before: Snapshot, after: Snapshot) -> Sequence[Step]:
        """What it would do to a queue, so that the one message which is in the second is there, and
        promised.  Files by the names that they have at each step.  Raises ValueError if there is
        not one message, OSError if the queue is not as it must be.
        """
        ...


def of(target: str) -> Stores | None:
    """Of the target NAME or NAME:ARCHITECTURE; None if its code is not to be had."""
    name = target.partition(":")[0]
    return registered.make(GROUP, name) if name in registered.names(GROUP) else None


@dataclass(slots=True, kw_only=True)
class Enumerated:
    """All reports of a server's stores."""

    reports: list[Report] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    expected: dict[tuple[str, str, str], str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Of processor time."""
        return sum(each.seconds for each in self.reports)

    @property
    def distinct(self) -> int:
        """Disks on which recovery was run."""
        return sum(each.fresh for each in self.reports)

    @property
    def per_second(self) -> int:
        return int(self.distinct / self.seconds) if self.seconds else 0

    def lost(self) -> int:
        """States in which an acknowledged message is not there."""
        return sum(each.counts.get("acknowledged_present", 0) for each in self.reports)

    def stories(self) -> Iterator[tuple[Report, str, Counterexample]]:
        """(report, invariant, the shortest story), one for each store, model and invariant."""
        told = set()
        for report in self.reports:
            for invariant, found in report.violated.items():
                key = (report.store, report.model, invariant)
                if key not in told:
                    told.add(key)
                    yield report, invariant, found


def enumerated(stores: Iterable[CommitStore], models: Sequence[Model] = WEAK) -> Enumerated:
    """Every state, recovered and judged, and compared with what is expected of these stores."""
    found = Enumerated()
    rows = expected()
    for store in stores:
        apart = getattr(store, "apart", False)  # then two messages are each one message
        workloads = (ONE, REMAINS) if apart else (ONE, REMAINS, OVERLAPPING)
        reports = list(examine_all(store, models, workloads))
        found.reports += reports
        found.findings += compare(reports, rows)
        found.expected |= {key: why for key, why in rows.items() if key[0] == store.name}
    return found
