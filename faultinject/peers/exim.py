"""Debian's Exim (exim4-daemon-light) as a target.

One program does everything, as root or as its user; a process's role is told by its command line:
the daemon, its children that receive (they have its command line), those that run the queue (`-q`),
those that deliver a message (`-Mc`) with a child for each remote delivery and each mailbox, and
agents: who goes on with another message on an open connection, or submits a report.

The configuration is a whole one, in the place of Debian's own (another place would cost the daemon
its privileges); a runner begins each second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from faultinject.peers.failures import (
    BARE_LF,
    EARLY,
    FIRST_LINE,
    FULL,
    NO_RESPONSE,
    OTHERS_NAMES,
    QUESTIONS,
    TOO_EARLY,
    TOO_MANY,
    at,
    under,
)
from faultinject.peers.peer import LOGS, Peer, files_of
from faultinject.processes import Seen
from faultinject.provisioning import Recipe
from faultinject.target import Site, Waiting

PROGRAM: Final = "exim4"
DAEMON: Final = ("/usr/sbin/exim4", "-bd", "-q1s")
USER: Final = "Debian-exim"
RUN: Final = "/run/exim4"
CONFIGURATION: Final = f"""\
primary_hostname = {{hostname}}
local_interfaces = {{address}}
log_file_path = {LOGS}/exim-%slog
domainlist local_domains = {{domain}}
hostlist relay_from_hosts = 127.0.0.0/8
acl_smtp_rcpt = acl_check_rcpt
acl_smtp_data = acl_check_data
disable_ipv6 = true
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
smtp_accept_max = 200
smtp_accept_max_per_host = 0
smtp_accept_queue = 0
queue_run_max = 5
remote_max_parallel = 4
message_size_limit = 100M
return_path_remove = false
delivery_date_remove = false
envelope_to_remove = false
delay_warning =
ignore_bounce_errors_after = 1h

begin acl
acl_check_rcpt:
  accept domains = +local_domains
  accept hosts = +relay_from_hosts
acl_check_data:
  accept

begin routers
mailbox:
  driver = accept
  domains = +local_domains
  check_local_user
  transport = maildir
unknown:
  driver = redirect
  domains = +local_domains
  allow_fail
  data = :fail: no such user
{{routers}}
begin transports
maildir:
  driver = appendfile
  directory = $home/Maildir
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
remote:
  driver = smtp
  hosts_avoid_tls = *
  hosts_try_chunking =
  hosts_try_fastopen =
  message_linelength_limit = 1000000
  connect_timeout = 3s
  command_timeout = 3s
  data_timeout = 3s
  final_timeout = 6s

begin retry
* * F,4d,1s
"""
HOP: Final = """\
hop{number}:
  driver = manualroute
  domains = {name}
  route_list = * 127.0.0.1::{port} byname
  self = send
  transport = remote
  no_more
"""
ELSEWHERE: Final = """\
elsewhere:
  driver = dnslookup
  domains = ! +local_domains
  transport = remote
  no_more
"""
#: A message in the list: its age, size, name and sender; then a line for each recipient.
_MESSAGE = re.compile(r"^\s*\S+\s+\S+\s+([0-9A-Za-z]+-[0-9A-Za-z]+-[0-9A-Za-z]+)\s+<")
_RECIPIENT = re.compile(r"^ +(\S+@\S+)$")  # one that has it already begins with a D


class Exim(Peer):
    """A program that is everything."""

    name = "exim"
    recipe = Recipe(name="exim", packages=("exim4-daemon-light", "dnsmasq-base", "busybox-syslogd"))
    queue_place = "/var/spool/exim4"
    roles = ("daemon", "reception", "delivery", "runner")
    main_role = "daemon"
    forgetful: ClassVar[Mapping[str, frozenset[str]]] = {
        place: frozenset({"daemon", "runner", "delivery", "agent"})
        for place in ("mailbox", "next hop", "report")
    }
    known_failures: ClassVar[Mapping[str, str]] = MappingProxyType({
        **under(
            "the appendfile transport syncs the file in tmp/ and not the directory new/: the rename"
            " may be lost after the spool files are gone", "lost", "P2",
        ),
        **under(
            "the journal (-J) says that a recipient has the message before its name in new/ is on"
            " the disk: where what was written there is kept, and the rename is not, it is taken"
            " for delivered", "lost", "P1",
        ),
        **under(
            "the appendfile transport syncs no directory of the Maildir, and the spool files are"
            " removed at once", "lost", "P3",
        ),
        "disk/died": "without a descriptor its daemon gives up: after 50 failed accept(2) in a row,"
        " or when it can open neither its main nor its panic log",
        "network/altered": "it takes the name that an answer is about for the full name of the"
        " domain that it asked for, and puts it into header fields (rewrite_headers)",
        **at(FULL, "given_up", *TOO_MANY),
        **at(FIRST_LINE, "given_up", "smtp-bare-lf-inside-at-final"),
        **at(FIRST_LINE, "deceived", "smtp-different-codes-at-final"),
        **at(BARE_LF, "deceived", "smtp-bare-lf-at-final"),
        **at(EARLY, "deceived", *TOO_EARLY),
        **at(
            "it asks with EDNS (for DNSSEC), and a server that refuses it is asked in no other way",
            "not_delivered", "dns-no-edns",
        ),
        **at(NO_RESPONSE, "impostor", *QUESTIONS),
        **at(OTHERS_NAMES, "impostor", "dns-another-name-has-the-address"),
    })  # fmt: skip
    #: Its panic log has more than panics: also what it makes of a message that a kill has left half
    #: written, and complaints about logging.
    defect = re.compile(r"assertion|SIGSEGV|segfault|internal error")

    def write_configuration(self, site: Site) -> None:
        """One file, and the directories of its user."""
        rows = [
            HOP.format(number=number, name=name, port=port)
            for number, (name, port) in enumerate(site.next_hops.items())
        ]
        text = CONFIGURATION.format(
            hostname=site.hostname, address=self.address[0], domain=site.domain,
            routers="".join([*rows, ELSEWHERE]),
        )  # fmt: skip
        self.put("/etc/exim4/exim4.conf", text)
        self.run("mkdir", "-p", RUN)
        self.run("chown", f"{USER}:{USER}", RUN, self.queue_place, LOGS)
        self.run("chmod", "750", self.queue_place)

    def launch(self) -> None:
        """It writes its number into a file; an old one is no obstacle."""
        self.run(*DAEMON)

    def end(self) -> None:
        """The daemon ends at once; deliveries and sessions that are at it end by themselves."""
        if self._main is not None:
            self.terminate(self._main)

    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """See above."""
        if program != PROGRAM:
            return None
        arguments = seen.arguments[1:]
        if "-Mc" in arguments:
            return "delivery", ""
        if arguments[:1] == ("-bd",):
            return ("daemon" if self.is_first(seen) else "reception"), ""
        return ("runner" if any(each.startswith("-q") for each in arguments) else "agent"), ""

    def waiting(self) -> int:
        """A message is there when its header file and its data file are: the header file alone is
        of one that was done, and stays for ever (frozen) if its process dies just then.
        """
        names = {*files_of(self.spool / "input")}
        return sum(1 for name in names if name.endswith("-H") and f"{name[:-1]}D" in names)

    def list_queue(self) -> Iterator[Waiting]:
        """exim -bp, exim -Mvc; none for whom nobody waits."""
        name, recipients = "", list[str]()
        for line in [*self.run(PROGRAM, "-bp").splitlines(), ""]:
            if found := _MESSAGE.match(line):
                name, recipients = found[1], []
            elif found := _RECIPIENT.match(line):
                recipients.append(found[1])
            elif name and not line.strip() and not recipients:
                name = ""
            elif name and not line.strip():
                content = self.run(PROGRAM, "-Mvc", name)
                yield Waiting(content=content.encode(), recipients=tuple(recipients))
                name = ""

    def flush(self) -> None:
        """Frozen messages, and those whose time has not come; it is not waited for."""
        self.run("sh", "-c", f"{PROGRAM} -qff </dev/null >/dev/null 2>&1 &")


def exim() -> Exim:
    """Entry point (refmta.faultinject.targets)."""
    return Exim()
