"""What the disk itself allows: commit protocols in a bare loop, without a mail server around them.

A *commit* is one message of 4 KB made durable. A group shares the directory sync, and before its
first file sync it may start the write-back of every file, so that the device sees them all at once.

Protocols:
  final    create under the final name, write, sync the file, sync the directory
  rename   create under a temporary name, write, sync, rename, sync the directory
  maildir  create in tmp/, write, sync, rename into new/, sync new/
  unlink   as final, and the group's files are unlinked afterwards, unsynced, within the time
  log      append to one preallocated file, one sync per group: the floor, not a store

Variants run in shuffled rounds and the median counts, since other work on the machine comes and
goes. Every file is created anew and all are removed between the measurements, outside the time.
It does not show whether the device honours the flush: no benchmark can.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BODY = bytes(range(256)) * 16  # 4096 octets, as smtp-source -l 4096
PROTOCOLS = ("final", "rename", "maildir", "unlink", "log")
WRITEBACKS = ("none", "sync_file_range", "fadvise")
SYNCS = ("fsync", "fdatasync")
GROUPS = (1, 4, 10, 20)
SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: start write-out of dirty pages, don't wait
LOG_OCTETS = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to commit; `group` messages share a directory sync."""

    protocol: str
    group: int
    writeback: str = "none"
    sync: str = "fsync"

    def __str__(self) -> str:
        return f"{self.protocol:8} {self.writeback:16} {self.sync:10} group {self.group:3}"


def sync_file_range(handle: int) -> None:
    """Start the write-back of the whole file. Raises OSError."""
    offset, octets = ctypes.c_int64(0), ctypes.c_int64(0)
    if _libc.sync_file_range(handle, offset, octets, SYNC_FILE_RANGE_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "sync_file_range")


def fadvise(handle: int) -> None:
    """Start the write-back as a side effect of giving the pages up (Linux; not promised)."""
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def ignore(_handle: int) -> None:
    """No early write-back."""


START_WRITEBACK: dict[str, Callable[[int], None]] = {
    "none": ignore,
    "sync_file_range": sync_file_range,
    "fadvise": fadvise,
}
SYNC_FILE: dict[str, Callable[[int], None]] = {"fsync": os.fsync, "fdatasync": os.fdatasync}


def commit_group(variant: Variant, place: Path, names: list[str], final_directory: int) -> None:
    """Make one group durable, as the protocol orders it."""
    start, sync = START_WRITEBACK[variant.writeback], SYNC_FILE[variant.sync]
    temporary = variant.protocol in ("rename", "maildir")
    folder = place / ("tmp" if variant.protocol == "maildir" else "new")
    written = [folder / (f"t{name}" if temporary else name) for name in names]
    handles = []
    for path in written:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(handle, BODY)
        handles.append(handle)
    for handle in handles:
        start(handle)
    for handle in handles:
        sync(handle)
        os.close(handle)
    if temporary:
        for path, name in zip(written, names, strict=True):
            path.rename(place / "new" / name)
    os.fsync(final_directory)
    if variant.protocol == "unlink":
        for path in written:
            path.unlink()


def timed_files(variant: Variant, place: Path, count: int) -> float:
    """Commits per second of a protocol that makes files."""
    for name in ("tmp", "new"):
        (place / name).mkdir()
    directory = os.open(place / "new", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    names = [f"{number:08x}" for number in range(count)]
    begin = time.perf_counter()
    for first in range(0, count, variant.group):
        commit_group(variant, place, names[first : first + variant.group], directory)
    elapsed = time.perf_counter() - begin
    os.close(directory)
    return count / elapsed


def timed_log(variant: Variant, place: Path, count: int) -> float:
    """Commits per second of appending to a file whose blocks are already allocated and written."""
    handle = os.open(place / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(handle, b"\0" * max(LOG_OCTETS, count * len(BODY)))
    os.fsync(handle)
    os.lseek(handle, 0, os.SEEK_SET)
    sync = SYNC_FILE[variant.sync]
    begin = time.perf_counter()
    for _ in range(count // variant.group):
        os.write(handle, BODY * variant.group)
        sync(handle)
    elapsed = time.perf_counter() - begin
    os.close(handle)
    return count // variant.group * variant.group / elapsed


def measure(variant: Variant, directory: Path, count: int) -> float:
    """Commits per second of one variant in a fresh directory below `directory`."""
    place = Path(tempfile.mkdtemp(prefix="bench-disk-", dir=directory))
    try:
        timed = timed_log if variant.protocol == "log" else timed_files
        return timed(variant, place, count)
    finally:
        shutil.rmtree(place)
        os.sync()


def rounds(
    variants: list[Variant], directory: Path, count: int, number: int, seed: int
) -> Iterator[tuple[Variant, list[float]]]:
    """Each variant with its commits/s of every round; each round has an order of its own."""
    results: dict[Variant, list[float]] = {variant: [] for variant in variants}
    chance = random.Random(seed)  # noqa: S311
    for _ in range(number):
        for variant in chance.sample(variants, len(variants)):
            results[variant].append(measure(variant, directory, count))
    yield from results.items()


def median_ratio(rates: list[float], base: list[float]) -> float:
    """The median of the ratios of each round: drift over minutes cancels."""
    return statistics.median(one / other for one, other in zip(rates, base, strict=True))


def every_variant() -> list[Variant]:
    """The table that `python -m bench.disk` prints."""
    return [
        Variant(protocol=protocol, group=group, writeback=writeback, sync=sync)
        for protocol in PROTOCOLS
        for writeback in (WRITEBACKS if protocol != "log" else ("none",))
        for sync in SYNCS
        for group in GROUPS
        if not (protocol == "unlink" and (writeback == "fadvise" or sync == "fdatasync"))
    ]


def limit(directory: Path, number: int, seed: int, count: int = 300) -> dict[str, float]:
    """The disk's own limit for the report: median commits/s in sequence, and in groups of ten."""
    plain = Variant(protocol="final", group=1)
    grouped = Variant(protocol="final", group=10, writeback="sync_file_range")
    found = dict(rounds([plain, grouped], directory, count, number, seed))
    return {
        "in sequence": statistics.median(found[plain]),
        "in groups of 10": statistics.median(found[grouped]),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table of all variants: median and spread in commits/s."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.disk", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"))  # noqa: S108
    parser.add_argument("--count", type=int, default=100, help="commits per measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help='a regular expression, e.g. "final.*group +4"')
    options = parser.parse_args(arguments)
    variants = [variant for variant in every_variant() if re.search(options.only, str(variant))]
    if not variants:
        parser.error("no variant matches --only")
    print(f"{options.rounds} rounds of {options.count} commits, seed {options.seed}", flush=True)
    print(f"{'protocol':8} {'write-back':16} {'sync':10} {'':9} median    (lowest, highest)  ratio")
    found = dict(rounds(variants, options.directory, options.count, options.rounds, options.seed))
    for variant, rates in found.items():
        spread = f"({min(rates):6.0f}, {max(rates):6.0f})"
        ratio = median_ratio(rates, found[variants[0]])
        print(f"{variant} {statistics.median(rates):7.0f}/s {spread} {ratio:6.2f}")
    print("ratio: to the first line, round by round, median")
    return 0


if __name__ == "__main__":
    sys.exit(main())
