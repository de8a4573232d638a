"""enqueue over both carriers, on a real disk that can be told to fail.

What is asserted of durability is the order of disk operations and answers, not what a crash
leaves: that is enumerated elsewhere.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from noting_disk import NotingDisk

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import enqueue
from refmta.roles.enqueue import Enqueue, Slice
from refmta.stores.chunks import Chunks
from refmta.wire.envelope import Envelope, decode_chunk, encode_chunk
from refmta.wire.messages import Abandon, Arrived, Finish, Kept, Refused, Submit

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]
LIMIT = 1 << 20
CONTENT = b"Subject: x\r\n\r\nhello\r\n"


def submit(**changes: Any) -> Submit:
    fields: dict[str, Any] = {
        "reverse_path": "x@example.net", "recipients": ("ada@example.org",),
        "client": "192.0.2.1", "helo": "client.example.net", "protocol": "ESMTP", **changes,
    }  # fmt: skip
    return Submit(**fields)


class Disk(NotingDisk):
    """On a disk that is full, half of a write gets through."""

    torn_writes = True


@dataclass
class World:
    """enqueue at work, a qmgr that listens, and submitters on demand."""

    pair: Pair
    spool: Path
    disk: Disk
    role: Enqueue
    nursery: trio.Nursery
    arrived: list[str] = field(default_factory=list)

    def submitter(self, role: str = "smtpd") -> Channel:
        near, far = self.pair(border(role, "enqueue"))
        self.nursery.start_soon(self.role.serve, far, role)
        return near

    async def offer(self, channel: Channel, message: Submit, *blocks: bytes) -> Kept | Refused:
        """One message, whole, and the answer."""
        channel.post(message)
        for each in blocks:
            channel.post_octets(each)
        channel.post(Finish(octets=sum(map(len, blocks))))
        await channel.flush()
        return await answer(channel)

    def chunks(self) -> list[str]:
        return sorted(os.listdir(self.spool / "chunks"))

    def content(self, queue_id: str) -> tuple[Envelope, bytes]:
        octets = (self.spool / "chunks" / queue_id).read_bytes()
        chunk = decode_chunk(octets)
        parts = [octets[each.offset : each.offset + each.length] for each in chunk.content]
        return chunk.envelope, b"".join(parts)


async def answer(channel: Channel) -> Kept | Refused:
    with trio.fail_after(10):
        (received,) = await channel.receive()
    assert isinstance(received.message, Kept | Refused)
    return received.message


def spool_in(path: Path) -> Path:
    for name in ("chunks", "damaged"):
        (path / name).mkdir()
    return path


@pytest.fixture
def log() -> Any:
    descriptor = os.memfd_create("log")
    yield descriptor
    os.close(descriptor)


@asynccontextmanager
async def world(pair: Pair, tmp_path: Path, log: int = 2) -> AsyncIterator[World]:
    spool = spool_in(tmp_path)
    disk = Disk(spool)
    config = Slice(spool=str(spool), hostname="mx.example.org", message_octets=LIMIT)
    role = Enqueue(Chunks(disk), config, journal("enqueue", descriptor=log))
    near, far = pair(border("enqueue", "qmgr"))
    role.qmgr.channel = near
    async with trio.open_nursery() as nursery:
        made = World(pair, spool, disk, role, nursery)

        async def listen() -> None:
            while True:
                for item in await far.receive():
                    assert isinstance(item.message, Arrived)
                    made.arrived += item.message.queue_ids

        nursery.start_soon(listen)
        nursery.start_soon(role.commit_groups)
        yield made
        nursery.cancel_scope.cancel()
    near.close()
    far.close()


# -- accepted -------------------------------------------------------------------------------------


@both
async def test_a_message_is_kept_as_it_came_below_its_received_line(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        kept = await it.offer(channel, submit(), CONTENT)
        assert isinstance(kept, Kept)
        envelope, content = it.content(kept.queue_id)
        assert envelope.queue_id == kept.queue_id
        assert (envelope.reverse_path, envelope.recipients) == (
            "x@example.net", ("ada@example.org",),
        )  # fmt: skip
        head, _, rest = content.partition(b"\r\nSubject")
        assert head.startswith(b"Received: from client.example.net ([192.0.2.1])")
        assert kept.queue_id.encode() in head and b"for <ada@example.org>" in head
        assert b"Subject" + rest == CONTENT
        await trio.testing.wait_all_tasks_blocked()
        assert it.arrived == [kept.queue_id]
        channel.close()


@both
async def test_a_report_is_kept_as_made_here(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        channel = it.submitter("bounce")
        kept = await it.offer(channel, submit(protocol="local", reverse_path=""), CONTENT)
        assert isinstance(kept, Kept)
        envelope, content = it.content(kept.queue_id)
        assert (envelope.protocol, envelope.reverse_path) == ("local", "")
        assert content.startswith(b"Received: by mx.example.org id " + kept.queue_id.encode())
        assert content.endswith(b" +0000\r\n" + CONTENT)
        channel.close()


@both
@pytest.mark.parametrize(
    ("role", "changes"),
    [
        ("smtpd", {"protocol": "local", "reverse_path": ""}),
        ("smtpd", {"protocol": "local"}),
        ("bounce", {"protocol": "local"}),
        ("bounce", {"protocol": "ESMTP", "reverse_path": ""}),
    ],
)
async def test_who_lies_about_where_mail_was_made_is_cut_off(
    pair: Pair, tmp_path: Path, role: str, changes: dict[str, str]
):
    async with world(pair, tmp_path) as it:
        channel = it.submitter(role)
        channel.post(submit(**changes))
        with pytest.raises(ChannelBroken):
            await channel.flush()
            with trio.fail_after(10):
                await channel.receive()
        assert it.chunks() == []
        channel.close()


@both
async def test_the_answer_comes_after_both_syncs_and_never_before(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path) as it:
        original = Enqueue._answer

        def noted(role: Enqueue, *said: Any) -> None:
            it.disk.done.append("answer")
            original(role, *said)

        monkeypatch.setattr(Enqueue, "_answer", noted)
        channel = it.submitter()
        await it.offer(channel, submit(), CONTENT)
        assert it.disk.done == ["create", "write", "sync", "sync_dir", "answer"]
        channel.close()


@both
async def test_several_messages_on_one_channel_one_after_the_other(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        ids = []
        for number in range(5):
            kept = await it.offer(channel, submit(), CONTENT, b"%d\r\n" % number)
            assert isinstance(kept, Kept)
            ids.append(kept.queue_id)
        await trio.testing.wait_all_tasks_blocked()
        assert it.arrived == ids and len(set(ids)) == 5
        assert [it.content(each)[1][-3:-2] for each in ids] == [b"0", b"1", b"2", b"3", b"4"]
        channel.close()


@both
async def test_what_is_complete_at_one_moment_shares_the_directory_sync(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        channels = [it.submitter() for _ in range(10)]
        for channel in channels:
            channel.post(submit())
            channel.post_octets(CONTENT)
            channel.post(Finish(octets=len(CONTENT)))
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(channel.flush)
        kept = [await answer(channel) for channel in channels]
        assert all(isinstance(each, Kept) for each in kept)
        assert it.disk.done.count("sync") == 10
        assert it.disk.done.count("sync_dir") < 10
        for each in channels:
            each.close()


@both
@pytest.mark.parametrize("octets", [300_000, LIMIT])
async def test_a_body_in_many_blocks_is_kept_whole(pair: Pair, tmp_path: Path, octets: int):
    """At the limit it is large: a thread syncs it beside the groups."""
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        body = (b"0123456789abcde\n" * (octets // 16 + 1))[:octets]
        blocks = [body[start : start + 100_000] for start in range(0, octets, 100_000)]
        kept = await it.offer(channel, submit(), *blocks)
        assert isinstance(kept, Kept)
        assert it.content(kept.queue_id)[1].endswith(body)
        channel.close()


# -- refused --------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("changes", "code", "enhanced"),
    [
        ({"reverse_path": "x"}, 553, "5.1.7"),
        ({"reverse_path": "x@y\r\nRCPT TO:<z>"}, 553, "5.1.7"),
        ({"recipients": ("ada@example.org", "ada")}, 553, "5.1.3"),
        ({"recipients": ("",)}, 553, "5.1.3"),
        ({"recipients": ("a\0@example.org",)}, 553, "5.1.3"),
        ({"helo": "h\r\nX-Evil: yes"}, 550, "5.5.2"),
        ({"helo": "hä"}, 550, "5.5.2"),
        ({"client": "h\0"}, 550, "5.5.2"),
        ({"client": ""}, 550, "5.5.2"),
        ({"client": "not an address"}, 550, "5.5.2"),
        ({"client": "192.0.2.999"}, 550, "5.5.2"),
        ({"client": "2001:db8::g"}, 550, "5.5.2"),
    ],
)
async def test_an_envelope_that_smtpd_would_not_have_sent_is_refused_and_leaves_nothing(
    pair: Pair, tmp_path: Path, changes: dict[str, Any], code: int, enhanced: str
):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        refused = await it.offer(channel, submit(**changes), CONTENT)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.enhanced) == (code, enhanced)
        assert not it.chunks() and not it.role.writing
        assert isinstance(await it.offer(channel, submit(), CONTENT), Kept)
        channel.close()


@both
@pytest.mark.parametrize("client", ["2001:db8::1", "fe80::1%eth0", "::1"])
async def test_a_client_with_an_ipv6_address_is_fine(pair: Pair, tmp_path: Path, client: str):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        assert isinstance(await it.offer(channel, submit(client=client), CONTENT), Kept)
        channel.close()


@both
async def test_more_content_than_the_limit_is_552_and_leaves_nothing(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        refused = await it.offer(channel, submit(), *[bytes(200_000)] * 6)
        assert isinstance(refused, Refused) and refused.code == 552
        assert not it.chunks()
        channel.close()


@both
@pytest.mark.parametrize("announced", [0, len(CONTENT) - 1, len(CONTENT) + 1])
async def test_content_that_is_not_as_long_as_announced_is_not_kept(
    pair: Pair, tmp_path: Path, announced: int
):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        channel.post(submit())
        channel.post_octets(CONTENT)
        channel.post(Finish(octets=announced))
        await channel.flush()
        refused = await answer(channel)
        assert isinstance(refused, Refused) and refused.code == 451
        assert not it.chunks()
        channel.close()


@both
@pytest.mark.parametrize("order", ["octets first", "finish first", "submit twice"])
async def test_messages_out_of_order_end_the_channel_and_nobody_elses(
    pair: Pair, tmp_path: Path, order: str
):
    async with world(pair, tmp_path) as it:
        channel, other = it.submitter(), it.submitter()
        match order:
            case "octets first":
                channel.post_octets(CONTENT)
            case "finish first":
                channel.post(Finish(octets=0))
            case _:
                channel.post(submit())
                channel.post(submit())
        await channel.flush()
        with pytest.raises(ChannelBroken):
            await channel.receive()
        assert isinstance(await it.offer(other, submit(), CONTENT), Kept)
        assert len(it.chunks()) == 1 and not it.role.writing
        channel.close()
        other.close()


@both
@pytest.mark.parametrize("how", ["abandon", "close"])
async def test_a_message_that_was_begun_and_given_up_leaves_nothing(
    pair: Pair, tmp_path: Path, how: str
):
    async with world(pair, tmp_path) as it:
        channel = it.submitter()
        channel.post(submit())
        for _ in range(3):
            channel.post_octets(bytes(200_000))
        await channel.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert it.chunks()
        if how == "abandon":
            channel.post(Abandon())
            await channel.flush()
        else:
            channel.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not it.chunks() and not it.role.writing
        channel.close()


# -- the disk fails -------------------------------------------------------------------------------

FULL = (452, "4.3.1")
BROKEN = (451, "4.3.0")


@both
@pytest.mark.parametrize("octets", [100, 600_000, LIMIT])
@pytest.mark.parametrize(
    ("operation", "number", "reply"),
    [
        ("create", errno.ENOSPC, FULL), ("create", errno.EDQUOT, FULL),
        ("create", errno.EROFS, BROKEN), ("write", errno.ENOSPC, FULL),
        ("write", errno.EIO, BROKEN), ("sync", errno.EIO, BROKEN),
        ("sync", errno.ENOSPC, FULL), ("sync_dir", errno.EIO, BROKEN),
    ],
)  # fmt: skip
async def test_a_disk_that_fails_is_a_true_reply_and_nothing_half_kept(
    pair: Pair, tmp_path: Path, log: int, operation: str, number: int, reply: tuple[int, str],
    octets: int,
):  # fmt: skip
    async with world(pair, tmp_path, log) as it:
        channel = it.submitter()
        it.disk.fail(operation, number)
        blocks = [bytes(100)] if octets == 100 else [bytes(100_000)] * (octets // 100_000)
        refused = await it.offer(channel, submit(), *blocks)
        assert isinstance(refused, Refused)
        assert (refused.code, refused.enhanced) == reply
        assert not it.chunks() and not it.role.writing and not it.arrived
        said = os.pread(log, 10_000, 0)
        assert os.strerror(number).encode() in said and b"chunks/" in said
        # Mended: the same channel goes on.
        assert isinstance(await it.offer(channel, submit(), CONTENT), Kept)
        channel.close()


async def group(it: World, count: int) -> list[Kept | Refused]:
    """So many messages that become complete at one moment."""
    channels = [it.submitter() for _ in range(count)]
    for channel in channels:
        channel.post(submit())
        channel.post_octets(CONTENT)
        await channel.flush()
    await trio.testing.wait_all_tasks_blocked()
    for channel in channels:
        channel.post(Finish(octets=len(CONTENT)))
        await channel.flush()
    found = [await answer(channel) for channel in channels]
    for channel in channels:
        channel.close()
    return found


async def test_a_file_that_cannot_be_synced_is_refused_alone(tmp_path: Path):
    async with world(socket_channels, tmp_path) as it:
        it.disk.fail("sync", errno.EIO, after=1)
        found = await group(it, 4)
        assert sorted(type(each).__name__ for each in found) == ["Kept"] * 3 + ["Refused"]
        kept = sorted(each.queue_id for each in found if isinstance(each, Kept))
        assert it.chunks() == kept
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(it.arrived) == kept
        # A failed sync is never tried again: the kernel may have dropped the pages.
        assert it.disk.done.count("sync") == 4


async def test_a_directory_that_cannot_be_synced_refuses_its_whole_group(tmp_path: Path):
    async with world(local_channels, tmp_path) as it:
        channels = [it.submitter() for _ in range(4)]
        it.disk.fail("sync_dir", errno.EIO)
        for channel in channels:
            channel.post(submit())
            channel.post_octets(CONTENT)
            channel.post(Finish(octets=len(CONTENT)))
        async with trio.open_nursery() as nursery:
            for channel in channels:
                nursery.start_soon(channel.flush)
        found = [await answer(channel) for channel in channels]
        groups = it.disk.done.count("sync_dir")
        refused = [each for each in found if isinstance(each, Refused)]
        assert refused and all((each.code, each.enhanced) == BROKEN for each in refused)
        assert len(refused) == 4 if groups == 1 else len(refused) < 4
        assert len(it.chunks()) == 4 - len(refused)
        for channel in channels:
            channel.close()


async def test_a_chunk_that_cannot_be_removed_is_still_refused(tmp_path: Path):
    """It is torn, or whole by luck; either way nobody was promised anything."""
    async with world(local_channels, tmp_path) as it:
        channel = it.submitter()
        it.disk.fail("sync", errno.EIO)
        it.disk.fail("unlink", errno.EIO)
        assert isinstance(await it.offer(channel, submit(), CONTENT), Refused)
        assert len(it.chunks()) == 1 and not it.arrived
        channel.close()


# -- recovery and qmgr ----------------------------------------------------------------------------


def whole(number: int) -> tuple[str, bytes]:
    queue_id = f"06H06TY2DFR2{number:04}"
    envelope = Envelope(
        queue_id=queue_id, arrival_s=1, reverse_path="", recipients=("ada@example.org",),
        client="192.0.2.1", helo="h", protocol="SMTP",
    )  # fmt: skip
    return queue_id, encode_chunk(envelope, [CONTENT])


class Peer:
    """A qmgr that takes note of what it hears."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.heard: list[str] = []

    async def listen(self) -> None:
        try:
            while True:
                for item in await self.channel.receive():
                    assert isinstance(item.message, Arrived)
                    self.heard += item.message.queue_ids
        except ChannelBroken:
            self.channel.close()


@asynccontextmanager
async def running(pair: Pair, spool: Path) -> AsyncIterator[tuple[Context, Callable[[], Peer]]]:
    """The whole role, and new qmgrs on demand."""
    config = Slice(spool=str(spool), hostname="mx.example.org", message_octets=LIMIT)
    context = Context(slices={"enqueue": msgspec.msgpack.encode(config)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(enqueue.run, context, journal("enqueue"))

        def qmgr() -> Peer:
            near, far = pair(border("enqueue", "qmgr"))
            context.port("qmgr").put(Linked(near))
            peer = Peer(far)
            nursery.start_soon(peer.listen)
            return peer

        yield context, qmgr
        nursery.cancel_scope.cancel()


@both
async def test_at_the_start_whole_chunks_are_announced_and_others_set_aside(
    pair: Pair, tmp_path: Path
):
    spool = spool_in(tmp_path)
    ids = []
    for number in range(30):
        name, octets = whole(number)
        torn = number % 3 == 0
        (spool / "chunks" / name).write_bytes(octets[:-5] if torn else octets)
        if not torn:
            ids.append(name)
    async with running(pair, spool) as (_, qmgr):
        peer = qmgr()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(set(peer.heard)) == ids
        assert sorted(os.listdir(spool / "chunks")) == ids
        assert len(os.listdir(spool / "damaged")) == 10


@both
async def test_every_new_qmgr_is_told_all_whenever_it_comes(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before recovery, in the middle of it, and after: the one in the middle must not miss what
    was announced to its predecessor.
    """
    monkeypatch.setattr(enqueue, "ARRIVED_AT_ONCE", 5)
    spool = spool_in(tmp_path)
    ids = []
    for number in range(40):
        name, octets = whole(number)
        (spool / "chunks" / name).write_bytes(octets)
        ids.append(name)
    (spool / "chunks" / "foreign").write_bytes(b"x")
    async with running(pair, spool) as (_, qmgr):
        first = qmgr()
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        first.channel.close()
        second = qmgr()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(set(second.heard)) == ids
        (spool / "chunks" / "appeared").write_bytes(b"x")
        third = qmgr()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(set(third.heard)) == ids


@both
async def test_without_a_qmgr_mail_is_kept_and_the_next_one_is_told(pair: Pair, tmp_path: Path):
    async with running(pair, spool_in(tmp_path)) as (context, qmgr):
        near, far = pair(border("smtpd", "enqueue"))
        context.port("smtpd").put(Linked(far))
        near.post(submit())
        near.post(Finish(octets=0))
        await near.flush()
        kept = await answer(near)
        assert isinstance(kept, Kept)
        peer = qmgr()
        await trio.testing.wait_all_tasks_blocked()
        assert peer.heard == [kept.queue_id]
        near.close()


@both
async def test_a_message_being_written_is_not_announced_to_a_new_qmgr(pair: Pair, tmp_path: Path):
    spool = spool_in(tmp_path)
    async with running(pair, spool) as (context, qmgr):
        near, far = pair(border("smtpd", "enqueue"))
        context.port("smtpd").put(Linked(far))
        near.post(submit())
        for _ in range(3):
            near.post_octets(bytes(200_000))
        await near.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert os.listdir(spool / "chunks")
        peer = qmgr()
        await trio.testing.wait_all_tasks_blocked()
        assert not peer.heard
        near.close()


@both
async def test_draining_waits_for_what_was_begun(pair: Pair, tmp_path: Path):
    """The answer included: a 250 that is cut off makes a client send again."""
    config = Slice(spool=str(spool_in(tmp_path)), hostname="mx.example.org", message_octets=LIMIT)
    context = Context(slices={"enqueue": msgspec.msgpack.encode(config)})
    ended = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await enqueue.run(context, journal("enqueue"))
            ended.set()

        nursery.start_soon(run)
        near, far = pair(border("smtpd", "enqueue"))
        context.port("smtpd").put(Linked(far))
        near.post(submit())
        await near.flush()
        await trio.testing.wait_all_tasks_blocked()
        context.draining.set()
        with trio.move_on_after(0.2):
            await ended.wait()
        assert not ended.is_set()
        near.post(Finish(octets=0))
        await near.flush()
        assert isinstance(await answer(near), Kept)
        with trio.fail_after(10):
            await ended.wait()
    near.close()
