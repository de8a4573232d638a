"""remote at its calls: jobs in order, connections used again, hosts one after the other, stops.

Every test that can runs over both carriers.  What hostile next hops do is in
`test_remote_hostile`, what the DNS says in `test_remote_names`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from nameserver import NameServer
from remote_world import (
    LARGE_OCTETS,
    Pair,
    World,
    chunk,
    letter,
    opened,
    queue_id,
    world,
)

from faultinject.network.behaviours import BEHAVIOURS, Behaviour, Drip, Endless
from faultinject.network.next_hop import NextHop
from refmta.patterns.trust_partitioning import ChannelBroken
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles.remote import content
from refmta.roles.remote.conversation import LANES
from refmta.roles.remote.jobs import Job
from refmta.roles.remote.lane import Lane
from refmta.stores.disk import PosixDisk
from refmta.wire import dotstuff
from refmta.wire.messages import Hurry, Relay, Relayed, RelayRecipient

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
X = ("x@example.net",)


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.01)


def kinds(relayed: Relayed) -> list[str]:
    return [each.kind for each in relayed.outcomes]


# -- jobs -----------------------------------------------------------------------------------------


@both
async def test_one_job_after_the_other_goes_over_one_connection(pair: Pair) -> None:
    async with world(pair=pair) as place:
        contents = []
        for number in range(10):
            octets, text = letter(number)
            contents.append(text)
            relayed = await place.relay(number, octets, X)
            assert (relayed.reference, relayed.destination) == (number, "alive")
            assert kinds(relayed) == ["delivered"]
        assert [each.content for each in place.hop.accepted] == contents
        assert place.hop.seen.total() == 1
    assert place.hop.commands[-1] == b"QUIT"


@both
async def test_jobs_at_once_go_over_as_many_connections_as_there_may_be(pair: Pair) -> None:
    async with world(pair=pair) as place:
        contents = []
        for number in range(LANES + 5):
            octets, text = letter(number)
            contents.append(text)
            place.hand(number, octets, X)
        await place.channel.flush()
        answers: list[Relayed] = []
        with trio.fail_after(30):
            while len(answers) < LANES + 5:
                answers += [each.message for each in await place.channel.receive()]  # type: ignore[misc]
        assert {each.reference for each in answers} == set(range(LANES + 5))
        assert {(each.destination, *kinds(each)) for each in answers} == {("alive", "delivered")}
        await place.hop.wait_for(lambda: len(place.hop.accepted) == LANES + 5)
        assert sorted(each.content for each in place.hop.accepted) == sorted(contents)
        assert place.hop.seen.total() == LANES


async def test_an_idle_connection_is_ended_and_made_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with world() as place:
        await place.relay(1, letter(1)[0], X)
        await place.hop.wait_for(lambda: place.hop.open == 0)
        assert place.hop.commands[-1] == b"QUIT"
        assert kinds(await place.relay(2, letter(2)[0], X)) == ["delivered"]
        assert place.hop.seen.total() == 2


async def test_recipients_have_outcomes_of_their_own() -> None:
    async with world() as place:
        some = ("a@example.net", "refused@example.net", "busy@example.net", "b@example.net")
        relayed = await place.relay(1, letter(1)[0], some)
        assert kinds(relayed) == ["delivered", "failed", "deferred", "delivered"]
        first, refused, busy, _ = relayed.outcomes
        assert (refused.enhanced, refused.text) == ("5.1.1", "550 5.1.1 no such user")
        assert (busy.enhanced, busy.text) == ("4.2.1", "450 4.2.1 mailbox is busy")
        assert first.text == "250 2.0.0 taken" and first.host == refused.host == "[127.0.0.1]"
        assert place.traced == [
            ("remote.sent", {"queue_id": queue_id(1), "recipient": some[at], "index": at})
            for at in (0, 3)
        ]


@pytest.mark.parametrize("behaviour", ["honest", "no-pipelining", "octet-by-octet"])
async def test_a_hundred_recipients(behaviour: str) -> None:
    async with world(behaviour) as place:
        some = tuple(f"{'x' * 60}{number}@{'y' * 60}.example" for number in range(100))
        relayed = await place.relay(1, letter(1)[0], some)
        assert kinds(relayed) == ["delivered"] * 100
        await place.hop.wait_for(lambda: bool(place.hop.accepted))
        assert place.hop.accepted[0].recipients == some


async def test_pipelining_takes_three_writes() -> None:
    """EHLO; MAIL, RCPT and DATA; content and its end."""
    async with world() as place:
        received: list[int] = []
        real = trio.SocketStream.receive_some

        async def receive_some(stream: trio.SocketStream, size: int | None = None) -> bytes:
            octets = await real(stream, size)
            received.append(len(octets))
            return octets

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trio.SocketStream, "receive_some", receive_some)
            await place.relay(1, letter(1)[0], X)
            assert len(received) == 3
            await place.relay(2, letter(2)[0], X)
            assert len(received) == 5


# -- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [200, LARGE_OCTETS])
@pytest.mark.parametrize("damage", ["cut", "digest", "other", "empty"])
async def test_a_damaged_chunk_leaves_nothing(size: int, damage: str) -> None:
    octets = letter(1, size)[0]
    broken = {
        "cut": octets[:-10], "empty": b"", "other": letter(2, size)[0],
        "digest": octets.replace(b"Subject: x", b"Subject: y"),
    }[damage]  # fmt: skip
    async with world() as place:
        relayed = await place.relay(1, broken, X)
        assert relayed.damaged and kinds(relayed) == ["deferred"]
        assert relayed.destination == "unknown"
        assert place.hop.seen.total() == 0
        assert kinds(await place.relay(2, letter(2)[0], X)) == ["delivered"]


@pytest.mark.parametrize("size", [9000, LARGE_OCTETS])
@pytest.mark.parametrize(("hops", "kind"), [(100, "delivered"), (101, "failed")])
async def test_the_hop_limit(hops: int, kind: str, size: int) -> None:
    head = b"Received: from a by b; Thu, 1 Jan 1970 00:00:00 +0000\r\n" * hops
    async with world() as place:
        relayed = await place.relay(1, letter(1, size, head=head)[0], X)
        assert kinds(relayed) == [kind]
        if kind == "failed":
            assert relayed.outcomes[0].enhanced == "5.4.6"


@pytest.mark.parametrize("size", [9000, LARGE_OCTETS])
@pytest.mark.parametrize("bare", [b"\r", b"\n", b"\r\r\n", b"\n\r\n"])
@pytest.mark.parametrize("at", ["start", "middle", "block", "end"])
async def test_a_bare_cr_or_lf_is_not_sent(bare: bytes, size: int, at: str) -> None:
    _, text = letter(1, size)
    place_of = {"start": 0, "middle": len(text) // 2, "block": 100_003 - 1, "end": len(text)}[at]
    place_of = min(place_of, len(text))
    if text[place_of - 1 : place_of + 1] == b"\r\n":
        place_of -= 1
    octets = chunk(
        1, text[:place_of] + b"x" + bare + (b"x" if at != "end" else b"") + text[place_of:]
    )
    async with world() as place:
        relayed = await place.relay(1, octets, X)
        assert kinds(relayed) == ["failed"] and relayed.outcomes[0].enhanced == "5.6.0"
        assert place.hop.seen.total() == 0


@pytest.mark.parametrize("size", [10, 99_998, LARGE_OCTETS])
async def test_a_last_line_without_its_end_gets_one(size: int) -> None:
    text = (b"Subject: x\r\n\r\n" + b"." * size)[: size + 14]
    async with world() as place:
        assert kinds(await place.relay(1, chunk(1, text), X)) == ["delivered"]
        assert place.hop.accepted[0].content == text + b"\r\n"
        assert f"SIZE={len(text) + 2}".encode() in place.hop.commands[1]


@pytest.mark.parametrize("size", [200, LARGE_OCTETS])
@pytest.mark.parametrize(
    ("behaviour", "kind"), [("honest", "delivered"), ("no-extensions", "failed")]
)
async def test_eight_bit_content(behaviour: str, kind: str, size: int) -> None:
    octets, text = letter(1, size, head=b"X: \xe9\r\n")
    async with world(behaviour) as place:
        relayed = await place.relay(1, octets, X)
        assert kinds(relayed) == [kind]
        if kind == "failed":
            assert relayed.outcomes[0].enhanced == "5.6.3"
        else:
            assert b"BODY=8BITMIME" in place.hop.commands[1]
            assert place.hop.accepted[0].content == text


@pytest.mark.parametrize("size", [0, 1, 200, 300_000, LARGE_OCTETS])
async def test_pieces_are_what_the_codec_says(size: int) -> None:
    """Of a message, small or large: dot-stuffed, with its end in the last piece."""
    octets, text = letter(1, size)
    handle = opened(octets)
    small = await content.read(PosixDisk(-1), handle, queue_id(1))
    large = await content._large(PosixDisk(-1), handle, queue_id(1))
    os.close(handle)
    expected = dotstuff.encode(text)
    assert (small.octets, large.octets) == (len(text), len(text))
    handle = opened(octets)
    for each in (small, large):
        pieces = list(content.Outgoing(
            reverse_path="", octets=each.octets, eight_bit=False, whole=each.whole,
            disk=PosixDisk(-1), descriptor=handle, letter=each.letter,
        ).pieces())  # fmt: skip
        assert b"".join(pieces) == expected
        assert pieces[-1].endswith(b".\r\n") and len(pieces[-1]) <= content.BLOCK_OCTETS
    os.close(handle)


async def test_what_can_not_be_an_address_is_no_command() -> None:
    async with world() as place:
        relayed = await place.relay(1, letter(1)[0], ("x@example.net>\r\nDATA",))
        assert kinds(relayed) == ["failed"]
        assert place.hop.commands == []


# -- hosts ----------------------------------------------------------------------------------------

ZONE = {
    ("example.net.", "MX"): ["10 one.example.", "20 two.example."],
    ("one.example.", "A"): ["127.0.0.1"],
    ("two.example.", "A"): ["127.0.0.2"],
}


@asynccontextmanager
async def more_hops(place: World, hops: dict[str, NextHop]) -> AsyncIterator[None]:
    """Next hops at other addresses, at the same port."""
    async with trio.open_nursery() as nursery:
        for address, hop in hops.items():
            await nursery.start(hop.serve, place.conversation.config.port, address)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_the_next_host(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """The first host is hostile, the second honest: nothing is delivered twice, what the first one
    did not decide is delivered by the second, and what it may have taken is not sent again."""
    steps = [step for act in BEHAVIOURS[name].acts.values() for step in act]
    trickles = any(isinstance(each, Endless) and each.pause_s for each in steps)
    server = NameServer(ZONE)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        factor = 0.002 if trickles else 1.0
        async with world(
            name, destination="example.net", nameservers=(address,), factor=factor
        ) as place:
            second = NextHop(keep_content=True)
            async with more_hops(place, {"127.0.0.2": second}):
                octets, _ = letter(1)
                with trio.fail_after(2 * 3600):
                    relayed = await place.relay(1, octets, X)
                    await place.hop.wait_for(lambda: place.hop.open == 0)
        nursery.cancel_scope.cancel()
    copies = [*place.hop.accepted, *second.accepted]
    row = BEHAVIOURS[name]
    assert len(copies) <= 1
    assert (kinds(relayed) == ["delivered"]) == bool(copies and copies[0].replied)
    if row.takes:
        assert kinds(relayed) == ["deferred"] and not second.accepted
    if name.rpartition("-at-")[2] in ("greeting", "ehlo", "helo"):
        assert kinds(relayed) == ["delivered"]
    if name in ("close-at-mail", "close-at-rcpt", "close-at-data", "silence-at-rcpt"):
        assert kinds(relayed) == ["delivered"] and second.accepted
    if name in ("close-at-final", "4yz-at-mail", "4yz-at-rcpt", "4yz-at-final", "5yz-at-rcpt"):
        assert not second.accepted


async def test_a_transaction_is_begun_twice_at_most() -> None:
    """Of five addresses that hang up in the envelope, two are tried."""
    addresses = [f"127.0.0.{number}" for number in range(2, 7)]
    server = NameServer({("example.net.", "A"): addresses})
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        async with world(destination="example.net", nameservers=(address,)) as place:
            hops = {each: NextHop(behaviour="close-at-rcpt") for each in addresses}
            async with more_hops(place, hops):
                relayed = await place.relay(1, letter(1)[0], X)
        nursery.cancel_scope.cancel()
    assert kinds(relayed) == ["deferred"]
    assert sum(hop.seen.total() for hop in hops.values()) == 2


async def test_a_connection_that_was_closed_meanwhile_costs_no_attempt() -> None:
    async with world("close-after-final") as place:
        for number in range(5):
            assert kinds(await place.relay(number, letter(number)[0], X)) == ["delivered"]
        assert place.hop.seen.total() == 5
        assert len(place.hop.accepted) == 5


@pytest.mark.parametrize("destination", ["[x", "a b", "x:99999"])
async def test_a_destination_that_is_none(destination: str) -> None:
    async with world() as place:
        place.conversation.destination = destination  # the border admits less than this
        place.destination = destination
        relay = Relay(
            reference=1, queue_id=queue_id(1), destination=destination,
            recipients=(RelayRecipient(index=0, address=X[0]),),
        )  # fmt: skip
        handle = opened(letter(1)[0])
        async with trio.open_nursery() as nursery:
            relayed = await Lane(place.conversation, nursery).relay(Job(relay, handle))
        os.close(handle)
        assert kinds(relayed) == ["deferred"] and relayed.outcomes[0].enhanced == "4.3.5"


@both
async def test_another_destination_on_the_same_channel_ends_it(pair: Pair) -> None:
    async with world(pair=pair) as place:
        await place.relay(1, letter(1)[0], X)
        place.destination = "example.net"
        place.hand(2, letter(2)[0], X)
        with pytest.raises(ChannelBroken):
            await place.relayed()
        await place.ended.wait()


# -- stops ----------------------------------------------------------------------------------------


async def stop(place: World, how: str) -> None:
    if how == "drain":
        place.conversation.drain()
    else:
        place.channel.post(Hurry())
        await place.channel.flush()


@both
@pytest.mark.parametrize("how", ["hurry", "drain"])
@pytest.mark.parametrize("name", ["silence-at-greeting", "silence-at-rcpt", "silence-at-data"])
async def test_hurry_gives_back_what_nobody_was_promised(pair: Pair, how: str, name: str) -> None:
    async with world(name, pair=pair) as place:
        for number in range(3):
            place.hand(number, letter(number)[0], X)
        await place.channel.flush()
        await place.hop.wait_for(lambda: place.hop.open == 3)
        if name != "silence-at-greeting":
            await place.hop.wait_for(lambda: len(place.hop.commands) > 1)
        await stop(place, how)
        answers: list[Relayed] = []
        with trio.fail_after(30):
            while len(answers) < 3:
                answers += [each.message for each in await place.channel.receive()]  # type: ignore[misc]
        assert [kinds(each) for each in answers] == [["returned"]] * 3
        assert {each.enhanced for answer in answers for each in answer.outcomes} == {""}
        # A job that comes later is given back, too.
        assert kinds(await place.relay(4, letter(4)[0], X)) == ["returned"]
        assert place.hop.accepted == []


@pytest.mark.parametrize("how", ["hurry", "drain", "gone"])
async def test_a_message_whose_end_was_sent_is_waited_for(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    """`trickle-at-final` with a reply that does end: after 30 s of virtual time."""
    async with world("honest") as place:
        said = trio.Event()
        real = place.hop.heard

        def heard(line: bytes) -> None:
            real(line)
            if line == b".":
                said.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(NextHop, "heard", lambda _hop, line: heard(line))
            slow = (Drip(b"250-taken\r\n250 ok\r\n", 1.5),)
            row = Behaviour(acts={"final": slow})
            patch.setitem(BEHAVIOURS, "honest", row)  # type: ignore[arg-type]
            place.hand(1, letter(1)[0], X)
            await place.channel.flush()
            await said.wait()
            if how == "gone":
                place.channel.close()
                await place.ended.wait()
            else:
                await stop(place, how)
                assert kinds(await place.relayed()) == ["delivered"]
        assert [fields["recipient"] for _, fields in place.traced] == list(X)


async def test_hurry_during_a_look_up() -> None:
    server = NameServer({("example.net.", "MX"): "silence"})
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        async with world(destination="example.net", nameservers=(address,), dns_s=100.0) as place:
            place.hand(1, letter(1)[0], X)
            await place.channel.flush()
            with trio.fail_after(30):
                while not server.asked:
                    await trio.sleep(0)
                place.channel.post(Hurry())
                assert kinds(await place.relayed()) == ["returned"]
        nursery.cancel_scope.cancel()


@both
@pytest.mark.parametrize("name", ["silence-at-greeting", "silence-at-data", "honest"])
async def test_qmgr_goes(pair: Pair, name: str) -> None:
    """Nothing is left behind (the fixture counts descriptors), and nothing is sent to its end."""
    async with world(name, pair=pair) as place:
        for number in range(5):
            place.hand(number, letter(number, LARGE_OCTETS)[0], X)
        await place.channel.flush()
        await place.hop.wait_for(lambda: bool(place.hop.commands) or name[-8:] == "greeting")
        with trio.fail_after(30):
            await place.close()
        assert len(place.hop.accepted) <= 1


async def test_nobody_listens() -> None:
    async with world(destination="[127.0.0.66]:1") as place:
        relayed = await place.relay(1, letter(1)[0], X)
        assert relayed.destination == "dead"
        (outcome,) = relayed.outcomes
        assert (outcome.kind, outcome.enhanced, outcome.host) == ("deferred", "4.4.1", "")
        assert outcome.text == "[127.0.0.66]:1: no connection: Connection refused"
