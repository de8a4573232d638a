"""local: puts messages into Maildirs, as the user who owns them.

It is handed one open descriptor per message, read only, and never sees the queue (qmail's idea).
It checks the chunk's digest while it copies, so that what was damaged on the disk is reported as
`damaged` and reaches no mailbox.

Theory: each wake-up takes all deliveries that have arrived, stages every message in its mailbox's
tmp/, commits per mailbox in one group (`stores.maildir.commit_plan`), and reports all outcomes in
one write.  A large message is copied in pieces between which others are served, and is synced by
a thread beside the group.

The user's mail directory is this process's working directory: whoever started it (the spawner,
as that user) has entered it, and mailbox paths are checked to stay below it.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.stores import chunks, maildir
from refmta.stores.disk import Disk, PosixDisk
from refmta.trace import Emit, silent
from refmta.wire.envelope import Chunk, ChunkError, Envelope, Reader
from refmta.wire.messages import Deliver, Outcome

#: Messages up to this size are read at once and committed in the group, in octets.
SMALL_OCTETS = 1 << 20
PIECE_OCTETS = 256 * 1024


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """local's configuration."""

    hostname: str
    idle_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A message in tmp/, waiting for its group."""

    deliver: Deliver
    staged: maildir.Staged


@dataclass(slots=True)
class Local:
    """The role's state: the mail directory, and the mailboxes that are known to be there."""

    disk: Disk
    config: Slice
    journal: Journal
    known: set[str] = field(default_factory=set)
    large: int = 0
    worked: bool = True
    trace: Emit = silent

    async def serve(self, channel: Channel, nursery: trio.Nursery) -> None:
        """Deliver what one qmgr hands over, until it goes away."""
        while True:
            try:
                received = await channel.receive()
            except ChannelBroken:
                return
            self.worked = True
            group: list[Ready] = []
            for item in received:
                if not isinstance(item.message, Deliver):
                    return
                (descriptor,) = item.descriptors
                octets = self.disk.size(descriptor)
                if octets > SMALL_OCTETS:
                    self.large += 1
                    nursery.start_soon(self._deliver_large, channel, item.message, descriptor)
                else:
                    self._stage_small(channel, item.message, descriptor, octets, group)
            self._commit(channel, group)
            if not await _flush(channel):
                return

    # -- small messages: staged and committed at once ---------------------------------------------

    def _stage_small(
        self, channel: Channel, deliver: Deliver, descriptor: int, size: int, group: list[Ready]
    ) -> None:
        try:
            octets = self.disk.read(descriptor, size, 0)
            reader = Reader()
            rest = reader.feed(octets)
            if rest is None:
                raise ChunkError("no end record: the chunk was cut short")
            chunk = reader.chunk(rest)
            _check(chunk.envelope, deliver)
            content = b"".join(
                [octets[each.offset : each.offset + each.length] for each in chunk.content]
            )
            staged = self._stage(deliver, chunk.envelope)
            try:
                staged.write(self._heading(chunk.envelope, deliver) + maildir.stored(content))
            except (OSError, ValueError):
                staged.discard()
                raise
            group.append(Ready(deliver, staged))
        except (ChunkError, OSError, ValueError) as error:
            channel.post(self._outcome(deliver, error))
        finally:
            self.disk.close(descriptor)

    def _commit(self, channel: Channel, group: list[Ready]) -> None:
        mailboxes: dict[str, list[Ready]] = {}
        for ready in group:
            mailboxes.setdefault(ready.staged.mailbox, []).append(ready)
        for mailbox, readies in mailboxes.items():
            failures = maildir.commit(self.disk, mailbox, [each.staged for each in readies])
            for ready in readies:
                error = failures.get(ready.staged.name)
                if error is None:
                    self._say_delivered(ready.deliver, ready.staged)
                channel.post(self._outcome(ready.deliver, error))

    # -- large ones: in pieces, beside the others -------------------------------------------------

    async def _deliver_large(self, channel: Channel, deliver: Deliver, descriptor: int) -> None:
        error: Exception | None = None
        try:
            await self._copy(deliver, descriptor)
        except (ChunkError, OSError, ValueError) as caught:
            error = caught
        finally:
            self.disk.close(descriptor)
            self.large -= 1
        channel.post(self._outcome(deliver, error))
        await _flush(channel)

    async def _copy(self, deliver: Deliver, descriptor: int) -> None:
        chunk = await _verify(self.disk, descriptor)
        _check(chunk.envelope, deliver)
        staged = self._stage(deliver, chunk.envelope)
        try:
            staged.write(self._heading(chunk.envelope, deliver))
            for extent in chunk.content:
                octets = self.disk.read(descriptor, extent.length, extent.offset)
                staged.write(maildir.stored(octets))
                await trio.lowlevel.checkpoint()
            await trio.to_thread.run_sync(self.disk.sync, staged.handle)
        except BaseException:
            staged.discard()
            raise
        failures = maildir.commit(self.disk, staged.mailbox, [staged])
        if failures:
            raise failures[staged.name]
        self._say_delivered(deliver, staged)

    # -- both -------------------------------------------------------------------------------------

    def _stage(self, deliver: Deliver, envelope: Envelope) -> maildir.Staged:
        """A file in the mailbox's tmp/, the mailbox made if it was not there."""
        maildir.check_mailbox(deliver.mailbox)
        name = maildir.unique_name(
            envelope.arrival_s, envelope.queue_id, deliver.index, self.config.hostname
        )
        if deliver.mailbox in self.known:
            try:
                return maildir.Staged(self.disk, deliver.mailbox, name)
            except FileNotFoundError:
                pass  # the user has moved it away: make a new one
        maildir.ensure(self.disk, deliver.mailbox)
        self.known.add(deliver.mailbox)
        return maildir.Staged(self.disk, deliver.mailbox, name)

    def _say_delivered(self, deliver: Deliver, staged: maildir.Staged) -> None:
        self.trace(
            "local.delivered",
            queue_id=deliver.queue_id,
            index=deliver.index,
            recipient=deliver.recipient,
            path=f"{staged.mailbox}/new/{staged.name}",
        )

    def _heading(self, envelope: Envelope, deliver: Deliver) -> bytes:
        return maildir.heading(envelope.reverse_path, deliver.recipient)

    def _outcome(self, deliver: Deliver, error: Exception | None) -> Outcome:
        if error is None:
            return Outcome(reference=deliver.reference, kind="delivered", enhanced="2.0.0", text="")
        text = describe(error, deliver.mailbox)
        self.journal.warning(
            "not delivered", queue_id=deliver.queue_id, recipient=deliver.recipient, reason=text
        )
        if isinstance(error, ChunkError):
            return Outcome(reference=deliver.reference, kind="damaged", enhanced="5.6.0", text=text)
        full = isinstance(error, OSError) and chunks.out_of_space(error)
        return Outcome(
            reference=deliver.reference,
            kind="deferred",
            enhanced="4.2.2" if full else "4.2.0",
            text=text,
        )


def describe(error: Exception, mailbox: str) -> str:
    """A line for the operator: what failed, where."""
    if isinstance(error, OSError):
        return f"{mailbox}: {os.strerror(error.errno or errno.EIO)}"
    return f"{mailbox}: {error}"


def _check(envelope: Envelope, deliver: Deliver) -> None:
    if envelope.queue_id != deliver.queue_id:
        raise ChunkError("the descriptor is of another message")


async def _verify(disk: Disk, descriptor: int) -> Chunk:
    """Read a large chunk once, keeping nothing, before a single octet of it is stored."""
    reader, offset = Reader(), 0
    while octets := disk.read(descriptor, PIECE_OCTETS, offset):
        offset += len(octets)
        if reader.feed(octets) is not None:
            return reader.chunk()
        await trio.lowlevel.checkpoint()
    raise ChunkError("no end record: the chunk was cut short")


async def _flush(channel: Channel) -> bool:
    try:
        await channel.flush()
    except ChannelBroken:
        return False  # qmgr is gone: its successor will hand these over again (a named window)
    return True


async def run(context: Context, journal: Journal) -> None:
    """The role: serve qmgr until drained, or until nothing came for the idle time.

    Raises OSError if the mail directory is unusable.
    """
    config = context.slice("local", Slice)
    role = Local(PosixDisk("."), config, journal, trace=context.trace)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, context, role, nursery)
        context.ready()
        while role.worked or role.large:
            role.worked = False
            with trio.move_on_after(config.idle_s):
                await context.draining.wait()
                break
        while role.large:
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def _accept(context: Context, role: Local, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port("qmgr").get()
        nursery.start_soon(role.serve, linked.channel, nursery)
