"""smtpd: one SMTP session, from the greeting to the close; parses, and holds no mail.

Theory: `protocol.smtp_server` decides, this file carries out.  Its loop asks "what can happen in
this phase", waits for that (a line of the client, a part of the content, a verdict of resolve or
enqueue), feeds the event to `step`, and performs the effects in order.  Replies are gathered and
written when nothing more can be done without the client (RFC 2920 3.2).

What is tricky:
- A line ends at LF; if no CR stands before it the line is answered 500, never executed.  Cutting
  there, rather than waiting for a CRLF, makes the answer independent of how the octets arrive.
- Content goes to enqueue as it comes.  A small message costs one write: the envelope, the
  content and its end wait in the channel until there is nothing more to read.
- One cancel scope serves the whole session; its deadline is moved before each wait.  It ends a
  wait for the client (too slow, or the server drains) and a wait for a verdict alike; the phase
  says which.  Sockets are read and written without trio's checkpoints: at fifteen of them a
  message they would cost as much as all the rest.  Where sessions share a process, others still
  get their turn, since each wait for the client yields, and input is read in bounded pieces.
- Under stress, when the pool has no worker left, a client may be silent for `stress_s` only, also
  one that is silent already; and it must bring a whole line in that time, or content at `RATE`,
  not an octet now and then.  RFC 5321 4.5.3.2.7 says five minutes (SHOULD); Postfix's
  stress-adaptive behaviour deviates in the same way (STRESS_README), for sessions that begin then.
- After an overdue or lost verdict the channels may still hold an answer that nobody waits for, so
  the session says that it was not clean, and its process must serve no other.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import smtp_server as smtp
from refmta.roles import listening
from refmta.trace import Emit, silent
from refmta.wire.address import Mailbox
from refmta.wire.dotstuff import Decoder
from refmta.wire.frame import LIMITS, OCTETS
from refmta.wire.line import LineCutter
from refmta.wire.messages import (
    Abandon,
    Finish,
    Kept,
    Refused,
    Submit,
    Verified,
    Verify,
)
from refmta.wire.reply import reply

#: Octets read from the client at a time: commands, or a small message; then content.
READ_OCTETS = 8 * 1024
CONTENT_OCTETS = 64 * 1024
#: Content that may wait in the channel before it is pushed out.
HELD_OCTETS = 128 * 1024
#: Octets that earn a second under stress.  Precedent: Postfix's smtpd_min_data_rate.
RATE = 500
#: Phases in which an answer of resolve or enqueue is on its way.
AWAITING = (smtp.Phase.RCPT_ASKED, smtp.Phase.COMMITTING)
AWAY = reply(451, "4.3.0", "a part of this server is starting anew; try again")


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """smtpd's configuration.  Times in seconds."""

    hostname: str
    message_octets: int
    recipients: int
    errors: int
    command_s: float
    data_s: float
    verdict_s: float
    stress_s: float
    #: Whether addresses that come in may be rewritten.
    rewrites: bool = False
    #: Where one process serves all: how many at once, and of one client that is not trusted.
    sessions: int = 100
    connections_per_client: int = 50
    trusted: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Conversation:
    """One client's session."""

    connection: socket.socket
    client: str
    config: Slice
    enqueue: Channel
    resolve: Channel
    journal: Journal
    options: smtp.ServerOptions
    trace: Emit
    _input: bytearray
    session: smtp.Session = field(default_factory=smtp.Session)
    clean: bool = True
    draining: bool = False
    stressed: bool = False
    #: Of the wait for the client that goes on now; 0 if there is none.
    _patience_s: float = 0.0
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _interruptible: bool = False
    _output: list[bytes] = field(default_factory=list)
    #: What stands for addresses of this transaction.
    _instead: dict[str, str] = field(default_factory=dict)
    _decoder: Decoder = field(default_factory=Decoder)
    _held: int = 0
    _said_bye: bool = False

    async def run(self) -> None:
        """Until the session is closed.  The connection is closed in any case."""
        try:
            await self._converse(smtp.Connected(early=bool(self._input)))
            if self.session.phase is not smtp.Phase.CLOSED:
                await self._interrupted()
        finally:
            self.connection.close()

    async def _converse(self, event: smtp.Event) -> None:
        """Event after event, until the session closes or a wait is cut off."""
        with self._scope:
            while True:
                self.session, effects = smtp.step(self.session, event, self.options)
                for effect in effects:
                    await self._carry_out(effect)
                if self.session.phase is smtp.Phase.CLOSED:
                    return
                event = await self._next_event()

    async def _interrupted(self) -> None:
        """A wait was cut off: say why, and end.  An answer that comes too late is nobody's."""
        drained = self.draining and self._interruptible
        self._patience_s = 0.0
        self.clean = self.session.phase not in AWAITING
        if self.session.phase is smtp.Phase.COMMITTING:
            self.trace("smtpd.unheard")
        self._scope = trio.CancelScope(deadline=trio.current_time() + CLOSING_S)
        await self._converse(smtp.Draining() if drained else smtp.TimedOut())

    def drain(self) -> None:
        """The server stops: 421 at the next command boundary."""
        self.draining = True
        if self._interruptible:
            self._scope.cancel()

    def press(self, stressed: bool) -> None:
        """Stress begins or ends: patience changes, also with a client that is silent now."""
        self.stressed = stressed
        if self._patience_s:
            self._allow(self._patience_s, earned_s=None if not stressed else 0.0)

    # -- what happens next ------------------------------------------------------------------------

    async def _next_event(self) -> smtp.Event:
        match self.session.phase:
            case smtp.Phase.RCPT_ASKED:
                return await self._recipient_verdict()
            case smtp.Phase.BODY:
                return await self._read_body()
            case smtp.Phase.COMMITTING:
                return await self._commit_verdict()
            case _:
                return await self._read_line()

    async def _read_line(self) -> smtp.Event:
        cutter, earned_s = LineCutter(self.options.limits.command_line), None
        while True:
            line = cutter.cut(self._input)
            if line is not None:
                if cutter.too_long:
                    return smtp.LineTooLong()
                return smtp.CommandLine(line, pipelined=bool(self._input))
            if self.draining:
                return smtp.Draining()
            had = len(self._input)
            event = await self._fill(self.config.command_s, earned_s)
            if event is not None:
                return event
            earned_s = (len(self._input) - had) / RATE

    async def _read_body(self) -> smtp.Event:
        decoder, earned_s = self._decoder, None
        while True:
            if self._input:
                content = decoder.feed(bytes(self._input))
                self._input.clear()
                if content and decoder.size <= self.config.message_octets:
                    await self._pass_on(content)
            if decoder.status == "complete":
                self._input += decoder.rest
                if decoder.size > self.config.message_octets:
                    return smtp.BodyTooLarge()
                return smtp.BodyEnd(size=decoder.size, bare=decoder.bare)
            if decoder.status == "refused_end":
                return smtp.BodyRefusedEnd()
            event = await self._fill(self.config.data_s, earned_s)
            if event is not None:
                return event
            earned_s = len(self._input) / RATE

    async def _pass_on(self, content: bytes) -> None:
        for start in range(0, len(content), LIMITS[OCTETS]):
            self.enqueue.post_octets(content[start : start + LIMITS[OCTETS]])
        self._held += len(content)
        if self._held > HELD_OCTETS:
            self._held = 0
            with contextlib.suppress(ChannelBroken):  # the verdict will say so
                await self.enqueue.flush()

    async def _fill(self, patience_s: float, earned_s: float | None) -> smtp.Event | None:
        """More input; or the event that came in its place."""
        self._allow(patience_s, earned_s)
        if not await self._flush_replies():
            return smtp.Lost()
        self._interruptible = self.session.phase is not smtp.Phase.BODY
        try:
            # Waiting comes first: a client that waits for our reply has sent nothing yet.
            await trio.lowlevel.wait_readable(self.connection)
            octets = self.connection.recv(READ_OCTETS if self._interruptible else CONTENT_OCTETS)
        except BlockingIOError:
            return None
        except OSError:
            return smtp.Lost()
        self._interruptible, self._patience_s = False, 0.0
        if not octets:
            return smtp.Lost()
        self._input += octets
        return None

    def _allow(self, patience_s: float, earned_s: float | None) -> None:
        """The deadline of a wait for the client.  earned_s: what the octets that it just sent of
        an unfinished line or content are worth under stress; None where it begins afresh.
        """
        self._patience_s = patience_s
        if not self.stressed:
            self._be_patient(patience_s)
            return
        deadline = trio.current_time() + min(patience_s, self.config.stress_s)
        if earned_s is not None:
            deadline = min(deadline, self._scope.deadline + earned_s)
        self._scope.deadline = deadline

    def _be_patient(self, seconds: float) -> None:
        """Move the deadline, unless it is right to within a fiftieth: moving it is not free."""
        wanted = trio.current_time() + seconds
        if abs(self._scope.deadline - wanted) > seconds / 50:
            self._scope.deadline = wanted

    async def _recipient_verdict(self) -> smtp.Event:
        match await self._verdict(self.resolve):
            case Verified(code=250) as verified:
                self._note(verified)
                return smtp.RecipientVerdict(True)
            case Verified() as verified if verified.code >= 400:
                answer = reply(verified.code, verified.enhanced or None, verified.text)
                return smtp.RecipientVerdict(False, answer)
            case _:
                self.clean = False
                return smtp.RecipientVerdict(False, AWAY)

    async def _commit_verdict(self) -> smtp.Event:
        match await self._verdict(self.enqueue):
            case Kept() as kept:
                self.trace("smtpd.replied", queue_id=kept.queue_id)  # before the 250 goes out
                return smtp.CommitVerdict(queue_id=kept.queue_id)
            case Refused() as refused if refused.code >= 400:
                answer = reply(refused.code, refused.enhanced or None, refused.text)
                return smtp.CommitVerdict(reply=answer)
            case _:
                self.clean = False
                self.trace("smtpd.unheard")
                return smtp.CommitVerdict(reply=AWAY)

    async def _verdict(self, channel: Channel) -> object:
        """The one message that answers our question; None if its channel breaks."""
        self._be_patient(self.config.verdict_s)
        try:
            await channel.flush()
            (received,) = await channel.receive()
        except (ChannelBroken, ValueError):
            return None
        return received.message

    # -- effects ----------------------------------------------------------------------------------

    async def _carry_out(self, effect: smtp.Effect) -> None:
        match effect:
            case smtp.Send():
                self._output.append(effect.reply.encode())
                self._said_bye = effect.reply.code == 221
                if effect.reply.code >= 400:
                    self._log_refusal(str(effect.reply))
            case smtp.AskRecipient():
                self.resolve.post(self._question(effect.recipient))
            case smtp.ReadBody():
                self._decoder = Decoder()
                self._held = 0
                self.enqueue.post(self._submission(effect))
            case smtp.Commit():
                self.enqueue.post(Finish(octets=effect.size))
            case smtp.Abandon():
                self.enqueue.post(Abandon())
                with contextlib.suppress(ChannelBroken):
                    await self.enqueue.flush()
            case smtp.Close():
                await self._close(politely=self._said_bye and not self._input)

    def _question(self, recipient: Mailbox) -> Verify:
        """About a recipient; and about the reverse-path, too, if there is a map to go through."""
        if not self.session.recipients:
            self._instead.clear()  # a transaction begins
        sender = self.session.reverse_path if self.config.rewrites else None
        return Verify(
            recipient=self._address(recipient),
            client=self.client,
            reverse_path="" if sender is None else self._address(sender),
        )

    def _note(self, verified: Verified) -> None:
        """What resolve makes of the addresses that it was asked about."""
        asked, sender = self.session.asked, self.session.reverse_path
        if asked is not None and verified.recipient:
            self._instead[self._address(asked)] = verified.recipient
        if sender is not None and verified.reverse_path:
            self._instead[self._address(sender)] = verified.reverse_path

    def _kept(self, mailbox: Mailbox) -> str:
        """The address that the queue gets: what the maps made of it, or itself."""
        address = self._address(mailbox)
        return self._instead.get(address, address) if self._instead else address

    def _submission(self, body: smtp.ReadBody) -> Submit:
        return Submit(
            reverse_path="" if body.reverse_path is None else self._kept(body.reverse_path),
            recipients=tuple([self._kept(each) for each in body.recipients]),
            client=self.client,
            helo=body.helo,
            protocol="ESMTP" if body.extended else "SMTP",
        )

    def _address(self, mailbox: Mailbox) -> str:
        """`<Postmaster>` without a domain means ours (RFC 5321 4.5.1)."""
        return str(mailbox) if mailbox.domain else f"{mailbox.local}@{self.config.hostname}"

    async def _flush_replies(self) -> bool:
        """Write what is due; False if the client is gone."""
        if not self._output:
            return True
        octets = b"".join(self._output)
        self._output.clear()
        try:
            while octets:
                try:
                    octets = octets[self.connection.send(octets) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.connection)
        except OSError:
            return False
        return True

    async def _close(self, *, politely: bool) -> None:
        """Send what is left.  Where the client did not ask for the end, wait for its own, so that
        it reads our last reply: a connection closed over unread input is reset, and a reset may
        overtake the reply.
        """
        self._be_patient(CLOSING_S)
        if not await self._flush_replies() or politely:
            return
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(CLOSING_READS):
                await trio.lowlevel.wait_readable(self.connection)
                if not self.connection.recv(READ_OCTETS):
                    return

    def _log_refusal(self, text: str) -> None:
        self.journal.info("refused", client=self.client, helo=self.session.helo, reply=text)


#: How long, and how often, input is read and dropped while a session closes.
CLOSING_S = 2.0
CLOSING_READS = 64


def options(config: Slice) -> smtp.ServerOptions:
    """The protocol's options from the configuration."""
    limits = smtp.Limits(
        recipients=config.recipients, message_octets=config.message_octets, errors=config.errors
    )
    return smtp.ServerOptions(hostname=config.hostname, limits=limits)


def converse(
    connection: socket.socket,
    client: str,
    configuration: bytes,
    channels: Mapping[str, Channel],
    journal: Journal,
    trace: Emit = silent,
) -> Conversation:
    """A session for a connection, which it takes over; its channels lead to enqueue and resolve."""
    config = msgspec.msgpack.decode(configuration, type=Slice)
    connection.setblocking(False)
    return Conversation(
        connection=connection,
        client=client,
        config=config,
        enqueue=channels["enqueue"],
        resolve=channels["resolve"],
        journal=journal,
        options=options(config),
        trace=trace,
        _input=early_talk(connection),
    )


def early_talk(connection: socket.socket) -> bytearray:
    """What the client said before the greeting (RFC 5321 4.3.1: it should have waited)."""
    with contextlib.suppress(OSError):
        return bytearray(connection.recv(READ_OCTETS))
    return bytearray()


async def run(context: Context, journal: Journal) -> None:
    """The role where it stays: it accepts clients by itself, and serves them all, until drained."""
    config = context.slice("smtpd", Slice)
    places = listening.Places(
        sessions=config.sessions,
        per_client=config.connections_per_client,
        trusted=config.trusted,
    )

    def begin(
        connection: socket.socket, client: str, channels: Mapping[str, Channel]
    ) -> Conversation:
        slice_ = context.slices["smtpd"]
        return converse(connection, client, slice_, channels, journal, context.trace)

    await listening.serve(context, journal, places, ("enqueue", "resolve"), begin)
