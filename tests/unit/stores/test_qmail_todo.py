"""qmail's queue: the states of INTERNALS, marks of one octet, and what recovery does."""

import errno
import os
from dataclasses import replace

import pytest

from refmta.protocol.delivery import Mark, replay, start
from refmta.stores import letters, qmail_todo
from refmta.stores.disk import PosixDisk
from refmta.stores.qmail_todo import DIRECTORIES, PARTS, QmailTodo
from refmta.stores.queue import Claimed, open_queue
from refmta.wire.envelope import ChunkError, queue_id
from specs.kernel.control import run_control
from specs.persistence.enumerate import examine
from specs.persistence.expected import compare, expected
from specs.persistence.models import MODELS
from specs.persistence.workloads import ONE, REMAINS
from subjects.stores_qmail_postfix import qmail
from subjects.stores_qmail_postfix_controls import controls
from subjects.tokens import envelope_of, queue_id_of

ID = queue_id_of("m1")
FOUR = ("far@far.test", "ada@example.org", "bob@EXAMPLE.org", "near@far.test")
DEFERRED = Mark("deferred", 0, 1, 2, "4.2.2", "mailbox full")


@pytest.fixture
def disk(tmp_path):
    for directory in DIRECTORIES:
        (tmp_path / directory).mkdir()
    return PosixDisk(tmp_path)


@pytest.fixture
def store(disk):
    return QmailTodo(disk, local_domains="example.org example.com")


def kept(store, envelope=None, *pieces):
    draft = store.draft(envelope or envelope_of("m1"))
    for piece in pieces or (b"Subject: x\r\n", b"\r\nhello\r\n"):
        draft.add(piece)
    draft.finish()
    assert store.commit([draft]) == {}
    draft.close()
    return draft


def parts(tmp_path, name=ID):
    """Which files this message has."""
    return " ".join(part for part in ("pid", *PARTS) if (tmp_path / part / name).exists())


def octets(tmp_path, part, name=ID):
    return (tmp_path / part / name).read_bytes()


def test_it_is_what_an_architecture_opens_by_name(disk):
    options = {"local_domains": "example.org", "unfinished_s": "60"}
    assert isinstance(open_queue("qmail_todo", disk, options), QmailTodo)
    for options in ({"unfinished_s": "soon"}, {"locals": "example.org"}):
        with pytest.raises(ValueError):
            open_queue("qmail_todo", disk, options)


def test_the_states_of_a_message(store, tmp_path):
    draft = store.draft(envelope_of("m1"))
    assert draft.handle is None and parts(tmp_path) == ""  # S1
    draft.add(b"hello\r\n")
    draft.finish()
    assert parts(tmp_path) == "mess"  # S2
    assert store.names() == []
    assert store.commit([draft]) == {}
    draft.close()
    assert parts(tmp_path) == "todo mess intd"  # S4
    assert os.path.samefile(tmp_path / "todo" / ID, tmp_path / "intd" / ID)
    assert store.names() == [ID]
    looked = store.look(ID)
    assert parts(tmp_path) == "todo mess intd"
    loaded = store.load(ID)
    assert parts(tmp_path) == "info mess local"  # S5
    assert looked.envelope == loaded.envelope == envelope_of("m1")
    letter, content = letters.read(store.disk, loaded.handle, ID, loaded.head)
    assert (content, letter.envelope) == (b"hello\r\n", envelope_of("m1"))
    store.rested(ID)
    store.release(ID)
    store.free(ID)
    assert parts(tmp_path) == ""  # S1
    for gone in (store.load, store.look, store.open, store.free, store.examine):
        with pytest.raises(FileNotFoundError):
            gone(ID)


def test_what_the_files_hold(store, tmp_path):
    kept(store, replace(envelope_of("m1"), recipients=FOUR))
    head = b"A1\0C192.0.2.1\0Hclient.example\0PESMTP\0Fm1@sender.example\0"
    everybody = b"".join(b"T%b\0" % each.encode() for each in FOUR)
    assert octets(tmp_path, "intd") == octets(tmp_path, "todo") == head + everybody
    assert octets(tmp_path, "mess") == b"Subject: x\r\n\r\nhello\r\n"
    store.load(ID)
    assert octets(tmp_path, "info") == head
    assert octets(tmp_path, "local") == b"Tada@example.org\0Tbob@EXAMPLE.org\0"
    assert octets(tmp_path, "remote") == b"Tfar@far.test\0Tnear@far.test\0"


def test_a_recipient_has_the_same_index_before_and_after_it_was_preprocessed(store):
    kept(store, replace(envelope_of("m1"), recipients=FOUR, reverse_path=""))
    before, after = store.look(ID).envelope, store.load(ID).envelope
    assert before == after == store.load(ID).envelope == store.look(ID).envelope
    assert before.recipients == (FOUR[1], FOUR[2], FOUR[0], FOUR[3])
    assert before.reverse_path == ""


def test_who_is_done_is_one_octet(store, tmp_path):
    kept(store, replace(envelope_of("m1"), recipients=FOUR))
    end = store.load(ID).end
    inode = (tmp_path / "local" / ID).stat().st_ino
    assert (
        store.append_marks(ID, end, [Mark("delivered", 1, 1, 2), Mark("delivered", 2, 1, 2)]) == 0
    )
    assert octets(tmp_path, "local") == b"Tada@example.org\0Dbob@EXAMPLE.org\0"
    assert octets(tmp_path, "remote") == b"Dfar@far.test\0Tnear@far.test\0"
    assert (tmp_path / "local" / ID).stat().st_ino == inode
    assert parts(tmp_path) == "info mess local remote"
    assert [(each.kind, each.index) for each in store.load(ID).marks] == [
        ("delivered", 1), ("delivered", 2),
    ]  # fmt: skip


def replayed(store, marks):
    """What the queue manager makes of a message after these marks and a restart."""
    loaded = store.load(ID)
    store.append_marks(ID, loaded.end, marks)
    again = store.load(ID)
    message, _ = replay(start(ID, 1, again.envelope.recipients), again.marks)
    return [each.status.value for each in message.recipients], message


FAILED = Mark("failed", 0, 1, 2, "5.1.1", "nobody", host="mx.far.test", far=True)


@pytest.mark.parametrize(
    ("marks", "statuses"),
    [
        ([], "pending pending"),
        ([DEFERRED], "deferred pending"),
        ([DEFERRED, Mark("delivered", 0, 1, 3)], "delivered pending"),
        ([FAILED], "failed pending"),
        ([FAILED, Mark("reported", 0, 1, 3, "5.1.1", "a@b")], "reported pending"),
        ([Mark("reported", 1, 0, 3)], "pending delivered"),
        ([Mark("expanded", 0, 0, 2, targets=("x@a", "y@a"))], "expanded pending pending pending"),
        (
            [Mark("expanded", 0, 0, 2, targets=("x@a", "y@a")), Mark("delivered", 3, 1, 3)],
            "expanded pending pending delivered",
        ),
    ],
)
def test_marks_mean_the_same_after_a_restart(store, marks, statuses):
    kept(store, replace(envelope_of("m1"), recipients=("a@example.org", "b@example.org")))
    found, message = replayed(store, marks)
    assert " ".join(found) == statuses
    if marks == [DEFERRED]:
        assert (message.recipients[0].text, message.recipients[0].attempt) == ("mailbox full", 1)
    if marks == [FAILED]:
        assert message.recipients[0].host == "mx.far.test"


def test_holding_and_warning_are_noted(store):
    kept(store)
    assert replayed(store, [Mark("held", -1, 0, 2), Mark("warned", -1, 0, 2)])[1].held
    _, message = replayed(store, [Mark("released", -1, 0, 3)])
    assert message.warned and not message.held


def test_a_torn_note_is_written_over(store, tmp_path):
    kept(store)
    end = store.append_marks(ID, store.load(ID).end, [DEFERRED])
    with (tmp_path / "bounce" / ID).open("ab") as file:
        file.write(b"M\0\0\0\x09torn")
    loaded = store.load(ID)
    assert (loaded.marks, loaded.end) == ((DEFERRED,), end)
    store.append_marks(ID, loaded.end, [FAILED])
    assert store.load(ID).marks == (DEFERRED, FAILED)


def test_preprocessing_that_was_cut_off_begins_anew(store, tmp_path):
    kept(store)
    (tmp_path / "info" / ID).write_bytes(b"A")
    (tmp_path / "remote" / ID).write_bytes(b"Tsomebody@else\0")
    (tmp_path / "intd" / ID).unlink()
    assert store.load(ID).envelope == envelope_of("m1")
    assert parts(tmp_path) == "info mess local"


@pytest.mark.parametrize("part", ["todo", "info", "local"])
@pytest.mark.parametrize("damage", [b"", b"F", b"Qx\0", b"A1\0", b"Txx", b"\0"])
def test_what_can_not_be_read_is_set_aside(store, tmp_path, part, damage):
    kept(store)
    if part != "todo":
        store.load(ID)
    if damage == b"" and part == "local":
        damage = b"D\0" * 1001
    path = tmp_path / part / ID
    path.unlink()
    path.write_bytes(damage)
    with pytest.raises(ChunkError):
        store.load(ID)
    [(name, reason)] = store.recover()
    assert name == ID and reason
    assert parts(tmp_path) == "" and store.names() == []
    aside = {each.name for each in (tmp_path / "damaged").iterdir()}
    assert {f"{ID}.damaged.mess", f"{ID}.damaged.{part}"} <= aside
    assert list(store.recover()) == []


def test_a_message_without_its_content_is_set_aside_as_lost(store, tmp_path):
    kept(store)
    (tmp_path / "mess" / ID).unlink()
    with pytest.raises(ChunkError):
        store.load(ID)
    assert dict(store.recover()) == {ID: "its content is gone"}
    assert {each.name for each in (tmp_path / "damaged").iterdir()} == {
        f"{ID}.lost.todo", f"{ID}.lost.intd",
    }  # fmt: skip


def test_what_was_being_removed_is_removed(store, tmp_path):
    kept(store)
    store.load(ID)
    for part in ("local", "remote"):
        (tmp_path / part / ID).unlink(missing_ok=True)
    assert list(store.recover()) == []
    assert parts(tmp_path) == ""


def test_only_age_tells_what_a_crash_has_left(disk, tmp_path):
    made_ms = 1_800_000_000_000
    name = queue_id(made_ms, 7)
    for part in ("pid", "mess", "intd", "local", "remote", "bounce"):
        (tmp_path / part / name).write_bytes(b"")
        (tmp_path / part / "a stranger's").write_bytes(b"")
    list(QmailTodo(disk, now=lambda: made_ms / 1000 + 36 * 3600 - 1).recover())
    assert parts(tmp_path, name) == "pid mess intd local remote bounce"
    list(QmailTodo(disk, now=lambda: made_ms / 1000 + 36 * 3600).recover())
    assert parts(tmp_path, name) == ""
    assert (tmp_path / "mess" / "a stranger's").exists()


def test_a_link_that_came_back_is_removed(store, tmp_path):
    kept(store)
    store.load(ID)
    for part in ("pid", "intd"):
        os.link(tmp_path / "mess" / ID, tmp_path / part / ID)
    assert dict(store.recover()) == {ID: ""}
    assert parts(tmp_path) == "info mess local"


def test_a_discarded_draft_leaves_nothing_also_when_it_was_committed(store, tmp_path):
    store.draft(envelope_of("m2")).discard()
    draft = store.draft(envelope_of("m1"))
    draft.add(b"x")
    draft.finish()
    assert store.commit([draft]) == {}
    draft.discard()
    assert parts(tmp_path) == ""


class Failing(PosixDisk):
    """A disk on which one operation fails, when it is asked for the nth time."""

    def __init__(self, root, kind, number):
        super().__init__(root)
        self.left, self.real = number, getattr(self, kind)
        setattr(self, kind, self.perhaps)

    def perhaps(self, *arguments):
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.EIO, "it fails")
        return self.real(*arguments)


@pytest.mark.parametrize(
    ("kind", "number"), [("sync", 1), ("create", 2), ("write", 2), ("sync", 2), ("link", 2)]
)
def test_what_can_not_be_committed_fails_alone_and_goes(disk, tmp_path, kind, number):
    broken = QmailTodo(Failing(tmp_path, kind, number))
    draft = broken.draft(envelope_of("m1"))
    draft.add(b"x")
    draft.finish()
    assert list(broken.commit([draft])) == [f"mess/{ID}"]
    draft.discard()
    assert parts(tmp_path) == ""


def test_preprocessing_that_fails_leaves_it_queued(store, disk, tmp_path):
    kept(store)
    broken = QmailTodo(Failing(tmp_path, "sync", 1))
    with pytest.raises(OSError):
        broken.load(ID)
    assert store.names() == [ID]
    assert store.load(ID).envelope == envelope_of("m1")


def test_a_cleaner_removes_what_is_another_users(disk, tmp_path):
    asked = []
    store = QmailTodo(disk, cleaner=lambda name, verb: asked.append((verb, name)))
    kept(store)
    with pytest.raises(Claimed):
        store.load(ID)
    for part in ("intd", "todo"):  # qmail-clean, in the meantime
        (tmp_path / part / ID).unlink()
    store.load(ID)
    store.free(ID)
    assert asked == [("todo", ID), ("foop", ID)]
    assert parts(tmp_path) == "mess"
    list(QmailTodo(disk, cleaner=store.cleaner, unfinished_s="0").recover())
    assert asked[2:] == [("foop", ID)]


def test_no_descriptor_stays_open(store, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    kept(store)
    os.close(store.load(ID).handle)
    store.append_marks(ID, 0, [DEFERRED, Mark("delivered", 0, 1, 2)])
    list(store.recover())
    (tmp_path / "info" / ID).write_bytes(b"?")
    with pytest.raises(ChunkError):
        store.load(ID)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("recipients", [1, 2, 1000])
def test_every_envelope_reads_back(recipients):
    addresses = tuple(f"{'x' * 200}{number}@example.org" for number in range(recipients))
    envelope = replace(envelope_of("m1"), recipients=addresses, helo="h" * 500)
    assert qmail_todo.parse_envelope(ID, qmail_todo.envelope_records(envelope)) == envelope


@pytest.mark.parametrize("life", [False, True])
def test_what_crashes_do_is_as_expected(life):
    subject = qmail(life=life)
    reports = [examine(subject, model, each) for model in MODELS[::2] for each in (ONE, REMAINS)]
    assert list(map(str, compare(reports, expected()))) == []
    assert all(each.exhaustive for each in reports)


@pytest.mark.parametrize(
    "control", [each for each in controls() if "qmail" in each.name], ids=lambda each: each.name
)
def test_control(control):
    result = run_control(control)
    assert result.counts, result.reason
