"""refmta as a target whose architecture is judged (`specs.patterns.target.Target`).

A server in a directory of its own, as root: each mailbox has a user of its own, every next hop is
named in the configuration, retries come after a second. Unique texts are planted in the
configuration (`Marker`), each in a place that some compartments need and others do not.

What a process is comes from its command line, which the spawner wrote: the module that a
compartment's program begins with, then architecture and compartment. Of a pool, the child of the
spawner is the parent, that one's child the template, and its children are the workers.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from faultinject import target as fault
from faultinject.processes import Seen, family
from refmta.architectures.catalogue import UnknownArchitecture, find
from refmta.architectures.configuration import load
from refmta.wire.envelope import QUEUE_ID_OCTETS, is_queue_id
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Module
from specs.patterns.target import Named, NoSuchArchitecture, Site, TargetError
from subjects import modules, rewriting
from subjects.architecture_manifest import Planted, manifest
from subjects.parts import working
from subjects.target import MARK, SPAWNER, START_S, Refmta

#: Recipient users that need no account, far from the compartments' range.
FIRST_RECIPIENT: Final = 1_900_000_500
#: Store -> how the paths of contents begin, below the spool, where envelopes are elsewhere.
CONTENT: Final = {
    "sendmail_qfdf": "mqueue/df",
    "qmail_todo": "mess/",
    "sendmailx_ibdb": "cdb/",
}
CONFIGURATION: Final = """\
hostname = "{hostname}"
postmaster = "{first}@{domain}"
listen = ["127.0.0.1:{port}"]
spool = "{spool}"
trusted = ["{trusted}"]
[smtpd]
max_workers = 12
max_uses = 20
stress_command_s = 2.0
[relay]
networks = ["127.0.0.0/8"]
next_hops = {{ {next_hops} }}
nameservers = ["[{nameserver}]:53"]
[remote]
max_workers = 12
[retry]
minimum_s = 1
maximum_s = 8
[domains."{domain}"]
system_users = true
[domains."marked.test"]
mailboxes = ["{mailbox}"]
"""


@dataclass(slots=True)
class Served(Refmta):
    """The server's life, of the architecture that it is told."""

    def start(self) -> None:
        """Raises TargetError."""
        self._begun = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._serving = subprocess.Popen(  # noqa: S603
                [
                    *self._command(), "serve", "-c", str(self._configuration),
                    "--architecture", self.architecture,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                start_new_session=True,
            )  # fmt: skip
        self._await(lambda: self._answers() or not self.alive(), START_S)
        if not self.alive() or not self._answers():
            raise fault.TargetError(f"refmta does not start:\n{self.log_end()}")

    @property
    def pid(self) -> int:
        """Of the spawner; 0 if it is not there."""
        return self._serving.pid if self._serving is not None and self.alive() else 0

    @property
    def configuration(self) -> Path:
        return self._configuration


@dataclass(slots=True)
class Architecture:
    """python: an interpreter that finds refmta (`subjects.mutant_tree` makes others)."""

    python: str = sys.executable
    name: str = "refmta"
    server: Served = field(init=False)
    site: Site | None = None
    planted: Planted = field(default_factory=Planted)

    def __post_init__(self) -> None:
        self.server = Served(python=self.python, traces=False)

    def unavailable(self) -> str | None:
        if os.geteuid() != 0:
            return "root: what it does to its processes can only be judged as root"
        return self.server.unavailable()

    # -- its life ---------------------------------------------------------------------------------

    def start(self, site: Site, architecture: str) -> None:
        try:
            find(architecture)
        except UnknownArchitecture as error:
            raise NoSuchArchitecture(str(error)) from None
        if self.site is None:
            self._configure(site)
        self.site, self.server.architecture = site, architecture
        try:
            self.server.start()
        except fault.TargetError as error:
            raise TargetError(str(error)) from None

    def _configure(self, site: Site) -> None:
        self.server.configure(
            fault.Site(
                directory=site.directory,
                hostname=site.hostname,
                domain=site.domain,
                users=site.users,
                next_hops=site.next_hops,
            )
        )
        hops = {**site.next_hops, self.planted.next_hop: site.next_hops[min(site.next_hops)]}
        text = CONFIGURATION.format(
            hostname=site.hostname,
            domain=site.domain,
            first=site.users[0],
            port=self.address[1],
            spool=self.spool,
            trusted=self.planted.trusted,
            mailbox=self.planted.mailbox,
            nameserver=self.planted.nameserver,
            next_hops=", ".join(f'"{hop}" = "[127.0.0.1]:{port}"' for hop, port in hops.items()),
        )
        text += rewriting.configuration(site.domain)
        self.server.configuration.write_text(text + self._users(site), encoding="utf-8")
        self.server.configuration.chmod(0o600)

    def _users(self, site: Site) -> str:
        """The mailboxes' users, and one to whom nobody writes, whose home is marked."""
        rows = []
        for uid, user in enumerate((*site.users, "marked"), FIRST_RECIPIENT):
            name = self.planted.home if user == "marked" else user
            home = site.directory / "home" / name
            home.mkdir(parents=True, exist_ok=True)
            home.chmod(0o700)
            os.chown(home, uid, uid)
            rows += [f"[users.{user}]", f"uid = {uid}", f"gid = {uid}", f'home = "{home}"']
        return "\n".join([*rows, ""])

    def stop(self) -> None:
        odd = self.server.stop()
        if odd:
            raise TargetError("; ".join(odd))

    def dispose(self) -> None:
        self.server.dispose()

    # -- what it is -------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        return self.server.address

    @property
    def spool(self) -> Path:
        return self.server.spool

    @property
    def log(self) -> Path:
        return self.server.log

    def manifest(self) -> Manifest:
        if self.site is None:
            raise TargetError("it was never started")
        recipients = dict(zip(self.site.users, itertools.count(FIRST_RECIPIENT)))
        settings = load(self.server.configuration)
        return manifest(find(self.server.architecture), settings, self.planted, recipients)

    def processes(self) -> list[Named]:
        if not self.server.pid:
            return []
        seen = {each.pid: each for each in family(self.server.pid)}
        found = [_named(each, seen) for each in seen.values() if MARK in each.arguments]
        return [Named(self.server.pid, SPAWNER), *(self._whose(each) for each in found)]

    def _whose(self, process: Named) -> Named:
        """An agent has its recipient's name, and none before it has become him."""
        if process.name not in self._agents() or self.site is None:
            return process
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            uid = int(status.partition("\nUid:")[2].split()[0])
        except (OSError, ValueError, IndexError):
            return process
        users = {0: "", **dict(enumerate(self.site.users, FIRST_RECIPIENT))}
        return Named(process.pid, process.name, users.get(uid, f"user {uid}"))

    def _agents(self) -> frozenset[str]:
        """The names of processes that run as a recipient."""
        rows = self.server.chosen.compartments
        return frozenset(working(row) for row in rows if row.per_user or row.becomes)

    def mailboxes(self) -> Mapping[str, Path]:
        return self.server.mailboxes()

    def queued(self) -> tuple[Path, ...]:
        """Files with a queue id in their names, wherever the architecture keeps them; where content
        and envelope are apart, those of the content.
        """
        chosen = self.server.chosen
        files = [each for row in chosen.directories for each in (self.spool / row.path).rglob("*")]
        begins = str(self.spool / CONTENT.get(chosen.store, ""))
        contents = (each for each in files if str(each).startswith(begins))
        return tuple(sorted(filter(_names_a_message, contents)))

    def modules(self, name: str) -> tuple[Module, ...]:
        return modules.loaded(name, self.server.architecture, self.python)

    def journal(self) -> Iterable[Mapping[str, object]]:
        """What is no line of the journal is the event "not a line"; one that is only begun, as a
        read may find it that crosses a page while it is written, is none yet.
        """
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            for line in (each for each in lines if each.strip() and each.endswith("\n")):
                try:
                    row = json.loads(line)
                except ValueError:
                    row = {"event": "not a line", "text": line.strip()[:500]}
                yield row if isinstance(row, dict) else {"event": "not a line", "text": str(row)}


def _names_a_message(file: Path) -> bool:
    return file.is_file() and is_queue_id(file.name[-QUEUE_ID_OCTETS:])


def _named(process: Seen, others: Mapping[int, Seen]) -> Named:
    """MARK, architecture, compartment."""
    name = process.arguments[process.arguments.index(MARK) + 2]
    depth, above = 0, others.get(process.parent)
    while above is not None and MARK in above.arguments:
        depth, above = depth + 1, others.get(above.parent)
    return Named(process.pid, f"{name}{('', ' template', ' worker')[min(depth, 2)]}")


def refmta() -> Architecture:
    """Entry point."""
    return Architecture()
