"""What an architecture is: rows.

    architecture = compartments x channels x directories x layers      (store and pools follow)

A row names roles; no role knows its row.  Compartment 0 is always the supervisor.  What confines
a compartment is data, too: its user, its jail, what it may read and change below that, whether it
keeps the machine's network; and the architecture's layers say which guards there are at all, so
that one can be taken away and the others be judged (`refmta-landlock`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refmta.patterns.defense_in_depth import LAYERS

#: A user of its own, or the mailbox's; any other text is a user that rows of that text share.
OWN, RECIPIENT = "own", "recipient"
#: An empty directory; the spool; the recipient's home; the machine's own root.
Jail = Literal["empty", "spool", "home", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompartmentRow:
    """A process or a pool.

    user: whose it is.  per_user: a process each for every recipient user, on demand.
    pooled: a parent hands connections, or the calls of its clients, to workers
    (`patterns.secure_preforking`).
    lazy: started on first use.
    ends_with: compartment whose death ends this one's processes.
    jail: what it sees as "/".  reads, changes: the directories there that it may use ("/" for
    all); it sees no others.  network: whether it keeps the machine's network; others have an
    empty one.
    reason: why it has more than an empty jail and no network, if it has.
    """

    name: str
    roles: tuple[str, ...]
    user: str = OWN
    per_user: bool = False
    pooled: bool = False
    listener: bool = False
    lazy: bool = False
    ends_with: str = ""
    jail: Jail = "empty"
    reads: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    network: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A channel: client role in its compartment, server role in its compartment."""

    client: str
    client_role: str
    server: str
    server_role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory below the spool: whose it is, and who shares it as a group."""

    path: str
    owner: str
    group: str
    mode: int


#: The supervisor's row: it starts what the plan says, and needs nothing but its descriptors.
SUPERVISOR = CompartmentRow(name="supervisor", roles=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The whole.  draining: the order in which compartments are stopped.  layers: the guards
    around each compartment (`patterns.defense_in_depth`), by name.
    """

    name: str
    summary: str
    compartments: tuple[CompartmentRow, ...]
    talks: tuple[Talk, ...]
    directories: tuple[Directory, ...]
    draining: tuple[str, ...]
    layers: tuple[str, ...] = field(default=tuple(LAYERS))

    @property
    def rows(self) -> tuple[CompartmentRow, ...]:
        """All compartments in the order of their numbers, the supervisor first."""
        return (SUPERVISOR, *self.compartments)

    def row(self, name: str) -> CompartmentRow:
        """The compartment of that name.  Raises KeyError."""
        for each in self.rows:
            if each.name == name:
                return each
        raise KeyError(name)


def talk(client: str, server: str) -> Talk:
    """A channel between compartments named after their roles."""
    return Talk(client=client, client_role=client, server=server, server_role=server)
