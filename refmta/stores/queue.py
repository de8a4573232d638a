"""What a queue is to the roles, whichever way it lies on the disk.

    draft, add, finish, commit     the way in: enqueue
    log                            the way in where qmgr keeps the envelopes: qmgr
    confirm                        the way in where delivery comes before the reply: enqueue
    names, load, open, marks,      delivery: qmgr
    rested, free, release
    look                           what the operator sees: qmgr, and `refmta queue`
    recover, set_aside             after a crash: whoever keeps the queue

An architecture names its store; roles get it by `open_queue` and never ask which one it is.  Each
store says in its module which states on disk are legal, by which plan a message becomes durable,
and what a crash may do to it; `specs/persistence` holds them to it, by the same code.

Rules for every store
- `commit` returns the failures by path; a path without one is durable, as far as this store ever
  makes anything durable.
- A draft stays open until its submitter has been answered: also while qmgr logs its envelope.
  Whoever recovers meanwhile must leave it alone; a store that several processes share can tell by
  a lock on the open file.
- `load` gives a descriptor that may be handed to an agent.  Where the file certifies itself
  (`stores.chunks`) `head` is empty; where it holds the content alone, `head` is the envelope as
  records, for the agent.
- Marks are not synced: a mark that a crash takes back costs a second delivery.
- `recover` yields every message, with a reason if it was set aside, and leaves nothing over.  It
  may be interrupted and repeated at will.  It runs when nobody else works on the queue, unless
  the store says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeVar

from refmta.patterns.unique_atomic_chunks import Disk
from refmta.protocol.delivery import Mark
from refmta.wire.envelope import Envelope

#: The stores by name: their modules.  Whoever confines a process loads the module before.
STORES: Final = {
    "chunks": "refmta.stores.chunks",
    "sendmail_qfdf": "refmta.stores.sendmail_qfdf",
    "qmail_todo": "refmta.stores.qmail_todo",
    "postfix_modebit": "refmta.stores.postfix_modebit",
    "sendmailx_ibdb": "refmta.stores.sendmailx_ibdb",
}
#: What may be said about a store, if anything, as text; its module has the values.
OPTIONS: Final = {
    "sendmail_qfdf": frozenset({"super_safe", "requires_dir_fsync"}),
    "qmail_todo": frozenset({"local_domains", "unfinished_s"}),
    "postfix_modebit": frozenset({"unfinished_s"}),
}


#: Has files of a message removed by whose they are: queue id, and which (`roles.clean`).
Cleaner = Callable[[str, Literal["foop", "todo"]], None]


class Claimed(Exception):
    """Another process works on this message now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A message opened for its delivery.

    handle: on the content, read only.  end: where the next mark goes, as the store means it.
    octets: of the content.  head: for agents; see above.
    """

    handle: int
    envelope: Envelope
    marks: tuple[Mark, ...]
    end: int
    octets: int
    head: bytes = b""


class Draft(Protocol):
    """A message being written.  Its files are its own until it is committed and closed."""

    @property
    def octets(self) -> int:
        """Of content, so far."""
        ...

    @property
    def path(self) -> str:
        """What it is called in the log, and in what `commit` returns."""
        ...

    @property
    def handle(self) -> int | None:
        """The file of its content, for whoever syncs a large one beside the group; None where
        nothing is to be synced.
        """
        ...

    def add(self, content: bytes) -> None:
        """Raises OSError; then the draft must be discarded."""
        ...

    def finish(self) -> None:
        """All content is there.  Raises OSError; then the draft must be discarded."""
        ...

    def close(self) -> None: ...

    def discard(self) -> None:
        """Forget the message: nothing was promised.  What the disk keeps, recovery finds."""
        ...


D = TypeVar("D", bound=Draft)


class QueueStore(Protocol[D]):
    """A queue.  Methods raise OSError where they touch the disk."""

    @property
    def logs_envelopes(self) -> bool:
        """Whether `commit` makes the content durable only: then qmgr has to `log` the envelope
        before anything is promised (sendmail X).
        """
        ...

    @property
    def disk(self) -> Disk: ...

    def draft(self, envelope: Envelope) -> D: ...

    def commit(self, group: Sequence[D]) -> dict[str, OSError]:
        """Make finished drafts durable; the failures by path."""
        ...

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        """Make the envelopes of committed contents durable, together; the failures by queue id.
        Other stores have nothing to do.
        """
        ...

    def confirm(self, queue_id: str) -> None:
        """A first attempt came before the reply, which is to be given now: make durable what
        `commit` has put off until then (sendmail's SuperSafe "interactive"); else nothing.
        Raises FileNotFoundError if the message is done already.
        """
        ...

    def names(self) -> list[str]:
        """What is committed, or looks so, by age: queue ids, and perhaps names of strangers, which
        recovery sets aside.
        """
        ...

    def load(self, queue_id: str) -> Loaded:
        """Raises ChunkError (torn, damaged, another's), FileNotFoundError, Claimed, OSError; then
        nothing stays open.
        """
        ...

    def look(self, queue_id: str) -> Loaded:
        """As `load`, for whoever only looks: nothing is moved, claimed or written, and what others
        have claimed is shown as well.  Never raises Claimed.
        """
        ...

    def open(self, queue_id: str) -> int:
        """One more descriptor on the content, read only."""
        ...

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        """Returns the new end."""
        ...

    def rested(self, queue_id: str) -> None:
        """It was tried, and waits: stores that keep such mail elsewhere move it there."""
        ...

    def free(self, queue_id: str) -> None:
        """Every recipient is done."""
        ...

    def release(self, queue_id: str) -> None:
        """This process has done with it for now: others may claim it.  Nothing happens where
        nothing was claimed.
        """
        ...

    def examine(self, queue_id: str) -> None:
        """Read all of it.  Raises ChunkError if it is not what was written, OSError."""
        ...

    def set_aside(self, queue_id: str, reason: str) -> None:
        """Out of the queue, durably, with the reason in its name."""
        ...

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yields (name, reason): the reason is empty for what is whole, and stays."""
        ...


def open_queue(
    name: str,
    disk: Disk,
    options: Mapping[str, str],
    cleaner: Cleaner | None = None,
) -> QueueStore[Any]:
    """The store of that name, on this disk.  Raises ValueError for an unknown name or option.

    cleaner: removes what is left of a message in somebody else's place, where the store leaves that
    to another user (qmail).  Each store's module is loaded here, where it is wanted: a process
    holds the code of its own store and of no other.
    """
    unknown = options.keys() - OPTIONS.get(name, frozenset())
    if unknown:
        raise ValueError(f"{name} has no option {min(unknown)}")
    texts: Mapping[str, Any] = options
    match name:
        case "chunks":
            from refmta.stores.chunks import Chunks  # noqa: PLC0415

            return Chunks(disk)
        case "sendmail_qfdf":
            from refmta.stores.sendmail_qfdf import SendmailQfdf  # noqa: PLC0415

            return SendmailQfdf(disk, **texts)
        case "qmail_todo":
            from refmta.stores.qmail_todo import QmailTodo  # noqa: PLC0415

            return QmailTodo(disk, cleaner=cleaner, **texts)
        case "postfix_modebit":
            from refmta.stores.postfix_modebit import PostfixModebit  # noqa: PLC0415

            return PostfixModebit(disk, **texts)
        case "sendmailx_ibdb":
            from refmta.stores.sendmailx_ibdb import SendmailxIbdb  # noqa: PLC0415

            return SendmailxIbdb(disk)
    raise ValueError(f"there is no store {name!r}")
