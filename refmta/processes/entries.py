"""By what a process enters its roles: the forms of what their modules have.

    run        a life of its own: it hears of peers by its context's ports
    converse   a session with a client that has connected (a worker of a pool)
    attend     a session with a caller: another role, on a channel made for this call

A module has one of these or several, and the architecture decides by which one it is entered: the
first role of a pool's workers has sessions; any other has a life of its own if it can.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel
from refmta.trace import Emit

#: A role with a life of its own, until it is drained.
Run = Callable[[Context, Journal], Awaitable[None]]


class Conversation(Protocol):
    """A session of a role.  `clean`: its channels to servers may serve another."""

    clean: bool

    async def run(self) -> None: ...
    def drain(self) -> None:
        """End as soon as that may be; said at any time, `run` may not have begun."""


class ClientConversation(Conversation, Protocol):
    """A session with a client: its patience is the server's to give."""

    def press(self, stressed: bool) -> None:
        """Stress begins or ends; said at any time."""


#: A session with a client: its connection, its address, the role's slice, channels to servers.
Converse = Callable[
    [socket.socket, str, bytes, Mapping[str, Channel], Journal, Emit], ClientConversation
]
#: A session with a caller: its channel, which the session takes over; which role it is; the role's
#: slice; channels to servers.
Attend = Callable[[Channel, str, bytes, Mapping[str, Channel], Journal, Emit], Conversation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A role of a process, and how it may be entered there."""

    role: str
    run: Run | None = None
    attend: Attend | None = None
