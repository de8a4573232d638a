"""The stage of `refmta demo`: a real server in a directory of its own, its log, its mailboxes."""

from __future__ import annotations

import contextlib
import os
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape

from refmta.architectures.configuration import Settings
from refmta.architectures.sections import FIRST_UID
from refmta.cli.operator import UnreachableError, ask
from refmta.patterns.defense_in_depth import LAYERS
from refmta.wire.messages import Ask

PATIENCE_S = 30.0
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


class StoryFailedError(Exception):
    """The demo found what must not be."""


@dataclass(slots=True)
class Stage:
    """The system under demonstration."""

    directory: Path
    architecture: str
    console: Console
    settings: Settings
    process: subprocess.Popen[bytes] | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
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
        arguments = ["serve", "-c", str(self.settings.path), "--architecture", self.architecture]
        for layer in LAYERS:  # a demonstration goes on without what the machine lacks, and says so
            arguments += ["--allow-missing", layer]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "refmta.cli.main", *arguments], stderr=log, stdout=log
            )
        self.wait_for("the server answers", self._serving)

    def _serving(self) -> bool:
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
        self.places[token] = self.mailbox(to)
        return token

    def mailbox(self, address: str) -> Path:
        """The directory in which an address's mail must appear."""
        who, _, domain = address.partition("@")
        if domain == FAR and self.far is not None:
            return self.far.settings.mail_root / FAR / who / "new"
        user = self.settings.configuration.users.get(who)
        home = Path(user.home) / "Maildir" if user else self.settings.mail_root / DOMAIN / who
        return home / "new"

    def found(self, token: str) -> list[Path]:
        """Where a message lies."""
        with contextlib.suppress(OSError):
            return [
                each
                for each in sorted(self.places[token].iterdir())
                if f"<{token}@".encode() in each.read_bytes()
            ]
        return []

    def judge(self) -> None:
        """Every 250 against every mailbox."""
        for token, letter in self.kept.items():
            copies = self.found(token)
            if len(copies) != 1:
                raise StoryFailedError(f"message {token} is there {len(copies)} times")
            stored = copies[0].read_bytes()
            if not stored.endswith(letter.replace(b"\r\n", b"\n")):
                raise StoryFailedError(f"message {token} was altered")
            self.delivered += 1


def configuration(directory: Path, far_port: int) -> Path:
    """A configuration file: as root each recipient has a user of its own.

    Clients on this machine may relay; mail for the far domain goes to that port.
    """
    lines = [
        'hostname = "mx.demo.test"',
        f'postmaster = "ada@{DOMAIN}"',
        f'listen = ["127.0.0.1:{free_port()}"]',
        'spool = "spool"',
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
