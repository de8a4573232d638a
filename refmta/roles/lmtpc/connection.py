"""One LMTP session with one user's server: `protocol.lmtp_client` decides, this file reads, writes
and waits.

Theory: a task (`listen`) takes in whatever the server says, for as long as the session lasts, so
that a write that is blocked never keeps a reply from being read (RFC 2920 3.1).  `transact` feeds
the machine events, one after the other, and carries out what it says, until the message is done;
`rest` does the same between messages, and ends when there is work.

What is tricky
- The deadline belongs to what is awaited, not to a read: it is set when an event was fed.  While
  content is written it is set anew for each piece.
- Replies that were whole before the octets that are none still count: the parser is fed line by
  line.
- A reply that was read before the end of the content was written is no answer to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import lmtp_client as lmtp
from refmta.protocol.smtp_client import (
    Close,
    ContentSent,
    Finish,
    Lost,
    NotAReply,
    Replied,
    Send,
    SendContent,
    SendEnd,
    TimedOut,
)
from refmta.roles.remote.content import Outgoing
from refmta.wire.frame import LIMITS, OCTETS
from refmta.wire.reply import ReplyError, ReplyParser

#: Replies read and not looked at; a server that sends more has lost its mind.
REPLIES = 1000


class Connection:
    """A session over a stream that stands, which it takes over."""

    __slots__ = (
        "_channel", "_content", "_deadline", "_done", "_factor", "_failure", "_news", "_options",
        "_parser", "_replies", "session",
    )  # fmt: skip

    def __init__(self, channel: Channel, options: lmtp.ClientOptions, factor: float = 1.0) -> None:
        """factor: scales all times."""
        self.session = lmtp.Session()
        self._channel = channel
        self._options = options
        self._factor = factor
        self._parser = ReplyParser()
        self._replies: deque[lmtp.Event] = deque()  # read, and not fed yet
        self._failure: lmtp.Event | None = None  # what ended the reading
        self._news = trio.lowlevel.ParkingLot()
        self._content: Iterator[bytes] = iter(())
        self._done: lmtp.Done | None = None
        self._deadline = 0.0

    @property
    def closed(self) -> bool:
        """Whether nothing can be said any more."""
        return self.session.phase is lmtp.Phase.CLOSED

    @property
    def garbled(self) -> str:
        """What was wrong with what the server said; "" if that was not the end of it."""
        return self._failure.text if isinstance(self._failure, NotAReply) else ""

    def ring(self) -> None:
        """There is something new: `rest` looks at it."""
        self._news.unpark_all()

    def close(self) -> None:
        """At once, without a word.  A message that is under way is lost, and Done says so."""
        self._channel.close()
        self._fail(Lost("closed"))

    async def listen(self) -> None:
        """Take in what the server says, until it is gone."""
        try:
            while self._failure is None:
                for item in await self._channel.receive():
                    self._parse(item.octets)
                self.ring()
        except ChannelBroken:
            self._fail(Lost("closed by the server"))

    async def transact(self, transaction: lmtp.Transaction, message: Outgoing) -> lmtp.Done:
        """Send one message.  The session must be new, or at rest.

        Raises OSError if the message can't be read any more; the session is over then.
        """
        self._done, self._content = None, message.pieces()
        await self._feed(lmtp.Begin(transaction))
        return await self._until_done()

    async def _until_done(self) -> lmtp.Done:
        while self._done is None:
            await self._feed(await self._next())
        while self._replies:  # behind the one that ended it: they may end the session
            await self._feed(self._replies.popleft())
        return self._done

    async def rest(self, wanted: Callable[[], bool]) -> bool:
        """Until there is work; False if the session is over."""
        while not self.closed:
            if self._replies:
                await self._feed(self._replies.popleft())
            elif self._failure is not None:
                await self._feed(self._failure)
            elif wanted():
                return True
            else:
                await self._news.park()
        return False

    async def end(self) -> None:
        """QUIT, if the server still listens, and close.  Takes some seconds at most."""
        try:
            if not self.closed:
                await self._feed(Finish())
            while not self.closed:
                await self._feed(await self._next())
        finally:
            self.close()

    # -- events and effects -----------------------------------------------------------------------

    async def _feed(self, event: lmtp.Event) -> None:
        """One event, and what follows from it."""
        self.session, effects = lmtp.step(self.session, event, self._options)
        self._wait_anew()
        for effect in effects:
            match effect:
                case Send():
                    await self._write(effect.octets)
                case SendEnd():
                    await self._write_end()
                case lmtp.Done():
                    self._done = effect
                case Close():
                    self._channel.close()
                case SendContent():
                    pass  # `_next` writes it

    def _wait_anew(self) -> None:
        self._deadline = trio.current_time() + lmtp.patience_s(self.session) * self._factor

    async def _next(self) -> lmtp.Event:
        """The next event; it may take until the deadline."""
        if self.session.phase is lmtp.Phase.CONTENT:
            await self._write_content()
        else:
            with trio.CancelScope(deadline=self._deadline):
                while not self._heard():
                    await self._news.park()
        if self._replies:
            return self._replies.popleft()
        if self._failure is not None:
            return self._failure
        return ContentSent() if self.session.phase is lmtp.Phase.CONTENT else TimedOut()

    def _heard(self) -> bool:
        """Whether the server has said something, or is gone."""
        return bool(self._replies) or self._failure is not None

    # -- reading ----------------------------------------------------------------------------------

    def _parse(self, octets: bytes) -> None:
        try:
            for line in octets.splitlines(keepends=True):
                self._replies.extend([Replied(each) for each in self._parser.feed(line)])
        except ReplyError as error:
            self._fail(NotAReply(str(error)))
        if len(self._replies) > REPLIES:
            self._fail(NotAReply("more replies than commands"))

    def _fail(self, event: lmtp.Event) -> None:
        """The first thing that went wrong stands."""
        self._failure = self._failure or event
        self.ring()

    # -- writing ----------------------------------------------------------------------------------

    async def _write_content(self) -> None:
        """All pieces but the last; less if the server speaks, which always ends the session then.

        Raises OSError if the message can't be read: its end is not sent, so nothing is kept.
        """
        try:
            last = next(self._content)
            for piece in self._content:
                if self._heard():
                    return
                await self._write(last)
                last = piece
        except OSError:
            self.close()
            raise
        self._content = iter((last,))

    async def _write_end(self) -> None:
        if self._replies:
            self._replies.clear()
            self._fail(NotAReply("a reply before the end of the content"))
            return
        await self._write(next(self._content))

    async def _write(self, octets: bytes) -> None:
        """In full, or the session has failed."""
        for start in range(0, len(octets), LIMITS[OCTETS]):
            if self._failure is not None:
                return
            self._channel.post_octets(octets[start : start + LIMITS[OCTETS]])
            self._wait_anew()
            with trio.CancelScope(deadline=self._deadline) as scope:
                try:
                    await self._channel.flush()
                    await trio.lowlevel.checkpoint()  # replies may be there
                except ChannelBroken:
                    self._fail(Lost("closed by the server"))
            if scope.cancelled_caught:
                self._fail(TimedOut())
