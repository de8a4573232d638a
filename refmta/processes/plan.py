"""The plan of a running architecture: what the launcher works out and the supervisor carries out.

It is data, made by `architectures`, and travels in a sealed-off file of the launcher's making.
The manifest, its privileged half, goes to the spawner; the plan goes to the supervisor.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Compartment(msgspec.Struct, frozen=True, kw_only=True):
    """A process, or a pool, and the roles it runs.

    number: its row in the spawner's manifest.  slices: role -> configuration, encoded.
    per_user: one process per recipient user, started on demand, ended after its idle time.
    ends_with: the compartment whose death ends this one's processes, before it starts anew.
    listener: whether it gets the listening sockets.
    lazy: started on first use, and on the next use after its death.
    within: channels between roles of this same compartment, client first.
    """

    name: str
    number: int
    roles: tuple[str, ...]
    slices: dict[str, bytes]
    per_user: bool = False
    pooled: bool = False
    ends_with: str = ""
    listener: bool = False
    lazy: bool = False
    within: tuple[tuple[str, str], ...] = ()


class ChannelRow(msgspec.Struct, frozen=True, kw_only=True):
    """Who talks to whom: role in compartment, the client first.

    fresh: not one channel for as long as both live, but one for each session or message.
    """

    client: str
    client_role: str
    server: str
    server_role: str
    carrier: Literal["frames", "qmail", "stream"] = "frames"
    fresh: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole: compartments in their order of starting; the order of draining is reversed
    nowhere, it is `draining`.
    """

    architecture: str
    compartments: tuple[Compartment, ...]
    channels: tuple[ChannelRow, ...]
    draining: tuple[str, ...]
    #: Who may give orders by the control socket, besides root.
    operator: int
    #: What his questions bring; empty for none.
    key: bytes = b""
    max_agents: int = 50
    #: Layers of confinement that this system does not have, and why; the log keeps saying so.
    missing: dict[str, str] = {}
    #: Whether the supervisor inherits a file for the trace.
    traced: bool = False
