"""The stores of qmail and Postfix as subjects of the persistence spec: the real code, rehearsed.

Two subjects for each: the way in with the first look at the message (what `qmgr` does with it when
it hears of it), and a whole life: with everything settled on the disk, an attempt, marks, rest,
another attempt, the end. Recovery is what the keeper of the queue does at its start: the store's
own, then every message is loaded, and read as an agent reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from refmta.protocol.delivery import Mark
from refmta.stores import letters, postfix_modebit, qmail_todo
from specs.persistence.model_disk import ModelDisk
from specs.persistence.protocols import Disk, Message, Op, Recovered
from specs.persistence.rehearsal import rehearsed, release, reply, time_passes
from subjects.tokens import envelope_of, queue_id_of

DEFERRED = Mark("deferred", 0, 1, 2, "4.2.2", "mailbox full")
DELIVERED = Mark("delivered", 0, 1, 3)


@dataclass(frozen=True, slots=True)
class QueueSubject:
    """A queue store over a module, which may be a mutant. life: what comes after the reply too."""

    name: str
    module: Any
    store: str  # class
    aside: str  # directory
    life: bool = False
    apart: bool = True  # a process per message, and no directory is ever synced

    @property
    def directories(self) -> tuple[str, ...]:
        return tuple(self.module.DIRECTORIES)

    @property
    def told(self) -> bool:
        """The way in is the other subject's."""
        return self.life

    def open(self, disk: Disk) -> Any:
        return getattr(self.module, self.store)(disk)

    # ---- what is done -------------------------------------------------------------------------

    def plan(self, messages: Sequence[Message]) -> Sequence[Op]:
        """What the store does to an empty disk; each block is a write of its own."""
        return rehearsed(self.directories, lambda disk: self._act(disk, messages))

    def _act(self, disk: ModelDisk, messages: Sequence[Message]) -> None:
        store = self.open(disk)
        drafts = [self._draft(disk, message) for message in messages]
        failures = store.commit(drafts)
        if failures:
            raise ValueError(f"the rehearsal failed: {failures}")
        for message, draft in zip(messages, drafts, strict=True):
            draft.close()
            reply(disk, message.token)
        for message in messages:
            disk.close(store.load(queue_id_of(message.token)).handle)
        if self.life:
            time_passes(disk)
            for message in messages:
                self._deliver(disk, store, message)

    def _draft(self, disk: ModelDisk, message: Message) -> Any:
        draft = self.module.Draft(disk, envelope_of(message.token), gather=0)
        for block in message.blocks:
            draft.add(block)
        draft.finish()
        return draft

    def _deliver(self, disk: ModelDisk, store: Any, message: Message) -> None:
        """Two attempts, the second successful."""
        queue_id = queue_id_of(message.token)
        for mark in (DEFERRED, DELIVERED):
            loaded = store.load(queue_id)
            disk.close(loaded.handle)
            if mark is DELIVERED:
                release(disk, message.token)
            store.append_marks(queue_id, loaded.end, [mark])
            store.rested(queue_id)
        store.load(queue_id)
        store.free(queue_id)

    # ---- after a crash ------------------------------------------------------------------------

    def recover(self, disk: Disk) -> Recovered:
        store = self.open(disk)
        visible = {}
        for name, reason in list(store.recover()):
            if not reason:
                token, content = self._read(disk, store, name)
                visible[token] = content
        aside = frozenset(f"{self.aside}/{name}" for name in disk.listdir(self.aside))
        return Recovered(visible=visible, aside=aside, notes=self._notes(disk, visible))

    def _notes(self, disk: Disk, visible: Iterable[str]) -> frozenset[str]:
        """qmail's bounce/ID."""
        if qmail_todo.BOUNCE not in self.directories:
            return frozenset()
        there = set(disk.listdir(qmail_todo.BOUNCE))
        known = there.intersection(map(queue_id_of, visible))
        return frozenset(qmail_todo.path_of(qmail_todo.BOUNCE, name) for name in known)

    def _read(self, disk: Disk, store: Any, name: str) -> tuple[str, bytes]:
        """The token of its envelope, and its content, as an agent reads it."""
        loaded = store.load(name)
        try:
            _, content = letters.read(disk, loaded.handle, name, loaded.head)
        finally:
            disk.close(loaded.handle)
        return loaded.envelope.reverse_path.partition("@")[0], content


def qmail(module: ModuleType = qmail_todo, *, life: bool = False) -> QueueSubject:
    """qmail's store, or a mutant of it."""
    return QueueSubject(_name("qmail_todo", life), module, "QmailTodo", qmail_todo.DAMAGED, life)


def postfix(module: ModuleType = postfix_modebit, *, life: bool = False) -> QueueSubject:
    """Postfix's store, or a mutant of it."""
    name, aside = _name("postfix_modebit", life), postfix_modebit.CORRUPT
    return QueueSubject(name, module, "PostfixModebit", aside, life)


def _name(store: str, life: bool) -> str:
    return f"{store}, a whole life" if life else store


def qmail_store() -> QueueSubject:
    """Entry point."""
    return qmail()


def qmail_life() -> QueueSubject:
    """Entry point."""
    return qmail(life=True)


def postfix_store() -> QueueSubject:
    """Entry point."""
    return postfix()


def postfix_life() -> QueueSubject:
    """Entry point."""
    return postfix(life=True)
