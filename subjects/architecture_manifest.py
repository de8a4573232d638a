"""What a running refmta should be, from its architecture: the manifest that claims are held
against.

It is made from the rows (`refmta.architectures`) and the configuration of this start, never by
looking at the running system. What is new here is the names of processes: a pool is three kinds of
them, and a row of the architecture's talks becomes the pairs that really hold its two ends.

- A client that is a pool talks by its workers; its parent holds a line by which it introduces them.
- A server that is a pool is called by way of its parent, which hands the call to a worker.
- Who waits for its first use is stood in for by the supervisor, which holds its ends and reads
  nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow
from refmta.architectures.assemble import assemble
from refmta.architectures.configuration import Settings
from refmta.architectures.confining import directory, is_jailed
from refmta.architectures.slices import Slices
from refmta.patterns import low_level_coding, small_modules
from refmta.patterns.chroot_jail import EMPTY
from refmta.stores.mailboxes import OWN_MBOX
from refmta.stores.recipients import Recipients
from specs.patterns import attacks
from specs.patterns.manifest import (
    Asset,
    Budget,
    Compartment,
    Manifest,
    Marker,
    Owned,
    PoolRules,
    Talk,
)
from subjects import hostile_frames, rewriting
from subjects.descriptors import allowed
from subjects.parts import between, ends, parts, working

SPAWNER: Final = "spawner"
#: CAP_KILL, CAP_SETGID, CAP_SETUID.
SPAWNER_CAPABILITIES: Final = 1 << 5 | 1 << 6 | 1 << 7
#: What a role is exposed to, beyond its peers.
FACES: Final = {
    "smtpd": ("network", "smtp"),
    "remote": ("network", "smtp", "dns"),
}
#: All bits that a kernel of today has.
EVERY_CAPABILITY: Final = (1 << 41) - 1


@dataclass(frozen=True, slots=True)
class Planted:
    """Texts that occur nowhere else, for the configuration.

    mailbox: a virtual one. next_hop: a domain that has one. home: the last part of a user's home
    directory. trusted: a client that is, by its address. nameserver: whom nobody has to ask.
    """

    mailbox: str = field(default_factory=lambda: f"m{secrets.token_hex(8)}")
    next_hop: str = field(default_factory=lambda: f"h{secrets.token_hex(8)}.test")
    home: str = field(default_factory=lambda: f"u{secrets.token_hex(8)}")
    trusted: str = field(
        default_factory=lambda: f"2001:db8::1{secrets.token_hex(1)}:1{secrets.token_hex(1)}"
    )

    nameserver: str = field(
        default_factory=lambda: f"2001:db8::2{secrets.token_hex(1)}:1{secrets.token_hex(1)}"
    )

    def markers(self, architecture: Architecture) -> tuple[Marker, ...]:
        """Each with who needs it. The supervisor hands the slices out, so it has all of those."""
        rows = architecture.compartments
        resolving = tuple(row.name for row in rows if "resolve" in row.roles)
        sending = tuple(row.name for row in rows if "remote" in row.roles)
        accepting = tuple(row.name for row in rows if row.listener)
        # Whoever becomes its recipients must know where they live.
        becoming = tuple(row.name for row in rows if "local" in row.roles and not row.per_user)
        told = ("supervisor",) if becoming else ()
        return (
            Marker(name="a mailbox", text=self.mailbox, holders=("supervisor", *resolving)),
            Marker(name="a next hop", text=self.next_hop, holders=("supervisor", *resolving)),
            Marker(name="a user's home", text=self.home, holders=(SPAWNER, *told, *becoming)),
            Marker(name="a name server", text=self.nameserver, holders=("supervisor", *sending)),
            Marker(name="a trusted client", text=self.trusted, holders=("supervisor", *accepting)),
        )


def manifest(
    architecture: Architecture,
    settings: Settings,
    planted: Planted,
    recipients: Mapping[str, int],
) -> Manifest:
    """Of an architecture that was started with those settings as root, for recipients (name ->
    user id) that the configuration has."""
    assembly = assemble(architecture, settings, root=True)
    spool = settings.spool
    homes = {name: settings.configuration.users[name].home for name in recipients}
    return Manifest(
        architecture=architecture.name,
        layers=architecture.layers,
        compartments=(
            _spawner(architecture, settings),
            *(
                _compartment(architecture, row, settings, assembly.owners[row.name])
                for row in architecture.rows
            ),
        ),
        talks=tuple(sorted(set(talks(architecture)), key=lambda each: (each.client, each.server))),
        recipients=dict(recipients),
        owned=tuple(_owned(architecture, spool, assembly.owners, homes, recipients)),
        privileged=(SPAWNER, *_privileged(architecture)),
        assets=tuple(_assets(architecture, settings, homes)),
        markers=planted.markers(architecture),
        victims=_victims(architecture),
        budgets=budgets(architecture),
        rooms=low_level_coding.rooms(),
        facts={
            **hostile_frames.facts(architecture),
            **rewriting.facts(architecture, settings.configuration),
        },
    )


# -- compartments ---------------------------------------------------------------------------------


def _privileged(architecture: Architecture) -> Iterator[str]:
    """The names of the processes that the architecture makes root's."""
    for row in architecture.compartments:
        if row.user == ROOT:
            yield from (part for part in parts(row) if part not in _becoming(row))


def _becoming(row: CompartmentRow) -> tuple[str, ...]:
    """The parts that become the user whom their session is for."""
    return (working(row),) if row.becomes else ()


def _victims(architecture: Architecture) -> dict[str, str]:
    """Who does the jobs that an attacker seizes; in the monolith one process does them all."""
    roles = zip(attacks.VICTIMS, ("smtpd", "remote", "enqueue"), strict=True)
    return {job: working(_with(architecture, role)) for job, role in roles}


def _with(architecture: Architecture, role: str) -> CompartmentRow:
    """The first compartment that has a role."""
    return next(each for each in architecture.compartments if role in each.roles)


def budgets(architecture: Architecture) -> dict[str, Budget]:
    """By its roles, and by what the architecture asks of them besides."""
    fixed = (SPAWNER, "supervisor")
    given = {name: small_modules.BUDGETS[name] for name in fixed}
    for row in architecture.compartments:
        ends = [e for e in architecture.talks if row.name in (e.client, e.server)]
        given[row.name] = small_modules.budget(
            row.roles,
            pooled=row.pooled,
            store=architecture.store,
            mailbox=architecture.mailbox,
            carriers=[each.carrier for each in ends],
        )
    return {
        name: Budget(own_lines=each.own_lines, lines=each.lines, modules=each.modules)
        for name, each in given.items()
    }


def _spawner(architecture: Architecture, settings: Settings) -> Compartment:
    free = any(row.user == ROOT for row in architecture.compartments)
    return Compartment(
        name=SPAWNER,
        parts=(SPAWNER,),
        user=0,
        capabilities=EVERY_CAPABILITY if free else SPAWNER_CAPABILITIES,
        jail="none",
        root="/",
        reads=("/",),
        network=True,
        descriptors=allowed(architecture, SPAWNER, settings),
        reason="it makes the other processes, each with its user, from the user database",
    )


def _compartment(
    architecture: Architecture, row: CompartmentRow, settings: Settings, user: int | None
) -> Compartment:
    place = directory(row, str(settings.spool))
    return Compartment(
        name=row.name,
        parts=parts(row),
        user=None if row.per_user else user,
        becomes=_becoming(row),
        # Who becomes its session's user serves no other.
        fleeting=_becoming(row),
        roles=row.roles,
        capabilities=EVERY_CAPABILITY if row.user == ROOT else 0,
        jail=row.jail,
        root="" if row.jail == "home" else (place if is_jailed(architecture, row) else "/"),
        reads=_paths(row, settings, row.reads),
        changes=_paths(row, settings, row.changes),
        network=row.network,
        listener=row.listener,
        lazy=row.lazy,
        per_user=row.per_user,
        pool=_rules(architecture, settings, row) if row.pooled else None,
        faces=tuple(dict.fromkeys(face for role in row.roles for face in FACES.get(role, ()))),
        descriptors=allowed(architecture, row.name, settings),
        reason=row.reason,
    )


def _paths(row: CompartmentRow, settings: Settings, below: tuple[str, ...]) -> tuple[str, ...]:
    """Seen from outside; of what is below a recipient's home nothing is said here."""
    place = directory(row, str(settings.spool))
    if place == ".":
        return ()
    root = settings.spool if row.jail == "none" else Path(place)
    free = row.jail == "none"
    return tuple("/" if free and e == "/" else str(root / e.lstrip("/")) for e in below)


def _rules(architecture: Architecture, settings: Settings, row: CompartmentRow) -> PoolRules:
    rules = Slices(architecture, settings, Recipients()).pool(row).terms()
    return PoolRules(
        max_workers=rules.max_workers,
        max_uses=rules.max_uses,
        max_age_s=rules.max_age_s,
        max_idle_s=rules.max_idle_s,
    )


# -- talks ----------------------------------------------------------------------------------------


def talks(architecture: Architecture) -> Iterator[Talk]:
    """Who may hold two ends of one channel."""
    yield Talk(client="supervisor", server=SPAWNER)
    for row in architecture.compartments:
        yield Talk(client=row.name, server="supervisor")
        if row.pooled:
            parent, template, worker = parts(row)
            yield Talk(client=parent, server=template)
            yield Talk(client=worker, server=parent)
    for each in between(architecture):
        client, server = architecture.row(each.client), architecture.row(each.server)
        for one in ends(client):
            for other in ends(server):
                yield Talk(client=one, server=other)
            if server.lazy:
                yield Talk(client=one, server="supervisor")


# -- files ----------------------------------------------------------------------------------------


def _owned(
    architecture: Architecture,
    spool: Path,
    owners: Mapping[str, int | None],
    homes: Mapping[str, str],
    recipients: Mapping[str, int],
) -> Iterator[Owned]:
    yield Owned(path=str(spool), owner=0, group=0, mode=0o711)
    if "jail" in architecture.layers:
        yield Owned(path=str(spool / EMPTY), owner=0, group=0, mode=0o555, below=True)
    for row in architecture.directories:
        owner, group = owners[row.owner] or 0, owners[row.group] or 0
        path = str(spool / row.path)
        yield Owned(path=path, owner=owner, group=group, mode=row.mode, below=True)
    for name, home in homes.items():
        user = recipients[name]
        if architecture.mailbox == "maildir":
            yield Owned(path=f"{home}/Maildir/new", owner=user, group=user, mode=0o700, below=True)
        else:
            yield Owned(path=f"{home}/{OWN_MBOX}", owner=user, group=user, mode=0o600)


def _assets(
    architecture: Architecture, settings: Settings, homes: Mapping[str, str]
) -> Iterator[Asset]:
    rows = architecture.compartments
    delivering = tuple(row.name for row in rows if {"local", "lmtpd"} & {*row.roles})
    for place, each in enumerate(architecture.directories):
        owners = tuple(row.name for row in rows if f"/{each.path}" in (*row.reads, *row.changes))
        name = each.path if place else "queue"
        yield Asset(name=name, path=str(settings.spool / each.path), owners=owners)
    yield Asset(name="configuration", path=str(settings.path), owners=())
    yield Asset(name="control", path=str(settings.control_socket), owners=())
    for name, home in homes.items():
        yield Asset(name=f"mail of {name}", path=home, owners=delivering)
