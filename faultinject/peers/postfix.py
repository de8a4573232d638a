"""Debian's Postfix as a target.

Its configuration is Debian's for an Internet site; changed is what `peer` says for all, and: the
master's pause after a daemon's death is a second, what comes in is not slowed down, and no notices
are sent to the postmaster.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final

from faultinject.peers.failures import (
    BARE_LF,
    CODES,
    CONTRADICTIONS,
    DIGITS,
    EARLY,
    FULL,
    LATER_LINE,
    NO_CODES,
    NO_RESPONSE,
    OTHERS_NAMES,
    QUESTIONS,
    TOO_EARLY,
    TOO_MANY,
    at,
    under,
)
from faultinject.peers.peer import LOGS, Peer, modes_of
from faultinject.processes import Seen
from faultinject.provisioning import Recipe
from faultinject.target import Site, Waiting

#: Directories of the queue with a file for each message.
QUEUES: Final = ("maildrop", "incoming", "active", "deferred", "hold")
#: Programs that are no daemons.
TOOLS: Final = frozenset({
    "postfix", "postconf", "postqueue", "postsuper", "postlog", "postcat", "postmap", "postalias",
    "postlogd", "nsenter", "env", "sh", "dash", "bash",
})  # fmt: skip
#: Who has given up being root opens it too (postsuper, as long as there is no postlogd).
LOG: Final = f"{LOGS}/postfix"
OWNER: Final = "postfix"
#: Files of /etc that a process in the queue's directory as its root looks into.
JAILED: Final = ("resolv.conf", "hosts", "services", "nsswitch.conf")
SETTINGS: Final[Mapping[str, str]] = {
    "compatibility_level": "3.6",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "home_mailbox": "Maildir/",
    "alias_maps": "",
    "alias_database": "",
    "message_size_limit": str(100 << 20),
    "smtpd_peername_lookup": "no",
    "local_header_rewrite_clients": "",
    "notify_classes": "",
    "smtpd_tls_security_level": "none",
    "smtp_tls_security_level": "none",
    "maillog_file": LOG,
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "4s",
    "queue_run_delay": "1s",
    "service_throttle_time": "1s",
    "in_flow_delay": "0",
    "smtp_connect_timeout": "3s",
    "smtp_helo_timeout": "3s",
    "smtp_mail_timeout": "3s",
    "smtp_rcpt_timeout": "3s",
    "smtp_data_init_timeout": "3s",
    "smtp_data_xfer_timeout": "3s",
    "smtp_data_done_timeout": "6s",
    "smtp_rset_timeout": "3s",
    "smtp_quit_timeout": "3s",
}


class Postfix(Peer):
    """Processes by what they do, started by a master."""

    name = "postfix"
    recipe = Recipe(
        name="postfix",
        packages=("postfix", "dnsmasq-base", "busybox-syslogd"),
        answers=(
            "postfix postfix/main_mailer_type select Internet Site",
            "postfix postfix/mailname string mx.example",
        ),
        steps=(("env", "DEBIAN_FRONTEND=noninteractive", "dpkg-reconfigure", "postfix"),),
    )
    queue_place = "/var/spool/postfix"
    roles = ("master", "smtpd", "cleanup", "qmgr", "local", "smtp", "bounce", "trivial-rewrite")
    main_role = "master"
    forgetful: ClassVar[Mapping[str, frozenset[str]]] = {
        "mailbox": frozenset({"master", "qmgr", "local"}),
        "next hop": frozenset({"master", "qmgr", "smtp"}),
        "report": frozenset({"master", "qmgr", "bounce", "cleanup"}),
    }
    known_failures: ClassVar[Mapping[str, str]] = MappingProxyType({
        **under(
            "local(8) marks a recipient done in the queue file once the message is linked into"
            " new/, and syncs no directory: the mark may be on the disk, and the name not",
            "lost", "P1",
        ),
        **under(
            "local(8) syncs the file in tmp/ and not the directory new/: the name may be lost after"
            " qmgr(8) has removed the queue file", "lost", "P2",
        ),
        **under(
            "no directory is synced: neither incoming/ before the 250 (cleanup(8) syncs the file"
            " and trusts its rename) nor new/ before the queue file goes", "lost", "P3",
        ),
        "disk/set_aside": 'a queue file that qmgr(8) can\'t read (EIO) goes to the queue "corrupt",'
        " where it is not tried again, nor listed",
        "disk/lost": "local(8) bounces for good (5.2.0) when a Maildir's file can't be made (EIO);"
        " the bounce meets a leftover of the same second and process (EEXIST), bounces too, and is"
        " dropped",
        "disk/still_queued": 'a file that cleanup(8) could not remove stays in "incoming"; it is'
        " not whole, and qmgr(8) does not take it",
        "disk/refused": "a look-up of a user that finds no descriptor (ENFILE in proxymap(8)) is"
        " answered 550 User unknown",
        **at(CODES, "given_up", *NO_CODES),
        **at(FULL, "given_up", *TOO_MANY),
        **at(LATER_LINE, "given_up", *CONTRADICTIONS),
        **at(
            "lines that are no replies are skipped, so the next reply counts for this command, and"
            " each further one is out of step", "given_up", "smtp-garbage-at-mail",
        ),
        **at(
            "lines that are no replies are skipped, and the 221 to its QUIT, sent along, counts as"
            " the reply to the message", "deceived", "smtp-garbage-at-final",
        ),
        **at(BARE_LF, "deceived", "smtp-bare-lf-at-final"),
        **at(EARLY, "deceived", *TOO_EARLY),
        **at(NO_RESPONSE, "impostor", *QUESTIONS),
        **at(OTHERS_NAMES, "impostor", "dns-another-name", "dns-another-name-has-the-address"),
        **at(DIGITS, "impostor", "dns-an-address-that-is-none"),
    })  # fmt: skip

    def write_configuration(self, site: Site) -> None:
        """main.cf; and the files that a jailed process needs."""
        hops = (f"{name}=smtp:[127.0.0.1]:{port}" for name, port in site.next_hops.items())
        settings = {
            **SETTINGS,
            "myhostname": site.hostname,
            "mydestination": site.domain,
            "inet_interfaces": self.address[0],
            "disable_dns_lookups": "no" if site.nameserver else "yes",
            "transport_maps": f"inline:{{{', '.join(hops)}}}" if site.next_hops else "",
        }
        self.run("postconf", "-e", *(f"{key}={value}" for key, value in settings.items()))
        self.run("touch", LOG)
        self.run("chown", OWNER, LOG)
        self.run("mkdir", "-p", f"{self.queue_place}/etc")
        jailed = (f"/etc/{name}" for name in JAILED)
        self.run("cp", "-p", *jailed, f"{self.queue_place}/etc")

    def launch(self) -> None:
        """It makes what is missing in its queue, and mends what a restored one has amiss."""
        self.run("postfix", "start")

    def relaunch(self) -> None:
        """The last step of that; the checks before it take a second."""
        self.run("/usr/lib/postfix/sbin/master", "-w")

    def end(self) -> None:
        """Waits until the master has gone."""
        self.run("postfix", "stop")

    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """Each has a program of its own."""
        return None if program in TOOLS or not program else (program, "")

    def waiting(self) -> int:
        """A message is a file that may be executed: one without that sign is being written, or was
        when cleanup(8) died, and stays until it is stale (36 h).  It may be seen in no directory,
        or in two, while it moves.
        """
        return sum(
            1 for name in QUEUES for mode in modes_of(self.spool / name) if mode & stat.S_IXUSR
        )

    def list_queue(self) -> Iterator[Waiting]:
        """postqueue(1), postcat(1)."""
        for row in self.run("postqueue", "-j").splitlines():
            if not row.startswith("{"):  # a warning: the mail system is down
                continue
            told: dict[str, Any] = json.loads(row)
            content = self.run("postcat", "-bhq", told["queue_id"])
            recipients = tuple(each["address"] for each in told["recipients"])
            yield Waiting(content=content.encode("utf-8", "replace"), recipients=recipients)

    def flush(self) -> None:
        """Deferred mail, too."""
        self.run("postqueue", "-f")


def postfix() -> Postfix:
    """Entry point (refmta.faultinject.targets)."""
    return Postfix()
