"""A plan that was taken down from code does, executed again, what the code did."""

from dataclasses import dataclass

import pytest

from specs.persistence.crash import crash_states
from specs.persistence.model_disk import ModelDisk
from specs.persistence.models import P3_SPLIT
from specs.persistence.references import CERTIFIED
from specs.persistence.rehearsal import plan_of, rehearsed, release, reply, time_passes
from specs.persistence.workloads import CONCURRENT, GROUP, LARGE, ONE, WORKLOADS, apt

DIRECTORIES = ("d", "e")


def everything(disk):
    handle = disk.create("d/a", 0o640)
    disk.write(handle, b"abc")
    disk.link("d/a", "e/a")
    disk.unlink("d/a")
    disk.write(handle, b"def")
    disk.rename("e/a", "d/b")
    disk.chmod(handle, 0o700)
    disk.sync(handle)
    disk.close(handle)
    handle = disk.open_change("d/b")
    disk.overwrite(handle, b"X", 4)
    disk.truncate(handle, 5)
    disk.close(handle)
    disk.mkdir("d/sub")
    disk.sync_dir("d")
    reply(disk, "m1")
    release(disk, "m1")


def test_the_plan_means_files_by_the_names_that_they_have():
    plan = rehearsed(DIRECTORIES, everything)
    assert [f"{op.kind} {op.path} {op.target}".strip() for op in plan] == [
        "create d/a 640",
        "write d/a",
        "link d/a e/a",
        "unlink d/a",
        "write e/a",
        "rename e/a d/b",
        "chmod d/b 700",
        "sync d/b",
        "overwrite d/b 4",
        "truncate d/b 5",
        "mkdir d/sub",
        "sync_dir d",
        "reply m1",
        "release m1",
    ]  # fmt: skip


def test_executed_again_it_leaves_the_same_record():
    done = ModelDisk.from_tree({}, DIRECTORIES)
    everything(done)
    again = ModelDisk.from_tree({}, DIRECTORIES)
    again.execute(rehearsed(DIRECTORIES, everything))
    assert again.snapshot() == done.snapshot()
    kinds = [(each.kind, each.inode, each.data, each.offset, each.mode) for each in done.record]
    assert [(e.kind, e.inode, e.data, e.offset, e.mode) for e in again.record] == kinds


def test_a_file_without_a_name_can_not_be_meant():
    disk = ModelDisk.from_tree({"d/a": b""}, DIRECTORIES)
    initial = disk.snapshot()
    handle = disk.open_append("d/a")
    disk.unlink("d/a")
    disk.write(handle, b"x")
    with pytest.raises(ValueError, match="no name"):
        plan_of(initial, disk.record)


def test_files_that_are_there_before():
    plan = rehearsed(["d"], lambda disk: disk.unlink("d/a"), {"d/a": b"old"})
    assert [(op.kind, op.path) for op in plan] == [("unlink", "d/a")]


def test_when_time_has_passed_all_is_durable():
    def act(disk):
        everything(disk)
        time_passes(disk)
        reply(disk, "later")

    disk = ModelDisk.from_tree({}, DIRECTORIES)
    initial = disk.snapshot()
    act(disk)
    told = {
        s.snapshot
        for s in crash_states(initial, disk.record, P3_SPLIT)
        if "later" in s.acknowledged
    }
    assert told == {disk.snapshot()}


@dataclass(frozen=True)
class Shy:
    """A store that says which workloads tell nothing."""

    apart: bool = False
    told: bool = False
    directories: tuple[str, ...] = CERTIFIED.directories

    def plan(self, messages):
        return CERTIFIED.plan(messages)


def test_a_store_gets_the_workloads_that_tell_something():
    assert apt(CERTIFIED) == apt(Shy()) == WORKLOADS
    assert not {CONCURRENT, GROUP} & set(apt(Shy(apart=True)))
    assert LARGE in apt(Shy(apart=True)) and LARGE not in apt(Shy(told=True))
    assert CONCURRENT not in apt(Shy(told=True)) and GROUP in apt(Shy(told=True))
    assert ONE in apt(Shy(apart=True, told=True))
