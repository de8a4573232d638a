"""refmta's stores for `faultinject.crash`: which ones an architecture has, and what their code says
that it does for a message that was found in the queue.

The plan is not written down anywhere for this: the store's own code commits the same message, with
the same envelope and content, to an empty disk of the model, which notes each step and the line of
refmta that took it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from faultinject.crash.stores import Step
from refmta.architectures.catalogue import UnknownArchitecture, find
from refmta.stores import letters
from refmta.stores.queue import open_queue
from refmta.wire.envelope import is_queue_id
from specs.persistence.model_disk import ModelDisk, Recorded, Snapshot
from specs.persistence.protocols import CommitStore
from specs.persistence.rehearsal import plan_of
from subjects.stores import chunk_store, maildir_store
from subjects.stores_qmail_postfix import postfix_store, qmail_store
from subjects.stores_sendmail import mbox_store, sendmail_store, sendmailx_store

QUEUES: Mapping[str, Callable[[], CommitStore]] = {
    "chunks": chunk_store,
    "postfix_modebit": postfix_store,
    "qmail_todo": qmail_store,
    "sendmail_qfdf": sendmail_store,
    "sendmailx_ibdb": sendmailx_store,
}
MAILBOXES: Mapping[str, Callable[[], CommitStore]] = {"maildir": maildir_store, "mbox": mbox_store}
#: Modules whose lines say how a step is taken, and not which.
CARRY_OUT = frozenset({
    "refmta.patterns.unique_atomic_chunks", "refmta.stores.steps", "refmta.stores.raw_draft",
})  # fmt: skip


class NotingDisk(ModelDisk):
    """A disk that notes the line of refmta that did each thing to it."""

    __slots__ = ("lines",)

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        super().__init__(snapshot)
        self.lines: list[str] = []
        self.record = _Noting(self.lines)


class _Noting(list[Recorded]):
    """A record, and beside it who made each entry."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def append(self, entry: Recorded) -> None:
        self._lines.append(_line(sys._getframe(1)))
        super().append(entry)


def _line(frame: FrameType | None) -> str:
    """The innermost line of refmta that knows why: not those of modules that carry out plans."""
    outer = ""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("refmta."):
            line = f"{name.replace('.', '/')}.py:{frame.f_lineno}"
            if name not in CARRY_OUT:
                return line
            outer = outer or line
        frame = frame.f_back
    return outer


class RefmtaStores:
    """`faultinject.crash.stores.Stores`."""

    def stores(self, architecture: str) -> Sequence[CommitStore]:
        chosen = _find(architecture)
        return QUEUES[chosen.store](), MAILBOXES[chosen.mailbox]()

    def planned(self, architecture: str, before: Snapshot, after: Snapshot) -> Sequence[Step]:
        store = _find(architecture).store
        queue_id, envelope, content = _only_message(store, after)
        fresh = NotingDisk(before)
        queue = open_queue(store, fresh, {})
        if queue.logs_envelopes:
            raise ValueError("its log is begun anew by whoever opens it: there is no such plan")
        draft = queue.draft(envelope)
        draft.add(content)
        draft.finish()
        failures = queue.commit([draft])
        if failures:
            raise ValueError(f"the rehearsal failed: {failures}")
        steps = [
            Step(kind=each.kind, path=each.path, data=each.data, target=each.target, line=line)
            for each, line in zip(plan_of(before, fresh.record), fresh.lines, strict=True)
        ]
        return [*steps, Step(kind="reply", path=queue_id)]


def _find(architecture: str) -> Any:
    try:
        return find(architecture or "refmta")
    except UnknownArchitecture as error:
        raise KeyError(str(error)) from None


def _only_message(store: str, disk: Snapshot) -> tuple[str, Any, bytes]:
    """Its queue id, envelope and content."""
    model = ModelDisk(disk)
    queue = open_queue(store, model, {})
    names = [name for name in queue.names() if is_queue_id(name)]
    if len(names) != 1:
        raise ValueError(f"{len(names)} messages in the queue, not one")
    loaded = queue.look(names[0])
    _, content = letters.read(model, loaded.handle, names[0], loaded.head)
    return names[0], loaded.envelope, content


def stores() -> RefmtaStores:
    """Entry point (refmta.faultinject.crash)."""
    return RefmtaStores()
