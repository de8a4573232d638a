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

from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.assemble import assemble
from refmta.architectures.configuration import Settings, pool_rules
from refmta.architectures.confining import directory, is_jailed
from refmta.patterns import low_level_coding, small_modules
from refmta.patterns.chroot_jail import EMPTY
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

SPAWNER: Final = "spawner"
#: CAP_KILL, CAP_SETGID, CAP_SETUID.
SPAWNER_CAPABILITIES: Final = 1 << 5 | 1 << 6 | 1 << 7
#: What a compartment is exposed to, beyond its peers.
FACES: Final = {
    "smtpd": ("network", "smtp"),
    "remote": ("network", "smtp", "dns"),
}


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

    def markers(self) -> tuple[Marker, ...]:
        """Each with who needs it. The supervisor hands the slices out, so it has all of those."""
        return (
            Marker(name="a mailbox", text=self.mailbox, holders=("supervisor", "resolve")),
            Marker(name="a next hop", text=self.next_hop, holders=("supervisor", "resolve")),
            Marker(name="a user's home", text=self.home, holders=(SPAWNER,)),
            Marker(name="a name server", text=self.nameserver, holders=("supervisor", "remote")),
            Marker(name="a trusted client", text=self.trusted, holders=("supervisor", "smtpd")),
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
        assets=tuple(_assets(settings, homes)),
        markers=planted.markers(),
        budgets={
            name: Budget(own_lines=each.own_lines, lines=each.lines, modules=each.modules)
            for name, each in small_modules.BUDGETS.items()
        },
        rooms=low_level_coding.rooms(),
        facts={
            **hostile_frames.facts(architecture),
            **rewriting.facts(settings.configuration),
        },
    )


# -- compartments ---------------------------------------------------------------------------------


def parts(row: CompartmentRow) -> tuple[str, ...]:
    """The names of its processes."""
    return (row.name, f"{row.name} template", f"{row.name} worker") if row.pooled else (row.name,)


def _spawner(architecture: Architecture, settings: Settings) -> Compartment:
    return Compartment(
        name=SPAWNER,
        parts=(SPAWNER,),
        user=0,
        capabilities=SPAWNER_CAPABILITIES,
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
        roles=row.roles,
        jail=row.jail,
        root="" if row.jail == "home" else (place if is_jailed(architecture, row) else "/"),
        reads=_paths(place, row.reads),
        changes=_paths(place, row.changes),
        network=row.network,
        listener=row.listener,
        lazy=row.lazy,
        per_user=row.per_user,
        pool=_rules(settings, row) if row.pooled else None,
        faces=FACES.get(row.name, ()),
        descriptors=allowed(architecture, row.name, settings),
        reason=row.reason,
    )


def _paths(place: str, below: tuple[str, ...]) -> tuple[str, ...]:
    """Seen from outside; of what is below a recipient's home nothing is said here."""
    if place == ".":
        return ()
    return tuple(str(Path(place) / each.lstrip("/")) for each in below)


def _rules(settings: Settings, row: CompartmentRow) -> PoolRules:
    rules = pool_rules(getattr(settings.configuration, row.name))
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
    for each in architecture.talks:
        client, server = architecture.row(each.client), architecture.row(each.server)
        for one in _ends(client):
            for other in _ends(server):
                yield Talk(client=one, server=other)
            if server.lazy:
                yield Talk(client=one, server="supervisor")


def _ends(row: CompartmentRow) -> tuple[str, ...]:
    return (row.name, f"{row.name} worker") if row.pooled else (row.name,)


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
        yield Owned(path=f"{home}/Maildir/new", owner=user, group=user, mode=0o700, below=True)


def _assets(settings: Settings, homes: Mapping[str, str]) -> Iterator[Asset]:
    yield Asset(name="queue", path=str(settings.spool / "chunks"), owners=("enqueue", "qmgr"))
    yield Asset(name="damaged", path=str(settings.spool / "damaged"), owners=("enqueue", "qmgr"))
    yield Asset(name="configuration", path=str(settings.path), owners=())
    yield Asset(name="control", path=str(settings.control_socket), owners=())
    yield Asset(name="control", path=str(settings.control_socket), owners=())
    for name, home in homes.items():
        yield Asset(name=f"mail of {name}", path=home, owners=("local",))
