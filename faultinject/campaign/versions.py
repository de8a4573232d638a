"""What was tested, and with what: the version of each server, and that of this program.

A server's version is read where its root comes from (`provisioning`): the list of Debian's
packages, or the name of a distribution of Python.  Nothing is started for it.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Final

from faultinject.provisioning import ProvisionError, Recipe, is_provided
from faultinject.target import Target

#: The distribution that this is a part of.
OURS: Final = "refmta"
_STATUS: Final = "var/lib/dpkg/status"
_PATIENCE_S: Final = 10.0


def ours() -> str:
    """The distribution's version; of a checkout also its commit, and whether it was changed."""
    try:
        version = metadata.version(OURS)
    except metadata.PackageNotFoundError:
        version = "of no distribution"
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return f"{OURS} {version}"
    changed = ", with changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{OURS} {version}, commit {commit}{changed}"


def _git(*words: str) -> str:
    """What git says about the directory of this file; "" if it is in no checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *words],  # noqa: S607
            capture_output=True, check=False, text=True, timeout=_PATIENCE_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def of(target: Target) -> str:
    """In words; "" if it is not known (such as of a server that was never installed here)."""
    recipe = getattr(target, "recipe", None)
    if not isinstance(recipe, Recipe):
        return ours() if target.name.partition(":")[0] == OURS else ""
    try:
        return _of_archive(recipe) if is_provided(recipe) else ""
    except (ProvisionError, OSError, tarfile.TarError):
        return ""


def _of_archive(recipe: Recipe) -> str:
    wheel = re.compile(rf"/{re.escape(recipe.name)}-([0-9][^/-]*)\.dist-info", re.IGNORECASE)
    with tarfile.open(recipe.archive) as archive:
        for member in archive:
            if (found := wheel.search(member.name)) is not None:
                return f"{recipe.name} {found[1]} (PyPI)"
            if member.name.endswith(_STATUS) and (status := archive.extractfile(member)):
                found_there = of_status(status.read().decode(errors="replace"), recipe.packages[0])
                if found_there:
                    return f"{found_there} (Debian)"
    return ""


def of_status(status: str, package: str) -> str:
    """A package with its version, in what dpkg writes down; "" if it is not there."""
    found = re.search(rf"(?m)^Package: {re.escape(package)}\n(?:.+\n)*?Version: (.+)$", status)
    return f"{package} {found[1]}" if found else ""
