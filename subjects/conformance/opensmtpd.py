"""Debian's OpenSMTPD, without TLS, and so without AUTH and submission, which it offers only there:
its process for private keys does not work with the OpenSSL 3 of Debian 12 (every handshake of
6.8.0p2-4+b4 ends with an internal error, with RSA and EC keys, TLS 1.2 and 1.3).  For the same
reason no next hop offers it TLS.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from faultinject import networks
from faultinject.peers.opensmtpd import Opensmtpd as Peer
from faultinject.target import Site
from subjects.conformance.setup import PeerSetup

WITHOUT_TLS: Final = "its TLS does not work with Debian's OpenSSL 3"
CONFIGURATION: Final = """\
# without TLS: its handshakes fail with Debian's OpenSSL 3
listen on {address} port 25 hostname {hostname}
listen on {other} port 25 hostname {hostname}
action "mailbox" maildir "~/Maildir"
action "elsewhere" relay backup mx "{hostname}"
match from any for domain {{ "{domain}", "{hostname}" }} action "mailbox"
match from src {{ 127.0.0.0/8 }} for any action "elsewhere"
match from socket for any action "elsewhere"
"""


class _Peer(Peer):
    name = "conform-opensmtpd"
    recipe = replace(Peer.recipe, name="conform-opensmtpd")

    def write_configuration(self, site: Site) -> None:
        super().write_configuration(site)
        text = CONFIGURATION.format(
            address=self.address[0], other=networks.OTHER, hostname=site.hostname,
            domain=site.domain,
        )  # fmt: skip
        self.put("/etc/smtpd.conf", text)


class Opensmtpd(PeerSetup):
    """See above."""

    packages = ("opensmtpd",)
    files = ("/etc/smtpd.conf",)
    spared = MappingProxyType(dict.fromkeys(("3207", "7672", "8689"), WITHOUT_TLS))

    withheld = (
        "5321-4.1.1.4-end-cr-nul-lf-crlf", "5321-4.1.1.4-end-crlf-dot-nul-crlf",
        "5321-4.5.2-octets-nul",
    )  # fmt: skip
    lacks = MappingProxyType(
        {
            **dict.fromkeys(("--submission", "--tls", "--user"), WITHOUT_TLS),
            "--lmtp": "its daemon speaks no LMTP",
        }
    )

    def __init__(self) -> None:
        super().__init__(_Peer(), "OpenSMTPD")
