"""Promised mail that a crash loses, under the weakest persistence model (P3): rows of the crash
table (`specs.persistence.table`), for the stores of a step.

A state counts if a message that was promised is not there after recovery, or if what is there is
something else.  The mailbox is looked at like the queue: what is delivered is no longer queued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from specs.evolution.measured import Share, total
from specs.persistence import table
from specs.persistence.models import P3_ATOMIC, P3_SPLIT
from specs.persistence.protocols import CommitStore

MODELS: Final = (P3_ATOMIC, P3_SPLIT)
_LOST: Final = ("lost", "torn")


def losses(stores: Iterable[CommitStore]) -> Mapping[str, Share]:
    """Store -> states that lose mail, of all that recovery was tried on."""
    return {store.name: _of(store) for store in stores}


def _of(store: CommitStore) -> Share:
    rows = table.rows([store], {}, models=MODELS)
    return total(Share(sum(row.counts[each] for each in _LOST), row.states) for row in rows)
