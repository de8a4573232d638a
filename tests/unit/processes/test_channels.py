"""Both carriers keep the same promises; the one that octets cross survives whatever they are."""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.patterns.trust_partitioning import Border, Channel, ChannelBroken, border
from refmta.processes.channels import (
    LocalChannel,
    SocketChannel,
    local_channels,
    socket_channels,
    socket_pair,
)
from refmta.wire.frame import LIMITS, MAX_DESCRIPTORS, MESSAGE, OCTETS, FrameError
from refmta.wire.messages import (
    Abandon,
    Deliver,
    Drain,
    Finish,
    Kept,
    Message,
    Submit,
    Vocabulary,
    encode_message,
)

Pair = Callable[[Border], tuple[Channel, Channel]]
both = pytest.mark.parametrize("pair", [socket_channels, local_channels])

SUBMISSION = border("smtpd", "enqueue")
HANDING = border("qmgr", "local")
QUEUE_ID = "06H06TY2DFR20W5S"
KEPT = Kept(queue_id=QUEUE_ID)
SUBMIT = Submit(
    reverse_path="", recipients=("a@example.org",), client="127.0.0.1", helo="h", protocol="ESMTP"
)


def deliver(reference: int) -> Deliver:
    return Deliver(reference=reference, queue_id=QUEUE_ID, index=0, mailbox="M", recipient="a@b")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """A first run of trio opens descriptors of its own, so one is run before counting."""
    trio.run(trio.lowlevel.checkpoint)
    before = open_descriptors()
    yield
    assert open_descriptors() == before


async def drained(channel: Channel) -> list[Message | bytes]:
    """Everything until the end of the stream."""
    found: list[Message | bytes] = []
    with pytest.raises(ChannelBroken):
        while True:
            for each in await channel.receive():
                found.append(each.octets if each.message is None else each.message)
    channel.close()
    return found


# -- what both do ---------------------------------------------------------------------------------


@both
async def test_messages_and_octets_arrive_in_the_order_in_which_they_were_posted(pair: Pair):
    here, there = pair(SUBMISSION)
    said: list[Message | bytes] = []
    for number in range(300):
        said += [SUBMIT, bytes([number % 256]) * number, Finish(octets=number), Abandon()]
    async with trio.open_nursery() as nursery:
        found: list[Message | bytes] = []

        async def hear() -> None:
            found.extend(await drained(there))

        nursery.start_soon(hear)
        for each in said:
            here.post_octets(each) if isinstance(each, bytes) else here.post(each)
            if isinstance(each, Abandon):
                await here.flush()
        here.close()
    assert found == said


@both
async def test_it_works_both_ways(pair: Pair):
    here, there = pair(SUBMISSION)
    here.post(SUBMIT)
    await here.flush()
    assert [each.message for each in await there.receive()] == [SUBMIT]
    there.post(KEPT)
    await there.flush()
    assert [each.message for each in await here.receive()] == [KEPT]
    here.close()
    there.close()


@both
async def test_one_receive_brings_all_that_has_arrived(pair: Pair):
    here, there = pair(SUBMISSION)
    for number in range(20):
        here.post(Finish(octets=number))
    await here.flush()
    assert len(await there.receive()) == 20
    here.close()
    there.close()


@both
async def test_nothing_is_said_before_a_flush(pair: Pair):
    here, there = pair(SUBMISSION)
    here.post(SUBMIT)
    with trio.move_on_after(0.01) as scope:
        await there.receive()
    assert scope.cancelled_caught
    await here.flush()
    assert len(await there.receive()) == 1
    here.close()
    there.close()


@both
async def test_each_descriptor_arrives_with_its_message_and_is_the_receivers(pair: Pair):
    """More of them than one write may carry, in groups of all sizes."""
    here, there = pair(HANDING)
    inodes = []
    for number in range(150):
        descriptor = os.memfd_create(str(number))
        inodes.append(os.fstat(descriptor).st_ino)
        here.post(deliver(number), descriptor)
        if number % 7 == 0:
            await here.flush()
    await here.flush()
    found = []
    while len(found) < 150:
        for each in await there.receive():
            (descriptor,) = each.descriptors
            assert not os.get_inheritable(descriptor)
            found.append((each.message.reference, os.fstat(descriptor).st_ino))
            os.close(descriptor)
    assert found == list(enumerate(inodes))
    here.close()
    there.close()


@both
async def test_what_was_flushed_before_a_close_still_arrives(pair: Pair):
    here, there = pair(SUBMISSION)
    here.post(SUBMIT)
    await here.flush()
    here.close()
    assert await drained(there) == [SUBMIT]


@both
async def test_a_receive_that_waits_ends_when_either_end_is_closed(pair: Pair):
    for close_here in (True, False):
        here, there = pair(SUBMISSION)
        async with trio.open_nursery() as nursery:

            async def hear(channel: Channel = there) -> None:
                with pytest.raises(ChannelBroken):
                    await channel.receive()

            nursery.start_soon(hear)
            await trio.testing.wait_all_tasks_blocked()
            (there if close_here else here).close()
        here.close()
        there.close()
        here.close()  # again: no harm


@both
async def test_a_flush_to_a_peer_that_is_gone_breaks_and_closes_what_it_carried(pair: Pair):
    here, there = pair(HANDING)
    there.close()
    before = open_descriptors()
    here.post(deliver(1), os.memfd_create("x"))
    with pytest.raises(ChannelBroken):
        await here.flush()
    assert open_descriptors() == before
    here.close()


@both
async def test_closing_closes_what_was_not_sent_and_what_was_not_read(pair: Pair):
    here, there = pair(HANDING)
    here.post(deliver(1), os.memfd_create("read by nobody"))
    await here.flush()
    here.post(deliver(2), os.memfd_create("not sent"))
    here.close()
    there.close()


@both
async def test_a_slow_reader_holds_up_the_writer_and_loses_nothing(pair: Pair):
    here, there = pair(SUBMISSION)
    block = bytes(range(256)) * 1024
    async with trio.open_nursery() as nursery:

        async def talk() -> None:
            for _ in range(30):
                here.post_octets(block)
                await here.flush()
            here.close()

        nursery.start_soon(talk)
        await trio.testing.wait_all_tasks_blocked()
        found = await drained(there)
    assert found == [block] * 30


@both
async def test_two_tasks_that_flush_at_once_do_not_mix_their_frames(pair: Pair):
    here, there = pair(SUBMISSION)
    async with trio.open_nursery() as outer:
        found: list[Message | bytes] = []

        async def hear() -> None:
            found.extend(await drained(there))

        outer.start_soon(hear)
        async with trio.open_nursery() as nursery:

            async def talk(letter: bytes) -> None:
                for _ in range(20):
                    here.post_octets(letter * 100_000)
                    await here.flush()

            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(talk, letter)
        here.close()
    assert sorted(found) == sorted([each * 100_000 for each in (b"a", b"b", b"c")] * 20)


@both
async def test_what_the_border_forbids_does_not_get_through(pair: Pair):
    """In one process the speaker is told; over a socket the hearer ends the channel."""
    for speak in (
        lambda channel: channel.post(Drain()),
        lambda channel: channel.post(KEPT),
        lambda channel: channel.post_octets(b"octets"),
        lambda channel: channel.post(deliver(1)),
    ):
        here, there = pair(HANDING)
        if isinstance(here, LocalChannel):
            with pytest.raises(ValueError):
                speak(here)
        else:
            speak(here)
            await here.flush()
            with pytest.raises(ChannelBroken):
                await there.receive()
        here.close()
        there.close()


@both
async def test_octets_beyond_the_cap_are_the_speakers_mistake(pair: Pair):
    here, there = pair(SUBMISSION)
    with pytest.raises(FrameError):
        here.post_octets(bytes(LIMITS[OCTETS] + 1))
    here.close()
    there.close()


# -- hostile peers --------------------------------------------------------------------------------

_HEADER = struct.Struct("!BBI")


def frame(payload: bytes, kind: int = MESSAGE, descriptors: int = 0) -> bytes:
    return _HEADER.pack(kind, descriptors, len(payload)) + payload


DELIVER = encode_message(deliver(1))
#: what it is: (octets, descriptors sent along, what the hearer says)
HOSTILE = {
    "unknown kind": (frame(b"", kind=3), 0, "unknown kind"),
    "kind 0": (frame(b"", kind=0), 0, "unknown kind"),
    "oversized header": (_HEADER.pack(MESSAGE, 0, LIMITS[MESSAGE] + 1), 0, "too long"),
    "largest length": (_HEADER.pack(MESSAGE, 0, 2**32 - 1), 0, "too long"),
    "too many descriptors announced": (
        _HEADER.pack(MESSAGE, MAX_DESCRIPTORS + 1, 0), 0, "too many descriptors",
    ),
    "not in the vocabulary": (frame(encode_message(Drain())), 0, "not allowed"),
    "other direction": (frame(encode_message(KEPT)), 0, "not allowed"),
    "no message at all": (frame(b"\xc1"), 0, "not allowed"),
    "an empty message": (frame(b""), 0, "not allowed"),
    "a message and more": (frame(DELIVER + b"\0", descriptors=1), 1, "not allowed"),
    "a message cut short": (frame(DELIVER[:-1], descriptors=1), 1, "not allowed"),
    "nested deeply": (frame(b"\x91" * 100_000), 0, "not allowed"),
    "a number out of bounds": (
        frame(DELIVER.replace(b"\x01", b"\xff", 1), descriptors=1), 1, "not allowed",
    ),
    "a text that is no UTF-8": (frame(DELIVER.replace(b"a@b", b"a\xff\xfe"), descriptors=1), 1,
                                "not allowed"),
    "octets where none are allowed": (frame(b"x", kind=OCTETS), 0, "octets are not allowed"),
    "octets with a descriptor": (frame(b"x", kind=OCTETS, descriptors=1), 1, "octets are not"),
    "descriptor not announced": (frame(DELIVER), 1, "wrong number of descriptors"),
    "descriptor announced, not sent": (frame(DELIVER, descriptors=1), 0, "wrong number"),
    "two announced where one belongs": (frame(DELIVER, descriptors=2), 2, "wrong number"),
    "more descriptors than a frame may bring": (frame(DELIVER, descriptors=1), 65, "more desc"),
    "as many as the kernel lets through": (frame(DELIVER, descriptors=1), 253, "more desc"),
    "a good one, then a bad one": (
        frame(DELIVER, descriptors=1) + frame(b"", kind=9), 1, "unknown kind",
    ),
    "the end": (b"", 0, "end of stream"),
    "the end within a header": (frame(DELIVER)[:4], 0, "end of stream"),
    "the end within a payload": (frame(DELIVER, descriptors=1)[:-1], 1, "end of stream"),
}  # fmt: skip


def send_raw(peer: socket.socket, octets: bytes, descriptors: int) -> None:
    """Octets with descriptors of our own, which are closed here."""
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(descriptors)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", opened))] if opened else []
    try:
        peer.sendmsg([octets], rights)
    finally:
        for each in opened:
            os.close(each)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_peer_ends_the_channel_and_nothing_else(name: str):
    octets, descriptors, reason = HOSTILE[name]
    near, peer = socket_pair()
    channel = SocketChannel(near, HANDING.turned())
    with peer:
        if octets:
            send_raw(peer, octets, descriptors)
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(ChannelBroken, match=reason):
            while True:
                await channel.receive()
        with pytest.raises(ChannelBroken):
            await channel.receive()
        with pytest.raises(ChannelBroken):
            channel.post(KEPT)
            await channel.flush()
    channel.close()


async def test_a_flood_of_descriptors_that_no_frame_announces_ends_the_channel():
    near, peer = socket_pair()
    channel = SocketChannel(near, HANDING.turned())
    with peer:
        header = iter(frame(DELIVER, descriptors=1)[:5])
        with pytest.raises(ChannelBroken, match="more descriptors"):
            for octet in header:
                send_raw(peer, bytes((octet,)), 60)
                with trio.move_on_after(0.01):
                    await channel.receive()
    channel.close()


async def test_a_peer_that_announces_much_and_sends_little_makes_us_hold_little():
    near, peer = socket_pair()
    channel = SocketChannel(near, SUBMISSION.turned())
    with peer:
        peer.sendall(_HEADER.pack(MESSAGE, 0, LIMITS[MESSAGE]) + bytes(1000))
        with trio.move_on_after(0.01):
            await channel.receive()
        assert channel._assembler.pending == 1006
    channel.close()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(frame, st.binary(max_size=30), st.integers(0, 3), st.integers(0, 2)),
            st.just(frame(encode_message(SUBMIT))),
            st.just(frame(b"content", kind=OCTETS)),
        ),
        max_size=6,
    ),
    st.integers(1, 50),
)
def test_any_octets_in_any_pieces_are_messages_or_the_end(parts: list[bytes], largest: int):
    async def feed() -> None:
        near, peer = socket_pair()
        channel = SocketChannel(near, SUBMISSION.turned())
        octets = b"".join(parts)
        # A socket holds some 270 pieces, however small, before it blocks; nobody reads yet.
        size = max(largest, len(octets) // 200 + 1)
        with peer:
            for start in range(0, len(octets), size):
                peer.sendall(octets[start : start + size])
            peer.shutdown(socket.SHUT_WR)
            for each in await drained(channel):
                assert isinstance(each, bytes) or type(each) in SUBMISSION.says.types

    before = open_descriptors()
    trio.run(feed)
    assert open_descriptors() == before


def test_a_vocabulary_without_words_hears_nothing():
    with pytest.raises(FrameError):
        Vocabulary().decode(encode_message(KEPT))
