"""A configuration and an architecture become a manifest (for the spawner) and a plan (for the
supervisor).  Pure: files and processes are the launcher's business.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from refmta.architectures.architecture import OWN, RECIPIENT, Architecture, CompartmentRow
from refmta.architectures.configuration import Settings, pool_rules, reserved_ids, routing_slice
from refmta.architectures.confining import is_jailed
from refmta.architectures.onward import ourselves, own_ports
from refmta.architectures.sections import Configuration
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.processes.pool import PoolSlice
from refmta.protocol.routing import LOCALHOST, VIRTUAL_OWNER
from refmta.roles import accounts, bounce, enqueue, local, qmgr, remote, smtpd

#: The owner of virtual mailboxes comes after the compartments.
VIRTUAL_PLACE = 50
ENTER = ("-I", "-m", "refmta.architectures.enter")


class Assembly(NamedTuple):
    """What a launcher needs to start an architecture."""

    manifest: dict[str, Any]
    plan: Plan
    #: compartment -> user id (and group id), None without root.
    owners: dict[str, int | None]
    #: Whom a process may become, with root.
    identities: tuple[range, ...]


def assemble(
    architecture: Architecture, settings: Settings, *, root: bool, machine: Sequence[str] = ()
) -> Assembly:
    """The manifest and the plan.  machine: its addresses, for those who listen on all of them."""
    configuration = settings.configuration
    names = [row.name for row in architecture.rows]
    base = configuration.first_uid
    owners = _owners(architecture, base if root else None)
    users = {
        name: {"uid": user.uid, "gid": user.gid, "home": user.home}
        for name, user in configuration.users.items()
    }
    users[VIRTUAL_OWNER] = {
        "uid": owners[VIRTUAL_OWNER],
        "gid": owners[VIRTUAL_OWNER],
        "home": str(settings.mail_root),
    }
    manifest = {
        "rootless": not root,
        "reserved": reserved_ids(configuration),
        "users": users,
        "compartments": [
            {
                "name": name,
                "uid": owners[name],
                "gid": owners[name],
                "per_user": architecture.row(name).per_user,
                "arguments": [*ENTER, architecture.name, name, str(settings.spool)],
            }
            for name in names
        ],
    }
    return Assembly(
        manifest,
        _plan(architecture, settings, machine),
        owners,
        _identities(configuration, owners.values()),
    )


def _identities(configuration: Configuration, known: Iterable[int | None]) -> tuple[range, ...]:
    """Who is known, and the machine's users if they have mail."""
    ids = {each for each in known if each is not None}
    ids.update(user.uid for user in configuration.users.values())
    found = [range(each, each + 1) for each in sorted(ids)]
    if any(domain.system_users for domain in configuration.domains.values()):
        start = 0
        for low, high in sorted(reserved_ids(configuration)):
            found.append(range(start, low))
            start = max(start, high)
        found.append(range(start, (1 << 32) - 1))
    return tuple(each for each in found if each)


def _owners(architecture: Architecture, base: int | None) -> dict[str, int | None]:
    """Whose each compartment is.  A row's place is its id; rows that share a user have the id of
    the first of them.  Without the layer "users" all but recipients' agents share one.
    """
    shared: dict[str, int] = {}
    owners: dict[str, int | None] = {}
    for place, row in enumerate(architecture.rows):
        whose = row.name if row.user in (OWN, RECIPIENT) else f"user {row.user}"
        if row.user != RECIPIENT and "users" not in architecture.layers:
            whose = "everyone"
        owners[row.name] = None if base is None else base + shared.setdefault(whose, place)
    owners[VIRTUAL_OWNER] = None if base is None else base + VIRTUAL_PLACE
    return owners


def _plan(architecture: Architecture, settings: Settings, machine: Sequence[str]) -> Plan:
    slices = _slices(architecture, settings, machine)
    return Plan(
        architecture=architecture.name,
        compartments=tuple(
            _compartment(number, row, slices)
            for number, row in enumerate(architecture.compartments, 1)
        ),
        channels=tuple(
            ChannelRow(
                client=row.client,
                client_role=row.client_role,
                server=row.server,
                server_role=row.server_role,
            )
            for row in architecture.talks
        ),
        draining=architecture.draining,
        operator=os.getuid(),
        max_agents=settings.configuration.limits.agents,
    )


def _compartment(number: int, row: CompartmentRow, slices: dict[str, bytes]) -> Compartment:
    given = {role: slices[role] for role in row.roles}
    if row.pooled:
        given["pool"] = slices[f"pool:{row.name}"]
    return Compartment(
        name=row.name,
        number=number,
        roles=row.roles,
        slices=given,
        per_user=row.per_user,
        pooled=row.pooled,
        ends_with=row.ends_with,
        listener=row.listener,
        lazy=row.lazy,
    )


def inside(architecture: Architecture, role: str, settings: Settings) -> str:
    """The spool, as a role's process calls it."""
    rows = [row for row in architecture.rows if role in row.roles and row.jail == "spool"]
    return "/" if any(is_jailed(architecture, row) for row in rows) else str(settings.spool)


def _slices(
    architecture: Architecture, settings: Settings, machine: Sequence[str]
) -> dict[str, bytes]:
    """Each role's own slice of the configuration, and each pool's, encoded."""
    slices = {
        **_ways_in(architecture, settings, machine),
        **_ways_out(architecture, settings, machine),
        **_pools(settings.configuration),
    }
    return {name: msgspec.msgpack.encode(each) for name, each in slices.items()}


def _ways_in(
    architecture: Architecture, settings: Settings, machine: Sequence[str]
) -> dict[str, msgspec.Struct]:
    """Slices of the roles through which mail comes, and of who answers questions."""
    configuration, limits = settings.configuration, settings.configuration.limits
    return {
        "smtpd": smtpd.Slice(
            hostname=configuration.hostname,
            message_octets=limits.message_octets,
            recipients=limits.recipients,
            errors=limits.errors,
            command_s=limits.command_s,
            data_s=limits.data_s,
            stress_s=configuration.smtpd.stress_command_s,
            verdict_s=limits.verdict_s,
            rewrites=bool(configuration.rewrite.canonical),
        ),
        # A Received line and its kin come on top of what the client may send.
        "enqueue": enqueue.Slice(
            spool=str(settings.spool),
            root=inside(architecture, "enqueue", settings),
            hostname=configuration.hostname,
            message_octets=limits.message_octets,
        ),
        "resolve": routing_slice(configuration, machine),
        "accounts": accounts.Slice(reserved=reserved_ids(configuration)),
    }


def _ways_out(
    architecture: Architecture, settings: Settings, machine: Sequence[str]
) -> dict[str, msgspec.Struct]:
    """Slices of the roles by which mail leaves the queue."""
    configuration = settings.configuration
    return {
        "qmgr": qmgr.Slice(
            spool=inside(architecture, "qmgr", settings),
            hostname=configuration.hostname,
            lifetime_s=configuration.limits.lifetime_s,
            retry_minimum_s=configuration.retry.minimum_s,
            retry_maximum_s=configuration.retry.maximum_s,
            delay_warning_s=configuration.reports.delay_warning_s,
            copies=configuration.reports.postmaster,
            postmaster=configuration.postmaster,
            remote_workers=configuration.remote.max_workers,
            per_destination=configuration.relay.per_destination,
            rewrites=bool(configuration.rewrite.generic),
        ),
        "local": local.Slice(
            hostname=configuration.hostname, idle_s=configuration.limits.agent_idle_s
        ),
        "remote": remote.Slice(
            hostname=configuration.hostname,
            port=configuration.relay.port,
            own=(LOCALHOST, *map(str, ourselves(configuration, machine))),
            own_ports=own_ports(configuration),
            nameservers=configuration.relay.nameservers,
            timeouts_factor=configuration.relay.timeout_factor,
        ),
        "bounce": bounce.Slice(
            hostname=configuration.hostname, postmaster=configuration.postmaster
        ),
    }


def _pools(configuration: Configuration) -> dict[str, msgspec.Struct]:
    """The rules of each pool, by its compartment."""
    return {
        "pool:smtpd": PoolSlice(
            rules=pool_rules(configuration.smtpd),
            connections_per_client=configuration.limits.connections_per_client,
            trusted=configuration.trusted,
        ),
        "pool:remote": PoolSlice(rules=pool_rules(configuration.remote)),
    }
