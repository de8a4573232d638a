"""Replies cut out of octets, whole or not."""

from __future__ import annotations

import pytest

from specs.conformance.model import Reply
from specs.conformance.replies import MOST_OCTETS, cut, features

ROWS = [
    (b"250 ok\r\n", "250", ("ok",), b""),
    (b"250-a\r\n250-b\r\n250 c\r\nrest", "250", ("a", "b", "c"), b"rest"),
    (b"250\r\n", "250", ("",), b""),
    (b"250-\r\n250\r\n", "250", ("", ""), b""),
    (b"250 ok\n250 more\r\n", "250", ("ok",), b"250 more\r\n"),
    (b"999 odd\r\n", "999", ("odd",), b""),
    (b"hello\r\n220 x\r\n", "garbage", (), b"220 x\r\n"),
    (b"25 x\r\n", "garbage", (), b""),
    (b"250-a\r\n251 b\r\n", "garbage", (), b""),
    (b"250_a\r\n", "garbage", (), b""),
    (b"\r\n", "garbage", (), b""),
]


@pytest.mark.parametrize(("octets", "label", "lines", "left"), ROWS)
def test_a_reply(octets: bytes, label: str, lines: tuple[str, ...], left: bytes) -> None:
    found = cut(octets)
    assert found is not None
    reply, rest = found
    assert (reply.label, reply.lines, rest) == (label, lines, left)
    assert octets == reply.octets + rest


@pytest.mark.parametrize("octets", [row[0] for row in ROWS[:4]])
def test_a_part_of_a_reply_is_none_yet(octets: bytes) -> None:
    whole = octets.removesuffix(b"rest")
    assert all(cut(whole[:at]) is None for at in range(len(whole)) if b"\n" not in whole[:at])
    assert cut(whole[:-1]) is None


def test_what_never_ends_is_a_flood() -> None:
    assert cut(b"x" * MOST_OCTETS) is None
    found = cut(b"x" * (MOST_OCTETS + 1))
    assert found is not None and found[0].kind == "flood"
    found = cut(b"250-again\r\n" * MOST_OCTETS)
    assert found is not None and found[0].kind == "flood"


def test_features() -> None:
    reply = Reply(
        code="250", lines=("mx", "SIZE 100", "8bitmime", "AUTH PLAIN LOGIN", "AUTH=PLAIN")
    )
    assert features(reply) == {
        "SIZE": "100", "8BITMIME": "", "AUTH": "PLAIN LOGIN",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [("5.1.1 no", "5.1.1"), ("no 5.1.1", ""), ("5.1", ""), ("5.x.1 a", ""), ("2.0.0", "2.0.0")],
)
def test_enhanced_codes(text: str, code: str) -> None:
    assert Reply(code="550", lines=("5.5.5 first", text)).enhanced == code
