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

What makes it quick: names and the contents that each file may have make a *block*, all of whose
states differ in octets only. Cuts and schedules lead to the same block again and again; it is
looked up as one thing (`states.Merged`), and its states are counted, but not made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from math import prod

from specs.persistence.model_disk import PLAIN_MODE, Recorded, Snapshot, sparse
from specs.persistence.models import Model
from specs.persistence.names import DIRECTORY, Names, Unit, surviving, surviving_modes
from specs.persistence.octets import (
    CHANGES,
    COARSE,
    TRUNCATED,
    Contents,
    Loss,
    Tearing,
    apply,
    contents,
    prefixes,
    representatives,
)
from specs.persistence.states import Choices, Chosen, CrashState, Merged, is_news

LIMIT = 4_000
"""Combinations, per cut and choice of names, beyond which one file at a time is torn."""


_Metadata = tuple[tuple[tuple[str, int], ...], tuple[int, ...]]
"""(path, inode or DIRECTORY) in order, and the files' modes, if they are not all plain."""


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
    merged: Merged = field(default_factory=Merged)
    enumerated: int = 0
    exhaustive: bool = True
    _base: dict[int, bytes] = field(default_factory=dict)
    _initial_names: dict[str, int] = field(default_factory=dict)
    _made_with: dict[int, int] = field(default_factory=dict)  # inode: mode
    _changes: dict[int, list[tuple[int, Recorded]]] = field(default_factory=dict)

    def states(self) -> Iterator[CrashState]:
        """The states that are not merged yet; see the module on their order."""
        self._prepare()
        for point in reversed(self._points()):
            if not self._covered_later(point.cut):
                yield from self._at(point)

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
        lost: tuple[Loss, ...],
    ) -> Iterator[CrashState]:
        paths = tuple([path for path, inode in names.items() if inode != DIRECTORY])
        inodes = [names[path] for path in paths]
        directories = frozenset(["", *(path for path in names if names[path] == DIRECTORY)])
        numbers = {inode: number for number, inode in enumerate(dict.fromkeys(inodes), 1)}
        links = tuple([numbers[inode] for inode in inodes])
        choices, changes = [], []
        for inode in numbers:
            found, places = self._contents(point, inode)
            choices.append(found)
            changes.append(places)
        block = (paths, links, directories, modes, *map(id, choices))
        if not is_news(self.merged.blocks.setdefault(block, []), point.acknowledged):
            self.enumerated += self._number(choices)
            return
        known, acknowledged, told = self.merged.states, point.acknowledged, tuple(changes)
        for chosen in self._chosen(choices):
            self.enumerated += 1
            octets = tuple([chosen[link - 1][0] for link in links])
            snapshot = Snapshot(paths, links, octets, directories, modes)
            if is_news(known.setdefault(snapshot, []), acknowledged):
                yield CrashState(
                    snapshot, acknowledged, point.cut, self.operations, lost, chosen, told
                )

    def _is_small(self, choices: Sequence[Choices]) -> bool:
        """Whether all combinations are made."""
        undecided = [each.many for each in choices if each.many > 1]
        return prod(undecided) <= self.limit or len(undecided) == 1

    def _number(self, choices: Sequence[Choices]) -> int:
        """Of the states in a block."""
        if self._is_small(choices):
            return prod([each.many for each in choices])
        few = [len(each.few) for each in choices]
        return sum(
            each.many * prod(few[:number] + few[number + 1 :])
            for number, each in enumerate(choices)
        )

    def _chosen(self, choices: Sequence[Choices]) -> Iterator[tuple[Chosen, ...]]:
        """One content for each file, in all combinations or in the telling ones."""
        if self._is_small(choices):
            yield from product(*[each.every for each in choices])
            return
        self.exhaustive = False
        few = [each.few for each in choices]
        for number, each in enumerate(choices):
            yield from product(*few[:number], each.every, *few[number + 1 :])

    def _contents(self, point: _Point, inode: int) -> tuple[Choices, tuple[int, ...]]:
        """What a file may hold at this cut, and which operations its losses are about."""
        changes = [pair for pair in self._changes.get(inode, ()) if pair[0] < point.cut]
        kept = tuple([index in point.forced_octets for index, _ in changes])
        base = self._base.get(inode, b"")
        truncated = self._truncated(point, inode)
        progress = self._in_progress(point, inode)
        done = tuple([(each.kind, each.data, each.offset) for _, each in changes])
        key = (base, done, kept, truncated is None, progress, self.model.octets_lost)
        found = self.merged.choices.get(key)
        if found is None:
            loss: Contents = {}
            if truncated is not None:
                loss[b""] = ((len(changes), TRUNCATED),)
            intern = self.merged.octets.setdefault  # equal octets are then equal by identity
            every, few = (
                {intern(octets, octets): lost for octets, lost in (each | loss).items()}
                for each in self._choices(base, changes, kept, progress)
            )
            found = self.merged.choices[key] = Choices(every, few)
        last = truncated if truncated is not None else point.cut
        return found, (*[index for index, _ in changes], last)

    def _choices(
        self,
        base: bytes,
        changes: Sequence[tuple[int, Recorded]],
        kept: tuple[bool, ...],
        progress: Recorded | None,
    ) -> tuple[Contents, Contents]:
        """All contents, and the telling ones; losses by the number of the change."""
        numbered = [(number, change) for number, (_, change) in enumerate(changes)]
        if self.model.octets_lost:
            forced = frozenset(number for number, each in enumerate(kept) if each)
            return (
                contents(base, numbered, forced, self.tearing),
                representatives(base, numbered, forced, self.tearing),
            )
        held = reduce(lambda content, change: apply(content, change[1]), numbered, base)
        every: Contents = {held: ()}
        if progress is not None:
            every |= prefixes(held, len(numbered), progress)
        return every, every

    def _in_progress(self, point: _Point, inode: int) -> Recorded | None:
        """The write to this file that the process, under P0, did not finish."""
        if self.model.octets_lost or point.cut == len(self.operations):
            return None
        operation = self.operations[point.cut]
        written = operation.kind in {"write", "overwrite"} and operation.inode == inode
        return operation if written else None

    def _truncated(self, point: _Point, inode: int) -> int | None:
        """The operation that removed the last name, if a removal truncates: the file may be empty,
        and yet have a name on the disk.
        """
        if not self.model.truncates_before_unlink:
            return None
        for index, operation in enumerate(self.operations[: point.cut]):
            gone = operation.displaced if operation.kind == "rename" else operation.inode
            if operation.last and gone == inode:
                return index
        return None


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
