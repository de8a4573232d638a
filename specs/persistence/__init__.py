"""What a POSIX file system may do across a crash, and whether a store survives it."""

from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot, Tree
from specs.persistence.protocols import CommitStore, Disk, Message, Op, Operation, Recovered

__all__ = [
    "CommitStore",
    "Disk",
    "Message",
    "ModelDisk",
    "Op",
    "Operation",
    "Recorded",
    "Recovered",
    "Snapshot",
    "Tree",
]
