"""A real server for a test: its own directory, port, users; and nothing left of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.lines import whole_lines

PATIENCE_S = 60.0
#: Recipient users that need no account, far from the compartments' range.
FIRST_RECIPIENT = 1_900_000_500


@dataclass
class Server:
    """A running `refmta serve`."""

    directory: Path
    port: int
    config: Path
    process: subprocess.Popen[bytes] | None = None
    begun: int = 0
    architecture: str = ""

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def command(self, *arguments: str) -> list[str]:
        named = self.architecture and arguments[0] == "serve"
        composed = ["--architecture", self.architecture] if named else []
        return [sys.executable, "-m", "refmta.cli.main", *arguments, *composed]

    def start(self, *, wait: bool = True) -> None:
        self.begun = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", "-c", str(self.config)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.directory,
            )  # fmt: skip
        if wait:
            self.wait_for(self.serving, "the server serves")

    def stop(self) -> int:
        """Drain; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Everything at once, as a power cut would end it (the page cache survives)."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.wait_for(lambda: not self.survivors(), "all processes are gone")

    def survivors(self) -> list[int]:
        """Processes that still hold this server's directory open or as an argument."""
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with contextlib.suppress(OSError):
                    maps = (each / "cmdline").read_bytes()
                    if b"refmta.architectures.enter" in maps and self._ours(each):
                        found.append(int(each.name))
        return found

    def _ours(self, proc: Path) -> bool:
        """stderr is our log: the one thing that every process of the server inherits.  Without root
        nobody may look at that; the spool is in the command line.
        """
        if os.geteuid() != 0:
            return str(self.spool).encode() in (proc / "cmdline").read_bytes().split(b"\0")
        return str((proc / "fd" / "2").readlink()) == str(self.log)

    def serving(self) -> bool:
        """Whether all compartments are ready, since the last `start`; from the log, not by `ps`,
        which costs a process.
        """
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the server does not start:\n{self.log.read_text()}")
        return b'"event":"serving"' in self.log.read_bytes()[self.begun :]

    # -- the operator's commands ------------------------------------------------------------------

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, "-c", str(self.config)),
            capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=self.directory,
        )  # fmt: skip

    def ps(self) -> list[dict[str, Any]]:
        done = self.run("ps", "--json")
        return json.loads(done.stdout)["processes"] if done.returncode == 0 else []

    def pid(self, compartment: str) -> int:
        return next(row["pid"] for row in self.ps() if row["compartment"] == compartment)

    def queue(self) -> list[dict[str, Any]]:
        done = self.run("queue", "list", "--json")
        return json.loads(done.stdout)["messages"]

    # -- mail -------------------------------------------------------------------------------------

    def maildir(self, user: str, domain: str = "example.org") -> Path:
        """Where mail for a recipient arrives."""
        if os.geteuid() == 0:
            return self.directory / "home" / user / "Maildir" / "new"
        return self.spool / "mail" / domain / user / "new"

    def delivered(self, user: str) -> list[bytes]:
        with contextlib.suppress(FileNotFoundError):
            return [each.read_bytes() for each in sorted(self.maildir(user).iterdir())]
        return []

    def events(self) -> list[dict[str, Any]]:
        """The log's lines; each must be JSON."""
        return [json.loads(line) for line in whole_lines(self.log)]

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain: {what}\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(
    directory: Path,
    *,
    users: tuple[str, ...] = ("ada", "bob"),
    extra: str = "",
    start: bool = True,
    architecture: str = "",
) -> Iterator[Server]:
    """A server for example.org with these users: as root each has a user id of its own, else they
    are virtual mailboxes.  `extra` is appended to the configuration.
    """
    directory.mkdir(exist_ok=True)
    for each in (directory, *directory.parents):  # pytest's directories are closed
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    port = free_port()
    lines = [
        'hostname = "mx.example.org"', f'postmaster = "{users[0]}@example.org"',
        f'listen = ["127.0.0.1:{port}"]', 'spool = "spool"', 'trusted = ["127.0.0.1"]',
    ]  # fmt: skip
    lines += _recipients(directory, users)
    config = directory / "refmta.toml"
    config.write_text("\n".join(lines) + "\n" + extra)
    running = Server(directory, port, config, architecture=architecture)
    try:
        if start:
            running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
        running.wait_for(lambda: not running.survivors(), "nothing is left running")


def _recipients(directory: Path, users: tuple[str, ...]) -> list[str]:
    if os.geteuid() != 0:
        return ['[domains."example.org"]', f"mailboxes = {json.dumps(users)}"]
    lines = ['[domains."example.org"]', "system_users = true"]
    for place, user in enumerate(users):
        home = directory / "home" / user
        home.mkdir(parents=True)
        uid = FIRST_RECIPIENT + place
        os.chown(home, uid, uid)
        lines += [f"[users.{user}]", f"uid = {uid}", f"gid = {uid}", f'home = "{home}"']
    return lines
