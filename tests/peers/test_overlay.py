"""A real Postfix in an overlay root: it takes a message, delivers it, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import Shape, run
from bench.targets import Postfix
from faultinject.overlay import SCRATCH, Overlay, OverlayError, scratch

PROJECT = Path(__file__).parent.parent.parent

#: Of this run: there may be others on the machine.
NAME = f"test-{os.getpid()}"
# Opens an overlay with a daemon in it, says so, and waits to be killed.
VICTIM = """
import sys
from faultinject.overlay import Overlay
with Overlay(sys.argv[1]) as peer:
    peer.run("sh", "-c", "setsid sleep 1000 &")
    print(peer.init, *peer.processes(), flush=True)
    input()
"""


def left_behind() -> list[Path]:
    return list(SCRATCH.glob(f"refmta-overlay-{NAME}-*"))


def alive(process: int) -> bool:
    return Path(f"/proc/{process}/exe").exists()  # a zombie has none


def await_end(processes: list[int]) -> bool:
    """Whether all are gone after a while."""
    deadline = time.monotonic() + 60
    while any(map(alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, processes))


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[str]]:
    """A process with an open overlay."""
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    yield process
    process.kill()
    process.communicate()


def started(victim: subprocess.Popen[str]) -> list[int]:
    """The processes of the victim's overlay, once it is open."""
    assert victim.stdout
    processes = [int(number) for number in victim.stdout.readline().split()]
    assert len(processes) == 2
    assert all(map(alive, processes))
    return processes


@pytest.mark.needs("overlay", "postfix", "smtp-source")
def test_postfix_delivers_a_message_and_nothing_stays() -> None:
    with scratch(f"overlay-{NAME}") as (place, _):
        with Postfix(place / "postfix") as postfix:
            run(postfix, Shape(clients=1, messages=1))
            (delivered,) = postfix.new_mail("bench").iterdir()
            assert b"Delivered-To: bench@bench.test\n" in delivered.read_bytes()
            assert delivered.stat().st_uid == delivered.parent.stat().st_uid != 0
            processes = [postfix.overlay.init, *postfix.processes()]
            assert len(processes) > 3
        assert await_end(processes)
    assert place.name not in Path("/proc/self/mounts").read_text(encoding="utf-8")
    assert left_behind() == []


@pytest.mark.needs("overlay")
def test_changes_stay_inside_except_in_bound_directories() -> None:
    with scratch(f"overlay-{NAME}") as (place, _):
        with Overlay(NAME, binds={"/bound": place}) as peer:
            peer.run(
                "sh", "-c", "echo 1 >/etc/refmta-was-here; echo 2 >/bound/kept; rm /etc/hostname"
            )
            assert peer.path("/etc/refmta-was-here").read_text(encoding="ascii") == "1\n"
        assert (place / "kept").read_text(encoding="ascii") == "2\n"
    assert not Path("/etc/refmta-was-here").exists()
    assert Path("/etc/hostname").exists()


@pytest.mark.needs("overlay")
def test_loopback_is_up_and_not_ours() -> None:
    listening = (
        "import socket; s = socket.create_server(('127.0.0.1', 25)); print(s.accept()[1][0])"
    )
    calling = "import socket; socket.create_connection(('127.0.0.1', 25), 5)"
    with Overlay(NAME) as peer:
        server = subprocess.Popen(
            peer.on_network(sys.executable, "-c", listening), stdout=subprocess.PIPE, text=True
        )
        while subprocess.run(
            peer.on_network(sys.executable, "-c", calling), check=False, stderr=-3
        ).returncode:
            assert server.poll() is None
        assert server.communicate(timeout=60)[0] == "127.0.0.1\n"


@pytest.mark.needs("overlay")
def test_a_command_that_fails_says_what_it_said() -> None:
    with Overlay(NAME) as peer, pytest.raises(OverlayError, match="exited 3: about it"):
        peer.run("sh", "-c", "echo about it; exit 3")


@pytest.mark.needs("overlay")
def test_a_bind_that_is_not_there_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(OverlayError, match="missing"),
        Overlay(NAME, binds={"/x": tmp_path / "missing"}),
    ):
        pass
    assert left_behind() == []


@pytest.mark.needs("overlay")
def test_interrupted_it_cleans_up(victim: subprocess.Popen[str]) -> None:
    processes = started(victim)
    victim.send_signal(signal.SIGINT)
    victim.communicate(timeout=60)
    assert await_end(processes)
    assert left_behind() == []


def started_clean() -> bool:
    """Whether, while a next one runs, only its own directory and the foreign one are there."""
    with Overlay(NAME):
        return len(left_behind()) == 2


@pytest.mark.needs("overlay")
def test_killed_its_processes_end_and_the_next_start_removes_its_directory(
    victim: subprocess.Popen[str],
) -> None:
    processes = started(victim)
    foreign = SCRATCH / f"refmta-overlay-{NAME}-stranger"
    foreign.mkdir()  # no lock: not ours to remove
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=60)
    try:
        assert await_end(processes)
        assert len(left_behind()) == 2
        # The kernel may let go of the dead one's lock a moment after its processes are gone.
        deadline = time.monotonic() + 60
        while not started_clean():
            assert time.monotonic() < deadline, left_behind()
    finally:
        foreign.rmdir()
    assert left_behind() == []
