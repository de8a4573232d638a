"""What the two ends of a channel between compartments are told of each other.

A link's detail says what comes by its descriptor: the channel itself, or a line on which channels
(`Attach`) and further lines (`Line`) come one by one.

    client     server     fresh     to the client         to the server
    process    process    no        whose it is, if any   whose it is, if any
    process    process    yes       ON_CALL               POOLED
    process    pool       any       ON_CALL               ON_CALL
    pool       process    no        POOLED                POOLED
    pool       process    yes       FRESH                 POOLED
    pool       pool       no        POOLED                ON_CALL
    pool       pool       yes       FRESH                 ON_CALL

To a pool's parent: POOLED, each worker gets a channel to this server; FRESH, each gets a line;
ON_CALL, callers' channels come here.  To a process: POOLED, clients' channels come here; ON_CALL,
this is its line.
"""

from __future__ import annotations

from typing import Final

from refmta.processes.calls import ON_CALL, POOLED
from refmta.processes.plan import ChannelRow, Compartment
from refmta.wire.messages import Link

#: A line each: for a channel per session or message.  No user's name has a space in it.
FRESH: Final = "a line each"


def to_client(row: ChannelRow, client: Compartment, server: Compartment, user: str = "") -> Link:
    """user: whose the server is, if it is somebody's."""
    detail = ON_CALL if server.pooled or row.fresh else user
    if client.pooled:
        detail = FRESH if row.fresh else POOLED
    return Link(role=row.client_role, port=row.server_role, detail=detail, carrier=row.carrier)


def to_server(row: ChannelRow, client: Compartment, server: Compartment, user: str = "") -> Link:
    """user: whose the client is, if it is somebody's."""
    detail = POOLED if client.pooled or row.fresh else user
    if server.pooled:
        detail = ON_CALL
    return Link(role=row.server_role, port=row.client_role, detail=detail, carrier=row.carrier)
