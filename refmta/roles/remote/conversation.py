"""The jobs of one destination, over a few connections.

See the package for the rules.  A `Conversation` hears its caller, and has a lane (`lane`) for each
job that is under way, up to `LANES`; jobs begin in the order in which they came.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import dns.resolver
import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, close_all
from refmta.protocol import mx
from refmta.protocol import smtp_client as smtp
from refmta.protocol.relaying import parse_hop
from refmta.roles.remote.jobs import Job
from refmta.roles.remote.lane import Lane
from refmta.roles.remote.names import Names, Route
from refmta.stores.disk import Disk, PosixDisk
from refmta.wire.messages import Hurry, Relay, Relayed

#: Jobs that may wait; a caller that sends more has lost its mind.
JOBS = 100
#: How long the answers of the DNS are used for further jobs, in seconds.
ROUTE_S = 60.0
#: Connections of one worker, all to its one destination: a process for each would cost more than
#: what it does, since few caches hold twenty of them.
LANES = 10


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """remote's configuration.  Times in seconds.

    hostname: said in EHLO.  port: of hosts without one of their own.  own: our names and
    addresses; own_ports: where we listen (mail for `own` there is a loop).  nameservers:
    "192.0.2.1" or "192.0.2.1:53"; none: /etc/resolv.conf.  dns_s: of one look-up.
    timeouts_factor: scales the times of RFC 5321 4.5.3.2.  idle_s: a connection without a job.
    """

    hostname: str
    port: int = 25
    own: tuple[str, ...] = ()
    own_ports: tuple[int, ...] = (25,)
    nameservers: tuple[str, ...] = ()
    dns_s: float = 10.0
    timeouts_factor: float = 1.0
    idle_s: float = 2.0


@dataclass(slots=True, eq=False)
class Conversation:
    """What one call of the queue manager is to a worker of the pool."""

    channel: Channel
    config: Slice
    journal: Journal
    trace: Callable[..., None]
    disk: Disk
    clean: bool = True
    options: smtp.ClientOptions = field(init=False)
    destination: str = ""
    hurried: bool = False
    gone: bool = False
    _own: mx.Own = field(init=False)
    _jobs: deque[Job] = field(default_factory=deque)
    _wanted: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    _lanes: set[Lane] = field(default_factory=set)
    _at_work: int = 0
    _route: Route | None = None
    _route_until: float = -math.inf

    def __post_init__(self) -> None:
        self.options = smtp.ClientOptions(hostname=self.config.hostname)
        own = {each.lower() for each in (*self.config.own, self.config.hostname)}
        self._own = mx.Own(
            names=frozenset(own), addresses=frozenset(own), ports=frozenset(self.config.own_ports)
        )

    async def run(self) -> None:
        """Until the caller is gone.  Its descriptors and connections are closed in any case."""
        try:
            async with trio.open_nursery() as nursery:
                await self._hear(nursery)
                # What is under way is nobody's any more.
                self.gone = True
                self.drain()
                self._wanted.unpark_all()
        finally:
            self.channel.close()
            for lane in self._lanes:
                lane.close()
            while self._jobs:
                self.disk.close(self._jobs.popleft().descriptor)

    def drain(self) -> None:
        """The server stops: give back what nobody was promised."""
        self.hurried = True
        for lane in self._lanes:
            lane.hurry()

    # -- the caller -------------------------------------------------------------------------------

    async def _hear(self, nursery: trio.Nursery) -> None:
        """Take in jobs, until the caller is gone."""
        try:
            while True:
                for item in await self.channel.receive():
                    match item.message:
                        case Relay() as relay if self._acceptable(relay):
                            self._jobs.append(Job(relay, item.descriptors[0]))
                        case Hurry():
                            self.drain()
                        case _:
                            close_all(item.descriptors)
                            self.channel.close()
                self._put_to_work(nursery)
        except ChannelBroken:
            return

    def _acceptable(self, relay: Relay) -> bool:
        """All jobs of one channel have the same destination: its hosts are not mixed up."""
        self.destination = self.destination or relay.destination
        return relay.destination == self.destination and len(self._jobs) < JOBS

    # -- lanes ------------------------------------------------------------------------------------

    def _put_to_work(self, nursery: trio.Nursery) -> None:
        """A lane for each job that waits: one that rests, or a new one.

        A lane that has reported its job counts as resting: how many jobs we have at once, and so
        how many connections, is the caller's decision.
        """
        self._wanted.unpark(count=len(self._jobs))
        wanted = min(self._at_work + len(self._jobs), LANES)
        for _ in range(wanted - len(self._lanes)):
            lane = Lane(self, nursery)
            self._lanes.add(lane)
            nursery.start_soon(self._work, lane)

    async def _work(self, lane: Lane) -> None:
        try:
            await lane.work()
        finally:
            self._lanes.discard(lane)

    async def next_job(self) -> Job | None:
        """For a lane: a job; None if there was none for the idle time, or the caller is gone."""
        while not self._jobs and not self.gone:
            with trio.move_on_after(self.config.idle_s) as waiting:
                await self._wanted.park()
            if waiting.cancelled_caught and not self._jobs:
                return None
        if self.gone:
            return None
        self._at_work += 1
        return self._jobs.popleft()

    def done(self, job: Job, relayed: Relayed) -> None:
        """Close a job's chunk, and say what became of it (the lane flushes)."""
        self._at_work -= 1
        self.disk.close(job.descriptor)
        self.channel.post(relayed)

    # -- hosts ------------------------------------------------------------------------------------

    def route(self) -> Route | None:
        """The destination's hosts, for a job that begins to ask for them.

        None if the destination can't be read, or no name server is known: our own fault.
        """
        if self._route is None or trio.current_time() >= self._route_until:
            self._route = self._find_route()
            self._route_until = trio.current_time() + ROUTE_S
        return self._route

    def forget_route(self) -> None:
        """The next job asks the DNS anew."""
        self._route = None

    def _find_route(self) -> Route | None:
        with contextlib.suppress(ValueError, dns.resolver.NoResolverConfiguration):
            hop = parse_hop(self.destination)
            names = Names(self.config.nameservers, self.config.dns_s)
            return Route(hop, hop.port or self.config.port, names, self._own)
        return None


def attend(
    channel: Channel,
    _client: str,
    configuration: bytes,
    _channels: Mapping[str, Channel],
    journal: Journal,
    trace: Callable[..., None],
) -> Conversation:
    """A conversation for a call, whose channel it takes over.  Raises msgspec.DecodeError."""
    config = msgspec.msgpack.decode(configuration, type=Slice)
    # No root: it reads descriptors that it was handed, and opens nothing.
    return Conversation(channel, config, journal, trace, PosixDisk(-1))
