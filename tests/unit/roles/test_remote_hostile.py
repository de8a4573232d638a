"""remote against every behaviour of the hostile next hop, over real sockets.

Time is virtual (trio's autojump clock), so that the RFC's timeouts are waited for in full.  The
next hop keeps its own books; what remote reports is held against them and against what the table
allows.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from remote_world import LARGE_OCTETS, World, letter, world

from faultinject.network.behaviours import BEHAVIOURS, Endless
from refmta.wire.messages import Relayed

#: Behaviours that say an octet now and then: with shorter timeouts, or they take too many jumps.
TRICKLES = {
    name
    for name, row in BEHAVIOURS.items()
    if any(isinstance(s, Endless) and s.pause_s for act in row.acts.values() for s in act)
}
RECIPIENTS = ("x@example.net", "y@example.net", "z@example.net")
#: However hostile: RFC 5321's longest waits, one after the other, in seconds.
BOUND_S = 3600


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.01)


def check(name: str, place: World, relayed: Relayed, content: bytes) -> None:
    """What was reported, against the books and the table."""
    row = BEHAVIOURS[name]
    kinds = {
        recipient: each.kind for recipient, each in zip(RECIPIENTS, relayed.outcomes, strict=True)
    }
    assert [each.index for each in relayed.outcomes] == [0, 1, 2]
    assert set(kinds.values()) <= row.allows, relayed
    taken = {each for message in place.hop.accepted for each in message.recipients}
    if not row.takes:
        assert {each for each, kind in kinds.items() if kind == "delivered"} == taken
    for message in place.hop.accepted:
        assert message.content == content
        assert message.replied is not row.takes
    sent = [fields["recipient"] for action, fields in place.traced if action == "remote.sent"]
    assert sent == [each for each, kind in kinds.items() if kind == "delivered"]
    for each in relayed.outcomes:
        assert each.text.isascii() and each.text.isprintable() and each.text
        classes = {"delivered": "2", "deferred": "4", "failed": "5"}
        assert each.enhanced[0] == classes[each.kind]
    assert place.hop.overfed == 0


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_every_behaviour(name: str, autojump_clock: trio.testing.MockClock) -> None:
    factor = 0.002 if name in TRICKLES else 1.0
    async with world(name, factor=factor) as place:
        octets, content = letter(1)
        with trio.fail_after(BOUND_S):
            relayed = await place.relay(1, octets, RECIPIENTS)
            await place.hop.wait_for(lambda: place.hop.open == 0)  # an idle one is ended, too
        check(name, place, relayed, content)
        # The same process, the same destination: better luck, and all that failed is delivered.
        place.hop.become("honest")
        place.hop.accepted.clear()
        octets, content = letter(2)
        with trio.fail_after(BOUND_S):
            relayed = await place.relay(2, octets, ("next@example.net",))
        assert [each.kind for each in relayed.outcomes] == ["delivered"]
        assert place.hop.accepted[-1].content == content


LATE = [
    name
    for name in BEHAVIOURS
    if "final" in name or "data" in name or name in ("honest", "no-pipelining", "octet-by-octet")
]


@pytest.mark.parametrize("name", LATE)
async def test_a_large_message(name: str, autojump_clock: trio.testing.MockClock) -> None:
    factor = 0.002 if name in TRICKLES else 1.0
    async with world(name, factor=factor) as place:
        octets, content = letter(1, LARGE_OCTETS)
        with trio.fail_after(BOUND_S):
            relayed = await place.relay(1, octets, RECIPIENTS)
            await place.hop.wait_for(lambda: place.hop.open == 0)
        check(name, place, relayed, content)


DEAF = [name for name in BEHAVIOURS if "deaf" in name]


@pytest.mark.parametrize("name", [*DEAF, "5yz-at-final", "close-at-data"])
async def test_a_message_that_fills_all_buffers(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The write is blocked in the middle of the content; what the server says then is heard."""
    async with world(name) as place:
        octets, content = letter(1, 24 << 20)
        with trio.fail_after(BOUND_S):
            relayed = await place.relay(1, octets, RECIPIENTS)
            await place.hop.wait_for(lambda: place.hop.open == 0)
        check(name, place, relayed, content)
        if name[:3] in ("452", "552"):
            assert relayed.outcomes[0].text.startswith(name[:3])


@pytest.mark.parametrize("name", [each for each in BEHAVIOURS if each.endswith("-at-rset")])
async def test_a_reset_that_fails(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """The first message leaves an envelope behind; the second one needs RSET, and gets another
    connection where that fails."""
    async with world(name) as place:
        relayed = await place.relay(1, letter(1)[0], ("refused@example.net",))
        assert [each.kind for each in relayed.outcomes] == ["failed"]
        with trio.fail_after(BOUND_S):
            relayed = await place.relay(2, letter(2)[0], ("x@example.net",))
        assert [each.kind for each in relayed.outcomes] == ["delivered"]
        assert place.hop.seen[name] == 2
        assert len(place.hop.accepted) == 1


@pytest.mark.parametrize("seed", range(5))
async def test_mixed(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    """Thirty messages, a behaviour for each connection: every "delivered" is in the books."""
    among = tuple(each for each in BEHAVIOURS if each not in TRICKLES)
    async with world("mixed", seed=seed, among=among) as place:
        for number in range(30):
            octets, content = letter(number)
            with trio.fail_after(BOUND_S):
                relayed = await place.relay(number, octets, RECIPIENTS)
            replied = [each for each in place.hop.accepted if each.replied]
            for index, each in enumerate(relayed.outcomes):
                found = [
                    message
                    for message in replied
                    if message.content == content and RECIPIENTS[index] in message.recipients
                ]
                assert len(found) == (each.kind == "delivered")
