"""What a target is: a server that can be started, reached, watched and stopped, and its users.

Users have no account on this machine: a target is told of them in its own way. Each has a home
with an empty Maildir on the file system to be measured; what lies in its new/ counts as delivered.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import ClassVar, Self

from bench.boxes import Box, Maildir

DOMAIN = "bench.test"
HOSTNAME = "mx.bench.test"
#: Mail for these is relayed: to smtp-sink, or to a port where nobody listens.
SINK_DOMAIN, SINK_PORT = "sink.test", 2599
DEAD_DOMAIN, DEAD_PORT = "dead.test", 2598
MAIN_USER = "bench"
STUCK_USER = "stuck"  # mail for this user is deferred
NUMBERED = [f"{number}{MAIN_USER}" for number in range(1, 17)]  # as smtp-source -r names them
USERS = [MAIN_USER, *NUMBERED, STUCK_USER]
FIRST_UID = 1_900_100_001


class TargetError(Exception):
    """A target did not start, stop or answer as it must."""


class Target(ABC):
    """One server under measurement; as a context, from started to stopped."""

    name: str
    reference = False  # whether the ratios of others are to this one
    host = "127.0.0.1"
    port: int
    form: ClassVar[type[Box]] = Maildir  # of users' mailboxes

    def __init__(self, place: Path) -> None:
        """`place`: a directory to be made, on the file system to be measured."""
        self.place = place
        self.homes = place / "home"
        self.spool = place / "spool"
        self._boxes: dict[str, Box] = {}
        self._cleanup = ExitStack()

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str | None:
        """Why it can't run here; None when it can."""

    @abstractmethod
    def running(self) -> AbstractContextManager[None]:
        """The server, started and answering; ended afterwards."""

    @abstractmethod
    def processes(self) -> list[int]:
        """The server's processes, by their numbers on this machine."""

    @abstractmethod
    def queued(self) -> int:
        """How many messages are in the queue now."""

    def roles(self) -> dict[int, str]:
        """What each process does, as far as the server or the kernel's name for it tells."""
        return {process: kernel_name(process) for process in self.processes()}

    def let_stuck(self) -> None:
        """From now on mail for STUCK_USER is deferred: he may not enter his Maildir."""
        os.chown(self.new_mail(STUCK_USER).parent, 0, 0)

    def on_network(self, *command: str) -> list[str]:
        """The command line that runs a load generator where the server listens."""
        return list(command)

    def path(self, seen: str) -> Path:
        """Where a path that the server uses is to be found from here."""
        return Path(seen)

    def new_mail(self, user: str) -> Path:
        """The directory in which a Maildir's delivered messages are counted."""
        return self.homes / user / "Maildir" / "new"

    def box(self, user: str) -> Box:
        """The user's mailbox."""
        return self._boxes.setdefault(user, self.form(self.homes / user))

    def make_homes(self) -> None:
        """Homes with an empty Maildir, owned by their users."""
        for directory in (self.place, self.homes):
            directory.mkdir(mode=0o711)
        for uid, user in user_ids():
            home = self.homes / user
            owned = [home, home / "Maildir", *(home / "Maildir" / n for n in ("tmp", "new", "cur"))]
            for directory in owned:
                directory.mkdir(mode=0o700)
                os.chown(directory, uid, uid)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.make_homes()
            undo.enter_context(self.running())
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()


def user_ids() -> list[tuple[int, str]]:
    """Each user's number and name."""
    return list(enumerate(USERS, FIRST_UID))


def descendants(ancestor: int) -> list[int]:
    """A process and all below it, by their numbers."""
    found = [ancestor]
    for process in found:  # grows while it is walked
        for thread in Path(f"/proc/{process}/task").glob("*"):
            with suppress(OSError):  # gone meanwhile
                found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def kernel_name(process: int) -> str:
    """The process's name as the kernel has it; empty when it is gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
