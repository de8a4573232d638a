"""Compartments that start on first use: the ends of their channels, kept until somebody speaks.

The channels of such a compartment are made as all others are, but while it is not there the
supervisor keeps the server's ends.  It reads nothing from them: that something lies there to be
read is enough to start the compartment, which then gets the ends with all that lies in them.

Rules:
- a client that hung up starts nothing: the end of the stream is not a use;
- what a dead client has said is dropped with it (`forget`): its successor asks anew;
- after a death the compartment rests, for the pause that its supervisor says, and then starts on
  the next use, which may have come meanwhile;
- once it is hung up (the server stops) there is no use any more: the clients' channels break.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import trio

from refmta.processes.plan import ChannelRow
from refmta.wire.messages import Link


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The server's end of one channel, and the link that will go with it.  `client`: whoever has
    the other end, as the supervisor knows it.
    """

    row: ChannelRow
    client: Hashable
    link: Link
    end: socket.socket

    def close(self) -> None:
        """Hang up."""
        trio.lowlevel.notify_closing(self.end)
        self.end.close()


class OnUse:
    """What is kept, by the name of the compartment that is to have it."""

    def __init__(self, nursery: trio.Nursery, start: Callable[[str], None]) -> None:
        """`start(name)` is called when a compartment is used; it should `take` what is kept."""
        self._nursery = nursery
        self._start = start
        self._kept: dict[str, list[Kept]] = {}
        self._resting_until: dict[str, float] = {}
        self._hung_up: set[str] = set()

    def keep(self, kept: Kept) -> None:
        """Take over an end, until its compartment is used."""
        name = kept.row.server
        if name in self._hung_up:
            kept.close()
            return
        self._kept.setdefault(name, []).append(kept)
        self._nursery.start_soon(self._watch, name, kept)

    def take(self, name: str) -> list[Kept]:
        """All that is kept for a compartment that starts now; the ends are the caller's."""
        taken = self._kept.pop(name, [])
        for each in taken:
            trio.lowlevel.notify_closing(each.end)
        return taken

    def forget(self, client: Hashable) -> None:
        """This client is dead."""
        for name, those in self._kept.items():
            for each in those:
                if each.client is client:
                    each.close()
            self._kept[name] = [each for each in those if each.client is not client]

    def rest(self, name: str, pause_s: float) -> None:
        """Whatever comes, start it no sooner than after this pause."""
        self._resting_until[name] = trio.current_time() + pause_s

    def hang_up(self, name: str) -> None:
        """It must not start any more."""
        self._hung_up.add(name)
        for each in self._kept.pop(name, []):
            each.close()

    async def _watch(self, name: str, kept: Kept) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # taken, forgotten, or hung up
            await trio.lowlevel.wait_readable(kept.end)
            await trio.sleep_until(self._resting_until.get(name, 0.0))
            if kept not in self._kept.get(name, []):
                return
            if _speaks(kept.end):
                self._start(name)
            else:
                self._kept[name].remove(kept)
                kept.close()


def _speaks(end: socket.socket) -> bool:
    """Whether there is something to read, and not only the end of the stream."""
    try:
        return bool(end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:  # reset: what the peer had for us is lost with it
        return False
