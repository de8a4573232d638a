"""Trust Partitioning: what comes from another compartment is checked at the border.

Context (paper, section 3): the job is split among processes that don't trust each other.
Problem: trust grows by habit; a seized peer speaks the inner protocols fluently.
Forces: peers must talk all the time, and quickly; whoever checks must survive what it refuses.
Solution: each end of a channel has a `Vocabulary` per direction, from the architecture; a frame
that is not in it ends the channel with a log line, and the receiver lives on.
Observable claim: whatever octets the peer sends, the receiver neither dies, nor allocates more
than a frame's cap, nor keeps a descriptor that no allowed message brought along.

This file states the interface that roles see, and the table of all borders (`BORDERS`).  The
carriers (a socket, or a queue within one process) are in `processes.channels`; roles never know
which one they got.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from refmta.wire.messages import (
    Abandon,
    Account,
    AgentRefused,
    AgentWanted,
    Answer,
    Arrived,
    Ask,
    Attach,
    Busy,
    Cleanse,
    Cleansed,
    Configure,
    Deliver,
    Drain,
    Finish,
    Hurry,
    Idle,
    Kept,
    Line,
    Link,
    Lookup,
    Message,
    Outcome,
    Ready,
    Refused,
    Register,
    Registered,
    Relay,
    Relayed,
    Report,
    Reported,
    Route,
    Routed,
    Session,
    Stress,
    Submit,
    Tried,
    Verified,
    Verify,
    Vocabulary,
)


@dataclass(frozen=True, slots=True)
class Border:
    """One end of a channel: what it may hear and what it may say."""

    hears: Vocabulary
    says: Vocabulary

    def turned(self) -> Border:
        """The other end."""
        return Border(hears=self.says, says=self.hears)


@dataclass(frozen=True, slots=True)
class Received:
    """What one frame brought: a message with its descriptors, or octets (message is None).

    The descriptors belong to the receiver, which closes them.
    """

    message: Message | None
    octets: bytes = b""
    descriptors: tuple[int, ...] = ()


class ChannelBroken(Exception):
    """The peer is gone, or was cut off because it broke the rules."""


class Channel(Protocol):
    """A two-way stream of messages between two roles, in order."""

    def post(self, message: Message, *descriptors: int) -> None:
        """Queue a message; takes over the descriptors.  Raises nothing: a dead peer shows later."""
        ...

    def post_octets(self, octets: bytes) -> None:
        """Queue a part of a body, at most 256 KiB."""
        ...

    async def flush(self) -> None:
        """Hand everything queued to the carrier.  Raises ChannelBroken."""
        ...

    async def receive(self) -> list[Received]:
        """All that has arrived, at least one item; raises ChannelBroken at the end of the stream
        and for a peer that broke the rules (its descriptors are closed).
        """
        ...

    def close(self) -> None:
        """End the channel; a `receive` that waits ends with ChannelBroken."""
        ...


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that nobody wanted."""
    for each in descriptors:
        os.close(each)


# -- who may say what to whom: a row per pair, read from the first one's side ---------------------

#: (speaker, peer): what the speaker hears, and what it says.
BORDERS: Final[dict[tuple[str, str], Border]] = {
    ("smtpd", "enqueue"): Border(
        hears=Vocabulary(Kept, Refused),
        says=Vocabulary(Submit, Finish, Abandon, octets=True),
    ),
    ("smtpd", "resolve"): Border(hears=Vocabulary(Verified), says=Vocabulary(Verify)),
    ("enqueue", "qmgr"): Border(
        hears=Vocabulary(Registered, Tried), says=Vocabulary(Arrived, Register)
    ),
    ("qmgr", "clean"): Border(hears=Vocabulary(Cleansed), says=Vocabulary(Cleanse)),
    ("qmgr", "resolve"): Border(hears=Vocabulary(Routed), says=Vocabulary(Route)),
    ("resolve", "accounts"): Border(hears=Vocabulary(Account), says=Vocabulary(Lookup)),
    ("qmgr", "local"): Border(
        hears=Vocabulary(Outcome), says=Vocabulary(Deliver, descriptors=(Deliver,))
    ),
    # Where agents are reached by LMTP: its client takes the deliveries,
    ("qmgr", "lmtpc"): Border(
        hears=Vocabulary(Outcome), says=Vocabulary(Deliver, descriptors=(Deliver,))
    ),
    # and says nothing but LMTP to each user's server (RFC 2033), as octets on a stream.
    ("lmtpc", "lmtpd"): Border(hears=Vocabulary(octets=True), says=Vocabulary(octets=True)),
    # One channel per destination, made by qmgr, and handed to a worker by the pool's parent.
    ("qmgr", "remote"): Border(
        hears=Vocabulary(Relayed), says=Vocabulary(Relay, Hurry, descriptors=(Relay,))
    ),
    ("qmgr", "bounce"): Border(
        hears=Vocabulary(Reported), says=Vocabulary(Report, descriptors=(Report,))
    ),
    ("bounce", "enqueue"): Border(
        hears=Vocabulary(Kept, Refused),
        says=Vocabulary(Submit, Finish, Abandon, octets=True),
    ),
    # A pool's parent holds no channel for mail: it introduces its workers to servers,
    ("pool", "server"): Border(
        hears=Vocabulary(), says=Vocabulary(Attach, Line, descriptors=(Attach, Line))
    ),
    # and hands a caller's channel to a worker.
    ("caller", "pool"): Border(
        hears=Vocabulary(), says=Vocabulary(Attach, Line, descriptors=(Attach, Line))
    ),
    ("pool", "worker"): Border(
        hears=Vocabulary(Idle, Busy),
        says=Vocabulary(Session, Link, Stress, Configure, descriptors=(Session, Link)),
    ),
    ("compartment", "supervisor"): Border(
        hears=Vocabulary(Configure, Link, Drain, Ask, AgentRefused, descriptors=(Link,)),
        says=Vocabulary(Ready, AgentWanted, Answer),
    ),
    ("operator", "supervisor"): Border(hears=Vocabulary(Answer), says=Vocabulary(Ask)),
}


def border(speaker: str, peer: str) -> Border:
    """The speaker's side of the border with its peer.  Raises KeyError: they don't talk."""
    direct = BORDERS.get((speaker, peer))
    return direct if direct is not None else BORDERS[peer, speaker].turned()
