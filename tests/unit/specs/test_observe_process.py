"""Processes as the kernel shows them, each fact on a process that has it and one that has not."""

from __future__ import annotations

import fcntl
import os
import socket

import pytest
from unit.specs.sitter import sitter

from specs.observe.files import locks, walk
from specs.observe.process import look, look_around

pytestmark = pytest.mark.needs("root")


def test_credentials():
    code = "os.setgroups([12347]); os.setresgid(*[12346] * 3); os.setresuid(*[12345] * 3)"
    with sitter(code) as one:
        seen = look(one.pid, "one", "detail")
    assert (seen.name, seen.detail, seen.parent) == ("one", "detail", os.getpid())
    assert seen.uids == (12345,) * 4
    assert seen.gids == (12346,) * 4
    assert seen.groups == (12347,)
    assert seen.capabilities.effective == seen.capabilities.permitted == 0
    assert seen.capabilities.bounding != 0
    ours = look(os.getpid())
    assert ours.capabilities.effective != 0
    assert ours.uids == (0,) * 4


@pytest.mark.parametrize(("code", "dumpable"), [("", True), ("libc.prctl(4, 0, 0, 0, 0)", False)])
def test_dumpable(code, dumpable):
    with sitter(f"os.setresuid(12345, 12345, 12345); libc.prctl(4, 1, 0, 0, 0)\n{code}") as one:
        assert look(one.pid).dumpable is dumpable
    assert look(os.getpid()).dumpable is None  # root's


FILTER = "import pyseccomp; pyseccomp.SyscallFilter(pyseccomp.ALLOW).load()\n"


@pytest.mark.parametrize("filters", [0, 1, 2])
def test_filters(filters):
    with sitter(FILTER * filters) as one:
        seen = look(one.pid)
    assert seen.seccomp == (2 if filters else 0)
    assert seen.filters == filters
    assert seen.no_new_privs is bool(filters)


def test_root_and_working_directory(tmp_path):
    (tmp_path / "there").touch()
    with sitter(f"os.chroot({str(tmp_path)!r}); os.chdir('/')") as one:
        seen = look(one.pid)
    assert seen.root == seen.cwd == str(tmp_path)
    assert seen.root_listing == ("there",)


def test_namespaces_limits_environment():
    code = "libc.unshare(0x40000000); import resource; resource.setrlimit(7, (100, 200))"
    with sitter(code, env={"SECRET": "x"}) as one:
        seen = look(one.pid)
    ours = look(os.getpid())
    assert seen.namespaces["net"] != ours.namespaces["net"]
    assert seen.namespaces["user"] == ours.namespaces["user"]
    assert seen.limits["Max open files"] == (100, 200)
    assert seen.limits["Max cpu time"] == (-1, -1)
    assert "SECRET" in seen.environment


def test_descriptors_by_kind(tmp_path):
    (tmp_path / "file").touch()
    code = f"""
os.chdir({str(tmp_path)!r})
kept = [
    os.open("file", os.O_RDONLY), os.open("file", os.O_RDWR), os.open(".", os.O_RDONLY),
    os.open("/dev/null", os.O_RDWR), os.memfd_create("m"),
    libc.epoll_create1(0), libc.eventfd(0, 0), socket.create_server(("127.0.0.1", 0)),
]
"""
    with sitter(code) as one:
        (seen,) = look_around([(one.pid, "one", "")])
    rows = {each.number: each for each in seen.descriptors}
    found = [rows[number] for number in range(3, 3 + 8)]
    kinds = ["file", "file", "dir", "device", "memfd", "anon", "anon", "socket"]
    assert [each.kind for each in found] == kinds
    assert [each.writable for each in found[:3]] == [False, True, False]
    assert found[0].target == str(tmp_path / "file")
    assert found[0].inode == found[1].inode == (tmp_path / "file").stat().st_ino
    assert (found[7].family, found[7].listening) == ("inet", True)
    assert found[7].local.startswith("127.0.0.1:")


@pytest.mark.parametrize("isolated", [False, True], ids=["same network", "networks of their own"])
def test_who_is_at_the_other_end(isolated):
    """A pair knows its end wherever it was made and whoever has it."""
    left, right = socket.socketpair()
    with left, right:
        ours, theirs = left.fileno(), right.fileno()
        code = "libc.unshare(0x40000000)\n" * isolated + "pair = socket.socketpair()"
        with (
            sitter(code, pass_fds=[ours]) as one,
            sitter(code, pass_fds=[theirs]) as two,
        ):
            first, second = look_around([(one.pid, "one", ""), (two.pid, "two", "")])
    (end,) = [each for each in first.descriptors if each.number == ours]
    assert end.family == "unix"
    assert end.peer == ((two.pid, theirs),)
    (other,) = [each for each in second.descriptors if each.number == theirs]
    assert other.peer == ((one.pid, ours),)
    pair = [each for each in first.descriptors if each.peer and each.peer[0][0] == one.pid]
    assert len(pair) == 2


def test_who_is_not_looked_at_is_not_told():
    left, right = socket.socketpair()
    with left, right, sitter("", pass_fds=[left.fileno()]) as one:
        (seen,) = look_around([(one.pid, "one", "")])
        (end,) = [each for each in seen.descriptors if each.number == left.fileno()]
    assert end.peer == ()


def test_the_ends_of_a_pipe():
    with sitter("", pass_fds=[]) as one:
        seen, ours = look_around([(one.pid, "one", ""), (os.getpid(), "we", "")])
        (stdin,) = [each for each in seen.descriptors if each.number == 0]
        assert stdin.kind == "pipe"
        assert (os.getpid(), one.stdin.fileno()) in stdin.peer
        assert any(one.pid in dict(each.peer) for each in ours.descriptors)


def test_who_is_gone_is_none():
    with sitter("") as one:
        one.kill()
        one.wait()
        assert look(one.pid) is None
        assert look_around([(one.pid, "one", "")]) == ()


# -- files ----------------------------------------------------------------------------------------


def test_files_below_a_place(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    os.mkfifo(tmp_path / "deep" / "fifo")
    (tmp_path / "deep" / "link").symlink_to("/etc")
    os.mknod(tmp_path / "deep" / "null", 0o020600, os.makedev(1, 3))
    os.link(tmp_path / "file", tmp_path / "again")
    os.chown(tmp_path / "deep", 12345, 12346)
    found = {each.path: each for each in walk([tmp_path])}
    kinds = {path[len(str(tmp_path)) :]: each.kind for path, each in found.items()}
    assert kinds == {
        "": "dir", "/again": "file", "/deep": "dir", "/deep/er": "dir", "/deep/fifo": "fifo",
        "/deep/link": "link", "/deep/null": "char", "/file": "file",
    }  # fmt: skip
    file = found[f"{tmp_path}/file"]
    assert (file.mode, file.size, file.links, file.owner) == (0o640, 5, 2, 0)
    deep = found[f"{tmp_path}/deep"]
    assert (deep.owner, deep.group) == (12345, 12346)


def test_locks_on_them(tmp_path):
    (tmp_path / "free").touch()
    (tmp_path / "locked").touch()
    files = walk([tmp_path])
    assert locks(files) == ()
    with open(tmp_path / "locked", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (found,) = locks(files)
    assert (found.kind, found.path, found.pid) == (
        "FLOCK", str(tmp_path / "locked"), os.getpid(),
    )  # fmt: skip
