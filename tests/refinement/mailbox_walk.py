"""A Maildir on long walks: deliveries done again, a reader, other programs."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from refinement.machines import hold
from refinement.store_walk import BLOCKS, FUSES, Store

from refmta.stores import maildir
from subjects.tokens import queue_id_of, token_of

MAILBOX, HOST = "home/Maildir", "mx.example.org"


class Maildir(Store):
    """drafts: staged; kept: delivered, and neither read nor being replaced.

    loose: removed or replaced by an unsynced operation. A crash may bring such a file back, whole
    or empty (models.py: the last unlink truncates first). It is nobody's promise: its reader took
    it, or it is still in the queue, whose mark was lost.
    """

    module = maildir

    def __init__(self) -> None:
        self.foreign = 0
        self.loose: set[str] = set()
        super().__init__()

    def open(self) -> None:
        before = self.inside("tmp")
        self.module.ensure(self.disk, MAILBOX)
        self.no_handle_left()
        foreign = {name for name in before if name.startswith("other")}
        hold("nothing_left_over", set(self.inside("tmp")) == foreign, self.inside("tmp"))
        self.judge()

    def name_of(self, token: str) -> str:
        """As the agent names it at this attempt."""
        return self.module.unique_name(1, queue_id_of(token), 0, HOST)

    def inside(self, directory: str) -> dict[str, bytes]:
        top = f"{MAILBOX}/{directory}/"
        tree = self.disk.model.tree()
        return {
            path[len(top) :]: tree[path] for path in tree if path.startswith(top) and path != top
        }

    def judge(self) -> None:
        """What a reader sees."""
        new = self.inside("new")
        hold("one_file_per_message", len(new) == len(set(map(token_in, new))), sorted(new))
        whole = set()
        for name, octets in new.items():
            token = token_in(name)
            is_whole = self.content.get(token) == octets
            emptied = token in self.loose and not octets
            hold("visible_is_complete", is_whole or emptied, f"{name}: {octets!r}")
            if is_whole and token not in self.loose:
                whole.add(token)
        hold("acknowledged_present", self.kept <= whole, self.kept - whole)
        self.kept = whole

    @precondition(lambda self: len(self.drafts) < 3)
    @rule(data=st.data(), blocks=BLOCKS, again=st.booleans(), fuse=FUSES)
    def stage(self, data: Any, blocks: list[bytes], again: bool, fuse: int | None) -> None:
        """A message, or one that was delivered already and whose mark was lost."""
        known = self.content.keys() - self.drafts.keys()
        if again and known:
            token = self.one_of(data, known)
            blocks = [self.content[token]]
        else:
            token = self.token()
            self.content[token] = b"".join(blocks)

        def write() -> None:
            staged = self.module.Staged(self.disk, MAILBOX, self.name_of(token))
            for block in blocks:
                staged.write(block)
            self.drafts[token] = staged

        self.attempt(data, write, fuse)

    @precondition(lambda self: self.drafts)
    @rule(data=st.data(), fuse=FUSES)
    def commit(self, data: Any, fuse: int | None) -> None:
        tokens = data.draw(st.lists(st.sampled_from(sorted(self.drafts)), min_size=1, unique=True))
        group = [self.drafts[token] for token in tokens]
        self.kept.difference_update(tokens)
        self.loose |= {token for token in tokens if token in map(token_in, self.inside("new"))}
        if self.attempt(data, lambda: self.module.commit(self.disk, MAILBOX, group), fuse):
            for token in tokens:
                del self.drafts[token]
            self.kept.update(tokens)
            self.loose.difference_update(tokens)
            self.judge()

    @precondition(lambda self: self.drafts)
    @rule(data=st.data(), fuse=FUSES)
    def discard(self, data: Any, fuse: int | None) -> None:
        token = self.one_of(data, self.drafts)
        self.attempt(data, self.drafts.pop(token).discard, fuse)

    @precondition(lambda self: self.drafts)
    @rule()
    def start_again(self) -> None:
        """The agent ends, and the next one makes sure of the mailbox."""
        for staged in self.drafts.values():
            self.disk.close(staged.handle)
        self.drafts.clear()
        self.open()

    @rule(blocks=BLOCKS)
    def deliver(self, blocks: list[bytes]) -> None:
        """All of it, undisturbed, so that walks come far."""
        token = self.token()
        self.content[token] = b"".join(blocks)
        staged = self.module.Staged(self.disk, MAILBOX, self.name_of(token))
        for block in blocks:
            staged.write(block)
        self.module.commit(self.disk, MAILBOX, [staged])
        self.kept.add(token)
        self.judge()

    # -- others -------------------------------------------------------------------------------

    @precondition(lambda self: len(self.inside("new")) > 1)
    @rule(data=st.data(), deletes=st.booleans())
    def reader_takes(self, data: Any, deletes: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.inside("new"))))
        path = f"{MAILBOX}/new/{name}"
        if deletes:
            self.disk.unlink(path)
        else:
            self.disk.rename(path, f"{MAILBOX}/cur/{name}:2,S")
        self.loose.add(token_in(name))
        self.kept.discard(token_in(name))

    @rule()
    def other_program_writes(self) -> None:
        self.foreign += 1
        self.disk.close(self.disk.create(f"{MAILBOX}/tmp/other{self.foreign}"))


def token_in(name: str) -> str:
    """The message that a file in the mailbox is."""
    return token_of(name.partition("Q")[2][:16])
