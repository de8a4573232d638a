"""A configuration and an architecture become a manifest (for the spawner) and a plan (for the
supervisor).  Pure: files and processes are the launcher's business.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from refmta.architectures.architecture import (
    OWN,
    RECIPIENT,
    ROOT,
    Architecture,
    CompartmentRow,
)
from refmta.architectures.configuration import Settings, reserved_ids
from refmta.architectures.sections import Configuration
from refmta.architectures.slices import Slices
from refmta.processes.plan import ChannelRow, Compartment, Plan
from refmta.protocol.routing import VIRTUAL_OWNER
from refmta.stores.recipients import Recipients, recipients

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
    owners = _owners(architecture, configuration, base if root else None)
    users = {
        name: {"uid": user.uid, "gid": user.gid, "home": user.home}
        for name, user in configuration.users.items()
    }
    users[VIRTUAL_OWNER] = {
        "uid": owners[VIRTUAL_OWNER],
        "gid": owners[VIRTUAL_OWNER],
        "home": str(settings.mail_root),
    }
    if configuration.sendmail.run_as_user:
        users[VIRTUAL_OWNER]["compartments"] = True
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
                "privileged": owners[name] == 0,
                "arguments": [*ENTER, architecture.name, name, str(settings.spool)],
            }
            for name in names
        ],
    }
    return Assembly(
        manifest,
        _plan(architecture, settings, recipients(manifest), machine),
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


def _owners(
    architecture: Architecture, configuration: Configuration, base: int | None
) -> dict[str, int | None]:
    """Whose each compartment is.  A row's place is its id; rows that share a user have the id of
    the first of them.  Without the layer "users" all but recipients' agents share one, unless they
    are root's; and of these, those that become nobody else stay root only if the configuration
    does not say run_as_user: then mailboxes without an account are theirs, since they can't become
    another owner.
    """
    shared: dict[str, int] = {}
    owners: dict[str, int | None] = {}
    for place, row in enumerate(architecture.rows):
        whose = row.name if row.user in (OWN, RECIPIENT) else f"user {row.user}"
        if row.user != RECIPIENT and "users" not in architecture.layers:
            whose = "everyone"
        owners[row.name] = None if base is None else base + shared.setdefault(whose, place)
        if row.user == ROOT and base is not None:
            stays = row.becomes or not configuration.sendmail.run_as_user
            owners[row.name] = 0 if stays else owners[row.name]
    owners[VIRTUAL_OWNER] = None if base is None else base + VIRTUAL_PLACE
    if configuration.sendmail.run_as_user:
        for row in architecture.rows:
            if row.user == ROOT and not row.becomes:
                owners[VIRTUAL_OWNER] = owners[row.name]
    return owners


def _plan(
    architecture: Architecture, settings: Settings, table: Recipients, machine: Sequence[str]
) -> Plan:
    return Plan(
        architecture=architecture.name,
        compartments=tuple(
            _compartment(architecture, number, row, Slices(architecture, settings, table, machine))
            for number, row in enumerate(architecture.compartments, 1)
        ),
        channels=tuple(
            ChannelRow(
                client=row.client,
                client_role=row.client_role,
                server=row.server,
                server_role=row.server_role,
                carrier=row.carrier,
                fresh=row.fresh,
            )
            for row in architecture.talks
            if row.client != row.server
        ),
        draining=architecture.draining,
        operator=os.getuid(),
        max_agents=settings.configuration.limits.agents,
    )


def _compartment(
    architecture: Architecture, number: int, row: CompartmentRow, slices: Slices
) -> Compartment:
    talks = [each for each in architecture.talks if each.client == each.server == row.name]
    return Compartment(
        name=row.name,
        number=number,
        roles=row.roles,
        slices=slices.of(row),
        per_user=row.per_user,
        pooled=row.pooled,
        ends_with=row.ends_with,
        listener=row.listener,
        lazy=row.lazy,
        within=tuple((each.client_role, each.server_role) for each in talks),
    )
