"""refmta, as this tree has it, in a network of its own like the others.  It speaks no TLS, and has
neither AUTH nor submission.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from faultinject import networks
from faultinject.target import Site
from subjects.conformance.setup import DOMAIN, HOSTNAME, NAMES, USERS, Ready, given
from subjects.target import FIRST_RECIPIENT
from subjects.target import Refmta as Target

LACKS: Final = {
    "--submission": "it has no submission port", "--tls": "it has no TLS",
    "--lmtp": "its LMTP server has no port", "--user": "it has no AUTH",
}  # fmt: skip
CONFIGURATION: Final = """\
hostname = "{hostname}"
postmaster = "postmaster@{domain}"
listen = ["127.0.0.1:25", "{other}:25"]
spool = "{spool}"
[smtpd]
max_uses = 20
[relay]
networks = ["127.0.0.0/8"]
nameservers = ["{names}:53"]
[retry]
minimum_s = 1
maximum_s = 8
"""


class _Target(Target):
    def configure(self, site: Site) -> None:
        self.site, self.address = site, ("127.0.0.1", 25)
        site.directory.mkdir(exist_ok=True)
        site.directory.chmod(0o711)
        text = CONFIGURATION.format(
            hostname=HOSTNAME, domain=DOMAIN, other=networks.OTHER, spool=self.spool, names=NAMES
        )
        self._configuration.write_text(text + self._mailbox_rows(site), encoding="utf-8")

    @property
    def told(self) -> str:
        """Its configuration."""
        return self._configuration.read_text(encoding="utf-8")


class Refmta:
    """See above."""

    name = "refmta"

    def __init__(self) -> None:
        self._target = _Target()

    def unavailable(self) -> str | None:
        if os.geteuid() != 0:
            return "a network of its own needs root"
        return self._target.unavailable()

    @contextmanager
    def up(self, place: Path) -> Iterator[Ready]:
        """In the network of this context."""
        directory = place / self.name
        site = Site(
            directory=directory, hostname=HOSTNAME, domain=DOMAIN, users=USERS, next_hops={},
            nameserver=NAMES,
        )  # fmt: skip
        target = self._target
        target.configure(site)
        maildirs = {}
        for uid, user in enumerate(USERS, FIRST_RECIPIENT):
            maildirs[user] = directory / "home" / user / "Maildir"
            for part in ("tmp", "new", "cur"):
                (maildirs[user] / part).mkdir(parents=True, exist_ok=True)
            for each in (maildirs[user], *maildirs[user].iterdir()):
                each.chmod(0o700)
                os.chown(each, uid, uid)
        target.start()
        try:
            told = given((networks.OTHER, 25), maildirs)
            yield Ready(
                given=told, relaying=given(target.address, maildirs),
                version=f"refmta {version('refmta')}",
                lacks=LACKS, configuration=target.told.replace(str(place), "/srv"),
            )  # fmt: skip
        finally:
            target.stop()
            target.dispose()
