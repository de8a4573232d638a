"""A town around one queue manager: clients, users, hosts and a reporter, under any weather.

The real role runs over in-process channels on trio's mock clock; its spool is a real directory.
Everybody else is played here, by what the weather says of him, and writes what he did into the
ledger: the only judge of what was delivered. Places and their weather:

- a user (`ada`, `bob`): an agent that delivers, defers, fails, takes its time, dies before or
  after it has delivered; or there is none to be had ("away");
- a host (`one.example` ...): a worker that relays, defers, fails, mixes, takes its time, gives
  back, dies before or after; a dead host; or no pool of workers at all ("away", for an hour);
- the reporter: keeps reports, has no room for them, dies before or after it has kept one (for an
  hour).

A kill ends the role and all its agents at one moment; the next life begins on the same directory,
and enqueue names every chunk that is there. A power cut takes marks back as well (any last ones:
they are never synced), and brings freed chunks back as they were, their marks lost.

The queue may lie in any store (`store` in the role's slice). Where it is not ours, the role keeps
it and recovers it itself, and a power cut is a kill: what it leaves is enumerated elsewhere.

Longer than most files: all who live here see the same weather and write into the same ledger.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import trio
from refinement.ledger import (
    EPOCH_S,
    HOSTS,
    LIST,
    NOBODY,
    PAUSE_S,
    PLACES,
    SENDER,
    SLOW_S,
    STEP_S,
    TURN_S,
    USERS,
    Key,
    Ledger,
    expanded,
    place_of,
    target,
    ways_to,
)  # fmt: skip
from refinement.machines import hold

from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received, border
from refmta.processes.channels import local_channels
from refmta.roles.qmgr.state import Slice
from refmta.stores import chunks
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import Draft, QueueStore, open_queue
from refmta.wire import messages as wire
from refmta.wire.envelope import Envelope, decode_envelope, encode_chunk, encode_envelope
from subjects.tokens import queue_id_of, token_of

#: By store: what it needs, the place of what was set aside last.
DIRECTORIES = {
    "chunks": (chunks.CHUNKS, chunks.DAMAGED),
    "sendmail_qfdf": ("mqueue", "damaged"),
    "qmail_todo": (
        "pid", "mess", "intd", "todo", "info", "local", "remote", "bounce", "damaged",
    ),
    "postfix_modebit": ("incoming", "active", "deferred", "corrupt"),
    "sendmailx_ibdb": ("cdb", "ibdb", "deferred", "damaged"),
}  # fmt: skip


class Silent:
    """A journal that nobody reads."""

    def __getattr__(self, _level: str) -> Any:
        return lambda _event, **_fields: None


class Town:
    """Everybody but the queue manager. Times are seconds of the mock clock."""

    def __init__(
        self, spool: Path, role: Any, carrier: Any = local_channels, **config: Any
    ) -> None:
        """carrier: makes both ends of a channel. config: of the role's slice."""
        self.spool, self.role, self.carrier, self.config = spool, role, carrier, config
        self.lifetime_s = config["lifetime_s"]
        self.store = config.get("store", "chunks")
        self.ledger = Ledger()
        self.weather = dict.fromkeys(PLACES, "fair")
        self.fair_since = dict.fromkeys(PLACES, float("-inf"))
        self.reporter = "fair"
        self.uneasy_s = float("-inf")  # when the last kill or the reporter's last trouble ended
        self.originals: dict[str, bytes] = {}
        self.envelopes: dict[str, Envelope] = {}
        self.drafts: dict[str, Draft] = {}
        self.logs = False
        self.chance = Random(0)
        for name in DIRECTORIES[self.store]:
            (spool / name).mkdir(exist_ok=True)

    # -- the role's life --------------------------------------------------------------------------

    async def live(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """One life of the role: until `kill`."""
        self.channels: list[Channel] = []
        self.context = Context(
            slices={"qmgr": msgspec.msgpack.encode(Slice(spool=str(self.spool), **self.config))},
            say=self.hear, call=self.call,
        )  # fmt: skip
        self.over = trio.Event()
        try:
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self._run_role)
                self.enqueue = self.link("enqueue")
                self.nursery.start_soon(self.resolve, self.link("resolve"))
                self.nursery.start_soon(self.report, self.link("bounce"))
                if not self.config.get("keeps"):
                    await self.announce(*self.queued())
                task_status.started()
        finally:
            for each in self.channels:
                each.close()
            close_below(self.spool)
        self.over.set()

    async def _run_role(self) -> None:
        await self.role.run(self.context, Silent(), wall=self.wall, chance=Random(1))

    def wall(self) -> float:
        return EPOCH_S + trio.current_time()

    def link(self, peer: str, detail: str = "") -> Channel:
        """A channel to the role; returns the peer's end."""
        near, far = self.pair("qmgr", peer)
        self.context.port(peer).put(Linked(near, detail))
        return far

    def pair(self, one: str, other: str) -> tuple[Channel, Channel]:
        near, far = self.carrier(border(one, other))
        self.channels += near, far
        return near, far

    async def kill(self) -> None:
        """The role and its agents end; what they had delivered and not marked may come again."""
        self.nursery.cancel_scope.cancel()
        await self.over.wait()
        self.uneasy_s = trio.current_time()
        for name in self.queued():
            done = self.marked(name)
            for key in self.keys(token_of(name)):
                if self.ledger.delivered[key] and key[1] not in done:
                    self.ledger.may[key] += 1
            self.ledger.may_report[token_of(name)] += 1

    def cut_power(self) -> None:
        """After a kill: marks go, and freed chunks come back, as chance will have it."""
        for token, original in self.originals.items():
            if self.store != "chunks":
                return
            path = self.spool / chunks.CHUNKS / queue_id_of(token)
            if path.exists():
                octets = path.read_bytes()
                kept = self.chance.choice((len(original), len(octets), len(octets)))
                path.write_bytes(octets[: self.chance.randint(kept, len(octets))])
            elif self.chance.random() < 0.5:
                path.write_bytes(original)
            else:
                continue
            for key in self.keys(token):
                self.ledger.may[key] += bool(self.ledger.delivered[key])
            self.ledger.may_report[token] += 1

    # -- the queue --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def opened(self) -> Iterator[QueueStore[Any]]:
        """The store, as another process sees it."""
        disk = PosixDisk(self.spool)
        try:
            yield open_queue(self.store, disk, {})
        finally:
            disk.leave()

    def queued(self) -> list[str]:
        with self.opened() as store:
            return sorted(store.names())

    def keys(self, token: str) -> list[Key]:
        return [(token, address) for address in expanded(self.ledger.expected[token])]

    def marks(self, name: str) -> tuple[list[str], tuple[Any, ...]]:
        """Addresses by index, and marks."""
        with self.opened() as store:
            loaded = store.look(name)
            store.disk.close(loaded.handle)
        addresses = list(loaded.envelope.recipients)
        for mark in loaded.marks:
            if mark.kind == "expanded":
                addresses += mark.targets
        return addresses, loaded.marks

    def marked(self, name: str) -> set[str]:
        """Addresses that are marked as delivered."""
        addresses, marks = self.marks(name)
        return {addresses[mark.index] for mark in marks if mark.kind == "delivered"}

    def submit(self, token: str, addresses: tuple[str, ...], *, null: bool) -> str:
        """A message becomes durable; returns its name in the queue."""
        name = queue_id_of(token)
        envelope = Envelope(
            queue_id=name, arrival_s=int(self.wall()), reverse_path="" if null else SENDER,
            recipients=addresses, client="192.0.2.1", helo="h", protocol="SMTP",
        )  # fmt: skip
        content = f"Subject: {token}\r\n\r\n".encode()
        if self.store == "chunks":
            self.originals[token] = encode_chunk(envelope, [content])
            (self.spool / chunks.CHUNKS / name).write_bytes(self.originals[token])
        else:
            self._commit(envelope, content)
        self.envelopes[name] = envelope
        self.ledger.expected[token] = addresses
        self.ledger.arrived[token] = trio.current_time()
        self.ledger.null |= {token} if null else set()
        return name

    def _commit(self, envelope: Envelope, content: bytes) -> None:
        """As another process does it.  Of what it left, a descriptor is opened for the agents."""
        with self.opened() as store:
            draft = store.draft(envelope)
            draft.add(content)
            draft.finish()
            hold("nothing_lost", store.commit([draft]) == {}, envelope.queue_id)
            self.logs = store.logs_envelopes
            self.drafts[envelope.queue_id] = draft  # open until it is answered
            handle = store.open(envelope.queue_id)
            self.originals[token_of(envelope.queue_id)] = os.pread(handle, 1 << 16, 0)
            os.close(handle)

    async def announce(self, *names: str) -> None:
        if self.logs:
            await self._register(names)
        for name in names:
            if name in self.drafts:
                self.drafts.pop(name).close()
        if names and not self.logs:
            self.enqueue.post(wire.Arrived(queue_ids=names))
            await self.enqueue.flush()

    async def _register(self, names: tuple[str, ...]) -> None:
        """They are messages when qmgr has logged their envelopes."""
        for name in names:
            head = encode_envelope(self.envelopes[name])
            self.enqueue.post(wire.Register(queue_id=name, head=head))
        await self.enqueue.flush()
        missing = set(names)
        while missing:
            for item in await self.enqueue.receive():
                if isinstance(item.message, wire.Registered):
                    hold("nothing_lost", not item.message.error, item.message.error)
                    missing.discard(item.message.queue_id)

    # -- peers ------------------------------------------------------------------------------------

    def hear(self, message: wire.Message) -> None:
        """The supervisor: brings an agent a moment later, or says that there is none."""
        if isinstance(message, wire.AgentWanted):
            self.nursery.start_soon(self.bring_agent, message.user)

    async def bring_agent(self, user: str) -> None:
        await trio.sleep(1)
        if self.weather[user] in ("away", "dead"):
            self.context.order(wire.AgentRefused(user=user, text="no such user"))
        else:
            await self.agent(user, self.link("local", user))

    def call(self, port: str) -> Channel:
        """The pool of remote workers."""
        near, far = self.pair("qmgr", port)
        if any(self.weather[host] == "away" for host in HOSTS):
            far.close()
        else:
            self.nursery.start_soon(self.worker, far)
        return near

    async def resolve(self, channel: Channel) -> None:
        async for question, _ in heard(channel):
            address = question.recipient
            user, _, domain = address.partition("@")
            found = [address]
            if address == LIST:
                found = [f"{each}@example.org" for each in USERS]
            elif domain == "example.org" and user not in USERS:
                found = []
            answer = wire.Routed(
                reference=question.reference,
                code=250 if found else 550,
                enhanced="" if found else "5.1.1",
                text="" if found else "no such user",
                targets=tuple(map(target, found)),
            )
            channel.post(answer)
            await channel.flush()

    async def agent(self, user: str, channel: Channel) -> None:
        async for job, octets in heard(channel):
            token = self.token_in(job, octets)
            await self.take_time(user)
            verdict = self.attempt(user, token, f"{user}@example.org")
            if verdict is None:
                channel.close()
                return
            kind, enhanced = verdict
            channel.post(
                wire.Outcome(reference=job.reference, kind=kind, enhanced=enhanced, text="so")
            )
            await channel.flush()

    async def worker(self, channel: Channel) -> None:
        """Does all its jobs at once; when it dies, all of them end."""
        async with trio.open_nursery() as nursery:
            async for job, octets in heard(channel):
                if isinstance(job, wire.Relay):
                    token = self.token_in(job, octets)
                    nursery.start_soon(self._relay, channel, job, token, nursery.cancel_scope)

    async def _relay(
        self, channel: Channel, job: wire.Relay, token: str, life: trio.CancelScope
    ) -> None:
        relayed = await self.relay(job, token)
        if relayed is None:
            channel.close()
            life.cancel()
            return
        channel.post(relayed)
        with contextlib.suppress(ChannelBroken):  # the role has hung up: what was done is done
            await channel.flush()

    async def relay(self, job: wire.Relay, token: str) -> wire.Relayed | None:
        host, outcomes = job.destination, []
        dead = self.weather[host] == "dead"
        await self.take_time(host)
        for each in job.recipients:
            verdict = self.attempt(host, token, each.address)
            if verdict is None:
                return None
            kind: Any = verdict[0]
            outcomes.append(
                wire.RelayOutcome(index=each.index, kind=kind, enhanced=verdict[1], text="so")
            )
        return wire.Relayed(
            reference=job.reference, destination="dead" if dead else "alive",
            outcomes=tuple(outcomes),
        )  # fmt: skip

    async def take_time(self, place: str) -> None:
        await trio.sleep(SLOW_S if self.weather[place] == "slow" else 1)

    def attempt(self, place: str, token: str, address: str) -> tuple[str, str] | None:
        """What becomes of one recipient here; None: whoever tried has died."""
        key = (token, address)
        hold("no_misdelivery", key in self.keys(token), key)
        weather = self.weather[place]
        if weather == "mixed":
            weather = self.chance.choice(("fair", "defers", "fails"))
        if weather == "returns":
            weather = self.chance.choice(("fair", "gives back" if place in HOSTS else "defers"))
        match weather:
            case "fair" | "slow":
                self.deliver(key)
                return "delivered", "2.0.0"
            case "fails":
                self.ledger.refused.add(key)
                return "failed", "5.0.0"
            case "gives back":
                return "returned", ""
            case "dies after":
                self.deliver(key)
                self.ledger.may[key] += 1
                return None
            case "dies before":
                return None
        return "deferred", "4.0.0"

    def deliver(self, key: Key) -> None:
        self.ledger.delivered[key] += 1
        self.ledger.delivered_at.setdefault(key, trio.current_time())
        hold(
            "duplicates_only_in_windows",
            self.ledger.delivered[key] <= 1 + self.ledger.may[key],
            f"{key}: {self.ledger.delivered[key]} times",
        )

    async def report(self, channel: Channel) -> None:
        async for job, octets in heard(channel):
            token = self.token_in(job, octets)
            await trio.sleep(1)
            if self.reporter == "dies before":
                break
            if self.reporter != "full":
                self.keep_report(token, job)
            if self.reporter == "dies after":
                self.ledger.may_report[token] += 1
                break
            kept = "" if self.reporter == "full" else queue_id_of("report")
            channel.post(wire.Reported(reference=job.reference, queue_id=kept, text="so"))
            await channel.flush()
        else:
            return
        channel.close()
        await trio.sleep(60)
        await self.report(self.link("bounce"))

    def keep_report(self, token: str, job: wire.Report) -> None:
        ledger = self.ledger
        hold("no_report_about_a_report", token not in ledger.null, token)
        hold("reports_go_to_the_sender", job.to == SENDER, job.to)
        windows = ledger.may_report[token]
        if job.kind == "delayed":
            ledger.warned[token] += 1
            hold("duplicates_only_in_windows", ledger.warned[token] <= 1 + windows, f"{token} late")
            return
        for address in {row.address for row in job.rows}:
            key = (token, address)
            ledger.reported[key] += 1
            ways = ways_to(address, ledger.expected[token])
            once = ledger.reported[key] <= ways + windows
            hold("duplicates_only_in_windows", once, f"{key} told")
            hold("reports_are_true", self.has_failed(key), key)

    def has_failed(self, key: Key) -> bool:
        """Whether somebody said "never", or its lifetime is over."""
        age_s = trio.current_time() - self.ledger.arrived[key[0]]
        return key in self.ledger.refused or key[1] == NOBODY or age_s >= self.lifetime_s - 1

    def token_in(self, job: Any, octets: bytes) -> str:
        """The message behind a descriptor is what was submitted under this name; so is what says
        whose it is, if that comes beside it.
        """
        token = token_of(job.queue_id)
        hold("no_misdelivery", octets.startswith(self.originals[token]), job.queue_id)
        if job.head:
            beside, submitted = decode_envelope(job.head), self.envelopes[job.queue_id]
            hold("no_misdelivery", beside.reverse_path == submitted.reverse_path, beside)
            hold("no_misdelivery", beside.queue_id == job.queue_id, beside)
        return token

    # -- judgement --------------------------------------------------------------------------------

    def judge(self) -> None:
        """At any moment."""
        queued = self.queued()
        for token in self.ledger.expected:
            name = queue_id_of(token)
            self._nothing_lost(token, name in queued)
            if name in queued:
                self._in_time(token)
                for address in self.marked(name):
                    done = self.ledger.delivered[token, address]
                    hold("marks_after_delivery", bool(done), f"{token}, {address}")
        for token in self.ledger.arrived:
            self._no_starvation(token)
        aside = self.spool / DIRECTORIES[self.store][-1]
        hold("nothing_lost", not os.listdir(aside), "set aside as damaged")

    def _nothing_lost(self, token: str, queued: bool) -> None:
        ledger = self.ledger
        for key in self.keys(token):
            discarded = token in ledger.null and self.has_failed(key)
            done = ledger.delivered[key] or ledger.reported[key] or discarded
            hold("nothing_lost", bool(queued or done), key)

    def _in_time(self, token: str) -> None:
        end_s = max(self.ledger.arrived[token] + self.lifetime_s, self.uneasy_s) + STEP_S
        late = self.reporter == "fair" and trio.current_time() > end_s
        hold("ends_in_time", not late, f"{token} at {trio.current_time()}, not by {end_s}")

    def _no_starvation(self, token: str) -> None:
        """Mail for places that were fair all the time, in a life without a kill."""
        arrived_s, now_s = self.ledger.arrived[token], trio.current_time()
        if self.uneasy_s + PAUSE_S > arrived_s or LIST in self.ledger.expected[token]:
            return
        addresses = self.ledger.expected[token]
        places = {place_of(address) for address in addresses}
        if not places <= self.fair_since.keys() or "away" in self.weather.values():
            return
        if any(self.fair_since[place] + PAUSE_S > arrived_s for place in places):
            return
        for address in addresses:
            waited_s = self.ledger.delivered_at.get((token, address), now_s) - arrived_s
            hold("no_starvation", waited_s <= TURN_S, f"{token}, {address}: {waited_s} s")


async def heard(channel: Channel) -> Any:
    """What comes over a channel until it breaks: each message, and the octets behind its
    descriptor, which is closed at once.
    """
    with contextlib.suppress(ChannelBroken):
        while True:
            for message, octets in [read(item) for item in await channel.receive()]:
                yield message, octets


def read(item: Received) -> tuple[Any, bytes]:
    octets = b""
    for descriptor in item.descriptors:
        octets = os.pread(descriptor, 1 << 16, 0)
        os.close(descriptor)
    return item.message, octets


def close_below(spool: Path) -> None:
    """A process would end here: what it held open is closed for it."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(str(spool)):
                os.close(int(name))
