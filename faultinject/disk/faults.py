"""The table of disk faults: what fails, how it is made to fail, and why a disk may do so.

Each row names the calls that may fail so by their manual pages; a fault is *fair* only on a file of
the queue or of a mailbox (`calls.fair`), descriptors excepted.  Two kinds of rows:

    injected      strace puts the error in place of the call, at the N-th call of that name in each
                  thread of one kind of process; N = 1, 2, 3, ... until it exceeds the run
    real          nothing is put in place of anything: a file system without room, inodes, quota or
                  the right to write, a limit on descriptors, a write that the kernel was asked to
                  make shorter.  N counts what is left (blocks, inodes, descriptors), or the write

A fault comes *once*, or *for ever*: from the N-th call on, until the fault ends.

What no row can show: a device that says "synced" and has not.  And strace's errors leave the pages
dirty, so that a sync which is tried again looks safe: that is judged by `trust`, not by what is
found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from faultinject.tracing import ATTRIBUTES, NAMES, SYNCS, WRITES

Way = Literal["error", "delay", "short", "space", "inodes", "quota", "read-only", "descriptors"]

#: Calls that make a descriptor.
OPENS: Final = ("open", "openat", "openat2", "creat")
DESCRIPTORS: Final = (
    *OPENS, "accept", "accept4", "socket", "socketpair", "pipe", "pipe2", "dup", "epoll_create1",
    "eventfd2", "memfd_create",
)  # fmt: skip
READS: Final = ("read", "readv", "pread64", "preadv", "getdents64", "copy_file_range", "sendfile")
#: Calls that take a new name, and with it room.
NEW_NAMES: Final = (
    "rename", "renameat", "renameat2", "link", "linkat", "mkdir", "mkdirat", "symlink", "symlinkat",
)  # fmt: skip
#: Everything that is watched: what may fail, and what the judge of syncs follows.
WATCHED: Final = (*WRITES, *SYNCS, *NAMES, *ATTRIBUTES, *OPENS)
SLOW_S: Final = 0.5
#: Calls that the kernel can be asked to make shorter (`shorten`).
SHORTENED: Final = ("write", "pwrite64", "writev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A row.  error: what the call says, or what a real fault makes it say.  calls: which.
    anywhere: fair on whatever the call is about, not only on files of the mail.
    """

    name: str
    way: Way
    why: str
    error: str = ""
    calls: tuple[str, ...] = ()
    forever: bool = False
    anywhere: bool = False

    @property
    def injected(self) -> bool:
        """Whether strace makes it."""
        return self.way in ("error", "delay")


_ROOM: Final = (*WRITES, *SYNCS, *NEW_NAMES, *OPENS, "fallocate")
_ALL: Final = (*WRITES, *SYNCS, *NAMES, *OPENS, *READS, "ftruncate", "fallocate", "fchmod")
_CHANGES: Final = (*NAMES, *ATTRIBUTES)
#: With these errors any call that opens may fail; with others only one that creates or writes.
ANY_OPEN: Final = frozenset({"EIO", "EMFILE", "ENFILE", "EINTR"})


def _both(error: str, calls: tuple[str, ...], why: str) -> tuple[Fault, Fault]:
    name = error.lower()
    return (
        Fault(name=name, way="error", error=error, calls=calls, why=why),
        Fault(name=f"{name}-forever", way="error", error=error, calls=calls, why=why, forever=True),
    )


_FAULTS: Final = (
    *_both("EIO", _ALL, "a medium that fails: write(2), fsync(2), rename(2), open(2), read(2)"),
    *_both("ENOSPC", _ROOM, "no room: write(2), open(2), link(2); with late allocation fsync(2)"),
    *_both("EDQUOT", _ROOM, "a quota: as no room, for one user"),
    Fault(name="emfile", way="error", error="EMFILE", calls=DESCRIPTORS, anywhere=True,
          why="the process has too many descriptors: open(2), accept(2), socket(2)"),
    *(
        Fault(name=f"enfile{end}", way="error", error="ENFILE", calls=DESCRIPTORS, anywhere=True,
              forever=bool(end), why="the machine has too many open files: open(2), accept(2)")
        for end in ("", "-forever")
    ),
    Fault(name="eintr", way="error", error="EINTR", calls=(*WRITES, *SYNCS, *READS, *OPENS),
          why="a signal came first: write(2), read(2), open(2), fsync(2); then nothing was done"),
    Fault(name="erofs", way="error", error="EROFS", calls=_CHANGES, forever=True,
          why="a file system that turns read-only after an error: rename(2), unlink(2)"),
    Fault(name="slow-sync", way="delay", calls=SYNCS, forever=True,
          why=f"a disk that is busy: each sync takes {SLOW_S * 1000:.0f} ms"),
    *(
        Fault(name=f"short-write{end}", way="short", calls=SHORTENED, forever=bool(end),
              why="write(2): fewer octets may be written, for lack of room or by a signal")
        for end in ("", "-forever")
    ),
    Fault(name="full-disk", way="space", error="ENOSPC", forever=True,
          why="a file system with N blocks left"),
    Fault(name="no-inodes", way="inodes", error="ENOSPC", forever=True,
          why="a file system that can hold N files more"),
    Fault(name="quota", way="quota", error="EDQUOT", forever=True,
          why="a subvolume that may hold N times 16 KiB more"),
    Fault(name="read-only", way="read-only", error="EROFS", forever=True,
          why="the file system is mounted read-only by its operator"),
    Fault(name="few-descriptors", way="descriptors", error="EMFILE", anywhere=True, forever=True,
          calls=DESCRIPTORS, why="RLIMIT_NOFILE leaves each process N descriptors more"),
)  # fmt: skip
#: By name, in the order in which they are run.
FAULTS: Final = {row.name: row for row in _FAULTS}
