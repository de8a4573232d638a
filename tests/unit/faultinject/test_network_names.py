"""The name server that lies, asked by hand: what goes over the wire is what its table says."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from faultinject import networks
from faultinject.network import answers
from faultinject.network.behaviours import DELIVERED
from faultinject.network.name_rows import EVERYDAY, FAILING, LYING, ROWS, TRUTH, Reply
from faultinject.network.name_server import Domain, NameServer

PLACES = {
    "good": "127.40.0.1", "bad": "127.66.6.6", "closed": "127.50.0.1", "itself": "mx.us.example",
}  # fmt: skip
HOST = "127.0.0.1"
#: What is too much may come for so long; and so long may pass until what is right has come.
SOON_S, PATIENCE_S = 0.3, 30.0


@asynccontextmanager
async def served(*, mended: bool = False) -> AsyncIterator[tuple[NameServer, int]]:
    """All rows, each at NAME.example."""
    domains = {f"{name}.example": Domain(row=row, places=PLACES) for name, row in ROWS.items()}
    server = NameServer(domains=domains, hosts={"mx.us.example": "127.0.0.9"}, mended=mended)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(server.serve, HOST, 0)
        with trio.fail_after(90):
            yield server, port
        nursery.cancel_scope.cancel()


async def udp(port: int, name: str, count: int) -> list[bytes]:
    """The query, and all datagrams that come back: so many, however long they take, and whatever
    comes soon after.
    """
    query = dns.message.make_query(name, "MX", use_edns=0, payload=1232)
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        await asking.sendto(query.to_wire(), (HOST, port))
        found = [(await asking.recvfrom(65535))[0] for _ in range(count)]
        with trio.move_on_after(SOON_S):
            while True:
                found.append((await asking.recvfrom(65535))[0])
    return [query.to_wire(), *found]


async def ask(
    port: int, name: str, kind: str, patience_s: float = PATIENCE_S
) -> dns.message.Message:
    """As a careful client does: over UDP, then TCP if it is cut."""
    query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    answer, _ = await trio.to_thread.run_sync(
        networks.within,  # a thread of trio's may have been born in another one
        lambda: dns.query.udp_with_fallback(
            query, HOST, timeout=patience_s, port=port, ignore_unexpected=True
        ),
    )
    return answer


def texts(answer: dns.message.Message) -> list[str]:
    return sorted(f"{rrset.name} {data}" for rrset in answer.answer for data in rrset)


async def test_the_truth() -> None:
    async with served() as (server, port):
        assert texts(await ask(port, "honest.example", "MX")) == [
            "honest.example. 10 mx.honest.example."
        ]
        assert texts(await ask(port, "MX.Honest.Example", "A")) == ["MX.Honest.Example. 127.40.0.1"]
        nothing = await ask(port, "mx.honest.example", "AAAA")
        assert nothing.rcode() == dns.rcode.NOERROR and not nothing.answer and nothing.authority
        for name in ("other.honest.example", "nobody.example", "example", "."):
            assert (await ask(port, name, "A")).rcode() == dns.rcode.NXDOMAIN
        assert texts(await ask(port, "mx.us.example", "A")) == ["mx.us.example. 127.0.0.9"]
        assert server.asked["honest.example", "MX @"] == 1
        assert server.asked["honest.example", "A mx"] == 1


#: row -> (question, code): what is said at once, without a trick
CODES = {
    "servfail": "SERVFAIL", "refused": "REFUSED", "not-implemented": "NOTIMP",
    "formerr": "FORMERR", "nxdomain": "NXDOMAIN", "nodata": "NOERROR",
}  # fmt: skip


@pytest.mark.parametrize("row", CODES)
async def test_codes(row: str) -> None:
    async with served() as (_, port):
        answer = await ask(port, f"{row}.example", "MX")
        assert (dns.rcode.to_text(answer.rcode()), answer.answer) == (CODES[row], [])


async def test_null_mx_loops_and_untrue_answers_are_on_the_wire() -> None:
    async with served() as (_, port):
        assert texts(await ask(port, "null-mx.example", "MX")) == ["null-mx.example. 0 ."]
        assert texts(await ask(port, "null-mx.example", "A")) == ["null-mx.example. 127.66.6.6"]
        assert texts(await ask(port, "cname-to-itself.example", "MX")) == [
            "cname-to-itself.example. cname-to-itself.example."
        ]
        loop = texts(await ask(port, "cname-loop.example", "MX"))
        assert loop == [
            "b.cname-loop.example. cname-loop.example.",
            "cname-loop.example. b.cname-loop.example.",
        ]
        assert texts(await ask(port, "it-is-you.example", "MX")) == [
            "it-is-you.example. 10 mx.us.example."
        ]
        assert texts(await ask(port, "servfail-about-mx.example", "A"))[0].endswith("127.66.6.6")


async def test_turns_are_taken_and_the_last_stays() -> None:
    async with served() as (server, port):
        codes = [(await ask(port, "fails-once.example", "MX")).rcode() for _ in range(3)]
        assert codes == [dns.rcode.SERVFAIL, dns.rcode.NOERROR, dns.rcode.NOERROR]
        assert (await udp(port, "silent-once.example", 0))[1:] == []
        assert len(await udp(port, "silent-once.example", 1)) == 2
        assert server.asked["fails-once.example", "MX @"] == 3


async def test_what_is_too_long_or_cut_comes_over_tcp() -> None:
    async with served() as (_, port):
        _, answer = await udp(port, "many-exchangers.example", 1)
        assert len(answer) <= 1232 and dns.message.from_wire(answer).flags & dns.flags.TC
        assert len(texts(await ask(port, "many-exchangers.example", "MX"))) == 60
        assert len(texts(await ask(port, "truncated.example", "MX"))) == 1
        with pytest.raises((EOFError, OSError)):
            await ask(port, "truncated-and-closed.example", "MX")
        with pytest.raises(dns.exception.Timeout):
            await ask(port, "truncated-and-silent.example", "MX", patience_s=2.0)


async def test_without_edns_it_answers_only_without() -> None:
    async with served() as (_, port):
        assert (await ask(port, "no-edns.example", "MX")).rcode() == dns.rcode.FORMERR
        query = dns.message.make_query("no-edns.example", "MX", use_edns=False)
        answer = await trio.to_thread.run_sync(
            networks.within, lambda: dns.query.udp(query, HOST, timeout=PATIENCE_S, port=port)
        )
        assert len(texts(answer)) == 1 and answer.edns < 0


FORGED = ("wrong-id", "no-response", "wrong-question")


@pytest.mark.parametrize("way", FORGED)
async def test_a_forged_answer_is_not_the_true_one(way: str) -> None:
    async with served() as (_, port):
        sent, forged, true = await udp(port, f"{way}-first.example", 2)
        assert (await udp(port, f"{way}.example", 1))[2:] == []
    query = dns.message.from_wire(sent)
    assert query.is_response(dns.message.from_wire(true))
    liar = dns.message.from_wire(forged)
    assert not query.is_response(liar)
    assert "bad." in texts(liar)[0] and "bad." not in texts(dns.message.from_wire(true))[0]


async def test_a_stranger_answers_from_another_port() -> None:
    query = dns.message.make_query("stranger-first.example", "MX")
    async with served() as (_, port):
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            await asking.sendto(query.to_wire(), (HOST, port))
            (first, (_, other)), (second, (_, right)) = [
                await asking.recvfrom(65535) for _ in range(2)
            ]
    assert (right == port) and other != port
    assert "bad." in texts(dns.message.from_wire(first))[0]
    assert "bad." not in texts(dns.message.from_wire(second))[0]


async def test_broken_messages() -> None:
    async with served() as (_, port):
        for row in ("garbage", "half-a-message", "empty"):
            (octets,) = (await udp(port, f"{row}.example", 1))[1:]
            with pytest.raises(dns.exception.DNSException):
                dns.message.from_wire(octets)
        broken, true = (await udp(port, "garbage-first.example", 2))[1:]
        assert broken == answers.GARBAGE and len(texts(dns.message.from_wire(true))) == 1
        assert (await udp(port, "silent.example", 0))[1:] == []


@pytest.mark.parametrize("row", ROWS)
async def test_when_it_is_mended_every_row_is_true(row: str) -> None:
    async with served(mended=True) as (_, port):
        assert texts(await ask(port, f"{row}.example", "MX")) == [
            f"{row}.example. 10 mx.{row}.example."
        ]
        assert texts(await ask(port, f"mx.{row}.example", "A")) == [f"mx.{row}.example. 127.40.0.1"]


async def test_nothing_that_comes_ends_it() -> None:
    async with served() as (server, port):
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for octets in (b"", b"x", bytes(12), bytes(range(200))):
                await asking.sendto(octets, (HOST, port))
        for said in (b"", b"\0", b"\xff\xff" + bytes(100), struct.pack("!H", 3) + b"abc"):
            async with await trio.open_tcp_stream(HOST, port) as stream:
                await stream.send_all(said)
        assert len(texts(await ask(port, "honest.example", "MX"))) == 1
        assert server.dropped >= 4


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.sampled_from(["honest", "cname-loop", "many-exchangers"]))
def test_no_octets_are_too_odd(noise: bytes, row: str) -> None:
    """A question with octets changed is answered, or dropped; never an exception."""
    server = NameServer(
        domains={"d.example": Domain(row=ROWS[row], places=PLACES)}, hosts={"h.example": HOST}
    )
    octets = bytearray(dns.message.make_query("d.example", "MX").to_wire())
    for at, octet in enumerate(noise):
        octets[octet % len(octets)] = at
    understood = server._understood(bytes(octets))
    if understood is not None:
        query, reply, places = understood
        for datagram in answers.datagrams(query, reply, places):
            assert len(datagram.octets) <= 65535
        answers.segment(query, reply, places)


def test_the_table_is_whole() -> None:
    assert set(ROWS) == set(EVERYDAY) | set(FAILING) | set(LYING)
    assert len(ROWS) == len(EVERYDAY) + len(FAILING) + len(LYING)
    for name, row in ROWS.items():
        assert row.allows and row.allows <= {"delivered", "deferred", "failed"}, name
        if name in FAILING:
            assert not row.allows & DELIVERED, name
        for question, replies in row.replies.items():
            assert len(question.split()) == 2 and replies, name
            for each in replies:
                for record in (*each.records, *each.forged):
                    assert len(record.split(None, 2)) == 3, record
    assert answers.reply_for(TRUTH, "AAAA", "mx", 0) == Reply()


def test_a_row_hides_the_truth_of_a_label() -> None:
    rows = answers.lines(ROWS["silent-about-addresses"], TRUTH)
    assert answers.reply_for(rows, "A", "mx", 0).way == "silence"
    assert answers.reply_for(rows, "MX", "@", 0).records
    with pytest.raises(KeyError):
        answers.reply_for({}, "A", "mx", 0)
