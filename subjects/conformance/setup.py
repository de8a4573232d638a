"""What every set-up has in common.

    with networks.own(), Postfix().up(place) as ready:
        trio.run(Run(given=ready.given, cases=...).run)

Rules a reader may rely on
- A server is Debian's (aiosmtpd: PyPI's), in an overlay root and a network of its own; what it does
  not offer there, its package cannot do, or its configuration page says why.
- Mailboxes are ada, bob, cyd and postmaster at conform.example, as Maildirs; cyd is who sends.
- From 127.0.0.0/8 mail is relayed, by MX records; from 192.0.2.1 nothing is: so cases about
  relaying begin at `ready.relaying`, and all others at `ready.given`.
- The name server is the suite's own, at NAMES; while none is there, look-ups fail at once, since
  nothing listens.
- One user may authenticate: ada.  TLS has a certificate that nobody has signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from faultinject import networks
from faultinject.peers.peer import Peer
from faultinject.target import Site
from specs.conformance.given import Given

DOMAIN: Final = "conform.example"
HOSTNAME: Final = f"mx.{DOMAIN}"
USERS: Final = ("ada", "bob", "cyd", "postmaster")
#: Of ada.
PASSWORD: Final = "correct-horse-9"  # noqa: S105  nobody's
#: Where the scripted name server listens.
NAMES: Final = "127.0.0.53"
SUBMISSION, SUBMISSIONS = 587, 465
#: In a server's root.
CERTIFICATE, KEY = "/etc/conform/cert.pem", "/etc/conform/key.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A server that runs.  given: for cases of a stranger; relaying: of one whom it relays for.
    version: of its package.  configuration: what was changed, for people.  spared: cases (or what
    their ids begin with) that are not put to it, and why.  lacks: options that it can't be given
    ("--lmtp"), and why.  withheld: cases (the same) that are not published, since what they show
    can be misused, and its authors are to hear of it first.
    """

    given: Given
    relaying: Given
    version: str
    configuration: str
    spared: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()


class Setup(Protocol):
    """One server."""

    @property
    def name(self) -> str: ...

    def unavailable(self) -> str | None:
        """Why it can't run here; None if it can."""

    def up(self, place: Path) -> AbstractContextManager[Ready]:
        """While the context lasts, in a network of its own.  Raises TargetError."""


def given(address: tuple[str, int], maildirs: Mapping[str, Path], **more: Any) -> Given:
    """maildirs: of USERS."""
    return Given(
        smtp=address, rcpts=(f"ada@{DOMAIN}", f"bob@{DOMAIN}"), unknown=f"no-such-user@{DOMAIN}",
        relay="someone@elsewhere.example", maildirs=(maildirs["ada"], maildirs["bob"]),
        sender=f"cyd@{DOMAIN}", sender_maildir=maildirs["cyd"], names=NAMES, **more,
    )  # fmt: skip


class PeerSetup:
    """A real server, as `faultinject.peers` has it, with more switched on."""

    #: Names of Debian's packages whose versions are told.
    packages: tuple[str, ...] = ()
    #: Options of `given`: the doors.
    doors: Mapping[str, Any] = MappingProxyType({})
    #: Of `Ready`.
    spared: Mapping[str, str] = MappingProxyType({})
    lacks: Mapping[str, str] = MappingProxyType({})
    withheld: tuple[str, ...] = ()
    #: What readers of its results should know; told above its configuration.
    remarks: tuple[str, ...] = ()
    #: Whether it sends mail to other hosts at all.
    relays = True
    #: Files of its configuration that are shown.
    files: tuple[str, ...] = ()

    def __init__(self, peer: Peer, name: str) -> None:
        self.peer, self.name = peer, name

    def unavailable(self) -> str | None:
        return self.peer.unavailable()

    def version(self) -> str:
        """As dpkg says."""
        told = "${Package} ${Version}\n"
        return self.peer.run("dpkg-query", "-W", "-f", told, *self.packages).strip()

    def configuration(self) -> str:
        """The files, whole, without comments."""
        shown = ["\n".join(f"# {each}" for each in self.remarks)] if self.remarks else []
        for each in self.files:
            lines = self.peer.run("cat", each).splitlines()
            kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
            shown.append("\n".join([f"# {each}", *kept]))
        return "\n\n".join(shown).replace(PASSWORD, "***") + "\n"

    @contextmanager
    def up(self, place: Path) -> Iterator[Ready]:
        """In the network of this context."""
        site = Site(
            directory=place / self.name, hostname=HOSTNAME, domain=DOMAIN, users=USERS,
            next_hops={}, nameserver=NAMES,
        )  # fmt: skip
        self.peer.configure(site)
        try:
            self.peer.start()
            try:
                told = given((networks.OTHER, 25), self._maildirs(site), **self.doors)
                names = NAMES if self.relays else ""
                yield Ready(
                    given=told, relaying=replace(told, smtp=self.peer.address, names=names),
                    version=self.version(), configuration=self.configuration(),
                    spared=self.spared, lacks=self.lacks,
                    withheld=self.withheld,
                )  # fmt: skip
            finally:
                if self.peer.alive():
                    self.peer.stop()
        finally:
            self.peer.dispose()

    def _maildirs(self, site: Site) -> dict[str, Path]:
        """Made beforehand, since a server makes them with the first message."""
        found = {user: site.directory / "home" / user / "Maildir" for user in USERS}
        for path in found.values():
            for part in ("tmp", "new", "cur"):
                (path / part).mkdir(parents=True, exist_ok=True)
            home = path.parent.stat()
            for each in (path, *path.iterdir()):
                each.chmod(0o700)
                os.chown(each, home.st_uid, home.st_gid)
        return found


def certificate(peer: Peer, owner: str = "root") -> None:
    """A key, and a certificate that it signs itself, in the server's root."""
    peer.run("mkdir", "-p", "/etc/conform")
    peer.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj",
        f"/CN={HOSTNAME}", "-addext", f"subjectAltName=DNS:{HOSTNAME}", "-keyout", KEY, "-out",
        CERTIFICATE,
    )  # fmt: skip
    peer.run("chown", owner, CERTIFICATE, KEY)
    peer.run("chmod", "600", KEY)
