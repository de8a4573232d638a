"""enqueue in other architectures: promises that wait for qmgr, and sessions of a pool's worker."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from noting_disk import NotingDisk
from unit.roles.noted_store import NotedStore, opening

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import enqueue, submissions
from refmta.roles.enqueue import Enqueue, Slice, attend
from refmta.roles.qmgr_line import QmgrLine
from refmta.wire.envelope import decode_envelope
from refmta.wire.messages import (
    Arrived,
    Finish,
    Kept,
    Message,
    Refused,
    Register,
    Registered,
    Submit,
    Tried,
)
from specs.kernel.mutant import hits, mutate

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
LIMIT = 1 << 20
CONTENT = b"Subject: x\r\n\r\nhello\r\n"
SUBMIT = Submit(
    reverse_path="x@example.net",
    recipients=("ada@example.org", "bob@example.org"),
    client="192.0.2.1",
    helo="client.example.net",
    protocol="ESMTP",
)
REPORT = msgspec.structs.replace(SUBMIT, reverse_path="", protocol="local", client="127.0.0.1")


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@dataclass
class Qmgr:
    """A qmgr that hears, and says what the test wants."""

    channel: Channel
    heard: list[Message] = field(default_factory=list)

    async def listen(self) -> None:
        try:
            while True:
                for item in await self.channel.receive():
                    assert item.message is not None
                    self.heard.append(item.message)
        except ChannelBroken:
            self.channel.close()

    async def says(self, *messages: Message) -> None:
        for each in messages:
            self.channel.post(each)
        await self.channel.flush()
        await trio.testing.wait_all_tasks_blocked()

    def registers(self) -> list[Register]:
        return [each for each in self.heard if isinstance(each, Register)]

    def arrived(self) -> list[str]:
        return [
            queue_id
            for each in self.heard
            if isinstance(each, Arrived)
            for queue_id in each.queue_ids
        ]


@dataclass
class World:
    """enqueue at work over a store that takes notes; its qmgr, if it has one."""

    pair: Any
    spool: Path
    store: NotedStore
    role: Enqueue
    nursery: trio.Nursery
    open: list[Channel] = field(default_factory=list)

    def link_qmgr(self) -> Qmgr:
        near, far = self.pair(border("enqueue", "qmgr"))
        self.open += near, far
        self.role.qmgr.link(near)
        self.nursery.start_soon(self.role.qmgr.hear, near)
        qmgr = Qmgr(far)
        self.nursery.start_soon(qmgr.listen)
        return qmgr

    async def offer(self, message: Submit = SUBMIT, submitter: str = "smtpd") -> Channel:
        near, far = self.pair(border(submitter, "enqueue"))
        self.open += near, far
        self.nursery.start_soon(self.role.serve, far, submitter)
        await offer(near, message)
        return near

    def chunks(self) -> list[str]:
        return sorted(os.listdir(self.spool / "chunks"))


async def offer(channel: Channel, message: Submit = SUBMIT) -> None:
    channel.post(message)
    channel.post_octets(CONTENT)
    channel.post(Finish(octets=len(CONTENT)))
    await channel.flush()
    await trio.testing.wait_all_tasks_blocked()


async def answer(channel: Channel) -> Kept | Refused:
    with trio.fail_after(200):
        (received,) = await channel.receive()
    assert isinstance(received.message, Kept | Refused)
    return received.message


async def silent(channel: Channel) -> bool:
    """Whether nobody was answered yet."""
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(0.01):
        await channel.receive()
        return False
    return True


def spool_in(path: Path) -> Path:
    for name in ("chunks", "damaged"):
        (path / name).mkdir()
    return path


@asynccontextmanager
async def world(
    pair: Any, path: Path, *, role: type[Enqueue] = Enqueue, logs: bool = False, **config: Any
) -> AsyncIterator[World]:
    spool = spool_in(path)
    disk = NotingDisk(spool)
    store = NotedStore(disk, logs_envelopes=logs)
    slice_ = Slice(spool=str(spool), hostname="mx.example.org", message_octets=LIMIT, **config)
    made = role(store, slice_, journal("enqueue"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.commit_groups)
        it = World(pair, spool, store, made, nursery)
        yield it
        nursery.cancel_scope.cancel()
    for each in it.open:
        each.close()
    disk.leave()


# -- the envelope is qmgr's to log ----------------------------------------------------------------


@both
async def test_kept_is_said_after_qmgr_has_logged_the_envelope(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path, logs=True) as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        (register,) = qmgr.registers()
        assert it.store.done == ["draft", "commit"]  # the content is durable before
        envelope = decode_envelope(register.head)
        assert envelope.queue_id == register.queue_id
        assert envelope.recipients == SUBMIT.recipients
        assert await silent(channel) and it.role.unsettled()
        await qmgr.says(Registered(queue_id=register.queue_id))
        assert await answer(channel) == Kept(queue_id=register.queue_id)
        assert not it.role.unsettled()
        assert qmgr.arrived() == []  # it knows


@both
async def test_an_envelope_that_was_not_logged_is_refused_and_its_content_goes(
    pair: Any, tmp_path: Path
):
    async with world(pair, tmp_path, logs=True) as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        (register,) = qmgr.registers()
        await qmgr.says(Registered(queue_id=register.queue_id, error="no space"))
        refused = await answer(channel)
        assert isinstance(refused, Refused) and refused.code == 451
        assert it.chunks() == [] and not it.role.unsettled()


@both
async def test_a_qmgr_that_dies_leaves_451_and_the_content(pair: Any, tmp_path: Path):
    """It may have logged the envelope: then whoever comes next delivers the message."""
    async with world(pair, tmp_path, logs=True) as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        (register,) = qmgr.registers()
        qmgr.channel.close()
        refused = await answer(channel)
        assert isinstance(refused, Refused) and refused.code == 451
        assert it.chunks() == [register.queue_id]
        second = it.link_qmgr()
        await second.says(Registered(queue_id=register.queue_id))  # nobody waits any more
        assert await silent(channel)


@both
async def test_without_a_qmgr_nothing_is_promised_and_the_next_one_serves(
    pair: Any, tmp_path: Path
):
    async with world(pair, tmp_path, logs=True) as it:
        channel = await it.offer()
        assert isinstance(await answer(channel), Refused)
        qmgr = it.link_qmgr()
        await offer(channel)
        (register,) = qmgr.registers()
        await qmgr.says(Registered(queue_id=register.queue_id))
        assert isinstance(await answer(channel), Kept)


@both
async def test_a_new_qmgr_ends_the_wait_for_the_former_one(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path, logs=True) as it:
        it.link_qmgr()
        channel = await it.offer()
        it.link_qmgr()
        assert isinstance(await answer(channel), Refused)


@both
async def test_many_envelopes_are_asked_for_together_and_answered_as_they_come(
    pair: Any, tmp_path: Path
):
    async with world(pair, tmp_path, logs=True) as it:
        qmgr = it.link_qmgr()
        channels = [await it.offer() for _ in range(5)]
        ids = [each.queue_id for each in qmgr.registers()]
        assert len(set(ids)) == 5
        await qmgr.says(*[Registered(queue_id=each) for each in reversed(ids)])
        assert [(await answer(each)) for each in channels] == [Kept(queue_id=n) for n in ids]


async def test_reports_wait_for_their_envelope_too(tmp_path: Path):
    async with world(local_channels, tmp_path, logs=True) as it:
        qmgr = it.link_qmgr()
        channel = await it.offer(REPORT, "bounce")
        assert await silent(channel)
        await qmgr.says(Registered(queue_id=qmgr.registers()[0].queue_id))
        assert isinstance(await answer(channel), Kept)


# -- delivery comes first -------------------------------------------------------------------------


@both
async def test_interactive_keeps_the_reply_back_until_the_first_attempt(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path, delivery="interactive") as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        (queue_id,) = qmgr.arrived()
        assert await silent(channel)
        await qmgr.says(Tried(queue_id=queue_id))
        assert await answer(channel) == Kept(queue_id=queue_id)
        assert it.store.done[-1] == f"confirm {queue_id}"


@both
async def test_what_was_delivered_before_the_reply_needs_no_confirmation(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path, delivery="interactive") as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        (queue_id,) = qmgr.arrived()
        (it.spool / "chunks" / queue_id).unlink()
        await qmgr.says(Tried(queue_id=queue_id))
        assert isinstance(await answer(channel), Kept)


@both
async def test_what_cannot_be_made_durable_in_the_end_is_not_promised(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path, delivery="interactive") as it:
        it.store.failing.add("confirm")
        qmgr = it.link_qmgr()
        channel = await it.offer()
        await qmgr.says(Tried(queue_id=qmgr.arrived()[0]))
        refused = await answer(channel)
        assert isinstance(refused, Refused) and refused.code == 451
        assert it.chunks() == qmgr.arrived()  # it may be on its way


@both
@pytest.mark.parametrize("how", ["too slow", "dies", "away", "wrong one"])
async def test_a_first_attempt_that_does_not_end_delays_the_reply_and_no_more(
    pair: Any, tmp_path: Path, how: str, autojump_clock: Any
):
    async with world(pair, tmp_path, delivery="interactive", tried_s=30) as it:
        qmgr = it.link_qmgr() if how != "away" else None
        before_s = trio.current_time()
        channel = await it.offer()
        if qmgr is not None and how == "dies":
            qmgr.channel.close()
        if qmgr is not None and how == "wrong one":
            await qmgr.says(Tried(queue_id="06H06TY2DFR20000"))
        kept = await answer(channel)
        assert isinstance(kept, Kept) and it.chunks() == [kept.queue_id]
        assert f"confirm {kept.queue_id}" in it.store.done
        waited_s = trio.current_time() - before_s
        assert (29 < waited_s < 31) == (how in ("too slow", "wrong one"))
        assert not it.role.qmgr.awaited


async def test_a_reports_first_attempt_keeps_nobody_waiting(tmp_path: Path):
    async with world(local_channels, tmp_path, delivery="interactive") as it:
        qmgr = it.link_qmgr()
        channel = await it.offer(REPORT, "bounce")
        assert isinstance(await answer(channel), Kept)
        assert len(qmgr.arrived()) == 1


@both
async def test_a_message_that_is_refused_waits_for_nobody(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path, delivery="interactive") as it:
        it.link_qmgr()
        channel = await it.offer(msgspec.structs.replace(SUBMIT, reverse_path="x"))
        assert isinstance(await answer(channel), Refused)
        assert not it.role.unsettled() and it.chunks() == []


async def test_a_store_that_can_make_no_draft_is_a_true_reply(tmp_path: Path):
    async with world(local_channels, tmp_path) as it:
        it.store.failing.add("draft")
        channel = await it.offer()
        refused = await answer(channel)
        assert isinstance(refused, Refused) and refused.code == 451
        it.store.failing.clear()
        await offer(channel)
        assert isinstance(await answer(channel), Kept)


@both
async def test_a_submitter_that_goes_away_while_its_promise_waits_takes_nothing_along(
    pair: Any, tmp_path: Path
):
    async with world(pair, tmp_path, delivery="interactive") as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        channel.close()
        (queue_id,) = qmgr.arrived()
        await qmgr.says(Tried(queue_id=queue_id))
        assert it.chunks() == [queue_id] and not it.role.unsettled()


# -- in the worker of a pool ----------------------------------------------------------------------


@dataclass
class Worker:
    """Sessions one after the other, with the same channels."""

    pair: Any
    configuration: bytes
    channels: dict[str, Channel]
    nursery: trio.Nursery
    open: list[Channel] = field(default_factory=list)

    async def session(self, client: str = "smtpd") -> tuple[Channel, Any, trio.Event]:
        near, far = self.pair(border(client, "enqueue"))
        self.open += near, far
        session = attend(far, client, self.configuration, self.channels, journal("enqueue"))
        over = trio.Event()

        async def run() -> None:
            await session.run()
            over.set()

        self.nursery.start_soon(run)
        return near, session, over


@asynccontextmanager
async def worker(
    pair: Any, path: Path, *, qmgr: bool = True, **config: Any
) -> AsyncIterator[tuple[Worker, Qmgr]]:
    spool = spool_in(path)
    slice_ = Slice(
        spool=str(spool), hostname="mx.example.org", message_octets=LIMIT, keeps=False, **config
    )
    near, far = pair(border("enqueue", "qmgr"))
    async with trio.open_nursery() as nursery:
        peer = Qmgr(far)
        nursery.start_soon(peer.listen)
        channels = {"qmgr": near} if qmgr else {}
        it = Worker(pair, msgspec.msgpack.encode(slice_), channels, nursery)
        yield it, peer
        nursery.cancel_scope.cancel()
    for each in (near, far, *it.open):
        each.close()


@both
async def test_a_session_keeps_messages_and_tells_qmgr(pair: Any, tmp_path: Path):
    async with worker(pair, tmp_path) as (it, qmgr):
        kept = []
        for _ in range(3):  # one worker, three sessions, two messages each
            channel, session, over = await it.session()
            for _ in range(2):
                await offer(channel)
                each = await answer(channel)
                assert isinstance(each, Kept)
                kept.append(each.queue_id)
            channel.close()
            with trio.fail_after(10):
                await over.wait()
            assert session.clean
        await trio.testing.wait_all_tasks_blocked()
        assert qmgr.arrived() == kept
        assert sorted(os.listdir(tmp_path / "chunks")) == sorted(kept)


@both
async def test_what_is_in_the_queue_already_is_none_of_its_business(pair: Any, tmp_path: Path):
    async with worker(pair, tmp_path) as (it, qmgr):
        (tmp_path / "chunks" / "06H06TY2DFR20000").write_bytes(b"torn, or being written")
        channel, _, over = await it.session()
        await offer(channel)
        await answer(channel)
        channel.close()
        await over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(os.listdir(tmp_path / "chunks")) == 2 and len(qmgr.arrived()) == 1
        assert os.listdir(tmp_path / "damaged") == []


@both
async def test_without_a_qmgr_it_keeps_all_the_same(pair: Any, tmp_path: Path):
    async with worker(pair, tmp_path, qmgr=False) as (it, _):
        channel, session, over = await it.session("bounce")
        await offer(channel, REPORT)
        assert isinstance(await answer(channel), Kept)
        channel.close()
        await over.wait()
        assert session.clean


@both
async def test_a_session_that_ends_while_its_group_is_committed_has_told_qmgr(
    pair: Any, tmp_path: Path
):
    """The client is gone before the answer; the message is there, and qmgr knows."""
    async with worker(pair, tmp_path) as (it, qmgr):
        channel, _, over = await it.session()
        channel.post(SUBMIT)
        channel.post_octets(CONTENT)
        channel.post(Finish(octets=len(CONTENT)))
        await channel.flush()
        if pair is socket_channels:
            channel.close()
        else:
            await trio.testing.wait_all_tasks_blocked()
            channel.close()
        await over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert qmgr.arrived() == os.listdir(tmp_path / "chunks") != []


@both
async def test_a_worker_whose_qmgr_is_gone_serves_no_other(pair: Any, tmp_path: Path):
    async with worker(pair, tmp_path) as (it, qmgr):
        channel, session, over = await it.session()
        qmgr.channel.close()
        await offer(channel)
        assert isinstance(await answer(channel), Kept)
        channel.close()
        await over.wait()
        assert not session.clean


@both
async def test_a_drained_session_finishes_its_message_and_ends(pair: Any, tmp_path: Path):
    async with worker(pair, tmp_path) as (it, _):
        channel, session, over = await it.session()
        channel.post(SUBMIT)
        channel.post_octets(CONTENT)
        await channel.flush()
        await trio.testing.wait_all_tasks_blocked()
        session.drain()
        await trio.testing.wait_all_tasks_blocked()
        assert not over.is_set()
        channel.post(Finish(octets=len(CONTENT)))
        await channel.flush()
        assert isinstance(await answer(channel), Kept)
        with trio.fail_after(10):
            await over.wait()


@both
async def test_an_idle_session_ends_when_it_is_drained(pair: Any, tmp_path: Path):
    async with worker(pair, tmp_path) as (it, _):
        _, session, over = await it.session()
        session.drain()
        with trio.fail_after(10):
            await over.wait()


async def test_who_is_no_submitter_gets_no_session(tmp_path: Path):
    async with worker(local_channels, tmp_path) as (it, _):
        near, far = local_channels(border("smtpd", "enqueue"))
        with pytest.raises(ChannelBroken):
            attend(far, "qmgr", it.configuration, {}, journal("enqueue"))
        near.close()


# -- as a process ---------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [True, False])
async def test_only_who_keeps_the_queue_recovers_and_announces_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
):
    spool = spool_in(tmp_path)
    (spool / "chunks" / "06H06TY2DFR20000").write_bytes(b"torn")
    open_queue, opened = opening(NotedStore)
    monkeypatch.setattr(enqueue, "open_queue", open_queue)
    slice_ = Slice(spool=str(spool), hostname="h", message_octets=LIMIT, keeps=keeps)
    context = Context(slices={"enqueue": msgspec.msgpack.encode(slice_)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(enqueue.run, context, journal("enqueue"))
        near, far = local_channels(border("enqueue", "qmgr"))
        context.port("qmgr").put(Linked(near))
        await trio.testing.wait_all_tasks_blocked()
        (store,) = opened
        assert ("recover" in store.done) == ("names" in store.done) == keeps
        assert len(os.listdir(spool / "damaged")) == keeps
        assert context.settled()
        context.draining.set()  # it ends: nothing is begun
    near.close()
    far.close()
    store.disk.leave()  # type: ignore[attr-defined]


@both
async def test_a_process_is_not_settled_while_a_message_comes_in(pair: Any, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        near, far = pair(border("smtpd", "enqueue"))
        it.open += near, far
        it.nursery.start_soon(it.role.serve, far)
        near.post(SUBMIT)
        await near.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert it.role.unsettled()
        near.close()
        with trio.fail_after(10):
            await it.role.settled()


# -- controls: each mutant breaks the claim of a test above ---------------------------------------


async def too_early(role: type[Enqueue], path: Path, **config: Any) -> bool:
    """Whether the promise is made before qmgr has said its word."""
    async with world(local_channels, path, role=role, **config) as it:
        it.link_qmgr()
        return not await silent(await it.offer())


@pytest.mark.parametrize("config", [{"logs": True}, {"delivery": "interactive"}], ids=str)
async def test_a_promise_that_waits_for_nobody_is_caught(tmp_path: Path, config: dict[str, Any]):
    logged, tried = (
        "        await word.said.wait()\n        if",
        "            await word.said.wait()\n",
    )
    mutant = mutate(
        submissions.__name__,
        [
            (logged, "        __mutant_ran__()\n        if"),
            (tried, "            __mutant_ran__()\n"),
        ],
    )
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    assert not await too_early(Enqueue, tmp_path / "right", **config)
    assert await too_early(mutant.Enqueue, tmp_path / "wrong", **config)
    assert hits(mutant)


async def left(role: type[Enqueue], path: Path) -> list[str]:
    """What is left of a message whose qmgr died while it was asked to log it."""
    async with world(local_channels, path, role=role, logs=True) as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        qmgr.channel.close()
        await answer(channel)
        return it.chunks()


async def test_content_that_is_removed_although_its_envelope_may_be_logged_is_caught(
    tmp_path: Path,
):
    mutant = mutate(
        submissions.__name__,
        [("        if word.lost and submission", "        if not __mutant_ran__() and submission")],
    )
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    assert len(await left(Enqueue, tmp_path / "right")) == 1
    assert await left(mutant.Enqueue, tmp_path / "wrong") == []
    assert hits(mutant)


async def test_a_full_log_is_said_as_it_is(tmp_path: Path):
    """What qmgr says of its disk is text: nothing of it reaches the client."""
    async with world(local_channels, tmp_path, logs=True) as it:
        qmgr = it.link_qmgr()
        channel = await it.offer()
        error = os.strerror(errno.ENOSPC)
        await qmgr.says(Registered(queue_id=qmgr.registers()[0].queue_id, error=error))
        refused = await answer(channel)
        assert isinstance(refused, Refused) and error not in refused.text


def test_a_line_without_a_qmgr_loses_every_word_at_once():
    line = QmgrLine()
    word = line.watch("06H06TY2DFR20000")
    assert word.lost and word.said.is_set() and not line.awaited
