"""Real servers for the ledger, each in an overlay root of its own (`faultinject.overlay`).

Postfix is Debian's, as `bench.targets` configures it, with its jail or without.  sendmail is
Debian's too, with its own m4 configuration.  Changed is what would throttle a measurement: the
greeting that waits for a second, 15 connections in ten minutes, ten that may wait to be accepted
(the eleventh comes again after a second), mail that is only queued under load; there is no DNS in
its network; and its local mailer is procmail, since sendmail has none that writes a Maildir.
Debian has no package of qmail or of its successors.

Needs the source tree: tests/ and bench/ are not installed.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from bench.target import DOMAIN, HOSTNAME, MAIN_USER, Target, user_ids
from bench.target import TargetError as BenchError
from bench.targets import HOMES, Postfix
from faultinject.overlay import Overlay, OverlayError
from faultinject.processes import Process, look
from specs.claims.instruments import NotHere
from subjects.measures_places import ON_DISK, Counted
from subjects.measures_programs import Failed, said, tool
from tests.provision import capabilities

T = TypeVar("T")
CLONE_NEWNET: Final = 0x40000000
#: A package of Debian -> what it may take to install it, in seconds.
PATIENCE_S: Final = 600
QUEUE: Final = "/var/spool/mqueue"
SENDMAIL: Final = "/usr/sbin/sendmail-mta"
#: Debian's file, without what the first lines of this module name.
SENDMAIL_MC: Final = f"""\
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
VERSIONID(`as Debian has it, unthrottled')dnl
OSTYPE(`debian')dnl
DOMAIN(`debian-mta')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA-v4, Port=smtp, Addr=127.0.0.1, Listen=128')dnl
define(`confDOMAIN_NAME', `{HOSTNAME}')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch-nodns')dnl
define(`confTO_IDENT', `0')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
FEATURE(`use_cw_file')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`local_procmail')dnl
MAILER_DEFINITIONS
MAILER(`local')dnl
MAILER(`smtp')dnl
"""


class ChosenPostfix(Postfix):
    """Debian's, with settings of main.cf, and of its services ("smtp/inet/process_limit")."""

    name = "postfix"

    def __init__(
        self, place: Path, settings: Mapping[str, str], services: Mapping[str, str]
    ) -> None:
        super().__init__(place)
        self._settings, self._services = dict(settings), dict(services)

    def configure(self) -> None:
        super().configure()
        if self._settings:
            changes = [f"{key}={value}" for key, value in self._settings.items()]
            self.overlay.run("postconf", "-e", *changes)
        for key, value in self._services.items():
            self.overlay.run("postconf", "-F", f"{key}={value}")


class Sendmail(Target):
    """Debian's sendmail with procmail."""

    name = "sendmail"
    port = 25
    PACKAGES: ClassVar[tuple[str, ...]] = ("sendmail-bin", "procmail")

    @classmethod
    def unavailable(cls) -> str | None:
        return capabilities()["overlay"]

    @contextmanager
    def running(self) -> Iterator[None]:
        self.spool.mkdir(mode=0o700)
        binds = {HOMES: self.homes, QUEUE: self.spool}
        with Overlay(self.name, binds=binds) as self.overlay:
            try:
                self.overlay.install(*self.PACKAGES, timeout_s=PATIENCE_S)
            except OverlayError as error:
                raise NotHere(f"sendmail from Debian ({error})") from error
            self.configure()
            self.overlay.run(SENDMAIL, "-bd", "-q1m")
            try:
                yield
            finally:
                self.overlay.run("sh", "-c", "kill $(head -n 1 /run/sendmail/mta/sendmail.pid)")

    def configure(self) -> None:
        inside = self.overlay.run
        inside("sh", "-c", "mkdir -p /run/sendmail/mta && chown smmta:smmsp /run/sendmail/mta")
        inside("sh", "-c", f"chown smmta:smmsp {QUEUE} && chmod 2750 {QUEUE}")
        inside("cp", "/etc/mail/sendmail.cf", "/etc/mail/sendmail.cf.debian")
        made = inside("m4", stdin=SENDMAIL_MC)
        inside("tee", "/etc/mail/sendmail.cf", stdin=made)
        inside("tee", "/etc/mail/local-host-names", stdin=f"{DOMAIN}\nlocalhost\n")
        inside("tee", "/etc/procmailrc", stdin="DEFAULT=$HOME/Maildir/\n")
        inside("tee", "-a", "/etc/hosts", stdin=f"127.0.0.1 {HOSTNAME}\n")
        rows = [f"{name}:x:{uid}:{uid}::{HOMES}/{name}:/bin/false" for uid, name in user_ids()]
        inside("tee", "-a", "/etc/passwd", stdin="\n".join(rows) + "\n")

    def on_network(self, *command: str) -> list[str]:
        return self.overlay.on_network(*command)

    def path(self, seen: str) -> Path:
        return self.overlay.path(seen)

    def processes(self) -> list[int]:
        return self.overlay.processes()

    def queued(self) -> int:
        return len(list(self.spool.glob("qf*")))


@dataclass(slots=True)
class Peer:
    """A real server that runs."""

    target: Postfix | Sendmail
    domain: str = DOMAIN
    users: tuple[str, ...] = (MAIN_USER,)
    mailboxes: Mapping[str, Counted] = field(default_factory=dict)
    worker_part: str = ""

    @property
    def address(self) -> tuple[str, int]:
        return self.target.host, self.target.port

    @property
    def overlay(self) -> Overlay:
        return self.target.overlay

    def processes(self) -> list[Process]:
        """By the programs that they run."""
        found = []
        for pid in self.target.processes():
            seen, program = look(pid), program_of(pid)
            if seen is not None and program:
                found.append(Process(pid, program, born=seen.born))
        return found

    def queued(self) -> int:
        return self.target.queued()

    def within(self, call: Callable[[], T]) -> T:
        return on_the_network_of(self.overlay.init, call)

    def on_network(self, *command: str) -> list[str]:
        return self.target.on_network(*command)


def program_of(pid: int) -> str:
    """The file that a process runs; "" if it is gone."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name  # noqa: PTH115
    except OSError:
        return ""


def on_the_network_of(pid: int, call: Callable[[], T]) -> T:
    """In a thread that has entered a process's network; nothing else changes hands."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(call())
        except BaseException as error:  # raised again, by the caller
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


# -- by name --------------------------------------------------------------------------------------


#: Debian jails what it can; upstream jails nothing.
UNJAILED: Final = {"*/*/chroot": "n"}


def available() -> tuple[str, ...]:
    """The servers that can be had here."""
    found = []
    if Postfix.unavailable() is None:
        found += ["postfix", "postfix-unjailed"]
    if Sendmail.unavailable() is None and _has_package("sendmail-bin"):
        found.append("sendmail")
    return tuple(found)


def _has_package(name: str) -> bool:
    """Whether Debian's lists have it."""
    try:
        return bool(said([tool("apt-cache"), "show", name]))
    except (NotHere, Failed):
        return False


@contextmanager
def peer(
    name: str,
    settings: Mapping[str, str] | None = None,
    services: Mapping[str, str] | None = None,
) -> Iterator[Peer]:
    """A real server at work.  Raises NotHere, OverlayError."""
    chosen: dict[str, Callable[[Path], Postfix | Sendmail]] = {
        "postfix": lambda path: ChosenPostfix(path, settings or {}, services or {}),
        "postfix-unjailed": lambda path: ChosenPostfix(
            path, settings or {}, {**UNJAILED, **(services or {})}
        ),
        "sendmail": Sendmail,
    }
    if name not in available():
        raise NotHere(f"the real server {name}")
    with tempfile.TemporaryDirectory(prefix="refmta-claims-", dir=ON_DISK) as directory:
        Path(directory).chmod(0o711)
        target = chosen[name](Path(directory) / name)
        try:
            with target:
                yield Peer(target, mailboxes={MAIN_USER: Counted(target.new_mail(MAIN_USER))})
        except BenchError as error:
            raise RuntimeError(str(error)) from error
