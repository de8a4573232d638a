"""An interpreter that runs a mutated refmta: controls for checks that start the whole server.

`specs.kernel.mutant` makes mutants inside one process; compartments are processes of their own,
isolated from the environment (python -I). So the tree is copied into the site-packages of a small
virtual environment, before which nothing else is found, and changed there; everything else comes
from the interpreter that runs this.

Rules: each passage must occur exactly once; the directory must be one that the compartments' users
can enter. New text may contain `__mutant_ran__`, to be found in the server's log: a mutant that
never ran was not refused.
"""

from __future__ import annotations

import shutil
import site
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import refmta
from specs.kernel.mutant import MutationError


def mutant_tree(directory: Path, file: str, replacements: Sequence[tuple[str, str]]) -> str:
    """The path of the interpreter.  file: below refmta/.  Raises MutationError."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(directory)
    version = sysconfig.get_python_version()
    packages = directory / "lib" / f"python{version}" / "site-packages"
    original = Path(str(refmta.__path__[0]))
    shutil.copytree(original, packages / "refmta", ignore=shutil.ignore_patterns("__pycache__"))
    roots = [sysconfig.get_path("purelib"), *site.getsitepackages()]
    lines = [f"import site; site.addsitedir({root!r})" for root in dict.fromkeys(roots)]
    (packages / "original.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    change(directory, file, replacements)
    return str(directory / "bin" / "python")


def change(directory: Path, file: str, replacements: Sequence[tuple[str, str]]) -> None:
    """Change one more file of a tree that was made there.  Raises MutationError."""
    changed = next(directory.glob("lib/python*/site-packages/refmta")) / file
    text = changed.read_text(encoding="utf-8")
    for old, new in replacements:
        if text.count(old) != 1:
            raise MutationError(f"{file}: {old!r} occurs {text.count(old)} times, not once")
        text = text.replace(old, new)
    changed.write_text(text, encoding="utf-8")
