"""What all ends of a channel in qmail's formats have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from refmta.patterns.trust_partitioning import ChannelBroken, Received, close_all
from refmta.processes.channels import SocketChannel
from refmta.wire.messages import Message, encode_message
from refmta.wire.qmail import QmailError


class QmailChannel(SocketChannel):
    """A socket, whose octets each kind of end reads and writes in its own way."""

    __slots__ = ()

    def post_octets(self, octets: bytes) -> None:
        raise ValueError("octets are not allowed on this channel")

    def _check(self, message: Message, descriptors: tuple[int, ...]) -> None:
        """Raise ValueError for what this end may not say: our own mistake."""
        says = self._border.says
        if type(message) not in says.types or says.brings(message) != len(descriptors):
            raise ValueError(f"not allowed on this channel: {type(message).__name__}")

    def _heard(self, form: Callable[..., Message], *descriptors: int, **fields: object) -> Received:
        """A message of these fields, which are the peer's, if it may say so.

        Raises QmailError; then the descriptors are closed.
        """
        try:
            message = self._border.hears.decode(encode_message(form(**fields)))
        except ValueError as error:
            close_all(descriptors)
            raise QmailError(str(error)) from None
        return Received(message, b"", descriptors)

    def _push(self) -> None:
        """Write what a read has set free, as far as it goes; the next flush writes the rest."""
        if not self._lock.locked():
            with contextlib.suppress(OSError):
                while self._outbox and self._write_first():
                    pass

    async def _idle(self) -> None:
        if self._outbox:
            with contextlib.suppress(ChannelBroken):  # what came before is still to be read
                await self.flush()
