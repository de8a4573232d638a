"""Whether a failed sync was trusted: judged by the calls, since the disk would not show it.

    fsync(file) = -1 EIO      the kernel may drop the dirty pages and mark them clean
    fsync(file) = 0           so this says nothing of the octets written before
    "250 ..."                 and this is a lie

Sources: fsync(2); "fsync errors" on linux-fsdevel and pgsql-hackers, 2018; docs/durability.md.

Rules
- A failed sync (EIO, ENOSPC, EDQUOT; not EINTR, after which nothing is said) taints what it was to
  force: of a file, the file; of a directory, the names in it that were made since its last sync.
- A taint ends when the thing is given up: a file by its last unlink, or by ftruncate; a name by its
  removal; either when it is made anew.  It follows a rename, and no later sync ends it.
- **trusted_failed_sync**: the end of a letter was answered 250, and something is tainted that was
  tainted between the letter's beginning and that reply; and it still is when a delivery begins, or
  at the end.  What is given up before that, and made anew from what was whole, was not trusted: a
  queue manager may prepare a message for delivery while its client still waits for the reply.
- **trusted_failed_delivery**: a tainted file or name in a mailbox is still there when nothing is
  queued any more.  What was left in a Maildir's tmp is not delivered: nobody reads it there.

What is tricky: a file is known by its path, as strace shows it at that moment; files that had a
name before the trace are met when they are first used.  What happens to files by a descriptor of
another name (a second link) is seen under the name that it was opened by.

What it can't see: which file a letter is in.  So it wants to be shown one client with one letter at
a time; then what is tainted during the letter is the letter's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from faultinject.disk.calls import is_below, places, writes
from faultinject.disk.faults import OPENS
from faultinject.ledger import Finding
from faultinject.tracing import Call

TRUSTED: Final = "trusted_failed_sync"
TRUSTED_DELIVERY: Final = "trusted_failed_delivery"
FAILED: Final = frozenset({"EIO", "ENOSPC", "EDQUOT"})
#: Of a Maildir: where files are written.
UNREAD: Final = "tmp"
OF_FILES: Final = frozenset({"fsync", "fdatasync"})
RENAMES: Final = frozenset({"rename", "renameat", "renameat2"})
LINKS: Final = frozenset({"link", "linkat"})
REMOVALS: Final = frozenset({"unlink", "unlinkat", "rmdir"})
DIRECTORIES: Final = frozenset({"mkdir", "mkdirat"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A letter that was answered 250.  begun_s, answered_s: seconds since 1970, by the client."""

    what: str
    begun_s: float
    answered_s: float


@dataclass(eq=False, slots=True)
class _File:
    """What has one or more names.  tainted_s: when a sync of it failed."""

    names: set[str] = field(default_factory=set)
    tainted_s: float | None = None


@dataclass(slots=True)
class _Names:
    """All that is known of names: which file each is, and since when its directory is in doubt.

    fresh: names made since the last sync of their directory; directories: those that are known.
    """

    files: dict[str, _File] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)
    doubted_s: dict[str, float] = field(default_factory=dict)

    def file(self, path: str) -> _File:
        if path not in self.files:
            self.add(path, _File())
        return self.files[path]

    def add(self, path: str, file: _File) -> None:
        self.files[path] = file
        file.names.add(path)
        self.directories.add(str(PurePosixPath(path).parent))

    def make(self, path: str, file: _File) -> None:
        """A new name; whatever had it has lost it."""
        self.remove(path)
        self.add(path, file)
        self.fresh.add(path)

    def remove(self, path: str) -> None:
        gone = self.files.pop(path, None)
        if gone is not None:
            gone.names.discard(path)
        self.fresh.discard(path)
        self.doubted_s.pop(path, None)

    def tainted(self) -> dict[str, float]:
        """Path -> when it was tainted: files that still have a name, and names in doubt."""
        found = dict(self.doubted_s)
        for path, file in self.files.items():
            if file.tainted_s is not None:
                found[path] = file.tainted_s
        return found


def judge(
    calls: Iterable[Call], answers: Sequence[Answered], mailboxes: Sequence[str], *, settled: bool
) -> list[Finding]:
    """Findings of one run.  mailboxes: directories or files in which mail is delivered, as the
    server's calls name them.  settled: whether nothing was queued at the end.
    """
    names = _Names()
    doubts: list[_Doubt] = []
    findings: list[Finding] = []
    left = sorted(answers, key=lambda each: each.answered_s)
    delivering = False
    for call in sorted(calls, key=_end):
        while left and left[0].answered_s < _end(call):
            doubts += _doubts(names, left.pop(0), mailboxes)
        delivering = delivering or _delivers(call, mailboxes)
        if delivering:
            findings += _lies(names, doubts)
            doubts.clear()
        _follow(names, call)
    for answer in left:
        doubts += _doubts(names, answer, mailboxes)
    findings += _lies(names, doubts)
    if settled:
        findings += [
            Finding(name=TRUSTED_DELIVERY, text=f"{path}, of which a sync failed, is delivered")
            for path in names.tainted()
            if is_below(path, mailboxes) and PurePosixPath(path).parent.name != UNREAD
        ]
    return findings


def _end(call: Call) -> float:
    return call.at + call.took


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A letter was answered 250, and this was tainted then."""

    what: str
    path: str
    tainted_s: float


def _doubts(names: _Names, answer: Answered, mailboxes: Sequence[str]) -> list[_Doubt]:
    return [
        _Doubt(answer.what, path, when_s)
        for path, when_s in names.tainted().items()
        if answer.begun_s <= when_s <= answer.answered_s and not is_below(path, mailboxes)
    ]


def _lies(names: _Names, doubts: Iterable[_Doubt]) -> list[Finding]:
    """Those of the doubts that are still true."""
    now = names.tainted()
    return [
        Finding(name=TRUSTED, text=f"250 for {each.what} after a failed sync of {each.path}")
        for each in doubts
        if now.get(each.path) == each.tainted_s
    ]


def _delivers(call: Call, mailboxes: Sequence[str]) -> bool:
    """Whether it makes or opens a mailbox's file to write."""
    return (
        call.made and call.name in OPENS and writes(call) and is_below(places(call)[0], mailboxes)
    )


def _follow(names: _Names, call: Call) -> None:
    """One call's effect on names and taints."""
    paths = places(call)
    if call.name in OF_FILES:
        _sync(names, call, paths[0])
    elif not call.made:
        return
    elif call.name in OPENS:
        if "O_DIRECTORY" in "".join(call.arguments):
            names.directories.add(paths[0])
        if "O_CREAT" in "".join(call.arguments) or call.name == "creat":
            _opened(names, paths[0], call)
    elif call.name in DIRECTORIES:
        names.make(paths[0], _File())
    elif call.name in LINKS:
        names.make(paths[1], names.file(paths[0]))
    elif call.name in RENAMES:
        file = names.file(paths[0])
        names.remove(paths[0])
        names.make(paths[1], file)
    elif call.name in REMOVALS:
        names.remove(paths[0])
    elif call.name in ("ftruncate", "truncate"):
        names.file(paths[0]).tainted_s = None


def _opened(names: _Names, path: str, call: Call) -> None:
    """O_EXCL, or a name that was not there as far as we know, is a new file; O_TRUNC empties."""
    flags = "".join(call.arguments)
    if "O_EXCL" in flags or path not in names.files:
        names.make(path, _File())
    elif "O_TRUNC" in flags or call.name == "creat":
        names.file(path).tainted_s = None


def _sync(names: _Names, call: Call, path: str) -> None:
    inside = [each for each in names.fresh if str(PurePosixPath(each).parent) == path]
    if call.error in FAILED:
        if path not in names.directories:
            names.file(path).tainted_s = _end(call)
        names.doubted_s.update((each, _end(call)) for each in inside)
    if call.made or call.error in FAILED:
        names.fresh.difference_update(inside)
