"""A disk that acts as one user: what comes to be is his, and what is not his is closed to it.

Controls: the same operations without the change of ids make files of root's, and open everybody's.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refmta.stores import owners
from refmta.stores.disk import PosixDisk
from refmta.stores.owners import Owned, Stuck, acting_as
from refmta.stores.recipients import Identity

ADA, BOB = 1_899_999_001, 1_899_999_002
root = pytest.mark.needs("root")


@pytest.fixture
def homes() -> Iterator[Path]:
    """Two users, each with a home that is closed to all others."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o711)
    for name, uid in (("ada", ADA), ("bob", BOB)):
        home = top / name
        home.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(home, uid, uid)
    yield top
    shutil.rmtree(top)


def owned(homes: Path, name: str, uid: int) -> Owned:
    return Owned(Identity(uid, uid, str(homes / name)))


def ids() -> tuple[object, ...]:
    return os.getresuid(), os.getresgid(), sorted(os.getgroups())


@root
def test_what_it_makes_is_the_users_and_the_process_stays_who_it_was(homes: Path):
    before = ids()
    disk = owned(homes, "ada", ADA)
    disk.mkdir("Maildir")
    disk.mkdir("Maildir/tmp")
    handle = disk.create("Maildir/tmp/x")
    disk.write(handle, b"some text")
    disk.truncate(handle, 4)
    disk.chmod(handle, 0o640)
    disk.sync(handle)
    disk.close(handle)
    disk.link("Maildir/tmp/x", "Maildir/y")
    disk.rename("Maildir/y", "Maildir/z")
    disk.sync_dir("Maildir")
    assert sorted(disk.listdir("Maildir")) == ["tmp", "z"]
    disk.unlink("Maildir/tmp/x")
    handle = disk.open_change("Maildir/z")
    disk.overwrite(handle, b"S", 0)
    disk.close(handle)
    for opening in (disk.open_read, disk.open_append, disk.open_change):
        handle = opening("Maildir/z")
        assert disk.read(handle, 10, 0) == b"Some"
        disk.close(handle)
    disk.leave()
    for path in [*(homes / "ada").rglob("*")]:
        assert (path.stat().st_uid, path.stat().st_gid) == (ADA, ADA), path
    assert ids() == before


@root
def test_what_is_closed_to_the_user_is_closed_to_it(homes: Path):
    """A link, a directory of somebody else's, a home that is not the user's."""
    before = ids()
    secret = homes / "bob" / "secret"
    secret.write_bytes(b"secret")
    os.chown(secret, BOB, BOB)
    (homes / "ada" / "way").mkdir()
    os.chown(homes / "ada" / "way", BOB, BOB)
    (homes / "ada" / "way").chmod(0o700)
    disk = owned(homes, "ada", ADA)
    attempts = [
        lambda: disk.open_read("../bob/secret"),
        lambda: disk.open_append("../bob/secret"),
        lambda: disk.open_change("../bob/secret"),
        lambda: disk.create("../bob/x"),
        lambda: disk.create("way/x"),
        lambda: disk.mkdir("../bob/x"),
        lambda: disk.listdir("../bob"),
        lambda: disk.sync_dir("../bob"),
        lambda: disk.unlink("../bob/secret"),
        lambda: disk.rename("../bob/secret", "mine"),
        lambda: disk.link("../bob/secret", "mine"),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()
        assert ids() == before
    disk.leave()
    assert secret.read_bytes() == b"secret" and os.listdir(homes / "bob") == ["secret"]


@root
def test_control_a_disk_of_roots_would_have_done_all_that(homes: Path):
    (homes / "bob" / "secret").write_bytes(b"secret")
    disk = PosixDisk(homes / "ada")
    disk.close(disk.open_read("../bob/secret"))
    disk.close(disk.create("x"))
    disk.leave()
    assert (homes / "ada" / "x").stat().st_uid == 0


@root
def test_a_home_that_is_closed_to_its_user_or_not_there_is_refused(homes: Path):
    (homes / "ada").rename(homes / "bob" / "ada")
    with pytest.raises(FileNotFoundError):
        owned(homes, "ada", ADA)
    with pytest.raises(PermissionError):
        owned(homes, "bob/ada", ADA)
    assert os.geteuid() == 0


@root
def test_ids_come_off_whatever_happens_and_a_process_that_is_stuck_does_not_go_on(
    homes: Path, monkeypatch: pytest.MonkeyPatch
):
    groups = os.getgroups()
    os.setgroups([BOB])
    before = ids()
    identity = Identity(ADA, ADA, "/")
    with pytest.raises(KeyError), acting_as(identity):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (ADA, ADA, [])
        raise KeyError
    assert ids() == before

    def refused(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(owners.os, "seteuid", refused)
        with pytest.raises(Stuck), acting_as(identity):
            raise AssertionError("the body must not run")
    os.setegid(0)
    os.setgroups([BOB])
    assert ids() == before
    with monkeypatch.context() as patch:
        patch.setattr(owners, "_return", lambda _groups: None)  # the control: nobody comes back
        with acting_as(identity):
            pass
        assert os.geteuid() == ADA
    owners._return([BOB])
    assert ids() == before
    os.setgroups(groups)


#: Gives root up, and then tries to act as itself, and as another.
LOWERED = """
import os
from refmta.stores.owners import acting_as
from refmta.stores.recipients import Identity
os.setgroups([])
os.setresgid(*[{me}] * 3)
os.setresuid(*[{me}] * 3)
with acting_as(Identity({me}, {me}, "/")):
    print(os.geteuid())
try:
    with acting_as(Identity({other}, {other}, "/")):
        print("is another")
except PermissionError:
    print(*os.getresuid(), *os.getresgid(), os.getgroups())
"""


@root
def test_who_gave_root_up_acts_as_itself_and_is_refused_all_others():
    """A refusal, not a process that is stuck: nothing had changed."""
    done = subprocess.run(
        [sys.executable, "-c", LOWERED.format(me=ADA, other=BOB)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    me = " ".join([str(ADA)] * 6)
    assert done.stdout.splitlines() == [str(ADA), f"{me} []"]


def test_without_a_change_everything_is_done_as_who_we_are(homes: Path):
    before = ids()
    disk = Owned(Identity(None, None, str(homes / "ada")))
    disk.close(disk.create("x"))
    disk.leave()
    assert (homes / "ada" / "x").stat().st_uid == os.geteuid() and ids() == before


def test_every_operation_by_name_or_that_takes_room_changes_ids():
    """None is left to be inherited by mistake; what is done on open files needs none."""
    free = {"leave", "read", "size", "mode", "lock", "writeback", "sync", "close"}
    public = {name for name in vars(PosixDisk) if not name.startswith("_")}
    assert public - free == {name for name in vars(Owned) if not name.startswith("_")}


# -- ends with its parent -------------------------------------------------------------------------

PARENT = """
import ctypes, os, signal, sys
from refmta.stores.owners import acting_as
from refmta.stores.recipients import Identity
told, tell = os.pipe()
child = os.fork()
if child == 0:
    if sys.argv[1] == "wanted":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    with acting_as(Identity(*[int(sys.argv[2])] * 2, "/")):
        if sys.argv[3] == "as the user":
            os.write(tell, b"x")
            signal.pause()
    os.write(tell, b"x")
    signal.pause()
os.read(told, 1)
print(child, flush=True)
signal.pause()
"""


@root
@pytest.mark.parametrize("when", ["as the user", "afterwards"])
@pytest.mark.parametrize("wanted", ["wanted", "not wanted"])
def test_a_process_that_is_or_was_a_user_ends_with_its_parent(wanted: str, when: str):
    """If it did before: the twin lives on."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, wanted, str(ADA), when], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watched = os.pidfd_open(child)
    try:
        os.kill(child, signal.SIGSTOP)  # so that it ends by nothing else
        parent.kill()
        parent.wait()
        ready, _, _ = select.select([watched], [], [], 10 if wanted == "wanted" else 0.2)
        assert bool(ready) == (wanted == "wanted")
    finally:
        signal.pidfd_send_signal(watched, signal.SIGKILL)
        os.close(watched)


@root
def test_who_lost_its_parent_while_it_was_a_user_ends_when_it_is_itself_again():
    lost = """
import os, signal, sys
from refmta.patterns import least_privilege
least_privilege.die_with(os.getppid() + 1, signal.SIGTERM)
"""
    assert subprocess.run([sys.executable, "-c", lost], check=False).returncode == -signal.SIGTERM
    twin = lost.replace(" + 1", "")
    assert subprocess.run([sys.executable, "-c", twin], check=False).returncode == 0
