"""What a running system *should* be, as its target says: plain data, to be held against /proc.

A manifest is the architecture's promise in numbers and paths of this start.  A claim never trusts
it for what *is*; it says what the observation is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from specs.observe.process import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A row of a descriptor allow-list.

    purpose: why, for people.  target: a regular expression that the whole link text matches.
    peers: the names of processes that may hold the other end, of a socket or pipe; () is no
    matter (a file), or nobody.  least, most: how many such descriptors (most None: no bound here).
    writable: None is no matter.
    """

    purpose: str
    kind: Kind
    target: str = ".*"
    family: str = ""
    listening: bool = False
    writable: bool | None = None
    peers: tuple[str, ...] = ()
    least: int = 0
    most: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRules:
    """What a pool's parent enforces; counts, and seconds."""

    max_workers: int
    max_uses: int
    max_age_s: float
    max_idle_s: float
    sessions_per_worker: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Compartment:
    """One compartment.

    name: "spawner", "supervisor", or the row's.  parts: the names of its processes (a pool:
    "smtpd", "smtpd template", "smtpd worker"; else its own name only).  user: uid and gid of all
    its processes; None: the recipient's, one of `Manifest.recipients`.  becomes: those of its parts
    that are the recipient's, whoever the others belong to.  fleeting: those that live for a moment,
    as long as one delivery takes.  capabilities: bits that it may have.
    jail: what kind of root; root: its path seen from outside, "" if it is the
    recipient's home.  reads, changes: paths seen from outside.  network: keeps the machine's.
    listener: takes connections from the network.  faces: what it is exposed to ("network",
    "smtp", "dns", "mail").  roles: whose code it runs.  descriptors: part -> allow-list.
    reason: why it has more than the least.
    """

    name: str
    parts: tuple[str, ...]
    user: int | None
    becomes: tuple[str, ...] = ()
    fleeting: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    capabilities: int = 0
    jail: Literal["empty", "spool", "home", "none"] = "empty"
    root: str = ""
    reads: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    network: bool = False
    listener: bool = False
    lazy: bool = False
    per_user: bool = False
    pool: PoolRules | None = None
    faces: tuple[str, ...] = ()
    descriptors: Mapping[str, tuple[Allowed, ...]] = field(default_factory=dict)
    reason: str = ""

    @property
    def hears(self) -> bool:
        """Whether strangers can talk to it: that it may use the network is another matter."""
        return self.listener or "network" in self.faces


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A channel that there may be: process names at both ends (parts included)."""

    client: str
    server: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A unique text, planted in the configuration.  holders: the compartments whose slice of the
    configuration has it; no other process may have it in its memory.
    """

    name: str
    text: str
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What must not be lost.  path: a file or directory seen from outside.  owners: the
    compartments that may open it by name.
    """

    name: str
    path: str
    owners: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Whose a path below the spool or the mailboxes must be.  path: absolute; below: it holds for
    everything below, too (modes then for files: `mode` is the directory's own).
    """

    path: str
    owner: int
    group: int
    mode: int
    below: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most lines of the judged's own code, lines in all, and modules, that a compartment loads."""

    own_lines: int
    lines: int
    modules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole promise.

    layers: the guards in force, in their order, by the names of the architecture. recipients: user
    name -> uid. starter: the process that makes all others: it must have privileges, and what is
    claimed of those that work on mail is not claimed of it. privileged: names of the processes
    that have user 0, the starter among them. victims: whom an attacker seizes (`attacks`) -> the
    process that does that job here; one process may do several. talks, markers, assets, budgets
    (by compartment) as above. rooms: banned call -> the modules in which it may stand. facts:
    whatever else a claim of this target needs, as plain data.
    """

    architecture: str
    layers: tuple[str, ...]
    compartments: tuple[Compartment, ...]
    talks: tuple[Talk, ...] = ()
    recipients: Mapping[str, int] = field(default_factory=dict)
    starter: str = "spawner"
    privileged: tuple[str, ...] = ("spawner",)
    victims: Mapping[str, str] = field(default_factory=dict)
    owned: tuple[Owned, ...] = ()
    assets: tuple[Asset, ...] = ()
    markers: tuple[Marker, ...] = ()
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    rooms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    def of(self, part: str) -> Compartment:
        """The compartment of a process name.  Raises KeyError."""
        for each in self.compartments:
            if part in each.parts:
                return each
        raise KeyError(part)
