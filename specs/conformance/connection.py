"""One connection to a server: raw octets both ways, every one of them in the transcript.

Rules a reader may rely on
- A server's behaviour never raises, but in the handshake of TLS (`Refused`).
- A connection that cannot be had raises OSError.
- What the server was told in TLS stands in the transcript as it was said, not as it was sent.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from dataclasses import dataclass

import trio

from specs.conformance.given import Address, Given
from specs.conformance.model import Door, Reply
from specs.conformance.replies import MOST_OCTETS, cut
from specs.conformance.transcript import Told


class Refused(Exception):
    """What a case needs before it can ask its question was refused."""

    def __init__(self, what: str, reply: Reply) -> None:
        self.what, self.reply = what, reply
        super().__init__(f"{what}: {reply}")


class NotApplicable(Exception):
    """Found out on the way: the text is the keyword that is not offered."""


class Unavailable(Exception):
    """Found out on the way: this run was not given, or this machine has not, what the text says."""


@dataclass(slots=True, kw_only=True)
class Connection:
    """number: of the case's connections.  round_trip_s: how long it took to connect."""

    given: Given
    door: Door
    told: Told
    number: int = 0
    round_trip_s: float = 0.0
    _stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] | None = None
    _host: str = ""
    _input: bytes = b""
    _ended: bool = False

    async def connect(self, address: Address | None = None) -> None:
        """Without reading the greeting.  Raises OSError."""
        where = address or self.given.address(self.door)
        if where is None:
            raise Unavailable(f"the door of {self.door}")
        self.told.connections += 1
        self.number = self.told.connections
        self._host, self._input, self._ended = where[0], b"", False
        began_s = trio.current_time()
        with trio.move_on_after(self.given.timeout_s) as scope:
            self._stream = await trio.open_tcp_stream(*where)
        if scope.cancelled_caught:
            raise TimeoutError(f"no connection in {self.given.timeout_s:.0f} s")
        self.round_trip_s = trio.current_time() - began_s
        self.note(f"connected to {where[0]} port {where[1]}")
        if self.door == "tls":
            await self.handshake()

    async def send(self, octets: bytes) -> bool:
        """As they are; whether the connection took them in time."""
        self.told.add("C", octets, self.number)
        if self._stream is None:
            return False
        with trio.move_on_after(self.given.timeout_s) as scope:
            try:
                await self._stream.send_all(octets)
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                self.note("could not be sent: the connection is gone")
                return False
        if scope.cancelled_caught:
            self.note("could not be sent: the server does not read")
        return not scope.cancelled_caught

    async def reply(self, timeout_s: float | None = None) -> Reply:
        """The next one, or what came instead."""
        limit_s = self.given.timeout_s if timeout_s is None else timeout_s
        with trio.move_on_after(limit_s):
            while True:
                found = cut(self._input)
                if found is not None:
                    reply, self._input = found
                    return reply
                more = await self._receive()
                if not more:
                    left, self._input = self._input, b""
                    return Reply(kind="closed", octets=left)
                self._input += more
                if len(self._input) > 2 * MOST_OCTETS:
                    self._input, flood = b"", self._input
                    return Reply(kind="flood", octets=flood)
        return Reply(kind="silent", octets=self._input)

    async def _receive(self) -> bytes:
        if self._stream is None or self._ended:
            return b""
        try:
            octets = bytes(await self._stream.receive_some(1 << 16))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            octets = b""
        if octets:
            self.told.add("S", octets, self.number)
        else:
            self._ended = True
            self.note("the server has closed the connection")
        return octets

    async def rest(self, timeout_s: float | None = None) -> bytes:
        """Everything until the end of the connection, or until this time is over."""
        with trio.move_on_after(self.given.timeout_s if timeout_s is None else timeout_s):
            while len(self._input) < MOST_OCTETS:
                more = await self._receive()
                if not more:
                    break
                self._input += more
        octets, self._input = self._input, b""
        return octets

    async def unasked(self, seconds: float | None = None) -> Reply:
        """What comes by itself within `quiet_s`: "silent" if nothing does."""
        quiet_s = self.given.quiet_s if seconds is None else seconds
        return await self.reply(quiet_s + self.round_trip_s)

    @property
    def unread(self) -> bytes:
        """Received, and not part of a reply that was read."""
        return self._input

    def forget(self) -> None:
        """Drop what was received and not read."""
        self._input = b""

    async def half_close(self) -> None:
        """No more from us; the server may still speak."""
        self.note("the client sends no more (half-close)")
        if isinstance(self._stream, trio.SocketStream):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                await self._stream.send_eof()

    async def close(self) -> None:
        """Without QUIT."""
        if self._stream is not None:
            self.note("the client closes the connection")
            await trio.aclose_forcefully(self._stream)
            self._stream = None

    def note(self, text: str) -> None:
        """A remark in the transcript."""
        self.told.add("-", text.encode("utf-8", "backslashreplace"), self.number)

    async def handshake(self, context: ssl.SSLContext | None = None) -> None:
        """TLS on what is open; certificates are not checked unless the context does.  What was read
        before it is dropped (RFC 3207 4.2).  Raises Refused.
        """
        if not isinstance(self._stream, trio.SocketStream):
            raise Refused("TLS", Reply(kind="closed"))
        self._input = b""
        context = context or trusting()
        stream = trio.SSLStream(
            self._stream, context, server_hostname=self._host, https_compatible=True
        )
        with trio.move_on_after(self.given.timeout_s) as scope:
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, ssl.SSLError) as error:
                self.note(f"TLS: {error}")
                self._ended = True
                raise Refused("the handshake of TLS", Reply(kind="closed")) from None
        if scope.cancelled_caught:
            raise Refused("the handshake of TLS", Reply(kind="silent"))
        self.note("from here on inside TLS")
        self._stream = stream


def trusting() -> ssl.SSLContext:
    """Any certificate is taken: it is not what most cases ask for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
