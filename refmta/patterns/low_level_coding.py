"""Low-level coding patterns: whole classes of errors are made impossible, not unlikely.

Context (paper, section 3): most holes are not in the design but in a line: a length that nobody
checked, a shell that was handed a name, a parser that was never needed.
Problem: a rule that every line must keep is broken in some line.
Forces: privileged calls are needed somewhere; a rule without exceptions is circumvented.
Solution: values that cross a border have types with bounds (`wire.messages`: a value that is out of
bounds does not decode); texts travel as data and are escaped where they are shown; and calls that
can do harm are banned, each with what to use instead, outside of the few rooms where they have
their reason.
Observable claim: of the modules that a running compartment has loaded, none makes a banned call
outside of its room; no input ends in an unhandled exception.

This file is the table.  `tests/unit/house` asserts it over the source, `specs.patterns` over what
the running processes have loaded.  A room that no longer needs its exception fails, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Ban:
    """calls: dotted names, of functions or whole modules; `os.exec*` stands for all of them.

    instead: what to use.  rooms: module -> why it may, and only there.
    """

    calls: tuple[str, ...]
    instead: str
    rooms: dict[str, str]


_SPAWNER = "refmta.processes.spawner"
_CHILDREN = "refmta.processes.children"
_LAUNCH = "refmta.architectures.launch"
_DISK = "refmta.stores.disk"
_OWNERS = "refmta.stores.owners"
_JAIL = "refmta.patterns.chroot_jail"
_PRIVILEGE = "refmta.patterns.least_privilege"
_STAGE = "refmta.cli.stage"
_DEMO = "refmta.cli.demo"

#: Everything else is allowed everywhere.
BANS: Final = (
    # -- other programs -----------------------------------------------------------------------
    Ban(("os.system", "os.popen", "pty"), "no shell anywhere", {}),
    Ban(("subprocess",), "the spawner", {_STAGE: "the demo starts its own server"}),
    Ban(("multiprocessing", "concurrent", "os.forkpty"), "the spawner", {}),
    Ban(("os.spawn*", "os.posix_spawn*"), "the spawner", {}),
    Ban(
        ("os.exec*",),
        "the spawner",
        {
            _SPAWNER: "compartments are executed here",
            _LAUNCH: "the launcher turns into the spawner",
            _PRIVILEGE: "a confined process tries whether it still could",
        },
    ),
    Ban(
        ("os.fork",),
        "the spawner, a pool's template",
        {
            _SPAWNER: "compartments",
            "refmta.processes.pool": "templates, and workers from them",
            "refmta.architectures.machine": "tries each layer in a child that ends then",
        },
    ),
    Ban(("asyncio", "threading"), "trio", {}),
    # -- data that runs -----------------------------------------------------------------------
    Ban(("eval", "exec", "compile", "runpy", "code", "codeop"), "parse", {}),
    Ban(("pickle", "marshal", "shelve", "dill", "copyreg"), "wire.messages", {}),
    Ban(
        ("importlib",),
        "an import on top",
        {
            "refmta.architectures.enter": "loads the roles of its own row and no others",
            "refmta.architectures.named": "loads one architecture and no others",
            "refmta.cli.main": "a command loads what it needs, so that --help is quick",
        },
    ),
    Ban(("__import__", "globals", "vars", "builtins"), "say what you mean", {}),
    # -- privileges ---------------------------------------------------------------------------
    Ban(("os.setuid", "os.setreuid"), "spawner.become: all three ids", {}),
    Ban(("os.setgid", "os.setregid", "os.initgroups"), "spawner.become", {}),
    Ban(
        ("os.seteuid", "os.setegid"),
        "spawner.become",
        {_OWNERS: "one process that writes every recipient's mail as its owner"},
    ),
    Ban(
        ("os.setresuid",),
        "spawner.become",
        {
            _SPAWNER: "a compartment becomes its user",
            _PRIVILEGE: "a confined process tries whether it still could",
        },
    ),
    Ban(("os.setresgid",), "spawner.become", {_SPAWNER: "as above"}),
    Ban(("os.setgroups",), "spawner.become", {_SPAWNER: "as above", _OWNERS: "as above"}),
    Ban(("os.chroot",), "processes.confinement", {_JAIL: "this is the pattern"}),
    Ban(
        ("pyprctl", "landlockpy", "pyseccomp"),
        "processes.confinement",
        {_PRIVILEGE: "this is the pattern"},
    ),
    Ban(("resource",), "processes.confinement", {_PRIVILEGE: "limits of a process"}),
    Ban(
        (f"{_JAIL}.enter", f"{_JAIL}.own_user_namespace", f"{_PRIVILEGE}.restrict_files"),
        "processes.confinement: the whole order of layers, proved",
        {"refmta.processes.confinement": "this is it"},
    ),
    Ban(
        ("ctypes",),
        "what Python has",
        {
            _SPAWNER: "prctl(PR_SET_PDEATHSIG): Python has no such call",
            _JAIL: "unshare(2): Python 3.11 has no such call",
            "refmta.architectures.reach": "access as another user would have it",
            "refmta.processes.no_helpers": "keeps ctypes.util from starting a program",
            "refmta.roles.accounts": "getpwnam_r(3): Python's pwd turns failures into 'no user'",
        },
    ),
    Ban(("cffi",), "what Python has", {}),
    # -- the disk -----------------------------------------------------------------------------
    Ban(("os.link", "os.rename", "os.fsync", "os.ftruncate"), "a plan", {_DISK: "the boundary"}),
    Ban(("os.replace", "os.renames", "os.remove", "os.truncate"), "stores.disk", {}),
    Ban(
        ("os.unlink",),
        "stores.disk",
        {_DISK: "the boundary", _PRIVILEGE: "a confined process tries whether it still could"},
    ),
    Ban(("os.mknod",), "nothing", {_PRIVILEGE: "a confined process tries whether it still could"}),
    Ban(("os.symlink", "os.mkfifo", "os.sync"), "nothing", {}),
    Ban(
        ("fcntl.flock",),
        "a unique name and one atomic step",
        {_DISK: "stores that several processes share: sendmail's queue, mbox"},
    ),
    Ban(("fcntl.lockf", "os.lockf"), "a unique name and one atomic step", {}),
    Ban(
        ("os.pread",),
        "stores.disk",
        {_DISK: "the boundary", "refmta.processes.supervisor": "the plan's memory file"},
    ),
    Ban(("tempfile", "shutil"), "stores.disk", {_DEMO: "a directory for a demonstration"}),
    # -- the rest -----------------------------------------------------------------------------
    Ban(("os.killpg",), "children: by pidfd", {}),
    Ban(("os.kill",), "children: by pidfd", {
        _SPAWNER: "ends the supervisor that it is about to reap",
        _CHILDREN: "ends a child that it is about to reap, and has no pidfd of",
        _DEMO: "crashes a part to show the recovery",
        _STAGE: "holds delivery up, so that a promise is in the queue when it crashes",
    }),
    Ban(("time.sleep",), "trio's clock", {
        _SPAWNER: "it has no trio",
        _STAGE: "the demo waits for its server, without trio",
    }),
    Ban(("assert",), "raise: an assert goes away under -O", {}),
    Ban(("print", "input"), "click.echo in cli, the journal elsewhere", {}),
)  # fmt: skip


def rooms() -> dict[str, tuple[str, ...]]:
    """Each banned call, and the modules in which it may stand."""
    return {call: tuple(ban.rooms) for ban in BANS for call in ban.calls}
