"""What resolve makes of an address is what the queue gets, and what is said to the next host.

Each role by itself, with resolve played by the test: smtpd asks and believes; qmgr asks, remembers
by sender, and hands on; remote says it, but never gives a null reverse-path a name.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels
from refmta.roles import qmgr, smtpd
from refmta.roles.remote.content import Outgoing
from refmta.roles.remote.jobs import Job, Progress
from refmta.stores.disk import PosixDisk
from refmta.stores.letters import Letter
from refmta.wire.envelope import Envelope, encode_chunk
from refmta.wire.messages import (
    Arrived,
    Finish,
    Kept,
    Relay,
    Relayed,
    RelayOutcome,
    RelayRecipient,
    Route,
    Routed,
    Submit,
    Target,
    Verified,
    Verify,
)

KEPT = Kept(queue_id="06H06TY2DFR20W5S")
CLIENT = "192.0.2.1"

# -- smtpd ----------------------------------------------------------------------------------------


def slice_of_smtpd(*, rewrites: bool) -> bytes:
    return msgspec.msgpack.encode(
        smtpd.Slice(
            hostname="mx.example.org", message_octets=1 << 20, recipients=100, errors=10,
            command_s=300.0, data_s=200.0, verdict_s=100.0, stress_s=10.0, rewrites=rewrites,
        )
    )  # fmt: skip


@dataclass
class Session:
    """A client of smtpd; resolve answers from `means`, enqueue keeps everything."""

    client: trio.SocketStream
    means: dict[str, str] = field(default_factory=dict)
    asked: list[Verify] = field(default_factory=list)
    submitted: list[Submit] = field(default_factory=list)

    async def say(self, *lines: str) -> list[int]:
        """Commands, each after the reply to the one before; the codes."""
        codes = []
        for line in lines:
            await self.client.send_all(f"{line}\r\n".encode())
            codes.append(await self.reply())
        return codes

    async def reply(self) -> int:
        octets = b""
        while not octets.endswith(b"\r\n"):
            octets += await self.client.receive_some()
        return int(octets.splitlines()[-1][:3])

    async def resolve(self, channel: Channel) -> None:
        while True:
            for item in await channel.receive():
                assert isinstance(item.message, Verify)
                self.asked.append(item.message)
                ours = not item.message.recipient.startswith("stranger")
                channel.post(
                    Verified(
                        code=250 if ours else 550, enhanced="", text="no",
                        recipient=self.means.get(item.message.recipient, ""),
                        reverse_path=self.means.get(item.message.reverse_path, ""),
                    )
                )  # fmt: skip
            await channel.flush()

    async def enqueue(self, channel: Channel) -> None:
        while True:
            for item in await channel.receive():
                if isinstance(item.message, Submit):
                    self.submitted.append(item.message)
                if isinstance(item.message, Finish):
                    channel.post(KEPT)
            await channel.flush()


@asynccontextmanager
async def session(*, rewrites: bool = True, **means: str) -> AsyncIterator[Session]:
    one, other = socket.socketpair()
    other.setblocking(False)
    to_enqueue, enqueue = local_channels(border("smtpd", "enqueue"))
    to_resolve, resolve = local_channels(border("smtpd", "resolve"))
    conversation = smtpd.converse(
        one, CLIENT, slice_of_smtpd(rewrites=rewrites),
        {"enqueue": to_enqueue, "resolve": to_resolve}, journal("smtpd"),
    )  # fmt: skip
    it = Session(trio.SocketStream(trio.socket.from_stdlib_socket(other)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation.run)
        nursery.start_soon(it.resolve, resolve)
        nursery.start_soon(it.enqueue, enqueue)
        assert await it.reply() == 220
        assert await it.say("EHLO client.example.net") == [250]
        yield it
        await it.client.aclose()
        nursery.cancel_scope.cancel()


async def send(it: Session, sender: str, *recipients: str) -> Submit:
    """One message; what enqueue was told of it."""
    await it.say(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients))
    assert await it.say("DATA", "Subject: x\r\n\r\nx\r\n.") == [354, 250]
    return it.submitted[-1]


async def test_the_queue_gets_what_resolve_made_of_the_envelope():
    async with session() as it:
        it.means = {"a@old.example": "a@example.org", "s@old.example": "s@example.org"}
        it.means["stranger@old.example"] = "postmaster@example.org"
        submit = await send(it, "s@old.example", "a@old.example", "stranger@old.example",
                            "b@example.org")  # fmt: skip
        assert submit.reverse_path == "s@example.org"
        assert submit.recipients == ("a@example.org", "b@example.org")
        assert {each.reverse_path for each in it.asked} == {"s@old.example"}
        assert len(it.asked) == 3  # one question per recipient, as without maps


async def test_nothing_is_left_of_the_transaction_before():
    async with session() as it:
        it.means = {"a@old.example": "a@example.org", "s@old.example": "s@example.org"}
        await send(it, "s@old.example", "a@old.example")
        await it.say("MAIL FROM:<s@old.example>", "RCPT TO:<a@old.example>", "RSET")
        it.means = {}
        submit = await send(it, "s@old.example", "a@old.example")
        assert (submit.reverse_path, submit.recipients) == ("s@old.example", ("a@old.example",))


async def test_a_null_reverse_path_is_not_asked_about():
    async with session() as it:
        it.means = {"": "somebody@example.org"}
        submit = await send(it, "", "b@example.org")
        assert submit.reverse_path == "" and it.asked[0].reverse_path == ""


async def test_without_maps_no_octet_more_is_said():
    async with session(rewrites=False) as it:
        await send(it, "s@old.example", "b@example.org")
        assert it.asked == [Verify(recipient="b@example.org", client=CLIENT)]


# -- qmgr -----------------------------------------------------------------------------------------


@dataclass
class Town:
    """qmgr at work; resolve, and one worker per call, are the test's."""

    spool: Path
    enqueue: Channel
    asked: list[Route] = field(default_factory=list)
    relayed: list[Relay] = field(default_factory=list)

    def call(self, nursery: trio.Nursery) -> Channel:
        near, far = local_channels(border("qmgr", "remote"))
        nursery.start_soon(self._work, far)
        return near

    async def _work(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    for each in item.descriptors:
                        PosixDisk("/").close(each)
                    if isinstance(item.message, Relay):
                        self.relayed.append(item.message)
                        channel.post(done(item.message))
                await channel.flush()
        except ChannelBroken:
            channel.close()

    async def resolve(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    assert isinstance(item.message, Route)
                    self.asked.append(item.message)
                    channel.post(routed(item.message))
                await channel.flush()
        except ChannelBroken:
            channel.close()

    async def arrives(self, number: int, sender: str, *recipients: str) -> None:
        name = f"06H06TY2DFR2{number:04}"
        envelope = Envelope(
            queue_id=name, arrival_s=1_700_000_000, reverse_path=sender, recipients=recipients,
            client=CLIENT, helo="h", protocol="SMTP",
        )  # fmt: skip
        chunk = encode_chunk(envelope, [b"Subject: x\r\n\r\nx\r\n"])
        (self.spool / "chunks" / name).write_bytes(chunk)
        self.enqueue.post(Arrived(queue_ids=(name,)))
        await self.enqueue.flush()
        await trio.testing.wait_all_tasks_blocked(0.01)


def done(job: Relay) -> Relayed:
    outcomes = tuple(
        RelayOutcome(index=each.index, kind="delivered", enhanced="2.0.0", text="taken")
        for each in job.recipients
    )
    return Relayed(reference=job.reference, destination="alive", outcomes=outcomes)


def routed(question: Route) -> Routed:
    """Everybody is elsewhere, where everybody is called x-so-and-so."""
    target = Target(
        kind="remote", user="one.example", mailbox=f"x-{question.recipient}",
        address=question.recipient,
    )  # fmt: skip
    return Routed(
        reference=question.reference, code=250, enhanced="", text="", targets=(target,),
        reverse_path=f"x-{question.reverse_path}" if question.reverse_path else "",
    )  # fmt: skip


@asynccontextmanager
async def town(spool: Path, *, rewrites: bool) -> AsyncIterator[Town]:
    for each in ("chunks", "damaged"):
        (spool / each).mkdir()
    config = qmgr.Slice(spool=str(spool), hostname="mx.example.org", rewrites=rewrites)
    async with trio.open_nursery() as nursery:
        near, far = local_channels(border("enqueue", "qmgr"))
        here = Town(spool, near)
        context = Context(
            slices={"qmgr": msgspec.msgpack.encode(config)}, call=lambda _port: here.call(nursery)
        )
        context.port("enqueue").put(Linked(far))
        ours, theirs = local_channels(border("qmgr", "resolve"))
        context.port("resolve").put(Linked(ours))
        nursery.start_soon(here.resolve, theirs)

        async def run() -> None:
            await qmgr.run(context, journal("qmgr"), wall=lambda: 1_700_000_000.0)

        nursery.start_soon(run)
        yield here
        nursery.cancel_scope.cancel()


async def test_the_next_host_hears_what_resolve_made_of_both_paths(tmp_path: Path):
    async with town(tmp_path, rewrites=True) as here:
        await here.arrives(1, "s@example.org", "a@one.example", "b@one.example")
        (job,) = here.relayed
        assert job.reverse_path == "x-s@example.org"
        assert [each.address for each in job.recipients] == ["x-a@one.example", "x-b@one.example"]


async def test_what_is_remembered_is_remembered_for_its_sender(tmp_path: Path):
    async with town(tmp_path, rewrites=True) as here:
        for number, sender in enumerate(("s@example.org", "t@example.org", "s@example.org", "")):
            await here.arrives(number, sender, "a@one.example")
        said = [job.reverse_path for job in here.relayed]
        assert said == ["x-s@example.org", "x-t@example.org", "x-s@example.org", ""]
        assert [each.reverse_path for each in here.asked] == ["s@example.org", "t@example.org", ""]


async def test_without_a_map_one_answer_serves_all_senders(tmp_path: Path):
    async with town(tmp_path, rewrites=False) as here:
        for number, sender in enumerate(("s@example.org", "t@example.org", "")):
            await here.arrives(number, sender, "a@one.example")
        assert [(each.recipient, each.reverse_path) for each in here.asked] == [
            ("a@one.example", "")
        ]
        assert {job.reverse_path for job in here.relayed} == {""}


# -- remote ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "instead", "said"),
    [
        ("s@example.org", "", "s@example.org"),
        ("s@example.org", "s@public.example", "s@public.example"),
        ("", "", ""),
        ("", "s@public.example", ""),  # RFC 5321 6.1: a report must not be answered by one
    ],
)
def test_what_is_said_at_mail(own: str, instead: str, said: str):
    relay = Relay(
        reference=1, queue_id="06H06TY2DFR20W5S", destination="one.example",
        recipients=(RelayRecipient(index=0, address="a@one.example"),), reverse_path=instead,
    )  # fmt: skip
    envelope = Envelope(
        queue_id=relay.queue_id, arrival_s=0, reverse_path=own, recipients=("a@one.example",),
        client="", helo="", protocol="SMTP",
    )  # fmt: skip
    letter = Outgoing(
        reverse_path=own, octets=0, eight_bit=False, letter=Letter(envelope=envelope, extents=()),
        disk=PosixDisk("/"), descriptor=-1,
    )  # fmt: skip
    progress = Progress(Job(relay, -1), letter, relay.recipients)
    assert progress.transaction().reverse_path == said
