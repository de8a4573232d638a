"""aiosmtpd, from PyPI, with its Maildir handler: a server that promises nothing.

It has no queue and relays nothing: when the handler has written the files, it says 250.  Python's
`mailbox`, which writes them, syncs each file and no directory; and of several recipients some may
have the message when it dies.  It is here as a control: harnesses must find its loss.

The program below is run in its root: aiosmtpd's `Mailbox` for each mailbox, without the header
lines that it adds to a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar, Final

from faultinject.peers.failures import MODELS, by, under
from faultinject.peers.peer import HOMES, LOGS, Peer
from faultinject.processes import Seen
from faultinject.provisioning import Recipe
from faultinject.target import Site, Waiting

PYTHON: Final = "/opt/aiosmtpd/bin/python"
UNSYNCED: Final = (
    "Python's mailbox syncs the file in tmp/ and no directory: the link into new/ may be lost after"
    " the 250"
)
PROGRAM: Final = "/opt/aiosmtpd/serve.py"
TEXT: Final = '''\
import asyncio
import signal
import sys
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

HOST, DOMAIN, *USERS = sys.argv[1:]


class Plain(Mailbox):
    """Keeps the message as it came."""

    def handle_message(self, message):
        for name in ("X-Peer", "X-MailFrom", "X-RcptTo"):
            del message[name]
        super().handle_message(message)


class Boxes:
    """A mailbox for each recipient."""

    def __init__(self):
        self.boxes = {f"{user}@{DOMAIN}": Plain(f"HOMES/{user}/Maildir") for user in USERS}

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address not in self.boxes:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        for address in envelope.rcpt_tos:
            await self.boxes[address].handle_DATA(server, session, envelope)
        return "250 2.0.0 written"


async def main():
    boxes = Boxes()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(boxes, hostname="mx", enable_SMTPUTF8=False, data_size_limit=100 << 20),
        HOST, 25, backlog=128,
    )
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    server.close()


asyncio.run(main())
'''


class Aiosmtpd(Peer):
    """One process."""

    name = "aiosmtpd"
    recipe = Recipe(
        name="aiosmtpd",
        packages=("python3-venv", "dnsmasq-base", "busybox-syslogd"),
        steps=(
            ("/usr/bin/python3", "-m", "venv", "/opt/aiosmtpd"),
            ("/opt/aiosmtpd/bin/pip", "install", "-q", "--no-input", "aiosmtpd==1.4.6"),
        ),
    )
    queue_place = "/var/spool/aiosmtpd"
    roles = ("server",)
    main_role = "server"
    forgetful: ClassVar[Mapping[str, frozenset[str]]] = {}
    capabilities = frozenset({"network", "each"})
    known_failures: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "half_lost": "it writes one mailbox after the other, and has no queue",
            **by(UNSYNCED, "lost", "power"),
            "disk/refused": "any error of the disk is answered 500",
            "disk/defect": "the same error is logged as a traceback",
            "disk/invented": "it delivers to one mailbox, and then answers 500 since another can't"
            " be written, or a temporary file can't be unlinked",
            "kill/duplicate": "it writes one file for each RCPT, also where one recipient is named"
            " twice (no death is needed)",
            **under(UNSYNCED, "lost", *MODELS),
        }
    )

    def write_configuration(self, site: Site) -> None:
        """The program."""
        self.put(PROGRAM, TEXT.replace("HOMES", HOMES))

    def launch(self) -> None:
        """In the background."""
        server = f"{PYTHON} {PROGRAM} {self.address[0]} {self.site.domain}"
        users = " ".join(self.site.users)
        self.run("sh", "-c", f"setsid {server} {users} </dev/null >>{LOGS}/aiosmtpd 2>&1 &")

    def end(self) -> None:
        """At once: nothing is under way that anybody was promised."""
        if self._main is not None:
            self.terminate(self._main)

    def role_of(self, seen: Seen, program: str) -> tuple[str, str] | None:
        """By the script that it runs."""
        return ("server", "") if PROGRAM in seen.arguments else None

    def waiting(self) -> int:
        """There is no queue."""
        return 0

    def list_queue(self) -> Iterator[Waiting]:
        """Empty."""
        return iter(())

    def flush(self) -> None:
        """Nothing waits."""


def aiosmtpd() -> Aiosmtpd:
    """Entry point (refmta.faultinject.targets)."""
    return Aiosmtpd()
