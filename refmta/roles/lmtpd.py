"""lmtpd: the server of one user's mailboxes, spoken to by LMTP (RFC 2033).

It is what `roles.local` is to those who speak our own protocol: it runs as the recipient, in the
recipient's mail directory (its working directory), and writes nothing but mailboxes below it
(`stores.mailboxes`).  It never sees the queue; here not even a descriptor comes from there.

Rules a reader may rely on
- A recipient's 250 behind the content is sent after the commit of that recipient's mailbox, and for
  nothing else.  Mailboxes of one message are committed one by one: one that can't be written
  delays nobody else's verdict (RFC 2033 section 4.2 gives each its own reply).
- What was not committed is gone: a session that ends in the middle of a message leaves no file, or
  one in tmp/ that the next process sweeps.
- A message that comes again under the name that its client gives it (`protocol.lmtp`: XDELIVERY)
  replaces the first in a Maildir.  Without a name from the client it has one of our own, and
  delivered again it is there twice.
- The client is a neighbour, and no friend: lines, commands, recipients and times are bounded, and
  mailbox paths are checked to stay below the mail directory.
- A process serves one connection, and ends with it: whoever wants another one has the supervisor
  start a process anew.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import lmtp_server as lmtp
from refmta.protocol import smtp_server as smtp
from refmta.protocol.lmtp import Origin
from refmta.protocol.routing import SYSTEM_MAILBOX
from refmta.roles.local import describe
from refmta.stores.disk import PosixDisk, out_of_space
from refmta.stores.mailboxes import Entry, FormName, Mailboxes, Stamp, open_mailboxes
from refmta.stores.maildir import check_mailbox
from refmta.trace import Emit, silent
from refmta.wire.dotstuff import Decoder
from refmta.wire.envelope import queue_id
from refmta.wire.line import LineCutter
from refmta.wire.reply import Reply, reply

#: Where commands are read and no message is under way.
AT_REST = (lmtp.Phase.CONNECTED, lmtp.Phase.GREETED)
#: How a session ends whose client did nothing wrong.
AN_ORDINARY_END = (smtp.TIMEOUT, smtp.SHUTDOWN)
NAMED_TWICE = reply(550, "5.5.4", "that delivery was named before")


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """lmtpd's configuration.  Times in seconds.

    idle_s: without a message.  command_s: within one, for what comes next.
    mailbox: the form of mailboxes (`stores.mailboxes`).
    message_octets: what was taken in once is not refused here, so this only keeps a client from
    filling the disk.
    """

    hostname: str
    idle_s: float = 300.0
    command_s: float = 300.0
    mailbox: FormName = "maildir"
    message_octets: int = 1 << 40


@dataclass(slots=True, eq=False)
class Delivery:
    """One recipient of the message that is under way: an entry, or why there is none."""

    recipient: str
    mailbox: str
    index: int
    entry: Entry | None = None
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Nothing stays behind."""
        if self.entry is not None:
            self.entry.discard()
        self.entry, self.error = None, error


@dataclass(slots=True, eq=False)
class Conversation:
    """One client's session, over a stream that it takes over."""

    channel: Channel
    config: Slice
    mailboxes: Mailboxes
    journal: Journal
    trace: Emit = silent
    session: lmtp.Session = field(default_factory=lmtp.Session)
    _options: lmtp.ServerOptions = field(init=False)
    _input: bytearray = field(default_factory=bytearray)
    _output: list[bytes] = field(default_factory=list)
    _decoder: Decoder = field(default_factory=Decoder)
    #: Of the recipients so far, in order; and which message it is, for us and for the client.
    _deliveries: list[Delivery] = field(default_factory=list)
    _origin: Origin | None = None
    _named: bool = False
    _draining: bool = False
    _waiting: trio.CancelScope | None = None

    def __post_init__(self) -> None:
        limits = lmtp.Limits(message_octets=self.config.message_octets)
        self._options = lmtp.ServerOptions(hostname=self.config.hostname, limits=limits)

    async def run(self) -> None:
        """Until the session is closed.  The channel is closed in any case."""
        event: lmtp.Event = smtp.Connected()
        try:
            while True:
                self.session, effects = lmtp.step(self.session, event, self._options)
                for effect in effects:
                    await self._carry_out(effect)
                if self.session.phase is lmtp.Phase.CLOSED:
                    return
                event = await self._next_event()
        finally:
            self._forget()
            self.channel.close()

    def drain(self) -> None:
        """The server stops: 421 at the next command boundary."""
        self._draining = True
        if self._waiting is not None and self.session.phase is not lmtp.Phase.BODY:
            self._waiting.cancel()

    # -- what happens next ------------------------------------------------------------------------

    async def _next_event(self) -> lmtp.Event:
        match self.session.phase:
            case lmtp.Phase.RCPT_ASKED:
                return self._verdict()
            case lmtp.Phase.BODY:
                return await self._read_body()
            case lmtp.Phase.COMMITTING:
                return await self._commit()
            case _:
                return await self._read_line()

    async def _read_line(self) -> lmtp.Event:
        cutter = LineCutter(self._options.limits.command_line)
        patience_s = self.config.idle_s if self.session.phase in AT_REST else self.config.command_s
        while True:
            line = cutter.cut(self._input)
            if line is not None:
                if cutter.too_long:
                    return smtp.LineTooLong()
                return smtp.CommandLine(line, pipelined=bool(self._input))
            if self._draining:
                return smtp.Draining()
            event = await self._fill(patience_s)
            if event is not None:
                return event

    async def _read_body(self) -> lmtp.Event:
        decoder = self._decoder
        while True:
            if self._input:
                content = decoder.feed(bytes(self._input))
                self._input.clear()
                if content and decoder.size <= self.config.message_octets:
                    self._write(content)
            if decoder.status == "complete":
                self._input += decoder.rest
                return smtp.BodyEnd(size=decoder.size, bare=decoder.bare)
            if decoder.status == "refused_end":
                return smtp.BodyRefusedEnd()
            event = await self._fill(self.config.command_s)
            if event is not None:
                return event

    async def _fill(self, patience_s: float) -> lmtp.Event | None:
        """More input; or the event that came in its place."""
        received = []
        with trio.CancelScope(deadline=trio.current_time() + patience_s) as self._waiting:
            try:
                await self._flush()
                received = await self.channel.receive()
            except ChannelBroken:
                return smtp.Lost()
        self._waiting = None
        for each in received:
            self._input += each.octets
        if received:
            return None
        reading = self.session.phase is lmtp.Phase.BODY
        return smtp.Draining() if self._draining and not reading else smtp.TimedOut()

    async def _flush(self) -> None:
        """Replies are kept while pipelined commands are at hand (RFC 2920 3.2)."""
        for octets in self._output:
            self.channel.post_octets(octets)
        self._output.clear()
        await self.channel.flush()

    # -- effects ----------------------------------------------------------------------------------

    async def _carry_out(self, effect: lmtp.Effect) -> None:
        match effect:
            case smtp.Send():
                self._output.append(effect.reply.encode())
                if effect.reply.code >= 400 and effect.reply not in AN_ORDINARY_END:
                    self.journal.info("refused", reply=str(effect.reply))
            case lmtp.ReadBody():
                self._begin(effect)
            case smtp.Abandon():
                self._forget()
            case smtp.Close():
                with contextlib.suppress(ChannelBroken), trio.move_on_after(self.config.command_s):
                    await self._flush()
            case lmtp.AskRecipient() | smtp.Commit():
                pass  # `_next_event` says what comes of it

    def _verdict(self) -> lmtp.Event:
        """Of the recipient that is asked for: is that a mailbox of ours, and not named before?"""
        if not self.session.recipients:
            self._deliveries.clear()  # a transaction begins
        delivery = self._delivery(self.session.asked)
        try:
            check_mailbox(delivery.mailbox)
        except ValueError as error:
            answer = reply(450, "4.2.0", describe(error, delivery.mailbox))
            return smtp.RecipientVerdict(False, answer)
        if any(_same_entry(each, delivery) for each in self._deliveries):
            return smtp.RecipientVerdict(False, NAMED_TWICE)
        self._deliveries.append(delivery)
        return smtp.RecipientVerdict(True)

    def _delivery(self, recipient: lmtp.Recipient | None) -> Delivery:
        if recipient is None:
            raise smtp.ImpossibleError("a recipient's verdict, and nobody asked")
        address, place = recipient.address, recipient.place
        return Delivery(
            # `<Postmaster>` without a domain means ours (RFC 5321 4.5.1).
            recipient=str(address) if address.domain else f"{address.local}@{self.config.hostname}",
            mailbox=SYSTEM_MAILBOX if place is None else place.mailbox,
            index=len(self._deliveries) if place is None else place.index,
        )

    # -- the message ------------------------------------------------------------------------------

    def _begin(self, body: lmtp.ReadBody) -> None:
        """An entry in each mailbox."""
        self._decoder = Decoder()
        self._named = body.origin is not None
        self._origin = body.origin or _origin_of_our_own()
        reverse_path = "" if body.reverse_path is None else str(body.reverse_path)
        for delivery in self._deliveries:
            stamp = Stamp(
                queue_id=self._origin.queue_id,
                arrival_s=self._origin.arrival_s,
                index=delivery.index,
                reverse_path=reverse_path,
                recipient=delivery.recipient,
            )
            try:
                delivery.entry = self.mailboxes.begin(delivery.mailbox, stamp)
            except (OSError, ValueError) as error:
                delivery.fail(error)

    def _write(self, content: bytes) -> None:
        for delivery in self._deliveries:
            if delivery.entry is not None:
                try:
                    delivery.entry.add(content)
                except OSError as error:
                    delivery.fail(error)

    async def _commit(self) -> lmtp.Event:
        """Mailbox by mailbox; then each recipient's own verdict."""
        groups: dict[str, list[Delivery]] = {}
        for delivery in self._deliveries:
            entry = delivery.entry
            if entry is not None:
                try:
                    entry.finish()
                except OSError as error:
                    delivery.fail(error)
                else:
                    groups.setdefault(entry.mailbox, []).append(delivery)
        for group in groups.values():
            await self._commit_mailbox(group)
        replies = tuple([self._reply(each) for each in self._deliveries])
        self._deliveries.clear()
        return lmtp.Delivered(replies)

    async def _commit_mailbox(self, group: Sequence[Delivery]) -> None:
        entries = [each.entry for each in group if each.entry is not None]
        for delivery in group:
            delivery.entry = None  # they belong to `commit` now
        failures = await self.mailboxes.commit(entries)
        for delivery, entry in zip(group, entries, strict=True):
            delivery.error = failures.get(entry.name)
            if delivery.error is None and self._named and self._origin is not None:
                self.trace(
                    "local.delivered", queue_id=self._origin.queue_id, index=delivery.index,
                    recipient=delivery.recipient, path=entry.place,
                )  # fmt: skip

    def _reply(self, delivery: Delivery) -> Reply:
        error = delivery.error
        if error is None:
            return reply(250, "2.0.0", "delivered")
        text = describe(error, delivery.mailbox)
        self.journal.warning("not delivered", recipient=delivery.recipient, reason=text)
        full = isinstance(error, OSError) and out_of_space(error)
        return reply(452, "4.2.2", text) if full else reply(451, "4.2.0", text)

    def _forget(self) -> None:
        """Drop what was begun."""
        for delivery in self._deliveries:
            if delivery.entry is not None:
                delivery.entry.discard()
        self._deliveries.clear()


def _origin_of_our_own() -> Origin:
    """For a message whose client does not say which it is."""
    now_s = time.time()
    return Origin(queue_id=queue_id(int(now_s * 1000), secrets.randbits(32)), arrival_s=int(now_s))


def _same_entry(one: Delivery, other: Delivery) -> bool:
    return (one.mailbox, one.index) == (other.mailbox, other.index)


async def run(context: Context, journal: Journal) -> None:
    """The role: serve one client, until it goes away, is idle for too long, or we are drained.

    Raises OSError if the mail directory is unusable.
    """
    config = context.slice("lmtpd", Slice)
    disk = PosixDisk(".")
    mailboxes = open_mailboxes(config.mailbox, disk, config.hostname)
    context.ready()
    linked = await _first_link(context, config.idle_s)
    if linked is not None:
        session = Conversation(linked.channel, config, mailboxes, journal, context.trace)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, context, session.drain)
            await session.run()
            nursery.cancel_scope.cancel()
    disk.leave()


async def _first_link(context: Context, idle_s: float) -> Linked | None:
    """The client; None if nobody comes, or we are to stop."""
    linked = None
    with trio.move_on_after(idle_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain, context, nursery.cancel_scope.cancel)
            linked = await context.port("lmtpc").get()
            nursery.cancel_scope.cancel()
    return linked


async def _drain(context: Context, end: Callable[[], None]) -> None:
    await context.draining.wait()
    end()
