"""qmgr in other architectures: it keeps the queue, scans it, logs envelopes, shares it with other
processes, and has somebody else remove what is left.

The peers are played here; the store is `noted_store`, on a real directory.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from unit.roles.noted_store import NotedStore, opening

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.protocol import delivery
from refmta.roles import qmgr
from refmta.roles.qmgr import Slice, state
from refmta.wire.envelope import Envelope, decode_envelope, encode_chunk, encode_envelope
from refmta.wire.messages import (
    Answer,
    Arrived,
    Ask,
    Cleanse,
    Cleansed,
    Deliver,
    Message,
    Outcome,
    Ready,
    Register,
    Registered,
    Relay,
    Report,
    Route,
    Routed,
    Target,
    Tried,
)
from specs.kernel.mutant import hits, mutate

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
EPOCH_S = 1_700_000_000


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


def envelope(number: int, *recipients: str) -> Envelope:
    return Envelope(
        queue_id=queue_id(number),
        arrival_s=EPOCH_S,
        reverse_path="x@example.net",
        recipients=recipients or ("ada@example.org",),
        client="192.0.2.1",
        helo="h",
        protocol="SMTP",
    )


@dataclass
class Peer:
    """Somebody at the other end of a channel: takes note, and says what the test wants."""

    channel: Channel
    answer: Callable[[Any], Message | None] = lambda _message: None
    heard: list[Any] = field(default_factory=list)

    async def listen(self) -> None:
        try:
            while True:
                for item in await self.channel.receive():
                    for each in item.descriptors:
                        os.close(each)
                    self.heard.append(item.message)
                    said = self.answer(item.message)
                    if said is not None:
                        self.channel.post(said)
                await self.channel.flush()
        except ChannelBroken:
            self.channel.close()

    async def says(self, *messages: Message) -> None:
        for each in messages:
            self.channel.post(each)
        await self.channel.flush()
        await trio.testing.wait_all_tasks_blocked()

    def all(self, kind: type) -> list[Any]:
        return [each for each in self.heard if isinstance(each, kind)]


def routed(question: Route) -> Routed:
    user, _, host = question.recipient.partition("@")
    kind: Any = "system" if host == "example.org" else "remote"
    owner = user if kind == "system" else host
    mailbox = "Maildir" if kind == "system" else question.recipient
    target = Target(kind=kind, user=owner, mailbox=mailbox, address=question.recipient)
    return Routed(reference=question.reference, code=250, enhanced="", text="", targets=(target,))


@dataclass
class World:
    """qmgr at work.  agent: what becomes of local mail; None: it does not answer."""

    pair: Any
    spool: Path
    context: Context
    nursery: trio.Nursery
    said: list[Message]
    stores: list[NotedStore]
    agent: str | None = "delivered"
    workers: list[Peer] = field(default_factory=list)
    open: list[Channel] = field(default_factory=list)

    @property
    def store(self) -> NotedStore:
        return self.stores[0]

    def put(self, number: int, *recipients: str) -> str:
        chunk = encode_chunk(envelope(number, *recipients), [b"content\r\n"])
        (self.spool / "chunks" / queue_id(number)).write_bytes(chunk)
        return queue_id(number)

    def link(self, port: str, detail: str = "", answer: Any = None) -> Peer:
        peer, near = self.peer(port, answer)
        self.context.port(port).put(Linked(near, detail))
        return peer

    def peer(self, port: str, answer: Any = None) -> tuple[Peer, Channel]:
        near, far = self.pair(border("qmgr", port))
        self.open += near, far
        peer = Peer(far, answer or (lambda _message: None))
        self.nursery.start_soon(peer.listen)
        return peer, near

    def call(self, port: str, _detail: str = "") -> Channel:
        peer, near = self.peer(port)
        self.workers.append(peer)
        return near

    def outcome(self, deliver: Deliver) -> Outcome | None:
        if self.agent is None:
            return None
        enhanced = {"delivered": "2.0.0", "deferred": "4.2.0", "failed": "5.2.0"}[self.agent]
        kind: Any = self.agent
        return Outcome(reference=deliver.reference, kind=kind, enhanced=enhanced, text="so")

    def queued(self) -> list[str]:
        return sorted(os.listdir(self.spool / "chunks"))


@asynccontextmanager
async def world(
    pair: Any,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    role: Any = qmgr,
    store: dict[str, Any] | None = None,
    before: Callable[[Path], None] = lambda _path: None,
    **config: Any,
) -> AsyncIterator[World]:
    for name in ("chunks", "damaged"):
        (path / name).mkdir(exist_ok=True)
    before(path)
    open_queue, stores = opening(NotedStore, **(store or {}))
    monkeypatch.setattr(role, "open_queue", open_queue)
    said: list[Message] = []
    began_s = trio.current_time()
    it: World | None = None
    slice_ = Slice(spool=str(path), **config)
    context = Context(
        slices={"qmgr": msgspec.msgpack.encode(slice_)},
        say=said.append,
        call=lambda port, detail="": it.call(port, detail) if it is not None else None,
    )

    async def run() -> None:
        def wall() -> float:
            return EPOCH_S + trio.current_time() - began_s

        await role.run(context, journal("qmgr"), wall=wall)

    async with trio.open_nursery() as nursery:
        it = World(pair, path, context, nursery, said, stores)
        nursery.start_soon(run)
        it.link("resolve", answer=routed)
        it.link("local", "ada", it.outcome)
        await trio.testing.wait_all_tasks_blocked()
        assert Ready() in said
        yield it
        nursery.cancel_scope.cancel()
    for each in it.open:
        each.close()
    for each in stores:
        each.disk.leave()  # type: ignore[attr-defined]
    close_below(path)


def close_below(path: Path) -> None:
    """The process would end here: what it held open is closed for it."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if str(path) in os.readlink(f"/proc/self/fd/{name}"):
                os.close(int(name))
        except OSError:
            continue


def put_before(*numbers: int) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        for each in numbers:
            chunk = encode_chunk(envelope(each), [b"content\r\n"])
            (path / "chunks" / queue_id(each)).write_bytes(chunk)
        (path / "chunks" / queue_id(0)).write_bytes(b"torn")

    return put


# -- whoever keeps the queue ----------------------------------------------------------------------


@both
async def test_who_keeps_the_queue_makes_it_whole_and_delivers_what_is_there(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch, before=put_before(1, 2), keeps=True) as it:
        await trio.testing.wait_all_tasks_blocked()
        assert it.queued() == [] and os.listdir(tmp_path / "damaged") == [f"{queue_id(0)}.torn"]
        assert it.store.done[0] == "recover"
        assert it.context.settled()


@both
async def test_nothing_is_loaded_before_recovery_is_over(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = put_before(*range(1, 9))
    async with world(pair, tmp_path, monkeypatch, before=before, keeps=True) as it:
        await trio.testing.wait_all_tasks_blocked()
        done = [each.split()[0] for each in it.store.done]
        assert done.count("load") == 8
        assert "load" not in done[: len(done) - done[::-1].index("recovered")]


@both
async def test_who_does_not_keep_it_leaves_it_alone(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch, before=put_before(1)) as it:
        await trio.testing.wait_all_tasks_blocked()
        assert it.queued() == [queue_id(0), queue_id(1)] and it.store.done == []


@both
async def test_a_scan_finds_what_nobody_told_of_and_knows_the_rest(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
):
    async with world(pair, tmp_path, monkeypatch, scan_s=2.0) as it:
        it.agent = "deferred"
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        it.put(2)
        (tmp_path / "chunks" / "stranger").write_bytes(b"x")
        assert it.store.of(queue_id(2)) == []
        await trio.sleep(2.5)
        await trio.testing.wait_all_tasks_blocked()
        assert it.store.of(queue_id(2)).count("load") == 1
        await trio.sleep(2.5)
        assert it.store.of(queue_id(1)).count("load") == 1  # it waits, and that is known
        assert it.store.of("stranger") == []


@both
async def test_a_queue_that_cannot_be_scanned_is_scanned_again(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
):
    async with world(pair, tmp_path, monkeypatch, scan_s=10.0) as it:
        it.store.failing.add("names")
        it.put(1)
        await trio.sleep(11)
        assert it.queued() == [queue_id(1)]
        it.store.failing.clear()
        await trio.sleep(11)
        assert it.queued() == []


@both
async def test_in_delivery_queue_only_a_scan_tries_what_arrives(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
):
    async with world(pair, tmp_path, monkeypatch, delivery="queue", scan_s=100.0) as it:
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        await trio.sleep(50)
        assert it.queued() == [queue_id(1)] and it.store.done == []
        assert it.context.settled()
        await trio.sleep(60)
        assert it.queued() == []


# -- several processes share it -------------------------------------------------------------------


@both
async def test_what_another_process_has_is_left_to_it_and_looked_at_again(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
):
    async with world(pair, tmp_path, monkeypatch, scan_s=100.0) as it:
        it.store.claimed.add(queue_id(1))
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        assert it.queued() == [queue_id(1)] and it.context.settled()
        await trio.sleep(101)
        assert it.queued() == [queue_id(1)]
        it.store.claimed.clear()
        await trio.sleep(101)
        assert it.queued() == []


@both
async def test_what_rests_is_marked_put_away_and_released_in_this_order(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch) as it:
        it.agent = "deferred"
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        assert it.store.of(queue_id(1)) == ["load", "marks", "rested", "release"]
        assert it.context.settled()


@both
async def test_what_was_never_tried_is_released_and_not_put_away(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An operator's hold, before its first attempt."""
    async with world(pair, tmp_path, monkeypatch) as it:
        it.agent = None
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        assert it.store.of(queue_id(1)) == ["load"]
        assert not it.context.settled()
        it.context.order(Ask(reference=1, verb="hold", queue_id=queue_id(1)))
        await trio.testing.wait_all_tasks_blocked()
        assert it.store.of(queue_id(1))[:2] == ["load", "marks"]
        assert "rested" not in it.store.of(queue_id(1))


@both
async def test_whoever_only_looks_claims_nothing(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch) as it:
        it.agent = None
        it.store.claimed.add(queue_id(2))
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        it.context.order(Ask(reference=1, verb="list"))
        await trio.testing.wait_all_tasks_blocked()
        (answer,) = [each for each in it.said if isinstance(each, Answer)]
        assert queue_id(1).encode() in answer.document
        assert it.store.of(queue_id(1)) == ["load", "look"]


# -- envelopes to be logged -----------------------------------------------------------------------


def register(number: int, **changes: Any) -> Register:
    fields = {"queue_id": queue_id(number), "head": encode_envelope(envelope(number)), **changes}
    return Register(**fields)


@both
async def test_envelopes_of_one_moment_are_logged_together_then_answered_then_delivered(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    logs = {"logs_envelopes": True}
    async with world(pair, tmp_path, monkeypatch, store=logs) as it:
        one, other = it.link("enqueue"), it.link("enqueue")
        for number in range(1, 7):
            it.put(number)
        for number in range(1, 7):
            (one if number % 2 else other).channel.post(register(number))
        async with trio.open_nursery() as nursery:
            for peer in (one, other):
                nursery.start_soon(peer.says)
        await trio.testing.wait_all_tasks_blocked()
        assert sum(map(len, it.store.logged)) == 6 and len(it.store.logged) <= 2
        told = {each.queue_id for each in one.all(Registered)}
        assert told == {queue_id(1), queue_id(3), queue_id(5)}
        assert not any(each.error for each in one.all(Registered) + other.all(Registered))
        assert it.store.done.index("log") < it.store.done.index(f"load {queue_id(1)}")
        assert it.queued() == []


@both
async def test_an_envelope_that_cannot_be_logged_is_said_so_and_not_delivered(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch, store={"logs_envelopes": True}) as it:
        enqueue = it.link("enqueue")
        it.store.failing.add(queue_id(1))
        it.put(1), it.put(2)
        await enqueue.says(register(1), register(2))
        answers = {each.queue_id: each.error for each in enqueue.all(Registered)}
        assert answers[queue_id(1)] and not answers[queue_id(2)]
        assert it.queued() == [queue_id(1)] and it.store.of(queue_id(1)) == []


@both
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"head": b"V"}, "cut short"),
        ({"head": encode_envelope(envelope(2))}, "another message's"),
        ({"head": encode_chunk(envelope(1), [])}, "end record"),
        ({}, "in use"),
    ],
)
async def test_a_registration_that_is_not_what_it_should_be_is_refused(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any, what: str
):
    async with world(pair, tmp_path, monkeypatch, store={"logs_envelopes": True}) as it:
        it.agent = "deferred"
        enqueue = it.link("enqueue")
        if not changes:  # it is there already
            await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        await enqueue.says(register(1, **changes))
        (answer,) = enqueue.all(Registered)
        assert what in answer.error and it.store.logged == []
        await enqueue.says(register(3))  # nobody was cut off
        assert it.store.logged == [(queue_id(3),)]


@both
async def test_one_queue_id_is_not_logged_twice_at_once(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch, store={"logs_envelopes": True}) as it:
        enqueue = it.link("enqueue")
        it.put(1)
        await enqueue.says(register(1), register(1))
        assert it.store.logged == [(queue_id(1),)]
        assert [bool(each.error) for each in enqueue.all(Registered)].count(True) == 1


@both
async def test_where_chunks_hold_their_envelopes_nobody_registers(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch) as it:
        enqueue = it.link("enqueue")
        await enqueue.says(register(1))
        (answer,) = enqueue.all(Registered)
        assert answer.error and it.store.done == []


# -- who waits for the first attempt --------------------------------------------------------------


@both
@pytest.mark.parametrize("outcome", ["delivered", "deferred", "failed"])
async def test_a_first_attempt_is_told_when_it_is_over_and_once(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, autojump_clock: Any
):
    async with world(pair, tmp_path, monkeypatch, delivery="interactive") as it:
        it.agent = None
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        assert enqueue.heard == []
        agent = it.link("local", "ada", it.outcome)  # the first is lost: another one takes it
        it.agent = outcome
        await trio.testing.wait_all_tasks_blocked()
        assert agent.all(Deliver)
        assert enqueue.heard == [Tried(queue_id=queue_id(1))]
        await trio.sleep(3600)
        assert len(enqueue.heard) == 1


@both
@pytest.mark.parametrize("what", ["gone", "claimed", "damaged"])
async def test_who_waits_for_a_message_that_is_not_to_be_had_is_told_at_once(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    async with world(pair, tmp_path, monkeypatch, delivery="interactive") as it:
        enqueue = it.link("enqueue")
        if what != "gone":
            it.put(1)
        if what == "claimed":
            it.store.claimed.add(queue_id(1))
        if what == "damaged":
            (tmp_path / "chunks" / queue_id(1)).write_bytes(b"x")
        await enqueue.says(Arrived(queue_ids=(queue_id(1),)))
        assert enqueue.heard == [Tried(queue_id=queue_id(1))]


@both
async def test_in_the_background_nobody_is_told(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch) as it:
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        assert enqueue.heard == [] and it.queued() == []


# -- what goes along with the content -------------------------------------------------------------


@both
@pytest.mark.parametrize("heads", [True, False])
async def test_agents_get_the_envelope_where_the_file_does_not_hold_it(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heads: bool
):
    async with world(pair, tmp_path, monkeypatch, store={"heads": heads}) as it:
        it.agent = "failed"
        enqueue, bounce = it.link("enqueue"), it.link("bounce")
        agent = it.link("local", "bob")
        name = it.put(1, "ada@example.org", "bob@example.org", "x@far.example")
        await enqueue.says(Arrived(queue_ids=(name,)))
        (deliver,) = agent.all(Deliver)
        (relay,) = it.workers[0].all(Relay)
        agent.channel.post(
            Outcome(reference=deliver.reference, kind="deferred", enhanced="4.2.0", text="so")
        )
        await agent.says()
        it.workers[0].channel.close()  # lost: everything of it is open again
        await trio.testing.wait_all_tasks_blocked()
        found = [deliver.head, relay.head, *(each.head for each in bounce.all(Report))]
        if heads:
            assert all(decode_envelope(each) == envelope(1, *decoded(each)) for each in found)
        else:
            assert not any(found)


def decoded(head: bytes) -> tuple[str, ...]:
    return decode_envelope(head).recipients


@both
@pytest.mark.parametrize(("size", "jobs"), [(1, [1, 1, 1]), (2, [2, 1]), (100, [3])])
async def test_a_job_has_as_many_recipients_as_configured(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, jobs: list[int]
):
    async with world(pair, tmp_path, monkeypatch, recipients_per_job=size) as it:
        enqueue = it.link("enqueue")
        name = it.put(1, *[f"{each}@far.example" for each in "abc"])
        await enqueue.says(Arrived(queue_ids=(name,)))
        relays = [relay for each in it.workers for relay in each.all(Relay)]
        sizes = [len(each.recipients) for each in relays]
        assert sorted(sizes) == sorted(jobs[: len(sizes)]) and sizes


@both
async def test_a_session_per_job_is_a_process_per_delivery(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    once = {"recipients_per_job": 1, "jobs_per_session": 1}
    async with world(pair, tmp_path, monkeypatch, **once) as it:
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=tuple(it.put(n, "a@far.example") for n in range(3))))
        assert len(it.workers) >= 2
        assert all(len(each.all(Relay)) == 1 for each in it.workers)


# -- what another role removes --------------------------------------------------------------------


@both
async def test_what_is_left_of_a_message_is_removed_by_clean(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def cleansed(message: Cleanse) -> Cleansed:
        return Cleansed(reference=message.reference, done=True)

    async with world(pair, tmp_path, monkeypatch, cleaned=True) as it:
        clean, enqueue = it.link("clean", answer=cleansed), it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1), it.put(2))))
        assert [each.queue_id for each in clean.heard] == [queue_id(1), queue_id(2)]


@both
async def test_clean_is_asked_again_when_it_is_back_and_when_it_could_not(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
):
    could = False

    def cleansed(message: Cleanse) -> Cleansed:
        return Cleansed(reference=message.reference, done=could)

    async with world(pair, tmp_path, monkeypatch, cleaned=True) as it:
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))  # clean is not there yet
        dead = it.link("clean")
        await trio.testing.wait_all_tasks_blocked()
        assert [each.queue_id for each in dead.heard] == [queue_id(1)]
        dead.channel.close()
        await trio.testing.wait_all_tasks_blocked()
        clean = it.link("clean", answer=cleansed)
        await trio.sleep(state.TROUBLE_S / 2)
        assert len(clean.heard) == 1
        could = True
        await trio.sleep(state.TROUBLE_S + 60)
        assert [each.queue_id for each in clean.heard] == [queue_id(1)] * 2
        await trio.sleep(state.TROUBLE_S * 3)
        assert len(clean.heard) == 2
        await clean.says(Cleansed(reference=12345, done=False))  # nobody asked


@both
async def test_where_nobody_cleans_nobody_is_asked(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with world(pair, tmp_path, monkeypatch) as it:
        clean, enqueue = it.link("clean"), it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        assert clean.heard == [] and it.store.cleaner is None


# -- controls: each mutant breaks the claim of a test above ---------------------------------------

QUEUE, INTAKE = f"{qmgr.__name__}.queue", f"{qmgr.__name__}.intake"


def role_with(module: str, old: str, new: str) -> tuple[Any, Any]:
    """The role over a mutant of one of its modules, and the mutant."""
    changed = mutate(module, [(old, new)])
    parts = {module: changed}
    if module == INTAKE:
        parts = {QUEUE: mutate(QUEUE, [], replacing=parts)}
    return mutate(qmgr.__name__, [], replacing=parts), changed


async def asked_of_a_deferred_one(role: Any, path: Path, patch: pytest.MonkeyPatch) -> list[str]:
    path.mkdir()
    async with world(local_channels, path, patch, role=role) as it:
        it.agent = "deferred"
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        return it.store.of(queue_id(1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("            self.store.release(active.queue_id)\n", "            __mutant_ran__()\n"),
        (
            "                self.store.rested(active.queue_id)\n",
            "                __mutant_ran__()\n",
        ),
    ],
    ids=["a claim that is never released", "a message that is not put away"],
)
async def test_a_rest_that_forgets_the_store_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
):
    role, changed = role_with(QUEUE, old, new)
    right = await asked_of_a_deferred_one(qmgr, tmp_path / "right", monkeypatch)
    wrong = await asked_of_a_deferred_one(role, tmp_path / "wrong", monkeypatch)
    assert right == ["load", "marks", "rested", "release"] and set(wrong) < set(right)
    assert hits(changed)


async def answered_before_logged(role: Any, path: Path, patch: pytest.MonkeyPatch) -> bool:
    """Whether an envelope that was not logged is said to be."""
    path.mkdir()
    async with world(local_channels, path, patch, role=role, store={"logs_envelopes": True}) as it:
        enqueue = it.link("enqueue")
        it.store.failing.add(queue_id(1))
        it.put(1)
        await enqueue.says(register(1))
        return not all(each.error for each in enqueue.all(Registered))


async def test_an_answer_whatever_the_log_says_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    role, changed = role_with(
        INTAKE, "                if error is None:\n", "                if __mutant_ran__():\n"
    )
    assert not await answered_before_logged(qmgr, tmp_path / "right", monkeypatch)
    assert await answered_before_logged(role, tmp_path / "wrong", monkeypatch)
    assert hits(changed)


async def told_too_early(role: Any, path: Path, patch: pytest.MonkeyPatch) -> bool:
    path.mkdir()
    async with world(local_channels, path, patch, role=role, delivery="interactive") as it:
        it.agent = None
        enqueue = it.link("enqueue")
        await enqueue.says(Arrived(queue_ids=(it.put(1),)))
        return bool(enqueue.heard)


async def test_a_first_attempt_that_is_told_before_it_is_over_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    role, changed = role_with(
        QUEUE,
        "        state = active.state\n        if state.gone or delivery",
        "        state = active.state\n"
        "        __mutant_ran__() and self.intake.tried(active.queue_id)\n"
        "        if state.gone or delivery",
    )
    assert not await told_too_early(qmgr, tmp_path / "right", monkeypatch)
    assert await told_too_early(role, tmp_path / "wrong", monkeypatch)
    assert hits(changed)


def test_the_statuses_of_what_was_tried():
    tried = {delivery.Status.DEFERRED, delivery.Status.FAILED}
    assert set(qmgr.queue.TRIED) == tried
