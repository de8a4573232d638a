"""local over both carriers, in a directory of its own, on a disk that can be told to fail."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from noting_disk import NotingDisk

from refmta.journal import journal
from refmta.patterns.trust_partitioning import Channel, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles.local import SMALL_OCTETS, Local, Slice
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import Deliver, Outcome

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
sizes = pytest.mark.parametrize("octets", [100, SMALL_OCTETS + 10])
Pair = Callable[..., tuple[Channel, Channel]]


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


def chunk(number: int, octets: int = 100) -> tuple[bytes, bytes]:
    """A chunk and its content."""
    content = (b"Subject: %d\r\n\r\n" % number).ljust(octets - 2, b"x") + b"\r\n"
    envelope = Envelope(
        queue_id=queue_id(number), arrival_s=1_700_000_000, reverse_path="x@example.net",
        recipients=("ada@example.org",), client="192.0.2.1", helo="h", protocol="SMTP",
    )  # fmt: skip
    blocks = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    return encode_chunk(envelope, blocks), content


@dataclass
class World:
    """An agent at work, and qmgr's end of its channel."""

    home: Path
    disk: NotingDisk
    role: Local
    channel: Channel

    def hand(self, number: int, descriptor: int, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "reference": number, "queue_id": queue_id(number), "index": 0, "mailbox": "Maildir",
            "recipient": "ada@example.org", **changes,
        }  # fmt: skip
        self.channel.post(Deliver(**fields), descriptor)

    async def outcomes(self, count: int) -> dict[int, Outcome]:
        await self.channel.flush()
        found: dict[int, Outcome] = {}
        with trio.fail_after(20):
            while len(found) < count:
                for item in await self.channel.receive():
                    assert isinstance(item.message, Outcome)
                    assert item.message.reference not in found
                    found[item.message.reference] = item.message
        return found

    async def deliver(self, number: int, octets: bytes, **changes: Any) -> Outcome:
        self.hand(number, opened(octets), **changes)
        return (await self.outcomes(1))[number]

    def mailbox(self, mailbox: str = "Maildir", sub: str = "new") -> dict[str, bytes]:
        directory = self.home / mailbox / sub
        return {each.name: each.read_bytes() for each in directory.iterdir()}

    def leftovers(self) -> list[Path]:
        return list(self.home.rglob("tmp/*"))


def opened(octets: bytes) -> int:
    """A descriptor for reading, as qmgr hands it over."""
    writing = os.memfd_create("chunk")
    os.write(writing, octets)
    reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
    os.close(writing)
    return reading


@asynccontextmanager
async def world(pair: Pair, home: Path) -> AsyncIterator[World]:
    disk = NotingDisk(home)
    role = Local(disk, Slice(hostname="mx.example.org"), journal("local"))
    near, far = pair(border("qmgr", "local"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(role.serve, far, nursery)
        yield World(home, disk, role, near)
        near.close()
        nursery.cancel_scope.cancel()
    far.close()
    os.close(disk._root)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


# -- delivered ------------------------------------------------------------------------------------


@both
@sizes
async def test_a_message_lies_in_new_with_lf_below_two_lines(
    pair: Pair, tmp_path: Path, octets: int
):
    async with world(pair, tmp_path) as it:
        octets_on_disk, content = chunk(1, octets)
        outcome = await it.deliver(1, octets_on_disk)
        assert (outcome.kind, outcome.enhanced) == ("delivered", "2.0.0")
        ((name, message),) = it.mailbox().items()
        assert name == f"1700000000.Q{queue_id(1)}R0.mx.example.org"
        assert message == (
            b"Return-Path: <x@example.net>\nDelivered-To: ada@example.org\n"
            + content.replace(b"\r\n", b"\n")
        )
        assert not it.leftovers()


@both
async def test_a_group_is_delivered_in_order_and_synced_once_per_mailbox(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        for number in range(20):
            it.hand(number, opened(chunk(number)[0]), mailbox=f"example.org/user{number % 2}")
        found = await it.outcomes(20)
        assert {each.kind for each in found.values()} == {"delivered"}
        assert list(found) == sorted(found, key=lambda each: (each % 2, each))
        for user in (0, 1):
            assert len(it.mailbox(f"example.org/user{user}")) == 10
        # Two mailboxes were made durable (their parents, too); then one sync of new/ for each.
        assert it.disk.done.count("sync") == 20
        assert it.disk.done[-22:].count("sync_dir") == 2


@both
@sizes
async def test_an_outcome_comes_after_the_sync_of_the_mailbox(
    pair: Pair, tmp_path: Path, octets: int, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path) as it:
        await it.deliver(1, chunk(1)[0])
        original = Local._outcome

        def noted(role: Local, *arguments: Any) -> Outcome:
            it.disk.done.append("outcome")
            return original(role, *arguments)

        monkeypatch.setattr(Local, "_outcome", noted)
        it.disk.done.clear()
        await it.deliver(2, chunk(2, octets)[0])
        order = [each for each in it.disk.done if each != "write"]
        assert order[0] == "create"
        assert order[-4:] == ["sync", "rename", "sync_dir", "outcome"]


@both
async def test_a_second_delivery_replaces_the_first(pair: Pair, tmp_path: Path):
    """qmgr died between delivery and mark."""
    async with world(pair, tmp_path) as it:
        for _ in range(2):
            assert (await it.deliver(1, chunk(1)[0])).kind == "delivered"
        assert len(it.mailbox()) == 1
        assert (await it.deliver(1, chunk(1)[0], index=1)).kind == "delivered"
        assert len(it.mailbox()) == 2


@both
async def test_what_a_crash_left_in_tmp_is_swept_and_what_is_not_ours_stays(
    pair: Pair, tmp_path: Path
):
    for sub in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / sub).mkdir(parents=True)
    mine = tmp_path / "Maildir" / "tmp" / f"1700000000.Q{queue_id(1)}R0.mx.example.org"
    mine.write_bytes(b"half")
    (mine.parent / "1700000001.other.host").write_bytes(b"half")
    async with world(pair, tmp_path) as it:
        assert (await it.deliver(1, chunk(1)[0])).kind == "delivered"
        assert [each.name for each in it.leftovers()] == ["1700000001.other.host"]


@both
async def test_a_mailbox_that_is_moved_away_is_made_anew(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        await it.deliver(1, chunk(1)[0])
        (tmp_path / "Maildir").rename(tmp_path / "away")
        assert (await it.deliver(2, chunk(2)[0])).kind == "delivered"
        assert len(it.mailbox()) == 1 and len(it.mailbox("away")) == 1


# -- damaged --------------------------------------------------------------------------------------


@both
@sizes
@pytest.mark.parametrize("damage", ["bit", "cut", "another's", "empty", "envelope"])
async def test_a_damaged_chunk_is_reported_and_reaches_no_mailbox(
    pair: Pair, tmp_path: Path, octets: int, damage: str
):
    whole, _ = chunk(1, octets)
    broken = {
        "bit": whole[:-60] + bytes((whole[-60] ^ 1,)) + whole[-59:],
        "cut": whole[:-1],
        "another's": chunk(2, octets)[0],
        "empty": b"",
        "envelope": whole.replace(b"ada@", b"bob@", 1),
    }[damage]
    async with world(pair, tmp_path) as it:
        outcome = await it.deliver(1, broken)
        assert outcome.kind == "damaged"
        assert outcome.text.startswith("Maildir: ")
        assert not list(tmp_path.rglob("new/*")) and not it.leftovers()
        assert (await it.deliver(3, chunk(3)[0])).kind == "delivered"


# -- deferred -------------------------------------------------------------------------------------


@both
@sizes
@pytest.mark.parametrize(
    ("operation", "number", "code"),
    [
        ("create", errno.EACCES, "4.2.0"), ("create", errno.ENOSPC, "4.2.2"),
        ("write", errno.EDQUOT, "4.2.2"), ("write", errno.EIO, "4.2.0"),
        ("sync", errno.EIO, "4.2.0"), ("sync", errno.ENOSPC, "4.2.2"),
        ("rename", errno.EIO, "4.2.0"), ("sync_dir", errno.EIO, "4.2.0"),
    ],
)  # fmt: skip
async def test_a_mailbox_that_cannot_be_written_defers_with_the_reason(
    pair: Pair, tmp_path: Path, octets: int, operation: str, number: int, code: str
):
    async with world(pair, tmp_path) as it:
        await it.deliver(1, chunk(1)[0])
        it.disk.fail(operation, number)
        outcome = await it.deliver(2, chunk(2, octets)[0])
        assert (outcome.kind, outcome.enhanced) == ("deferred", code)
        assert outcome.text == f"Maildir: {os.strerror(number)}"
        assert not it.leftovers()
        # A directory that can't be synced may have kept the name: it is delivered again.
        assert len(it.mailbox()) == (2 if operation == "sync_dir" else 1)
        assert (await it.deliver(2, chunk(2, octets)[0])).kind == "delivered"
        assert len(it.mailbox()) == 2


async def test_a_file_that_cannot_be_synced_is_deferred_alone(tmp_path: Path):
    async with world(local_channels, tmp_path) as it:
        await it.deliver(0, chunk(0)[0])
        it.disk.fail("sync", errno.EIO, after=1)
        for number in range(1, 5):
            it.hand(number, opened(chunk(number)[0]))
        kinds = [each.kind for each in (await it.outcomes(4)).values()]
        assert kinds.count("deferred") == 1 and kinds.count("delivered") == 3
        assert len(it.mailbox()) == 4 and not it.leftovers()


async def test_a_directory_that_cannot_be_synced_defers_its_whole_group_and_no_other(
    tmp_path: Path,
):
    async with world(local_channels, tmp_path) as it:
        for name in ("a", "b"):
            await it.deliver(0, chunk(0)[0], mailbox=name)
        it.disk.fail("sync_dir", errno.EIO)
        for number in range(1, 7):
            it.hand(number, opened(chunk(number)[0]), mailbox="a" if number % 2 else "b")
        kinds = {n: each.kind for n, each in (await it.outcomes(6)).items()}
        assert [kinds[n] for n in (1, 3, 5)] == ["deferred"] * 3
        assert [kinds[n] for n in (2, 4, 6)] == ["delivered"] * 3


# -- a seized qmgr --------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "mailbox", ["..", "../x", "/etc", "a/../b", ".", ".hidden", "a//b", "a/b/c/d/e", "a\nb", "~"]
)
async def test_no_mailbox_lies_outside_of_the_mail_directory(
    pair: Pair, tmp_path: Path, mailbox: str
):
    home = tmp_path / "home"
    home.mkdir()
    async with world(pair, home) as it:
        assert (await it.deliver(1, chunk(1)[0], mailbox=mailbox)).kind == "deferred"
        assert os.listdir(tmp_path) == ["home"] and not os.listdir(home)


@both
@sizes
async def test_a_recipient_that_would_forge_a_header_is_not_written(
    pair: Pair, tmp_path: Path, octets: int
):
    async with world(pair, tmp_path) as it:
        forged = "ada@example.org\nX-Forged: yes"
        assert (await it.deliver(1, chunk(1, octets)[0], recipient=forged)).kind == "deferred"
        assert not list(tmp_path.iterdir())


@both
@pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "writable"])
async def test_a_descriptor_that_is_no_file_is_deferred_or_damaged_and_harms_nothing(
    pair: Pair, tmp_path: Path, kind: str
):
    home = tmp_path / "home"
    home.mkdir()
    async with world(pair, home) as it:
        if kind == "pipe":
            descriptor, other = os.pipe()
            os.close(other)
        elif kind == "socket":
            import socket

            one, two = socket.socketpair()
            two.close()
            descriptor = one.detach()
        elif kind == "directory":
            descriptor = os.open(tmp_path, os.O_RDONLY)
        else:
            descriptor = os.memfd_create("x")
        it.hand(1, descriptor)
        (outcome,) = (await it.outcomes(1)).values()
        assert outcome.kind in ("deferred", "damaged")
        assert (await it.deliver(2, chunk(2)[0])).kind == "delivered"
        assert len(it.mailbox()) == 1


@both
async def test_small_messages_do_not_wait_for_a_large_one(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        await it.deliver(0, chunk(0)[0])
        it.hand(1, opened(chunk(1, 20 * SMALL_OCTETS)[0]))
        await it.channel.flush()
        order = []
        for number in (2, 3):
            it.hand(number, opened(chunk(number)[0]))
            await it.channel.flush()
        while len(order) < 3:
            order += [each.message.reference for each in await it.channel.receive()]
        assert order == [2, 3, 1]
