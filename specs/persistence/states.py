"""A state that a crash leaves, and the memory of those that were made already (crash.py).

Losses are put into words only for a state that somebody asks about: what a file holds is remembered
with the *numbers of its changes*, which mean the same in every schedule; the state knows at which
places among the operations these changes are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from specs.persistence.model_disk import Recorded, Snapshot
from specs.persistence.names import NEW_LOST, OLD_LOST
from specs.persistence.octets import CHANGES, TRUNCATED, Contents, Loss


class Choices:
    """What one file may hold: contents, each with the fewest losses that lead to it, told by the
    number of the file's change. Compared by identity: equal ones are one (`Merged.choices`).
    """

    __slots__ = ("every", "few", "many")

    def __init__(self, every: Contents, few: Contents) -> None:
        self.every = tuple(every.items())
        self.few = tuple(few.items())
        self.many = len(every)


Chosen = tuple[bytes, tuple[Loss, ...]]
_Block = tuple[object, ...]


@dataclass(slots=True)
class Merged:
    """What was made already, and needs not be made again: shared by the runs of one workload."""

    states: dict[Snapshot, list[frozenset[str]]] = field(default_factory=dict)
    blocks: dict[_Block, list[frozenset[str]]] = field(default_factory=dict)
    choices: dict[object, Choices] = field(default_factory=dict)
    octets: dict[bytes, bytes] = field(default_factory=dict)

    def of_other_names(self) -> Merged:
        """For another model: octets do not depend on it, states do."""
        return Merged(choices=self.choices, octets=self.octets)


def is_news(known: list[frozenset[str]], acknowledged: frozenset[str]) -> bool:
    """Whether nobody was here with as much acknowledged; then that is noted."""
    for before in known:
        if acknowledged <= before:
            return False
    known.append(acknowledged)
    return True


class CrashState:
    """A disk after a crash, the tokens acknowledged before it, and what was lost on the way.

    cut: how many of the operations had completed.
    """

    __slots__ = ("_chosen", "_lost", "_numbers", "acknowledged", "cut", "operations", "snapshot")

    def __init__(
        self,
        snapshot: Snapshot,
        acknowledged: frozenset[str],
        cut: int,
        operations: Sequence[Recorded],
        lost: tuple[Loss, ...],
        chosen: tuple[Chosen, ...] = (),
        numbers: tuple[tuple[int, ...], ...] = (),
    ) -> None:
        """lost: of the names; chosen: the content of each file; numbers: its changes, by their
        place among the operations (the last stands for the one that truncated it).
        """
        self.snapshot = snapshot
        self.acknowledged = acknowledged
        self.cut = cut
        self.operations = operations
        self._lost = lost
        self._chosen = chosen
        self._numbers = numbers

    @property
    def losses(self) -> tuple[Loss, ...]:
        """(index of an operation, what became of it)."""
        torn = [
            (numbers[change], what)
            for (_, losses), numbers in zip(self._chosen, self._numbers, strict=True)
            for change, what in losses
        ]
        return (*self._lost, *torn)

    @property
    def tree(self) -> dict[str, bytes]:
        return self.snapshot.tree

    def witness(self) -> list[str]:
        """What became of the operations that did not survive, in order, for people."""
        cut, losses = self.told()
        story = [f"{self.operations[index]}: {loss}" for index, loss in losses]
        return [f"crash after: {self.operations[cut - 1] if cut else 'nothing'}", *story]

    def told(self) -> tuple[int, list[Loss]]:
        """The cut and the losses, as short as they can be told.

        Operations at the end that were lost altogether might as well not have happened yet; and
        what an operation did to a file that has no name left is lost with the file.
        """
        stories: dict[int, list[str]] = {}
        for index, what in sorted(self.losses):
            stories.setdefault(index, []).append(what)
        gone = self._gone(stories)
        cut = self.cut
        while cut and self._lost_altogether(cut - 1, stories.get(cut - 1, []), gone):
            cut -= 1
        found = []
        for index, each in stories.items():
            if index < cut:  # of an emptied file, it is said that its name is still there
                kept = [what for what in each if what != "lost" or TRUNCATED not in each]
                found += [(index, what) for what in kept]
        return cut, found

    def _gone(self, stories: Mapping[int, list[str]]) -> set[int]:
        """Files that were made, and have no name left because all that gave them one was lost."""
        kept: set[int] = set()
        lost: set[int] = set()
        for index, operation in enumerate(self.operations[: self.cut]):
            if operation.kind in {"create", "link", "rename"}:
                unnamed = {"lost", NEW_LOST} & {*stories.get(index, ())}
                (lost if unnamed else kept).add(operation.inode)
        return lost - kept

    def _lost_altogether(self, index: int, stories: list[str], gone: set[int]) -> bool:
        """Every unit of this operation was lost; a sync or a reply never is."""
        operation = self.operations[index]
        if TRUNCATED in stories:
            return False
        if "lost" in stories or (operation.kind in CHANGES and operation.inode in gone):
            return True
        return operation.kind == "rename" and {NEW_LOST, OLD_LOST} <= set(stories)
