"""Debian's Exim (exim4-daemon-heavy): one configuration of ours, with all that it offers by itself,
TLS, submission and AUTH.
"""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from faultinject import networks
from faultinject.peers.exim import CONFIGURATION, ELSEWHERE
from faultinject.peers.exim import Exim as Peer
from faultinject.target import Site
from subjects.conformance.setup import (
    CERTIFICATE,
    KEY,
    PASSWORD,
    SUBMISSION,
    SUBMISSIONS,
    PeerSetup,
    certificate,
)

MAIN: Final = f"""\
daemon_smtp_ports = 25 : {SUBMISSIONS} : {SUBMISSION}
tls_on_connect_ports = {SUBMISSIONS}
tls_advertise_hosts = *
tls_certificate = {CERTIFICATE}
tls_privatekey = {KEY}
auth_advertise_hosts = ${{if eq {{$tls_in_cipher}}{{}}{{}}{{*}}}}
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
tls_require_ciphers = NORMAL:-VERS-TLS1.0:-VERS-TLS1.1
allow_domain_literals = true
acl_smtp_mail = acl_check_mail
acl_smtp_vrfy = accept
"""
#: What the fault harness shortens: here Exim's own times count.
IMPATIENT: Final = re.compile(r"^  (connect|command|data|final)_timeout = .*\n", re.MULTILINE)
#: RFC 6409 4.3: who submits must have told who he is.
MAIL: Final = """\
acl_check_mail:
  deny condition = ${if !={$received_port}{25}}
       !authenticated = *
       message = authentication required
  warn authenticated = *
       control = submission/sender_retain
  accept
acl_check_rcpt:
  accept authenticated = *
"""
#: As in Debian's own configuration: who does not exist is refused at RCPT.
KNOWN: Final = """\
  accept domains = +local_domains
         verify = recipient
  deny domains = +local_domains
       message = no such user
"""
AUTHENTICATORS: Final = """
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{ada}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{ada}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
"""


class _Peer(Peer):
    name = "conform-exim"
    recipe = replace(
        Peer.recipe, name="conform-exim",
        packages=("exim4-daemon-heavy", "dnsmasq-base", "busybox-syslogd", "openssl"),
    )  # fmt: skip

    def write_configuration(self, site: Site) -> None:
        super().write_configuration(site)
        certificate(self, "Debian-exim")
        text = CONFIGURATION.format(
            hostname=site.hostname, address=f"127.0.0.1 : {networks.OTHER}",
            domain=f"{site.domain} : {site.hostname}", routers=ELSEWHERE,
        )  # fmt: skip
        for old, new in (
            ("tls_advertise_hosts =\n", MAIN),
            ("message_size_limit = 100M\n", "message_size_limit = 10M\n"),
            ("acl_check_rcpt:\n", MAIL),
            ("  accept domains = +local_domains\n", KNOWN),
            ("  hosts_avoid_tls = *\n", "  utf8_downconvert = 0\n"),
        ):
            if old not in text:
                raise ValueError(f"exim: {old!r} is not in its configuration any more")
            text = text.replace(old, new)
        text = IMPATIENT.sub("", text)
        self.put("/etc/exim4/exim4.conf", text + AUTHENTICATORS.format(password=PASSWORD))
        self.run("chown", "root:Debian-exim", "/etc/exim4/exim4.conf")
        self.run("chmod", "640", "/etc/exim4/exim4.conf")


class Exim(PeerSetup):
    """See above."""

    packages = ("exim4-daemon-heavy",)
    files = ("/etc/exim4/exim4.conf",)
    doors = {  # noqa: RUF012
        "submission": (networks.OTHER, SUBMISSION), "tls": (networks.OTHER, SUBMISSIONS),
        "user": "ada", "password": PASSWORD,
    }  # fmt: skip

    withheld = (
        "3030-2-hexadecimal", "3030-2-negative", "4954-4-long-", "5321-2.3.8-inject-mail-cr",
        "5321-2.3.8-reply-mail-cr", "5321-4.5.3.1.4-overlong-",
    )  # fmt: skip
    lacks = MappingProxyType({"--lmtp": "its daemon speaks no LMTP"})

    def __init__(self) -> None:
        super().__init__(_Peer(), "Exim")
