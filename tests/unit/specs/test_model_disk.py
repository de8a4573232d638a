"""The model disk against the real one: same operations, same answers, same errors."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.persistence import Disk, ModelDisk, Op


class RealDisk:
    """The same calls on a real directory; written here so that no code is shared."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.changed: set[int] = set()  # handles that overwrite

    def create(self, path: str, mode: int = 0o600) -> int:
        return os.open(self.root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)

    def open_read(self, path: str) -> int:
        handle = os.open(self.root / path, os.O_RDONLY)
        if (self.root / path).is_dir():
            os.close(handle)
            raise IsADirectoryError(path)
        return handle

    def open_append(self, path: str) -> int:
        return os.open(self.root / path, os.O_WRONLY | os.O_APPEND)

    def open_change(self, path: str) -> int:
        handle = os.open(self.root / path, os.O_RDWR)
        self.changed.add(handle)
        return handle

    def overwrite(self, handle: int, data: bytes, offset: int) -> None:
        if handle not in self.changed or offset + len(data) > self.size(handle):
            raise OSError(errno.EINVAL, "the model refuses it")
        os.pwrite(handle, data, offset)

    def mode(self, handle: int) -> int:
        return stat.S_IMODE(os.fstat(handle).st_mode)

    def chmod(self, handle: int, mode: int) -> None:
        os.fchmod(handle, mode)

    def lock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, handle: int, data: bytes) -> None:
        if handle in self.changed:
            raise OSError(errno.EBADF, "the model refuses it")
        os.write(handle, data)

    def read(self, handle: int, size: int, offset: int) -> bytes:
        return os.pread(handle, size, offset)

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def writeback(self, handle: int) -> None:
        os.fstat(handle)

    def sync(self, handle: int) -> None:
        os.fstat(handle)

    def sync_dir(self, path: str) -> None:
        list((self.root / path).iterdir())

    def close(self, handle: int) -> None:
        os.close(handle)
        self.changed.discard(handle)

    def rename(self, path: str, target: str) -> None:
        if (self.root / path).is_dir() and (self.root / target).parent.is_dir():
            raise IsADirectoryError(path)  # the model refuses it
        (self.root / path).rename(self.root / target)

    def link(self, path: str, target: str) -> None:
        os.link(self.root / path, self.root / target)

    def unlink(self, path: str) -> None:
        (self.root / path).unlink()

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        (self.root / path).mkdir(mode)

    def listdir(self, path: str) -> list[str]:
        return [found.name for found in (self.root / path).iterdir()]

    def tree(self) -> dict[str, bytes]:
        found = {}
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            if path.is_file():
                found[name] = path.read_bytes()
            elif not any(path.iterdir()):
                found[name + "/"] = b""
        return found


NAMES = ["d/a", "d/b", "e/a", "c", "d", "new/x", "new", "c/x"]
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["create", "open_append", "open_read", "open_change"]),
        st.sampled_from(NAMES),
    ),
    st.tuples(st.sampled_from(["unlink", "mkdir", "listdir", "sync_dir"]), st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(["rename", "link"]), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("write"), st.integers(0, 3), st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("overwrite"), st.integers(0, 3), st.binary(max_size=3), st.integers(0, 4)),
    st.tuples(st.just("chmod"), st.integers(0, 3), st.sampled_from([0o600, 0o700])),
    st.tuples(st.just("truncate"), st.integers(0, 3), st.integers(0, 6)),
    st.tuples(st.just("read"), st.integers(0, 3), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(
        st.sampled_from(["size", "mode", "lock", "sync", "writeback", "close"]), st.integers(0, 3)
    ),
)


def act(disk: Disk, handles: list[int], step: tuple[object, ...]) -> object:
    """Do one step; the answer is a value or the name of the error."""
    name, *arguments = step
    if isinstance(arguments[0], int):
        if arguments[0] >= len(handles):
            return None
        index = arguments[0]
        arguments[0] = handles[index]
        if name == "close":  # real numbers are used again, so this one must not be
            handles[index] = -1
    try:
        answer = getattr(disk, str(name))(*arguments)
    except OSError as error:
        return type(error).__name__
    if name in {"create", "open_append", "open_read", "open_change"}:
        handles.append(answer)
        return "opened"
    return sorted(answer) if name == "listdir" else answer


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_the_model_answers_as_a_real_file_system(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    root = tmp_path_factory.mktemp("disk")
    for name in ("d", "e"):
        (root / name).mkdir()
    real, model = RealDisk(root), ModelDisk.from_tree({}, ["d", "e"])
    real_handles: list[int] = []
    model_handles: list[int] = []
    try:
        for step in steps:
            assert act(model, model_handles, step) == act(real, real_handles, step), step
            assert model.tree() == real.tree()
    finally:
        for handle in set(real_handles) - {-1}:
            os.close(handle)


def test_a_rename_between_two_names_of_one_file_does_nothing() -> None:
    disk = ModelDisk.from_tree({"a": b"x"})
    disk.link("a", "b")
    disk.rename("a", "b")
    assert disk.tree() == {"a": b"x", "b": b"x"}
    assert [recorded.kind for recorded in disk.record] == ["link"]


def test_the_record_names_inodes_not_paths() -> None:
    disk = ModelDisk.from_tree({}, ["t", "n"])
    disk.execute(
        [
            Op(kind="create", path="t/1"),
            Op(kind="write", path="t/1", data=b"abc"),
            Op(kind="rename", path="t/1", target="n/1"),
            Op(kind="sync", path="n/1"),
            Op(kind="reply", path="token"),
            Op(kind="unlink", path="n/1"),
        ]
    )
    assert {recorded.inode for recorded in disk.record if recorded.kind != "reply"} == {1}
    assert disk.record[-1].last
    assert disk.tree() == {"n/": b"", "t/": b""}


def test_from_tree_and_back() -> None:
    tree = {"a/b/c": b"1", "d": b"2", "e/": b""}
    disk = ModelDisk.from_tree(tree, ["f/g"])
    assert disk.tree() == tree | {"f/g/": b""}
    assert ModelDisk(disk.snapshot()).tree() == disk.tree()
    assert disk.record == []


def test_an_unknown_kind_in_a_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="fallocate"):
        ModelDisk().execute([Op(kind="fallocate", path="a")])


def test_a_forgotten_handle_is_known() -> None:
    disk = ModelDisk()
    disk.close(disk.create("kept"))
    disk.create("forgotten")
    assert disk.open_handles() == ("forgotten",)


def test_a_mode_is_part_of_the_snapshot_and_only_if_it_is_not_plain() -> None:
    disk = ModelDisk.from_tree({"a": b"", "b": b""})
    assert disk.snapshot().modes == ()
    handle = disk.open_read("b")
    disk.chmod(handle, 0o700)
    assert disk.snapshot().modes == (0o600, 0o700)
    again = ModelDisk(disk.snapshot())
    assert [again.mode(again.open_read(path)) for path in "ab"] == [0o600, 0o700]
    disk.chmod(handle, 0o600)
    assert disk.snapshot() == ModelDisk.from_tree({"a": b"", "b": b""}).snapshot()


def test_a_lock_goes_with_its_handle_and_with_the_machine() -> None:
    disk = ModelDisk.from_tree({"a": b""})
    first, second = disk.open_read("a"), disk.open_change("a")
    assert disk.lock(first)
    assert disk.lock(first)
    assert not disk.lock(second)
    left = ModelDisk(disk.snapshot())
    assert left.lock(left.open_read("a"))
    disk.close(first)
    assert disk.lock(second)


def test_plans_know_modes_and_overwrites() -> None:
    disk = ModelDisk.from_tree({}, ["d"])
    disk.execute(
        [
            Op(kind="create", path="d/a", target="640"),
            Op(kind="write", path="d/a", data=b"abc"),
            Op(kind="overwrite", path="d/a", data=b"X", target="1"),
            Op(kind="chmod", path="d/a", target="700"),
        ]
    )
    assert disk.tree() == {"d/a": b"aXc"}
    assert [(each.kind, oct(each.mode)) for each in disk.record if each.kind != "write"] == [
        ("create", "0o640"),
        ("overwrite", "0o600"),
        ("chmod", "0o700"),
    ]
    assert [str(each) for each in disk.record[2:]] == [
        "overwrite d/a 1 octets at 1",
        "chmod d/a to 700",
    ]
    with pytest.raises(OSError):
        disk.execute([Op(kind="overwrite", path="d/a", data=b"YY", target="2")])
