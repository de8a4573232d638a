"""The persistence models: what a crash may do to what was asked of the disk, as a table.

| model | names that survive           | octets that survive        | a sync of a file forces     |
|-------|------------------------------|----------------------------|-----------------------------|
| P0    | all                          | all; a prefix of one write | (nothing more is needed)    |
| P1    | a prefix, in order of calls  | any subset, until its sync | all names so far, its octets|
| P2    | any subset                   | any subset, until its sync | its octets, its names       |
| P3    | any subset                   | any subset, until its sync | its octets, never names     |
| P4    | (sequences seen on btrfs: a later issue)                                                |
| P5    | (I/O errors: a later issue)                                                             |

A sync of a directory forces the names in it (under P1: all names so far). Nothing else is forced,
and a sync orders nothing but what it forces. Common to P1, P2 and P3: an append whose octets are
not forced may be there as nothing, zeros, garbage or data, slice by slice.

Renames come in two kinds. *Atomic*: all or nothing. *Split*: the removal of the old name and the
making of the new one survive separately.
- P3 split has both names, and *neither*; replacing a file may leave the target's name gone.
- P2 split has both, never neither, once the file was synced: "the old name or the new one".
- P1 split has both: the new name is made first, and the prefix may end between the two.

Under P2 and P3 the last unlink of a file truncates it first, so "named, but empty" is a state.
Under P1 a truncation is metadata for what forces it, yet is enumerated as lost or kept on its own:
a superset of what the order allows.

Sources: fsync(2); Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Names = Literal["all", "prefix", "subset"]
Rename = Literal["atomic", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One row of the table above, and how it treats a rename."""

    name: str
    names: Names
    rename: Rename
    octets_lost: bool  # False: all that was written is there (P0)
    file_sync_forces_names: bool
    truncates_before_unlink: bool

    def __str__(self) -> str:
        return self.name if self.name == "P0" else f"{self.name} {self.rename}"


def _rows(rename: Rename) -> tuple[Model, ...]:
    return (
        Model(
            name="P1",
            names="prefix",
            rename=rename,
            octets_lost=True,
            file_sync_forces_names=True,
            truncates_before_unlink=False,
        ),
        Model(
            name="P2",
            names="subset",
            rename=rename,
            octets_lost=True,
            file_sync_forces_names=True,
            truncates_before_unlink=True,
        ),
        Model(
            name="P3",
            names="subset",
            rename=rename,
            octets_lost=True,
            file_sync_forces_names=False,
            truncates_before_unlink=True,
        ),
    )


P0 = Model(
    name="P0",
    names="all",
    rename="atomic",
    octets_lost=False,
    file_sync_forces_names=True,
    truncates_before_unlink=False,
)
P1_ATOMIC, P2_ATOMIC, P3_ATOMIC = _rows("atomic")
P1_SPLIT, P2_SPLIT, P3_SPLIT = _rows("split")
MODELS = (P0, P1_ATOMIC, P1_SPLIT, P2_ATOMIC, P2_SPLIT, P3_ATOMIC, P3_SPLIT)
