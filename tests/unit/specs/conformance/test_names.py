"""The scripted name server, by its answers to octets, and once over sockets."""

from __future__ import annotations

from contextlib import suppress

import dns.flags
import dns.message
import dns.rcode
import pytest
import trio

from specs.conformance.names import Names, place, serve


def made() -> Names:
    names = Names()
    names.add("x.hop.example", "MX", "20 b.x.hop.example.", "10 a.x.hop.example.")
    names.add("a.x.hop.example.", "A", "127.77.1.1")
    names.add("alias.hop.example", "CNAME", "X.hop.example.")
    names.add("null.hop.example", "MX", "0 .")
    names.add("long.hop.example", "TXT", *(f'"{number}{"x" * 200}"' for number in range(9)))
    names.fail("bad.hop.example", "SERVFAIL")
    names.fail("half.hop.example", "SERVFAIL", ("MX",))
    names.add("half.hop.example", "A", "127.77.1.2")
    names.fail("mute.hop.example", "silence")
    return names


def ask(names: Names, name: str, kind: str, over: str = "UDP") -> dns.message.Message | None:
    octets = names.answer(dns.message.make_query(name, kind).to_wire(), over=over)
    return None if octets is None else dns.message.from_wire(octets)


@pytest.mark.parametrize(
    ("name", "kind", "code", "records"),
    [
        ("x.hop.example", "MX", "NOERROR", ["10 a.x.hop.example.", "20 b.x.hop.example."]),
        ("X.HOP.example", "MX", "NOERROR", ["10 a.x.hop.example.", "20 b.x.hop.example."]),
        ("x.hop.example", "A", "NOERROR", []),
        ("hop.example", "MX", "NOERROR", []),  # above a name that exists
        ("example", "A", "NOERROR", []),
        ("b.x.hop.example", "A", "NXDOMAIN", []),
        ("elsewhere.test", "MX", "NXDOMAIN", []),
        ("null.hop.example", "MX", "NOERROR", ["0 ."]),
        ("bad.hop.example", "A", "SERVFAIL", []),
        ("half.hop.example", "MX", "SERVFAIL", []),
        ("half.hop.example", "A", "NOERROR", ["127.77.1.2"]),
        ("alias.hop.example", "MX", "NOERROR",
         ["10 a.x.hop.example.", "20 b.x.hop.example.", "x.hop.example."]),
    ],
)  # fmt: skip
def test_answers(name: str, kind: str, code: str, records: list[str]) -> None:
    answer = ask(made(), name, kind)
    assert answer is not None
    assert dns.rcode.to_text(answer.rcode()) == code
    found = [str(each) for rrset in answer.answer for each in rrset]
    assert sorted(each.lower() for each in found) == records
    assert bool(answer.authority) == (not records and code != "SERVFAIL")


def test_some_questions_have_no_answer() -> None:
    names = made()
    assert ask(names, "mute.hop.example", "A") is None
    assert names.answer(b"no question") is None
    response = dns.message.make_response(dns.message.make_query("x.hop.example", "A"))
    assert names.answer(response.to_wire()) is None


def test_what_is_too_long_for_a_datagram_is_asked_for_again() -> None:
    names = made()
    short, whole = (ask(names, "long.hop.example", "TXT", over) for over in ("UDP", "TCP"))
    assert short is not None and short.flags & dns.flags.TC and not short.answer
    assert whole is not None and len(whole.answer[0]) == 9


def test_what_is_over_leads_to_the_sink_and_what_is_mended_answers() -> None:
    names = made()
    names.retire("x.hop.example", "sink.hop.example")
    for name in ("x.hop.example", "back.x.hop.example"):
        answer = ask(names, name, "MX")
        assert answer is not None and str(answer.answer[0][0]) == "10 sink.hop.example."
    names.mend("bad.hop.example")
    answer = ask(names, "bad.hop.example", "A")
    assert answer is not None and answer.rcode() == dns.rcode.NOERROR
    with pytest.raises(ValueError, match="not among"):
        names.fail("x", "LAZY")


def test_questions_are_recorded() -> None:
    names = made()
    ask(names, "X.hop.example", "MX")
    ask(names, "x.hop.example", "A", "TCP")
    assert [(each.type, each.over) for each in names.asked("x.hop.example.")] == [
        ("MX", "UDP"), ("A", "TCP"),
    ]  # fmt: skip
    assert [each.type for each in names.asked("x.hop.example", "MX")] == ["MX"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.53", ("127.0.0.53", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("[::1]:5353", ("::1", 5353)),
        ("::1", ("::1", 53)),
    ],
)
def test_places(text: str, expected: tuple[str, int]) -> None:
    assert place(text) == expected


def test_a_place_is_an_address() -> None:
    with pytest.raises(ValueError, match="name"):
        place("name.example:53")


async def serving(nursery: trio.Nursery) -> int:
    """A port that is free for both, UDP and TCP."""
    while True:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as free:
            await free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        with suppress(OSError):
            await nursery.start(serve, made(), ("127.0.0.1", port))
            return port


async def test_over_sockets(nursery: trio.Nursery) -> None:
    port = await serving(nursery)
    octets = dns.message.make_query("x.hop.example", "MX").to_wire()
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as udp:
        await udp.connect(("127.0.0.1", port))
        await udp.send(octets)
        assert len(dns.message.from_wire(await udp.recv(4096)).answer[0]) == 2
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(len(octets).to_bytes(2, "big") + octets)
        got = await stream.receive_some(4096)
        assert len(dns.message.from_wire(bytes(got)[2:]).answer[0]) == 2
    nursery.cancel_scope.cancel()


def test_a_mistake_of_ours_is_kept_and_nothing_is_answered() -> None:
    names = made()
    names.records["x.hop.example"]["MX"] = ["no number"]
    assert ask(names, "x.hop.example", "MX") is None
    assert ask(names, "a.x.hop.example", "A") is not None
    assert "x.hop.example MX" in names.broken("hop.example")[0]
    assert names.broken("a.x.hop.example") == []
