"""aiosmtpd from PyPI, with a program of ours: its SMTP and LMTP as they are, mailboxes as Maildirs.
It relays nothing and has no queue.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from faultinject import networks
from faultinject.peers.aiosmtpd import PROGRAM, PYTHON
from faultinject.peers.aiosmtpd import Aiosmtpd as Peer
from faultinject.peers.peer import HOMES, LOGS
from faultinject.target import Site
from subjects.conformance.setup import (
    CERTIFICATE,
    HOSTNAME,
    KEY,
    PASSWORD,
    SUBMISSION,
    SUBMISSIONS,
    PeerSetup,
    certificate,
)

LMTP: Final = 24
#: Cases about fields that the handler would have to add.
TRACE: Final = (
    "5321-4.4-", "3848-", "6531-3.7.3-", "5322-3.6.7-trace-order",
    "5321-3.6.1-route-not-in-return-path",
)  # fmt: skip
TEXT: Final = '''\
import asyncio
import signal
import ssl
import sys
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult

HOST, OTHER, DOMAIN, *USERS = sys.argv[1:]
NAME = "HOSTNAME"


class Plain(Mailbox):
    """Keeps the message as it came."""

    async def handle_DATA(self, server, session, envelope):
        self.mailbox.add(envelope.original_content.replace(b"\\r\\n", b"\\n"))
        return "250 2.0.0 ok"


class Boxes:
    """A mailbox for each recipient."""

    def __init__(self):
        self.boxes = {f"{user}@{DOMAIN}": Plain(f"HOMES/{user}/Maildir") for user in USERS}

    def box(self, address):
        if address.lower() == "postmaster":
            address = f"postmaster@{DOMAIN}"
        local, _, domain = address.rpartition("@")
        return self.boxes.get(f"{local}@{domain.lower()}".lower())

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.box(address) is None:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):
        for each in envelope.rcpt_tos:
            await self.box(each).handle_DATA(server, session, envelope)
        return "250 2.0.0 ok"


def authenticate(server, session, envelope, mechanism, data):
    fine = data.login == b"ada" and data.password == b"PASSWORD"
    return AuthResult(success=fine, handled=False)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("CERTIFICATE", "KEY")
    handler, loop = Boxes(), asyncio.get_running_loop()
    common = {"hostname": NAME, "enable_SMTPUTF8": True, "data_size_limit": 10240000}
    mx = lambda: SMTP(handler, tls_context=context, authenticator=authenticate, **common)
    submission = lambda: SMTP(
        handler, tls_context=context, require_starttls=True, authenticator=authenticate,
        auth_required=True, **common,
    )
    inside = lambda: SMTP(
        handler, authenticator=authenticate, auth_required=True, auth_require_tls=False, **common
    )
    lmtp = lambda: LMTP(handler, **common)
    for host in (HOST, OTHER):
        await loop.create_server(mx, host, 25)
    await loop.create_server(submission, OTHER, 587)
    await loop.create_server(inside, OTHER, 465, ssl=context)
    await loop.create_server(lmtp, OTHER, 24)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


asyncio.run(main())
'''


class _Peer(Peer):
    name = "conform-aiosmtpd"
    recipe = replace(
        Peer.recipe, name="conform-aiosmtpd", packages=(*Peer.recipe.packages, "openssl")
    )

    def write_configuration(self, site: Site) -> None:
        certificate(self)
        text = TEXT
        for word, value in (
            ("HOMES", HOMES), ("HOSTNAME", HOSTNAME), ("CERTIFICATE", CERTIFICATE),
            ("KEY", KEY), ("PASSWORD", PASSWORD),
        ):  # fmt: skip
            text = text.replace(word, value)
        self.put(PROGRAM, text)

    def launch(self) -> None:
        server = f"{PYTHON} {PROGRAM} {self.address[0]} {networks.OTHER} {self.site.domain}"
        users = " ".join(self.site.users)
        self.run("sh", "-c", f"setsid {server} {users} </dev/null >>{LOGS}/aiosmtpd 2>&1 &")


class Aiosmtpd(PeerSetup):
    """See above."""

    files = (PROGRAM,)
    relays = False
    lacks = MappingProxyType({"--names": "it sends no mail to other hosts"})
    spared = MappingProxyType(dict.fromkeys(TRACE, "trace fields are its handler's work, so ours"))
    remarks = ("LMTP's one reply for all recipients is known: aiosmtpd, issue 517.",)
    doors = {  # noqa: RUF012
        "submission": (networks.OTHER, SUBMISSION), "tls": (networks.OTHER, SUBMISSIONS),
        "lmtp": (networks.OTHER, LMTP), "user": "ada", "password": PASSWORD,
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__(_Peer(), "aiosmtpd")

    def version(self) -> str:
        """As pip says."""
        lines = self.peer.run("/opt/aiosmtpd/bin/pip", "show", "aiosmtpd").splitlines()
        told = dict(line.partition(": ")[::2] for line in lines)
        return f"aiosmtpd {told.get('Version', '')} of PyPI"
