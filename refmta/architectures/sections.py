"""The tables of the configuration file, as types: each key with its bounds and its default.

What the types can't say is in `configuration.contradictions`.  A number's precedent stands where
the role that uses it has the number; docs/operating.md tells operators what each key does.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400 * 30)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Workers = Annotated[int, msgspec.Meta(ge=1, le=2000)]
Spare = Annotated[int, msgspec.Meta(ge=0, le=2000)]
UserId = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
#: Where the compartments' users begin: a range that Debian and systemd leave unused.
FIRST_UID = 1_900_000_000


_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?\Z")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Domain(Section, frozen=True):
    """A local domain."""

    mailboxes: tuple[str, ...] = ()
    system_users: bool = False
    aliases: dict[str, tuple[str, ...]] = {}
    catch_all: str = ""


class User(Section, frozen=True):
    """A recipient user who needs no account on the machine."""

    uid: UserId
    gid: UserId
    home: str


class Limits(Section, frozen=True):
    """A number on everything."""

    message_octets: Annotated[int, msgspec.Meta(ge=65536, le=2**32)] = 50 * 1024 * 1024
    recipients: Annotated[int, msgspec.Meta(ge=100, le=1000)] = 1000
    errors: Count = 10
    connections_per_client: Count = 50
    command_s: Seconds = 300.0
    data_s: Seconds = 300.0
    verdict_s: Seconds = 300.0
    agents: Count = 50
    agent_idle_s: Seconds = 300.0
    lifetime_s: Annotated[int, msgspec.Meta(ge=3600, le=86400 * 30)] = 5 * 86400


class Pool(Section, frozen=True):
    """Workers of smtpd."""

    max_workers: Workers = 100
    max_uses: Count = 500
    max_age_s: Seconds = 3600.0
    max_idle_s: Seconds = 100.0
    spare: Spare = 2
    max_session_s: Seconds = 18000.0
    stress_command_s: Seconds = 10.0


class Remote(Section, frozen=True):
    """Workers of remote: one serves one destination, so that it never holds two strangers' mail."""

    max_workers: Workers = 100
    max_uses: Count = 1
    max_age_s: Seconds = 3600.0
    max_idle_s: Seconds = 100.0
    spare: Spare = 0
    max_session_s: Seconds = 18000.0


class Relay(Section, frozen=True):
    """Who may send to other hosts, and how mail gets there.

    timeout_factor: of the times of RFC 5321 4.5.3.2, which are its minima.
    """

    networks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    next_hops: dict[str, str] = {}
    smarthost: str = ""
    port: Port = 25
    per_destination: Annotated[int, msgspec.Meta(ge=1, le=2000)] = 20
    nameservers: tuple[str, ...] = ()
    timeout_factor: Annotated[float, msgspec.Meta(gt=0, le=10)] = 1.0


class Reports(Section, frozen=True):
    """Who is told what about mail that could not be delivered.  delay_warning_s: 0 for never."""

    postmaster: tuple[Literal["failed", "double"], ...] = ("double",)
    delay_warning_s: Annotated[int, msgspec.Meta(ge=0, le=86400 * 30)] = 4 * 3600


class Retry(Section, frozen=True):
    """When remote delivery is tried again."""

    minimum_s: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 300
    maximum_s: Annotated[int, msgspec.Meta(ge=1, le=86400 * 7)] = 4000


Rows = Annotated[dict[str, str], msgspec.Meta(max_length=10_000)]


class Rewrite(Section, frozen=True):
    """Which address stands for which in an envelope; `protocol.rewriting` says why so many."""

    canonical: Rows = {}
    virtual: Annotated[dict[str, tuple[str, ...]], msgspec.Meta(max_length=10_000)] = {}
    generic: Rows = {}


class Sendmail(Section, frozen=True):
    """What only a monolith asks: its delivery mode, whether it syncs before it answers, whether
    its processes give root up, and how often its runner goes through the queue.
    """

    delivery_mode: Literal["background", "interactive", "queue"] = "background"
    super_safe: Literal["true", "interactive", "false"] = "true"
    run_as_user: bool = False
    queue_interval_s: Seconds = 1800.0


class Configuration(Section, frozen=True):
    """The file."""

    hostname: str
    postmaster: str
    domains: dict[str, Domain]
    listen: tuple[str, ...] = ("0.0.0.0:25", "[::]:25")
    spool: str = "/var/spool/refmta"
    mail_root: str = ""
    users: dict[str, User] = {}
    trusted: tuple[str, ...] = ()
    separator: Annotated[str, msgspec.Meta(max_length=1)] = "+"
    first_uid: UserId = FIRST_UID
    limits: Limits = Limits()
    smtpd: Pool = Pool()
    relay: Relay = Relay()
    rewrite: Rewrite = Rewrite()
    sendmail: Sendmail = Sendmail()
    remote: Remote = Remote()
    reports: Reports = Reports()
    retry: Retry = Retry()


# -- addresses ------------------------------------------------------------------------------------


def parse_listen(text: str) -> tuple[str, int]:
    """("address", port), port 0 for any.  Raises ValueError."""
    return parse_endpoint(text)


def parse_endpoint(text: str, port: int | None = None) -> tuple[str, int]:
    """("address", port); without a default the port must be there.  Raises ValueError."""
    match = _ENDPOINT.match(text)
    if match is None or (match[3] is None and port is None):
        raise ValueError(f'{text!r}: should look like "127.0.0.1:25" or "[::1]:25"')
    address = match[1] or match[2]
    number = int(match[3]) if match[3] else port or 0
    ipaddress.ip_address(address)
    if not 0 <= number <= 65535:
        raise ValueError(f"{text!r}: no such port")
    return address, number
