"""Letters are recognised wherever they are, and everything that changed is seen."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faultinject.letters import Copy, compose, digest, named, recognise
from faultinject.reports import read_report
from faultinject.sample import FARTHER, carried, letter, report

RECIPIENTS = ("ada@storm.example", "r1@far.example")


def test_the_body_is_the_same_for_each_attempt():
    one, two = (compose("r", 7, attempt, "s@x", RECIPIENTS) for attempt in (1, 2))
    assert one != two
    assert one.partition(b"\r\n\r\n")[2] == two.partition(b"\r\n\r\n")[2]
    assert one != compose("q", 7, 1, "s@x", RECIPIENTS)


@given(st.integers(0, 300))
def test_letters_are_mail(number):
    octets = compose("r", number, 1, "s@x", RECIPIENTS)
    assert octets.isascii() and octets.endswith(b"\r\n")
    assert b"\n" not in octets.replace(b"\r\n", b"") and b"\r" not in octets.replace(b"\r\n", b"")
    assert max(map(len, octets.splitlines())) <= 998
    message = message_from_bytes(octets, policy=policy.default)
    assert not message.defects
    assert [each.addr_spec for each in message["To"].addresses] == list(RECIPIENTS)


def test_it_is_recognised_with_trace_fields_on_top():
    octets = compose("r", 7, 2, "s@x", RECIPIENTS)
    for seen in (octets, octets.replace(b"\r\n", b"\n"), carried(octets, "ada@storm.example")):
        found = recognise(seen)
        assert found is not None and found.clean
        assert found.copy == Copy("r-7", 2) and found.digest == digest(octets)


@given(st.data())
def test_any_octet_that_changes_shows(data):
    octets = carried(compose("r", 3, 1, "s@x", RECIPIENTS), "ada@storm.example")
    place = data.draw(st.integers(octets.index(b"X-Storm"), len(octets) - 1))
    octet = data.draw(st.integers(0, 255).filter(lambda octet: octet != octets[place]))
    changed = octets[:place] + bytes((octet,)) + octets[place + 1 :]
    found, sent = recognise(changed), recognise(octets)
    assert found is None or found != sent


@pytest.mark.parametrize(
    "octets", [b"", b"\n", b"hello", b"\r\n\r\n", b"Subject: x\n\nX-Storm: no"]
)
def test_what_is_no_letter(octets):
    assert recognise(octets) is None and named(octets) is None


def test_a_letter_inside_another_message_is_not_that_message():
    octets = b"Subject: forwarded\n\n" + compose("r", 3, 1, "s@x", RECIPIENTS)
    assert recognise(octets) is None
    assert named(octets) == Copy("r-3", 1)


def test_other_lines_on_top_are_seen():
    octets = b"X-Added: yes\n" + compose("r", 3, 1, "s@x", RECIPIENTS)
    found = recognise(octets)
    assert found is not None and not found.clean


# -- reports --------------------------------------------------------------------------------------


def test_a_report_says_whose_it_is():
    octets = report("one", letter(4, 1, "s@x", (FARTHER,)), "s@x", FARTHER)
    assert recognise(octets) is None
    (told,) = read_report(octets)
    assert (told.copy, told.recipient) == (Copy("control-4", 1), FARTHER)
    assert (told.action, told.status) == ("failed", "5.1.1")
    assert told.message_id == "<one@mx.storm.example>"


def test_a_letter_is_no_report():
    assert read_report(carried(letter(4, 1, "s@x", (FARTHER,)), FARTHER)) == ()


@given(st.binary(max_size=300))
def test_no_octets_break_the_reader(junk):
    read_report(b"Content-Type: multipart/report; boundary=x\n\n--x\n" + junk)
