"""The jobs of one destination, in order, over one connection at a time.

See the package for the rules.  A `Conversation` hears its caller in one task and works in another;
connections that are of no more use end beside them, within seconds.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import dns.resolver
import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, close_all
from refmta.protocol import mx
from refmta.protocol import smtp_client as smtp
from refmta.protocol.relaying import parse_hop
from refmta.roles.remote import content
from refmta.roles.remote.connection import Connection, reason
from refmta.roles.remote.jobs import Job, Progress, same
from refmta.roles.remote.names import Names, Route
from refmta.stores.disk import Disk, PosixDisk
from refmta.wire.envelope import ChunkError
from refmta.wire.messages import Hurry, Relay, Relayed

#: Jobs that may wait; a caller that sends more has lost its mind.
JOBS = 100
#: How long the answers of the DNS are used for further jobs, in seconds.
ROUTE_S = 60.0
#: Transactions that were lost before their end, and are begun once more elsewhere.
AGAIN = 1
#: Whose reply is logged.
SEVERITY = {"delivered": 0, "returned": 1, "deferred": 2, "failed": 3}


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
    _options: smtp.ClientOptions = field(init=False)
    _own: mx.Own = field(init=False)
    _destination: str = ""
    _jobs: deque[Job] = field(default_factory=deque)
    _wake: trio.Event = field(default_factory=trio.Event)
    _hurried: bool = False
    _gone: bool = False
    _nursery: trio.Nursery | None = None
    _connection: Connection | None = None
    _route: Route | None = None
    _route_until: float = -math.inf
    _asking: trio.CancelScope | None = None

    def __post_init__(self) -> None:
        self._options = smtp.ClientOptions(hostname=self.config.hostname)
        own = {each.lower() for each in (*self.config.own, self.config.hostname)}
        self._own = mx.Own(
            names=frozenset(own), addresses=frozenset(own), ports=frozenset(self.config.own_ports)
        )

    async def run(self) -> None:
        """Until the caller is gone.  Its descriptors and connections are closed in any case."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._hear)
                await self._work()
                self._part()
        finally:
            self.channel.close()
            if self._connection is not None:
                self._connection.close()
            self._forget_jobs()

    def drain(self) -> None:
        """The server stops: give back what nobody was promised."""
        self._hurried = True
        if self._connection is not None:
            self._connection.hurry()
        if self._asking is not None:
            self._asking.cancel()

    # -- the caller -------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """Take in jobs, until the caller is gone; then what is under way is nobody's any more."""
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
                self._wake.set()
        except ChannelBroken:
            self._gone = True
            self.drain()
            self._wake.set()

    def _acceptable(self, relay: Relay) -> bool:
        """All jobs of one channel have the same destination: its hosts are not mixed up."""
        self._destination = self._destination or relay.destination
        return relay.destination == self._destination and len(self._jobs) < JOBS

    def _forget_jobs(self) -> None:
        while self._jobs:
            self.disk.close(self._jobs.popleft().descriptor)

    async def _work(self) -> None:
        while not self._gone:
            if not self._jobs:
                await self._rest()
                continue
            job = self._jobs.popleft()
            try:
                relayed = await self._relay(job)
            finally:
                self.disk.close(job.descriptor)
            self.channel.post(relayed)
            with contextlib.suppress(ChannelBroken):  # `_hear` will know
                await self.channel.flush()

    async def _rest(self) -> None:
        """Until there is a job.  A connection that waits too long is ended meanwhile."""
        self._wake = trio.Event()
        if self._connection is not None:
            with trio.move_on_after(self.config.idle_s):
                await self._wake.wait()
                return
            self._part()
        await self._wake.wait()

    def _part(self) -> None:
        """End the connection, if there is one, beside what goes on."""
        connection, self._connection = self._connection, None
        if connection is not None and self._nursery is not None:
            self._nursery.start_soon(connection.end)

    # -- one job ----------------------------------------------------------------------------------

    async def _relay(self, job: Job) -> Relayed:
        relay = job.relay
        if self._hurried:
            return same(relay, "returned", "", "this server stops")
        try:
            letter = await content.read(self.disk, job.descriptor, relay.queue_id)
            return await self._deliver(Progress(job, letter, relay.recipients))
        except ChunkError as error:
            self._log(relay, "damaged", str(error))
            return same(relay, "deferred", "4.6.0", str(error), damaged=True)
        except content.Unsendable as error:
            self._log(relay, "refused", error.text)
            return same(relay, "failed", error.enhanced, error.text)
        except OSError as error:
            self._lose()
            self._log(relay, "unreadable", reason(error))
            return same(relay, "deferred", "4.3.0", f"the queue: {reason(error)}")

    async def _deliver(self, progress: Progress) -> Relayed:
        """To the connection that we have, then to one host after the other."""
        connection = self._connection
        if connection is not None and await connection.still_usable():
            await self._attempt(progress, connection, reused=True)
        number = 0
        while progress.pending and progress.begun <= AGAIN and not self._hurried:
            candidate = await self._candidate(number)
            if candidate is None:
                break
            self._part()
            hop_port = self._route.port if self._route is not None else self.config.port
            connection = Connection(candidate, hop_port, self._options, self.config.timeouts_factor)
            await self._attempt(progress, connection, reused=False)
            number += 1
        if not progress.outcomes:
            return self._nowhere(progress.job.relay)
        if progress.finding == "dead":
            self._route = None
        return progress.relayed()

    async def _attempt(self, progress: Progress, connection: Connection, *, reused: bool) -> None:
        """One transaction, for the recipients that are still open."""
        transaction = progress.transaction()
        self._connection = connection
        done = await connection.transact(transaction, progress.letter)
        if connection.began and not reused:
            progress.begun += 1
        for recipient in progress.settle(connection.candidate.host, str(connection), done):
            # Written after the final reply was read, and before anyone is told.
            self.trace(
                "remote.sent", queue_id=progress.job.relay.queue_id,
                recipient=recipient.address, index=recipient.index,
            )  # fmt: skip
        if not connection.usable:
            self._part()
        self._log_attempt(progress.job.relay, connection, done)

    def _nowhere(self, relay: Relay) -> Relayed:
        """No host was asked."""
        if self._hurried:
            return same(relay, "returned", "", "this server stops")
        refusal, self._route = self._refusal(), None
        self._log(relay, "no host", refusal.text)
        ended = same(relay, refusal.kind, refusal.enhanced, refusal.text)
        # Nobody can be reached while the name servers are silent: as good as dead.
        return msgspec.structs.replace(ended, destination="dead") if _is_later(refusal) else ended

    # -- hosts ------------------------------------------------------------------------------------

    async def _candidate(self, number: int) -> mx.Candidate | None:
        """The next address; None if there is none, or the server stops."""
        route = self._route
        if number == 0 and (route is None or trio.current_time() >= self._route_until):
            route = self._route = self._find_route()
            self._route_until = trio.current_time() + ROUTE_S
        if route is None:
            return None
        with trio.CancelScope() as self._asking:
            return await route.candidate(number)
        return None

    def _find_route(self) -> Route | None:
        """None if the destination can't be read, or no name server is known: our own fault."""
        with contextlib.suppress(ValueError, dns.resolver.NoResolverConfiguration):
            hop = parse_hop(self._destination)
            names = Names(self.config.nameservers, self.config.dns_s)
            return Route(hop, hop.port or self.config.port, names, self._own)
        return None

    def _refusal(self) -> mx.Refusal:
        if self._route is None:
            text = f"no way to look for {self._destination}"
            return mx.Refusal(kind="deferred", enhanced="4.3.5", text=text)
        return self._route.refusal()

    def _lose(self) -> None:
        """A connection in an unknown state: no word is said on it any more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- the journal ------------------------------------------------------------------------------

    def _log_attempt(self, relay: Relay, connection: Connection, done: smtp.Done) -> None:
        kinds = Counter[str](each.kind for each in done.verdicts)
        worst = max(done.verdicts, key=lambda each: SEVERITY[each.kind])
        self.journal.info(
            "relayed" if kinds["delivered"] == len(done.verdicts) else "not relayed",
            queue_id=relay.queue_id, host=str(connection), **kinds, reply=worst.text,
        )  # fmt: skip

    def _log(self, relay: Relay, event: str, text: str) -> None:
        self.journal.warning(
            event, queue_id=relay.queue_id, destination=relay.destination, reason=text
        )


def _is_later(refusal: mx.Refusal) -> bool:
    return refusal.enhanced == "4.4.3"


def attend(
    channel: Channel, configuration: bytes, journal: Journal, trace: Callable[..., None]
) -> Conversation:
    """A conversation for a call, whose channel it takes over.  Raises msgspec.DecodeError."""
    config = msgspec.msgpack.decode(configuration, type=Slice)
    # No root: it reads descriptors that it was handed, and opens nothing.
    return Conversation(channel, config, journal, trace, PosixDisk(-1))
