"""bounce over both carriers, with qmgr and enqueue played by the test."""

from __future__ import annotations

import email
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import trio

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import bounce
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import Finish, Kept, Refused, Report, Reported, ReportRow, Submit

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]
ID = "06H06TY2DFR20001"
NEW = "06H06TY2DFR2000Z"
SENDER = "eve@remote.example"
POSTMASTER = "ada@example.org"
HEADER = b"Received: by x\r\nSubject: which one\r\n"
REFUSED = Refused(code=452, enhanced="4.3.1", text="Insufficient system storage")


def chunk(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "queue_id": ID, "arrival_s": 1_700_000_000, "reverse_path": SENDER,
        "recipients": ("bob@example.org",), "client": "192.0.2.1", "helo": "h",
        "protocol": "ESMTP", **changes,
    }  # fmt: skip
    return encode_chunk(Envelope(**fields), [HEADER + b"\r\n", b"body\r\n" * 50])


def order(**changes: Any) -> Report:
    row = ReportRow(address="bob@example.org", enhanced="5.1.1", text="no such user", when_s=1)
    fields: dict[str, Any] = {
        "reference": 7, "queue_id": ID, "kind": "failed", "to": SENDER, "rows": (row,), **changes,
    }  # fmt: skip
    return Report(**fields)


def opened(octets: bytes) -> int:
    """A descriptor for reading, as qmgr hands it over."""
    writing = os.memfd_create("chunk")
    os.write(writing, octets)
    reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
    os.close(writing)
    return reading


@dataclass
class World:
    """The role at work; the test holds the other ends."""

    pair: Pair
    context: Context
    qmgr: Channel
    enqueue: Channel
    traced: list[tuple[str, dict[str, Any]]]
    taken: list[tuple[Submit, bytes]] = field(default_factory=list)

    def link(self, peer: str) -> Channel:
        near, far = self.pair(border(peer, "bounce"))
        self.context.port(peer).put(Linked(far))
        return near

    async def take(self, answer: Kept | Refused | None) -> None:
        """enqueue's part: one message, and the answer."""
        octets, submit = b"", None
        with trio.fail_after(10):
            while True:
                for item in await self.enqueue.receive():
                    match item.message:
                        case Submit():
                            submit = item.message
                        case None:
                            octets += item.octets
                        case Finish():
                            assert submit is not None and item.message.octets == len(octets)
                            self.taken.append((submit, octets))
                            if answer is not None:
                                self.enqueue.post(answer)
                                await self.enqueue.flush()
                            return

    async def hand(self, report: Report, octets: bytes) -> None:
        self.qmgr.post(report, opened(octets))
        await self.qmgr.flush()

    async def answer(self) -> Reported:
        with trio.fail_after(15):
            (received,) = await self.qmgr.receive()
        assert isinstance(received.message, Reported)
        return received.message


@asynccontextmanager
async def world(pair: Pair) -> AsyncIterator[World]:
    traced: list[tuple[str, dict[str, Any]]] = []
    config = bounce.Slice(hostname="mx.example.org", postmaster=POSTMASTER)
    context = Context(
        slices={"bounce": msgspec.msgpack.encode(config)},
        trace=lambda action, **fields: traced.append((action, fields)),
    )
    it = World(pair, context, None, None, traced)  # type: ignore[arg-type]
    it.qmgr, it.enqueue = it.link("qmgr"), it.link("enqueue")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bounce.run, context, journal("bounce", descriptor=-1))
        yield it
        nursery.cancel_scope.cancel()
    it.qmgr.close()
    it.enqueue.close()


@both
async def test_a_report_is_made_and_said_when_it_is_kept(pair: Pair):
    async with world(pair) as it:
        await it.hand(order(), chunk())
        await it.take(Kept(queue_id=NEW))
        assert await it.answer() == Reported(reference=7, queue_id=NEW, text="")
        ((submit, octets),) = it.taken
        assert submit == Submit(
            reverse_path="", recipients=(SENDER,), client="127.0.0.1", helo="mx.example.org",
            protocol="local",
        )  # fmt: skip
        message = email.message_from_bytes(octets)
        assert message["To"] == f"<{SENDER}>"
        assert message.get_payload(2).get_payload(decode=True) == HEADER
        said = {"queue_id": ID, "report": NEW, "recipients": 1, "kind": "failed", "to": SENDER}
        assert it.traced == [("bounce.reported", said)]


@both
async def test_nothing_is_said_before_it_is_kept(pair: Pair):
    async with world(pair) as it:
        await it.hand(order(), chunk())
        await it.take(None)
        await trio.testing.wait_all_tasks_blocked()
        assert it.traced == []
        it.enqueue.close()
        reported = await it.answer()
        assert (reported.queue_id, reported.text) == ("", "enqueue went away")
        assert it.traced == []


@both
async def test_one_at_a_time_in_order(pair: Pair):
    async with world(pair) as it:
        ids = [f"06H06TY2DFR2001{number}" for number in range(5)]
        for reference, each in enumerate(ids):
            await it.hand(order(reference=reference, queue_id=each), chunk(queue_id=each))
        for reference, each in enumerate(ids):
            await it.take(Kept(queue_id=each))
            await trio.testing.wait_all_tasks_blocked()
            assert len(it.taken) == reference + 1
            assert (await it.answer()).reference == reference
        assert [fields["report"] for _, fields in it.traced] == ids


@both
async def test_a_refusal_is_passed_on_and_the_next_report_is_made(pair: Pair):
    async with world(pair) as it:
        await it.hand(order(), chunk())
        await it.take(REFUSED)
        reported = await it.answer()
        assert (reported.queue_id, reported.text) == ("", "452 4.3.1 Insufficient system storage")
        await it.hand(order(), chunk())
        await it.take(Kept(queue_id=NEW))
        assert (await it.answer()).queue_id == NEW


@both
async def test_the_next_enqueue_takes_the_next_report(pair: Pair):
    async with world(pair) as it:
        it.enqueue.close()
        await it.hand(order(), chunk())
        assert (await it.answer()).text == "enqueue went away"
        await it.hand(order(), chunk())
        await trio.testing.wait_all_tasks_blocked()
        it.enqueue = it.link("enqueue")
        await it.take(Kept(queue_id=NEW))
        assert (await it.answer()).queue_id == NEW


@both
async def test_a_new_channel_ends_the_wait_on_the_old_one(pair: Pair):
    async with world(pair) as it:
        await it.hand(order(), chunk())
        await it.take(None)
        old, it.enqueue = it.enqueue, it.link("enqueue")
        assert (await it.answer()).text == "enqueue went away"
        await it.hand(order(), chunk())
        await it.take(Kept(queue_id=NEW))
        assert (await it.answer()).queue_id == NEW
        old.close()


async def test_enqueue_is_not_waited_for_without_end(autojump_clock: object):
    async with world(local_channels) as it:
        it.enqueue.close()
        await it.hand(order(), chunk())
        await it.answer()
        await it.hand(order(), chunk())
        assert (await it.answer()).text == "enqueue is away"


@both
async def test_a_new_qmgr_is_served_while_the_old_one_is_gone(pair: Pair):
    async with world(pair) as it:
        await it.hand(order(), chunk())
        it.qmgr.close()
        it.qmgr = it.link("qmgr")
        await it.hand(order(reference=8), chunk())
        await it.take(Kept(queue_id=NEW))
        await it.take(Kept(queue_id=NEW))
        assert (await it.answer()).reference == 8


WHOLE = chunk()


@both
@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", "cut short"),
        (WHOLE[:-1], "cut short"),
        (WHOLE[:-40] + b"X" + WHOLE[-39:], "damaged"),
        (chunk(queue_id=NEW), "of another message"),
    ],
)
async def test_a_damaged_chunk_is_not_reported_on(pair: Pair, octets: bytes, text: str):
    async with world(pair) as it:
        await it.hand(order(), octets)
        reported = await it.answer()
        assert reported.queue_id == "" and text in reported.text
        assert it.taken == [] and it.traced == []


@both
@pytest.mark.parametrize(
    ("changes", "envelope"),
    [
        ({"to": "mallory@remote.example"}, {}),
        ({"to": "bob@example.org"}, {}),
        ({"to": SENDER}, {"reverse_path": ""}),
        ({"to": "mailer-daemon@mx.example.org"}, {"reverse_path": "mailer-daemon@mx.example.org"}),
        ({"to": POSTMASTER}, {"reverse_path": "", "recipients": (POSTMASTER,)}),
        ({"to": POSTMASTER, "kind": "delayed"}, {}),
        ({"to": SENDER, "kind": "delayed"}, {"reverse_path": ""}),
    ],
)
async def test_qmgr_is_not_believed_whom_to_tell(
    pair: Pair, changes: dict[str, str], envelope: dict[str, Any]
):
    async with world(pair) as it:
        await it.hand(order(**changes), chunk(**envelope))
        reported = await it.answer()
        assert reported.queue_id == "" and "no report" in reported.text
        assert it.taken == []


@both
@pytest.mark.parametrize("envelope", [{}, {"reverse_path": ""}])
async def test_the_postmaster_is_told(pair: Pair, envelope: dict[str, Any]):
    async with world(pair) as it:
        await it.hand(order(to=POSTMASTER), chunk(**envelope))
        await it.take(Kept(queue_id=NEW))
        assert (await it.answer()).queue_id == NEW
        assert it.taken[0][0].reverse_path == ""


@both
async def test_a_large_message_gives_its_header_only(pair: Pair):
    large = Envelope(
        queue_id=ID, arrival_s=1, reverse_path=SENDER, recipients=("b@x.org",), client="192.0.2.1",
        helo="h", protocol="SMTP",
    )  # fmt: skip
    async with world(pair) as it:
        await it.hand(order(), encode_chunk(large, [HEADER, b"\r\n", *[b"x" * 200_000] * 12]))
        await it.take(Kept(queue_id=NEW))
        assert (await it.answer()).queue_id == NEW
        assert len(it.taken[0][1]) < 4000


@both
async def test_draining_finishes_the_report_that_is_begun(pair: Pair):
    ended = trio.Event()

    async def run() -> None:
        await bounce.run(it.context, journal("bounce", descriptor=-1))
        ended.set()

    it = World(pair, Context(slices={"bounce": _slice()}), None, None, [])  # type: ignore[arg-type]
    it.qmgr, it.enqueue = it.link("qmgr"), it.link("enqueue")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await it.hand(order(), chunk())
        await it.hand(order(reference=8), chunk())
        await it.take(None)
        it.context.draining.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        it.enqueue.post(Kept(queue_id=NEW))
        await it.enqueue.flush()
        assert (await it.answer()).queue_id == NEW
        with trio.fail_after(10):
            await ended.wait()
    with pytest.raises(ChannelBroken):
        await it.answer()


def _slice() -> bytes:
    return msgspec.msgpack.encode(bounce.Slice(hostname="mx.example.org"))


async def test_no_descriptor_is_left():
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with world(socket_channels) as it:
        await trio.testing.wait_all_tasks_blocked()  # the role has begun
        before = count()
        for octets in (chunk(), WHOLE[:-1], b"", chunk(queue_id=NEW)):
            await it.hand(order(), octets)
        await it.take(REFUSED)
        answers = 0
        while answers < 4:
            answers += len(await it.qmgr.receive())
        assert count() == before
