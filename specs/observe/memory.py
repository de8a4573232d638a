"""Which texts a process has in its memory, as root can read it in /proc/PID/mem.

Theory.  Only memory that is the process's own is searched: mappings that it may write to, or that
have no file behind them.  What is mapped from a file and can't be written is that file, which the
file system protects.  A mapping is read in pieces that overlap by the length of the longest text,
so that no text is cut in two; mappings that go away meanwhile, or that can't be read (device
memory, guard pages), are skipped.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

PIECE: Final = 1 << 20
#: The kernel's own, and those that fail with EIO.
_SKIPPED: Final = frozenset({"[vvar]", "[vsyscall]", "[vvar_vclock]", "[vdso]"})


def held(pid: int, texts: Iterable[bytes]) -> frozenset[bytes]:
    """Those of the texts that occur in a process's memory.  Raises OSError (it is gone, or not
    ours to read).
    """
    missing = {each for each in texts if each}
    found: set[bytes] = set()
    overlap = max(map(len, missing), default=1) - 1
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end in _own(pid):
            for piece in _pieces(memory, start, end, overlap):
                found |= {each for each in missing if each in piece}
                missing -= found
    finally:
        os.close(memory)
    return frozenset(found)


def overwrite(pid: int, old: bytes, new: bytes) -> int:
    """Put one text in the place of another wherever it occurs; how often it did.

    The texts have the same length.  A page that the process shares with its parent since a fork
    becomes its own by it.  Raises OSError, ValueError.
    """
    if len(old) != len(new) or not old:
        raise ValueError("the texts differ in length")
    places = 0
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        for start, end in _own(pid):
            with contextlib.suppress(OSError, OverflowError):
                octets, at = os.pread(memory, end - start, start), -1
                while (at := octets.find(old, at + 1)) >= 0:
                    places += os.pwrite(memory, new, start + at) == len(new)
    finally:
        os.close(memory)
    return places


def _own(pid: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the mappings to be searched."""
    for line in Path(f"/proc/{pid}/maps").read_text("utf-8", "replace").splitlines():
        addresses, mode, _offset, _device, inode, *path = line.split(maxsplit=5)
        if mode[0] != "r" or (path and path[0].strip() in _SKIPPED):
            continue
        if mode[1] == "w" or inode == "0":
            start, _, end = addresses.partition("-")
            yield int(start, 16), int(end, 16)


def _pieces(memory: int, start: int, end: int, overlap: int) -> Iterator[bytes]:
    while start < end:
        with contextlib.suppress(OSError, OverflowError):
            yield os.pread(memory, min(PIECE, end - start) + overlap, start)
        start += PIECE
