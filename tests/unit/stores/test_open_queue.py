"""Stores by name, and what holds of each of them: the rules of `stores.queue` that need no crash.

A message goes in and out of each; what a crash does to it is enumerated elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from refinement.town import DIRECTORIES

from refmta.protocol.delivery import Mark
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import OPTIONS, STORES, QueueStore, open_queue
from refmta.wire.envelope import Envelope, decode_envelope, queue_id

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
every = pytest.mark.parametrize("name", STORES)


def envelope(number: int) -> Envelope:
    return Envelope(
        queue_id=queue_id(1_700_000_000_000 + number, number),
        arrival_s=1_700_000_000,
        reverse_path="x@example.net",
        recipients=("ada@example.org", "bob@example.org"),
        client="192.0.2.1",
        helo="h",
        protocol="SMTP",
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PosixDisk]:
    before = len(os.listdir("/proc/self/fd"))
    for each in sorted({name for names in DIRECTORIES.values() for name in names}):
        (tmp_path / each).mkdir()
    made = PosixDisk(tmp_path)
    yield made
    made.leave()
    for name in os.listdir("/proc/self/fd"):  # a store may hold its log, or what it has claimed
        if os.path.exists(f"/proc/self/fd/{name}"):
            where = os.readlink(f"/proc/self/fd/{name}")
            if where.startswith(str(tmp_path)):
                os.close(int(name))
    assert len(os.listdir("/proc/self/fd")) == before


def kept(store: QueueStore[Any], number: int) -> str:
    """A message that is durable."""
    draft = store.draft(envelope(number))
    draft.add(CONTENT)
    draft.finish()
    assert draft.octets == len(CONTENT)
    assert store.commit([draft]) == {}
    assert store.log([envelope(number)]) == {}
    draft.close()
    return envelope(number).queue_id


def content(store: QueueStore[Any], handle: int) -> bytes:
    octets = os.pread(handle, 1 << 16, 0)
    store.disk.close(handle)
    return octets


@every
def test_a_message_goes_in_and_out(name: str, disk: PosixDisk):
    store = open_queue(name, disk, {})
    ids = [kept(store, number) for number in range(3)]
    assert store.names() == ids
    loaded = store.load(ids[1])
    assert loaded.envelope == envelope(1) and loaded.marks == ()
    assert loaded.octets == len(CONTENT)
    octets = content(store, loaded.handle)
    assert octets == CONTENT if loaded.head else CONTENT in octets
    if loaded.head:
        assert decode_envelope(loaded.head) == envelope(1)
    store.examine(ids[1])
    store.free(ids[1])
    assert store.names() == [ids[0], ids[2]]
    with pytest.raises(FileNotFoundError):
        store.load(ids[1])
    with pytest.raises(FileNotFoundError):
        store.look(ids[1])


def marks_come_back(store: Any) -> None:
    disk = store.disk
    one = kept(store, 1)
    loaded = store.load(one)
    disk.close(loaded.handle)
    deferred = Mark("deferred", 1, 1, 1_700_000_100, "4.2.0", "not now")
    end = store.append_marks(one, loaded.end, [deferred])
    store.append_marks(one, end, [Mark("delivered", 0, 0, 1_700_000_200)])
    store.rested(one)
    store.release(one)
    for _ in range(2):  # also a second time, and for whoever only looks
        again = store.look(one)
        disk.close(again.handle)
        assert {(each.kind, each.index) for each in again.marks} == {
            ("deferred", 1), ("delivered", 0),
        }  # fmt: skip
        assert deferred in again.marks
    again = store.load(one)
    disk.close(again.handle)
    assert deferred in again.marks and again.envelope == envelope(1)
    store.free(one)


@every
def test_marks_come_back_as_they_were_said(name: str, disk: PosixDisk):
    marks_come_back(open_queue(name, disk, {}))


def looking_changes_nothing(store: Any, others: Any, path: Path) -> None:
    """Not even for another process that looks."""
    one = kept(store, 1)
    before = sorted(str(each) for each in path.rglob("*"))
    for looking in (store, others):
        assert looking.names() == [one]
        store.disk.close(looking.look(one).handle)
    assert sorted(str(each) for each in path.rglob("*")) == before


@every
def test_looking_changes_nothing(name: str, disk: PosixDisk, tmp_path: Path):
    looking_changes_nothing(open_queue(name, disk, {}), open_queue(name, disk, {}), tmp_path)


@every
def test_a_draft_that_is_discarded_is_no_message(name: str, disk: PosixDisk):
    store = open_queue(name, disk, {})
    draft = store.draft(envelope(1))
    draft.add(CONTENT)
    draft.finish()
    draft.discard()
    assert store.names() == []
    assert [each for each in store.recover() if not each[1]] == []


@every
def test_what_is_set_aside_is_in_the_queue_no_more(name: str, disk: PosixDisk, tmp_path: Path):
    store = open_queue(name, disk, {})
    one = kept(store, 1)
    disk.close(store.load(one).handle)
    store.set_aside(one, "damaged")
    assert store.names() == []
    assert any(one in each for each in os.listdir(tmp_path / DIRECTORIES[name][-1]))


@every
def test_recovery_yields_what_is_whole_and_may_be_repeated(name: str, disk: PosixDisk):
    ids = [kept(open_queue(name, disk, {}), number) for number in range(3)]
    for _ in range(2):
        store = open_queue(name, disk, {})
        assert sorted(store.recover()) == [(each, "") for each in ids]
    assert store.names() == ids


@every
def test_an_unknown_option_is_refused_by_name(name: str, disk: PosixDisk):
    with pytest.raises(ValueError, match="speed"):
        open_queue(name, disk, {"speed": "high"})


def test_an_unknown_store_is_refused_by_name(disk: PosixDisk):
    with pytest.raises(ValueError, match="maildir"):
        open_queue("maildir", disk, {})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sendmail_qfdf", {"super_safe": "interactive", "requires_dir_fsync": "false"}),
        ("qmail_todo", {"local_domains": "example.org", "unfinished_s": "60"}),
        ("postfix_modebit", {"unfinished_s": "60"}),
    ],
)
def test_options_reach_their_store(name: str, options: dict[str, str], disk: PosixDisk):
    assert set(options) == OPTIONS[name]
    open_queue(name, disk, options)
    with pytest.raises(ValueError, match=max(options)):
        open_queue(name, disk, dict.fromkeys(options, "no value"))


def test_a_process_loads_the_module_that_its_store_names(disk: PosixDisk):
    for name, module in STORES.items():
        store = open_queue(name, disk, {})
        assert type(store).__module__ == module and module in sys.modules


# -- controls: a store that breaks the rule is caught by its check --------------------------------


class Wrong:
    """A store that forgets marks, and loads what it is to look at."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def append_marks(self, _queue_id: str, end: int, _marks: Any) -> int:
        return end

    def look(self, queue_id: str) -> Any:
        return self.store.load(queue_id)


@every
def test_a_store_that_forgets_marks_is_caught(name: str, disk: PosixDisk):
    with pytest.raises(AssertionError):
        marks_come_back(Wrong(open_queue(name, disk, {})))


@pytest.mark.parametrize("name", ["postfix_modebit", "qmail_todo"])
def test_a_store_that_moves_what_is_looked_at_is_caught(name: str, disk: PosixDisk, tmp_path: Path):
    store = Wrong(open_queue(name, disk, {}))
    with pytest.raises(AssertionError):
        looking_changes_nothing(store, store, tmp_path)
