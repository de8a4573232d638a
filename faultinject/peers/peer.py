"""What all real servers have in common as targets (`faultinject.target.Target`).

    directory/spool   its queue, bound to where the server has it
    directory/home    USER/Maildir/new for each mailbox
    directory/log     its logs
    everything else   in an overlay root, gone with `dispose`

Rules a reader may rely on
- A server is Debian's, with Debian's packages; what its configuration changes is said in its
  module.  In all of them: no DNS but the site's name server (or one of ours that knows no name:
  servers hang on look-ups else), mail for remote domains to the site's next hops, Maildirs, retries
  after a second where that can be configured, patience of seconds with silent next hops, no TLS.
- Every process of the server is in the overlay's pid namespace: whoever is found there is of the
  server, helpers of ours aside.  So `recover` does what a service manager does with a control
  group: what has outlived its main process is ended, and that is nothing odd.
- The queue is listed by the server's own tool, when it was stopped, and kept: it can be asked for
  when the root has gone.
- Needs root, and to be called in a network of its own (`faultinject.networks`).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

from faultinject import networks, provisioning
from faultinject.books import Window
from faultinject.overlay import Overlay, OverlayError
from faultinject.processes import Process, Seen, look, strike, strike_all
from faultinject.provisioning import ProvisionError, Recipe
from faultinject.target import Site, TargetError, Waiting

SMTP, DNS = 25, 53
HOMES, LOGS = "/home/site", "/var/log/site"
#: The users of mailboxes, far from anybody else's.
FIRST_USER: Final = 1_900_200_001
#: How long a start and a stop may take, in seconds; how often it is looked.
START_S, STOP_S, LOOK_S = 60.0, 60.0, 0.02
#: It has ended again if nobody was seen so often in a row.
GONE_LOOKS: Final = 50
#: Evidence of a death is sought so long around a first delivery: retries come within seconds.
BEFORE_S, AFTER_S = 3.0, 30.0
#: Programs beside the server: its name server, its log.
HELPERS: Final = frozenset({"dnsmasq", "busybox"})
LOG_OCTETS: Final = 3000


class Peer(ABC):
    """A server.  Its subclass is a table of what differs, and the few methods below."""

    name: ClassVar[str]
    recipe: ClassVar[Recipe]
    #: Where it has its queue, and the user who owns that directory ("" for root).
    queue_place: ClassVar[str]
    roles: ClassVar[tuple[str, ...]]
    #: The role of the process whose end is the server's.
    main_role: ClassVar[str]
    #: The roles that can forget what they have done, by place.
    forgetful: ClassVar[Mapping[str, frozenset[str]]]
    capabilities: ClassVar[frozenset[str]] = frozenset({"remote", "reports", "network"})
    known_failures: ClassVar[Mapping[str, str]] = MappingProxyType({})
    #: What its log says that no kill excuses.
    defect: ClassVar[re.Pattern[str]] = re.compile(r"panic|assertion|segfault|Traceback")

    def __init__(self) -> None:
        self._archive: Path | None = None
        self._site: Site | None = None
        self._overlay: Overlay | None = None
        self._main: Process | None = None
        self._left: tuple[Waiting, ...] | None = None
        self._reserved: list[networks.Reserved] = []
        self.address: tuple[str, int] = ("127.0.0.1", SMTP)

    # -- what differs -----------------------------------------------------------------------------

    @abstractmethod
    def write_configuration(self, site: Site) -> None:
        """Everything but users, hosts and the resolver, inside; `self.address` is set."""

    @abstractmethod
    def launch(self) -> None:
        """Start it; it need not answer yet."""

    def relaunch(self) -> None:
        """Start it again in the same root, on the same file system."""
        self.launch()

    @abstractmethod
    def end(self) -> None:
        """Tell it to stop, and let it finish what it is at."""

    @abstractmethod
    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """The role and part of a process of the server; None if it is a tool, or a helper."""

    @abstractmethod
    def waiting(self) -> int:
        """How many messages are in the queue now: files in the spool, seen from outside."""

    @abstractmethod
    def list_queue(self) -> Iterator[Waiting]:
        """What the server's own tool tells of the queue, with the contents."""

    @abstractmethod
    def flush(self) -> None:
        """Have everything in the queue tried now."""

    # -- before it lives --------------------------------------------------------------------------

    @property
    def windows(self) -> Mapping[str, Window]:
        """By place, who can forget what was done."""
        return {
            place: Window(roles=roles, before_s=BEFORE_S, after_s=AFTER_S)
            for place, roles in self.forgetful.items()
        }

    @property
    def site(self) -> Site:
        """What it was configured for.  Raises TargetError."""
        if self._site is None:
            raise TargetError(f"{self.name} is not configured yet")
        return self._site

    @property
    def overlay(self) -> Overlay:
        """Its root.  Raises TargetError."""
        if self._overlay is None:
            raise TargetError(f"{self.name} has no root now")
        return self._overlay

    @property
    def spool(self) -> Path:
        """Where its queue is, here."""
        return self.site.directory / "spool"

    @property
    def log(self) -> Path:
        """The directory of its logs, here."""
        return self.site.directory / "log"

    @property
    def places(self) -> Mapping[str, Path]:
        """What is bound in."""
        return {self.queue_place: self.spool, HOMES: self.site.directory / "home", LOGS: self.log}

    def compose(self, architecture: str) -> None:
        """It is what it is."""
        raise KeyError(f"{self.name}:{architecture}")

    def unavailable(self) -> str | None:
        """Why it can't run here; None if it can."""
        return provisioning.unavailable(self.recipe)

    def install(self) -> None:
        """Into an archive for all its roots, if there is none."""
        try:
            self._archive = provisioning.provide(self.recipe)
        except ProvisionError as error:
            raise TargetError(str(error)) from None

    def configure(self, site: Site) -> None:
        """Make its root; keep what an earlier life has left in the site's directory."""
        self.dispose()
        if not networks.is_own():
            raise TargetError(f"{self.name} is to be called in a network of its own")
        if self._archive is None:
            self.install()
        self._site, self._left = site, None
        for directory in (site.directory, *self.places.values()):
            directory.mkdir(exist_ok=True)
            if directory != self.spool:
                directory.chmod(0o711)
        for uid, user in self._users():
            home = site.directory / "home" / user
            home.mkdir(mode=0o700, exist_ok=True)
            os.chown(home, uid, uid)
        self.address = (self._reserve(SMTP), SMTP)
        overlay = Overlay(self.name, binds=self.places, layer=self._archive)
        try:
            self._overlay = overlay.__enter__()
            self._write_names(site)
            self.write_configuration(site)
        except (TargetError, OverlayError, OSError) as error:
            self.dispose()
            raise TargetError(f"{self.name} can't be configured: {error}") from None

    def _reserve(self, port: int) -> str:
        """An address where that port is its own until it is disposed of."""
        self._reserved.append(networks.reserve_address(port))
        return self._reserved[-1].host

    def _users(self) -> list[tuple[int, str]]:
        return list(enumerate(self.site.users, FIRST_USER))

    def _write_names(self, site: Site) -> None:
        """Users, hosts, the resolver, and what it may know of this machine."""
        rows = [f"{user}:x:{uid}:{uid}::{HOMES}/{user}:/bin/false" for uid, user in self._users()]
        self.run("tee", "-a", "/etc/passwd", stdin="\n".join(rows) + "\n")
        short = site.hostname.partition(".")[0]
        self.put("/etc/hosts", f"127.0.0.1 localhost\n{self.address[0]} {site.hostname} {short}\n")
        self.put("/etc/mailname", f"{site.hostname}\n")
        nameserver = site.nameserver or self._reserve(DNS)
        self.put("/etc/resolv.conf", f"nameserver {nameserver}\noptions timeout:1 attempts:2\n")
        if not site.nameserver:
            self.run(
                "dnsmasq", "--no-resolv", "--no-hosts", "--local=/#/", "--user=root",
                f"--listen-address={nameserver}", "--bind-interfaces", "--pid-file=",
                "--conf-file=", f"--host-record={site.hostname},{self.address[0]}",
            )  # fmt: skip
        self.run("busybox", "syslogd", "-S", "-O", f"{LOGS}/syslog")

    # -- inside -----------------------------------------------------------------------------------

    def run(self, *command: str, stdin: str = "") -> str:
        """A command inside, by a name on an administrator's search path; its output.

        Raises TargetError.
        """
        try:
            return self.overlay.run(
                "env", f"PATH={provisioning.SEARCH}", *command, stdin=stdin, timeout_s=STOP_S
            )
        except OverlayError as error:
            raise TargetError(str(error)) from None
        except subprocess.TimeoutExpired:
            raise TargetError(f"{self.name}: {command[0]} takes longer than {STOP_S} s") from None

    def put(self, place: str, text: str) -> None:
        """A file inside, whatever was there; everybody may read it."""
        self.run("install", "-m", "644", "/dev/stdin", place, stdin=text)

    def is_first(self, seen: Seen) -> bool:
        """Whether a process is the server's main one: no other process of the server began it."""
        if self.alive() and self._main is not None:
            return seen.pid == self._main.pid
        return program_of(seen.parent) != program_of(seen.pid)

    @staticmethod
    def terminate(process: Process) -> None:
        """SIGTERM."""
        strike(process, signal.SIGTERM)

    # -- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Also on what a dead life has left."""
        self._begin(self.launch)

    def _begin(self, launch: Callable[[], None]) -> None:
        self._left = None
        try:
            launch()
        except TargetError as error:
            raise TargetError(f"{error}\n{self.log_end()}".rstrip()) from None
        gone = 0

        def settled() -> bool:
            nonlocal gone
            gone = 0 if self._everybody() else gone + 1
            return self._answers() or gone > GONE_LOOKS

        _await(settled, START_S)
        if gone or not self._answers():
            raise TargetError(f"{self.name} does not answer:\n{self.log_end()}")
        found = [each for each in self.processes() if each.role == self.main_role]
        if not found:
            raise TargetError(f"{self.name} answers, and has no {self.main_role}")
        self._main = min(found, key=lambda each: (each.born, each.pid))

    def _answers(self) -> bool:
        return networks.within(lambda: _greets(self.address))

    def alive(self) -> bool:
        """Whether its main process runs."""
        if self._main is None:
            return False
        seen = look(self._main.pid)
        return seen is not None and seen.born == self._main.born

    def recover(self) -> tuple[str, ...]:
        """End what is left of it, start it again."""
        if not strike_all(self._everybody):
            raise TargetError(f"{self.name}: some of its processes can't be ended")
        self._begin(self.relaunch)
        return ()

    def processes(self) -> list[Process]:
        """Those of the server, by role."""
        found = []
        for seen, program in self._inside():
            told = self.role_of(seen, program)
            if told is not None:
                found.append(Process(seen.pid, *told, born=seen.born))
        return found

    def _everybody(self) -> list[Process]:
        """All in its namespace, tools at work too."""
        inside = self._inside()
        return [Process(seen.pid, program, born=seen.born) for seen, program in inside]

    def _inside(self) -> list[tuple[Seen, str]]:
        overlay = self._overlay
        found = []
        for pid in overlay.processes() if overlay is not None else ():
            seen, program = look(pid), program_of(pid)
            if seen is not None and program not in HELPERS:
                found.append((seen, program))
        return found

    def stop(self) -> tuple[str, ...]:
        """In good order; its queue is listed then."""
        if not self.alive():
            return ("it did not run when it was to be stopped",)
        odd: tuple[str, ...] = ()
        self.end()
        if not _await(lambda: not self._everybody(), STOP_S):
            left = ", ".join(sorted({each.role for each in self._everybody()}))
            odd = (f"it does not stop within {STOP_S:.0f} s: {left}",)
            strike_all(self._everybody)
        self._main = None
        self._left = tuple(self.list_queue())
        return odd

    def dispose(self) -> None:
        """Its root goes, with all that runs there; the site's directory stays."""
        overlay, self._overlay = self._overlay, None
        self._main = None
        if overlay is not None:
            overlay.__exit__(None, None, None)
        while self._reserved:
            self._reserved.pop().free()

    # -- what it leaves ---------------------------------------------------------------------------

    def mailboxes(self) -> Mapping[str, Path]:
        """A Maildir's new messages, each."""
        home = self.site.directory / "home"
        return {f"{u}@{self.site.domain}": home / u / "Maildir" / "new" for u in self.site.users}

    def queued(self) -> tuple[Waiting, ...]:
        """As it was told at the stop."""
        if self._left is None:
            raise TargetError(f"{self.name} was not stopped: its queue was not listed")
        return self._left

    def trace(self) -> Path | None:
        """None."""
        return None

    def defects(self) -> tuple[str, ...]:
        """Lines of its logs."""
        return tuple(line for line in self._log_lines() if self.defect.search(line))

    def log_end(self) -> str:
        """Of all of its logs."""
        return "\n".join(self._log_lines())[-LOG_OCTETS:]

    def _log_lines(self) -> Iterator[str]:
        with suppress(TargetError):
            for file in sorted(self.log.iterdir()) if self.log.is_dir() else ():
                yield from file.read_text(encoding="utf-8", errors="replace").splitlines()


# -- from outside ---------------------------------------------------------------------------------


def files_of(tree: Path) -> Iterator[str]:
    """The names of all files in a tree that others change meanwhile; none if it is gone."""
    for _, _, names in os.walk(tree):
        yield from names


def modes_of(tree: Path) -> Iterator[int]:
    """The modes of all files in such a tree."""
    for place, _, names in os.walk(tree):
        for name in names:
            with suppress(OSError):
                yield Path(place, name).lstat().st_mode


def program_of(pid: int) -> str:
    """The file that a process runs; "" if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name
    return ""


def _await(condition: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not (held := condition()) and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    return held


def _greets(address: tuple[str, int]) -> bool:
    """Whether it says that it is ready, and goes on to hear QUIT."""
    try:
        with socket.create_connection(address, timeout=10) as probe:
            greeting = probe.recv(512)
            probe.sendall(b"QUIT\r\n")
            while probe.recv(512):
                pass
            return greeting.startswith(b"220")
    except OSError:
        return False
