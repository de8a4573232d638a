"""mbox: quoting, appending in groups, taking back what failed, and what the next one mends."""

import errno
import os

import pytest
import trio

from refmta.stores import mbox
from refmta.stores.disk import PosixDisk
from specs.kernel.control import run_control
from specs.mailboxes import split
from subjects.stores_sendmail_controls import controls

MAILBOX = "mail/ada"


@pytest.fixture
def disk(tmp_path):
    found = PosixDisk(tmp_path)
    mbox.ensure(found, MAILBOX)
    return found


def staged(name, *pieces, mailbox=MAILBOX):
    entry = mbox.Staged(mailbox, name)
    entry.write(mbox.heading("bob@example.org", "ada@example.org", 1_000_000_000))
    for piece in pieces:
        entry.write(mbox.stored(piece))
    return entry


def bodies(tmp_path):
    """What a reader sees, without the heading."""
    found = split((tmp_path / MAILBOX).read_bytes())
    return [each.octets.split(b"\n", 2)[2] for each in found]


def test_a_message_as_it_lies_there(disk, tmp_path):
    assert mbox.commit(disk, MAILBOX, [staged("1", b"Subject: x\r\n\r\nFrom here on\r\n")]) == {}
    assert (tmp_path / MAILBOX).read_bytes() == (
        b"From bob@example.org Sun Sep  9 01:46:40 2001\n"
        b"Return-Path: <bob@example.org>\n"
        b"Delivered-To: ada@example.org\n"
        b"Subject: x\n"
        b"\n"
        b">From here on\n"
        b"\n"
    )
    assert os.listdir(tmp_path / "mail") == ["ada"]


@pytest.mark.parametrize(
    ("reverse_path", "sender"),
    [("", b"MAILER-DAEMON"), ('"a b"@x.org', b'"a_b"@x.org'), ("a\nFrom b", b"a_From_b")],
)
def test_nobody_adds_a_line_by_his_address(reverse_path, sender):
    line = mbox.from_line(reverse_path, 0)
    assert line == b"From " + sender + b" Thu Jan  1 00:00:00 1970\n"


QUOTED = [
    (b"From x\r\n", b">From x\n"),
    (b">From x\r\n", b">>From x\n"),
    (b">>>From x", b">>>>From x"),
    (b"a\r\nFrom x\r\n", b"a\n>From x\n"),
    (b"From: x\r\n", b"From: x\n"),
    (b" From x\r\n", b" From x\n"),
    (b"aFrom x\r\n>>\r\n", b"aFrom x\n>>\n"),
    (b"From", b"From"),
    (b">\r\n\r\nFro\r\nm \r\n", b">\n\nFro\nm \n"),
    (b"", b""),
]


@pytest.mark.parametrize(("content", "expected"), QUOTED)
def test_quoting_is_the_same_at_every_split(content, expected):
    assert mbox.stored(content) == expected
    for first in range(len(content) + 1):
        for second in range(first, len(content) + 1):
            quoter = mbox.Quoter()
            pieces = (content[:first], content[first:second], content[second:])
            fed = b"".join(map(quoter.feed, pieces)) + quoter.end()
            assert fed == expected, (first, second)


def test_a_message_that_looks_like_two_is_one(disk, tmp_path):
    content = b"a\r\n\r\nFrom bob@example.org Sun Sep  9 01:46:40 2001\r\nb"
    mbox.commit(disk, MAILBOX, [staged("1", content), staged("2", b"c\r\n")])
    first, second = bodies(tmp_path)
    assert first.endswith(b"a\n\nFrom bob@example.org Sun Sep  9 01:46:40 2001\nb\n")
    assert second == b"c\n"


class Failing:
    """A disk on which one kind of call fails, from the given time on."""

    def __init__(self, disk, kind, after=0):
        self.disk, self.kind, self.after = disk, kind, after

    def __getattr__(self, name):
        call = getattr(self.disk, name)
        if name != self.kind:
            return call

        def failing(*arguments):
            self.after -= 1
            if self.after < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*arguments)

        return failing


@pytest.mark.parametrize("notes", [True, False])
@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("write", 0),
        ("write", 1),
        ("write", 2),
        ("sync", 0),
        ("sync", 1),
        ("sync_dir", 0),
        ("sync_dir", 1),
    ],
)
def test_what_fails_is_taken_back(disk, tmp_path, kind, after, notes):
    mbox.commit(disk, MAILBOX, [staged("0", b"old\r\n")])
    before = (tmp_path / MAILBOX).read_bytes()
    group = [staged("1", b"one\r\n"), staged("2", b"two\r\n")]
    failures = mbox.commit(Failing(disk, kind, after), MAILBOX, group, notes=notes)
    if failures:
        assert failures.keys() == {"1", "2"}
        mbox.recover(disk, MAILBOX)
        assert (tmp_path / MAILBOX).read_bytes() == before
    else:  # without a note there are fewer calls that could fail
        assert not notes
        assert len(bodies(tmp_path)) == 3
    assert os.listdir(tmp_path / "mail") == ["ada"]


def leave(tmp_path, octets, note):
    """As a crash leaves it."""
    (tmp_path / MAILBOX).write_bytes(octets)
    (tmp_path / f"{MAILBOX}.length").write_bytes(note)


OLD = b"From a Thu Jan  1 00:00:00 1970\n\nold\n\n"


@pytest.mark.parametrize(
    ("octets", "note", "expected"),
    [
        (OLD + b"From b tor", mbox.note(len(OLD), OLD), OLD),
        (OLD, mbox.note(len(OLD), OLD), OLD),
        (OLD + b"From b", b"", OLD + b"From b"),
        (OLD + b"From b", mbox.note(len(OLD), OLD)[:-3], OLD + b"From b"),
        (OLD + b"From b", b"1" + mbox.note(len(OLD), OLD), OLD + b"From b"),
        (b"rewritten by a reader, longer than before: leave it", mbox.note(len(OLD), OLD), None),
        (b"shorter", mbox.note(len(OLD), OLD), None),
    ],
    ids=["torn", "not begun", "note empty", "note cut", "note damaged", "another file", "shorter"],
)
def test_the_next_one_mends_what_a_crash_left(disk, tmp_path, octets, note, expected):
    leave(tmp_path, octets, note)
    assert mbox.recover(disk, MAILBOX)
    assert (tmp_path / MAILBOX).read_bytes() == (octets if expected is None else expected)
    assert os.listdir(tmp_path / "mail") == ["ada"]
    assert not mbox.recover(disk, MAILBOX)


def test_a_delivery_mends_first(disk, tmp_path):
    leave(tmp_path, OLD + b"From b tor", mbox.note(len(OLD), OLD))
    assert mbox.commit(disk, MAILBOX, [staged("1", b"new\r\n")]) == {}
    octets = (tmp_path / MAILBOX).read_bytes()
    assert octets.startswith(OLD + b"From bob@")
    assert octets.count(b"From ") == 2


def test_a_note_without_a_mailbox_goes(disk, tmp_path):
    leave(tmp_path, b"", mbox.note(5, b"12345"))
    (tmp_path / MAILBOX).unlink()
    assert mbox.recover(disk, MAILBOX)
    assert os.listdir(tmp_path / "mail") == []


def test_who_has_the_lock_is_left_alone(disk, tmp_path):
    reader = disk.open_append(MAILBOX)
    assert disk.lock(reader)
    failures = mbox.commit(disk, MAILBOX, [staged("1", b"x\r\n")])
    assert isinstance(failures["1"], BlockingIOError)
    assert (tmp_path / MAILBOX).read_bytes() == b""
    leave(tmp_path, OLD, mbox.note(1, b"F"))
    assert not mbox.recover(disk, MAILBOX)
    assert (tmp_path / f"{MAILBOX}.length").exists()
    disk.close(reader)


async def test_a_patient_delivery_waits_for_the_lock(disk, tmp_path, autojump_clock):
    reader = disk.open_append(MAILBOX)
    disk.lock(reader)
    outcome = []

    async def deliver():
        outcome.append(await mbox.commit_patiently(disk, MAILBOX, [staged("1", b"x\r\n")]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deliver)
        await trio.sleep(1)
        assert outcome == []
        disk.close(reader)
    assert outcome == [{}]
    assert len(bodies(tmp_path)) == 1


async def test_patience_ends(disk, autojump_clock):
    reader = disk.open_append(MAILBOX)
    disk.lock(reader)
    failures = await mbox.commit_patiently(disk, MAILBOX, [staged("1", b"x\r\n")])
    assert failures["1"].errno == errno.EAGAIN
    assert trio.current_time() >= mbox.LOCK_WAIT_S
    disk.close(reader)


def test_large_messages_are_written_in_pieces():
    entry = mbox.Staged(MAILBOX, "1")
    for _ in range(5):
        entry.write(b"x" * 100_000)
    pieces = entry.octets()
    assert max(map(len, pieces)) <= mbox.GATHER_OCTETS
    assert b"".join(pieces) == b"x" * 500_000 + b"\n\n"


@pytest.mark.parametrize(
    "control", [each for each in controls() if "mbox" in each.spec], ids=lambda each: each.name
)
def test_controls(control):
    result = run_control(control)
    assert result.counts, result.reason
