"""Mailboxes of both forms by one interface: what a reader finds, on a disk that may fail.

Controls: what another process may be at is swept by whoever believes to be alone; a small message
would cost two writes without the heading's delay.
"""

from __future__ import annotations

import errno
import mailbox as standard
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from noting_disk import NotingDisk

from refmta.stores.mailboxes import FormName, Mailboxes, Mboxes, Stamp, open_mailboxes
from refmta.wire.envelope import queue_id

forms = pytest.mark.parametrize("form", ["maildir", "mbox"])
ARRIVAL_S = 1_700_000_000
CONTENT = b"Subject: x\r\n\r\nFrom here on\r\n>From there\r\n.\r\nlast\r\n"
#: As a reader has it, who takes the quotes of mbox off.
READ = CONTENT.replace(b"\r\n", b"\n")


def stamp(number: int = 1, **changes: object) -> Stamp:
    fields = {
        "queue_id": queue_id(ARRIVAL_S * 1000, number), "arrival_s": ARRIVAL_S, "index": 0,
        "reverse_path": "x@example.net", "recipient": "ada@example.org", **changes,
    }  # fmt: skip
    return Stamp(**fields)  # type: ignore[arg-type]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[NotingDisk]:
    made = NotingDisk(tmp_path)
    yield made
    made.leave()


def opened(form: FormName, disk: NotingDisk, swept_before_s: float = math.inf) -> Mailboxes:
    return open_mailboxes(form, disk, "mx.example.org", swept_before_s=swept_before_s)


def read(form: FormName, home: Path, path: str = "Maildir") -> list[bytes]:
    """What the standard library reads there, without the lines on top."""
    found: list[bytes] = []
    if form == "maildir":
        folder: standard.Mailbox = standard.Maildir(home / path, create=False)  # type: ignore[type-arg]
    else:
        folder = standard.mbox(home / ("mbox" if path == "Maildir" else path), create=False)
    for key in folder.keys():  # noqa: SIM118
        octets = folder.get_bytes(key)
        top = b"Return-Path: <x@example.net>\nDelivered-To: ada@example.org\n"
        assert octets.startswith(top)
        octets = octets.removeprefix(top)
        quoted = re.compile(rb"^>(>*From )", re.MULTILINE)
        found.append(quoted.sub(rb"\1", octets) if form == "mbox" else octets)
    folder.close()
    return found


async def deliver(box: Mailboxes, number: int = 1, path: str = "Maildir") -> dict[str, OSError]:
    entry = box.begin(path, stamp(number))
    entry.add(CONTENT)
    entry.finish()
    return await box.commit([entry])


@forms
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("path", ["Maildir", "example.org/ada"])
async def test_a_reader_finds_what_was_delivered(
    form: FormName, size: int, path: str, disk: NotingDisk, tmp_path: Path
):
    """Given in pieces of any size; From_ lines are no ends of messages."""
    box = opened(form, disk)
    entries = []
    for number in range(3):
        entry = box.begin(path, stamp(number))
        for at in range(0, len(CONTENT), size):
            entry.add(CONTENT[at : at + size])
        entry.finish()
        entry.sync()
        entries.append(entry)
    assert {each.mailbox for each in entries} == {
        "mbox" if (form, path) == ("mbox", "Maildir") else path
    }
    assert not read(form, tmp_path, path), "nothing is seen before the commit"
    assert await box.commit(entries) == {}
    assert read(form, tmp_path, path) == [READ] * 3
    assert all((tmp_path / each.place).exists() for each in entries)


@forms
async def test_a_message_without_content_has_its_heading(
    form: FormName, disk: NotingDisk, tmp_path: Path
):
    box = opened(form, disk)
    entry = box.begin("Maildir", stamp())
    entry.finish()
    assert await box.commit([entry]) == {}
    assert [each.strip() for each in read(form, tmp_path)] == [b""]


@forms
@pytest.mark.parametrize("end", [b"x", b"From", b"From ", b">>Fro", b""])
async def test_a_last_line_without_an_end_is_kept(
    form: FormName, end: bytes, disk: NotingDisk, tmp_path: Path
):
    box = opened(form, disk)
    entry = box.begin("Maildir", stamp())
    for each in (b"Subject: x\r\n\r\n", end):
        entry.add(each)
    entry.finish()
    assert await box.commit([entry]) == {}
    assert [each.rstrip(b"\n") for each in read(form, tmp_path)] == [
        (b"Subject: x\n\n" + end).rstrip(b"\n")
    ]


@forms
async def test_what_is_discarded_leaves_nothing(form: FormName, disk: NotingDisk, tmp_path: Path):
    box = opened(form, disk)
    entry = box.begin("Maildir", stamp())
    entry.add(CONTENT)
    entry.discard()
    assert read(form, tmp_path) == [] and not list(tmp_path.rglob("tmp/*"))


@forms
@pytest.mark.parametrize("path", ["..", "/etc/x", "a/../b", ".x", "a//b", "", "a/b/c/d/e"])
async def test_no_mailbox_lies_elsewhere(
    form: FormName, path: str, disk: NotingDisk, tmp_path: Path
):
    with pytest.raises(ValueError, match="not a mailbox path"):
        opened(form, disk).begin(path, stamp())
    assert os.listdir(tmp_path) == []


@forms
@pytest.mark.parametrize("field", ["reverse_path", "recipient"])
async def test_nothing_forges_a_line_on_top(
    form: FormName, field: str, disk: NotingDisk, tmp_path: Path
):
    with pytest.raises(ValueError):
        opened(form, disk).begin("Maildir", stamp(**{field: "x@y.example\nFrom z"}))
    assert not list(tmp_path.rglob("tmp/*"))


@forms
@pytest.mark.parametrize("operation", ["sync", "write", "sync_dir"])
async def test_a_failure_is_named_and_what_was_there_stays(
    form: FormName, operation: str, disk: NotingDisk, tmp_path: Path
):
    box = opened(form, disk)
    assert await deliver(box) == {}
    before = read(form, tmp_path)
    disk.fail(operation, errno.EIO)
    try:
        failures = await deliver(box, 2)
    except OSError as error:
        assert (form, operation) == ("maildir", "write") and error.errno == errno.EIO
    else:
        (error,) = failures.values()
        assert error.errno == errno.EIO
    # A directory that can't be synced may have kept the name.
    assert read(form, tmp_path)[:1] == before
    assert len(read(form, tmp_path)) == (2 if (form, operation) == ("maildir", "sync_dir") else 1)
    assert await deliver(box, 3) == {}


async def test_a_small_message_in_a_maildir_costs_one_write(disk: NotingDisk):
    box = opened("maildir", disk)
    await deliver(box)
    disk.done.clear()
    await deliver(box, 2)
    assert disk.done.count("write") == 1 and disk.done.count("sync_dir") == 1


async def test_a_mailbox_that_was_moved_away_is_made_anew(disk: NotingDisk, tmp_path: Path):
    for form, name in (("maildir", "Maildir"), ("mbox", "mbox")):
        box = opened(form, disk)  # type: ignore[arg-type]
        await deliver(box)
        (tmp_path / name).rename(tmp_path / f"{name}.away")
        assert await deliver(box, 2) == {}
        assert len(read(form, tmp_path)) == 1  # type: ignore[arg-type]


# -- several processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("sole", [False, True])
async def test_what_another_process_is_at_is_not_swept(
    sole: bool, disk: NotingDisk, tmp_path: Path
):
    """The control: whoever believes to be alone takes it away."""
    await deliver(opened("maildir", disk))
    other = opened("maildir", disk).begin("Maildir", stamp(2))
    old = opened("maildir", disk, 0.0).begin("Maildir", stamp(3, arrival_s=ARRIVAL_S - 100))
    other.add(CONTENT)
    box = opened("maildir", disk, math.inf if sole else ARRIVAL_S - 50)
    await deliver(box, 4)
    left = {path.name for path in (tmp_path / "Maildir" / "tmp").iterdir()}
    assert left == (set() if sole else {other.name})
    assert bool(await opened("maildir", disk, 0.0).commit([other])) is sole
    old.discard()


async def test_whoever_has_an_mbox_is_waited_for_and_others_are_not(
    disk: NotingDisk, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    box = opened("mbox", disk)
    assert box.patient and not opened("maildir", disk).patient
    await deliver(box)
    reader = NotingDisk(tmp_path)
    handle = reader.open_append("mbox")
    assert reader.lock(handle)
    done: list[str] = []

    async def into(path: str, number: int) -> None:
        assert await deliver(box, number, path) == {}
        done.append(path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(into, "Maildir", 2)
        nursery.start_soon(into, "example.org/bob", 3)
        await trio.sleep(1)
        assert done == ["example.org/bob"]
        reader.close(handle)
    assert done == ["example.org/bob", "Maildir"] and len(read("mbox", tmp_path)) == 2
    handle = reader.open_append("mbox")
    assert reader.lock(handle)
    (error,) = (await deliver(box, 4)).values()
    assert error.errno == errno.EAGAIN and len(read("mbox", tmp_path)) == 2
    reader.close(handle)
    reader.leave()


async def test_an_mbox_says_when_a_message_was_put_there(disk: NotingDisk, tmp_path: Path):
    mailboxes = Mboxes(disk, "mx.example.org", wall=lambda: 1_000_000_000.9)
    entry = mailboxes.begin("Maildir", stamp())
    entry.finish()
    assert await mailboxes.commit([entry]) == {}
    line = b"From x@example.net Sun Sep  9 01:46:40 2001\n"
    assert (tmp_path / "mbox").read_bytes().startswith(line)


async def test_no_mailbox_has_the_name_of_anothers_note(disk: NotingDisk):
    with pytest.raises(ValueError, match="note"):
        opened("mbox", disk).begin("example.org/ada.length", stamp())
