"""Header fields, taken apart."""

from __future__ import annotations

import pytest

from specs.conformance.headers import above, added, by_name, fields, lf, named, on_top, parts

MESSAGE = b"Received: a\r\n\tb\r\nFrom: <a@b>\r\nno field\r\nX: \xff\r\n\r\nTo: nobody\r\n"


@pytest.mark.parametrize("octets", [MESSAGE, lf(MESSAGE)])
def test_fields_and_a_body(octets: bytes) -> None:
    names = [(each.name, each.value) for each in fields(octets)]
    assert names == [("received", "a b"), ("from", "<a@b>"), ("", "no field"), ("x", "\\xff")]
    assert octets.startswith(b"".join(each.raw for each in fields(octets)))
    assert [each.name for each in named(fields(octets), "FROM")] == ["from"]
    assert parts(octets)[1] == b"To: nobody\n"
    assert by_name(octets)[""] == ("no field",)
    assert [each.name for each in on_top(octets)] == ["received"]


@pytest.mark.parametrize(
    ("octets", "names", "body"),
    [
        (b"", [], b""), (b"\r\nbody", [], b"body"), (b"A: b", ["a"], b""),
        (b" a\nB: c\n", ["", "b"], b""),
        (b"A : b\n\n\nc", ["a"], b"\nc"), (b"\xe4: b\n", [""], b""), (b":\n", [""], b""),
    ],
)  # fmt: skip
def test_odd_ones(octets: bytes, names: list[str], body: bytes) -> None:
    found, rest = parts(octets)
    assert ([each.name for each in found], rest) == (names, body)


@pytest.mark.parametrize(
    ("top", "exactly", "loosely"),
    [
        (b"", [], []), (b"R: a\r\n\tb\r\n", ["r"], ["r"]),
        (b"R: a\r\nno field\r\n", None, ["r", ""]),
        (b"R: a\r\n\r\n", None, ["r"]),
    ],
)  # fmt: skip
def test_what_is_put_on_top(
    top: bytes, exactly: list[str] | None, loosely: list[str] | None
) -> None:
    found = above(top + MESSAGE, MESSAGE)
    assert (None if found is None else [each.name for each in found]) == exactly
    other = added(lf(top + MESSAGE) + b"\n", MESSAGE)
    assert (None if other is None else [each.name for each in other]) == loosely
    assert above(top + MESSAGE + b"x", MESSAGE) is added(top + MESSAGE + b"x", MESSAGE) is None
