"""enqueue's line to qmgr: what it is told, and what is awaited from it.

    Arrived      these are durable; nobody waits for an answer
    Register     log this envelope, where the store leaves that to qmgr; Registered says it is done
    Tried        comes by itself after a first attempt, for whoever awaits it

Whoever awaits a word of qmgr's has a `Word`.  It is said, or it is lost: with the qmgr that would
have said it.  A qmgr that was started anew knows nothing of what was asked before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.wire.envelope import Envelope, encode_envelope
from refmta.wire.messages import Arrived, Message, Register, Registered, Tried

#: Most queue ids in one frame to qmgr.
ARRIVED_AT_ONCE: Final = 500


@dataclass(slots=True, eq=False)
class Word:
    """What one qmgr has to say of one message.  said: it has, or never will (lost).  error: why an
    envelope was not logged.
    """

    by: Channel | None
    said: trio.Event = field(default_factory=trio.Event)
    lost: bool = False
    error: str = ""

    def lose(self) -> None:
        """It will not be said any more."""
        self.lost = True
        self.said.set()


@dataclass(slots=True)
class QmgrLine:
    """The channel to the qmgr that runs now, if any, and the words that are awaited."""

    channel: Channel | None = None
    awaited: dict[str, Word] = field(default_factory=dict)

    def link(self, channel: Channel) -> None:
        """From now on, this one."""
        if self.channel is not None:
            self.channel.close()
        self.channel = channel

    async def hear(self, channel: Channel) -> None:
        """What one qmgr says, until it is gone."""
        try:
            while True:
                for item in await channel.receive():
                    self._heed(item.message)
        except ChannelBroken:
            channel.close()
            self._lose(channel)

    def _heed(self, message: Message | None) -> None:
        """What nobody waits for any more means nothing."""
        match message:
            case Registered(queue_id=queue_id, error=error):
                self._say(queue_id, error)
            case Tried(queue_id=queue_id):
                self._say(queue_id)

    def _say(self, queue_id: str, error: str = "") -> None:
        word = self.awaited.pop(queue_id, None)
        if word is not None:
            word.error = error
            word.said.set()

    def _lose(self, channel: Channel) -> None:
        if self.channel is channel:
            self.channel = None
        lost = {queue_id: word for queue_id, word in self.awaited.items() if word.by is channel}
        for queue_id, word in lost.items():
            del self.awaited[queue_id]
            word.lose()

    def watch(self, queue_id: str) -> Word:
        """Await the first attempt at a message, which is not announced yet."""
        word = Word(self.channel)
        if self.channel is None:
            word.lose()
        else:
            self.awaited[queue_id] = word
        return word

    def forget(self, queue_id: str) -> None:
        """Nobody waits any longer."""
        self.awaited.pop(queue_id, None)

    def register(self, envelope: Envelope) -> Word:
        """Have its envelope logged; written by `flush`."""
        word = self.watch(envelope.queue_id)
        if self.channel is not None:
            head = encode_envelope(envelope)
            self.channel.post(Register(queue_id=envelope.queue_id, head=head))
        return word

    async def announce(self, queue_ids: Sequence[str]) -> None:
        """Say what is in the queue; without a qmgr its successor will be told, or find it."""
        for start in range(0, len(queue_ids), ARRIVED_AT_ONCE):
            if self.channel is None:
                return
            part = tuple(queue_ids[start : start + ARRIVED_AT_ONCE])
            self.channel.post(Arrived(queue_ids=part))
            await self.flush()

    async def flush(self) -> None:
        """Write what was said.  A qmgr that is gone has lost it."""
        channel = self.channel
        if channel is None:
            return
        try:
            await channel.flush()
        except ChannelBroken:
            self._lose(channel)
