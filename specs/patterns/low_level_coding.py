"""Low-level coding patterns: the banned calls are absent, and no input ends in a defect.

What is judged is not a source tree, but what each *running* process has loaded of the judged's own
modules (`Observation.modules`).  The bans are the judge's; the manifest says in which rooms the
judged needs one (`Manifest.rooms`), and a room that is not used any more, or that an unprivileged
program made for a whole family of calls, is a counterexample like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Final

from specs.patterns.claims import Claim
from specs.patterns.observation import Module, Observation, Unavailable
from specs.patterns.source import Use, is_among, uses

PATTERN: Final = "low_level_coding"

#: Family -> names of functions and modules; `os.exec*` stands for all of them.
BANNED: Final = {
    "no_other_programs": (
        "os.system", "os.popen", "os.spawn*", "os.posix_spawn*", "os.exec*", "os.fork",
        "os.forkpty", "subprocess", "multiprocessing", "pty",
    ),
    "no_data_that_runs": (
        "eval", "exec", "compile", "pickle", "marshal", "shelve", "dill", "runpy", "importlib",
        "__import__", "builtins",
    ),
    "no_privileges_around_their_pattern": (
        "os.setuid", "os.seteuid", "os.setreuid", "os.setresuid", "os.setgid", "os.setegid",
        "os.setregid", "os.setresgid", "os.setgroups", "os.initgroups", "os.chroot", "ctypes",
        "cffi", "pyprctl", "prctl", "landlockpy", "seccomp", "pyseccomp",
    ),
    "no_names_around_the_stores": (
        "os.link", "os.symlink", "os.rename", "os.replace", "os.renames", "os.unlink", "os.remove",
        "os.truncate", "os.ftruncate", "os.fsync", "fcntl.flock", "fcntl.lockf", "os.lockf",
        "shutil", "tempfile",
    ),
    "no_checks_that_go_away": ("assert",),
}  # fmt: skip


def _own(observation: Observation) -> dict[str, Module]:
    """The judged's own modules with their source, of all processes."""
    found = {
        module.name: module
        for loaded in observation.modules.values()
        for module in loaded
        if module.own and module.file.endswith(".py")
    }
    if not found:
        raise Unavailable("this target is not made of modules whose source can be read")
    return found


@cache
def _uses(file: str) -> tuple[Use, ...]:
    return tuple(uses(Path(file).read_text(encoding="utf-8")))


def _banned(observation: Observation, family: str) -> tuple[str, ...]:
    """Uses of a family outside of the manifest's rooms."""
    return tuple(
        f"{module.name}, line {use.line}: {use.name}; loaded by {_holders(observation, module)}"
        for module in _own(observation).values()
        for use, call in _found(module, family)
        if module.name not in observation.manifest.rooms.get(call, ())
    )


def _found(module: Module, family: str) -> Iterator[tuple[Use, str]]:
    """(use, the banned name that it falls under), one of each name and line."""
    for use in _uses(module.file):
        for call in BANNED[family]:
            if is_among(use.name, call):
                yield use, call
                break


def _holders(observation: Observation, module: Module) -> str:
    names = [who for who, loaded in observation.modules.items() if module in loaded]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _rooms_are_used(observation: Observation) -> tuple[str, ...]:
    """Rooms of modules that are loaded, where the call does not occur."""
    own = _own(observation)
    return tuple(
        f"{name} has a room for {call}, and does not use it"
        for call, modules in observation.manifest.rooms.items()
        for name in modules
        if name in own and not any(is_among(use.name, call) for use in _uses(own[name].file))
    )


def _only_ours_and_theirs(observation: Observation) -> tuple[str, ...]:
    """Modules that are neither files nor built in: nobody could have read them."""
    return tuple(
        f"{who}: {module.name}: {module.file}"
        for who, loaded in observation.modules.items()
        for module in loaded
        if module.file and not Path(module.file).is_file()
    )


def _no_defect(observation: Observation) -> tuple[str, ...]:
    """Unhandled exceptions of this run, as the judged's own journal tells them."""
    if not observation.events:
        return ("the journal is empty: an unhandled exception would not be seen",)
    return tuple(
        f"{event.get('role')}, process {event.get('pid')}: {event.get('reason')}"
        for event in observation.events
        if event.get("event") == "defect"
    )


_SENTENCES: Final = {
    "no_other_programs": "Nothing that runs can start a program, but where that is its business.",
    "no_data_that_runs": "No module that runs turns data into code.",
    "no_privileges_around_their_pattern": (
        "Users, jails, filters and foreign calls are touched in their patterns' rooms only."
    ),
    "no_names_around_the_stores": (
        "Names on the disk are made, changed and synced by the store's boundary only."
    ),
    "no_checks_that_go_away": "No check is an assert, which -O would remove.",
}

CLAIMS: Final = (
    *(
        Claim(PATTERN, family, text, partial(_banned, family=family))
        for family, text in _SENTENCES.items()
    ),
    Claim(PATTERN, "rooms_are_used", "Each exception to a ban is still needed.", _rooms_are_used),
    Claim(
        PATTERN, "modules_can_be_read", "Whatever runs is a file that can be read.",
        _only_ours_and_theirs,
    ),
    Claim(PATTERN, "no_defect", "No input ended in an unhandled exception.", _no_defect),
)  # fmt: skip
