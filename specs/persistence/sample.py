"""One of the states that a crash may leave, by chance: for walks that are too long to enumerate.

`crash.py` makes every state of a short history. A refinement machine crashes after any of its
steps, again and again, and needs one state each time; here each loss is drawn on its own, so the
cost grows with the history and not with the number of states.

Rules
- The crash comes after the last operation; whoever wants an earlier one ends the history there.
- Every state made here is one of those that the model allows (models.py). The machine's disk
  completes an operation before it is cut off, and an operation that is not forced may be lost.
- `choose(n)` picks a number from 0 to n-1, and 0 always means "nothing lost here", so that a
  counterexample shrinks to the losses that matter.
- Writes are torn more finely than by `crash.COARSE`: a half may survive, with nothing, zeros or
  garbage behind it, for each write on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count

from specs.persistence.model_disk import PLAIN_MODE, Recorded, Snapshot, sparse
from specs.persistence.models import Model
from specs.persistence.names import DIRECTORY, Names, surviving, surviving_modes
from specs.persistence.octets import CHANGES, COARSE, TRUNCATED, Loss, apply, place
from specs.persistence.states import CrashState

Choose = Callable[[int], int]
Tell = Callable[[int, str], None]
"""Is told what became of which operation, if it did not survive whole."""


def power_cut(
    initial: Snapshot, operations: Sequence[Recorded], model: Model, choose: Choose
) -> Snapshot:
    """The disk after a crash that came when these operations were done."""
    return cut_short(initial, operations, model, choose).snapshot


def single_losses(
    initial: Snapshot, operations: Sequence[Recorded], model: Model
) -> Iterator[CrashState]:
    """The state in which nothing is lost, then each in which one operation is (or, where the model
    keeps operations in their order, all from one on), in each way that there is to lose it.
    """
    yield cut_short(initial, operations, model, lambda _: 0)
    # What a choice is about depends on those before it, of which none loses anything here.
    for number, ways in enumerate(_asked(initial, operations, model)):
        for way in range(1, ways):
            state = cut_short(initial, operations, model, _only_at(number, way))
            yield state
            if model.truncates_before_unlink and any(operations[n].last for n, _ in state.losses):
                yield cut_short(initial, operations, model, _only_at(number, way), emptied=True)


def _only_at(number: int, way: int) -> Choose:
    """Nothing is lost but at one choice."""
    turns = count()
    return lambda _: way if next(turns) == number else 0


def _asked(initial: Snapshot, operations: Sequence[Recorded], model: Model) -> list[int]:
    """How many ways each choice has, if nothing is lost."""
    asked: list[int] = []

    def choose(most: int) -> int:
        asked.append(most)
        return 0

    cut_short(initial, operations, model, choose)
    return asked


def cut_short(
    initial: Snapshot,
    operations: Sequence[Recorded],
    model: Model,
    choose: Choose,
    *,
    emptied: bool = False,
) -> CrashState:
    """The same, with what was lost.  emptied: each file whose last name was removed, and is there
    all the same, is empty if the model allows it; it is not chosen then.
    """
    names = Names.after(initial, model)
    for index, operation in enumerate(operations):
        names.feed(index, operation)
    lost = _lost_units(names, model, choose)
    losses: list[Loss] = [(names.units[each].operation, names.units[each].story) for each in lost]
    kept = _kept_names(initial, names, lost)
    modes = _kept_modes(initial, operations, names, lost)
    paths = tuple(sorted(path for path, inode in kept.items() if inode != DIRECTORY))
    held = {
        inode: _octets(
            initial,
            operations,
            inode,
            model,
            choose,
            lambda index, what: losses.append((index, what)),
            emptied=emptied,
        )
        for inode in dict.fromkeys(kept[path] for path in paths)
    }
    numbers = {inode: number for number, inode in enumerate(held, 1)}
    snapshot = Snapshot(
        paths,
        tuple(numbers[kept[path]] for path in paths),
        tuple(held[kept[path]] for path in paths),
        frozenset({"", *(path for path, inode in kept.items() if inode == DIRECTORY)}),
        sparse(tuple(modes[kept[path]] for path in paths)),
    )
    promised: frozenset[str] = frozenset()
    for each in operations:
        if each.kind == "reply":
            promised |= {each.path}
        elif each.kind == "release":
            promised -= {each.path}
    return CrashState(snapshot, promised, len(operations), operations, tuple(losses))


# -- names ----------------------------------------------------------------------------------------


def _lost_units(names: Names, model: Model, choose: Choose) -> tuple[int, ...]:
    free = [number for number in range(len(names.units)) if number not in names.forced]
    if model.names == "prefix":
        lost = set(free[len(free) - choose(len(free) + 1) :])
    else:
        lost = {number for number in free if choose(2)}
        for number, unit in enumerate(names.units):  # what it requires comes before it
            if unit.requires in lost and number not in names.forced:
                lost.add(number)
    return tuple(sorted(lost))


def _kept_names(initial: Snapshot, names: Names, lost: tuple[int, ...]) -> dict[str, int]:
    before = dict(zip(initial.paths, initial.inodes, strict=True))
    before |= {path: DIRECTORY for path in initial.directories if path}
    return surviving(before, names.units, lost)


def _kept_modes(
    initial: Snapshot, operations: Sequence[Recorded], names: Names, lost: tuple[int, ...]
) -> dict[int, int]:
    modes = initial.modes or (PLAIN_MODE,) * len(initial.inodes)
    made_with = dict(zip(initial.inodes, modes, strict=True))
    made_with |= {each.inode: each.mode for each in operations if each.kind == "create"}
    return surviving_modes(made_with, names.units, lost)


# -- octets ---------------------------------------------------------------------------------------


def _octets(
    initial: Snapshot,
    operations: Sequence[Recorded],
    inode: int,
    model: Model,
    choose: Choose,
    tell: Tell,
    *,
    emptied: bool,
) -> bytes:
    """What is left of one file."""
    content = dict(zip(initial.inodes, initial.contents, strict=True)).get(inode, b"")
    gone = _lost_its_last_name(operations, inode)
    if model.truncates_before_unlink and gone is not None and (choose(2) or emptied):
        tell(gone, TRUNCATED)
        return b""
    for index, change in enumerate(operations):
        if change.inode != inode or change.kind not in CHANGES:
            continue
        story = ""
        if _is_forced(operations, index, model):
            content = apply(content, change)
        elif change.kind == "truncate":
            fates: list[tuple[str, bytes]] = [("", apply(content, change)), ("lost", content)]
            story, content = fates[choose(2)]
        elif change.kind == "overwrite":
            story, content = _torn_in_place(content, change, choose)
        else:
            story, content = _torn(content, change, choose)
        if story:
            tell(index, story)
    return content


def _lost_its_last_name(operations: Sequence[Recorded], inode: int) -> int | None:
    """The first operation that removed its last name."""
    for index, each in enumerate(operations):
        if each.last and inode == (each.displaced if each.kind == "rename" else each.inode):
            return index
    return None


def _is_forced(operations: Sequence[Recorded], index: int, model: Model) -> bool:
    """Whether a sync that came later has made this write or truncation durable."""
    change = operations[index]
    if not model.octets_lost:
        return True
    metadata = change.kind == "truncate" and model.names == "prefix"
    return any(
        (later.kind == "sync" and later.inode == change.inode)
        or (metadata and later.kind in {"sync", "sync_dir"})
        for later in operations[index + 1 :]
    )


def _torn(content: bytes, write: Recorded, choose: Choose) -> tuple[str, bytes]:
    """The fate of one write: whole, lost, or up to three kinds of octets in its two halves."""
    half, size = len(write.data) // 2, len(write.data)
    first, second = write.data[:half], write.data[half:]
    garbage = COARSE.garbage(write.offset, size)
    fates: tuple[tuple[str, bytes | None], ...] = (
        ("", write.data),
        ("lost", None),
        ("only its first half", first),
        ("zeros", bytes(size)),
        ("garbage", garbage),
        ("zeros in its second half", first + bytes(size - half)),
        ("garbage in its second half", first + garbage[half:]),
        ("zeros in its first half", bytes(half) + second),
        ("only zeros in its first half", bytes(half)),
    )
    story, fate = fates[choose(len(fates))]
    return story, content if fate is None else place(content, write.offset, fate)


def _torn_in_place(content: bytes, change: Recorded, choose: Choose) -> tuple[str, bytes]:
    """The fate of one overwrite: new, old, or one of its halves new."""
    half, size = len(change.data) // 2, len(change.data)
    fates = (
        ("", 0, size),
        ("lost", 0, 0),
        ("only its first half", 0, half),
        ("only its second half", half, size),
    )
    story, start, end = fates[choose(4)]
    if start == end:
        return story, content
    return story, place(content, change.offset + start, change.data[start:end])
