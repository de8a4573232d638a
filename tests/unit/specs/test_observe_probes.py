"""Attempts from inside: each done by who can, and refused to who can't."""

from __future__ import annotations

import os

import pytest
from unit.specs.sitter import sitter

from specs.observe.probes import PROBES, Aims, attempt

pytestmark = pytest.mark.needs("root")

BY_NAME = {each.name: each for each in PROBES}
LOW = "os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)\n"


def tried(code: str, *names: str, aims: Aims | None = None, **options):
    with sitter(code, **options) as victim:
        found = attempt(victim.pid, aims or Aims(), [BY_NAME[each] for each in names])
    return {name: outcome.result for name, outcome in found.items()}


def test_names_are_unique():
    assert len(BY_NAME) == len(PROBES)


#: name -> who can't.  Root, unconfined, can do all of them.
REFUSED = {
    "open_shadow": (LOW, "EACCES"),
    "create_file": (f"os.chdir('/')\n{LOW}", "EACCES"),
    "make_directory": (LOW, "EACCES"),
    "make_device": (LOW, "EPERM"),
    "make_packet_socket": (LOW, "EPERM"),
    "signal_other": (LOW, "EPERM"),
    "read_other": (LOW, "EPERM"),
    "open_other": (LOW, "EACCES"),
    "steal_descriptor": (LOW, "EPERM"),
    "change_root": (LOW, "EPERM"),
    "drop_groups": (LOW, "EPERM"),
    "become_root": (LOW, "EPERM"),
    "become_other": (LOW, "EPERM"),
    "trace_other": (LOW, "EPERM"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_done_by_who_can_and_refused_to_who_cannot(name, tmp_path):
    code, refusal = REFUSED[name]
    with sitter("") as other:
        aims = Aims(others={"other": other.pid})
        assert tried(code, name, aims=aims) == {name: refusal} or (
            name == "make_device" and tried(code, name, aims=aims)[name] == "EACCES"
        )
        assert tried("", name, aims=aims, cwd=tmp_path) == {name: "done"}
    assert not os.path.exists("/probe.of.specs")
    assert not os.listdir(tmp_path)


def filtered(call: str) -> str:
    return (
        "import pyseccomp; rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)\n"
        f"rules.add_rule(pyseccomp.ERRNO(1), {call!r}); rules.load()\n"
    )


#: name -> the system call without which it fails.
CALLS = {
    "open_root": "openat", "open_passwd": "openat", "make_socket": "socket", "bind": "bind",
    "make_datagram_socket": "socket", "execute": "execve", "reach_clone": "clone",
    "reach_ring": "io_uring_setup", "reach_bpf": "bpf", "reach_namespaces": "setns",
    "new_user_namespace": "unshare", "become_dumpable": "prctl", "mount": "mount",
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_filter_refuses_it(name):
    opaque = "libc.prctl(4, 0, 0, 0, 0)\n" if name == "become_dumpable" else ""
    if name not in ("mount",):  # what it would do to us
        assert tried(opaque, name) == {name: "done"}
    assert tried(opaque + filtered(CALLS[name]), name) == {name: "EPERM"}


def test_places_by_every_name(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "message").write_text("secret")
    tmp_path.chmod(0o755)
    aims = Aims(places={"message": str(tmp_path / "spool" / "message")})
    jailed = f"os.chroot({str(tmp_path / 'spool')!r}); os.chdir('/')\n"
    assert tried("", "open_message", aims=aims) == {"open_message": "done"}
    assert tried(jailed, "open_message", aims=aims) == {"open_message": "done"}
    elsewhere = f"os.mkdir({str(tmp_path / 'empty')!r}); os.chroot({str(tmp_path / 'empty')!r})\n"
    assert tried(elsewhere, "open_message", aims=aims) == {"open_message": "ENOENT"}
    assert tried("", "open_mailbox", aims=aims) == {"open_mailbox": "none"}


def test_climbing_out(tmp_path):
    """A directory from outside is the way out; without one there is none."""
    jail = f"os.chroot({str(tmp_path)!r}); os.chdir('/')\n"
    with sitter(f"kept = os.open('/', os.O_RDONLY)\n{jail}") as victim:
        found = attempt(victim.pid, Aims(), [BY_NAME["climb"]])["climb"]
    assert (found.result, found.detail) == ("done", "/")
    assert tried(jail, "climb") == {"climb": "inside"}


def test_who_was_changed_is_ended():
    names = ("become_other", "new_user_namespace")
    with sitter("") as victim:
        found = attempt(victim.pid, Aims(), [BY_NAME[each] for each in names])
        assert [each.result for each in found.values()] == ["done", "spoiled"]
        assert victim.poll() is not None


def test_who_was_not_changed_lives():
    with sitter(filtered("unshare") + LOW + "libc.prctl(4, 0, 0, 0, 0)\n") as victim:
        found = attempt(victim.pid, Aims())
        assert {each.result for each in found.values()} & {"spoiled", "killed"} == set()
        victim.tell()
        assert victim.wait() == 0


def test_who_is_killed_by_an_attempt_is_told():
    code = filtered("socket").replace("ERRNO(1)", "KILL_PROCESS")
    assert tried(code, "make_socket", "bind") == {"make_socket": "killed", "bind": "spoiled"}
