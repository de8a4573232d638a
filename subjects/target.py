"""refmta as a target of fault injection (`faultinject.target.Target`).

A server in a directory of its own, configured as an operator would, except that everything is
quick: retries after a second, and a hundredth of the RFC's patience with silent next hops. As root
each mailbox has a user of its own; without root the mailboxes are virtual, and all processes run
as one user.

What a harness is told comes from outside: processes from /proc, the queue from the directory (its
size) and from `refmta queue list` (at the end), mail from the mailboxes. The role of a process is
the compartment that its command line names; of a pool, the parent accepts, the template forks, and
workers have the sessions.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from faultinject import networks
from faultinject.books import Window
from faultinject.processes import Process, Seen, everyone, family, look, strike
from faultinject.target import Site, TargetError, Waiting
from refmta.architectures.architecture import Architecture
from refmta.architectures.catalogue import UnknownArchitecture, find
from refmta.architectures.configuration import ConfigurationError, load
from refmta.cli.operator import RefusedError, UnreachableError, ask
from refmta.stores import letters
from refmta.stores.disk import PosixDisk
from refmta.stores.mailboxes import OWN_MBOX
from refmta.stores.queue import QueueStore, open_queue
from refmta.wire.envelope import ChunkError, is_queue_id
from refmta.wire.messages import Ask

SPAWNER: Final = "spawner"
MARK: Final = "refmta.architectures.enter"
#: Recipient users that need no account, far from the compartments' range.
FIRST_RECIPIENT: Final = 1_900_000_500
#: How long a start, a stop, and the end of those who lost their spawner may take, in seconds.
START_S, STOP_S, END_S = 60.0, 60.0, 15.0
LOOK_S: Final = 0.02
#: How often a queue that changes meanwhile is read.
LOOKS: Final = 20
ENDS: Final = frozenset({"supervisor", SPAWNER})
#: A recipient with such a status needs nothing more.
SETTLED: Final = frozenset({"delivered", "expanded", "reported"})
CONFIGURATION: Final = """\
hostname = "{hostname}"
postmaster = "{postmaster}"
listen = ["127.0.0.1:{port}"]
spool = "{spool}"
[smtpd]
max_uses = 20
"""
RELAYING: Final = """\
[relay]
networks = ["127.0.0.0/8"]
next_hops = {{ {next_hops} }}
nameservers = {nameservers}
timeout_factor = 0.01
per_destination = 8
[remote]
max_workers = 12
[retry]
minimum_s = 1
maximum_s = 8
"""


@dataclass(slots=True)
class Refmta:
    """python: an interpreter that finds refmta; relays, traces: whether that refmta can."""

    python: str = sys.executable
    relays: bool = True
    traces: bool = True
    name: str = "refmta"
    architecture: str = "refmta"
    known_failures: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    site: Site | None = None
    address: tuple[str, int] = ("127.0.0.1", 0)
    _serving: subprocess.Popen[bytes] | None = None
    _begun: int = 0

    # -- what it is -------------------------------------------------------------------------------

    @property
    def capabilities(self) -> frozenset[str]:
        relaying = {"remote", "reports", "wary"} if self.relays else set()
        return frozenset(relaying | ({"trace"} if self.traces else set()))

    @property
    def roles(self) -> tuple[str, ...]:
        found = [SPAWNER, "supervisor"]
        for row in self.chosen.compartments:
            seldom = {"remote", "bounce"} & {*row.roles} and len(row.roles) == 1
            if row.roles != ("accounts",) and (self.relays or not seldom):
                found.append(row.name)
        return tuple(found)

    @property
    def chosen(self) -> Architecture:
        """The architecture that it runs in."""
        return find(self.architecture)

    @property
    def windows(self) -> Mapping[str, Window]:
        """README, "What is promised": who can forget what was done."""
        ends, box = ENDS | self._having("qmgr"), self._having("local", "lmtpc", "lmtpd")
        reports = self._having("bounce", "enqueue")
        return {
            "mailbox": Window(roles=ends | box, before_s=1.0, after_s=10.0),
            "next hop": Window(roles=ends | self._having("remote"), before_s=3.0, after_s=10.0),
            "report": Window(roles=ends | reports, before_s=3.0, after_s=10.0),
        }

    def _having(self, *roles: str) -> frozenset[str]:
        """The compartments with one of these roles."""
        rows = self.chosen.compartments
        return frozenset(row.name for row in rows if {*roles} & {*row.roles})

    @property
    def places(self) -> Mapping[str, Path]:
        """They are named alike inside and outside."""
        return {}

    def compose(self, architecture: str) -> None:
        try:
            find(architecture)
        except UnknownArchitecture as error:
            raise KeyError(str(error)) from None
        self.architecture, self.name = architecture, f"refmta:{architecture}"

    def unavailable(self) -> str | None:
        return _unavailable(tuple(self._command()))

    def install(self) -> None:
        """It is there."""

    # -- its configuration ------------------------------------------------------------------------

    def configure(self, site: Site) -> None:
        self.site = site
        site.directory.chmod(0o711)  # its compartments are users of their own
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = ("127.0.0.1", free.getsockname()[1])
        text = CONFIGURATION.format(
            hostname=site.hostname, postmaster=site.addresses()[0], port=self.address[1],
            spool=self.spool,
        )  # fmt: skip
        if self.relays:
            hops = (f'"{name}" = "[127.0.0.1]:{port}"' for name, port in site.next_hops.items())
            asked = [f"{site.nameserver}:53"] if site.nameserver else []
            text += RELAYING.format(next_hops=", ".join(hops), nameservers=json.dumps(asked))
        self._configuration.write_text(text + self._mailbox_rows(site), encoding="utf-8")

    def _mailbox_rows(self, site: Site) -> str:
        rows = [f'[domains."{site.domain}"]']
        if os.geteuid() != 0:
            return "\n".join([*rows, f"mailboxes = {json.dumps(site.users)}", ""])
        rows.append("system_users = true")
        for uid, user in enumerate(site.users, FIRST_RECIPIENT):
            home = site.directory / "home" / user
            home.mkdir(parents=True, exist_ok=True)
            os.chown(home, uid, uid)
            rows += [f"[users.{user}]", f"uid = {uid}", f"gid = {uid}", f'home = "{home}"']
        return "\n".join([*rows, ""])

    @property
    def directory(self) -> Path:
        if self.site is None:
            raise TargetError("refmta is not configured yet")
        return self.site.directory

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def _configuration(self) -> Path:
        return self.directory / "refmta.toml"

    def _command(self) -> list[str]:
        call = "import sys; from refmta.cli.main import main; sys.exit(main())"
        return [self.python, "-I", "-c", call]

    # -- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._begun = self._end_torn_line()
        options = ["--trace", str(self.directory / "trace")] if self.traces else []
        line, inherited = networks.command(  # whichever thread this is
            *self._command(), "serve", "-c", str(self._configuration),
            "--architecture", self.architecture, *options,
        )  # fmt: skip
        with self.log.open("ab") as log:
            self._serving = subprocess.Popen(  # noqa: S603
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                start_new_session=True, pass_fds=inherited,
            )  # fmt: skip
        self._await(lambda: self._answers() or not self.alive(), START_S)
        if not self.alive():
            raise TargetError(f"refmta did not start:\n{self.log_end()}")

    def _end_torn_line(self) -> int:
        """Octets of the log so far.  A line that a loss of power has cut short ends here."""
        with self.log.open("ab+") as log:
            size = log.tell()
            log.seek(max(0, size - 1))
            if log.read(1) not in (b"", b"\n"):
                log.write(b"\n")
                size += 1
        return size

    def _answers(self) -> bool:
        """Whether all compartments were ready since the last start; from the log."""
        with self.log.open("rb") as log:
            log.seek(self._begun)
            return b'"event":"serving"' in log.read()

    @staticmethod
    def _await(condition: Callable[[], bool], patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while not (held := condition()) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return held

    def alive(self) -> bool:
        return self._serving is not None and self._serving.poll() is None

    def recover(self) -> tuple[str, ...]:
        """Whoever loses the spawner ends by itself: that is waited for, and said if it fails."""
        odd = self._end_leftovers("outlived the spawner")
        self.start()
        return odd

    def _end_leftovers(self, what: str) -> tuple[str, ...]:
        if self._await(lambda: not self._left(), END_S):
            return ()
        left = self._left()
        for process in left:
            strike(process)
        self._await(lambda: not self._left(), END_S)
        return tuple(f"{process.role} (pid {process.pid}) {what}" for process in left)

    def _left(self) -> list[Process]:
        """Compartments of this server wherever they hang: stderr is our log."""
        found = []
        for pid in everyone():
            seen = look(pid)
            if seen is not None and MARK in seen.arguments and self._logs_here(pid):
                found.append(Process(pid, seen.arguments[-1], born=seen.born))
        return found

    def _logs_here(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return str(Path(f"/proc/{pid}/fd/2").readlink()) == str(self.log)
        return False

    def processes(self) -> list[Process]:
        if self._serving is None:
            return []
        seen = {each.pid: each for each in family(self._serving.pid)}
        return [
            Process(pid, *_role(each, seen), each.born)
            for pid, each in seen.items()
            if pid == self._serving.pid or MARK in each.arguments
        ]

    def waiting(self) -> int:
        """Strangers in the queue are nobody's mail."""
        with self._queue() as store:
            for _ in range(LOOKS):
                with contextlib.suppress(FileNotFoundError):  # gone between listing and reading
                    return sum(map(is_queue_id, store.names()))
        raise TargetError("the queue can't be read")

    @contextlib.contextmanager
    def _queue(self) -> Iterator[QueueStore[Any]]:
        """The queue, to be looked at only."""
        root = os.open(self.spool, os.O_DIRECTORY | os.O_PATH)
        try:
            yield open_queue(self.chosen.store, PosixDisk(root), {})
        finally:
            os.close(root)

    def flush(self) -> None:
        """As `refmta queue retry`, without an interpreter for it."""
        try:
            ask(load(self._configuration), Ask(reference=1, verb="retry", queue_id=""))
        except (UnreachableError, RefusedError, ConfigurationError, OSError) as error:
            raise TargetError(f"queue retry: {error}") from None

    def stop(self) -> tuple[str, ...]:
        if self._serving is None or not self.alive():
            return ("it did not run when it was to be stopped",)
        self._serving.terminate()
        try:
            status = self._serving.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return (f"it does not stop within {STOP_S:.0f} s",)
        odd = () if status == 0 else (f"it stopped with exit code {status}",)
        return odd + self._end_leftovers("outlived the stop")

    def dispose(self) -> None:
        if self._serving is None:
            return
        if self.alive():
            self._serving.kill()
            self._serving.wait()
        for process in self._left():
            strike(process)
        self._await(lambda: not self._left(), END_S)

    # -- what it leaves ---------------------------------------------------------------------------

    def mailboxes(self) -> Mapping[str, Path]:
        if self.site is None:
            return {}
        own, below = ("Maildir/new", "new") if self.chosen.mailbox == "maildir" else (OWN_MBOX, "")
        if os.geteuid() == 0:
            root, below = self.directory / "home", own
        else:
            root = self.spool / "mail" / self.site.domain
        return {f"{user}@{self.site.domain}": root / user / below for user in self.site.users}

    def _operate(self, *arguments: str) -> str:
        """The answer to an operator's command.  Raises TargetError."""
        try:
            done = subprocess.run(  # noqa: S603
                [*self._command(), *arguments, "-c", str(self._configuration)],
                capture_output=True, text=True, timeout=STOP_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TargetError(f"{' '.join(arguments)}: no answer in {STOP_S:.0f} s") from None
        if done.returncode != 0:
            raise TargetError(f"{' '.join(arguments)}: {done.stderr[-500:]}")
        return done.stdout

    def queued(self) -> Iterator[Waiting]:
        """What `queue list` tells of; its content from the spool."""
        rows = json.loads(self._operate("queue", "list", "--json"))["messages"]
        with self._queue() as store:
            for row in rows:
                open_ones = [e["address"] for e in row["recipients"] if e["status"] not in SETTLED]
                content = _content(store, row["queue_id"])
                if content is not None:  # else it is lost, and the ledger says so
                    yield Waiting(content=content, recipients=tuple(open_ones))

    def trace(self) -> Path | None:
        return self.directory / "trace" if self.traces else None

    def defects(self) -> tuple[str, ...]:
        """Unexpected exceptions (journal: "defect"), and what is no line of the journal at all."""
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            return tuple(filter(None, map(_defect, lines)))

    def log_end(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        return ""


@cache
def _unavailable(command: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, check=False)  # noqa: S603
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return None if done.returncode == 0 else f"{command[0]} finds no refmta"


def _content(store: QueueStore[Any], queue_id: str) -> bytes | None:
    """A message's content; None if it is not whole, or not there."""
    try:
        loaded = store.look(queue_id)
    except (ChunkError, OSError):
        return None
    try:
        return letters.read(store.disk, loaded.handle, queue_id, loaded.head)[1]
    except (ChunkError, OSError):
        return None
    finally:
        store.disk.close(loaded.handle)


def _defect(line: str) -> str:
    """What is wrong with a line of the log; "" if nothing is."""
    if not line.strip():
        return ""
    try:
        row = json.loads(line)
    except ValueError:
        return line.strip()[:500]
    return f"{row.get('role')}: {row.get('reason')}" if row.get("event") == "defect" else ""


def _role(process: Seen, others: Mapping[int, Seen]) -> tuple[str, str]:
    """(role, part) of a process, from its command line and its place in the family."""
    if MARK not in process.arguments:
        return SPAWNER, ""
    # what follows: the architecture, the compartment, the spool
    role = process.arguments[process.arguments.index(MARK) + 2]
    depth, above = 0, others.get(process.parent)
    while above is not None and MARK in above.arguments:
        depth, above = depth + 1, others.get(above.parent)
    return role, ("", "template", "worker")[min(depth, 2)]


def refmta() -> Refmta:
    """Entry point."""
    return Refmta()
