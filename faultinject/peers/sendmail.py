"""Debian's sendmail as a target.

One program again; its processes say in their titles what they are at.  Its configuration is made
from m4, as Debian's own, with a mailer for the next hops, which are told apart by their ports; no
connection is kept for the next message, since it would be known by its host alone.  Its local
mailer is procmail, since sendmail has none that writes a Maildir.

Changed is what `peer` says for all, and what would throttle it: the number of connections in ten
minutes, queueing instead of delivering, and refusing, under load.  Addresses are left as they are:
by default it puts the canonical name in the place of an alias, in RCPT and in header fields, as RFC
1123 5.2.2 had it and RFC 5321 has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

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
    by,
    under,
)
from faultinject.peers.peer import Peer
from faultinject.processes import Seen
from faultinject.provisioning import Recipe
from faultinject.target import Site, Waiting

PROGRAM: Final = "sendmail-mta"
COMMAND: Final = f"/usr/sbin/{PROGRAM}"
RUN: Final = "/run/sendmail/mta"
CONFIGURATION: Final = """\
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
VERSIONID(`as Debian has it, unthrottled')dnl
OSTYPE(`debian')dnl
DOMAIN(`debian-mta')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA-v4, Port=smtp, Addr={address}, Listen=128')dnl
define(`confDOMAIN_NAME', `{hostname}')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch{switch}')dnl
define(`confTO_IDENT', `0')dnl
define(`confDONT_EXPAND_CNAMES', `True')dnl
define(`confTO_QUEUEWARN', `')dnl
define(`confTO_CONNECT', `3s')dnl
define(`confTO_INITIAL', `3s')dnl
define(`confTO_HELO', `3s')dnl
define(`confTO_MAIL', `3s')dnl
define(`confTO_RCPT', `3s')dnl
define(`confTO_DATAINIT', `3s')dnl
define(`confTO_DATABLOCK', `3s')dnl
define(`confTO_DATAFINAL', `6s')dnl
define(`confTO_RSET', `3s')dnl
define(`confTO_QUIT', `3s')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confDELAY_LA', `1000')dnl
define(`confMCI_CACHE_SIZE', `0')dnl
define(`confMIN_QUEUE_AGE', `0')dnl
define(`confMAX_QUEUE_CHILDREN', `20')dnl
FEATURE(`use_cw_file')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`relay_entire_domain')dnl
FEATURE(`local_procmail')dnl
LOCAL_DOMAIN(`{domain}')dnl
MAILER_DEFINITIONS
MAILER(`local')dnl
MAILER(`smtp')dnl
{mailers}
LOCAL_RULE_0
{rules}
"""
#: As Debian's esmtp mailer, at a port that stands where a host does; fields are separated by tabs.
MAILER: Final = (
    "Mhop,\tP=[IPC], F=mDFMuXa, S=EnvFromSMTP/HdrFromSMTP, R=EnvToSMTP, E=\\r\\n, L=990,\n"
    "\t\tT=DNS/RFC822/SMTP,\n\t\tA=TCP [127.0.0.1] $h"
)
RULE: Final = "R$+ < @ {name} $* > $*\t$#hop $@ {port} $: $1 < @ {name} >"
#: Of a queue file: who has yet to get it, with flags; a header line, with flags.
_RECIPIENT = re.compile(r"^R[^:]*:<?([^>]+)>?$")
_FLAGS = re.compile(r"^H\?[^?]*\?")
_SENDING = re.compile(r"^sendmail: (?:MTA: )?\./|from queue$")


class Sendmail(Peer):
    """A program that is everything, and an agent."""

    name = "sendmail"
    recipe = Recipe(
        name="sendmail",
        packages=("sendmail-bin", "procmail", "dnsmasq-base", "busybox-syslogd"),
    )
    queue_place = "/var/spool/mqueue"
    roles = ("daemon", "session", "delivery")
    main_role = "daemon"
    forgetful: ClassVar[Mapping[str, frozenset[str]]] = {
        place: frozenset({"daemon", "session", "runner", "delivery", "procmail"})
        for place in ("mailbox", "next hop", "report")
    }
    known_failures: ClassVar[Mapping[str, str]] = MappingProxyType({
        **by(
            "a message that is done loses its df file first, and then its qf file: where it ends"
            " in between, it is delivered again, with <<< No Message Collected >>> for a body",
            "altered", "storm", "kill", "power",
        ),
        **by(
            "procmail takes the end of its pipe for the end of the message: when the process that"
            " writes to it dies, what came so far is delivered, and the whole one again",
            "stranger", "storm", "kill",
        ),
        **under(
            "the data file (df) is removed before the control file (qf): a qf that is left alone is"
            " sent once more, without a body", "altered", "P1", "P2",
        ),
        **under(
            "the queue directory is not synced before the 250: the name of the data file (df) may"
            " be lost, and the qf alone is sent without a body", "altered", "P3",
        ),
        **under(
            "procmail syncs the file in tmp/ and not the directory new/: the link may be lost after"
            " the queue files are gone", "lost", "P2",
        ),
        **by(
            "procmail syncs the file in tmp/ and not new/, and the queue's directory is synced when"
            " the queue files are gone: btrfs, which writes the log of one directory without that"
            " of the other, then has the message in tmp/ alone", "lost", "power",
        ),
        **under(
            "the queue directory is not synced before the 250 (the files are): the name of the"
            " control file (qf) may be lost", "lost", "P3",
        ),
        "disk/lost": "procmail, where it can't write the Maildir, delivers to the system mailbox"
        " (ORGMAIL, /var/mail/USER), which nobody looks at here",
        "disk/altered": "when the df file can't be read or opened (EIO, EMFILE, ENFILE), what was"
        " read so far, or <<< No Message Collected >>>, is delivered for a body (and after EIO the"
        " whole message again)",
        "network/unanswered": "it asks the DNS about each recipient while its client waits: one"
        " whose name servers are silent takes minutes",
        "network/altered": "it asks the DNS about each address in a header field: where one can't"
        " be answered now, the rest of the field is cut off",
        "network/stop": "it reads a reply's lines for as long as they come: to the end of whoever"
        " sends them without end",
        **at(CODES, "given_up", *NO_CODES),
        **at(FULL, "given_up", *TOO_MANY),
        **at(LATER_LINE, "given_up", *CONTRADICTIONS),
        **at(
            "a reply that breaks off counts, and 250 to DATA is a refusal for good", "given_up",
            "smtp-half-a-reply-at-data",
        ),
        **at("a reply that breaks off counts", "deceived", "smtp-half-a-reply-at-final"),
        **at(
            "of a line that is too long what fits counts", "deceived", "smtp-endless-line-at-final"
        ),
        **at(BARE_LF, "deceived", "smtp-bare-lf-at-final"),
        **at(EARLY, "deceived", *TOO_EARLY),
        **at(NO_RESPONSE, "impostor", *QUESTIONS),
        **at(OTHERS_NAMES, "impostor", "dns-another-name"),
        **at(DIGITS, "impostor", "dns-an-address-that-is-none"),
    })  # fmt: skip

    def write_configuration(self, site: Site) -> None:
        """sendmail.cf, from m4."""
        text = CONFIGURATION.format(
            address=self.address[0], hostname=site.hostname, domain=site.domain,
            switch="" if site.nameserver else "-nodns",
            mailers=MAILER,
            rules="\n".join(
                RULE.format(name=name, port=port) for name, port in site.next_hops.items()
            ),
        )  # fmt: skip
        self.put("/etc/mail/sendmail.cf", self.run("m4", stdin=text))
        self.put("/etc/mail/local-host-names", f"{site.domain}\nlocalhost\n")
        self.put("/etc/procmailrc", "DEFAULT=$HOME/Maildir/\n")
        self.put("/etc/mail/access", "Connect:127 RELAY\n")
        self.run("mkdir", "-p", RUN)
        self.run("chown", "smmta:smmsp", RUN, self.queue_place)
        self.run("chmod", "2750", self.queue_place)

    def launch(self) -> None:
        """A queue run each second."""
        self.run("rm", "-f", f"{RUN}/sendmail.pid")
        self.run(COMMAND, "-bd", "-q1s")

    def end(self) -> None:
        """Sessions and deliveries that are at it end by themselves."""
        if self._main is not None:
            self.terminate(self._main)

    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """By title."""
        if program == "procmail":
            return "procmail", ""
        if program not in (PROGRAM, "sendmail"):
            return None
        if self.is_first(seen):
            return "daemon", ""
        title = " ".join(seen.arguments)
        if "running queue" in title:
            return "runner", ""
        return ("delivery" if _SENDING.search(title) else "session"), ""

    def _controls(self) -> list[Path]:
        """A message is there when its control file is; one that is empty is of a session that has
        not got as far, or ended there, and nobody ever touches it again.
        """
        found = []
        for each in sorted(self.spool.glob("qf*")):
            with suppress(FileNotFoundError):  # done meanwhile
                if each.stat().st_size:
                    found.append(each)
        return found

    def waiting(self) -> int:
        """By control files."""
        return len(self._controls())

    def list_queue(self) -> Iterator[Waiting]:
        """Its tool tells neither all recipients nor contents: from the files that it lists."""
        for control in self._controls():
            lines = control.read_text("utf-8", "replace").splitlines()
            recipients = [each[1] for each in map(_RECIPIENT.match, lines) if each]
            head = "".join(f"{line}\n" for line in _header(lines))
            data = control.with_name(control.name.replace("qf", "df", 1))
            body = data.read_bytes() if data.exists() else b""
            yield Waiting(content=head.encode() + b"\n" + body, recipients=tuple(recipients))

    def flush(self) -> None:
        """It runs its queue each second anyway."""


def _header(lines: list[str]) -> Iterator[str]:
    """The message's header in a control file: lines that begin with H, and their continuations."""
    inside = False
    for line in lines:
        inside = line.startswith("H?") or (inside and line[:1] in " \t")
        if inside:
            yield _FLAGS.sub("", line)


def sendmail() -> Sendmail:
    """Entry point (refmta.faultinject.targets)."""
    return Sendmail()
