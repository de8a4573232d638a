"""Debian's Postfix: Debian's configuration for an Internet site, with TLS, submission and AUTH."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from faultinject import networks
from faultinject.peers.postfix import SETTINGS as BASE
from faultinject.peers.postfix import Postfix as Peer
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

SETTINGS: Final = {
    "inet_interfaces": f"127.0.0.1, {networks.OTHER}",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_cert_file": CERTIFICATE,
    "smtpd_tls_key_file": KEY,
    "smtp_tls_security_level": "may",
    "message_size_limit": "10240000",  # Postfix's own default
    "smtpd_sasl_path": "smtpd",
    "smtpd_sasl_type": "cyrus",
    "smtpd_forbid_bare_newline": "reject",  # the default of 3.7 is no; CVE-2023-51764
    "smtpd_tls_protocols": ">=TLSv1.2",
    "smtpd_tls_mandatory_protocols": ">=TLSv1.2",
    "smtp_tls_protocols": ">=TLSv1.2",
    "smtpd_delay_reject": "no",
    "smtpd_helo_restrictions": "reject_invalid_helo_hostname",
    "strict_smtputf8": "yes",
    "allow_min_user": "yes",
    "smtp_skip_quit_response": "no",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
}
#: What the fault harness shortens: here Postfix's own times count.
IMPATIENT: Final = tuple(key for key in BASE if key.startswith("smtp_") and "_timeout" in key)
SASL: Final = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n"
#: Services beside the one on port 25; -n: not in a jail, where the password file is not.
SERVICES: Final = (
    ("submission", "smtpd_tls_security_level=encrypt"),
    ("submissions", "smtpd_tls_wrappermode=yes"),
)


class _Peer(Peer):
    name = "conform-postfix"
    recipe = replace(
        Peer.recipe, name="conform-postfix",
        packages=(*Peer.recipe.packages, "libsasl2-modules", "sasl2-bin", "openssl"),
    )  # fmt: skip

    def __init__(self, **changed: str) -> None:
        super().__init__()
        self.settings = {**SETTINGS, **changed}

    def write_configuration(self, site: Site) -> None:
        super().write_configuration(site)
        certificate(self)
        self.run("postconf", "-X", *IMPATIENT)
        self.run("postconf", "-e", *(f"{key}={value}" for key, value in self.settings.items()))
        self.put("/etc/postfix/sasl/smtpd.conf", SASL)
        self.run("saslpasswd2", "-p", "-c", "-u", HOSTNAME, "ada", stdin=PASSWORD)
        self.run("saslpasswd2", "-p", "-c", "-u", DOMAIN, "ada", stdin=PASSWORD)
        self.run("chown", "root:postfix", "/etc/sasldb2")
        self.run("chmod", "640", "/etc/sasldb2")
        for name, setting in SERVICES:
            self.run("postconf", "-M", f"{name}/inet={name} inet n - n - - smtpd")
            options = (
                "smtpd_sasl_auth_enable=yes", setting,
                "smtpd_relay_restrictions=permit_sasl_authenticated,reject",
                "smtpd_recipient_restrictions=permit_sasl_authenticated,reject",
                "local_header_rewrite_clients=permit_sasl_authenticated",
            )  # fmt: skip
            for each in options:
                key, _, value = each.partition("=")
                self.run("postconf", "-P", f"{name}/inet/{key}={value}")


class Postfix(PeerSetup):
    """See above.  changed: settings of main.cf that are to be others."""

    packages = ("postfix",)
    files = ("/etc/postfix/main.cf", "/etc/postfix/master.cf")
    doors = {  # noqa: RUF012
        "submission": (networks.OTHER, SUBMISSION), "tls": (networks.OTHER, SUBMISSIONS),
        "user": "ada", "password": PASSWORD,
    }  # fmt: skip

    lacks = MappingProxyType({"--lmtp": "its package has no LMTP server"})
    remarks = (
        "smtpd_forbid_bare_newline is not on by default in 3.7; without it some 30 cases about a"
        " bare LF fail (CVE-2023-51764).",
    )

    def __init__(self, **changed: str) -> None:
        super().__init__(_Peer(**changed), "Postfix")
