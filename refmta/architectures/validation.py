"""Is an architecture's table sound?  Judged row by row, before anything starts.

An architecture is data, and data can be wrong: a compartment that belongs to nobody, a channel to
nowhere, a jail that its row contradicts.  Each finding names the row and the column, and what would
be right.  What is found here would otherwise be a process that dies at its start, or, worse, one
that has more than it seems.

What is not judged: whether the architecture is a good one.  That is what the claims are for
(specs/patterns), and architectures that fail them are wanted, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Final, get_args

from refmta.architectures.architecture import (
    RECIPIENT,
    ROOT,
    Architecture,
    CompartmentRow,
    Directory,
    Jail,
    Talk,
)
from refmta.patterns.defense_in_depth import LAYERS, RESTS_ON
from refmta.patterns.trust_partitioning import border
from refmta.processes import carriers
from refmta.roles import (
    accounts,
    bounce,
    clean,
    enqueue,
    lmtpc,
    lmtpd,
    local,
    qmgr,
    remote,
    resolve,
    smtpd,
)
from refmta.stores.queue import STORES

#: Names become arguments, log fields and parts of messages (`wire.messages.Name`).
_name = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
#: Below a jail: absolute, in its shortest spelling.
_path = re.compile(r"(/|(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+)\Z")
#: What a compartment can be.
ROLES: Final[dict[str, ModuleType]] = {
    each.__name__.removeprefix("refmta.roles."): each
    for each in (
        accounts, bounce, clean, enqueue, lmtpc, lmtpd, local, qmgr, remote, resolve, smtpd,
    )
}  # fmt: skip
#: Names that are taken: by what is always there.
TAKEN: Final = ("supervisor", "spawner")


def problems(architecture: Architecture) -> list[str]:
    """What is wrong, one line each, beginning with the architecture and the row."""
    return [f"architecture {architecture.name}: {each}" for each in _problems(architecture)]


def _problems(architecture: Architecture) -> Iterator[str]:
    names = [row.name for row in architecture.compartments]
    yield from _twice("compartments", names)
    for row in architecture.compartments:
        for judge in (_named, _owned, _playing, _jailed, _reached):
            for problem in judge(architecture, row):
                yield f"compartments.{row.name}.{problem}"
    yield from _followed(architecture)
    for talk in architecture.talks:
        for problem in _spoken(architecture, talk):
            yield f"talks.{talk.client}-{talk.server}: {problem}"
    ends = [(t.client, t.client_role, t.server, t.server_role) for t in architecture.talks]
    yield from _twice("talks", ["-".join(dict.fromkeys(each)) for each in ends])
    for each in architecture.directories:
        for problem in _kept(architecture, each):
            yield f"directories.{each.path}.{problem}"
    yield from _twice("directories", [each.path for each in architecture.directories])
    yield from _drained(architecture)
    yield from _layered(architecture)
    yield from _stored(architecture)
    yield from _open(architecture)


def _twice(what: str, names: list[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{what}.{name}: there are {count} rows of that name"


# -- compartments ---------------------------------------------------------------------------------


def _named(_: Architecture, row: CompartmentRow) -> Iterator[str]:
    if not _name.match(row.name) or row.name in TAKEN:
        yield f"name: {row.name!r} can't be a compartment's name"


def _owned(_: Architecture, row: CompartmentRow) -> Iterator[str]:
    """A user that two rows name is shared; none at all is a slip that ends as root's process."""
    if not _name.match(row.user):
        given = repr(row.user) if row.user else "none"
        yield f"user: a compartment must have a user, not {given}"
    if row.per_user != (row.user == RECIPIENT):
        yield f"user: {row.user!r} with per_user {row.per_user}: the recipient's is a process each"


def _playing(architecture: Architecture, row: CompartmentRow) -> Iterator[str]:
    if not row.roles:
        yield "roles: none: it would do nothing"
    if row.pooled and row.per_user:
        yield "pooled: the recipient's compartment is a process each, and no pool"
    if row.listener and "smtpd" not in row.roles:
        yield "listener: only smtpd knows what to do with a connection"
    for column, given in (("acceptor", row.acceptor == "workers"), ("uses", bool(row.uses))):
        if given and not row.pooled:
            yield f"{column}: only a pool has workers"
    if row.acceptor == "workers" and not row.listener:
        yield "acceptor: workers accept from listening sockets, and it has none"
    if row.acceptor == "workers" and "seccomp" in architecture.layers:
        yield "acceptor: workers who accept make system calls that the layer seccomp refuses them"
    if row.becomes and not (row.pooled and row.user == ROOT):
        yield "becomes: only the workers of root's pool can become somebody else"
    if row.uses < 0:
        yield f"uses: {row.uses} is no number of sessions"
    for place, role in enumerate(row.roles):
        problem = _role_problem(role, session=row.pooled and place == 0)
        if problem:
            yield f"roles: {problem}"


def _role_problem(role: str, *, session: bool) -> str:
    """Whether it can be what a pool's workers do, or stand by in a process that stays."""
    module = ROLES.get(role)
    if module is None:
        return f"there is no role {role!r}"
    entries = ("converse", "attend") if session else ("run", "attend")
    if not any(hasattr(module, each) for each in entries):
        return f"{role} can't be {'the session of a pool' if session else 'resident'}"
    return ""


def _jailed(architecture: Architecture, row: CompartmentRow) -> Iterator[str]:
    if row.jail not in get_args(Jail):
        yield f"jail: {row.jail!r} is none of {', '.join(get_args(Jail))}"
    if row.jail == "empty" and (row.reads or row.changes):
        yield "jail: an empty one has nothing to read or to change"
    if row.jail == "home" and not row.per_user:
        yield "jail: a home is its recipient's, and this is not per_user"
    if (row.jail != "empty" or row.network) and not row.reason:
        yield "reason: why it has more than an empty jail, or the network, must be said"
    for column, paths in (("reads", row.reads), ("changes", row.changes)):
        for problem in _paths_problems(architecture, row, paths):
            yield f"{column}: {problem}"
    for path in sorted({*row.reads} & {*row.changes}):
        yield f"reads: {path}: in changes, too, which includes it"


def _paths_problems(
    architecture: Architecture, row: CompartmentRow, paths: tuple[str, ...]
) -> Iterator[str]:
    known = {f"/{each.path}" for each in architecture.directories}
    for path in paths:
        if not _path.match(path):
            yield f"{path!r}: must be absolute, without '.' and '..'"
        elif row.jail in ("spool", "none") and path != "/" and path not in known:
            yield f"{path}: no directory of the spool; there are: {', '.join(sorted(known))}"


def _reached(architecture: Architecture, row: CompartmentRow) -> Iterator[str]:
    if (row.lazy or row.per_user) and not _servers_of(architecture, row.name):
        yield f"{'lazy' if row.lazy else 'per_user'}: nobody talks to it, so it would never start"


def _servers_of(architecture: Architecture, name: str) -> list[Talk]:
    return [talk for talk in architecture.talks if talk.server == name]


def _followed(architecture: Architecture) -> Iterator[str]:
    """Whose death ends whose processes: known, and no circle."""
    ends = {row.name: row.ends_with for row in architecture.compartments if row.ends_with}
    names = {row.name for row in architecture.compartments}
    for name, other in ends.items():
        if other not in names:
            yield f"compartments.{name}.ends_with: there is no compartment {other!r}"
        way = [name]
        while way[-1] in ends and ends[way[-1]] not in way:
            way.append(ends[way[-1]])
        if ends.get(way[-1]) == name:
            yield f"compartments.{name}.ends_with: a circle: {' -> '.join([*way, name])}"
    if sum(row.per_user for row in architecture.compartments) > 1:
        yield "compartments: more than one per_user: the supervisor would not know which to start"


# -- talks, directories, draining, layers ---------------------------------------------------------


def _spoken(architecture: Architecture, talk: Talk) -> Iterator[str]:
    rows = {row.name: row for row in architecture.compartments}
    for end, name, role in (
        ("client", talk.client, talk.client_role),
        ("server", talk.server, talk.server_role),
    ):
        if name not in rows:
            yield f"{end}: there is no compartment {name!r}"
        elif role not in rows[name].roles:
            yield f"{end}_role: {name} does not have the role {role!r}"
    if (talk.client, talk.client_role) == (talk.server, talk.server_role):
        yield "client: nobody talks to itself"
    if talk.client == talk.server and (talk.carrier != "frames" or talk.fresh):
        yield "carrier: within one process nothing is carried"
    if talk.carrier == "qmail" and not carriers.carries(talk.client_role, talk.server_role):
        yield f"carrier: qmail has no format for what {talk.client_role} says to {talk.server_role}"
    try:
        border(talk.client_role, talk.server_role)
    except KeyError:
        yield f"no border: {talk.client_role} and {talk.server_role} have nothing to say"


def _kept(architecture: Architecture, row: Directory) -> Iterator[str]:
    rows = {each.name: each for each in architecture.compartments}
    path = f"/{row.path}"
    if not _path.match(path) or path == "/":
        yield "path: must be a path below the spool, without '.' and '..'"
    for column, name in (("owner", row.owner), ("group", row.group)):
        if name not in rows:
            yield f"{column}: there is no compartment {name!r}"
        elif column == "group" and not row.mode & 0o070:
            continue  # it gets in by no right of its group's
        elif path not in (*rows[name].reads, *rows[name].changes):
            yield f"{column}: {name} neither reads nor changes it"
    if row.mode & ~0o3770:
        yield f"mode: {row.mode:o}: open to others than owner and group, or with bits of no use"


def _drained(architecture: Architecture) -> Iterator[str]:
    names = [row.name for row in architecture.compartments]
    for name in names:
        if name not in architecture.draining:
            yield f"draining: {name} is missing: it would never be told to stop"
    for name in architecture.draining:
        if name not in names:
            yield f"draining: there is no compartment {name!r}"
    yield from _twice("draining", list(architecture.draining))


def _layered(architecture: Architecture) -> Iterator[str]:
    for layer in architecture.layers:
        if layer not in LAYERS:
            yield f"layers.{layer}: there is no such layer; there are: {', '.join(LAYERS)}"
        for needed in RESTS_ON.get(layer, ()):
            if needed not in architecture.layers:
                yield f"layers.{layer}: it rests on {needed}, which is not there"
    yield from _twice("layers", list(architecture.layers))


def _stored(architecture: Architecture) -> Iterator[str]:
    if architecture.store not in STORES:
        known = ", ".join(STORES)
        yield f"store: there is no store {architecture.store!r}; there are: {known}"
    if not any(architecture.keeper in row.roles for row in architecture.compartments):
        yield f"keeper: no compartment has the role {architecture.keeper!r}"
    if architecture.scan_s < 0:
        yield f"scan_s: {architecture.scan_s} is no time"


def _open(architecture: Architecture) -> Iterator[str]:
    if not any(row.listener for row in architecture.compartments):
        yield "compartments: none has the listening sockets: no mail would come in"
    if not any({"local", "lmtpc"} & {*row.roles} for row in architecture.compartments):
        yield "compartments: none has the role local or lmtpc: no mailbox would get mail"
