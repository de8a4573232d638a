"""The stage of `refmta demo`: a real server in a directory of its own, its log, its mailboxes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.markup import escape

from refmta.architectures.architecture import Architecture
from refmta.architectures.configuration import Settings
from refmta.architectures.sections import FIRST_UID
from refmta.cli.operator import UnreachableError, ask
from refmta.patterns.defense_in_depth import LAYERS
from refmta.protocol.routing import SYSTEM_MAILBOX
from refmta.stores.mailboxes import OWN_MBOX
from refmta.wire.messages import Ask

PATIENCE_S = 60.0
DOMAIN, FAR = "demo.test", "far.test"
USERS = ("ada", "bob")
LETTER = """\
From: Grace <grace@example.org>\r
To: {to}\r
Subject: {subject}\r
Message-ID: <{token}@example.org>\r
\r
Dear {who},\r
this is message {token}.\r
.\r
The line above is a single dot, which SMTP must not take for the end.\r
"""


#: The operator's question what is in the queue.
LISTED = Ask(reference=1, verb="list")


class StoryFailedError(Exception):
    """The demo found what must not be."""


class Copy(NamedTuple):
    """A message in a mailbox: the file that it lies in, and its octets there."""

    place: Path
    octets: bytes


@dataclass(slots=True)
class Stage:
    """The system under demonstration."""

    directory: Path
    chosen: Architecture
    console: Console
    settings: Settings
    process: subprocess.Popen[bytes] | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    #: Found once and equal, when the account was made.
    delivered: int = 0
    reported: int = 0
    #: Another server, for which this one relays.
    far: Stage | None = None

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def say(self, text: str = "") -> None:
        self.console.print(text)

    # -- the server -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server and wait until it serves."""
        arguments = ["serve", "-c", str(self.settings.path), "--architecture", self.chosen.name]
        for layer in LAYERS:  # a demonstration goes on without what the machine lacks, and says so
            arguments += ["--allow-missing", layer]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "refmta.cli.main", *arguments], stderr=log, stdout=log
            )
        self.wait_for("the server answers", self.serving)

    def serving(self) -> bool:
        """Whether every part is there."""
        if self.process is not None and self.process.poll() is not None:
            raise StoryFailedError(f"the server does not start:\n{self.log.read_text()}")
        with contextlib.suppress(UnreachableError):
            return all(row.get("state") in ("ready", "running") for row in self.rows())
        return False

    def all_rows(self) -> list[dict[str, object]]:
        """The processes, as the server tells them."""
        (document,) = ask(self.settings, Ask(reference=1, verb="ps"))
        rows: list[dict[str, object]] = msgspec.json.decode(document)
        return rows

    def rows(self) -> list[dict[str, object]]:
        """The processes, without those of the pools."""
        return [row for row in self.all_rows() if "/" not in str(row["compartment"])]

    def pid(self, compartment: str) -> int:
        """The process of a compartment."""
        found = [row["pid"] for row in self.rows() if row["compartment"] == compartment]
        return int(str(found[0])) if found else 0

    def keeper(self) -> str:
        """The compartment that decides what is tried when: it stays, whoever comes and goes."""
        rows = self.chosen.compartments
        return next(row.name for row in rows if "qmgr" in row.roles and not row.pooled)

    def hold_delivery(self) -> None:
        """Stop, for as long as they live, those who stand between a promise and a mailbox: the
        queue manager; where no promise is made without it, whoever delivers.
        """
        rows = {row.name: row for row in self.chosen.compartments}
        keeper = self.keeper()
        self.wait_for("the queue to be empty", lambda: not self.queued())
        needed = keeper == self.writer()[1] or self.chosen.store == "sendmailx_ibdb"
        delivers = {name for name, row in rows.items() if {"lmtpc", "local"} & {*row.roles}}
        held = delivers - {keeper, self.writer()[1]} if needed else {keeper}
        for row in self.rows():
            if str(row["compartment"]).partition(" ")[0] in held:
                os.kill(int(str(row["pid"])), signal.SIGSTOP)

    def writer(self) -> tuple[int, str]:
        """The process that writes what comes in now, and its compartment: the worker that is busy
        if there are many.
        """
        rows = self.chosen.compartments
        (first, *_) = [row for row in rows if "enqueue" in row.roles]
        if not first.pooled:
            return self.pid(first.name), first.name
        workers = [
            row
            for row in self.all_rows()
            if row["compartment"] == f"{first.name}/worker" and row.get("busy")
        ]
        return (int(str(workers[-1]["pid"])) if workers else 0), first.name

    def queued(self) -> int:
        """How many messages are in the queue, as the server tells."""
        return sum(len(rows) for rows in map(msgspec.json.decode, ask(self.settings, LISTED)))

    def queue_files(self) -> list[Path]:
        """What lies in the queue, relative to the spool."""
        spool, directories = self.settings.spool, self.chosen.directories
        found = [each for row in directories for each in (spool / row.path).iterdir()]
        return [each.relative_to(spool) for each in found]

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Poll until a condition holds; the demo fails if it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise StoryFailedError(f"waited in vain: {what}")
            time.sleep(0.02)

    def end(self) -> None:
        """Whatever happened, leave no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # -- mail -------------------------------------------------------------------------------------

    def send(self, to: str, subject: str, sender: str = "grace@example.org") -> str:
        """Send a letter that must be accepted; returns its token."""
        token = f"{subject.partition(' ')[0].lower()}-{len(self.kept) + 1}"
        who = to.partition("@")[0]
        letter = LETTER.format(to=to, who=who, subject=subject, token=token).encode()
        address, port = self.settings.addresses()[0]
        with smtplib.SMTP(address, port, timeout=PATIENCE_S) as client:
            client.ehlo("client.example.org")
            client.mail(sender)
            client.rcpt(to)
            code, text = client.data(letter)
        self.say(f"   [cyan]server[/]  {code} {escape(text.decode())}")
        if code != 250:
            raise StoryFailedError("the message was refused")
        self.kept[token] = letter
        self.addresses[token] = to
        return token

    def mailbox(self, address: str) -> Path:
        """The directory or file in which an address's mail must appear."""
        who, _, domain = address.partition("@")
        if domain == FAR and self.far is not None:
            return self.far.settings.mail_root / FAR / who
        user = self.settings.configuration.users.get(who)
        own = {"maildir": SYSTEM_MAILBOX, "mbox": OWN_MBOX}[self.chosen.mailbox]
        return Path(user.home) / own if user else self.settings.mail_root / DOMAIN / who

    def mail_of(self, address: str) -> list[Copy]:
        """All that lies in a mailbox now."""
        place = self.mailbox(address)
        if self.chosen.mailbox == "mbox":
            with contextlib.suppress(OSError):
                return [Copy(place, each) for each in _messages(place.read_bytes())]
            return []
        with contextlib.suppress(OSError):
            return [Copy(each, each.read_bytes()) for each in sorted((place / "new").iterdir())]
        return []

    def found(self, token: str) -> list[Copy]:
        """Where a message lies."""
        mark = f"Message-ID: <{token}@".encode()
        return [
            copy
            for copy in self.mail_of(self.addresses[token])
            if mark in copy.octets.partition(b"\n\n")[0]
        ]

    def judge(self) -> None:
        """Every 250 against every mailbox."""
        for token, letter in self.kept.items():
            copies = self.found(token)
            if len(copies) != 1:
                raise StoryFailedError(f"message {token} is there {len(copies)} times")
            if not copies[0].octets.endswith(letter.replace(b"\r\n", b"\n")):
                raise StoryFailedError(f"message {token} was altered")
            self.delivered += 1


def _messages(octets: bytes) -> list[bytes]:
    """The messages of an mbox file, as they were before they were quoted."""
    _, *parts = re.split(rb"^From [^\n]*\n", octets, flags=re.MULTILINE)
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", each.removesuffix(b"\n")) for each in parts]


def configuration(directory: Path, far_port: int) -> Path:
    """A configuration file: as root each recipient has a user of its own.

    Clients on this machine may relay; mail for the far domain goes to that port.
    """
    lines = [
        'hostname = "mx.demo.test"',
        f'postmaster = "ada@{DOMAIN}"',
        f'listen = ["127.0.0.1:{free_port()}"]',
        'spool = "spool"',
        # In a monolith the runner delivers, not the connection's process: it can be killed alone.
        "[sendmail]",
        'delivery_mode = "queue"',
        "queue_interval_s = 0.3",
        "[relay]",
        'networks = ["127.0.0.0/8"]',
        f'next_hops = {{"{FAR}" = "[127.0.0.1]:{far_port}"}}',
        f'[domains."{DOMAIN}"]',
    ]
    if os.getuid() == 0:
        lines.append("system_users = true")
        for place, user in enumerate(USERS):
            home = directory / user
            home.mkdir()
            uid = FIRST_UID + 200 + place
            os.chown(home, uid, uid)
            lines += [f"[users.{user}]", f"uid = {uid}", f"gid = {uid}", f'home = "{home}"']
    else:
        lines.append(f"mailboxes = {list(USERS)!r}".replace("'", '"'))
    path = directory / "refmta.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def far_configuration(directory: Path, port: int) -> Path:
    """The other server's: one domain with one mailbox that needs no account."""
    path = directory / "refmta.toml"
    path.write_text(f"""\
hostname = "mx.{FAR}"
postmaster = "carol@{FAR}"
listen = ["127.0.0.1:{port}"]
spool = "spool"
first_uid = {FIRST_UID + 1000}
[domains."{FAR}"]
mailboxes = ["carol"]
""")
    return path


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
