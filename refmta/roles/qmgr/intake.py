"""How messages become known: what enqueue says, and what lies in the queue although nobody said so.

    Arrived      these are durable: they are tried, unless only a scan may find them
    Register     this content is durable, and its envelope is ours to log: all that came in one
                 wake-up share one write and one sync (`store.log`), then each is Registered
    Tried        what we say when a first attempt is over, where somebody waits for that
    recovery     whoever keeps the queue makes it whole at its start, before anything else
    a scan       now and then: for what nobody told us of (its process died, or never knew us), and
                 for what another process had claimed when we last looked

Whoever says Register is not believed: the envelope has to decode, to bear the queue id that it is
registered under, and to be new.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.wire import messages as wire
from refmta.wire.envelope import ChunkError, Envelope, decode_envelope, is_queue_id

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue


class Registration(NamedTuple):
    """An envelope to be logged, and who hears of it."""

    channel: Channel
    envelope: Envelope


@dataclass(slots=True)
class Intake:
    """Registrations that gather, and who waits for whose first attempt."""

    queue: Queue
    registering: list[Registration] = field(default_factory=list)
    awaited: dict[str, Channel] = field(default_factory=dict)
    _gathered: trio.Event = field(default_factory=trio.Event)

    # -- enqueue ----------------------------------------------------------------------------------

    async def follow(self, channel: Channel) -> None:
        """Take note of what one enqueue says, until it is gone."""
        try:
            while True:
                for item in await channel.receive():
                    match item.message:
                        case wire.Arrived(queue_ids=queue_ids):
                            self._arrived(channel, queue_ids)
                        case wire.Register() as register:
                            self._register(channel, register)
                await self.queue.proceed()
        except ChannelBroken:
            channel.close()

    def _arrived(self, channel: Channel, queue_ids: Iterable[str]) -> None:
        mode = self.queue.config.delivery
        if mode == "queue":
            return  # a scan finds them
        if mode == "interactive":
            new = [each for each in queue_ids if each not in self.queue.known]
            self.awaited.update(dict.fromkeys(new, channel))
        self.queue.arrived(queue_ids)

    def tried(self, queue_id: str) -> None:
        """The first attempt at it is over, or there is none to be had now."""
        channel = self.awaited.pop(queue_id, None)
        if channel is not None:
            self.queue.post(channel, wire.Tried(queue_id=queue_id))

    # -- envelopes --------------------------------------------------------------------------------

    def _register(self, channel: Channel, register: wire.Register) -> None:
        try:
            envelope = self._checked(register)
        except ChunkError as error:
            self._answer(channel, register.queue_id, str(error))
            return
        self.registering.append(Registration(channel, envelope))
        self._gathered.set()

    def _checked(self, register: wire.Register) -> Envelope:
        envelope = decode_envelope(register.head)
        if envelope.queue_id != register.queue_id:
            raise ChunkError("the envelope is another message's")
        waiting = (each.envelope.queue_id for each in self.registering)
        if register.queue_id in self.queue.known or register.queue_id in waiting:
            raise ChunkError("that queue id is in use")
        if not self.queue.store.logs_envelopes:
            raise ChunkError("no envelopes are logged here")
        return envelope

    def _answer(self, channel: Channel, queue_id: str, error: str = "") -> None:
        self.queue.post(channel, wire.Registered(queue_id=queue_id, error=error))

    async def log_groups(self) -> None:
        """For ever: make durable all envelopes that have come, then say so."""
        while True:
            await self._gathered.wait()
            # Whoever became runnable in this same moment joins the group.
            await trio.lowlevel.checkpoint()
            group, self.registering, self._gathered = self.registering, [], trio.Event()
            failures = self.queue.store.log([each.envelope for each in group])
            for channel, envelope in group:
                queue_id = envelope.queue_id
                error = failures.get(queue_id)
                if error is None:
                    self.queue.trace(
                        "qmgr.logged", queue_id=queue_id, recipients=len(envelope.recipients),
                        sender=envelope.reverse_path,
                    )  # fmt: skip
                    self._answer(channel, queue_id)
                    self._arrived(channel, (queue_id,))
                else:
                    self._answer(channel, queue_id, os.strerror(error.errno or 0))
            await self.queue.flush()  # the clients first: they wait
            await self.queue.proceed()

    # -- the queue itself -------------------------------------------------------------------------

    async def recover(self) -> None:
        """Make the queue whole, and take up all that is in it.  Raises OSError if that is in vain.

        Until it is over nothing is loaded or logged: what it looks at must not change below it.
        """
        for name, reason in self.queue.store.recover():
            if reason:
                self.queue.journal.error("message set aside", queue_id=name, reason=reason)
            else:
                self.queue.trace("qmgr.recovered", queue_id=name)
                self.queue.arrived((name,))
            await trio.lowlevel.checkpoint()

    async def scan_for_ever(self, pause_s: float) -> None:
        """Look for what nobody told us of."""
        while True:
            await trio.sleep(pause_s)
            self.scan()
            await self.queue.proceed()

    def scan(self) -> None:
        """Take up everything in the queue that is not known."""
        try:
            names = self.queue.store.names()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            self.queue.journal.error("queue not readable", reason=reason)
            return
        new = [each for each in filter(is_queue_id, names) if each not in self.queue.known]
        for queue_id in new:
            self.queue.trace("qmgr.recovered", queue_id=queue_id)
        self.queue.arrived(new)
