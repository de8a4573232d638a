"""enqueue: parses again what smtpd sends, makes it durable, and only then says so.

Theory: each submitter's channel has a task that writes its message into the queue's store as the
content comes in.  A message whose content is complete joins the group; the committer takes all that
are complete at one moment and makes them durable together (`stores.queue`: commit), then tells each
submitter, then qmgr.  While a group is being synced the next one gathers, so that the disk sets the
size of the groups and nobody waits for a timer.

A large body is synced by a thread beside the groups before it joins one: its commit in the group
finds nothing left to write.

The promise (Kept) comes
    after the commit                       ordinarily
    after qmgr has logged the envelope     where the store's commit makes the content durable only
                                           (sendmail X): the draft stays open until then
    after the first attempt                in delivery "interactive", for a client's mail; if that
                                           takes longer than `tried_s`, then (sendmail)

Who keeps the queue recovers it.  If that is enqueue, it alone knows which messages are committed,
so it alone tells qmgr: at its own start (recovery), and whenever qmgr is started anew.  Else it
tells qmgr what it commits, if there is a qmgr; what qmgr misses it finds by itself.  qmgr ignores
the ids that it knows (`roles.qmgr_line`).

What is refused, and how, is in `roles.admission`.  Nothing half-written stays, if the disk lets us
remove it; what stays is torn, and recovery sets it aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.roles.qmgr_line import ARRIVED_AT_ONCE
from refmta.roles.submissions import Enqueue, Slice
from refmta.stores.disk import Disk, PosixDisk
from refmta.stores.queue import open_queue
from refmta.trace import Emit, silent
from refmta.wire.envelope import is_queue_id

__all__ = ["Enqueue", "Session", "Slice", "attend", "run"]

SUBMITTERS: Final = ("smtpd", "bounce")


# -- whoever keeps the queue ----------------------------------------------------------------------


async def recover(role: Enqueue) -> None:
    """At the start: set aside what is not whole, announce the rest, in groups."""
    candidates = [name for name in role.store.names() if name not in role.writing]
    whole: list[str] = []
    for name, reason in role.store.recover(candidates):
        if reason:
            role.journal.error("chunk set aside", queue_id=name, reason=reason)
        else:
            whole.append(name)
            role.trace("enqueue.recovered", queue_id=name)
        if len(whole) >= ARRIVED_AT_ONCE:
            await role.qmgr.announce(whole)
            whole.clear()
        await trio.lowlevel.checkpoint()
    await role.qmgr.announce(whole)


async def follow_qmgr(role: Enqueue, context: Context, recovered: trio.Event) -> None:
    """Each time qmgr is started anew: tell it all that is committed, once we know that."""
    async with trio.open_nursery() as nursery:
        while True:
            linked = await context.port("qmgr").get()
            role.qmgr.link(linked.channel)
            nursery.start_soon(role.qmgr.hear, linked.channel)
            if recovered.is_set():
                await announce_all(role)


async def announce_all(role: Enqueue) -> None:
    """Also after recovery: what it announced may have gone to a qmgr that died, or to none."""
    names = filter(is_queue_id, role.store.names())
    await role.qmgr.announce([name for name in names if name not in role.writing])


# -- as a process that stays ----------------------------------------------------------------------


async def run(context: Context, journal: Journal) -> None:
    """The role: recover, then serve until drained.  Raises OSError if there is no spool."""
    config = context.slice("enqueue", Slice)
    role = _role(PosixDisk(config.root or config.spool), config, journal, context.trace)
    context.settled_if(lambda: not role.unsettled())
    recovered = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_qmgr, role, context, recovered)
        nursery.start_soon(role.commit_groups)
        for submitter in SUBMITTERS:
            nursery.start_soon(_accept, context, role, nursery, submitter)
        context.ready()
        if config.keeps:
            await recover(role)
            recovered.set()
            await announce_all(role)
        await context.draining.wait()
        await role.settled()
        nursery.cancel_scope.cancel()


def _role(disk: Disk, config: Slice, journal: Journal, trace: Emit) -> Enqueue:
    return Enqueue(open_queue(config.store, disk, config.options), config, journal, trace=trace)


async def _accept(context: Context, role: Enqueue, nursery: trio.Nursery, submitter: str) -> None:
    while True:
        linked = await context.port(submitter).get()
        nursery.start_soon(role.serve, linked.channel, submitter)


# -- as a session of a pool's worker --------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Session:
    """One submitter, for one message or for many; somebody else keeps the queue.

    clean: the worker may serve another, unless its qmgr is gone: that comes with a new worker.
    """

    role: Enqueue
    disk: PosixDisk
    channel: Channel
    submitter: str
    clean: bool = True
    _draining: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        """Until the submitter is gone, and all that it brought is kept or refused."""
        role, qmgr = self.role, self.role.qmgr.channel
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(role.commit_groups)
                nursery.start_soon(self._end_when_drained)
                if qmgr is not None:
                    nursery.start_soon(role.qmgr.hear, qmgr)
                await role.serve(self.channel, self.submitter)
                await role.settled()
                nursery.cancel_scope.cancel()
        finally:
            self.disk.leave()
        self.clean = role.qmgr.channel is qmgr

    def drain(self) -> None:
        """The server stops: no further message."""
        self._draining.set()

    async def _end_when_drained(self) -> None:
        await self._draining.wait()
        await self.role.settled()
        self.channel.close()


def attend(
    channel: Channel,
    client: str,
    configuration: bytes,
    channels: Mapping[str, Channel],
    journal: Journal,
    trace: Emit = silent,
) -> Session:
    """A session with one submitter, `client`: smtpd or bounce.  It tells the qmgr among its
    channels, if there is one.  Raises ChannelBroken for another client, OSError without a spool.
    """
    if client not in SUBMITTERS:
        raise ChannelBroken("not a submitter")
    config = msgspec.msgpack.decode(configuration, type=Slice)
    disk = PosixDisk(config.root or config.spool)
    role = _role(disk, config, journal, trace)
    role.qmgr.channel = channels.get("qmgr")
    return Session(role, disk, channel, client)
