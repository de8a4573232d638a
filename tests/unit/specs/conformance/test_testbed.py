"""The scripted name server and the sink of a run: what can't be had is said."""

from __future__ import annotations

import socket

import pytest

from specs.conformance.given import Given
from specs.conformance.names import place
from specs.conformance.testbed import SINK, laid_out, networks


def given(names: str, hops: str = "127.77.0.0/16:0") -> Given:
    return Given(smtp=("127.0.0.1", 25), names=names, hops=hops)


async def test_it_is_there() -> None:
    async with laid_out(given("127.0.0.1:0")) as testbed:
        assert testbed is not None
        assert testbed.reason == ""
        assert testbed.names.records[SINK]


@pytest.mark.parametrize(
    ("names", "hops", "reason"),
    [
        ("192.0.2.1:53", "127.77.0.0/16:0", "--names 192.0.2.1:53: the name server can't listen"),
        ("nowhere", "127.77.0.0/16:0", "--names nowhere: "),
        ("127.0.0.1:0", "192.0.2.0/24:0", "--hops 192.0.2.0/24:0: no hop can listen at 192.0.2."),
        ("127.0.0.1:0", "fd77::/64", "--hops fd77::/64: it needs an IPv4 network in --hops"),
        ("127.0.0.1:0", "nothing", "--hops nothing: "),
    ],
)
async def test_why_it_is_not(names: str, hops: str, reason: str) -> None:
    async with laid_out(given(names, hops)) as testbed:
        assert testbed is not None
        assert testbed.reason.startswith(reason)


async def test_a_name_server_that_listens_there_already() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        async with laid_out(given(f"127.0.0.1:{taken.getsockname()[1]}")) as testbed:
            assert testbed is not None
            assert "Address already in use" in testbed.reason


@pytest.mark.parametrize("port", ["65536", "99999", "٣"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(ValueError, match=f"{port}: no"):
        networks(f"127.77.0.0/16:{port}")
    with pytest.raises(ValueError, match=f"{port}: no port"):
        place(f"127.0.0.1:{port}")


def test_networks() -> None:
    found = [(str(network), port) for network, port in networks("127.77.0.0/16:2525,fd77::/64")]
    assert found == [("127.77.0.0/16", 2525), ("fd77::/64", 25)]
