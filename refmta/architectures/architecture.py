"""What an architecture is: rows.

    architecture = compartments x channels x directories x layers      (store and pools follow)

A row names roles; no role knows its row.  Compartment 0 is always the supervisor.  What confines
a compartment is data, too: its user, its jail, what it may read and change below that, whether it
keeps the machine's network; and the architecture's layers say which guards there are at all, so
that one can be taken away and the others be judged (`refmta-landlock`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict, Unpack

from refmta.patterns.defense_in_depth import LAYERS

#: A user of its own, the mailbox's, or the superuser; any other text is a user that rows of that
#: text share.
OWN, RECIPIENT, ROOT = "own", "recipient", "root"
#: An empty directory; the spool; the recipient's home; the machine's own root.
Jail = Literal["empty", "spool", "home", "none"]
#: Who accepts connections in a pool: its parent, who hands them out, or its workers, who share the
#: listening socket.
Acceptor = Literal["parent", "workers"]
#: In which form a channel's messages travel (`processes.carriers`).
Carrier = Literal["frames", "qmail", "stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompartmentRow:
    """A process or a pool.

    user: whose it is.  per_user: a process each for every recipient user, on demand.
    pooled: a parent hands connections, or the calls of its clients, to workers
    (`patterns.secure_preforking`); the first role is what they do, the others stand by in the same
    process.  acceptor: who accepts.  uses: sessions per worker; 0: as configured.
    becomes: each worker becomes the user that its session is for, and needs root to do so.
    lazy: started on first use.
    ends_with: compartment whose death ends this one's processes.
    jail: what it sees as "/".  reads, changes: the directories there that it may use ("/" for
    all); it sees no others.  Of a row without a jail they are the spool's, and "/" is the
    machine's root.  network: whether it keeps the machine's network; others have an
    empty one.
    reason: why it has more than an empty jail and no network, if it has.
    """

    name: str
    roles: tuple[str, ...]
    user: str = OWN
    per_user: bool = False
    pooled: bool = False
    acceptor: Acceptor = "parent"
    uses: int = 0
    becomes: bool = False
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
    """A channel: client role in its compartment, server role in its compartment, which may be the
    same one.  fresh: not one channel for as long as both live, but one for each session or message.
    """

    client: str
    client_role: str
    server: str
    server_role: str
    carrier: Carrier = "frames"
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory below the spool: whose it is, and who shares it as a group."""

    path: str
    owner: str
    group: str
    mode: int


class How(TypedDict, total=False):
    """What else may be said of a channel."""

    carrier: Carrier
    fresh: bool


#: The supervisor's row: it starts what the plan says, and needs nothing but its descriptors.
SUPERVISOR = CompartmentRow(name="supervisor", roles=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The whole.  draining: the order in which compartments are stopped.  layers: the guards
    around each compartment (`patterns.defense_in_depth`), by name.

    store: how messages are kept (`stores.queue.STORES`).  mailbox: the form of mailboxes.
    keeper: the role that recovers the queue at its start, and finds what lies in it.  scan_s: how
    often it looks again for what nobody told it of; 0 for never.
    """

    name: str
    summary: str
    compartments: tuple[CompartmentRow, ...]
    talks: tuple[Talk, ...]
    directories: tuple[Directory, ...]
    draining: tuple[str, ...]
    store: str = "chunks"
    mailbox: Literal["maildir", "mbox"] = "maildir"
    keeper: Literal["enqueue", "qmgr"] = "enqueue"
    scan_s: float = 0.0
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


def talk(client: str, server: str, **how: Unpack[How]) -> Talk:
    """A channel between roles: each given as "compartment.role", or as the name of both."""
    (one, its), (other, theirs) = (each.partition(".")[::2] for each in (client, server))
    return Talk(
        client=one, client_role=its or one, server=other, server_role=theirs or other, **how
    )
