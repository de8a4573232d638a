"""Relaying: networks, next hops and literals as tables of what is read, and what is refused."""

from __future__ import annotations

import ipaddress
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol.relaying import (
    Relaying,
    destination,
    literal,
    may_relay,
    parse_hop,
    parse_network,
    spell,
)
from refmta.wire.address import is_address_literal
from refmta.wire.messages import Owner

HOPS = {
    "example.net": "example.net",
    "Example.NET:25": "example.net:25",
    "[Relay.example]": "[relay.example]",
    "[relay.example]:587": "[relay.example]:587",
    "[192.0.2.7]": "[192.0.2.7]",
    "[192.0.2.7]:2525": "[192.0.2.7]:2525",
    "[192.000.02.007]:65535": "[192.0.2.7]:65535",
    "[::1]:25": "[IPv6:::1]:25",
    "[IPv6:::1]": "[IPv6:::1]",
    "[ipv6:0:0::1]:9": "[IPv6:::1]:9",
    "[2001:DB8::a]": "[IPv6:2001:db8::a]",
    "[::ffff:192.0.2.7]:1": "[192.0.2.7]:1",
    "example.net:00025": "example.net:25",
}


@pytest.mark.parametrize("text", HOPS)
def test_a_hop_has_one_spelling_and_it_means_itself(text: str) -> None:
    hop = parse_hop(text)
    assert str(hop) == HOPS[text]
    assert parse_hop(str(hop)) == hop
    assert hop.mx == (not text.startswith("["))
    assert msgspec.convert(str(hop), Owner) == str(hop)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", ":25", "[]:25", "example.net:", "[a.example]:", "[a.example]25", "a b",
        "-a.example",
        "a_b.example", "a.example.", "a.example:0", "a.example:65536", "a.example:99999",
        "a.example:123456", "a.example:-1", "a.example:x", "[a.example]:25\n", "a.example\n",
        "[[a.example]]", "[a.example", "a.example]", "192.0.2.1", "192.0.2.1:25", "1", "::1",
        "[::1", "[::g]", "[1:2]", "[x400:c=us]", "[fe80::1%lo]", "[256.0.0.1]", "[1.2.3]",
        "x" * 64 + ".example", "é.example", "[a@b]", "a/b",
    ],
)  # fmt: skip
def test_what_is_no_hop_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_hop(text)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.0/8", "127.0.0.0/8"), ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"), ("::1", "::1/128"), ("2001:db8::/32", "2001:db8::/32"),
        ("fc00::/7", "fc00::/7"), ("fe80::/10", "fe80::/10"), ("2001::/16", "2001::/16"),
    ],
)  # fmt: skip
def test_a_network(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0.0.0/0", "open relay"), ("::/0", "open relay"), ("128.0.0.0/1", "open relay"),
        ("0.0.0.0/7", "open relay"), ("2000::/3", "open relay"), ("2000::/15", "open relay"),
        ("fc00::/6", "open relay"), ("::ffff:0:0/96", "IPv4"), ("::ffff:127.0.0.1", "IPv4"),
        ("127.0.0.1/8", "did you mean 127.0.0.0/8?"),
        ("2001:db8::1/32", "did you mean 2001:db8::/32?"),
        ("fe80::1%lo", "no interface"), ("", "should look like"), ("localhost", "should look like"),
        ("10/8", "should look like"), ("127.0.0.0/33", "should look like"),
        ("2130706433", "should look like"), ("127.0.0.0/8 ", "should look like"),
        ("127.0.0.0/0.0.0.0", "did you mean"), ("*", "should look like"),
    ],
)  # fmt: skip
def test_what_is_no_network_or_too_much_is_a_value_error(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_network(text)


NETWORKS = st.builds(
    lambda number, prefix: ipaddress.ip_network((number, prefix), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
) | st.builds(
    lambda number, prefix: ipaddress.ip_network((number, prefix), strict=False),
    st.integers(1 << 112, 2**128 - 1),
    st.integers(16, 128),
)


@given(NETWORKS)
def test_a_network_lets_in_its_first_and_last_address_and_none_beside_them(network) -> None:
    """Read from its text, so that what the operator sees is what holds."""
    rules = Relaying(networks=(parse_network(str(network)),))
    first, last = network.network_address, network.broadcast_address
    for inside in (first, last):
        assert may_relay(rules, "example.net", str(inside))
    for number, step in ((first, -1), (last, 1)):
        if 0 <= int(number) + step < 2**network.max_prefixlen:
            assert not may_relay(rules, "example.net", str(number + step))
    other = ipaddress.IPv6Address(1) if network.version == 4 else ipaddress.IPv4Address("10.0.0.1")
    assert not may_relay(rules, "example.net", str(other))


@given(st.text(max_size=50))
def test_whoever_has_no_address_never_relays(client: str) -> None:
    rules = Relaying(networks=(parse_network("127.0.0.0/8"),), domains=frozenset({"a.example"}))
    assert may_relay(rules, "a.example", client)
    try:
        ipaddress.ip_address(client)
    except ValueError:
        assert not may_relay(rules, "b.example", client)


def test_nobody_relays_by_default() -> None:
    for client in ("127.0.0.1", "::1", "", "10.0.0.1"):
        assert not may_relay(Relaying(), "example.net", client)


@given(st.ip_addresses())
def test_an_address_has_one_literal_and_it_means_the_address(address) -> None:
    text = spell(address)
    assert is_address_literal(text)
    mapped = address.ipv4_mapped if address.version == 6 else None
    assert literal(text) == (spell(mapped) if mapped else text)
    if address.version == 6:
        assert literal(f"[ipv6:{address.exploded.upper()}]") == literal(text)
    else:
        assert (
            literal("[" + ".".join(part.zfill(3) for part in str(address).split(".")) + "]") == text
        )


@pytest.mark.parametrize(
    ("rules", "domain", "expected"),
    [
        (Relaying(), "example.net", "example.net"),
        (Relaying(), "[192.0.2.01]", "[192.0.2.1]"),
        (Relaying(), "[x400:c=us]", None),
        (Relaying(smarthost="[s.example]:587"), "example.net", "[s.example]:587"),
        (Relaying(smarthost="[s.example]:587"), "[192.0.2.1]", "[s.example]:587"),
        (Relaying(smarthost="s.example"), "[x400:c=us]", None),
        (Relaying(smarthost="s.example", next_hops={"a.example": "b.example"}), "a.example",
         "b.example"),
        (Relaying(smarthost="s.example", next_hops={"a.example": "b.example"}), "x.a.example",
         "s.example"),
        # A row leads to its hop, and not on from there.
        (Relaying(next_hops={"a.example": "b.example", "b.example": "c.example"}), "a.example",
         "b.example"),
    ],
)  # fmt: skip
def test_a_destination(rules: Relaying, domain: str, expected: str | None) -> None:
    assert destination(rules, domain) == expected
