"""The mail of one user, on its way to the user's server, one transaction after the other.

jobs come in     a server is wanted, unless there is one
a server comes   transactions, until it is gone; then another is wanted, if there are jobs left
it is refused    all jobs are deferred, with the reason
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import Channel
from refmta.protocol import lmtp_client as lmtp
from refmta.protocol.lmtp import Origin, Place
from refmta.roles.lmtpc.connection import Connection
from refmta.roles.remote import content
from refmta.stores.disk import Disk
from refmta.wire.envelope import ChunkError
from refmta.wire.messages import Deliver, Outcome

#: Servers that may be lost with a delivery before its end; then it is deferred, since it may be
#: what kills them.
TRIES = 3
#: Recipients of one transaction (RFC 5321 4.5.3.1.8: every server takes so many).
RECIPIENTS = 100
#: Of an Outcome's text, in octets of ASCII.
TEXT_OCTETS = 1024

Kind = Literal["delivered", "deferred", "failed", "damaged"]


@dataclass(slots=True, eq=False)
class Job:
    """A delivery, the descriptor of its message, and who waits for its outcome, if anybody still
    does.
    """

    deliver: Deliver
    descriptor: int
    channel: Channel
    tries: int = 0
    forgotten: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all couriers share.  want: asks for a server of that user."""

    disk: Disk
    options: lmtp.ClientOptions
    factor: float
    want: Callable[[str], None]
    flush: Callable[[Channel], Awaitable[None]]
    journal: Journal
    nursery: trio.Nursery


@dataclass(slots=True, eq=False)
class Courier:
    """One user's line of mail, and the session with his server if there is one."""

    user: str
    tools: Tools
    _jobs: deque[Job] = field(default_factory=deque)
    _current: list[Job] = field(default_factory=list)
    _connection: Connection | None = None
    _wanted: bool = False
    _stopping: bool = False

    @property
    def load(self) -> int:
        """Deliveries that are not done."""
        return len(self._jobs) + len(self._current)

    @property
    def busy(self) -> bool:
        """Whether a session goes on."""
        return self._connection is not None

    def take(self, job: Job) -> None:
        """One more delivery."""
        self._jobs.append(job)
        self._ask()

    def _ask(self) -> None:
        if self._connection is not None:
            self._connection.ring()
        elif self._jobs and not self._wanted and not self._stopping:
            self._wanted = True
            self.tools.want(self.user)

    def connect(self, channel: Channel) -> None:
        """A server has come; one that was there before is replaced."""
        self._wanted = False
        if self._connection is not None:
            self._connection.close()
        self._connection = Connection(channel, self.tools.options, self.tools.factor)
        self.tools.nursery.start_soon(self._work, self._connection)

    def refused(self, text: str) -> None:
        """None will come: what waits is deferred."""
        self._wanted = False
        jobs, self._jobs = self._jobs, deque()
        self.tools.nursery.start_soon(self._give_back, jobs, "4.3.5", text)

    def forget(self, channel: Channel) -> None:
        """Nobody waits for these any more; what is under way goes on, and is not begun again."""
        for job in self._current:
            job.forgotten = job.forgotten or job.channel is channel
        for job in [each for each in self._jobs if each.channel is channel]:
            self._jobs.remove(job)
            self.tools.disk.close(job.descriptor)

    async def stop(self) -> None:
        """Give back what has not begun; the session ends when it is at rest."""
        self._stopping = True
        jobs, self._jobs = self._jobs, deque()
        await self._give_back(jobs, "4.3.2", "this server stops")
        if self._connection is not None:
            self._connection.ring()

    async def _give_back(self, jobs: Iterable[Job], enhanced: str, text: str) -> None:
        jobs = list(jobs)
        for job in jobs:
            self._report(job, "deferred", enhanced, text)
        await self._flush(jobs)

    # -- a session --------------------------------------------------------------------------------

    async def _work(self, connection: Connection) -> None:
        """Transaction after transaction, until the server is gone or we stop."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.listen)
                while await connection.rest(lambda: bool(self._jobs) or self._stopping):
                    if not self._jobs:
                        break
                    await self._transact(connection)
                await connection.end()
                nursery.cancel_scope.cancel()
        finally:
            connection.close()
            if connection.garbled:
                self.tools.journal.warning(
                    "peer cut off", reason=connection.garbled, user=self.user
                )
            if self._connection is connection:
                self._connection = None
                self._ask()

    async def _transact(self, connection: Connection) -> None:
        """The first message that waits, for all of its recipients here."""
        self._current = jobs = self._group()
        again: list[Job] = []
        try:
            again = await self._send(connection, jobs)
        except ChunkError as error:
            self._report_all(jobs, "damaged", "5.6.0", str(error))
        except content.Unsendable as error:
            self._report_all(jobs, "failed", error.enhanced, error.text)
        except OSError as error:
            self._report_all(jobs, "deferred", "4.3.0", f"the queue: {error.strerror}")
        finally:
            self._current = []
            self._jobs.extendleft(reversed(again))
        await self._flush(jobs)

    def _group(self) -> list[Job]:
        """The first job, and those behind it that bring the same message for the same caller."""
        first = self._jobs.popleft()
        jobs = [first]
        while self._jobs and len(jobs) < RECIPIENTS and _same(self._jobs[0], first):
            jobs.append(self._jobs.popleft())
        return jobs

    async def _send(self, connection: Connection, jobs: list[Job]) -> list[Job]:
        """One transaction, and who is to be tried again.

        Raises ChunkError, Unsendable, OSError; then nobody has been told anything.
        """
        first = jobs[0].deliver
        message = await content.read(
            self.tools.disk, jobs[0].descriptor, first.queue_id, first.head
        )
        named = [(job, _recipient(job.deliver)) for job in jobs]
        recipients = tuple([each for _, each in named if each is not None])
        verdicts: Iterable[lmtp.Verdict] = ()
        if recipients:
            transaction = _transaction(message, recipients)
            verdicts = (await connection.transact(transaction, message)).verdicts
        judged = iter(verdicts)
        again: list[Job] = []
        for job, recipient in named:
            if recipient is None:
                self._report(job, "failed", "5.1.3", "not to be said in LMTP")
            elif not self._judge(job, next(judged)):
                again.append(job)
        return again

    def _judge(self, job: Job, verdict: lmtp.Verdict) -> bool:
        """Report it, unless another server may be asked at once: False then."""
        job.tries += 1
        pointless = self._stopping or job.forgotten
        if verdict.again and job.tries < TRIES and not pointless:
            return False
        self._report(job, verdict.kind, verdict.enhanced, verdict.text)
        return True

    # -- outcomes ---------------------------------------------------------------------------------

    def _report_all(self, jobs: Iterable[Job], kind: Kind, enhanced: str, text: str) -> None:
        for job in jobs:
            self._report(job, kind, enhanced, text)

    def _report(self, job: Job, kind: Kind, enhanced: str, text: str) -> None:
        """The end of a delivery."""
        self.tools.disk.close(job.descriptor)
        if kind != "delivered":
            self.tools.journal.warning(
                "not delivered", queue_id=job.deliver.queue_id, recipient=job.deliver.recipient,
                user=self.user, reason=text,
            )  # fmt: skip
        job.channel.post(outcome(job.deliver, kind, enhanced, text))

    async def _flush(self, jobs: Iterable[Job]) -> None:
        for channel in dict.fromkeys(job.channel for job in jobs):
            await self.tools.flush(channel)


def outcome(deliver: Deliver, kind: Kind, enhanced: str, text: str) -> Outcome:
    """What the queue manager is told."""
    return Outcome(
        reference=deliver.reference, kind=kind, enhanced=enhanced, text=text[:TEXT_OCTETS]
    )


def _same(one: Job, other: Job) -> bool:
    return (
        one.deliver.queue_id == other.deliver.queue_id
        and one.deliver.head == other.deliver.head
        and one.channel is other.channel
    )


def _recipient(deliver: Deliver) -> lmtp.Recipient | None:
    """As it is said; None for what would be a command of somebody's choosing."""
    try:
        place = Place(mailbox=deliver.mailbox, index=deliver.index)
        return lmtp.Recipient(address=deliver.recipient, place=place)
    except ValueError:
        return None


def _transaction(
    message: content.Outgoing, recipients: tuple[lmtp.Recipient, ...]
) -> lmtp.Transaction:
    """Raises Unsendable."""
    envelope = message.letter.envelope
    try:
        return lmtp.Transaction(
            reverse_path=message.reverse_path,
            recipients=recipients,
            octets=message.octets,
            eight_bit=message.eight_bit,
            origin=Origin(queue_id=envelope.queue_id, arrival_s=envelope.arrival_s),
        )
    except ValueError as error:
        raise content.Unsendable("5.1.7", f"not to be said in LMTP: {error}") from None
