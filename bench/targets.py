"""The servers that are measured: how each is configured, started, reached, watched and stopped.

A target receives a directory on disk for its spool and its users' homes, so that all of them write
to the same file system. A new target is a subclass of `Target` and a row in `TARGETS`, which is
also the order of the columns (`Target` is in bench/target.py).

Postfix runs in an overlay root with Debian's own configuration of an Internet site. Changed in
both columns, since otherwise nothing could be compared: the domain and users, Maildir delivery, no
DNS (there is none in its network: a lookup would hang), a size limit that admits 100 MB, and a
next hop for each of the two domains that are relayed.
The tuned column adds what `TUNED` says. Nobody listens at its /dev/log: its logging costs it less
than in real life. Its process and connection limits are as shipped: its own networks are exempt
from the latter.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from bench.boxes import Mbox
from bench.target import (
    DEAD_DOMAIN,
    DEAD_PORT,
    DOMAIN,
    HOSTNAME,
    MAIN_USER,
    SINK_DOMAIN,
    SINK_PORT,
    STUCK_USER,
    Target,
    TargetError,
    descendants,
    user_ids,
)
from faultinject.overlay import Overlay
from tests.provision import capabilities

HOMES = "/home/bench"  # in an overlay
READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60


class Postfix(Target):
    """Debian's Postfix as shipped."""

    name = "postfix"
    reference = True
    port = 25
    TUNED: ClassVar[Mapping[str, str]] = {}
    NEEDED: ClassVar[Mapping[str, str]] = {
        "myhostname": HOSTNAME,
        "mydestination": f"{DOMAIN}, localhost",
        "home_mailbox": "Maildir/",
        "disable_dns_lookups": "yes",
        "smtpd_peername_lookup": "no",
        "message_size_limit": str(256 << 20),
        "inet_protocols": "ipv4",
        "transport_maps": (
            f"inline:{{{SINK_DOMAIN}=smtp:[127.0.0.1]:{SINK_PORT},"
            f"{DEAD_DOMAIN}=smtp:[127.0.0.1]:{DEAD_PORT}}}"
        ),
    }

    @classmethod
    def unavailable(cls) -> str | None:
        have = capabilities()
        return have["overlay"] or have["postfix"] or have["smtp-source"]

    @contextmanager
    def running(self) -> Iterator[None]:
        shutil.copytree("/var/spool/postfix", self.spool, symlinks=True)
        binds = {"/var/spool/postfix": self.spool, HOMES: self.homes}
        with Overlay(self.name, binds=binds) as self.overlay:
            self.configure()
            self.overlay.run("/usr/sbin/postfix", "start")
            try:
                yield
            finally:
                self.overlay.run("/usr/sbin/postfix", "abort")

    def configure(self) -> None:
        """Debian's answers for an Internet site, then what this file's first lines declare."""
        inside = self.overlay.run
        answers = ("main_mailer_type select Internet Site", f"mailname string {HOSTNAME}")
        lines = "".join(f"postfix postfix/{answer}\n" for answer in answers)
        inside("debconf-set-selections", stdin=lines)
        inside("tee", "/usr/sbin/policy-rc.d", stdin="#!/bin/sh\nexit 101\n")  # we start it
        inside("chmod", "+x", "/usr/sbin/policy-rc.d")
        inside("env", "DEBIAN_FRONTEND=noninteractive", "dpkg-reconfigure", "postfix")
        settings = {**self.NEEDED, **self.TUNED}
        inside("postconf", "-e", *(f"{key}={value}" for key, value in settings.items()))
        rows = [f"{name}:x:{uid}:{uid}::{HOMES}/{name}:/bin/false" for uid, name in user_ids()]
        inside("tee", "-a", "/etc/passwd", stdin="\n".join(rows) + "\n")
        inside("/usr/lib/postfix/configure-instance.sh", "-")  # the files of the smtpd's chroot

    def let_stuck(self) -> None:
        """An unwritable mailbox is a bounce to Postfix; a command's EX_TEMPFAIL is not."""
        self.overlay.run("tee", "-a", "/etc/aliases", stdin=f'{STUCK_USER}: "|exit 75"\n')
        self.overlay.run("newaliases")
        self.overlay.run("postfix", "reload")

    def on_network(self, *command: str) -> list[str]:
        return self.overlay.on_network(*command)

    def path(self, seen: str) -> Path:
        return self.overlay.path(seen)

    def processes(self) -> list[int]:
        return self.overlay.processes()

    def queued(self) -> int:
        queues = [self.spool / name for name in ("incoming", "active", "deferred", "hold")]
        return sum(len(files) for queue in queues for _, _, files in os.walk(queue))


class TunedPostfix(Postfix):
    """Postfix with the settings that matter to this load."""

    name = "postfix-tuned"
    TUNED: ClassVar[Mapping[str, str]] = {
        "in_flow_delay": "0",
        "default_destination_concurrency_limit": "20",
        "local_destination_concurrency_limit": "20",
    }


class Refmta(Target):
    """Ours, on this machine's loopback."""

    name = "refmta"
    architecture = "refmta"
    further: ClassVar[str] = ""  # tables of the configuration
    serving: subprocess.Popen[bytes]

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        with socket.create_server((self.host, 0)) as free:
            self.port = free.getsockname()[1]

    @classmethod
    def command(cls) -> list[str]:
        """The command beside this interpreter, or the package of this tree."""
        script = Path(sys.executable).with_name("refmta")
        call = "import sys; from refmta.cli.main import main; sys.exit(main())"
        return [str(script)] if script.exists() else [sys.executable, "-c", call]

    @classmethod
    def unavailable(cls) -> str | None:
        if os.geteuid() != 0:
            return "not root: mail for other users can't be delivered"
        done = subprocess.run([*cls.command(), "--help"], capture_output=True, check=False)
        return None if done.returncode == 0 else "no refmta command"

    @property
    def configuration(self) -> Path:
        return self.place / "refmta.toml"

    def configure(self) -> None:
        """As a user would write it: a domain, and a row for each recipient without an account."""
        text = f"""hostname = "{HOSTNAME}"
listen = ["{self.host}:{self.port}"]
spool = "{self.spool}"
postmaster = "{MAIN_USER}@{DOMAIN}"
[domains."{DOMAIN}"]
system_users = true
[limits]
connections_per_client = 300
message_octets = {256 << 20}
[relay]
networks = ["127.0.0.0/8"]
[relay.next_hops]
"{SINK_DOMAIN}" = "[127.0.0.1]:{SINK_PORT}"
"{DEAD_DOMAIN}" = "[127.0.0.1]:{DEAD_PORT}"
"""
        for uid, user in user_ids():
            text += f'[users.{user}]\nuid = {uid}\ngid = {uid}\nhome = "{self.homes / user}"\n'
        text += self.further
        self.configuration.write_text(text, encoding="utf-8")

    @contextmanager
    def running(self) -> Iterator[None]:
        self.configure()
        with open(self.place / "log", "wb") as log:
            told_to_stop = ["setpriv", "--pdeathsig", "TERM"]  # when we are killed
            self.serving = subprocess.Popen(
                [
                    *(*told_to_stop, *self.command(), "serve", "-c", str(self.configuration)),
                    *("--architecture", self.architecture),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                self.await_greeting()
                yield
            finally:
                self.stop()

    def await_greeting(self) -> None:
        """Wait until the server answers on its port."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self.serving.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), timeout=5) as probe:
                    if probe.recv(3) == b"220":
                        return
            except OSError:
                time.sleep(0.05)
        raise self.error(f"does not answer on {self.host}:{self.port}")

    def error(self, text: str) -> TargetError:
        """What happened, and the end of the log."""
        last = (self.place / "log").read_text(encoding="utf-8", errors="replace")[-1000:]
        return TargetError(f"{self.name} {text}; its log ends:\n{last}")

    def stop(self) -> None:
        """Let it drain; what does not stop is killed, and that is said."""
        left = descendants(self.serving.pid)
        self.serving.send_signal(signal.SIGTERM)
        try:
            self.serving.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            print(f"{self.name}: does not stop within {STOP_TIMEOUT_S} s, killed", file=sys.stderr)
            self.serving.kill()
            self.serving.wait()
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def ask(self, *command: str) -> Any:
        """The answer to a command with --json; TargetError where it fails."""
        line = [*self.command(), *command, "--json", "-c", str(self.configuration)]
        done = subprocess.run(line, capture_output=True, check=False)
        if done.returncode != 0:
            raise TargetError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')[-500:]}")
        return json.loads(done.stdout)

    def processes(self) -> list[int]:
        if self.serving.poll() is not None:
            raise self.error(f"has ended by itself with {self.serving.returncode}")
        return descendants(self.serving.pid)

    def roles(self) -> dict[int, str]:
        told = {int(each["pid"]): str(each["compartment"]) for each in self.ask("ps")["processes"]}
        return {process: told.get(process, "?") for process in self.processes()}

    def queued(self) -> int:
        return len(self.ask("queue", "list")["messages"])


class Unconfined(Refmta):
    """The same without the layers that confine a process but its user (`bench.confinement`)."""

    name = "refmta-unconfined"
    architecture = "refmta-namespace-network-jail-capabilities-landlock-seccomp"


class Composition(Refmta):
    """Our roles in another architecture (`bench.architectures`)."""


class Sendmail(Composition):
    """The monolith, which keeps a user's mail in one file.

    Who waits too long for that file's lock leaves the message in the queue, for the runner to find;
    by default it looks every half an hour.
    """

    name = architecture = "sendmail"
    form = Mbox
    further = "[sendmail]\nqueue_interval_s = 1.0\n"


class Qmail(Composition):
    """A process for each connection, message and delivery."""

    name = architecture = "qmail"


class OurPostfix(Composition):
    """Pools with a shared listening socket, jailed."""

    name = architecture = "postfix"


class OurPostfixUnjailed(Composition):
    """The same, not jailed."""

    name = architecture = "postfix-unjailed"


class SendmailX(Composition):
    """Persistent modules, and two databases."""

    name = architecture = "sendmailx"


#: Ours in all architectures, in the order of the columns.
COMPOSITIONS: tuple[type[Refmta], ...] = (
    Refmta, Sendmail, Qmail, OurPostfix, OurPostfixUnjailed, SendmailX,
)  # fmt: skip

TARGETS: dict[str, type[Target]] = {each.name: each for each in (Refmta, Postfix, TunedPostfix)}
