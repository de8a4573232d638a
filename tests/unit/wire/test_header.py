"""Headers: reading loses nothing, writing lets nothing in."""

import re
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire.header import (
    UNIX_TIME_MAX_S,
    count_received,
    delivered_to,
    fields,
    received,
    received_here,
    return_path,
    rfc5322_date,
    split_message,
)


@pytest.mark.parametrize(
    ("octets", "header", "found"),
    [
        (b"", b"", []),
        (b"\r\n", b"\r\n", []),
        (b"\r\nbody", b"\r\n", []),
        (b"A: b\r\n\r\nbody: c\r\n", b"A: b\r\n\r\n", [("A", b" b")]),
        (b"A: b\n\nbody\n", b"A: b\n\n", [("A", b" b")]),
        (b"A: b\n\r\nbody\n", b"A: b\n\r\n", [("A", b" b")]),
        (b"A: b", b"A: b", [("A", b" b")]),
        (b"A:b\r\nC :d\r\n", b"A:b\r\nC :d\r\n", [("A", b"b"), ("C", b"d")]),
        (b"A: b\r\n\tc\r\n \r\nD:\r\n", None, [("A", b" b\r\n\tc\r\n "), ("D", b"")]),
        (b"From x\r\nA: b\r\n", None, [("", b"From x"), ("A", b" b")]),
        (b" lead\r\nA: b\r\n", None, [("", b" lead"), ("A", b" b")]),
        (b": b\r\n", None, [("", b": b")]),
        (b"A B: c\r\n", None, [("", b"A B: c")]),
        (b"\xff: c\r\n", None, [("", b"\xff: c")]),
        (b"A: \xff\0\rb\r\n", None, [("A", b" \xff\0\rb")]),
    ],
)
def test_read(octets: bytes, header: bytes | None, found: list[tuple[str, bytes]]) -> None:
    got, body = split_message(octets)
    assert got == (octets if header is None else header)
    assert got + body == octets
    assert list(fields(octets)) == list(fields(got)) == found


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from((b"\r\n", b"\n", b"\r", b" ", b"A", b":", b"\0", b"x: y"))))
def test_reading_loses_nothing(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    header, body = split_message(octets)
    assert header + body == octets
    assert not re.search(rb"(?:\A|\n)\r?\n.", header, re.DOTALL)
    for name, value in fields(octets):
        assert name.encode() in header
        assert value in header
        assert name or value


@pytest.mark.parametrize(
    ("header", "count"),
    [
        (b"", 0),
        (b"Received: a\r\nreceived :b\r\nRECEIVED: c\r\n", 3),
        (b"X-Received: a\r\nA: Received: b\r\n Received: c\r\nReceived a\r\n", 0),
        (b"A: b\nReceived: c\n", 1),
    ],
)
def test_count_received(header: bytes, count: int) -> None:
    assert count_received(header) == count
    assert count == sum(name.lower() == "received" for name, _ in fields(header))


def trace(**changes: str | int | None) -> bytes:
    arguments: dict[str, str | int | None] = {
        "helo": "client.example.org",
        "client": "192.0.2.1",
        "hostname": "mx.example.net",
        "protocol": "ESMTP",
        "queue_id": "0ABC",
        "recipient": "alice@example.net",
        "unix_time_s": 0,
    }
    return received(**(arguments | changes))  # type: ignore[arg-type]


def test_received() -> None:
    assert trace() == (
        b"Received: from client.example.org ([192.0.2.1])\r\n"
        b"\tby mx.example.net with ESMTP id 0ABC\r\n"
        b"\tfor <alice@example.net>;\r\n"
        b"\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )
    assert b"id 0ABC;\r\n\tThu" in trace(recipient=None)
    assert b"([IPv6:2001:db8::1])" in trace(client="2001:db8::1")
    assert b"([IPv6:fe80::1])" in trace(client="fe80::1%eth0")
    assert b"from [192.0.2.1] (" in trace(helo="[192.0.2.1]")


@pytest.mark.parametrize(
    ("helo", "written"),
    [
        ("", b"unknown"),
        ("a b", b"a%20b"),
        ("a_b", b"a_b"),
        ("x)\r\nBcc: y", b"x%29%0D%0ABcc:%20y"),
        ("\u00e4\ud800", b"%C3%A4%ED%A0%80"),
        ("a" * 999, b"a" * 255),
    ],
)
def test_helo_is_escaped(helo: str, written: bytes) -> None:
    assert trace(helo=helo).startswith(b"Received: from " + written + b" ([")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_no_helo_adds_a_line(helo: str) -> None:
    octets = trace(helo=helo)
    assert [name for name, _ in fields(octets)] == ["Received"]
    assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n\t") + 1
    assert max(map(len, octets.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "changes",
    [
        {"client": "unknown"},
        {"client": "1.2.3"},
        {"client": ""},
        {"client": "1.2.3.4\n"},
        {"hostname": "a b"},
        {"hostname": ""},
        {"protocol": "X\r\nY: z"},
        {"queue_id": "0ABC\n"},
        {"recipient": "a\n@b"},
        {"recipient": "\u00e4@b"},
        {"unix_time_s": -1},
    ],
)
def test_our_own_mistakes_are_refused(changes: dict[str, str | int | None]) -> None:
    with pytest.raises(ValueError, match=r"not|no |before"):
        trace(**changes)


def test_received_here() -> None:
    octets = received_here(hostname="mx.example.net", queue_id="0ABC", unix_time_s=0)
    assert octets == (
        b"Received: by mx.example.net id 0ABC;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )
    assert count_received(octets) == 1
    for changes in ({"hostname": "a b"}, {"queue_id": "x\r\n"}, {"unix_time_s": -1}):
        fields_of = {"hostname": "x", "queue_id": "y", "unix_time_s": 0, **changes}
        with pytest.raises(ValueError, match=r"not|before"):
            received_here(**fields_of)  # type: ignore[arg-type]


def test_delivery_fields() -> None:
    assert return_path("a@b") == b"Return-Path: <a@b>\r\n"
    assert return_path("") == b"Return-Path: <>\r\n"
    assert delivered_to("a@b") == b"Delivered-To: a@b\r\n"
    for write in (return_path, delivered_to):
        with pytest.raises(ValueError, match="printable"):
            write("a\r\nB: c")


@given(st.integers(0, UNIX_TIME_MAX_S))
def test_dates_read_back(unix_time_s: int) -> None:
    date = rfc5322_date(unix_time_s)
    assert parsedate_to_datetime(date).timestamp() == unix_time_s
    assert re.match(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000\Z", date)
