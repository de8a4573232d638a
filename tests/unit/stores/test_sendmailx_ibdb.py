"""sendmail X's queue: the log, the deferred database, and who may remove what when."""

import errno
import os

import pytest

from refmta.protocol.delivery import Mark
from refmta.stores import letters, sendmailx_ibdb, sendmailx_segments
from refmta.stores.disk import PosixDisk
from refmta.stores.sendmailx_ibdb import SendmailxIbdb
from refmta.stores.sendmailx_log import (
    Entry,
    envelope_record,
    freed_record,
    logged_mark,
    read_segment,
    record,
    rested_record,
    snapshot_record,
)
from refmta.wire.envelope import ChunkError
from specs.kernel.control import run_control
from specs.persistence.model_disk import ModelDisk
from subjects.stores_sendmail_controls import controls
from subjects.tokens import envelope_of, queue_id_of

ONE, TWO = queue_id_of("m1"), queue_id_of("m2")
DEFERRED = Mark("deferred", 0, 1, 60, "4.2.2", "full")
DELIVERED = Mark("delivered", 0, 1, 70)
DIRECTORIES = ("cdb", "ibdb", "deferred", "damaged")
FIRST, SECOND = envelope_of("m1"), envelope_of("m2")


# -- the log --------------------------------------------------------------------------------------


def test_a_segment_tells_what_is_alive():
    octets = (
        snapshot_record({ONE: Entry(FIRST, (DEFERRED,))})
        + envelope_record(SECOND)
        + logged_mark(TWO, DELIVERED)
        + logged_mark(queue_id_of("m3"), DELIVERED)
    )
    segment = read_segment(octets)
    assert segment.entries == {ONE: Entry(FIRST, (DEFERRED,)), TWO: Entry(SECOND, (DELIVERED,))}
    assert (segment.started, segment.end, segment.torn) == (True, len(octets), False)
    assert read_segment(octets + rested_record(ONE)).entries.keys() == {TWO}
    done = read_segment(octets + freed_record(TWO))
    assert (done.entries.keys(), done.freed) == ({ONE}, {TWO})


def test_the_first_torn_record_ends_a_segment():
    snapshot = snapshot_record({})
    octets = snapshot + envelope_record(FIRST) + envelope_record(SECOND)
    second = len(snapshot) + len(envelope_record(FIRST))
    for cut in range(len(octets)):
        segment = read_segment(octets[:cut])
        known = [ONE] * (cut >= second)
        assert (segment.started, list(segment.entries)) == (cut >= len(snapshot), known)
        assert segment.torn == (cut not in (0, len(snapshot), second))
    for at in range(second, len(octets)):
        damaged = octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :]
        assert list(read_segment(damaged).entries) == [ONE]


@pytest.mark.parametrize(
    "behind",
    [
        snapshot_record({}),
        record(b"E", b"nonsense"),
        record(b"M", ONE.encode()),
        record(b"F", b"short"),
        record(b"D", b"u" * 16),
        b"X" + record(b"F", ONE.encode())[1:],
    ],
)
def test_what_nobody_wrote_ends_a_segment(behind):
    octets = snapshot_record({}) + envelope_record(FIRST)
    segment = read_segment(octets + behind + envelope_record(SECOND))
    assert (list(segment.entries), segment.end, segment.torn) == ([ONE], len(octets), True)


def test_a_record_is_bounded():
    with pytest.raises(ValueError, match="too long"):
        record(b"M", bytes((1 << 20) + 1))


# -- the way of a message -------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    for each in DIRECTORIES:
        (tmp_path / each).mkdir()
    return PosixDisk(tmp_path)


def listed(tmp_path):
    """What lies where."""
    return {each: sorted(os.listdir(tmp_path / each)) for each in DIRECTORIES}


def written(disk, *envelopes):
    """Contents as smtps writes them; the drafts are still open."""
    smtps = SendmailxIbdb(disk)
    drafts = [smtps.draft(each) for each in envelopes]
    for draft in drafts:
        draft.add(b"content of " + draft.envelope.queue_id.encode())
        draft.finish()
    assert smtps.commit(drafts) == {}
    return drafts


def put(disk, store, *envelopes):
    """Messages that were promised."""
    drafts = written(disk, *envelopes)
    assert store.log(envelopes) == {}
    for draft in drafts:
        draft.close()


def test_content_alone_is_no_message(disk):
    drafts = written(disk, FIRST)
    assert drafts[0].path == f"cdb/{ONE}"
    store = SendmailxIbdb(disk)
    assert store.names() == []
    with pytest.raises(FileNotFoundError):
        store.load(ONE)
    assert store.log([FIRST]) == {}
    assert store.names() == [ONE]


def test_the_way_of_a_message(disk, tmp_path):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST, SECOND)
    loaded = store.load(ONE)
    letter, content = letters.read(disk, loaded.handle, ONE, loaded.head)
    assert (letter.envelope, content) == (FIRST, b"content of " + ONE.encode())
    disk.close(loaded.handle)
    store.append_marks(ONE, loaded.end, [DEFERRED])
    assert listed(tmp_path)["deferred"] == []
    store.rested(ONE)
    store.rested(ONE)
    assert listed(tmp_path)["deferred"] == [ONE]
    other = SendmailxIbdb(disk).look(ONE)
    assert other.marks == (DEFERRED,)
    end = store.append_marks(ONE, other.end, [DELIVERED])
    assert store.append_marks(ONE, end, [DELIVERED]) > end
    again = store.load(ONE)
    assert again.marks == (DEFERRED, DELIVERED, DELIVERED)
    for each in (other, again):
        disk.close(each.handle)
    store.free(ONE)
    with pytest.raises(FileNotFoundError):
        store.look(ONE)
    assert listed(tmp_path)["cdb"] == sorted([ONE, TWO])  # until the log is synced
    assert store.names() == [TWO]
    assert listed(tmp_path)["cdb"] == [TWO]


def test_a_mark_that_was_torn_in_the_deferred_database_hides_no_other(disk, tmp_path):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    store.rested(ONE)
    with (tmp_path / "deferred" / ONE).open("ab") as file:
        file.write(b"M\0\0\0\x40torn")
    loaded = store.load(ONE)
    store.append_marks(ONE, loaded.end, [DEFERRED])
    disk.close(loaded.handle)
    assert SendmailxIbdb(disk).look(ONE).marks == (DEFERRED,)


def test_who_only_looks_changes_nothing(disk, tmp_path):
    put(disk, SendmailxIbdb(disk), FIRST)
    octets = (tmp_path / "ibdb" / "00000001").read_bytes()
    (tmp_path / "ibdb" / "00000001").write_bytes(octets + b"torn")
    before = listed(tmp_path)
    looker = SendmailxIbdb(disk)
    assert looker.names() == [ONE]
    disk.close(looker.look(ONE).handle)
    assert listed(tmp_path) == before
    assert (tmp_path / "ibdb" / "00000001").read_bytes() == octets + b"torn"


def test_a_long_log_is_followed_by_another(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(sendmailx_segments, "SEGMENT_OCTETS", 500)
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    for number in range(30):
        token = f"n{number}"
        put(disk, store, envelope_of(token))
        store.append_marks(ONE, 0, [DEFERRED])
        store.free(queue_id_of(token))
    assert store.names() == [ONE]
    (segment,) = listed(tmp_path)["ibdb"]
    assert int(segment) > 5
    assert (tmp_path / "ibdb" / segment).stat().st_size < 5000
    store.close()
    assert len(SendmailxIbdb(disk).look(ONE).marks) == 30


def test_what_is_done_does_not_wait_for_ever(disk, tmp_path):
    store = SendmailxIbdb(disk)
    tokens = [f"n{number}" for number in range(sendmailx_ibdb.FREED_AT_ONCE)]
    put(disk, store, *map(envelope_of, tokens))
    for token in tokens:
        assert queue_id_of(token) in listed(tmp_path)["cdb"]
        store.free(queue_id_of(token))
    assert listed(tmp_path)["cdb"] == []


# -- after a crash --------------------------------------------------------------------------------


def test_recovery_leaves_content_that_is_about_to_be_a_message(disk, tmp_path):
    drafts = written(disk, FIRST, SECOND)
    drafts[1].close()
    qmgr = SendmailxIbdb(disk)
    assert list(qmgr.recover()) == []
    assert listed(tmp_path)["cdb"] == [ONE]
    assert qmgr.log([FIRST]) == {}
    drafts[0].close()
    assert list(qmgr.recover()) == [(ONE, "")]
    assert listed(tmp_path)["cdb"] == [ONE]


def test_a_message_that_comes_while_recovery_goes_on_is_none_of_its_business(disk, tmp_path):
    qmgr = SendmailxIbdb(disk)
    put(disk, qmgr, FIRST)
    going_on = qmgr.recover()
    assert next(going_on) == (ONE, "")
    put(disk, qmgr, SECOND)
    assert list(going_on) == []
    assert qmgr.names() == sorted([ONE, TWO])
    assert listed(tmp_path)["cdb"] == sorted([ONE, TWO])


def test_a_torn_log_is_followed_by_another(disk, tmp_path):
    put(disk, SendmailxIbdb(disk), FIRST)
    with (tmp_path / "ibdb" / "00000001").open("ab") as file:
        file.write(b"torn")
    store = SendmailxIbdb(disk)
    assert list(store.recover()) == [(ONE, "")]
    assert listed(tmp_path)["ibdb"] == ["00000002"]
    put(disk, store, SECOND)
    assert SendmailxIbdb(disk).names() == sorted([ONE, TWO])


@pytest.mark.parametrize("rests", [True, False])
def test_what_is_done_stays_done(disk, tmp_path, rests):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST, SECOND)
    if rests:
        store.rested(ONE)
    store.free(ONE)
    assert ONE in listed(tmp_path)["cdb"]
    again = SendmailxIbdb(disk)
    assert list(again.recover()) == [(TWO, "")]
    there = listed(tmp_path)
    assert (there["cdb"], there["deferred"], len(there["ibdb"])) == ([TWO], [], 1)


def test_where_nothing_is_alive_nothing_is_left(disk, tmp_path):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    store.free(ONE)
    assert list(SendmailxIbdb(disk).recover()) == []
    assert listed(tmp_path) == {each: [] for each in DIRECTORIES}


def test_strangers_hold_up_nobody(disk, tmp_path):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    (tmp_path / "cdb" / "hello").write_bytes(b"x")
    (tmp_path / "deferred" / "hello").mkdir()
    (tmp_path / "deferred" / TWO).write_bytes(b"no envelope")
    (tmp_path / "ibdb" / "README").write_bytes(b"x")
    found = dict(store.recover())
    assert found.pop(ONE) == ""
    assert found.keys() == {"hello", TWO}
    there = listed(tmp_path)
    assert (there["cdb"], there["deferred"]) == ([ONE], [])
    assert f"{TWO}.envelope.damaged" in there["damaged"]
    assert dict(store.recover()) == {ONE: ""}


@pytest.mark.parametrize("rests", [True, False])
def test_what_is_set_aside_keeps_envelope_and_content(disk, tmp_path, rests):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    if rests:
        store.rested(ONE)
    store.set_aside(ONE, "damaged")
    there = listed(tmp_path)
    assert there["damaged"] == [f"{ONE}.damaged", f"{ONE}.envelope.damaged"]
    assert (there["cdb"], there["deferred"], store.names()) == ([], [], [])
    assert list(SendmailxIbdb(disk).recover()) == []
    with pytest.raises(FileNotFoundError):
        store.load(ONE)


def test_an_envelope_under_anothers_name_is_refused(disk, tmp_path):
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    store.rested(ONE)
    os.rename(tmp_path / "deferred" / ONE, tmp_path / "deferred" / TWO)
    with pytest.raises(ChunkError, match="another queue id"):
        store.load(TWO)
    with pytest.raises(ChunkError, match="no queue id"):
        store.load("../deferred")


# -- a disk that fails ----------------------------------------------------------------------------


class Failing:
    """A disk on which the call of that kind fails, the given one."""

    def __init__(self, disk, kind, after=0):
        self.disk, self.kind, self.after = disk, kind, after

    def __getattr__(self, name):
        call = getattr(self.disk, name)
        if name != self.kind:
            return call

        def failing(*arguments):
            self.after -= 1
            if self.after == -1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*arguments)

        return failing


@pytest.mark.parametrize(
    ("kind", "after"),
    [("write", 0), ("sync", 0), ("create", 0), ("write", 1), ("sync", 1), ("sync_dir", 0)],
)
def test_what_could_not_be_logged_is_not_promised_and_hurts_nobody_else(disk, kind, after):
    store = SendmailxIbdb(Failing(disk, kind, after))
    drafts = written(disk, FIRST)
    failures = store.log([FIRST])
    assert failures[ONE].errno == errno.ENOSPC
    assert store.names() == []
    drafts[0].discard()
    put(disk, store, SECOND)
    assert store.names() == [TWO]
    assert list(SendmailxIbdb(disk).recover()) == [(TWO, "")]


@pytest.mark.parametrize("kind", ["create", "write", "sync", "sync_dir"])
def test_what_could_not_come_to_rest_stays_in_the_log(disk, tmp_path, kind):
    put(disk, SendmailxIbdb(disk), FIRST)
    store = SendmailxIbdb(Failing(disk, kind))
    with pytest.raises(OSError):
        store.rested(ONE)
    assert listed(tmp_path)["deferred"] == []
    assert SendmailxIbdb(disk).names() == [ONE]
    store.rested(ONE)
    assert listed(tmp_path)["deferred"] == [ONE]


def test_a_content_that_could_not_be_synced_fails_alone(disk):
    smtps = SendmailxIbdb(Failing(disk, "sync"))
    drafts = [smtps.draft(each) for each in (FIRST, SECOND)]
    for draft in drafts:
        draft.add(b"x")
    assert smtps.commit(drafts).keys() == {f"cdb/{ONE}"}
    smtps = SendmailxIbdb(Failing(disk, "sync_dir"))
    assert smtps.commit(drafts).keys() == {f"cdb/{ONE}", f"cdb/{TWO}"}


def test_a_group_costs_one_sync():
    disk = ModelDisk.from_tree({}, DIRECTORIES)
    store = SendmailxIbdb(disk)
    put(disk, store, FIRST)
    before = len(disk.record)
    assert store.log([envelope_of(f"n{number}") for number in range(50)]) == {}
    assert [each.kind for each in disk.record[before:]] == ["write", "sync"]
    store.close()
    assert disk.open_handles() == ()


@pytest.mark.parametrize(
    "control", [each for each in controls() if "ibdb" in each.spec], ids=lambda each: each.name
)
def test_controls(control):
    result = run_control(control)
    assert result.counts, result.reason
