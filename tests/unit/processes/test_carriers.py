"""Carriers: which borders each of them carries, what adopting does, and streams."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.patterns.trust_partitioning import BORDERS, Border, Channel, ChannelBroken, border
from refmta.processes import carriers
from refmta.processes.carriers import adopt, carries
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.processes.qmail.ends import QmailChannel
from refmta.wire.frame import LIMITS, OCTETS, FrameError
from refmta.wire.messages import Cleansed, Finish, Kept, Message, Outcome, Submit, Vocabulary

ID = "06H06TY2DFR20W5S"
STREAM = Border(hears=Vocabulary(octets=True), says=Vocabulary(octets=True))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """A first run of trio opens descriptors of its own, so one is run before counting."""
    trio.run(trio.lowlevel.checkpoint)
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def adopted(carrier: str, side: Border) -> tuple[Channel, Channel]:
    one, other = socket_pair()
    return adopt(carrier, one.detach(), side), adopt(carrier, other.detach(), side.turned())


def close(*channels: Channel) -> None:
    for each in channels:
        each.close()


# -- which is which -------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", BORDERS)
def test_qmail_carries_what_it_has_a_format_for_and_refuses_the_rest(pair: tuple[str, str]):
    if carries(*pair):
        near, far = adopted("qmail", BORDERS[pair])
        assert isinstance(near, QmailChannel)
        assert isinstance(far, QmailChannel)
        assert type(near) is not type(far)
        close(near, far)
    elif pair != ("qmgr", "lmtpc"):  # it has qmgr-local's messages, and no format of its own
        one, other = socket_pair()
        with other, pytest.raises(ValueError, match="no format"):
            adopt("qmail", one.detach(), BORDERS[pair])


def test_qmail_carries_five_pairs_and_none_of_them_turned_round():
    assert {pair for pair in BORDERS if carries(*pair)} == carriers.QMAIL
    assert not any(carries(server, client) for client, server in carriers.QMAIL)
    assert not carries("nobody", "at all")


@pytest.mark.parametrize("pair", BORDERS)
def test_a_stream_carries_octets_and_nothing_else(pair: tuple[str, str]):
    side = BORDERS[pair]
    if pair == ("lmtpc", "lmtpd"):
        close(*adopted("stream", side))
    else:
        one, other = socket_pair()
        with other, pytest.raises(ValueError, match="octets and nothing else"):
            adopt("stream", one.detach(), side)


def test_frames_carry_every_border():
    for side in BORDERS.values():
        near, far = adopted("frames", side)
        assert type(near) is SocketChannel
        close(near, far)


def test_an_unknown_carrier_is_refused_and_its_descriptor_closed():
    one, other = socket_pair()
    with other, pytest.raises(ValueError, match="unknown carrier"):
        adopt("pigeon", one.detach(), STREAM)


@pytest.mark.parametrize("carrier", ["frames", "qmail", "stream"])
def test_an_adopted_descriptor_is_nobody_elses(carrier: str):
    side = STREAM if carrier == "stream" else border("qmgr", "clean")
    one, other = socket_pair()
    one.set_inheritable(True)
    descriptor = one.detach()
    with other:
        channel = adopt(carrier, descriptor, side)
        assert not os.get_inheritable(descriptor)
        channel.close()


# -- streams --------------------------------------------------------------------------------------


async def heard(channel: Channel) -> bytes:
    """All octets until the end."""
    found = b""
    with pytest.raises(ChannelBroken, match="end of stream"):
        while True:
            for each in await channel.receive():
                assert each.message is None
                found += each.octets
    return found


@given(st.lists(st.binary(max_size=50), max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_stream_changes_no_octet(pieces: list[bytes]):
    async def speak() -> bytes:
        near, far = adopted("stream", STREAM)
        for each in pieces:
            near.post_octets(each)
        await near.flush()
        near.close()
        found = await heard(far)
        far.close()
        return found

    assert trio.run(speak) == b"".join(pieces)


async def test_a_large_stream_passes_a_slow_reader():
    near, far = adopted("stream", STREAM)
    content = os.urandom(1 << 20)
    async with trio.open_nursery() as nursery:

        async def talk() -> None:
            for start in range(0, len(content), LIMITS[OCTETS]):
                near.post_octets(content[start : start + LIMITS[OCTETS]])
                await near.flush()
            near.close()

        nursery.start_soon(talk)
        await trio.testing.wait_all_tasks_blocked()
        assert await heard(far) == content
    far.close()


async def test_a_stream_carries_no_message_and_no_descriptor():
    near, far = adopted("stream", STREAM)
    with pytest.raises(ValueError, match="not allowed"):
        near.post(Kept(queue_id=ID))
    with pytest.raises(FrameError):
        near.post_octets(bytes(LIMITS[OCTETS] + 1))
    close(near, far)
    one, other = socket_pair()
    channel = adopt("stream", one.detach(), STREAM)
    with other, open("/dev/null", "rb") as handed:
        socket.send_fds(other, [b"x"], [handed.fileno()])
        with pytest.raises(ChannelBroken, match="descriptor"):
            await channel.receive()
    channel.close()


# -- qmail's, beyond the rules of `subjects.qmail` ------------------------------------------------

SUBMIT = Submit(
    reverse_path="", recipients=("a@example.org",), client="::1", helo="h", protocol="local"
)


@pytest.mark.parametrize("pair", sorted(carriers.QMAIL))
def test_what_an_end_may_not_say_is_its_own_mistake(pair: tuple[str, str]):
    side = border(*pair)
    near, far = adopted("qmail", side)
    for end, says in ((near, side.says), (far, side.hears)):
        for wrong in (Kept(queue_id=ID), Cleansed(reference=1, done=True), SUBMIT):
            if type(wrong) not in says.types:
                with pytest.raises(ValueError, match="not allowed"):
                    end.post(wrong)
        with pytest.raises(ValueError, match=r"not allowed|without a message"):
            end.post_octets(b"x")
    close(near, far)


def test_an_answer_to_nothing_is_a_mistake_too():
    for pair, answer in (
        (("qmgr", "clean"), Cleansed(reference=1, done=True)),
        (("qmgr", "local"), Outcome(reference=1, kind="delivered", enhanced="", text="")),
        (("smtpd", "enqueue"), Finish(octets=0)),
    ):
        near, far = adopted("qmail", border(*pair))
        with pytest.raises(ValueError, match=r"to nothing|no delivery|out of order"):
            (near if pair == ("smtpd", "enqueue") else far).post(answer)
        close(near, far)


async def test_content_that_is_lost_on_its_way_in_is_not_finished():
    near, far = adopted("qmail", border("smtpd", "enqueue"))
    near.post(SUBMIT)
    near.post_octets(b"four")
    with pytest.raises(ValueError, match="out of order"):
        near.post(Finish(octets=5))
    close(near, far)


@pytest.mark.parametrize("size", [0, 1, 700_000])
async def test_content_arrives_in_pieces_of_any_size(size: int):
    near, far = adopted("qmail", border("bounce", "enqueue"))
    content = os.urandom(size)
    found: list[Message | bytes | None] = []
    async with trio.open_nursery() as nursery:

        async def talk() -> None:
            near.post(SUBMIT)
            await near.flush()
            for start in range(0, size, LIMITS[OCTETS]):
                near.post_octets(content[start : start + LIMITS[OCTETS]])
                await near.flush()
            near.close()

        nursery.start_soon(talk)
        with pytest.raises(ChannelBroken):
            while True:
                found += [item.message or item.octets for item in await far.receive()]
    assert found[0] == SUBMIT
    assert b"".join(each for each in found if isinstance(each, bytes)) == content
    far.close()


@given(st.binary(max_size=200), st.sampled_from(sorted(carriers.QMAIL)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_octets_are_messages_or_the_end(octets: bytes, pair: tuple[str, str], serves: bool):
    async def feed() -> None:
        side = border(*pair).turned() if serves else border(*pair)
        one, other = socket_pair()
        channel = adopt("qmail", one.detach(), side)
        with other:
            other.sendall(octets)
            other.shutdown(socket.SHUT_WR)
            with pytest.raises(ChannelBroken):
                while True:
                    for each in await channel.receive():
                        assert each.message is None or type(each.message) in side.hears.types
        channel.close()

    trio.run(feed)
