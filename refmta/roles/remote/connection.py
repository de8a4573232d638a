"""One connection to a next hop: `protocol.smtp_client` decides, this file reads, writes and waits.

Theory: `transact` feeds the machine events, one after the other, and carries out what it says,
until the transaction is done.  The next event is a reply that was parsed but not fed yet, or what
happens next in this phase: the connection stands, octets arrive, a piece of content is written,
time is up, the server stops.

What is tricky
- The deadline belongs to what is awaited, not to a read: it is set when an event was fed, so that
  a server that sends an octet a minute gains nothing.  While content is written it is set anew for
  each block that has gone.
- Replies that were whole before the octets that are none still count: the final 250 may be among
  them.  So the parser is fed line by line.
- While a write is blocked, the server may be blocked as well, by its replies that we don't read
  (RFC 2920 3.1): a blocked write waits for both directions.
- After the last piece has left, in whole or in part, the message may be taken.  A write of it that
  fails is told to the machine after `ContentSent`, and what the server said before that.
- Waits come before reads, as the server has not answered yet; sockets are used without trio's
  checkpoints, which at ten a message would cost as much as the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Iterator

import trio

from refmta.protocol import smtp_client as smtp
from refmta.protocol.mx import Candidate
from refmta.roles.remote.content import Outgoing
from refmta.wire.reply import ReplyError, ReplyParser

READ_OCTETS = 8 * 1024
#: Octets of content that have gone before the time for a block begins anew.
BLOCK_OCTETS = 64 * 1024


class Connection:
    """A connection to one address; made when it is first needed, closed by `end` or by itself."""

    __slots__ = (
        "_content", "_deadline", "_done", "_factor", "_failure", "_hurry", "_options", "_parser",
        "_port", "_replies", "_scope", "_socket", "_told", "began", "candidate", "session",
    )  # fmt: skip

    def __init__(
        self, candidate: Candidate, port: int, options: smtp.ClientOptions, factor: float
    ) -> None:
        self.candidate = candidate
        self.session = smtp.Session()
        #: A transaction was begun here: MAIL has been sent.
        self.began = False
        self._port = port
        self._options = options
        self._factor = factor
        self._socket: socket.socket | None = None
        self._parser = ReplyParser()
        self._replies: deque[smtp.Event] = deque()  # read, or happened, and not fed yet
        self._failure: smtp.Event | None = None  # what ended the reading
        self._content: Iterator[bytes] = iter(())
        self._done: smtp.Done | None = None
        self._deadline = 0.0
        self._hurry = False  # the server stops;
        self._told = False  # and the machine knows it
        self._scope: trio.CancelScope | None = None

    def __str__(self) -> str:
        """For logs: "mx.example.net[192.0.2.1]:25"."""
        host, address = self.candidate.host, self.candidate.address
        name = host if host.startswith("[") else f"{host}[{address}]"
        return f"{name}:{self._port}"

    @property
    def usable(self) -> bool:
        """Whether it may serve another transaction, as far as is known without asking."""
        return self.session.phase is smtp.Phase.READY

    async def transact(self, transaction: smtp.Transaction, letter: Outgoing) -> smtp.Done:
        """Send one message.  The connection must be new, or usable.

        Raises OSError if the message can't be read any more; the connection is closed then.
        """
        self.began, self._done = False, None
        self._content = letter.pieces()
        await self._feed(smtp.Begin(transaction))
        return await self._until_done()

    async def _until_done(self) -> smtp.Done:
        while self._done is None:
            await self._feed(await self._next())
        while self._replies:
            await self._feed(self._replies.popleft())
        return self._done

    async def still_usable(self) -> bool:
        """The same, having looked: a server that is tired of us has said 421, or closed."""
        if self.usable:
            self._look()
            await self._feed_all()
        return self.usable

    async def end(self) -> None:
        """QUIT, if the server still listens, and close.  Takes some seconds at most."""
        try:
            if self.usable:
                await self._feed(smtp.Finish())
            while self.session.phase is not smtp.Phase.CLOSED:
                await self._feed(await self._next())
        finally:
            self.close()

    def hurry(self) -> None:
        """The server stops."""
        if self._hurry:
            return
        self._hurry = True
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """At once, without a word."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # -- events and effects -----------------------------------------------------------------------

    async def _feed(self, event: smtp.Event) -> None:
        """One event, and what follows from it."""
        self.session, effects = smtp.step(self.session, event, self._options)
        self._deadline = trio.current_time() + smtp.patience_s(self.session) * self._factor
        self.began = self.began or self.session.phase is smtp.Phase.ENVELOPE
        for effect in effects:
            match effect:
                case smtp.Send():
                    await self._send(effect.octets)
                case smtp.SendEnd():
                    await self._send(next(self._content))
                case smtp.Done():
                    self._done = effect
                case smtp.Close():
                    self.close()
                case smtp.SendContent():
                    pass  # `_next` writes it

    async def _feed_all(self) -> None:
        """What has been read and not been fed."""
        while self._replies:
            await self._feed(self._replies.popleft())
        if self._failure is not None:
            await self._feed(self._failure)

    async def _next(self) -> smtp.Event:
        """The next event; it may take until the deadline."""
        if self._replies:
            return self._replies.popleft()
        if self._failure is not None:
            return self._failure
        if self._hurry and not self._told:
            self._told = True
            return smtp.Hurry()
        if self.session.phase is smtp.Phase.NEW:
            return await self._connect()
        if self.session.phase is smtp.Phase.CONTENT:
            return await self._write_content()
        if not await self._wait(writable=False):
            return self._cut_off()
        self._look()
        return await self._next()

    # -- reading ----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Take what is there to be read, without waiting."""
        if self._socket is None or self._failure is not None:
            return
        try:
            octets = self._socket.recv(READ_OCTETS)
        except BlockingIOError:
            return
        except OSError as error:
            self._failure = smtp.Lost(reason(error))
            return
        if not octets:
            self._failure = smtp.Lost("closed by the server")
            return
        try:
            for line in octets.splitlines(keepends=True):
                self._replies.extend([smtp.Replied(each) for each in self._parser.feed(line)])
        except ReplyError as error:
            self._failure = smtp.NotAReply(str(error))

    # -- writing ----------------------------------------------------------------------------------

    async def _connect(self) -> smtp.Event:
        address = self.candidate.address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            self._socket = connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                connection.connect((address, self._port))
                return smtp.Connected()
            if not await self._wait(writable=True):
                return self._cut_off()
            number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            return smtp.Lost(reason(error))
        return smtp.Lost(os.strerror(number)) if number else smtp.Connected()

    async def _send(self, octets: bytes) -> bool:
        """Write in full; False if something else comes first: `_next` says what."""
        rest = memoryview(octets)
        since = 0
        while rest:
            if self._socket is None or self._failure is not None:
                self._failure = self._failure or smtp.Lost("closed")
                return False
            try:
                sent = self._socket.send(rest)
            except BlockingIOError:
                if await self._wait_for_both() or self._may_go_on():
                    continue
                return False
            except OSError as error:
                self._look()  # what it said before it went
                self._failure = self._failure or smtp.Lost(reason(error))
                return False
            rest = rest[sent:]
            since += sent
            if since >= BLOCK_OCTETS:
                since = 0
                patience_s = smtp.patience_s(self.session) * self._factor
                self._deadline = trio.current_time() + patience_s
        return True

    async def _write_content(self) -> smtp.Event:
        """All pieces but the last; ContentSent, or what came in between."""
        try:
            pieces, last = self._content, next(self._content)
            for piece in pieces:
                if not await self._send(last):
                    return await self._next()
                self._look()
                if self._replies or self._hurry:
                    self._content = _chained(piece, pieces)
                    return await self._next()
                last = piece
        except OSError:  # the chunk can't be read any more; without its end nothing was sent
            self.close()
            raise
        self._content = iter((last,))
        self._look()
        if self._replies:
            return self._replies.popleft()
        return self._failure or smtp.ContentSent()

    def _may_go_on(self) -> bool:
        """A blocked write was cut off: whether it is to be continued.

        When the server stops, and what is being written is the end of a message: the time for it
        goes on, as the next hop may have all of it before we know.
        """
        if self._failure is not None or self._spoken_to():
            return False
        if trio.current_time() >= self._deadline:
            self._failure = smtp.TimedOut()
            return False
        return self.session.phase is smtp.Phase.FINAL

    # -- waiting ----------------------------------------------------------------------------------

    def _cut_off(self) -> smtp.Event:
        """Why a wait ended early."""
        if self._hurry and not self._told:
            self._told = True
            return smtp.Hurry()
        return smtp.TimedOut()

    async def _wait(self, *, writable: bool) -> bool:
        """Until the socket is ready; False if the deadline, or a stop, came first."""
        if self._socket is None:
            return False
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._scope = scope
            try:
                if writable:
                    await trio.lowlevel.wait_writable(self._socket)
                else:
                    await trio.lowlevel.wait_readable(self._socket)
            finally:
                self._scope = None
        return not scope.cancelled_caught

    async def _wait_for_both(self) -> bool:
        """A write is blocked: until it may go on, replies read meanwhile; False as in `_wait`."""
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._scope = scope
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read_on, nursery.cancel_scope)
                    if self._socket is not None:
                        await trio.lowlevel.wait_writable(self._socket)
                    nursery.cancel_scope.cancel()
            finally:
                self._scope = None
        return not scope.cancelled_caught and self._failure is None

    async def _read_on(self, scope: trio.CancelScope) -> None:
        while self._failure is None and self._socket is not None:
            await trio.lowlevel.wait_readable(self._socket)
            self._look()
            if len(self._replies) > 1000:
                self._failure = smtp.NotAReply("more replies than commands")
            if self._spoken_to():
                break
        scope.cancel()

    def _spoken_to(self) -> bool:
        """The server has spoken while we were writing content, and before it has the end."""
        if self.session.phase is smtp.Phase.FINAL and self._replies:
            # Whatever it says, it is not the answer to what has not left.
            self._replies.clear()
            self._failure = smtp.NotAReply("a reply before the end of the content")
        return self.session.phase is smtp.Phase.CONTENT and bool(self._replies)


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def reason(error: OSError) -> str:
    """An error's text, of ours."""
    return os.strerror(error.errno or errno.EIO)
