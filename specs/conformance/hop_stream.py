"""The octets of one visit to a scripted next hop: each is noted, with the time when it came.

Reading goes on beside answering: so it is known what came before its time.  The end of a connection
is a polite server's: what was said can be read.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from specs.conformance.hop_records import Bell, Visit
from specs.conformance.hop_script import ScriptedReply

if TYPE_CHECKING:
    from specs.conformance.hop import Hop

#: How long a client that we have done with may take to close, in seconds.
LINGER_S: Final = 2.0
#: How long a group of commands may take to arrive, for an answer that is held back for it.
GROUP_S: Final = 0.3


class Ended(Exception):
    """The visit is over."""


@dataclass(slots=True)
class HopStream:
    """Of one visit.  number: of the case's connections."""

    hop: Hop
    visit: Visit
    number: int
    _stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] | None = None
    _buffer: bytearray = field(default_factory=bytearray)
    #: (how many octets had come by then, when)
    _arrivals: list[tuple[int, float]] = field(default_factory=list)
    _cut: int = 0  # octets of the buffer's predecessors
    _answered_s: float = -1.0
    _over: str = ""
    _reader: trio.CancelScope = field(default_factory=trio.CancelScope)
    _still: trio.Event = field(default_factory=trio.Event)
    _more: Bell = field(default_factory=Bell)
    _stalled_until_s: float = 0.0
    _held: bytes = b""

    def note(self, text: str) -> None:
        self.hop.told.add("-", text.encode("utf-8", "backslashreplace"), self.number)

    def end(self, how: str) -> None:
        if not self.visit.ended:
            self.visit.ended = how
            self.note(f"{self.hop.name}: the connection has ended ({how})")
            self.hop.bell.ring()

    def _gone(self) -> None:
        """The client has ended it."""
        self.end("quit" if self.visit.said_bye else self._over or "reset")

    def _start_reading(self, nursery: trio.Nursery) -> None:
        self._reader, self._still = trio.CancelScope(), trio.Event()
        nursery.start_soon(self._read, self._reader, self._still)

    async def _stop_reading(self) -> None:
        self._reader.cancel()
        await self._still.wait()

    async def _read(self, scope: trio.CancelScope, still: trio.Event) -> None:
        try:
            with scope:
                while not self._over:
                    await trio.sleep_until(self._stalled_until_s)
                    await self._read_some()
        finally:
            still.set()
            self._more.ring()

    async def _read_some(self) -> None:
        if self._stream is None:
            return
        try:
            octets = bytes(await self._stream.receive_some(1 << 16))
            if not octets:
                self._over = "closed"
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            octets, self._over = b"", "reset"
        if octets:
            self._buffer += octets
            total = self._cut + len(self._buffer)
            self._arrivals.append((total, trio.current_time()))
            self.hop.told.add("S", octets, self.number)
        self._more.ring()
        self.hop.bell.ring()

    async def _until(self, mark: bytes) -> bytes:
        """Octets up to that, and with it.  Raises Ended."""
        seen = 0
        while True:
            at = self._buffer.find(mark, max(0, seen - len(mark)))
            if at >= 0:
                return self._take(at + len(mark))
            seen = len(self._buffer)
            await self._wait_for_more()

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._wait_for_more()
        return self._take(count)

    async def _wait_for_more(self) -> None:
        if self._over:
            self._gone()
            raise Ended
        before = len(self._buffer)
        await self._more.until(lambda: len(self._buffer) > before or bool(self._over), 1e9)

    def _take(self, count: int) -> bytes:
        octets = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._cut += count
        return octets

    def _came_s(self, offset: int) -> float:
        """When the octet at that place (of all that came) came."""
        for total, at_s in self._arrivals:
            if total > offset:
                return at_s
        return trio.current_time()

    async def _send(self, answer: ScriptedReply) -> None:
        """And do what it says then.  Raises Ended."""
        if answer.after_s:
            await trio.sleep(answer.after_s)
            self.visit.hasty |= self.visit.said_bye and bool(self._over)
        if answer.held and not answer.then and await self._another_is_there():
            self._held += answer.octets
            return
        octets, self._held = self._held + answer.octets, b""
        if octets and self._stream is not None:
            self.hop.told.add("C", octets, self.number)
            parts = [octets[at : at + 1] for at in range(len(octets))] if answer.drip else [octets]
            for each in parts:
                # Before it is sent: who answers it can't have been earlier.
                self._answered_s = trio.current_time()
                await self._stream.send_all(each)
                if answer.drip:
                    await trio.sleep(0.01)
        match answer.then:
            case "close":
                await self._close()
            case "hang":
                self.note(f"{self.hop.name}: says nothing more")
                await self._stay_silent()
            case "":
                return
        raise Ended

    async def _another_is_there(self) -> bool:
        await self._more.until(lambda: b"\n" in self._buffer or bool(self._over), GROUP_S)
        return b"\n" in self._buffer

    async def _close(self) -> None:
        """So that what was said can be read: no more from us, then wait for the other end."""
        self.end("by us")
        stream = self._stream
        if isinstance(stream, trio.SocketStream):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await stream.send_eof()
            await self._more.until(lambda: bool(self._over), LINGER_S)
        elif stream is not None:
            with trio.move_on_after(LINGER_S), suppress(trio.BrokenResourceError, ssl.SSLError):
                await stream.aclose()

    async def _stay_silent(self) -> None:
        await self._more.until(lambda: bool(self._over), 1e9)
        self.end(self._over)
