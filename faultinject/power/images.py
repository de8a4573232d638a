"""File systems in files, and the cut: one FICLONE of such a file while it is written to.

    place/memory   tmpfs (or the disk itself where memory is short)
      backing      a file; in it an xfs made with reflink=1, at
    place/store
      load         a file: the device of the file system under test, loop-mounted
      cut-0 ...    its clones

Rules a reader may rely on
- A clone is the device at one instant.  The ioctl excludes writes to the file while it runs
  (ioctl_ficlone(2); xfs takes the lock of the inode), so that each write of the loop device is in
  it or not, and no write that came after one that is missing is in it.
- What the file system had not yet written to its device is not in the clone: it is lost, as when
  the power fails.  Whether it had been synced is the server's business.

What it can't show is `BLIND`.  A table row for each file system; a new one is a row.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faultinject.namespaces import MountError, mounted, run

#: linux/fs.h, and its number on all machines but alpha, mips, powerpc and sparc.
FICLONE: Final = 0x40049409
#: What a cut by cloning can't show, said with every result.
BLIND: Final = (
    "a missing or disregarded flush of the device's own cache (all that reached the device counts"
    " as stored)",
    "sectors that are torn, and writes that the device itself reorders",
    "a missing sync of a directory for a new file whose contents were synced (all three force its"
    " name along with it)",
)
MEGABYTE: Final = 1 << 20
#: The xfs below; sparse.  With less memory than that to spare, it lies on the disk.
BACKING_OCTETS: Final = 8192 * MEGABYTE
LEAST_MEMORY_OCTETS: Final = 3072 * MEGABYTE
LOOPS: Final = Path("/dev/loop-control")
TOOLS: Final = ("mount", "umount", "mkfs.xfs")


class ImageError(Exception):
    """A file system can't be made or mounted here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A file system under test.  octets: its size; options: of mount.

    kernel: the oldest (major, minor) that can do it, because of `why`.
    """

    name: str
    make: tuple[str, ...]
    octets: int = 512 * MEGABYTE
    options: str = "loop"
    kernel: tuple[int, int] = (4, 16)
    why: str = "reflink on xfs"


KINDS: Final = {
    each.name: each
    for each in (
        Kind(name="ext4", make=("mkfs.ext4", "-q", "-F")),
        # each clone has the same uuid, which xfs refuses to mount twice unless told
        Kind(name="xfs", make=("mkfs.xfs", "-q", "-f"), options="loop,nouuid"),
        Kind(
            name="btrfs", make=("mkfs.btrfs", "-q", "-f"),
            kernel=(6, 7), why="clones of one btrfs mounted at once",
        ),
    )
}  # fmt: skip


def clone(source: Path, target: Path) -> None:
    """The cut.  target: not there yet.  Raises OSError."""
    with open(source, "rb") as old, open(target, "xb") as new:
        fcntl.ioctl(new.fileno(), FICLONE, old.fileno())


def kernel() -> tuple[int, int]:
    """(major, minor) of the running one."""
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)


def unavailable(kind: Kind) -> str | None:
    """Why it can't be tested here, as far as can be said without trying."""
    missing = [tool for tool in (*TOOLS, kind.make[0]) if _tool(tool) is None]
    if missing:
        return f"no {', '.join(dict.fromkeys(missing))}"
    if os.geteuid() != 0:
        return "not root: file systems can't be mounted"
    if not LOOPS.exists():
        return f"no {LOOPS}: there are no loop devices"
    if kernel() < kind.kernel:
        return f"{kind.why} needs Linux {kind.kernel[0]}.{kind.kernel[1]}"
    return None


def _tool(name: str) -> str | None:
    """Programs of file systems lie in sbin, which is not in everybody's path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def spare_octets(text: str) -> int:
    """Of memory, from /proc/meminfo."""
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where images and clones lie.  in_memory: else on the disk of the place."""

    directory: Path
    in_memory: bool

    def make(self, kind: Kind) -> Path:
        """A new, empty file system of that kind.  Raises ImageError."""
        image = self.directory / "load"
        _sparse(image, kind.octets)
        _try((_tool(kind.make[0]) or kind.make[0], *kind.make[1:], str(image)))
        return image


@contextmanager
def store(place: Path) -> Iterator[Store]:
    """In a mount namespace of the caller's own.  place: a directory on a disk.

    Raises ImageError.
    """
    spare = spare_octets(Path("/proc/meminfo").read_text(encoding="ascii"))
    in_memory = spare // 2 >= LEAST_MEMORY_OCTETS
    with ExitStack() as stack:
        try:
            below = place
            if in_memory:
                size = f"size={min(BACKING_OCTETS, spare // 2)},mode=0700"
                below = stack.enter_context(mounted("tmpfs", "none", place / "memory", size))
            backing = below / "backing"
            _sparse(backing, BACKING_OCTETS)
            _try((_tool("mkfs.xfs") or "mkfs.xfs", "-q", "-m", "reflink=1", str(backing)))
            # discard: what a removed clone held goes back to the memory
            at = stack.enter_context(mounted("xfs", backing, place / "store", "loop,discard"))
        except MountError as error:
            raise ImageError(str(error.strerror)) from None
        yield Store(directory=at, in_memory=in_memory)


@contextmanager
def attached(kind: Kind, image: Path, at: Path) -> Iterator[Path]:
    """An image, mounted: its log is replayed, as after a loss of power.  Raises ImageError."""
    with ExitStack() as stack:
        try:
            stack.enter_context(mounted(kind.name, image, at, kind.options))
        except MountError as error:
            raise ImageError(str(error.strerror)) from None
        if not _is_on(image, at):
            raise ImageError(f"{at} shows another device than {image.name}")
        yield at


def _is_on(image: Path, at: Path) -> bool:
    """Whether what is mounted there is this image, and no other with the same uuid."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if fields[4] == str(at):
            device = Path(fields[fields.index("-") + 2]).name
            told = Path(f"/sys/block/{device}/loop/backing_file")
            return told.read_text(encoding="utf-8").rstrip("\n").endswith(f"/{image.name}")
    return False


def _sparse(path: Path, octets: int) -> None:
    with open(path, "xb") as file:
        file.truncate(octets)


def _try(command: tuple[str, ...]) -> None:
    try:
        run(*command)
    except MountError as error:
        raise ImageError(str(error.strerror)) from None
