"""Debian's OpenSMTPD as a target.

Seven processes, one of them with privileges: their titles tell their roles; mail for a mailbox is
written by a child that runs mail.maildir.  The death of any of them ends them all.

Its pauses are built in (400 s times the square of the number of attempts for other hosts, 10 s for
mailboxes): only `flush` makes it try sooner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from faultinject.peers.failures import (
    BARE_LF,
    DIGITS,
    FIRST_LINE,
    FULL,
    OTHERS_NAMES,
    TOO_MANY,
    at,
    by,
    under,
)
from faultinject.peers.peer import LOGS, Peer, files_of
from faultinject.processes import Seen
from faultinject.provisioning import Recipe
from faultinject.target import Site, Waiting

CONFIGURATION: Final = """\
smtp max-message-size 100M
listen on {address} port 25 hostname {hostname}
action "mailbox" maildir "~/Maildir"
{actions}
match from any for domain "{domain}" action "mailbox"
{matches}
"""
#: What it calls its processes -> what they are called here.
TITLES: Final[Mapping[str, str]] = {
    "[priv]": "parent",
    "klondike": "ca",
    "control": "control",
    "lookup": "lookup",
    "pony express": "pony",
    "queue": "queue",
    "scheduler": "scheduler",
}
#: Seen by strace over whole sessions of 6.8.0p2: only mail.maildir calls fsync.
UNSYNCED: Final = "its queue is written without any sync, of a message, an envelope or a directory"
_NAME = re.compile(r"[0-9a-f]{16}")
_ENVELOPE = re.compile(r"^[0-9a-f]{16}\|")
_ROUTE = re.compile(r"^ *([0-9]+)\. ")
#: Of the fields of `smtpctl show queue`: the envelope's id, and its recipient.
_ID, _RECIPIENT = 0, 5


class Opensmtpd(Peer):
    """Processes by what they may do."""

    name = "opensmtpd"
    recipe = Recipe(name="opensmtpd", packages=("opensmtpd", "dnsmasq-base", "busybox-syslogd"))
    capabilities = Peer.capabilities | {"each"}
    queue_place = "/var/spool/smtpd"
    roles = ("parent", "ca", "control", "lookup", "pony", "queue", "scheduler")
    main_role = "parent"
    forgetful: ClassVar[Mapping[str, frozenset[str]]] = {
        place: frozenset({*TITLES.values(), "delivery"})
        for place in ("mailbox", "next hop", "report")
    }
    known_failures: ClassVar[Mapping[str, str]] = MappingProxyType({
        **by(UNSYNCED, "lost", "power"),
        **by(UNSYNCED, "half_lost", "power"),
        **by(
            f"{UNSYNCED}: what is there of it may be empty, and is delivered so",
            "stranger", "power",
        ),
        **under(UNSYNCED, "lost", "P1"),
        **under(
            f"{UNSYNCED}; and mail.maildir syncs the file and not the directory new/, while the"
            " envelope is removed at once", "lost", "P2", "P3",
        ),
        **under(
            "a message whose octets were never synced may be empty or noise after a crash, and is"
            " delivered so", "stranger", "P1",
        ),
        **under(
            "a message whose octets were never synced may be there in part, and is delivered so",
            "altered", "P1",
        ),
        **at(FULL, "given_up", *TOO_MANY),
        **at(FIRST_LINE, "given_up", "smtp-bare-lf-inside-at-final"),
        **at(FIRST_LINE, "deceived", "smtp-different-codes-at-final"),
        **at(BARE_LF, "deceived", "smtp-bare-lf-at-final"),
        **at(
            "a domain that takes no mail (a null MX, neither MX nor address) is a failure that may"
            " pass", "not_given_up", "dns-null-mx", "dns-nodata", "dns-nodata-without-authority",
        ),
        **at(
            "REFUSED and NOTIMP from its name server are failures for good", "given_up",
            "dns-refused", "dns-not-implemented",
        ),
        **at(OTHERS_NAMES, "impostor", "dns-another-name", "dns-another-name-has-the-address"),
        **at(DIGITS, "impostor", "dns-an-address-that-is-none"),
        "disk/lost": "it does not look at the result of fclose(3) on the message file: when that"
        " last write fails (EIO, EINTR), it answers 250 and delivers what is there",
        "disk/stranger": "when the queue's message file can't be read, what was read so far"
        " (nothing) is delivered as a message",
        "disk/still_queued": "a delivery whose message file could not be read (EIO, EINTR) is never"
        " ended: the envelope is tried again only after a restart",
        "disk/unanswered": "when accept(2) finds no descriptor (EMFILE, ENFILE), it listens again"
        " only when one of its sessions ends: with none open, never",
        "disk/died": "a delivery whose message file can't be read is ended by SIGTERM: where that"
        " comes before the agent's exec, the handler that it has inherited tells the parent's event"
        " loop of it, and the whole server ends in good order",
        **by(
            "mail.maildir takes the end of its pipe for the end of the message: when the process"
            " that feeds it dies, what came so far is delivered, and the whole one again",
            "stranger", "storm", "kill",
        ),
        **by("the same, with a letter of several writes", "altered", "storm", "kill"),
        **by(
            "a delivery agent that dies by a signal is a failure for good: the message goes back to"
            " its sender, and a report that meets it is dropped", "lost", "storm", "kill",
        ),
    })  # fmt: skip
    defect = re.compile(r"panic|assertion|segfault|fatal: (?!.*(terminated|lost|closed))")

    def write_configuration(self, site: Site) -> None:
        """smtpd.conf."""
        hops = list(enumerate(site.next_hops.items()))
        actions = [
            f'action "hop{number}" relay host "smtp+notls://127.0.0.1:{port}"'
            for number, (_, port) in hops
        ]
        matches = [
            f'match from any for domain "{name}" action "hop{number}"' for number, (name, _) in hops
        ]
        if site.nameserver:
            actions.append('action "elsewhere" relay')
            matches.append('match from any for any action "elsewhere"')
        text = CONFIGURATION.format(
            address=self.address[0], hostname=site.hostname, domain=site.domain,
            actions="\n".join(actions), matches="\n".join(matches),
        )  # fmt: skip
        self.put("/etc/smtpd.conf", text)
        self.run("chmod", "711", self.queue_place)  # or it refuses to start

    def launch(self) -> None:
        """In the background, its log where it says."""
        self.run("rm", "-f", "/run/smtpd.sock", "/var/run/smtpd.sock")
        self.run("sh", "-c", f"setsid smtpd -d </dev/null >>{LOGS}/smtpd 2>&1 &")

    def end(self) -> None:
        """The parent tells the others."""
        if self._main is not None:
            self.terminate(self._main)

    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """By title; `mail.*` are the agents."""
        title = " ".join(seen.arguments)
        if program.startswith("mail."):
            return "delivery", ""
        if program != "smtpd":
            return None
        if not title.startswith("smtpd: "):  # not named yet
            return ("parent" if self.is_first(seen) else "delivery"), ""
        return TITLES.get(title.removeprefix("smtpd: ").strip(), "delivery"), ""

    def waiting(self) -> int:
        """Envelopes, each for one recipient; their names are 16 hexadecimal digits."""
        return sum(1 for name in files_of(self.spool / "queue") if _NAME.fullmatch(name))

    def list_queue(self) -> Iterator[Waiting]:
        """smtpctl(8), which reads the disk itself when the server is down."""
        for line in self.run("smtpctl", "show", "queue").splitlines():
            if _ENVELOPE.match(line):
                fields = line.split("|")
                content = self.run("smtpctl", "show", "message", fields[_ID])
                yield Waiting(content=content.encode(), recipients=(fields[_RECIPIENT],))

    def flush(self) -> None:
        """And the routes that it has given up for a while."""
        for line in self.run("smtpctl", "show", "routes").splitlines():
            if found := _ROUTE.match(line):
                self.run("smtpctl", "resume", "route", found[1])
        self.run("smtpctl", "schedule", "all")


def opensmtpd() -> Opensmtpd:
    """Entry point (refmta.faultinject.targets)."""
    return Opensmtpd()
