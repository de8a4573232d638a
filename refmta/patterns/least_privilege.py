"""Least privilege: a process can do what its job needs, and the kernel refuses everything else.

Context (paper, sections 2 and 3): what runs as root owns the machine when it falls.
Problem: privilege is granted by habit, in lumps, and for ever.
Forces: what is refused must never be needed: a filter that is too tight loses mail at the worst
moment, one that is too wide is none.
Solution: no process has a capability but the spawner, which has three; nobody can gain any
(no_new_privs, an empty bounding set); Landlock leaves each process the files below its own
directories; seccomp leaves it the system calls that were seen to be needed (`system_calls`, with
the reason of each).  What is refused fails with EPERM or EACCES: an error that the caller's own
handling, and its log, will show; the process lives, and so does the mail it holds.
Observable claim: `/proc/PID/status`: CapEff is 0 outside the spawner, NoNewPrivs 1, Seccomp 2; the
list of root processes is exact: the spawner.

Landlock: the ruleset handles every right that the running kernel knows (and this library); none is
left out for want of an ABI that this code would like better.  `best_effort` is not used: a kernel
without Landlock is an error at the start, not a silence.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
from collections.abc import Iterable
from typing import NamedTuple

import landlockpy
import pyprctl
from landlockpy.flags import LATEST_ABI

try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # no libseccomp here: the launcher has said so
    pyseccomp = None  # type: ignore[assignment,unused-ignore]

from refmta.patterns import system_calls
from refmta.patterns.system_calls import Rule, Test

#: What the spawner keeps: it makes users of processes, and ends them.
SPAWNER_CAPABILITIES = (pyprctl.Cap.SETUID, pyprctl.Cap.SETGID, pyprctl.Cap.KILL)
#: libseccomp 2.5: SCMP_FLTATR_CTL_OPTIMIZE, and its value for a binary tree.
_OPTIMIZE, _BINARY_TREE = 8, 2
_READ = landlockpy.AccessFS.READ_FILE | landlockpy.AccessFS.READ_DIR
_CHANGE = (
    _READ
    | landlockpy.AccessFS.WRITE_FILE
    | landlockpy.AccessFS.TRUNCATE
    | landlockpy.AccessFS.MAKE_REG
    | landlockpy.AccessFS.MAKE_DIR
    # what should not be in a queue, but must be moved out of it
    | landlockpy.AccessFS.MAKE_FIFO
    | landlockpy.AccessFS.MAKE_SYM
    | landlockpy.AccessFS.REMOVE_FILE
    | landlockpy.AccessFS.REMOVE_DIR
    | landlockpy.AccessFS.REFER
)


# -- privileges -----------------------------------------------------------------------------------


def gain_nothing() -> None:
    """No program that is executed from now on gives a privilege."""
    pyprctl.set_no_new_privs()


def death_signal() -> int:
    """What this process gets when its parent ends; 0 for nothing."""
    return int(pyprctl.get_pdeathsig() or 0)


def die_with(parent: int, number: int) -> None:
    """Have that signal again: Linux takes it away with every change of effective ids (prctl(2)).
    If the parent has ended meanwhile, it comes now.
    """
    if number:
        pyprctl.set_pdeathsig(number)
        if os.getppid() != parent:
            signal.raise_signal(number)


def drop_capabilities(keep: Iterable[pyprctl.Cap] = ()) -> None:
    """Give up all capabilities but these; what may be had later, too, as far as that is ours to
    say (it takes CAP_SETPCAP, which a process has in a user namespace of its own).
    """
    kept = set(keep)
    if pyprctl.Cap.SETPCAP in pyprctl.CapState.get_current().effective:
        pyprctl.capbset.limit(*kept)
    pyprctl.cap_ambient_clear_all()
    pyprctl.CapState(effective=kept, permitted=kept, inheritable=set()).set_current()


def be_opaque() -> None:
    """No core dump with mail in it, and nobody of the same user may look into this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pyprctl.set_dumpable(False)


def be_transparent() -> None:
    """As after an exec: /proc/self is our own again, which a change of user has made root's."""
    pyprctl.set_dumpable(True)


# -- files ----------------------------------------------------------------------------------------


def restrict_files(reads: Iterable[str], changes: Iterable[str], *, network: bool) -> None:
    """Landlock: these directories and what lies below them, and nothing else; no TCP port but, with
    `network`, to connect to; no signal to and no abstract socket of processes outside.
    Raises landlockpy.UnsupportedError, OSError.
    """
    abi = min(landlockpy.abi_version(), LATEST_ABI)
    ports = landlockpy.net_for_abi(abi)
    if network:
        ports &= ~landlockpy.AccessNet.CONNECT_TCP
    with landlockpy.Ruleset(
        handled_fs=landlockpy.fs_for_abi(abi),
        handled_net=ports,
        scoped=landlockpy.scope_for_abi(abi),
        best_effort=False,
    ) as ruleset:
        for path in reads:
            ruleset.allow_path(path, _READ)
        for path in changes:
            ruleset.allow_path(path, _CHANGE)
        ruleset.restrict()


# -- system calls ---------------------------------------------------------------------------------


def allow_calls(kinds: Iterable[str], identities: Identities | None = None) -> None:
    """seccomp: the calls that these kinds of process need (`system_calls`), and no others.

    identities: of a process that may change its ids, to which.  Calls whose names this machine's
    libseccomp does not know are left out.  Raises OSError.
    """
    if pyseccomp is None:
        raise OSError(errno.ENOSYS, "libseccomp is not installed")
    kinds = tuple(kinds)
    found = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    with contextlib.suppress(OSError):  # libseccomp 2.5; without it a call costs more
        found.set_attr(_OPTIMIZE, _BINARY_TREE)
    rules = [rule for rule in system_calls.rules(kinds) if not _sets_ids(rule.name, identities)]
    if identities is not None:
        rules += _id_rules(identities)
    for rule in rules:
        tests = [
            pyseccomp.Arg(test.argument, pyseccomp.MASKED_EQ, test.mask, test.value)
            for test in rule.tests
        ]
        with contextlib.suppress(OSError, ValueError):
            found.add_rule(pyseccomp.ALLOW, rule.name, *tests)
    for name in system_calls.absent(kinds):
        with contextlib.suppress(OSError, ValueError):
            found.add_rule(pyseccomp.ERRNO(errno.ENOSYS), name)
    with contextlib.suppress(OSError):  # libseccomp 2.5; else every failure is ECANCELED
        found.set_attr(pyseccomp.Attr.API_SYSRAWRC, 1)
    found.load()


class Identities(NamedTuple):
    """Who a process may become; group 0 is never among them."""

    users: tuple[range, ...]


def _sets_ids(name: str, identities: Identities | None) -> bool:
    return identities is not None and name.startswith(("setresuid", "setresgid", "setgroups"))


def _id_rules(identities: Identities) -> list[Rule]:
    """All three ids in one block of those allowed; no supplementary group but none."""
    users = [block for each in identities.users for block in blocks(each)]
    groups = blocks(range(1, 1 << 32))
    return [
        Rule(f"{name}{suffix}", tests)
        for suffix in ("", "32")  # as they are called on 32-bit machines
        for name, alternatives in (
            ("setresuid", [_all_three(each) for each in users]),
            ("setresgid", [_all_three(each) for each in groups]),
            ("setgroups", [(Test(0, 0),)]),
        )
        for tests in alternatives
    ]


def _all_three(block: tuple[int, int]) -> tuple[Test, ...]:
    value, mask = block
    return tuple(Test(place, value, mask) for place in range(3))


def blocks(ids: range) -> list[tuple[int, int]]:
    """A range of 32-bit numbers as (value, mask) of blocks that a masked comparison can test."""
    found, start = [], ids.start
    while start < ids.stop:
        size = start & -start or 1 << 32
        while size > ids.stop - start:
            size >>= 1
        found.append((start, ((1 << 32) - 1) & ~(size - 1)))
        start += size
    return found


# -- attempts; each returns if it succeeded, and raises OSError if not ----------------------------


def be_root() -> None:
    """Any of the three ids."""
    os.setresuid(-1, 0, -1)


def have_capabilities() -> None:
    """Whether one is left, or could be had."""
    state = pyprctl.CapState.get_current()
    left = state.effective | state.permitted | state.inheritable
    if not left and pyprctl.get_no_new_privs():
        raise PermissionError("none is left")


def be_looked_into() -> None:
    """Whether others of this user may trace us, or a crash leaves our memory in a file."""
    if not pyprctl.get_dumpable():
        raise PermissionError("opaque")


def read_the_root() -> None:
    """Every user may read an empty jail, and the machine's root; Landlock says no."""
    os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))


def make_a_socket(directory: str) -> None:
    """In a directory of its own; not even there is one needed."""
    name = os.path.join(directory, ".refmta-confinement")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)  # of one who died here: that it exists would look like a refusal
    os.mknod(name, stat.S_IFSOCK | 0o600)
    os.unlink(name)


def write_elsewhere() -> None:
    """Every user may write to this device."""
    os.close(os.open(os.devnull, os.O_WRONLY))


def call_what_is_not_listed() -> None:
    """A system call that changes nothing, and that nothing of ours needs."""
    os.getpriority(os.PRIO_PROCESS, 0)


def run_a_program() -> None:
    """If the kernel looks for the file at all, it would have run it."""
    try:
        os.execv("/nonexistent", ["/nonexistent"])
    except FileNotFoundError:
        return
