"""A password stands nowhere, in no form that PLAIN and LOGIN have."""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress

import pytest
from unit.specs.conformance.made import result

from specs.conformance import records
from specs.conformance.given import Given
from specs.conformance.masking import masked
from specs.conformance.model import Line, Verdict

SECRET = "correct horse"


def coded(text: str) -> bytes:
    return base64.b64encode(text.encode())


@pytest.mark.parametrize(
    "octets",
    [
        b"AUTH PLAIN " + coded(f"\0ada\0{SECRET}") + b"\r\n",
        b"AUTH PLAIN " + coded(f"authz\0ada\0{SECRET}") + b"\r\n",
        coded(SECRET) + b"\r\n",
        coded(f"\0ada\0{SECRET}x").rstrip(b"=") + b"\r\n",
        f"you said {SECRET}!\r\n".encode(),
        b"250 hello\r\n" + coded(f"\0ada\0{SECRET[:-1]}") + b"\r\n",
        coded(f"\0ada\0{SECRET.swapcase()}") + b"\r\n",
        b"AUTH PLAIN " + b"!".join([coded(f"\0ada\0{SECRET}")[:9], coded(f"\0ada\0{SECRET}")[9:]]),
        b"AUTH PLAIN " + coded(f"\0ada\0{SECRET}").replace(b"J", b"J\t", 1) + b"\r\n",
        coded(SECRET)[2:] + b"\r\n",
    ],
)
def test_it_is_hidden(octets: bytes) -> None:
    hidden = masked(octets, SECRET)
    assert b"***" in hidden and b"horse" not in hidden.lower()
    for word in hidden.split():
        with suppress(binascii.Error):
            assert SECRET.encode() not in base64.b64decode(word + b"===", validate=False)


def test_so_is_one_that_is_no_utf_8() -> None:
    """As it comes out of the environment."""
    assert masked(b"secret\xff\xfe\r\n", "secret\udcff\udcfe") == b"***\r\n"


def test_everything_else_stays() -> None:
    octets = b"AUTH PLAIN " + coded("\0ada\0other") + b"\r\nMAIL FROM:<a@b.example>\r\n"
    assert masked(octets, SECRET) == octets
    assert masked(octets, "") == octets


def test_a_record_has_no_secret() -> None:
    lines = (Line(at_s=0.0, who="C", octets=coded(f"\0ada\0{SECRET}") + b"\r\n"),)
    one = result(verdict=Verdict.PASS, transcript=lines, saw=f"it said {SECRET}")
    given = Given(smtp=("h", 25), user="ada", password=SECRET)
    told = str(records.as_json(records.of("x", given, {}, [one])))
    assert SECRET not in told and coded(f"\0ada\0{SECRET}").decode() not in told
