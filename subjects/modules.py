"""What each process of refmta loads: its entry point is run, and asked at its end.

The same interpreter, the same arguments as the spawner would give, in a process of its own that has
no channel: it loads everything, confines itself as far as it may here, finds nobody to talk to, and
ends.  Whatever is in `sys.modules` then is what its code can reach: confinement comes after all
imports, and an import after it fails.

A pool's parent, template and workers are one program, so they have loaded the same.  What is told
of a module is its name and file, as the interpreter knows them; what it is worth (lines, calls) is
the judge's business.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from refmta.architectures.catalogue import find
from specs.patterns.observation import Module
from specs.patterns.source import code_lines

PACKAGE: Final = "refmta"
#: How long an entry point may take, in seconds.
PATIENCE_S: Final = 60.0
#: What the line on standard error begins with.
MARK: Final = "modules-of-this-process "
#: Runs a module as `python -m` does, and says at the end what was loaded.  It loads nothing itself
#: that the interpreter has not loaded, but `runpy`, which `-m` loads, too.
PROGRAM: Final = f"""\
import sys
def say(loaded=sys.modules, write=sys.stderr.write):
    for name, module in sorted(loaded.items()):
        write({MARK!r} + name + " " + (getattr(module, "__file__", None) or "") + "\\n")
import atexit
atexit.register(say)
import runpy
_, entry, *sys.argv[1:] = sys.argv
runpy.run_module(entry, run_name="__main__", alter_sys=True)
"""
SPAWNER: Final = "spawner"
ENTER: Final = f"{PACKAGE}.architectures.enter"


class NotLoaded(Exception):
    """The entry point did not get as far as its own code; the text shows what it said."""


def loaded(name: str, architecture: str, python: str = sys.executable) -> tuple[Module, ...]:
    """What a process of that name loads, by name.  name: "spawner", "supervisor", a compartment,
    or a part of a pool ("smtpd worker").  Raises NotLoaded.
    """
    return _loaded(name.partition(" ")[0], architecture, python)


@cache
def _loaded(compartment: str, architecture: str, python: str) -> tuple[Module, ...]:
    with tempfile.TemporaryDirectory(prefix="modules-") as directory:
        Path(directory, "empty").mkdir()
        said = _run([python, "-I", "-c", PROGRAM, *_entry(compartment, architecture, directory)])
    lines = [line[len(MARK) :] for line in said.splitlines() if line.startswith(MARK)]
    files = {name: file for name, _, file in (line.partition(" ") for line in lines)}
    missing = [each for each in _expected(compartment, architecture) if each not in files]
    if missing:
        raise NotLoaded(f"{compartment} did not load {', '.join(missing)}:\n{said[-2000:]}")
    files |= _itself(compartment, files[PACKAGE])
    return tuple(_module(name, files[name]) for name in sorted(files))


def _entry(compartment: str, architecture: str, spool: str) -> Sequence[str]:
    """The module that is run, and its arguments."""
    if compartment == SPAWNER:
        return [f"{PACKAGE}.processes.spawner", "3"]
    return [ENTER, architecture, compartment, spool]


def _itself(compartment: str, package: str) -> dict[str, str]:
    """The entry point's own module: it was `__main__`, and is gone when the others are told."""
    name = f"{PACKAGE}.processes.spawner" if compartment == SPAWNER else ENTER
    parts = name.split(".")[1:]
    return {name: str(Path(package).parent.joinpath(*parts).with_suffix(".py"))}


def _expected(compartment: str, architecture: str) -> tuple[str, ...]:
    """The modules without which the entry point did not come to its own code."""
    if compartment in (SPAWNER, "supervisor"):
        return (f"{PACKAGE}.processes.children",)
    rows = {row.name: row.roles for row in find(architecture).rows}
    return tuple(f"{PACKAGE}.roles.{each}" for each in rows.get(compartment, (compartment,)))


def _run(command: Sequence[str]) -> str:
    """What it says on standard error.  Descriptor 3 is /dev/null: no manifest, and no channel."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            preexec_fn=lambda: os.dup2(null, 3) if null != 3 else None,
            close_fds=False, text=True, errors="replace", timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    finally:
        os.close(null)
    return done.stderr


def _module(name: str, file: str) -> Module:
    own = name == PACKAGE or name.startswith(f"{PACKAGE}.")
    return Module(name, file, _lines(file), own)


@cache
def _lines(file: str) -> int:
    """Lines of code; 0 for what is not Python."""
    if not file.endswith(".py"):
        return 0
    try:
        return code_lines(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return 0


def main() -> None:
    """What is loaded where, for people: `python -m subjects.modules ARCHITECTURE`."""
    chosen = find(sys.argv[1] if len(sys.argv) > 1 else "refmta")
    for name in (SPAWNER, *(row.name for row in chosen.rows)):
        found = loaded(name, chosen.name)
        own, whole = (sum(m.lines for m in found if m.own or every) for every in (False, True))
        row = {"process": name, "own_lines": own, "lines": whole, "modules": len(found)}
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
