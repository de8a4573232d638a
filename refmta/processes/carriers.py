"""In which form a channel's messages travel: what turns a descriptor into a `Channel`.

    frames   ours: length-prefixed, typed messages             `processes.channels`
    qmail    the formats of qmail's programs, octet for octet   `processes.qmail`, `wire.qmail`
    stream   octets both ways, no message: LMTP                 here

An architecture names the carrier of each talk; the roles at its ends see the same messages on each
(`Channel`), and never ask which one it is.  Each carrier treats its peer alike: what it hears is
held to the border's vocabulary and bounds, what breaks them ends the channel with a line in the
log, and whatever descriptors came along are closed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Final

from refmta.patterns.trust_partitioning import Border, Channel, Received
from refmta.processes import channels
from refmta.processes.channels import END, SocketChannel
from refmta.wire.frame import OCTETS, FrameError, check_header
from refmta.wire.messages import Message

#: Who says what to whom in qmail: (client role, server role).
QMAIL: Final = frozenset(
    {
        ("smtpd", "enqueue"),
        ("bounce", "enqueue"),
        ("qmgr", "local"),
        ("qmgr", "remote"),
        ("qmgr", "clean"),
    }
)


def carries(client_role: str, server_role: str) -> bool:
    """Whether qmail has a format for what these two say to each other."""
    return (client_role, server_role) in QMAIL


def adopt(carrier: str, descriptor: int, border: Border) -> Channel:
    """The channel on a descriptor that was handed to this process, which the channel takes over.

    carrier: as `wire.messages.Link` has it.  border: this end's (`trust_partitioning.border`).
    Raises ValueError for a border that this carrier has no form for; the descriptor is closed.
    """
    if carrier == "frames":
        return channels.adopt(descriptor, border)
    os.set_inheritable(descriptor, False)
    end = socket.socket(fileno=descriptor)
    try:
        if carrier == "qmail":
            from refmta.processes import qmail  # noqa: PLC0415

            return qmail.channel(end, border)
        if carrier == "stream":
            return StreamChannel(end, border)
        raise ValueError(f"unknown carrier: {carrier}")
    except ValueError:
        end.close()
        raise


def preload(carriers: Iterable[str]) -> None:
    """Load what these carriers need, before this process is confined: it could not do so later."""
    if "qmail" in carriers:
        import refmta.processes.qmail  # noqa: PLC0415, F401


class StreamChannel(SocketChannel):
    """Octets both ways, in pieces of any size: each end knows what the other means by them."""

    __slots__ = ()

    def __init__(self, end: socket.socket, border: Border) -> None:
        for each in (border.hears, border.says):
            if each.types or not each.octets:
                raise ValueError("a stream carries octets and nothing else")
        super().__init__(end, border)

    def post(self, message: Message, *descriptors: int) -> None:
        raise ValueError(f"not allowed on this channel: {type(message).__name__}")

    def post_octets(self, octets: bytes) -> None:
        check_header(OCTETS, 0, len(octets))
        self._queue(octets, ())

    def _understand(self, octets: bytes) -> list[Received]:
        if self._inbox:
            raise FrameError("a descriptor on a stream of octets")
        return [Received(None, octets)]

    def _ended(self) -> list[Received]:
        raise FrameError(END)
