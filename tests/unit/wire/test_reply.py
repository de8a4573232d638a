"""Replies: what is encoded is always one reply; what is parsed is bounded."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire.reply import LINE_OCTETS, Reply, ReplyError, ReplyParser, reply


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (reply(250, "2.1.5", "Ok"), b"250 2.1.5 Ok\r\n"),
        (reply(220, None, "x ESMTP"), b"220 x ESMTP\r\n"),
        (reply(354, None, "End with CRLF.CRLF"), b"354 End with CRLF.CRLF\r\n"),
        (reply(250, None, "x", "SIZE 1", "HELP"), b"250-x\r\n250-SIZE 1\r\n250 HELP\r\n"),
        (reply(550, "5.7.1", "no", "never"), b"550-5.7.1 no\r\n550 5.7.1 never\r\n"),
        # RFC 5321 4.2: "servers SHOULD send the <SP> if subsequent text is not sent"
        (reply(250, None), b"250 \r\n"),
        (reply(250, None, ""), b"250 \r\n"),
        (reply(250, "2.0.0", "a\r\n550 b"), b"250 2.0.0 a\\x0d\\x0a550 b\r\n"),
        (reply(250, None, "\0\t\x7f\x80\u00e9\u20ac"), b"250 \\x00\\x09\\x7f\\x80\\xe9\\u20ac\r\n"),
        (reply(250, None, "\ud800\U0001f600"), b"250 \\ud800\\U0001f600\r\n"),
        (reply(250, None, "back\\slash"), b"250 back\\slash\r\n"),
    ],
)
def test_encoded(value: Reply, octets: bytes) -> None:
    assert value.encode() == octets


def test_long_lines_are_cut() -> None:
    assert len(reply(250, None, "x" * 508).encode()) == LINE_OCTETS
    assert reply(250, None, "x" * 506).encode() == b"250 " + b"x" * 506 + b"\r\n"
    assert reply(250, None, "x" * 507).encode() == b"250 " + b"x" * 506 + b"\r\n"
    assert len(reply(250, None, "\n" * 507, "y").encode().split(b"\r\n")[0]) == LINE_OCTETS - 2


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (199, None),
        (600, None),
        (260, None),
        (250, "5.0.0"),
        (354, "3.0.0"),
        (250, "2.1"),
        (0, None),
    ],
)
def test_impossible_replies(code: int, enhanced: str | None) -> None:
    with pytest.raises(ValueError, match="code"):
        reply(code, enhanced, "text")
    with pytest.raises(ValueError, match="code"):
        reply(250, "2.0.0\n")


TEXTS = st.lists(st.text(max_size=600), max_size=5)
CODES = st.sampled_from((220, 250, 354, 421, 450, 550))


@settings(max_examples=500, deadline=None)
@given(CODES, st.booleans(), TEXTS)
def test_whatever_the_text_it_is_one_reply(code: int, enhanced: bool, texts: list[str]) -> None:
    status = f"{code // 100}.1.2" if enhanced and code != 354 else None
    encoded = reply(code, status, *texts).encode()
    lines = encoded.split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) == max(1, len(texts))
    for index, line in enumerate(lines):
        assert re.match(rb"[0-9]{3}[ -][ -~]*\Z", line)
        assert line[3:4] == (b" " if index == len(lines) - 1 else b"-")
        assert len(line) <= LINE_OCTETS - 2
        assert status is None or line[4:].startswith(status.encode())


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.tuples(CODES, st.lists(PRINTABLE, min_size=1, max_size=4)), max_size=5),
    st.lists(st.integers(0, 400), max_size=6).map(sorted),
)
def test_round_trip_at_splits(values: list[tuple[int, list[str]]], cuts: list[int]) -> None:
    replies = [
        reply(code, f"{code // 100}.0.1" if code != 354 else None, *(f"x{text}" for text in texts))
        for code, texts in values
    ]
    octets = b"".join(value.encode() for value in replies)
    edges = [0, *cuts, len(octets)]
    parser = ReplyParser()
    got = [one for i, j in itertools.pairwise(edges) for one in parser.feed(octets[i:j])]
    assert got == replies


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        (b"250\r\n", reply(250, None, "")),
        (b"250 \r\n", reply(250, None, "")),
        (b"250 ok\r\n", reply(250, None, "ok")),
        (b"250 2.1.5 ok\r\n", reply(250, "2.1.5", "ok")),
        (b"250 2.1.5\r\n", reply(250, "2.1.5", "")),
        (b"250 5.1.5 ok\r\n", reply(250, None, "5.1.5 ok")),
        (b"250 2.1.5ok\r\n", reply(250, None, "2.1.5ok")),
        (b"550-5.1.1 a\r\n550-b\r\n550 5.1.2 c\r\n", reply(550, "5.1.1", "a", "b", "5.1.2 c")),
        (b"250 \xe9\x00\t\r\n", reply(250, None, "\\xe9\\x00\\x09")),
        (b"250-\r\n250-x\r\n250\r\n", reply(250, None, "", "x", "")),
    ],
)
def test_parsed(octets: bytes, value: Reply) -> None:
    assert ReplyParser().feed(octets) == [value]
    parser = ReplyParser()
    assert [one for i in range(len(octets)) for one in parser.feed(octets[i : i + 1])] == [value]


@pytest.mark.parametrize(
    "octets",
    [
        *(
            b"\r\n",
            b"25\r\n",
            b"2500 x\r\n",
            b"250x\r\n",
            b"250\tx\r\n",
            b"150 x\r\n",
            b"260 x\r\n",
        ),
        *(b"650 x\r\n", b" 250 x\r\n", b"250 a\nb\r\n", b"250 a\n250 b\r\n", b"250 a\rb\r\n"),
        *(b"250-a\r\n251 b\r\n", b"HTTP/1.1 400\r\n", b"250-a\r\n\r\n", b"\xb2\xb3\xb4 x\r\n"),
        *(b"x" * 31, b"250 " + b"x" * 27, b"250 " + b"x" * 27 + b"\r\n", b"250-x\r\n" * 4),
    ],
)
def test_no_reply(octets: bytes) -> None:
    parser = ReplyParser(line_octets=32, line_count=3)
    with pytest.raises(ReplyError):
        for index in range(len(octets)):
            parser.feed(octets[index : index + 1])
    with pytest.raises(ReplyError):
        ReplyParser(line_octets=32, line_count=3).feed(octets)


def test_limits_are_reached_but_not_passed() -> None:
    parser = ReplyParser(line_octets=32, line_count=3)
    octets = b"250-x\r\n250-y\r\n250 " + b"x" * 26 + b"\r\n"
    assert parser.feed(octets[:-1]) == []
    assert parser.feed(octets[-1:]) == [reply(250, None, "x", "y", "x" * 26)]
