"""enqueue and qmgr together, over every store; and two queue managers over one queue.

- over every store: what enqueue answered Kept to reaches its recipient once, octet for octet below
  its Received line, and the queue is empty afterwards;
- in a monolith each connection has a queue manager of its own, beside the one that runs through the
  queue (sendmail): whoever claims a message delivers it, and nobody else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from refinement.ledger import target
from refinement.town import DIRECTORIES, Silent, close_below, heard

from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.channels import local_channels
from refmta.roles import enqueue, qmgr
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import STORES, open_queue
from refmta.wire import messages as wire
from refmta.wire.envelope import decode_envelope

CONTENT = b"Subject: x\r\n\r\nhello\r\n"
SUBMIT = wire.Submit(
    reverse_path="x@example.net",
    recipients=("ada@example.org",),
    client="192.0.2.1",
    helo="client.example.net",
    protocol="ESMTP",
)


@dataclass
class Place:
    """A spool and whoever works on it; `delivered`: how often each message was."""

    spool: Path
    store: str
    nursery: trio.Nursery
    delivered: Counter[str] = field(default_factory=Counter)
    contents: list[bytes] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    #: How long a delivery takes, in seconds.
    takes_s: float = 0.0

    def pair(self, one: str, other: str) -> tuple[Channel, Channel]:
        near, far = local_channels(border(one, other))
        self.channels += near, far
        return near, far

    def begin(self, role: Any, name: str, slice_: msgspec.Struct) -> Context:
        context = Context(slices={name: msgspec.msgpack.encode(slice_)})
        self.contexts.append(context)
        self.nursery.start_soon(role.run, context, Silent())
        return context

    def begin_enqueue(self, **config: Any) -> Context:
        slice_ = enqueue.Slice(
            spool=str(self.spool), hostname="mx.example.org", message_octets=1 << 20,
            store=self.store, **config,
        )  # fmt: skip
        return self.begin(enqueue, "enqueue", slice_)

    def begin_qmgr(self, **config: Any) -> Context:
        slice_ = qmgr.Slice(spool=str(self.spool), store=self.store, **config)
        context = self.begin(qmgr, "qmgr", slice_)
        for port, peer in (("resolve", self.resolve), ("local", self.agent)):
            near, far = self.pair("qmgr", port)
            context.port(port).put(Linked(near, "ada" if port == "local" else ""))
            self.nursery.start_soon(peer, far)
        return context

    def join(self, client: Context, server: Context) -> None:
        near, far = self.pair("enqueue", "qmgr")
        client.port("qmgr").put(Linked(near))
        server.port("enqueue").put(Linked(far))

    async def resolve(self, channel: Channel) -> None:
        async for question, _ in heard(channel):
            channel.post(
                wire.Routed(
                    reference=question.reference, code=250, enhanced="", text="",
                    targets=(target(question.recipient),),
                )
            )  # fmt: skip
            await channel.flush()

    async def agent(self, channel: Channel) -> None:
        async for job, octets in heard(channel):
            await trio.sleep(self.takes_s)
            self.delivered[job.queue_id] += 1
            self.contents.append(octets)
            if job.head:
                assert decode_envelope(job.head).recipients == SUBMIT.recipients
            channel.post(
                wire.Outcome(reference=job.reference, kind="delivered", enhanced="2.0.0", text="")
            )
            await channel.flush()

    async def submit(self, context: Context) -> wire.Kept:
        near, far = self.pair("smtpd", "enqueue")
        context.port("smtpd").put(Linked(far))
        near.post(SUBMIT)
        near.post_octets(CONTENT)
        near.post(wire.Finish(octets=len(CONTENT)))
        await near.flush()
        with trio.fail_after(30):
            (answer,) = await near.receive()
        assert isinstance(answer.message, wire.Kept)
        near.close()
        return answer.message

    def queued(self) -> list[str]:
        disk = PosixDisk(self.spool)
        try:
            return list(open_queue(self.store, disk, {}).names())
        finally:
            disk.leave()

    async def settle(self) -> None:
        """Until nobody has anything begun and unfinished."""
        with trio.fail_after(1000):
            while not all(each.settled() for each in self.contexts):
                await trio.sleep(0.1)


@asynccontextmanager
async def place(spool: Path, store: str) -> AsyncIterator[Place]:
    for name in DIRECTORIES[store]:
        (spool / name).mkdir()
    async with trio.open_nursery() as nursery:
        it = Place(spool, store, nursery)
        yield it
        nursery.cancel_scope.cancel()
    for each in it.channels:
        each.close()
    close_below(spool)


# -- every store ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["background", "interactive"])
@pytest.mark.parametrize("store", STORES)
async def test_what_was_kept_is_delivered_once_and_leaves_nothing(
    store: str, delivery: Any, tmp_path: Path, autojump_clock: Any
):
    async with place(tmp_path, store) as it:
        ours = store == "chunks"
        way_in = it.begin_enqueue(keeps=ours, delivery=delivery)
        it.join(way_in, it.begin_qmgr(keeps=not ours, delivery=delivery))
        kept = [await it.submit(way_in) for _ in range(5)]
        await trio.testing.wait_all_tasks_blocked()
        await it.settle()
        assert it.delivered == Counter(each.queue_id for each in kept)
        assert all(CONTENT in each and b"Received: from client" in each for each in it.contents)
        assert it.queued() == []
        assert not os.listdir(tmp_path / DIRECTORIES[store][-1])


@pytest.mark.parametrize("store", sorted(STORES.keys() - {"chunks", "sendmailx_ibdb"}))
async def test_what_was_kept_without_a_qmgr_is_found(
    store: str, tmp_path: Path, autojump_clock: Any
):
    """By recovery, and by a scan of one that runs already."""
    async with place(tmp_path, store) as it:
        way_in = it.begin_enqueue(keeps=False)
        first = await it.submit(way_in)
        it.begin_qmgr(keeps=True, scan_s=300.0)
        await trio.sleep(1)
        assert it.delivered == Counter([first.queue_id])
        second = await it.submit(way_in)
        await trio.sleep(200)
        assert it.delivered == Counter([first.queue_id])
        await trio.sleep(200)
        assert it.delivered == Counter([first.queue_id, second.queue_id])
        assert it.queued() == []


# -- two queue managers ---------------------------------------------------------------------------


async def run_through(it: Place, messages: int = 20) -> None:
    """Messages come by a connection that delivers them itself, while the runner looks around."""
    connection = it.begin_enqueue(keeps=False)
    it.takes_s = 0.4
    it.join(connection, it.begin_qmgr())
    it.begin_qmgr(keeps=True, scan_s=0.5)
    for _ in range(messages):
        await it.submit(connection)
        await trio.sleep(0.1)
    await it.settle()
    await trio.sleep(5)
    await it.settle()


async def test_connection_and_runner_deliver_each_message_once(tmp_path: Path, autojump_clock: Any):
    async with place(tmp_path, "sendmail_qfdf") as it:
        await run_through(it)
        assert len(it.delivered) == 20 and set(it.delivered.values()) == {1}
        assert it.queued() == []


class Greedy:
    """A store that takes messages which others have claimed."""

    def __init__(self, *arguments: Any) -> None:
        self.store = open_queue(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def load(self, queue_id: str) -> Any:
        return self.store.look(queue_id)


async def test_a_queue_without_claims_is_caught(
    tmp_path: Path, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(qmgr, "open_queue", Greedy)
    async with place(tmp_path, "sendmail_qfdf") as it:
        await run_through(it)
        assert max(it.delivered.values()) > 1


async def test_in_delivery_queue_the_connection_leaves_it_to_the_runner(
    tmp_path: Path, autojump_clock: Any
):
    async with place(tmp_path, "sendmail_qfdf") as it:
        connection = it.begin_enqueue(keeps=False, delivery="queue")
        it.join(connection, it.begin_qmgr(delivery="queue"))
        it.begin_qmgr(keeps=True, scan_s=100.0, delivery="queue")
        kept = await it.submit(connection)
        await trio.sleep(50)
        assert not it.delivered and it.queued() == [kept.queue_id]
        await trio.sleep(60)
        assert it.delivered == Counter([kept.queue_id])
