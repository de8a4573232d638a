"""Every state that a crash may leave on the disk, each one once.

Theory. A *cut* is the moment of the crash: the first `cut` operations have completed. What may be
left is a choice of names and modes (names.py) times a choice of octets for each file with a name
(octets.py); files without a name are gone, so their octets are not enumerated. Equal states are
merged by value, whichever cut or loss led to them; the state that is kept has the fewest losses
within its cut. Cuts are visited from the last to the first, because the later one promises more
acknowledged messages; a state is produced again only if another set of messages was acknowledged.

Under P1 to P3 an operation that completed and was not forced may be lost or torn as if it had been
in progress, so only those cuts are looked at after which something is forced or released, and the
last one. Under P0 every cut counts, and a write in progress leaves a prefix.

If several files with a name hold octets that are not forced, all combinations are made as long as
there are at most `limit` of them; beyond that *one file at a time* takes all its contents while the
others take a few telling ones. `Enumeration.exhaustive` says which it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product

from specs.persistence.model_disk import PLAIN_MODE, Recorded, Snapshot, sparse
from specs.persistence.models import Model
from specs.persistence.names import (
    DIRECTORY,
    NEW_LOST,
    OLD_LOST,
    Names,
    Unit,
    surviving,
    surviving_modes,
)
from specs.persistence.octets import (
    CHANGES,
    COARSE,
    Contents,
    Loss,
    Tearing,
    apply,
    contents,
    prefixes,
    representatives,
)

LIMIT = 4_000
"""Combinations, per cut and choice of names, beyond which one file at a time is torn."""


_Metadata = tuple[tuple[tuple[str, int], ...], tuple[int, ...]]
"""(path, inode or DIRECTORY) in order, and the files' modes, if they are not all plain."""


@dataclass(frozen=True, slots=True)
class CrashState:
    """A disk after a crash, the tokens acknowledged before it, and what was lost on the way."""

    snapshot: Snapshot
    acknowledged: frozenset[str]
    cut: int
    operations: Sequence[Recorded]
    losses: tuple[Loss, ...]

    @property
    def tree(self) -> dict[str, bytes]:
        return self.snapshot.tree

    def witness(self) -> list[str]:
        """What became of the operations that did not survive, in order, for people.

        Operations at the end that were lost altogether might as well not have happened yet.
        """
        losses, cut = list(self.losses), self.cut
        while cut and self._lost_altogether(cut - 1):
            cut -= 1
            losses = [loss for loss in losses if loss[0] != cut]
        story = [f"{self.operations[index]}: {loss}" for index, loss in sorted(losses)]
        return [f"crash after: {self.operations[cut - 1] if cut else 'nothing'}", *story]

    def _lost_altogether(self, index: int) -> bool:
        """Every unit of this operation was lost; a sync or a reply never is."""
        operation = self.operations[index]
        stories = [loss for lost, loss in self.losses if lost == index]
        if "lost" in stories:
            return True
        return operation.kind == "rename" and {NEW_LOST, OLD_LOST} <= set(stories)


@dataclass(slots=True)
class _Point:
    """What is known at one cut."""

    cut: int
    names: Names
    number_of_units: int
    forced_names: frozenset[int]
    forced_octets: frozenset[int]
    acknowledged: frozenset[str]


@dataclass(slots=True)
class Enumeration:
    """Iterate `states()` once; the counters are right when it has ended."""

    initial: Snapshot
    operations: Sequence[Recorded]
    model: Model
    tearing: Tearing = COARSE
    acknowledged: frozenset[str] = frozenset()  # before the first operation
    limit: int = LIMIT
    enumerated: int = 0
    exhaustive: bool = True
    _base: dict[int, bytes] = field(default_factory=dict)
    _initial_names: dict[str, int] = field(default_factory=dict)
    _made_with: dict[int, int] = field(default_factory=dict)  # inode: mode
    _changes: dict[int, list[tuple[int, Recorded]]] = field(default_factory=dict)
    _known: dict[tuple[int, int, frozenset[int]], tuple[Contents, Contents]] = field(
        default_factory=dict
    )
    _interned: dict[bytes, bytes] = field(default_factory=dict)

    def states(self) -> Iterator[CrashState]:
        """The distinct states; see the module on their order."""
        seen: dict[object, list[frozenset[str]]] = {}
        self._prepare()
        for point in reversed(self._points()):
            if self._covered_later(point.cut):
                continue
            for state in self._at(point):
                self.enumerated += 1
                snapshot = state.snapshot
                parts = (snapshot.paths, snapshot.contents, snapshot.inodes, snapshot.directories)
                earlier = seen.setdefault((*parts, snapshot.modes), [])
                if not any(state.acknowledged <= known for known in earlier):
                    earlier.append(state.acknowledged)
                    yield state

    def _covered_later(self, cut: int) -> bool:
        """Whether every state of this cut is one of the next cut, with no less acknowledged."""
        if cut == len(self.operations) or not self.model.octets_lost:
            return False
        return self.operations[cut].kind not in {"sync", "sync_dir", "release"}

    # ---- reading the operations -----------------------------------------------------------

    def _prepare(self) -> None:
        self._base = dict(zip(self.initial.inodes, self.initial.contents, strict=True))
        self._initial_names = dict(zip(self.initial.paths, self.initial.inodes, strict=True))
        self._initial_names |= {path: DIRECTORY for path in self.initial.directories if path}
        modes = self.initial.modes or (PLAIN_MODE,) * len(self.initial.inodes)
        self._made_with = dict(zip(self.initial.inodes, modes, strict=True))
        for index, operation in enumerate(self.operations):
            if operation.kind == "create":
                self._made_with[operation.inode] = operation.mode
            if operation.kind in CHANGES:
                self._changes.setdefault(operation.inode, []).append((index, operation))

    def _points(self) -> list[_Point]:
        names = Names.after(self.initial, self.model)
        octets: frozenset[int] = frozenset()
        acknowledged = self.acknowledged
        points = [_Point(0, names, 0, frozenset(), octets, acknowledged)]
        for index, operation in enumerate(self.operations):
            names.feed(index, operation)
            octets |= self._forced_by(index, operation)
            if operation.kind == "reply":
                acknowledged |= {operation.path}
            elif operation.kind == "release":
                acknowledged -= {operation.path}
            points.append(
                _Point(index + 1, names, len(names.units), names.forced, octets, acknowledged)
            )
        return points

    def _forced_by(self, index: int, operation: Recorded) -> frozenset[int]:
        """The writes and truncations that this operation makes durable."""
        if not self.model.octets_lost:
            return frozenset({index})
        if operation.kind not in {"sync", "sync_dir"}:
            return frozenset()
        return frozenset(
            earlier
            for inode, changes in self._changes.items()
            for earlier, change in changes
            if earlier < index
            and (
                (operation.kind == "sync" and inode == operation.inode)
                or (self.model.names == "prefix" and change.kind == "truncate")
            )
        )

    # ---- making the states ----------------------------------------------------------------

    def _at(self, point: _Point) -> Iterator[CrashState]:
        units = point.names.units[: point.number_of_units]
        view = Names(self.model, list(units), point.forced_names)
        if view.ways() > self.limit:
            self.exhaustive = False
        fewest: dict[_Metadata, tuple[int, tuple[int, ...]]] = {}
        for lost in view.survivors(self.limit):
            metadata = self._metadata(units, lost)
            known = fewest.get(metadata)
            cost = _cost(lost, len(units))
            if known is None or cost < known[0]:
                fewest[metadata] = (cost, lost)
        for (names, modes), (_, lost) in fewest.items():
            losses = tuple((units[number].operation, units[number].story) for number in lost)
            yield from self._with_octets(point, dict(names), modes, losses)

    def _metadata(self, units: Sequence[Unit], lost: tuple[int, ...]) -> _Metadata:
        """What is left of the names, and of the modes of the files that they name."""
        names = tuple(sorted(surviving(self._initial_names, units, lost).items()))
        known = surviving_modes(self._made_with, units, lost)
        modes = tuple([known[inode] for _, inode in names if inode != DIRECTORY])
        return names, sparse(modes)

    def _with_octets(
        self,
        point: _Point,
        names: Mapping[str, int],
        modes: tuple[int, ...],
        losses: tuple[Loss, ...],
    ) -> Iterator[CrashState]:
        paths = tuple(path for path, inode in names.items() if inode != DIRECTORY)
        inodes = tuple(names[path] for path in paths)
        directories = frozenset({"", *(path for path in names if names[path] == DIRECTORY)})
        numbers = {inode: number for number, inode in enumerate(dict.fromkeys(inodes), 1)}
        links = tuple(numbers[inode] for inode in inodes)
        for chosen in self._choices(point, tuple(numbers)):
            octets = tuple(chosen[numbers[inode] - 1][0] for inode in inodes)
            torn = tuple(loss for _, file_losses in chosen for loss in file_losses)
            yield CrashState(
                Snapshot(paths, links, octets, directories, modes),
                point.acknowledged,
                point.cut,
                self.operations,
                losses + torn,
            )

    def _choices(
        self, point: _Point, inodes: Sequence[int]
    ) -> Iterator[tuple[tuple[bytes, tuple[Loss, ...]], ...]]:
        """One content for each inode, in all combinations or in the telling ones."""
        every, few = [], []
        for inode in inodes:
            full, telling = self._contents(point, inode)
            truncated = self._truncated(point, inode)
            every.append(list((full | truncated).items()))
            few.append(list((telling | truncated).items()))
        undecided = [choices for choices in every if len(choices) > 1]
        combinations = reduce(lambda total, choices: total * len(choices), undecided, 1)
        if combinations <= self.limit or len(undecided) == 1:
            yield from product(*every)
            return
        self.exhaustive = False
        for number, choices in enumerate(every):
            yield from product(*few[:number], choices, *few[number + 1 :])

    def _contents(self, point: _Point, inode: int) -> tuple[Contents, Contents]:
        """All contents of a file at this cut, and the telling ones."""
        changes = [
            (index, change) for index, change in self._changes.get(inode, ()) if index < point.cut
        ]
        forced = point.forced_octets & {index for index, _ in changes}
        key = (inode, len(changes) if not self._in_progress(point, inode) else -point.cut, forced)
        if key not in self._known:
            base = self._base.get(inode, b"")
            if self.model.octets_lost:
                found = (
                    contents(base, changes, forced, self.tearing),
                    representatives(base, changes, forced, self.tearing),
                )
            else:
                held = reduce(lambda content, change: apply(content, change[1]), changes, base)
                every: Contents = {held: ()}
                if self._in_progress(point, inode):
                    every |= prefixes(held, point.cut, self.operations[point.cut])
                found = (every, every)
            intern = self._interned.setdefault  # equal octets are then found equal by identity
            self._known[key] = (
                {intern(content, content): losses for content, losses in found[0].items()},
                {intern(content, content): losses for content, losses in found[1].items()},
            )
        return self._known[key]

    def _in_progress(self, point: _Point, inode: int) -> bool:
        """Whether P0 has a write to this file that the process did not finish."""
        if self.model.octets_lost or point.cut == len(self.operations):
            return False
        operation = self.operations[point.cut]
        return operation.kind in {"write", "overwrite"} and operation.inode == inode

    def _truncated(self, point: _Point, inode: int) -> Contents:
        """Empty, if the last name was removed, and yet a name is still on the disk."""
        if not self.model.truncates_before_unlink:
            return {}
        for index, operation in enumerate(self.operations[: point.cut]):
            gone = operation.displaced if operation.kind == "rename" else operation.inode
            if operation.last and gone == inode:
                return {b"": ((index, "truncated only"),)}
        return {}


def _cost(lost: tuple[int, ...], units: int) -> int:
    """How many losses it takes to tell; the last units, if lost, had not happened yet."""
    cost = len(lost)
    while cost and lost[cost - 1] == units - 1:
        cost, units = cost - 1, units - 1
    return cost


def crash_states(
    initial: Snapshot,
    operations: Sequence[Recorded],
    model: Model,
    *,
    tearing: Tearing = COARSE,
    acknowledged: frozenset[str] = frozenset(),
    limit: int = LIMIT,
) -> Iterator[CrashState]:
    """The distinct states; use Enumeration where the counters are wanted."""
    return Enumeration(
        initial, operations, model, tearing=tearing, acknowledged=acknowledged, limit=limit
    ).states()
