"""Maildir: a mailbox without locks, written by its owner.

    create tmp/N; write; sync; ... for every message at hand; rename each to new/N;
    sync new once; report each

The name N is made of arrival, queue id, recipient index and host, so it is unique, and it is the
same when a message is delivered again after a crash: the second delivery replaces the first
instead of standing beside it, unless the reader has moved it to cur/ meanwhile (then it is a
duplicate, in the window between delivery and mark).  A leftover tmp/N of ours is from a crash and
may go, if one agent alone delivers to this user; where several do, it may be another's, in use, and
goes when its mail is older than any queue keeps it.

Content arrives with CRLF and is stored with LF.  `Return-Path` and `Delivered-To` go on top
(RFC 5321 4.4: the final delivery adds the reverse-path).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence

from refmta.patterns.unique_atomic_chunks import Disk, Op, carry_out
from refmta.wire.header import delivered_to, return_path

_OURS = re.compile(r"[0-9]{1,12}\.Q[0-9A-HJKMNP-TV-Z]{16}R[0-9]{1,6}\.")
_PATH_PART = re.compile(r"(?:[A-Za-z0-9_+%@-][A-Za-z0-9_.+%@-]*)\Z")
#: Most levels of a mailbox path below the user's mail directory.
MAX_DEPTH = 4


def unique_name(arrival_s: int, queue_id: str, index: int, host: str) -> str:
    """The file's name in tmp/ and new/; `host` loses what a name may not hold (maildir(5))."""
    safe = re.sub(r"[^A-Za-z0-9.-]", "_", host)[:200]
    return f"{arrival_s}.Q{queue_id}R{index}.{safe}"


def check_mailbox(mailbox: str) -> None:
    """Raise ValueError unless a mailbox path, which came over a channel, stays below its root."""
    parts = mailbox.split("/")
    if not 1 <= len(parts) <= MAX_DEPTH or not all(map(_PATH_PART.match, parts)):
        raise ValueError("not a mailbox path")


def heading(reverse_path: str, recipient: str) -> bytes:
    """The lines on top of a delivered message, with LF."""
    return (return_path(reverse_path) + delivered_to(recipient)).replace(b"\r\n", b"\n")


def stored(content: bytes) -> bytes:
    """Content as it is stored.  It holds no bare CR (smtpd refuses them), so any split will do."""
    return content.replace(b"\r", b"")


def stage_plan(mailbox: str, name: str, pieces: Iterable[bytes]) -> Iterator[Op]:
    """Write one message into tmp/."""
    path = f"{mailbox}/tmp/{name}"
    yield Op("create", path)
    for piece in pieces:
        yield Op("write", path, piece)


def commit_plan(mailbox: str, staged: Sequence[str]) -> list[Op]:
    """Make a group of staged names durable and visible, then report each."""
    temporary = [f"{mailbox}/tmp/{name}" for name in staged]
    final = [f"{mailbox}/new/{name}" for name in staged]
    plan = [Op("writeback", path) for path in temporary] if len(temporary) > 1 else []
    plan += [Op("sync", path) for path in temporary]
    plan += [Op("rename", old, target=new) for old, new in zip(temporary, final, strict=True)]
    plan.append(Op("sync_dir", f"{mailbox}/new"))
    plan += [Op("reply", name) for name in staged]
    return plan


def ensure(disk: Disk, mailbox: str, *, swept_before_s: float = math.inf) -> None:
    """Make the mailbox if it is not there, durably, and remove what a crash left in tmp/ of mail
    that arrived before that time.
    """
    made = set()
    parts = mailbox.split("/")
    levels = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    for path in [*levels, *(f"{mailbox}/{sub}" for sub in ("tmp", "new", "cur"))]:
        try:
            disk.mkdir(path)
            made.add(path.rpartition("/")[0])
        except FileExistsError:
            continue
    for directory in sorted(made):
        disk.sync_dir(directory)
    sweep(disk, mailbox, swept_before_s)


def sweep(disk: Disk, mailbox: str, before_s: float = math.inf) -> None:
    """Remove our own leftovers from tmp/; of mail that arrived later, another agent of ours may be
    at work on them.
    """
    for name in disk.listdir(f"{mailbox}/tmp"):
        if _arrival_s(name) < before_s:
            with contextlib.suppress(FileNotFoundError):  # another agent was faster
                disk.unlink(f"{mailbox}/tmp/{name}")


def _arrival_s(name: str) -> float:
    """Of the message that a file of ours is; infinity for what is not ours."""
    return int(name.partition(".")[0]) if _OURS.match(name) else math.inf


class Staged:
    """One message in tmp/, its file open."""

    __slots__ = ("_disk", "handle", "mailbox", "name")

    def __init__(self, disk: Disk, mailbox: str, name: str) -> None:
        """Raises OSError."""
        self._disk, self.mailbox, self.name = disk, mailbox, name
        self.handle = self._create()

    @property
    def path(self) -> str:
        return f"{self.mailbox}/tmp/{self.name}"

    def _create(self) -> int:
        try:
            return self._disk.create(self.path)
        except FileExistsError:
            self._disk.unlink(self.path)  # of an attempt that was cut off
            return self._disk.create(self.path)

    def write(self, octets: bytes) -> None:
        self._disk.write(self.handle, octets)

    def discard(self) -> None:
        """The attempt failed: nothing stays behind, if the disk lets us."""
        self._disk.close(self.handle)
        try:
            self._disk.unlink(self.path)
        except OSError:
            return  # swept at the next start


def commit(disk: Disk, mailbox: str, group: Sequence[Staged]) -> dict[str, OSError]:
    """Carry out the commit plan for messages of one mailbox; returns the failures by name.

    Takes over the files: all are closed when it returns.  What failed before its rename is gone.
    """
    plan = commit_plan(mailbox, [each.name for each in group])
    failed = carry_out(disk, plan, {each.path: each.handle for each in group})
    failures: dict[str, OSError] = {}
    for each in group:
        error = failed.units.get(each.path)
        if error is not None:
            each.discard()
        else:
            disk.close(each.handle)
            error = failed.directory
        if error is not None:
            failures[each.name] = error
    return failures
