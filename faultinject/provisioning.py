"""Servers from Debian and from PyPI, installed once for all overlay roots of this machine.

    archive = provide(Recipe(name="exim", packages=("exim4-daemon-light",)))
    with Overlay("exim", layer=archive): ...

Rules a reader may rely on
- Nothing is installed on this machine: packages go into an overlay root, and what they have changed
  there is kept as an archive, /var/tmp/refmta-provision-NAME/FINGERPRINT.tar.
- The fingerprint covers the recipe and the machine's own packages: an archive is a difference, and
  fits only what it was made from.  One that fits is used as it is, without a network; any other is
  made anew, and the old ones of that name go.
- An archive appears complete or not at all.  Who makes one holds a lock; what a killed one has left
  goes when the next one is made.
- The directory belongs to root and is closed to others: what lies in it becomes a root's files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from faultinject.overlay import SCRATCH, Overlay, OverlayError

PREFIX: Final = "refmta-provision"
#: What the machine has installed (dpkg(1)).
PACKAGES: Final = Path("/var/lib/dpkg/status")
#: How long packages may take to be fetched and installed, in seconds.
PATIENCE_S: Final = 600
#: Of the archives: another number where their meaning changes.
VERSION: Final = 1
#: The search path of a Debian root's administrator: sbin is not in everybody's.
SEARCH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROBE: Final = """
mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work /mnt/root &&
mount -t overlay none -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
"""


class ProvisionError(Exception):
    """It can't be had here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a server comes into a root.

    packages: of Debian.  answers: to debconf, before the packages are installed, as
    debconf-set-selections reads them.  steps: commands, afterwards, on the machine's network.
    """

    name: str
    packages: tuple[str, ...]
    answers: tuple[str, ...] = ()
    steps: tuple[tuple[str, ...], ...] = ()

    @property
    def fingerprint(self) -> str:
        """The same for the same recipe on the same machine.  Raises OSError."""
        digest = hashlib.sha256(f"{VERSION} {self!r} {sys.base_prefix} {sys.version}".encode())
        digest.update(PACKAGES.read_bytes())
        return digest.hexdigest()[:24]

    @property
    def directory(self) -> Path:
        """Where its archives are."""
        return SCRATCH / f"{PREFIX}-{self.name}"

    @property
    def archive(self) -> Path:
        """Where the one that fits is, or would be.  Raises OSError."""
        return self.directory / f"{self.fingerprint}.tar"


def provide(recipe: Recipe, say: Callable[[str], None] = lambda _: None) -> Path:
    """The archive that fits; made if there is none.  Raises ProvisionError."""
    try:
        if is_provided(recipe):
            return recipe.archive
        with _locked(recipe.directory):
            if not is_provided(recipe):
                say(f"{recipe.name}: installing {', '.join(recipe.packages)} in a root of its own")
                _make(recipe)
            return recipe.archive
    except (OverlayError, OSError, subprocess.TimeoutExpired) as error:
        raise ProvisionError(f"{recipe.name} can't be installed: {error}") from None


def is_provided(recipe: Recipe) -> bool:
    """Whether an archive that fits is there.  Raises ProvisionError if it is not to be trusted."""
    if not recipe.directory.exists():
        return False
    _need_own(recipe.directory)
    return recipe.archive.exists()


def unavailable(recipe: Recipe) -> str | None:
    """Why it can't run in a root of its own here; None if it can."""
    why = no_overlay()
    if why is not None:
        return why
    try:
        if is_provided(recipe):
            return None
    except (ProvisionError, OSError) as error:
        return str(error)
    missing = [name for name in recipe.packages if not _is_known(name)]
    return f"Debian's lists here have no {', '.join(missing)}" if missing else None


def _need_own(directory: Path) -> None:
    found = directory.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.geteuid():
        raise ProvisionError(f"{directory} is not a directory of ours alone: remove it")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0o700, exist_ok=True)
    _need_own(directory)
    with open(directory / "being-made", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(recipe: Recipe) -> None:
    """Under the lock."""
    for old in (*recipe.directory.glob("*.partial"), *recipe.directory.glob("*.tar")):
        old.unlink()
    partial = recipe.archive.with_suffix(".partial")
    with Overlay(f"provision-{recipe.name}") as root:
        if recipe.answers:
            root.run("debconf-set-selections", stdin="".join(f"{row}\n" for row in recipe.answers))
        if recipe.packages:
            root.install(*recipe.packages, timeout_s=PATIENCE_S)
        for step in recipe.steps:
            root.fetch("env", f"PATH={SEARCH}", *step, timeout_s=PATIENCE_S)
        root.save(partial)
    partial.rename(recipe.archive)


# -- what the machine has -------------------------------------------------------------------------


@cache
def no_overlay() -> str | None:
    """Why there are no overlay roots here: tried, in namespaces; None if there are."""
    if os.geteuid() != 0:
        return "not root"
    probe = ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", PROBE]
    try:
        done = subprocess.run(probe, capture_output=True, check=False, timeout=30)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no overlay root in namespaces here ({error})"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    why = f" ({said[-1]})" if said else ""
    return f"no overlay root in namespaces here{why}" if done.returncode else None


def _is_known(package: str) -> bool:
    """Whether the lists of packages have it; without any lists they may, once fetched."""
    try:
        done = subprocess.run(  # noqa: S603
            ["apt-cache", "show", package],  # noqa: S607
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        if done.returncode == 0:
            return True
        anything = subprocess.run(
            ["apt-cache", "show", "dpkg"],  # noqa: S607
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return anything.returncode != 0
