"""Where mail goes by the DNS: real questions to a small name server, real connections after them.

Every host is a loopback address (127.0.0.0/8); those where nobody listens refuse at once.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from nameserver import NameServer, Zone
from remote_world import letter, world

from refmta.protocol import mx
from refmta.protocol.relaying import parse_hop
from refmta.roles.remote.names import Names, Route
from refmta.wire.messages import RelayOutcome

HERE = "127.0.0.1"  # where the next hop listens
GONE = "127.0.0.66"  # where nobody does

ZONE: dict[tuple[str, str], list[str] | str] = {
    ("here.example.", "A"): [HERE],
    ("gone.example.", "A"): [GONE],
    ("six.example.", "AAAA"): ["::1"],
    ("mx.us.example.", "A"): ["192.0.2.99"],
    ("alias.example.", "CNAME"): ["here.example."],
    ("loop.example.", "CNAME"): ["loop.example."],
    ("dangling.example.", "CNAME"): ["nowhere.example."],
    ("fails.example.", "A"): "SERVFAIL",
    ("fails.example.", "AAAA"): "SERVFAIL",
    ("half.example.", "A"): [HERE],
    ("half.example.", "AAAA"): "SERVFAIL",
    ("mute.example.", "A"): "silence",
    ("mute.example.", "AAAA"): "silence",
    ("text.example.", "TXT"): ["x"],
}

# (what the domain x.example has, kind, enhanced code)
DELIVERED, NOBODY = ("delivered", "2.0.0"), ("deferred", "4.4.1")
LATER, NO_DOMAIN = ("deferred", "4.4.3"), ("failed", "5.1.2")
CASES: dict[str, tuple[Zone, tuple[str, str]]] = {
    "one exchanger": ({("x.example.", "MX"): ["10 here.example."]}, DELIVERED),
    "the better one is dead": (
        {("x.example.", "MX"): ["20 here.example.", "10 gone.example."]}, DELIVERED
    ),
    "equals, some dead": (
        {("x.example.", "MX"): ["10 here.example.", "10 gone.example.", "10 nowhere.example."]},
        DELIVERED,
    ),
    "all are dead": ({("x.example.", "MX"): ["10 gone.example."]}, NOBODY),
    "null MX": ({("x.example.", "MX"): ["0 ."], ("x.example.", "A"): [HERE]}, ("failed", "5.1.10")),
    "null MX beside another": ({("x.example.", "MX"): ["0 .", "10 here.example."]}, DELIVERED),
    "no such domain": ({}, NO_DOMAIN),
    "no MX, an address": ({("x.example.", "A"): [HERE]}, DELIVERED),
    "no MX, no address": ({("x.example.", "TXT"): ["x"]}, NO_DOMAIN),
    "the MX look-up fails, an address": (
        {("x.example.", "MX"): "SERVFAIL", ("x.example.", "A"): [HERE]}, LATER
    ),
    "the MX look-up is refused": ({("x.example.", "MX"): "REFUSED"}, LATER),
    "silence": ({("x.example.", "MX"): "silence"}, LATER),
    "garbage": ({("x.example.", "MX"): "garbage"}, LATER),
    "truncated": (
        {("x.example.", "MX"): "truncated", ("x.example.", "MX by TCP"): ["1 here.example."]},
        DELIVERED,
    ),
    "an alias": (
        {("x.example.", "CNAME"): ["y.example."], ("y.example.", "MX"): ["1 here.example."]},
        DELIVERED,
    ),
    "an alias of a host": ({("x.example.", "CNAME"): ["here.example."]}, DELIVERED),
    "an alias of nothing": ({("x.example.", "CNAME"): ["nowhere.example."]}, NO_DOMAIN),
    "an alias of itself": ({("x.example.", "CNAME"): ["x.example."]}, LATER),
    "an exchanger that is an alias": ({("x.example.", "MX"): ["1 alias.example."]}, DELIVERED),
    "exchangers without addresses": (
        {
            ("x.example.", "MX"): ["1 nowhere.example.", "2 text.example.", "3 dangling.example."],
            ("x.example.", "A"): [HERE],
        },
        ("failed", "5.4.4"),
    ),
    "an exchanger whose look-up fails": ({("x.example.", "MX"): ["1 fails.example."]}, LATER),
    "an exchanger whose name server is mute": ({("x.example.", "MX"): ["1 mute.example."]}, LATER),
    "one fails, the next one answers": (
        {("x.example.", "MX"): ["1 fails.example.", "2 here.example."]}, DELIVERED
    ),
    "one family fails": ({("x.example.", "MX"): ["1 half.example."]}, DELIVERED),
    "an exchanger named like an address": (
        {("x.example.", "MX"): ["1 127.0.0.1."]}, ("failed", "5.4.4")
    ),
    "ourselves by name": (
        {("x.example.", "MX"): ["10 mx.example.org.", "20 here.example."]}, ("failed", "5.4.6")
    ),
    "ourselves by address": (
        {("x.example.", "MX"): ["10 mx.us.example.", "20 here.example."]}, ("failed", "5.4.6")
    ),
    "ourselves behind one that is dead": (
        {("x.example.", "MX"): ["10 gone.example.", "20 mx.us.example.", "30 here.example."]},
        NOBODY,
    ),
    "ourselves beside one that lives": (
        {("x.example.", "MX"): ["10 here.example.", "10 mx.us.example."]}, ("failed", "5.4.6")
    ),
    "ourselves behind one that lives": (
        {("x.example.", "MX"): ["10 here.example.", "20 mx.us.example."]}, DELIVERED
    ),
    "ourselves without MX": ({("x.example.", "A"): ["192.0.2.99"]}, ("failed", "5.4.6")),
    "the unspecified address": ({("x.example.", "A"): ["0.0.0.0"]}, ("failed", "5.4.6")),
    "many exchangers": (
        {("x.example.", "MX"): [f"{n} nowhere.example." for n in range(300)]}, ("failed", "5.4.4")
    ),
}  # fmt: skip


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.01)


async def outcome(zone: Zone, destination: str = "x.example") -> tuple[RelayOutcome, str]:
    """What becomes of one recipient, and the finding; the next hop's port is ours, too."""
    server = NameServer({**ZONE, **zone})
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        changes = {"nameservers": (address,), "own": ("192.0.2.99", "2001:db8::99")}
        async with world("honest", destination=destination, **changes) as place:
            # Loops are looked for at our own ports, where the next hop listens in this test;
            # 127.0.0.1 itself, which is always us, is let through by its own row below.
            place.conversation._own = mx.Own(
                names=frozenset({"mx.example.org"}),
                addresses=frozenset({"192.0.2.99", "2001:db8::99"}),
                ports=frozenset({place.conversation.config.port}),
            )
            with trio.fail_after(3600):
                relayed = await place.relay(1, letter(1)[0], ("u@x.example",))
        nursery.cancel_scope.cancel()
    return relayed.outcomes[0], relayed.destination


@pytest.mark.parametrize("case", CASES)
async def test_a_domain(
    case: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx, "is_own", lambda address, own: address in (*own.addresses, "0.0.0.0"))
    monkeypatch.setattr(trio.to_thread, "run_sync", None)  # no thread, neither for sockets
    zone, expected = CASES[case]
    result, destination = await outcome(zone)
    assert (result.kind, result.enhanced) == expected, result
    assert result.text.isascii() and result.text.isprintable() and result.text
    asked = {"delivered": "alive", "deferred": "dead", "failed": "unknown"}
    assert destination == asked[result.kind]


@pytest.mark.parametrize("destination", ["here.example:{port}", "[here.example]:{port}"])
async def test_a_destination_with_a_port(
    destination: str, autojump_clock: trio.testing.MockClock
) -> None:
    server = NameServer({**ZONE, ("here.example.", "MX"): ["1 here.example."]})
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        async with world("honest", nameservers=(address,)) as place:
            port = place.destination.rpartition(":")[2]
            place.destination = destination.format(port=port)
            relayed = await place.relay(1, letter(1)[0], ("u@x.example",))
        nursery.cancel_scope.cancel()
    assert relayed.outcomes[0].kind == "delivered"
    brackets = destination.startswith("[")
    assert (("here.example.", "MX") in server.asked) is not brackets


async def test_a_dead_name_server_is_asked_for_a_bounded_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = Names(("127.0.0.66:1",), patience_s=8.0)
    with trio.fail_after(60):
        assert isinstance(await names.exchangers("x.example"), mx.Trouble)
        assert isinstance(await names.addresses("x.example"), mx.Trouble)


@pytest.mark.parametrize("text", ["x", "192.0.2.1:x", "192.0.2.1:70000", "[::1", ""])
async def test_what_is_no_name_server(text: str) -> None:
    with pytest.raises(ValueError):
        Names((text,))


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.1:5353", "::1", "[::1]", "[::1]:5353"])
async def test_what_is_a_name_server(text: str) -> None:
    Names((text,))


@pytest.mark.parametrize("literal", ["[127.0.0.1]", "[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]"])
async def test_a_literal_asks_nobody(literal: str) -> None:
    route = Route(parse_hop(literal), 2525, Names(("127.0.0.66:1",)), mx.Own())
    first = await route.candidate(0)
    assert first is not None and first.address in ("127.0.0.1", "::1")
    assert await route.candidate(1) is None


async def test_at_most_five_addresses_level_by_level(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The second level is resolved only when the first one is used up."""
    zone: dict[tuple[str, str], list[str]] = {
        ("x.example.", "MX"): ["1 a.example.", "2 b.example."],
        ("a.example.", "A"): ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        ("b.example.", "A"): ["192.0.2.4", "192.0.2.5", "192.0.2.6"],
    }
    server = NameServer(zone)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        route = Route(parse_hop("x.example"), 25, Names((address,)), mx.Own())
        first = [await route.candidate(number) for number in range(3)]
        assert ("b.example.", "A") not in server.asked
        more = [await route.candidate(number) for number in range(3, 7)]
        assert {each.host for each in first if each} == {"a.example"}
        assert [each.host if each else "" for each in more] == ["b.example", "b.example", "", ""]
        nursery.cancel_scope.cancel()
