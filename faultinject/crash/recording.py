"""From system calls to the operations of the persistence model: pure.

    calls (faultinject.tracing), what was there before -> Recording(initial, operations, made)

Rules a reader may rely on
- An operation is there when its call has returned without an error.  Order: by return, as that is
  when the caller could rely on it.  A sync covers what had returned when it was *called*: a change
  of the same file, or in the same directory, that overlaps a sync comes after it.
- Files are told apart as the disk does (inodes), not by name: a rename moves a name, a descriptor
  stays on its file, also when the file has no name any more.
- A write where the file has octets already is an overwrite; one beyond is an append.
- A reply is a "250" of the server to the end of a letter: the write that carries it.
- What lies outside of the recorded directories is not there, nor are sockets, fifos, links that
  point (symlinks), and times.  `Recording.passed` counts what was seen and is not modelled.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from faultinject.crash.contexts import FORKS, IDS, Contexts, Open
from faultinject.crash.observed import ObservedDisk
from faultinject.tracing import (
    AT_FDCWD,
    DESCRIPTORS,
    MESSAGES,
    PROCESSES,
    WRITES,
    Call,
    descriptor,
    octets,
    path,
    written,
)
from specs.persistence.model_disk import PLAIN_MODE, Recorded, Snapshot

#: What is to be traced for a recording.
TRACED: Final = (
    *WRITES, *MESSAGES, *DESCRIPTORS, *PROCESSES, *IDS,
    "fsync", "fdatasync", "sync", "syncfs", "sync_file_range",
    "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat",
    "rmdir", "symlink", "symlinkat", "mknod", "mknodat",
    "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "truncate", "ftruncate",
    "fallocate",
)  # fmt: skip
_DELETED: Final = "(deleted)"
_OPENS: Final = frozenset({"open", "openat", "creat"})
_SENDS: Final = frozenset({*WRITES, *MESSAGES})
_OCTAL: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """A reply that a client got.  text: its octets; between these times it was sent."""

    token: str
    text: bytes
    from_s: float
    until_s: float


@dataclass(slots=True, kw_only=True)
class Recording:
    """operations: what reached the disk; calls: the system call of each; makers: the program of
    each, as far as known; owners: path at its making -> (uid, gid); passed: what was seen and not
    modelled, by call.
    """

    initial: Snapshot
    operations: list[Recorded] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    makers: list[str] = field(default_factory=list)
    owners: dict[str, tuple[int, int]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def said(self, index: int) -> str:
        """An operation and the call that made it, for people."""
        call, maker = self.calls[index], self.makers[index] if self.makers else ""
        return f"{self.operations[index]} [{call.name}, {maker or 'pid'} {call.pid}]"


@dataclass(slots=True)
class Reading:
    """place: how this machine names a path that a call names -> relative to the recorded
    directory; None if it lies elsewhere.  groups: directory -> the group of what is made in it,
    where that is not the maker's (set-group-id).
    """

    initial: Snapshot
    contexts: Contexts
    replies: list[Replied]
    place: Callable[[str], str | None]
    groups: Mapping[str, int] = field(default_factory=dict)
    recording: Recording = field(init=False)
    _disk: ObservedDisk = field(init=False)
    _gone: dict[str, int] = field(default_factory=dict)  # path -> inode that had it last

    def __post_init__(self) -> None:
        self._disk = ObservedDisk(self.initial)
        self.recording = Recording(initial=self.initial)

    def read(self, calls: Sequence[Call]) -> Recording:
        """calls: in the order of their ends."""
        for call in in_order(calls):
            if call.name in FORKS or call.result is None:
                continue
            if call.result < 0 or call.injected:
                continue
            before = len(self._disk.record)
            self._take(call)
            made = len(self._disk.record) - before
            self.recording.calls += [call] * made
            self.recording.makers += [self.contexts[call.pid].program] * made
        self.recording.operations = list(self._disk.record)
        return self.recording

    # -- one call ---------------------------------------------------------------------------------

    def _take(self, call: Call) -> None:
        if call.name in IDS:
            self.contexts.note_ids(call)
        elif call.name in _OPENS:
            self._open(call)
        elif call.name in _SENDS:
            self._send(call)
        else:
            known = _HANDLED.get(call.name)
            if known is not None:
                known(self, call)

    def _send(self, call: Call) -> None:
        number, name = descriptor(call.arguments[0])
        if name.startswith(("socket:", "TCP", "UNIX", "pipe:")):
            self._reply(call)
            return
        relative = self._relative(call, name)
        if relative is None:
            return
        inode = self._inode_path(relative, call.arguments[0])
        if inode is None:
            self.recording.passed[call.name] += 1
            return
        opened = self.contexts[call.pid].opened.get(number)
        at = opened.at if opened is not None else None
        if call.name.startswith("pwrite"):
            at = int(call.arguments[3])
        data = written(call)
        self._disk.patch(inode, relative, at, data)
        if opened is not None and opened.at is not None and not call.name.startswith("pwrite"):
            opened.at += len(data)

    def _reply(self, call: Call) -> None:
        data = written(call)
        for reply in self.replies:
            if reply.from_s <= call.at <= reply.until_s and reply.text in data:
                self.replies.remove(reply)
                self._disk.note("reply", reply.token)
                return

    def _open(self, call: Call) -> None:
        flags = " ".join(call.arguments)
        relative = self._relative(call, call.returned)
        context = self.contexts[call.pid]
        if call.result is not None:
            context.opened[call.result] = Open(None if "O_APPEND" in flags else 0)
        if relative is None or "O_DIRECTORY" in flags:
            return
        made = "O_CREAT" in flags or call.name == "creat"
        if self._disk.has(relative):
            if "O_TRUNC" in flags or call.name == "creat":
                self._disk.cut(relative, 0)
        elif made:
            self._make(call, relative)

    def _make(self, call: Call, relative: str) -> None:
        mode = call.arguments[-1]
        bits = int(mode, _OCTAL) if mode.isdigit() else PLAIN_MODE
        if self._disk.make(relative, bits & 0o777):
            self._own(call, relative)
            self._gone.pop(relative, None)

    def _own(self, call: Call, relative: str) -> None:
        context = self.contexts[call.pid]
        gid = self.groups.get(relative.rpartition("/")[0], context.gid)
        self.recording.owners[relative] = (context.uid, gid)

    def _also(self, old: str, new: str) -> None:
        """A file has a name more: it belongs to the same."""
        if old in self.recording.owners:
            self.recording.owners[new] = self.recording.owners[old]

    # -- names ------------------------------------------------------------------------------------

    def _rename(self, call: Call) -> None:
        old, new = self._two(call)
        if old is not None and new is not None and self._disk.has(old):
            self._disk.move(old, new)
            self._also(old, new)
        elif old is not None and self._disk.has(old):
            self._unlink_path(old)
        elif old is not None and new is not None and self._disk.is_directory(old):
            self._disk.move_directory(old, new)
        elif new is not None:
            self.recording.passed[call.name] += 1

    def _rmdir(self, call: Call) -> None:
        relative = self._one(call)
        if relative is not None and self._disk.is_directory(relative):
            self._disk.remove_directory(relative)

    def _link(self, call: Call) -> None:
        old, new = self._two(call)
        if old is not None and new is not None and self._disk.has(old) and not self._disk.has(new):
            self._disk.link(old, new)
            self._also(old, new)

    def _unlink(self, call: Call) -> None:
        relative = self._one(call)
        if "AT_REMOVEDIR" in call.arguments[-1]:
            self._rmdir(call)
        elif relative is not None:
            self._unlink_path(relative)

    def _unlink_path(self, relative: str) -> None:
        if self._disk.has(relative):
            self._gone[relative] = self._disk.inode_number(relative)
            self._disk.unlink(relative)

    def _mkdir(self, call: Call) -> None:
        relative = self._one(call)
        if relative is not None and not self._disk.is_directory(relative):
            self._disk.mkdir(relative)
            self._own(call, relative)

    # -- attributes, syncs ------------------------------------------------------------------------

    def _chmod(self, call: Call) -> None:
        fd = call.name == "fchmod"
        relative = self._relative(call, descriptor(call.arguments[0])[1]) if fd else self._one(call)
        if relative is None:
            return
        inode = self._inode_path(relative, call.arguments[0]) if fd else None
        mode = next((each for each in reversed(call.arguments) if each.isdigit()), "0600")
        if inode is not None or self._disk.has(relative):
            self._disk.set_mode(relative, int(mode, _OCTAL) & 0o777, inode)

    def _chown(self, call: Call) -> None:
        fd = call.name == "fchown"
        relative = self._relative(call, descriptor(call.arguments[0])[1]) if fd else self._one(call)
        numbers = [int(each) for each in call.arguments if each.lstrip("-").isdigit()][-2:]
        if relative is not None and len(numbers) == 2:
            old = self.recording.owners.get(relative, (0, 0))
            uid, gid = (n if n >= 0 else o for n, o in zip(numbers, old, strict=True))
            self.recording.owners[relative] = (uid, gid)

    def _truncate(self, call: Call) -> None:
        if call.name == "ftruncate":
            relative = self._relative(call, descriptor(call.arguments[0])[1])
        else:
            relative = self._one(call)
        if relative is not None and self._disk.has(relative):
            self._disk.cut(relative, int(call.arguments[1]))

    def _sync(self, call: Call) -> None:
        relative = self._relative(call, descriptor(call.arguments[0])[1])
        if relative is None:
            return
        if self._disk.is_directory(relative):
            self._disk.note("sync_dir", relative)
            return
        inode = self._inode_path(relative, call.arguments[0])
        if inode is not None:
            self._disk.note("sync", relative, inode)

    def _sync_all(self, _: Call) -> None:
        for inode, relative in self._disk.everything():
            self._disk.note("sync", relative, inode)
        for relative in self._disk.all_directories():
            self._disk.note("sync_dir", relative)

    def _seek(self, call: Call) -> None:
        opened = self.contexts[call.pid].opened.get(descriptor(call.arguments[0])[0])
        if opened is not None and opened.at is not None and call.result is not None:
            opened.at = call.result

    def _dup(self, call: Call) -> None:
        if call.name == "fcntl" and "F_DUPFD" not in call.arguments[1]:
            return
        opened = self.contexts[call.pid].opened
        found = opened.get(descriptor(call.arguments[0])[0])
        if call.result is None:
            return
        if found is None:
            opened.pop(call.result, None)
        else:
            opened[call.result] = found

    def _close(self, call: Call) -> None:
        self.contexts[call.pid].opened.pop(descriptor(call.arguments[0])[0], None)

    def _chdir(self, call: Call) -> None:
        context = self.contexts[call.pid]
        if call.name == "fchdir":
            context.cwd = descriptor(call.arguments[0])[1]
        else:
            context.cwd = self._absolute(call, "", path(call.arguments[0]))

    def _chroot(self, call: Call) -> None:
        self.contexts[call.pid].root = self._absolute(call, "", path(call.arguments[0]))

    def _execute(self, call: Call) -> None:
        self.contexts[call.pid].program = path(call.arguments[0]).rpartition("/")[2]

    def _pass(self, call: Call) -> None:
        self.recording.passed[call.name] += 1

    # -- paths ------------------------------------------------------------------------------------

    def _one(self, call: Call) -> str | None:
        """The path that a call is about."""
        first = call.arguments[0]
        if first.startswith('"'):
            return self._relative(call, self._absolute(call, "", path(first)))
        return self._at(call, first, call.arguments[1])

    def _two(self, call: Call) -> tuple[str | None, str | None]:
        arguments = call.arguments
        if arguments[0].startswith('"'):
            named = (self._absolute(call, "", path(each)) for each in arguments[:2])
            old, new = (self._relative(call, each) for each in named)
            return old, new
        return self._at(call, *arguments[:2]), self._at(call, *arguments[2:4])

    def _at(self, call: Call, directory: str, name: str) -> str | None:
        number, shown = descriptor(directory)
        if number == AT_FDCWD and not shown:
            shown = self.contexts[call.pid].cwd
        return self._relative(call, self._absolute(call, shown, octets(name).decode()))

    def _absolute(self, call: Call, directory: str, name: str) -> str:
        context = self.contexts[call.pid]
        if name.startswith("/"):
            return context.root.rstrip("/") + name
        return f"{directory or context.cwd}/{name}"

    def _relative(self, _: Call, absolute: str) -> str | None:
        if not absolute.startswith("/"):
            return None
        return self.place(os.path.normpath(absolute.removesuffix(_DELETED)))

    def _inode_path(self, relative: str, argument: str) -> int | None:
        """The file that a descriptor is open on."""
        if _DELETED in argument or not self._disk.has(relative):
            return self._gone.get(relative)
        return self._disk.inode_number(relative)


_HANDLED: Final[Mapping[str, Callable[[Reading, Call], None]]] = {
    **dict.fromkeys(("rename", "renameat", "renameat2"), Reading._rename),
    **dict.fromkeys(("link", "linkat"), Reading._link),
    **dict.fromkeys(("unlink", "unlinkat"), Reading._unlink),
    **dict.fromkeys(("mkdir", "mkdirat"), Reading._mkdir),
    **dict.fromkeys(("chmod", "fchmod", "fchmodat"), Reading._chmod),
    **dict.fromkeys(("chown", "fchown", "fchownat"), Reading._chown),
    **dict.fromkeys(("truncate", "ftruncate"), Reading._truncate),
    **dict.fromkeys(("fsync", "fdatasync"), Reading._sync),
    **dict.fromkeys(("sync", "syncfs"), Reading._sync_all),
    **dict.fromkeys(("dup", "dup2", "dup3", "fcntl"), Reading._dup),
    **dict.fromkeys(("chdir", "fchdir"), Reading._chdir),
    **dict.fromkeys(("symlink", "symlinkat", "mknod", "mknodat"), Reading._pass),
    "rmdir": Reading._rmdir,
    "lseek": Reading._seek,
    "close": Reading._close,
    "chroot": Reading._chroot,
    "execve": Reading._execute,
}

_CHANGES: Final = frozenset({*WRITES, "ftruncate", "fchmod"})
_SYNCED: Final = frozenset({"fsync", "fdatasync"})


def in_order(calls: Sequence[Call]) -> list[Call]:
    """By return, but what overlaps a sync of the same thing comes after it."""
    ordered = sorted(calls, key=lambda call: call.end)
    syncs = [call for call in ordered if call.name in _SYNCED]
    late: dict[int, int] = {}
    for sync in syncs:
        name = descriptor(sync.arguments[0])[1]
        for call in ordered:
            if sync.begin < call.end < sync.end and _touches(call, name):
                late[id(call)] = max(late.get(id(call), 0), sync.end)
    return sorted(ordered, key=lambda call: (late.get(id(call), call.end), id(call) in late))


def _touches(call: Call, name: str) -> bool:
    """Whether a sync of that file or directory might or might not cover this call."""
    if call.name in _CHANGES:
        return descriptor(call.arguments[0])[1] == name
    if call.name in _OPENS:
        return "O_CREAT" in " ".join(call.arguments) and _above(call.returned) == name
    if not call.name.startswith(("rename", "link", "unlink", "mkdir")):
        return False
    named = (octets(each).decode() for each in call.arguments if each.startswith('"'))
    return _last(name) in {_last(_above(each)) for each in named}


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _last(path: str) -> str:
    return path.rpartition("/")[2]
