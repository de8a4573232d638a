"""A configuration and an architecture become a manifest (for the spawner) and a plan (for the
supervisor).  Pure: files and processes are the launcher's business.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import msgspec

from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.configuration import Settings, pool_rules, reserved_ids, routing_slice
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.processes.pool import PoolSlice
from refmta.protocol.routing import VIRTUAL_OWNER
from refmta.roles import enqueue, local, qmgr, smtpd

#: The owner of virtual mailboxes comes after the compartments.
VIRTUAL_PLACE = 50
ENTER = ("-I", "-m", "refmta.architectures.enter")


class Assembly(NamedTuple):
    """What a launcher needs to start an architecture."""

    manifest: dict[str, Any]
    plan: Plan
    #: compartment -> user id (and group id), None without root.
    owners: dict[str, int | None]


def assemble(architecture: Architecture, settings: Settings, *, root: bool) -> Assembly:
    """The manifest and the plan."""
    configuration = settings.configuration
    names = ["supervisor", *(row.name for row in architecture.compartments)]
    base = configuration.first_uid
    owners = {name: base + place if root else None for place, name in enumerate(names)}
    owners[VIRTUAL_OWNER] = base + VIRTUAL_PLACE if root else None
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
                "per_user": any(r.per_user for r in architecture.compartments if r.name == name),
                "arguments": [*ENTER, architecture.name, name],
            }
            for name in names
        ],
    }
    return Assembly(manifest, _plan(architecture, settings), owners)


def _plan(architecture: Architecture, settings: Settings) -> Plan:
    slices = _slices(settings)
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
    wanted = (*(("pool",) if row.pooled else ()), *row.roles)
    return Compartment(
        name=row.name,
        number=number,
        roles=row.roles,
        slices={role: slices[role] for role in wanted},
        per_user=row.per_user,
        pooled=row.pooled,
        ends_with=row.ends_with,
        listener=row.listener,
    )


def _slices(settings: Settings) -> dict[str, bytes]:
    """Each role's own slice of the configuration, encoded."""
    configuration = settings.configuration
    limits, spool = configuration.limits, str(settings.spool)
    slices: dict[str, msgspec.Struct] = {
        "smtpd": smtpd.Slice(
            hostname=configuration.hostname,
            message_octets=limits.message_octets,
            recipients=limits.recipients,
            errors=limits.errors,
            command_s=limits.command_s,
            data_s=limits.data_s,
            verdict_s=limits.verdict_s,
        ),
        "pool": PoolSlice(
            rules=pool_rules(configuration),
            connections_per_client=limits.connections_per_client,
            trusted=configuration.trusted,
        ),
        # A Received line and its kin come on top of what the client may send.
        "enqueue": enqueue.Slice(
            spool=spool,
            hostname=configuration.hostname,
            message_octets=limits.message_octets,
        ),
        "qmgr": qmgr.Slice(spool=spool, lifetime_s=limits.lifetime_s),
        "local": local.Slice(hostname=configuration.hostname, idle_s=limits.agent_idle_s),
        "resolve": routing_slice(configuration),
    }
    return {role: msgspec.msgpack.encode(each) for role, each in slices.items()}
