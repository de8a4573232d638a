"""Distributed Delegation: what has a risky face does not own what is precious.

Context (paper, section 3; elsewhere Distributed Responsibility): some part of the system must talk
to strangers, and some part must open the queue, the mailboxes, the user database.
Problem: where one compartment does both, its fall is the fall of all that it owns.
Forces: every division costs a channel, a process and a format; what is divided too finely is not
understood any more.
Solution: face and asset go to different compartments, with different users, and between them is a
channel that says no more than the job needs.  So several must fall together, and each in another
way: the first to octets of the network, the next to messages of a peer that is checked.
Observable claim: the compartments with a face open no envelope, mailbox or key; the smallest set
of compartments whose fall gives "any mail" has at least two members.

This file is the faces and assets as data, and what follows from an architecture's rows: who joins
one and the other (`joined`), what keeps a compartment off an asset (`kept_off`), and the shortest
way of channels from a face to it (`way`).  It judges what is *declared*; the spec of the same name
judges what is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

#: A user that is a row's alone; the others are shared, or the recipient's, or the superuser.
_OWN, _RECIPIENT, _ROOT = "own", "recipient", "root"
#: Who writes mailboxes.
_DELIVER: Final = frozenset({"local", "lmtpd"})


class Row(Protocol):
    """What is asked of a compartment's row (`architectures.architecture`)."""

    @property
    def name(self) -> str: ...
    @property
    def roles(self) -> tuple[str, ...]: ...
    @property
    def user(self) -> str: ...
    @property
    def listener(self) -> bool: ...
    @property
    def per_user(self) -> bool: ...
    @property
    def jail(self) -> str: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def changes(self) -> tuple[str, ...]: ...


class Talk(Protocol):
    """A channel between two compartments."""

    @property
    def client(self) -> str: ...
    @property
    def server(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Face:
    """Through which strangers speak to a compartment.  shows: whether a row has it."""

    name: str
    text: str
    shows: Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Asset:
    """What must not be lost.  opens: whether a row's job is to open it.  spool: whether it lies
    there, within the jail of those who work in the spool.
    """

    name: str
    text: str
    opens: Callable[[Row], bool]
    spool: bool = False


FACES: Final = (
    Face("clients", "whoever connects to a listening socket", lambda row: row.listener),
    Face("next hops", "hosts and name servers that are asked", lambda row: "remote" in row.roles),
)
ASSETS: Final = (
    Asset(
        "queue",
        "all mail that was promised and is not delivered",
        lambda row: row.jail in ("spool", "none") and bool({*row.reads, *row.changes} - {"/"}),
        spool=True,
    ),
    Asset(
        "mailboxes",
        "delivered mail, of one user at a time or of all",
        lambda row: not _DELIVER.isdisjoint(row.roles),
    ),
    Asset(
        "user database",
        "who has an account",
        lambda row: row.jail == "none" and "/" in (*row.reads, *row.changes),
    ),
)


def joined(rows: Iterable[Row], layers: Iterable[str]) -> list[tuple[str, str, str]]:
    """Whose fall alone gives an asset to those at a face: (compartment, face, asset)."""
    everyone, there = tuple(rows), frozenset(layers)
    return [
        (row.name, face.name, asset.name)
        for row in everyone
        for face in FACES
        for asset in ASSETS
        if face.shows(row) and _reaches(row, asset, everyone, there)
    ]


def kept_off(row: Row, asset: Asset, rows: Iterable[Row], layers: Iterable[str]) -> tuple[str, ...]:
    """The layers that each keep a compartment off an asset by itself; () if it opens it, or if
    nothing keeps it off.
    """
    everyone = tuple(rows)
    if asset.opens(row):
        return ()
    owners = [each for each in everyone if asset.opens(each)]
    alone = row.user in (_OWN, _RECIPIENT)
    apart = row.user != _ROOT and (alone or all(row.user != each.user for each in owners))
    everything = row.jail == "none"
    keeps = {
        "users": apart,
        "jail": row.jail in ("empty", "home") or (row.jail == "spool" and not asset.spool),
        "landlock": not (everything and "/" in (*row.reads, *row.changes)),
    }
    there = frozenset(layers)
    return tuple(layer for layer, holds in keeps.items() if holds and layer in there)


def way(
    rows: Sequence[Row], talks: Iterable[Talk], layers: Iterable[str], face: Face, asset: Asset
) -> tuple[str, ...]:
    """The fewest compartments that must fall, one after the other along channels, until those at
    the face have the asset; () if there is no such way.
    """
    there = frozenset(layers)
    peers: dict[str, set[str]] = {row.name: set() for row in rows}
    for talk in talks:  # a seized server attacks its clients, too
        peers[talk.client].add(talk.server)
        peers[talk.server].add(talk.client)
    goal = {row.name for row in rows if _reaches(row, asset, rows, there)}
    ways: deque[tuple[str, ...]] = deque((row.name,) for row in rows if face.shows(row))
    seen: set[str] = set()
    while ways:
        fallen = ways.popleft()
        if fallen[-1] in goal:
            return fallen
        if fallen[-1] not in seen:
            seen.add(fallen[-1])
            ways.extend((*fallen, peer) for peer in sorted(peers[fallen[-1]]))
    return ()


def _reaches(row: Row, asset: Asset, rows: Iterable[Row], layers: frozenset[str]) -> bool:
    return asset.opens(row) or not kept_off(row, asset, rows, layers)
