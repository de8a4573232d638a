"""lmtpc: hands mail to the recipients' agents by LMTP (RFC 2033), as a client.

It is handed one open descriptor per recipient, read only, by the queue manager, as an agent would
be; but what writes mailboxes is a server of the recipient's own (`roles.lmtpd`), which is reached
by a standard protocol and could be anybody's.  It never sees the queue, and no mailbox.

Rules a reader may rely on
- "delivered" means that the recipient's server said 2yz in this recipient's own place behind the
  end of the content, and nothing else does (`protocol.lmtp_client`).
- No octet of a message leaves before it was found whole (`stores.letters`).
- Each user has a connection and a line of mail of his own: a server that hangs keeps his own mail
  waiting and nobody else's.  Deliveries of one message to mailboxes of one user share a
  transaction, which is what LMTP's replies are for.
- A connection that was lost before the end of the content cost nothing: a new server is asked for,
  `TRIES` times at most.  Behind the end nobody knows; the delivery is deferred, and comes again
  under the same name (`protocol.lmtp`: XDELIVERY).
- Servers are started by the supervisor, as agents are: AgentWanted, and a link whose detail is the
  user's name.
- A server can cost us time and nothing else: replies are bounded in lines, octets and number, every
  wait has its end, and every delivery gets exactly one outcome.

`connection` speaks to one server; `courier` keeps one user's mail; this file hears everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, close_all
from refmta.protocol import lmtp_client as lmtp
from refmta.roles.lmtpc.courier import Courier, Job, Tools, outcome
from refmta.stores.disk import Disk, PosixDisk
from refmta.wire.messages import AgentRefused, AgentWanted, Deliver, Name

__all__ = ["Lmtpc", "Slice", "run"]

#: Deliveries that may wait here; a caller that sends more has lost its mind.
JOBS = 10_000
#: How often a stop looks whether all is done, in seconds.
LOOK_S = 0.05


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """lmtpc's configuration.  hostname: said in LHLO.  timeouts_factor: scales all times."""

    hostname: str
    timeouts_factor: float = 1.0


@dataclass(slots=True, eq=False)
class Lmtpc:
    """The role's state: a courier for each user who has had mail."""

    disk: Disk
    config: Slice
    context: Context
    journal: Journal
    nursery: trio.Nursery
    couriers: dict[str, Courier] = field(default_factory=dict)
    stopping: bool = False

    # -- the queue manager ------------------------------------------------------------------------

    async def serve(self, channel: Channel) -> None:
        """Take deliveries from one queue manager, until it goes away."""
        try:
            while True:
                for item in await channel.receive():
                    if not isinstance(item.message, Deliver) or self.waiting() >= JOBS:
                        close_all(item.descriptors)
                        channel.close()
                        continue
                    self._take(Job(item.message, item.descriptors[0], channel))
                await self._flush(channel)
        except ChannelBroken:
            channel.close()
        finally:
            for courier in self.couriers.values():
                courier.forget(channel)

    def _take(self, job: Job) -> None:
        """One more for its user's courier.  A name that the supervisor would not read is nobody's:
        it would cut us off.
        """
        user = job.deliver.user
        try:
            msgspec.convert(user, type=Name)
        except msgspec.ValidationError:
            self._defer(job, "4.3.5", "no user is named whose mailbox it is")
            return
        if self.stopping:
            self._defer(job, "4.3.2", "this server stops")
            return
        self._courier(user).take(job)

    def _defer(self, job: Job, enhanced: str, text: str) -> None:
        self.disk.close(job.descriptor)
        job.channel.post(outcome(job.deliver, "deferred", enhanced, text))

    def waiting(self) -> int:
        """Deliveries that are not done."""
        return sum([each.load for each in self.couriers.values()])

    # -- the agents -------------------------------------------------------------------------------

    def follow(self, user: str, channel: Channel) -> None:
        """There is a server for this user now."""
        self._courier(user).connect(channel)

    def refused(self, refusal: AgentRefused) -> None:
        """There will be none: its mail waits, with the reason."""
        self._courier(refusal.user).refused(refusal.text)

    def _courier(self, user: str) -> Courier:
        courier = self.couriers.get(user)
        if courier is None:
            tools = Tools(
                disk=self.disk,
                options=lmtp.ClientOptions(hostname=self.config.hostname),
                factor=self.config.timeouts_factor,
                want=self._want,
                flush=self._flush,
                journal=self.journal,
                nursery=self.nursery,
            )
            courier = self.couriers[user] = Courier(user, tools)
        return courier

    def _want(self, user: str) -> None:
        self.context.say(AgentWanted(user=user))

    async def _flush(self, channel: Channel) -> None:
        """Whoever receives from it sees that it is broken, too."""
        try:
            await channel.flush()
        except ChannelBroken:
            return

    # -- the end ----------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Give back what nobody has begun, finish the rest, and say QUIT to everyone."""
        self.stopping = True
        for courier in self.couriers.values():
            await courier.stop()
        while any(each.busy for each in self.couriers.values()):
            await trio.sleep(LOOK_S)


async def run(context: Context, journal: Journal) -> None:
    """The role: serve the queue manager until drained."""
    config = context.slice("lmtpc", Slice)
    async with trio.open_nursery() as nursery:
        # No root: it reads descriptors that it was handed, and opens nothing.
        role = Lmtpc(PosixDisk(-1), config, context, journal, nursery)
        nursery.start_soon(_accept, context, role, nursery)
        nursery.start_soon(_follow, context, role)
        nursery.start_soon(_obey, context, role)
        context.settled_if(lambda: not role.waiting())
        context.ready()
        await context.draining.wait()
        await role.stop()
        nursery.cancel_scope.cancel()


async def _accept(context: Context, role: Lmtpc, nursery: trio.Nursery) -> None:
    while True:
        nursery.start_soon(role.serve, (await context.port("qmgr").get()).channel)


async def _follow(context: Context, role: Lmtpc) -> None:
    while True:
        linked = await context.port("lmtpd").get()
        role.follow(linked.detail, linked.channel)


async def _obey(context: Context, role: Lmtpc) -> None:
    async for message in context.orders():
        if isinstance(message, AgentRefused):
            role.refused(message)
