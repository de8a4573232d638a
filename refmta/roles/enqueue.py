"""enqueue: parses again what smtpd sends, makes it durable, and only then says so.

Theory: each submitter's channel has a task that writes its message's chunk as the content comes
in.  A message whose content is complete joins the group; the committer takes all that are
complete at one moment and makes them durable together (`chunks.commit_plan`), then tells each
submitter, then qmgr.  While a group is being synced the next one gathers, so that the disk sets
the size of the groups and nobody waits for a timer.

A large body is synced by a thread beside the groups before it joins one: its commit in the group
finds nothing left to write.

enqueue alone knows which chunks are committed, so it alone tells qmgr: at its own start (recovery),
and whenever qmgr is started anew.  qmgr ignores the ids that it knows.

What is refused: 452 4.3.1 when the disk is full, 451 4.3.0 for any other failure of the disk,
550/553 for an envelope that doesn't parse (smtpd would not have sent it).  Nothing half-written
stays, if the disk lets us remove it; what stays is torn, and recovery sets it aside.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received
from refmta.stores import chunks
from refmta.stores.disk import Disk, PosixDisk
from refmta.trace import Emit, silent
from refmta.wire.address import AddressError, is_address_literal, parse_mailbox
from refmta.wire.envelope import MAX_BLOCK, Envelope, is_queue_id, queue_id
from refmta.wire.header import received, received_here
from refmta.wire.messages import Abandon, Arrived, Finish, Kept, Refused, Submit

#: Bodies from here on are written back as they come and synced by a thread, in octets.
LARGE_OCTETS = 1 << 20
#: Most queue ids in one frame to qmgr.
ARRIVED_AT_ONCE = 500


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """enqueue's configuration."""

    spool: str
    #: What the spool is called inside of its jail, if it has one.
    root: str = ""
    hostname: str
    message_octets: int


class Rejection(Exception):
    """A submission that is refused, with the reply for the client."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.refused = Refused(code=code, enhanced=enhanced, text=text)


@dataclass(slots=True, eq=False)
class Submission:
    """One message on its way in."""

    channel: Channel
    draft: chunks.OpenDraft
    envelope: Envelope
    octets: int = 0
    rejection: Rejection | None = None


@dataclass(slots=True)
class Enqueue:
    """The role's state: the disk, the group that gathers, and the channel to qmgr."""

    disk: Disk
    config: Slice
    journal: Journal
    group: list[Submission] = field(default_factory=list)
    writing: set[str] = field(default_factory=set)
    complete: trio.Event = field(default_factory=trio.Event)
    qmgr: Channel | None = None
    #: A group's answers are not all with their submitters.
    answering: bool = False
    trace: Emit = silent

    # -- submitters -------------------------------------------------------------------------------

    async def serve(self, channel: Channel, submitter: str = "smtpd") -> None:
        """Take messages from one submitter, smtpd or bounce, until it goes away."""
        current: Submission | None = None
        try:
            while True:
                for item in await channel.receive():
                    check_origin(item.message, submitter)
                    current = await self._take(channel, current, item)
        except ChannelBroken as broken:
            if str(broken) not in ("end of stream", "closed", "the peer is gone"):
                self.journal.error("submitter cut off", reason=str(broken))
        finally:
            if current is not None:
                self._forget(current)
            channel.close()

    async def _take(
        self, channel: Channel, current: Submission | None, item: Received
    ) -> Submission | None:
        match item.message:
            case Submit() if current is None:
                return self._begin(channel, item.message)
            case None if current is not None:
                self._add(current, item.octets)
                return current
            case Finish() if current is not None:
                await self._finish(current, item.message.octets)
                return None
            case Abandon():
                if current is not None:
                    self._forget(current)
                return None
            case _:
                raise ChannelBroken("message out of order")

    def _begin(self, channel: Channel, submit: Submit) -> Submission:
        envelope = Envelope(
            queue_id=queue_id(time.time_ns() // 1_000_000, secrets.randbits(32)),
            arrival_s=int(time.time()),
            reverse_path=submit.reverse_path,
            recipients=submit.recipients,
            client=submit.client,
            helo=submit.helo,
            protocol=submit.protocol,
        )
        rejection = None
        try:
            check(envelope)
        except Rejection as error:
            rejection, envelope = error, _harmless(envelope)
        draft = chunks.OpenDraft(self.disk, chunks.Draft(envelope))
        submission = Submission(channel, draft, envelope, rejection=rejection)
        self.writing.add(envelope.queue_id)
        if rejection is None:
            self._write(submission, self._trace(envelope))
        return submission

    def _trace(self, envelope: Envelope) -> bytes:
        if envelope.protocol == "local":
            return received_here(
                hostname=self.config.hostname,
                queue_id=envelope.queue_id,
                unix_time_s=envelope.arrival_s,
            )
        only = envelope.recipients[0] if len(envelope.recipients) == 1 else None
        return received(
            helo=envelope.helo,
            client=envelope.client,
            hostname=self.config.hostname,
            protocol=envelope.protocol,
            queue_id=envelope.queue_id,
            recipient=only,
            unix_time_s=envelope.arrival_s,
        )

    def _add(self, submission: Submission, octets: bytes) -> None:
        submission.octets += len(octets)
        if submission.octets > self.config.message_octets and submission.rejection is None:
            self._reject(submission, Rejection(552, "5.3.4", "Message too large"))
        if submission.rejection is None:
            self._write(submission, octets)

    def _write(self, submission: Submission, octets: bytes) -> None:
        try:
            for start in range(0, len(octets), MAX_BLOCK):
                submission.draft.add(octets[start : start + MAX_BLOCK])
        except OSError as error:
            self._reject(submission, disk_rejection(error))
            self._log_failure(submission, "write", error)

    async def _finish(self, submission: Submission, octets: int) -> None:
        if submission.rejection is None and submission.octets != octets:
            self._reject(submission, Rejection(451, "4.3.0", "Content was lost on its way"))
        if submission.rejection is None:
            try:
                submission.draft.finish()
                if submission.octets >= LARGE_OCTETS:
                    handle = submission.draft.handle
                    await trio.to_thread.run_sync(self.disk.sync, handle)
            except OSError as error:
                self._reject(submission, disk_rejection(error))
                self._log_failure(submission, "sync", error)
        self.group.append(submission)
        self.complete.set()

    def _reject(self, submission: Submission, rejection: Rejection) -> None:
        submission.rejection = rejection
        submission.draft.discard()

    def _forget(self, submission: Submission) -> None:
        submission.draft.discard()
        self.writing.discard(submission.envelope.queue_id)

    # -- the committer ----------------------------------------------------------------------------

    async def commit_groups(self) -> None:
        """For ever: make durable all that is complete, then say so."""
        while True:
            await self.complete.wait()
            # Whoever became runnable in this same moment joins the group.
            await trio.lowlevel.checkpoint()
            group, self.group, self.complete = self.group, [], trio.Event()
            self.answering = True
            arrived = self._commit([each for each in group if each.rejection is None])
            for submission in group:
                if submission.rejection is not None:
                    self._answer(submission, submission.rejection.refused)
            await self._flush(group)
            # The clients first: they wait.
            await self.announce(arrived)
            self.answering = False

    def _commit(self, group: list[Submission]) -> list[str]:
        """Make a group durable and prepare its answers; returns the queue ids that are."""
        failures = chunks.commit(self.disk, [each.draft for each in group]) if group else {}
        arrived = []
        for submission in group:
            error = failures.get(submission.draft.path)
            if error is None:
                arrived.append(submission.envelope.queue_id)
                submission.draft.close()
                self._say_committed(submission)
                self._answer(submission, Kept(queue_id=submission.envelope.queue_id))
                self._log_kept(submission)
            else:
                self._reject(submission, disk_rejection(error))
                self._log_failure(submission, "sync", error)
        return arrived

    def _say_committed(self, submission: Submission) -> None:
        self.trace(
            "enqueue.committed",
            queue_id=submission.envelope.queue_id,
            recipients=len(submission.envelope.recipients),
            sender=submission.envelope.reverse_path,
            path=submission.draft.path,
        )

    def _answer(self, submission: Submission, answer: Kept | Refused) -> None:
        self.writing.discard(submission.envelope.queue_id)
        submission.channel.post(answer)

    async def _flush(self, group: list[Submission]) -> None:
        for submission in group:
            try:
                await submission.channel.flush()
            except ChannelBroken:
                continue  # kept all the same: the client will send it again (window: reply lost)

    # -- qmgr -------------------------------------------------------------------------------------

    async def announce(self, queue_ids: Iterable[str]) -> None:
        """Tell qmgr what is in the queue; without a qmgr its successor will be told."""
        ids = list(queue_ids)
        if self.qmgr is None or not ids:
            return
        try:
            for start in range(0, len(ids), ARRIVED_AT_ONCE):
                part = tuple(ids[start : start + ARRIVED_AT_ONCE])
                self.qmgr.post(Arrived(queue_ids=part))
                await self.qmgr.flush()
        except ChannelBroken:
            self.qmgr = None

    async def recover(self) -> None:
        """At the start: set aside what is not whole, announce the rest, in groups."""
        candidates = [name for name in chunks.names(self.disk) if name not in self.writing]
        whole: list[str] = []
        for name, reason in chunks.recover(self.disk, candidates):
            if reason:
                self.journal.error("chunk set aside", queue_id=name, reason=reason)
            else:
                whole.append(name)
                self.trace("enqueue.recovered", queue_id=name)
            if len(whole) >= ARRIVED_AT_ONCE:
                await self.announce(whole)
                whole.clear()
            await trio.lowlevel.checkpoint()
        await self.announce(whole)

    async def follow_qmgr(self, context: Context, recovered: trio.Event) -> None:
        """Each time qmgr is started anew, tell it all that is committed."""
        while True:
            linked = await context.port("qmgr").get()
            if self.qmgr is not None:
                self.qmgr.close()
            self.qmgr = linked.channel
            if recovered.is_set():
                await self.announce_all()

    async def announce_all(self) -> None:
        """Also after recovery: what it announced may have gone to a qmgr that died, or to none."""
        names = filter(is_queue_id, chunks.names(self.disk))
        await self.announce(name for name in names if name not in self.writing)

    # -- the journal ------------------------------------------------------------------------------

    def _log_kept(self, submission: Submission) -> None:
        envelope = submission.envelope
        self.journal.info(
            "accepted",
            queue_id=envelope.queue_id,
            sender=envelope.reverse_path,
            recipients=len(envelope.recipients),
            octets=submission.octets,
            client=envelope.client,
        )

    def _log_failure(self, submission: Submission, what: str, error: OSError) -> None:
        self.journal.error(
            "refused: disk",
            queue_id=submission.envelope.queue_id,
            operation=what,
            path=f"{self.config.spool}/{submission.draft.path}",
            reason=os.strerror(error.errno or 0),
        )


def check_origin(message: object, submitter: str) -> None:
    """Only bounce says that a message was made here, says so of each, and writes as nobody: a
    seized smtpd can't hide where mail came from.  Raises ChannelBroken.
    """
    if not isinstance(message, Submit):
        return
    made_here = message.protocol == "local"
    if made_here != (submitter == "bounce") or (made_here and message.reverse_path):
        raise ChannelBroken("a message that this submitter may not send")


def check(envelope: Envelope) -> None:
    """Parse the envelope again: smtpd may be seized.  Raises Rejection."""
    try:
        if envelope.reverse_path:
            parse_mailbox(envelope.reverse_path)
    except AddressError:
        raise Rejection(553, "5.1.7", "Bad sender address") from None
    try:
        for recipient in envelope.recipients:
            parse_mailbox(recipient)
    except AddressError:
        raise Rejection(553, "5.1.3", "Bad recipient address") from None
    if not (_visible(envelope.helo) and _is_ip(envelope.client)):
        raise Rejection(550, "5.5.2", "Bad client name")


def _visible(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_ip(text: str) -> bool:
    literal = f"[IPv6:{text.partition('%')[0]}]" if ":" in text else f"[{text}]"
    return _visible(text) and is_address_literal(literal)


def _harmless(envelope: Envelope) -> Envelope:
    """What stands for a refused envelope: nothing of it is kept."""
    return Envelope(
        queue_id=envelope.queue_id,
        arrival_s=envelope.arrival_s,
        reverse_path="",
        recipients=("postmaster@localhost",),
        client="",
        helo="",
        protocol="",
    )


def disk_rejection(error: OSError) -> Rejection:
    """The true reply for a failure of the disk."""
    if chunks.out_of_space(error):
        return Rejection(452, "4.3.1", "Insufficient system storage")
    return Rejection(451, "4.3.0", "The queue could not be written")


async def run(context: Context, journal: Journal) -> None:
    """The role: recover, then serve until drained.  Raises OSError if there is no spool."""
    config = context.slice("enqueue", Slice)
    role = Enqueue(PosixDisk(config.root or config.spool), config, journal, trace=context.trace)
    recovered = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(role.follow_qmgr, context, recovered)
        nursery.start_soon(role.commit_groups)
        for submitter in ("smtpd", "bounce"):
            nursery.start_soon(_accept, context, role, nursery, submitter)
        context.ready()
        await role.recover()
        recovered.set()
        await role.announce_all()
        await context.draining.wait()
        while role.writing or role.group or role.answering:
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def _accept(context: Context, role: Enqueue, nursery: trio.Nursery, submitter: str) -> None:
    while True:
        linked = await context.port(submitter).get()
        nursery.start_soon(role.serve, linked.channel, submitter)
