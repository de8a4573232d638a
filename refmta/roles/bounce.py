"""bounce: makes the reports that qmgr orders, and hands them to enqueue like any other mail.

It is given one open descriptor per report, read only: the message in question.  It verifies all of
it (`stores.letters`: where it certifies itself), reads its header, composes the report
(`protocol.dsn`), and submits it with the null reverse-path.  Only when enqueue has said Kept, and
so the report is durable, it says Reported.

Theory: one report at a time is on its way to enqueue, since the channel has one answer after the
other; those that follow wait in their channels, and hold nothing.  Nothing is kept across a
failure: whatever happens before Kept has arrived, the answer is "not reported, because", or none
at all, and qmgr orders it again.  A report that was kept while its Kept was lost is therefore
made twice (the window between report and mark).

qmgr is not believed: whom a report may go to follows from the chunk itself and the configured
postmaster, by the same table by which qmgr decides.  So a seized qmgr can't have reports sent to
strangers, nor reports about reports.  Where the envelope does not stand in the file, it is qmgr's
word (`head`), and so is whom to tell: a store without self-certifying units has this price, too.

When enqueue is away its successor's channel is waited for, not for long; then the answer is that
it was away.  A verdict is awaited without a limit: the channel breaks if enqueue dies, and an
answer that came after we gave up would be taken for the next report's.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, close_all
from refmta.protocol import dsn
from refmta.stores import letters
from refmta.stores.disk import Disk, PosixDisk
from refmta.wire.envelope import ChunkError, Envelope
from refmta.wire.frame import LIMITS, OCTETS
from refmta.wire.messages import Finish, Kept, Refused, Report, Reported, Submit
from refmta.wire.reply import escaped

#: Read of a message for its header: more than is returned, so that a cut is seen as one.
READ_OCTETS = dsn.HEADER_OCTETS + 4096
#: How long enqueue's next channel is waited for, in seconds.
AWAY_S = 10.0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """bounce's configuration.  postmaster: who gets copies, an address, or empty."""

    hostname: str
    postmaster: str = ""


class NotReported(Exception):
    """Why there is no report now."""


@dataclass(slots=True)
class Bounce:
    """The role's state: the channel to enqueue, and whose turn it is on it."""

    disk: Disk
    config: Slice
    journal: Journal
    trace: Callable[..., None] = lambda _action, **_fields: None
    now: Callable[[], float] = time.time
    token: Callable[[], str] = lambda: secrets.token_hex(16)
    enqueue: Channel | None = None
    linked: trio.Event = field(default_factory=trio.Event)
    turn: trio.Lock = field(default_factory=trio.Lock)

    # -- qmgr -------------------------------------------------------------------------------------

    async def serve(self, channel: Channel) -> None:
        """Make what one qmgr orders, until it goes away."""
        waiting: list[int] = []
        try:
            while True:
                received = await channel.receive()
                waiting = [each for item in received for each in item.descriptors]
                for item in received:
                    if not isinstance(item.message, Report):
                        return
                    async with self.turn:
                        await self._report(channel, item.message, waiting.pop(0))
        except ChannelBroken:
            return  # its successor orders again what it did not see answered
        finally:
            close_all(waiting)
            channel.close()

    async def _report(self, channel: Channel, report: Report, descriptor: int) -> None:
        """One report, and its answer to qmgr.  Raises ChannelBroken if qmgr is gone."""
        damaged = False
        try:
            queue_id, text = await self._make(report, descriptor), ""
            self.trace(
                "bounce.reported",
                queue_id=report.queue_id,
                report=queue_id,
                recipients=len(report.rows),
                kind=report.kind,
                to=report.to,
            )
            self.journal.info(
                "reported",
                queue_id=report.queue_id,
                report=queue_id,
                kind=report.kind,
                to=report.to,
                recipients=len(report.rows),
            )
        except (NotReported, ChunkError, OSError) as error:
            queue_id, text = "", _why(error)
            damaged = isinstance(error, ChunkError)
            self.journal.warning(
                "not reported", queue_id=report.queue_id, to=report.to, reason=text
            )
        answer = Reported(reference=report.reference, queue_id=queue_id, text=text, damaged=damaged)
        channel.post(answer)
        await channel.flush()

    async def _make(self, report: Report, descriptor: int) -> str:
        """The new message's queue id.  Raises NotReported, ChunkError, OSError."""
        try:
            letter = await letters.find(self.disk, descriptor, report.queue_id, report.head)
            header = b"".join(letters.beginning(self.disk, descriptor, letter, READ_OCTETS))
        finally:
            self.disk.close(descriptor)
        check(report, letter.envelope, self.config)
        facts = facts_of(report, letter.envelope, self.config)
        octets = dsn.compose(facts, header, now_s=int(self.now()), token=self.token())
        return await self._submit(report.to, octets)

    # -- enqueue ----------------------------------------------------------------------------------

    async def _submit(self, to: str, octets: bytes) -> str:
        enqueue = await self._channel()
        submit = Submit(
            reverse_path="",  # RFC 5321 6.1: so that nobody reports about a report
            recipients=(to,),
            client="127.0.0.1",
            helo=self.config.hostname,
            protocol="local",
        )
        enqueue.post(submit)
        for start in range(0, len(octets), LIMITS[OCTETS]):
            enqueue.post_octets(octets[start : start + LIMITS[OCTETS]])
        enqueue.post(Finish(octets=len(octets)))
        try:
            await enqueue.flush()
            answers = await enqueue.receive()
        except ChannelBroken:
            self._drop(enqueue)
            raise NotReported("enqueue went away") from None
        match [each.message for each in answers]:
            case [Kept() as kept]:
                return kept.queue_id
            case [Refused() as refused]:
                raise NotReported(f"{refused.code} {refused.enhanced} {refused.text}")
            case _:
                self._drop(enqueue)
                raise NotReported("enqueue said what nobody asked")

    async def _channel(self) -> Channel:
        with trio.move_on_after(AWAY_S):
            await self.linked.wait()
        if self.enqueue is None:
            raise NotReported("enqueue is away")
        return self.enqueue

    def _drop(self, channel: Channel) -> None:
        channel.close()
        if self.enqueue is channel:
            self.enqueue = None
            self.linked = trio.Event()

    async def follow_enqueue(self, context: Context) -> None:
        """For ever: the channel to the enqueue that runs now.  An answer that was awaited from the
        one before does not come any more.
        """
        while True:
            linked = await context.port("enqueue").get()
            if self.enqueue is not None:
                self.enqueue.close()
            self.enqueue = linked.channel
            self.linked.set()


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the chunk could not be read: {os.strerror(error.errno or 0)}"
    if isinstance(error, ChunkError):
        return f"the chunk is damaged: {error}"
    return escaped(str(error))[:1024]


# -- what qmgr said, against the chunk ------------------------------------------------------------


def check(report: Report, envelope: Envelope, config: Slice) -> None:
    """Raise NotReported for whom nothing may be told."""
    copies = dsn.COPIES if config.postmaster else frozenset()
    notify = dsn.Notify(hostname=config.hostname, postmaster=config.postmaster, copies=copies)
    tells = dsn.decide(report.kind, envelope.reverse_path, notify, envelope.recipients)
    if report.to not in [tell.to for tell in tells]:
        raise NotReported("no report about this message may go to that address")


def facts_of(report: Report, envelope: Envelope, config: Slice) -> dsn.Facts:
    """What the report says: qmgr's rows, and the chunk's own envelope."""
    return dsn.Facts(
        hostname=config.hostname,
        kind=report.kind,
        to=report.to,
        queue_id=envelope.queue_id,
        arrival_s=envelope.arrival_s,
        reverse_path=envelope.reverse_path,
        rows=report.rows,
        until_s=report.until_s,
    )


async def run(context: Context, journal: Journal) -> None:
    """The role: make reports until drained; the one that is begun is finished."""
    config = context.slice("bounce", Slice)
    # No root: it reads descriptors that it was handed, and opens nothing.
    role = Bounce(PosixDisk(-1), config, journal, context.trace)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(role.follow_enqueue, context)
        nursery.start_soon(_accept, context, role, nursery)
        context.ready()
        await context.draining.wait()
        async with role.turn:
            nursery.cancel_scope.cancel()


async def _accept(context: Context, role: Bounce, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port("qmgr").get()
        nursery.start_soon(role.serve, linked.channel)
