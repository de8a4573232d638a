"""Debian's sendmail, with TLS, submission and AUTH."""

from __future__ import annotations

import re
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from faultinject import networks
from faultinject.peers.sendmail import CONFIGURATION
from faultinject.peers.sendmail import Sendmail as Peer
from faultinject.target import Site
from subjects.conformance.setup import (
    CERTIFICATE,
    DOMAIN,
    HOSTNAME,
    KEY,
    PASSWORD,
    SUBMISSION,
    SUBMISSIONS,
    PeerSetup,
    certificate,
)

MORE: Final = f"""\
DAEMON_OPTIONS(`Family=inet, Name=MTA-o, Port=smtp, Addr={networks.OTHER}, Listen=128')dnl
DAEMON_OPTIONS(`Family=inet, Name=MSP, Port={SUBMISSION}, Addr={networks.OTHER}, M=Ea')dnl
DAEMON_OPTIONS(`Family=inet, Name=TLS, Port={SUBMISSIONS}, Addr={networks.OTHER}, M=Eas')dnl
define(`confCACERT', `{CERTIFICATE}')dnl
define(`confCACERT_PATH', `/etc/conform')dnl
define(`confSERVER_CERT', `{CERTIFICATE}')dnl
define(`confSERVER_KEY', `{KEY}')dnl
define(`confCLIENT_CERT', `{CERTIFICATE}')dnl
define(`confCLIENT_KEY', `{KEY}')dnl
define(`confAUTH_MECHANISMS', `PLAIN LOGIN')dnl
TRUST_AUTH_MECH(`PLAIN LOGIN')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`confAUTH_OPTIONS', `A p y')dnl
define(`confMAX_MESSAGE_SIZE', `10485760')dnl
define(`SMTP_MAILER_LL', `998')dnl
FEATURE(`access_db')dnl
"""
#: What the fault harness shortens: here its own times count.
IMPATIENT: Final = re.compile(r"^define\(`confTO_(?!IDENT|QUEUE).*\n", re.MULTILINE)
SASL: Final = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n"


class _Peer(Peer):
    name = "conform-sendmail"
    recipe = replace(
        Peer.recipe, name="conform-sendmail",
        packages=(*Peer.recipe.packages, "libsasl2-modules", "sasl2-bin", "openssl"),
    )  # fmt: skip

    def write_configuration(self, site: Site) -> None:
        super().write_configuration(site)
        certificate(self)
        text = CONFIGURATION.format(
            address=self.address[0], hostname=site.hostname, domain=site.domain, switch="",
            mailers="", rules="",
        )  # fmt: skip
        text = IMPATIENT.sub("", text)
        text = text.replace("FEATURE(`use_cw_file')dnl\n", MORE + "FEATURE(`use_cw_file')dnl\n")
        text = text.replace("FEATURE(`relay_entire_domain')dnl\n", "")
        self.put("/etc/mail/conform.mc", text)
        self.put("/etc/mail/sendmail.cf", self.run("m4", stdin=text))
        self.put("/etc/mail/access", "Connect:127 RELAY\n")
        self.run("makemap", "hash", "/etc/mail/access.db", stdin="Connect:127 RELAY\n")
        self.run("mkdir", "-p", "/etc/sasl2")
        self.put("/etc/sasl2/Sendmail.conf", SASL)
        for realm in (HOSTNAME, DOMAIN):
            self.run("saslpasswd2", "-p", "-c", "-u", realm, "ada", stdin=PASSWORD)
        self.run("chown", "root:smmta", "/etc/sasldb2")
        self.run("chmod", "640", "/etc/sasldb2")


class Sendmail(PeerSetup):
    """See above."""

    packages = ("sendmail-bin",)
    files = ("/etc/mail/conform.mc",)
    doors = {  # noqa: RUF012
        "submission": (networks.OTHER, SUBMISSION), "tls": (networks.OTHER, SUBMISSIONS),
        "user": "ada", "password": PASSWORD,
    }  # fmt: skip

    withheld = (
        "3461-4.2-orcpt-encoded-", "3461-4.4-envid-encoded-", "3461-6.3-injection-",
        "5321-2.3.8-inject-", "5321-2.3.8-reply-", "5321-4.1.2-mail-control-",
    )  # fmt: skip
    lacks = MappingProxyType({"--lmtp": "its daemon speaks no LMTP"})
    remarks = (
        "accept_unresolvable_domains is ours, since only the suite's names exist here: it switches"
        " off a check that refuses most sender domains of wrong syntax.",
        "The clock is in UTC, which it calls GMT in its dates.",
    )

    def __init__(self) -> None:
        super().__init__(_Peer(), "sendmail")
