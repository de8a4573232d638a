"""local as other architectures run it: raw content, mbox, one process for all users, one for each
delivery.  What holds of every form is in test_local.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import desks, local
from refmta.roles.local import SMALL_OCTETS, Slice
from refmta.stores.disk import PosixDisk
from refmta.stores.recipients import Known, NoRecipient, Recipients
from refmta.wire.envelope import Envelope, encode_chunk, encode_envelope
from refmta.wire.messages import Deliver, Message, Outcome, Ready

Pair = Callable[..., tuple[Channel, Channel]]
both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
sizes = pytest.mark.parametrize("octets", [100, SMALL_OCTETS + 10])
ADA, BOB = 1_899_999_001, 1_899_999_002
TOP = b"Return-Path: <x@example.net>\nDelivered-To: ada@example.org\n"


def queue_id(number: int) -> str:
    return f"06H06TY2DFR2{number:04}"


def envelope(number: int, arrival_s: int = 1_700_000_000) -> Envelope:
    return Envelope(
        queue_id=queue_id(number), arrival_s=arrival_s, reverse_path="x@example.net",
        recipients=("ada@example.org",), client="192.0.2.1", helo="h", protocol="SMTP",
    )  # fmt: skip


def content(number: int, octets: int = 100) -> bytes:
    return (b"Subject: %d\r\n\r\n" % number).ljust(octets - 2, b"x") + b"\r\n"


def opened(octets: bytes) -> int:
    writing = os.memfd_create("message")
    os.write(writing, octets)
    reading = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
    os.close(writing)
    return reading


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def homes() -> Iterator[Path]:
    """Two users' homes, each closed to all others."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o711)
    for name, uid in (("ada", ADA), ("bob", BOB)):
        (top / name).mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(top / name, uid, uid)
    yield top
    shutil.rmtree(top)


def table(homes: Path, *names: str) -> Recipients:
    ids = {"ada": ADA, "bob": BOB}
    users = {
        each: Known(ids.get(each, ADA), ids.get(each, ADA), str(homes / each)) for each in names
    }
    return Recipients(users=users, reserved=((0, 1000),), rootless=os.geteuid() != 0)


@dataclass
class Caller:
    """qmgr's end."""

    channel: Channel

    def hand(self, number: int, octets: bytes = b"", **changes: Any) -> None:
        chunk = encode_chunk(envelope(number), [content(number)])
        fields: dict[str, Any] = {
            "reference": number, "queue_id": queue_id(number), "index": 0, "mailbox": "Maildir",
            "recipient": "ada@example.org", **changes,
        }  # fmt: skip
        self.channel.post(Deliver(**fields), opened(octets or chunk))

    async def outcomes(self, count: int) -> dict[int, Outcome]:
        await self.channel.flush()
        found: dict[int, Outcome] = {}
        with trio.fail_after(20):
            while len(found) < count:
                for item in await self.channel.receive():
                    assert isinstance(item.message, Outcome)
                    found[item.message.reference] = item.message
        return found

    async def deliver(self, number: int, octets: bytes = b"", **changes: Any) -> Outcome:
        self.hand(number, octets, **changes)
        return (await self.outcomes(1))[number]


@asynccontextmanager
async def resident(pair: Pair, **changes: Any) -> AsyncIterator[tuple[Caller, Context]]:
    """The role as a compartment runs it, in the working directory."""
    said: list[Message] = []
    config = Slice(hostname="mx.example.org", **changes)
    context = Context(slices={"local": msgspec.msgpack.encode(config)}, say=said.append)
    near, far = pair(border("qmgr", "local"))
    context.port("qmgr").put(Linked(far))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(local.run, context, journal("local"))
        yield Caller(near), context
        assert said == [Ready()]
        nursery.cancel_scope.cancel()
    near.close()
    far.close()


def new(home: Path) -> list[bytes]:
    return [each.read_bytes() for each in sorted((home / "Maildir" / "new").iterdir())]


def stored(*contents: bytes) -> list[bytes]:
    return [TOP + each.replace(b"\r\n", b"\n") for each in contents]


@pytest.fixture(autouse=True)
def own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process would end: what `run` holds open is closed for it."""
    made: list[PosixDisk] = []

    class Noted(PosixDisk):
        def __init__(self, root: Any) -> None:
            super().__init__(root)
            if root != -1:
                made.append(self)

    monkeypatch.setattr(local, "PosixDisk", Noted)
    yield
    for each in made:
        each.leave()


# -- raw content ----------------------------------------------------------------------------------


@both
@sizes
async def test_raw_content_is_delivered_under_its_head(
    pair: Pair, octets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    async with resident(pair) as (caller, _):
        text, head = content(1, octets), encode_envelope(envelope(1))
        assert (await caller.deliver(1, text, head=head)).kind == "delivered"
        assert new(tmp_path) == stored(text)
        other = encode_envelope(envelope(2))
        assert (await caller.deliver(1, text, head=other)).kind == "damaged"
        assert (await caller.deliver(1, text)).kind == "damaged", "it is no chunk"


# -- mbox -----------------------------------------------------------------------------------------


@both
@sizes
async def test_a_group_is_appended_to_an_mbox(
    pair: Pair, octets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    texts = [content(number, octets) for number in range(5)]
    async with resident(pair, mailbox="mbox") as (caller, context):
        for number, text in enumerate(texts):
            caller.hand(number, text, head=encode_envelope(envelope(number)))
        found = await caller.outcomes(5)
        assert {each.kind for each in found.values()} == {"delivered"}
        assert context.settled()
        octets_there = (tmp_path / "mbox").read_bytes()
        assert octets_there.count(b"From x@example.net ") == 5
        for each in stored(*texts):
            assert octets_there.count(each) == 1


@both
async def test_a_locked_mbox_keeps_nobody_else_waiting(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mbox").touch()
    reader = PosixDisk(tmp_path)
    handle = reader.open_append("mbox")
    assert reader.lock(handle)
    async with resident(pair, mailbox="mbox") as (caller, context):
        caller.hand(1)
        caller.hand(2, mailbox="other")
        assert list(await caller.outcomes(1)) == [2]
        assert (await caller.deliver(3, mailbox="other")).kind == "delivered"
        assert not context.settled(), "one is under way"
        reader.close(handle)
        assert list(await caller.outcomes(1)) == [1]
        assert context.settled()
    reader.leave()


# -- one process for all users --------------------------------------------------------------------


@both
@sizes
@pytest.mark.parametrize("form", ["maildir", "mbox"])
async def test_each_users_mail_is_written_by_his_rights(
    pair: Pair, octets: int, form: str, homes: Path
):
    text, head = content(1, octets), encode_envelope(envelope(1))
    async with resident(
        pair, all_users=True, mailbox=form, recipients=table(homes, "ada", "bob")
    ) as (caller, _):
        for user in ("ada", "bob"):
            assert (await caller.deliver(1, text, head=head, user=user)).kind == "delivered"
        for number in range(10, 20):
            caller.hand(number, user="ada" if number % 2 else "bob")
        assert {each.kind for each in (await caller.outcomes(10)).values()} == {"delivered"}
    for user, uid in (("ada", ADA), ("bob", BOB)):
        made = [*(homes / user).rglob("*")]
        assert {each.stat().st_uid for each in made} == {uid if os.geteuid() == 0 else os.geteuid()}
        if form == "maildir":
            assert len(new(homes / user)) == 6
    assert os.geteuid() == os.getuid()


@both
@sizes
async def test_without_a_user_who_may_have_mail_it_waits(pair: Pair, octets: int, homes: Path):
    text, head = content(1, octets), encode_envelope(envelope(1))
    known = table(homes, "ada", "gone")
    async with resident(pair, all_users=True, recipients=known) as (caller, _):
        for user, code, reason in (
            ("", "4.2.0", "no user is named"),
            ("gone", "4.3.5", "home: No such file"),
            ("root", "4.3.5", "a system user"),
            ("no-such-user", "4.3.5", "no such user"),
        ):
            outcome = await caller.deliver(1, text, head=head, user=user)
            assert (outcome.kind, outcome.enhanced) == ("deferred", code), user
            assert reason in outcome.text
        assert (await caller.deliver(2, user="ada")).kind == "delivered"


@pytest.mark.needs("root")
async def test_a_user_reaches_nothing_of_anothers(homes: Path):
    """By a link for a mailbox, which a process of root's would follow into."""
    async with resident(local_channels, all_users=True, recipients=table(homes, "ada", "bob")) as (
        caller,
        _,
    ):
        assert (await caller.deliver(1, user="bob")).kind == "delivered"
        (homes / "ada" / "Maildir").symlink_to(homes / "bob" / "Maildir")
        outcome = await caller.deliver(2, user="ada")
        assert (outcome.kind, outcome.text) == ("deferred", "Maildir: Permission denied")
        assert len(new(homes / "bob")) == 1


async def test_homes_are_held_open_for_a_while_and_not_too_many(
    homes: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(desks, "DESKS", 3)
    names = [f"user{number}" for number in range(10)]
    for name in names:
        (homes / name).mkdir()
        if os.geteuid() == 0:
            os.chown(homes / name, ADA, ADA)

    def held() -> int:
        links = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
        return sum(str(homes) in os.readlink(each) for each in links if os.path.lexists(each))

    async with resident(local_channels, all_users=True, recipients=table(homes, *names)) as (
        caller,
        _,
    ):
        for number, name in enumerate(names):
            assert (await caller.deliver(number, user=name)).kind == "delivered"
            assert held() <= 3
        # All at once: none is closed while it is in use.
        for number, name in enumerate(names, 20):
            caller.hand(number, user=name)
        assert {each.kind for each in (await caller.outcomes(10)).values()} == {"delivered"}
        assert held() <= 3
    assert held() == 0


async def test_a_user_who_has_moved_gets_his_mail_there_soon(homes: Path):
    """Not while a delivery is under way, and not before the time is over: a look-up each."""
    now_s = [1_700_000_000.0]
    known = table(homes, "ada")
    place = desks.Desks(PosixDisk(-1), "maildir", "mx.example.org", known, now=lambda: now_s[0])
    desk = place.of("ada")
    desk.busy += 1
    assert place.of("ada") is desk
    known.users["ada"] = Known(ADA, ADA, str(homes / "gone"))
    now_s[0] += desks.DESK_S - 1
    assert place.of("ada") is desk
    now_s[0] += 1
    with pytest.raises(NoRecipient, match="home"):
        place.of("ada")
    known.users["ada"] = Known(ADA, ADA, str(homes / "ada"))
    other = place.of("ada")
    assert other is not desk and desk.owned is not None, "it is in use"
    place.leave(desk)
    assert desk.owned is None and place.of("ada") is other
    place.close()
    assert other.owned is None


# -- resident, and for one call -------------------------------------------------------------------


async def test_an_agent_of_one_user_ends_when_idle_and_one_of_all_users_does_not(
    homes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
):
    monkeypatch.chdir(tmp_path)
    for all_users in (False, True):
        config = Slice(hostname="h", idle_s=5, all_users=all_users, recipients=table(homes))
        context = Context(slices={"local": msgspec.msgpack.encode(config)})
        with trio.move_on_after(100) as waiting:
            await local.run(context, journal("local"))
        assert waiting.cancelled_caught is all_users
        with trio.fail_after(1):
            context.draining.set()
            await local.run(context, journal("local"))


@both
@sizes
async def test_a_call_is_served_until_its_caller_ends_it(
    pair: Pair, octets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    near, far = pair(border("qmgr", "local"))
    caller, traced = Caller(near), []
    configuration = msgspec.msgpack.encode(Slice(hostname="mx.example.org"))
    session = local.attend(
        far, "qmgr", configuration, {}, journal("local"),
        lambda action, **fields: traced.append((action, fields["path"])),
    )  # fmt: skip
    text = content(1, octets)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        blocks = [text[at : at + 100_000] for at in range(0, len(text), 100_000)]
        chunk = encode_chunk(envelope(1), blocks)
        assert (await caller.deliver(1, chunk)).kind == "delivered"
        session.drain()
        near.close()
    assert session.clean
    assert new(tmp_path) == stored(text)
    ((action, path),) = traced
    assert action == "local.delivered" and (tmp_path / path).exists()
    with pytest.raises(ChannelBroken):
        await far.receive()


@both
async def test_a_call_that_is_cut_off_leaves_nothing_open(pair: Pair, homes: Path, tmp_path: Path):
    near, far = pair(border("qmgr", "local"))
    config = Slice(hostname="h", all_users=True, recipients=table(homes, "ada"))
    session = local.attend(
        far, "qmgr", msgspec.msgpack.encode(config), {}, journal("local"), lambda *_, **__: None
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        assert (await Caller(near).deliver(1, user="ada")).kind == "delivered"
        nursery.cancel_scope.cancel()
    with pytest.raises(ChannelBroken), trio.fail_after(1):
        await near.receive()
    near.close()


@pytest.mark.parametrize("age_s", [0, 5 * 86_400, 30 * 86_400])
async def test_two_calls_for_one_user_disturb_each_other_in_nothing(
    age_s: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second begins while the first has its file in tmp/.  Control: one that looks like what a
    crash left long ago is taken away; its delivery is deferred, and the next one is made.
    """
    monkeypatch.chdir(tmp_path)
    configuration = msgspec.msgpack.encode(Slice(hostname="mx.example.org"))
    callers = []
    syncing, go_on = trio.Event(), trio.Event()
    real = trio.to_thread.run_sync

    async def slowly(sync: Any) -> None:
        syncing.set()
        await go_on.wait()
        await real(sync)

    monkeypatch.setattr(trio.to_thread, "run_sync", slowly)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            near, far = local_channels(border("qmgr", "local"))
            callers.append(Caller(near))
            session = local.attend(
                far, "qmgr", configuration, {}, journal("local"), lambda *_, **__: None
            )
            nursery.start_soon(session.run)
        head = encode_envelope(envelope(1, int(time.time()) - age_s))
        large = content(1, SMALL_OCTETS + 10)
        callers[0].hand(1, large, head=head)
        await callers[0].channel.flush()
        await syncing.wait()
        assert (await callers[1].deliver(2)).kind == "delivered"
        go_on.set()
        swept = age_s > desks.SWEPT_AFTER_S
        outcome = (await callers[0].outcomes(1))[1]
        assert outcome.kind == ("deferred" if swept else "delivered")
        if swept:
            assert (await callers[0].deliver(1, large, head=head)).kind == "delivered"
        for each in callers:
            each.channel.close()
    assert len(new(tmp_path)) == 2
