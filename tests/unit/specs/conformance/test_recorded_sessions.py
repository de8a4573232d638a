"""Files of sessions: a record, a text, a capture; and what `judge` says of them."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from unit.specs.conformance.made import PASS, result

from specs.conformance import capture, records
from specs.conformance.capture import NoTshark, RecordedConnection, Unreadable
from specs.conformance.commands.judged import judge_command
from specs.conformance.model import Line
from specs.conformance.recorded_sessions import connections, judged
from specs.conformance.records import Record

GOOD = "S: 220 mx.example\nC: NOOP\nS: 250 ok\nC: QUIT\nS: 221 bye\n"
BAD = GOOD.replace("250 ok", "354 ok")


def run(*words: str) -> Result:
    return CliRunner().invoke(judge_command, words)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# -- texts ----------------------------------------------------------------------------------------


def test_an_allowed_text(tmp_path: Path) -> None:
    found = run(str(written(tmp_path / "a.txt", f"# a comment\n\n{GOOD}")))
    assert found.exit_code == 0
    assert "1 connections, 3 replies: 0 not allowed" in found.output


def test_a_text_that_is_not_allowed(tmp_path: Path) -> None:
    found = run(str(written(tmp_path / "a.txt", BAD)))
    assert found.exit_code == 1
    assert "NOT ALLOWED at octet 16 of the server's (line 2): '3'" in found.output
    assert "220 mx.example\\r\\n >>>3<<< 54 ok" in found.output
    assert "expected: 250, another 2yz, 4yz, 5yz to NOOP (RFC 5321 4.1.1.9, 4.3.2)" in found.output


def test_the_same_for_programs(tmp_path: Path) -> None:
    path = str(written(tmp_path / "a.txt", BAD))
    found = run(path, "--json")
    assert found.exit_code == 1
    told = json.loads(found.output)
    assert told["allowed"] is False
    (one,) = told["connections"]
    assert (one["name"], one["replies"], one["fault"]["at"]) == (path, 1, 16)
    assert (one["fault"]["octet"], one["fault"]["line"]) == ("3", 2)


def test_lmtp_is_told(tmp_path: Path) -> None:
    path = str(written(tmp_path / "a.txt", "S: 220 mx\nC: EHLO c\nS: 250 mx\n"))
    assert run(path).exit_code == 0
    assert run(path, "--lmtp").exit_code == 1


def test_escapes_are_octets_and_remarks_may_begin_tls(tmp_path: Path) -> None:
    text = "S: 220 mx\nC: STARTTLS\nS: 220 go\n-: from here on inside TLS\nC: EHLO c\nS: 250 \\x41"
    (one,) = connections(written(tmp_path / "a.txt", text.replace("\n", "\r\n")))
    assert one.heard.server == b"220 mx\r\n220 go\r\n250 A\r\n"
    assert one.heard.client == b"STARTTLS\r\nEHLO c\r\n"
    assert len(one.heard.marks) == 1


WRONG = (
    ("X: what", "line 1"),
    ("S: 220 mx\nS 220", "line 2"),
    ("S: 220|554 mx", "pattern"),
    ("S: 2zz mx", "pattern"),
    ("", "no session"),
    ("# nothing\n", "no session"),
    ("{", "line 1"),
    ("{}", "no results"),
    ('{"results": [1]}', "results[0]"),
    ('{"results": [{"case": "x"}]}', "results[0]"),
    ('{"results": [{"case": "x", "transcript": [{"who": "X", "octets": "", "connection": 1}]}]}',
     "results[0]"),
    ('{"results": [{"case": "x", "transcript": [{"who": "C", "octets": "\u0141",'
     ' "connection": 1}]}]}', "results[0]"),
    ("[" * 100_000, "line 1"),
    ('{"results": ' + "[" * 100_000, "recursion"),
    (b"\xff\xfe", "neither text nor a capture"),
)  # fmt: skip


@pytest.mark.parametrize(("content", "place"), WRONG)
def test_what_is_none_of_these_is_named(tmp_path: Path, content: str | bytes, place: str) -> None:
    found = run(str(written(tmp_path / "a.file", content)))
    assert found.exit_code == 2
    assert "a.file" in found.output
    assert place in found.output


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        found = run(str(path))
        assert found.exit_code == 2
        assert str(path) in found.output


# -- records --------------------------------------------------------------------------------------


def line(who: Any, octets: bytes, connection: int = 1) -> Line:
    return Line(at_s=0.0, who=who, octets=octets, connection=connection)


def record(tmp_path: Path, *transcripts: Sequence[Line], role: str = "server") -> Path:
    results = []
    for number, each in enumerate(transcripts):
        one = result(f"5321-4.2-case{number}", PASS)
        results.append(type(one)(case=one.case, verdict=one.verdict, transcript=tuple(each)))
    told = records.as_json(Record(name="mx", seed=1, results=tuple(results)))
    for each in told["results"]:
        each["role"] = role
    return written(tmp_path / "record.json", json.dumps(told))


SAID = [line("S", b"220 mx\r\n"), line("C", b"NOOP\r\n"), line("S", b"250 ok\r\n")]
REFUSED = [line("S", b"220 mx\r\n"), line("C", b"NOOP\r\n"), line("S", b"25x ok\r\n")]


def test_a_record_is_judged_case_by_case_and_connection_by_connection(tmp_path: Path) -> None:
    beside = [line(each.who, each.octets, 2) for each in SAID]
    woven = [each for pair in zip(REFUSED, beside, strict=True) for each in pair]
    path = record(tmp_path, SAID, woven, [line("-", b"connected")])
    found = judged(path)
    assert [(each.name, each.judgement.allowed) for each in found] == [
        ("5321-4.2-case0, connection 1", True),
        ("5321-4.2-case1, connection 1", False),
        ("5321-4.2-case1, connection 2", True),
    ]
    assert "5321-4.2-case1, connection 1: NOT ALLOWED at octet 10" in run(str(path)).output


def test_where_the_server_is_the_client_nothing_is_judged(tmp_path: Path) -> None:
    for role in ("client", "relay"):
        with pytest.raises(Unreadable, match="no session"):
            judged(record(tmp_path, REFUSED, role=role))
    hop = [line("-", b"the server connects to mx.hop.example (127.77.0.1)", 2),
           *(line(each.who, each.octets, 2) for each in REFUSED)]  # fmt: skip
    (only,) = judged(record(tmp_path, [*SAID, *hop], role="delivery"))
    assert only.judgement.allowed


def test_a_shortened_transcript_is_judged_up_to_there(tmp_path: Path) -> None:
    short = line("-", b"70000 octets, of which 65536 are shown")
    (one,) = judged(record(tmp_path, [*SAID, line("C", b"x"), short, line("S", b"699 ?\r\n")]))
    assert one.judgement.allowed
    assert "missing" in one.judgement.opaque
    assert "not judged" in run(str(tmp_path / "record.json"), "-v").output


def test_tls_begins_where_the_transcript_says_so(tmp_path: Path) -> None:
    begin = [line("S", b"220 mx\r\n"), line("C", b"STARTTLS\r\nNOOP\r\n"), line("S", b"220 ok\r\n")]
    inside = [line("-", b"from here on inside TLS"), line("C", b"EHLO c\r\n")]
    good, bad = line("S", b"250 mx\r\n"), line("S", b"250 ok\r\n250 mx\r\n")
    assert judged(record(tmp_path, [*begin, *inside, good]))[0].judgement.allowed
    assert not judged(record(tmp_path, [*begin, *inside, bad]))[0].judgement.allowed


def test_who_took_lhlo_speaks_lmtp_at_that_address(tmp_path: Path) -> None:
    begin = [line("-", b"connected to mx port 24"), line("S", b"220 mx\r\n")]
    ehlo = [line("C", b"EHLO c\r\n"), line("S", b"250 mx\r\n")]
    lhlo = [line("C", b"LHLO c\r\n"), line("S", b"250 mx\r\n")]
    elsewhere = [line("-", b"connected to mx port 25"), line("S", b"220 mx\r\n")]
    found = judged(record(tmp_path, begin + ehlo, begin + lhlo, elsewhere + ehlo))
    assert [each.judgement.allowed for each in found] == [False, True, True]
    refused = [line("C", b"LHLO c\r\n"), line("S", b"500 no\r\n")]
    found = judged(record(tmp_path, begin + ehlo, begin + refused))
    assert [each.judgement.allowed for each in found] == [True, True]


# -- captures -------------------------------------------------------------------------------------

SYN, ACK, FIN, PSH = 2, 16, 1, 8


class Wire:
    """TCP connections on loopback as a pcap of raw IPv4, or IPv6, packets."""

    def __init__(self) -> None:
        #: Magic, version 2.4, zone, accuracy, length of packets, LINKTYPE_RAW.
        self.octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
        self.packets = 0

    def packet(self, source: int, target: int, sequence: int, acknowledged: int, flags: int,
               octets: bytes = b"", wide: bool = False) -> None:  # fmt: skip
        tcp = struct.pack(
            ">HHIIBBHHH", source, target, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0
        )
        size = len(tcp) + len(octets)
        if wide:
            one = bytes(15) + b"\x01"
            head = struct.pack(">IHBB16s16s", 6 << 28, size, 6, 64, one, one)
        else:
            host = bytes((127, 0, 0, 1))
            head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + size, 1, 0, 64, 6, 0, host, host)
        whole = head + tcp + octets
        self.packets += 1
        self.octets += struct.pack("<IIII", self.packets, 0, len(whole), len(whole)) + whole


class Talk:
    """One connection in it; sequences are those of the next octet."""

    def __init__(self, wire: Wire, client: int, server: int, *, begun: bool = True,
                 wide: bool = False) -> None:  # fmt: skip
        self.wire, self.ports, self.wide = wire, {"C": client, "S": server}, wide
        self.at = {"C": 1000, "S": 5000}
        if begun:
            self.send("C", flags=SYN, sequence=999)
            self.send("S", flags=SYN | ACK, sequence=4999)
            self.send("C", flags=ACK)

    def send(self, who: str, octets: bytes = b"", *, flags: int = ACK | PSH,
             sequence: int | None = None) -> None:  # fmt: skip
        other = "S" if who == "C" else "C"
        at = self.at[who] if sequence is None else sequence
        self.wire.packet(self.ports[who], self.ports[other], at, self.at[other], flags, octets,
                         self.wide)  # fmt: skip
        self.at[who] = max(self.at[who], at + len(octets))

    def session(self, *pairs: tuple[str, bytes]) -> None:
        for who, octets in pairs:
            self.send(who, octets)


PAIRS = (("S", b"220 mx\r\n"), ("C", b"NOOP\r\n"), ("S", b"250 ok\r\n"))
BROKEN = (("S", b"220 mx\r\n"), ("C", b"NOOP\r\n"), ("S", b"354 ok\r\n"))


def of(tmp_path: Path, wire: Wire, port: int = 0) -> list[RecordedConnection]:
    return connections(written(tmp_path / "a.pcap", wire.octets), port=port)


def test_without_tshark_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    path = written(tmp_path / "a.pcap", Wire().octets)
    with pytest.raises(NoTshark):
        judged(path)
    found = run(str(path))
    assert found.exit_code == 3
    assert "tshark is not here" in found.output


#: What tshark 4.0 wrote for one connection: the fields, and the octets.
FIELDS = """\
0\t127.0.0.1\t\t40000\t127.0.0.1\t\t2525\tSET\t0
0\t127.0.0.1\t\t2525\t127.0.0.1\t\t40000\tSET\tSET
0\t127.0.0.1\t\t40000\t127.0.0.1\t\t2525\t0\tSET
"""
FOLLOWED = """
===================================================================
Follow: tcp,raw
Filter: tcp.stream eq 0
Node 0: 127.0.0.1:40000
Node 1: 127.0.0.1:2525
\t323230206d780d0a
4e4f4f500d0a
\t333534206f6b0d0a
===================================================================
"""


@pytest.mark.parametrize("syn", ["1", "True"])
def test_what_tshark_writes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syn: str
) -> None:
    def recorded(_: Path, arguments: Sequence[str]) -> bytes:
        return (FIELDS.replace("SET", syn) if "fields" in arguments else FOLLOWED).encode()

    monkeypatch.setattr(capture, "_tshark", recorded)
    path = written(tmp_path / "a.pcap", Wire().octets)
    (one,) = judged(path)
    assert one.name == "TCP stream 0, 127.0.0.1:40000 to 127.0.0.1:2525"
    assert one.judgement.fault is not None
    assert one.judgement.fault.at == 8
    with pytest.raises(Unreadable, match="no connection to port 26"):
        judged(path, port=26)


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("wide", [False, True])
def test_connections_of_a_capture(tmp_path: Path, wide: bool) -> None:
    wire = Wire()
    one = Talk(wire, 40000, 2525, wide=wide)
    other = Talk(wire, 40001, 2525, wide=wide)
    for first, second in zip(PAIRS, BROKEN, strict=True):
        one.session(first)
        other.session(second)
    found = judged(written(tmp_path / "a.pcap", wire.octets))
    host = "[::1]" if wide else "127.0.0.1"
    assert [each.name for each in found] == [
        f"TCP stream 0, {host}:40000 to {host}:2525",
        f"TCP stream 1, {host}:40001 to {host}:2525",
    ]
    assert [each.judgement.allowed for each in found] == [True, False]
    assert [each.judgement.replies for each in found] == [2, 1]
    assert run(str(tmp_path / "a.pcap")).exit_code == 1


@pytest.mark.needs("tshark")
def test_segments_that_were_sent_twice_or_came_in_another_order(tmp_path: Path) -> None:
    wire = Wire()
    talk = Talk(wire, 40000, 25)
    talk.session(*PAIRS)
    talk.send("S", b"250 ok\r\n", sequence=talk.at["S"] - 8)
    at = talk.at["C"]
    talk.send("C", b"QUIT\r\n", sequence=at + 6)
    talk.send("C", b"NOOP\r\n", sequence=at)
    talk.session(("S", b"250 ok\r\n221 bye\r\n"))
    (found,) = of(tmp_path, wire)
    assert found.heard.client == b"NOOP\r\nNOOP\r\nQUIT\r\n"
    assert found.heard.server == b"220 mx\r\n250 ok\r\n250 ok\r\n221 bye\r\n"
    (said,) = judged(tmp_path / "a.pcap")
    assert said.judgement.allowed
    assert said.judgement.replies == 4


@pytest.mark.needs("tshark")
def test_what_was_not_captured_ends_the_judging(tmp_path: Path) -> None:
    wire = Wire()
    talk = Talk(wire, 40000, 25)
    talk.session(*PAIRS)
    talk.at["C"] += 6
    talk.session(("C", b"NOOP\r\n"), ("S", b"699 what?\r\n"), ("C", b"NOOP\r\n"))
    talk.session(("S", b"699 what?\r\n"), ("C", b"NOOP\r\n"), ("S", b"699 what?\r\n"))
    (found,) = of(tmp_path, wire)
    assert found.heard.lost
    (said,) = judged(tmp_path / "a.pcap")
    assert "missing" in said.judgement.opaque
    assert said.judgement.replies == 2


@pytest.mark.needs("tshark")
def test_which_side_is_the_server(tmp_path: Path) -> None:
    wire = Wire()
    Talk(wire, 40000, 2526).session(*PAIRS)
    (found,) = of(tmp_path, wire)
    assert found.name.endswith("127.0.0.1:2526")
    assert found.heard.server.startswith(b"220")
    Talk(wire, 25, 587).session(*PAIRS)  # the client's port is one of ours, too
    Talk(wire, 40001, 80).session(("C", b"GET / HTTP/1.0\r\n\r\n"))
    (found,) = of(tmp_path, wire)
    assert found.name.endswith("127.0.0.1:25 to 127.0.0.1:587")
    assert found.heard.server.startswith(b"220")
    (found,) = of(tmp_path, wire, port=2526)
    assert found.name.endswith("127.0.0.1:2526")


@pytest.mark.needs("tshark")
def test_a_connection_whose_beginning_was_not_captured(tmp_path: Path) -> None:
    wire = Wire()
    Talk(wire, 40000, 25, begun=False).session(("C", b"NOOP\r\n"), ("S", b"250 ok\r\n"))
    (found,) = judged(written(tmp_path / "a.pcap", wire.octets))
    assert found.judgement.allowed
    assert found.judgement.opaque == "its beginning was not captured"
    assert "not judged" in run(str(tmp_path / "a.pcap")).output


@pytest.mark.needs("tshark")
def test_tls_in_a_capture_is_not_judged(tmp_path: Path) -> None:
    wire = Wire()
    talk = Talk(wire, 40000, 25)
    talk.session(*PAIRS, ("C", b"STARTTLS\r\n"), ("S", b"220 go\r\n"))
    talk.session(("C", b"\x16\x03\x01\x00\x05hello"), ("S", b"\x16\x03\x03\x00\x05hello"))
    (found,) = judged(written(tmp_path / "a.pcap", wire.octets))
    assert found.judgement.allowed
    assert found.judgement.replies == 3
    assert "TLS" in found.judgement.opaque


@pytest.mark.needs("tshark")
def test_a_capture_that_is_none(tmp_path: Path) -> None:
    for content in (b"\xd4\xc3\xb2\xa1garbage", b"\x0a\x0d\x0d\x0agarbage"):
        found = run(str(written(tmp_path / "a.pcap", content)))
        assert found.exit_code == 2
        assert "a.pcap" in found.output
    found = run(str(written(tmp_path / "a.pcap", Wire().octets)))
    assert found.exit_code == 2
    assert "no connection" in found.output
