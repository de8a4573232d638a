"""Roots and networks: what is kept, what is shared, and that nothing is left."""

from __future__ import annotations

import contextvars
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio

from faultinject import networks, overlay, provisioning
from faultinject.overlay import Overlay, OverlayError
from faultinject.processes import Process, look, strike_all
from faultinject.provisioning import ProvisionError, Recipe, is_provided, provide

HERE = Path("/proc/thread-self/ns/net")
#: Roots of this run: there may be others on the machine.
NET, LAYER = f"test-net-{os.getpid()}", f"test-layer-{os.getpid()}"


# -- networks -------------------------------------------------------------------------------------


@pytest.mark.needs("overlay")
def test_a_network_of_its_own_has_every_port_and_ends_with_the_block():
    before = HERE.readlink()
    with networks.own():
        assert HERE.readlink() != before and networks.is_own()
        networks.reserve_address(25).free()
        with socket.create_server(("127.0.0.1", 25)):
            assert networks.reserve_address(25).host == "127.0.0.2"
    assert HERE.readlink() == before and not networks.is_own()


@pytest.mark.needs("overlay")
def test_an_address_is_reserved_once_in_each_network_and_until_it_is_freed():
    """Also by many at the same moment, and without anybody who listens there."""
    with networks.own():
        context, got = contextvars.copy_context(), list[networks.Reserved]()

        def reserve() -> None:
            got.append(context.copy().run(networks.reserve_address, 25))

        threads = [threading.Thread(target=reserve) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(each.host for each in got) == [f"127.0.0.{n}" for n in range(1, 9)]
        assert networks.reserve_address(53).host == "127.0.0.1"  # another port
        with socket.create_server(("127.0.0.1", 25)):  # who it is for can have it
            pass
        with networks.own():
            assert networks.reserve_address(25).host == "127.0.0.1"
        third = next(each for each in got if each.host == "127.0.0.3")
        third.free()
        third.free()
        assert networks.reserve_address(25).host == "127.0.0.3"


@pytest.mark.needs("overlay")
def test_it_is_left_also_by_an_error_and_may_be_nested():
    before = HERE.readlink()
    with pytest.raises(ZeroDivisionError), networks.own():
        outer = HERE.readlink()
        with networks.own():
            assert HERE.readlink() not in (before, outer)
        assert HERE.readlink() == outer
        raise ZeroDivisionError
    assert HERE.readlink() == before


@pytest.mark.needs("overlay")
def test_threads_of_trio_from_another_network_are_no_obstacle():
    """A worker that was born in one network is kept, and used again in the next."""

    async def meet() -> tuple[str, str]:
        here = str(HERE.readlink())
        listeners = await trio.open_tcp_listeners(2525, host="127.0.0.1")

        def connect() -> str:
            socket.create_connection(("127.0.0.1", 2525), timeout=5).close()
            return str(HERE.readlink())

        met = await trio.to_thread.run_sync(lambda: networks.within(connect))
        await listeners[0].aclose()
        return here, met

    for _ in range(3):
        with networks.own():
            here, met = trio.run(meet)
            assert here == met


@pytest.mark.needs("overlay")
def test_a_command_runs_in_the_network_of_its_context_or_outside():
    before = str(HERE.readlink())
    program = ["readlink", "/proc/self/ns/net"]

    def said(line: tuple[list[str], tuple[int, ...]]) -> str:
        return subprocess.run(
            line[0], pass_fds=line[1], capture_output=True, text=True, check=True
        ).stdout.strip()

    with networks.own():
        inside = str(HERE.readlink())
        answers: list[str] = []
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=lambda: context.run(lambda: answers.append(said(networks.command(*program))))
        )
        thread.start()
        thread.join()
        assert answers == [inside]
        assert said(networks.command_outside(*program)) == before
    assert said(networks.command(*program)) == before


@pytest.mark.needs("overlay")
def test_an_overlay_is_in_the_network_of_its_context():
    with networks.own(), Overlay(NET) as root, socket.create_server(("127.0.0.1", 25)):
        root.run(sys.executable, "-c",
                 "import socket; socket.create_connection(('127.0.0.1', 25), 5)")  # fmt: skip
        inside = os.readlink(f"/proc/{root.init}/ns/net")
        assert inside == str(HERE.readlink())
    with Overlay(NET) as root:
        assert os.readlink(f"/proc/{root.init}/ns/net") != str(HERE.readlink())


# -- layers ---------------------------------------------------------------------------------------


@pytest.mark.needs("overlay")
def test_what_was_changed_is_there_again_and_what_was_removed_is_not(tmp_path):
    with Overlay(LAYER) as root:
        root.run("sh", "-c", "echo new >/etc/made; rm /etc/hostname; chown 7:8 /etc/made")
        root.run("sh", "-c", "rm -r /etc/apt && mkdir /etc/apt && echo own >/etc/apt/only")
        root.run("mkdir", "/var/log/made-inside")
        root.save(tmp_path / "archive")
    with Overlay(LAYER, layer=tmp_path / "archive") as root:
        assert root.run("cat", "/etc/made") == "new\n"
        assert root.run("stat", "-c", "%u %g", "/etc/made") == "7 8\n"
        assert root.run("ls", "/etc/apt") == "only\n"
        assert "made-inside" not in root.run("ls", "/var/log").split()
        with pytest.raises(OverlayError, match="No such file"):
            root.run("cat", "/etc/hostname")
    assert not Path("/etc/made").exists() and Path("/etc/hostname").exists()


@pytest.mark.needs("overlay")
def test_a_layer_that_is_no_archive_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "archive").write_bytes(b"nonsense")
    with pytest.raises(OverlayError), Overlay(LAYER, layer=tmp_path / "archive"):
        pass
    assert list(overlay.SCRATCH.glob(f"refmta-overlay-{LAYER}-*")) == []


# -- provisioning ---------------------------------------------------------------------------------

RECIPE = Recipe(name="toy", packages=("one", "two"))


class FakeRoot:
    """Writes an archive without a root; counts."""

    made = 0
    failing = ""

    def __init__(self, name: str) -> None:
        self.steps: list[str] = []

    def __enter__(self) -> FakeRoot:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is there."""

    def install(self, *packages: str, timeout_s: float) -> None:
        if FakeRoot.failing:
            raise OverlayError(FakeRoot.failing)
        assert packages == RECIPE.packages

    def save(self, archive: Path) -> None:
        FakeRoot.made += 1
        archive.write_bytes(b"a root")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(provisioning, "SCRATCH", tmp_path)
    monkeypatch.setattr(provisioning, "Overlay", FakeRoot)
    monkeypatch.setattr(provisioning, "PACKAGES", tmp_path / "status")
    monkeypatch.setattr(FakeRoot, "made", 0)
    monkeypatch.setattr(FakeRoot, "failing", "")
    (tmp_path / "status").write_text("dpkg")
    return tmp_path


def test_it_is_made_once_and_anew_when_the_machine_has_changed(place):
    first = provide(RECIPE)
    assert provide(RECIPE) == first and FakeRoot.made == 1
    (place / "status").write_text("dpkg and more")
    second = provide(RECIPE)
    assert second != first and not first.exists() and FakeRoot.made == 2
    assert Recipe(name="toy", packages=("one",)).fingerprint != RECIPE.fingerprint


def test_what_a_killed_one_has_left_goes_and_others_things_stay(place):
    RECIPE.directory.mkdir(mode=0o700)
    (RECIPE.directory / "dead.partial").write_bytes(b"half")
    (RECIPE.directory / "note").write_bytes(b"somebody's")
    provide(RECIPE)
    left = {each.name for each in RECIPE.directory.iterdir()}
    assert left == {RECIPE.archive.name, "note", "being-made"}


def test_a_directory_that_others_may_write_is_not_trusted(place):
    RECIPE.directory.mkdir()
    RECIPE.directory.chmod(0o777)
    RECIPE.archive.write_bytes(b"a trap")
    with pytest.raises(ProvisionError, match="remove it"):
        provide(RECIPE)
    with pytest.raises(ProvisionError):
        is_provided(RECIPE)


def test_a_failed_installation_leaves_no_archive_and_says_why(place):
    FakeRoot.failing = "E: no network"
    with pytest.raises(ProvisionError, match="toy can't be installed: E: no network"):
        provide(RECIPE)
    assert not is_provided(RECIPE)


def test_two_at_once_make_it_once(place):
    RECIPE.directory.mkdir(mode=0o700)
    with open(RECIPE.directory / "being-made", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=provide, args=(RECIPE,))
        second.start()
        time.sleep(0.05)
        assert FakeRoot.made == 0
        RECIPE.archive.write_bytes(b"made by the first")
    second.join()
    assert FakeRoot.made == 0


# -- the end of a tree ----------------------------------------------------------------------------


def test_all_are_killed_also_who_is_born_meanwhile():
    program = "import os, time\nfor _ in range(3): os.fork()\ntime.sleep(60)\n"
    tree = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)

    def members() -> list[Process]:
        found = []
        for each in Path("/proc").iterdir():
            seen = look(int(each.name)) if each.name.isdigit() else None
            if seen is not None and program in seen.arguments:
                found.append(Process(seen.pid, "toy", born=seen.born))
        return found

    assert strike_all(members)
    assert members() == [] and tree.wait(5) == -9


def test_who_can_not_be_killed_in_time_is_told(monkeypatch):
    from faultinject import processes

    monkeypatch.setattr(processes, "strike", lambda *_: False)
    seen = look(os.getpid())
    assert seen is not None
    immortal = [Process(seen.pid, "test", born=seen.born)]
    assert not strike_all(lambda: immortal, patience_s=0.05)
