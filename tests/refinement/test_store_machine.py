"""The stores on long walks: chunks and Maildir with kill, power cut and reopen among the rules.

`test_stores.py` tries every crash state of short histories. Here histories are long and have many
crashes: what one crash left is the ground on which the next group is committed, marks are appended
behind torn marks, and recovery itself is cut off. The walks run on the model disk (any of the
persistence models, drawn for each crash) and on a real directory beside it.

Invariants, each caught by a mutant below:
- acknowledged_present: what was acknowledged is there, until it was freed or read;
- visible_is_complete: what can be read has the octets that were submitted under that name;
- nothing_is_dropped: a file in the queue is, after recovery, whole there or in damaged/;
- marks_are_ours: the marks read are the first of those that were read and appended before, in
  order; what one crash took back does not return in another;
- marks_stay: without a crash, all of them;
- one_file_per_message: a delivery done again replaces the first, until a reader took it (Maildir);
- nothing_left_over: no half-written file of ours stays in tmp/, others' do; no handle stays open.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from refinement.disks import Fused, PowerCut, Twin, empty
from refinement.machines import breaks, hold, made, walk

from refmta.protocol.delivery import Mark
from refmta.stores import chunks, maildir
from specs.kernel.mutant import hits, mutate
from specs.persistence.model_disk import Snapshot
from specs.persistence.models import MODELS
from specs.persistence.sample import power_cut
from subjects.tokens import envelope_of, queue_id_of, token_of

#: Changes that a rule may still make before the power is cut; mostly it isn't.
FUSES = st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4, 6, 8, 12])
BLOCKS = st.lists(st.sampled_from([b"", b"a", b"bc", b"def\r\n"]), min_size=1, max_size=3)
CUTS_IN_RECOVERY = 2
MAILBOX, HOST = "home/Maildir", "mx.example.org"


class Store(RuleBasedStateMachine):
    """A disk that is cut off, and messages by token. Subclasses know the store."""

    directories: tuple[str, ...] = ()
    module: Any = None
    most = 9  # messages that are kept
    parent: Path | None = None  # of real directories; None: the model alone

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.content: dict[str, bytes] = {}  # by token, all that were ever begun
        self.kept: set[str] = set()  # must be there
        self.drafts: dict[str, Any] = {}
        self.insert(empty(*self.directories))

    # -- the disk -----------------------------------------------------------------------------

    def insert(self, snapshot: Snapshot, fuse: int | None = None) -> None:
        """Start on this disk: recover, and judge what is there. Raises PowerCut."""
        self.drafts.clear()
        self.disk = Twin(snapshot, self.parent) if self.parent else Fused(snapshot)
        self.disk.fuse = fuse
        self.open()
        self.disk.fuse = None

    def open(self) -> None:
        raise NotImplementedError

    def attempt(self, data: Any, action: Any, fuse: int | None) -> bool:
        """Do something, with a fuse; False if it blew: then the machine has crashed and is back."""
        self.disk.fuse = fuse
        try:
            action()
        except PowerCut:
            self.lose_power(data)
            return False
        finally:
            self.disk.fuse = None
        return True

    def lose_power(self, data: Any) -> None:
        """Crash, and recover; recovery may be cut off as well."""
        for _ in range(CUTS_IN_RECOVERY):
            left = self.left_by_crash(data)
            fuse = data.draw(FUSES, label="changes until recovery is cut off")
            try:
                self.before_open(left)
                self.insert(left, fuse)
            except PowerCut:
                continue
            return
        left = self.left_by_crash(data)
        self.before_open(left)
        self.insert(left)

    def left_by_crash(self, data: Any) -> Snapshot:
        model = data.draw(st.sampled_from(MODELS), label="persistence model")
        self.disk.forget()
        return power_cut(
            self.disk.initial,
            self.disk.record,
            model,
            lambda ways: data.draw(st.integers(0, ways - 1)),
        )

    def before_open(self, left: Snapshot) -> None:
        """What recovery will find."""

    def token(self) -> str:
        self.number += 1
        return f"m{self.number}"

    def one_of(self, data: Any, tokens: Any) -> str:
        return data.draw(st.sampled_from(sorted(tokens)), label="message")

    def no_handle_left(self, *, but: int = 0) -> None:
        left = self.disk.open_handles()
        hold("nothing_left_over", len(left) <= but, left)

    def teardown(self) -> None:
        self.disk.forget()

    # -- crashes ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.kept) + len(self.drafts) >= min(self.most, 2))
    @rule(data=st.data())
    def power_is_cut(self, data: Any) -> None:
        self.lose_power(data)

    @precondition(lambda self: self.drafts)
    @rule()
    def process_is_killed(self) -> None:
        """And started anew: nothing is lost but what only it knew."""
        self.disk.forget()
        self.insert(self.disk.model.snapshot())


# -- the queue ------------------------------------------------------------------------------------


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
        chunk, handle = loaded.chunk, loaded.handle
        octets = b"".join(self.disk.read(handle, at.length, at.offset) for at in chunk.content)
        self.disk.close(handle)
        same = octets == self.content[token] and chunk.envelope == envelope_of(token)
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


# -- a mailbox ------------------------------------------------------------------------------------


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


# -- the walks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [Chunks, Marks, Maildir])
def test_long_walks_on_the_model_disk(machine):
    walk(machine, examples=150, steps=40)


@pytest.mark.parametrize("machine", [Chunks, Maildir])
def test_long_walks_on_a_real_directory(machine):
    parent = Path(tempfile.mkdtemp(prefix="refmta-machine-"))
    try:
        walk(made(machine, parent=parent), examples=25, steps=40)
    finally:
        shutil.rmtree(parent)


# -- controls -------------------------------------------------------------------------------------

#: Machine, invariant, what is replaced in its module, by what.
MUTANTS = {
    "recovery drops a torn chunk": (
        Chunks, "nothing_is_dropped",
        '        set_aside(disk, name, "torn" if "cut short" in text else "damaged")',
        "        __mutant_ran__()\n        disk.unlink(chunk_path(name))",
    ),
    "a chunk is set aside without its new name": (
        Chunks, "nothing_is_dropped",
        '        Op("link", f"{CHUNKS}/{name}", target=target),\n',
        "        *([][__mutant_ran__() :]),\n",
    ),
    "chunks are not synced": (
        Chunks, "acknowledged_present",
        '    plan += [Op("sync", path) for path in paths]\n    plan.append(Op("sync_dir", CHUNKS))',
        '    __mutant_ran__()\n    plan.append(Op("sync_dir", CHUNKS))',
    ),
    "the names of chunks are not synced": (
        Chunks, "acknowledged_present",
        '    plan.append(Op("sync_dir", CHUNKS))', "    __mutant_ran__()",
    ),
    "marks behind a torn mark": (
        Marks, "marks_stay",
        "            disk.truncate(handle, end)\n", "            __mutant_ran__()\n",
    ),
    "a torn mark cut off without a sync": (
        Marks, "marks_are_ours",
        "            disk.sync(handle)\n", "            __mutant_ran__()\n",
    ),
    "mail is not synced": (
        Maildir, "visible_is_complete",
        '    plan += [Op("sync", path) for path in temporary]\n', "    __mutant_ran__()\n",
    ),
    "names in new/ are not synced": (
        Maildir, "acknowledged_present",
        '    plan.append(Op("sync_dir", f"{mailbox}/new"))\n', "    __mutant_ran__()\n",
    ),
    "a new mailbox is not synced": (
        Maildir, "acknowledged_present",
        "        disk.sync_dir(directory)\n", "        __mutant_ran__()\n",
    ),
    "a second delivery under another name": (
        Maildir, "one_file_per_message",
        "R{index}.{safe}", "R{__mutant_hits__[0] + __mutant_ran__()}.{safe}",
    ),
    "leftovers in tmp/ stay": (
        Maildir, "nothing_left_over",
        "        if _OURS.match(name):", "        if not __mutant_ran__():",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_walk_finds_the_mutant_by_the_named_invariant(name):
    """The twins are the walks above."""
    machine, invariant, old, new = MUTANTS[name]
    module = mutate(machine.module.__name__, [(old, new)])
    assert breaks(made(machine, module=module), invariant, examples=600, steps=40)
    assert hits(module)
