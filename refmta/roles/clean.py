"""clean: unlinks queue files for the queue manager, as the user who wrote them (qmail-clean).

qmgr decides what is over; it runs as another user than the one who writes the queue, and can't
unlink what that one wrote.  This role can, and does nothing else: it parses no mail, opens no file,
and follows no name but those of the table.

    foop/ID    todo/ID, intd/ID, mess/ID    nothing is left of the message
    todo/ID    intd/ID, todo/ID             it is on its way: nothing says that it is new

Rules a reader may rely on
- A file that is not there is gone: a command that was lost, or is said twice, does no harm.
- foop begins with todo/ID, whose presence is what makes a message (INTERNALS: to unlink it takes
  the message back).  So a crash or a failure in between leaves what the queue's recovery removes,
  and never a message without its content.  qmail-clean leaves todo/ID alone there, since qmail-send
  asks for foop only where it is gone.
- The first failure ends a command: the answer says that it is not done, and it may be said again.
- Unlinking is not synced: a file that a crash brings back is removed by recovery.

What it does not do: look for what is left over (whoever keeps the queue does), or remove pid/ files
after 36 hours, as qmail-clean does beside.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.stores.disk import Disk, PosixDisk
from refmta.wire.messages import Cleanse, Cleansed

#: Which files of a message a command removes, in this order.
REMOVES: Final = {"foop": ("todo", "intd", "mess"), "todo": ("intd", "todo")}


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """clean's configuration.  root: what the spool is called inside of its jail, if it has one."""

    spool: str
    root: str = ""


@dataclass(slots=True)
class Clean:
    """The role's state: the disk."""

    disk: Disk
    config: Slice
    journal: Journal

    async def serve(self, channel: Channel) -> None:
        """Remove what one qmgr says, until it goes away."""
        try:
            while True:
                for item in await channel.receive():
                    if not isinstance(item.message, Cleanse):
                        return
                    done = self.cleanse(item.message)
                    channel.post(Cleansed(reference=item.message.reference, done=done))
                await channel.flush()
        except ChannelBroken:
            return  # its successor finds what is left over
        finally:
            channel.close()

    def cleanse(self, command: Cleanse) -> bool:
        """Whether those files are gone now."""
        for directory in REMOVES[command.verb]:
            path = f"{directory}/{command.queue_id}"
            try:
                self.disk.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.journal.error(
                    "not removed",
                    queue_id=command.queue_id,
                    path=f"{self.config.spool}/{path}",
                    reason=os.strerror(error.errno or 0),
                )
                return False
        return True


async def run(context: Context, journal: Journal) -> None:
    """The role: remove until drained.  Raises OSError if there is no spool."""
    config = context.slice("clean", Slice)
    role = Clean(PosixDisk(config.root or config.spool), config, journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, context, role, nursery)
        context.ready()
        await context.draining.wait()
        # Whatever is half done is done at once: nothing in `cleanse` waits.
        nursery.cancel_scope.cancel()


async def _accept(context: Context, role: Clean, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port("qmgr").get()
        nursery.start_soon(role.serve, linked.channel)
