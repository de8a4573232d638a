"""local: puts messages into mailboxes, as the user who owns them.

It is handed one open descriptor per message, read only, and never sees the queue (qmail's idea).
What certifies itself is checked before it is stored, so that what was damaged on the disk is
reported as `damaged` and reaches no mailbox (`stores.letters`).

Theory: each wake-up takes all deliveries that have arrived, prepares every message, commits per
mailbox in one group (`stores.mailboxes`), and reports all outcomes in one write.  A large message
is copied in pieces between which others are served, and is synced by a thread beside the group; so
is whatever may have to wait for a lock.

Whose process it is, and for how long, is not its business; what it needs to know is in its slice:

    one user, resident        `run`: this process is the user, and its working directory the user's
                              mail directory, which whoever started it has entered
    one delivery              `attend`: the same for one call, of a process that ends then; others
                              may deliver to the same user meanwhile
    all users, resident       `run` with `all_users`: each delivery names its user, whose disk is
                              used with his rights (`stores.owners`)

Mailbox paths are checked to stay below the user's mail directory in all three.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received
from refmta.roles.desks import Desk, Desks
from refmta.stores import letters
from refmta.stores.disk import Disk, PosixDisk, out_of_space
from refmta.stores.letters import SMALL_OCTETS
from refmta.stores.mailboxes import Entry, FormName, Stamp
from refmta.stores.recipients import NoRecipient, Recipients
from refmta.trace import Emit, silent
from refmta.wire.envelope import ChunkError, Envelope
from refmta.wire.messages import Deliver, Outcome

__all__ = ["SMALL_OCTETS", "Local", "Slice", "attend", "run"]

#: Large messages that are copied at once; an mbox takes each into memory.
LARGE_AT_ONCE: Final = 4


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """local's configuration.

    mailbox: in which form mailboxes are kept.  all_users: whether each delivery names its user, of
    this table; else the process is the user's.
    """

    hostname: str
    idle_s: float = 300.0
    mailbox: FormName = "maildir"
    all_users: bool = False
    recipients: Recipients = Recipients()


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that waits for its group."""

    deliver: Deliver
    desk: Desk
    entry: Entry


@dataclass(slots=True)
class Local:
    """The role's state.  disk: what descriptors are read by, and mailboxes of one user lie on.

    sole: whether no other process delivers to that user.  beside: how many deliveries, or groups of
    them, are under way in tasks of their own.
    """

    disk: Disk
    config: Slice
    journal: Journal
    sole: bool = True
    beside: int = 0
    worked: bool = True
    trace: Emit = silent
    few: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(LARGE_AT_ONCE))
    desks: Desks = field(init=False)

    def __post_init__(self) -> None:
        config = self.config
        recipients = config.recipients if config.all_users else None
        self.desks = Desks(self.disk, config.mailbox, config.hostname, recipients, sole=self.sole)

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
                self._take(channel, item.message, item, group, nursery)
            await self._commit(channel, group, nursery)
            if not await _flush(channel):
                return

    def _take(
        self,
        channel: Channel,
        deliver: Deliver,
        item: Received,
        group: list[Ready],
        nursery: trio.Nursery,
    ) -> None:
        (descriptor,) = item.descriptors
        try:
            if not letters.is_small(self.disk, descriptor):
                self.beside += 1
                nursery.start_soon(self._deliver_large, channel, deliver, descriptor)
                return
        except OSError as error:
            channel.post(self._outcome(deliver, error))
        else:
            self._prepare(channel, deliver, descriptor, group)
        self.disk.close(descriptor)

    # -- small messages: prepared and committed at once -------------------------------------------

    def _prepare(
        self, channel: Channel, deliver: Deliver, descriptor: int, group: list[Ready]
    ) -> None:
        try:
            letter, content = letters.read(self.disk, descriptor, deliver.queue_id, deliver.head)
            desk = self.desks.of(deliver.user)
            entry = desk.mailboxes.begin(deliver.mailbox, stamp(letter.envelope, deliver))
            try:
                entry.add(content)
                entry.finish()
            except OSError:
                entry.discard()
                raise
        except (ChunkError, NoRecipient, OSError, ValueError) as error:
            channel.post(self._outcome(deliver, error))
            return
        desk.busy += 1
        group.append(Ready(deliver, desk, entry))

    async def _commit(self, channel: Channel, group: list[Ready], nursery: trio.Nursery) -> None:
        """A commit for each mailbox; those that may wait for others, beside the rest."""
        mailboxes: dict[tuple[int, str], list[Ready]] = {}
        for ready in group:
            mailboxes.setdefault((id(ready.desk), ready.entry.mailbox), []).append(ready)
        for together in mailboxes.values():
            if together[0].desk.mailboxes.patient:
                self.beside += 1
                nursery.start_soon(self._commit_beside, channel, together)
            else:
                await self._commit_mailbox(channel, together)

    async def _commit_beside(self, channel: Channel, group: list[Ready]) -> None:
        try:
            await self._commit_mailbox(channel, group)
        finally:
            self.beside -= 1
        await _flush(channel)

    async def _commit_mailbox(self, channel: Channel, group: list[Ready]) -> None:
        desk = group[0].desk
        try:
            failures = await desk.mailboxes.commit([each.entry for each in group])
        finally:
            self.desks.leave(desk, len(group))
        for ready in group:
            error = failures.get(ready.entry.name)
            if error is None:
                self._say_delivered(ready.deliver, ready.entry)
            channel.post(self._outcome(ready.deliver, error))

    # -- large ones: in pieces, beside the others -------------------------------------------------

    async def _deliver_large(self, channel: Channel, deliver: Deliver, descriptor: int) -> None:
        error: Exception | None = None
        try:
            async with self.few:
                await self._copy(deliver, descriptor)
        except (ChunkError, NoRecipient, OSError, ValueError) as caught:
            error = caught
        finally:
            self.disk.close(descriptor)
            self.beside -= 1
        channel.post(self._outcome(deliver, error))
        await _flush(channel)

    async def _copy(self, deliver: Deliver, descriptor: int) -> None:
        letter = await letters.find(self.disk, descriptor, deliver.queue_id, deliver.head)
        desk = self.desks.of(deliver.user)
        desk.busy += 1
        try:
            entry = desk.mailboxes.begin(deliver.mailbox, stamp(letter.envelope, deliver))
            try:
                for octets in letters.pieces(self.disk, descriptor, letter):
                    entry.add(octets)
                    await trio.lowlevel.checkpoint()
                entry.finish()
                await trio.to_thread.run_sync(entry.sync)
            except BaseException:
                entry.discard()
                raise
            failures = await desk.mailboxes.commit([entry])
        finally:
            self.desks.leave(desk)
        if failures:
            raise failures[entry.name]
        self._say_delivered(deliver, entry)

    # -- what is said -----------------------------------------------------------------------------

    def _say_delivered(self, deliver: Deliver, entry: Entry) -> None:
        self.trace(
            "local.delivered",
            queue_id=deliver.queue_id,
            index=deliver.index,
            recipient=deliver.recipient,
            path=entry.place,
        )

    def _outcome(self, deliver: Deliver, error: Exception | None) -> Outcome:
        if error is None:
            return Outcome(reference=deliver.reference, kind="delivered", enhanced="2.0.0", text="")
        text = describe(error, deliver.mailbox)
        self.journal.warning(
            "not delivered", queue_id=deliver.queue_id, recipient=deliver.recipient, reason=text
        )
        if isinstance(error, ChunkError):
            return Outcome(reference=deliver.reference, kind="damaged", enhanced="5.6.0", text=text)
        return Outcome(
            reference=deliver.reference, kind="deferred", enhanced=deferral(error), text=text
        )


def stamp(envelope: Envelope, deliver: Deliver) -> Stamp:
    """Which delivery this is."""
    return Stamp(
        queue_id=envelope.queue_id,
        arrival_s=envelope.arrival_s,
        index=deliver.index,
        reverse_path=envelope.reverse_path,
        recipient=deliver.recipient,
    )


def describe(error: Exception, mailbox: str) -> str:
    """A line for the operator: what failed, where."""
    if isinstance(error, OSError):
        return f"{mailbox}: {os.strerror(error.errno or errno.EIO)}"
    return f"{mailbox}: {error}"


def deferral(error: Exception) -> str:
    """The enhanced code (RFC 3463) of a delivery that could not be made now."""
    if isinstance(error, NoRecipient):
        return "4.3.5"
    full = isinstance(error, OSError) and out_of_space(error)
    return "4.2.2" if full else "4.2.0"


async def _flush(channel: Channel) -> bool:
    try:
        await channel.flush()
    except ChannelBroken:
        return False  # qmgr is gone: its successor will hand these over again (a named window)
    return True


# -- resident -------------------------------------------------------------------------------------


async def run(context: Context, journal: Journal) -> None:
    """The role: serve qmgr until drained, or (of one user) until nothing came for the idle time.

    Raises OSError if the mail directory is unusable.
    """
    config = context.slice("local", Slice)
    # Of all users: no root, each has his own.
    disk = PosixDisk(-1 if config.all_users else ".")
    role = Local(disk, config, journal, trace=context.trace)
    context.settled_if(lambda: not role.beside)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, context, role, nursery)
            context.ready()
            while role.worked or role.beside or config.all_users:
                role.worked = False
                with trio.move_on_after(config.idle_s):
                    await context.draining.wait()
                    break
            while role.beside:
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    finally:
        role.desks.close()


async def _accept(context: Context, role: Local, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port("qmgr").get()
        nursery.start_soon(role.serve, linked.channel, nursery)


# -- for one call ---------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Conversation:
    """What a call of the queue manager is to a process that lives for it."""

    role: Local
    channel: Channel
    clean: bool = True

    async def run(self) -> None:
        """Until the caller is gone, and what it began is done."""
        try:
            async with trio.open_nursery() as nursery:
                await self.role.serve(self.channel, nursery)
        finally:
            self.channel.close()
            self.role.desks.close()

    def drain(self) -> None:
        """What was handed over is delivered, which takes no long time, and the caller ends it."""


def attend(
    channel: Channel,
    client: str,
    configuration: bytes,
    channels: Mapping[str, Channel],
    journal: Journal,
    trace: Emit,
) -> Conversation:
    """A conversation for a call, whose channel it takes over.  Raises msgspec.DecodeError, OSError
    if the mail directory is unusable.
    """
    config = msgspec.msgpack.decode(configuration, type=Slice)
    disk = PosixDisk(-1 if config.all_users else ".")
    return Conversation(Local(disk, config, journal, sole=False, trace=trace), channel)
