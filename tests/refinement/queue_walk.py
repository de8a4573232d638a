"""The queue's store on long walks: groups, marks, chunks set aside and freed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from refinement.machines import hold
from refinement.store_walk import BLOCKS, FUSES, Store

from refmta.protocol.delivery import Mark
from refmta.stores import chunks
from specs.persistence.model_disk import Snapshot
from subjects.tokens import envelope_of, queue_id_of


class Marks(Store):
    """Few messages, many marks. kept: durable; what was freed may be brought back by a crash."""

    most = 1

    directories = (chunks.CHUNKS, chunks.DAMAGED)
    module = chunks

    def __init__(self) -> None:
        self.finished: set[str] = set()
        self.marks: dict[str, list[Mark]] = {}  # as read last, and appended since
        self.appended = 0
        self.doubtful: set[str] = set()  # not read since the last crash
        self.found: dict[str, bytes] = {}  # in the queue before recovery
        super().__init__()

    def before_open(self, left: Snapshot) -> None:
        self.doubtful = set(self.content)
        self.found = {
            path.removeprefix("chunks/"): octets
            for path, octets in left.tree.items()
            if path.startswith("chunks/")
        }

    def open(self) -> None:
        reasons = dict(self.module.recover(self.disk))
        self.no_handle_left()
        self.finished.clear()
        whole = {name for name, reason in reasons.items() if not reason}
        aside = self.set_aside()
        for name, octets in self.found.items():
            hold("nothing_is_dropped", name in whole or octets in aside.get(name, ()), name)
        self.found = {}
        for token in self.content:
            name = queue_id_of(token)
            if name in whole:
                self.kept.add(token)
                self.read_back(token)
            elif token in self.kept:
                there = any(self.is_whole(octets, token) for octets in aside.get(name, ()))
                hold("acknowledged_present", there, f"{token}: {reasons.get(name, 'no file')}")
                self.kept.discard(token)

    def set_aside(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for path, octets in self.disk.model.tree().items():
            if path.startswith("damaged/") and not path.endswith("/"):
                found.setdefault(path[8:].partition(".")[0], []).append(octets)
        return found

    def is_whole(self, octets: bytes, token: str) -> bool:
        return token in self.aside and self.content[token] in octets

    aside: frozenset[str] = frozenset()  # by the operator's will

    def read_back(self, token: str) -> None:
        """Envelope, content and marks, as the queue manager and an agent read them."""
        name = queue_id_of(token)
        loaded = self.module.load(self.disk, name)
        handle = loaded.handle
        chunk = self.module.read_chunk(self.disk, handle, name, verify=True)
        octets = b"".join(self.disk.read(handle, at.length, at.offset) for at in chunk.content)
        self.disk.close(handle)
        same = octets == self.content[token] and loaded.octets == len(octets)
        same = same and loaded.envelope == chunk.envelope == envelope_of(token)
        hold("visible_is_complete", same, f"{token}: {octets!r}")
        known, read = self.marks[token], list(loaded.marks)
        hold("marks_are_ours", read == known[: len(read)], f"{read}, not {known}")
        hold("marks_stay", read == known or token in self.doubtful, f"{read}, not {known}")
        self.doubtful.discard(token)
        self.marks[token] = read

    # -- qmgr ---------------------------------------------------------------------------------

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), number=st.integers(1, 2), fuse=FUSES)
    def mark(self, data: Any, number: int, fuse: int | None) -> None:
        """Read the chunk, and append marks; their numbers tell them apart."""
        token = self.one_of(data, self.kept)
        name = queue_id_of(token)
        self.read_back(token)
        loaded = self.module.load(self.disk, name)
        self.disk.close(loaded.handle)
        self.appended += number
        new = [Mark("deferred", 0, self.appended + n, 0) for n in range(number)]
        self.marks[token] = [*loaded.marks, *new]
        self.attempt(data, lambda: self.module.append_marks(self.disk, name, loaded.end, new), fuse)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def load(self, data: Any) -> None:
        self.read_back(self.one_of(data, self.kept))
        self.no_handle_left(but=len(self.drafts))

    @precondition(lambda self: len(self.kept) < self.most)
    @rule(blocks=BLOCKS)
    def receive(self, blocks: list[bytes]) -> None:
        """All of it, undisturbed, so that walks come far."""
        token = self.token()
        self.content[token], self.marks[token] = b"".join(blocks), []
        draft = self.module.OpenDraft(self.disk, self.module.Draft(envelope_of(token)))
        for block in blocks:
            draft.add(block)
        draft.finish()
        self.module.commit(self.disk, [draft])
        draft.close()
        self.kept.add(token)


class Chunks(Marks):
    """The whole life of chunks."""

    most = 9

    # -- enqueue ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.drafts) < 3)
    @rule(data=st.data(), blocks=BLOCKS, gather=st.sampled_from([0, 4, 1 << 16]), fuse=FUSES)
    def begin(self, data: Any, blocks: list[bytes], gather: int, fuse: int | None) -> None:
        token = self.token()
        self.content[token] = b"".join(blocks)
        self.marks[token] = []
        draft = self.module.OpenDraft(
            self.disk, self.module.Draft(envelope_of(token), gather=gather)
        )
        if self.attempt(data, lambda: [draft.add(block) for block in blocks], fuse):
            self.drafts[token] = draft

    @precondition(lambda self: self.drafts.keys() - self.finished)
    @rule(data=st.data(), fuse=FUSES)
    def finish(self, data: Any, fuse: int | None) -> None:
        token = self.one_of(data, self.drafts.keys() - self.finished)
        if self.attempt(data, self.drafts[token].finish, fuse):
            self.finished.add(token)

    @precondition(lambda self: self.finished)
    @rule(data=st.data(), fuse=FUSES)
    def commit(self, data: Any, fuse: int | None) -> None:
        tokens = data.draw(
            st.lists(st.sampled_from(sorted(self.finished)), min_size=1, unique=True)
        )
        group = [self.drafts[token] for token in tokens]
        if self.attempt(data, lambda: self.module.commit(self.disk, group), fuse):
            for draft in group:
                draft.close()
            self.kept.update(tokens)
            self.finished.difference_update(tokens)
            for token in tokens:
                del self.drafts[token]

    @precondition(lambda self: self.drafts)
    @rule(data=st.data(), fuse=FUSES)
    def discard(self, data: Any, fuse: int | None) -> None:
        token = self.one_of(data, self.drafts)
        if self.attempt(data, self.drafts[token].discard, fuse):
            del self.drafts[token]
            self.finished.discard(token)

    @precondition(lambda self: len(self.kept) > 1)
    @rule(data=st.data(), fuse=FUSES)
    def free(self, data: Any, fuse: int | None) -> None:
        token = self.one_of(data, self.kept)
        self.kept.discard(token)
        self.attempt(data, lambda: self.disk.unlink(chunks.chunk_path(queue_id_of(token))), fuse)

    @precondition(lambda self: len(self.kept) > 1)
    @rule(data=st.data(), fuse=FUSES)
    def put_aside(self, data: Any, fuse: int | None) -> None:
        """An agent found it damaged. Whole or not, it must not vanish."""
        token = self.one_of(data, self.kept)
        self.aside |= {token}
        self.attempt(
            data, lambda: self.module.set_aside(self.disk, queue_id_of(token), "damaged"), fuse
        )
        if queue_id_of(token) not in self.disk.listdir(chunks.CHUNKS):
            self.kept.discard(token)
