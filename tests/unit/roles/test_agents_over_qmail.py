"""The real agents behind qmail's formats: a transaction for each recipient, and raw content."""

from __future__ import annotations

import email
import os
from pathlib import Path

import trio
from remote_world import chunk, world

from refmta.journal import journal
from refmta.patterns.trust_partitioning import Border, Channel, ChannelBroken, border
from refmta.processes.carriers import adopt
from refmta.processes.channels import socket_pair
from refmta.roles.local import Local, Slice
from refmta.stores.disk import PosixDisk
from refmta.wire.envelope import Envelope, encode_envelope
from refmta.wire.messages import Deliver, Hurry, Outcome, Relayed

ID = "06H06TY2DFR20W5S"
THREE = ("ada@example.net", "bob@example.net", "cy@example.net")
LETTER = b"Subject: s\r\n\r\n.dot\r\n"


def pair(side: Border) -> tuple[Channel, Channel]:
    one, other = socket_pair()
    return adopt("qmail", one.detach(), side), adopt("qmail", other.detach(), side.turned())


async def answer(channel: Channel) -> Relayed:
    (item,) = await channel.receive()
    assert isinstance(item.message, Relayed)
    return item.message


async def test_each_recipient_has_a_transaction_of_its_own():
    async with world("honest", pair=pair) as place:
        place.hand(1, chunk(1, LETTER), THREE)
        await place.channel.flush()
        relayed = await answer(place.channel)
        assert (relayed.reference, relayed.destination) == (1, "alive")
        assert [(each.index, each.kind) for each in relayed.outcomes] == [
            (0, "delivered"), (1, "delivered"), (2, "delivered"),
        ]  # fmt: skip
        assert all(each.host for each in relayed.outcomes)
        await place.hop.wait_for(lambda: len(place.hop.accepted) == 3)


async def test_what_nobody_was_promised_comes_back_when_the_server_stops():
    async with world("silence-at-rcpt", pair=pair) as place:
        place.hand(1, chunk(1, LETTER), THREE)
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await place.hop.wait_for(lambda: place.hop.open == 3)
                place.channel.post(Hurry())
                await place.channel.flush()

            nursery.start_soon(stop)
            with trio.fail_after(10):
                relayed = await answer(place.channel)
        assert [each.kind for each in relayed.outcomes] == ["returned"] * 3
        assert place.hop.accepted == []


async def test_a_queue_manager_that_goes_leaves_nothing_behind():
    async with world("silence-at-data", pair=pair) as place:
        place.hand(1, chunk(1, LETTER), THREE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_the_end, place.channel)
            await place.hop.wait_for(lambda: place.hop.open == 3)
            with trio.fail_after(10):
                await place.close()
        assert place.hop.accepted == []


async def _until_the_end(channel: Channel) -> None:
    try:
        await channel.receive()
    except ChannelBroken:
        return


async def test_a_file_of_content_is_delivered_with_what_the_command_tells(tmp_path: Path):
    envelope = Envelope(
        queue_id=ID, arrival_s=1_700_000_000, reverse_path="ann@a.test",
        recipients=("someone@else.test", "bob@b.test"), client="192.0.2.1", helo="h",
        protocol="SMTP",
    )  # fmt: skip
    disk = PosixDisk(tmp_path)
    role = Local(disk, Slice(hostname="mx.example.org"), journal("local", descriptor=-1))
    near, far = pair(border("qmgr", "local"))
    mess = os.memfd_create("mess")
    os.write(mess, LETTER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(role.serve, far, nursery)
        deliver = Deliver(
            reference=1 << 40, queue_id=ID, index=1, mailbox="Maildir", recipient="bob@b.test",
            user="bob", head=encode_envelope(envelope),
        )  # fmt: skip
        near.post(deliver, mess)
        await near.flush()
        with trio.fail_after(10):
            (item,) = await near.receive()
        nursery.cancel_scope.cancel()
    near.close()
    far.close()
    assert item.message == Outcome(reference=1 << 40, kind="delivered", enhanced="2.0.0", text="")
    (found,) = (tmp_path / "Maildir" / "new").iterdir()
    assert found.name == f"1700000000.Q{ID}R1.mx.example.org"
    message = email.message_from_bytes(found.read_bytes())
    assert message["Return-Path"] == "<ann@a.test>"
    assert b"else.test" not in found.read_bytes()
