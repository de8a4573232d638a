"""Postfix's queue: where a message is in each state, who is refused it, and what recovery does."""

import errno
import os
import stat

import pytest

from refmta.protocol.delivery import Mark
from refmta.stores import letters
from refmta.stores.disk import PosixDisk
from refmta.stores.postfix_modebit import DIRECTORIES, PostfixModebit
from refmta.stores.queue import Claimed, open_queue
from refmta.wire.envelope import ChunkError, queue_id
from specs.kernel.control import run_control
from specs.persistence.enumerate import examine
from specs.persistence.expected import compare, expected
from specs.persistence.models import MODELS, P1_SPLIT
from specs.persistence.workloads import CONCURRENT, ONE, REMAINS
from subjects.stores_qmail_postfix import postfix
from subjects.stores_qmail_postfix_controls import controls
from subjects.tokens import envelope_of, queue_id_of

ID = queue_id_of("m1")
DAY_S = 24 * 60 * 60
DEFERRED = Mark("deferred", 0, 1, 2, "4.2.2", "mailbox full")


@pytest.fixture
def disk(tmp_path):
    for directory in DIRECTORIES:
        (tmp_path / directory).mkdir()
    return PosixDisk(tmp_path)


@pytest.fixture
def store(disk):
    return PostfixModebit(disk)


def kept(store, name="m1", *pieces):
    draft = store.draft(envelope_of(name))
    for piece in pieces or (b"Subject: x\r\n", b"\r\nhello\r\n"):
        draft.add(piece)
    draft.finish()
    assert store.commit([draft]) == {}
    draft.close()
    return queue_id_of(name)


def files(tmp_path):
    return sorted(str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if each.is_file())


def content(store, loaded):
    letter, octets = letters.read(store.disk, loaded.handle, loaded.envelope.queue_id, loaded.head)
    assert letter.octets == loaded.octets
    return octets


def test_it_is_what_an_architecture_opens_by_name(disk):
    assert isinstance(open_queue("postfix_modebit", disk, {"unfinished_s": "60"}), PostfixModebit)
    for options in ({"unfinished_s": "soon"}, {"sync": "never"}):
        with pytest.raises(ValueError):
            open_queue("postfix_modebit", disk, options)


def test_a_message_is_complete_when_it_is_executable(store, tmp_path):
    draft = store.draft(envelope_of("m1"))
    assert draft.handle is None and files(tmp_path) == []
    draft.add(b"hello\r\n")
    draft.finish()
    path = tmp_path / "incoming" / ID
    assert files(tmp_path) == [f"incoming/{ID}"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.names() == []
    with pytest.raises(Claimed):
        store.load(ID)
    with pytest.raises(FileNotFoundError):
        store.look(ID)
    assert store.commit([draft]) == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert store.names() == [ID]
    draft.close()


def test_the_way_of_a_message_through_the_directories(store, tmp_path):
    kept(store)
    assert store.look(ID).envelope == envelope_of("m1")
    assert files(tmp_path) == [f"incoming/{ID}"]
    loaded = store.load(ID)
    assert files(tmp_path) == [f"active/{ID}"]
    assert (loaded.envelope, loaded.marks, loaded.head) == (envelope_of("m1"), (), b"")
    assert content(store, loaded) == b"Subject: x\r\n\r\nhello\r\n"
    end = store.append_marks(ID, loaded.end, [DEFERRED])
    store.rested(ID)
    store.rested(ID)
    assert files(tmp_path) == [f"deferred/{ID}"]
    os.close(store.open(ID))
    again = store.load(ID)
    assert files(tmp_path) == [f"active/{ID}"]
    assert (again.marks, again.end) == ((DEFERRED,), end)
    store.release(ID)
    store.free(ID)
    assert files(tmp_path) == [] and store.names() == []
    for gone in (store.load, store.look, store.open, store.free, store.examine):
        with pytest.raises(FileNotFoundError):
            gone(ID)


def test_marks_in_each_directory_and_over_a_torn_one(store, tmp_path):
    kept(store)
    first = store.look(ID)
    end = store.append_marks(ID, first.end, [DEFERRED])
    with (tmp_path / "incoming" / ID).open("ab") as file:
        file.write(b"M\0\0\0\x09torn")
    assert store.look(ID).end == end
    later = Mark("failed", 0, 2, 3, "5.1.1", "nobody")
    store.load(ID)
    store.append_marks(ID, end, [later])
    store.rested(ID)
    assert store.look(ID).marks == (DEFERRED, later)
    store.append_marks(ID, store.look(ID).end, [Mark("reported", 0, 2, 4)])
    assert [each.kind for each in store.look(ID).marks] == ["deferred", "failed", "reported"]


def test_a_mark_that_nobody_wrote_is_damage(store, tmp_path):
    from refmta.wire.envelope import mark_record

    kept(store)
    with (tmp_path / "incoming" / ID).open("ab") as file:
        file.write(mark_record(b"\xc1"))
    with pytest.raises(ChunkError):
        store.load(ID)


def test_a_discarded_draft_leaves_nothing_also_while_it_is_named(store, tmp_path):
    store.draft(envelope_of("m2")).discard()
    draft = store.draft(envelope_of("m1"))
    draft.add(b"x")
    draft.finish()
    draft.discard()
    assert files(tmp_path) == []


class Failing(PosixDisk):
    """A disk on which one kind of operation fails."""

    def __init__(self, root, kind):
        super().__init__(root)
        setattr(self, kind, self.fail)

    def fail(self, *arguments):
        raise OSError(errno.EIO, "it fails")


@pytest.mark.parametrize("kind", ["chmod", "sync"])
def test_what_can_not_be_committed_fails_alone_and_goes(tmp_path, disk, kind):
    broken = PostfixModebit(Failing(tmp_path, kind))
    draft = broken.draft(envelope_of("m1"))
    draft.add(b"x")
    draft.finish()
    assert list(broken.commit([draft])) == [f"incoming/{ID}"]
    draft.discard()
    assert files(tmp_path) == []


def test_recovery_keeps_what_is_young_and_unfinished_and_removes_what_is_old(disk, tmp_path):
    made_ms = 1_800_000_000_000
    names = [queue_id(made_ms, chance) for chance in range(3)]
    (tmp_path / "incoming" / names[0]).write_bytes(b"V")
    (tmp_path / "incoming" / f"tmp.{names[1]}").write_bytes(b"")
    (tmp_path / "incoming" / "core").write_bytes(b"a stranger's, and not executable")
    young = PostfixModebit(disk, now=lambda: made_ms / 1000 + DAY_S - 1)
    assert [name for name, reason in young.recover()] == ["core"]
    assert len(files(tmp_path)) == 3
    old = PostfixModebit(disk, now=lambda: made_ms / 1000 + DAY_S)
    assert list(old.recover()) == []
    assert files(tmp_path) == ["corrupt/core.damaged"]


def test_what_is_complete_and_torn_goes_to_corrupt(store, tmp_path):
    kept(store)
    kept(store, "m2")
    path = tmp_path / "incoming" / ID
    path.write_bytes(path.read_bytes()[:-1])
    assert dict(store.recover()) == {
        ID: "no end record: the chunk was cut short",
        queue_id_of("m2"): "",
    }
    assert files(tmp_path) == [f"corrupt/{ID}.torn", f"incoming/{queue_id_of('m2')}"]
    assert dict(store.recover()) == {queue_id_of("m2"): ""}


def test_a_message_under_another_name_is_refused(store, tmp_path):
    kept(store)
    other = queue_id_of("m2")
    (tmp_path / "incoming" / ID).rename(tmp_path / "active" / other)
    with pytest.raises(ChunkError):
        store.load(other)
    assert dict(store.recover()) == {other: "the chunk belongs to another queue id"}
    assert files(tmp_path) == [f"corrupt/{other}.damaged"]


def test_a_move_that_a_crash_cut_in_two_is_ended(store, tmp_path):
    kept(store)
    os.link(tmp_path / "incoming" / ID, tmp_path / "active" / ID)
    assert dict(store.recover()) == {ID: ""}
    assert files(tmp_path) == [f"active/{ID}"]


def test_a_second_strangers_file_does_not_take_the_place_of_the_first(store, tmp_path):
    for text in ("first", "second"):
        (tmp_path / "active" / "core").write_text(text)
        list(store.recover())
    (tmp_path / "deferred" / "a directory").mkdir()
    assert dict(store.recover())["a directory"] == "the file's name is no queue id"
    assert {each.name for each in (tmp_path / "corrupt").iterdir()} == {
        "core.damaged", "core.damaged.1", "a directory.damaged",
    }  # fmt: skip


def test_no_descriptor_stays_open(store):
    before = set(os.listdir("/proc/self/fd"))
    kept(store)
    list(store.recover())
    store.set_aside(ID, "asked for")
    with pytest.raises(FileNotFoundError):
        store.load(ID)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0


@pytest.mark.parametrize("life", [False, True])
def test_what_crashes_do_is_as_expected(life):
    subject = postfix(life=life)
    reports = [examine(subject, model, each) for model in MODELS for each in (ONE, REMAINS)]
    assert list(map(str, compare(reports, expected()))) == []
    assert all(each.exhaustive for each in reports)


def test_two_messages_are_what_each_of_them_is():
    """`apart` leaves this workload out of `refmta-spec persistence`."""
    assert examine(postfix(), P1_SPLIT, CONCURRENT).violated == {}


@pytest.mark.parametrize(
    "control", [each for each in controls() if "postfix" in each.name], ids=lambda each: each.name
)
def test_control(control):
    result = run_control(control)
    assert result.counts, result.reason
