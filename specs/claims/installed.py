"""The instruments that are registered here.

Subjects come from entry points, so that the ledger imports none of them:
- refmta.specs.stores: a factory of a CommitStore (`specs.persistence`)
- refmta.specs.proofs: a module for CrossHair
- refmta.specs.architectures: a target that the matrix can start
- refmta.specs.compositions: a callable that says which architectures can be composed
- refmta.specs.measures: a callable that takes the subject's name ("composition:refmta") and which
  of its numbers is asked for ("" if it has one), and returns a Reading or raises NotHere
- refmta.specs.servers: a callable that says which real servers can be had here
- refmta.faultinject.targets: adapters to real servers, by their names
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from specs.claims.instruments import Instruments
from specs.claims.running import run_matrix
from specs.patterns.claims import patterns
from specs.persistence.protocols import CommitStore
from specs.persistence.references import REFERENCES

STORES = "refmta.specs.stores"
PROOFS = "refmta.specs.proofs"
COMPOSITIONS = "refmta.specs.compositions"
MEASURES = "refmta.specs.measures"
SERVERS = "refmta.specs.servers"
TARGETS = "refmta.faultinject.targets"


def installed(*, patient: bool = True) -> Instruments:
    """What entry points bring, and the specs' own.  A subject that can't be loaded raises later,
    when it is used: that is a finding.  patient: whether what takes minutes may run.
    """
    return Instruments(
        stores={each.name: _made(each) for each in REFERENCES}
        | {point.name: _factory(point) for point in entry_points(group=STORES)},
        proofs={point.name: point.value for point in entry_points(group=PROOFS)},
        measures={point.name: point.load for point in entry_points(group=MEASURES)},
        compositions=frozenset(
            name for point in entry_points(group=COMPOSITIONS) for name in point.load()()
        ),
        servers=frozenset(
            [point.name for point in entry_points(group=TARGETS)]
            + [name for point in entry_points(group=SERVERS) for name in point.load()()]
        ),
        patterns=frozenset(patterns()),
        run_matrix=run_matrix,
        patient=patient,
    )


def _made(store: CommitStore) -> Callable[[], CommitStore]:
    return lambda: store


def _factory(point: EntryPoint) -> Callable[[], CommitStore]:
    def make() -> Any:
        return point.load()()

    return make
