"""An installed qmail (netqmail, notqmail) as a target: programs in /var/qmail/bin, users, and the
directories of a queue.

Debian has no package of it, so there is no recipe that installs it: where /var/qmail is not, it is
unavailable.  Where it is, it runs in an overlay root like the others, with control files and a
queue of its own; what the machine's qmail has in its queue is not touched, and not seen.

Its pauses between attempts are built in, growing with the square of a message's age: only `flush`
makes it try sooner.  Its reports are in its own format (QSBMF), not RFC 3464.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final

from faultinject import provisioning
from faultinject.peers.peer import LOGS, Peer, files_of
from faultinject.processes import Seen
from faultinject.provisioning import Recipe
from faultinject.target import Site, Waiting

HOME: Final = Path("/var/qmail")
NEEDED: Final = ("bin/qmail-start", "bin/qmail-send", "bin/qmail-smtpd", "queue/mess")
#: Files of a queue that are no mail: locks, and the fifo that wakes qmail-send.
FIXED: Final = "lock"
_MESSAGE = re.compile(r" GMT +#([0-9]+) ")
_RECIPIENT = re.compile(r"^\s*(?:local|remote)\s+(\S+)$")  # one that has it: "done remote ..."


class Qmail(Peer):
    """Programs that do not trust one another."""

    name = "qmail"
    recipe = Recipe(name="qmail", packages=("ucspi-tcp", "dnsmasq-base", "busybox-syslogd"))
    queue_place = f"{HOME}/queue"
    roles = ("qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-clean", "tcpserver")
    main_role = "qmail-send"
    forgetful: ClassVar[Mapping[str, frozenset[str]]] = {
        "mailbox": frozenset({"qmail-send", "qmail-lspawn", "qmail-local"}),
        "next hop": frozenset({"qmail-send", "qmail-rspawn", "qmail-remote"}),
        "report": frozenset({"qmail-send", "qmail-queue"}),
    }
    capabilities = frozenset({"remote", "network", "each"})

    def unavailable(self) -> str | None:
        """It is not installed by us."""
        missing = [name for name in NEEDED if not (HOME / name).exists()]
        if missing:
            return f"no qmail in {HOME} (no {', '.join(missing)}), and Debian has no package of it"
        return provisioning.unavailable(self.recipe)

    def write_configuration(self, site: Site) -> None:
        """Control files; the directories of an empty queue."""
        hops = (f"{name}:127.0.0.1:{port}" for name, port in site.next_hops.items())
        files = {
            "me": site.hostname,
            "locals": site.domain,
            "rcpthosts": site.domain,
            "smtproutes": "\n".join(hops),
            "timeoutconnect": "3",
            "timeoutremote": "6",
            "concurrencyremote": "20",
        }
        self.run("mkdir", "-p", f"{HOME}/control")
        for name, text in files.items():
            self.put(f"{HOME}/control/{name}", f"{text}\n")
        if not (self.spool / "mess").exists():
            copy_queue(HOME / "queue", self.spool)

    def launch(self) -> None:
        """qmail-start, and tcpserver for what comes in."""
        log = f"</dev/null >>{LOGS}/qmail 2>&1 &"
        self.run("sh", "-c", f"PATH={HOME}/bin:$PATH setsid qmail-start ./Maildir/ {log}")
        server = f"tcpserver -H -R -l0 -c100 -b128 {self.address[0]} 25 {HOME}/bin/qmail-smtpd"
        owner = '-u"$(id -u qmaild)" -g"$(id -g qmaild)"'
        server = server.replace("-l0", f"-l0 {owner}")
        self.run("sh", "-c", f"RELAYCLIENT= setsid {server} {log}")

    def end(self) -> None:
        """qmail-send ends when its deliveries have; who takes mail is ended with it."""
        for each in self.processes():
            if each.role in ("tcpserver", "qmail-send"):
                self.terminate(each)

    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """Each has a program of its own."""
        return (program, "") if program.startswith("qmail-") or program == "tcpserver" else None

    def waiting(self) -> int:
        """A message is in the queue as long as its info is, or its todo."""
        found: set[str] = set()
        for kind in ("todo", "info"):
            found.update(filter(str.isdigit, files_of(self.spool / kind)))
        return len(found)

    def list_queue(self) -> Iterator[Waiting]:
        """qmail-qread; the content is the message's file."""
        for number, recipients in read_queue(self.run(f"{HOME}/bin/qmail-qread")):
            for file in (self.spool / "mess").rglob(number):
                yield Waiting(content=file.read_bytes(), recipients=recipients)

    def flush(self) -> None:
        """SIGALRM: qmail-send tries everything."""
        self.run("sh", "-c", "kill -ALRM $(pidof qmail-send)")


def read_queue(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What qmail-qread says: (number, who has yet to get it) of each message."""
    number, recipients = "", list[str]()
    for line in [*text.splitlines(), " GMT  #0 "]:
        if found := _MESSAGE.search(line):
            if number:
                yield number, tuple(recipients)
            number, recipients = found[1], []
        elif found := _RECIPIENT.match(line):
            recipients.append(found[1])


def copy_queue(queue: Path, to: Path) -> None:
    """The directories of a queue with their owners and modes, and its locks; no mail."""
    for place, _, names in os.walk(queue):
        here = to / Path(place).relative_to(queue)
        here.mkdir(exist_ok=True)
        for name in names if Path(place).name == FIXED else ():
            source = Path(place) / name
            if source.is_fifo():
                os.mkfifo(here / name)
            else:
                (here / name).write_bytes(b"")
            _own(source, here / name)
        _own(Path(place), here)


def _own(source: Path, copy: Path) -> None:
    found = source.stat()
    os.chown(copy, found.st_uid, found.st_gid)
    shutil.copymode(source, copy)


def qmail() -> Qmail:
    """Entry point (refmta.faultinject.targets)."""
    return Qmail()
