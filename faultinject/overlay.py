"""A root file system of its own for a real server: its packages, configuration and ports, not ours.

    with Overlay("postfix", binds={"/var/spool/postfix": directory}) as peer:
        peer.run("postfix", "start")

The peer sees this machine's files (`lowerdir=/`), and what it changes goes into a tmpfs; what an
earlier one has changed there can be kept (`save`) and given to the next as its beginning (`layer`).
It has mount and pid namespaces of its own, and a network with loopback up: its own, another
overlay's, or the harness's (`networks`); so it may bind port 25 and start daemons. What must lie on
a real disk (a spool, mailboxes) is a directory of the machine, bound in.

Cleaning up is the kernel's work. Process 1 of the namespaces waits for the end of file on a pipe
whose other end we hold: when we close it, or die in any way, it exits, the kernel kills all that
runs in its pid namespace, and with the last process the mounts and the tmpfs are gone. They never
show in this machine's mount table. What may stay after a SIGKILL is a directory in /var/tmp; its
lock says that nobody owns it, and the next `scratch` of the same name removes it.

It confines nobody: the peer runs as root, shares the kernel and sees the processors' load.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from faultinject import networks

SCRATCH = Path("/var/tmp")  # noqa: S108  unlike /tmp always on a disk
#: In a scratch directory: who holds its lock owns the directory.  Nobody else has such a file.
LOCK = ".refmta-scratch"
START_TIMEOUT_S = 30
SIZE = "2g"  # of the tmpfs, which takes only what is written
UPPER = "/run/upper"  # where an overlay has what it has changed
# What was removed and what was replaced is noted in attributes (and as devices 0:0).
TAR = ("--numeric-owner", "--xattrs", "--xattrs-include=*")
# Nobody needs these again: lists and archives of packages, logs.
FORGOTTEN = ("var/lib/apt/lists", "var/cache/apt", "var/log", "root")

# $1: mount point; $2: an archive to begin with, or nothing; then pairs of source and target.
# Everything happens in a private mount namespace.
INIT = (
    r"""
set -eu
base=$1; layer=$2; shift 2
mount -t tmpfs -o size=SIZE,mode=0755 overlay "$base"
mkdir "$base/upper" "$base/work" "$base/root"
[ -z "$layer" ] || tar TAR -C "$base/upper" -xpf "$layer"
mount -t overlay overlay \
    -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
while [ $# -gt 0 ]; do
    mkdir -p ".$2"; mount --bind "$1" ".$2"; shift 2
done
mount -t proc proc proc
mount -t tmpfs -o mode=0755 dev dev
mount -t tmpfs -o mode=0755 run run
mkdir dev/shm dev/pts run/lock
mount -t tmpfs -o mode=1777 shm dev/shm
for node in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"
done
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mkdir UPPER
mount --bind "$base/upper" UPPER
ip link set lo up
mkdir -p mnt
pivot_root . mnt
cd /
umount -l mnt
echo ready
read -r _ || true
""".replace("SIZE", SIZE)
    .replace("TAR", " ".join(TAR))
    .replace("UPPER", UPPER.lstrip("/"))
)


class OverlayError(Exception):
    """The overlay root could not be made; the text says what the kernel or a tool answered."""


def places_of(prefix: str) -> Iterator[Path]:
    """The directories of this prefix, and of none that begins with it: what `mkdtemp` adds is eight
    characters, none of them a dash.
    """
    return SCRATCH.glob(f"{prefix}-????????")


def remove_abandoned(prefix: str) -> None:
    """Remove directories of this prefix whose owner is dead: nobody holds their lock."""
    for place in places_of(prefix):
        try:
            found = place.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            with open(place / LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # alive, not made by us, or removed by another meanwhile
            continue
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def scratch(name: str) -> Iterator[tuple[Path, int]]:
    """A directory on disk (mode 0711) and the descriptor of its lock; removed at the end.

    Who inherits the descriptor keeps the directory from being taken for abandoned.
    """
    prefix = f"refmta-{name}"
    remove_abandoned(prefix)
    place = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=SCRATCH))
    try:
        with open(place / "new", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (place / "new").rename(place / LOCK)  # never seen without its owner's lock
            place.chmod(0o711)
            yield place, lock.fileno()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def namespace(process: int, kind: str) -> str:
    """What identifies a process's namespace; raises OSError when the process is gone."""
    return str(Path(f"/proc/{process}/ns/{kind}").readlink())


class Overlay:
    """A root of its own, from entering the context to leaving it. Needs root."""

    def __init__(
        self,
        name: str,
        *,
        binds: Mapping[str, Path] | None = None,
        beside: Overlay | None = None,
        layer: Path | None = None,
    ) -> None:
        """`binds`: where in the overlay -> which directory of this machine is bound there.

        `beside`: another, entered before, whose network this one shares.  Else it is in the network
        of this context (`networks.own`); if that is the machine's, in one of its own.
        `layer`: what `save` has written.
        """
        self.name = name
        self._beside = beside
        self._layer = layer
        self.init = 0  # process 1 of the overlay, by its number on this machine
        self._binds = dict(binds or {})
        self._pid_namespace = ""
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            place, lock = undo.enter_context(scratch(f"overlay-{self.name}"))
            outer = self._spawn(place, lock)
            undo.callback(self._end, outer)
            self._await_ready(outer)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def _spawn(self, place: Path, lock: int) -> subprocess.Popen[str]:
        """Start process 1; a session of its own keeps the terminal's SIGINT from it."""
        mount_point = place / "mnt"
        mount_point.mkdir()
        binds = [str(part) for target, source in self._binds.items() for part in (source, target)]
        layer = str(self._layer or "")
        shell = ["bash", "-c", INIT, "overlay", str(mount_point), layer, *binds]
        own = ["--mount", "--pid", "--fork", "--"]
        unshare, inherited = networks.command("unshare", *own)
        if self._beside is not None:
            unshare = self._beside.on_network("unshare", *own)
        elif not networks.is_own():
            unshare = ["unshare", "--net", *own]
        return subprocess.Popen(  # noqa: S603
            [*unshare, *shell],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            pass_fds=(lock, *inherited),
        )

    def _await_ready(self, outer: subprocess.Popen[str]) -> None:
        """Wait for the script's word, and learn process 1's number here."""
        stdout: IO[str] | None = outer.stdout
        line = stdout.readline() if stdout else ""
        if line != "ready\n":
            raise OverlayError(f"{self.name}: {line.strip() or 'no answer'}")
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="ascii")
        self.init = int(children.split()[0])
        self._pid_namespace = namespace(self.init, "pid")

    def _end(self, outer: subprocess.Popen[str]) -> None:
        """Let go of process 1; it takes everything along."""
        if outer.stdin:
            outer.stdin.close()
        try:
            outer.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # unshare's death does not end process 1: name both
            if self.init:
                os.kill(self.init, 9)
            outer.kill()
            outer.wait()
        if outer.stdout:
            outer.stdout.close()

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` inside."""
        enter = f"--target={self.init}"
        return ["nsenter", enter, "--mount", "--net", "--pid", "--", *command]

    def on_network(self, *command: str) -> list[str]:
        """The command line that runs `command` with our files and processes on its loopback."""
        return ["nsenter", f"--net=/proc/{self.init}/ns/net", "--", *command]

    def run(self, *command: str, stdin: str = "", timeout_s: float = 300) -> str:
        """Run inside until it ends; its output. Raises OverlayError unless it exits 0.

        The output goes through a file, since a daemon left behind would keep a pipe open.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            done = subprocess.run(  # noqa: S603
                self.command(*command),
                input=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=timeout_s,
            )
            output.seek(0)
            said = output.read()
        if done.returncode != 0:
            wrong = f"{' '.join(command)} exited {done.returncode}: {said.strip()[-2000:]}"
            raise OverlayError(f"{self.name}: {wrong}")
        return said

    def install(self, *packages: str, timeout_s: float = 300) -> None:
        """Debian packages, for this root alone, fetched over the machine's network.

        What they replace goes, no service is started.  Raises OverlayError.
        """
        policy = "/usr/sbin/policy-rc.d"
        self.run("tee", policy, stdin="#!/bin/sh\nexit 101\n")
        self.run("chmod", "+x", policy)
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
        apt += ["--no-install-recommends", "-oDPkg::Lock::Timeout=180"]
        apt += ["-oAPT::Sandbox::User=root"]
        for arguments in (["install", *packages], ["update"], ["install", *packages]):
            try:
                self.fetch(*apt, *arguments, timeout_s=timeout_s)
            except OverlayError as error:
                wrong = error
            else:
                if arguments[0] == "install":
                    return
        raise wrong

    def fetch(self, *command: str, timeout_s: float = 300) -> None:
        """Run inside, but on the machine's network.  Raises OverlayError unless it exits 0."""
        enter = ["nsenter", f"--target={self.init}", "--mount", "--pid", "--", *command]
        line, inherited = networks.command_outside(*enter)
        try:
            done = subprocess.run(  # noqa: S603
                line, capture_output=True, check=False, timeout=timeout_s,
                stdin=subprocess.DEVNULL, pass_fds=inherited,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OverlayError(f"{self.name}: {command[0]} took {timeout_s:.0f} s") from None
        if done.returncode != 0:
            said = (done.stderr + done.stdout).decode(errors="replace").strip()[-500:]
            raise OverlayError(f"{self.name}: {' '.join(command)[:200]}: {said}")

    def save(self, archive: Path) -> None:
        """Write what was changed inside into an archive, for a `layer`.  Raises OverlayError."""
        without = [f"--exclude=./{each}/*" for each in FORGOTTEN]
        tar = self.command("tar", *TAR, "-C", UPPER, *without, "-cf", "-", ".")
        with open(archive, "wb") as file:
            done = subprocess.run(tar, stdout=file, stderr=subprocess.PIPE, check=False)  # noqa: S603
            os.fsync(file.fileno())
        if done.returncode != 0:
            raise OverlayError(f"{self.name}: {done.stderr.decode(errors='replace')[-500:]}")

    def path(self, inside: str) -> Path:
        """Where a file of the overlay is to be reached from outside, while it runs."""
        return Path(f"/proc/{self.init}/root") / inside.lstrip("/")

    def processes(self) -> list[int]:
        """What runs inside, process 1 aside, by numbers of this machine."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.init:
                continue
            try:
                inside = namespace(int(entry.name), "pid") == self._pid_namespace
            except OSError:  # gone meanwhile
                continue
            if inside:
                found.append(int(entry.name))
        return sorted(found)
