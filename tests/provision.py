"""What the tests need from Debian: installed when root, otherwise named in one line.

`python tests/provision.py` does nothing when everything is there (a tenth of a second). It never
fails the run: a test whose capability is missing reports *unavailable*, with the reason from
`capabilities()`.

Rules: no service is started and no port is bound (a policy-rc.d that forbids it lies there for the
time of the installation, and Postfix is left without a configuration, so that it cannot start at
the next boot either). No package is ever removed: where another mail server is installed, apt
refuses to replace it, and what needs Postfix stays unavailable. Of spamassassin only the sample
messages are unpacked, since the package would bring forty others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {
    "strace": ("strace",),
    "smtp-source": ("postfix",),
    "postfix": ("postfix",),
    "swaks": ("swaks",),
    "dnsmasq": ("dnsmasq-base",),
    "overlay": ("util-linux", "mount", "iproute2"),
    "file-systems": ("e2fsprogs", "xfsprogs", "btrfs-progs", "mount"),
    "chromium": ("chromium", "fonts-dejavu-core"),
    "tshark": ("tshark",),
}
SAMPLES = Path("/usr/share/doc/spamassassin/examples")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # an ordinary user's lacks sbin
APT = (
    "apt-get",
    "-qq",
    "-y",
    "--no-remove",
    "--no-install-recommends",
    "-oDPkg::Lock::Timeout=180",
)
TIMEOUT_S = 600
OVERLAY_PROBE = """
mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work /mnt/root &&
mount -t overlay none -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root &&
ip link set lo up
"""
FILE_SYSTEM_PROBE = """
mount -t tmpfs none /mnt && truncate -s 400M /mnt/image && mkfs.xfs -q -m reflink=1 /mnt/image &&
mkdir /mnt/on && mount -o loop /mnt/image /mnt/on
"""


def tool(name: str) -> str | None:
    """The path of a program, also where it lies in sbin; None when there is none."""
    return shutil.which(name, path=PATH)


def succeeds(*command: str) -> bool:
    """Whether the command is there and exits 0."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def why_not_program(name: str) -> Callable[[], str | None]:
    """A check that wants one program."""
    return lambda: None if tool(name) else f"no {name}"


def why_not_root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def why_not_strace() -> str | None:
    """Containers often have strace and forbid ptrace: try it."""
    if not tool("strace"):
        return "no strace"
    allowed = succeeds("strace", "-f", "-o", "/dev/null", "true")
    return None if allowed else "ptrace is forbidden here"


def why_not_samples() -> str | None:
    found = any(SAMPLES.glob("sample-*"))
    return None if found else f"no spamassassin samples in {SAMPLES}"


def why_not_overlay() -> str | None:
    """Overlay roots need root, namespaces and the file system: try all of it, in namespaces."""
    missing = [name for name in ("unshare", "nsenter", "mount", "ip") if not tool(name)]
    if missing:
        return f"no {', '.join(missing)}"
    if os.geteuid() != 0:
        return "not root"
    allowed = succeeds("unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", OVERLAY_PROBE)
    return None if allowed else "no overlay root in namespaces here"


def why_not_file_systems() -> str | None:
    """Images of ext4, xfs and btrfs are made and mounted: try one of them, in a namespace."""
    missing = [name for name in ("mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "mount") if not tool(name)]
    if missing:
        return f"no {', '.join(missing)}"
    if os.geteuid() != 0:
        return "not root"
    allowed = succeeds("unshare", "--mount", "sh", "-c", FILE_SYSTEM_PROBE)
    return None if allowed else "no loop mounts of xfs with reflink here"


def why_not_exim() -> str | None:
    """It is installed in an overlay root only, by whoever needs it."""
    found = subprocess.run(
        ["apt-cache", "policy", "exim4-daemon-light"],
        capture_output=True, text=True, check=False,
    ) if tool("apt-cache") else None  # fmt: skip
    have = found is not None and "Candidate: 4" in found.stdout
    return None if have else "no package exim4-daemon-light"


def why_not_qmail() -> str | None:
    """Debian has no package of it: somebody has built one."""
    return None if Path("/var/qmail/bin/qmail-send").exists() else "no qmail in /var/qmail"


CHECKS: dict[str, Callable[[], str | None]] = {
    "root": why_not_root,
    "strace": why_not_strace,
    "smtp-source": why_not_program("smtp-source"),
    "postfix": why_not_program("postfix"),
    "swaks": why_not_program("swaks"),
    "dnsmasq": why_not_program("dnsmasq"),
    "exim-package": why_not_exim,
    "spamassassin-samples": why_not_samples,
    "overlay": why_not_overlay,
    "file-systems": why_not_file_systems,
    "chromium": why_not_program("chromium"),
    "tshark": why_not_program("tshark"),
    "qmail": why_not_qmail,
}


def capabilities() -> dict[str, str | None]:
    """Each capability's name with None where the machine has it, else the reason."""
    return {name: check() for name, check in CHECKS.items()}


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Debian's way to forbid that an installation starts a service; an existing policy stays."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def apt(*arguments: str) -> bool:
    """Run apt-get without questions; whether it succeeded."""
    return succeeds("env", "DEBIAN_FRONTEND=noninteractive", *APT, *arguments)


def with_fresh_lists(attempt: Callable[[], bool]) -> bool:
    """Try; absent or outdated package lists are the usual cause of a failure: update, try again."""
    return attempt() or (apt("update") and attempt())


def unpack_samples() -> bool:
    """Put the sample messages of Debian's spamassassin, and nothing else, where it has them."""
    with tempfile.TemporaryDirectory() as place:
        download = f"cd {place} && {' '.join(APT)} -oAPT::Sandbox::User=root download spamassassin"
        if not succeeds("sh", "-c", f"{download} && dpkg-deb -x spamassassin_*.deb tree"):
            return False
        SAMPLES.mkdir(parents=True, exist_ok=True)
        for sample in Path(place, "tree", *SAMPLES.parts[1:]).glob("sample-*"):
            shutil.copy(sample, SAMPLES)
        return why_not_samples() is None


def install(missing: list[str]) -> None:
    """Install what the named capabilities need, as far as it can be had."""
    packages = sorted({package for name in missing for package in PACKAGES.get(name, ())})
    if "postfix" in packages:
        answer = "echo postfix postfix/main_mailer_type select No configuration"
        succeeds("sh", "-c", f"{answer} | debconf-set-selections")
    if packages:
        with no_service_starts():
            with_fresh_lists(lambda: apt("install", *packages))
    if "spamassassin-samples" in missing:
        with_fresh_lists(unpack_samples)


def missing_capabilities() -> list[str]:
    """The names of what is not there."""
    return [name for name, reason in capabilities().items() if reason]


def main() -> int:
    """Install what is missing; name in one line what still is. Always 0."""
    missing = missing_capabilities()
    if missing and os.geteuid() == 0 and tool("apt-get"):
        install(missing)
        missing = missing_capabilities()
    if missing:
        print(
            f"provision: unavailable here, and so are the tests that need it: {', '.join(missing)}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
