"""The stores as subjects of the persistence spec: their real plans, their real recovery.

A maker takes the store's module, so that the negative controls judge a mutant by the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from refmta.patterns.unique_atomic_chunks import Op
from refmta.stores import chunks, maildir
from refmta.wire.envelope import is_queue_id
from specs.persistence.protocols import Disk, Message, Recovered
from subjects.tokens import envelope_of, queue_id_of, token_of

MAILBOX = "Maildir"
HOST = "mx.example.org"


@dataclass(frozen=True, slots=True)
class ChunkStore:
    """Our queue: `refmta.stores.chunks`, committed in groups.  Each block is a write of its own."""

    module: Any = chunks
    name: str = "chunks"
    directories: tuple[str, ...] = (chunks.CHUNKS, chunks.DAMAGED)

    def plan(self, messages: Sequence[Message]) -> Sequence[Op]:
        """Write every message, then commit them as one group."""
        plan: list[Op] = []
        paths = {}
        for message in messages:
            draft = self.module.Draft(envelope_of(message.token), gather=0)
            for block in message.blocks:
                plan += draft.add(block)
            plan += draft.finish()
            paths[draft.path] = message.token
        for op in self.module.commit_plan(list(paths)):
            plan.append(op._replace(path=paths[op.path]) if op.kind == "reply" else op)
        return plan

    def recover(self, disk: Disk) -> Recovered:
        """The real recovery; then every chunk that it calls whole is read as an agent reads it."""
        visible = {}
        for name, reason in self.module.recover(disk):
            if not reason:
                chunk, content = self._read(disk, name)
                visible[chunk.envelope.reverse_path.partition("@")[0]] = content
        aside = frozenset(f"{chunks.DAMAGED}/{name}" for name in disk.listdir(chunks.DAMAGED))
        return Recovered(visible=visible, aside=aside)

    def _read(self, disk: Disk, name: str) -> tuple[Any, bytes]:
        chunk = self.module.examine(disk, name)
        handle = disk.open_read(chunks.chunk_path(name))
        try:
            parts = [disk.read(handle, each.length, each.offset) for each in chunk.content]
        finally:
            disk.close(handle)
        return chunk, b"".join(parts)


@dataclass(frozen=True, slots=True)
class MaildirStore:
    """Delivery into a Maildir: `refmta.stores.maildir`, committed in groups."""

    module: Any = maildir
    name: str = "maildir"
    directories: tuple[str, ...] = field(
        default=(MAILBOX, f"{MAILBOX}/tmp", f"{MAILBOX}/new", f"{MAILBOX}/cur")
    )

    def plan(self, messages: Sequence[Message]) -> Sequence[Op]:
        """Stage every message, then commit them as one group."""
        plan: list[Op] = []
        tokens = {}
        for message in messages:
            name = self.module.unique_name(1, queue_id_of(message.token), 0, HOST)
            tokens[name] = message.token
            plan += self.module.stage_plan(MAILBOX, name, message.blocks)
        for op in self.module.commit_plan(MAILBOX, list(tokens)):
            plan.append(op._replace(path=tokens[op.path]) if op.kind == "reply" else op)
        return plan

    def recover(self, disk: Disk) -> Recovered:
        """What an agent does at its start; what a reader sees then."""
        self.module.ensure(disk, MAILBOX)
        visible = {}
        for name in disk.listdir(f"{MAILBOX}/new"):
            # Sixteen letters, among which there may be an R.
            queue_id = name.partition("Q")[2][:16]
            handle = disk.open_read(f"{MAILBOX}/new/{name}")
            content = disk.read(handle, disk.size(handle), 0)
            disk.close(handle)
            token = token_of(queue_id) if is_queue_id(queue_id) else name
            visible[token] = content
        return Recovered(visible=visible)


def chunk_store() -> ChunkStore:
    """Entry point."""
    return ChunkStore()


def maildir_store() -> MaildirStore:
    """Entry point."""
    return MaildirStore()


def with_module(store: str, module: ModuleType) -> ChunkStore | MaildirStore:
    """The store of that name over another module: a mutant."""
    return ChunkStore(module) if store == "chunks" else MaildirStore(module)
