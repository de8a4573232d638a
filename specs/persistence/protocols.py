"""What the persistence specs ask of a store, and nothing more.

A store is judged through three things: the *plan* by which it commits messages (disk operations as
data), its *recovery* (the real code, run on a model of a disk), and what recovery says is there.
The specs never import the store; it reaches them by an entry point and fits these Protocols by
shape alone.

Rules the reader may rely on
- Paths are relative to the store's root and use "/"; "" is the root. Directories are never renamed.
- A plan is the complete list of what reaches the kernel, in order. "reply" is not a disk operation:
  it is the instant at which somebody is told that the message is safe.
- `Recovered.visible` says what the rest of the server will see after recovery, by token, with the
  octets of the message (no framing of the store's own).
- `Recovered.aside` lists *every* path now set aside, whether by this run of recovery or by one
  before it that a crash cut short. What is neither needed for a visible message nor listed here is
  left over, and that is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

KINDS = frozenset(
    {
        "create",  # path, exclusively, empty; target: its mode, octal ("" is 600)
        "write",  # append data to path
        "overwrite",  # octets of path from int(target) on, where it has some already
        "chmod",  # path, to the mode int(target, 8)
        "writeback",  # start writing path back, wait for nothing: guarantees nothing
        "sync",  # fsync of the file at path
        "sync_dir",  # fsync of the directory at path
        "rename",  # path -> target, replacing target
        "link",  # a second name, target, for the file at path
        "unlink",  # path
        "truncate",  # path, to int(target) octets ("" is 0)
        "mkdir",  # path
        "reply",  # the message whose token is path is acknowledged
        "release",  # the message whose token is path has been dealt with: it may go from here on
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as the workload submits it: a token of its own, and its octets in blocks.

    A store writes the blocks in this order, by at least one write each.
    """

    token: str
    blocks: tuple[bytes, ...]

    @property
    def content(self) -> bytes:
        """The octets that must come back, all of them or none."""
        return b"".join(self.blocks)


class Operation(Protocol):
    """One step of a plan; what the fields mean for each kind stands in KINDS."""

    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def target(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An Operation for plans that are written inside the specs."""

    kind: str
    path: str
    data: bytes = b""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What recovery found: whole messages by token, and the paths of what it set aside.

    notes: the paths of what is kept about visible messages, and not needed to see them (of which
    recipients are done, say); what is kept about no message is left over.
    """

    visible: Mapping[str, bytes]
    aside: frozenset[str] = frozenset()
    notes: frozenset[str] = frozenset()


class Disk(Protocol):
    """The boundary to the operating system, as recovery sees it; OSError on failure.

    A handle from `create` or `open_append` writes at the end and does not read; one from
    `open_read` reads and does not write; one from `open_change` reads and overwrites. All others
    take any.
    """

    def create(self, path: str, mode: int = 0o600) -> int: ...
    def open_read(self, path: str) -> int: ...
    def open_append(self, path: str) -> int: ...
    def open_change(self, path: str) -> int: ...
    def write(self, handle: int, data: bytes) -> None: ...
    def read(self, handle: int, size: int, offset: int) -> bytes: ...
    def overwrite(self, handle: int, data: bytes, offset: int) -> None: ...
    def size(self, handle: int) -> int: ...
    def mode(self, handle: int) -> int: ...
    def chmod(self, handle: int, mode: int) -> None: ...
    def lock(self, handle: int) -> bool: ...
    def truncate(self, handle: int, size: int) -> None: ...
    def writeback(self, handle: int) -> None: ...
    def sync(self, handle: int) -> None: ...
    def sync_dir(self, path: str) -> None: ...
    def close(self, handle: int) -> None: ...
    def rename(self, path: str, target: str) -> None: ...
    def link(self, path: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def mkdir(self, path: str, mode: int = 0o700) -> None: ...
    def listdir(self, path: str) -> list[str]: ...


class CommitStore(Protocol):
    """A store under judgement: the queue's, a mailbox, anything that says "it is safe now".

    Three further attributes it may have or not:
    - files, a mapping of path to octets: what is there, durably, before the plan begins (a mailbox,
      a log);
    - apart, true if no message shares a file, a group or a sync of a directory with another: then
      what a crash leaves of two messages is what it leaves of each, and workloads of several
      messages tell nothing that those of one do not;
    - told, true if its first operations are those of another store here, with which each write is
      torn and plans are interleaved: then that is not done again.
    """

    @property
    def name(self) -> str: ...

    @property
    def directories(self) -> tuple[str, ...]:
        """Directories that exist, durably, before the plan begins."""
        ...

    def plan(self, messages: Sequence[Message]) -> Sequence[Operation]:
        """How these messages are committed together; one "reply" operation per message."""
        ...

    def recover(self, disk: Disk) -> Recovered:
        """The real recovery. It may raise nothing, whatever it finds on the disk."""
        ...
