"""Chunks that behave as other stores do, and take notes: for tests of what roles ask of a store.

What each real store does on the disk is tested with that store; here it matters what is asked, in
which order, and what follows from a refusal.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refmta.protocol.delivery import Mark
from refmta.stores.chunks import Chunks, OpenDraft
from refmta.stores.disk import Disk
from refmta.stores.queue import Claimed, Loaded
from refmta.wire.envelope import Envelope, encode_envelope


@dataclass
class NotedStore:
    """done: what was asked, in order.  heads: whether the envelope travels beside the content.
    claimed: queue ids that another process has.  failing: what fails, by name or by queue id.
    """

    disk: Disk
    logs_envelopes: bool = False
    heads: bool = False
    cleaner: Callable[[str, str], None] | None = None
    done: list[str] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    logged: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def chunks(self) -> Chunks:
        return Chunks(self.disk)

    def note(self, what: str, queue_id: str = "") -> None:
        self.done.append(f"{what} {queue_id}".strip())
        if what in self.failing:
            raise OSError(errno.EIO, "it fails")

    def draft(self, envelope: Envelope) -> OpenDraft:
        self.note("draft")
        return self.chunks.draft(envelope)

    def commit(self, group: Sequence[OpenDraft]) -> dict[str, OSError]:
        self.done.append("commit")
        return self.chunks.commit(group)

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        ids = tuple(each.queue_id for each in envelopes)
        self.logged.append(ids)
        self.done.append("log")
        return {each: OSError(errno.ENOSPC, "") for each in ids if each in self.failing}

    def confirm(self, queue_id: str) -> None:
        self.note("confirm", queue_id)
        self.disk.close(self.open(queue_id))

    def names(self) -> list[str]:
        self.note("names")
        return self.chunks.names()

    def load(self, queue_id: str) -> Loaded:
        self.done.append(f"load {queue_id}")
        if queue_id in self.claimed:
            raise Claimed(queue_id)
        loaded = self.chunks.load(queue_id)
        head = encode_envelope(loaded.envelope) if self.heads else b""
        return replace(loaded, head=head)

    def look(self, queue_id: str) -> Loaded:
        self.done.append(f"look {queue_id}")
        return self.chunks.look(queue_id)

    def open(self, queue_id: str) -> int:
        return self.chunks.open(queue_id)

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        self.note("marks", queue_id)
        return self.chunks.append_marks(queue_id, end, marks)

    def rested(self, queue_id: str) -> None:
        self.note("rested", queue_id)

    def free(self, queue_id: str) -> None:
        self.note("free", queue_id)
        self.chunks.free(queue_id)
        if self.cleaner is not None:
            self.cleaner(queue_id, "foop")

    def release(self, queue_id: str) -> None:
        self.note("release", queue_id)

    def examine(self, queue_id: str) -> None:
        self.chunks.examine(queue_id)

    def set_aside(self, queue_id: str, reason: str) -> None:
        self.chunks.set_aside(queue_id, reason)

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        self.note("recover")
        for name, reason in self.chunks.recover(candidates):
            self.done.append(f"recovered {name}")
            yield name, reason

    def of(self, queue_id: str) -> list[str]:
        """What was asked about one message."""
        return [each.split()[0] for each in self.done if each.endswith(f" {queue_id}")]


def opening(store_type: Any, **changes: Any) -> tuple[Any, list[NotedStore]]:
    """What stands for `open_queue`, and the stores that it has opened."""
    opened: list[NotedStore] = []

    def open_queue(_name: str, disk: Disk, _options: Any, cleaner: Any = None) -> NotedStore:
        opened.append(store_type(disk, cleaner=cleaner, **changes))
        return opened[-1]

    return open_queue, opened
