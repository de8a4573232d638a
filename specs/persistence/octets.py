"""What a file may hold after a crash: the octets, given what was forced.

An append that no completed sync forced may be absent, or its size may be there with zeros, garbage
or data in it, slice by slice; an absent write under a later one that survived is a hole, and reads
as zeros. All fates of all writes are combined, with each write as *one* slice (`coarse`); on top of
that, with `fine`, each write in turn is cut at its first octet, its middle and at multiples of 4096
octets in the file, while the other writes stay in one slice. Cutting them all at once would cost
three to the power of the slices and tell nothing new of records that are checked one by one.

An overwrite changes octets that were there already: the file keeps its size and its blocks, so that
each slice of it holds the old octets or the new ones, and never zeros or garbage.

Garbage is noise, or the remains of another file (`stale`): blocks freed by an old message and given
to the new one hold *valid* records of an old message, at the right places.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product

from specs.persistence.model_disk import Recorded

Loss = tuple[int, str]
"""What became of one operation: its index, and what happened to it."""

Contents = dict[bytes, tuple[Loss, ...]]
"""Each possible content, and the fewest losses that lead to it."""

CHANGES = frozenset({"write", "overwrite", "truncate"})
"""The operations that change a file's octets."""

TRUNCATED = "its file is empty, and still there"
"""What may become of the removal of a last name: the octets went before the name did."""

MAXIMUM_SLICES = 5
_NOISE = random.Random(8_003).randbytes(1 << 16)  # noqa: S311  (fixed on purpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tearing:
    """How finely writes are torn, and what garbage looks like.

    `stale` is the octets of a file whose blocks were freed before; b"" means noise.
    """

    fine: bool = False
    stale: bytes = b""

    def garbage(self, offset: int, size: int) -> bytes:
        """What blocks hold that were allocated and never written."""
        remains = self.stale[offset : offset + size]
        start = offset % (len(_NOISE) // 2)
        noise = (_NOISE[start:] * (1 + size // (len(_NOISE) // 2)))[:size]
        return remains + noise[len(remains) :]


COARSE = Tearing()
FINE = Tearing(fine=True)


@dataclass(frozen=True, slots=True)
class _Fate:
    """`payload` lands at the write's offset; None: the write has left no trace at all. `skipped`:
    octets at its start that were not changed.
    """

    payload: bytes | None
    loss: str
    skipped: int = 0


def boundaries(offset: int, size: int) -> list[int]:
    """Where a write of `size` octets at `offset` is cut, when it is cut finely."""
    first_block = 4096 - offset % 4096
    found = {1, size // 2, *range(first_block, size, 4096)}
    inside = sorted(cut for cut in found if 0 < cut < size)
    return [0, *inside[: MAXIMUM_SLICES - 1], size]


def _fates(write: Recorded, tearing: Tearing, *, fine: bool) -> list[_Fate]:
    """All that may become of one write, the least loss first."""
    if write.kind == "overwrite":
        return list(_fates_in_place(write, fine=fine))
    size = len(write.data)
    edges = boundaries(write.offset, size) if fine else [0, size]
    slices = list(pairwise(edges))
    fates = [_Fate(write.data, "")]
    for count in range(len(slices), 0, -1):
        for kinds in product(("data", "zeros", "garbage"), repeat=count):
            if count == len(slices) and set(kinds) == {"data"}:
                continue
            fates.append(_fate(write, tearing, slices[:count], kinds))
    fates.append(_Fate(None, "lost"))
    return fates


def _fates_in_place(write: Recorded, *, fine: bool) -> Iterator[_Fate]:
    """Old octets or new ones. If it is cut, one run of slices is new: a part from its start, from
    its middle or up to its end.
    """
    size = len(write.data)
    edges = boundaries(write.offset, size) if fine else [0, size]
    yield _Fate(write.data, "")
    for start, end in combinations(edges, 2):
        if (start, end) != (0, size):
            yield _Fate(write.data[start:end], f"only [{start}:{end}]", start)
    yield _Fate(None, "lost")


def _fate(
    write: Recorded,
    tearing: Tearing,
    slices: Sequence[tuple[int, int]],
    kinds: Sequence[str],
) -> _Fate:
    parts, story = [], []
    for (start, end), kind in zip(slices, kinds, strict=True):
        if kind == "data":
            parts.append(write.data[start:end])
        elif kind == "zeros":
            parts.append(bytes(end - start))
        else:
            parts.append(tearing.garbage(write.offset + start, end - start))
        story.append(f"{kind} [{start}:{end}]")
    kept = slices[-1][1]
    if kept < len(write.data):
        story.append(f"nothing from {kept} on")
    return _Fate(b"".join(parts), ", ".join(story))


def apply(content: bytes, change: Recorded) -> bytes:
    """The content after a change that survived whole."""
    if change.kind == "truncate":
        return content[: change.offset].ljust(change.offset, b"\0")
    return place(content, change.offset, change.data)


def place(content: bytes, offset: int, payload: bytes) -> bytes:
    """Octets land at an offset; what is missing before it is a hole."""
    if len(content) == offset:
        return content + payload
    held = content.ljust(offset, b"\0")
    return held[:offset] + payload + held[offset + len(payload) :]


def contents(
    base: bytes,
    changes: Sequence[tuple[int, Recorded]],
    forced: frozenset[int],
    tearing: Tearing,
) -> Contents:
    """Everything that a file may hold, given its durable content and its later changes.

    `changes` are (index, write or truncate) in order; those whose index is in `forced` survive.
    """
    torn = [index for index, change in changes if index not in forced and change.kind != "truncate"]
    found = _combined(base, changes, forced, tearing, None)
    for index in torn if tearing.fine else ():
        for content, losses in _combined(base, changes, forced, tearing, index).items():
            found.setdefault(content, losses)
    return found


def _combined(
    base: bytes,
    changes: Sequence[tuple[int, Recorded]],
    forced: frozenset[int],
    tearing: Tearing,
    finely: int | None,
) -> Contents:
    """All combinations of fates; the write with index `finely` is cut into more slices."""
    found: Contents = {base: ()}
    for index, change in changes:
        after: Contents = {}
        for content, losses, result in _successors(
            found, index, change, forced, tearing, fine=index == finely
        ):
            known = after.get(content)
            lost = (*losses, (index, result)) if result else losses
            if known is None or len(lost) < len(known):
                after[content] = lost
        found = after
    return found


def _successors(
    found: Contents,
    index: int,
    change: Recorded,
    forced: frozenset[int],
    tearing: Tearing,
    *,
    fine: bool,
) -> Iterator[tuple[bytes, tuple[Loss, ...], str]]:
    if index in forced:
        for content, losses in found.items():
            yield apply(content, change), losses, ""
    elif change.kind == "truncate":
        for content, losses in found.items():
            yield apply(content, change), losses, ""
            yield content, losses, "lost"
    else:
        fates = _fates(change, tearing, fine=fine)
        for content, losses in found.items():
            for fate in fates:
                if fate.payload is None:
                    yield content, losses, fate.loss
                else:
                    at = change.offset + fate.skipped
                    yield place(content, at, fate.payload), losses, fate.loss


def representatives(
    base: bytes,
    changes: Sequence[tuple[int, Recorded]],
    forced: frozenset[int],
    tearing: Tearing,
) -> Contents:
    """A few telling contents: all, nothing, the first half, all zeros, all garbage."""
    unforced = [index for index, _ in changes if index not in forced]
    half = set(unforced[: len(unforced) // 2])
    found: Contents = {}
    for kind in ("data", "lost", "half", "zeros", "garbage"):
        content, losses = base, []
        for index, change in changes:
            kept = index in forced or kind == "data" or (kind == "half" and index in half)
            if kept:
                content = apply(content, change)
                continue
            losses.append((index, "lost" if kind == "half" else kind))
            if change.kind == "write" and kind in {"zeros", "garbage"}:
                size = len(change.data)
                fill = bytes(size) if kind == "zeros" else tearing.garbage(change.offset, size)
                content = place(content, change.offset, fill)
        found.setdefault(content, tuple(losses))
    return found


def prefixes(content: bytes, index: int, write: Recorded) -> Contents:
    """P0: the process was killed inside this write, of which a part was done."""
    found: Contents = {}
    for cut in boundaries(write.offset, len(write.data))[1:-1]:
        torn = place(content, write.offset, write.data[:cut])
        found[torn] = ((index, f"only the first {cut} octets"),)
    return found
