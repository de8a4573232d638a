"""Reports against their oracle: any header octets, any texts, any recipients; and what other
programs read in them.
"""

from __future__ import annotations

import email
import re
from dataclasses import replace
from typing import Any

import pytest
from flufl.bounce import all_failures
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.dsn import report
from specs.dsn.truth import Envelope, Row, Truth, original_header, says
from specs.kernel.control import Control, run_control
from subjects.dsn import TOKEN, TRUTHS, composed, controls, judge_octets, reported

# -- any facts ------------------------------------------------------------------------------------

words = st.sampled_from(
    (
        "550 5.1.1 no",
        "\r\n",
        "\r\n\r\n",
        "--=_" + TOKEN,
        " ",
        "   ",
        "x" * 80,
        "\u20ac\0",
        "Status:",
    )
)
texts = st.lists(words | st.text(st.characters(codec="utf-8"), max_size=40), max_size=12).map(
    lambda parts: "".join(parts)[:1024]
)
addresses = st.sampled_from(("bob", '"a  b"', '"\\"<x>"', "x" * 64)).map("{}@remote.example".format)
hosts = st.sampled_from(("", "mx.example", "mx.example[192.0.2.7]:25", "[192.0.2.7]:25"))
codes = st.sampled_from(("", "2.0.0", "4.4.1", "4.07.0", "5.1.1", "5.999.999"))
rows = st.builds(
    Row,
    address=addresses,
    enhanced=codes,
    text=texts,
    when_s=st.integers(0, 2**33),
    host=hosts,
)
pieces = st.sampled_from(
    (b"\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b"Subject: x", b"--=_" + TOKEN.encode(), b"=",
     b"\r\n--=_" + TOKEN.encode() + b"--\r\n", b"\xff\0", b"From ", b".", b"y" * 1100)
)  # fmt: skip
headers = st.lists(pieces | st.binary(max_size=20), max_size=30).map(b"".join)


@st.composite
def truths(draw: Any) -> Truth:
    sender = draw(st.sampled_from(("", "eve@remote.example")))
    return replace(
        TRUTHS[0],
        kind=draw(st.sampled_from(("failed", "delayed"))),
        reverse_path=sender,
        to=sender or "ada@example.org",
        arrival_s=draw(st.integers(0, 2**33)) or 1,
        rows=tuple(draw(st.lists(rows, min_size=1, max_size=4))),
        until_s=draw(st.integers(0, 2**33)),
        header=draw(headers),
    )


@settings(max_examples=400, deadline=None)
@given(truths())
def test_any_facts_read_back(truth: Truth) -> None:
    envelope = Envelope("", (truth.to,))
    assert report.judge(composed(truth), truth, envelope) == {}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from((b"A: ", b"b" * 999, b"\r\n", b"\r\n ")), max_size=400))
def test_any_long_header_is_cut_between_fields(parts: list[bytes]) -> None:
    truth = replace(TRUTHS[0], header=b"Subject: x\r\n" + b"".join(parts) * 2)
    assert report.judge(composed(truth), truth, Envelope("", (truth.to,))) == {}


# -- the role, the controls, and other readers ----------------------------------------------------


def test_what_the_role_submits_is_a_report() -> None:
    assert judge_octets(reported) == {}


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name)
def test_controls(control: Control) -> None:
    result = run_control(control)
    assert result.counts, result.reason


@pytest.mark.parametrize("truth", TRUTHS)
def test_flufl_reads_it_as_what_it_is(truth: Truth) -> None:
    message = email.message_from_bytes(composed(truth))
    temporary, permanent = all_failures(message)
    about = frozenset(row.address.encode() for row in truth.rows)
    assert (temporary if truth.kind == "delayed" else permanent) == about
    assert not (permanent if truth.kind == "delayed" else temporary)


def test_email_reads_the_fields() -> None:
    truth = TRUTHS[0]
    status = email.message_from_bytes(composed(truth)).get_payload(1)
    about, *recipients = status.get_payload()
    assert about["Reporting-MTA"] == f"dns; {truth.hostname}"
    assert [each["Final-Recipient"] for each in recipients] == ["rfc822; bob@remote.example"]
    assert [each["Action"] for each in recipients] == ["failed"]


# -- the oracle refuses ---------------------------------------------------------------------------

GOOD = composed(TRUTHS[0])


@pytest.mark.parametrize(
    ("old", "new", "invariant"),
    [
        (b"\r\n", b"\n", "plain_octets"),
        (b"system at", b"system \xff", "plain_octets"),
        (b"system at", b"system" + b"x" * 999, "plain_octets"),
        (b"To: <eve@", b"To: <eva@", "message_fields"),
        (b"To: <", b"Bcc: x\r\nTo: <", "message_fields"),
        (b"Subject: Und", b"To: x\r\nSubject: Und", "message_fields"),
        (b"Message-ID: <", b"Message-ID: ", "message_fields"),
        (b"auto-replied", b"no", "automatic"),
        (b"report-type=delivery-status", b"report-type=feedback-report", "multipart_report"),
        (b"message/delivery-status", b"message/rfc822", "multipart_report"),
        (b'boundary="', b'boundary="x', "boundary_not_inside"),
        (b"--\r\n", b"--\r\nmore", "boundary_not_inside"),
        (b"Action: failed", b"Action: delayed", "facts"),
        (b"Action: failed\r\n", b"", "status_fields"),
        (b"Action: failed\r\n", b"Action: failed\r\nAction: failed\r\n", "status_fields"),
        (b"Action: failed\r\n", b"Action: failed\r\nReason: x\r\n", "status_fields"),
        (b"Action: failed\r\n", b"Action: failed\r\n\r\n", "status_fields"),
        (b"Status: 5.1.1", b"Status: 5.01.1", "status_fields"),
        (b"Status: 5.1.1", b"Status: 5.1.2", "facts"),
        (b"Status: 5.1.1", b"Status: 2.1.1", "status_agrees"),
        (b"smtp; 550 5.1.1 no", b"smtp; 550 5.1.1 yes", "facts"),
        (b"dns; mx.remote", b"dns; my.remote", "facts"),
        (b"rfc822; bob@", b"rfc822; rob@", "facts"),
        (b"<bob@remote", b"<rob@remote", "facts"),
        (b"Queue-ID: 06", b"Queue-ID: 07", "facts"),
        (b"Arrival-Date: Tue, 14", b"Arrival-Date: Tue, 15", "facts"),
        (b"Last-Attempt-Date:", b"X-Attempt-Date:", "facts"),
        (b"\r\nLast-At", b"\r\nWill-Retry-Until: Tue, 14 Nov 2023 22:13:20 +0000\r\nLast-At",
         "will_retry_only_delayed"),
        (b"\r\nSubject: y", b"", "header_returned"),
        (b"\r\nSubject: y", b"\r\nSubject: z", "header_returned"),
        (b"\r\nSubject: y", b"\r\nSubject: y\r\n\r\nbody", "header_returned"),
    ],
)  # fmt: skip
def test_a_changed_report_is_refused(old: bytes, new: bytes, invariant: str) -> None:
    assert old in GOOD
    octets = GOOD.replace(old, new) if old == b"\r\n" else new.join(GOOD.rsplit(old, 1))
    assert octets != GOOD
    assert invariant in report.judge(octets, TRUTHS[0], Envelope("", (TRUTHS[0].to,)))


@pytest.mark.parametrize(
    "envelope",
    [Envelope(TRUTHS[0].to, (TRUTHS[0].to,)), Envelope("", ("x@y",)), Envelope("", ())],
)
def test_a_report_in_another_envelope_is_refused(envelope: Envelope) -> None:
    assert set(report.judge(GOOD, TRUTHS[0], envelope)) == {"null_reverse_path"}


@pytest.mark.parametrize(
    ("shown", "text", "same"),
    [
        ("a b", "a  b ", True),
        ("a b", "ab", False),
        (r"a\x0d\x0ab", "a\r\nb", True),
        (r"\u20ac\U0001f600\xe9", "\u20ac\U0001f600\xe9", True),
        ("", " ", True),
        ("", "a", False),
        ("a" * 900, "a" * 1000, True),
        ("a" * 900, "b" * 1000, False),
        ("a" * 10, "a" * 11, False),
    ],
)
def test_what_is_the_same_text(shown: str, text: str, same: bool) -> None:
    assert says(shown, text) is same


@pytest.mark.parametrize(
    ("octets", "header"),
    [
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n"),
        (b"A: b\n\nbody\r\n", b"A: b\n"),
        (b"\r\nbody", b""),
        (b"A: b\r\r\n", b"A: b\r\r\n"),
        (b"A: b", b"A: b"),
    ],
)
def test_the_original_header(octets: bytes, header: bytes) -> None:
    assert original_header(octets) == header
    assert re.search(rb"(\A|\n)\r?\n", original_header(octets)) is None
