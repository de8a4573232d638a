"""Messages on their way in: each submitter's task, and the committer.

A message is *begun* (its envelope checked, its draft made), *added to*, and *finished*; then it
joins the group.  The committer takes the group that has gathered, makes it durable, and answers, or
lets the answer wait for qmgr's word.  See `roles.enqueue` for the theory.

`writing` has every queue id from the beginning of its message to its answer: whoever recovers
leaves these alone, and a process that is to end waits for them.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received
from refmta.roles.admission import Rejection, check, check_origin, disk_rejection
from refmta.roles.qmgr_line import QmgrLine, Word
from refmta.stores.queue import Draft, QueueStore
from refmta.trace import Emit, silent
from refmta.wire.envelope import MAX_BLOCK, Envelope, queue_id
from refmta.wire.header import received, received_here
from refmta.wire.messages import Abandon, Finish, Kept, Refused, Submit

#: Bodies from here on are written back as they come and synced by a thread, in octets.
LARGE_OCTETS: Final = 1 << 20
#: How long the reply may wait for a first attempt, in seconds; below smtpd's own patience.
TRIED_S: Final = 60.0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """enqueue's configuration.

    store, options: how messages are kept (`stores.queue.open_queue`).  keeps: whether this role
    recovers the queue at its start, and tells each qmgr all that lies in it.  delivery: when a
    message is tried; this role waits for it only in "interactive", and `tried_s` at most.
    """

    spool: str
    #: What the spool is called inside of its jail, if it has one.
    root: str = ""
    hostname: str
    message_octets: int
    store: str = "chunks"
    options: dict[str, str] = {}
    keeps: bool = True
    delivery: Literal["background", "interactive", "queue"] = "background"
    tried_s: float = TRIED_S


@dataclass(slots=True, eq=False)
class Submission:
    """One message on its way in.

    draft: where it is written; none if its envelope was refused.  awaits: whether its promise is
    qmgr's to release; then, once it is committed, word: what qmgr says.
    """

    channel: Channel
    envelope: Envelope
    awaits: bool = False
    draft: Draft | None = None
    octets: int = 0
    rejection: Rejection | None = None
    word: Word | None = None
    committed: trio.Event = field(default_factory=trio.Event)

    @property
    def queue_id(self) -> str:
        """Its name in the queue."""
        return self.envelope.queue_id


@dataclass(slots=True)
class Enqueue:
    """The role's state: the store, the group that gathers, and the line to qmgr."""

    store: QueueStore[Any]
    config: Slice
    journal: Journal
    group: list[Submission] = field(default_factory=list)
    writing: set[str] = field(default_factory=set)
    complete: trio.Event = field(default_factory=trio.Event)
    qmgr: QmgrLine = field(default_factory=QmgrLine)
    #: Of how many groups and messages the answers are not all with their submitters.
    answering: int = 0
    trace: Emit = silent
    _moved: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    # -- submitters -------------------------------------------------------------------------------

    async def serve(self, channel: Channel, submitter: str = "smtpd") -> None:
        """Take messages from one submitter, smtpd or bounce, until it goes away."""
        current: Submission | None = None
        awaits = self._awaits(submitter)
        try:
            while True:
                for item in await channel.receive():
                    check_origin(item.message, submitter)
                    if isinstance(item.message, Submit) and current is None:
                        current = self._begin(channel, item.message, awaits)
                    else:
                        current = await self._take(current, item)
        except ChannelBroken as broken:
            if str(broken) not in ("end of stream", "closed", "the peer is gone"):
                self.journal.error("submitter cut off", reason=str(broken))
        finally:
            if current is not None:
                self._forget(current)
            channel.close()

    def _awaits(self, submitter: str) -> bool:
        """A report's first attempt keeps nobody waiting."""
        interactive = self.config.delivery == "interactive" and submitter != "bounce"
        return interactive or self.store.logs_envelopes

    async def _take(self, current: Submission | None, item: Received) -> Submission | None:
        match item.message:
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

    def _begin(self, channel: Channel, submit: Submit, awaits: bool) -> Submission:
        envelope = Envelope(
            queue_id=queue_id(time.time_ns() // 1_000_000, secrets.randbits(32)),
            arrival_s=int(time.time()),
            reverse_path=submit.reverse_path,
            recipients=submit.recipients,
            client=submit.client,
            helo=submit.helo,
            protocol=submit.protocol,
        )
        submission = Submission(channel, envelope, awaits)
        self.writing.add(envelope.queue_id)
        try:
            check(envelope)
            submission.draft = self.store.draft(envelope)
        except Rejection as error:
            submission.rejection = error
        except OSError as error:
            self._fail(submission, "create", error)
        else:
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
        self._write(submission, octets)

    def _write(self, submission: Submission, octets: bytes) -> None:
        draft = submission.draft
        if draft is None or submission.rejection is not None:
            return
        try:
            for start in range(0, len(octets), MAX_BLOCK):
                draft.add(octets[start : start + MAX_BLOCK])
        except OSError as error:
            self._fail(submission, "write", error)

    async def _finish(self, submission: Submission, octets: int) -> None:
        if submission.rejection is None and submission.octets != octets:
            self._reject(submission, Rejection(451, "4.3.0", "Content was lost on its way"))
        if submission.draft is not None and submission.rejection is None:
            try:
                submission.draft.finish()
                handle = submission.draft.handle
                if submission.octets >= LARGE_OCTETS and handle is not None:
                    await trio.to_thread.run_sync(self.store.disk.sync, handle)
            except OSError as error:
                self._fail(submission, "sync", error)
        self.group.append(submission)
        self.complete.set()
        if submission.awaits:
            await self._hear_of(submission)

    def _reject(self, submission: Submission, rejection: Rejection) -> None:
        submission.rejection = rejection
        if submission.draft is not None:
            submission.draft.discard()

    def _fail(self, submission: Submission, what: str, error: OSError) -> None:
        self._reject(submission, disk_rejection(error))
        self._log_failure(submission, what, error)

    def _forget(self, submission: Submission) -> None:
        """It was given up.  What was committed meanwhile is not ours to remove."""
        if submission.draft is not None:
            end = (
                submission.draft.close
                if submission.committed.is_set()
                else submission.draft.discard
            )
            end()
        self._done(submission)

    def _done(self, submission: Submission) -> None:
        self.writing.discard(submission.queue_id)
        self._moved.unpark_all()

    async def settled(self) -> None:
        """Until every message that was begun is kept or refused, and its submitter has heard."""
        while self.unsettled():
            await self._moved.park()

    def _answered(self) -> None:
        self.answering -= 1
        self._moved.unpark_all()

    def unsettled(self) -> bool:
        """Whether a message is on its way in."""
        return bool(self.writing or self.group or self.answering)

    # -- the committer ----------------------------------------------------------------------------

    async def commit_groups(self) -> None:
        """For ever: make durable all that is complete, then say so."""
        while True:
            await self.complete.wait()
            # Whoever became runnable in this same moment joins the group.
            await trio.lowlevel.checkpoint()
            group, self.group, self.complete = self.group, [], trio.Event()
            self.answering += 1
            committed = self._commit([each for each in group if each.rejection is None])
            for submission in group:
                if submission.rejection is not None:
                    self._answer(submission, submission.rejection.refused)
            self._promise(committed)
            # The clients first: they wait.
            await self._flush(group)
            if self.store.logs_envelopes:
                await self.qmgr.flush()
            else:
                await self.qmgr.announce([each.queue_id for each in committed])
            self._answered()

    def _commit(self, group: list[Submission]) -> list[Submission]:
        """Make a group durable; returns those that are."""
        failures = self.store.commit([each.draft for each in group]) if group else {}
        committed = []
        for submission in group:
            error = failures.get(submission.draft.path) if submission.draft is not None else None
            if error is None:
                committed.append(submission)
            else:
                self._fail(submission, "sync", error)
        return committed

    def _promise(self, committed: list[Submission]) -> None:
        """Answer all of them, but those whose promise qmgr releases."""
        for submission in committed:
            if self.store.logs_envelopes:
                submission.word = self.qmgr.register(submission.envelope)
            else:
                self._say_committed(submission)
                if submission.awaits:
                    submission.word = self.qmgr.watch(submission.queue_id)
                else:
                    self._keep(submission)
            submission.committed.set()

    def _keep(self, submission: Submission) -> None:
        """The promise."""
        self._answer(submission, Kept(queue_id=submission.queue_id))
        self._log_kept(submission)

    def _say_committed(self, submission: Submission) -> None:
        if submission.draft is not None:
            submission.draft.close()
        self.trace(
            "enqueue.committed",
            queue_id=submission.queue_id,
            recipients=len(submission.envelope.recipients),
            sender=submission.envelope.reverse_path,
            path=self._path(submission),
        )

    def _answer(self, submission: Submission, answer: Kept | Refused) -> None:
        self._done(submission)
        submission.committed.set()
        submission.channel.post(answer)

    async def _flush(self, group: Iterable[Submission]) -> None:
        for submission in group:
            try:
                await submission.channel.flush()
            except ChannelBroken:
                continue  # kept all the same: the client will send it again (window: reply lost)

    # -- whose promise qmgr releases --------------------------------------------------------------

    async def _hear_of(self, submission: Submission) -> None:
        """Answer one submission when qmgr has said its word.  Raises ChannelBroken if its submitter
        is gone.
        """
        await submission.committed.wait()
        if submission.word is None:
            return  # it was refused
        self.answering += 1
        try:
            if self.store.logs_envelopes:
                await self._registered(submission, submission.word)
            else:
                await self._tried(submission, submission.word)
            await submission.channel.flush()
        finally:
            self._answered()

    async def _registered(self, submission: Submission, word: Word) -> None:
        await word.said.wait()
        if not (word.lost or word.error):
            self._say_committed(submission)
            self._keep(submission)
            return
        self.journal.error(
            "refused: log", queue_id=submission.queue_id, reason=word.error or "qmgr is away"
        )
        rejection = Rejection(451, "4.3.0", "The queue manager has not kept the envelope")
        if word.lost and submission.draft is not None:
            # Whether it was logged nobody knows: if so, the content has to be there.
            submission.draft.close()
        else:
            self._reject(submission, rejection)
        self._answer(submission, rejection.refused)

    async def _tried(self, submission: Submission, word: Word) -> None:
        """The reply waits for the first attempt, for a time; the message is kept either way."""
        with trio.move_on_after(self.config.tried_s):
            await word.said.wait()
        self.qmgr.forget(submission.queue_id)
        try:
            self.store.confirm(submission.queue_id)
        except FileNotFoundError:
            pass  # it is where it was meant to go
        except OSError as error:
            self._log_failure(submission, "confirm", error)
            self._answer(submission, disk_rejection(error).refused)
            return
        self._keep(submission)

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
            queue_id=submission.queue_id,
            operation=what,
            path=f"{self.config.spool}/{self._path(submission)}",
            reason=os.strerror(error.errno or 0),
        )

    def _path(self, submission: Submission) -> str:
        return submission.draft.path if submission.draft is not None else ""
