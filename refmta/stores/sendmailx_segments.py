"""The segments of sendmail X's log on the disk: read once, appended to, begun anew.

    append      one write, and one sync if somebody waits for it
    roll        another segment, when the last one is long, or nothing can be appended to it

Rules a reader may rely on
- A segment to which a write or a sync has failed, or whose end a crash has torn, is never appended
  to again: what would follow might stand behind octets that no reader gets past.
- A new segment is durable before the old ones go; it begins with a snapshot, which voids them.  If
  it can't be made, the old ones stay, and nothing is appended anywhere until one can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from refmta.patterns.unique_atomic_chunks import Disk, Op
from refmta.stores.sendmailx_log import Entry, Segment, living, read_segment, snapshot_record

IBDB: Final = "ibdb"
#: A segment longer than this is followed by another, in octets.
SEGMENT_OCTETS: Final = 4 << 20


def segment_path(number: int) -> str:
    """Where a segment lies."""
    return f"{IBDB}/{number:08}"


def group_plan(path: str, octets: bytes, names: Sequence[str]) -> list[Op]:
    """Append the records of a group: one write, one sync, then every reply.  Without anybody who
    waits for it: no sync.
    """
    plan = [Op("write", path, octets)]
    return [*plan, Op("sync", path), *(Op("reply", name) for name in names)] if names else plan


def roll_plan(old: Sequence[str], path: str, snapshot: bytes) -> list[Op]:
    """Begin another segment.  It voids the old ones by its first record, so it is durable before
    they go.
    """
    return [
        Op("create", path),
        Op("write", path, snapshot),
        Op("sync", path),
        Op("sync_dir", IBDB),
        *(Op("unlink", each) for each in old),
    ]


class Segments:
    """The log.  entries: what is alive by it; freed: what it says is done."""

    __slots__ = (
        "_before_roll", "_broken", "_disk", "_end", "_handle", "_path", "entries", "freed",
        "unsynced",
    )  # fmt: skip

    def __init__(self, disk: Disk, before_roll: Callable[[], None] = lambda: None) -> None:
        """before_roll: makes durable what makes `freed` needless; raises OSError."""
        self._disk, self._before_roll = disk, before_roll
        self._handle: int | None = None
        self._path = ""
        self._end = 0
        self._broken = False
        self.unsynced = False
        self.entries: dict[str, Entry] = {}
        self.freed: set[str] = set()

    def read(self) -> None:
        """What the disk says, for whoever only looks.  Raises OSError."""
        self._take(list(self._segments()))

    def open(self, done: frozenset[str] = frozenset()) -> None:
        """What the disk says, for whoever will append; `done` are alive no more.  Leaves one whole
        segment, or none, and changes nothing if it is so already.  Raises OSError.
        """
        segments = list(self._segments())
        self._take(segments)
        for queue_id in done:
            self.entries.pop(queue_id, None)
        whole = [segment for _, segment in segments if segment.started and not segment.torn]
        if segments and len(whole) == len(segments) == 1 and not self.freed and not done:
            self._handle = self._disk.open_append(self._path)
        elif segments:
            self.roll()

    def remove(self) -> None:
        """Nothing is alive, so there need be no log until something is.  Raises OSError."""
        paths = self._paths()
        if self.entries or not paths:
            return
        self.close()
        self._before_roll()
        for path in paths:
            self._disk.unlink(path)
        self._disk.sync_dir(IBDB)  # before anybody removes what it spoke of
        self.freed = set()
        self._end, self.unsynced = 0, False

    def _take(self, segments: Sequence[tuple[str, Segment]]) -> None:
        found = living(segments)
        if found is not None:
            self._path, segment = found
            self.entries, self.freed, self._end = segment.entries, segment.freed, segment.end

    def _paths(self) -> list[str]:
        names = self._disk.listdir(IBDB)
        return sorted([f"{IBDB}/{name}" for name in names if name.isascii() and name.isdecimal()])

    def _segments(self) -> Iterator[tuple[str, Segment]]:
        for path in self._paths():
            handle = self._disk.open_read(path)
            try:
                octets = self._disk.read(handle, self._disk.size(handle), 0)
            finally:
                self._disk.close(handle)
            yield path, read_segment(octets)

    def append(self, octets: bytes, names: Sequence[str] = ()) -> None:
        """Records; durable if `names` wait for them.  Raises OSError."""
        if self._handle is None or self._broken or self._end > SEGMENT_OCTETS:
            self.roll()
        plan = group_plan(self._path, octets, names)
        handle = self._required()
        try:
            for op in plan:
                if op.kind == "write":
                    self._disk.write(handle, octets)
                elif op.kind == "sync":
                    self._disk.sync(handle)
        except OSError:
            self._broken = True
            with suppress(OSError):  # nobody was promised it; if it comes back, nothing is lost
                self._disk.truncate(handle, self._end)
            raise
        self._end += len(octets)
        self.unsynced = not names

    def sync(self) -> None:
        """Of what nobody waited for.  Raises OSError."""
        if self._handle is None or not self.unsynced:
            return
        if self._broken:
            self.roll()
            return
        try:
            self._disk.sync(self._handle)
        except OSError:
            self._broken = True
            raise
        self.unsynced = False

    def roll(self) -> None:
        """Begin another segment.  Raises OSError."""
        self._before_roll()
        old = self._paths()
        number = 1 + max([int(path.rpartition("/")[2]) for path in old], default=0)
        snapshot = snapshot_record(self.entries)
        path, handle = segment_path(number), -1
        try:
            for op in roll_plan(old, path, snapshot):
                match op.kind:
                    case "create":
                        handle = self._disk.create(path)
                    case "write":
                        self._disk.write(handle, op.data)
                    case "sync":
                        self._disk.sync(handle)
                    case "sync_dir":
                        self._disk.sync_dir(op.path)
                    case "unlink":
                        with suppress(OSError):  # it is void, and goes with the next
                            self._disk.unlink(op.path)
        except OSError:
            self._broken = True
            if handle >= 0:
                self._disk.close(handle)
                with suppress(OSError):
                    self._disk.unlink(path)
            raise
        self.close()
        self._handle, self._path, self._end = handle, path, len(snapshot)
        self._broken = self.unsynced = False
        self.freed = set()

    def _required(self) -> int:
        if self._handle is None:
            raise ValueError("the log is not open")
        return self._handle

    def close(self) -> None:
        """Leave it to others."""
        if self._handle is not None:
            self._disk.close(self._handle)
            self._handle = None
