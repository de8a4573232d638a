"""sendmail's queue: the control file, the way of a message, and several processes at once."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol import delivery
from refmta.protocol.delivery import Mark
from refmta.stores import letters
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import Claimed
from refmta.stores.sendmail_control import (
    Control,
    decode_control,
    encode_control,
    marked,
)
from refmta.stores.sendmail_qfdf import SendmailQfdf, commit_plan, rewrite_plan
from refmta.wire.envelope import ChunkError, Envelope
from specs.kernel.control import run_control
from specs.persistence.model_disk import ModelDisk
from subjects.stores_sendmail_controls import controls
from subjects.tokens import envelope_of, queue_id_of

ID = queue_id_of("m1")
DEFERRED = Mark("deferred", 0, 1, 60, "4.2.2", "full")
DELIVERED = Mark("delivered", 0, 1, 70, targets=("system", "b", "Maildir"))


def envelope():
    found = envelope_of("m1")
    return Envelope(
        queue_id=found.queue_id,
        arrival_s=1_000_000_000,
        reverse_path="ada@example.org",
        recipients=("b@example.org", "c@example.org"),
        client=found.client,
        helo="my %host",
        protocol="ESMTP",
    )


# -- the control file -----------------------------------------------------------------------------


def test_a_control_file():
    control = Control(envelope=envelope(), marks=(DELIVERED,), written=1)
    assert encode_control(control) == (
        b"V8\nT1000000000\nK70\nN1\nDdf" + ID.encode() + b"\n"
        b"$_192.0.2.1\n$smy%20%25host\n$rESMTP\nSada@example.org\n"
        b"Y:b@example.org\nRPFD:c@example.org\n"
        b'M{"kind":"delivered","index":0,"attempt":1,"when_s":70,"code":"","text":"",'
        b'"targets":["system","b","Maildir"],"host":"","far":false}\n.\n'
    )
    assert decode_control(encode_control(control), ID) == control


WHOLE = encode_control(Control(envelope=envelope(), marks=(DEFERRED,)))


def test_every_cut_shows():
    for cut in range(len(WHOLE)):
        with pytest.raises(ChunkError):
            decode_control(WHOLE[:cut], ID)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"V8", b"V9"),
        (b"T1000", b"T01000"),
        (b"T1000000000", b"T-1"),
        (b"T1000000000", b"T" + b"9" * 5000),
        (b"N0", b"Nx"),
        (b"Sada", b"S\xc3\xa4da"),
        (b"my%20", b"my "),
        (b"my%20%25", b"my%2"),
        (b"%20", b"%0a"),
        (b"$_192.0.2.1\n", b""),
        (b"RPFD:b@example.org\nRPFD:c@example.org\n", b""),
        (b"RPFD:b", b"R:b"),
        (b"RPFD:b", b"Y:b"),
        (b"b@example.org", b"b" * 300 + b"@example.org"),
        (b"my%20", b"m" * 1100),
        (b'"far":false', b'"far":0'),
        (b'"far":false', b'"near":false'),
        (b'M{"kind"', b'M {"kind"'),
        (b"\n.\n", b"\n.\nRPFD:x@y\n.\n"),
        (b"\n.\n", b"\n\n.\n"),
        (b"SdummyX", b""),
    ],
)
def test_what_was_not_written_here_is_refused(old, new):
    if old == b"SdummyX":  # another's
        with pytest.raises(ChunkError, match="another queue id"):
            decode_control(WHOLE, queue_id_of("m2"))
        return
    assert WHOLE.count(old) == 1
    with pytest.raises(ChunkError):
        decode_control(WHOLE.replace(old, new), ID)


kinds = st.sampled_from(("delivered", "deferred", "failed", "expanded", "reported"))
texts = st.text(max_size=8)


@st.composite
def histories(draw):
    """Marks that a queue manager may have written, one after the other."""
    state = delivery.start(ID, 0, envelope().recipients)
    marks = []
    for _ in range(draw(st.integers(0, 12))):
        about = [n for n, each in enumerate(state.recipients) if each.status.value != "expanded"]
        kind = draw(st.one_of(kinds, st.sampled_from(("held", "released", "warned"))))
        index = -1 if kind in ("held", "released", "warned") else draw(st.sampled_from(about))
        targets = ("d@x.org", "e@x.org") if kind == "expanded" else ()
        mark = Mark(kind, index, draw(st.integers(0, 9)), draw(st.integers(0, 99)),
                    text=draw(texts), targets=targets)  # fmt: skip
        try:
            state, _ = delivery.replay(state, [mark])
        except delivery.MarkError:
            continue
        marks.append(mark)
        if state.gone:
            break
    return marks


@given(histories(), st.integers(0, 12))
def test_what_is_left_of_the_marks_says_the_same(marks, split):
    control = Control(envelope=envelope())
    for part in (marks[:split], marks[split:]):
        control = decode_control(encode_control(marked(control, part)), ID)
    start = delivery.start(ID, 0, envelope().recipients)
    assert delivery.replay(start, control.marks)[0] == delivery.replay(start, marks)[0]
    assert control.written == 2
    assert len(control.marks) <= 2 * len(delivery.replay(start, marks)[0].recipients) + 2


# -- plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("super_safe", "kinds_of_commit", "kinds_of_rewrite"),
    [
        ("true", "sync create write sync reply", "create write sync rename sync sync_dir"),
        ("interactive", "create write reply", "create write sync rename sync sync_dir"),
        ("false", "create write reply", "create write rename"),
    ],
)
def test_which_syncs_there_are(super_safe, kinds_of_commit, kinds_of_rewrite):
    assert [op.kind for op in commit_plan(ID, b"x", super_safe)] == kinds_of_commit.split()
    assert [op.kind for op in rewrite_plan(ID, b"x", super_safe)] == kinds_of_rewrite.split()


# -- the store ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "mqueue").mkdir()
    (tmp_path / "damaged").mkdir()
    return PosixDisk(tmp_path)


def names(tmp_path, directory="mqueue"):
    return sorted(name.replace(ID, "") for name in os.listdir(tmp_path / directory))


def put(store):
    """A message on its way in; its draft is still open."""
    draft = store.draft(envelope())
    draft.add(b"content\r\n")
    draft.finish()
    assert store.commit([draft]) == {}
    return draft


def test_the_way_of_a_message(disk, tmp_path):
    store = SendmailQfdf(disk)
    draft = put(store)
    assert (draft.octets, draft.path) == (9, f"mqueue/qf{ID}")
    draft.close()
    assert store.names() == [ID]
    loaded = store.load(ID)
    assert (loaded.envelope, loaded.octets, loaded.marks) == (envelope(), 9, ())
    letter, content = letters.read(disk, loaded.handle, ID, loaded.head)
    assert (letter.envelope, content) == (envelope(), b"content\r\n")
    disk.close(loaded.handle)
    end = store.append_marks(ID, loaded.end, [DELIVERED])
    assert store.append_marks(ID, end, [Mark("deferred", 1, 1, 80)]) == 2
    store.rested(ID)
    store.release(ID)
    again = SendmailQfdf(disk).look(ID)
    assert [mark.index for mark in again.marks] == [0, 1]
    assert b"\nY:b@example.org\nRPFD:c@" in (tmp_path / "mqueue" / f"qf{ID}").read_bytes()
    disk.close(again.handle)
    disk.close(store.load(ID).handle)
    store.free(ID)
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        store.load(ID)


@pytest.mark.parametrize("options", [{"super_safe": "yes"}, {"requires_dir_fsync": "1"}])
def test_options(disk, options):
    with pytest.raises(ValueError, match="sendmail"):
        SendmailQfdf(disk, **options)


def test_one_at_a_time_delivers(disk):
    """The claim outlives that another qf takes the place of the first."""
    ours, theirs = SendmailQfdf(disk), SendmailQfdf(disk)
    put(ours).close()
    loaded = ours.load(ID)
    for _ in range(2):
        with pytest.raises(Claimed):
            theirs.load(ID)
        with pytest.raises(BlockingIOError):
            theirs.append_marks(ID, 0, [DELIVERED])
        disk.close(theirs.look(ID).handle)
        loaded_again = ours.load(ID)
        disk.close(loaded_again.handle)
        ours.release(ID)
        ours.append_marks(ID, loaded.end, [DEFERRED])
    assert list(theirs.recover()) == [(ID, "")]
    ours.release(ID)
    taken = theirs.load(ID)
    assert taken.marks == (DEFERRED,)
    theirs.release(ID)
    theirs.release(ID)
    disk.close(ours.load(ID).handle)
    disk.close(taken.handle)
    disk.close(loaded.handle)


class Meddling:
    """A disk on which somebody else does something just before this process gets a lock."""

    def __init__(self, disk, meddle):
        self.disk, self.meddle = disk, meddle

    def __getattr__(self, name):
        return getattr(self.disk, name)

    def lock(self, handle):
        meddle, self.meddle = self.meddle, lambda: None
        meddle()
        return self.disk.lock(handle)


def test_a_lock_on_a_qf_that_was_replaced_meanwhile_is_none(disk):
    theirs = SendmailQfdf(disk)
    put(theirs).close()

    def attempt():
        disk.close(theirs.load(ID).handle)
        theirs.append_marks(ID, 0, [DELIVERED])
        theirs.release(ID)

    ours = SendmailQfdf(Meddling(disk, attempt))
    with pytest.raises(Claimed):
        ours.load(ID)
    loaded = ours.load(ID)
    assert loaded.marks == (DELIVERED,)
    disk.close(loaded.handle)


def test_a_lock_on_a_qf_that_is_gone_is_none(disk):
    theirs = SendmailQfdf(disk)
    put(theirs).close()

    def finish():
        disk.close(theirs.load(ID).handle)
        theirs.free(ID)

    with pytest.raises(FileNotFoundError):
        SendmailQfdf(Meddling(disk, finish)).load(ID)


def test_a_draft_that_was_taken_for_a_leftover_fails(disk, tmp_path):
    """Whoever recovers comes between the df's creation and its lock."""
    draft = SendmailQfdf(Meddling(disk, lambda: list(SendmailQfdf(disk).recover()))).draft(
        envelope()
    )
    with pytest.raises(OSError):
        draft.add(b"content")
    draft.discard()
    assert names(tmp_path) == []


def test_what_others_write_is_left_alone(disk, tmp_path):
    writer, recoverer = SendmailQfdf(disk), SendmailQfdf(disk)
    draft = writer.draft(envelope())
    draft.add(b"half")
    assert list(recoverer.recover()) == []
    assert recoverer.names() == []
    (tmp_path / "mqueue" / f"qf{ID}").touch()  # it was just created, and is not locked yet
    assert list(recoverer.recover()) == []
    with pytest.raises(Claimed):
        recoverer.load(ID)
    assert names(tmp_path) == ["df", "qf"]
    (tmp_path / "mqueue" / f"qf{ID}").unlink()
    draft.discard()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("there", "reason", "left", "aside"),
    [
        ({"df": b"x"}, None, [], []),
        ({"df": b"x", "qf": WHOLE}, "", ["df", "qf"], []),
        ({"df": b"x", "qf": WHOLE, "tf": b""}, "", ["df", "qf"], []),
        ({"df": b"x", "qf": b""}, "cut short", [], ["df.torn", "qf.torn"]),
        ({"df": b"x", "qf": WHOLE[:-1]}, "cut short", [], ["df.torn", "qf.torn"]),
        ({"df": b"x", "qf": b"\n.\n"}, "not what", [], ["df.damaged", "qf.damaged"]),
        ({"qf": WHOLE}, "content is missing", [], ["qf.damaged"]),
        ({"tf": WHOLE}, None, [], []),
    ],
)
def test_recovery_by_the_table_of_legal_states(disk, tmp_path, there, reason, left, aside):
    for letters_, octets in there.items():
        (tmp_path / "mqueue" / f"{letters_}{ID}").write_bytes(octets)
    found = list(SendmailQfdf(disk).recover())
    assert [name for name, _ in found] == [ID] * (reason is not None)
    assert all(reason in text for _, text in found)
    assert (names(tmp_path), names(tmp_path, "damaged")) == (left, aside)
    assert list(SendmailQfdf(disk).recover()) == ([(ID, "")] if left else [])


def test_strangers_hold_up_nobody(disk, tmp_path):
    store = SendmailQfdf(disk)
    put(store).close()
    for _ in range(2):
        (tmp_path / "mqueue" / "hello").write_bytes(b"x")
        assert "hello" in store.names()
        assert dict(store.recover()) == {ID: "", "hello": "not a file of the queue"}
    (tmp_path / "mqueue" / f"qf{queue_id_of('m2')}").mkdir()
    (tmp_path / "mqueue" / "directory").mkdir()
    found = dict(store.recover())
    assert found.pop(ID) == ""
    assert sorted(found) == sorted([queue_id_of("m2"), "directory"])
    assert names(tmp_path) == ["df", "qf"]
    assert {"hello.stranger", "hello.stranger.1"} < set(names(tmp_path, "damaged"))


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
    [("sync", 0), ("sync", 1), ("write", 0), ("create", 0), ("lock", 0), ("open_read", 0)],
)
def test_what_could_not_be_promised_is_not_there(disk, tmp_path, kind, after):
    draft = SendmailQfdf(disk).draft(envelope())
    draft.add(b"content")
    draft.finish()
    failures = SendmailQfdf(Failing(disk, kind, after)).commit([draft])
    assert failures[draft.path].errno == errno.ENOSPC
    draft.discard()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["create", "write", "sync", "rename"])
def test_a_qf_that_could_not_be_replaced_stays(disk, tmp_path, kind):
    put(SendmailQfdf(disk)).close()
    store = SendmailQfdf(Failing(disk, kind))
    loaded = store.load(ID)
    with pytest.raises(OSError):
        store.append_marks(ID, loaded.end, [DELIVERED])
    disk.close(loaded.handle)
    assert names(tmp_path) == ["df", "qf"]
    disk.close(store.look(ID).handle)
    assert store.look(ID).marks == ()
    assert store.append_marks(ID, loaded.end, [DELIVERED]) == 1


def test_interactive_syncs_before_the_reply_only_what_is_left():
    disk = ModelDisk.from_tree({}, ("mqueue", "damaged"))
    store = SendmailQfdf(disk, super_safe="interactive")
    put(store).close()
    assert "sync" not in {each.kind for each in disk.record}
    store.confirm(ID)
    assert [each.path for each in disk.record if each.kind == "sync"] == [
        f"mqueue/df{ID}",
        f"mqueue/qf{ID}",
    ]
    disk.close(store.load(ID).handle)
    store.free(ID)
    with pytest.raises(FileNotFoundError):
        store.confirm(ID)
    assert disk.open_handles() == ()


def test_handles_are_closed():
    disk = ModelDisk.from_tree({}, ("mqueue", "damaged"))
    store = SendmailQfdf(disk)
    put(store).close()
    loaded = store.load(ID)
    store.append_marks(ID, loaded.end, [DEFERRED])
    disk.close(loaded.handle)
    disk.close(store.open(ID))
    store.examine(ID)
    store.set_aside(ID, "damaged")
    assert disk.open_handles() == ()


@pytest.mark.parametrize(
    "control", [each for each in controls() if "qfdf" in each.spec], ids=lambda each: each.name
)
def test_controls(control):
    result = run_control(control)
    assert result.counts, result.reason
