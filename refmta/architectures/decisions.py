"""An architecture as a list of decisions: what it takes to see two of them side by side.

Each decision is a name and an answer, both short texts; two architectures differ exactly in the
decisions whose answers differ.  Everything is derived from the rows, so that nothing can be said
here that is not so.
"""

from __future__ import annotations

from collections.abc import Iterator

from refmta.architectures.architecture import (
    OWN,
    RECIPIENT,
    ROOT,
    Architecture,
    CompartmentRow,
    Talk,
)
from refmta.patterns.defense_in_depth import LAYERS
from refmta.patterns.distributed_delegation import ASSETS, FACES, joined, way

#: The answer of an architecture that does not have what the decision is about.
NONE = "-"


def decisions(architecture: Architecture) -> dict[str, str]:
    """Decision -> answer, in the order in which they are shown."""
    return dict(_decisions(architecture))


def differing(one: dict[str, str], other: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The decisions with different answers, in the order of the first, then of the second."""
    return {
        name: (one.get(name, NONE), other.get(name, NONE))
        for name in {**one, **other}
        if one.get(name, NONE) != other.get(name, NONE)
    }


def _decisions(architecture: Architecture) -> Iterator[tuple[str, str]]:
    yield "summary", architecture.summary
    yield "compartments", str(len(architecture.rows))
    for row in architecture.rows:
        for name, answer in _of_row(architecture, row):
            yield f"{row.name}: {name}", answer
    for talk in architecture.talks:
        client, server = _end(talk.client, talk.client_role), _end(talk.server, talk.server_role)
        yield f"channel {client} -> {server}", _spoken(talk)
    for each in architecture.directories:
        yield f"store {each.path}/", f"{each.owner}:{each.group} {each.mode:04o}"
    yield "store", architecture.store
    yield "mailboxes", architecture.mailbox
    yield "keeper of the queue", architecture.keeper
    for layer, text in LAYERS.items():
        yield f"layer {layer}", text if layer in architecture.layers else NONE
    yield "root after start", _root(architecture)
    yield "draining", " ".join(architecture.draining)
    yield from _delegation(architecture)


def _of_row(architecture: Architecture, row: CompartmentRow) -> Iterator[tuple[str, str]]:
    yield "roles", ", ".join(row.roles) or "starts and restarts the others"
    yield "process", _process(row)
    yield "user", _user(architecture, row)
    yield "root", _jail(architecture, row)
    if row.reads or row.changes:
        reads = [f"reads {each}" for each in row.reads]
        yield "files", ", ".join([*reads, *(f"changes {each}" for each in row.changes)])
    yield "network", _network(architecture, row)
    if row.ends_with:
        yield "ends with", row.ends_with


def _process(row: CompartmentRow) -> str:
    kind = "resident"
    if row.per_user:
        kind = "one per recipient user"
    elif row.pooled:
        kind = "pool: parent, template, workers"
    if row.pooled and row.acceptor == "workers":
        kind += " who accept by themselves"
    if row.uses:
        kind += f", {row.uses} {'use' if row.uses == 1 else 'uses'} each"
    listener = ", has the listening sockets" if row.listener else ""
    return kind + (", from first use" if row.lazy else "") + listener


def _user(architecture: Architecture, row: CompartmentRow) -> str:
    if row.user == ROOT:
        return "root; its workers become the recipient" if row.becomes else "root"
    if "users" not in architecture.layers:
        return "that of all"
    names = {OWN: "its own", RECIPIENT: "the recipient"}
    if row.user in names:
        return names[row.user]
    several = sum(each.user == row.user for each in architecture.compartments) > 1
    return f"{row.user} (shared)" if several else row.user


def _jail(architecture: Architecture, row: CompartmentRow) -> str:
    if "jail" not in architecture.layers or row.jail == "none":
        return "/"
    return {"empty": "an empty directory", "spool": "the spool", "home": "its home"}[row.jail]


def _network(architecture: Architecture, row: CompartmentRow) -> str:
    return "the machine's" if row.network or "network" not in architecture.layers else "none"


def _end(compartment: str, role: str) -> str:
    return compartment if compartment == role else f"{compartment}.{role}"


def _spoken(talk: Talk) -> str:
    text = f"{talk.client_role} asks {talk.server_role}"
    if talk.client == talk.server:
        return f"{text}, in one process"
    text += f", as {talk.carrier}" if talk.carrier != "frames" else ""
    return text + (", anew each time" if talk.fresh else "")


def _root(architecture: Architecture) -> str:
    """As root; the spawner is the one process that may become somebody else."""
    roots = [row.name for row in architecture.compartments if row.user == ROOT]
    if "users" not in architecture.layers and not roots:
        return "none: all run as who started it"
    capabilities = "kill, setgid, setuid" if "capabilities" in architecture.layers else "all"
    return ", ".join([f"spawner ({capabilities})", *roots])


def _delegation(architecture: Architecture) -> Iterator[tuple[str, str]]:
    rows, layers = architecture.compartments, architecture.layers
    both = joined(rows, layers)
    for face in FACES:
        for asset in ASSETS:
            alone = [name for name, f, a in both if (f, a) == (face.name, asset.name)]
            fall = way(rows, architecture.talks, layers, face, asset)
            answer = f"{len(fall)}: {', '.join(fall)}" if fall else NONE
            yield f"falls from {face.name} to {asset.name}", answer
            if alone:
                yield f"joins {face.name} and {asset.name}", ", ".join(alone)
