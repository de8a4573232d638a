"""A small internet: two refmta, a Postfix and an Exim in one network, with a DNS of their own.

    client --> a.test (refmta) --> hub.test (Postfix) --> b.test (refmta)
                  |  ^-----------> gate.test (Exim) ---> a.test
                  '--------------> nowhere.test and others: null MX, no such domain, dead

Everybody finds everybody by MX records, which dnsmasq has; nothing listens at `dead.test`. Postfix
sends x@hub.test on to x@b.test, Exim sends x@gate.test back to x@a.test: a virtual alias each, so
that both look up the second hop in the DNS, as they would in the world.

The network is that of the first overlay; its loopback has an address for each host. The two refmta
are ours, on this machine's disk, with users of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from faultinject.overlay import Overlay
from tests.provision import tool

A, POSTFIX, B, EXIM, DEAD, DNS = (f"10.77.0.{number}" for number in (1, 2, 3, 4, 9, 53))
PATIENCE_S = 240.0
SEND = Path(__file__).with_name("send.py")

HOSTS = {"mx-a.test": A, "hub-mx.test": POSTFIX, "mx-b.test": B, "gate-mx.test": EXIM,
         "dead-mx.test": DEAD}  # fmt: skip
MX = (
    ("a.test", "mx-a.test", 10), ("hub.test", "hub-mx.test", 10), ("b.test", "mx-b.test", 10),
    ("gate.test", "gate-mx.test", 10), ("dead.test", "dead-mx.test", 10),
    ("second.test", "dead-mx.test", 10), ("second.test", "mx-b.test", 20),
)  # fmt: skip

EXIM_CONFIGURATION = """
primary_hostname = gate-mx.test
local_interfaces = 10.77.0.4
hostlist relay_from_hosts = 10.77.0.0/16
acl_smtp_rcpt = acl_check_rcpt
acl_smtp_data = acl_check_data
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 50
queue_run_max = 5
remote_max_parallel = 4
message_size_limit = 100M
return_path_remove = false
delivery_date_remove = false
envelope_to_remove = false
begin acl
acl_check_rcpt:
  accept hosts = +relay_from_hosts
acl_check_data:
  accept
begin routers
gate:
  driver = redirect
  domains = gate.test
  data = ${local_part}@a.test
  forbid_file
  forbid_pipe
elsewhere:
  driver = dnslookup
  domains = ! gate.test
  transport = remote_smtp
  no_more
begin transports
remote_smtp:
  driver = smtp
  message_linelength_limit = 1000000
begin retry
* * F,1h,1m
"""


@dataclass
class Refmta:
    """A refmta in that network; catches all mail for its domain in one Maildir."""

    network: Overlay
    directory: Path
    domain: str
    address: str
    first_uid: int
    extra: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def new(self) -> Path:
        """Where its mail is delivered."""
        return self.directory / "mail" / self.domain / "box" / "new"

    @property
    def config(self) -> Path:
        return self.directory / "refmta.toml"

    def start(self) -> None:
        self.directory.mkdir(mode=0o711, exist_ok=True)
        self.config.write_text(
            f"""hostname = "mx-{self.domain.partition(".")[0]}.test"
listen = ["{self.address}:25"]
spool = "{self.directory}/spool"
mail_root = "{self.directory}/mail"
postmaster = "box@{self.domain}"
first_uid = {self.first_uid}
[domains."{self.domain}"]
mailboxes = ["box"]
catch_all = "box@{self.domain}"
[limits]
connections_per_client = 300
[relay]
networks = ["10.77.0.0/16"]
nameservers = ["{DNS}:53"]
{self.extra}"""
        )
        with open(self.directory / "log", "ab") as log:
            command = self.command("serve", "-c", str(self.config))
            self.process = subprocess.Popen(
                self.network.on_network(*command), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: b'"serving"' in self.log(), f"{self.domain} serves", self.log)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "refmta.cli.main", *arguments]

    def log(self) -> bytes:
        return (self.directory / "log").read_bytes()

    def queued(self) -> list[str]:
        return os.listdir(self.directory / "spool" / "chunks")

    def delivered(self) -> dict[str, list[bytes]]:
        """Recipient -> messages, below the two lines that delivery puts on top."""
        found: dict[str, list[bytes]] = {}
        for path in self.new.iterdir() if self.new.is_dir() else ():
            _, recipient, rest = path.read_bytes().split(b"\n", 2)
            found.setdefault(recipient.removeprefix(b"Delivered-To: ").decode(), []).append(rest)
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
            self.process.kill()
            self.process.wait()


@dataclass
class Internet:
    """All of it."""

    network: Overlay
    exim: Overlay
    place: Path
    a: Refmta
    b: Refmta
    mails: dict[str, bytes] = field(default_factory=dict)

    def send(self, mails: Mapping[str, bytes], domain: str, sender: str) -> dict[str, str]:
        """Each mail to NAME@domain, by a.test; what was answered to each."""
        directory = self.place / "out"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name, octets in mails.items():
            (directory / name).write_bytes(octets)
        command = [sys.executable, str(SEND), A, "25", sender, domain, str(directory)]
        done = subprocess.run(
            self.network.on_network(*command), capture_output=True, check=True, timeout=300
        )
        answers: dict[str, str] = json.loads(done.stdout)
        return answers


def wait_for(
    condition: Callable[[], object], what: str, log: Callable[[], bytes] = lambda: b""
) -> None:
    """Until it is true; AssertionError with the end of the log after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}\n{log()[-3000:].decode()}")
        time.sleep(0.05)


@contextmanager
def dns(network: Overlay, place: Path) -> Iterator[None]:
    """dnsmasq for the domain test, until the end of the block."""
    rows = [f"host-record={name},{address}" for name, address in HOSTS.items()]
    rows += [f"mx-host={domain},{host},{preference}" for domain, host, preference in MX]
    rows += ["mx-host=nowhere.test,.,0", "local=/test/", "no-resolv", "no-hosts", "port=53"]
    rows += [f"listen-address={DNS}", "bind-interfaces", "user=root", "pid-file="]
    configuration = place / "dnsmasq.conf"
    configuration.write_text("\n".join(rows) + "\n")
    program = tool("dnsmasq") or "dnsmasq"
    command = network.on_network(program, "--keep-in-foreground", f"--conf-file={configuration}")
    with open(place / "dnsmasq.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def start_postfix(peer: Overlay) -> None:
    """Debian's, as an Internet site that sends x@hub.test on to x@b.test."""
    settings = {
        "myhostname": "hub-mx.test", "mydestination": "", "inet_interfaces": POSTFIX,
        "inet_protocols": "ipv4", "smtpd_peername_lookup": "no", "mynetworks": "10.77.0.0/16",
        "local_header_rewrite_clients": "", "virtual_alias_domains": "hub.test",
        "virtual_alias_maps": "regexp:/etc/postfix/onward", "smtp_line_length_limit": "0",
        "message_drop_headers": "",
        "minimal_backoff_time": "5s", "queue_run_delay": "5s",
        "compatibility_level": "3.6",
    }  # fmt: skip
    answers = ("main_mailer_type select Internet Site", "mailname string hub-mx.test")
    peer.run("debconf-set-selections", stdin="".join(f"postfix postfix/{a}\n" for a in answers))
    peer.run("tee", "/usr/sbin/policy-rc.d", stdin="#!/bin/sh\nexit 101\n")  # we start it
    peer.run("chmod", "+x", "/usr/sbin/policy-rc.d")
    peer.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg-reconfigure", "postfix")
    peer.run("tee", "/etc/postfix/onward", stdin="/^(.*)@hub\\.test$/ ${1}@b.test\n")
    peer.run("postconf", "-e", *(f"{key}={value}" for key, value in settings.items()))
    peer.run("/usr/lib/postfix/configure-instance.sh", "-")
    peer.run("/usr/sbin/postfix", "start")


def start_exim(peer: Overlay) -> None:
    """Debian's light daemon, with a configuration that sends x@gate.test back to x@a.test."""
    peer.install("exim4-daemon-light")
    peer.run("tee", "/etc/exim4/exim4.conf", stdin=EXIM_CONFIGURATION)
    peer.run("/usr/sbin/exim4", "-bd", "-q1m")


@contextmanager
def internet(place: Path) -> Iterator[Internet]:
    """All of it, started; nothing is left afterwards."""
    with ExitStack() as undo:
        spools = {name: place / name for name in ("postfix", "exim")}
        shutil.copytree("/var/spool/postfix", spools["postfix"], symlinks=True)
        spools["exim"].mkdir()
        network = undo.enter_context(
            Overlay("hub", binds={"/var/spool/postfix": spools["postfix"]})
        )
        exim = undo.enter_context(Overlay("gate", beside=network))
        for address in (A, POSTFIX, B, EXIM, DNS):
            network.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        start_exim(exim)  # installs before it has our DNS
        for peer in (network, exim):
            peer.run("sh", "-c", "rm -f /etc/resolv.conf; cat > /etc/resolv.conf",
                     stdin=f"nameserver {DNS}\n")  # fmt: skip
        undo.enter_context(dns(network, place))
        start_postfix(network)
        undo.callback(network.run, "/usr/sbin/postfix", "abort")
        found = Internet(
            network, exim, place,
            Refmta(network, place / "a", "a.test", A, 1_900_010_000),
            Refmta(network, place / "b", "b.test", B, 1_900_012_000),
        )  # fmt: skip
        for each in (found.a, found.b):
            undo.callback(each.stop)
            each.start()
        yield found
