"""`refmta demo`: the main job as a story, on a real system that it starts and breaks.

A server is started in a directory of its own, mail goes in over SMTP, processes are killed at the
worst moments, and at the end every message that was answered 250 is looked for in its mailbox and
compared octet for octet.  Exit 1 if one is missing, altered or there twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from refmta.architectures.configuration import Settings, load
from refmta.architectures.sections import FIRST_UID
from refmta.cli import ps
from refmta.cli.operator import UnreachableError, ask
from refmta.cli.options import EX_FINDING, architecture_option, json_option
from refmta.wire.messages import Ask

PATIENCE_S = 30.0
USERS = ("ada", "bob")
LETTER = """\
From: Grace <grace@example.org>\r
To: {who} <{who}@demo.test>\r
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

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def say(self, text: str = "") -> None:
        self.console.print(text)

    # -- the server -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server and wait until it serves."""
        arguments = ["serve", "-c", str(self.settings.path), "--architecture", self.architecture]
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

    def rows(self) -> list[dict[str, object]]:
        """The processes, without those of the pool."""
        (document,) = ask(self.settings, Ask(reference=1, verb="ps"))
        rows: list[dict[str, object]] = msgspec.json.decode(document)
        return [row for row in rows if "/" not in str(row["compartment"])]

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

    def send(self, who: str, subject: str) -> str:
        """Send a letter until it is accepted, as a mail server would; returns its token."""
        token = f"{subject.partition(' ')[0].lower()}-{len(self.kept) + 1}"
        letter = LETTER.format(who=who, subject=subject, token=token).encode()
        address, port = self.settings.addresses()[0]
        with smtplib.SMTP(address, port, timeout=PATIENCE_S) as client:
            client.ehlo("client.example.org")
            client.mail("grace@example.org")
            client.rcpt(f"{who}@demo.test")
            code, text = client.data(letter)
        self.say(f"   [cyan]server[/]  {code} {escape(text.decode())}")
        if code != 250:
            raise StoryFailedError("the message was refused")
        self.kept[token] = letter
        self.places[token] = self.mailbox(who)
        return token

    def mailbox(self, who: str) -> Path:
        user = self.settings.configuration.users.get(who)
        home = Path(user.home) / "Maildir" if user else self.settings.mail_root / "demo.test" / who
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


@click.command()
@architecture_option
@click.option("--keep", is_flag=True, help="Leave the directory behind, to look at.")
@json_option
def demo(name: str, keep: bool, as_json: bool) -> None:
    """Start a mail server, move real mail, kill it in the middle, and count what is left."""
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    directory = Path(tempfile.mkdtemp(prefix="refmta-demo-"))
    directory.chmod(0o755)
    stage = Stage(directory, name, console, load(_configuration(directory)))
    failure = ""
    try:
        for chapter in (_start, _deliver, _kill_enqueue, _kill_qmgr, _kill_all, _judge, _stop):
            chapter(stage)
    except StoryFailedError as error:
        failure = str(error)
        console.print(f"[bold red]FAILED[/] {escape(failure)}")
    finally:
        stage.end()
        if as_json:
            report = {"acknowledged": len(stage.kept), "delivered": stage.delivered}
            click.echo(json.dumps({**report, "failure": failure}))
        if keep:
            console.print(f"everything is in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(EX_FINDING if failure else 0)


def _configuration(directory: Path) -> Path:
    """A configuration file: as root each recipient has a user of its own."""
    lines = [
        'hostname = "mx.demo.test"',
        'postmaster = "ada@demo.test"',
        f'listen = ["127.0.0.1:{_free_port()}"]',
        'spool = "spool"',
        '[domains."demo.test"]',
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- the chapters ---------------------------------------------------------------------------------


def _start(stage: Stage) -> None:
    stage.say("[bold]1. A mail server made of small processes[/]")
    stage.start()
    rows = [{**row, **ps.observed(int(str(row["pid"])))} for row in stage.rows()]
    ps.show(rows, stage.console)
    if os.getuid() == 0:
        stage.say("   Only the spawner is root, and it never touches mail.")
    else:
        stage.say("   Without root all of them share your user; as root each has its own.")
    stage.say("   [dim]Not here yet: jails, Landlock, seccomp.[/]\n")


def _deliver(stage: Stage) -> None:
    stage.say("[bold]2. A letter goes in by SMTP[/]")
    token = stage.send("ada", "Hello from afar")
    stage.wait_for("delivery", lambda: bool(stage.found(token)))
    (place,) = stage.found(token)
    stage.say(f"   in {place}, owned by user {place.stat().st_uid}:")
    for line in place.read_text().splitlines()[:4]:
        stage.say(f"   [dim]| {escape(line)}[/]")
    stage.say()


def _kill_enqueue(stage: Stage) -> None:
    stage.say("[bold]3. The process that writes the queue is killed in the middle of a message[/]")
    address, port = stage.settings.addresses()[0]
    victim = stage.pid("enqueue")
    with smtplib.SMTP(address, port, timeout=PATIENCE_S) as client:
        client.ehlo("client.example.org")
        client.mail("grace@example.org")
        client.rcpt("bob@demo.test")
        client.docmd("data")
        client.send(b"Subject: this letter will be cut off\r\n\r\n" + b"half a letter\r\n" * 40_000)
        chunks = stage.settings.spool / "chunks"
        stage.wait_for("half a message on disk", lambda: any(chunks.iterdir()))
        os.kill(victim, signal.SIGKILL)
        stage.say(f"   [red]SIGKILL[/] enqueue (pid {victim}), with half a message on disk")
        client.send(b"the end\r\n.\r\n")
        code, text = client.getreply()
    stage.say(f"   [cyan]server[/]  {code} {escape(text.decode())}")
    if code < 400:
        raise StoryFailedError("a message was acknowledged that nobody wrote")
    stage.say("   No promise was made, so the client tries again:")
    stage.wait_for("a new enqueue", lambda: stage.pid("enqueue") not in (0, victim))
    stage.send("bob", "Second attempt")
    stage.wait_for("the half message set aside", lambda: any(_aside(stage)))
    (aside,) = _aside(stage)
    stage.say(f"   recovery found the half message and set it aside: {aside.name}\n")


def _aside(stage: Stage) -> Iterator[Path]:
    return (stage.settings.spool / "damaged").iterdir()


def _kill_qmgr(stage: Stage) -> None:
    stage.say("[bold]4. The queue manager is killed after the 250, before delivery[/]")
    victim = stage.pid("qmgr")
    os.kill(victim, signal.SIGSTOP)
    token = stage.send("ada", "Promised and not delivered")
    os.kill(victim, signal.SIGKILL)
    stage.say(f"   [red]SIGKILL[/] qmgr (pid {victim}); its delivery agents are ended, too")
    stage.wait_for("delivery by the next qmgr", lambda: bool(stage.found(token)))
    stage.say(f"   the next one (pid {stage.pid('qmgr')}) found it in the queue and delivered it\n")


def _kill_all(stage: Stage) -> None:
    stage.say("[bold]5. Everything is killed at once, with promised mail in the queue[/]")
    os.kill(stage.pid("qmgr"), signal.SIGSTOP)
    tokens = [stage.send(who, "Kept over the crash") for who in (*USERS, *USERS)]
    process = stage.process
    if process is None:
        raise StoryFailedError("no server")
    process.kill()
    process.wait()
    stage.say("   [red]SIGKILL[/] the spawner: all processes die with it.  Starting again.")
    stage.start()
    stage.wait_for("delivery", lambda: all(map(stage.found, tokens)))
    stage.say(f"   {len(tokens)} of {len(tokens)} were in the queue and are delivered now\n")


def _judge(stage: Stage) -> None:
    stage.say("[bold]6. The account[/]")
    stage.judge()
    count = len(stage.kept)
    stage.say(f"   {count} messages were answered 250: [green]{count} delivered once each,[/]")
    stage.say("   [green]equal octet for octet; none lost, none altered.[/]\n")


def _stop(stage: Stage) -> None:
    process = stage.process
    if process is None:
        raise StoryFailedError("no server")
    process.terminate()
    if process.wait(PATIENCE_S) != 0:
        raise StoryFailedError(f"the server did not stop in order:\n{stage.log.read_text()}")
    stage.say("[bold]7. Stopped:[/] it finished what was begun, and ended with 0.")
