"""What a seized process tries: a table of attempts, each made by it and judged by the kernel.

Theory.  An attempt is what an attacker would do who owns that process: look at files by name, climb
out of a directory, reach the network or another process, get privileges (back).  It counts as
*done* if the kernel did it, or if the only complaint is about an argument that we had left wrong
on purpose, so as to do no harm ("EFAULT" of an execve with no arguments: it had opened the
program, so it would have run it; on kernels before 6.8 arguments come first, and the word is
unjust).

Names.  A path is tried as it is from outside and, if it lies below the process's root, as it is
from there: nobody is safe because we don't know what it would call a file.

Harm.  What would change the process if it succeeded is tried last.  After the first such success
the process is no longer what was observed: the others are "spoiled", and it is killed, so that the
system starts a sound one in its place.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specs.observe.seize import Gone, Seized

_AT_FDCWD: Final = -100
_BAD_POINTER: Final = 8
#: Complaints about an argument: permission was not the matter.
_ARGUMENT: Final = (errno.EFAULT, errno.EINVAL, errno.EBADF, errno.E2BIG)
_NEW_USER: Final = 0x10000000
_PTRACE_SEIZE: Final = 0x4206
_GET_DUMPABLE, _SET_DUMPABLE = 3, 4
_THREAD_WITHOUT_HANDLERS: Final = 0x10000  # CLONE_THREAD alone is refused, but only by its check


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt from inside.

    result: "done", an errno's name ("EACCES"), "inside" (it worked, but led nowhere new), "none"
    (there was nothing to try it on), "killed" (the attempt ended the process) or "spoiled" (not
    tried: an earlier success had changed the process).  detail: where a success led, such as a
    path seen from outside.
    """

    result: str
    detail: str = ""

    @property
    def done(self) -> bool:
        """Whether the attempt succeeded."""
        return self.result == "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aims:
    """What is aimed at: paths seen from outside, and processes.

    places: name -> file or directory ("spool", "message", "mailbox", "configuration", "control").
    others: name -> pid, of the same system.  port: on 127.0.0.1, somebody listens there.
    user: another compartment's.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)
    port: int = 0
    user: int = 65534


Attempt = Callable[[Seized, Aims], Outcome]


@dataclass(frozen=True, slots=True)
class Probe:
    """name: in_words.  text: what is tried.  harmful: its success changes the process."""

    name: str
    text: str
    attempt: Attempt
    harmful: bool = False


def attempt(pid: int, aims: Aims, probes: Iterable[Probe] | None = None) -> dict[str, Outcome]:
    """Every probe's outcome in one process, which goes on unharmed unless a harmful one succeeded:
    then it is killed.  Raises Unavailable; Gone if it had ended before.
    """
    chosen = sorted(PROBES if probes is None else probes, key=lambda each: each.harmful)
    found: dict[str, Outcome] = {}
    with Seized(pid) as victim:
        spoiled = False
        for probe in chosen:
            if spoiled:
                found[probe.name] = Outcome("spoiled")
                continue
            try:
                victim.forget()
                found[probe.name] = outcome = probe.attempt(victim, aims)
                spoiled = probe.harmful and outcome.done
            except Gone as gone:
                found[probe.name], spoiled = Outcome("killed", str(gone)), True
        if spoiled:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return found


# -- how an attempt is judged ---------------------------------------------------------------------


def _judged(result: int, done_by: tuple[int, ...] = (), detail: str = "") -> Outcome:
    if result >= 0 or -result in done_by:
        return Outcome("done", detail)
    return Outcome(errno.errorcode.get(-result, str(-result)))


def _best(outcomes: Iterable[Outcome]) -> Outcome:
    """The most that was reached: done, then inside, then the first refusal that isn't ENOENT."""
    found = list(outcomes)
    done = [each for each in found if each.done]
    if done:
        return Outcome("done", ", ".join(each.detail for each in done))
    return min(found, key=lambda each: _RANKS.get(each.result, 1), default=Outcome("none"))


_RANKS: Final = {"inside": 0, "ENOENT": 2, "none": 3}


def _names(victim: Seized, path: str) -> Iterator[bytes]:
    """What the process may call a file: as from outside, and below its own root."""
    yield os.fsencode(path)
    root = _link(f"/proc/{victim.pid}/root").rstrip("/")
    if root and path.startswith(f"{root}/"):
        yield os.fsencode(path[len(root) :])


def _link(path: str) -> str:
    return str(Path(path).readlink())


def _opened(victim: Seized, directory: int, name: bytes, flags: int) -> tuple[Outcome, str]:
    """The outcome, and the path seen from outside of what was opened."""
    result = victim.call("openat", directory, victim.write(name), flags, 0o600)
    if result < 0:
        return _judged(result), ""
    path = _link(f"/proc/{victim.pid}/fd/{result}")
    victim.call("close", result)
    return Outcome("done", path), path


# -- files ----------------------------------------------------------------------------------------


def _open(path: str) -> Attempt:
    """For reading, by a name that is the same everywhere."""

    def attempt(victim: Seized, _aims: Aims) -> Outcome:
        return _opened(victim, _AT_FDCWD, path.encode(), os.O_RDONLY)[0]

    return attempt


def _open_place(name: str, flags: int = os.O_RDONLY) -> Attempt:
    """One of the aims, by every name."""

    def attempt(victim: Seized, aims: Aims) -> Outcome:
        if name not in aims.places:
            return Outcome("none")
        each = _names(victim, aims.places[name])
        return _best(_opened(victim, _AT_FDCWD, one, flags)[0] for one in each)

    return attempt


def _climb(victim: Seized, _aims: Aims) -> Outcome:
    """.. of each directory that is open, and of the current one, twelve times."""
    root = _link(f"/proc/{victim.pid}/root")
    descriptors = [_AT_FDCWD, *_directories(victim.pid)]
    return _best(_climbed(victim, each, root) for each in descriptors)


def _climbed(victim: Seized, directory: int, root: str) -> Outcome:
    flags = os.O_RDONLY | os.O_DIRECTORY
    outcome, path = _opened(victim, directory, b"../" * 12, flags)
    return Outcome("inside", path) if path and path == root else outcome


def _directories(pid: int) -> list[int]:
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if each.is_dir():
                found.append(int(each.name))
    return sorted(found)


def _create(victim: Seized, _aims: Aims) -> Outcome:
    """A new file in the root and in the current directory."""
    return _best(_created(victim, name) for name in (b"/probe.of.specs", b"probe.of.specs"))


def _created(victim: Seized, name: bytes) -> Outcome:
    outcome, path = _opened(victim, _AT_FDCWD, name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    if path:
        Path(path).unlink()  # from outside: it may be allowed to make and not to remove
    return outcome


def _make(call: str, *arguments: int) -> Attempt:
    """Something in the root that is no file; removed again."""

    def attempt(victim: Seized, _aims: Aims) -> Outcome:
        result = victim.call(call, victim.write(b"/probe.of.specs"), *arguments)
        if result >= 0:
            made = Path(f"/proc/{victim.pid}/root/probe.of.specs")
            made.rmdir() if call == "mkdir" else made.unlink()
        return _judged(result)

    return attempt


def _execute(victim: Seized, _aims: Aims) -> Outcome:
    """The interpreter that it runs, and a shell."""
    programs = [_link(f"/proc/{victim.pid}/exe"), "/bin/sh"]
    return _best(
        _judged(
            victim.call("execve", victim.write(each.encode()), _BAD_POINTER, 0),
            (errno.EFAULT,),
            each,
        )
        for each in programs
    )


# -- the network ----------------------------------------------------------------------------------


def _on_socket(family: int, kind: int, then: Callable[[Seized, int, Aims], int]) -> Attempt:
    def attempt(victim: Seized, aims: Aims) -> Outcome:
        descriptor = victim.call("socket", family, kind, 0)
        if descriptor < 0:
            return _judged(descriptor)
        try:
            return _judged(then(victim, descriptor, aims))
        finally:
            victim.call("close", descriptor)

    return attempt


def _connect(victim: Seized, descriptor: int, aims: Aims) -> int:
    address = _inet("127.0.0.1", aims.port)
    return victim.call("connect", descriptor, victim.write(address), len(address))


def _bind(victim: Seized, descriptor: int, _aims: Aims) -> int:
    address = _inet("127.0.0.1", 0)
    return victim.call("bind", descriptor, victim.write(address), len(address))


def _inet(host: str, port: int) -> bytes:
    return (
        struct.pack("=H", socket.AF_INET)
        + struct.pack("!H", port)
        + socket.inet_aton(host)
        + b"\0" * 8
    )


def _connect_control(victim: Seized, aims: Aims) -> Outcome:
    """The operator's socket, by every name."""
    if "control" not in aims.places:
        return Outcome("none")

    def then(name: bytes) -> Attempt:
        address = struct.pack("=H", socket.AF_UNIX) + name + b"\0"
        return _on_socket(
            socket.AF_UNIX,
            socket.SOCK_STREAM,
            lambda v, d, _: v.call("connect", d, v.write(address), len(address)),
        )

    return _best(then(each)(victim, aims) for each in _names(victim, aims.places["control"]))


# -- other processes ------------------------------------------------------------------------------


def _on_others(act: Callable[[Seized, int], Outcome]) -> Attempt:
    """On init and on each of the system's other processes; says which it worked on."""

    def attempt(victim: Seized, aims: Aims) -> Outcome:
        others = {"init": 1, **aims.others}
        found = []
        for name, pid in others.items():
            if pid != victim.pid:
                outcome = act(victim, pid)
                found.append(Outcome("done", name) if outcome.done else outcome)
        return _best(found)

    return attempt


def _signal(victim: Seized, pid: int) -> Outcome:
    return _judged(victim.call("kill", pid, 0))


def _trace(victim: Seized, pid: int) -> Outcome:
    return _judged(victim.call("ptrace", _PTRACE_SEIZE, pid, 0, 0))


def _read_memory(victim: Seized, pid: int) -> Outcome:
    """An octet of the program's text."""
    with suppress(OSError, ValueError):
        start = int(Path(f"/proc/{pid}/maps").read_text().partition("-")[0], 16)
        into = victim.write(bytes(16))
        ours = victim.write(struct.pack("=QQ", into, 1))
        theirs = victim.write(struct.pack("=QQ", start, 1))
        return _judged(victim.call("process_vm_readv", pid, ours, 1, theirs, 1, 0))
    return Outcome("none")


def _steal(victim: Seized, pid: int) -> Outcome:
    """A copy of a descriptor."""
    descriptor = victim.call("pidfd_open", pid, 0)
    if descriptor < 0:
        return _judged(descriptor)
    result = victim.call("pidfd_getfd", descriptor, 2, 0)
    victim.call("close", descriptor)
    if result >= 0:
        victim.call("close", result)
    return _judged(result)


def _open_memory(victim: Seized, pid: int) -> Outcome:
    return _opened(victim, _AT_FDCWD, f"/proc/{pid}/mem".encode(), os.O_RDONLY)[0]


# -- privileges, and calls that nobody needs ------------------------------------------------------


def _call(name: str, *arguments: int) -> Attempt:
    return lambda victim, _aims: _judged(victim.call(name, *arguments))


def _reach(name: str, *arguments: int) -> Attempt:
    """With arguments that can't do: done if they, and not permission, were the matter."""
    padded = [*arguments, *([0] * (6 - len(arguments)))]

    def attempt(victim: Seized, _aims: Aims) -> Outcome:
        result = victim.call(name, *padded)
        if result >= 0 and name in _MAKES_A_DESCRIPTOR:
            victim.call("close", result)
        return _judged(result, _ARGUMENT)

    return attempt


_MAKES_A_DESCRIPTOR: Final = ("io_uring_setup", "bpf", "userfaultfd")


def _become_dumpable(victim: Seized, _aims: Aims) -> Outcome:
    """And back."""
    before = victim.call("prctl", _GET_DUMPABLE, 0, 0, 0, 0)
    result = victim.call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)
    if result >= 0:
        victim.call("prctl", _SET_DUMPABLE, before, 0, 0, 0)
    return Outcome("inside") if before == 1 else _judged(result)


def _become_other(victim: Seized, aims: Aims) -> Outcome:
    return _judged(victim.call("setresuid", aims.user, aims.user, aims.user))


def _change_root(victim: Seized, _aims: Aims) -> Outcome:
    """To what is its root already, so that success harms nobody."""
    return _judged(victim.call("chroot", victim.write(b"/")))


def _mount(victim: Seized, _aims: Aims) -> Outcome:
    return _judged(
        victim.call(
            "mount", victim.write(b"none"), victim.write(b"/"), victim.write(b"tmpfs"), 0, 0
        )
    )


_NULL_DEVICE: Final = os.makedev(1, 3)
_CHARACTER_DEVICE: Final = 0o020600

PROBES: Final[tuple[Probe, ...]] = (
    # -- files
    Probe("open_root", "open / as a directory", _open("/")),
    Probe("open_passwd", "read /etc/passwd", _open("/etc/passwd")),
    Probe("open_shadow", "read /etc/shadow", _open("/etc/shadow")),
    Probe("open_environ", "read another's environment", _open("/proc/1/environ")),
    Probe("open_own_memory", "open its own /proc entry", _open("/proc/self/mem")),
    Probe("open_spool", "open the spool", _open_place("spool")),
    Probe("open_queue", "open the directory of the queue", _open_place("queue")),
    Probe("open_message", "read a queued message", _open_place("message")),
    Probe("write_message", "change a queued message", _open_place("message", os.O_WRONLY)),
    Probe("open_mailbox", "open somebody's mailbox", _open_place("mailbox")),
    Probe("open_delivered", "read a delivered message", _open_place("delivered")),
    Probe("open_configuration", "read the configuration", _open_place("configuration")),
    Probe("climb", "leave by .. of each open directory", _climb),
    Probe("create_file", "make a file in / or here", _create),
    Probe("make_directory", "make a directory in /", _make("mkdir", 0o700)),
    Probe("make_device", "make a device node in /", _make(
        "mknod", _CHARACTER_DEVICE, _NULL_DEVICE)),
    Probe("execute", "execute its interpreter, or a shell", _execute),
    # -- the network
    Probe("make_socket", "make an inet socket", _on_socket(
        socket.AF_INET, socket.SOCK_STREAM, lambda _victim, descriptor, _aims: descriptor)),
    Probe("make_datagram_socket", "make an inet socket for datagrams", _on_socket(
        socket.AF_INET, socket.SOCK_DGRAM, lambda _victim, descriptor, _aims: descriptor)),
    Probe("connect", "connect to a port of this machine", _on_socket(
        socket.AF_INET, socket.SOCK_STREAM, _connect)),
    Probe("bind", "bind a port", _on_socket(socket.AF_INET, socket.SOCK_STREAM, _bind)),
    Probe("connect_control", "connect to the operator's socket", _connect_control),
    Probe("make_packet_socket", "make a raw socket", _on_socket(
        socket.AF_PACKET, socket.SOCK_RAW, lambda _victim, descriptor, _aims: descriptor)),
    # -- other processes
    Probe("signal_other", "signal another process", _on_others(_signal)),
    Probe("read_other", "read another process's memory", _on_others(_read_memory)),
    Probe("open_other", "open another process's memory in /proc", _on_others(_open_memory)),
    Probe("steal_descriptor", "take another process's descriptor", _on_others(_steal)),
    # -- calls that nobody needs
    Probe("reach_clone", "the kernel's code that makes processes", _reach(
        "clone", _THREAD_WITHOUT_HANDLERS)),
    Probe("reach_ring", "the kernel's code of io_uring", _reach("io_uring_setup")),
    Probe("reach_bpf", "the kernel's code of bpf", _reach("bpf")),
    Probe("reach_faults", "the kernel's code of userfaultfd", _reach("userfaultfd")),
    Probe("reach_namespaces", "the kernel's code of setns", _reach("setns", -1)),
    # -- privileges
    Probe("change_root", "chroot", _change_root),
    Probe("drop_groups", "setgroups", _call("setgroups", 0, 0), harmful=True),
    Probe("become_dumpable", "prctl(PR_SET_DUMPABLE)", _become_dumpable),
    Probe("become_root", "setuid(0)", _call("setuid", 0), harmful=True),
    Probe("become_other", "become another compartment's user", _become_other, harmful=True),
    Probe("mount", "mount a file system on /", _mount, harmful=True),
    Probe("trace_other", "trace another process", _on_others(_trace), harmful=True),
    Probe("new_user_namespace", "unshare(CLONE_NEWUSER)", _call(
        "unshare", _NEW_USER), harmful=True),
)  # fmt: skip
