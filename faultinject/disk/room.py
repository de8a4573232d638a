"""A file system of its own for a queue and its mailboxes: small, and its room can be taken away.

    with Room("ext4", directory / "room") as room:       # mounted there, from an image beside it
        room.leave_blocks(3); ...; room.give_back()

Theory.  A disk that is full, a quota that is used up and a file system that has turned read-only
are made, not imitated: the kernel answers whatever it answers then, short writes and errors at late
allocation among it.  ext4 with blocks of 1 KiB has room, inodes and the right to write taken
away; btrfs has quotas without further tools (this kernel's ext4 and xfs may have none).

It is mounted by a loop device that the kernel detaches with the last use.  Whoever runs a case in a
mount namespace of its own (`campaign.job`) leaves no mount behind, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from faultinject.tracing import Unavailable

#: Octets of an image (sparse): some servers want 100 MB free to take any mail, as btrfs does.
SIZES: Final[Mapping[str, int]] = {"ext4": 256 << 20, "btrfs": 256 << 20}
#: Inodes: few, so that taking all of them takes no time.
INODES: Final = 512
MAKE: Final[Mapping[str, tuple[str, ...]]] = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "1024", "-m", "0", "-N", str(INODES)),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
BALLAST: Final = "ballast"
BLOCK, QUOTA_STEP = 1024, 16 << 10
TRIES: Final = 4
#: How long a change may wait for files that are open for writing, in seconds.
PATIENCE_S, LOOK_S, TOOL_S = 30.0, 0.01, 60.0


class RoomError(OSError):
    """A file system could not be made, or changed; the text says what a tool answered."""


def unavailable(kind: str) -> str | None:
    """Why there is no such file system here; None if there is."""
    if os.geteuid() != 0:
        return "only root may mount a file system"
    tools = [MAKE[kind][0], "mount", *(("btrfs",) if kind == "btrfs" else ())]
    missing = [tool for tool in tools if shutil.which(tool, path=_path()) is None]
    if missing:
        return f"there is no {', '.join(missing)}"
    known = Path("/proc/filesystems").read_text(encoding="ascii").split()
    return None if kind in known else f"this kernel has no {kind}"


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def run(*command: str) -> str:
    """A tool's output.  Raises RoomError."""
    program = shutil.which(command[0], path=_path())
    if program is None:
        raise RoomError(f"there is no {command[0]}")
    try:
        done = subprocess.run(  # noqa: S603
            [program, *command[1:]], capture_output=True, text=True, errors="replace", check=False,
            stdin=subprocess.DEVNULL, timeout=TOOL_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RoomError(f"{command[0]} took {TOOL_S:.0f} s") from None
    if done.returncode != 0:
        raise RoomError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


class Room:
    """Mounted at `point` (made if it isn't there) from entering the context to leaving it.

    Raises Unavailable, RoomError.
    """

    def __init__(self, kind: str, point: Path) -> None:
        self.kind, self.point = kind, point
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        why = unavailable(self.kind)
        if why is not None:
            raise Unavailable(why)
        image = self.point.with_name(f"{self.point.name}.{self.kind}")
        with image.open("wb") as file:
            file.truncate(SIZES[self.kind])
        run(*MAKE[self.kind], str(image))
        self.point.mkdir(mode=0o711, exist_ok=True)
        with ExitStack() as undo:
            run("mount", "-o", "loop", str(image), str(self.point))
            undo.callback(self._unmount, self.point)
            self.point.chmod(0o711)
            if self.kind == "btrfs":
                run("btrfs", "quota", "enable", str(self.point))
                run("btrfs", "subvolume", "create", str(self.mail))
            self.mail.mkdir(mode=0o711, exist_ok=True)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    @property
    def mail(self) -> Path:
        """What is limited: of btrfs a subvolume, since a limit of all of it forbids to lift it."""
        return self.point / "mail"

    def lend(self, name: str, where: Path) -> None:
        """A directory of it is bound at `where` (made if it isn't there) until the end."""
        (self.mail / name).mkdir(mode=0o711)
        where.mkdir(mode=0o711, exist_ok=True)
        run("mount", "--bind", str(self.mail / name), str(where))
        self._undo.callback(self._unmount, where)

    @staticmethod
    def _unmount(where: Path) -> None:
        """Wait for those who still use it; then it goes with the last use."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                run("umount", str(where))
            except RoomError:
                if time.monotonic() > deadline:
                    run("umount", "--lazy", str(where))
                    return
                time.sleep(LOOK_S)
            else:
                return

    # -- what can be taken away -------------------------------------------------------------------

    def take(self, what: str, left: int) -> None:
        """what: "space", "inodes", "quota" or "read-only"; left: how much stays."""
        if what == "space":
            self.leave_blocks(left)
        elif what == "inodes":
            self.leave_inodes(left)
        elif what == "quota":
            self.leave_quota(left)
        else:
            self.forbid_writing()

    def leave_blocks(self, count: int) -> None:
        """All room but so many blocks of 1 KiB is taken."""
        self.give_back()
        self._sync()  # what is allocated late is allocated now
        with (self.point / BALLAST).open("wb") as file:
            for _ in range(TRIES):  # what the ballast needs besides its octets is not known before
                excess = self._free() - count * BLOCK
                if excess == 0:
                    return
                end = os.fstat(file.fileno()).st_size
                if excess < 0:
                    file.truncate(end + excess)
                else:
                    with suppress(OSError):
                        os.posix_fallocate(file.fileno(), end, excess)

    def leave_inodes(self, count: int) -> None:
        """So many more files can be made."""
        self.give_back()
        place = self.point / BALLAST
        place.mkdir()
        for number in range(os.statvfs(self.point).f_ffree - count):
            (place / str(number)).touch()

    def leave_quota(self, count: int) -> None:
        """So many times 16 KiB more can be written."""
        self.give_back()
        self._sync()
        group = self._group()
        rows = run("btrfs", "qgroup", "show", "--raw", "--sync", str(self.point)).splitlines()
        used = next(int(row.split()[1]) for row in rows if row.split()[:1] == [group])
        run("btrfs", "qgroup", "limit", str(used + count * QUOTA_STEP), group, str(self.point))

    def _group(self) -> str:
        """The subvolume's quota group; its number is that of the root's inode tree."""
        return f"0/{run('btrfs', 'inspect-internal', 'rootid', str(self.mail)).strip()}"

    def forbid_writing(self) -> None:
        """It is mounted read-only, as soon as no file is open for writing.  Raises RoomError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                run("mount", "-o", "remount,ro", str(self.point))
            except RoomError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_S)
            else:
                return

    def give_back(self) -> None:
        """All that was taken."""
        if os.statvfs(self.point).f_flag & os.ST_RDONLY:
            run("mount", "-o", "remount,rw", str(self.point))
        if self.kind == "btrfs":
            run("btrfs", "qgroup", "limit", "none", self._group(), str(self.point))
        place = self.point / BALLAST
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def _sync(self) -> None:
        """This file system alone."""
        run("sync", "--file-system", str(self.point))

    def _free(self) -> int:
        found = os.statvfs(self.point)
        return found.f_bavail * found.f_frsize
