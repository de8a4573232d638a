"""The system calls that each kind of process needs, each with its reason.

Context (paper, section 3, least privilege): a process can ask its kernel for some 350 services;
ours needs a fifth of them, and every other one is attack surface.
Problem: which ones?  A list that is guessed is too tight (mail is lost when a rare path is taken)
or too wide (it is no list).
Forces: one need has many names: which of them the C library uses depends on its version, on
Python's, and on the processor (`newfstatat`, `fstatat64`, `statx`).
Solution: a table of needs.  A need is one thing that is done, under all its names in glibc 2.31 to
2.41 and Python 3.11 to 3.14 on any Linux; who needs it; why.  Names that a machine's libseccomp
does not know are left out there.
Observable claim: whatever happens (mail, kills, operators, storms), no process makes a call that
its kinds do not list, and no listed need stays unseen without saying why (tests/system,
strace(1)).

Kinds: "every" process, which need not be said; "supervisor"; "spawner"; the parts of a pool ("pool
parent", "template", "worker"); roles by their names; "compartment": any other, no more than every
one; "starting": a compartment before its own filter, with the attempts that prove other layers.
Filters add up over fork and exec: the spawner's allows what any process may need.

The default action is EPERM: an error that Python reports as any other.  Some calls must fail with
ENOSYS (`absent`): only then does the C library fall back to a call whose arguments can be seen.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import termios
from collections.abc import Iterable
from typing import Final, NamedTuple

_WHOLE: Final = (1 << 64) - 1
_INT: Final = (1 << 32) - 1


class Test(NamedTuple):
    """Holds if the argument of that place (from 0), under the mask, is the value."""

    argument: int
    value: int
    mask: int = _INT


class Rule(NamedTuple):
    """Allow a call if all the tests hold.  Of several rules for a name, one must allow."""

    name: str
    tests: tuple[Test, ...] = ()


class Need(NamedTuple):
    """One thing that is done, under all its names.  tests: alternatives; () is no limit.
    unseen: why the survey does not meet it, if it does not.
    """

    names: str
    kinds: tuple[str, ...]
    reason: str
    tests: tuple[tuple[Test, ...], ...] = ()
    unseen: str = ""


_EVERY: Final = ("every",)
_STARTING: Final = ("starting",)
_FILES: Final = ("enqueue", "qmgr", "local")
_ROLES: Final = (*_FILES, "remote", "resolve", "bounce", "smtpd", "accounts")
_PARTS: Final = ("supervisor", "compartment", "pool parent", "template", "worker", "starting")
KINDS: Final = frozenset({"every", "spawner", *_PARTS, *_ROLES})

# -- limits of arguments --------------------------------------------------------------------------


def _one_of(argument: int, *values: int) -> tuple[tuple[Test, ...], ...]:
    return tuple((Test(argument, each & _INT),) for each in values)


#: clone(2) as fork(3) of glibc calls it: no thread, no namespace.  Its flags come second on s390.
_FORK = Test(1 if os.uname().machine.startswith("s390") else 0, 0x01200000 | signal.SIGCHLD)
#: As pthread_create(3) of glibc calls it, when it has no clone3.
_THREAD = Test(_FORK.argument, 0x003D0F00)
_NOT_EXECUTABLE = ((Test(2, 0, 0x4),),)
_READ_ONLY = ((Test(2, 0, os.O_ACCMODE | os.O_CREAT | os.O_TRUNC),),)
_LOCAL = _one_of(0, socket.AF_UNIX)
_INTERNET = _one_of(0, socket.AF_INET, socket.AF_INET6)
_OPTIONS = tuple(
    (Test(1, level), Test(2, option))
    for level, option in (
        (socket.SOL_SOCKET, socket.SO_RCVBUF),
        (socket.SOL_SOCKET, socket.SO_SNDBUF),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    )
)
_DESCRIPTOR_FLAGS = _one_of(
    1, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC,
    fcntl.F_DUPFD,
)  # fmt: skip
#: The last one is TCGETS2, where it is not TCGETS (glibc 2.42).
_TERMINAL = _one_of(
    1, termios.FIOCLEX, termios.FIONCLEX, termios.FIONBIO, termios.TCGETS, 0x802C542A
)
#: linux/prctl.h: dumpable, no_new_privs, seccomp
_GETS: Final = (3, 39)
#: Die with the parent; dumpable, keepcaps, seccomp, bounding set, securebits, no_new_privs, ambient
#: set: what a process can only lose, or does to itself.
_PRIVILEGES: Final = (1, 3, 4, 7, 8, 21, 22, 23, 24, 27, 28, 38, 39, 47)

# -- the table ------------------------------------------------------------------------------------

# fmt: off
NEEDS: Final[tuple[Need, ...]] = (
    # memory
    Need("brk", _EVERY, "malloc grows its heap"),
    Need("mmap mmap2", _EVERY, "memory for Python, never to be executed", _NOT_EXECUTABLE),
    Need("munmap", _EVERY, "memory is given back"),
    Need("mremap", _EVERY, "a large buffer grows"),
    Need("madvise", _EVERY, "free pages go back; a thread's stack, when it ends",
         unseen="a thread ends ten seconds after its last work"),
    Need("mprotect", _EVERY, "malloc opens a reserved heap; a stack's guard", _NOT_EXECUTABLE),
    # a process and its signals
    Need("rt_sigaction sigaction", _EVERY, "trio's and Python's signal handlers"),
    Need("rt_sigprocmask sigprocmask", _EVERY, "nothing may come between fork or clone"),
    Need("rt_sigreturn sigreturn", _EVERY, "a signal handler returns"),
    Need("restart_syscall", _EVERY, "a wait goes on after SIGSTOP and SIGCONT",
         unseen="only some waits do, and the run may meet others"),
    Need("tgkill", _EVERY, "raise(3): trio gives back a signal that it took too late; abort(3)",
         _one_of(2, signal.SIGINT, signal.SIGTERM, signal.SIGABRT),
         unseen="a race that the run does not meet, and a defect"),
    Need("exit_group exit", _EVERY, "the end"),
    Need("getpid", _EVERY, "each line of the journal names its process"),
    Need("gettid", _EVERY, "raise(3), a lock's owner"),
    Need("getppid", _EVERY, "a child makes sure of its parent"),
    Need("getuid geteuid getgid getegid getresuid getresgid getgroups"
         " getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32",
         _EVERY, "it looks who it is"),
    Need("capget", _EVERY, "what is left is looked at"),
    Need("prctl", _EVERY, "what is left is looked at", _one_of(0, *_GETS)),
    Need("prlimit64 getrlimit ugetrlimit", _EVERY, "limits are read, not set",
         ((Test(0, 0), Test(2, 0, _WHOLE)),)),
    Need("sched_getaffinity", _EVERY, "malloc asks how many processors there are",
         unseen="it asks when there are eight threads"),
    Need("sched_yield", _EVERY, "a lock is waited for",
         unseen="Python 3.13's locks"),
    Need("uname", _EVERY, "gethostname(3): dnspython asks"),
    # time, chance, waiting
    Need("clock_gettime clock_gettime64 gettimeofday time", _EVERY, "the clock, without vDSO",
         unseen="vDSO answers, but for some clocks and virtual machines"),
    Need("clock_getres clock_getres_time64", _EVERY, "the clock's grain",
         unseen="vDSO answers, but for some clocks and virtual machines"),
    Need("clock_nanosleep clock_nanosleep_time64 nanosleep", ("spawner",),
         "a pause before all is started anew"),
    Need("getrandom", _EVERY, "queue ids, jitter, hash seeds"),
    Need("futex futex_time64", _EVERY, "Python's locks"),
    Need("set_robust_list rseq", _EVERY, "the C library prepares a child, or a thread"),
    Need("epoll_create1", _EVERY, "trio's loop"),
    Need("epoll_ctl", _EVERY, "trio's loop"),
    Need("epoll_wait epoll_pwait epoll_pwait2", _EVERY, "trio's loop"),
    Need("poll ppoll ppoll_time64", _EVERY, "a socket with a time limit; the loop of children"),
    # descriptors
    Need("read", _EVERY, "input"),
    Need("write", _EVERY, "the journal, the trace, files"),
    Need("writev", _EVERY, "the last words of the C library, before it aborts",
         unseen="a defect"),
    Need("close", _EVERY, "a descriptor ends"),
    Need("fcntl fcntl64", _EVERY, "close-on-exec, non-blocking, dup", _DESCRIPTOR_FLAGS),
    Need("ioctl", _EVERY, "close-on-exec, non-blocking, is it a terminal?", _TERMINAL),
    Need("newfstatat fstat fstatat64 fstat64 statx", _EVERY, "what a descriptor is"),
    Need("lseek _llseek", _EVERY, "a directory is read from its start"),
    # channels
    Need("socketpair", _EVERY, "channels; trio's wake-up", _LOCAL),
    Need("sendmsg", _EVERY, "frames with descriptors"),
    Need("recvmsg", _EVERY, "frames with descriptors"),
    Need("sendto send", _EVERY, "frames, replies"),
    Need("recvfrom recv", _EVERY, "frames, commands"),
    Need("shutdown", _EVERY, "an end is said before it is closed"),
    Need("getsockname", _EVERY, "Python asks what it was handed"),
    Need("getpeername", _EVERY, "Python asks what it was handed"),
    Need("getsockopt", _EVERY, "Python asks what it was handed"),
    Need("setsockopt", _EVERY, "trio's wake-up socket; small writes at once", _OPTIONS),
    # children
    Need("clone", ("spawner", "template"), "fork(3)", ((_FORK,),)),
    Need("clone", ("enqueue", "local"), "a large file is synced in a thread", ((_THREAD,),)),
    Need("prctl", ("enqueue", "local"), "trio gives the thread a name", _one_of(0, 15)),
    Need("pidfd_open", ("spawner", "template"), "a child's end is an event"),
    Need("pidfd_send_signal", ("spawner", "template"), "a signal to a child, not to its pid"),
    Need("wait4 waitpid", ("spawner", "template"), "the dead are reaped"),
    Need("waitid", ("spawner",), "has the supervisor ended by itself?"),
    Need("kill", ("spawner",), "the supervisor is told to stop"),
    Need("prctl", ("template",), "a child dies with its parent", _one_of(0, 1)),
    Need("prctl", ("template",), "each part's narrower filter", _one_of(0, 21, 22, 38, 39)),
    Need("seccomp", ("template",), "each part's narrower filter"),
    # connections
    Need("accept4 accept", ("supervisor", "pool parent"), "clients and operators"),
    Need("pread64", ("supervisor",), "the plan"),
    Need("socket", ("remote",), "next hops, name servers", _INTERNET),
    Need("connect", ("remote",), "next hops, name servers"),
    Need("setsockopt", ("remote",), "trio's stream to a name server",
         ((Test(1, socket.IPPROTO_TCP), Test(2, 25)),)),
    # the queue, mailboxes, and descriptors of messages
    Need("openat", _FILES, "its own directories"),
    Need("pread64", ("enqueue", "qmgr", "local", "remote", "bounce"), "a message's content"),
    Need("fsync", _FILES, "the promise to the client"),
    Need("fadvise64 fadvise64_64 arm_fadvise64_64", ("enqueue", "local"), "write-back begins"),
    Need("ftruncate ftruncate64", ("qmgr",), "a mark that was cut off"),
    Need("linkat", ("enqueue", "qmgr"), "a damaged chunk is set aside"),
    Need("renameat renameat2", ("enqueue",), "a foreign file is set aside"),
    Need("renameat renameat2", ("qmgr",), "a foreign file is set aside",
         unseen="enqueue is there before it, unless the file comes later"),
    Need("renameat renameat2", ("local",), "a message becomes visible at once"),
    Need("unlinkat", _FILES, "what is done, and what a crash has left"),
    Need("mkdirat", ("local",), "mailboxes"),
    Need("getdents64", ("enqueue", "local"), "what a crash has left"),
    # the user database
    Need("openat", ("accounts",), "the user database, to be read", _READ_ONLY),
    Need("mmap mmap2 mprotect", ("accounts",), "libraries that nsswitch.conf names"),
    Need("stat lstat stat64 lstat64 access faccessat faccessat2 readlink readlinkat", ("accounts",),
         "its files"),
    Need("getdents64 pread64", ("accounts",), "its directories and libraries",
         unseen="another nsswitch.conf"),
    Need("prctl", ("accounts",), "libcap, which libnss_systemd loads, looks", _one_of(0, 23)),
    Need("socket", ("accounts",), "a daemon that keeps users (nscd, sssd, systemd)", _LOCAL,
         unseen="another nsswitch.conf"),
    Need("connect", ("accounts",), "a daemon that keeps users (nscd, sssd, systemd)",
         unseen="another nsswitch.conf"),
    Need("timerfd_create timerfd_settime timerfd_settime64 eventfd2", ("accounts",),
         "libnss_systemd waits for its daemon",
         unseen="another nsswitch.conf"),
    Need("openat", ("spawner",), "the user database: whose mailbox?", _READ_ONLY,
         unseen="the run's users are in its configuration"),
    Need("socket", ("spawner",), "a daemon that keeps users", _LOCAL,
         unseen="the run's users are in its configuration"),
    Need("connect mmap mmap2 mprotect getdents64 pread64", ("spawner",),
         "a daemon that keeps users; libraries", unseen="the run's users are in its configuration"),
    # between fork and a filter of its own; the spawner's filter is in force already
    Need("execve", _STARTING, "a compartment is a program"),
    Need("dup2 dup3", _STARTING, "descriptors get their numbers"),
    Need("close_range", _STARTING, "all others are closed"),
    Need("mmap mmap2 mprotect", _STARTING, "libraries are loaded"),
    Need("open openat access faccessat faccessat2 stat lstat stat64 lstat64 readlink readlinkat"
         " getcwd getdents64 pread64 statfs fstatfs statfs64 fstatfs64", _STARTING,
         "Python finds and reads what it imports"),
    Need("arch_prctl set_tid_address set_thread_area set_tls", _STARTING, "the C library starts"),
    Need("ioctl fcntl fcntl64", _STARTING, "Python starts"),
    Need("sigaltstack sysinfo getrusage dup", _STARTING, "Python starts"),
    Need("setsid", _STARTING, "no terminal"),
    Need("chdir fchdir", _STARTING, "home, jail"),
    Need("umask", _STARTING, "files are their owner's"),
    Need("setgroups setresgid setresuid setgroups32 setresgid32 setresuid32", _STARTING,
         "a child becomes its user"),
    Need("prlimit64 setrlimit", _STARTING, "limits are set"),
    Need("unshare", _STARTING, "namespaces"),
    Need("chroot", _STARTING, "the jail"),
    Need("capset", _STARTING, "capabilities are given up"),
    Need("prctl", _STARTING, "privileges are given up", _one_of(0, *_PRIVILEGES)),
    Need("seccomp", _STARTING, "its own filter"),
    Need("landlock_create_ruleset landlock_add_rule landlock_restrict_self", _STARTING,
         "Landlock"),
    # what the proof of another layer attempts: that layer is to refuse it, not this filter
    Need("socket", _STARTING, "the empty network; accounts asks the user database once",
         _one_of(0, socket.AF_INET, socket.AF_UNIX)),
    Need("connect", _STARTING, "the empty network; accounts asks the user database once"),
    Need("mknod mknodat unlink", _STARTING, "Landlock"),
    Need("getpriority", _STARTING, "its own filter",
         unseen="made when its own filter is there: counted as a proof"),
)
#: Made, and refused with EPERM: the caller does without.
REFUSED: Final[tuple[Need, ...]] = (
    Need("openat", ("remote",), "dnspython looks for a module of each type of record"),
    Need("openat", ("template",), "Python counts its threads after fork (3.12)",
         unseen="this is another Python"),
)
# fmt: on

#: Fails with ENOSYS where it is not allowed, so that the C library falls back.
ABSENT: Final[dict[str, str]] = {
    "clone3": "its flags lie in memory, where no filter sees them; clone(2) is tried next",
    "faccessat2": "faccessat(2) is tried next",
    "close_range": "each descriptor is closed by itself",
    "openat2": "openat(2), whose flags a filter can see, is tried next",
}

# -- questions to it ------------------------------------------------------------------------------


def needs(kinds: Iterable[str]) -> tuple[Need, ...]:
    """The table's rows for a process of these kinds; all of them for the spawner.  Raises
    ValueError for a kind that there is not.
    """
    wanted = {"every", *kinds}
    if not wanted <= KINDS:
        raise ValueError(f"no such kind of process: {', '.join(sorted(wanted - KINDS))}")
    every = "spawner" in wanted
    return tuple(row for row in NEEDS if every or not wanted.isdisjoint(row.kinds))


def limit(rows: Iterable[Need]) -> tuple[Rule, ...]:
    """What a filter of these rows allows; a call that one row does not limit has one rule."""
    rules: dict[str, dict[Rule, None]] = {}
    for row in rows:
        for name in row.names.split():
            found = rules.setdefault(name, {})
            found.update((Rule(name, tests), None) for tests in row.tests or ((),))
    free = [Rule(name) for name, found in rules.items() if Rule(name) in found]
    return (*free, *(r for name, found in rules.items() if Rule(name) not in found for r in found))


def rules(kinds: Iterable[str]) -> tuple[Rule, ...]:
    """What the filter of a process of these kinds allows."""
    return limit(needs(kinds))


def calls(kinds: Iterable[str]) -> frozenset[str]:
    """The names of all calls that are allowed, with whatever arguments."""
    return frozenset(rule.name for rule in rules(kinds))


def absent(kinds: Iterable[str]) -> frozenset[str]:
    """Calls to be answered with ENOSYS."""
    return frozenset(ABSENT) - calls(kinds)
