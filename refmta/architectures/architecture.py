"""What an architecture is: rows.

    architecture = compartments x channels x directories      (store, pools and confinement follow)

A row names roles; no role knows its row.  Compartment 0 is always the supervisor.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CompartmentRow:
    """A process or a pool.

    per_user: runs as the recipient user, a process each, on demand.
    pooled: a parent hands connections, or the calls of its clients, to workers
    (`patterns.secure_preforking`).
    lazy: started on first use.
    ends_with: compartment whose death ends this one's processes.
    """

    name: str
    roles: tuple[str, ...]
    per_user: bool = False
    pooled: bool = False
    listener: bool = False
    lazy: bool = False
    ends_with: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The whole.  draining: the order in which compartments are stopped."""

    name: str
    summary: str
    compartments: tuple[CompartmentRow, ...]
    talks: tuple[Talk, ...]
    directories: tuple[Directory, ...]
    draining: tuple[str, ...]


def talk(client: str, server: str) -> Talk:
    """A channel between compartments named after their roles."""
    return Talk(client=client, client_role=client, server=server, server_role=server)
