"""Seized processes: what they are made to do happens inside their own confinement, and they go on
unharmed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

import pytest
from unit.specs.sitter import sitter

from specs.observe import seize
from specs.observe.seize import Gone, Seized

pytestmark = pytest.mark.needs("root")

#: Blocks in one system call, made without Python's own repetition, and says what it returned.
BLOCKED = {
    "read": "got = libc.read(0, ctypes.create_string_buffer(9), 9)",
    "recv": """
left, right = socket.socketpair()
right.settimeout(None)
import threading
ready_to_send = os.fdopen(os.dup(0), "rb", buffering=0)
if os.fork() == 0:
    ready_to_send.readline()
    left.send(b"x")
    os._exit(0)
got = libc.recv(right.fileno(), ctypes.create_string_buffer(9), 9, 0)
""",
    "sleep": "got = libc.usleep(300_000)",  # goes on by restart_syscall
}
REPORT = "\nprint(got, ctypes.get_errno() if got < 0 else 0, flush=True)\n"
#: What read and recv return once they were told a line, and what sleep does.
SOUND = {"read": "1 0", "recv": "1 0", "sleep": "0 0"}


def outcome(name: str, times: int) -> str:
    """What the blocked call says after the process was seized some times."""
    code = f"ready()\n{BLOCKED[name]}{REPORT}"
    with sitter(code, waits=False) as victim:
        for _ in range(times):
            wait_blocked(victim.pid)
            with Seized(victim.pid) as seized:
                assert seized.call("getpid") == victim.pid
        victim.tell()
        return victim.hear()


def wait_blocked(pid: int) -> None:
    """Until it sleeps in a system call."""
    while True:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "S":
                return


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", BLOCKED)
def test_an_interrupted_call_is_begun_again(name, times):
    assert outcome(name, times) == SOUND[name]


class Careless(Seized):
    """Lets it go as if nothing had been interrupted."""

    def __exit__(self, *what: object) -> None:
        self._before.orig_rax = (1 << 64) - 1
        super().__exit__(*what)


def test_control_without_the_restart_the_process_would_notice(monkeypatch):
    monkeypatch.setitem(globals(), "Seized", Careless)
    assert outcome("read", 1) == "-1 512"  # ERESTARTSYS, which no program ever sees


def test_a_busy_process_goes_on():
    code = """
ready()
total = 0
for each in range(3_000_000):
    total += each
print(total, flush=True)
sys.stdin.readline()
"""
    with sitter(code, waits=False) as victim:
        for _ in range(20):
            with Seized(victim.pid) as seized:
                assert seized.call("getuid") == 0
        assert victim.hear() == str(sum(range(3_000_000)))


def test_its_own_user_and_root_apply(tmp_path):
    (tmp_path / "inside").write_text("content")
    tmp_path.chmod(0o755)
    code = f"os.chroot({str(tmp_path)!r}); os.chdir('/'); os.setresuid(12345, 12345, 12345)"
    with sitter(code) as victim, Seized(victim.pid) as seized:
        assert seized.call("getuid") == 12345
        assert seized.call("openat", -100, seized.write(b"/etc/passwd"), 0, 0) == -errno.ENOENT
        descriptor = seized.call("openat", -100, seized.write(b"/inside"), 0, 0)
        into = seized.write(bytes(16))
        assert seized.call("read", descriptor, into, 16) == 7
        assert seized.read(into, 7) == b"content"
        assert seized.call("setuid", 0) == -errno.EPERM


def test_what_is_opaque_to_others_is_seized_all_the_same():
    code = "os.setresuid(12345, 12345, 12345); libc.prctl(4, 0, 0, 0, 0)"
    with sitter(code) as victim, Seized(victim.pid) as seized:
        assert seized.call("prctl", 3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
        assert seized.call("getuid") == 12345


FILTERED = """
import pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
rules.add_rule(pyseccomp.{action}, "socket")
rules.load()
"""


def test_its_filter_applies():
    with (
        sitter(FILTERED.format(action="ERRNO(13)")) as victim,
        Seized(victim.pid) as seized,
    ):
        assert seized.call("socket", 2, 1, 0) == -errno.EACCES


def test_a_call_that_kills_is_told():
    with sitter(FILTERED.format(action="KILL_PROCESS")) as victim:
        with pytest.raises(Gone), Seized(victim.pid) as seized:
            seized.call("socket", 2, 1, 0)
        assert victim.poll() is not None


def test_a_call_that_blocks_is_given_up():
    with sitter("") as victim:
        with Seized(victim.pid, patience_s=0.1) as seized:
            assert seized.call("read", 0, seized.write(bytes(9)), 9) == -errno.EINTR
        victim.tell()
        assert victim.wait() == 0


def test_a_filter_that_sends_a_signal_refuses():
    with sitter(FILTERED.format(action="TRAP")) as victim:
        with Seized(victim.pid) as seized:
            assert seized.call("socket", 2, 1, 0) == -errno.EPERM
            assert seized.call("getpid") == victim.pid
        victim.tell()
        assert victim.wait() == 0


def test_signals_are_delivered_afterwards():
    """One that comes meanwhile interrupts what it would have interrupted."""
    code = "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'heard\\n'))"
    with sitter(code) as victim:
        wait_blocked(victim.pid)
        with Seized(victim.pid) as seized:
            os.kill(victim.pid, signal.SIGUSR1)
            assert [seized.call("getpid") for _ in range(3)] == [victim.pid] * 3
        assert victim.hear() == "heard"


def test_nothing_is_left_behind():
    def lines(pid: int) -> list[str]:
        with open(f"/proc/{pid}/maps") as maps:
            return maps.read().splitlines()

    with sitter("") as victim:
        wait_blocked(victim.pid)
        before = lines(victim.pid)
        with Seized(victim.pid) as seized:
            seized.write(b"argument")
            assert len(lines(victim.pid)) != 0
        assert lines(victim.pid) == before
        with open(f"/proc/{victim.pid}/status") as status:
            assert "TracerPid:\t0" in status.read()


def test_nobody_can_seize_what_is_gone():
    with sitter("") as victim:
        victim.kill()
        victim.wait()
        with pytest.raises(Gone), Seized(victim.pid):
            pass


def test_too_much_is_refused():
    with sitter("") as victim, Seized(victim.pid) as seized:
        with pytest.raises(seize.Unavailable):
            seized.write(bytes(seize.SCRATCH))
        seized.write(bytes(seize.SCRATCH - 1))
        seized.forget()
        seized.write(b"again")


def test_registers_are_those_of_the_kernel():
    assert ctypes.sizeof(seize._Registers) == 27 * 8
