"""qmgr and remote mail: sessions by destination, dead destinations, reports; on trio's mock clock,
with workers and a bounce role of the test.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import qmgr
from refmta.roles.qmgr import Slice, relays
from refmta.roles.qmgr.reports import Reports
from refmta.stores.disk import PosixDisk
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import (
    Arrived,
    Ask,
    Hurry,
    Message,
    Relay,
    Relayed,
    RelayOutcome,
    Report,
    Reported,
    Route,
    Routed,
    Target,
)

Pair = Callable[..., tuple[Channel, Channel]]
EPOCH_S = 1_700_000_000
DAY_S = 86_400
both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
REPORT_ID = "06H06TY2DFR29999"


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


@dataclass(eq=False)
class Worker:
    """The far end of one call."""

    channel: Channel
    jobs: list[Relay] = field(default_factory=list)
    open: list[Relay] = field(default_factory=list)
    hurried: bool = False
    gone: bool = False

    async def listen(self) -> None:
        try:
            while True:
                for item in await self.channel.receive():
                    for each in item.descriptors:
                        os.close(each)
                    if isinstance(item.message, Relay):
                        self.jobs.append(item.message)
                        self.open.append(item.message)
                    self.hurried |= isinstance(item.message, Hurry)
        except ChannelBroken:
            self.gone = True
            self.channel.close()

    async def ends(
        self, job: Relay, kind: str = "delivered", destination: str = "alive", **changes: Any
    ) -> None:
        codes = {"delivered": "2.0.0", "deferred": "4.4.1", "failed": "5.1.1", "returned": ""}
        outcomes = tuple(
            RelayOutcome(
                index=each.index, kind=kind, enhanced=codes[kind], text="said", host="mx.example"
            )  # type: ignore[arg-type]
            for each in job.recipients
        )
        fields = {"outcomes": outcomes, **changes}
        message = Relayed(reference=job.reference, destination=destination, **fields)  # type: ignore[arg-type]
        self.channel.post(message)
        if job in self.open:
            self.open.remove(job)
        await self.channel.flush()
        await trio.testing.wait_all_tasks_blocked()


@dataclass
class World:
    """qmgr at work; every address leads to the destination that is its domain."""

    pair: Pair
    spool: Path
    nursery: trio.Nursery
    enqueue: Channel | None = None
    context: Context | None = None
    workers: list[Worker] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    bounce: Channel | None = None
    #: Whether reports are kept; or the only address whose reports are; None: no answer.
    keeps: bool | str | None = True
    away: bool = False
    channels: list[Channel] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    trace: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def call(self, port: str) -> Channel:
        assert port == "remote"
        near, far = self.pair(border("qmgr", "remote"))
        self.channels += near, far
        worker = Worker(far)
        self.workers.append(worker)
        if self.away:
            far.close()
            worker.gone = True
        else:
            self.nursery.start_soon(worker.listen)
        return near

    def put(
        self, number: int, *recipients: str, sender: str = "x@example.org",
        arrival_s: int = EPOCH_S,
    ) -> str:  # fmt: skip
        envelope = Envelope(
            queue_id=queue_id(number), arrival_s=arrival_s, reverse_path=sender,
            recipients=recipients or (f"n{number}@one.example",), client="192.0.2.1", helo="h",
            protocol="SMTP",
        )  # fmt: skip
        path = self.spool / "chunks" / queue_id(number)
        path.write_bytes(encode_chunk(envelope, [b"Subject: x\r\n\r\nx\r\n"]))
        return queue_id(number)

    async def arrives(self, *ids: str) -> None:
        assert self.enqueue is not None
        self.enqueue.post(Arrived(queue_ids=ids))
        await self.enqueue.flush()
        await trio.testing.wait_all_tasks_blocked()

    async def operator(self, verb: Any, name: str = "") -> None:
        assert self.context is not None
        self.context.order(Ask(reference=1, verb=verb, queue_id=name))
        await trio.testing.wait_all_tasks_blocked()

    def queued(self) -> list[str]:
        return sorted(os.listdir(self.spool / "chunks"))

    def living(self, destination: str = "") -> list[Worker]:
        return [
            each
            for each in self.workers
            if not each.gone and (not destination or each.jobs[0].destination == destination)
        ]

    def open(self, destination: str = "one.example") -> list[Relay]:
        """Jobs under way."""
        return [
            job for each in self.living() for job in each.open if job.destination == destination
        ]

    async def finish(self, number: int = 1, kind: str = "delivered", to: str = "alive") -> None:
        """The first jobs under way end."""
        for _ in range(number):
            worker = next(each for each in self.living() if each.open)
            await worker.ends(worker.open[0], kind, to)

    async def answer_routes(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    assert isinstance(item.message, Route)
                    address = item.message.recipient
                    target = Target(
                        kind="remote", user=address.rpartition("@")[2], mailbox=address,
                        address=address,
                    )  # fmt: skip
                    answer = Routed(
                        reference=item.message.reference, code=250, enhanced="", text="",
                        targets=(target,),
                    )  # fmt: skip
                    channel.post(answer)
                await channel.flush()
        except ChannelBroken:
            return

    async def link_bounce(self) -> None:
        assert self.context is not None
        near, far = self.pair(border("qmgr", "bounce"))
        self.channels += near, far
        self.bounce = far
        self.context.port("bounce").put(Linked(near))
        self.nursery.start_soon(self._write_reports, far)
        await trio.testing.wait_all_tasks_blocked()

    async def _write_reports(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    for each in item.descriptors:
                        os.close(each)
                    assert isinstance(item.message, Report)
                    self.reports.append(item.message)
                    if self.keeps is None:
                        continue
                    kept = REPORT_ID if self.keeps is True or item.message.to == self.keeps else ""
                    channel.post(
                        Reported(reference=item.message.reference, queue_id=kept, text="full")
                    )
                await channel.flush()
        except ChannelBroken:
            return


@asynccontextmanager
async def world(
    pair: Pair, spool: Path, *, bounce: bool = True, **config: Any
) -> AsyncIterator[World]:
    for name in ("chunks", "damaged"):
        (spool / name).mkdir(exist_ok=True)
    began_s = trio.current_time()
    slice_ = Slice(spool=str(spool), hostname="mx.example.org", **config)
    async with trio.open_nursery() as nursery:
        it = World(pair, spool, nursery)
        it.context = Context(
            slices={"qmgr": msgspec.msgpack.encode(slice_)}, say=it.said.append, call=it.call,
            trace=lambda action, **fields: it.trace.append((action, fields)),
        )  # fmt: skip
        near, far = pair(border("enqueue", "qmgr"))
        it.enqueue = near
        it.context.port("enqueue").put(Linked(far))
        near_resolve, far_resolve = pair(border("qmgr", "resolve"))
        it.context.port("resolve").put(Linked(near_resolve))
        it.channels += near, far, near_resolve, far_resolve
        nursery.start_soon(it.answer_routes, far_resolve)

        async def run() -> None:
            await qmgr.run(
                it.context, journal("qmgr"),  # type: ignore[arg-type]
                wall=lambda: EPOCH_S + trio.current_time() - began_s, chance=Random(1),
            )  # fmt: skip

        nursery.start_soon(run)
        if bounce:
            await it.link_bounce()
        await trio.testing.wait_all_tasks_blocked()
        yield it
        nursery.cancel_scope.cancel()
    for each in it.channels:
        each.close()


# -- sessions -------------------------------------------------------------------------------------


@both
async def test_a_message_is_relayed_and_freed(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "a@one.example", "b@one.example", "c@two.example")
        await it.arrives(name)
        assert len(it.workers) == 2
        one, two = it.workers
        (job,) = one.jobs
        assert job.destination == "one.example"
        assert [each.address for each in job.recipients] == ["a@one.example", "b@one.example"]
        await one.ends(job)
        assert it.queued() == [name]
        await two.ends(two.jobs[0])
        assert it.queued() == []


@both
async def test_slow_start_widens_with_each_success_up_to_the_limit(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, per_destination=4) as it:
        await it.arrives(*[it.put(number) for number in range(30)])
        assert len(it.workers) == 1  # all of them over one process
        assert len(it.open()) == 2
        await it.finish()
        assert len(it.open()) == 3
        await it.finish()
        assert len(it.open()) == 4
        await it.finish()
        assert len(it.open()) == 4


@both
async def test_a_worker_has_so_many_lanes_and_no_more(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, per_destination=25) as it:
        await it.arrives(*[it.put(number) for number in range(100)])
        while len(it.open()) < 25:
            await it.finish()
        assert sorted(len(each.open) for each in it.workers) == [5, 10, 10]


@both
async def test_one_session_has_one_destination_and_is_used_again_then_ends(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path) as it:
        await it.arrives(it.put(1))
        (worker,) = it.workers
        await worker.ends(worker.jobs[0])
        await it.arrives(it.put(2))
        assert len(it.workers) == 1
        await worker.ends(worker.jobs[1])
        await it.arrives(it.put(3, "x@two.example"))
        assert len(it.workers) == 2
        await trio.sleep(relays.IDLE_S * 1.5)
        assert worker.gone and not it.workers[1].gone


@both
async def test_a_session_ends_after_its_number_of_jobs(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, per_destination=1, jobs_per_session=3) as it:
        await it.arrives(*[it.put(number) for number in range(7)])
        done = 0
        while it.queued():
            worker = it.living()[0]
            for job in list(worker.jobs):
                if job.queue_id in it.queued():
                    await worker.ends(job)
                    done += 1
            await trio.testing.wait_all_tasks_blocked()
        assert done == 7
        assert [len(each.jobs) for each in it.workers] == [3, 3, 1]


@both
async def test_one_slow_destination_leaves_places_for_others(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, remote_workers=8, per_destination=8) as it:
        await it.arrives(*[it.put(number) for number in range(40)])
        while len(it.open()) < 4:
            await it.finish()
        for number in range(50, 53):
            await it.arrives(it.put(number, f"x@d{number}.example"))
            assert len(it.living(f"d{number}.example")) == 1


@both
async def test_an_idle_session_makes_room_for_another_destination(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path, remote_workers=1) as it:
        await it.arrives(it.put(1))
        await it.workers[0].ends(it.workers[0].jobs[0])
        await it.arrives(it.put(2, "x@two.example"))
        await trio.testing.wait_all_tasks_blocked()
        assert it.workers[0].gone
        assert it.living("two.example")


# -- what is lost, returned, damaged --------------------------------------------------------------


@both
async def test_a_lost_worker_s_messages_are_handed_out_again_then_deferred(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        await it.arrives(name)
        for attempt in range(3):
            with trio.fail_after(30):
                while len(it.workers) == attempt or not it.workers[-1].jobs:
                    await trio.sleep(0.1)
            it.workers[-1].channel.close()
            await trio.testing.wait_all_tasks_blocked()
        assert ("qmgr.deferred", {"queue_id": name, "recipient": "n1@one.example", "index": 0}) in (
            it.trace
        )
        assert it.queued() == [name]


@both
async def test_while_the_pool_is_away_calls_are_few_and_nothing_is_lost(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path) as it:
        it.away = True
        name = it.put(1)
        await it.arrives(name)
        await trio.sleep(60)
        assert len(it.workers) < 20
        it.away = False
        with trio.fail_after(600):
            while not it.living():
                await trio.sleep(1)
        worker = it.living()[0]
        await worker.ends(worker.jobs[0])
        assert it.queued() == []


@both
async def test_what_is_returned_or_not_mentioned_goes_again(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "a@one.example", "b@one.example")
        await it.arrives(name)
        (worker,) = it.workers
        outcome = RelayOutcome(index=0, kind="delivered", enhanced="2.0.0", text="")
        await worker.ends(worker.jobs[0], outcomes=(outcome,))
        assert [each.address for each in worker.jobs[1].recipients] == ["b@one.example"]
        await worker.ends(worker.jobs[1], "returned")
        await worker.ends(worker.jobs[2])
        assert it.queued() == []


@both
async def test_an_outcome_of_another_s_recipient_means_nothing(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1, "a@one.example", "b@two.example")
        await it.arrives(name)
        outcome = RelayOutcome(index=1, kind="delivered", enhanced="2.0.0", text="")
        await it.workers[0].ends(it.workers[0].jobs[0], outcomes=(outcome,))
        assert it.queued() == [name]
        assert [each for each in it.trace if each[0] == "qmgr.marked"] == []


@both
async def test_a_worker_that_calls_a_whole_chunk_damaged_is_not_believed(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        await it.arrives(name)
        await it.workers[0].ends(it.workers[0].jobs[0], "deferred", "unknown", damaged=True)
        assert it.queued() == [name]
        assert os.listdir(tmp_path / "damaged") == []


@both
async def test_draining_hurries_workers_and_waits_for_their_answer(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        name = it.put(1)
        await it.arrives(name)
        assert it.context is not None
        it.context.draining.set()
        await trio.testing.wait_all_tasks_blocked()
        (worker,) = it.workers
        assert worker.hurried
        await worker.ends(worker.jobs[0], "returned")
        assert it.queued() == [name] and len(worker.jobs) == 1


@both
async def test_without_descriptors_everything_is_deferred_and_comes_back(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    """The first hand-over fails; the others go on, and nobody is handed over twice."""
    calls = 0

    def open_read(self: PosixDisk, path: str) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EMFILE, "too many open files")
        return real(self, path)

    real = PosixDisk.open_read
    monkeypatch.setattr(PosixDisk, "open_read", open_read)
    async with world(pair, tmp_path) as it:
        await it.arrives(it.put(1, "a@one.example", "b@two.example", "c@three.example"))
        deferred = [each for each in it.trace if each[0] == "qmgr.deferred"]
        assert [each[1]["recipient"] for each in deferred] == ["a@one.example"]
        with trio.fail_after(3600):
            while it.queued():
                await trio.sleep(1)
                while any(each.open for each in it.living()):
                    await it.finish()
        sent = [job.recipients[0].address for each in it.workers for job in each.jobs]
        assert sorted(sent) == ["a@one.example", "b@two.example", "c@three.example"]


# -- dead destinations ----------------------------------------------------------------------------


@both
async def test_a_dead_destination_costs_one_probe_per_pause_and_delays_no_other(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path) as it:
        ids = [it.put(number, f"n{number}@dead.example") for number in range(20)]
        await it.arrives(*ids)
        assert len(it.open("dead.example")) == 2
        await it.finish(2, "deferred", "dead")
        assert not it.living()
        await it.arrives(it.put(90, "x@live.example"))
        await it.finish()
        assert queue_id(90) not in it.queued()
        probes = 0
        while trio.current_time() < 3600:
            await trio.sleep(1)
            if it.open("dead.example"):
                assert len(it.open("dead.example")) == 1
                probes += 1
                await it.finish(1, "deferred", "dead")
        assert 4 <= probes <= 6  # after 60, 120, 240, ... seconds
        assert it.queued() == ids


@both
async def test_a_destination_that_comes_back_gets_all_its_mail(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path) as it:
        await it.arrives(*[it.put(number) for number in range(120)])
        await it.finish(2, "deferred", "dead")
        with trio.fail_after(7200):
            while it.queued():
                await trio.sleep(1)
                while it.open():
                    await it.finish()


@both
async def test_mail_for_a_destination_that_stays_dead_ends_with_its_lifetime(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path, lifetime_s=5 * DAY_S) as it:
        await it.arrives(*[it.put(number) for number in range(12)])

        async def be_dead() -> None:
            while True:
                await trio.sleep(30)
                while it.open():
                    await it.finish(1, "deferred", "dead")

        it.nursery.start_soon(be_dead)
        await trio.sleep(5 * DAY_S + 100)
        assert it.queued() == []
        failed = [each for each in it.reports if each.kind == "failed"]
        assert sorted(each.queue_id for each in failed) == [queue_id(n) for n in range(12)]
        assert {row.enhanced for each in failed for row in each.rows} == {"4.4.7"}
        delayed = [each.queue_id for each in it.reports if each.kind == "delayed"]
        assert sorted(delayed) == [queue_id(number) for number in range(12)]  # once each


@both
async def test_retry_by_the_operator_forgives_the_dead(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        await it.arrives(*[it.put(number) for number in range(4)])
        await it.finish(2, "deferred", "dead")
        assert not it.living()
        await it.operator("retry")
        assert len(it.open()) == 2


# -- reports --------------------------------------------------------------------------------------


@both
async def test_a_failure_is_reported_to_the_sender_then_the_message_is_freed(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        await it.arrives(it.put(1, "a@one.example", "b@two.example"))
        await it.workers[0].ends(it.workers[0].jobs[0], "failed")
        assert it.reports == []  # another recipient is still on its way
        await it.workers[1].ends(it.workers[1].jobs[0])
        (report,) = it.reports
        assert (report.kind, report.to) == ("failed", "x@example.org")
        (row,) = report.rows
        assert (row.address, row.enhanced, row.host) == ("a@one.example", "5.1.1", "mx.example")
        assert it.queued() == []
        assert [each[1]["outcome"] for each in it.trace if each[0] == "qmgr.marked"] == [
            "failed", "delivered", "reported",
        ]  # fmt: skip


@both
async def test_never_a_report_about_a_report(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        await it.arrives(it.put(1, sender=""))
        await it.workers[0].ends(it.workers[0].jobs[0], "failed")
        assert it.reports == [] and it.queued() == []
        assert it.trace[-2][1]["outcome"] == "discarded"


@both
async def test_copies_go_to_the_postmaster_as_configured(pair: Pair, tmp_path: Path):
    config = {"copies": ("failed", "double"), "postmaster": "pm@example.org"}
    async with world(pair, tmp_path, **config) as it:
        await it.arrives(it.put(1), it.put(2, sender=""))
        await it.finish(2, "failed")
        told = sorted((each.queue_id, each.to) for each in it.reports)
        assert told == [
            (queue_id(1), "pm@example.org"), (queue_id(1), "x@example.org"),
            (queue_id(2), "pm@example.org"),
        ]  # fmt: skip
        assert it.queued() == []


@both
async def test_without_a_bounce_role_the_message_stays_until_there_is_one(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path, bounce=False) as it:
        name = it.put(1)
        await it.arrives(name)
        await it.workers[0].ends(it.workers[0].jobs[0], "failed")
        assert it.queued() == [name]
        await it.link_bounce()
        assert len(it.reports) == 1 and it.queued() == []


@both
async def test_a_report_that_cannot_be_kept_is_tried_again(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path) as it:
        it.keeps = False
        name = it.put(1)
        await it.arrives(name)
        await it.workers[0].ends(it.workers[0].jobs[0], "failed")
        assert len(it.reports) == 1 and it.queued() == [name]
        it.keeps = True
        await trio.sleep(120)
        assert len(it.reports) == 2 and it.queued() == []


@both
async def test_whoever_was_told_is_not_told_again_when_the_copy_fails(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    config = {"copies": ("failed",), "postmaster": "pm@example.org"}
    async with world(pair, tmp_path, **config) as it:
        it.keeps = "x@example.org"
        await it.arrives(it.put(1))
        await it.finish(1, "failed")
        assert [each.to for each in it.reports] == ["x@example.org", "pm@example.org"]
        it.keeps = True
        await trio.sleep(60)
        assert [each.to for each in it.reports][2:] == ["pm@example.org"]
        assert it.queued() == []


@both
async def test_what_somebody_is_being_told_of_is_not_retried(pair: Pair, tmp_path: Path):
    async with world(pair, tmp_path) as it:
        it.keeps = None
        name = it.put(1)
        await it.arrives(name)
        await it.finish(1, "failed")
        assert len(it.reports) == 1
        await it.operator("retry", name)
        await it.operator("retry")
        assert it.open() == [] and len(it.reports) == 1
        assert [each for each in it.trace if each[0] == "qmgr.retried"] == []


@both
async def test_what_nobody_could_be_told_of_is_retried_and_the_trace_names_it(
    pair: Pair, tmp_path: Path
):
    async with world(pair, tmp_path) as it:
        it.keeps = False
        name = it.put(1, "a@one.example", "b@two.example")
        await it.arrives(name)
        await it.workers[0].ends(it.workers[0].jobs[0], "failed")
        await it.workers[1].ends(it.workers[1].jobs[0])
        await it.operator("retry", name)
        assert len(it.open()) == 1
        assert [each[1] for each in it.trace if each[0] == "qmgr.retried"] == [
            {"queue_id": name, "recipient": "a@one.example", "index": 0}
        ]


@both
async def test_a_removed_message_is_forgotten_with_its_troubled_report(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[Reports] = []
    real = Reports.__init__

    def note(self: Reports, *arguments: Any) -> None:
        real(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Reports, "__init__", note)
    async with world(pair, tmp_path) as it:
        it.keeps = False
        name = it.put(1)
        await it.arrives(name)
        await it.finish(1, "failed")
        assert list(made[0].troubled) == [name]
        await it.operator("remove", name)
        assert it.queued() == [] and made[0].troubled == {}


@both
async def test_a_delay_is_told_once_after_its_time(
    pair: Pair, tmp_path: Path, autojump_clock: trio.testing.MockClock
):
    async with world(pair, tmp_path, delay_warning_s=3600, lifetime_s=DAY_S) as it:
        name = it.put(1)
        await it.arrives(name)
        with trio.move_on_after(3 * 3600):
            while True:
                while it.open():
                    await it.finish(1, "deferred")
                await trio.sleep(10)
        (report,) = it.reports
        assert report.kind == "delayed" and report.until_s == EPOCH_S + DAY_S
        assert it.queued() == [name]
